"""What an export is asked for: the folder of results, where the files go, which test sets and which variant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..analysis.table import load
from ..analysis.verdict import verdicts
from ..disk import file_name
from ..errors import StoreError, did_you_mean
from ..plan.grid import Condition, Grid, TestInfo, Variant
from ..store.open import open_store
from ..store.store import Store

BEST = "best"


@dataclass(frozen=True)
class Wanted:
    """`tests` and `variant` are names as the user gave them; without any, all are wanted.

    The variant `best` is the one that the verdict ships. `merged`: an adapter is wanted as a whole model.
    """

    folder: Path
    place: Path
    tests: tuple[str, ...] = ()
    variant: str | None = None
    merged: bool = False

    @cached_property
    def store(self) -> Store:
        return open_store(self.folder)

    @cached_property
    def grid(self) -> Grid:
        """Raises StoreError for a folder without results, and for an unknown test set or variant."""
        grid = self.store.grid()
        self._refuse_unknown("test set", self.tests, [test.name for test in grid.tests])
        names = [v.name for v in grid.variants]
        self._refuse_unknown("variant", [self.variant] if self.variant not in (None, BEST) else [], names)
        return grid

    @cached_property
    def name(self) -> str | None:
        """The name of the variant that is wanted. Raises StoreError where `best` is none, or several."""
        if self.variant != BEST or any(v.name == BEST for v in self.grid.variants):
            return self.variant
        results = load(self.folder, earlier=True)  # as on the page
        found = verdicts(results)
        arms = [list(results.recipes[one.best]) for one in found if one.best]
        for arm in arms if len(arms) == 1 else ():
            if arm[0].key in results.earlier:
                what = f"the verdict ships {arm[0].name}, which only an earlier form of the experiment has"
                allowed = "put it back into the experiment, or name a variant"
                raise StoreError(what, where=f"{self.folder} --variant best", allowed=allowed)
        if len(arms) == 1:
            kept = [v for v in arms[0] if self.store.has_weights(v.key)]
            return (kept or arms[0])[0].name
        if arms:
            names = ", ".join(arm[0].name for arm in arms)
            what, allowed = "there is a best variant for each training set", f"one of: {names}"
        else:
            what = f"the verdict ships no variant: {found[0].advice}" if found else "there is no verdict yet"
            allowed = "the name of a variant"
        raise StoreError(what, where=f"{self.folder} --variant best", allowed=allowed)

    @property
    def chosen_tests(self) -> Mapping[str, TestInfo]:
        return {test.name: test for test in self.grid.tests if not self.tests or test.name in self.tests}

    @property
    def chosen_variants(self) -> list[Variant]:
        return [variant for variant in self.grid.variants if self.name in (None, variant.name)]

    @property
    def one_variant(self) -> Variant:
        """The variant that is named, or the only one. Raises StoreError for the base, and where there are several."""
        chosen = [variant for variant in self.chosen_variants if variant.kind != "base"]
        if len(chosen) != 1:
            names = ", ".join(variant.name for variant in self.grid.variants if variant.kind != "base") or "none"
            raise StoreError("one variant is exported at a time", where="--variant", allowed=f"one of: {names}")
        return chosen[0]

    def _refuse_unknown(self, what: str, names: Iterable[str], known: list[str]) -> None:
        for name in names:
            if name not in known:
                where = str(self.folder)
                raise StoreError(f"no {what} {name!r}", where=where, allowed=did_you_mean(name, known))


def task_name(condition: Condition) -> str:
    """The name of a test set, prompt format and draw as a task of lm-evaluation-harness, whose shots are an option."""
    draw = f"_draw{condition.draw}" if condition.draw else ""
    return file_name(f"{condition.test}_{condition.prompt}{draw}")

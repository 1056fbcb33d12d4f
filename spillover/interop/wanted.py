"""What an export is asked for: the folder of results, where the files go, which test sets and which variant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..disk import file_name
from ..errors import StoreError, did_you_mean
from ..plan.grid import Condition, Grid, TestInfo, Variant
from ..store.store import Store


@dataclass(frozen=True)
class Wanted:
    """`tests` and `variant` are names as the user gave them; without any, all are wanted.

    `merged`: an adapter is wanted as a whole model.
    """

    folder: Path
    place: Path
    tests: tuple[str, ...] = ()
    variant: str | None = None
    merged: bool = False

    @cached_property
    def store(self) -> Store:
        return Store(self.folder)

    @cached_property
    def grid(self) -> Grid:
        """Raises StoreError for a folder without results, and for an unknown test set or variant."""
        grid = self.store.grid()
        self._refuse_unknown("test set", self.tests, [test.name for test in grid.tests])
        self._refuse_unknown("variant", [self.variant] if self.variant else [], [v.name for v in grid.variants])
        return grid

    @property
    def chosen_tests(self) -> Mapping[str, TestInfo]:
        return {test.name: test for test in self.grid.tests if not self.tests or test.name in self.tests}

    @property
    def chosen_variants(self) -> list[Variant]:
        return [variant for variant in self.grid.variants if self.variant in (None, variant.name)]

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

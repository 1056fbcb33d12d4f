"""The Pareto front of gain inside against change outside, with its uncertainty.

Of the recipes of one training set and the base, some are on the front: no other one is at least as good both in-domain
and on the other test sets. With few rows, which they are depends on the rows. So documents (whole components, where
some depend on each other) and seeds are drawn again with replacement, the same documents for all recipes, and `share`
counts how often each recipe is on the front. Test sets are taken as they are. Rows that leak are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ..plan.grid import Cell, Variant
from ..stats.intervals import Array
from .contrasts import Effect, finished, paired
from .deploy import asked, deployed
from .results import Results, grouped, recipe_name
from .retention import kept
from .rows import common_documents, same_documents
from .summaries import groups
from .uncertainty import Mask

DRAWS = 1000
SEED = 0


@dataclass(frozen=True)
class Point:
    """A recipe, or the base at (0, 0): its gain `inside` and its change `outside`, from -1 to 1.

    `inside` has the interval of the use with the least gain, if `deploy` names none. `share` is how often it is on the
    front, from 0 to 1. `effects` are None for the base.
    """

    recipe: str
    name: str
    inside: float
    outside: float
    effects: tuple[Effect, Effect] | None
    on_front: bool
    share: float


@dataclass(frozen=True)
class Front:
    """The points of one training set, the base first."""

    title: str
    points: tuple[Point, ...]
    draws: int = DRAWS


@lru_cache(maxsize=2)
def fronts(results: Results) -> list[Front]:
    """A front for each training set whose recipes were tested both in-domain and elsewhere."""
    found = (_front(results, group.title, group.variants) for group in groups(results))
    return [front for front in found if front is not None]


def _front(results: Results, title: str, variants: Sequence[Variant]) -> Front | None:
    known = kept(results)
    arms: dict[str, tuple[Effect, Effect]] = {}
    for key in dict.fromkeys(variant.recipe_key for variant in variants if not variant.is_null):
        if key in known and (gain := known[key].least_gain) and (beyond := known[key].outside):
            arms[key] = gain.effect, beyond.effect
    if not arms:
        return None
    clean = results.clean
    drawn = _Drawn(clean, np.random.default_rng(SEED))
    places, moved = [(0.0, 0.0)], [np.zeros((DRAWS, 2))]
    for key, (inside, change) in arms.items():
        cells = clean.cells_of(known[key].arm)
        within, elsewhere = ([c for c in cells if (c.role == "in_domain") is wanted] for wanted in (True, False))
        places.append((inside.value, change.value))
        moved.append(np.column_stack([_inside(drawn, known[key].arm, within), drawn.change(elsewhere)]))
    shares = _on_front(np.stack(moved)).mean(axis=1)
    there = _on_front(np.array(places)[:, None])[:, 0]
    names = [results.base.name if results.base else "base", *(recipe_name(known[key].arm) for key in arms)]
    numbers = zip(["", *arms], names, places, [None, *arms.values()], there, shares, strict=True)
    points = (
        Point(key, name, inside, outside, effects, bool(on), float(share))
        for key, name, (inside, outside), effects, on, share in numbers
    )
    return Front(title, tuple(points))


def _inside(drawn: _Drawn, arm: Sequence[Variant], cells: Sequence[Cell]) -> Array:
    """The gain in the use that `deploy` names; else the least gain of any use that was tested."""
    results = drawn.results
    base = results.cells_of_base
    own = deployed(results, arm[0])
    theirs = deployed(results, results.base, arm[0].train_dataset) if results.base else None
    if own and theirs:
        tests = {cell.test for cell in cells}
        return drawn.between(asked(cells, own), asked([cell for cell in base if cell.test in tests], theirs))
    uses = grouped(cells, lambda cell: (cell.shots, cell.prompt))
    return np.min([drawn.change(of_use) for of_use in uses.values()], axis=0)


def _on_front(places: Array) -> Mask:
    """Which of (points, draws, 2) no other point of the same draw dominates: (points, draws)."""
    ours, theirs = places[:, None], places[None]
    dominated = np.all(theirs >= ours, axis=-1) & np.any(theirs > ours, axis=-1)
    return np.asarray(~np.any(dominated, axis=1), dtype=np.bool_)


class _Drawn:
    """Mean changes on documents and seeds that were drawn again. Each test set's draws serve all recipes."""

    def __init__(self, results: Results, rng: np.random.Generator) -> None:
        self.results, self.rng = results, rng
        self.counts: dict[str, tuple[np.ndarray, Array]] = {}
        self.seeds: dict[str, Array] = {}

    def change(self, cells: Sequence[Cell]) -> Array:
        """The change from the base in the same conditions, (draws,)."""
        return self.between(*paired(self.results, cells, self.results.cells_of_base))

    def between(self, ours: Sequence[Cell], theirs: Sequence[Cell]) -> Array:
        """The mean over test sets of ours less theirs."""
        base = grouped(finished(self.results, theirs), lambda cell: cell.test)
        by_test = {t: c for t, c in grouped(finished(self.results, ours), lambda cell: cell.test).items() if t in base}
        changes = [self._mean(test, cells) - self._mean(test, base[test]) for test, cells in by_test.items()]
        return np.mean(changes, axis=0) if changes else np.zeros(DRAWS)

    def _mean(self, test: str, cells: Sequence[Cell]) -> Array:
        """The mean score of cells of one test set, each seed as often as it was drawn."""
        by_seed = grouped(cells, lambda cell: cell.variant)
        means = np.column_stack([self._score(test, some) for some in by_seed.values()])
        weights = self._seeds(self.results.variants[cells[0].variant].recipe_key, len(by_seed))
        return np.asarray((means * weights).sum(axis=1))

    def _score(self, test: str, cells: Sequence[Cell]) -> Array:
        """The mean score of cells of one variant, (draws,)."""
        rows = [self.results.first_metric[cell.key] for cell in cells]
        common = common_documents(rows)
        scores = np.mean([one.only(common).statistics[:, 0] for one in rows], axis=0)
        doc_ids, counts = self._counts(test)
        drawn = counts if same_documents(common, doc_ids) else counts[:, np.searchsorted(doc_ids, common)]
        return np.asarray(drawn @ scores / np.maximum(drawn.sum(axis=1), 1))

    def _counts(self, test: str) -> tuple[np.ndarray, Array]:
        """The documents of a test set, and how often each was drawn, (draws, documents), components as a whole."""
        if test not in self.counts:
            rows = [self.results.first_metric.get(cell.key) for cell in self.results.grid.cells if cell.test == test]
            doc_ids = np.unique(np.concatenate([one.doc_ids for one in rows if one is not None]))
            codes = self.results.cluster_codes(test, doc_ids)
            codes = np.arange(len(doc_ids)) if codes is None else codes
            units = int(codes.max()) + 1
            counts = self.rng.multinomial(units, np.full(units, 1 / units), DRAWS)[:, codes]
            self.counts[test] = doc_ids, counts.astype(np.float64)
        return self.counts[test]

    def _seeds(self, recipe: str, seeds: int) -> Array:
        """The weight of each seed of a recipe, (draws, seeds), the same on all test sets."""
        if recipe not in self.seeds or self.seeds[recipe].shape[1] != seeds:
            self.seeds[recipe] = self.rng.multinomial(seeds, np.full(seeds, 1 / seeds), DRAWS) / seeds
        return self.seeds[recipe]

"""Every statement of the report as one thing: a contrast, with its interval, its p-value and what it could have missed.

A contrast is a weighted sum of mean scores of cells, by each test set's first metric. Variant minus base on one cell is
one; so are a role change, the change in-domain minus that out-of-domain, FTICL minus FT at some number of shots, what a
demonstration adds, and p1 minus p2. Weights are all that differ, so how sure a contrast is can be worked out once. On
each document the weighted sum of its answers is a single number, and the contrast is the mean of those. So a document
that was asked in ten prompts is one piece of evidence, what makes it hard for both sides cancels, and documents that
hang together (`Results.clusters`) count as one.

Cells of one recipe with other seeds are replicates: their mean is the recipe's score, their spread the level of the
seeds; likewise the draws of the demonstrations (`uncertainty`). Where a recipe was trained once, the contrast speaks of
that checkpoint: `Effect.seeds` is 1, and no number of rows changes that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from math import inf
from typing import Literal

import numpy as np

from ..experiment.suite import Role
from ..plan.grid import Cell, Condition
from ..stats import MIN_ROWS, Interval, Level, half_width, holm, p_value, slope_weights, smallest_detectable
from .results import Results
from .uncertainty import (
    SetPart,
    draw_levels,
    noise_floor_of,
    row_level,
    seed_levels,
    set_parts,
    trainings,
)

ALPHA = 0.05

Outcome = Literal["higher", "lower", "no difference", "insufficient evidence"]


@dataclass(frozen=True)
class Term:
    """`weight` times the mean over test sets of the mean score over `cells` of a set. Unfinished cells are left out."""

    weight: float
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Effect:
    """A contrast with all that must travel with it. Scores are from 0 to 1.

    `interval`: 95 %, over documents, draws and seeds at their own levels; `interval_over_sets` takes the test sets for
    a sample of such sets as well (None where a term has only one). `p`: two-sided; `p_adjusted`: after Holm over the
    `compared` effects that are claimed together. `n`: documents of all `tests`; `clusters`: how many of them are
    independent, a component of documents that hang together being one. `seeds` per trained recipe, the least of the
    arms: 1 says something of these checkpoints only, 0 that nothing trained is in it. `draws` of the demonstrations,
    the least of the test sets; 0 where none are shown. `chance`: the levels that the value has its uncertainty from, in
    one or more ways to look at it, of which the least certain counts. `noise_floor`: what two trainings of one recipe
    with other seeds differ by, at most, 95 % of the time; None where no recipe on the same training set has two.
    `cells`: their keys.
    """

    value: float
    interval: Interval
    p: float
    n: int
    clusters: int
    tests: tuple[str, ...]
    seeds: int
    draws: int
    chance: tuple[tuple[Level, ...], ...] = field(repr=False)
    noise_floor: float | None
    cells: tuple[str, ...] = field(repr=False)
    p_adjusted: float | None = None
    compared: int = 1
    interval_over_sets: Interval | None = None
    name: str = ""

    @property
    def is_clear(self) -> bool:
        """Whether it may be claimed: beyond chance after the correction, and from more than a handful of documents."""
        p = self.p if self.p_adjusted is None else self.p_adjusted
        return p < ALPHA and self.clusters >= MIN_ROWS and self.interval.excludes_zero

    @property
    def mde(self) -> float:
        """The smallest true effect that this design finds with 80 % power, after the correction.

        At the level that Holm asks of the first of those compared, 5 % / `compared`: of the others it asks less, so
        that they are found at least as often.
        """
        level = ALPHA / self.compared
        return max((smallest_detectable(levels, confidence=1 - level) for levels in self.chance), default=inf)


def outcome(effect: Effect | None, margin: float | None = None) -> Outcome:
    """What may be said. "no difference" (larger than `margin`, a score from 0 to 1) needs the whole interval within it.

    The margin says which differences matter; without one, absence of a difference is never claimed. It is asked first:
    a difference that is clear but within the margin is none that matters. (Schuirmann 1987 asks it of the 90 %
    interval; here it is the 95 % one, which is stricter.)
    """
    if effect is None or effect.clusters < MIN_ROWS:
        return "insufficient evidence"
    if margin is not None and effect.interval.is_within(margin):
        return "no difference"
    if effect.is_clear:
        return "higher" if effect.value > 0 else "lower"
    return "insufficient evidence"


def adjusted(effects: Sequence[Effect]) -> list[Effect]:
    """The effects with `p_adjusted` over all of them: they are claimed together."""
    values = holm([effect.p for effect in effects])
    return [replace(e, p_adjusted=float(p), compared=len(effects)) for e, p in zip(effects, values, strict=True)]


# --- the contrasts that are asked for ---------------------------------------------------------------------------------


def difference(results: Results, ours: Sequence[Cell], theirs: Sequence[Cell], *, name: str = "") -> Effect | None:
    """Mean score of `ours` less that of `theirs` over the conditions and documents that both have."""
    return effect(results, _difference(*paired(results, ours, theirs)), name=name)


def interaction(
    results: Results,
    ours: Sequence[Cell],
    theirs: Sequence[Cell],
    elsewhere: Role = "out_of_domain",
    *,
    name: str = "",
) -> Effect | None:
    """The difference on test sets that are in-domain for `ours`, less that on its sets `elsewhere`.

    Above zero: what was learned stayed with the domain, or was paid for elsewhere. None where one of the two lacks.
    """
    ours, theirs = paired(results, ours, theirs)
    signs: dict[Role, float] = {"in_domain": 1.0, elsewhere: -1.0}
    tests = {role: {c.test for c in ours if c.role == role} for role in signs}
    terms: list[Term] = []
    for role, sign in signs.items():
        a, b = (tuple(c for c in side if c.test in tests[role]) for side in (ours, theirs))
        terms += _difference(a, b, weight=sign)
    return effect(results, terms, name=name)


def by_shots(results: Results, ours: Sequence[Cell], theirs: Sequence[Cell], *, name: str = "") -> dict[int, Effect]:
    """The difference at each number of shots, as FTICL minus FT."""
    found = {}
    for shots in sorted({cell.shots for cell in ours}):
        a, b = ([cell for cell in side if cell.shots == shots] for side in (ours, theirs))
        if (change := difference(results, a, b, name=f"{name} at {shots} shots".strip())) is not None:
            found[shots] = change
    return found


def slope(results: Results, ours: Sequence[Cell], theirs: Sequence[Cell] = (), *, name: str = "") -> Effect | None:
    """What one demonstration more adds to the score of `ours`: the least-squares slope over shots, within each prompt
    format of each test set, mean over formats, then over test sets.

    With `theirs`, less their slope: what fine-tuning left of in-context learning. Formats and draws that were not asked
    at all the set's numbers of shots are left out: what makes them easier would pass for a slope. Sets without any
    others are passed over.
    """
    sides = paired(results, ours, theirs) if theirs else (finished(results, ours),)
    by_test: dict[str, list[Cell]] = {}
    for cell in (cell for side in sides for cell in side):
        by_test.setdefault(cell.test, []).append(cell)
    draws = {test: found for test, cells in sorted(by_test.items()) if (found := _asked_throughout(cells))}
    terms = []
    for test, formats in draws.items():
        shots = sorted({cell.shots for cell in by_test[test]})
        weights = slope_weights(shots) / len(formats) / len(draws)
        for prompt, of_prompt in formats.items():
            at_prompt = [[c for c in side if (c.test, c.prompt) == (test, prompt)] for side in sides]
            for k, weight in zip(shots, weights, strict=True):
                of_draws = of_prompt if k else {0}
                at_shots = ([c for c in side if c.shots == k and c.draw in of_draws] for side in at_prompt)
                terms += _difference(*at_shots, weight=float(weight))
    return effect(results, terms, name=name)


def _asked_throughout(cells: Sequence[Cell]) -> dict[str, set[int]]:
    """The draws, by prompt format, with which every variant was asked at every number of shots that a test set has.

    Without demonstrations nothing is drawn: its one cell serves all draws.
    """
    variants, shots = {cell.variant for cell in cells}, {cell.shots for cell in cells}
    asked = {(cell.variant, cell.shots, cell.prompt, cell.draw) for cell in cells}
    found: dict[str, set[int]] = {}
    if len(shots) > 1:
        for prompt, draw in sorted({(cell.prompt, cell.draw) for cell in cells if cell.shots}):
            if all((v, k, prompt, draw if k else 0) in asked for v, k in product(variants, shots)):
                found.setdefault(prompt, set()).add(draw)
    return found


def prompt_gap(
    results: Results, cells: Sequence[Cell], first: str = "p1", second: str = "p2", *, name: str = ""
) -> Effect | None:
    """The score in the prompt format `first` less that in `second`, over what was asked in both."""
    other = {(c.variant, c.test, c.shots, c.draw): c for c in finished(results, cells) if c.prompt == second}
    ours = [c for c in finished(results, cells) if c.prompt == first]
    pairs = [(c, other[key]) for c in ours if (key := (c.variant, c.test, c.shots, c.draw)) in other]
    return effect(results, _difference([a for a, _ in pairs], [b for _, b in pairs]), name=name)


def _difference(ours: Iterable[Cell], *theirs: Iterable[Cell], weight: float = 1.0) -> list[Term]:
    """`ours` less `theirs`, where there are any."""
    return [Term(weight, tuple(ours)), *(Term(-weight, tuple(side)) for side in theirs)]


# --- cells ------------------------------------------------------------------------------------------------------------


def finished(results: Results, cells: Iterable[Cell]) -> tuple[Cell, ...]:
    """Those that have run."""
    return tuple(cell for cell in cells if cell.key in results.first_metric)


def paired(results: Results, ours: Iterable[Cell], theirs: Iterable[Cell]) -> tuple[tuple[Cell, ...], tuple[Cell, ...]]:
    """The finished cells of both sides at the conditions that both have, and of each recipe all its seeds."""
    sides = _of_all_seeds(results, ours), _of_all_seeds(results, theirs)
    common = {cell.condition for cell in sides[0]} & {cell.condition for cell in sides[1]}
    return tuple(c for c in sides[0] if c.condition in common), tuple(c for c in sides[1] if c.condition in common)


def _of_all_seeds(results: Results, cells: Iterable[Cell]) -> list[Cell]:
    """Finished cells without those that another seed of the same recipe lacks, of the seeds that have any."""
    seeds: dict[str, set[str]] = {}
    asked: dict[tuple[str, Condition], set[str]] = {}
    recipes = {cell: results.variants[cell.variant].recipe_key for cell in finished(results, cells)}
    for cell, recipe in recipes.items():
        seeds.setdefault(recipe, set()).add(cell.variant)
        asked.setdefault((recipe, cell.condition), set()).add(cell.variant)
    return [cell for cell, recipe in recipes.items() if asked[recipe, cell.condition] == seeds[recipe]]


# --- how sure ---------------------------------------------------------------------------------------------------------


def effect(results: Results, terms: Sequence[Term], *, name: str = "", null: float = 0.0) -> Effect | None:
    """The sum of `terms` with all that must be known of it. None where a term has no finished cell, or the cells of a
    test set no common document. `p` is that of a true value of `null`.
    """
    terms = [Term(term.weight, finished(results, term.cells)) for term in terms]
    if not terms or not all(term.cells for term in terms):
        return None
    parts = set_parts(results, _weights(terms))
    if parts is None:
        return None
    rows, centre, p_of_swaps = row_level(parts)
    draws, fewest_draws, seen_by_draw = draw_levels(parts)
    trained = trainings(results, parts)
    seeds = seed_levels(trained)
    # What rows show of one draw's or one seed's errors is in the levels of draws and seeds already.
    rest = Level(max(0.0, rows.variance - seen_by_draw - sum(t.seen_by_rows for t in trained)), rows.df)
    levels = (rest, *draws, *seeds)
    chance = levels, (rows,)  # few draws or seeds that happen to agree make no one surer than rows alone
    half = max(map(half_width, chance))
    return Effect(
        value=float(sum(part.values.mean() for part in parts)),
        interval=_interval(parts, centre, half),
        p=max(*(p_value(centre - null, levels) for levels in chance), 0.0 if null else p_of_swaps),
        n=sum(len(part.values) for part in parts),
        clusters=sum(len(part.by_cluster(part.values)) for part in parts),
        tests=tuple(part.test for part in parts),
        seeds=min((t.seeds for t in trained), default=0),
        draws=fewest_draws,
        chance=chance,
        noise_floor=noise_floor_of(trained),
        cells=tuple(cell.key for part in parts for cell in part.cells),
        interval_over_sets=_over_sets(terms, parts, centre, half, seeds),
        name=name,
    )


def _weights(terms: Sequence[Term]) -> dict[Cell, float]:
    """What each cell counts."""
    weights: dict[Cell, float] = {}
    for term in terms:
        by_test: dict[str, list[Cell]] = {}
        for cell in term.cells:
            by_test.setdefault(cell.test, []).append(cell)
        for cells in by_test.values():
            for cell in cells:
                weights[cell] = weights.get(cell, 0.0) + term.weight / len(by_test) / len(cells)
    return weights


def _interval(parts: Sequence[SetPart], centre: float, half: float) -> Interval:
    """No further than scores from 0 to 1 can bring the contrast."""
    weights = np.concatenate([part.weights for part in parts])
    low, high = float(weights[weights < 0].sum()), float(weights[weights > 0].sum())
    return Interval(max(centre - half, low), min(centre + half, high))


def _over_sets(
    terms: Sequence[Term], parts: Sequence[SetPart], centre: float, half: float, seeds: Sequence[Level]
) -> Interval | None:
    """The interval that takes test sets for a sample: of those that stand in the same terms, how they differ.

    Never narrower than the one that takes them as they are.
    """
    alike: dict[tuple[int, ...], list[float]] = {}
    tests = [{cell.test for cell in term.cells} for term in terms]
    for part in parts:
        stands_in = tuple(i for i, of_term in enumerate(tests) if part.test in of_term)
        alike.setdefault(stands_in, []).append(float(part.values.mean()))
    if any(len(values) < 2 for values in alike.values()):
        return None
    of_sets = [Level(len(values) * float(np.var(values, ddof=1)), len(values) - 1) for values in alike.values()]
    return _interval(parts, centre, max(half, half_width([*of_sets, *seeds])))

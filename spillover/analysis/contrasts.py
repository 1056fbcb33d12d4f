"""Contrasts of mean scores: every statement of the report, with its interval, its p-value and what it can have missed.

A contrast is a weighted sum of mean scores of cells, by each test set's first metric: variant minus base, FTICL minus
FT, what a demonstration adds. Contrasts differ in their weights only, so their uncertainty is computed in one place
(`uncertainty`). Each document gives one number, the weighted sum of its answers, and the contrast is the mean of these
numbers. If a recipe was trained once, the contrast is about that checkpoint: `Effect.seeds` is 1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from math import inf
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np

from ..experiment.suite import Role
from ..plan.grid import Cell
from ..stats.families import holm
from ..stats.intervals import MIN_ROWS, Interval
from ..stats.levels import Level, half_width, p_value, slope_weights, smallest_detectable
from .results import Results, grouped
from .uncertainty import (
    SetPart,
    Training,
    draw_levels,
    noise_floor_of,
    rounding_floor_of,
    row_level,
    seed_levels,
    set_parts,
    swap_p,
    trainings,
)

ALPHA = 0.05
STEPS, EXACT, MOST_SHARE = 30, 5e-4, 100.0  # of the search for an end of a share

Outcome = Literal["higher", "lower", "insufficient evidence"]
HasEffect = TypeVar("HasEffect", bound=Any)


@dataclass(frozen=True)
class Term:
    """`weight` times the mean over test sets of the mean score over `cells` of a set. Unfinished cells are left out."""

    weight: float
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Effect:
    """A contrast with all that must be shown with it. Scores are from 0 to 1; `cells` are keys."""

    value: float
    interval: Interval  # 95 %, over documents, draws and seeds at their own levels
    p: float  # two-sided
    seeds: int  # per trained recipe, the fewest of the arms; 0 if nothing was trained
    chance: tuple[tuple[Level, ...], ...] = field(repr=False)  # one or more views; the least certain one counts
    cells: tuple[str, ...] = field(repr=False)
    n: int = 0  # documents of all `tests`
    clusters: int = 0  # of these, how many are independent
    tests: tuple[str, ...] = ()
    draws: int = 0  # of the demonstrations, the fewest of the test sets; 0 if none are shown
    noise_floor: float | None = None  # what two trainings of one recipe differ by; None if no recipe has two
    rounding_floor: float | None = 0.0  # what rounding alone may change; None if that was not measured
    p_adjusted: float | None = None  # after Holm over the `compared` effects that are claimed together
    compared: int = 1
    interval_over_sets: Interval | None = None  # with test sets as a sample too; None if a term has only one

    @property
    def is_clear(self) -> bool:
        """Whether it may be claimed: beyond chance after the correction and beyond rounding, from enough documents."""
        p = self.p if self.p_adjusted is None else self.p_adjusted
        return p < ALPHA and self.has_enough and not self.is_within_rounding and self.interval.excludes_zero

    @property
    def has_enough(self) -> bool:
        """Whether anything may be claimed from so few documents."""
        return self.clusters >= MIN_ROWS

    @property
    def is_within_rounding(self) -> bool:
        """Whether rounding alone could have made it."""
        return abs(self.value) <= (self.rounding_floor or 0.0)

    @property
    def mde(self) -> float:
        """The smallest true effect that is found with 80 % power at Holm's strictest level, 5 % / `compared`."""
        level = ALPHA / self.compared
        return max((smallest_detectable(levels, confidence=1 - level) for levels in self.chance), default=inf)


def outcome(effect: Effect | None) -> Outcome:
    """What may be said of an effect. The absence of a difference is never claimed without a margin."""
    if effect is None or not effect.is_clear:
        return "insufficient evidence"
    return "higher" if effect.value > 0 else "lower"


def adjusted(effects: Sequence[Effect]) -> list[Effect]:
    """The effects with `p_adjusted` over all of them: they are claimed together."""
    values = holm([effect.p for effect in effects])
    return [replace(e, p_adjusted=float(p), compared=len(effects)) for e, p in zip(effects, values, strict=True)]


def together(
    rows: Iterable[HasEffect], name: str = "effect", is_null: Callable[[HasEffect], bool] = lambda row: False
) -> list[HasEffect]:
    """Dataclasses with the effects in their field `name` corrected together; a row without an effect stays as it is.

    Rows of random changes (`is_null`) are a family of their own: beside them, no recipe needs more evidence.
    """
    rows = list(rows)
    families: dict[bool, list[Effect]] = {False: [], True: []}
    for row in rows:
        if (effect := getattr(row, name)) is not None:
            families[is_null(row)].append(effect)
    corrected = {null: iter(adjusted(effects)) for null, effects in families.items()}
    return [
        row if getattr(row, name) is None else replace(row, **{name: next(corrected[is_null(row)])}) for row in rows
    ]


def anywhere(between: Effect, ends: Sequence[Effect]) -> Effect:
    """An effect that lies at an unknown place between others: its interval covers theirs.

    A convex combination of effects has its interval within the hull of their intervals, so the hull is never too
    narrow. Nothing is shown unless all the ends show it, each beyond chance and in the same direction.
    """
    same_direction = len({one.value > 0 for one in ends}) == 1
    return replace(
        between,
        interval=Interval(min(one.interval.low for one in ends), max(one.interval.high for one in ends)),
        p=max(one.p for one in ends) if same_direction else 1.0,
        chance=tuple(view for one in ends for view in one.chance),
    )


def difference(results: Results, ours: Sequence[Cell], theirs: Sequence[Cell]) -> Effect | None:
    """Mean score of `ours` less that of `theirs` over the conditions and documents that both have."""
    return effect(results, _difference(*paired(results, ours, theirs)))


def across(results: Results, ours: Sequence[Cell], theirs: Sequence[Cell]) -> Effect | None:
    """Mean score of `ours` less that of `theirs` on the test sets that both have, each in conditions of its own."""
    sides = [_of_all_seeds(results, side) for side in (ours, theirs)]
    tests = {cell.test for cell in sides[0]} & {cell.test for cell in sides[1]}
    return effect(results, _difference(*([cell for cell in side if cell.test in tests] for side in sides)))


def interaction(
    results: Results, ours: Sequence[Cell], theirs: Sequence[Cell], elsewhere: Role = "out_of_domain"
) -> Effect | None:
    """The difference on the in-domain sets of `ours`, less that on its sets `elsewhere`; None if one is missing."""
    ours, theirs = paired(results, ours, theirs)
    signs: dict[Role, float] = {"in_domain": 1.0, elsewhere: -1.0}
    tests = {role: {c.test for c in ours if c.role == role} for role in signs}
    terms: list[Term] = []
    for role, sign in signs.items():
        a, b = (tuple(c for c in side if c.test in tests[role]) for side in (ours, theirs))
        terms += _difference(a, b, weight=sign)
    return effect(results, terms)


def by_shots(results: Results, ours: Sequence[Cell], theirs: Sequence[Cell]) -> dict[int, Effect]:
    """The difference at each number of shots, as FTICL minus FT."""
    found = {}
    for shots in sorted({cell.shots for cell in ours}):
        a, b = ([cell for cell in side if cell.shots == shots] for side in (ours, theirs))
        if (change := difference(results, a, b)) is not None:
            found[shots] = change
    return found


def slope(results: Results, ours: Sequence[Cell], theirs: Sequence[Cell] = ()) -> Effect | None:
    """What one more demonstration adds to the score of `ours`, less what it adds to `theirs` if they are given.

    The least-squares slope over shots within each prompt format of each test set, averaged over formats, then over test
    sets. Formats and draws that lack a number of shots of the set are left out, because they would change the slope.
    """
    sides = paired(results, ours, theirs) if theirs else (finished(results, ours),)
    by_test = grouped((cell for side in sides for cell in side), lambda cell: cell.test)
    draws = {test: found for test, cells in sorted(by_test.items()) if (found := _at_all_shots(cells))}
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
    return effect(results, terms)


def _at_all_shots(cells: Sequence[Cell]) -> dict[str, set[int]]:
    """The draws, by prompt format, that every variant has at every number of shots of a test set.

    Without demonstrations nothing is drawn: that cell serves all draws.
    """
    variants, shots = {cell.variant for cell in cells}, {cell.shots for cell in cells}
    present = {(cell.variant, cell.shots, cell.prompt, cell.draw) for cell in cells}
    found: dict[str, set[int]] = {}
    if len(shots) > 1:
        for prompt, draw in sorted({(cell.prompt, cell.draw) for cell in cells if cell.shots}):
            if all((v, k, prompt, draw if k else 0) in present for v, k in product(variants, shots)):
                found.setdefault(prompt, set()).add(draw)
    return found


def prompt_gap(results: Results, cells: Sequence[Cell], first: str = "p1", second: str = "p2") -> Effect | None:
    """The score in the prompt format `first` less that in `second`, over the conditions that have both."""
    other = {(c.variant, c.test, c.shots, c.draw): c for c in finished(results, cells) if c.prompt == second}
    ours = [c for c in finished(results, cells) if c.prompt == first]
    pairs = [(c, other[key]) for c in ours if (key := (c.variant, c.test, c.shots, c.draw)) in other]
    return effect(results, _difference([a for a, _ in pairs], [b for _, b in pairs]))


def _difference(ours: Iterable[Cell], *theirs: Iterable[Cell], weight: float = 1.0) -> list[Term]:
    """`ours` less `theirs`, if there are any."""
    return [Term(weight, tuple(ours)), *(Term(-weight, tuple(side)) for side in theirs)]


def finished(results: Results, cells: Iterable[Cell]) -> tuple[Cell, ...]:
    """The cells that have run."""
    return tuple(cell for cell in cells if cell.key in results.first_metric)


def paired(results: Results, ours: Iterable[Cell], theirs: Iterable[Cell]) -> tuple[tuple[Cell, ...], tuple[Cell, ...]]:
    """The finished cells of both sides at the conditions that both have, and of each recipe all its seeds."""
    sides = _of_all_seeds(results, ours), _of_all_seeds(results, theirs)
    common = {cell.condition for cell in sides[0]} & {cell.condition for cell in sides[1]}
    return tuple(c for c in sides[0] if c.condition in common), tuple(c for c in sides[1] if c.condition in common)


def _of_all_seeds(results: Results, cells: Iterable[Cell]) -> list[Cell]:
    """Finished cells without those that another seed of the same recipe lacks, of the seeds that have any."""
    recipes = {cell: results.variants[cell.variant].recipe_key for cell in finished(results, cells)}
    seeds = Counter(recipe for recipe, _ in {(recipe, cell.variant) for cell, recipe in recipes.items()})
    present = Counter((recipe, cell.condition) for cell, recipe in recipes.items())
    return [cell for cell, recipe in recipes.items() if present[recipe, cell.condition] == seeds[recipe]]


def effect(results: Results, terms: Sequence[Term], null: float = 0.0) -> Effect | None:
    """The sum of `terms` with all that must be known of it. None if a term has no finished cell, or the cells of a
    test set have no common document. `p` is that of a true value of `null`.
    """
    terms = [Term(term.weight, finished(results, term.cells)) for term in terms]
    if not terms or not all(term.cells for term in terms):
        return None
    parts = set_parts(results, _weights(terms))
    if parts is None:
        return None
    found = _estimate(results, parts)
    return Effect(
        value=float(sum(part.values.mean() for part in parts)),
        interval=_interval(parts, found.centre, found.half),
        p=max(*(p_value(found.centre - null, levels) for levels in found.chance), 0.0 if null else swap_p(parts)),
        n=sum(len(part.values) for part in parts),
        clusters=sum(len(part.by_cluster(part.values)) for part in parts),
        tests=tuple(part.test for part in parts),
        seeds=min((t.seeds for t in found.trained), default=0),
        draws=found.draws,
        chance=found.chance,
        noise_floor=noise_floor_of(results, parts, found.trained),
        rounding_floor=rounding_floor_of(results, parts),
        cells=tuple(cell.key for part in parts for cell in part.cells),
        interval_over_sets=_over_sets(terms, parts, found.centre, found.half, found.seeds),
    )


class _Estimate(NamedTuple):
    """The centre of a contrast's interval, half of its width, and the levels of uncertainty behind it."""

    centre: float
    half: float
    chance: tuple[tuple[Level, ...], ...]
    seeds: list[Level]
    trained: list[Training]
    draws: int


def _estimate(results: Results, parts: Sequence[SetPart]) -> _Estimate:
    rows, centre = row_level(parts)
    draws, fewest_draws, rows_of_draws = draw_levels(parts)
    trained = trainings(results, parts)
    seeds = seed_levels(trained)
    # The levels of draws and seeds already hold what rows show of the errors of one draw or seed.
    rest = Level(max(0.0, rows.variance - rows_of_draws - sum(t.by_rows for t in trained)), rows.df)
    chance = (rest, *draws, *seeds), (rows,)  # few draws or seeds may agree by chance: never narrower than rows alone
    return _Estimate(centre, max(map(half_width, chance)), chance, seeds, trained, fewest_draws)


def share(results: Results, ours: Sequence[Cell], theirs: Sequence[Cell]) -> Interval | None:
    """The 95 % interval of the mean score of `ours` divided by that of `theirs`; None if they cannot be compared.

    It holds every share at which the contrast `ours` less the share times `theirs` may be zero (Fieller 1954). So it
    never needs the distribution of a ratio. If `theirs` may be zero, there is no upper end.
    """
    terms = _difference(*paired(results, ours, theirs))
    parts = set_parts(results, _weights(terms)) if all(term.cells for term in terms) else None
    if parts is None:
        return None
    return Interval(_share_at(results, parts, -1), _share_at(results, parts, 1))


def _share_at(results: Results, parts: Sequence[SetPart], sign: int) -> float:
    """The share at which the lower end (-1) or the upper end (1) of the contrast is zero, by Newton's steps."""
    base = -sum(float((part.scores @ np.minimum(part.weights, 0)).mean()) for part in parts)
    ours = sum(float((part.scores @ np.maximum(part.weights, 0)).mean()) for part in parts)
    at = max(ours / base, EXACT) if base > 0 else 0.0
    for _ in range(STEPS if base > 0 else 0):
        found = _estimate(results, _weighted(parts, at))
        step = (found.centre + sign * found.half) / base
        if at + step <= EXACT:  # ours scores nothing: what it may score on other rows, and nothing is the least
            alone = _estimate(results, _weighted(parts, 0.0))
            return max(0.0, alone.centre + alone.half) / base if sign > 0 else 0.0
        at += step
        if abs(step) < EXACT:
            return at
        if at > MOST_SHARE:
            break
    return inf if sign > 0 else 0.0


def _weighted(parts: Sequence[SetPart], share: float) -> list[SetPart]:
    """The contrast with the subtracted side times `share`; without that side if it is 0."""
    found = []
    for part in parts:
        used = np.flatnonzero(part.weights > 0) if share == 0 else np.arange(len(part.weights))
        weights = np.where(part.weights < 0, share * part.weights, part.weights)
        found.append(
            replace(
                part,
                weights=weights[used],
                scores=part.scores[:, used],
                cells=tuple(part.cells[i] for i in used),
                variants=tuple(part.variants[i] for i in used),
            )
        )
    return found


def _weights(terms: Sequence[Term]) -> dict[Cell, float]:
    """The weight of each cell."""
    weights: dict[Cell, float] = {}
    for term in terms:
        by_test = grouped(term.cells, lambda cell: cell.test)
        for cells in by_test.values():
            for cell in cells:
                weights[cell] = weights.get(cell, 0.0) + term.weight / len(by_test) / len(cells)
    return weights


def _interval(parts: Sequence[SetPart], centre: float, half: float) -> Interval:
    """Within what scores from 0 to 1 can give."""
    weights = np.concatenate([part.weights for part in parts])
    low, high = float(weights[weights < 0].sum()), float(weights[weights > 0].sum())
    return Interval(max(centre - half, low), min(centre + half, high))


def _over_sets(
    terms: Sequence[Term], parts: Sequence[SetPart], centre: float, half: float, seeds: Sequence[Level]
) -> Interval | None:
    """The interval that takes test sets as a sample: never narrower than the one for these sets alone."""
    tests = [{cell.test for cell in term.cells} for term in terms]
    alike = grouped(parts, lambda part: tuple(part.test in of_term for of_term in tests))
    means = [[float(part.values.mean()) for part in some] for some in alike.values()]
    if any(len(values) < 2 for values in means):
        return None
    of_sets = [Level(len(values) * float(np.var(values, ddof=1)), len(values) - 1) for values in means]
    return _interval(parts, centre, max(half, half_width([*of_sets, *seeds])))

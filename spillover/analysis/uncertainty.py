"""The levels of uncertainty of a contrast: its documents, its draws, its seeds.

A contrast is a weight for every cell. Its part on a test set (`SetPart`) is the mean over documents of the weighted sum
of a document's answers. The levels, which `spillover.stats.levels` combines, are how these sums vary between documents,
between draws of the demonstrations, and between trainings of a recipe. A few seeds show the last poorly, so it is
estimated from all recipes on the same training set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import inf, sqrt
from statistics import fmean

import numpy as np
import numpy.typing as npt

from ..plan.grid import Cell, Condition, Variant
from ..stats.intervals import ROUNDING, Array, wilson
from ..stats.levels import (
    Level,
    cluster_sums,
    effective_rows,
    floor,
    half_width,
    mean_change,
    unit_variance,
)
from ..stats.permutation import sign_flip
from .harness import metric_of
from .results import Results, grouped
from .rows import common_documents, has_documents

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class SetPart:
    """A test set's part of a contrast: the scores, (documents, cells), of the documents that all its cells have."""

    test: str
    cells: tuple[Cell, ...]
    variants: tuple[Variant, ...]
    weights: Array
    scores: Array
    doc_ids: npt.NDArray[np.int64]
    clusters: npt.NDArray[np.int64] | None
    right_or_wrong: bool

    @cached_property
    def values(self) -> Array:
        """The weighted sum of each document's scores, (documents,); their mean is this part."""
        return np.asarray(self.scores @ self.weights)

    @property
    def unmoved(self) -> Array:
        """The same if both sides had the answers of the side that is subtracted: zero, unless only a share of it is."""
        less, total = np.minimum(self.weights, 0), float(self.weights.sum())
        if abs(total) <= ROUNDING or not less.any():
            return np.zeros(len(self.scores))
        return np.asarray(total * (self.scores @ less) / less.sum())

    def values_of(self, units: Mask) -> Array:
        """The same for several units, each with some of the cells: (units, cells) to (documents, units)."""
        return np.asarray(self.scores @ (units * self.weights).T)

    @cached_property
    def errors_by_rows(self) -> tuple[float, float, float, float]:
        """What this part adds to the contrast, its standard errors below and above, and their degrees of freedom.

        The errors are those of Wilson's interval if answers are right or wrong and nothing is subtracted; else they
        are equal.
        """
        if not (self.right_or_wrong and _of_one_sign(self.weights)):
            full, unmoved = _full_change(self.weights), self.unmoved[:, None]
            change = mean_change(self.values[:, None], self.clusters, self.right_or_wrong, full, unmoved)
            error = max(sqrt(change.variance[0]), ROUNDING)
            return float(change.centre[0]), error, error, change.df
        weight, p = float(self.weights.sum()), float(self.values.mean() / self.weights.sum())
        answers = np.full(len(self.values), float(len(self.cells)))
        n, df = effective_rows(self.values / weight, answers, self.clusters)
        interval, t = wilson(n * p, n), half_width([Level(1.0, df)])
        below, above = sorted([weight * (interval.low - p) / t, weight * (interval.high - p) / t])
        return weight * p, -below, above, df

    def by_cluster(self, values: Array) -> Array:
        """What each cluster adds to the mean of `values`, (documents, ...) to (clusters, ...)."""
        return cluster_sums(values / len(values), self.clusters)

    def variance_of(self, units: Mask) -> tuple[float, float]:
        """The variance of this part from units, each with some of the cells, and the share of it that rows show."""
        return unit_variance(self.by_cluster(self.values_of(units)).T, self.by_cluster(np.ones(len(self.scores))))


def set_parts(results: Results, weights: Mapping[Cell, float]) -> list[SetPart] | None:
    """The parts of a contrast, by test set; None if the cells of a set have no common document."""
    parts = []
    for test, cells in grouped(weights, lambda cell: cell.test).items():
        rows = [results.first_metric[cell.key] for cell in cells]
        doc_ids = common_documents(rows)
        if not len(doc_ids):
            return None
        parts.append(
            SetPart(
                test=test,
                cells=tuple(cells),
                variants=tuple(results.variants[cell.variant] for cell in cells),
                weights=np.array([weights[cell] for cell in cells]),
                scores=np.column_stack([own.only(doc_ids).statistics[:, 0] for own in rows]),
                doc_ids=doc_ids,
                clusters=results.cluster_codes(test, doc_ids),
                right_or_wrong=metric_of(results.tests[test].metrics[0]).is_proportion,
            )
        )
    return parts


def row_level(parts: Sequence[SetPart]) -> tuple[Level, float]:
    """The level of the rows, and the centre of the interval.

    Test sets are independent: their errors below and above are summed separately (Zou and Donner 2008).
    """
    middles, below, above, dfs = np.array([part.errors_by_rows for part in parts]).T
    variances = ((below + above) / 2) ** 2
    total, doubt = float(variances.sum()), float((variances**2 / dfs).sum())
    df = total**2 / doubt if doubt else inf
    to_low, to_high = sqrt(float((below**2).sum())), sqrt(float((above**2).sum()))
    level = Level(((to_low + to_high) / 2) ** 2, df)
    return level, float(middles.sum()) + half_width([Level(1.0, df)]) * (to_high - to_low) / 2


def swap_p(parts: Sequence[SetPart]) -> float:
    """The p-value of swapping sides document by document.

    Before swapping, the contrast is shifted to zero, each set by its share of the uncertainty. If nothing is
    subtracted, there are no sides to swap: p is 0, so that the interval's p decides.
    """
    if _of_one_sign(np.concatenate([part.weights for part in parts])):
        return 0.0
    _, below, above, _ = np.array([part.errors_by_rows for part in parts]).T
    variances = ((below + above) / 2) ** 2
    means = np.array([part.values.mean() for part in parts])
    at_zero = means - means.sum() * variances / variances.sum()
    moved = np.concatenate([s.by_cluster(s.values - m) for s, m in zip(parts, at_zero, strict=True)])
    return float(sign_flip(moved)[0])


def _full_change(weights: Array) -> float:
    """How far a document moves if all its answers change together."""
    return max(float(np.maximum(weights, 0).sum()), -float(np.minimum(weights, 0).sum()))


def _of_one_sign(weights: Array) -> bool:
    """Whether nothing is subtracted."""
    return bool((weights > 0).all() or (weights < 0).all())


def draw_levels(parts: Sequence[SetPart]) -> tuple[list[Level], int, float]:
    """A level for the draws of each test set, if all sets with demonstrations have two or more; the fewest draws of a
    set; and the share of their variance that rows show already.

    Draws of different test sets are not pooled, because sets differ in how much they depend on demonstrations.
    """
    counts, levels, seen = [], [], 0.0
    for part in parts:
        drawn = np.array([cell.draw if cell.shots else -1 for cell in part.cells])
        draws = np.unique(drawn[drawn >= 0])
        counts += [len(draws)] if len(draws) else []
        if len(draws) > 1:
            of_set, by_rows = part.variance_of(drawn == draws[:, None])
            levels.append(Level(of_set, len(draws) - 1, "draws"))
            seen += by_rows
    fewest = min(counts, default=0)
    return (levels, fewest, seen) if fewest > 1 else ([], fewest, 0.0)


@dataclass(frozen=True)
class Training:
    """One arm of a contrast: its number of seeds, and how much the contrast changes with one training of it.

    `variance`, of a single training, is known with `df` degrees of freedom from all recipes on the same training set;
    None if none has two seeds. `by_rows` is the share of the arm's variance by seeds that rows show already. `of_arm`
    is the arm's weight at each condition, all its seeds together; `alike` are the recipes with several seeds on the
    same training set.
    """

    train_dataset: str | None
    seeds: int
    variance: float | None
    df: int
    by_rows: float
    of_arm: Mapping[Condition, float] = field(repr=False)
    alike: Sequence[Sequence[Variant]] = field(repr=False)


def trainings(results: Results, parts: Sequence[SetPart]) -> list[Training]:
    """The arms of a contrast but for the base, which is not trained."""
    variants = {variant.key: variant for part in parts for variant in part.variants if variant.kind != "base"}
    arms = grouped(variants.values(), lambda variant: variant.recipe_key)
    return [_training(results, parts, seeds) for seeds in arms.values()]


def _training(results: Results, parts: Sequence[SetPart], seeds: Sequence[Variant]) -> Training:
    units = [np.array([[v.key == seed.key for v in part.variants] for seed in seeds]) for part in parts]
    several = len(seeds) > 1
    squares, df, by_rows = 0.0, 0, 0.0
    if several:
        totals = np.sum([s.values_of(own).mean(axis=0) for s, own in zip(parts, units, strict=True)], axis=0)
        squares, df = len(seeds) ** 3 * float(np.var(totals)), len(seeds) - 1  # a seed's part is 1 / seeds of the arm's
        by_rows = sum(s.variance_of(own)[1] for s, own in zip(parts, units, strict=True))
    of_arm: dict[Condition, float] = {}
    for part, own in zip(parts, units, strict=True):
        for i in np.flatnonzero(own.any(axis=0)):
            place = part.cells[i].condition
            of_arm[place] = of_arm.get(place, 0.0) + float(part.weights[i])
    # What is made of trained weights is no training: its seeds are those of others, which count already.
    trained = [s for s in results.recipes.values() if len(s) > 1 and not s[0].made_from]
    alike = [siblings for siblings in trained if siblings[0].train_dataset == seeds[0].train_dataset]
    for siblings in alike:
        is_known = several and siblings[0].recipe_key == seeds[0].recipe_key
        if not is_known:
            values = [_as_arm(results, sibling, of_arm) for sibling in siblings]
            if None not in values:
                squares += len(values) * float(np.var(np.array(values, dtype=np.float64)))
                df += len(values) - 1
    variance = squares / df if df else None
    return Training(seeds[0].train_dataset, len(seeds), variance, df, by_rows, of_arm, alike)


def _least_difference(results: Results, parts: Sequence[SetPart], training: Training) -> Level:
    """How two trainings of an arm differ by their rows: as the seeds of recipes alike do, and by what may go unseen.

    Trainings with equal scores, even with equal answers, may differ on other rows (`stats.levels.mean_change`).
    """
    variance = df = 0.0
    for part in parts:
        weights = {place: weight for place, weight in training.of_arm.items() if place.test == part.test}
        if weights:
            none = np.zeros((len(part.values), 1))
            unseen = mean_change(none, part.clusters, True, _full_change(np.array(list(weights.values()))))
            seen = [_variance_by_rows(results, part, siblings, weights) for siblings in training.alike]
            variance += float(unseen.variance[0]) + 2 * fmean([one for one in seen if one is not None] or [0.0])
            df += unseen.df
    return Level(variance, df)


def _variance_by_rows(
    results: Results, part: SetPart, siblings: Sequence[Variant], weights: Mapping[Condition, float]
) -> float | None:
    """How much of the variance of a training is that of its single rows; None if cells or rows are missing."""
    found = []
    for sibling in siblings:
        rows = [results.first_metric.get(results.places.get((sibling.key, place)) or "") for place in weights]
        whole = [one for one in rows if one is not None and has_documents(one.doc_ids, part.doc_ids)]
        if len(whole) < len(rows):
            return None
        scores = np.column_stack([one.only(part.doc_ids).statistics[:, 0] for one in whole])
        found.append(part.by_cluster(scores @ np.array(list(weights.values()))))
    return unit_variance(np.array(found), part.by_cluster(np.ones(len(part.scores))))[1] / len(found)


def _as_arm(results: Results, variant: Variant, weights: Mapping[Condition, float]) -> float | None:
    """What this one training would add to the contrast in place of the arm; None if cells are missing."""
    keys = [results.places.get((variant.key, place)) for place in weights]
    means = [results.means.get(key or "") for key in keys]
    return None if None in means else float(np.dot(list(weights.values()), np.array(means, dtype=np.float64)))


def seed_levels(trained: Sequence[Training]) -> list[Level]:
    """A level for each training set whose recipes have several seeds: its arms share one estimate of their spread."""
    levels: dict[str | None, Level] = {}
    for t in trained:
        if t.seeds > 1 and t.variance is not None:
            known = levels.get(t.train_dataset, Level(0.0, t.df, "seeds"))
            levels[t.train_dataset] = Level(known.variance + t.variance / t.seeds, known.df, "seeds")
    return list(levels.values())


def noise_floor_of(results: Results, parts: Sequence[SetPart], trained: Sequence[Training]) -> float | None:
    """What two trainings of one recipe differ by; None if no recipe has two.

    Few trainings may agree by chance: never less than what their rows show.
    """
    known = [(t.variance, t.df, _least_difference(results, parts, t)) for t in trained if t.variance is not None]
    if not known:
        return None
    by_seeds = Level(2 * fmean(variance for variance, _, _ in known), min(df for _, df, _ in known))
    by_rows = Level(fmean(least.variance for _, _, least in known), min(least.df for _, _, least in known))
    return max(floor(by_seeds), floor(by_rows))


def rounding_floor_of(results: Results, parts: Sequence[SetPart]) -> float | None:
    """What a contrast changes by rounding alone: 0 if nothing was rounded, None if that is not known.

    It is not known if no text was generated in both precisions, or if none of those changed: that shows no size.
    Rounding changes each answer for itself, so a cell of n rows adds its squared weight times the mean square / n.
    """
    variance, tests = 0.0, set()
    for part in parts:
        known, squares = results.rounded_rows.get(part.test, (0.0, 0.0))
        rounded = np.array([cell.key in results.rounding for cell in part.cells])
        if rounded.any():
            if not known or not squares:
                return None
            tests.add(part.test)
            variance += float((part.weights[rounded] ** 2).sum()) * squares / known / len(part.values)
    return floor(Level(variance, sum(results.rounded_rows[test][0] for test in tests))) if tests else 0.0

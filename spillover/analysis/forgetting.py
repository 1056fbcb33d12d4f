"""Does a measure from inside a variant predict what it loses? Rank correlations over all recipes of a training set.

It is said that forward KL to the base, on data of the new task, predicts forgetting (arXiv 2509.04259). So each recipe
is a point: what was measured inside it (`store.inside`), and its loss on all test sets that are not in-domain. Two
other measures stand beside it: KL on plain text, and how far the weights moved.

The correlation is Spearman's, since nothing says that the relation is a line. Its 95 % interval is that of Fisher's z
with the variance of Bonett and Wright (2000), and recipes count as independent. Over several training sets the z are
averaged by their precision, so that no set's level of loss enters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import atanh, sqrt, tanh
from statistics import NormalDist, fmean

from scipy.stats import spearmanr

from ..plan.grid import Condition, Variant
from ..stats.intervals import CONFIDENCE, Interval
from ..store.inside import Divergence, Inside
from .contrasts import finished
from .results import Results, grouped, recipe_name
from .retention import kept

FEWEST = 5  # recipes of a training set; with fewer, ranks say nothing
MEASURES: Mapping[str, str] = {
    "new_task": "KL on answers of the new task",
    "plain_text": "KL on plain text",
    "weights": "Mean change of a weight",
}
Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
NEARLY_ONE = 1 - 1e-9


@dataclass(frozen=True)
class Moved:
    """A recipe: how much it `lost` outside, from -1 to 1, and by the name of a measure how far it moved.

    Both are means over its seeds. KL is in nats a token.
    """

    recipe: str
    name: str
    train_dataset: str
    lost: float
    measures: Mapping[str, float]


@dataclass(frozen=True)
class Correlation:
    """Spearman's correlation of a measure with what is lost, over `n` recipes. `train_dataset` None: over all sets."""

    measure: str
    train_dataset: str | None
    rho: float
    interval: Interval
    n: int


def moved(results: Results, inside: Mapping[str, Inside]) -> list[Moved]:
    """Every recipe that was trained here, with what was measured inside its variants. Random changes are left out.

    A run that goes on has recipes that were asked some of the test sets only. Their loss is no loss over the same
    sets, so they are left out too. `inside` is by the variant's name.
    """
    found = []
    asked = _asked_outside(results)
    most = {train: max((asked[key] for key in keys), key=len) for train, keys in _by_training_set(results).items()}
    for key, one in kept(results).items():
        seen = [inside[variant.name] for variant in one.arm if variant.name in inside]
        if one.outside is None or not one.arm[0].train_dataset or key in results.nulls or len(seen) < len(one.arm):
            continue
        if asked[key] != most[one.arm[0].train_dataset]:
            continue
        each = [dict(_measures(results, variant, of)) for variant, of in zip(one.arm, seen, strict=True)]
        means = {name: fmean(of[name] for of in each) for name in MEASURES if all(name in of for of in each)}
        found.append(Moved(key, recipe_name(one.arm), one.arm[0].train_dataset, -one.outside.effect.value, means))
    return found


def _asked_outside(results: Results) -> dict[str, frozenset[Condition]]:
    """The conditions of the finished cells that are not in-domain, by recipe key."""
    return {
        key: frozenset(c.condition for c in finished(results, results.cells_of(one.arm)) if c.role != "in_domain")
        for key, one in kept(results).items()
    }


def _by_training_set(results: Results) -> dict[str, list[str]]:
    """The keys of the recipes that were trained on each set."""
    return grouped([*kept(results)], lambda key: str(kept(results)[key].arm[0].train_dataset))


def _measures(results: Results, variant: Variant, seen: Inside) -> Iterator[tuple[str, float]]:
    in_domain = {cell.test for cell in results.cells_of([variant], "in_domain")}
    passages = [p for test, one in (seen.answers or {}).items() if test in in_domain for p in one.passages]
    if passages:
        yield "new_task", Divergence(tuple(passages)).nats
    if seen.neutral is not None:
        yield "plain_text", seen.neutral.nats
    if size := sum(change.size for change in seen.changes):
        yield "weights", sum(change.absolute for change in seen.changes) / size


def correlations(points: Sequence[Moved]) -> list[Correlation]:
    """For each measure, that of each training set with enough recipes, then over all of these if there are several."""
    found = []
    for measure in MEASURES:
        of_sets = []
        for train, some in grouped(points, lambda one: one.train_dataset).items():
            pairs = [(one.measures[measure], one.lost) for one in some if measure in one.measures]
            if len(pairs) >= FEWEST and all(len(set(side)) > 1 for side in zip(*pairs, strict=True)):
                of_sets.append(_of_one(measure, train, pairs))
        found += of_sets
        if len(of_sets) > 1:
            found.append(_of_all(measure, of_sets))
    return found


def _of_one(measure: str, train: str, pairs: Sequence[tuple[float, float]]) -> Correlation:
    rho = float(spearmanr(*zip(*pairs, strict=True)).statistic)
    return Correlation(measure, train, rho, _interval(_z(rho), sqrt(_variance(rho, len(pairs)))), len(pairs))


def _of_all(measure: str, found: Sequence[Correlation]) -> Correlation:
    weights = [1 / _variance(one.rho, one.n) for one in found]
    z = sum(weight * _z(one.rho) for weight, one in zip(weights, found, strict=True)) / sum(weights)
    return Correlation(measure, None, tanh(z), _interval(z, 1 / sqrt(sum(weights))), sum(one.n for one in found))


def _variance(rho: float, n: int) -> float:
    """Of Fisher's z of a rank correlation (Bonett and Wright 2000)."""
    return (1 + rho**2 / 2) / (n - 3)


def _z(rho: float) -> float:
    return atanh(max(-NEARLY_ONE, min(NEARLY_ONE, rho)))


def _interval(z: float, error: float) -> Interval:
    return Interval(tanh(z - Z * error), tanh(z + Z * error))

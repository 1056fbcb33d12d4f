"""What a claim's comparison measures, as one effect with its interval, from a weight for every cell or variant.

`score` comes from the cells' rows, `off_format` from rates of the results table, `training_loss` from receipts,
`weight_deviation` from what was measured inside the variants. The last two have one number a training and no documents:
only other seeds that differ give them an interval, and `n` is 0. The p-value of an effect is that of a true `null`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from statistics import NormalDist, fmean, stdev

import numpy as np

from ..experiment.claims import Measure
from ..stats.intervals import CONFIDENCE, ROUNDING, Interval, percentile_interval, replicates
from ..stats.levels import Level, half_width, p_value
from ..store.inside import Divergence
from ..store.inside import read as read_inside
from ..store.store import Store
from .contrasts import Effect, Term, effect
from .points import Point, Weights, contrast
from .results import Results, grouped

Pairs = Sequence[tuple[Point, Weights]]
Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)


def p_from(value: float, interval: Interval, end: float) -> float:
    """Two-sided p of a true value of `end`: the interval counts as a normal one's on the side where `end` lies."""
    distance = abs(value - end)
    reach = abs(value - (interval.low if end < value else interval.high))
    if not isfinite(reach):  # the interval is not known
        return 1.0
    if reach < ROUNDING:
        return float(distance < ROUNDING)
    return 2 * NormalDist().cdf(-Z * distance / reach)


def score(results: Results, weights: Weights, null: float = 0.0) -> Effect | None:
    """By each test set's first metric. Cells of one recipe and test set with the same weight form one term."""
    found = [(p.variant, p.cell, round(w, 12)) for p, w in weights.items() if p.cell and abs(w) > ROUNDING]
    alike = grouped(found, lambda one: (one[0].recipe_key, one[1].test, one[2]))
    terms = [Term(w * len(some), tuple(cell for _, cell, _ in some)) for (_, _, w), some in alike.items()]
    return effect(results, terms, null=null)


@dataclass(frozen=True)
class Rate:
    """The off-format rate of a cell, over `n` documents of which `clusters` are independent."""

    value: float
    interval: Interval
    n: int
    clusters: int


Rates = Mapping[str, Rate]
"""By the cell's key."""


def off_format_rates(results: Results) -> Rates:
    """The rates of the cells that have run."""
    rows = results.df[(results.df["metric"] == "off_format") & (results.df["rows"] == "all")]
    places = ["variant", "test_dataset", "prompt", "shots", "draw"]
    ends = rows.set_index(places)[["value", "ci_low", "ci_high"]].to_dict("index")
    rates = {}
    for cell in results.grid.cells:
        end = ends.get((results.variants[cell.variant].name, *cell.condition))
        if end is not None and cell.key in results.first_metric:
            doc_ids = results.first_metric[cell.key].doc_ids
            codes = results.cluster_codes(cell.test, doc_ids)
            clusters = len(doc_ids) if codes is None else int(codes.max()) + 1
            rates[cell.key] = Rate(end["value"], Interval(end["ci_low"], end["ci_high"]), len(doc_ids), clusters)
    return rates


def off_format(rates: Rates, weights: Weights, null: float = 0.0) -> Effect | None:
    """A contrast of rates. Its interval, the sum of the cells' own intervals, is too wide rather than too narrow."""
    value = low = high = 0.0
    least: dict[str, Rate] = {}  # by test set, of the cell with the fewest documents
    for point, weight in weights.items():
        assert point.cell is not None
        rate = rates.get(point.cell.key)
        if rate is None:
            return None
        value += weight * rate.value
        low += weight * (rate.interval.low if weight > 0 else rate.interval.high)
        high += weight * (rate.interval.high if weight > 0 else rate.interval.low)
        test = point.cell.test
        least[test] = min(rate, least.get(test, rate), key=lambda one: one.n)
    interval = Interval(low, high)
    trained = {(point.variant.recipe_key, point.variant.seed) for point in weights if point.variant.kind == "trained"}
    return Effect(
        value=value,
        interval=interval,
        p=p_from(value, interval, null),
        seeds=min(Counter(recipe for recipe, _ in trained).values(), default=0),
        chance=((Level((interval.half_width / Z) ** 2, inf),),),
        cells=tuple(point.key for point in weights),
        n=sum(rate.n for rate in least.values()),
        clusters=sum(rate.clusters for rate in least.values()),
        tests=tuple(least),
        draws=len({point.columns["draw"] for point in weights}),
    )


def numbers_of(measure: Measure, store: Store, variants: Iterable[Point]) -> dict[str, float]:
    """What is recorded of variants, by key: the mean loss over their training, the mean |change| of their weights."""
    if measure == "training_loss":
        receipts = {point.key: store.variant_receipt(point.key) or {} for point in variants}
        return {key: float(receipt["loss"]) for key, receipt in receipts.items() if receipt.get("loss") is not None}
    seen = {key: inside.changes for key, inside in read_inside(store.folder).items() if inside.changes}
    return {key: sum(c.absolute for c in changes) / sum(c.size for c in changes) for key, changes in seen.items()}


def over_seeds(pairs: Pairs, numbers: Mapping[str, float], null: float = 0.0) -> Effect:
    """A contrast of one number a training: its mean over seeds with Student's interval.

    One seed gives no interval, nor do seeds with equal numbers: they show no size of the noise.
    """
    by_seed = grouped(pairs, lambda pair: pair[0].variant.seed)
    values = [sum(w * numbers[p.key] for p, w in contrast(some).items()) for some in by_seed.values()]
    value, seeds = fmean(values), len(values)
    interval, p = Interval(-inf, inf), 1.0
    chance: tuple[tuple[Level, ...], ...] = ()
    if seeds > 1 and stdev(values) > ROUNDING:
        levels = (Level(stdev(values) ** 2 / seeds, seeds - 1),)
        half = half_width(levels)
        interval, p, chance = Interval(value - half, value + half), p_value(value - null, levels), (levels,)
    names = dict.fromkeys(point.variant.name for _, weights in pairs for point in weights)
    return Effect(value, interval, p, seeds, chance, tuple(names))


def divergence_interval(divergence: Divergence) -> Interval | None:
    """95 % bootstrap interval of `nats` over passages, because tokens of one passage are not independent.

    None if no passage differs from another: then they show no size of the noise.
    """
    if len({nats / tokens for nats, tokens in divergence.passages}) < 2:
        return None
    draws = replicates(np.array(divergence.passages), lambda sums: sums[..., 0] / sums[..., 1])
    return percentile_interval(draws, len(divergence.passages))

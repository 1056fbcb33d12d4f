"""What a claim's comparison measures, as one effect with its interval, from a weight for every cell or variant.

    score              contrasts of the cells' rows, paired by document (`report.contrasts`)
    off_format         rates of the results table, of which the rows are no longer there
    training_loss      a number a training, from the variants' receipts
    weight_deviation   a number a training, from what was seen inside the variants

The last two know no documents: only trainings with other seeds say how far they would vary. The p-value of an effect
is that of a true value of `null`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import inf, isfinite, sqrt
from pathlib import Path
from statistics import NormalDist, fmean, stdev

from ..claims import Measure
from ..comparisons import Point, Weights, contrast
from ..grid import Cell
from ..inside import read as read_inside
from ..stats import CONFIDENCE, ROUNDING, Interval
from ..store import Store
from .contrasts import Effect, Term, effect
from .table import Results

Pairs = Sequence[tuple[Point, Weights]]
Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
POWER = 0.8


def p_from(value: float, interval: Interval, end: float) -> float:
    """Two-sided p of a true value of `end`, reading the interval as a normal one's on the side where `end` lies."""
    distance = abs(value - end)
    reach = abs(value - (interval.low if end < value else interval.high))
    if not isfinite(reach):  # nothing is known of how sure it is
        return 1.0
    if reach < ROUNDING:
        return float(distance < ROUNDING)
    return 2 * NormalDist().cdf(-Z * distance / reach)


def score(results: Results, weights: Weights, null: float = 0.0) -> Effect | None:
    """By each test set's first metric: cells of one recipe and test set that weigh the same stand in one term."""
    cells: dict[tuple[object, str, float], list[Cell]] = {}
    for point, weight in weights.items():
        if point.cell is not None and abs(weight) > ROUNDING:
            cells.setdefault((point.recipe, point.cell.test_dataset, round(weight, 12)), []).append(point.cell)
    return effect(results, [Term(w * len(some), tuple(some)) for (_, _, w), some in cells.items()], null=null)


Rates = Mapping[tuple[str, str, int, str, int], tuple[float, Interval, int]]


def off_format_rates(results: Results) -> Rates:
    """Rate, interval and n by variant's name, test set, shots, prompt and draw."""
    rows = results.df[(results.df["metric"] == "off_format") & (results.df["rows"] == "all")]
    columns = ["variant", "test_dataset", "shots", "prompt", "draw", "value", "ci_low", "ci_high", "n"]
    return {
        (variant, test, shots, prompt, draw): (value, Interval(low, high), n)
        for variant, test, shots, prompt, draw, value, low, high, n in rows[columns].itertuples(index=False)
    }


def off_format(rates: Rates, weights: Weights, null: float = 0.0) -> Effect | None:
    """A contrast of rates, with an interval that is too wide rather than too narrow.

    It adds up the cells' own intervals, as if all of them erred together; rows in common would make it narrower.
    """
    value = low = high = 0.0
    n: dict[str, int] = {}
    for point, weight in weights.items():
        assert point.cell is not None
        cell = point.cell
        rate = rates.get((point.variant.name, cell.test_dataset, cell.shots, cell.prompt, cell.draw))
        if rate is None:
            return None
        value += weight * rate[0]
        low += weight * (rate[1].low if weight > 0 else rate[1].high)
        high += weight * (rate[1].high if weight > 0 else rate[1].low)
        n[cell.test_dataset] = min(rate[2], n.get(cell.test_dataset, rate[2]))
    interval = Interval(low, high)
    return Effect(
        value=value,
        interval=interval,
        p=p_from(value, interval, null),
        n=sum(n.values()),
        tests=tuple(n),
        seeds=_seeds(weights),
        draws=len({point.columns["draw"] for point in weights}),
        mde=interval.half_width * (1 + NormalDist().inv_cdf(POWER) / Z),
        noise_floor=None,
        cells=tuple(point.key for point in weights),
    )


def _seeds(points: Iterable[Point]) -> int:
    """The fewest training seeds of any trained recipe; 0 where nothing was trained."""
    seeds: dict[tuple[object, ...], set[int | None]] = {}
    for point in points:
        if point.variant.kind == "trained":
            seeds.setdefault(point.recipe, set()).add(point.variant.seed)
    return min(map(len, seeds.values()), default=0)


def numbers_of(measure: Measure, folder: Path, variants: Iterable[Point]) -> dict[str, float]:
    """What is recorded of variants, by key: the mean loss over their training, the mean |change| of their weights."""
    if measure == "training_loss":
        receipts = {point.key: Store(folder).variant_receipt(point.key) or {} for point in variants}
        return {key: float(receipt["loss"]) for key, receipt in receipts.items() if receipt.get("loss") is not None}
    seen = {key: inside.changes for key, inside in read_inside(folder).items() if inside.changes}
    return {key: sum(c.absolute for c in changes) / sum(c.size for c in changes) for key, changes in seen.items()}


def over_seeds(pairs: Pairs, numbers: Mapping[str, float], null: float = 0.0) -> Effect:
    """A contrast of numbers of which each training has one: its mean over seeds, with Student's interval over them.

    One seed gives a value without an interval: what another training would differ by is not known then.
    """
    from scipy.special import stdtr, stdtrit

    by_seed: dict[int | None, list[tuple[Point, Weights]]] = {}
    for point, weights in pairs:
        by_seed.setdefault(point.variant.seed, []).append((point, weights))
    values = [sum(w * numbers[p.key] for p, w in contrast(some).items()) for some in by_seed.values()]
    value, seeds = fmean(values), len(values)
    interval, p, mde = Interval(-inf, inf), 1.0, inf
    if seeds > 1:
        error, df = stdev(values) / sqrt(seeds), seeds - 1
        half = float(stdtrit(df, (1 + CONFIDENCE) / 2)) * error
        interval = Interval(value - half, value + half)
        p = float(2 * stdtr(df, -abs(value - null) / error)) if error else float(value == null)
        mde = half + float(stdtrit(df, POWER)) * error
    names = dict.fromkeys(point.variant.name for _, weights in pairs for point in weights)
    return Effect(value, interval, p, seeds, (), seeds, 0, mde, None, tuple(names))

"""The frontier: what each recipe gains inside against what it changes outside, and which of them are on the front.

`figure` draws a panel for each training set and `tables` lists the same numbers. They come from `analysis.front`. Where
there are many recipes, a panel numbers those that may be on the front and shows the others as small marks.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from ..analysis.averages import BASE
from ..analysis.front import Front, Point, fronts
from ..analysis.numbers import without_arrow, written
from ..analysis.results import Results
from ..analysis.retention import OUTSIDE, kept
from . import charts
from .charts import Figure, Panel

MANY = 6  # recipes that a panel tells apart by colour and shape
MAY_BE = 0.05  # the share of resamples from which on a recipe may be on the front
GROUPS = ("may be on the front", "not on the front")
ENDS = ("gain", "gain_low", "gain_high", "kept", "kept_low", "kept_high")


def figure(results: Results) -> Figure:
    """A panel for each training set. In each the base comes first, at zero."""
    found = fronts(results)
    crowded = _is_crowded(results)
    names = list(dict.fromkeys(point.name for front in found for point in front.points[1:]))
    looks = _looks_of_groups() if crowded else charts.looks([BASE, *names])
    keep = results.grid.keep
    name = "" if keep is None else f"keep {100 * keep:g} %"
    drawn = []
    for front in found:
        rows = _rows(front, crowded)
        limit = _limit(results, front)
        spec = charts.plane(rows, looks, front.title, f"↑ {OUTSIDE}, in points", limit, name)
        drawn.append(Panel(front.title, spec, rows))
    rule = (
        ""
        if keep is None
        else f" Below the dotted line less than {100 * keep:g} % of the base’s score is left: the rule."
    )
    beside = "the numbers of its rows, where there is room for them," if crowded else "these percentages"
    return Figure(
        number=0,
        name="plane",
        title="Gain inside and change outside",
        caption="Change from the base in points. Further right is better in-domain: where uses differ, the one with "
        "the smallest gain counts. Further up is better on all other test sets. Bars are 95 % intervals. The dashed "
        "line is the Pareto front: no recipe is better both ways than a recipe on it. The table says "
        f"how often a recipe is on the front when documents and seeds are drawn again; {beside} stand beside the "
        f"points.{rule}",
        panels=tuple(drawn),
        columns=2,
    )


def tables(results: Results) -> list[dict[str, Any]]:
    """For each training set its title and a row for each recipe, those that are on the front most often first."""
    found, crowded = [], _is_crowded(results)
    for front in fronts(results):
        numbers = _numbers(front) if crowded else {}
        rows = [
            {
                "Recipe": point.name,
                "No.": str(numbers.get(point.recipe, "")),
                "On the front": percent(point.share),
                "In-domain": written(point.effects[0]) if point.effects else "0",
                "Outside": written(point.effects[1]) if point.effects else "0",
            }
            for point in sorted(front.points, key=lambda one: -one.share)
        ]
        caption = f"{front.title}: share of {front.draws:,} resamples in which a recipe is on the front"
        found.append({"caption": caption, "rows": rows})
    return found


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _is_crowded(results: Results) -> bool:
    """Whether a panel has more recipes than can be told apart by their looks."""
    return any(len(front.points) > MANY + 1 for front in fronts(results))


def _looks_of_groups() -> dict[str, charts.Look]:
    (base, look), (front, of_front), (other, of_others) = charts.looks([BASE, *GROUPS]).items()
    return {base: look, front: of_front._replace(shape="circle"), other: of_others._replace(colour=charts.FAINT)}


def _numbers(front: Front) -> dict[str, int]:
    """The number of each recipe in a panel of many: its rank by how often it is on the front."""
    ranked = sorted(front.points[1:], key=lambda one: -one.share)
    return {point.recipe: number for number, point in enumerate(ranked, 1)}


def _rows(front: Front, many: bool) -> pd.DataFrame:
    """A row for each point. `mark` is what stands beside it; `weak` has neither an interval nor a mark."""
    rows, numbers = [], _numbers(front)
    for point in front.points:
        is_base = point.effects is None
        weak = many and not is_base and point.share < MAY_BE
        mark = "" if weak or is_base else str(numbers[point.recipe]) if many else percent(point.share)
        label = BASE if is_base else GROUPS[point.share < MAY_BE] if many else point.name
        row = {"variant": point.name, "label": label, "mark": mark, "weak": weak, "tip": _tip(point, front.draws)}
        share = {"share": point.share, "on_front": point.on_front}
        rows.append(row | share | dict(zip(ENDS, _ends(point), strict=True)))
    return pd.DataFrame(rows)


def _ends(point: Point) -> list[float]:
    if point.effects is None:
        return [0.0] * len(ENDS)
    return [100 * x for one in point.effects for x in (one.value, one.interval.low, one.interval.high)]


def _tip(point: Point, draws: int) -> str:
    where = f"on the front in {percent(point.share)} of {draws:,} resamples"
    if point.effects is None:
        return f"the base: {where}"
    inside, outside = map(without_arrow, point.effects)
    return f"{point.name}: in-domain {inside}, outside {outside}; {where}"


def _limit(results: Results, front: Front) -> float | None:
    """The change outside, in points, at which the share of the base's score that the user wants is left."""
    bases = [one.base for point in front.points[1:] if (one := kept(results)[point.recipe].outside) is not None]
    return None if results.grid.keep is None or not bases else 100 * (results.grid.keep - 1) * bases[0]

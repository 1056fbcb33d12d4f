"""Strategies at equal gain, for readers: a table for the page, and rows for equal_gain.csv."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ..analysis.averages import titles_of
from ..analysis.equal_gain import GAIN_KEPT, LOSS_LEFT, Curve, EqualGain, Place, curves, equal_gains
from ..analysis.numbers import details, signed, signed_interval, written
from ..analysis.results import Results, grouped
from . import charts
from .charts import Figure, Panel

COLUMNS = (
    *("recipe", "train_dataset", "against", "gain", "outside", "reference", "between", "beyond"),
    *("advantage", "ci_low", "ci_high", "p_value", "p_adjusted", "n", "clusters", "test_sets", "seeds"),
    *("other", "gain_share", "loss_share", "keeps", "keeps_low", "keeps_high", "saves", "saves_low", "saves_high"),
    *("is_kept", "nothing_to_save"),
)
KEPT = {True: "yes", False: "no", None: "undecided"}


OURS = "the strategy of the panel"
FEWEST = 2  # recipes that make a curve


def figure(results: Results) -> Figure:
    """A panel for each strategy on each training set, with the curve of the strategy that it is compared with."""
    found = [one for one in curves(results) if len(one.against) >= FEWEST]
    titles = titles_of(results)
    panels = [
        _panel(one, of_set, titles.get(one.train_dataset, one.train_dataset))
        for of_set in grouped(found, lambda one: one.train_dataset).values()
        for one in of_set
    ]
    return Figure(
        number=0,
        name="trade",
        title="Gain and loss along the learning rate",
        caption="Each point is a recipe, and larger points have a higher learning rate or strength. Further right is "
        "better in-domain, further up is better on all other test sets, in points of change from the base, where "
        "each curve begins. A strategy is better than another where its curve lies above the other's. The table at "
        "equal gain has the intervals.",
        panels=tuple(panels),
        columns=5,
    )


def _panel(one: Curve, of_set: list[Curve], title: str) -> Panel:
    """`of_set` are all curves of a training set: their panels have the same scales."""
    every = [place for curve in of_set for place in (*curve.places, *curve.against)]
    ends = [100 * x for of in ("gain", "outside") for x in _span([getattr(place, of) for place in every])]
    looks = charts.looks([OURS, one.other], None)
    looks[one.other] = looks[one.other]._replace(colour=charts.FAINT)
    rows = pd.DataFrame([*_rows(one.other, one.against), *_rows(OURS, one.places)])
    name = one.strategy
    return Panel(
        f"{one.train_dataset}, {one.strategy}", charts.trade(rows, looks, name, f"{title} · ↑ outside", ends), rows
    )


def _span(values: list[float]) -> tuple[float, float]:
    """The ends of a scale that holds these values and 0, with a little room."""
    low, high = min(0.0, *values), max(0.0, *values)
    room = 0.06 * (high - low) or 0.01
    return low - room, high + room


def _rows(label: str, places: tuple[Place, ...]) -> list[dict[str, Any]]:
    """The base, then the recipes of a curve."""
    base = {"label": label, "gain": 0.0, "outside": 0.0, "order": 0, "size": 0, "tip": "the base"}
    return [base] + [
        {
            "label": label,
            "gain": 100 * place.gain,
            "outside": 100 * place.outside,
            "order": number,
            "size": 14 + 22 * number,
            "tip": f"{place.name}: in-domain {signed(place.gain)}, outside {signed(place.outside)}",
        }
        for number, place in enumerate(places, 1)
    ]


def tables(results: Results) -> list[dict[str, Any]]:
    """For each training set a caption and a row for each recipe, the largest advantage first."""
    found = grouped(equal_gains(results), lambda one: (one.train_dataset, one.against))
    return [_table(name, against, some) for (name, against), some in found.items()]


def _table(name: str, against: str, found: list[EqualGain]) -> dict[str, Any]:
    asks = f"{100 * GAIN_KEPT:.0f} % of the gain, {100 * LOSS_LEFT:.0f} % of the loss"
    rows = [
        {
            "Recipe": one.name,
            "Gain": signed(one.gain),
            "Change outside": signed(one.outside),
            f"{against} at this gain": {"text": signed(one.reference), "note": _between(one)},
            "Advantage": {"text": written(one.effect), "note": details(one.effect)},
            asks: {"text": _kept(one), "note": _shares(one)},
        }
        for one in sorted(found, key=lambda one: -one.effect.value)
    ]
    caption = (
        f"Trained on {name}, at equal gain: the change outside beside that of {against}, where {against} gains as "
        f"much along its curve from the base. An advantage above 0 means that less is lost. The last column asks "
        f"whether a recipe keeps {100 * GAIN_KEPT:.0f} % of the gain with {100 * LOSS_LEFT:.0f} % of the loss"
    )
    return {"caption": caption, "rows": rows}


def _between(one: EqualGain) -> str:
    if one.beyond:
        return f"no {one.against} gains as much; {one.between[0]} gains most"
    return " and ".join(one.between)


def _kept(one: EqualGain) -> str:
    return "nothing to save" if one.bargain.nothing_to_save else KEPT[one.bargain.is_kept]


def _shares(one: EqualGain) -> str:
    of, parts = one.bargain, []
    if of.gain is not None:
        parts.append(f"{100 * of.gain:.0f} % of the gain")
    if of.loss is not None and not of.nothing_to_save:
        parts.append(f"{100 * of.loss:.0f} % of the loss")
    over = f"over the bounds by {signed(of.keeps.value)} {signed_interval(of.keeps.interval)} in-domain and "
    over += f"{signed(of.saves.value)} {signed_interval(of.saves.interval)} outside"
    return f"{' and '.join(parts)} of {of.other}; {over}" if parts else over


def tidy(results: Results) -> pd.DataFrame:
    """A row for each recipe. Scores are from -1 to 1."""
    return pd.DataFrame([_values(one) for one in equal_gains(results)], columns=list(COLUMNS))


def _values(one: EqualGain) -> tuple[Any, ...]:
    e, of = one.effect, one.bargain
    return (
        *(one.name, one.train_dataset, one.against, one.gain, one.outside, one.reference, " + ".join(one.between)),
        *(one.beyond, e.value, e.interval.low, e.interval.high, e.p, e.p_adjusted, e.n, e.clusters, len(e.tests)),
        *(e.seeds, of.other, of.gain, of.loss, of.keeps.value, of.keeps.interval.low, of.keeps.interval.high),
        *(of.saves.value, of.saves.interval.low, of.saves.interval.high, of.is_kept, of.nothing_to_save),
    )

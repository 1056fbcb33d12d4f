"""How charts look: panels drawn from tidy rows. This module knows no study and no store.

`lines`, `bars`, `plane` and `layers` each draw one panel from a few rows. `grid` sets panels beside each other under
one legend. The panels are Vega-Lite as plain dicts, which is ten times faster than building Altair's objects.
`as_altair` makes an Altair chart of a finished grid, for a notebook.

A label looks the same in every panel and every figure. Its place among the labels gives it a colour of Okabe and Ito's
palette, which colour-blind readers can tell apart, and also a dash and a shape, so that colour is not needed. The base
has the colour of the text.

`on_page` gives an SVG the colours and the font of the page that it is set into, so that one drawing serves dark and
light.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from ..errors import visible
from .places import with_places

if TYPE_CHECKING:
    import altair as alt

Spec = dict[str, Any]

OKABE_ITO = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
DASHES = ((1, 0), (6, 3), (2, 2), (8, 3, 2, 3), (4, 1))
SHAPES = ("square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right")
INK = "#1a1b1c"  # stands for the colour of the text; no chart uses it otherwise
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
WIDTH, HEIGHT = 240, 150  # of a panel's plot; it is narrower where panels in a row would be wider than FULL
WIDE, TALL = 420, 270  # of a panel that sets points against each other
FAINT = "#8b9099"  # of what stands back
FULL, BETWEEN = 1040, 58  # of a row of panels, and between two of them
OF_100, PLAIN = "format(100 * datum.value, '~g')", "format(datum.value, '~g')"
SIGNED = "datum.value == 0 ? '0' : format(datum.value, '+~g')"


class Look(NamedTuple):
    """Colour, dash (lengths drawn and left out) and shape of a line or mark."""

    colour: str
    dash: tuple[int, ...]
    shape: str


def looks(labels: Sequence[str], base: str | None = "base") -> dict[str, Look]:
    """A look for each label by its place; that of `base` is the text's."""
    found: dict[str, Look] = {}
    for label in labels:
        i = len(found) - (base in found)
        turn = i // len(OKABE_ITO)  # a colour that comes again has another shape and another dash
        shape, dash = SHAPES[(i + turn) % len(SHAPES)], DASHES[(i + turn) % len(DASHES)]
        coloured = Look(OKABE_ITO[i % len(OKABE_ITO)], dash, shape)
        found[label] = Look(INK, (1, 0), "circle") if label == base else coloured
    return found


class Panel(NamedTuple):
    """A panel with the rows that it is drawn from, under a name for the table behind the figure."""

    name: str
    spec: Spec
    rows: pd.DataFrame


@dataclass(frozen=True)
class Figure:
    """Panels beside each other. `lacking` names the study's panels that are not here. `number` is the study's or 0."""

    number: int
    name: str
    title: str
    caption: str
    panels: tuple[Panel, ...]
    lacking: tuple[str, ...] = ()
    columns: int = 4

    @property
    def spec(self) -> Spec:
        return grid([panel.spec for panel in self.panels], self.columns)

    @property
    def chart(self) -> alt.ConcatChart:
        """As Altair's chart, which a notebook shows."""
        return as_altair(self.spec)

    @cached_property
    def svg(self) -> str:
        """As a file. vl-convert runs Vega without a network."""
        import vl_convert

        svg: str = vl_convert.vegalite_to_svg(self.spec)
        return svg

    @property
    def table(self) -> pd.DataFrame:
        """The rows behind it, panel by panel."""
        table = pd.concat([panel.rows.assign(panel=panel.name) for panel in self.panels], ignore_index=True)
        return table[["panel", *(name for name in table if name not in HIDDEN)]]


# Columns that repeat what others contain, or that only the drawing needs.
HIDDEN = ("panel", "tip", "weak", "role", "where", "train_size", "train_shots")


def lines(rows: pd.DataFrame, looks: Mapping[str, Look], title: str, subtitle: str) -> Spec:
    """A panel of scores over shots. `rows`: label, shots, value, ci_low, ci_high, tip; one row for each mark.

    Marks of one shot count stand slightly apart, so that their intervals do not cover each other.
    """
    shots = sorted({int(k) for k in rows["shots"]})
    step = int(np.diff(shots).min()) if len(shots) > 1 else 1
    present = [label for label in looks if label in set(rows["label"])]
    place = {label: i - (len(present) - 1) / 2 for i, label in enumerate(present)}
    data = rows.assign(x=rows["shots"].astype(float) + rows["label"].map(place) * 0.36 * step / max(4, len(present)))
    scale: Spec = {"domain": [shots[0] - 0.45 * step, shots[-1] + 0.45 * step], "nice": False}
    x = _number("x", "shots", scale, values=shots, format="d", grid=False)
    y = _number("value", None, {"zero": False}, labelExpr=OF_100, tickCount=4)
    return _panel(data, title, subtitle, _interval(x, y, "ci_low", "ci_high", looks), *_line_and_marks(x, y, looks, 42))


def bars(rows: pd.DataFrame, looks: Mapping[str, Look], title: str, subtitle: str) -> Spec:
    """A panel of bars from zero. `rows`: bar, label, value, ci_low, ci_high, best, tip. A ring marks `best`."""
    order = list(rows["bar"])
    x: Spec = {"field": "bar", "type": "nominal", "title": None, "sort": order, "axis": {"labelAngle": 0}}
    x["scale"] = {"padding": 0.28}
    y = _number("value", None, {}, labelExpr=OF_100, tickCount=4) | {"stack": None}
    return _panel(
        rows,
        title,
        subtitle,
        _mark("bar", x, y, _channels(looks, "color"), tip=True, cornerRadiusEnd=2, opacity=0.8),
        _mark("rule", x, _end("ci_low"), {"y2": {"field": "ci_high"}}, strokeWidth=1.5, color=INK, opacity=0.75),
        _mark("point", x, _end("best"), {}, size=30, strokeWidth=1.3, color=INK, opacity=0.9),
    )


def plane(
    rows: pd.DataFrame, looks: Mapping[str, Look], title: str, subtitle: str, limit: float | None = None, rule: str = ""
) -> Spec:
    """A panel of gain against retention in points, with intervals both ways; the dashed line is the Pareto front.

    `rows`: label, mark, weak, gain, gain_low, gain_high, kept, kept_low, kept_high, tip, on_front. The text `mark`
    stands beside a point, where there is room for it. A `weak` point is small and has no interval. `limit` is the least
    that may be kept, drawn as a dotted line that is called `rule`.
    """
    rows = with_places(rows, WIDE, TALL)
    ticks: Spec = {"labelExpr": SIGNED, "tickMinStep": 1, "tickCount": 6}
    few: Spec = {"labelOverlap": "greedy", "labelSeparation": 4}
    x = _number("gain", "in-domain, in points →", {"padding": 14}, **few, **ticks)
    y = _number("kept", None, {"padding": 14}, **ticks)
    zero: Spec = {"data": {"values": [{}]}}
    axis: Spec = {"strokeWidth": 1.0, "color": INK, "opacity": 0.45}
    front = {"data": {"values": _steps(rows[rows["on_front"]])}}
    dashed: Spec = {"strokeWidth": 1.2, "strokeDash": [3, 2], "color": INK, "opacity": 0.6}
    across = {**_channels(looks, "color"), "x2": {"field": "gain_high"}}
    strong: Spec = {"transform": [{"filter": "!datum.weak"}]}
    weak: Spec = {"transform": [{"filter": "datum.weak"}]}
    at = {"datum": limit}
    dotted = _mark("rule", None, at, {}, strokeWidth=1.2, strokeDash=[1, 3], color=INK, opacity=0.9)
    name: Spec = {"type": "text", "text": rule, "align": "right", "fontSize": 11, "dy": 11, "aria": False}
    named = {"mark": name, "encoding": {"y": at, "x": {"value": {"expr": "width"}}}}
    beside = {"text": {"field": "shown"}}
    place: dict[str, Any] = {"dx": {"expr": "datum.dx"}, "dy": {"expr": "datum.dy"}}
    panel = _panel(
        rows,
        title,
        subtitle,
        zero | _mark("rule", {"datum": 0.0}, None, {}, **axis),
        zero | _mark("rule", None, {"datum": 0.0}, {}, **axis),
        *([] if limit is None else [zero | dotted, zero | named]),
        front | _mark("line", x, y, {"order": {"field": "order", "type": "quantitative"}}, **dashed),
        strong | _mark("rule", _end("gain_low"), y, across, strokeWidth=1.5, opacity=0.4),
        strong | _interval(x, y, "kept_low", "kept_high", looks),
        *([weak | _marks(x, y, looks, 30)] if rows["weak"].any() else []),  # an empty group would have no name
        strong | _marks(x, y, looks, 80),
        strong | _mark("text", x, y, beside, fontSize=11, **place),
    )
    return panel | {"width": WIDE, "height": TALL}


def layers(rows: pd.DataFrame, looks: Mapping[str, Look], title: str, subtitle: str, unit: float) -> Spec:
    """A panel over a model's layers, its axis in units of `unit`. `rows`: label, layer, value, tip."""
    x = _number("layer", "layer", {"nice": False}, format="d", grid=False, tickMinStep=1)
    y = _number("value", None, {"zero": False}, labelExpr=f"format(datum.value / {unit}, '.3~g')", tickCount=4)
    return _panel(rows, title, subtitle, *_line_and_marks(x, y, looks, 22))


def curve(
    rows: pd.DataFrame,
    looks: Mapping[str, Look],
    title: str,
    subtitle: str,
    x_title: str,
    logarithmic: bool = False,
    base: float | None = None,
    written: str = OF_100,
) -> Spec:
    """A panel of scores over a number. `rows`: label, x, value, ci_low, ci_high, chosen, tip. A ring marks `chosen`.

    The scale is `logarithmic` for numbers that differ by multiples. `base` is a score that is drawn as a line across.
    Scores are of 100, as `written`.
    """
    values = sorted({float(x) for x in rows["x"]})
    span = (values[-1] / values[0]) ** 0.08 if logarithmic else 0.08 * (values[-1] - values[0])
    ends = [values[0] / span, values[-1] * span] if logarithmic else [values[0] - span, values[-1] + span]
    scale: Spec = {"type": "log" if logarithmic else "linear", "domain": ends, "nice": False}
    number = f"format(datum.value, '{'~e' if logarithmic else '~g'}')"
    x = _number("x", x_title, scale, values=values, labelExpr=number, grid=False, labelOverlap="greedy")
    y = _number("value", None, {"zero": False}, labelExpr=written, tickCount=4)
    across: Spec = {"data": {"values": [{}]}} | _mark("rule", None, {"datum": base}, {}, color=INK, opacity=0.5)
    ring: Spec = {"transform": [{"filter": "datum.chosen"}]}
    return _panel(
        rows,
        title,
        subtitle,
        *([] if base is None else [across]),
        _interval(x, y, "ci_low", "ci_high", looks),
        *_line_and_marks(x, y, looks, 42),
        ring | _mark("point", x, y, {}, size=170, strokeWidth=1.6, color=INK, filled=False),
    )


def scatter(rows: pd.DataFrame, looks: Mapping[str, Look], title: str, subtitle: str, x_title: str) -> Spec:
    """A panel of points over a positive number on a logarithmic scale. `rows`: label, x, value, tip."""
    low, high = float(rows["x"].min()), float(rows["x"].max())
    scale: Spec = {"type": "log", "domain": [low / 1.5, high * 1.5], "nice": False}
    x = _number("x", x_title, scale, labelExpr="format(datum.value, '~g')", grid=False, tickCount=5, labelOverlap=True)
    y = _number("value", None, {"padding": 10}, labelExpr=SIGNED, tickCount=5)
    zero: Spec = {"data": {"values": [{}]}} | _mark("rule", None, {"datum": 0.0}, {}, color=INK, opacity=0.45)
    return _panel(rows, title, subtitle, zero, _marks(x, y, looks, 60)) | {"width": WIDE, "height": TALL}


def trade(rows: pd.DataFrame, looks: Mapping[str, Look], title: str, subtitle: str, ends: Sequence[float]) -> Spec:
    """A panel of curves from the base: gain across and change outside up, in points.

    `rows`: label, gain, outside, order, size, tip. `ends` are the lowest and highest gain and change that it shows.
    """
    left, right, low, high = ends
    x = _number("gain", "in-domain →", {"domain": [left, right]}, labelExpr=SIGNED, tickCount=3, grid=False)
    y = _number("outside", None, {"domain": [low, high]}, labelExpr=SIGNED, tickCount=4)
    zero: Spec = {"data": {"values": [{}]}}
    axis: Spec = {"strokeWidth": 1.0, "color": INK, "opacity": 0.3}
    along = {"order": {"field": "order", "type": "quantitative"}}
    size = {"size": {"field": "size", "type": "quantitative", "scale": None}}
    line, marks = _line_and_marks(x, y, looks, 40)
    line["encoding"] |= along
    marks["encoding"] |= size
    across = zero | _mark("rule", None, {"datum": 0.0}, {}, **axis)
    return _panel(rows, title, subtitle, across, zero | _mark("rule", {"datum": 0.0}, None, {}, **axis), line, marks)


def grid(panels: Sequence[Spec], columns: int = 4) -> Spec:
    """Panels beside each other under one legend, in the reader's own font."""
    in_row = min(columns, len(panels)) or 1
    width = min(WIDTH, (FULL - BETWEEN * (in_row - 1)) // in_row)
    axis: Spec = {f"{part}Color": INK for part in ("label", "title", "domain", "tick", "grid")} | {"aria": False}
    axis |= {"labelOpacity": 0.8, "titleOpacity": 0.8, "domainOpacity": 0.35, "tickOpacity": 0.35, "gridOpacity": 0.1}
    axis |= {"titleFontWeight": "normal", "titlePadding": 8, "labelFontSize": 11, "titleFontSize": 11.5}
    figure: Spec = {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "concat": [{"width": width} | panel for panel in panels],
        "columns": columns,
        "bounds": "flush",
        "spacing": {"row": 92, "column": BETWEEN},
        "config": {
            "font": FONT,
            "background": "white",
            "axis": axis,
            "axisX": {"labelFlush": True},
            "view": {"stroke": None},
            "text": {"color": INK, "align": "left"},
            "legend": {"labelColor": INK, "labelFontSize": 11.5, "aria": False},
        },
    }
    return _printable(figure)


def _printable(part: Any, of: str = "") -> Any:
    """A specification of which Vega can make an SVG: without control characters.

    Vega cuts texts that are too wide, and fails if it cuts through one of the characters beyond U+FFFF, such as emoji.
    In texts that may be cut these become escapes. A tip is not drawn.
    """
    if isinstance(part, dict):
        return {name: _printable(inner, name) for name, inner in part.items()}
    if isinstance(part, (list, tuple)):
        return [_printable(inner, of) for inner in part]
    if not isinstance(part, str):
        return part
    text = visible(part)
    if len(text) <= NEVER_CUT or of == "tip":
        return text
    return "".join(char if char <= "\uffff" else f"\\U{ord(char):08x}" for char in text)


NEVER_CUT = 12  # characters, be they as wide as emoji


def as_altair(spec: Spec) -> alt.ConcatChart:
    """A grid as Altair's chart, which a notebook shows."""
    import altair as alt

    chart: alt.ConcatChart = alt.Chart.from_json(json.dumps(spec))
    return chart


def _panel(rows: pd.DataFrame, title: str, subtitle: str, *layers: Spec) -> Spec:
    """The titles are text marks. Vega's own titles would stand at different heights in one row of panels."""
    head = [_words(title, -28, fontSize=12.5, fontWeight=600), _words(subtitle, -13, fontSize=11)]
    values = json.loads(rows.to_json(orient="records"))
    return {"height": HEIGHT, "data": {"values": values}, "layer": [*layers, *head]}


def _words(text: str, y: float, **font: Any) -> Spec:
    return {"data": {"values": [{}]}, "mark": {"type": "text", "text": text, "x": 0, "y": y, "limit": 250, **font}}


def _number(field: str, title: str | None, scale: Spec, **axis: Any) -> Spec:
    return {"field": field, "type": "quantitative", "title": title, "scale": scale, "axis": axis}


def _end(field: str) -> Spec:
    return {"field": field, "type": "quantitative"}


def _mark(kind: str, x: Spec | None, y: Spec | None, also: Spec, tip: bool = False, **mark: Any) -> Spec:
    """A layer of marks. A reader hears and sees descriptions of those with a `tip` only."""
    channels = {"x": x, "y": y, **also, **({"description": {"field": "tip"}} if tip else {})}
    return {
        "mark": {"type": kind, "aria": tip, **mark},
        "encoding": {name: what for name, what in channels.items() if what},
    }


def _interval(x: Spec, y: Spec, low: str, high: str, looks: Mapping[str, Look]) -> Spec:
    ends = {**_channels(looks, "color"), "y2": {"field": high}}
    return _mark("rule", x, {**y, "field": low}, ends, strokeWidth=1.5, opacity=0.4)


def _line_and_marks(x: Spec, y: Spec, looks: Mapping[str, Look], size: int) -> tuple[Spec, Spec]:
    dashed = _channels(looks, "color") | _channels(looks, "strokeDash", legend=False)
    return _mark("line", x, y, dashed, strokeWidth=1.7), _marks(x, y, looks, size)


def _marks(x: Spec, y: Spec, looks: Mapping[str, Look], size: int) -> Spec:
    shaped = _channels(looks, "color", "shape")
    return _mark("point", x, y, shaped, tip=True, filled=True, size=size, opacity=1)


def _channels(looks: Mapping[str, Look], *names: str, legend: bool = True) -> Spec:
    """Encodings of the label."""
    shown = {"title": None, "orient": "top", "symbolSize": 70, "symbolOpacity": 1, "symbolStrokeWidth": 0}
    part = {"color": 0, "strokeDash": 1, "shape": 2}
    return {
        name: {
            "field": "label",
            "type": "nominal",
            "legend": {**shown, "labelLimit": 240, "columns": 5, "columnPadding": 24} if legend else None,
            "scale": {"domain": list(looks), "range": [look[part[name]] for look in looks.values()]},
        }
        for name in names
    }


def _steps(front: pd.DataFrame) -> list[dict[str, float]]:
    """The Pareto front as a staircase. No mark is above it and to its right."""
    corners = front.sort_values(["gain", "kept"])[["gain", "kept"]].to_numpy(dtype=float).tolist()
    walked = corners[:1]
    for gain, kept in corners[1:]:
        walked += [[walked[-1][0], kept], [gain, kept]]
    return [{"gain": gain, "kept": kept, "order": i} for i, (gain, kept) in enumerate(walked)]


PAGE_COLOURS = {INK: "currentColor", "white": "none"} | {c: f"var(--c{i})" for i, c in enumerate(OKABE_ITO, 1)}


def on_page(svg: str) -> str:
    """The drawing for an HTML page: its colours become those of the page, also its font."""
    for colour, of_page in PAGE_COLOURS.items():
        svg = svg.replace(f'="{colour}"', f'="{of_page}"')
    svg = svg.replace(f'="{FAINT}"', '="var(--faint)"')
    return "<svg" + svg[svg.index(" width=") :].replace(f' font-family="{FONT}"', "")

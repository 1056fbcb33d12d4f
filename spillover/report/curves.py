"""Curves over a number that somebody may choose: strength (alpha), learning rate, the weight of a penalty, a step.

`strength` shows scores on the test sets for each alpha that was tested, from the base (0) through what was trained (1)
and beyond. `choices` shows the scores on validation rows by which a choice was made. Both are made of the same plain
rows (`Mark`), and a ring marks what was chosen. `steps` shows the loss that was measured during the trainings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ..analysis.averages import titles_of
from ..analysis.choices import Alternative, Choice
from ..analysis.contrasts import Effect, Term, effect, paired
from ..analysis.harness import metric_of
from ..analysis.numbers import points
from ..analysis.results import ROLE_TITLES, ROLES, Results, grouped
from ..experiment.factors import FACTORS, short
from ..plan.grid import Variant
from ..store.open import open_store
from . import charts
from .charts import Figure, Panel

LOGARITHMIC = ("learning_rate", "beta", "l2sp_weight")
"""Factors whose values differ by multiples, not by steps."""


@dataclass(frozen=True)
class Mark:
    """A point of a curve: the line that it belongs to, its place, its score of 0 to 1 with its interval."""

    label: str
    x: float
    value: float
    ci_low: float
    ci_high: float
    chosen: bool = False

    @property
    def tip(self) -> str:
        ring = ", chosen" if self.chosen else ""
        return f"{self.label}, {self.x:g}: {points(self.value)} [{points(self.ci_low)}, {points(self.ci_high)}]{ring}"


@dataclass(frozen=True)
class Curve:
    """A panel over a factor. `base` is the base's score, where it is no point of the curve."""

    name: str
    title: str
    subtitle: str
    factor: str
    marks: Sequence[Mark]
    base: float | None = None

    def panel(self, labels: Sequence[str]) -> Panel:
        """`labels` are those of all panels of a figure, which share their looks."""
        marks = sorted(self.marks, key=lambda mark: mark.x)
        rows = pd.DataFrame([asdict(mark) | {"tip": mark.tip} for mark in marks])
        looks, what = charts.looks(labels, None), self.factor.replace("_", " ")
        is_log = self.factor in LOGARITHMIC
        return Panel(self.name, charts.curve(rows, looks, self.title, self.subtitle, what, is_log, self.base), rows)


def panels(curves: Sequence[Curve]) -> tuple[Panel, ...]:
    """The panels of one figure."""
    labels = list(dict.fromkeys(mark.label for one in curves for mark in one.marks))
    return tuple(one.panel(labels) for one in curves)


# --- strength: scores on the test sets over alpha -----------------------------------------------------------------


def strength(results: Results) -> Figure:
    """A panel for each training whose weights were mixed with the base's at several strengths."""
    titles, curves = titles_of(results), []
    chosen = {one.chosen.recipe for one in results.choices if one.chosen is not None}
    for arms in _mixed(results):
        first = arms[0][0]
        marks = [mark for arm in arms for mark in _of_roles(results, arm, float(arm[0].factors["alpha"]), chosen)]
        marks += _ends(results, arms)
        train = str(first.train_dataset)
        title = f"Trained on {titles.get(train, train)}"
        curves.append(Curve(f"{train}, {_others(first)}", title, _others(first), "alpha", marks))
    return Figure(
        number=0,
        name="strength",
        title="Scores over strength",
        caption="The weights are those of the base plus alpha times what training changed: 0 is the base, 1 is what "
        "was trained. Each line is the mean over the test sets of a role. Bars are the 95 % interval of the change "
        "from the base. A ring marks the strength that was chosen on validation rows.",
        panels=panels(curves),
        columns=3,
    )


def _mixed(results: Results) -> Iterator[list[tuple[Variant, ...]]]:
    """The recipes that differ in alpha alone, where there are several."""
    arms = [arm for arm in results.recipes.values() if "alpha" in arm[0].factors]
    for alike in grouped(arms, lambda arm: tuple(sorted(_without_alpha(arm[0]).items()))).values():
        if len(alike) > 1:
            yield sorted(alike, key=lambda arm: float(arm[0].factors["alpha"]))


def _without_alpha(variant: Variant) -> dict[str, str]:
    return {name: str(value) for name, value in variant.factors.items() if name != "alpha"}


def _others(variant: Variant) -> str:
    """The strategy, and in a few words what else was varied in training."""
    parts = [short(name, variant.factors[name]) for name in ("strategy", "learning_rate") if name in variant.factors]
    return ", ".join(parts)


def _of_roles(results: Results, arm: Sequence[Variant], x: float, chosen: set[str]) -> Iterator[Mark]:
    for where, base, change in _changes(results, arm):
        value = base + change.value  # an interval of a change may reach beyond what scores can be
        low = max(base + change.interval.low, min(0.0, value))
        high = min(base + change.interval.high, max(1.0, value))
        yield Mark(where, x, value, low, high, arm[0].recipe_key in chosen)


def _changes(results: Results, arm: Sequence[Variant]) -> Iterator[tuple[str, float, Effect]]:
    """By role, the base's mean score and the recipe's change from it, on the same documents without those that leak."""
    clean = results.clean
    for role in ROLES:
        ours, theirs = paired(clean, clean.cells_of(arm, role), clean.cells_of_base)
        base, change = effect(clean, [Term(1.0, theirs)]), effect(clean, [Term(1.0, ours), Term(-1.0, theirs)])
        if base is not None and change is not None:
            yield ROLE_TITLES[role], base.value, change


def _ends(results: Results, arms: Sequence[Sequence[Variant]]) -> Iterator[Mark]:
    """The base at 0 and what was trained at 1, where the strengths that were asked leave them out."""
    asked = {float(arm[0].factors["alpha"]) for arm in arms}
    if 0.0 not in asked:
        for where, base, _ in _changes(results, arms[0]):
            yield Mark(where, 0.0, base, base, base)
    parents = [results.variants[key] for key in arms[0][0].made_from if key in results.variants]
    if 1.0 not in asked and parents:
        yield from _of_roles(results, results.recipes[parents[0].recipe_key], 1.0, set())


# --- choices: scores on validation rows ---------------------------------------------------------------------------


def choices(results: Results) -> Figure:
    """A panel for each choice that was made."""
    return Figure(
        number=0,
        name="choices",
        title="How it was chosen",
        caption="Scores on validation rows, which are neither trained on nor tested, with 95 % intervals. The line "
        "across is the base. A ring marks what was chosen: the most careful of those that the rows do not tell from "
        "the best.",
        panels=panels([choice(one) for one in results.choices if one.alternatives]),
        columns=3,
    )


def choice(made: Choice) -> Curve:
    """A choice over the factor with the most values; the others make lines of their own."""
    values = {name: {one.factors[name] for one in made.alternatives} for name in made.factors}
    numbers = [name for name in made.factors if FACTORS[name].type is not str]
    across = max(numbers, key=lambda name: len(values[name]))
    rest = [name for name in made.factors if name != across]
    marks = [
        Mark(
            label=_label(one, rest),
            x=float(one.factors[across]),
            value=one.score,
            ci_low=one.interval.low,
            ci_high=one.interval.high,
            chosen=one is made.chosen,
        )
        for one in made.alternatives
    ]
    subtitle = f"{metric_of(made.metric).title} on {made.rows} validation rows"
    return Curve(made.name, made.name, subtitle, across, marks, made.base)


def _label(one: Alternative, names: Sequence[str]) -> str:
    factors: Mapping[str, object] = one.factors
    return " ".join(short(name, factors[name]) for name in names) or "score"  # type: ignore[arg-type]


# --- steps: the loss while a training went on ---------------------------------------------------------------------


OWN, ELSEWHERE = "its own validation rows", "rows of other test sets"
MOST_TRAININGS = 12


def steps(results: Results, folder: Path) -> Figure:
    """A panel for each training whose loss was measured while it went on; the first ones, if there are many."""
    store = open_store(folder)
    receipts = {v.name: store.variant_receipt(v.key) or {} for v in results.grid.variants if v.kind == "trained"}
    measured = {name: receipt for name, receipt in receipts.items() if receipt.get("evaluations")}
    shown = list(measured.items())[:MOST_TRAININGS]
    left_out = f" These are {len(shown)} of {len(measured)} trainings." if len(shown) < len(measured) else ""
    return Figure(
        number=0,
        name="steps",
        title="Loss while it was trained",
        caption="Nats per answer token after each number of steps. Of other test sets, a few training rows or "
        "demonstrations are read. If their loss rises, the model gets worse at them while it learns its own task. A "
        f"ring marks the step whose weights were kept: the lowest loss on its own validation rows.{left_out}",
        panels=tuple(_of_steps(name, receipt) for name, receipt in shown),
        columns=3,
    )


def _of_steps(name: str, receipt: Mapping[str, Any]) -> Panel:
    best = receipt["best_step"]
    found = [
        {"label": label, "x": step, "value": loss, "chosen": label == OWN and step == best}
        for step, *losses in receipt["evaluations"]
        for label, loss in zip((OWN, ELSEWHERE), losses, strict=True)
        if loss is not None
    ]
    tips = [f"{one['label']}, step {one['x']}: {one['value']:.3g} nats" for one in found]
    rows = pd.DataFrame(found).assign(tip=tips, ci_low=lambda rows: rows["value"], ci_high=lambda rows: rows["value"])
    looks = charts.looks((OWN, ELSEWHERE), None)
    return Panel(name, charts.curve(rows, looks, name, f"kept: step {best}", "step", written=charts.PLAIN), rows)

"""Curves over a number that somebody may choose: strength (alpha), learning rate, the weight of a penalty.

`strength` shows scores on the test sets for each alpha that was tested, from the base (0) through what was trained (1)
and beyond. `choices` shows the scores on validation rows by which a choice was made. Both are made of the same plain
rows (`Mark`), and a ring marks what was chosen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import pandas as pd

from ..analysis.averages import titles_of
from ..analysis.choices import Alternative, Choice
from ..analysis.harness import metric_of
from ..analysis.numbers import points
from ..analysis.results import ROLE_TITLES, ROLES, Results, grouped
from ..analysis.retention import kept
from ..experiment.factors import FACTORS, short
from ..plan.grid import Variant
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


def curve(name: str, title: str, subtitle: str, factor: str, marks: Sequence[Mark], base: float | None = None) -> Panel:
    """A panel over a factor. `base` is the base's score, where it is no point of the curve."""
    rows = pd.DataFrame([asdict(mark) | {"tip": mark.tip} for mark in sorted(marks, key=lambda mark: mark.x)])
    looks = charts.looks(list(dict.fromkeys(mark.label for mark in marks)), None)
    what = factor.replace("_", " ")
    return Panel(name, charts.curve(rows, looks, title, subtitle, what, factor in LOGARITHMIC, base), rows)


# --- strength: scores on the test sets over alpha -----------------------------------------------------------------


def strength(results: Results) -> Figure:
    """A panel for each training whose weights were mixed with the base's at several strengths."""
    titles, panels = titles_of(results), []
    chosen = {one.chosen.recipe for one in results.choices if one.chosen is not None}
    for arms in _mixed(results):
        first = arms[0][0]
        marks = [mark for arm in arms for mark in _of_roles(results, arm, float(arm[0].factors["alpha"]), chosen)]
        marks += _ends(results, arms)
        train = str(first.train_dataset)
        title = f"Trained on {titles.get(train, train)}"
        panels.append(curve(f"{train}, {_others(first)}", title, _others(first), "alpha", marks))
    return Figure(
        number=0,
        name="strength",
        title="Scores over strength",
        caption="The weights are those of the base plus alpha times what training changed: 0 is the base, 1 is what "
        "was trained. Each line is the mean over the test sets of a role. Bars are the 95 % interval of the change "
        "from the base. A ring marks the strength that was chosen on validation rows.",
        panels=tuple(panels),
        columns=3,
    )


def _mixed(results: Results) -> Iterator[list[tuple[Variant, ...]]]:
    """The recipes that differ in alpha alone, where there are several."""
    arms = [arm for arm in results.recipes.values() if "alpha" in arm[0].factors and arm[0].recipe_key in kept(results)]
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
    known = kept(results)[arm[0].recipe_key].roles
    for role in ROLES:
        if one := known.get(ROLE_TITLES[role]):
            low, high = one.effect.interval.low, one.effect.interval.high
            yield Mark(one.where, x, one.ours, one.base + low, one.base + high, arm[0].recipe_key in chosen)


def _ends(results: Results, arms: Sequence[Sequence[Variant]]) -> Iterator[Mark]:
    """The base at 0 and what was trained at 1, where the strengths that were asked leave them out."""
    asked = {float(arm[0].factors["alpha"]) for arm in arms}
    if 0.0 not in asked:
        for one in kept(results)[arms[0][0].recipe_key].roles.values():
            yield Mark(one.where, 0.0, one.base, one.base, one.base)
    parents = [results.variants[key] for key in arms[0][0].made_from if key in results.variants]
    if 1.0 not in asked and parents and parents[0].recipe_key in kept(results):
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
        panels=tuple(choice(one) for one in results.choices if one.alternatives),
        columns=3,
    )


def choice(made: Choice) -> Panel:
    """A choice over the factor with the most values; the others make lines of their own."""
    values = {name: {one.factors[name] for one in made.alternatives} for name in made.factors}
    numbers = [name for name in made.factors if FACTORS[name].type is not str]
    across = max(numbers, key=lambda name: len(values[name]))
    rest = [name for name in made.factors if name != across]
    marks = [
        Mark(
            label=_label(one, rest, made),
            x=float(one.factors[across]),
            value=one.score,
            ci_low=one.interval.low,
            ci_high=one.interval.high,
            chosen=one is made.chosen,
        )
        for one in made.alternatives
    ]
    subtitle = f"{metric_of(made.metric).title} on {made.rows} validation rows"
    return curve(made.name, made.name, subtitle, across, marks, made.base)


def _label(one: Alternative, names: Sequence[str], made: Choice) -> str:
    factors: Mapping[str, object] = one.factors
    return " ".join(short(name, factors[name]) for name in names) or made.metric  # type: ignore[arg-type]

"""The study's Figures 1 to 7 for any model, and three more, as Altair charts that a notebook displays.

    import spillover as so

    result = so.load("runs/experiment")
    so.figures.study(result, 1)                   # Figure 1
    so.figures.study(result.to_pandas(), 3)       # Figure 3, of tidy rows, which may be a part of all

| figure | what it shows |
| --- | --- |
| 1 | scores over shots on the training set's own domain: the base, and what was trained at each size |
| 2 | the same on other domains of the task |
| 3 | scores over shots of the models trained on other tasks, for each prompt format |
| 4, 5 | base, FTICL and FT of generation training sets as bars: tests of the same task, of other tasks |
| 6, 7 | the same of classification training sets |

`plane` sets gain inside against change outside, `weights` shows how far a model's layers moved, and `shot_curves` shows
every variant on one test set. The module `study` explains how the study's figures are made for another experiment.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pandas as pd

from ..analysis.averages import Averages, HasTable, Source, means, recipes, results_of, tidy, titles_of
from ..analysis.results import Results
from ..models.weights import Change, pooled
from ..store.inside import Inside
from ..store.inside import read as read_inside
from . import charts, curves, equal_gain, forgetting, frontier
from . import study as of_study
from .charts import Figure, Panel

if TYPE_CHECKING:
    import altair as alt


class OnDisk(HasTable, Protocol):
    """Results with their output folder, as `spillover.load` returns them."""

    @property
    def folder(self) -> Path: ...


def study(result: Source, number: int, prompt: str | None = None) -> alt.ConcatChart:
    """A figure of the study, 1 to 7, of a result or of tidy rows. `prompt`: by default the first; Figure 3 has all."""
    return of_study.figure(Averages.of(result), number, prompt).chart


def shot_curves(result: Source, test_dataset: str) -> alt.ConcatChart:
    """Scores of every variant on one test set over shots, a panel a prompt format."""
    df = tidy(result)
    rows = df[df["test_dataset"] == test_dataset]
    averaged = means(rows, rows["variant"])
    looks = charts.looks(list(dict.fromkeys(averaged["label"])))
    panels = [
        charts.lines(of_prompt, looks, test_dataset, f"prompt {prompt}")
        for prompt, of_prompt in averaged.groupby("prompt", sort=False)
    ]
    return charts.as_altair(charts.grid(panels))


def every(results: Results, inside: Mapping[str, Inside], folder: Path) -> list[Figure]:
    """The figures of the report: plane, curves, the weights (`inside` by variant name), and the study's seven.

    `folder` has the receipts of the trainings.
    """
    return [
        frontier.figure(results),
        equal_gain.figure(results),
        curves.strength(results),
        curves.choices(results),
        curves.steps(results, folder),
        forgetting.figure(results, inside),
        moved_weights(results, inside),
        *of_study.every(Averages.of(results)),
    ]


def plane(result: HasTable | Results) -> alt.ConcatChart:
    """Gain in-domain against change on all other test sets, in points from the base, with the Pareto front."""
    return frontier.figure(results_of(result)).chart


def weights(result: OnDisk) -> alt.ConcatChart:
    """How far the weights of each layer moved, for each variant whose weights were compared with the base's."""
    return moved_weights(result.table, seen_inside(result.table, result.folder)).chart


def seen_inside(results: Results, folder: Path) -> dict[str, Inside]:
    """By name of the variant, how its weights and predictions differ from the base's, from an output folder."""
    seen = read_inside(folder)
    return {variant.name: seen[variant.key] for variant in results.grid.variants if variant.key in seen}


def moved_weights(results: Results, inside: Mapping[str, Inside]) -> Figure:
    """How far the weights of each layer moved: two panels, or two for each training set if there are many variants."""
    variants, titles = {v.name: v for v in results.grid.variants}, titles_of(results)
    labels = dict(zip(results.df["variant"], recipes(results.df), strict=True))
    many = len(inside) > MANY
    rows = [
        {"label": name, "train": "", **row}
        | ({"label": labels.get(name, name), "train": variants[name].train_dataset} if many else {})
        for name, seen in inside.items()
        for row in _by_layer(name, seen)
    ]
    table = pd.DataFrame(rows, columns=["label", "train", "layer", *MEASURES, "tip"])
    looks = charts.looks(list(dict.fromkeys(table["label"])), None)
    drawn = []
    for train, measure in product(table["train"].unique(), MEASURES):
        of_panel = table[table["train"] == train].assign(value=lambda rows, measure=measure: rows[measure])
        subtitle = f"trained on {titles.get(train, train)}" if train else ""
        title, unit = MEASURES[measure]
        spec = charts.layers(of_panel, looks, title, subtitle, unit)
        drawn.append(Panel(f"{train} {measure}".strip(), spec, of_panel))
    return Figure(
        number=0,
        name="weights",
        title="How far the weights moved",
        caption="By layer: the mean absolute change of a weight, as in the study, and the Frobenius norm of the change "
        "divided by that of the base’s weights, which does not depend on how large weights are.",
        panels=tuple(drawn),
    )


MANY = 6  # lines in a panel
MEASURES = {"mean_absolute": ("Mean |W − W₀| in 10⁻⁵", 1e-5), "relative": ("‖W − W₀‖ / ‖W₀‖ in %", 1e-2)}


def _by_layer(name: str, seen: Inside) -> Iterator[dict[str, Any]]:
    layers: dict[int, list[Change]] = {}
    for change in seen.changes:
        if change.layer is not None:
            layers.setdefault(change.layer, []).append(change)
    for layer, changes in sorted(layers.items()):
        moved = pooled(changes)
        tip = f"{name}, layer {layer}: mean |ΔW| {moved.mean_absolute:.2e}, relative {moved.relative:.2e}"
        sizes = {"mean_absolute": moved.mean_absolute, "relative": moved.relative}
        yield {"layer": layer, **sizes, "tip": tip}

"""What predicts a loss, for readers: a scatter of KL on the new task against the loss, and a table of correlations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from ..analysis.averages import titles_of
from ..analysis.forgetting import FEWEST, MEASURES, Correlation, correlations, moved
from ..analysis.numbers import signed
from ..analysis.results import Results, grouped
from ..store.inside import Inside
from . import charts
from .charts import Figure, Panel

MANY = 8  # strategies that a panel tells apart
COLUMNS = ("recipe", "train_dataset", "lost", *MEASURES)


def figure(results: Results, inside: Mapping[str, Inside]) -> Figure:
    """A panel for each training set with enough recipes."""
    points, titles = moved(results, inside), titles_of(results)
    strategies = {key: str(arm[0].strategy) for key, arm in results.recipes.items()}
    several = list(dict.fromkeys(strategies[one.recipe] for one in points))
    looks = charts.looks(several if len(several) <= MANY else ["recipe"], None)
    drawn = []
    for train, some in grouped(points, lambda one: one.train_dataset).items():
        known = [one for one in some if one.measures.get("new_task", 0.0) > 0]
        if len(known) < FEWEST:
            continue
        rows = pd.DataFrame(
            [
                {
                    "label": strategies[one.recipe] if len(several) <= MANY else "recipe",
                    "x": one.measures["new_task"],
                    "value": -100 * one.lost,
                    "tip": f"{one.name}: KL {one.measures['new_task']:.2g} nats, outside {signed(-one.lost)}",
                }
                for one in known
            ]
        )
        title = f"Trained on {titles.get(train, train)}"
        spec = charts.scatter(rows, looks, title, "↑ change outside, in points", "KL on the new task, nats a token")
        drawn.append(Panel(train, spec, rows))
    return Figure(
        number=0,
        name="forgetting",
        title="Divergence on the new task and loss outside",
        caption="Each point is a recipe. Across: KL(base || variant) on reference answers of the set that it was "
        "trained for, in nats per token, on a logarithmic scale. Up: its mean change from the base on all other test "
        "sets, in points. It is said that the one predicts the other (arXiv 2509.04259).",
        panels=tuple(drawn),
        columns=2,
    )


def rows(results: Results, inside: Mapping[str, Inside]) -> list[dict[str, Any]]:
    """A row of the table for each training set, and one over all, with a column for each measure."""
    found = correlations(moved(results, inside))
    titles = titles_of(results)
    by_set = grouped(found, lambda one: one.train_dataset)
    in_order = sorted(by_set.items(), key=lambda pair: pair[0] is None)  # that over all sets comes last
    return [
        {
            "Trained on": "all sets, each within itself" if train is None else titles.get(train, train),
            **{MEASURES[one.measure]: _cell(one) for one in some},
        }
        for train, some in in_order
    ]


def _cell(one: Correlation) -> dict[str, str]:
    text = f"{one.rho:.2f} [{one.interval.low:.2f}, {one.interval.high:.2f}]".replace("-", "−")
    return {"text": text, "note": f"{one.n} recipes"}


def tidy(results: Results, inside: Mapping[str, Inside]) -> pd.DataFrame:
    """A row for each recipe: what it lost outside, from -1 to 1, and what was measured inside it."""
    found = [
        (one.name, one.train_dataset, one.lost, *(one.measures.get(name) for name in MEASURES))
        for one in moved(results, inside)
    ]
    return pd.DataFrame(found, columns=list(COLUMNS))

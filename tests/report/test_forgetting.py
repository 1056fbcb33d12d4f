"""What predicts a loss, as a figure and a table of the page: the numbers of the analysis, named."""

from __future__ import annotations

from dataclasses import replace

import grids
import pytest
from madescores import BASE, results_of

from spillover.report import forgetting
from spillover.store.inside import Divergence, Inside

NATS = {f"v{i}": 0.1 * 2**i for i in range(6)}


@pytest.fixture(scope="module")
def points() -> tuple[forgetting.Results, dict[str, Inside]]:
    """Six recipes: each lost two points more than the one before, and its KL on the new task is twice as large."""
    names = list(NATS)
    made = [grids.trained(name, "ft", "data", "task", rate=1e-5 * (1 + i)) for i, name in enumerate(names)]
    known = [BASE, *(replace(one, recipe_key=one.key) for one in made)]
    scores = {("base", test, 0, "p1", 0): [0.5, 0.7, 0.5, 0.7] for test in ("in", "out")}
    for i, name in enumerate(names):
        scores[name, "in", 0, "p1", 0] = [0.6] * 4
        scores[name, "out", 0, "p1", 0] = [0.5 - 0.02 * i, 0.7 - 0.02 * i] * 2
    inside = {
        name: Inside(
            name, name, "", "", "float32", neutral=Divergence(((1.0, 9),)), answers={"in": Divergence(((x, 1),))}
        )
        for name, x in NATS.items()
    }
    return results_of(scores, known=known), inside


def test_a_recipe_that_was_asked_some_test_sets_only_is_no_point() -> None:
    """Its loss is over other sets than that of the others: here it looks like the largest gain."""
    names = [f"v{i}" for i in range(4)]
    made = [grids.trained(name, "ft", "data", "task", rate=1e-5 * (1 + i)) for i, name in enumerate(names)]
    known = [BASE, *(replace(one, recipe_key=one.key) for one in made)]
    scores = {(n, test, 0, "p1", 0): [0.5, 0.7] * 2 for n in ("base", *names) for test in ("in", "out", "out2")}
    del scores["v3", "out2", 0, "p1", 0]
    inside = {n: Inside(n, n, "", "", "float32", neutral=Divergence(((1.0, 9),))) for n in names}
    assert [one.name for one in forgetting.moved(results_of(scores, known=known), inside)] == names[:3]


def test_each_recipe_is_a_point(points: tuple[forgetting.Results, dict[str, Inside]]) -> None:
    figure = forgetting.figure(*points)
    [panel] = figure.panels
    assert panel.rows["x"].tolist() == pytest.approx(list(NATS.values()))
    assert panel.rows["value"].tolist() == pytest.approx([0, -2, -4, -6, -8, -10])
    assert "KL 0.1 nats" in panel.rows["tip"][0] and figure.chart.to_dict()["concat"]


def test_the_table_has_the_correlation_of_each_measure_that_varies(
    points: tuple[forgetting.Results, dict[str, Inside]],
) -> None:
    [row] = forgetting.rows(*points)
    assert row["KL on answers of the new task"]["text"].startswith("1.00 [")
    assert "KL on plain text" not in row, "it is the same everywhere"
    csv = forgetting.tidy(*points)
    assert tuple(csv.columns) == forgetting.COLUMNS and csv["lost"].tolist() == pytest.approx(
        [0.02 * i for i in range(6)]
    )

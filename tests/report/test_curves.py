"""Curves over strength, from the test sets, and over what was chosen, from validation rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import fakestore
import grids
import pytest

from spillover.analysis import table
from spillover.analysis.choices import Alternative, Choice
from spillover.analysis.results import Results
from spillover.analysis.summaries import matrix
from spillover.report import curves, page
from spillover.stats.intervals import Interval

BASE, _, _, FT, _ = fakestore.VARIANTS
MIXED = [replace(grids.other(FT, f"wise{alpha}", alpha=alpha), made_from=(FT.key,)) for alpha in (1.25, 0.5)]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Results]:
    """The base, what was trained, and two mixtures of both."""
    folder = tmp_path_factory.mktemp("mixed")
    grid = fakestore.make_grid(variants=(BASE, FT, *MIXED), shots=(0,), prompts=("p1",), rows=12)
    fakestore.write_store(folder, grid)
    return folder, table.load(folder)


def test_strength_goes_from_the_base_through_what_was_trained(mixed: tuple[Path, Results]) -> None:
    _, results = mixed
    figure = curves.strength(results)
    rows = figure.table
    assert len(figure.panels) == 1 and set(rows["label"]) == {"in-domain", "out-of-domain", "cross-task"}
    inside = rows[rows["label"] == "in-domain"]
    assert inside["x"].tolist() == [0.0, 0.5, 1.0, 1.25]
    of = [matrix(results)[name, "shop"] for name in ("base", "wise0.5", "shop-ft", "wise1.25")]
    assert inside["value"].tolist() == pytest.approx([one.score for one in of])
    assert of[1].delta_interval is not None
    assert inside["ci_low"].tolist()[1] == pytest.approx(of[0].score + of[1].delta_interval.low)
    assert rows["ci_high"].max() <= 1.0
    assert figure.chart.to_dict()["concat"]  # Altair checks it against the schema
    cells = tuple(cell for cell in results.grid.cells if cell.variant != "wise0.5")
    alone = replace(results, grid=replace(results.grid, variants=results.grid.variants[:3], cells=cells))
    assert not curves.strength(alone).panels  # one strength is no curve


def made(**factors: list[float]) -> Choice:
    """A choice among all combinations; the second one is chosen, and the last is best."""
    names = list(factors)
    values = [[x] for x in factors[names[0]]]
    for name in names[1:]:
        values = [[*some, x] for some in values for x in factors[name]]
    ends = Interval(0.4, 0.9)
    found = [
        Alternative(str(i), f"ft-{i}", dict(zip(names, some, strict=True)), 0.5 + i / 10, ends, None, True)
        for i, some in enumerate(values)
    ]
    known: dict[str, Any] = {
        "name": "hotels-ft",
        "train_dataset": "hotels",
        "metric": "accuracy",
        "rows": 64,
        "seeds": 1,
        "of_seeds": 1,
    }
    return Choice(**known, factors=tuple(names), base=0.3, alternatives=tuple(found), chosen=found[1])


def test_a_choice_is_a_curve_with_a_ring() -> None:
    (panel,) = curves.panels([curves.choice(made(learning_rate=[1e-5, 3e-5, 1e-4]))])
    assert panel.rows["x"].tolist() == [1e-5, 3e-5, 1e-4] and panel.rows["chosen"].tolist() == [False, True, False]
    assert panel.rows["value"].tolist() == pytest.approx([0.5, 0.6, 0.7]) and set(panel.rows["label"]) == {"score"}
    x = [layer["encoding"]["x"] for layer in panel.spec["layer"] if layer.get("encoding", {}).get("x")]
    assert {channel["scale"]["type"] for channel in x} == {"log"}
    assert 0.3 in [layer.get("encoding", {}).get("y", {}).get("datum") for layer in panel.spec["layer"]]
    assert "chosen" in panel.rows["tip"][1] and "chosen" not in panel.rows["tip"][0]


def test_a_choice_of_two_numbers_has_a_line_for_each_value_of_one() -> None:
    (panel,) = curves.panels([curves.choice(made(learning_rate=[1e-5, 1e-4], alpha=[0.25, 0.5, 1.0]))])
    assert panel.rows["x"].tolist() == [0.25, 0.25, 0.5, 0.5, 1.0, 1.0]
    assert set(panel.rows["label"]) == {"lr 1e-05", "lr 0.0001"}


def test_both_stand_on_the_page(mixed: tuple[Path, Results], tmp_path: Path) -> None:
    folder, results = mixed
    chosen = replace(results, choices=(made(learning_rate=[1e-5, 1e-4]),))
    page.write(chosen, folder, tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text("utf-8")
    assert html.index('id="frontier"') < html.index('id="choices"') < html.index('id="strength"')
    assert "alpha" in html and "How it was chosen" in html


def test_the_loss_while_a_training_went_on_is_a_curve_with_a_ring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Own rows and those of other sets; what is kept is the lowest of the own ones."""
    curve = {"best_step": 6, "evaluations": [(3, 2.1, 1.8), (6, 0.5, 4.8), (9, 0.9, None)]}
    monkeypatch.setattr(fakestore, "training_of", lambda v, of=fakestore.training_of: {**of(v), **curve})
    grid = fakestore.make_grid(variants=(BASE, FT), shots=(0,), prompts=("p1",), rows=12)
    fakestore.write_store(tmp_path, grid)
    (panel,) = curves.steps(table.load(tmp_path), tmp_path).panels
    of = dict(iter(panel.rows.groupby("label")))
    assert of[curves.OWN]["value"].tolist() == [2.1, 0.5, 0.9] and of[curves.ELSEWHERE]["x"].tolist() == [3, 6]
    assert panel.rows[panel.rows["chosen"]]["tip"].tolist() == [f"{curves.OWN}, step 6: 0.5 nats"]
    page.write(table.load(tmp_path), tmp_path, tmp_path / "report.html")
    assert 'id="steps"' in (tmp_path / "report.html").read_text("utf-8")

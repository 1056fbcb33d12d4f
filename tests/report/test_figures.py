"""Figures 1 to 7 and the plane, from results and from tidy rows, against the rows that they are drawn from."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import fakestore
import pandas as pd
import pytest

import spillover as so
from spillover.analysis import averages, retention, table
from spillover.analysis.front import fronts
from spillover.analysis.results import Results
from spillover.report import charts, figures, frontier
from spillover.report import study as study_figures
from spillover.report.places import LETTER, LINE, with_places


def drawn(results: Results) -> dict[int, charts.Figure]:
    return {figure.number: figure for figure in study_figures.every(averages.Averages.of(results))}


@pytest.mark.slow
def test_the_functions_return_charts_for_a_notebook(folder: Path) -> None:
    result = so.load(folder)
    for number in range(1, 8):
        assert so.figures.study(result, number).to_dict()["concat"]  # Altair checks it against Vega-Lite's schema
        assert so.figures.study(result.to_pandas(), number).to_dict(validate=False)["concat"]  # tidy rows will do
    assert so.figures.plane(result).to_dict()["concat"]
    assert len(so.figures.shot_curves(result, "shop").to_dict()["concat"]) == 2  # a panel a prompt format


def test_every_score_of_figure_1_is_the_tables(results: Results) -> None:
    rows = drawn(results)[1].table
    assert set(rows["panel"]) == {"news → news", "shop → shop"}
    for row in rows.itertuples():
        variant = "base" if row.label == "base" else f"{row.panel.split()[0]}-{row.label}"
        of = results.df[(results.df.variant == variant) & (results.df.test_dataset == row.test_dataset)]
        one = of[(of.shots == row.shots) & (of.prompt == "p1") & (of.metric == row.metric)]
        assert one["value"].tolist() == [pytest.approx(row.value)]
        assert one["ci_low"].tolist() == [pytest.approx(row.ci_low)]


def test_panels_are_the_studys_where_it_has_them(study: Results) -> None:
    found = drawn(study)
    names = {number: [panel.name for panel in figure.panels] for number, figure in found.items()}
    assert names[1] == ["xsum → xsum", "xsum → xlsum", "amazon → amazon", "amazon → amazonfood"]
    assert names[2] == ["xsum → pdfs", "xsum → cnn", "amazon → sst2", "amazon → yelp"]
    assert names[3][:4] == ["amazon, p1", "multinli, p1", "paws, p1", "xsum, p1"]
    assert names[4] == ["xsum → xsum", "xsum → pdfs"] and names[5] == ["xsum → socialqa"]
    assert names[6] == ["amazon → amazon", "amazon → sst2"] and names[7] == ["amazon → paws", "amazon → xsum"]
    assert found[1].lacking == ("SocialQA → SocialQA", "PAWS → PAWS", "MNLI-1 → MNLI-1", "MNLI-1 → MNLI-2")


def test_without_the_studys_sets_the_roles_decide(results: Results) -> None:
    found = drawn(results)
    assert [panel.name for panel in found[2].panels] == ["news → papers", "shop → film"]
    assert {panel.name for panel in found[7].panels} == {
        f"shop → {t}" for t in ("news", "papers", "quiz", "pairs", "entail")
    }
    assert all(not figure.lacking for figure in found.values())


def test_bars_show_what_a_model_was_trained_for_and_rings_the_best(study: Results) -> None:
    bars = drawn(study)[6].table
    bars = bars[bars["panel"] == "amazon → amazon"].set_index("bar")
    assert list(bars.index) == ["B0", "B2", "B4", "FC2", "FC4", "FT"]
    assert bars["shots"].to_dict() == {"B0": 0, "B2": 2, "B4": 4, "FC2": 2, "FC4": 4, "FT": 0}
    of = study.df[(study.df.variant == "amazon-fticl2-2000") & (study.df.test_dataset == "amazon")]
    of = of[(of.metric == "accuracy") & (of.prompt == "p1")]
    assert bars.loc["FC2", "value"] == of[of.shots == 2]["value"].item()
    assert bars.loc["FC2", "best"] == of["value"].max()


def test_figures_that_lack_all_cells_have_no_panels(base_only: Results) -> None:
    assert all(not figure.panels for figure in drawn(base_only).values())
    assert not frontier.figure(base_only).panels


def test_the_plane_has_the_front_with_its_shares_and_the_users_rule(results: Results) -> None:
    """By training set: the points, their intervals, how often each is on the front, and what has to be kept."""
    rows = frontier.figure(results).table
    assert set(rows["panel"]) == {"Trained on news", "Trained on shop"}
    for front in fronts(results):
        of_panel = rows[rows["panel"] == front.title].set_index("variant")
        for point in front.points[1:]:
            assert point.effects is not None
            row, (inside, outside) = of_panel.loc[point.name], point.effects
            assert (row.gain, row.kept_low) == pytest.approx((100 * inside.value, 100 * outside.interval.low))
            assert (row.share, row.on_front, row["mark"]) == (
                point.share,
                point.on_front,
                frontier.percent(point.share),
            )
    assert "keep" not in str(frontier.figure(results).spec)
    ruled = replace(results, grid=replace(results.grid, keep=0.9))
    outside = retention.kept(ruled)[results.variants["shop-ft"].recipe_key].outside
    assert outside is not None
    panel = next(p for p in frontier.figure(ruled).panels if p.name == "Trained on shop")
    y = [layer.get("encoding", {}).get("y", {}) for layer in panel.spec["layer"]]
    lines = [channel["datum"] for channel in y if "datum" in channel]
    assert lines == [0.0, *[pytest.approx(-10 * outside.base)] * 2] and "keep 90 %" in str(panel.spec)


def test_many_recipes_are_numbered_where_they_may_be_on_the_front(tmp_path: Path) -> None:
    grid = fakestore.many(8, shots=(0,), prompts=("p1",), rows=12)
    results = table.load(fakestore.write_store(tmp_path, grid))
    rows = frontier.figure(results).table.set_index("variant")
    (listed,) = frontier.tables(results)
    numbers = {row["Recipe"]: row["No."] for row in listed["rows"]}
    ranked = [row["Recipe"] for row in listed["rows"] if row["No."]]
    assert [numbers[name] for name in ranked] == [str(i) for i in range(1, 9)]
    assert list(rows.loc[ranked, "share"]) == sorted(rows.loc[ranked, "share"], reverse=True)
    for name in ranked:
        assert rows.loc[name, "mark"] == (numbers[name] if rows.loc[name, "share"] >= 0.05 else "")


def test_no_two_of_thirty_labels_look_alike() -> None:
    found = charts.looks([f"recipe {i}" for i in range(30)], None)
    assert len({(look.colour, look.shape) for look in found.values()}) == 30


def test_seeds_are_averaged(tmp_path: Path) -> None:
    base, ft, *_ = fakestore.VARIANTS
    seeds = [replace(ft, key=f"{ft.key}{seed}", name=f"{ft.name}-s{seed}", seed=seed) for seed in (0, 1)]
    grid = fakestore.make_grid(variants=(base, *seeds), shots=(0,), prompts=("p1",), rows=12)
    results = table.load(fakestore.write_store(tmp_path, grid))
    rows = drawn(results)[1].table
    assert rows["label"].tolist() == ["base", "ft"]
    of = results.df[(results.df.test_dataset == "news") & (results.df.metric == "rougeL")]
    assert rows["value"].tolist()[1] == pytest.approx(of[of.variant != "base"]["value"].mean())


def test_weights_by_layer(tmp_path: Path) -> None:
    grid = fakestore.make_grid(shots=(0,), prompts=("p1",), rows=4)
    fakestore.write_store(tmp_path, grid)
    fakestore.write_inside(tmp_path, grid)
    results = table.load(tmp_path)
    inside = figures.seen_inside(results, tmp_path)
    rows = figures.moved_weights(results, inside).table
    of_ft = rows[(rows.panel == "mean_absolute") & (rows.label == "news-ft")]
    assert of_ft["value"].tolist() == pytest.approx([1e-5, 2e-5, 3e-5, 4e-5])
    assert so.figures.weights(so.load(tmp_path)).to_dict()["concat"]


def test_many_variants_have_their_weights_by_training_set(study: Results) -> None:
    seen = {v.name: fakestore.inside_of(v, 3) for v in study.grid.variants if v.kind == "trained"}
    figure = figures.moved_weights(study, seen)
    assert len(seen) == 6 and len(figure.panels) == 2
    more = {**seen, "base": next(iter(seen.values()))}
    assert len(figures.moved_weights(study, more).panels) == 2 * 3  # and that of which nobody knows the training set


def test_a_label_looks_the_same_everywhere() -> None:
    every = charts.looks(["base", "a", "b", "c"])
    assert every["base"].colour == charts.INK
    assert len(set(every.values())) == 4
    assert charts.looks(["base", "a"]) == {label: every[label] for label in ("base", "a")}
    many = charts.looks([str(i) for i in range(25)], None)
    assert len(set(many.values())) == 25  # colour, dash and shape together do not repeat so soon


def test_drawings_take_the_pages_colours_and_need_nothing(results: Results) -> None:
    for figure in drawn(results).values():
        svg = charts.on_page(figure.svg)
        assert svg.startswith("<svg ") and "currentColor" in svg and 'fill="var(--c1)"' in svg and charts.INK not in svg
        assert not re.search(r'http|style=|href|id="|url\(|<script|"white"|#0072b2|font-family', svg)
        described = re.findall(r'aria-label="([^"]*)" role="graphics-symbol" aria-roledescription="(?:point|bar)"', svg)
        assert described == [tip for panel in figure.panels for tip in panel.rows["tip"]]
        assert svg.count('aria-label="') == len(described)  # nothing else has words that only a screen reader hears


def test_rows_of_panels_fit_the_page(results: Results) -> None:
    panel = drawn(results)[1].panels[0].spec
    for columns in range(1, 6):
        spec = charts.grid([panel] * columns, columns)
        assert columns * (spec["concat"][0]["width"] + charts.BETWEEN) - charts.BETWEEN <= charts.FULL


def test_marks_of_a_crowded_plane_cover_neither_each_other_nor_points() -> None:
    """Points that lie close together: each mark finds a place, or is left out."""
    ends = {"gain_low": 0.0, "gain_high": 50.0, "kept_low": -30.0, "kept_high": 10.0}
    near = [*((40 + i / 10, 2.0) for i in range(14)), (20.0, -10.0)]
    rows = pd.DataFrame(
        [
            {"gain": x, "kept": y, "mark": str(i + 1), "weak": False, "share": 1 - i / 20, **ends}
            for i, (x, y) in enumerate(near)
        ]
    )
    placed = with_places(rows, charts.WIDE, charts.TALL)
    shown = placed[placed["shown"] != ""]
    assert shown["mark"].iloc[0] == "1" and "15" in set(shown["mark"]), "the first has the first choice"
    assert 2 <= len(shown) < len(rows)
    across, up = charts.WIDE / 50, -charts.TALL / 40
    at = [(row.gain * across + row.dx, row.kept * up + row.dy) for row in shown.itertuples()]
    for n, (x, y) in enumerate(at):
        for other_x, other_y in at[:n]:
            assert abs(x - other_x) >= LETTER or abs(y - other_y) >= LINE

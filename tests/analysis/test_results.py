"""The results table over a made-up output folder, against numbers recomputed the plain way."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import fakestore
import numpy as np
import pandas as pd
import pytest

from spillover.analysis import rows, summaries, table
from spillover.analysis.metrics import METRICS
from spillover.analysis.results import ROLES, recipe_name
from spillover.errors import StoreError
from spillover.plan.grid import Cell, Grid
from spillover.stats.intervals import Interval, wilson
from spillover.stats.levels import Level, half_width, mean_change
from spillover.stats.permutation import mcnemar

KEYS = ["test_dataset", "shots", "prompt", "draw", "metric"]


def predictions(folder: Path, key: str) -> list[dict[str, object]]:
    text = (folder / "cells" / key / "predictions.jsonl").read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


def scores(cells: Iterable[Cell], grid: Grid) -> int:
    """How many scores these cells have: one a metric."""
    metrics = {test.name: len(test.metrics) for test in grid.tests}
    return sum(metrics[cell.test] for cell in cells)


def test_one_row_a_cell_and_metric(results: table.Results) -> None:
    assert list(results.df.columns) == list(table.columns(results.grid))
    assert len(results.df) == scores(results.grid.cells, results.grid)
    assert len(results.grid.cells) == 140
    assert not results.missing
    assert set(results.receipts) == {cell.key for cell in results.grid.cells}


def test_the_base_has_neither_role_nor_change(results: table.Results) -> None:
    base = results.df["variant"] == "base"
    change = ["delta", "delta_ci_low", "delta_ci_high", "p_value"]
    assert results.df.loc[base, ["strategy", "train_dataset", "train_size", "role", *change]].isna().all().all()
    assert results.df.loc[~base, ["role", *change]].notna().all().all()
    assert set(results.df["rows"]) == {"all"}


def test_values_intervals_and_changes(folder: Path, results: table.Results) -> None:
    cells = {(c.variant, c.test, c.shots, c.prompt): c for c in results.grid.cells}
    mine, base = (predictions(folder, cells[v, "shop", 2, "p1"].key) for v in ("v-shop-ft", "v0"))
    right, base_right = ([row["response"] == row["target"] for row in rows] for rows in (mine, base))
    df = results.df
    row = df[(df.variant == "shop-ft") & (df.test_dataset == "shop") & (df.shots == 2) & (df.prompt == "p1")]
    accuracy = row[row.metric == "accuracy"].iloc[0]
    assert accuracy.value == pytest.approx(np.mean(right))
    assert (accuracy.n, accuracy.role, accuracy.train_size) == (24, "in_domain", 500)
    assert Interval(accuracy.ci_low, accuracy.ci_high) == wilson(sum(right), 24)
    assert accuracy.delta == pytest.approx(np.mean(right) - np.mean(base_right))
    gaps = np.array(right, dtype=float) - base_right
    expected = mean_change(gaps[:, None], right_or_wrong=True)
    centre, half = expected.centre[0], half_width([Level(float(expected.variance[0]), expected.df)])
    assert (accuracy.delta_ci_low, accuracy.delta_ci_high) == pytest.approx((centre - half, centre + half))
    assert accuracy.p_value == pytest.approx(float(mcnemar((gaps > 0).sum(), (gaps < 0).sum())))
    f1 = row[row.metric == "macro_f1"].iloc[0]
    assert f1.value == pytest.approx(METRICS["macro_f1"](mine, ("positive", "negative")))
    assert f1.ci_low <= f1.value <= f1.ci_high


def test_every_change_is_the_difference_of_two_rows(results: table.Results) -> None:
    df = results.df
    base = df[df.variant == "base"].set_index(KEYS)["value"]
    others = df[df.variant != "base"].set_index(KEYS)
    assert others["delta"].to_numpy() == pytest.approx((others["value"] - base.reindex(others.index)).to_numpy())


def test_csv_round_trip(results: table.Results, tmp_path: Path) -> None:
    text = table.as_csv(results.df)
    (tmp_path / "results.csv").write_text(text, "utf-8")
    assert text.splitlines()[0] == ",".join(table.columns(results.grid))
    assert text.splitlines()[0].endswith(",p_value,rows,ended_stop,ended_end,ended_limit")
    assert ",500,2,2e-05,0," in text and "<NA>" not in text and "nan" not in text
    back = pd.read_csv(tmp_path / "results.csv")
    assert back["value"].to_numpy() == pytest.approx(results.df["value"].to_numpy())
    assert [p.name for p in tmp_path.iterdir()] == ["results.csv"]


def test_a_partial_run(partial: table.Results) -> None:
    assert len(partial.missing) == 20
    missing = {cell.key for cell in partial.missing}
    there = [cell for cell in partial.grid.cells if cell.key not in missing]
    assert len(there) == 120
    assert len(partial.df) == scores(there, partial.grid)
    entry = summaries.matrix(partial)["shop-fticl", "news"]
    assert entry.cells == entry.planned == 4
    assert ("shop-fticl", "pairs") not in summaries.matrix(partial)


def test_without_the_base_there_are_no_changes(tmp_path: Path) -> None:
    grid = fakestore.make_grid()
    fakestore.write_store(tmp_path, grid)
    for cell in grid.cells:
        if cell.variant == "v0":
            shutil.rmtree(tmp_path / "cells" / cell.key)
    results = table.load(tmp_path)
    assert results.df["delta"].isna().all()
    assert summaries.recipe_changes(results) == {}
    assert all(entry.delta is None and not entry.is_clear for entry in summaries.matrix(results).values())


def test_rows_are_paired_by_document_not_by_line(folder: Path, results: table.Results, tmp_path: Path) -> None:
    """A shuffled file changes nothing, and a row only one side has is left out of the difference."""
    fakestore.write_store(tmp_path, results.grid)
    cell = next(c for c in results.grid.cells if c.variant == "v-shop-ft")
    fakestore.change_rows(tmp_path, cell.key, lambda rows: rows[::-1])
    pd.testing.assert_frame_equal(table.load(tmp_path).df, results.df)

    fakestore.change_rows(tmp_path, cell.key, lambda rows: rows[::-1][1:])
    df = table.load(tmp_path).df
    row = df[(df.variant == "shop-ft") & (df.test_dataset == cell.test) & (df.shots == cell.shots)].iloc[0]
    base = next(c for c in results.grid.cells if c.variant == "v0" and c.test == cell.test)
    mine, theirs = predictions(folder, cell.key)[1:], predictions(folder, base.key)[1:]
    assert row.n == 23
    assert row.delta == pytest.approx(METRICS[row.metric](mine) - METRICS[row.metric](theirs))


def test_the_matrix_pools_shots_and_prompts(results: table.Results) -> None:
    df = results.df
    rows = df[(df.variant == "shop-ft") & (df.test_dataset == "film") & (df.metric == "accuracy")]
    entry = summaries.matrix(results)["shop-ft", "film"]
    assert (entry.n, entry.cells, entry.planned, entry.role) == (24, 4, 4, "out_of_domain")
    assert entry.score == pytest.approx(rows["value"].mean())
    assert entry.delta == pytest.approx(rows["delta"].mean())
    assert entry.delta_interval is not None and entry.delta_interval.low <= entry.delta <= entry.delta_interval.high


def test_one_cell_has_the_same_numbers_in_matrix_and_table(tmp_path: Path) -> None:
    grid = fakestore.make_grid(shots=(2,), prompts=("p1",))
    results = table.load(fakestore.write_store(tmp_path, grid))
    for row in results.df[results.df["metric"].isin(["accuracy", "rougeL"])].itertuples():
        entry = summaries.matrix(results)[row.variant, row.test_dataset]
        assert (entry.score, entry.n) == pytest.approx((row.value, row.n))
        assert (entry.interval.low, entry.interval.high) == pytest.approx((row.ci_low, row.ci_high))
        if row.variant != "base":
            assert entry.delta_interval is not None
            ends = entry.delta_interval.low, entry.delta_interval.high
            assert (entry.delta, *ends) == pytest.approx((row.delta, row.delta_ci_low, row.delta_ci_high))


def test_what_stands_together_is_corrected_together(results: table.Results) -> None:
    changes = [entry.change for entry in summaries.matrix(results).values() if entry.change is not None]
    assert len(changes) == 4 * 7
    least = min(changes, key=lambda change: change.p)
    assert least.p_adjusted == pytest.approx(min(1, 28 * least.p))
    assert all(change.p_adjusted is not None and change.p_adjusted >= change.p for change in changes)
    assert (
        sum(change.p < 0.05 for change in changes)
        > sum(entry.is_clear for entry in summaries.matrix(results).values())
        > 0
    )


def test_role_changes_weigh_sets_alike(results: table.Results) -> None:
    recipe = results.variants["news-ft"].recipe_key
    change = summaries.recipe_changes(results)[recipe, "cross_task"]
    deltas = [summaries.matrix(results)["news-ft", test].delta for test in change.effect.tests]
    assert len(deltas) == 5 and change.effect.n == 5 * 24
    assert change.effect.value == pytest.approx(np.mean(deltas))
    assert change.effect.is_clear and change.effect.value < 0
    over_sets = change.effect.interval_over_sets
    assert (
        over_sets is not None
        and over_sets.low <= change.effect.interval.low
        and over_sets.high >= change.effect.interval.high
    )
    alone = summaries.recipe_changes(results)[recipe, "in_domain"].effect
    assert alone.interval_over_sets is None  # one set is no sample of sets


def test_seeds_of_a_recipe_are_one_recipe(tmp_path: Path) -> None:
    base, ft, *_ = fakestore.VARIANTS
    seeds = [replace(ft, key=f"{ft.key}-{seed}", name=f"{ft.name}-s{seed}", seed=seed) for seed in (0, 1, 2)]
    grid = fakestore.make_grid(variants=(base, *seeds), shots=(0,))
    results = table.load(fakestore.write_store(tmp_path, grid))
    assert set(summaries.recipe_changes(results)) == {(ft.recipe_key, role) for role in ROLES}
    for test in ("news", "papers"):
        change = summaries.recipe_changes(results)[ft.recipe_key, fakestore.role(ft, test)].effect
        checkpoints = [summaries.matrix(results)[seed.name, test].change for seed in seeds]
        assert change.value == pytest.approx(np.mean([one.value for one in checkpoints]))
        assert (change.seeds, [one.seeds for one in checkpoints]) == (3, [1, 1, 1])
        assert change.noise_floor is not None and change.noise_floor > 0
        # The floor stands beside each checkpoint too: of the same cells it is the same.
        assert [one.noise_floor for one in checkpoints] == pytest.approx([change.noise_floor] * 3)


def test_recipes_are_told_apart_though_they_share_a_name(tmp_path: Path) -> None:
    """The trainings of `news-ft` and an existing checkpoint of that name."""
    base, ft, *_ = fakestore.VARIANTS
    seeds = [replace(ft, key=f"{ft.key}-{seed}", name=f"{ft.name}-s{seed}", seed=seed) for seed in (0, 1)]
    mine = replace(
        ft,
        key="mine",
        kind="existing",
        factors={"train_dataset": "news", "train_task": "summarisation"},
        recipe_key="mine",
    )
    grid = fakestore.make_grid(variants=(base, *seeds, mine), shots=(0,))
    results = table.load(fakestore.write_store(tmp_path, grid))
    assert len({recipe_name(variants) for variants in results.recipes.values()}) == 2
    assert set(summaries.recipe_changes(results)) == {
        (recipe, role) for recipe in (ft.recipe_key, "mine") for role in ROLES
    }


# --- what an audit found ----------------------------------------------------------------------------------------------


def test_rows_that_leak_are_left_out_of_a_second_row(folder: Path, tmp_path: Path) -> None:
    grid = fakestore.make_grid(variants=fakestore.VARIANTS[:4], shots=(0,), prompts=("p1",))
    fakestore.write_store(tmp_path, grid)
    leaked = {"shop": {"film": [0, 1, 2, 3], "pairs": [], "news": list(range(24))}, "news": {}}
    fakestore.put(tmp_path, "audit.json", json.dumps({"leaked": leaked, "sets": ["other keys do not matter"]}))
    df = table.load(tmp_path).df
    clean = df[df["rows"] == "clean"]
    empty = clean["value"].isna()
    assert set(zip(clean["variant"], clean["test_dataset"], strict=True)) == {("shop-ft", "film"), ("shop-ft", "news")}
    assert set(clean.loc[empty, "test_dataset"]) == {"news"} and (clean.loc[empty, "n"] == 0).all()  # none is left
    row = clean[~empty & (clean["metric"] == "accuracy")].iloc[0]
    cells = {c.variant: c for c in grid.cells if c.test == "film"}
    mine, base = ([r for r in predictions(tmp_path, cells[v].key) if r["doc_id"] > 3] for v in ("v-shop-ft", "v0"))
    assert row.n == 20
    assert row.value == pytest.approx(METRICS["accuracy"](mine))
    assert row.delta == pytest.approx(METRICS["accuracy"](mine) - METRICS["accuracy"](base))
    assert len(df[df["rows"] == "all"]) == scores(grid.cells, grid)


def test_documents_that_hang_together_count_as_one(tmp_path: Path) -> None:
    fakestore.write_store(tmp_path, fakestore.make_grid())
    alone = table.load(tmp_path)
    components = {str(doc): doc // 12 for doc in range(24)}
    fakestore.put(tmp_path, "audit.json", json.dumps({"clusters": {"shop": components}}))
    together = table.load(tmp_path)
    assert together.clusters["shop"][13] == 1
    before, after = (summaries.matrix(r)["shop-ft", "shop"].change for r in (alone, together))
    assert before is not None and after is not None
    assert [(e.n, e.clusters, e.is_clear) for e in (before, after)] == [(24, 24, True), (24, 2, False)]
    rows_of = [r.df[(r.df["test_dataset"] == "shop") & (r.df["variant"] == "shop-ft")] for r in (alone, together)]
    assert (rows_of[1]["p_value"].to_numpy() >= rows_of[0]["p_value"].to_numpy()).all()
    assert rows_of[1]["p_value"].min() >= 0.5  # of two clusters, each may as well have come out the other way
    same = alone.df["test_dataset"] == "film"
    pd.testing.assert_frame_equal(alone.df[same], together.df[same])


def test_a_broken_audit_is_said_in_a_line(tmp_path: Path) -> None:
    fakestore.write_store(tmp_path, fakestore.make_grid(variants=fakestore.VARIANTS[:1], shots=(0,)))
    (tmp_path / "audit.json").write_text("{")
    with pytest.raises(StoreError, match=r"audit\.json: is not what the last run wrote \(.*spillover run"):
        table.load(tmp_path)


# --- what is kept beside the predictions ------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return fakestore.write_store(tmp_path, fakestore.make_grid(variants=fakestore.VARIANTS[:2], shots=(0,)))


def kept(folder: Path) -> dict[str, bytes]:
    return {path.parent.name + path.name: path.read_bytes() for path in folder.glob("cells/*/rows-*")}


def test_a_folder_is_scored_once(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = table.load(small)
    assert len(kept(small)) == len(first.grid.cells)

    def refuse(*_: object) -> None:
        raise AssertionError("scored again")

    with monkeypatch.context() as patched:
        patched.setattr(rows, "rescored", refuse)
        pd.testing.assert_frame_equal(table.load(small).df, first.df)
        with pytest.raises(AssertionError, match="scored again"):
            table.load(small, rescore=True)


def test_other_answers_are_scored_anew(small: Path) -> None:
    before = table.load(small)
    cell = next(c for c in before.grid.cells if c.test == "shop" and c.variant != "v0")
    fakestore.change_rows(small, cell.key, lambda rows: [row | {"response": "negative"} for row in rows])
    after = table.load(small)
    of_cell = (
        (before.df["test_dataset"] == "shop") & (before.df["variant"] != "base") & (before.df["prompt"] == cell.prompt)
    )
    assert (before.df.loc[of_cell, "value"] != after.df.loc[of_cell, "value"]).any()
    assert before.df[~of_cell].equals(after.df[~of_cell])
    assert len(list((small / "cells" / cell.key).glob("rows-*"))) == 1  # those of the old answers are gone


def test_other_rules_are_scored_anew(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table.load(small)
    before = set(kept(small))
    monkeypatch.setattr(rows, "METRICS_VERSION", rows.METRICS_VERSION + 1)
    table.load(small)
    assert not before & set(kept(small)) and len(before) == len(kept(small))


def test_a_file_that_was_cut_off_is_made_anew(small: Path) -> None:
    before, files = table.load(small).df, kept(small)
    for path in small.glob("cells/*/rows-*"):
        path.write_bytes(path.read_bytes()[:-100])
    pd.testing.assert_frame_equal(table.load(small).df, before)
    assert kept(small) == files


def test_a_protocol_that_scores_first_tokens(small: Path) -> None:
    """The answers on disk stay; which label each of them is follows from the protocol's name in the grid."""
    grid = table.load(small).grid
    cell = next(c for c in grid.cells if c.test == "shop")
    others = [row | {"logprobs_first": {"positive": -0.1, "negative": -2.0}} for row in predictions(small, cell.key)]
    fakestore.change_rows(small, cell.key, lambda rows: others)
    fakestore.put(small, "grid.json", replace(grid, protocol="sound + label_scoring=first_token").to_json())
    df = table.load(small).df
    row = df[(df["test_dataset"] == "shop") & (df["metric"] == "accuracy") & (df["prompt"] == cell.prompt)].iloc[0]
    assert row.value == pytest.approx(np.mean([other["target"] == "positive" for other in others]))


def test_a_handful_of_rows_claims_nothing(tmp_path: Path) -> None:
    results = table.load(fakestore.write_store(tmp_path, fakestore.make_grid(rows=3)))
    assert not any(entry.is_clear for entry in summaries.matrix(results).values())


def test_groups_hold_variants_with_the_same_roles(results: table.Results, base_only: table.Results) -> None:
    news, shop = summaries.groups(results)
    assert [v.name for v in news.variants] == ["news-ft", "news-fticl"]
    assert [(role, [t.name for t in tests]) for role, tests in shop.columns][:2] == [
        ("in_domain", ["shop"]),
        ("out_of_domain", ["film"]),
    ]
    (alone,) = summaries.groups(base_only)
    assert alone.variants == () and len(alone.columns[0][1]) == 7


def test_bad_folders(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no results here"):
        table.load(tmp_path)


def test_cells_of_a_test_set_share_the_array_of_their_documents(tmp_path: Path) -> None:
    """Read for the first time and read again: comparing documents is then comparing one object with itself."""
    folder = fakestore.write_store(tmp_path, fakestore.make_grid())
    for _ in range(2):
        results = table.load(folder)
        mine, other = ([c for c in results.cells_of_base if c.test == test][:2] for test in ("news", "shop"))
        first, second = (results.first_metric[cell.key].doc_ids for cell in mine)
        assert first is second
        assert np.array_equal(first, results.first_metric[other[0].key].doc_ids)


def test_cells_are_found_by_variant_and_role(tmp_path: Path) -> None:
    results = table.load(fakestore.write_store(tmp_path, fakestore.make_grid()))
    ft = results.variants["news-ft"]
    assert {c.variant for c in results.cells_of([ft])} == {ft.key}
    assert {c.test for c in results.cells_of([ft], "in_domain")} == {"news"}
    assert results.variant_numbers[ft.key] == results.variant_numbers["news-ft"] == results.grid.variants.index(ft)

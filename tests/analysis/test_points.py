"""Which cells a comparison takes, whom it pairs them with, and how much each counts; computed by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import grids
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spillover.analysis.points import (
    Points,
    comparable_rates,
    contrast,
    groups,
    needed,
    place,
    points_of,
    requested,
    study_grid,
    unknown_names,
    variants_of,
)
from spillover.experiment import dialect
from spillover.experiment.claims import Comparison, study_claims
from spillover.experiment.schema import parse_experiment

GRID = study_grid((2000, 4000))
POINTS = points_of(GRID, GRID.cells)
VARIANTS = variants_of(GRID, GRID.variants)


def comparison(ours: Any, theirs: Any = None, **more: Any) -> Comparison:
    return Comparison.model_validate({"ours": ours, "theirs": theirs, "expect": "above", **more})


def weights(made: Comparison, points: Points = POINTS) -> dict[Any, dict[str, float]]:
    """By place, the weight of each cell by its key."""
    return {label: {p.key: w for p, w in contrast(pairs).items()} for label, pairs in groups(made, points).items()}


def test_a_variant_against_the_base_on_one_cell() -> None:
    made = comparison({"variant": "xsum-ft-2000", "test_dataset": "cnn", "shots": 1, "prompt": "p1"}, "base")
    assert weights(made) == {(): {"xsum-ft-2000 cnn 1 p1": 1.0, "base cnn 1 p1": -1.0}}


def test_what_is_not_in_each_is_averaged_and_every_test_set_counts_the_same() -> None:
    ours = {"strategy": "ft", "train_dataset": "xsum", "train_size": 2000, "role": "out_of_domain", "prompt": "p1"}
    (found,) = weights(comparison(ours | {"shots": [0, 1]}, "base")).values()
    assert found == {
        f"{name} {test} {shots} p1": sign * 0.25
        for name, sign in (("xsum-ft-2000", 1), ("base", -1))
        for test in ("pdfs", "cnn")
        for shots in (0, 1)
    }
    uneven = Points(p for p in POINTS if not (p.columns["test_dataset"] == "cnn" and p.columns["shots"] == 1))
    (found,) = weights(comparison(ours | {"shots": [0, 1]}, "base"), uneven).values()
    assert found["xsum-ft-2000 cnn 0 p1"] == 0.5 and found["xsum-ft-2000 pdfs 0 p1"] == 0.25


def test_a_cell_without_its_equal_is_left_out_on_both_sides() -> None:
    """Half a base must not be compared with a whole variant."""
    made = comparison({"variant": "xsum-ft-2000", "test_dataset": "cnn", "prompt": "p1"}, "base")
    there = Points(p for p in POINTS if p.key not in ("base cnn 1 p1", "base cnn 2 p1", "xsum-ft-2000 cnn 4 p1"))
    assert weights(made, there) == {(): {"xsum-ft-2000 cnn 0 p1": 1.0, "base cnn 0 p1": -1.0}}


def test_naming_a_strategy_keeps_the_data_and_leaves_the_recipe_open() -> None:
    """FTICL with 1 and with 2 demonstrations, against the one FT on the same data at the same size."""
    ours = {"strategy": "fticl", "train_dataset": "xsum", "test_dataset": "cnn", "shots": 0, "prompt": "p1"}
    assert weights(comparison(ours, {"strategy": "ft"})) == {
        (): {"xsum-fticl1-2000 cnn 0 p1": 0.5, "xsum-fticl2-2000 cnn 0 p1": 0.5, "xsum-ft-2000 cnn 0 p1": -1.0}
    }


def of_rates(*variants: tuple[str, float]) -> Points:
    """The cells of one test of FT and FTICL (with 1 demonstration) on xsum, trained at these rates."""
    named = {"ft": "xsum-ft-2000", "fticl": "xsum-fticl1-2000"}
    made = {v.key: v for v in GRID.variants}
    trained = [
        grids.other(made[named[strategy]], f"{strategy} {rate:g}", learning_rate=rate) for strategy, rate in variants
    ]
    (cell,) = [c for c in GRID.cells if c.key == "xsum-ft-2000 cnn 0 p1"]
    cells = tuple(replace(cell, key=variant.key, variant=variant.key) for variant in trained)
    grid = replace(GRID, variants=tuple(trained), cells=cells)
    return points_of(grid, cells)


FTICL_AGAINST_FT = comparison({"strategy": "fticl"}, {"strategy": "ft"})


def test_strategies_are_compared_at_the_same_learning_rate() -> None:
    swept = of_rates(("ft", 1e-5), ("ft", 1e-3), ("fticl", 1e-5), ("fticl", 1e-3))
    each = comparison({"strategy": "fticl"}, {"strategy": "ft"}, each="learning_rate")
    assert weights(each, swept) == {
        (1e-5,): {"fticl 1e-05": 1.0, "ft 1e-05": -1.0},
        (1e-3,): {"fticl 0.001": 1.0, "ft 0.001": -1.0},
    }
    named = comparison({"strategy": "fticl", "learning_rate": 1e-5}, {"strategy": "ft", "learning_rate": 1e-3})
    assert weights(named, swept) == {(): {"fticl 1e-05": 1.0, "ft 0.001": -1.0}}


def test_where_no_rate_is_the_same_all_of_them_count() -> None:
    assert weights(FTICL_AGAINST_FT, of_rates(("ft", 1e-5), ("ft", 1e-3), ("fticl", 1e-4))) == {
        (): {"fticl 0.0001": 1.0, "ft 1e-05": -0.5, "ft 0.001": -0.5}
    }
    assert comparable_rates(1e-4, [1e-5, 1e-4]) == [1e-4]
    assert comparable_rates(1e-4, [1e-5, 1e-3]) == [1e-5, 1e-3]


def test_a_rate_that_has_not_run_yet_is_waited_for() -> None:
    planned = of_rates(("ft", 1e-5), ("ft", 1e-3), ("fticl", 1e-3))
    done = Points(point for point in planned if point.key != "ft 0.001")
    assert groups(FTICL_AGAINST_FT, done, planned) == {}


def test_one_comparison_for_each_of_several() -> None:
    ours = {"strategy": "fticl", "train_dataset": "multinli", "test_dataset": "rte", "shots": [0, 3], "prompt": "p1"}
    found = weights(comparison(ours, {"strategy": "ft"}, each=["train_shots", "shots"]))
    assert found == {
        (k, shots): {f"multinli-fticl{k}-2000 rte {shots} p1": 1.0, f"multinli-ft-2000 rte {shots} p1": -1.0}
        for k in (3, 5)
        for shots in (0, 3)
    }


def test_what_demonstrations_add() -> None:
    made = comparison({"variant": "base", "test_dataset": "rte", "prompt": "p1", "shots": "some"}, {"shots": 0})
    (found,) = weights(made).values()
    assert found.pop("base rte 0 p1") == pytest.approx(-1)
    assert found == pytest.approx({f"base rte {k} p1": 1 / 3 for k in (3, 5, 7)})


def test_an_interaction_subtracts_the_same_difference_elsewhere() -> None:
    """(FT - base) in-domain less (FT - base) out-of-domain: each out-of-domain set takes half of what is subtracted."""
    ours = {"strategy": "ft", "train_dataset": "xsum", "train_size": 2000, "role": "in_domain", "shots": 0}
    (found,) = weights(comparison(ours | {"prompt": "p1"}, "base", minus={"role": "out_of_domain"})).values()
    assert found == {
        f"{name} {test} 0 p1": sign * of_role * 0.5
        for name, sign in (("xsum-ft-2000", 1), ("base", -1))
        for test, of_role in (("xsum", 1), ("xlsum", 1), ("pdfs", -1), ("cnn", -1))
    }


def test_the_role_of_the_base_is_that_for_any_variant() -> None:
    made = comparison({"variant": "base", "role": "in_domain", "shots": 0, "prompt": "p1"}, each="test_dataset")
    tests = [test for (test,) in weights(made)]
    assert tests == ["xsum", "xlsum", "socialqa", "amazon", "amazonfood", "paws", "multinli", "multinli2"]


def test_kinds_are_those_of_the_tasks() -> None:
    made = comparison({"strategy": "ft", "train_kind": "classification", "kind": "generation"}, each="train_dataset")
    assert [name for (name,) in weights(made)] == ["amazon", "paws", "multinli"]
    assert all(len(found) == 7 * 4 * 2 * 2 for found in weights(made).values())


def test_seeds_are_paired_with_their_own() -> None:
    made = comparison({"strategy": "fticl"}, {"strategy": "ft"}, measure="training_loss", each="train_dataset")
    assert weights(made, VARIANTS)["paws",] == {"paws-fticl2-2000": 0.5, "paws-fticl4-2000": 0.5, "paws-ft-2000": -1.0}


SIDES = st.fixed_dictionaries(
    {},
    optional={
        "strategy": st.sampled_from(["ft", "fticl"]),
        "train_dataset": st.sampled_from(["xsum", "paws", "multinli"]),
        "train_size": st.sampled_from([2000, 4000]),
        "shots": st.sampled_from([0, 2, "some"]),
        "prompt": st.sampled_from(["p1", "p2"]),
        "test_dataset": st.sampled_from(["cnn", "rte", "xsum"]),
        "role": st.sampled_from(["in_domain", "out_of_domain", "cross_task"]),
    },
)
EACH = st.lists(st.sampled_from(["train_dataset", "train_size", "shots", "prompt", "task"]), unique=True, max_size=2)


SOME = [p for p in POINTS if p.columns["train_dataset"] in (None, "xsum", "paws") and p.columns["task"] != "sentiment"]


@settings(deadline=None, max_examples=60)
@given(SIDES, st.one_of(st.just("base"), SIDES), st.one_of(st.none(), SIDES), EACH, st.integers(2, 9))
def test_every_difference_is_a_contrast(ours: Any, theirs: Any, minus: Any, each: list[str], hole: int) -> None:
    """Whatever is compared, in a grid with holes: weights sum to zero, and every point is one that is there."""
    there = Points(point for number, point in enumerate(SOME) if number % hole)
    for pairs in groups(comparison(ours, theirs, minus=minus, each=each), there).values():
        found = contrast(pairs)
        assert sum(found.values()) == pytest.approx(0, abs=1e-9)
        assert set(found) <= set(there)


def test_everything_the_study_claims_has_its_cells_in_the_studys_grid() -> None:
    grid = study_grid((2000, 4000, 6000))
    cells, variants = points_of(grid, grid.cells), variants_of(grid, grid.variants)
    for claim in study_claims():
        for made in claim.comparisons:
            points = variants if made.measure in ("training_loss", "weight_deviation") else cells
            assert groups(made, points), (claim.id, made.title)


@pytest.mark.parametrize(
    ("claim", "number", "places"),
    [
        ("C1", 0, ["xsum", "xlsum", "socialqa", "paws", "multinli", "multinli2"]),
        ("C1", 1, ["amazon", "amazonfood"]),
        ("C5", 0, ["sst2", "yelp"]),
        ("C6", 0, ["qqp", "stsb", "rte", "gptnli"]),
        ("C12", 0, ["xsum", "xlsum", "socialqa"]),
        ("C16", 0, ["amazon", "amazonfood", "paws", "multinli", "multinli2"]),
        ("C20", 0, ["amazon", "paws", "multinli"]),
    ],
)
def test_where_the_study_claims_what(claim: str, number: int, places: list[str]) -> None:
    made = {c.id: c for c in study_claims()}[claim].comparisons[number]
    assert [place(made.each, label) for label in groups(made, POINTS)] == places


def test_places_are_written_as_trained_on_and_tested_on() -> None:
    assert place(("train_dataset", "test_dataset", "shots"), ("amazon", "xsum", 2)) == "amazon → xsum, 2 shots"
    assert place(("train_size",), (4000,)) == "4000 samples"
    assert place((), ()) == ""
    made = comparison({"variant": "xsum-ft-2000"}, "base", each="role")
    assert [place(made.each, label) for label in groups(made, POINTS)] == ["in_domain", "out_of_domain", "cross_task"]


def test_what_is_needed_is_an_experiment() -> None:
    wanted = {"test_dataset": ("cnn",), "shots": (0,), "train_dataset": (None, "xsum")}
    lines = needed(POINTS.where(wanted), suite="paper")
    assert lines.splitlines() == [
        "suite: paper",
        "train: {datasets: [xsum], sizes: [2000, 4000], strategies: [ft, fticl]}",
        "test: {datasets: [cnn], shots: [0], prompts: [p1, p2]}",
    ]


def test_what_was_requested_for_is_an_experiment_too() -> None:
    made = comparison({"strategy": "lora", "train_size": 64, "test_dataset": "quiz", "shots": 8}, {"shots": 0})
    assert requested([made]) == "train: {sizes: [64], strategies: [lora]}\ntest: {datasets: [quiz], shots: [0, 8]}"
    parse_experiment({"model": "m", "suite": "builtin", **dialect.read(requested([made]), "requested")})


def test_names_that_nothing_has_are_pointed_at() -> None:
    made = comparison({"strategy": "fitcl", "test_dataset": ["cnn", "rte"]}, {"variant": "bse"})
    first, second = unknown_names(made, GRID)
    assert first == "# no strategy 'fitcl' in this experiment (did you mean 'fticl'? allowed: ft, fticl)"
    assert second.startswith("# no variant 'bse' in this experiment (did you mean 'base'? allowed: base, ")

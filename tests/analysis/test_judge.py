"""Rulings: from intervals by hand, over small made-up results, and of the study's claims over worlds made to order."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import grids
import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from spillover.analysis.judge import RULINGS, Judgement, Ruling, combined, decide, judge, judge_all
from spillover.analysis.measures import Rate, off_format, over_seeds, p_from
from spillover.analysis.points import study_grid, variants_of
from spillover.analysis.results import Results
from spillover.analysis.rows import RowStatistics
from spillover.analysis.table import columns
from spillover.experiment import dialect
from spillover.experiment.claims import Claim, Comparison, study_claims
from spillover.experiment.schema import load_claims, parse_experiment
from spillover.experiment.suite import Role
from spillover.plan.grid import Cell, Grid, Variant
from spillover.report import evidence
from spillover.stats.intervals import Interval, wilson
from spillover.store.store import Store

# --- from an interval to a verdict ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "expect", "verdict"),
    [
        (0.01, 0.05, "above", "supported"),
        (-0.01, 0.05, "above", "insufficient evidence"),
        (-0.05, -0.01, "above", "contradicted"),
        (-0.05, -0.01, "below", "supported"),
        (0.0, 0.0, "above", "insufficient evidence"),  # not a row differs: nothing is above
        (-0.015, 0.01, {"at_least": -2}, "supported"),  # may have lost something, but not 2 points
        (-0.03, 0.01, {"at_least": -2}, "insufficient evidence"),
        (-0.05, -0.03, {"at_least": -2}, "contradicted"),
        (-0.01, 0.015, {"within": 2}, "supported"),
        (0.005, 0.015, {"within": 2}, "supported"),  # clearly above, and still on par
        (0.01, 0.03, {"within": 2}, "insufficient evidence"),
        (0.03, 0.05, {"within": 2}, "contradicted"),
        (0.03, 0.05, {"beyond": 2}, "supported"),
        (-0.05, -0.03, {"beyond": 2}, "supported"),
        (-0.01, 0.01, {"beyond": 2}, "contradicted"),
        (-0.03, 0.03, {"beyond": 2}, "insufficient evidence"),
        (-0.04, -0.01, {"at_least": -5, "at_most": 0}, "supported"),
        (-0.04, 0.01, {"at_least": -5, "at_most": 0}, "insufficient evidence"),
        (0.01, 0.02, {"at_least": -5, "at_most": 0}, "contradicted"),
    ],
)
def test_the_verdict_is_where_the_interval_lies(low: float, high: float, expect: Any, verdict: Ruling) -> None:
    comparison = Comparison.model_validate({"ours": "mine", "theirs": "base", "expect": expect})
    assert decide(comparison, Interval(low, high)) == verdict


def test_a_normal_intervals_p() -> None:
    """At the end of a 95 % interval it is 0.05; half as far again, 2 Phi(-1.5 x 1.96) = 0.00328."""
    assert p_from(0.03, Interval(0.01, 0.05), 0.01) == pytest.approx(0.05)
    assert p_from(0.03, Interval(0.01, 0.05), 0.0) == pytest.approx(0.00328, abs=1e-5)
    assert p_from(0.03, Interval(0.01, 0.07), 0.07) == pytest.approx(0.05)
    assert (p_from(0.0, Interval(0.0, 0.0), 0.02), p_from(0.0, Interval(0.0, 0.0), 0.0)) == (0.0, 1.0)
    assert p_from(0.5, Interval(float("nan"), float("nan")), 0.0) == p_from(0.5, Interval(-np.inf, np.inf), 0.0) == 1


SUPPORTED, CONTRADICTED, UNCLEAR, MISSING = RULINGS


@pytest.mark.parametrize(
    ("verdicts", "all_", "any_", "majority"),
    [
        ([SUPPORTED, SUPPORTED], SUPPORTED, SUPPORTED, SUPPORTED),
        ([SUPPORTED, MISSING], UNCLEAR, SUPPORTED, UNCLEAR),  # what has not run may turn out otherwise
        ([SUPPORTED, SUPPORTED, MISSING], UNCLEAR, SUPPORTED, SUPPORTED),  # for the majority, whatever comes
        ([CONTRADICTED, MISSING, MISSING], CONTRADICTED, UNCLEAR, UNCLEAR),
        ([CONTRADICTED, CONTRADICTED, MISSING], CONTRADICTED, UNCLEAR, CONTRADICTED),
        ([SUPPORTED, UNCLEAR], UNCLEAR, SUPPORTED, UNCLEAR),
        ([SUPPORTED, SUPPORTED, UNCLEAR], UNCLEAR, SUPPORTED, SUPPORTED),
        ([SUPPORTED, SUPPORTED, CONTRADICTED], CONTRADICTED, SUPPORTED, SUPPORTED),
        ([SUPPORTED, CONTRADICTED], CONTRADICTED, SUPPORTED, CONTRADICTED),  # half is no majority
        ([UNCLEAR, CONTRADICTED, CONTRADICTED], CONTRADICTED, UNCLEAR, CONTRADICTED),
        ([CONTRADICTED, CONTRADICTED], CONTRADICTED, CONTRADICTED, CONTRADICTED),
        ([MISSING, MISSING], MISSING, MISSING, MISSING),
    ],
)
def test_several_verdicts_make_one(verdicts: list[Ruling], all_: Ruling, any_: Ruling, majority: Ruling) -> None:
    assert [combined(verdicts, holds) for holds in ("all", "any", "majority")] == [all_, any_, majority]
    assert set(RULINGS) == set(get_args(Ruling))


# --- what is measured -------------------------------------------------------------------------------------------------

TRAINED = tuple(
    grids.trained(f"{name}-s{seed}", name, "shop", "sentiment", shots=k, seed=seed, key=f"{name}{seed}", recipe=name)
    for name, k in (("ft", 0), ("fticl", 2))
    for seed in range(3)
)


def grid(tests: Iterable[str], variants: tuple[Variant, ...], shots: tuple[int, ...] = (0,), n: int = 40) -> Grid:
    """Each test set is cross-task to what was trained; no cell is a file."""
    infos = tuple(grids.info(test, "paraphrase", n, ("accuracy",), test) for test in tests)
    role: dict[str, Role | None] = {"base": None}
    cells = tuple(
        grids.cell(f"{v.name} {t.name} {k}", v.key, t.name, t.task, role.get(v.name, "cross_task"), k, "p1", n)
        for v in variants
        for t in infos
        for k in shots
    )
    return Grid("m", "sound", variants, cells, infos, {"shop": ("positive", "negative")})


def results_of(grid: Grid, rows: dict[str, np.ndarray], off_format: dict[str, float] | None = None) -> Results:
    """Results in memory: `rows`, the scores of a cell's documents, and off-format rates, by the cell's key."""
    names = {v.key: v.name for v in grid.variants}
    table = []
    for cell in grid.cells:
        if off_format and cell.key in off_format:
            rate = off_format[cell.key]
            interval = wilson(rate * cell.n, cell.n)
            conditions = {"test_dataset": cell.test, "shots": cell.shots, "prompt": cell.prompt, "draw": 0}
            ends = {"value": rate, "n": cell.n, "ci_low": interval.low, "ci_high": interval.high}
            table.append({"variant": names[cell.variant], "metric": "off_format", "rows": "all", **conditions, **ends})
    first = {key: RowStatistics(np.arange(len(x)), np.column_stack([x, np.ones(len(x))])) for key, x in rows.items()}
    missing = tuple(cell for cell in grid.cells if cell.key not in rows)
    return Results(grid, pd.DataFrame(table, columns=list(columns(grid))), missing, {}, first)


def test_over_seeds_by_hand() -> None:
    """FTICL less FT of the same seed: 0.1, 0.2, 0.3. Mean 0.2, standard error 0.0577, t(2) 4.303."""
    points = list(variants_of(grid([], TRAINED), TRAINED))
    numbers = {"ft0": 1.0, "ft1": 2.0, "ft2": 3.0, "fticl0": 1.1, "fticl1": 2.2, "fticl2": 3.3}
    pairs = [(ours, {ours: 1.0, theirs: -1.0}) for theirs, ours in zip(points[:3], points[3:], strict=True)]
    found = over_seeds(pairs, numbers)
    assert (found.value, found.seeds, found.n) == (pytest.approx(0.2), 3, 0)  # no documents: a number a training
    assert (found.interval.low, found.interval.high) == pytest.approx((-0.0484138, 0.4484138))
    assert found.p == pytest.approx(0.0741799)  # 2 P(t(2) < -3.4641)
    assert over_seeds(pairs, numbers, null=0.1).p == pytest.approx(0.2254033)  # 2 P(t(2) < -1.7321)
    once = over_seeds(pairs[:1], numbers)
    assert once.value == pytest.approx(0.1) and not np.isfinite(once.interval.low) and once.p == 1
    alike = over_seeds(pairs, {**numbers, "fticl1": 2.1, "fticl2": 3.1})  # 0.1 three times: no size of the noise
    assert alike.value == pytest.approx(0.1) and not np.isfinite(alike.interval.low) and alike.p == 1


def test_off_format_rates_by_hand() -> None:
    """Ends are added up, crosswise for what is subtracted."""
    from spillover.analysis.points import points_of

    made = grid(["a", "b"], TRAINED[:1], n=30)
    one, two = points_of(made, made.cells)
    rates = {
        "ft-s0 a 0": Rate(0.8, Interval(0.6, 0.9), 30, 30),
        "ft-s0 b 0": Rate(0.4, Interval(0.2, 0.5), 20, 10),
    }
    mean, difference = off_format(rates, {one: 0.5, two: 0.5}), off_format(rates, {one: 1.0, two: -1.0})
    assert mean and difference
    assert (mean.value, mean.interval.low, mean.interval.high) == pytest.approx((0.6, 0.4, 0.7))
    assert (mean.n, mean.clusters) == (50, 40)
    assert mean.mde == pytest.approx(0.15 * (1 + 0.8416 / 1.96), abs=1e-4)  # z of 80 % beside z of 97.5 %
    assert (difference.value, difference.interval.low, difference.interval.high) == pytest.approx((0.4, 0.1, 0.7))
    assert off_format({}, {one: 1.0}) is None


# --- a user's own claim -----------------------------------------------------------------------------------------------

SUPPORT = grids.trained("support-ft", "ft", "support", "support", key="s")
BASE = Variant("base", "base", "base")
KEEPS = {
    "id": "keeps",
    "text": "support-ft does not lose more than 2 points on any cross-task test.",
    "comparisons": {
        "ours": {"variant": "support-ft", "role": "cross_task"},
        "theirs": "base",
        "each": "test_dataset",
        "expect": {"at_least": -2},
    },
}


def support(changes: dict[str, float], n: int = 300, leave_out: tuple[str, ...] = ()) -> Results:
    """A user's model on cross-task tests, changed from the base by so much on each; little noise."""
    made = grid(changes, (BASE, SUPPORT), shots=(0, 2), n=n)
    rng, rows = np.random.default_rng(0), {}
    for test, change in changes.items():
        hard = rng.uniform(0.2, 0.8, n)
        for shots in (0, 2):
            rows[f"base {test} {shots}"] = hard + rng.normal(0, 0.02, n)
            rows[f"support-ft {test} {shots}"] = hard + change + rng.normal(0, 0.02, n)
    return results_of(made, {key: x for key, x in rows.items() if key not in leave_out})


def judged(results: Results, **changes: Any) -> Judgement:
    (found,) = judge(results, [Claim.model_validate({**KEEPS, **changes})])
    return found


def test_it_keeps_what_it_had() -> None:
    found = judged(support({"news": 0.0, "quiz": -0.01, "film": 0.05}))
    assert found.ruling == "supported"
    assert found.text == "3 of 3 as stated (one training seed: this holds for these checkpoints only)"
    quiz = found.evidence[1]
    assert (quiz.where, quiz.cells, quiz.wanted) == ("quiz", 4, 4)
    assert quiz.effect is not None and quiz.effect.value == pytest.approx(-0.01, abs=0.005)
    assert quiz.effect.n == 300 and quiz.effect.p_adjusted is not None
    assert (found.fill, found.missing) == ("", ())


def test_one_loss_contradicts_it() -> None:
    found = judged(support({"news": 0.0, "quiz": -0.1}))
    assert found.ruling == "contradicted"
    assert [one.ruling for one in found.evidence] == ["supported", "contradicted"]
    assert found.text.startswith("1 of 2 as stated, 1 otherwise")


def test_a_loss_at_the_margin_is_insufficient_evidence() -> None:
    assert judged(support({"news": 0.0, "quiz": -0.02})).ruling == "insufficient evidence"


def test_few_rows_decide_nothing() -> None:
    assert judged(support({"quiz": -0.6}, n=9)).ruling == "insufficient evidence"
    assert judged(support({"quiz": -0.6}, n=12)).ruling == "contradicted"


def test_what_has_not_run_is_left_out_on_both_sides_and_listed() -> None:
    out = ("support-ft quiz 0", "support-ft quiz 2", "base news 2")
    found = judged(support({"news": 0.0, "quiz": -0.1}, leave_out=out))
    assert found.ruling == "insufficient evidence" and found.missing == ("quiz",)
    assert found.text.startswith("1 of 1 as stated, 1 more missing")
    assert [one.ruling for one in found.evidence] == ["supported", "missing"]
    assert (found.evidence[0].cells, found.evidence[0].wanted) == (2, 4)
    assert found.fill == "# 3 planned cells have not run: run the same command again"


def test_one_loss_contradicts_it_before_the_rest_has_run() -> None:
    out = ("support-ft quiz 0", "support-ft quiz 2")
    found = judged(support({"news": -0.1, "quiz": 0.0}, leave_out=out))
    assert (found.ruling, found.missing) == ("contradicted", ("quiz",))
    assert found.fill.startswith("# 2 planned cells have not run")


def test_of_two_learning_rates_each_is_set_against_its_own() -> None:
    """FTICL is 10 points better at either rate; FT at the rate that is still to come is not replaced by the other."""
    rates = {"cool": 1e-5, "hot": 1e-3}
    made = [
        grids.trained(f"{name}-{rate}", name, "shop", "sentiment", shots=k, rate=rates[rate])
        for name, k in (("ft", 0), ("fticl", 2))
        for rate in rates
    ]
    level = {"ft-cool": 0.3, "ft-hot": 0.6, "fticl-cool": 0.4, "fticl-hot": 0.7}
    rng, hard = np.random.default_rng(0), np.random.default_rng(1).normal(0, 0.1, 200)
    rows = {f"{v.name} quiz 0": level[v.name] + hard + rng.normal(0, 0.01, 200) for v in made}
    comparison = {"ours": {"strategy": "fticl"}, "theirs": {"strategy": "ft"}, "each": "learning_rate"}

    def changes(rows: dict[str, np.ndarray]) -> list[float]:
        results = results_of(grid(["quiz"], tuple(made), n=200), rows)
        found = judged(results, comparisons={**comparison, "expect": "above"})
        return [round(one.effect.value, 2) for one in found.evidence if one.effect is not None]

    assert changes(rows) == [0.1, 0.1]
    rows.pop("ft-hot quiz 0")
    assert changes(rows) == [0.1]


def test_nothing_at_all_has_run() -> None:
    found = judged(results_of(grid(["quiz"], (BASE, SUPPORT)), {}))
    assert (found.ruling, found.text, found.seeds) == ("missing", "nothing of it has run", 0)


def test_a_name_that_nothing_has_is_pointed_at() -> None:
    comparison = {"ours": {"variant": "suport-ft", "shots": 8}, "theirs": "base", "each": "shots", "expect": "above"}
    found = judged(support({"quiz": 0.0}), comparisons=comparison)
    assert found.ruling == "missing"
    assert found.fill.splitlines() == [
        "# no variant 'suport-ft' in this experiment (did you mean 'support-ft'? allowed: base, support-ft)",
        "test: {shots: [8]}",
    ]


def test_holm_counts_all_comparisons_of_a_claim() -> None:
    """Of twenty sets on which nothing happened, one that looks like a loss is not a loss."""
    n, rng = 200, np.random.default_rng(3)
    sets = [f"t{number}" for number in range(20)]
    made, rows = grid(sets, (BASE, SUPPORT), n=n), {}
    for test in sets:
        noise = rng.normal(0, 0.05, n)
        noise += (-2.2 if test == "t7" else 0) * 0.05 / np.sqrt(n) - noise.mean()
        rows |= {f"base {test} 0": np.full(n, 0.5), f"support-ft {test} 0": 0.5 + noise}
    expect = {**KEEPS["comparisons"], "expect": "above"}  # type: ignore[dict-item]
    alone = {**expect, "ours": {"variant": "support-ft", "test_dataset": "t7"}}
    assert judged(results_of(made, rows), comparisons=alone).ruling == "contradicted"
    assert judged(results_of(made, rows), comparisons=expect).ruling == "insufficient evidence"


def test_a_difference_of_differences() -> None:
    """Demonstrations help the base by 10 points and the variant by 2: 8 points of in-context learning are lost."""
    made = grid(["quiz"], (BASE, SUPPORT), shots=(0, 2), n=300)
    rng, hard = np.random.default_rng(0), np.random.default_rng(1).uniform(0.2, 0.6, 300)
    added = {"base quiz 0": 0.0, "base quiz 2": 0.1, "support-ft quiz 0": 0.2, "support-ft quiz 2": 0.22}
    rows = {key: hard + change + rng.normal(0, 0.02, 300) for key, change in added.items()}
    found = judged(
        results_of(made, rows),
        comparisons={
            "ours": {"variant": "support-ft", "shots": "some"},
            "theirs": {"shots": 0},
            "minus": "base",
            "expect": {"at_most": -5},
        },
    )
    assert found.ruling == "supported"
    assert found.evidence[0].effect and found.evidence[0].effect.value == pytest.approx(-0.08, abs=0.01)


def test_p_is_that_of_the_nearest_end_of_the_range() -> None:
    """No difference is far from an end at 2 points, and nearer to one at 1; p of no difference says nothing here."""
    same = support({"news": 0.0}, n=100)

    def p(expect: Any) -> float:
        found = judged(same, comparisons={**KEEPS["comparisons"], "expect": expect})  # type: ignore[dict-item]
        assert found.evidence[0].effect is not None
        return found.evidence[0].effect.p

    assert p({"at_least": -2}) < p({"at_least": -1}) < 0.01 < 0.1 < p("above")
    assert p({"at_least": -2, "at_most": 1}) == p({"at_most": 1})


# --- the study's claims over worlds made to order ---------------------------------------------------------------------

STUDY = study_grid((2000, 4000, 6000))
CLASSIFICATION = ("sentiment", "paraphrase", "inference")
CROSS = {("amazon", "multinli"): -0.1, ("xsum", "multinli"): 0.1, ("socialqa", "xsum"): -0.1}


def base_level(cell: Cell) -> float:
    return 0.44 if cell.shots else 0.40


def as_the_study_says(variant: Variant, cell: Cell) -> float:
    """A score for each cell that makes all of C1 to C20 true."""
    fticl, generation = variant.strategy == "fticl", cell.task not in CLASSIFICATION
    base, taught = base_level(cell), variant.train_dataset or ""
    if cell.role == "in_domain":
        sentiment = cell.task == "sentiment"
        ft = (0.42 if sentiment else 0.60) - 0.02 * (cell.shots > 0)
        ft += 0.08 * (int(variant.factors.get("train_size", 0)) > 2000 and not sentiment)
        return ft + (0.02 if generation else -0.03) if fticl else ft
    if cell.role == "out_of_domain":
        if generation:
            return base - (0.04 if fticl else 0.1)
        if cell.task == "sentiment":
            return base + (0.01 if fticl else 0.02 + {4: -0.06, 6: 0.06}.get(cell.shots, 0.0))
        return base + (0.05 if fticl else 0.1)
    other = cell.prompt == "p2"
    if generation and variant.factors.get("train_task") in CLASSIFICATION:
        return 0.01 + 0.05 * fticl + 0.1 * (other and (taught, cell.test) == ("amazon", "xsum"))
    ft = base + CROSS.get((taught, cell.test), 0.0) - 0.05 * (other and not generation)
    if variant.factors.get("train_task") in CLASSIFICATION:
        return ft + 0.06 * fticl * (1 if (taught, cell.test) == ("amazon", "paws") else -1)
    return ft + 0.06 * fticl


def as_the_base(variant: Variant, cell: Cell) -> float:
    return base_level(cell)


def the_other_way_round(variant: Variant, cell: Cell) -> float:
    return 2 * base_level(cell) - as_the_study_says(variant, cell)


def world(level: Callable[[Variant, Cell], float], labels_said: float, n: int = 250, seed: int = 2) -> Results:
    """Every cell's documents: as hard as they are for all, at the cell's level, with a little noise of its own."""
    variants = {v.key: v for v in STUDY.variants}
    rng, hard = np.random.default_rng(seed), {}
    rows = {}
    for cell in STUDY.cells:
        variant = variants[cell.variant]
        difficulty = hard.setdefault(cell.test, rng.normal(0, 0.1, n))
        mean = base_level(cell) if variant.kind == "base" else level(variant, cell)
        noise = rng.normal(0, 0.02, n)
        rows[cell.key] = mean + difficulty - difficulty.mean() + noise
    said = {cell.key: labels_said for cell in STUDY.cells}
    return results_of(replace(STUDY, cells=tuple(replace(cell, n=n) for cell in STUDY.cells)), rows, said)


def rulings(results: Results, store: Store | None = None) -> dict[str, str]:
    return {found.claim.id: found.ruling for found in judge(results, study_claims(), store, study_grid)}


def three_trainings(folder: Path, results: Results, fticl: dict[str, float]) -> Results:
    """What is recorded of variants, for three seeds: FT's loss and weight deviation are 1, FTICL's are `fticl`."""
    store = Store(folder)
    trained = [v for v in STUDY.variants if v.kind == "trained"]
    variants = [replace(v, key=f"{v.key}-s{s}", name=f"{v.name}-s{s}", seed=s) for v in trained for s in (1, 2)]
    for variant in (*trained, *variants):
        numbers = dict.fromkeys(("loss", "moved"), 1.0) if variant.strategy == "ft" else fticl
        off = 0.01 * (variant.seed or 0) * (variant.strategy == "fticl")
        store.finish_variant(variant.key, {"weights": "w", "loss": numbers["loss"] + off})
        change = {"name": "w", "layer": 0, "module": "q", "size": 10, "squared": 1.0, "base_squared": 1.0}
        change |= {"absolute": 10 * (numbers["moved"] + off), "singular_values": []}
        seen = {"variant": variant.key, "name": variant.name, "weights": "w", "sample": "s", "precision": "float32"}
        seen |= {"changes": [change], "left_out": [], "neutral": None, "answers": None}
        store.write_inside(variant.key, seen)
    return replace(results, grid=replace(results.grid, variants=(*STUDY.variants, *variants)))


@pytest.fixture(scope="module")
def study_world() -> Results:
    return world(as_the_study_says, labels_said=0.9)


@pytest.fixture(scope="module")
def study_judged(study_world: Results) -> list[Judgement]:
    return judge(study_world, study_claims(), None, study_grid)


def test_in_a_world_as_the_study_says_all_twenty_are_supported(study_world: Results, tmp_path: Path) -> None:
    results = three_trainings(tmp_path, study_world, {"loss": 1.5, "moved": 0.5})
    found = rulings(results, Store(tmp_path))
    assert found == dict.fromkeys([f"C{number}" for number in range(1, 21)], "supported")


def test_in_a_world_the_other_way_round_none_is(study_world: Results, tmp_path: Path) -> None:
    results = three_trainings(tmp_path, world(the_other_way_round, labels_said=0.0), {"loss": 0.5, "moved": 1.5})
    found = rulings(results, Store(tmp_path))
    # where the study sees no difference or no direction, there is none the other way round either
    assert {claim for claim, verdict in found.items() if verdict != "contradicted"} == {"C5", "C11", "C19"}


def test_where_nothing_changed_no_change_is_supported() -> None:
    found = rulings(world(as_the_base, labels_said=0.0))
    assert {claim for claim, verdict in found.items() if verdict == "supported"} <= {"C5", "C11", "C12"}
    for claim in ("C4", "C6", "C13", "C14", "C16", "C19", "C20"):
        assert found[claim] == "insufficient evidence", claim
    assert found["C15"] == found["C18"] == "missing"


def test_a_claim_that_models_often_lose_is_not_true_where_they_lose_nothing() -> None:
    """C2: as the study says, but that demonstrations add nothing to a fine-tuned model instead of costing 2 points."""

    def loses_nothing(variant: Variant, cell: Cell) -> float:
        no_shots = replace(cell, condition=cell.condition._replace(shots=0))
        at_0 = no_shots if cell.role == "in_domain" and variant.strategy == "ft" else cell
        return as_the_study_says(variant, at_0)

    (found,) = judge(world(loses_nothing, labels_said=0.9), study_claims()[1:2], None, study_grid)
    by_comparison = [
        {one.ruling for one in found.evidence if one.comparison is made} for made in found.claim.comparisons
    ]
    assert by_comparison == [{"supported"}, {"insufficient evidence"}, {"supported"}]
    assert found.ruling == "insufficient evidence"


def test_one_training_has_a_number_and_no_interval(study_world: Results, tmp_path: Path) -> None:
    results = three_trainings(tmp_path, study_world, {"loss": 1.5, "moved": 0.5})
    once = replace(results, grid=STUDY)
    (found,) = [one for one in judge(once, study_claims(), Store(tmp_path), study_grid) if one.claim.id == "C15"]
    assert found.ruling == "insufficient evidence"
    assert evidence.written(found.evidence[0]) == "−0.5 (no interval)"
    assert found.seeds == 1 and "these checkpoints only" in found.text


def test_over_an_empty_grid_all_are_missing_and_say_what_would_fill_them() -> None:
    empty = Grid("m", "sound", (BASE,), (), ())
    nothing = Results(empty, pd.DataFrame(columns=list(columns(empty))), (), {}, {})
    found = {one.claim.id: one for one in judge(nothing, study_claims(), None, study_grid)}
    assert {one.ruling for one in found.values()} == {"missing"}
    for one in found.values():
        experiment = parse_experiment({"model": "m", **dialect.read(one.fill, "fill")})
        assert experiment.suite == ("paper",) and experiment.train.strategies
    assert found["C20"].fill.splitlines() == [
        "suite: paper",
        "train: {datasets: [amazon, paws, multinli], sizes: [2000], strategies: [fticl, ft]}",
        "test: {datasets: [xsum], prompts: [p1]}",
    ]
    assert "sizes: [2000, 4000, 6000], strategies: [ft]" in found["C3"].fill
    train = "train: {datasets: [xsum, socialqa], sizes: [2000], strategies: [fticl, ft]}"
    assert found["C15"].fill == f"suite: paper\n{train}"


def test_part_of_the_grid_is_judged_and_the_rest_listed(study_world: Results) -> None:
    """One column: MNLI, FT, two test sets."""
    wanted = {"base", "multinli-ft-2000"}
    cells = tuple(c for c in STUDY.cells if c.variant in wanted and c.test in ("multinli", "rte"))
    variants = tuple(v for v in STUDY.variants if v.key in wanted)
    some = replace(study_world, grid=replace(STUDY, cells=cells, variants=variants))
    found = {one.claim.id: one for one in judge(some, study_claims(), None, study_grid)}
    assert (found["C6"].ruling, found["C6"].missing) == ("insufficient evidence", ("qqp", "stsb", "gptnli"))
    assert [one.ruling for one in found["C6"].evidence if one.where == "rte"] == ["supported"]
    assert found["C6"].fill.splitlines() == [
        "suite: paper",
        "train: {datasets: [paws, multinli], sizes: [2000], strategies: [ft]}",
        "test: {datasets: [qqp, stsb, gptnli], prompts: [p1]}",
    ]
    assert found["C4"].ruling == found["C16"].ruling == "missing"


def test_the_experiments_own_claims_come_first(study_world: Results, tmp_path: Path) -> None:
    own = [Claim.model_validate(KEEPS)]
    store = Store(tmp_path)
    store.write_plan(STUDY, {}, claims=own)
    assert load_claims(tmp_path / "claims.yaml") == tuple(own)
    found = judge_all(support({"news": 0.0, "quiz": 0.0}), store)
    assert [one.claim.id for one in found] == ["keeps", "C11"]  # on tests of another kind, the study's have no cells
    store.write_plan(STUDY, {})
    cells = tuple(cell for cell in STUDY.cells if cell.test == "rte" and cell.variant == "base")
    some = replace(study_world, grid=replace(STUDY, cells=cells))
    assert [one.claim.id for one in judge_all(some, store)] == [f"C{number}" for number in range(1, 21)]


# --- as something to read ---------------------------------------------------------------------------------------------


def test_records_are_json_and_hold_every_number(study_judged: list[Judgement]) -> None:
    records = json.loads(json.dumps(evidence.records(study_judged), allow_nan=False))
    assert [record["id"] for record in records] == [f"C{number}" for number in range(1, 21)]
    first = records[0]["comparisons"][0]
    assert first["expected"] == "above 0 points" and first["where"] == "xsum" and first["ruling"] == "supported"
    assert {"value", "interval", "p", "p_adjusted", "n", "seeds", "mde", "noise_floor", "cells"} <= set(first)
    assert first["interval"][0] < first["value"] < first["interval"][1]
    assert first["cells_there"] == first["cells_wanted"] == 6
    assert records[2]["comparisons"][2]["expected"] == "within ±2 points"


@pytest.mark.parametrize("width", [60, 100, 160])
def test_the_terminal_shows_numbers_margins_and_what_is_missing(study_judged: list[Judgement], width: int) -> None:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(evidence.table(study_judged))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= width
    said = " ".join(text.split())
    for word in (
        "supported",
        "Figure 2",
        "above 0 points",
        "Nothing has run of: C15, C18",
        "# not recorded of xsum-ft",
    ):
        assert word in said

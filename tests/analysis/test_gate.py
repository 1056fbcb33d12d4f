"""What a gate decides: by the interval of each question, by tiers, and with bounded errors."""

from __future__ import annotations

from math import inf
from typing import Any

import fakestore
import numpy as np
import pytest
from scipy import special

from spillover.analysis import gate, table
from spillover.analysis.contrasts import Effect
from spillover.analysis.gate import Gate, Question, judge, overall
from spillover.errors import ExperimentError
from spillover.experiment.gate import GateSpec, Tier
from spillover.experiment.schema import parse_experiment
from spillover.stats.intervals import Interval
from spillover.stats.levels import Level, mean_change

TESTS = ("shop", "film", "quiz")


def question(change: float, half: float, tier: Tier = "critical", n: int = 200, **own: Any) -> Question:
    """On a base of 80 points, of which 4 may be lost: `change` points, known to `half`."""
    effect = Effect(
        value=change / 100,
        interval=Interval((change - half) / 100, (change + half) / 100),
        p=0.001,
        seeds=0,
        chance=((Level((half / 196) ** 2, inf),),),
        cells=(),
        n=n,
        clusters=n,
    )
    return Question("quiz", tier, 0, "p1", 0.8, 0.04, False, effect, **{"p_adjusted": 0.001, **own})


@pytest.mark.parametrize(
    ("change", "half", "expected"),
    [
        (0.0, 3.0, "held"),
        (-3.0, 3.0, "insufficient evidence"),
        (0.0, 5.0, "insufficient evidence"),
        (-9.0, 4.0, "broken"),
        (-9.0, 6.0, "insufficient evidence"),
    ],
)
def test_the_interval_decides(change: float, half: float, expected: str) -> None:
    assert question(change, half).outcome == expected


def test_few_rows_decide_nothing_and_a_loss_within_the_correction_or_rounding_is_not_called_broken() -> None:
    assert question(0.0, 3.0, n=9).outcome == question(-30.0, 3.0, n=9).outcome == "insufficient evidence"
    assert question(-9.0, 4.0, p_adjusted=0.06).outcome == "insufficient evidence"
    assert Question("quiz", "critical", 0, "p1").outcome == "insufficient evidence"  # not run


def test_the_rows_that_would_decide_halve_the_interval_with_four_times_the_rows() -> None:
    assert question(0.0, 8.0).rows_wanted == 800  # half of 8 is the 4 points that may be lost
    assert question(-4.0, 8.0).rows_wanted == inf


def test_a_share_is_of_the_bases_score() -> None:
    one = question(-20.0, 8.0)
    assert one.kept == pytest.approx(0.75)
    assert one.kept_interval is not None
    assert (one.kept_interval.low, one.kept_interval.high) == pytest.approx((0.65, 0.85))


@pytest.mark.parametrize(
    ("broken", "unknown", "expected"),
    [
        ("critical", "advisory", "broken"),
        ("supporting", "critical", "broken"),
        ("advisory", "supporting", "held"),
        ("advisory", "critical", "insufficient evidence"),
    ],
)
def test_a_tier_says_what_a_question_decides(broken: Tier, unknown: Tier, expected: str) -> None:
    questions = question(0.0, 3.0), question(-9.0, 4.0, broken), question(0.0, 5.0, unknown)
    one = Gate("v", 0.95, questions)
    assert one.outcome == expected
    assert overall([Gate("other", 0.95, questions[:1]), one]) == expected


def test_sets_are_critical_unless_they_are_in_a_list() -> None:
    assert GateSpec().tiers(TESTS) == dict.fromkeys(TESTS, "critical")
    assert GateSpec(advisory=("quiz",)).tiers(TESTS) == {"shop": "critical", "film": "critical", "quiz": "advisory"}
    named = GateSpec(critical=("shop",), supporting=("film",))
    assert named.tiers(TESTS) == {"shop": "critical", "film": "supporting", "quiz": "advisory"}


def test_the_name_of_a_suite_stands_for_its_sets_and_a_name_of_a_set_counts_before_it() -> None:
    found = GateSpec(supporting=("builtin",), critical=("quiz",)).tiers(["reviews", "quiz", "own"])
    assert found == {"reviews": "supporting", "quiz": "critical", "own": "advisory"}


@pytest.mark.parametrize("raw", [{"critical": "shops"}, {"advisory": ["shop", "film", "quiz"]}])
def test_a_gate_of_unknown_sets_or_without_a_critical_one_is_refused(raw: dict[str, Any]) -> None:
    with pytest.raises(ExperimentError, match="gate"):
        GateSpec.model_validate(raw).tiers(TESTS)


@pytest.mark.parametrize("raw", [{"keep": 1}, {"keep": 0}, {"keep": "most"}, {"critical": "q", "advisory": "q"}])
def test_what_no_gate_can_be_is_told_where_the_yaml_says_it(raw: dict[str, Any]) -> None:
    with pytest.raises(ExperimentError, match="gate"):
        parse_experiment({"model": "m", "suite": "builtin", "gate": raw})


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> table.Results:
    """All are right everywhere, but for one variant that is wrong on `shop` without demonstrations."""
    grid = fakestore.make_grid(rows=60, prompts=("p1",))
    folder = fakestore.write_store(tmp_path_factory.mktemp("gate"), grid)
    for cell in grid.cells:
        wrong = cell.variant == "v-news-ft" and cell.test == "shop" and cell.shots == 0

        def say(rows: list[dict[str, Any]], wrong: bool = wrong) -> None:
            for row in rows:
                row["response"] = "none" if wrong else row["target"]

        fakestore.change_rows(folder, cell.key, say)
    return table.load(folder)


def test_a_loss_at_one_number_of_shots_does_not_hide_behind_the_others(results: table.Results) -> None:
    broken, whole = judge(results, GateSpec(keep=0.9), ["news-ft", "shop-ft"])
    (lost,) = broken.those("broken", "critical")
    assert (broken.outcome, lost.test, lost.shots) == ("broken", "shop", 0)
    assert lost.kept == 0.0 and lost.base == 1.0
    assert whole.outcome == "held" and len(whole.questions) == 2 * len(fakestore.TESTS)


def test_only_what_can_break_the_gate_is_corrected_together(results: table.Results) -> None:
    spec = GateSpec(keep=0.9, critical=("shop",), supporting=("film",))
    (found,) = judge(results, spec, ["news-ft"])
    for one in found.questions:
        assert one.change is not None
        assert one.p_adjusted >= one.change.p
        assert (one.p_adjusted == one.change.p) or one.tier != "advisory"
    (lost,) = found.those("broken", "critical")
    assert lost.change is not None
    assert lost.p_adjusted == pytest.approx(4 * lost.change.p)  # the least of four: two sets at two numbers of shots


def test_a_gate_of_nothing_but_the_base_or_of_an_unknown_variant_is_refused(results: table.Results) -> None:
    for names in ([], ["news-fd"]):
        variants = results.grid.variants[:1] if not names else results.grid.variants
        with pytest.raises(ExperimentError):
            gate.judged(variants, names)


@pytest.mark.parametrize("n", [50, 400])
def test_what_loses_more_than_is_allowed_seldom_holds_and_what_loses_less_is_seldom_broken(n: int) -> None:
    """At the very limit, 2.5 % on each side. The base's score is estimated from the same rows."""
    rng, keep, many = np.random.default_rng(n), 0.9, 4000
    base = rng.random((n, many)) < 0.7
    variant = base & (rng.random((n, many)) >= 0.15) | ~base & (rng.random((n, many)) < 0.35 / 3)
    kept, gained = 0.7 * 0.85, 0.3 * 0.35 / 3
    assert kept + gained == pytest.approx(keep * 0.7)
    change = mean_change(variant.astype(float) - base, None, right_or_wrong=True)
    half = np.sqrt(change.variance) * special.stdtrit(change.df, 0.975)
    allowed = (1 - keep) * base.mean(axis=0)
    assert (change.centre - half > -allowed).mean() < 0.03
    assert (change.centre + half < -allowed).mean() < 0.03

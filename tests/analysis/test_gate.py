"""What a gate decides: by the interval of each question, by tiers, and with bounded errors."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from pathlib import Path
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
from spillover.plan.grid import Use
from spillover.stats.intervals import Interval
from spillover.stats.levels import Level, mean_change

TESTS = ("shop", "film", "quiz")


def question(margin: float, half: float, tier: Tier = "critical", n: int = 200, p: float = 0.001) -> Question:
    """A score that is `margin` points beyond what is asked, known to `half`; 4 of 80 points may be lost."""
    chance = ((Level((half / 196) ** 2, inf),),)
    ends = Interval((margin - half) / 100, (margin + half) / 100)
    beyond = Effect(margin / 100, ends, p, 0, chance, (), n, n, ("quiz",), p_adjusted=p)
    change = replace(beyond, value=(margin - 4) / 100, interval=Interval(ends.low - 0.04, ends.high - 0.04))
    kept = Interval(1 + change.interval.low / 0.8, 1 + change.interval.high / 0.8)
    return Question("quiz", tier, Use(0, "p1"), 0.8, change, beyond, kept)


@pytest.mark.parametrize(
    ("margin", "half", "expected"),
    [
        (4.0, 3.0, "held"),
        (1.0, 3.0, "insufficient evidence"),
        (4.0, 5.0, "insufficient evidence"),
        (-5.0, 4.0, "broken"),
        (-5.0, 6.0, "insufficient evidence"),
    ],
)
def test_the_interval_decides(margin: float, half: float, expected: str) -> None:
    assert question(margin, half).outcome == expected


def test_few_rows_decide_nothing_and_a_loss_within_the_correction_or_rounding_is_not_called_broken() -> None:
    assert question(4.0, 3.0, n=9).outcome == question(-30.0, 3.0, n=9).outcome == "insufficient evidence"
    assert question(-5.0, 4.0, p=0.06).outcome == "insufficient evidence"
    lost = question(-5.0, 4.0)
    assert lost.margin is not None
    rounded = replace(lost, margin=replace(lost.margin, rounding_floor=0.06))
    assert (lost.outcome, rounded.outcome) == ("broken", "insufficient evidence")
    assert Question("quiz", "critical", Use(0, "p1")).outcome == "insufficient evidence"  # not run


def test_the_rows_that_would_decide_narrow_the_interval_to_the_margin() -> None:
    more = question(4.0, 8.0).more_rows
    assert more is not None and more + 200 == pytest.approx(200 * (2.8 / 1.96 * 8 / 4) ** 2, rel=0.01)
    assert question(0.0, 8.0).more_rows is None
    assert question(8.0, 4.0).more_rows == 0


def test_a_share_is_of_the_bases_score() -> None:
    assert question(-16.0, 8.0).share == pytest.approx(0.75)


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
    questions = question(4.0, 3.0), question(-5.0, 4.0, broken), question(0.0, 5.0, unknown)
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


@pytest.mark.parametrize("raw", [{"keep": 1.5}, {"keep": 0}, {"keep": "most"}, {"critical": "q", "advisory": "q"}])
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
    assert (broken.outcome, lost.test, lost.use.shots) == ("broken", "shop", 0)
    assert lost.share == 0.0 and lost.base == 1.0
    assert lost.kept is not None and lost.kept.low == 0.0 < lost.kept.high < 0.2
    assert whole.outcome == "held" and len(whole.questions) == 2 * len(fakestore.TESTS)


def test_only_what_can_break_the_gate_is_corrected_together(results: table.Results) -> None:
    spec = GateSpec(keep=0.9, critical=("shop",), supporting=("film",))
    (found,) = judge(results, spec, ["news-ft"])
    for one in found.questions:
        assert one.margin is not None
        assert (one.margin.p_adjusted is None) == (one.tier == "advisory")
    (lost,) = found.those("broken", "critical")
    assert lost.margin is not None
    assert lost.margin.p_adjusted == pytest.approx(4 * lost.margin.p)  # the least of four: two sets at two shots


def test_the_share_asked_is_the_gates_or_what_the_verdict_asks(results: table.Results) -> None:
    asked = replace(results, grid=replace(results.grid, keep=0.5))
    found = [judge(table, spec)[0].keep for table in (results, asked) for spec in (GateSpec(), GateSpec(keep=0.7))]
    assert found == [0.98, 0.7, 0.5, 0.7]


def test_what_is_at_chance_may_lose_points_and_has_no_share(results: table.Results) -> None:
    tests = tuple(replace(one, chance=1.0) if one.name == "shop" else one for one in results.grid.tests)
    guessed = replace(results, grid=replace(results.grid, tests=tests))
    (found,) = judge(guessed, GateSpec(keep=0.9), ["news-ft"])
    zero, two = (one for one in found.questions if one.test == "shop")
    assert zero.at_chance and two.at_chance and zero.share is two.share is None
    assert (zero.outcome, two.outcome) == ("broken", "held")
    assert zero.margin is not None and zero.margin.value == pytest.approx(-0.9)


def test_rows_that_leak_are_left_out(results: table.Results) -> None:
    """Of 60 rows of the set that is broken, 55 leak: too few are left to say so."""
    leaky = replace(results, leaked={"news": {"shop": list(range(55))}})
    (found,) = judge(leaky, GateSpec(keep=0.9), ["news-ft"])
    (lost,) = (one for one in found.questions if (one.test, one.use.shots) == ("shop", 0))
    assert lost.change is not None and (lost.change.n, lost.outcome) == (5, "insufficient evidence")


def test_a_gate_of_nothing_but_the_base_or_of_an_unknown_variant_is_refused(results: table.Results) -> None:
    for names in ([], ["news-fd"]):
        variants = results.grid.variants[:1] if not names else results.grid.variants
        with pytest.raises(ExperimentError):
            gate.judged(variants, names)


def test_what_an_earlier_form_of_the_experiment_had_is_not_judged(tmp_path: Path) -> None:
    """One adapter after the other in one folder: what an old pull request lost decides nothing now."""
    base, first, second, *_ = fakestore.VARIANTS
    for variant in (first, second):
        fakestore.write_store(tmp_path, fakestore.make_grid(variants=(base, variant), prompts=("p1",), rows=12))
    found = table.load(tmp_path, earlier=True)
    assert {one.name for one in found.grid.variants} == {base.name, first.name, second.name}
    assert [one.variant for one in judge(found, GateSpec())] == [second.name]
    with pytest.raises(ExperimentError):
        judge(found, GateSpec(), [first.name])


def test_a_random_change_is_not_judged(results: table.Results) -> None:
    base, *others = results.grid.variants
    first, *rest = (replace(one, is_null=one.name == "news-ft") for one in others)
    assert first.is_null and gate.judged([base, first, *rest], ()) == rest
    with pytest.raises(ExperimentError):
        gate.judged([base, first], ())


def test_one_of_several_alternatives_is_refused_until_it_is_chosen(results: table.Results) -> None:
    base, *others = results.grid.variants
    first, second, *_ = (replace(one, choices=("news",)) for one in others)
    with pytest.raises(ExperimentError, match="choose"):
        gate.judged([base, first, second], [second.name])
    assert gate.judged([base, first, second], ()) == [first, second]
    assert gate.judged([base, second], [second.name]) == [second]


@pytest.mark.parametrize("n", [50, 400])
def test_what_loses_more_than_is_allowed_seldom_holds_and_what_loses_less_is_seldom_broken(n: int) -> None:
    """At the very limit, 2.5 % on each side in name. Where answers are only lost and never gained, it is up to 5 %."""
    rng, keep, many = np.random.default_rng(n), 0.9, 4000
    base = rng.random((n, many)) < 0.7
    for lost, most in ((0.15, 0.03), (0.1, 0.05)):
        gained = 0.7 * (keep - 1 + lost) / 0.3
        ours = base & (rng.random((n, many)) >= lost) | ~base & (rng.random((n, many)) < gained)
        margin = ours - keep * base
        change = mean_change(margin, None, True, unmoved=(1 - keep) * base)
        half = np.sqrt(change.variance) * special.stdtrit(change.df, 0.975)
        assert (change.centre - half > 0).mean() < most
        assert (change.centre + half < 0).mean() < 0.03


def test_answers_that_did_not_change_may_change_on_other_rows() -> None:
    """A share of the base is subtracted, so rows without a change are not zero; they show no change all the same."""
    base = np.repeat([1.0, 0.0], [80, 20])[:, None]
    known = mean_change(np.zeros((100, 1)), None, True)
    for keep in (1.0, 0.9):
        found = mean_change((1 - keep) * base, None, True, unmoved=(1 - keep) * base)
        assert found.variance == pytest.approx(known.variance, rel=0.1)

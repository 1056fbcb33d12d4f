"""Intervals of scores of which few rows vary: alike rows, and sets (macro-F1, BLEU, chrF) that hardly changed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from spillover.analysis.metrics import METRICS, Metric
from spillover.analysis.rows import RowStatistics
from spillover.analysis.scoring import Score, pooled_interval, score
from spillover.stats.intervals import Interval, percentiles, replicates, wilson

LABELS = ("it is so, yes", "it is not so, no")
WHOLE = [metric for metric in METRICS.values() if not metric.is_mean]


Answers = tuple[list[str], list[str], list[str]]


def answered(doc_id: int, response: str, target: str) -> dict[str, Any]:
    """A row whose response has the highest log-probability, also per character."""
    return {"doc_id": doc_id, "response": response, "target": target, "logprobs": {response or " ": 0.0}}


def sides(metric: Metric, answers: Answers) -> list[RowStatistics]:
    """Of the base and of ours: `answers` are the base's, ours, and those that are right."""
    base, ours, targets = answers
    return [
        RowStatistics.of(metric, [answered(number, *pair) for number, pair in enumerate(rows)], LABELS)
        for rows in (zip(base, targets, strict=True), zip(ours, targets, strict=True))
    ]


def change(metric: Metric, answers: Answers) -> Score:
    return score(metric, sides(metric, answers), {}, has_base=True)[1]


@pytest.mark.parametrize("metric", WHOLE, ids=lambda metric: metric.name)
def test_no_changed_answer_is_not_a_change_of_exactly_nothing(metric: Metric) -> None:
    yes, no = LABELS
    answers, targets = [yes, no, no] * 8, [yes, no, yes] * 8
    found = change(metric, (answers, answers, targets))
    assert found["delta"] == 0 and found["p_value"] == 1
    mean = change(METRICS["rougeL"], (answers, answers, targets))
    assert found["delta_ci_low"] == pytest.approx(mean["delta_ci_low"]) and found["delta_ci_low"] < -0.1
    assert found["delta_ci_high"] == pytest.approx(mean["delta_ci_high"])


@pytest.mark.parametrize("metric", WHOLE, ids=lambda metric: metric.name)
def test_one_changed_answer_of_many_may_have_been_a_loss(metric: Metric) -> None:
    """Its bootstrap alone ends at zero, since draws repeat this answer or do not hold it."""
    targets = [*LABELS] * 12
    base = [LABELS[1], *targets[1:]]
    found = change(metric, (base, targets, targets))
    assert found["delta"] > 0
    assert found["delta_ci_low"] < 0 < found["delta"] < found["delta_ci_high"]


def test_intervals_of_macro_f1_hold_the_truth_where_few_answers_change() -> None:
    """Of 24 rows about one changes, always for the better. The bootstrap alone holds the truth in 59 % of the cases."""
    rng, metric, runs = np.random.default_rng(1), METRICS["macro_f1"], 100

    def drawn(n: int) -> Answers:
        target, right, mended = rng.integers(0, 2, n), rng.random(n) < 0.7, rng.random(n) < 0.04 / 0.3
        base = np.where(right, target, 1 - target)
        ours = np.where(~right & mended, target, base)
        return ([LABELS[i] for i in base], [LABELS[i] for i in ours], [LABELS[i] for i in target])

    before, after = (metric.score(side.statistics.sum(axis=0)) for side in sides(metric, drawn(40_000)))
    held = 0
    for _ in range(runs):
        found = change(metric, drawn(24))
        held += found["delta_ci_low"] <= after - before <= found["delta_ci_high"]
    assert held >= 0.93 * runs


EVERY = list(METRICS.values())


@pytest.mark.parametrize("metric", EVERY, ids=lambda metric: metric.name)
@pytest.mark.parametrize("others", [0, 1])
def test_answers_that_score_alike_leave_room_for_others(metric: Metric, others: int) -> None:
    """Of 24 answers all are right, or all but one nearly: the next one may be wrong, and the other way round."""
    targets = [*LABELS] * 12
    nearly = [f"{target} indeed" for target in targets]
    right, wrong = [*nearly[:others], *targets[others:]], [*nearly[:others], *[""] * (24 - others)]
    rows = sides(metric, (wrong, right, targets))
    for found, cell in zip(score(metric, rows, {}, has_base=True), rows, strict=True):
        pooled = pooled_interval(metric, cell, {})
        for low, high in ((found["ci_low"], found["ci_high"]), (pooled.low, pooled.high)):
            assert 0 <= low <= found["value"] <= high <= 1
            assert high - low > 0.1
            assert low == pytest.approx(0) if found["value"] < 1e-6 else True
    if metric.name != "off_format":
        gained = change(metric, (wrong, right, targets))
        assert gained["delta"] > 0.8 and gained["delta_ci_high"] - gained["delta_ci_low"] > 0.08


def test_where_all_rows_score_one_any_interval_is_wilsons() -> None:
    targets = [*LABELS] * 12
    ends = [
        (found["ci_low"], found["ci_high"])
        for metric in (METRICS["accuracy"], METRICS["rougeL"], METRICS["bleu"], METRICS["chrf"])
        for found in score(metric, sides(metric, (targets, targets, targets))[:1], {}, has_base=False)
    ]
    assert ends == [pytest.approx((wilson(24, 24).low, 1.0))] * 4


def test_rows_that_vary_have_the_bootstrap_alone() -> None:
    metric = METRICS["rougeL"]
    rows = RowStatistics(np.arange(24), np.column_stack([np.linspace(0, 1, 24), np.ones(24)]))
    low, high = percentiles(replicates(rows.statistics, metric.score), 24)
    assert pooled_interval(metric, rows, {}) == Interval(float(low), float(high))

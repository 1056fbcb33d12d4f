"""Contrasts over results that are made by hand: what they are, what they rest on, and how sure they say they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import sqrt

import numpy as np
import pytest
from madescores import results_of
from scipy.stats import norm, t

from spillover.analysis import summaries
from spillover.analysis.contrasts import (
    Effect,
    Term,
    adjusted,
    by_shots,
    difference,
    effect,
    interaction,
    outcome,
    prompt_gap,
    slope,
)
from spillover.analysis.results import Results
from spillover.analysis.rows import RowStatistics
from spillover.plan.grid import Cell
from spillover.stats.intervals import Interval, wilson
from spillover.stats.levels import Level, mean_change
from spillover.stats.permutation import mcnemar

STEADY = 0.4 + np.linspace(-1e-6, 1e-6, 50)  # rows that vary, but so little that other levels decide


def of(results: Results, *names: str) -> list[Cell]:
    return [cell for cell in results.grid.cells if cell.variant in names]


def spread(mean: float, n: int = 12) -> np.ndarray:
    """Scores of n documents around a mean."""
    return mean + np.linspace(-0.05, 0.05, n)


# --- what a contrast is -----------------------------------------------------------------------------------------------


def test_a_difference_is_the_mean_over_documents_that_both_have() -> None:
    ours, theirs = np.array([0.9, 0.5, 0.7, 0.4]), np.array([0.4, 0.5, 0.1, 0.2, 0.9])
    results = results_of({("ft", "in", 0, "p1", 0): ours, ("base", "in", 0, "p1", 0): theirs})
    change = difference(results, of(results, "ft"), of(results, "base"))
    gaps = ours - theirs[:4]
    assert change is not None
    assert change.value == pytest.approx(gaps.mean())
    half = t.ppf(0.975, 3) * gaps.std(ddof=1) / 2
    assert (change.interval.low, change.interval.high) == pytest.approx((gaps.mean() - half, gaps.mean() + half))
    assert change.mde == pytest.approx((t.ppf(0.975, 3) + t.ppf(0.8, 3)) * gaps.std(ddof=1) / 2)
    assert change.p == pytest.approx(
        max(2 / 8, 2 * t.sf(2 * gaps.mean() / gaps.std(ddof=1), 3))
    )  # three gaps, one sign
    assert (change.n, change.tests, change.seeds, change.draws) == (4, ("in",), 1, 0)
    assert set(change.cells) == {cell.key for cell in results.grid.cells}


def test_of_right_and_wrong_answers_it_is_mcnemars() -> None:
    ours, theirs = [1.0] * 20 + [0.0] * 4, [1.0] * 11 + [0.0] * 9 + [1.0] + [0.0] * 3
    results = results_of({("ft", "in", 0, "p1", 0): ours, ("base", "in", 0, "p1", 0): theirs}, "accuracy")
    change = difference(results, of(results, "ft"), of(results, "base"))
    expected = mean_change(np.array(ours)[:, None] - np.array(theirs)[:, None], right_or_wrong=True)
    half = t.ppf(0.975, expected.df) * sqrt(expected.variance[0])
    assert change is not None and change.value == pytest.approx(8 / 24)
    assert (change.interval.low, change.interval.high) == pytest.approx(
        (expected.centre[0] - half, expected.centre[0] + half)
    )
    assert change.p == pytest.approx(float(mcnemar(9, 1)))


def test_only_conditions_that_both_have_are_compared() -> None:
    results = results_of(
        {
            ("ft", "in", 0, "p1", 0): spread(0.6),
            ("ft", "in", 4, "p1", 0): spread(0.9),
            ("base", "in", 0, "p1", 0): spread(0.5),
            ("base", "in", 0, "p2", 0): spread(0.1),
        }
    )
    change = difference(results, of(results, "ft"), of(results, "base"))
    assert change is not None and change.value == pytest.approx(0.1)
    assert len(change.cells) == 2
    assert difference(results, of(results, "ft")[1:], of(results, "base")) is None


def test_recipes_that_were_tested_on_other_sets_are_compared_on_their_own() -> None:
    scores = {("ft", "in", 0, "p1", 0): spread(0.6), ("icl", "out", 0, "p1", 0): spread(0.7)}
    base = {("base", name, 0, "p1", 0): spread(0.5) for name in ("in", "out", "out2")}
    results = results_of({**scores, **base})
    change = difference(results, of(results, "ft", "icl"), of(results, "base"))
    assert change is not None and change.tests == ("in", "out")
    assert change.value == pytest.approx(0.15)


def test_what_one_seed_has_not_run_counts_for_none() -> None:
    scores = {("ft", "in", 0, "p1", 0): spread(0.6), ("ft1", "in", 0, "p1", 0): spread(0.8)}
    more = {("ft", "in", 2, "p1", 0): spread(0.9), ("base", "in", 0, "p1", 0): spread(0.5)}
    results = results_of({**scores, **more, ("base", "in", 2, "p1", 0): spread(0.5)})
    change = difference(results, of(results, "ft", "ft1"), of(results, "base"))
    assert change is not None and change.value == pytest.approx(0.2) and len(change.cells) == 3


def test_test_sets_count_the_same_however_many_cells_they_have() -> None:
    scores: dict[tuple[str, str, int, str, int], Sequence[float]] = {}
    for prompt in ("p1", "p2", "p3"):
        scores |= {("ft", "in", 0, prompt, 0): spread(0.7), ("base", "in", 0, prompt, 0): spread(0.5)}
    scores |= {("ft", "in2", 0, "p1", 0): spread(0.5, 40), ("base", "in2", 0, "p1", 0): spread(0.6, 40)}
    results = results_of(scores)
    change = difference(results, of(results, "ft"), of(results, "base"))
    assert change is not None
    assert change.value == pytest.approx((0.2 - 0.1) / 2)
    assert (change.n, change.tests) == (52, ("in", "in2"))


def test_a_contrast_is_what_its_terms_say_of_the_cells_that_have_run() -> None:
    results = results_of({("ft", "in", k, "p1", 0): spread(0.3 + k / 10) for k in (0, 2, 4)})
    a, b, c = results.grid.cells
    planned = replace(a, key="not yet", condition=a.condition._replace(shots=8))
    terms = [Term(2.0, (a,)), Term(-0.5, (b, c, planned))]
    found = effect(results, terms)
    assert found is not None and found.value == pytest.approx(2 * 0.3 - 0.5 * (0.5 + 0.7) / 2)
    assert set(found.cells) == {a.key, b.key, c.key}
    assert effect(results, [Term(1.0, (a,)), Term(-1.0, (planned,))]) is None
    assert effect(results, []) is None


def test_a_score_from_which_nothing_is_subtracted_has_wilsons_interval() -> None:
    """Not that of a change, to which Bonett and Price would add an answer gained and one lost: around 23.5 of 26."""
    results = results_of({("ft", "in", 0, "p1", 0): [1.0] * 23 + [0.0]}, "accuracy")
    found = effect(results, [Term(1.0, results.grid.cells)], null=0.5)
    expected = wilson(23, 24)
    assert found is not None and found.value == pytest.approx(23 / 24)
    assert (found.interval.low, found.interval.high) == pytest.approx((expected.low, expected.high))
    to_half = (expected.low + expected.high) / 2 - 0.5
    assert found.p == pytest.approx(2 * norm.sf(norm.ppf(0.975) * to_half / expected.half_width))
    above_nothing = effect(results, [Term(1.0, results.grid.cells)])
    assert above_nothing is not None and above_nothing.p < 1e-9  # one right answer shows that some are


def test_a_pooled_score_in_a_contrast_is_that_of_the_table() -> None:
    """Two prompts, documents in pairs: the interval of the matrix, with what ten clusters do not know."""
    rng = np.random.default_rng(3)
    scores = {("ft", "in", 0, p, 0): (rng.random(20) < 0.7).astype(float) for p in ("p1", "p2")}
    results = replace(results_of(scores, "accuracy"), clusters={"in": {doc: doc // 2 for doc in range(20)}})
    found = effect(results, [Term(1.0, results.grid.cells)])
    entry = summaries.matrix(results)["ft", "in"].interval
    assert found is not None and found.clusters == 10
    assert (found.interval.low, found.interval.high) == pytest.approx((entry.low, entry.high))
    twice = effect(results, [Term(-0.5, results.grid.cells)])  # on another scale, and turned round
    assert twice is not None and (twice.interval.low, twice.interval.high) == pytest.approx(
        (-entry.high / 2, -entry.low / 2)
    )


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_scores_of_several_sets_add_up_side_by_side(sign: float) -> None:
    """All of 20 right on two sets: nothing is above 1, and the errors below are the sides of a right triangle. So it is
    for the mean, and for one set less another on which all is wrong."""
    right = 1.0 if sign > 0 else 0.0
    scores = {("ft", "in", 0, "p1", 0): np.ones(20), ("ft", "in2", 0, "p1", 0): np.full(20, right)}
    results = results_of(scores, "accuracy")
    found = effect(results, [Term(w, (cell,)) for w, cell in zip((0.5, sign / 2), results.grid.cells, strict=True)])
    below = (1 - wilson(20, 20).low) / sqrt(2)
    value = (1 + sign * right) / 2
    assert found is not None and found.value == pytest.approx(value)
    assert (found.interval.low, found.interval.high) == pytest.approx((value - below, value))


# --- what it rests on -------------------------------------------------------------------------------------------------


def test_asking_the_same_again_is_no_new_evidence() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = rng.random(30), rng.random(30)
    once = results_of({("ft", "in", 0, "p1", 0): ours, ("base", "in", 0, "p1", 0): theirs})
    prompts = [f"p{i}" for i in range(10)]
    often = results_of({(v, "in", 0, p, 0): scores for v, scores in (("ft", ours), ("base", theirs)) for p in prompts})
    a, b = (difference(results, of(results, "ft"), of(results, "base")) for results in (once, often))
    assert a is not None and b is not None and b.n == 30
    assert (a.interval.low, a.interval.high, a.p) == pytest.approx((b.interval.low, b.interval.high, b.p))


def test_no_change_in_four_settings_says_no_more_than_in_one() -> None:
    """A document may change in all four settings: 24 documents bound the change by 11.4 points in both cases."""
    same = [1.0, 0.0] * 12
    settings = [(shots, prompt) for shots in (0, 2) for prompt in ("p1", "p2")]
    once, often = (
        results_of({(v, "in", k, p, 0): same for v in ("ft", "base") for k, p in asked}, "accuracy")
        for asked in (settings[:1], settings)
    )
    for results in (once, often):
        change = difference(results, of(results, "ft"), of(results, "base"))
        assert change is not None and change.p == 1
        assert (change.interval.low, change.interval.high) == pytest.approx((-0.1143, 0.1143), abs=1e-4)


def test_documents_that_hang_together_are_one() -> None:
    """Every document twice, and both known to be one: as if each stood there once."""
    rng = np.random.default_rng(0)
    ours, theirs = rng.random(15), rng.random(15)
    once = results_of({("ft", "in", 0, "p1", 0): ours, ("base", "in", 0, "p1", 0): theirs})
    twice = results_of({("ft", "in", 0, "p1", 0): [*ours, *ours], ("base", "in", 0, "p1", 0): [*theirs, *theirs]})
    twice = replace(twice, clusters={"in": {doc: doc % 15 for doc in range(30)}})
    a, b = (difference(results, of(results, "ft"), of(results, "base")) for results in (once, twice))
    assert a is not None and b is not None
    assert ((a.n, a.clusters), (b.n, b.clusters)) == ((15, 15), (30, 15))
    assert (a.interval.low, a.interval.high, a.p) == pytest.approx((b.interval.low, b.interval.high, b.p))


def by_seed(**means: float) -> Results:
    """Every document changes by nearly the same: all uncertainty is that of the training."""
    shaken = {name: 0.4 + 3 * i * (STEADY - 0.4) for i, name in enumerate(means)}
    cells = {(name, "in", 0, "p1", 0): shaken[name] + mean for name, mean in means.items()}
    return results_of({**cells, ("base", "in", 0, "p1", 0): STEADY})


def test_two_seeds_say_little_however_many_documents() -> None:
    """Changes of 0.2 and 0.4: a variance of 0.02, of their mean 0.01; t is 12.706 with one degree of freedom."""
    results = by_seed(ft=0.2, ft1=0.4)
    one = difference(results, of(results, "ft"), of(results, "base"))
    both = difference(results, of(results, "ft", "ft1"), of(results, "base"))
    assert one is not None and both is not None
    assert one.interval.half_width < 1e-6 and one.is_clear and one.seeds == 1
    assert both.value == pytest.approx(0.3) and both.seeds == 2
    assert both.p == pytest.approx(2 * t.sf(3, 1)) and not both.is_clear
    assert both.interval.low == pytest.approx(0.3 - 1.2706, abs=1e-4)
    assert both.interval.high == 1.0  # no further than scores go
    assert [one.noise_floor, both.noise_floor] == pytest.approx([12.706 * sqrt(2 * 0.02)] * 2, abs=1e-3)


@pytest.mark.parametrize("swapped", [0, 10])
def test_seeds_with_equal_scores_are_not_without_noise(swapped: int) -> None:
    """Two trainings with the same score may differ by what rows can go unseen, and by the rows on which they differ."""
    right = np.repeat([1.0, 0.0], [30, 20])
    other = np.concatenate([right[:swapped][::-1] * 0, right[swapped:30], np.ones(swapped), right[30 + swapped :]])
    assert right.mean() == other.mean() and (right != other).sum() == 2 * swapped
    cells = {("ft", "in", 0, "p1", 0): right, ("ft1", "in", 0, "p1", 0): other, ("base", "in", 0, "p1", 0): right * 0}
    results = results_of(cells, "accuracy")
    change = difference(results, of(results, "ft", "ft1"), of(results, "base"))
    assert change is not None and change.noise_floor is not None
    unseen = 2 / (52 * 51)  # the variance of two changed rows among 50 + 2
    seen = 2 * swapped / 50**2 * 50 / 49
    assert change.noise_floor == pytest.approx(t.ppf(0.975, 51) * sqrt(unseen + seen), rel=1e-3)
    once = difference(results, of(results, "ft"), of(results, "base"))
    assert once is not None and once.noise_floor == pytest.approx(change.noise_floor)


@pytest.mark.parametrize("metric", ["accuracy", "rougeL"])
@pytest.mark.parametrize(("ours", "theirs"), [(1.0, 0.0), (1.0, 1.0), (0.5, 0.25), (0.0, 0.0)])
def test_rows_that_all_score_the_same_do_not_make_an_interval_of_no_width(
    metric: str, ours: float, theirs: float
) -> None:
    if metric == "accuracy" and {ours, theirs} - {0.0, 1.0}:
        return
    cells = {("ft", "in", 0, "p1", 0): np.full(24, ours), ("base", "in", 0, "p1", 0): np.full(24, theirs)}
    results = results_of(cells, metric)
    change = difference(results, of(results, "ft"), of(results, "base"))
    alone = effect(results, [Term(1.0, tuple(of(results, "ft")))])
    for found in (change, alone):
        assert found is not None and found.value in (ours, ours - theirs)
        assert 0.05 < found.interval.half_width < 0.2 and found.mde > 0.05
        assert found.interval.low - 0.03 <= found.value <= found.interval.high + 0.03


def test_recipes_on_the_same_training_set_tell_each_other_how_far_seeds_vary() -> None:
    """A second recipe varies as much: two degrees of freedom, and t is 4.303."""
    results = by_seed(ft=0.2, ft1=0.4, icl=0.1, icl1=0.3)
    change = difference(results, of(results, "ft", "ft1"), of(results, "base"))
    assert change is not None
    assert change.interval.half_width == pytest.approx(4.303 * 0.1, abs=1e-4)
    assert change.noise_floor == pytest.approx(4.303 * 0.2, abs=1e-3)
    # Both recipes vary in the difference between them: twice the variance, the same degrees of freedom.
    gap = difference(results, of(results, "icl", "icl1"), of(results, "ft", "ft1"))
    assert gap is not None and gap.value == pytest.approx(-0.1)
    assert gap.interval.half_width == pytest.approx(4.303 * 0.1 * sqrt(2), abs=1e-4)


def test_seeds_that_happen_to_agree_make_no_one_surer_than_rows_do() -> None:
    rng = np.random.default_rng(1)
    errors = rng.normal(0, 0.1, 40)
    results = results_of(
        {
            ("ft", "in", 0, "p1", 0): 0.5 + errors,
            ("ft1", "in", 0, "p1", 0): 0.5 + errors[::-1],  # the same mean
            ("base", "in", 0, "p1", 0): np.full(40, 0.45),
        }
    )
    change = difference(results, of(results, "ft", "ft1"), of(results, "base"))
    gaps = 0.05 + (errors + errors[::-1]) / 2
    assert change is not None
    assert change.interval.half_width == pytest.approx(t.ppf(0.975, 39) * gaps.std(ddof=1) / sqrt(40))


def rounded(results: Results, variants: Sequence[str], changes: Sequence[float | None]) -> Results:
    """Answers of these variants were rounded; None is a row that was not generated in float32."""
    known = [(0.0, 0.0) if change is None else (1.0, change**2) for change in changes]
    rows = {cell.key: RowStatistics(np.arange(len(known)), np.array(known)) for cell in of(results, *variants)}
    return replace(results, rounding=rows)


def test_what_rounding_alone_changes_is_the_error_of_means_of_rounded_rows() -> None:
    """Six known changes of 0.3 among 24 rows of two cells: each mean is off by 0.3 / sqrt(12), one variant or both."""
    scores = {(name, "in", 0, "p1", 0): spread(mean) for name, mean in (("base", 0.4), ("ft", 0.5))}
    exact, changes = results_of(scores), [0.3, -0.3, 0.3, *[None] * 9]
    for variants, cells in ((("base", "ft"), 2), (("base",), 1)):
        results = rounded(exact, variants, changes)
        found = difference(results, of(results, "ft"), of(results, "base"))
        assert found is not None and found.rounding_floor is not None
        assert found.rounding_floor == pytest.approx(t.ppf(0.975, 3 * cells) * 0.3 * sqrt(cells / 12))
    assert difference(exact, of(exact, "ft"), of(exact, "base")).rounding_floor == 0.0  # type: ignore[union-attr]
    unknown = rounded(exact, ("base", "ft"), [None] * 12)
    assert difference(unknown, of(unknown, "ft"), of(unknown, "base")).rounding_floor is None  # type: ignore[union-attr]
    unchanged = rounded(exact, ("base", "ft"), [0.0, 0.0, *[None] * 10])  # two texts that are equal show no size
    assert difference(unchanged, of(unchanged, "ft"), of(unchanged, "base")).rounding_floor is None  # type: ignore[union-attr]


def test_the_floor_of_rounding_holds_in_simulated_experiments() -> None:
    """Nothing changed but what rounding did: to a third of the texts, by a lot. One row of eight is known."""
    draw, beyond = np.random.default_rng(5), 0
    for _ in range(300):
        moved = {
            (name, shots): draw.normal(0, 0.3, 48) * (draw.random(48) < 0.3)
            for name in ("base", "ft")
            for shots in (0, 1, 2, 4)
        }
        results = results_of({(name, "in", k, "p1", 0): 0.5 + change for (name, k), change in moved.items()})
        known = {
            cell.key: RowStatistics(
                np.arange(48), np.array([(i < 6, (i < 6) * moved[cell.variant, cell.shots][i] ** 2) for i in range(48)])
            )
            for cell in results.grid.cells
        }
        found = difference(replace(results, rounding=known), of(results, "ft"), of(results, "base"))
        assert found is not None and found.rounding_floor is not None
        beyond += abs(found.value) > found.rounding_floor
    assert 0.01 < beyond / 300 < 0.09


def test_an_effect_within_rounding_is_not_called_a_change() -> None:
    clear = an_effect()
    assert (outcome(clear), outcome(replace(clear, rounding_floor=0.09))) == ("higher", "higher")
    assert outcome(replace(clear, rounding_floor=0.11)) == "insufficient evidence"
    assert outcome(replace(clear, rounding_floor=None)) == "higher", "not measured: the page says so"


def test_draws_are_a_level_where_there_are_several() -> None:
    """Changes of 0.1, 0.2, 0.3 with three lists of demonstrations: variance 0.01 / 3, t 4.303. Zero shots have none."""
    cells = {("ft", "in", 2, "p1", draw): np.full(50, 0.5 + draw / 10) for draw in range(3)}
    base = {("base", "in", 2, "p1", draw): STEADY for draw in range(3)}
    results = results_of({**cells, **base})
    change = difference(results, of(results, "ft"), of(results, "base"))
    assert change is not None and change.draws == 3
    assert change.interval.half_width == pytest.approx(4.303 * sqrt(0.01 / 3), abs=1e-4)
    one_list = difference(results, of(results, "ft")[:1], of(results, "base"))
    assert one_list is not None and one_list.draws == 1 and one_list.interval.half_width < 1e-6


def test_draws_of_one_set_say_nothing_of_how_much_those_of_another_matter() -> None:
    """`in` changes by 0.1, 0.2, 0.3 with its draws, four sets by 0.2 with each: of the mean over five the variance is
    0.01 / 3 / 5^2, known with the 2 degrees of freedom of the one set, not the 10 of all: t is 4.303, not 2.228."""
    tests = ("in", "in2", "out", "out2", "far")
    gains = {test: (0.1, 0.2, 0.3) if test == "in" else (0.2, 0.2, 0.2) for test in tests}
    cells = {("ft", test, 2, "p1", d): np.full(50, 0.4 + g) for test in tests for d, g in enumerate(gains[test])}
    results = results_of({**cells, **{("base", test, 2, "p1", d): STEADY for test in tests for d in range(3)}})
    change = difference(results, of(results, "ft"), of(results, "base"))
    assert change is not None and change.draws == 3
    assert change.interval.half_width == pytest.approx(4.303 * sqrt(0.01 / 3) / 5, abs=1e-4)


def test_sets_are_a_level_where_a_term_has_several() -> None:
    """Changes of 0.1 and 0.2 on two sets: variance 0.005 / 2, t 12.706, so 0.635 to either side."""
    cells = {("ft", name, 0, "p1", 0): np.full(50, 0.4 + gain) for name, gain in (("in", 0.1), ("in2", 0.2))}
    base = {("base", name, 0, "p1", 0): STEADY for name in ("in", "in2")}
    results = results_of({**cells, **base})
    change = difference(results, of(results, "ft"), of(results, "base"))
    assert change is not None and change.interval.half_width < 1e-6
    over_sets = change.interval_over_sets
    assert over_sets is not None
    assert (over_sets.low, over_sets.high) == pytest.approx((0.15 - 0.6353, 0.15 + 0.6353), abs=1e-4)
    alone = difference(results, of(results, "ft")[:1], of(results, "base"))
    assert alone is not None and alone.interval_over_sets is None


# --- the contrasts that are asked for ---------------------------------------------------------------------------------


def test_interaction_is_the_change_in_domain_less_that_out_of_domain() -> None:
    gains = {"in": 0.3, "in2": 0.1, "out": 0.05, "out2": -0.15, "far": -0.3}
    results = results_of(
        {
            key: scores
            for name, gain in gains.items()
            for key, scores in (
                (("ft", name, 0, "p1", 0), spread(0.4 + gain)),
                (("base", name, 0, "p1", 0), spread(0.4)),
            )
        }
    )
    found = interaction(results, of(results, "ft"), of(results, "base"))
    assert found is not None and found.value == pytest.approx(0.2 - (-0.05))
    assert set(found.tests) == set(gains) - {"far"}
    assert found.interval_over_sets is not None
    far = interaction(results, of(results, "ft"), of(results, "base"), "cross_task")
    assert far is not None and far.value == pytest.approx(0.2 - (-0.3))
    assert far.interval_over_sets is None  # one cross-task set is no sample of such sets
    ours = [cell for cell in of(results, "ft") if cell.role == "in_domain"]
    assert interaction(results, ours, of(results, "base")) is None


def shots_of(variant: str, scores: Mapping[int, float]) -> dict[tuple[str, str, int, str, int], np.ndarray]:
    return {(variant, "in", k, "p1", 0): spread(score) for k, score in scores.items()}


def test_what_a_demonstration_adds_and_what_is_left_of_it() -> None:
    """The base gains 2 points a demonstration, the variant loses 1: what is left is 3 less."""
    scores = {**shots_of("base", {0: 0.2, 2: 0.24, 4: 0.28}), **shots_of("ft", {0: 0.5, 2: 0.48, 4: 0.46})}
    results = results_of(scores)
    base, ft, left = (
        slope(results, of(results, "base")),
        slope(results, of(results, "ft")),
        slope(results, of(results, "ft"), of(results, "base")),
    )
    assert base is not None and ft is not None and left is not None
    assert (base.value, ft.value, left.value) == pytest.approx((0.02, -0.01, -0.03))
    assert (base.seeds, ft.seeds) == (0, 1)  # the base was not trained here
    assert slope(results, of(results, "ft")[:1]) is None


def test_a_prompt_format_that_lacks_some_shots_bends_no_slope() -> None:
    """Nobody gains from demonstrations. In p2, which has run without them only, the variant is much better."""
    level = {("ft", "p1"): 0.4, ("base", "p1"): 0.4, ("ft", "p2"): 0.9, ("base", "p2"): 0.4}
    asked = [(0, "p1"), (4, "p1"), (0, "p2")]
    results = results_of({(v, "in", k, p, 0): spread(level[v, p]) for v in ("ft", "base") for k, p in asked})
    for found in (slope(results, of(results, "ft")), slope(results, of(results, "ft"), of(results, "base"))):
        assert found is not None and found.value == pytest.approx(0)
        assert not found.is_clear and {key.split()[3] for key in found.cells} == {"p1"}
    without_p1 = [cell for cell in of(results, "ft") if cell.prompt == "p2" or cell.shots == 0]
    assert slope(results, without_p1) is None


def test_prompt_formats_weigh_the_same_in_a_slope_however_many_draws_they_have() -> None:
    """Without demonstrations p1 scores 0.2 and p2 0.8, each gains 0.1 with one. p1 has two draws, p2 one; a third of
    p1, that has not been asked with two demonstrations, is left out."""
    at = {"p1": 0.2, "p2": 0.8}
    cells = [(0, p, 0) for p in at] + [(k, *drawn) for k in (1, 2) for drawn in (("p1", 0), ("p1", 1), ("p2", 0))]
    scores = {("ft", "in", k, p, d): spread(at[p] + k / 10) for k, p, d in cells}
    results = results_of({**scores, ("ft", "in", 1, "p1", 2): spread(0.9)})
    found = slope(results, of(results, "ft"))
    assert found is not None and found.value == pytest.approx(0.1)
    assert set(found.cells) == {f"ft in {k} {p} {d}" for k, p, d in cells}


def test_one_strategy_less_another_by_shots() -> None:
    results = results_of({**shots_of("icl", {0: 0.3, 2: 0.5, 4: 0.6}), **shots_of("ft", {0: 0.4, 2: 0.4})})
    found = by_shots(results, of(results, "icl"), of(results, "ft"))
    assert {shots: change.value for shots, change in found.items()} == pytest.approx({0: -0.1, 2: 0.1})


def test_one_prompt_format_less_another() -> None:
    scores = {("ft", "in", k, p, 0): spread(s) for k, p, s in ((0, "p1", 0.6), (0, "p2", 0.4), (2, "p1", 0.9))}
    results = results_of(scores)
    gap = prompt_gap(results, results.grid.cells)
    assert gap is not None and gap.value == pytest.approx(0.2)
    assert prompt_gap(results, results.grid.cells[2:]) is None


# --- what may be said -------------------------------------------------------------------------------------------------


def an_effect(value: float = 0.1, low: float = 0.05, high: float = 0.15, p: float = 0.01, n: int = 100) -> Effect:
    chance = ((Level(0.03**2, 99),),)
    return Effect(value, Interval(low, high), p, 1, chance, ("a", "b"), n, n, ("in",), 1)


def test_verdicts() -> None:
    assert outcome(an_effect()) == "higher"
    assert outcome(an_effect(-0.1, -0.15, -0.05)) == "lower"
    assert outcome(an_effect(0.1, -0.05, 0.25, 0.2)) == "insufficient evidence"
    assert outcome(None) == "insufficient evidence"
    assert outcome(an_effect(n=9)) == "insufficient evidence"
    assert outcome(replace(an_effect(), clusters=9)) == "insufficient evidence"  # of 100 documents, but 9 components
    assert not replace(an_effect(), clusters=9).is_clear
    assert outcome(replace(an_effect(), p_adjusted=0.08)) == "insufficient evidence"


def test_what_is_claimed_together_is_corrected_together() -> None:
    effects = [an_effect(p=p) for p in (0.01, 0.04, 0.03, 0.005)]
    assert [e.p_adjusted for e in adjusted(effects)] == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert [outcome(e) for e in adjusted(effects)] == ["higher", *["insufficient evidence"] * 2, "higher"]
    assert adjusted([]) == []


def test_the_smallest_effect_is_that_after_the_correction() -> None:
    """Of four compared, Holm asks 1.25 % of the first: t of 99.375 % takes the place of that of 97.5 %."""
    alone, *_ = together = [an_effect(), *adjusted([an_effect()] * 4)]
    assert [effect.compared for effect in together] == [1, 4, 4, 4, 4]
    assert alone.mde == pytest.approx((t.ppf(0.975, 99) + t.ppf(0.8, 99)) * 0.03)
    assert together[1].mde == pytest.approx((t.ppf(0.99375, 99) + t.ppf(0.8, 99)) * 0.03)
    assert replace(alone, chance=()).mde == np.inf  # one seed, of what is one number a training


def test_of_several_ways_to_see_chance_the_least_certain_counts() -> None:
    """Two seeds that agree to within nothing, and 20 rows: what rows say stands."""
    rows, seeds = Level(0.01, 19), Level(1e-8, 1)
    assert replace(an_effect(), chance=((seeds,), (rows,))).mde == replace(an_effect(), chance=((rows,),)).mde


def test_seeds_of_a_mixture_are_no_further_trainings() -> None:
    """Two mixtures that hardly differ would make the spread of trainings look small."""
    rng = np.random.default_rng(5)
    base = rng.uniform(0.2, 0.6, 40)
    moved = {"base": 0.0, "ft": 0.1, "ft1": 0.3, "icl": 0.1, "icl1": 0.1}
    results = results_of({(name, "in", 0, "p1", 0): base + by for name, by in moved.items()})
    variants = [replace(v, made_from=("ft",)) if v.strategy == "fticl" else v for v in results.grid.variants]
    mixed = replace(results, grid=replace(results.grid, variants=tuple(variants)))
    alone = results_of({(name, "in", 0, "p1", 0): base + moved[name] for name in ("base", "ft", "ft1")})

    def floor(made: Results) -> float:
        ours = [cell for cell in made.grid.cells if cell.variant in ("ft", "ft1")]
        effect = difference(made, ours, made.cells_of_base)
        assert effect is not None and effect.noise_floor is not None
        return effect.noise_floor

    assert floor(mixed) == floor(alone) != floor(results)

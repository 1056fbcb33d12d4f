"""Every statistic against a case worked by hand, against scipy, and against what it promises of simulated data."""

from __future__ import annotations

from itertools import product
from math import sqrt

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, bootstrap, norm, t

from spillover.analysis.metrics import METRICS
from spillover.stats import families, intervals, levels, permutation
from spillover.stats.levels import Level

# --- intervals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("successes", "n"), [(0, 1), (0, 24), (12, 24), (24, 24), (3, 250), (125, 250)])
def test_wilson_is_scipys(successes: int, n: int) -> None:
    ours, theirs = intervals.wilson(successes, n), binomtest(successes, n).proportion_ci(0.95, "wilson")
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))


def test_wilson_without_rows_knows_nothing() -> None:
    assert intervals.wilson(0, 0) == intervals.Interval(0.0, 1.0)


def test_counts_are_draws_of_n_rows_and_seeded() -> None:
    counts = intervals.resample_counts(7)
    assert counts.shape == (intervals.DRAWS, 7)
    assert (counts.sum(axis=1) == 7).all()
    assert np.array_equal(counts, intervals.resample_counts.__wrapped__(7))
    assert not np.array_equal(counts, intervals.resample_counts(7, seed=1))


def mean_draws(values: np.ndarray) -> np.ndarray:
    return intervals.replicates(
        np.column_stack([values, np.ones(len(values))]), lambda sums: sums[..., 0] / sums[..., 1]
    )


def test_of_many_rows_the_interval_is_scipys_percentile_bootstrap() -> None:
    values = np.random.default_rng(1).random(400)
    theirs = bootstrap((values,), np.mean, n_resamples=9999, method="percentile", rng=2).confidence_interval
    ours = intervals.percentile_interval(mean_draws(values), 400)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.003)


def test_of_few_rows_more_than_the_middle_95_percent_is_taken() -> None:
    """At 24 rows: sqrt(24 / 23) * 2.0687 = 2.1132 standard deviations of a normal leave out 1.729 % at each end."""
    evenly = np.linspace(0, 1, 100_001)
    assert intervals.percentiles(evenly, 24) == pytest.approx([0.01729, 0.98271], abs=1e-5)
    assert intervals.percentiles(evenly, 10**6) == pytest.approx([0.025, 0.975], abs=1e-5)


def test_an_interval_excludes_zero_beyond_rounding() -> None:
    assert intervals.Interval(0.01, 0.2).excludes_zero
    assert intervals.Interval(-0.2, -0.01).excludes_zero
    assert not intervals.Interval(-0.1, 0.1).excludes_zero
    assert not intervals.Interval(1e-17, 1e-17).excludes_zero


def test_replicates_of_a_corpus_metric_are_its_scores_on_resampled_rows() -> None:
    labels = ("x", "y")
    rng = np.random.default_rng(3)
    said = [{"response": labels[a], "target": labels[b]} for a, b in rng.integers(0, 2, (9, 2))]
    macro_f1 = METRICS["macro_f1"]
    draws = intervals.replicates(macro_f1.statistics(said, labels), macro_f1.score)
    for counts, value in list(zip(intervals.resample_counts(9), draws, strict=True))[:20]:
        resampled = [row for row, times in zip(said, counts, strict=True) for _ in range(int(times))]
        assert macro_f1(resampled, labels) == pytest.approx(value)


def test_many_scores_at_once_are_the_same_as_one_by_one() -> None:
    statistics = np.random.default_rng(4).random((12, 5, 2))
    together = intervals.replicates(statistics, lambda sums: sums[..., 0] / sums[..., 1])
    alone = intervals.replicates(statistics[:, 3], lambda sums: sums[..., 0] / sums[..., 1])
    assert together.shape == (intervals.DRAWS, 5)
    assert together[:, 3] == pytest.approx(alone)


# --- paired tests -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gained", "lost", "p"), [(6, 0, 2 / 64), (3, 1, 2 * (1 + 4) / 16), (0, 0, 1.0), (5, 5, 1.0), (1, 0, 1.0)]
)
def test_mcnemar_by_hand(gained: int, lost: int, p: float) -> None:
    assert permutation.mcnemar(gained, lost) == pytest.approx(p)
    assert permutation.mcnemar([lost, gained], [gained, lost]) == pytest.approx([p, p])


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_scipys_binomial_test(gained: int, lost: int) -> None:
    expected = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert permutation.mcnemar(gained, lost) == pytest.approx(expected)


def test_sign_flip_by_hand() -> None:
    """Of 3 and 1 the sums are 4, 2, -2, -4: two of four are as large as 4, all as large as 2."""
    assert permutation.sign_flip([3, 1]) == pytest.approx(2 / 4)
    assert permutation.sign_flip([3, -1]) == pytest.approx(1.0)
    assert permutation.sign_flip([1, 1, 1, 0, 0]) == pytest.approx(2 / 8)
    assert permutation.sign_flip([0, 0]) == pytest.approx(1.0)
    columns = np.array([[3, 1, 0], [1, 1, 0], [0, 1, 0]])
    assert permutation.sign_flip(columns) == pytest.approx([2 / 4, 2 / 8, 1.0])


@given(st.integers(0, 200), st.integers(0, 200), st.sampled_from([1.0, 1 / 3, 0.1]))
@example(60, 40, 1.0)
def test_of_right_and_wrong_answers_sign_flip_is_mcnemar(gained: int, lost: int, size: float) -> None:
    gaps = size * np.array([1] * gained + [-1] * lost + [0] * 5)
    assert permutation.sign_flip(gaps)[0] == pytest.approx(float(permutation.mcnemar(gained, lost)))


@pytest.mark.parametrize("kind", ["smooth", "multiples", "one large"])
def test_all_ways_are_counted(kind: str) -> None:
    rng = np.random.default_rng(7)
    gaps = {
        "smooth": rng.normal(0.4, 1, 15),
        "multiples": rng.choice([-0.25, 0.25, 0.5, 0.75], 15) / 24,
        "one large": np.append(rng.normal(0, 0.02, 14), 1.0),
    }[kind]
    sums = np.array(list(product([-1, 1], repeat=15))) @ gaps
    exact = np.mean(np.abs(sums) >= abs(gaps.sum()) - 1e-12)
    assert permutation.sign_flip(gaps) == pytest.approx(exact, rel=1e-9 if kind == "multiples" else 0.01)


def of_ones_and_twos(ones: int, twos: int, total: int) -> float:
    """Two-sided p of `total`, from the binomials of how many ones and how many twos are positive."""
    up_ones, up_twos = np.arange(ones + 1), np.arange(twos + 1)
    sums = (2 * up_ones - ones)[:, None] + 2 * (2 * up_twos - twos)
    shares = binom.pmf(up_ones, ones, 0.5)[:, None] * binom.pmf(up_twos, twos, 0.5)
    return float(shares[np.abs(sums) >= total].sum())


@pytest.mark.parametrize("total", [0, 30, 60, 90])
def test_many_multiples_are_counted_as_well(total: int) -> None:
    """150 rows moved by one answer and 150 by two: normal, without a correction for continuity, p would be too low."""
    ones, twos = np.ones(150), np.full(150, 2.0)
    ones[: 75 - total // 2] = -1
    twos[:75] = -2
    gaps = np.concatenate([ones, twos]) / 10
    exact = of_ones_and_twos(150, 150, total)
    assert permutation.sign_flip(gaps)[0] == pytest.approx(exact)
    assert total == 0 or 2 * norm.sf(abs(gaps.sum()) / sqrt((gaps**2).sum())) < exact


def test_more_rows_than_a_float_can_be_halved_are_counted() -> None:
    """2^-1600 is no number."""
    gaps = np.concatenate([np.ones(900), np.full(700, 2.0)])
    gaps[: 450 - 30] = -1
    gaps[900 : 900 + 350] = -2
    assert permutation.sign_flip(gaps)[0] == pytest.approx(of_ones_and_twos(900, 700, 60))


def test_of_multiples_beyond_the_grid_the_normal_limit_is_corrected_for_continuity() -> None:
    """Of 2,000 ones and 4,000 twos a sum of 270: without the correction p is 1.7 % lower than the binomials say."""
    gaps = np.concatenate([np.ones(2000), np.full(4000, 2.0)])
    gaps[: 1000 - 135] = -1
    gaps[2000:4000] = -2
    exact = of_ones_and_twos(2000, 4000, 270)
    assert permutation.sign_flip(gaps)[0] == pytest.approx(exact, rel=0.002)
    assert 2 * norm.sf(270 / sqrt(18000)) < 0.99 * exact


def test_nothing_is_too_seldom_to_be_counted() -> None:
    assert permutation.sign_flip(np.ones(30)) == pytest.approx(2 / 2**30)
    assert permutation.sign_flip(0.1 * np.ones(90)) == pytest.approx(2 / 2**90)


@pytest.mark.parametrize("mean", [0.1, 0.25, 0.4])
def test_of_many_the_normal_limit_is_near_and_to_the_safe_side(mean: float, monkeypatch: pytest.MonkeyPatch) -> None:
    gaps = np.random.default_rng(8).normal(mean, 1, 330)
    limit = permutation.sign_flip(gaps)[0]
    monkeypatch.setattr(permutation, "MANY", 10**6)
    counted = permutation.sign_flip(gaps)[0]
    assert counted * 0.97 < limit < counted * 3
    assert limit == pytest.approx(counted, rel=0.05) or counted < 1e-3


def test_swapping_whole_rows_is_flipping_signs_where_the_score_is_a_mean() -> None:
    rng = np.random.default_rng(2)
    better, same, theirs = (np.column_stack([rng.random(40) + more, np.ones(40)]) for more in (0.1, 0.0, 0.0))
    ours = np.stack([better, same, theirs], axis=1)
    swapped = permutation.swap_test(ours, theirs, lambda sums: sums[..., 0] / sums[..., 1])
    flipped = permutation.sign_flip(ours[:, :2, 0] - theirs[:, :1])
    assert swapped[:2] == pytest.approx(flipped, abs=0.04)
    assert swapped[2] == 1.0


# --- levels -----------------------------------------------------------------------------------------------------------


def test_of_one_level_all_is_students() -> None:
    level = [Level(0.04, 7)]
    assert levels.half_width(level) == pytest.approx(t.ppf(0.975, 7) * 0.2)
    assert levels.p_value(0.5, level) == pytest.approx(2 * t.sf(2.5, 7))
    assert levels.smallest_detectable(level) == pytest.approx((t.ppf(0.975, 7) + t.ppf(0.8, 7)) * 0.2)


def test_half_widths_add_up_as_the_sides_of_a_right_triangle() -> None:
    """t is 12.706 for one degree of freedom and 1.960 for very many: sqrt(12.706^2 * 1 + 1.960^2 * 4) = 13.297."""
    several = [Level(1.0, 1), Level(4.0, 1e9)]
    assert levels.half_width(several) == pytest.approx(13.297, abs=1e-3)
    assert levels.p_value(13.297, several) == pytest.approx(0.05, abs=1e-4)


variances = st.floats(1e-6, 1.0)
dfs = st.integers(1, 300)


@given(st.lists(st.tuples(variances, dfs), min_size=1, max_size=4), st.floats(0.01, 3.0))
def test_p_is_where_the_interval_just_reaches_zero(given_levels: list[tuple[float, int]], value: float) -> None:
    several = [Level(*pair) for pair in given_levels]
    p = levels.p_value(value, several)
    assert p == levels.p_value(-value, several)
    if p > 1e-9:
        assert levels.half_width(several, 1 - p) == pytest.approx(value, rel=1e-4)


def test_without_any_variance_only_zero_is_possible() -> None:
    assert levels.p_value(0.0, [Level(0.0, 5)]) == 1.0
    assert levels.p_value(0.1, [Level(0.0, 5)]) == 0.0


def test_the_change_of_answers_that_are_right_or_wrong() -> None:
    """3 of 8 gained, 1 lost: with one more of each, 4 and 2 of 10. Bonett and Price's variance is (0.4 + 0.2 - 0.2^2)
    / 10 = 0.056; 10 / 9 of it estimates it without bias."""
    change = levels.mean_change(np.array([1, 1, 1, -1, 0, 0, 0, 0.0])[:, None], right_or_wrong=True)
    assert change.centre == pytest.approx([0.2])
    assert change.variance == pytest.approx([0.056 * 10 / 9])
    assert change.df == 9


def test_the_change_of_a_smooth_score_is_students() -> None:
    values = np.array([0.1, 0.3, 0.2, 0.4])
    change = levels.mean_change(values[:, None])
    assert change.centre == pytest.approx([0.25])
    assert change.variance == pytest.approx([np.var(values, ddof=1) / 4])
    assert change.df == 3


@pytest.mark.parametrize("right_or_wrong", [True, False])
def test_no_change_among_few_rows_is_not_certainty(right_or_wrong: bool) -> None:
    """Two changed answers among 24 + 2: the squares add up to 2, over 26 * 25."""
    change = levels.mean_change(np.zeros((24, 1)), right_or_wrong=right_or_wrong)
    assert change.centre == 0
    assert change.variance == pytest.approx([2 / (26 * 25)])


def test_the_same_change_of_all_rows_is_not_certainty() -> None:
    """As no change at all: two more rows, a full change above and below what is common to the others."""
    change = levels.mean_change(np.full((24, 1), 0.2))
    assert change.centre == pytest.approx([0.2])
    assert change.variance == pytest.approx([2 / (26 * 25)])


def test_rows_that_hang_together_are_one() -> None:
    """Two clusters of two, mean 0.5: they deviate by 1 and -1, so 2 / 4^2 * 2 / 1. As single rows: 1 / 4^2 * 4 / 3."""
    values = np.array([1, 1, 0, 0.0])[:, None]
    together = levels.mean_change(values, np.array([0, 0, 1, 1]))
    assert (together.variance[0], together.df) == pytest.approx((0.25, 1))
    assert levels.mean_change(values).variance == pytest.approx([1 / 12])


def test_unequal_clusters_are_worth_fewer() -> None:
    """(3 + 1 + 1 + 1)^2 / (9 + 1 + 1 + 1) = 3 equal clusters."""
    assert levels.mean_change(np.arange(6.0)[:, None], np.array([0, 0, 0, 1, 2, 3])).df == pytest.approx(2)


def test_how_many_independent_answers_a_proportion_is_worth() -> None:
    """Where answers hang together the variance is estimated: of 4 documents half of which are right it is 4 * 0.25 /
    4^2 * 4 / 3 = 1 / 12, worth 3 answers and known with 3 degrees of freedom; of two pairs 2 * 1 / 4^2 * 2 / 1 = 1 / 4,
    worth one and known with 1."""
    ones = np.ones(4)
    half = np.array([1, 1, 0, 0.0])
    z, at = t.ppf(0.975, np.inf), {df: t.ppf(0.975, df) for df in (1, 3)}
    assert levels.effective_rows(half, ones) == (4, np.inf)
    assert levels.effective_rows(half, 3 * ones) == pytest.approx((3 * (z / at[3]) ** 2, 3))  # thrice the same answer
    assert levels.effective_rows(half, ones, np.array([0, 0, 1, 1])) == pytest.approx(((z / at[1]) ** 2, 1))
    # All right, or no document differs: no more than there are documents, however many answers.
    assert levels.effective_rows(ones, 3 * ones) == pytest.approx((4 * (z / at[3]) ** 2, 3))
    assert levels.effective_rows(np.full(4, 0.5), 2 * ones) == pytest.approx((4 * (z / at[3]) ** 2, 3))
    assert levels.effective_rows(ones, ones, np.array([0, 0, 1, 1])) == pytest.approx((2 * (z / at[1]) ** 2, 1))


@pytest.mark.parametrize(("clusters", "size"), [(8, 10), (20, 3)])
def test_coverage_of_wilsons_interval_where_documents_hang_together(clusters: int, size: int) -> None:
    """Documents of a cluster share how hard they are. Wilson's interval with the plain effective number, without what
    few clusters do not know, would hold the truth too seldom."""
    rng = np.random.default_rng(6)
    codes, ones = np.repeat(np.arange(clusters), size), np.ones(clusters * size)
    held, held_plainly = [], []
    for _ in range(1500):
        right = (rng.random(len(codes)) < np.repeat(rng.beta(1.4, 0.6, clusters), size)).astype(float)
        n, _ = levels.effective_rows(right, ones, codes)
        p = right.mean()
        deviations = np.bincount(codes, right - p)
        plain = p * (1 - p) * len(codes) ** 2 / (deviations**2).sum() if 0 < p < 1 else clusters
        for found, worth in ((held, n), (held_plainly, min(plain, len(codes)))):
            interval = intervals.wilson(worth * p, worth)
            found.append(interval.low <= 0.7 <= interval.high)
    assert np.mean(held_plainly) < 0.935 < np.mean(held)


def test_what_seeds_add_and_what_rows_have_of_it() -> None:
    """Totals 4 and 8: 2 / 1 * (2^2 + 2^2) = 16. Without what seeds and rows have in common, four times 0.5 is left:
    2 * 2 / (1 * 1) * 4 * 0.25 = 4."""
    assert levels.unit_variance(np.array([[1, 3], [2, 6.0]]), np.ones(2)) == pytest.approx((16, 4))


def test_seeds_that_are_alike_on_every_row_leave_nothing_to_the_rows() -> None:
    sizes = np.array([1, 2, 5])
    parts = np.outer([0.1, 0.3, 0.2], sizes)
    assert levels.unit_variance(parts, sizes)[1] == pytest.approx(0)


def test_the_noise_floor() -> None:
    assert levels.floor(levels.Level(4.0, 3)) == pytest.approx(t.ppf(0.975, 3) * 2)


def test_slope_weights_by_hand() -> None:
    assert levels.slope_weights([0, 2, 4]) == pytest.approx([-0.25, 0, 0.25])
    assert levels.slope_weights([1, 2, 4, 5]) @ [3, 5, 9, 11] == pytest.approx(2)


# --- families ---------------------------------------------------------------------------------------------------------


def test_holm_by_hand() -> None:
    """0.005 * 4, 0.01 * 3, 0.03 * 2, and 0.04 * 1, which may not fall below the one before it."""
    assert families.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert families.holm([0.9, 0.8]) == pytest.approx([1, 1])
    assert len(families.holm([])) == 0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_keeps_order_and_is_no_stricter_than_bonferroni(p: list[float]) -> None:
    adjusted = families.holm(p)
    assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0).all()
    assert (adjusted >= p).all() and (adjusted <= np.minimum(1.0, len(p) * np.array(p)) + 1e-12).all()


# --- what is promised -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("changed", "plain_coverage"), [(0.08, 0.88), (0.15, 0.92), (0.4, 0.96)])
def test_coverage_at_24_rows_of_right_and_wrong(changed: float, plain_coverage: float) -> None:
    """A share of the rows changed, twice as often for the better. The interval holds the truth at least as often as it
    says; Student's would not where few change."""
    rng = np.random.default_rng(5)
    gaps = rng.choice([1.0, -1.0, 0.0], p=[changed * 2 / 3, changed / 3, 1 - changed], size=(24, 3000))
    change = levels.mean_change(gaps, right_or_wrong=True)
    half = np.sqrt(change.variance) * levels.half_width([Level(1.0, change.df)])
    plain = gaps.std(axis=0, ddof=1) / sqrt(24) * levels.half_width([Level(1.0, 23)])
    assert np.mean(np.abs(change.centre - changed / 3) <= half) > 0.945
    assert np.mean(np.abs(gaps.mean(axis=0) - changed / 3) <= plain) < plain_coverage


SETTINGS = 4  # as two numbers of shots x two prompt formats


def documents_in_settings(rng: np.random.Generator, single: float, all_at_once: float, rows: int) -> np.ndarray:
    """Mean changes of documents, (rows, 3000), each asked in SETTINGS settings.

    In a share `single` of the documents one answer changes, for the better as often as for the worse; in a share
    `all_at_once` all answers change together, for the better. The true mean change is `all_at_once`.
    """
    chances = [single / 2, single / 2, all_at_once, 1 - single - all_at_once]
    return rng.choice([1 / SETTINGS, -1 / SETTINGS, 1.0, 0.0], p=chances, size=(rows, 3000))


@pytest.mark.parametrize("rows", [24, 60, 250])
@pytest.mark.parametrize(
    ("single", "all_at_once"), [(0.0, 0.02), (0.0, 0.05), (0.0, 0.1), (0.04, 0.06), (0.06, 0.04), (0.2, 0.05)]
)
def test_coverage_where_settings_change_together(rows: int, single: float, all_at_once: float) -> None:
    """A document may change in all its settings at once, although none or only single answers were seen to change."""
    gaps = documents_in_settings(np.random.default_rng(5), single, all_at_once, rows)
    change = levels.mean_change(gaps, right_or_wrong=True)
    half = np.sqrt(change.variance) * levels.half_width([Level(1.0, change.df)])
    assert np.mean(np.abs(change.centre - all_at_once) <= half) > 0.93


def test_the_size_of_single_changes_is_no_bound() -> None:
    """If the added rows had the size of the changes seen, or of one answer if none was seen, 3 of 10 would be wrong."""
    gaps = documents_in_settings(np.random.default_rng(5), 0.0, 0.05, 24)
    moved = (gaps != 0).sum(axis=0)
    size = np.where(moved > 0, np.sqrt((gaps**2).sum(axis=0) / np.maximum(moved, 1)), 1 / SETTINGS)
    padded = np.vstack([gaps, size, -size])
    half = padded.std(axis=0, ddof=1) / sqrt(26) * levels.half_width([Level(1.0, 25)])
    assert np.mean(np.abs(padded.mean(axis=0) - 0.05) <= half) < 0.75


def test_coverage_of_texts_of_which_few_change() -> None:
    """A tenth of 60 texts changed by 0.2 on average: Student's interval alone would contain the truth less often."""
    rng = np.random.default_rng(5)
    gaps = (rng.random((60, 3000)) < 0.1) * rng.normal(0.2, 0.1, (60, 3000))
    change = levels.mean_change(gaps)
    half = np.sqrt(change.variance) * levels.half_width([Level(1.0, change.df)])
    student = gaps.std(axis=0, ddof=1) / sqrt(60) * levels.half_width([Level(1.0, 59)])
    assert np.mean(np.abs(gaps.mean(axis=0) - 0.02) <= student) < 0.92
    assert np.mean(np.abs(change.centre - 0.02) <= half) > 0.93


def test_coverage_of_the_bootstrap_at_12_rows() -> None:
    rng = np.random.default_rng(5)
    samples = [rng.normal(size=12) for _ in range(600)]
    ends = [intervals.percentiles(mean_draws(values), 12) for values in samples]
    plain = [np.quantile(mean_draws(values), [0.025, 0.975]) for values in samples]
    coverage, too_low = (np.mean([low <= 0 <= high for low, high in found]) for found in (ends, plain))
    assert too_low < 0.93 < coverage < 0.97

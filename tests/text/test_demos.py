"""Demonstrations: nested over shot counts, balanced, drawn by seed, and never scored."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillover.text.demos import RESERVED, mostly_reordered, order, pool_and_rows
from spillover.text.prompt import render
from spillover.text.task import FIVE, Example

SENTIMENT, SUMMARY = FIVE["sentiment"], FIVE["summarisation"]


def rows(count: int, first: int = 0) -> tuple[Example, ...]:
    """Three positive rows to a negative one."""
    return tuple(
        Example(i, {"input": f"Text {i}."}, "negative" if i % 4 == 3 else "positive")
        for i in range(first, first + count)
    )


def ids(examples: tuple[Example, ...]) -> list[int]:
    return [example.doc_id for example in examples]


def test_first_keeps_the_order_of_the_list() -> None:
    assert order(rows(6), SENTIMENT, "first", draw=0) == rows(6)


def test_draws_of_most_of_a_pool_are_mostly_the_same_in_another_order() -> None:
    """Two draws of k from a pool of p share k^2 / p on average: over half of k where k is over half of p."""
    draws = [set(ids(order(rows(8), SENTIMENT, "first", draw)[:6])) for draw in range(1, 41)]
    shared = [len(one & other) for one, other in pairwise(draws)]
    assert sum(shared) / len(shared) == pytest.approx(36 / 8, abs=0.25)
    assert mostly_reordered(8, [0, 2, 4, 6, 8], draws=3) == [6, 8]
    assert mostly_reordered(4, [0, 1, 2, 4], draws=3) == [4]
    assert mostly_reordered(8, [0, 2, 4, 6, 8], draws=1) == []


@pytest.mark.parametrize("pick", ["first", "balanced"])
def test_a_draw_shuffles_by_its_seed(pick: str) -> None:
    one, again, other = (order(rows(12), SENTIMENT, pick, draw) for draw in (1, 1, 2))  # type: ignore[arg-type]
    assert one == again
    assert one != other
    assert sorted(ids(one)) == sorted(ids(other)) == list(range(12)), "nothing is lost"


def test_balanced_deals_the_labels_out_in_turn() -> None:
    dealt = order(rows(16), SENTIMENT, "balanced", draw=0)
    assert [example.target for example in dealt[:8]] == ["positive", "negative"] * 4
    assert sorted(ids(dealt)) == list(range(16)), "where a label has run out the others go on"
    assert {example.target for example in dealt[8:]} == {"positive"}


@given(st.integers(0, 30), st.integers(0, 5), st.integers(2, 8).map(lambda k: k * 2))
def test_balanced_at_every_shot_count(count: int, draw: int, shots: int) -> None:
    """Any k demonstrations hold the labels in equal number, as far as there are rows of each."""
    pool = rows(count)
    there = Counter(example.target for example in pool)
    dealt = Counter(example.target for example in order(pool, SENTIMENT, "balanced", draw)[:shots])
    if min(there["positive"], there["negative"]) >= shots // 2:
        assert dealt == {"positive": shots // 2, "negative": shots // 2}
    assert dealt.total() == min(shots, count)


def test_balanced_of_a_task_without_labels_is_a_draw() -> None:
    pool = rows(8)
    assert order(pool, SUMMARY, "balanced", 3) == order(pool, SUMMARY, "first", 3) != pool


def test_shot_counts_nest_so_that_prompts_share_their_beginning() -> None:
    fmt, row = SENTIMENT.prompts["p1"], rows(1, first=99)[0]
    dealt = order(rows(16), SENTIMENT, "balanced", draw=0)
    shown = [render(fmt, dealt[:k], row).removesuffix(render(fmt, [], row)) for k in (0, 2, 4, 6)]
    assert all(longer.startswith(shorter) for shorter, longer in pairwise(shown))
    assert len(set(shown)) == 4


def test_a_list_of_its_own_is_the_pool() -> None:
    """The rows stay whole, but for those that stand in the list too, whatever their case and white space."""
    own = (*rows(3, first=100), Example(0, {"input": "text  4. "}, "positive"))
    pool, kept, left_out = pool_and_rows(rows(10), own, limit=None)
    assert pool == own
    assert ids(kept) == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert left_out == 1


def test_a_row_is_left_out_whatever_its_label() -> None:
    own = (Example(0, {"input": "Text 1."}, "negative"),)
    assert rows(2)[1].target == "positive"
    assert pool_and_rows(rows(2), own, None)[1:] == (rows(1), 1)


def test_the_limit_comes_before_what_is_left_out() -> None:
    """The rows of a smaller limit are among those of a larger one, so that a larger limit reuses them."""
    own = rows(2)
    assert [ids(pool_and_rows(rows(10), own, limit)[1]) for limit in (1, 4, 6)] == [[], [2, 3], [2, 3, 4, 5]]


@pytest.mark.parametrize("limit", [1, 10, 24, None])
def test_without_a_list_the_pool_is_the_end_of_the_set_whatever_the_limit(limit: int | None) -> None:
    pool, kept, left_out = pool_and_rows(rows(40), (), limit)
    assert ids(pool) == list(range(40 - RESERVED, 40))
    assert ids(kept) == list(range(24))[:limit]
    assert left_out == 0


def test_a_small_set_keeps_half_of_its_rows_to_score() -> None:
    pool, kept, _ = pool_and_rows(rows(9), (), None)
    assert ids(pool) == [5, 6, 7, 8]
    assert ids(kept) == [0, 1, 2, 3, 4]


def test_a_row_that_says_the_same_as_a_demonstration_is_not_scored() -> None:
    twice = (*rows(30), Example(30, {"input": "Text 2."}, "positive"))
    pool, kept, left_out = pool_and_rows(twice, (), None)
    assert 30 in ids(pool)
    assert 2 not in ids(kept)
    assert left_out == 1


def test_where_nothing_is_shown_nothing_is_reserved() -> None:
    assert pool_and_rows(rows(20), (), 18, reserve=0) == ((), rows(18), 0)


@pytest.mark.parametrize(("own", "shown", "among"), [(rows(3), [0, 1, 2], 3), ((), [5, 6, 7, 8], 1)])
def test_the_study_scores_demonstrations_all_the_same(own: tuple[Example, ...], shown: list[int], among: int) -> None:
    """The first rows whatever they are; how many of them are demonstrations is told."""
    pool, kept, too = pool_and_rows(rows(9), own, 6, score_demos=True)
    assert (ids(pool), ids(kept), too) == (shown, [0, 1, 2, 3, 4, 5], among)


@given(st.integers(0, 60), st.integers(0, 10), st.none() | st.integers(1, 70))
def test_no_demonstration_is_scored(count: int, own: int, limit: int | None) -> None:
    pool, kept, left_out = pool_and_rows(rows(count), rows(own, first=5), limit)
    assert not {example.content for example in pool} & {example.content for example in kept}
    within = count if own else count - len(pool)
    assert len(kept) + left_out == (within if limit is None else min(limit, within))

"""Requests and the count of an engine's work."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from spillover.engine import port
from spillover.engine.port import Answer, Work
from spillover.text.request import Request


def test_only_the_seconds_until_an_answer_is_there_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(port.time, "perf_counter", lambda: now)

    def answers() -> Iterator[tuple[int, Answer]]:
        nonlocal now
        for number in range(3):
            now += 2.0
            yield number, Answer((), number)
        now += 1.0

    work = Work()
    for number, _ in work.timed(answers()):
        assert work.seconds == 2.0 * (number + 1)
        now += 100.0  # what the caller does with the answer
    assert work.seconds == 7.0


@pytest.mark.parametrize(
    ("options", "limit", "top", "generates"),
    [
        ((), 5, 1, True),
        ((), 0, 1, False),
        (((1, 2), (3,)), 5, 1, False),
        (((1, 2), (3,)), 5, 2, True),
        (((1, 2), (3,)), 0, 2, False),
    ],
)
def test_a_request_with_options_generates_only_if_none_begins_with_the_top_token(
    options: tuple[tuple[int, ...], ...], limit: int, top: int, generates: bool
) -> None:
    assert Request((9, 9), options, limit).generates(top) is generates


def test_a_request_reaches_to_the_end_of_its_longest_answer() -> None:
    assert Request((9, 9), ((1,), (1, 2, 3)), 2).reach == 5
    assert Request((9, 9), ((1,),), 4).reach == 6

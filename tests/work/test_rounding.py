"""Decisions that rounding could have made: which rows are answered again in float32, and what is kept of them."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from spillover.engine.port import Answer, Work
from spillover.text.request import Request, StopRule
from spillover.work.rounding import (
    CHECKED_ROWS,
    FIRST_ROWS,
    FREE,
    SIGMAS,
    TEXT,
    UNMEASURED,
    WHOLE,
    Rounding,
    Settled,
    _margins,
    as_recorded,
    moved,
)

LABELS = ("positive", "negative")
ENCODER: Any = SimpleNamespace(
    decode=lambda ids: "".join({1: "\n", 2: '"', 3: "pos", 4: "positive", 5: "The"}[i] for i in ids)
)


class Float32:
    """An engine that knows the exact answers, by prompt."""

    def __init__(self, answers: Sequence[Answer]) -> None:
        self.answers, self.work, self.asked = answers, Work(), list[int]()
        self.requests: list[Request] = []

    def run(self, requests: Sequence[Request], stop: StopRule) -> Iterator[tuple[int, Answer]]:
        """Yield (index, answer), the last first."""
        self.requests += requests
        for number, request in reversed(list(enumerate(requests))):
            self.asked.append(request.prompt[0])
            yield number, self.answers[request.prompt[0]]


def rows(count: int, noise: float, seed: int = 0) -> tuple[list[Request], list[Answer], list[Answer]]:
    """Requests with two labels of one token, the exact answers and the rounded ones. Margins are evenly spread."""
    random_of = random.Random(seed)
    requests = [Request((number,), ((8,), (9,))) for number in range(count)]
    margins = [random_of.uniform(-2, 2) for _ in requests]
    exact = [Answer(((-1.0 + margin,), (-1.0,)), 8, leads=(1.0,)) for margin in margins]
    rounded = [Answer(((-1.0 + margin + random_of.gauss(0, noise),), (-1.0,)), 8, leads=(1.0,)) for margin in margins]
    return requests, exact, rounded


def settle(
    requests: Sequence[Request], exact: Sequence[Answer], rounded: Sequence[Answer], rounding: Rounding | None = None
) -> tuple[Settled, Float32]:
    engine = Float32(exact)
    rounding = rounding or Rounding(lambda: engine)
    return rounding.settle(ENCODER, [LABELS] * len(requests), requests, rounded, [], lambda ids: False), engine


def positive(answer: Answer) -> bool:
    return answer.logprobs[0][0] > answer.logprobs[1][0]


@pytest.mark.parametrize("noise", [0.003, 0.03, 0.1])
def test_every_decision_is_that_of_float32_and_few_rows_are_answered_twice(noise: float) -> None:
    requests, exact, rounded = rows(400, noise)
    settled, engine = settle(requests, exact, rounded)
    assert any(positive(a) != positive(b) for a, b in zip(exact, rounded, strict=True)) or noise < 0.01
    kept = [settled.exact.get(number, answer) for number, answer in enumerate(rounded)]
    assert [positive(a) for a in kept] == [positive(a) for a in exact]
    assert len(engine.asked) == len(set(engine.asked)) == len(settled.exact) < 120
    assert SIGMAS * noise * 0.8 < settled.thresholds[WHOLE] < SIGMAS * noise * 2, "measured, with its own doubt on top"


def test_a_row_below_the_threshold_is_always_among_those_answered_again() -> None:
    requests, exact, rounded = rows(300, 0.05)
    settled, _ = settle(requests, exact, rounded)
    for number, answer in enumerate(rounded):
        close = abs(answer.logprobs[0][0] - answer.logprobs[1][0]) < settled.thresholds[WHOLE]
        assert number in settled.exact or not close


def test_what_was_learnt_makes_the_first_look_small_and_is_corrected_where_it_does_not_hold() -> None:
    quiet, loud = rows(60, 0.01), rows(400, 0.2, seed=1)
    first, _ = settle(*quiet)
    assert len(first.exact) >= FIRST_ROWS
    rounding = Rounding(lambda: Float32(loud[1]))
    rounding.learn({"prompt_hash": str(n), "moved": own} for n, own in first.moved.items())
    settled, _ = settle(*loud, rounding)
    kept = [settled.exact.get(number, answer) for number, answer in enumerate(loud[2])]
    assert [positive(a) for a in kept] == [positive(a) for a in loud[1]]
    assert settled.thresholds[WHOLE] > 0.5
    rounding = Rounding(lambda: Float32(quiet[1]))
    rounding.learn({"prompt_hash": str(n), "moved": own} for n, own in first.moved.items())
    again, _ = settle(*quiet, rounding)
    assert CHECKED_ROWS <= len(again.exact) < len(first.exact)


def test_the_order_in_which_rows_were_learnt_changes_no_threshold() -> None:
    """A run that was killed reads them from the store, in another order."""
    requests, exact, rounded = rows(60, 0.05)
    of_first = settle(*rows(200, 0.05, seed=2))[0].moved
    found = []
    for some in (list(of_first.items()), list(of_first.items())[::-1]):
        rounding = Rounding(lambda: Float32(exact))
        rounding.learn({"prompt_hash": str(n), "moved": own} for n, own in some)
        found.append(settle(requests, exact, rounded, rounding)[0])
    assert found[0].thresholds == found[1].thresholds
    assert found[0].exact == found[1].exact


def test_without_memory_for_float32_close_rows_are_counted_and_answers_stay() -> None:
    requests, exact, rounded = rows(100, 0.1)
    settled, _ = settle(requests, exact, rounded, Rounding(lambda: None))
    close = {n for n, a in enumerate(rounded) if abs(a.logprobs[0][0] - a.logprobs[1][0]) < UNMEASURED}
    assert settled.undecided == close and close
    assert settled.exact == {}


def test_the_float32_model_is_loaded_once_and_only_if_there_is_something_to_decide() -> None:
    loads: list[int] = []
    requests, exact, rounded = rows(40, 0.1)

    def load() -> Any:
        loads.append(1)
        return Float32(exact)

    rounding = Rounding(load)
    settle([], [], [], rounding)
    assert loads == []
    settle(requests, exact, rounded, rounding)
    settle(requests, exact, rounded, rounding)
    assert loads == [1]


def test_labels_that_share_their_first_token_have_no_margin_of_it() -> None:
    request = Request((1,), ((7, 8), (7, 9)), 4)
    answer = Answer(((-1.0, -0.5), (-1.0, -2.0)), 7, leads=(2.0,))
    assert _margins(ENCODER, LABELS, request, answer) == {WHOLE: 1.5, "per_token": 0.75, FREE: 2.0}


@pytest.mark.parametrize(
    ("generated", "leads", "margin"),
    [
        (None, (0.3,), 0.3),  # the first token begins a label
        ((5, 1), (0.3, 0.1), 0.3),  # "The": whatever follows, it is no label
        ((1, 5), (0.3, 0.1, 0.0), 0.1),  # a line break, then "The": both steps decide
        ((1, 4, 5), (0.3, 0.2, 0.0), 0.2),  # a line break, then the label in another token
        ((2, 3, 5), (0.9, 0.8, 0.7, 0.05), 0.05),  # '"pos' is a label only if the next tokens go on so
    ],
)
def test_the_margin_of_a_models_own_text(
    generated: tuple[int, ...] | None, leads: tuple[float, ...], margin: float
) -> None:
    request = Request((1,), ((7,), (9,)), 5, beginnings=(1, 2, 3, 4))
    top = generated[0] if generated else 7
    answer = Answer(((-1.0,), (-9.0,)), top, generated, leads=leads)
    assert _margins(ENCODER, LABELS, request, answer)[FREE] == margin


def test_errors_of_texts_are_those_of_the_steps_with_the_same_text_before() -> None:
    request = Request((1,), (), 5)
    rounded = Answer((), 5, (5, 6, 7), leads=(1.0, 0.2, 3.0))
    same = moved(request, rounded, replace(rounded, leads=(1.1, 0.3, 3.1)))
    assert same[TEXT] == pytest.approx(0.1)
    other = moved(request, rounded, Answer((), 5, (5, 8, 9), leads=(1.0, 0.1, 9.0)))
    assert other[TEXT] == pytest.approx(math.sqrt((0.0 + 0.3**2) / 2)), "the other token leads by 0.1 there"


def test_the_error_of_a_models_own_text_is_that_of_close_first_steps() -> None:
    """Far rivals are in the tail of the distribution, where errors are larger than those of close decisions."""
    request = Request((1,), ((8,), (9,)), 5, beginnings=(1,))
    near, far = (Answer(((-1.0,), (-2.0,)), 5, (5, 6), leads=(lead, 15.0)) for lead in (0.3, 9.0))
    assert moved(request, near, replace(near, leads=(0.4, 17.0)))[FREE] == pytest.approx(0.1)
    assert FREE not in moved(request, far, replace(far, leads=(10.0, 17.0)))


def test_a_greedy_token_that_begins_another_label_leads_for_the_same_decision() -> None:
    """Both precisions say that the text begins a label; which one it is, the labels' scores decide."""
    request = Request((1,), ((8,), (9,)), 5, beginnings=(1,))
    rounded = Answer(((-1.0,), (-1.01,)), 8, leads=(1.5,))
    other_label = Answer(((-1.02,), (-1.0,)), 9, leads=(1.48,))
    assert moved(request, rounded, other_label)[FREE] == pytest.approx(0.02)
    no_label = Answer(((-1.0,), (-1.01,)), 5, (5,), leads=(0.1,))
    assert moved(request, rounded, no_label)[FREE] == pytest.approx(1.6), "the other side leads"
    said, same = Answer(rounded.logprobs, 5, (5,), leads=(1.5,)), Answer(rounded.logprobs, 6, (6,), leads=(1.45,))
    assert moved(request, said, same)[FREE] == pytest.approx(0.05), "neither begins a label"


def test_a_models_own_text_is_generated_again_only_where_it_is_close() -> None:
    """The labels are close in every row; the first token begins none, clearly or hardly so."""
    requests = [Request((n,), ((8,), (9,)), 5, beginnings=(1,)) for n in range(2 * FIRST_ROWS)]
    answers = [Answer(((-3.0,), (-3.01,)), 5, (5, 6), leads=(0.05 if n % 2 else 1.5,)) for n in range(len(requests))]
    exact = [replace(answer, top=4, generated=(4, 4), leads=(answer.leads[0] + 0.02,)) for answer in answers]
    engine = Float32(exact)
    rounding = Rounding(lambda: engine)
    rounding.learn({"prompt_hash": str(n), "moved": {WHOLE: 0.02, FREE: 0.02}} for n in range(9))
    settled, _ = settle(requests, exact, answers, rounding)
    assert set(settled.exact) == set(range(len(requests)))
    texts = {n: answer.generated for n, answer in settled.exact.items()}
    assert texts == {n: (4, 4) if n % 2 else (5, 6) for n in texts}
    assert all(request.max_new_tokens == (5 if request.prompt[0] % 2 else 0) for request in engine.requests)


def test_near_ties_of_texts_are_counted_by_what_was_measured() -> None:
    requests = [Request((number,), (), 5) for number in range(3)]
    rounded = [Answer((), 5, (5, 6), leads=(1.0, 0.02 * number)) for number in range(3)]
    exact = [replace(answer, leads=(1.01, answer.leads[1] + 0.01)) for answer in rounded]
    engine = Float32(exact)
    settled = Rounding(lambda: engine).settle(ENCODER, [()] * 3, requests, rounded, [1, 2], lambda ids: False)
    assert sorted(engine.asked) == [1, 2]
    assert settled.thresholds[TEXT] == pytest.approx(SIGMAS * 0.01, rel=1e-3)
    assert settled.near_ties == {0: 1, 1: 1, 2: 0}


def test_the_receipt_counts_what_rounding_did() -> None:
    kept = [{"moved": {WHOLE: 0.3}}, {"moved": {WHOLE: 0.4}}, {"near_ties": 2}, {"undecided": True}]
    recorded = as_recorded(kept, {WHOLE: 1.23456789})
    assert recorded["noise"] == {WHOLE: pytest.approx(math.sqrt(0.125), abs=1e-6)}
    assert (recorded["again"], recorded["undecided"], recorded["near_ties"]) == (2, 1, 2)
    assert recorded["thresholds"] == {WHOLE: 1.234568}


def test_options_are_decided_per_character_and_per_byte_too() -> None:
    """The whole decides clearly here; per character the lead is small, and rounding moves it."""
    request = Request((0,), ((8,), (9,)), lengths=((2, 4), (2, 5)))
    exact, rounded = (Answer(((-first,), (-4.0,)), 8, leads=(1.0,)) for first in (2.01, 1.99))
    found = moved(request, rounded, exact)
    assert {"whole", "per_character", "per_byte"} <= found.keys()
    assert found["per_character"] == pytest.approx(0.02 * 3 / 2)  # in nats of an option of mean length
    engine = Float32([exact])
    settled = Rounding(lambda: engine).settle(ENCODER, [LABELS], [request], [rounded], [], lambda ids: False)
    assert settled.exact == {0: exact}

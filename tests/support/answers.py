"""Requests for tiny models, and what it means that two engines answer them alike."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from spillover.engine.port import Answer
from spillover.text.request import Request

LOGPROB_TOLERANCE = 1e-4
NEAR_TIE = 1e-3  # between plain's two best logits: either may come out on top


def repeats_itself(generated: Sequence[int]) -> bool:
    """A stop rule that ends some rows early and not others."""
    return len(generated) > 3 and generated[-1] == generated[-2]


@torch.inference_mode()
def steps_to_compare(plain: Any, request: Request, answer: Answer) -> float:
    """How many greedy steps are decided by more than a near tie (inf: all of them)."""
    ids = request.prompt + (answer.generated or ())
    logits = plain(input_ids=torch.tensor([ids]), use_cache=False).logits[0, len(request.prompt) - 1 :].float()
    best, second = logits.topk(2).values.T
    ties = torch.nonzero(best - second < NEAR_TIE).flatten().tolist()
    return ties[0] if ties else math.inf


def hold_against(model: Any, asked: list[Request], theirs: dict[int, Answer], ours: dict[int, Answer]) -> int:
    """Assert that two engines agree; returns how many rows could be compared in part only."""
    assert ours.keys() == theirs.keys() == set(range(len(asked)))
    partly = 0
    for number, request in enumerate(asked):
        mine, other = ours[number], theirs[number]
        assert [len(option) for option in mine.logprobs] == [len(option) for option in request.options]
        for a, b in zip(mine.logprobs, other.logprobs, strict=True):
            assert a == pytest.approx(b, abs=LOGPROB_TOLERANCE)
        assert mine.leads[0] == pytest.approx(other.leads[0], abs=LOGPROB_TOLERANCE)
        certain = steps_to_compare(model, request, other)
        if certain == math.inf:
            assert mine.leads == pytest.approx(other.leads, abs=LOGPROB_TOLERANCE)
            alike = (replace(answer, logprobs=(), leads=()) for answer in (mine, other))
            assert next(alike) == next(alike), "top, generated ids, how it ended"
            continue
        partly += 1
        if certain > 0:
            assert mine.top == other.top
            assert (mine.generated or ())[: int(certain)] == (other.generated or ())[: int(certain)]
    return partly


def ask(engine: Any, asked: Sequence[Request]) -> dict[int, Answer]:
    """All answers, each request answered once."""
    answers = list(engine.run(asked, repeats_itself))
    assert len(dict(answers)) == len(answers)
    return dict(answers)


def classification(rows: int = 12, generate: int = 4) -> list[Request]:
    """A small cell: demonstrations, rows, three labels of which two begin alike; at two shot counts."""
    rng = random.Random(0)

    def text(length: int) -> tuple[int, ...]:
        return tuple(rng.randrange(8, 50) for _ in range(length))

    two, four = text(40), text(40)
    labels = ((4, 5), (4, 6, 5), (5,))
    questions = [text(rng.randrange(4, 12)) for _ in range(rows)]
    return [Request(demos + row, labels, generate) for demos in (two, two + four) for row in questions]

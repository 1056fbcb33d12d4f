"""Whether an engine may be trusted: the same requests, answered by it and by the plain engine.

Another program computes a model in its own way, and may do it wrongly for a kind of model, an adapter or an order of
requests. So some requests of a run are asked of both before it answers the rest. It gets them twice, the second time
in reverse, so that answers which depend on what was asked before are found.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import zip_longest

from ..text.request import Request, StopRule
from .port import Answer, Engine

REQUESTS = 50
OPTIONS = 8  # of a request that are compared: the plain engine takes a pass for each
TOLERANCE = {"float32": 1e-3, "bfloat16": 1.0}  # nats; vLLM's build for CPUs was up to 2e-5 and 0.25 off on SmolLM2
MEAN_TOLERANCE = {"float32": 1e-4, "bfloat16": 0.15}  # the same on average: 5e-6 and 0.04


def chosen(requests: Sequence[Request], count: int = REQUESTS) -> list[Request]:
    """Some of the requests, evenly spread, the longest among them, with the first of their options."""
    longest = max(range(len(requests)), key=lambda number: requests[number].reach)
    step = max(1.0, len(requests) / (count - 1))
    spread = [int(step * number) for number in range(count - 1)]
    numbers = sorted({longest, *(number for number in spread if number < len(requests))})
    return [_with_fewer_options(requests[number]) for number in numbers]


def _with_fewer_options(request: Request) -> Request:
    return replace(request, options=request.options[:OPTIONS], lengths=())


def why_not(
    engine: Engine, requests: Sequence[Request], expected: Sequence[Answer], stop: StopRule, precision: str
) -> str | None:
    """Why the engine is not to be trusted, or None. `expected` are the plain engine's answers."""
    for backwards in (False, True):
        order = range(len(requests))[:: -1 if backwards else 1]
        found = dict(engine.run([requests[number] for number in order], stop))
        answers = {number: found[place] for place, number in enumerate(order)}
        when = ", asked in another order" if backwards else ""
        apart = [error for number in order for error in _errors(answers[number], expected[number])]
        if not max(apart, default=0.0) <= TOLERANCE[precision]:  # written so that NaN differs
            return f"its log-probabilities are up to {max(apart):.2g} nats off{when}"
        if not sum(apart) / max(1, len(apart)) <= MEAN_TOLERANCE[precision]:
            return f"its log-probabilities are {sum(apart) / len(apart):.2g} nats off on average{when}"
    return None


def _errors(one: Answer, other: Answer) -> Iterator[float]:
    """How far two answers to a request are apart, in nats: by token of an option, and by step of a greedy text.

    A lead is a difference of two log-probabilities, so half of a change counts. Where two texts part, each engine's
    token leads by as much as the other one had to err. Leads are as many as there are decisions.
    """
    for mine, its in zip(one.logprobs, other.logprobs, strict=True):
        yield from (abs(a - b) for a, b in zip(mine, its, strict=True))
    ours, theirs = ((answer.top, *(answer.generated or ())[1:]) for answer in (one, other))
    for a, b, my_lead, its_lead in zip_longest(ours, theirs, one.leads, other.leads):
        if my_lead is None or its_lead is None:
            return
        yield abs(my_lead - its_lead if a == b else my_lead + its_lead) / 2
        if a != b:  # from here on they continue different texts
            return

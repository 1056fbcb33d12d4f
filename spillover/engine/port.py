"""The engine port: requests of token ids in, log-probabilities and generated ids out.

An engine knows requests only, so any two engines can be compared request by request.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from ..text.request import Request, StopRule

Ended = Literal["stop", "end", "limit"]


@dataclass(frozen=True, slots=True)
class Answer:
    """The reply to a request.

    `logprobs[i][j]` is the natural-log probability, in float32, of token j of option i given all tokens before it.
    `greedy[i]` says whether each of these tokens was the most probable one, so that the model would write the option.
    `top` is the most probable id after the prompt. `generated` holds the greedily chosen ids without the
    end-of-sequence id; it is None if nothing was generated. `ended` says why generation ended: the stop rule, an
    end-of-sequence id, or `max_new_tokens`.

    `leads` say how clear each greedy choice was: the log-probability of the chosen token less that of its rival, for
    `top` and then for each further token that was computed. The rival is the most probable token that would have led
    to another decision: any other for a request without options; one that begins no option if `top` begins one; and
    one of `Request.beginnings` if the chosen token is none of these.
    """

    logprobs: tuple[tuple[float, ...], ...]
    top: int
    generated: tuple[int, ...] | None = None
    ended: Ended | None = None
    leads: tuple[float, ...] = ()
    greedy: tuple[bool, ...] = ()


@dataclass
class Work:
    """What an engine has done so far.

    `tokens_plain` counts the tokens as if every request were computed alone, `tokens` those that were computed.
    """

    tokens_plain: int = 0
    tokens: int = 0
    tokens_generated: int = 0
    seconds: float = 0.0

    def timed(self, answers: Iterator[tuple[int, Answer]]) -> Iterator[tuple[int, Answer]]:
        """Pass the answers on, and add up the seconds that they take."""
        while True:
            began = time.perf_counter()
            answer = next(answers, None)
            self.seconds += time.perf_counter() - began
            if answer is None:
                return
            yield answer


class Engine(Protocol):
    """Anything that answers requests. `work` counts what the answers so far have cost."""

    work: Work

    def run(self, requests: Sequence[Request], stop: StopRule) -> Iterator[tuple[int, Answer]]:
        """Yield (index of the request, its answer) once for each request, in any order."""
        ...

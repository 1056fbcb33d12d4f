"""The engine port: token ids in, log-probabilities and generated ids out.

An engine knows no task, label, shot or prompt format, only requests. That is what makes two engines
comparable request by request: `plain.py` is the simplest correct one, `shared.py` computes
every common token prefix once, and the tests hold the second against the first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

ENGINE_RULES = {"score": 1, "decode": 1}  # part of every cell's key: raise one when its answers change meaning

StopRule = Callable[[Sequence[int]], bool]
"""Generated ids so far -> whether generation is over."""


@dataclass(frozen=True, slots=True)
class Request:
    """One row put to a model.

    `prompt` are the token ids of the context. Each of `options` (one token or more) is scored as its
    continuation. Without options the model always generates up to `max_new_tokens`; with options it
    generates only where its greedy first token begins none of them: a cheap look at what it would
    have said by itself.
    """

    prompt: tuple[int, ...]
    options: tuple[tuple[int, ...], ...] = ()
    max_new_tokens: int = 0

    @property
    def reach(self) -> int:
        """The context that it takes at most, in tokens: its prompt with whatever it is answered by."""
        return len(self.prompt) + max([self.max_new_tokens, *map(len, self.options)])


@dataclass(frozen=True, slots=True)
class Answer:
    """The reply to a request.

    `logprobs[i][j]` is the natural-log probability, in float32, of token j of option i given all before it.
    `top` is the arg-max id right after the prompt. `generated` are greedy ids, up to and without an
    end-of-sequence id, or None where nothing was decoded; `finished` tells whether generation ended by
    itself (end of sequence or stop rule) rather than at `max_new_tokens`.
    """

    logprobs: tuple[tuple[float, ...], ...]
    top: int
    generated: tuple[int, ...] | None = None
    finished: bool = True


@dataclass
class Work:
    """What an engine did: `tokens_plain` a request at a time, `tokens` as computed, generated tokens, seconds."""

    tokens_plain: int = 0
    tokens: int = 0
    tokens_generated: int = 0
    seconds: float = 0.0


class Engine(Protocol):
    """Anything that answers requests. `work` counts what the answers so far have cost."""

    work: Work

    def run(self, requests: Sequence[Request], stop: StopRule) -> Iterator[tuple[int, Answer]]:
        """Yield (index of the request, its answer), in any order, each index once."""
        ...

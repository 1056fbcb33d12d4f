"""An engine for requests of every length: prefixes are shared where that is right, and longer texts are computed alone.

A run of an experiment knows its longest text before it loads a model, and takes one engine for all. Here requests come
later, and several times: those of a program that asks (`spillover.interop.harness_model`). So each run of this engine
gives the texts up to the model's limit (`lengths.limit`) to the shared engine and the others to the plain one. The
attention that shares prefixes is put into the model for the first kind, and taken out for the second.

Requests are answered in slices of about SLICE tokens, in the order of their ids. So trees stay small, and answers come
steadily.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ..text.encode import Encoder
from ..text.request import Request, StopRule
from .lengths import limit
from .plain import PlainEngine
from .port import Answer, Engine, Work
from .rounded import round_products_only
from .suitable import give_back, shared_engine, take, why_plain

SLICE = 200_000  # tokens of prompts and options
PROBED = 512  # tokens of the text that the probe tries at least: shorter ones need many branches to be as telling


class EitherEngine:
    """Answers requests with a transformers causal language model.

    `reason` says why all requests are computed alone; it is None as long as prefixes are shared. `eos_ids` end a
    generation.
    """

    def __init__(self, model: Any, encoder: Encoder, eos_ids: frozenset[int], shares: bool = True) -> None:
        self.model = model.eval().requires_grad_(False)
        self.precision = str(model.dtype).removeprefix("torch.")
        if self.precision == "bfloat16" and model.device.type == "cpu":
            round_products_only(model)
        self.eos_ids = eos_ids
        self.work = Work()
        self.reason = None if shares else "asked for"
        self.limit = limit(model.config)
        self._words = encoder.text_ids("One two three four five six seven eight nine ten.")
        self._usual = model.config._attn_implementation
        self._taken = False  # whether the attention that shares prefixes is in the model
        self._engines: dict[bool, Engine] = {}  # by whether they share
        self._probed = 0  # tokens of the longest text that the probe has tried

    def run(self, requests: Sequence[Request], stop: StopRule) -> Iterator[tuple[int, Answer]]:
        """Yield (index, answer) for every request: first those that share prefixes, in the order of their ids."""
        short = [i for i, request in enumerate(requests) if self.limit is None or request.reach <= self.limit]
        if short and self.reason is None:
            longest = max(PROBED, *(requests[i].reach for i in short))
            self._probe(longest if self.limit is None else min(longest, self.limit))
        if self.reason is not None:
            short = []
        alone = sorted(set(range(len(requests))).difference(short))
        for numbers in (short, alone):
            if not numbers:
                continue
            engine = self._engine(shares=numbers is short)
            for some in _slices(numbers, requests):
                for number, answer in engine.run([requests[i] for i in some], stop):
                    yield some[number], answer

    def _engine(self, shares: bool) -> Engine:
        if shares != self._taken:
            take(self.model) if shares else give_back(self.model, self._usual)
            self._taken = shares
        if shares not in self._engines:
            engine = shared_engine(self.model, self.eos_ids) if shares else PlainEngine(self.model, self.eos_ids)
            engine.work = self.work
            self._engines[shares] = engine
        return self._engines[shares]

    def _probe(self, longest: int) -> None:
        """Whether the model can share prefixes of texts of that length."""
        if longest <= self._probed:
            return
        if self._taken:
            give_back(self.model, self._usual)
        self.reason = why_plain(self.model, self._words, self.precision, longest)
        self._taken, self._probed = self.reason is None, longest


def _slices(numbers: Sequence[int], requests: Sequence[Request]) -> Iterator[list[int]]:
    """The requests of these numbers, in the order of their ids, some at a time."""
    some: list[int] = []
    tokens = 0
    for number in sorted(numbers, key=lambda number: requests[number].prompt):
        request = requests[number]
        tokens += len(request.prompt) + sum(map(len, request.options)) + request.max_new_tokens
        some.append(number)
        if tokens >= SLICE:
            yield some
            some, tokens = [], 0
    if some:
        yield some

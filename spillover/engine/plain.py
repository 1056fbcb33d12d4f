"""The reference engine: one request at a time, nothing shared.

Every other engine is compared with this one. Each option takes its own forward pass. Generation is a greedy loop with
the model's ordinary cache. `engine: plain` runs it, and so do models whose layers cannot share a prefix.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ..text.request import Request, StopRule
from .head import greedy
from .port import Answer, Work


class PlainEngine:
    """Answers requests with a transformers causal language model, one by one."""

    def __init__(self, model: Any, eos_ids: frozenset[int]) -> None:
        self.model = model
        self.eos_ids = eos_ids
        self.work = Work()
        self.device = next(model.parameters()).device

    def run(self, requests: Sequence[Request], stop: StopRule) -> Iterator[tuple[int, Answer]]:
        """Yield (index, answer) in the order of the requests."""
        return self.work.timed(enumerate(self._answer(request, stop) for request in requests))

    @torch.inference_mode()
    def _answer(self, request: Request, stop: StopRule) -> Answer:
        logprobs = []
        for option in request.options:
            logits = self._logits(request.prompt + option[:-1])[len(request.prompt) - 1 :]
            scored = logits.log_softmax(-1)
            logprobs.append(tuple(scored[i, token].item() for i, token in enumerate(option)))
            first = logits[0]
        if not request.options:
            first = self._logits(request.prompt)[-1]
        [top], [lead] = greedy(first[None], [request])
        if not request.generates(top):
            return Answer(tuple(logprobs), top, leads=(lead,))
        return Answer(tuple(logprobs), top, *self._generate(request, stop))

    def _logits(self, ids: tuple[int, ...]) -> Tensor:
        self.work.tokens_plain += len(ids)
        self.work.tokens += len(ids)
        return self.model(input_ids=torch.tensor([ids], device=self.device), use_cache=False).logits[0].float()

    def _generate(self, request: Request, stop: StopRule) -> tuple[tuple[int, ...], bool, tuple[float, ...]]:
        generated: list[int] = []
        leads: list[float] = []
        ids = torch.tensor([request.prompt], device=self.device)
        cache = None
        while len(generated) < request.max_new_tokens:
            output = self.model(input_ids=ids, past_key_values=cache, use_cache=True)
            cache = output.get("past_key_values")
            [token], [lead] = greedy(output.logits[:, -1].float(), [request])
            leads.append(lead)
            self.work.tokens_generated += 1
            if token in self.eos_ids:
                return tuple(generated), True, tuple(leads)
            generated.append(token)
            if stop(generated):
                return tuple(generated), True, tuple(leads)
            new = torch.tensor([[token]], device=self.device)
            ids = torch.cat([ids, new], 1) if cache is None else new  # recurrent models keep no cache of this kind
        return tuple(generated), False, tuple(leads)

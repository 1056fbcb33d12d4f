"""The reference engine: one request at a time, nothing shared.

Every other engine is compared with this one. Each option takes its own forward pass. Generation is a greedy loop with
the model's ordinary cache; where rotary frequencies change with the length of the text, the whole text is computed
again (`lengths`). `engine: plain` runs this, and so do models whose layers cannot share a prefix.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from ..text.request import Request, StopRule
from .head import greedy, own_logits
from .lengths import frequencies
from .port import Answer, Ended, Work


class PlainEngine:
    """Answers requests with a transformers causal language model, one by one."""

    def __init__(self, model: Any, eos_ids: frozenset[int]) -> None:
        self.model = model
        self.eos_ids = eos_ids
        self.work = Work()
        self.told = "position_ids" in signature(type(model).forward).parameters  # where its tokens stand
        self.device = next(model.parameters()).device

    def run(self, requests: Sequence[Request], stop: StopRule) -> Iterator[tuple[int, Answer]]:
        """Yield (index, answer) in the order of the requests."""
        return self.work.timed(enumerate(self._answer(request, stop) for request in requests))

    @torch.inference_mode()
    def _answer(self, request: Request, stop: StopRule) -> Answer:
        logprobs, likeliest = [], []
        for option in request.options:
            logits = self._logits(request.prompt + option[:-1], len(option))
            scored = logits.log_softmax(-1)
            logprobs.append(tuple(scored[i, token].item() for i, token in enumerate(option)))
            likeliest.append(logits.argmax(-1).tolist() == list(option))
            first = logits[0]
        if not request.options:
            first = self._logits(request.prompt, 1)[0]
        [top], [lead] = greedy(first[None], [request])
        if not request.generates(top):
            return Answer(tuple(logprobs), top, leads=(lead,), greedy=tuple(likeliest))
        return Answer(tuple(logprobs), top, *self._generate(request, stop), greedy=tuple(likeliest))

    def _logits(self, ids: tuple[int, ...], last: int) -> Tensor:
        self.work.tokens_plain += len(ids)
        self.work.tokens += len(ids)
        return own_logits(self.model, last, input_ids=torch.tensor([ids], device=self.device)).float()

    def _generate(self, request: Request, stop: StopRule) -> tuple[tuple[int, ...], Ended, tuple[float, ...]]:
        generated: list[int] = []
        leads: list[float] = []
        text = list(request.prompt)
        cache, cached = None, 0  # the keys of the first `cached` tokens
        while len(generated) < request.max_new_tokens:
            ids = torch.tensor([text[cached:]], device=self.device)
            # Said, not left to the model: Bamba counts from 0 again, since its first layer keeps no keys.
            at = {"position_ids": torch.arange(cached, len(text), device=self.device)[None]} if self.told else {}
            output = self.model(input_ids=ids, past_key_values=cache, use_cache=True, **at)
            [token], [lead] = greedy(output.logits[:, -1].float(), [request])
            leads.append(lead)
            self.work.tokens_generated += 1
            if token in request.ends_with(self.eos_ids):
                return tuple(generated), "end", tuple(leads)
            generated.append(token)
            if stop(generated):
                return tuple(generated), "stop", tuple(leads)
            cache = output.get("past_key_values")  # recurrent models keep no cache of this kind
            if frequencies(self.model.config, len(text) + 1) != frequencies(self.model.config, len(text)):
                cache = None
            cached = 0 if cache is None else len(text)
            text.append(token)
        return tuple(generated), "limit", tuple(leads)

"""From token ids to final hidden states, and from those to next-token logits in float32.

Logits in bfloat16 have two or three digits, too few to rank labels. So hidden states go through a float32 copy of the
output layer. It is called as a module, whatever it is: an adapter may stand around its weight. Some models also scale
their logits or cap them softly; their configuration says so. Others do something of their own, which `deviation` finds.

Shapes: P positions, C hidden width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from ..text.request import Request


def hidden_states(model: Any, ids: Any, positions: Any = None, tree: Any = None) -> Tensor:
    """Final hidden states_PC of one line of ids. With a `tree`, the ids stand at `positions` of their sequences."""
    line = {"input_ids": torch.as_tensor(ids)[None].to(model.device)}
    if tree is not None:
        line |= {"position_ids": torch.as_tensor(positions)[None].to(model.device), "tree": tree}
    states: Tensor = model.get_decoder()(**line, use_cache=False).last_hidden_state[0]
    return states


def own_logits(model: Any, keep: int | Tensor, **line: Any) -> Tensor:
    """The model's own logits, in its precision, at the last `keep` positions of a line, or at these indices.

    Some models compute them at every position, whatever is asked for.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model  # PEFT's wrapper passes all on
    if "logits_to_keep" in signature(type(inner).forward).parameters:
        logits: Tensor = model(**line, logits_to_keep=keep, use_cache=False).logits[0]
        return logits
    logits = model(**line, use_cache=False).logits[0]
    return logits[-keep:] if isinstance(keep, int) else logits[keep]


@dataclass(frozen=True)
class Head:
    """A model's output layer in float32, and what is done to its logits. A float32 model's layer is not copied."""

    layer: nn.Module
    multiplier: float = 1.0
    divisor: float = 1.0
    cap: float | None = None

    @classmethod
    def of(cls, model: Any) -> Head:
        config = model.config.get_text_config()
        return cls(
            layer=_in_float32(model.get_output_embeddings()),
            multiplier=getattr(config, "logit_scale", None) or 1.0,
            divisor=getattr(config, "logits_scaling", None) or 1.0,
            cap=getattr(config, "final_logit_softcapping", None) or getattr(config, "logits_soft_cap", None),
        )

    @property
    def device(self) -> torch.device:
        return next(self.layer.parameters()).device

    def __call__(self, hidden_PC: Tensor) -> Tensor:
        """Float32 logits_PV."""
        logits_PV: Tensor = self.layer(hidden_PC.float())
        if (self.multiplier, self.divisor) != (1, 1):
            logits_PV = logits_PV * self.multiplier / self.divisor
        return logits_PV if self.cap is None else self.cap * torch.tanh(logits_PV / self.cap)


def greedy(logits_PV: Tensor, requests: Sequence[Request]) -> tuple[list[int], list[float]]:
    """The most probable token at a position of each request, and by how many nats it leads its rivals.

    Overwrites the logits.
    """
    best_P, tokens_P = logits_PV.max(-1)
    tokens: list[int] = tokens_P.tolist()
    rivals: dict[int, Tensor] = {}  # of positions with only some rivals
    for position, (token, request) in enumerate(zip(tokens, requests, strict=True)):
        if request.is_open_after(token):
            alike = request.firsts if token in request.firsts else [token]
            logits_PV[position, list(alike)] = -torch.inf
        else:
            rivals[position] = logits_PV[position, [*request.firsts, *request.beginnings]].max()
    others_P = logits_PV.amax(-1)
    for position, value in rivals.items():
        others_P[position] = value
    return tokens, (best_P - others_P).tolist()


@torch.no_grad()
def deviation(model: Any, ids: Any) -> float:
    """How far the log-probabilities of `Head` are from the model's own, at most, in nats; NaN if either is.

    Both are computed in float32 from the same hidden states, so only rounding in float32 may part them.
    """
    layer = model.get_output_embeddings()
    head = Head.of(model)
    made = head(hidden_states(model, ids))
    model.set_output_embeddings(_FromAny(head.layer))
    try:
        own = model(input_ids=torch.as_tensor(ids)[None].to(model.device), use_cache=False).logits[0]
    finally:
        model.set_output_embeddings(layer)
    return float((made.log_softmax(-1) - own.float().log_softmax(-1)).abs().max())


def _in_float32(layer: Any) -> nn.Module:
    whole = all(weight.dtype == torch.float32 for weight in layer.parameters())
    return layer if whole else deepcopy(layer).float()


class _FromAny(nn.Module):
    """A float32 layer that takes hidden states of any type."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, hidden: Tensor) -> Tensor:
        out: Tensor = self.layer(hidden.float())
        return out

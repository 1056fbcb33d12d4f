"""From token ids to final hidden states, and from those to next-token logits in float32.

Logits in bfloat16 have two or three digits, too few to rank labels. So hidden states are multiplied with a float32 copy
of the output layer. Some models also divide their logits or cap them softly; their configuration says so.

Shapes: P positions, C hidden width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..text.request import Request
from .ops import linear


def hidden_states(model: Any, ids: Any, positions: Any = None, tree: Any = None) -> Tensor:
    """Final hidden states_PC of one line of ids. With a `tree`, the ids stand at `positions` of their sequences."""
    line = {"input_ids": torch.as_tensor(ids)[None].to(model.device)}
    if tree is not None:
        line |= {"position_ids": torch.as_tensor(positions)[None].to(model.device), "tree": tree}
    states: Tensor = model.get_decoder()(**line, use_cache=False).last_hidden_state[0]
    return states


@dataclass(frozen=True)
class Head:
    """A model's output layer. In a float32 model its weight is the model's own, not a copy."""

    weight_VC: Tensor
    bias_V: Tensor | None
    scaling: float | None
    cap: float | None

    @classmethod
    def of(cls, model: Any) -> Head:
        layer, config = model.get_output_embeddings(), model.config.get_text_config()
        bias = getattr(layer, "bias", None)
        return cls(
            weight_VC=layer.weight.float(),
            bias_V=None if bias is None else bias.float(),
            scaling=getattr(config, "logits_scaling", None),
            cap=getattr(config, "final_logit_softcapping", None),
        )

    def __call__(self, hidden_PC: Tensor) -> Tensor:
        """Float32 logits_PV."""
        logits_PV = linear(hidden_PC.float(), self.weight_VC, self.bias_V)
        if self.scaling is not None:
            logits_PV = logits_PV / self.scaling
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

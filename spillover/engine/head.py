"""The output layer, in float32: from final hidden states to next-token log-probabilities.

A model in bfloat16 has logits of two or three digits, too coarse to rank labels by or to compare two models with.
Its hidden states times a float32 copy of its output layer cost little more and lose nothing further. Some models do
one more thing to their logits, a division or a soft cap, of which their configuration tells.

Shapes: P positions, C hidden width, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .linear import linear


@dataclass(frozen=True)
class Head:
    """The output layer of a model; in a float32 model its weight is the model's own, not a copy."""

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

"""bfloat16 on CPUs: only the products of linear layers are rounded to it, and everything between them is float32.

Nearly all time goes into the products, and nearly all error comes from elsewhere: each layer's sum, norm and rotation
was rounded to eight bits. On SmolLM2 the products alone leave little more than half of the error, at about the same
speed (docs/performance.md). Fewer decisions are then so close that they have to be made again in float32
(`spillover.work.rounding`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn


class RoundedLinear(nn.Linear):
    """A linear layer whose weight is bfloat16, and whose input and output are float32."""

    def forward(self, input: Tensor) -> Tensor:
        out = nn.functional.linear(input.to(self.weight.dtype), self.weight).float()
        return out if self.bias is None else out + self.bias


def round_products_only(model: nn.Module) -> None:
    """Make a model in bfloat16 compute in float32, but for the products of its plain linear layers.

    Layers whose weights are read by others than themselves, as some adapters do, become float32 as a whole.
    """
    plain = set(_plain_linear_layers(model))
    for module in model.modules():
        for name, weight in module.named_parameters(recurse=False):
            if weight.dtype == torch.bfloat16 and not (module in plain and name == "weight"):
                weight.data = weight.data.float()
        for name, buffer in module.named_buffers(recurse=False):
            if buffer.dtype == torch.bfloat16:
                setattr(module, name, buffer.float())
    for module in plain:
        module.__class__ = RoundedLinear


def _plain_linear_layers(model: Any) -> Iterator[Any]:
    """The linear layers of the model itself, also below a plain LoRA, which only calls them; not its output layer."""
    from peft.tuners.lora.layer import Linear as LoraLinear
    from peft.tuners.tuners_utils import BaseTunerLayer

    head = model.get_output_embeddings()
    inside: set[nn.Module] = set()
    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            only_called = type(module) is LoraLinear and not getattr(module, "lora_variant", None)
            inside |= set(module.modules()) - ({module.base_layer} if only_called else set())
    outputs = set(head.modules()) if isinstance(head, nn.Module) else set()
    for module in model.modules():
        is_plain = type(module) is nn.Linear and module not in inside and module not in outputs
        if is_plain and module.weight.dtype == torch.bfloat16:
            yield module

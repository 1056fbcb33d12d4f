"""Faster arithmetic on AMD's Zen 5 CPUs. This module is optional: without it the engine gives the same answers, slower.

PyTorch multiplies float32 matrices with MKL, which uses only AVX2 on AMD's CPUs. oneDNN uses the AVX-512 of Zen 5 and
is twice as fast there (`benchmarks/linear_layers.py`). Both compute in float32; they add in different orders, so last
digits may differ. On other CPUs nothing changes. `ops` decides with these functions what to call; no other module
imports this one. oneDNN's product has no gradient, so the two products of the backward pass are written here.

Shapes: x_MK, weight_NK, out_MN; M tokens, K and N the widths of a layer.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

ZEN_5 = "avx512_vp2intersect"  # AMD's cores have this feature from Zen 5 on
PRODUCTS_FROM = 2**17  # queries x keys of a rectangle from which `attend` is faster than the fused kernel
SCORES_AT_ONCE = 2**19  # scores that are held together: 2 MB, which stay in the cache between the two products
CAUSAL_QUERIES = 256  # causal queries at once: fewer waste less work on masked keys, but make smaller products
FEW_QUERIES = 256  # below this many, the fused kernel computes gradients faster in float32 than in bf16


@cache
def is_faster() -> bool:
    """Whether this CPU is a Zen 5, and PyTorch would use MKL but has oneDNN too."""
    can = torch.cpu.get_capabilities()
    zen_5 = "AMD" in str(can.get("cpu_name", "")) and bool(can.get(ZEN_5))
    return zen_5 and torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()


def matmul(x_MK: Tensor, weight_NK: Tensor, bias_N: Tensor | None = None) -> Tensor:
    """oneDNN's x weight' + bias, out_MN, in the precision of its inputs. The weight may be a transposed view."""
    if not (weight_NK.is_contiguous() or weight_NK.t().is_contiguous()):
        weight_NK = weight_NK.contiguous()  # oneDNN has no fast kernel for rows with gaps between them
    return torch.ops.mkldnn._linear_pointwise(x_MK, weight_NK, bias_N, "none", [], "")


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Like `torch.nn.functional.linear`, with gradients; float32 products by oneDNN if that is faster."""
    single = x.dtype == weight.dtype == torch.float32 and x.device.type == "cpu"
    if not single or not is_faster() or torch.is_autocast_enabled("cpu"):
        return nn.functional.linear(x, weight, bias)
    out_MN: Tensor = _Linear.apply(x.reshape(-1, x.shape[-1]), weight, bias)
    return out_MN.view(*x.shape[:-1], -1)


class Linear(nn.Linear):
    """A linear layer that computes with `linear`."""

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)


def take_linear_layers(model: nn.Module) -> None:
    """Make every plain linear layer of the model compute with `linear`. Names, weights and saved files stay."""
    for module in model.modules() if is_faster() else ():
        if type(module) is nn.Linear:
            module.__class__ = Linear


def give_back_linear_layers(model: nn.Module) -> None:
    """Undo `take_linear_layers`."""
    for module in model.modules():
        if type(module) is Linear:
            module.__class__ = nn.Linear  # type: ignore[assignment]


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_MK: Tensor, weight_NK: Tensor, bias_N: Tensor | None) -> Tensor:
        for_x, for_weight, _ = ctx.needs_input_grad
        ctx.save_for_backward(x_MK if for_weight else None, weight_NK if for_x else None)
        return matmul(x_MK, weight_NK, bias_N)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x_MK, weight_NK = ctx.saved_tensors
        (grad_MN,) = grads
        return (
            None if weight_NK is None else matmul(grad_MN, weight_NK.t()),
            None if x_MK is None else matmul(grad_MN.t(), x_MK.t()),
            grad_MN.sum(0) if ctx.needs_input_grad[2] else None,
        )


def attend(q: Tensor, k: Tensor, v: Tensor, causal: bool, scale: float, groups: int) -> tuple[Tensor, Tensor] | None:
    """`ops.attend` as two matrix products for each key-value head, or None if that is not faster. No gradient.

    PyTorch's fused kernel multiplies with MKL, in bf16 no faster than in float32 (docs/log.md). Scores are float32.

    q_1HND, k_1HMD, v_1HMD -> out_1HND, lse_1HN (float32).
    """
    queries, keys, width = q.shape[2], k.shape[2], q.shape[3]
    if q.device.type != "cpu" or queries * keys < PRODUCTS_FROM or not is_faster():
        return None
    rows = max(1, SCORES_AT_ONCE // (keys * groups))
    rows = min(CAUSAL_QUERIES, 4 * rows) if causal else rows
    later = torch.ones(rows, rows, dtype=torch.bool).triu_(1) if causal else None
    out, lse = torch.empty_like(q), torch.empty(q.shape[:3], dtype=torch.float32)
    for head in range(0, q.shape[1], groups):
        key, value = k[0, head].float(), v[0, head].t()
        for first in range(0, queries, rows):
            last = min(first + rows, queries)
            at = 0, slice(head, head + groups), slice(first, last)
            seen = last if causal else keys
            scores = matmul(q[at].reshape(-1, width).float() * scale, key[:seen])
            if later is not None:
                own = scores.view(groups, last - first, seen)[:, :, first:]
                own.masked_fill_(later[: last - first, : last - first], float("-inf"))
            weights = scores.softmax(-1)
            largest = weights.amax(-1)  # exp(its score - lse)
            lse[at] = (scores.amax(-1) - largest.log_()).view(groups, -1)
            out[at] = matmul(weights.to(v.dtype), value[:, :seen]).view(groups, -1, width)
    return out, lse


def wants_float32_gradients(queries: int) -> bool:
    """Whether the gradients of so few queries are computed faster in float32, for a model in bf16."""
    return queries < FEW_QUERIES and is_faster()

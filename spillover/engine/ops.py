"""The engine's arithmetic: linear layers, and attention to one rectangle of keys, forward and backward.

These are PyTorch's operations. The optional module `kernels` replaces some of them where it is faster. This is the only
module that imports it, so it can be deleted, and another one for another processor can take its place.

Shapes: q_1HND, k_1HMD, v_1HMD; H heads, N queries, M keys, D head width.
"""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import Tensor, nn

if find_spec(f"{__package__}.kernels"):
    from . import kernels
else:
    kernels = None  # type: ignore[assignment]


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x weight' + bias."""
    return kernels.linear(x, weight, bias) if kernels else nn.functional.linear(x, weight, bias)


def take_linear_layers(model: nn.Module) -> None:
    """Make the model's linear layers compute with `kernels`, if it is there and faster."""
    if kernels:
        kernels.take_linear_layers(model)


def give_back_linear_layers(model: nn.Module) -> None:
    """Undo `take_linear_layers`."""
    if kernels:
        kernels.give_back_linear_layers(model)


def large_rectangle() -> int:
    """Queries x keys from which other kernels compute a rectangle; 0 if there are none."""
    return kernels.PRODUCTS_FROM if kernels and kernels.is_faster() else 0


def attend(
    q: Tensor, k: Tensor, v: Tensor, scale: float, causal: bool = False, mask: Tensor | None = None, groups: int = 1
) -> tuple[Tensor, Tensor]:
    """Attention of q to k and v, and its log-sum-exp: out_1HND, lse_1HN (float32).

    `causal` rectangles are for CPUs only. `mask` is added to the scores. `groups` consecutive heads have the same keys
    and values.
    """
    if kernels and mask is None:
        done = kernels.attend(q, k, v, causal, scale, groups)
        if done is not None:
            return done
    if q.device.type == "cpu":
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            q, k, v, 0.0, causal, attn_mask=mask, scale=scale
        )
    if causal:
        raise NotImplementedError("away from the CPU causal rectangles are part of one mask")
    scores = (q @ k.transpose(-1, -2)).float() * scale
    if mask is not None:
        scores = scores + mask.float()
    lse = scores.logsumexp(-1)
    return (scores - lse.unsqueeze(-1)).exp().to(v.dtype) @ v, lse


def attend_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, causal: bool, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The rectangle's gradients of q, k and v. `out` and `lse` are merged over all rectangles of these queries."""
    if kernels and kernels.wants_float32_gradients(q.shape[2]):
        grad, q, k, v, out = (x.float() for x in (grad, q, k, v, out))
    return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
        grad.contiguous(), q, k, v, out, lse.contiguous(), 0.0, causal, scale=scale
    )

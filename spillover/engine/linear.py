"""Float32 matrix products by oneDNN, on the processors where PyTorch's own choice leaves half of the machine idle.

On CPUs PyTorch gives float32 products to MKL, and MKL takes its AVX2 kernels on whatever is not Intel's. oneDNN, to
which PyTorch gives bf16 products already, asks the processor what it can do. On AMD's Zen 5 cores, which are the
first of AMD's to compute AVX-512 at full width, it multiplies SmolLM2's matrices twice as fast
(`benchmarks/linear_layers.py`). Elsewhere there is little to win, or it was not measured, and nothing is changed.
Both are float32 throughout and differ in the order of their sums, as two batch sizes do.

PyTorch offers oneDNN's product as an operator that it uses itself when it compiles a model,
`mkldnn::_linear_pointwise`. It has no gradient, so the two products of the backward pass are written here.

Shapes: x_MK, weight_NK, out_MN; M tokens, K and N the widths of a layer.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

ZEN_5 = "avx512_vp2intersect"  # AMD's cores have it from Zen 5 on


def amd_has(feature: str) -> bool:
    """Whether this machine's CPU is AMD's and has `feature`, as `torch.cpu.get_capabilities` names it."""
    can = torch.cpu.get_capabilities()
    return "AMD" in str(can.get("cpu_name", "")) and bool(can.get(feature))


@cache
def is_faster() -> bool:
    """Whether this machine's float32 products are oneDNN's: Zen 5, and a PyTorch that would give them to MKL."""
    return amd_has(ZEN_5) and torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()


def matmul(x_MK: Tensor, weight_NK: Tensor, bias_N: Tensor | None = None) -> Tensor:
    """oneDNN's x weight' + bias, out_MN, in the precision of its inputs. The weight may be a transposed view."""
    if not (weight_NK.is_contiguous() or weight_NK.t().is_contiguous()):
        weight_NK = weight_NK.contiguous()  # oneDNN has no fast kernel for rows with gaps between them
    return torch.ops.mkldnn._linear_pointwise(x_MK, weight_NK, bias_N, "none", [], "")


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """As `torch.nn.functional.linear`, with gradients, by oneDNN where that is faster."""
    single = x.dtype == weight.dtype == torch.float32 and x.device.type == "cpu"
    if not single or not is_faster() or torch.is_autocast_enabled("cpu"):
        return nn.functional.linear(x, weight, bias)
    out_MN: Tensor = _Linear.apply(x.reshape(-1, x.shape[-1]), weight, bias)
    return out_MN.view(*x.shape[:-1], -1)


def adopt(model: nn.Module) -> None:
    """Every plain linear layer of the model computes by `linear` from here on: names, weights and saved files stay."""
    for module in model.modules() if is_faster() else ():
        if type(module) is nn.Linear:
            module.__class__ = Linear


def restore(model: nn.Module) -> None:
    """Undo `adopt`."""
    for module in model.modules():
        if type(module) is Linear:
            module.__class__ = nn.Linear  # type: ignore[assignment]


class Linear(nn.Linear):
    """A linear layer whose product is `linear`."""

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)


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

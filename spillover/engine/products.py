"""Float32 matrix products by oneDNN, on the processors where PyTorch's own choice leaves half of the machine idle.

On CPUs PyTorch gives float32 products to MKL, and MKL takes its AVX2 kernels on whatever is not Intel's. oneDNN, to
which PyTorch gives bf16 products already, asks the processor what it can do. On AMD's Zen 5 cores it multiplies
SmolLM2's matrices twice as fast (`benchmarks/products.py`); where MKL takes AVX-512 too, or there is none to take,
there is nothing to win, and nothing is changed. Both are float32 throughout and differ in the order of their sums, as
two batch sizes do.

PyTorch offers oneDNN's product as an operator that it uses itself when it compiles a model,
`mkldnn::_linear_pointwise`. It has no gradient, so the two products of the backward pass are written here.

Shapes: x_MK, weight_NK, out_MN; M tokens, K and N the widths of a layer.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn


@cache
def is_faster() -> bool:
    """Whether this machine's float32 products are oneDNN's: AMD's processors with AVX-512, and PyTorch with MKL."""
    can = torch.cpu.get_capabilities()
    chosen = bool(can.get("avx512_f")) and "AMD" in can.get("cpu_name", "")
    return chosen and torch.backends.mkl.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """As `torch.nn.functional.linear`, with gradients, by oneDNN where that is faster."""
    single = x.dtype == weight.dtype == torch.float32 and x.device.type == "cpu"
    if not single or not is_faster() or torch.is_autocast_enabled("cpu"):
        return nn.functional.linear(x, weight, bias)
    out: Tensor = _Linear.apply(x, weight, bias)
    return out


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

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


def product(x_MK: Tensor, weight_NK: Tensor, bias_N: Tensor | None = None) -> Tensor:
    """oneDNN's x weight' + bias, out_MN, in the precision of its inputs. Transposed views are as good as copies."""
    return torch.ops.mkldnn._linear_pointwise(x_MK, weight_NK, bias_N, "none", [], "")


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        (grad,) = grads
        grad_MN, x_MK = grad.reshape(-1, grad.shape[-1]), x.reshape(-1, x.shape[-1])
        for_x, for_weight, for_bias = ctx.needs_input_grad
        return (
            product(grad_MN, weight.t()).view(x.shape) if for_x else None,
            product(grad_MN.t(), x_MK.t()) if for_weight else None,
            grad_MN.sum(0) if for_bias else None,
        )

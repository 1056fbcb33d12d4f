"""Float32 products by oneDNN: the same numbers and gradients as PyTorch's own, and only where they are the faster."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from spillover.engine import products


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """oneDNN's products whatever the processor: any can compute them."""
    monkeypatch.setattr(products, "is_faster", lambda: True)


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Each test asks the processor anew."""
    products.is_faster.cache_clear()
    yield
    products.is_faster.cache_clear()


@pytest.mark.parametrize(
    ("capabilities", "faster"),
    [
        ({"avx512_f": True, "cpu_name": "AMD EPYC"}, True),
        ({"avx2": True, "cpu_name": "AMD EPYC"}, False),  # MKL takes AVX2 as well
        ({"avx512_f": True, "cpu_name": "Intel Xeon"}, False),  # MKL takes AVX-512 as well
        ({}, False),
    ],
)
def test_it_is_for_what_mkl_gives_only_its_avx2_kernels(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool | str], faster: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    assert products.is_faster() is faster


def both(shape: tuple[int, ...], bias: bool, frozen: bool = False) -> list[tuple[Tensor, Tensor]]:
    """Output and gradients, ours in float32 and the textbook's in float64."""
    torch.manual_seed(0)
    x, weight, add = torch.randn(*shape, 48), torch.randn(32, 48), torch.randn(32)
    towards = torch.randn(*shape, 32)
    sides = []
    for run, dtype in ((products.linear, torch.float32), (nn.functional.linear, torch.float64)):
        leaves = [value.to(dtype).requires_grad_() for value in (x, weight, add)[: 3 if bias else 2]]
        leaves[1].requires_grad_(not frozen)
        out = run(*leaves)
        moving = [leaf for leaf in leaves if leaf.requires_grad]
        sides.append((out.detach(), *torch.autograd.grad(out, moving, towards.to(dtype))))
    return list(zip(*sides, strict=True))


@pytest.mark.parametrize("shape", [(1,), (7,), (1, 60), (3, 5)], ids=str)
@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
@pytest.mark.usefixtures("here")
def test_outputs_and_gradients_are_those_of_linear(shape: tuple[int, ...], bias: bool) -> None:
    for ours, reference in both(shape, bias):
        assert ours.dtype == torch.float32
        assert ours.shape == reference.shape
        assert float((ours - reference).norm() / reference.norm()) < 1e-6


@pytest.mark.usefixtures("here")
def test_under_an_adapter_the_weight_has_no_gradient() -> None:
    assert len(both((4,), bias=False, frozen=True)) == 2, "the output, and the gradient of x"


@pytest.mark.usefixtures("here")
def test_other_precisions_are_left_to_pytorch() -> None:
    x, weight = torch.randn(4, 48), torch.randn(32, 48)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert products.linear(x, weight).dtype == torch.bfloat16
    assert products.linear(x.bfloat16(), weight.bfloat16()).dtype == torch.bfloat16


@pytest.mark.usefixtures("here")
def test_a_model_keeps_names_and_weights_and_can_have_its_layers_back() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Bilinear(8, 8, 2))
    before, names = model[0](torch.ones(2, 8)), list(model.state_dict())
    products.adopt(model)
    assert type(model[0]) is products.Linear
    assert type(model[2]) is nn.Bilinear
    assert list(model.state_dict()) == names
    torch.testing.assert_close(model[0](torch.ones(2, 8)), before)
    products.restore(model)
    assert type(model[0]) is nn.Linear


def test_where_it_is_not_faster_nothing_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "is_faster", lambda: False)
    model = nn.Sequential(nn.Linear(8, 8))
    products.adopt(model)
    assert type(model[0]) is nn.Linear

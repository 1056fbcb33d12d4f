"""Float32 products by oneDNN: the same numbers and gradients as PyTorch's own, and only where they are the faster."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from spillover.engine import linear
from spillover.engine.linear import Linear

ZEN_5 = {"avx512_f": True, "avx512_vp2intersect": True, "cpu_name": "AMD EPYC"}
needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """oneDNN's products whatever the processor, since any can compute them; the shapes of those that were asked for."""
    shapes: list[tuple[int, ...]] = []
    matmul = linear.matmul

    def counted(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        shapes.append((*x.shape, len(weight)))
        return matmul(x, weight, bias)

    monkeypatch.setattr(linear, "is_faster", lambda: True)
    monkeypatch.setattr(linear, "matmul", counted)
    return shapes


@pytest.fixture(autouse=True)
def anew() -> Iterator[None]:
    """Each test asks for the processor again."""
    ask = linear.is_faster
    ask.cache_clear()
    yield
    ask.cache_clear()


@pytest.mark.parametrize(
    ("capabilities", "faster"),
    [
        (ZEN_5, True),
        ({"avx512_f": True, "cpu_name": "AMD EPYC"}, False),  # Zen 4 computes it by halves
        ({"avx2": True, "cpu_name": "AMD EPYC"}, False),  # MKL takes AVX2 as well
        ({**ZEN_5, "cpu_name": "Intel Core"}, False),  # MKL takes AVX-512 as well
        ({}, False),
    ],
)
def test_it_is_for_amds_cores_with_whole_avx512(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool | str], faster: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    for backend in (torch.backends.mkl, torch.backends.mkldnn):
        monkeypatch.setattr(backend, "is_available", lambda: True)
    assert linear.is_faster() is faster


def both(shape: tuple[int, ...], bias: bool, frozen: bool = False) -> list[tuple[Tensor, Tensor]]:
    """Output and gradients, ours in float32 and the textbook's in float64."""
    torch.manual_seed(0)
    x, weight, add = torch.randn(*shape, 48), torch.randn(32, 48), torch.randn(32)
    towards = torch.randn(*shape, 32)
    sides = []
    for run, dtype in ((linear.linear, torch.float32), (nn.functional.linear, torch.float64)):
        leaves = [value.to(dtype).requires_grad_() for value in (x, weight, add)[: 3 if bias else 2]]
        leaves[1].requires_grad_(not frozen)
        out = run(*leaves)
        moving = [leaf for leaf in leaves if leaf.requires_grad]
        sides.append((out.detach(), *torch.autograd.grad(out, moving, towards.to(dtype))))
    return list(zip(*sides, strict=True))


def apart(ours: Tensor, reference: Tensor) -> float:
    assert ours.dtype == torch.float32
    assert ours.shape == reference.shape
    return float((ours - reference).norm() / reference.norm())


@needs_onednn
@pytest.mark.parametrize("shape", [(), (1,), (7,), (1, 60), (3, 5)], ids=str)
@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
def test_outputs_and_gradients_are_those_of_linear(
    shape: tuple[int, ...], bias: bool, asked: list[tuple[int, ...]]
) -> None:
    for ours, reference in both(shape, bias):
        assert apart(ours, reference) < 1e-6
    assert len(asked) == 3, "forward, and the two products of the backward pass"


@needs_onednn
def test_a_frozen_weight_has_no_gradient_and_keeps_no_input(asked: list[tuple[int, ...]]) -> None:
    """As under an adapter: half of the backward pass, and none of the inputs held for it."""
    (out, reference), (grad, its_reference) = both((4,), bias=False, frozen=True)
    assert apart(out, reference) < 1e-6
    assert apart(grad, its_reference) < 1e-6
    assert len(asked) == 2
    held: list[tuple[int, ...]] = []
    x = torch.randn(4, 48, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(
        lambda kept: held.append(tuple(kept.shape)) or kept, lambda kept: kept
    ):
        linear.linear(x, torch.randn(32, 48))
    assert held == [(32, 48)]


@needs_onednn
def test_an_output_may_be_changed_in_place(asked: list[tuple[int, ...]]) -> None:
    """As OLMo clips its queries."""
    x = torch.randn(1, 5, 8, requires_grad=True)
    layer = nn.Linear(8, 8)
    linear.adopt(layer)
    layer(x).clamp_(-0.1, 0.1).sum().backward()
    reference = x.detach().clone().requires_grad_()
    nn.functional.linear(reference, layer.weight, layer.bias).clamp(-0.1, 0.1).sum().backward()
    torch.testing.assert_close(x.grad, reference.grad)
    assert asked


@needs_onednn
def test_rows_with_gaps_between_them_are_as_good() -> None:
    """Keys of one head lie between those of others."""
    keys = torch.randn(20, 3, 8)[:, 1]
    x = torch.randn(4, 8)
    torch.testing.assert_close(linear.matmul(x, keys), x @ keys.t())
    torch.testing.assert_close(linear.matmul(x @ keys.t(), keys.t()), x @ keys.t() @ keys)


def test_other_precisions_are_left_to_pytorch(asked: list[tuple[int, ...]]) -> None:
    x, weight = torch.randn(4, 48), torch.randn(32, 48)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert linear.linear(x, weight).dtype == torch.bfloat16
    assert linear.linear(x.bfloat16(), weight.bfloat16()).dtype == torch.bfloat16
    assert asked == []


@needs_onednn
def test_a_model_keeps_names_and_weights_and_can_have_its_layers_back(asked: list[tuple[int, ...]]) -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Bilinear(8, 8, 2))
    before, names = model[0](torch.ones(2, 8)), list(model.state_dict())
    linear.adopt(model)
    assert (type(model[0]), type(model[2])) == (Linear, nn.Bilinear)
    assert list(model.state_dict()) == names
    torch.testing.assert_close(model[0](torch.ones(2, 8)), before)
    assert asked == [(2, 8, 8)]
    linear.restore(model)
    assert type(model[0]) is nn.Linear


def test_where_it_is_not_faster_nothing_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "is_faster", lambda: False)
    model = nn.Sequential(nn.Linear(8, 8))
    linear.adopt(model)
    assert type(model[0]) is nn.Linear

"""The optional kernels: the same numbers and gradients as without them, and only on CPUs where they are faster."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from spillover.engine import kernels, ops
from spillover.engine.kernels import Linear

ZEN_5 = {"avx512_f": True, "avx512_vp2intersect": True, "cpu_name": "AMD EPYC"}
needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """oneDNN's products whatever the processor, since any can compute them; the shapes of those that were asked for."""
    shapes: list[tuple[int, ...]] = []
    matmul = kernels.matmul

    def counted(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        shapes.append((*x.shape, len(weight)))
        return matmul(x, weight, bias)

    monkeypatch.setattr(kernels, "is_faster", lambda: True)
    monkeypatch.setattr(kernels, "matmul", counted)
    return shapes


@pytest.fixture(autouse=True)
def anew() -> Iterator[None]:
    """Each test asks for the processor again."""
    ask = kernels.is_faster
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
    assert kernels.is_faster() is faster


def both(shape: tuple[int, ...], bias: bool, frozen: bool = False) -> list[tuple[Tensor, Tensor]]:
    """Output and gradients, ours in float32 and the textbook's in float64."""
    torch.manual_seed(0)
    x, weight, add = torch.randn(*shape, 48), torch.randn(32, 48), torch.randn(32)
    towards = torch.randn(*shape, 32)
    sides = []
    for run, dtype in ((kernels.linear, torch.float32), (nn.functional.linear, torch.float64)):
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
        kernels.linear(x, torch.randn(32, 48))
    assert held == [(32, 48)]


@needs_onednn
def test_an_output_may_be_changed_in_place(asked: list[tuple[int, ...]]) -> None:
    """As OLMo clips its queries."""
    x = torch.randn(1, 5, 8, requires_grad=True)
    layer = nn.Linear(8, 8)
    kernels.take_linear_layers(layer)
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
    torch.testing.assert_close(kernels.matmul(x, keys), x @ keys.t())
    torch.testing.assert_close(kernels.matmul(x @ keys.t(), keys.t()), x @ keys.t() @ keys)


def test_other_precisions_are_left_to_pytorch(asked: list[tuple[int, ...]]) -> None:
    x, weight = torch.randn(4, 48), torch.randn(32, 48)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert kernels.linear(x, weight).dtype == torch.bfloat16
    assert kernels.linear(x.bfloat16(), weight.bfloat16()).dtype == torch.bfloat16
    assert asked == []


@needs_onednn
def test_a_model_keeps_names_and_weights_and_can_have_its_layers_back(asked: list[tuple[int, ...]]) -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Bilinear(8, 8, 2))
    before, names = model[0](torch.ones(2, 8)), list(model.state_dict())
    kernels.take_linear_layers(model)
    assert (type(model[0]), type(model[2])) == (Linear, nn.Bilinear)
    assert list(model.state_dict()) == names
    torch.testing.assert_close(model[0](torch.ones(2, 8)), before)
    assert asked == [(2, 8, 8)]
    kernels.give_back_linear_layers(model)
    assert type(model[0]) is nn.Linear


def test_where_it_is_not_faster_nothing_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "is_faster", lambda: False)
    model = nn.Sequential(nn.Linear(8, 8))
    kernels.take_linear_layers(model)
    assert type(model[0]) is nn.Linear


@pytest.mark.usefixtures("onednn")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
@pytest.mark.parametrize("at_once", [2**19, 150, 1], ids=["whole", "in parts", "row by row"])
def test_attention_to_a_rectangle_by_products(
    dtype: torch.dtype, causal: bool, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "SCORES_AT_ONCE", at_once)
    monkeypatch.setattr(kernels, "CAUSAL_QUERIES", min(at_once, 10))
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, heads, 29, 16).repeat_interleave(4 // heads, 1).to(dtype) for heads in (4, 2, 2))
    q = 9 * (q if causal else q[:, :, :23])  # scores tens of nats apart: some keys get no weight at all
    done = kernels.attend(q, k, v, causal, 0.3, groups=2)
    assert done is not None
    out, lse = done
    scores = q.double() @ k.double().transpose(-1, -2) * 0.3
    if causal:
        scores = scores.masked_fill(torch.ones(29, 29, dtype=torch.bool).triu(1), float("-inf"))
    reference = scores.softmax(-1) @ v.double()
    assert (out.dtype, lse.dtype) == (dtype, torch.float32)
    assert float((out - reference).norm() / reference.norm()) < (1e-6 if dtype == torch.float32 else 1e-2)
    assert float((lse - scores.logsumexp(-1)).abs().max()) < 2e-5  # scores are float32 in either precision


@pytest.mark.usefixtures("onednn")
@pytest.mark.parametrize("queries", [3, 300])
def test_gradients_of_few_queries_are_computed_in_float32(queries: int) -> None:
    torch.manual_seed(0)
    q, k, v, grad = (torch.randn(1, 2, queries, 16).bfloat16() for _ in range(4))
    out, lse = ops.attend(q, k, v, 0.3, causal=True)
    gradients = ops.attend_backward(grad, q, k, v, out, lse, True, 0.3)
    assert {x.dtype for x in gradients} == {torch.float32 if queries == 3 else torch.bfloat16}


WITHOUT = """
import sys
sys.modules["spillover.engine.kernels"] = None  # importing it fails, as if its file had been deleted
sys.path.insert(0, {support!r})
import random, tinymodels, torch
from spillover.engine import ops
from spillover.engine.plain import PlainEngine
from spillover.engine.shared import SharedEngine
from spillover.text.request import Request
from spillover.text.samples import Sample
from spillover.train.passes import Pass
from trainings import summed_loss

assert ops.kernels is None
rng, (plain, shared) = random.Random(0), tinymodels.pair()
stem = tuple(rng.randrange(50) for _ in range(30))
prompts = [(*stem, *(rng.randrange(50) for _ in range(rng.randrange(1, 9)))) for _ in range(12)]
requests = [Request(prompt, ((1,), (2, 5)), 4) for prompt in prompts] + [Request(prompt, (), 4) for prompt in prompts]
theirs, ours = (
    dict(engine.run(requests, lambda ids: False))
    for engine in (PlainEngine(plain, frozenset([3])), SharedEngine(shared, frozenset([3]), pack_tokens=64))
)
for number, answer in theirs.items():
    assert (answer.top, answer.generated) == (ours[number].top, ours[number].generated)
    for one, other in zip(answer.logprobs, ours[number].logprobs):
        torch.testing.assert_close(torch.tensor(one), torch.tensor(other), rtol=0, atol=1e-4)
samples = [Sample.of(prompt, len(stem)) for prompt in prompts]
sum(summed_loss(plain, Pass.alone(sample)) for sample in samples).backward()
summed_loss(shared, Pass.shared(samples)).backward()
ours, theirs = (torch.cat([p.grad.flatten() for p in model.parameters()]) for model in (shared, plain))
assert float((ours - theirs).norm() / theirs.norm()) < 1e-5
print(len(requests), "answers")
"""


@pytest.mark.slow
def test_without_this_module_the_engine_gives_the_same_answers_and_gradients() -> None:
    code = WITHOUT.format(support=str(Path(__file__).parents[1] / "support"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "24 answers\n"), done.stderr

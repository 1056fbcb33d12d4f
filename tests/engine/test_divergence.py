"""The divergence between two models: by hand, against full logits, and against what PEFT merges."""

from __future__ import annotations

import copy
import math
import random
from typing import Any

import pytest
import tinymodels
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer

from spillover.engine import attention
from spillover.engine.divergence import Distributions, Passage, _merging, divergence, merge_gap, why_not
from spillover.engine.head import Head


def passages(seed: int = 0) -> list[Passage]:
    """Rows of one prompt with answers of a few tokens, a text that is predicted throughout, and one token after one."""
    rng = random.Random(seed)
    prompt = tuple(rng.randrange(4, 50) for _ in range(12))
    rows = [(prompt + tuple(rng.randrange(4, 50) for _ in range(n)), len(prompt) + 1) for n in (3, 2, 5)]
    return [*rows, (tuple(rng.randrange(4, 50) for _ in range(20)), 1), ((7, 8), 1)]


def direct(model: Any, asked: list[Passage]) -> torch.Tensor:
    """Log-probabilities of the whole vocabulary at every predicted position, from the model's own logits."""
    with torch.no_grad():
        logits = [model(input_ids=torch.tensor([ids])).logits[0, start - 1 : -1].float() for ids, start in asked]
    return torch.cat(logits).log_softmax(-1)


def moved(model: Any, by: float = 0.02) -> Any:
    other = copy.deepcopy(model)
    torch.manual_seed(5)
    with torch.no_grad():
        for weight in other.parameters():
            weight.add_(by * torch.randn_like(weight))
    return other


def with_adapter(model: Any, **options: Any) -> Any:
    """A model as the engine asks it: with adapters in its layers, whose weights are random, and nothing around it."""
    torch.manual_seed(1)
    config = LoraConfig(**{"r": 4, "target_modules": "all-linear", "task_type": "CAUSAL_LM", **options})
    wrapped = get_peft_model(copy.deepcopy(model), config)
    for name, weight in wrapped.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(std=0.2)
    return wrapped.base_model.model.eval().requires_grad_(False)


# --- by hand --------------------------------------------------------------------------------------------------------


def layer(weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.nn.Linear:
    """An output layer."""
    made = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    made.weight.data = weight
    if bias is not None:
        made.bias.data = bias
    return made


def of(*rows: tuple[float, ...]) -> Distributions:
    """Distributions as such: the output layer changes nothing, so hidden states are logits."""
    return Distributions(torch.tensor(rows).log(), Head(layer(torch.eye(len(rows[0])))))


def test_a_divergence_by_hand() -> None:
    nats, largest = divergence(of((0.5, 0.25, 0.25), (1 / 3,) * 3), of((0.25, 0.25, 0.5), (1 / 3,) * 3))
    assert nats.tolist() == pytest.approx([0.25 * math.log(2), 0], abs=1e-7)  # 1/2 ln 2 - 1/4 ln 2
    assert largest == pytest.approx(math.log(2))


def test_it_is_not_symmetric() -> None:
    one, other = of((0.9, 0.1)), of((0.5, 0.5))
    assert divergence(one, other)[0].item() == pytest.approx(0.9 * math.log(1.8) + 0.1 * math.log(0.2), abs=1e-6)
    assert divergence(other, one)[0].item() == pytest.approx(0.5 * math.log(1 / 1.8) + 0.5 * math.log(5), abs=1e-6)


def test_a_token_that_one_vocabulary_lacks_is_left_out() -> None:
    longer = Distributions(of((0.25, 0.25, 0.5)).hidden_PC, Head(layer(torch.eye(3))))
    shorter = Distributions(torch.tensor([[0.5, 0.5, 9.0]]).log(), Head(layer(torch.eye(3)[:2])))
    assert divergence(shorter, longer) == (torch.zeros(1, dtype=torch.float64), 0.0)


def test_nan_stays_nan() -> None:
    assert math.isnan(divergence(of((0.5, 0.5), (0.5, 0.5)), of((0.5, math.nan), (0.5, 0.5)))[1])


@pytest.mark.parametrize(("multiplier", "divisor", "cap"), [(1, 1, None), (3, 1, None), (1, 2, None), (3, 2, 3.0)])
def test_the_head_scales_and_caps(multiplier: float, divisor: float, cap: float | None) -> None:
    head = Head(layer(torch.tensor([[1.0, 0.0], [2.0, 4.0]]), torch.tensor([0.0, 1.0])), multiplier, divisor, cap)
    logits = [1.0 * multiplier / divisor, 11.0 * multiplier / divisor]
    if cap:
        logits = [3 * math.tanh(one / 3) for one in logits]
    assert head(torch.tensor([[1.0, 2.0]], dtype=torch.bfloat16))[0].tolist() == pytest.approx(logits)


# --- real architectures ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["Llama", "GPTNeoX", "Qwen3"])
def test_with_shared_prefixes_or_without_the_distributions_are_the_model_s_own(kind: str) -> None:
    plain, shared = tinymodels.pair(kind)
    asked = passages()
    for model in (plain, shared):
        made = Distributions.of(model, asked)
        assert len(made.hidden_PC) == 2 + 1 + 4 + 19 + 1
        assert (made.logits().log_softmax(-1) - direct(plain, asked)).abs().max() < 1e-3
        assert why_not(model, range(4, 14)) is None


def test_many_short_passages_go_through_the_model_in_several_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    _, model = tinymodels.pair()
    whole = Distributions.of(model, passages()).hidden_PC
    monkeypatch.setattr("spillover.engine.divergence.PASS_TOKENS", 25)
    assert (Distributions.of(model, passages()).hidden_PC - whole).abs().max() < 1e-4


def test_the_divergence_of_two_models_is_that_of_their_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spillover.engine.divergence.POSITIONS_AT_ONCE", 4)
    plain, shared = tinymodels.pair()
    base, variant = direct(plain, passages()), direct(moved(plain), passages())
    expected = torch.nn.functional.kl_div(variant, base, log_target=True, reduction="none").sum(-1)
    nats, largest = divergence(Distributions.of(shared, passages()), Distributions.of(moved(shared), passages()))
    assert expected.mean() > 0.01
    assert nats.tolist() == pytest.approx(expected.tolist(), rel=1e-3, abs=1e-5)
    assert largest == pytest.approx((base - variant).abs().max().item(), rel=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_is_exactly_no_distance_from_itself(dtype: torch.dtype) -> None:
    _, model = tinymodels.pair()
    model = model.to(dtype)
    base = Distributions.of(model, passages())
    nats, largest = divergence(base, Distributions.of(copy.deepcopy(model), passages()))
    assert (nats.abs().max(), largest) == (0, 0)
    assert divergence(base, Distributions.of(moved(model), passages()))[1] > 0.01


def test_an_output_layer_that_does_something_of_its_own_is_noticed() -> None:
    model = tinymodels.build("HyperCLOVAX", logits_scaling=2.0)  # multiplies, where others divide
    reason = why_not(model, range(4, 14))
    assert reason is not None
    assert "its output layer does something of its own" in reason
    del model.lm_head
    assert "Error: " in (why_not(model, range(4, 14)) or "")


# --- adapters -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"use_dora": True}, {"target_modules": ["embed_tokens", "q_proj"]}], ids=str)
@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float32, 1e-4), (torch.bfloat16, 0.1)])
def test_a_merged_adapter_answers_alike_and_leaves_no_trace(
    options: dict[str, Any], dtype: torch.dtype, rounding: float
) -> None:
    _, base = tinymodels.pair(gain=6.0)
    model = with_adapter(base, **options).to(dtype)
    asked = passages()[3]
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    gap = merge_gap(model, asked)
    assert gap is not None
    assert gap < rounding
    assert all(torch.equal(before[name], weight) for name, weight in model.named_parameters())
    _, largest = divergence(Distributions.of(base, [asked]), Distributions.of(model.float(), [asked]))
    assert largest > 0.3  # the adapter does something


def test_an_adapter_that_merges_otherwise_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = with_adapter(tinymodels.pair(gain=6.0)[1])
    layer = next(module for module in model.modules() if isinstance(module, LoraLayer))
    delta = type(layer).get_delta_weight
    monkeypatch.setattr(type(layer), "get_delta_weight", lambda self, name: 2 * delta(self, name))
    gap = merge_gap(model, passages()[3])
    assert gap is not None
    assert gap > 0.1


def test_a_model_without_adapters_has_nothing_to_merge() -> None:
    assert merge_gap(tinymodels.pair()[1], passages()[3]) is None


def test_what_is_merged_is_put_back_when_a_pass_breaks() -> None:
    attention.register()
    model = with_adapter(tinymodels.build())
    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    weights = [layer.get_base_layer().weight.clone() for layer in layers]
    with pytest.raises(IndexError), _merging([[layer] for layer in layers]):
        model(input_ids=torch.tensor([[99]]))  # no such token
    with _merging([[layer] for layer in layers]):
        model(input_ids=torch.tensor([[5]]))
    assert not any(layer.merged for layer in layers)
    assert all(torch.equal(w, layer.get_base_layer().weight) for w, layer in zip(weights, layers, strict=True))

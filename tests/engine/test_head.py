"""The output layer in float32: with every kind of adapter around it, it is the layer that merging would give."""

from __future__ import annotations

import copy
from typing import Any

import peft
import pytest
import tinymodels
import torch
from answers import ask, classification

from spillover.engine.divergence import Distributions, divergence, merge_gap
from spillover.engine.head import Head, deviation, hidden_states, own_logits
from spillover.engine.shared import SharedEngine
from spillover.engine.suitable import why_plain

WORDS = tuple(range(4, 14))


def adapted(config: Any, tied: bool, dtype: torch.dtype) -> tuple[Any, Any, torch.nn.Linear]:
    """A base, the same model with a random adapter as an engine gets it, and its output layer when that is merged."""
    base = tinymodels.build(tie_word_embeddings=tied)
    torch.manual_seed(1)
    wrapped = peft.get_peft_model(copy.deepcopy(base), config)
    for name, weight in wrapped.named_parameters():
        if weight.requires_grad and "lora_A" not in name:
            weight.data.add_(0.3 * torch.randn_like(weight))
    wrapped = wrapped.to(dtype)
    merged = copy.deepcopy(wrapped).float().merge_and_unload().get_output_embeddings()
    return base.to(dtype), wrapped.base_model.model.eval().requires_grad_(False), merged


KINDS = {
    "LoRA": peft.LoraConfig(r=4, target_modules=["lm_head"], task_type="CAUSAL_LM"),
    "DoRA": peft.LoraConfig(r=4, target_modules=["lm_head"], use_dora=True, task_type="CAUSAL_LM"),
    "a layer of its own": peft.LoraConfig(
        r=4, target_modules=["q_proj"], modules_to_save=["lm_head"], task_type="CAUSAL_LM"
    ),
    "IA3": peft.IA3Config(target_modules=["lm_head"], feedforward_modules=[], task_type="CAUSAL_LM"),
    "LoHa": peft.LoHaConfig(r=4, target_modules=["lm_head"], task_type="CAUSAL_LM", init_weights=False),
    "some tokens": peft.LoraConfig(
        r=4, target_modules=["q_proj"], trainable_token_indices={"embed_tokens": [5, 6]}, task_type="CAUSAL_LM"
    ),
}


@pytest.mark.filterwarnings("ignore")  # PEFT's, about tied weights
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_on_the_output_layer_is_applied(kind: str, tied: bool, dtype: torch.dtype) -> None:
    base, model, merged = adapted(KINDS[kind], tied, dtype)
    hidden = hidden_states(model, WORDS)
    made = Head.of(model)(hidden)
    assert made.dtype == torch.float32
    assert (made - merged(hidden.float())).abs().max() < 1e-3
    changes_head = tied or kind != "some tokens"
    without = base.get_output_embeddings()(hidden).float()
    assert ((made - without).abs().max() > 0.1) == changes_head
    assert deviation(model, WORDS) < 1e-5
    assert why_plain(model, WORDS, str(dtype).removeprefix("torch.")) is None


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("tied", [True, False])
def test_in_bfloat16_answers_and_divergence_are_those_of_the_adapter(tied: bool) -> None:
    """The layer's weight alone would give the base's, to the last bit."""
    base, model, _ = adapted(KINDS["LoRA"], tied, torch.bfloat16)
    for one in (base, model):
        assert why_plain(one, WORDS, "bfloat16") is None
    asked = classification(rows=3)
    ours, theirs = (ask(SharedEngine(one, frozenset()), asked) for one in (model, base))
    apart = max(
        abs(a - b)
        for i in ours
        for mine, other in zip(ours[i].logprobs, theirs[i].logprobs, strict=True)
        for a, b in zip(mine, other, strict=True)
    )
    assert apart > 0.5
    passage = [(WORDS, 1)]
    nats, largest = divergence(Distributions.of(base, passage), Distributions.of(model, passage))
    assert nats.mean() > 0.05
    assert largest > 0.5


@pytest.mark.filterwarnings("ignore")
def test_in_bfloat16_too_a_merge_of_the_output_layer_that_differs_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    _, model, _ = adapted(KINDS["LoRA"], False, torch.bfloat16)
    due = merge_gap(model, (WORDS, 1))
    assert due is not None
    assert due < 1e-3
    layer = model.get_output_embeddings()
    delta = type(layer).get_delta_weight
    monkeypatch.setattr(type(layer), "get_delta_weight", lambda self, name: 2 * delta(self, name))
    assert (merge_gap(model, (WORDS, 1)) or 0.0) > 0.1


def test_a_head_that_is_not_the_model_s_own_is_noticed_where_rounding_hides_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A soft cap that the configuration does not name changes little, less than bfloat16's tolerance."""
    model = tinymodels.build(gain=2.0).to(torch.bfloat16)
    assert why_plain(model, WORDS, "bfloat16") is None
    other = tinymodels.build(gain=2.0).to(torch.bfloat16)
    forward = type(other).forward

    def capped(self: Any, *args: Any, **kwargs: Any) -> Any:
        out = forward(self, *args, **kwargs)
        out.logits = 8 * torch.tanh(out.logits / 8)
        return out

    monkeypatch.setattr(type(other), "forward", capped)
    assert 1e-3 < deviation(other, WORDS) < 0.25
    assert "its output layer does something of its own" in str(why_plain(other, WORDS, "bfloat16"))


def test_a_model_that_computes_logits_everywhere_is_read_at_the_right_positions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = tinymodels.build()
    ids = torch.tensor([WORDS])
    every = model(input_ids=ids).logits[0]
    forward = type(model).forward
    monkeypatch.setattr(type(model), "forward", lambda self, **line: forward(self, **line | {"logits_to_keep": 0}))
    for keep, due in ((torch.tensor([2, 5]), every[[2, 5]]), (3, every[-3:])):
        assert torch.equal(own_logits(model, keep, input_ids=ids), due)

"""bfloat16 on CPUs: only the products of linear layers are rounded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tinymodels
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from spillover.engine.rounded import RoundedLinear, round_products_only

IDS = torch.arange(3, 35)[None] % tinymodels.build().config.vocab_size


def logits(model: nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        return model(input_ids=IDS).logits.float()


def in_bfloat16(adapter: LoraConfig | None = None, seed: int = 0) -> tuple[Any, Any]:
    """A model in bfloat16 and the same numbers in float32."""
    models = []
    for dtype in (torch.bfloat16, torch.float32):
        torch.manual_seed(seed)
        model: Any = tinymodels.build(gain=4.0).bfloat16()
        if adapter is not None:
            model = get_peft_model(model, adapter, autocast_adapter_dtype=False)
            for name, weight in model.named_parameters():
                if "lora_B" in name:
                    nn.init.normal_(weight, std=0.1)
            model = model.base_model.model
        models.append(model.to(dtype).eval())
    return models[0], models[1]


def test_the_error_is_smaller_than_that_of_bfloat16_throughout() -> None:
    rounded, exact = in_bfloat16()
    throughout = (logits(rounded) - logits(exact)).pow(2).mean()
    round_products_only(rounded)
    products = (logits(rounded) - logits(exact)).pow(2).mean()
    assert 0 < products < 0.8 * throughout


def test_hidden_states_are_float32_and_products_are_not() -> None:
    rounded, _ = in_bfloat16()
    round_products_only(rounded)
    layers = [module for module in rounded.modules() if isinstance(module, RoundedLinear)]
    assert layers and {layer.weight.dtype for layer in layers} == {torch.bfloat16}
    assert rounded.get_input_embeddings().weight.dtype == torch.float32
    assert rounded.get_output_embeddings().weight.dtype == torch.float32
    assert rounded.model(input_ids=IDS).last_hidden_state.dtype == torch.float32


@pytest.mark.parametrize("options", [{}, {"use_dora": True}, {"use_rslora": True}], ids=["lora", "dora", "rslora"])
def test_adapters_are_applied(options: dict[str, bool], tmp_path: Path) -> None:
    """Below a plain LoRA the model's own layer is rounded. DoRA reads its weight, so that is float32."""
    adapter = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM", **options)
    rounded, exact = in_bfloat16(adapter)
    throughout = (logits(rounded) - logits(exact)).pow(2).mean()
    round_products_only(rounded)
    assert any(isinstance(module, RoundedLinear) for module in rounded.modules()) == (options != {"use_dora": True})
    assert (logits(rounded) - logits(exact)).pow(2).mean() < 0.8 * throughout

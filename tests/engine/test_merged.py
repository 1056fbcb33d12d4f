"""How far an adapter moves weights: against the checkpoint that PEFT writes after merging it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import adapters
import pytest
import tinymodels
import torch

from spillover.engine import attention, load
from spillover.engine.divergence import merge_gap
from spillover.engine.merged import adapter_changes
from spillover.errors import ModelError
from spillover.models.fit import KINDS
from spillover.models.weights import Change, compare, pooled

OFTEN = ("ADALORA", "IA3", "LN_TUNING", "LOHA", "LOKR", "OFT", "TRAINABLE_TOKENS", "VERA")  # the others rarely
IDS = torch.tensor([[5, 6, 7, 8, 9, 10, 11, 12]])


@pytest.fixture(scope="module", autouse=True)
def ours() -> None:
    attention.register()


def scores(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS).logits.log_softmax(-1)


def loaded(model: Any, wrapped: Any, place: Path, **options: Any) -> Any:
    """The model with the adapter, from files; they are in `base` and `adapter`."""
    model.save_pretrained(place / "base")
    adapters.save(wrapped, place / "adapter", **options)
    return load.load(place / "base", torch.float32, place / "adapter")


def check(model: Any, wrapped: Any, place: Path) -> list[Change]:
    """What is loaded answers as what was trained, and its changes are those of the merged checkpoint."""
    adapted = loaded(model, wrapped, place)
    before, trained = scores(model), scores(wrapped)
    assert torch.equal(scores(adapted), trained)
    assert (trained - before).abs().max() > 1e-3
    gap = merge_gap(adapted, (IDS[0].tolist(), 1))
    weights = {name: weight.clone() for name, weight in adapted.named_parameters()}
    mine = adapter_changes(adapted)
    assert all(torch.equal(weights[name], weight) for name, weight in adapted.named_parameters())
    assert gap is None or gap < 1e-5
    wrapped.merge_and_unload().save_pretrained(place / "merged")
    by_name = {one.name: one for one in compare(place / "base", place / "merged")[0]}
    of_base = [one for one in mine if one.name in by_name]
    assert len(of_base) == len(by_name)
    for one in of_base:
        merged = by_name[one.name]
        assert (one.size, one.base_squared) == (merged.size, pytest.approx(merged.base_squared, rel=1e-6))
        assert (one.absolute, one.squared) == pytest.approx((merged.absolute, merged.squared), rel=1e-4, abs=1e-9)
        assert one.singular_values[:2] == pytest.approx(merged.singular_values[:2], rel=1e-3, abs=1e-6)
    assert any(one.absolute for one in mine)
    return mine


@pytest.mark.parametrize("name", [name for name in adapters.LORAS if name != "a bias of its own"])
def test_lora_with_all_its_options(tmp_path: Path, name: str) -> None:
    model = tinymodels.build(gain=2.0, attention_bias=name == "biases")
    changes = check(model, adapters.wrap(model, adapters.lora(**adapters.LORAS[name])), tmp_path)
    assert pooled(changes).size >= model.num_parameters()


def test_a_bias_that_the_base_has_no_place_for_has_no_merged_form(tmp_path: Path) -> None:
    model = tinymodels.build(gain=2.0)
    wrapped = adapters.wrap(model, adapters.lora(**adapters.LORAS["a bias of its own"]))
    adapted = loaded(model, wrapped, tmp_path)
    assert torch.equal(scores(adapted), scores(wrapped))
    assert merge_gap(adapted, (IDS[0].tolist(), 1)) is None
    with pytest.raises(ModelError, match="no merged form"):
        adapter_changes(adapted)
    assert torch.equal(scores(adapted), scores(wrapped))


@pytest.mark.parametrize("options", [{}, {"use_dora": True}], ids=str)
def test_weights_that_stand_the_other_way_round(tmp_path: Path, options: dict[str, Any]) -> None:
    model = tinymodels.build("GPT2", gain=2.0)
    config = adapters.lora(target_modules=["c_attn", "c_proj"], fan_in_fan_out=True, **options)
    check(model, adapters.wrap(model, config), tmp_path)


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")  # of SHIRA
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.slow] * (kind not in OFTEN)) for kind in adapters.CONFIGS]
)
def test_other_kinds_of_adapters(tmp_path: Path, kind: str) -> None:
    model = tinymodels.build(gain=2.0, num_hidden_layers=2)
    check(model, adapters.wrap(model, adapters.CONFIGS[kind]), tmp_path)


def test_every_kind_that_is_supported_is_tested() -> None:
    assert {"LORA", *adapters.CONFIGS} == set(KINDS)


@pytest.mark.parametrize("kind", tinymodels.EXPERTS)
def test_experts_whose_weights_are_one_tensor(tmp_path: Path, kind: str) -> None:
    model = tinymodels.build(kind, gain=3.0, num_hidden_layers=2, **tinymodels.EXPERTS[kind])
    parameters = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
    config = adapters.lora(target_modules=["q_proj", "o_proj"], target_parameters=parameters)
    wrapped = adapters.wrap(model, config)
    adapted = loaded(model, wrapped, tmp_path)
    assert torch.equal(scores(adapted), scores(wrapped))
    gap = merge_gap(adapted, (IDS[0].tolist(), 1))
    assert gap is not None
    assert gap < 1e-5
    changes = {one.name: one for one in adapter_changes(adapted)}
    before, after = (
        {name: weight.detach() for name, weight in one.named_parameters()}
        for one in (model, wrapped.merge_and_unload())
    )
    for name in (name for name in before if "experts.gate_up_proj" in name and "bias" not in name):
        for number, expert in enumerate(after[name] - before[name]):
            change = changes[name.removeprefix("model.").replace("experts.", f"experts.{number}.")]
            assert change.absolute == pytest.approx(float(expert.abs().sum()), rel=1e-4)
            assert change.singular_values[3] > 0 == pytest.approx(change.singular_values[4], abs=1e-4)  # rank 4
    assert sum(one.size for one in changes.values()) == model.num_parameters()


@pytest.mark.parametrize("kind", ["Mixtral", "Qwen3Moe", "DeepseekV3"])
def test_all_linear_layers_are_the_experts_too(tmp_path: Path, kind: str) -> None:
    """As `lora` trains them: two of a file's matrices are one in memory, so its rank is doubled."""
    model = tinymodels.build(kind, gain=3.0, num_hidden_layers=2, **tinymodels.EXPERTS[kind])
    wrapped = adapters.wrap(model, adapters.lora(r=4, target_modules="all-linear"))
    adapted = loaded(model, wrapped, tmp_path)
    assert torch.equal(scores(adapted), scores(wrapped))
    changes = {one.name: one for one in adapter_changes(adapted)}
    both, down = (changes[f"layers.1.mlp.experts.2.{part}_proj"].singular_values for part in ("gate_up", "down"))
    assert (sum(value > 1e-4 * both[0] for value in both), sum(value > 1e-4 * down[0] for value in down)) == (8, 4)


def test_an_adapter_has_no_more_directions_than_its_rank(tmp_path: Path) -> None:
    model = tinymodels.build()
    adapted = loaded(model, adapters.wrap(model, adapters.lora(r=3, target_modules=["up_proj"])), tmp_path)
    changed = [change for change in adapter_changes(adapted) if change.absolute]
    assert len(changed) == 3  # layers
    for change in changed:
        assert change.singular_values[2] > 0
        assert max(change.singular_values[3:]) < 1e-5 * change.singular_values[0]
        assert sum(value**2 for value in change.singular_values) == pytest.approx(change.squared)


def test_the_output_layer_moves_alone_although_it_is_the_embeddings(tmp_path: Path) -> None:
    model = tinymodels.build(gain=2.0, tie_word_embeddings=True)
    wrapped = adapters.wrap(model, adapters.lora(target_modules=["lm_head"]))
    adapted = loaded(model, wrapped, tmp_path)
    assert torch.equal(scores(adapted), scores(wrapped))
    (moved,) = [change for change in adapter_changes(adapted) if change.absolute]
    head = wrapped.base_model.model.lm_head
    delta = head.get_delta_weight("default").detach()
    assert (moved.name, moved.module) == ("lm_head.weight", "head")
    assert moved.absolute == pytest.approx(float(delta.abs().sum()), rel=1e-5)


def test_a_new_adapter_moves_nothing(tmp_path: Path) -> None:
    from peft import get_peft_model

    model = tinymodels.build()
    model.save_pretrained(tmp_path / "base")
    adapters.save(get_peft_model(model, adapters.lora(target_modules=["up_proj"])), tmp_path / "adapter")  # B is zero
    adapted = load.load(tmp_path / "base", torch.float32, tmp_path / "adapter")
    assert pooled(adapter_changes(adapted)).mean_absolute == 0


def test_in_bfloat16_a_change_smaller_than_its_digits_is_measured(tmp_path: Path) -> None:
    model = tinymodels.build()
    wrapped = adapters.wrap(model, adapters.lora(target_modules=["up_proj"], lora_alpha=0.001))
    exact = pooled(adapter_changes(loaded(model, wrapped, tmp_path)))
    rounded = pooled(adapter_changes(load.load(tmp_path / "base", torch.bfloat16, tmp_path / "adapter")))
    assert rounded.mean_absolute == pytest.approx(exact.mean_absolute, rel=0.02)


def test_an_adapter_that_begins_with_another_base_is_not_measured(tmp_path: Path) -> None:
    model = tinymodels.build()
    wrapped = adapters.wrap(model, adapters.lora(target_modules=["up_proj"], init_lora_weights="pissa"))
    adapted = loaded(model, wrapped, tmp_path)
    assert torch.allclose(scores(adapted), scores(wrapped), atol=1e-4)
    with pytest.raises(ModelError, match="pissa"):
        adapter_changes(adapted)

"""What is loaded has all its weights, uses all of them, and sees no later token; else one line says why not."""

from __future__ import annotations

import json
import logging
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import adapters
import pytest
import tinymodels
import torch
import transformers
from prose import tells
from safetensors.torch import load_file, save_file

from spillover.engine.hf import load_engine, load_model
from spillover.errors import ModelError
from spillover.text.encode import Encoder
from spillover.text.request import Request

IDS = torch.tensor([[5, 6, 7, 8, 9, 10, 11, 12]])


@pytest.fixture(scope="module")
def model() -> Any:
    return tinymodels.build(gain=3.0)


@pytest.fixture
def base(model: Any, tmp_path: Path) -> Path:
    return tinymodels.save(model, tmp_path / "base")


@pytest.fixture
def refused() -> Callable[..., str]:
    def of(folder: Path, adapter: Path | None = None) -> str:
        with pytest.raises(ModelError) as caught:
            load_model(folder, "float32", adapter)
        line = str(caught.value)
        assert "\n" not in line
        assert len(line) < 600
        assert str(adapter or folder) in line
        return line

    return of


def edit(folder: Path, change: Callable[[dict[str, Any]], Any], file: str = "model.safetensors") -> None:
    tensors = load_file(folder / file)
    change(tensors)
    save_file(tensors, folder / file, {"format": "pt"})


# --- checkpoints ------------------------------------------------------------------------------------------------------


def test_weights_that_the_model_does_not_use_are_refused(
    refused: Callable[..., str], base: Path, caplog: pytest.LogCaptureFixture
) -> None:
    edit(base, lambda tensors: tensors.update({"v_head.weight": torch.ones(1, 48)}))
    logging.getLogger("transformers").addHandler(caplog.handler)
    assert tells(refused(base), "1", "not used", "v_head.weight")
    logging.getLogger("transformers").removeHandler(caplog.handler)
    assert not caplog.records  # transformers prints a table of them


def test_weights_that_are_missing_are_refused(refused: Callable[..., str], base: Path) -> None:
    edit(base, lambda tensors: tensors.pop("model.norm.weight"))
    assert tells(refused(base), "missing", "model.norm.weight")


def test_weights_of_another_shape_are_refused(refused: Callable[..., str], base: Path) -> None:
    edit(base, lambda tensors: tensors.update({"lm_head.weight": torch.ones(40, 48)}))
    assert tells(refused(base), "another shape", "lm_head.weight", "40x48", "50x48")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_numbers_are_refused(refused: Callable[..., str], base: Path, value: float) -> None:
    edit(base, lambda tensors: tensors["model.layers.1.mlp.up_proj.weight"][2].fill_(value))
    assert tells(refused(base), "1", "NaN", "model.layers.1.mlp.up_proj.weight")


def test_an_output_layer_that_is_the_embeddings_is_not_missing(tmp_path: Path) -> None:
    tied = tinymodels.save(tinymodels.build(tie_word_embeddings=True), tmp_path)
    assert "lm_head.weight" not in load_file(tied / "model.safetensors")
    assert load_model(tied, "float32")


@pytest.mark.parametrize(
    ("kind", "options"),
    [("Bert", tinymodels.SIZES), ("Roberta", tinymodels.SIZES), ("XLNet", {"d_model": 48, "n_head": 6, "n_layer": 2})],
    ids=["Bert", "Roberta", "XLNet"],
)
def test_a_model_that_sees_later_tokens_is_refused(
    refused: Callable[..., str], tmp_path: Path, kind: str, options: dict[str, Any]
) -> None:
    """Whatever its configuration says."""
    config = getattr(transformers, f"{kind}Config")(**{"vocab_size": 50, **options})
    other = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for weight in other.parameters():
            weight.mul_(12 if weight.dim() > 1 else 1)
    other.save_pretrained(tmp_path)
    assert tells(refused(tmp_path), "from the ones after it")


def test_a_bert_that_is_a_decoder_is_a_language_model(tmp_path: Path) -> None:
    config = transformers.BertConfig(**tinymodels.SIZES, is_decoder=True)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    assert load_model(tmp_path, "float32")


def test_what_transformers_cannot_load_is_one_line(refused: Callable[..., str], base: Path) -> None:
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "model_type": "no-such-model"}))
    assert tells(refused(base), "cannot be loaded", "no-such-model")
    (base / "config.json").write_text(json.dumps({**config, "model_type": "distilbert"}))
    assert refused(base)


# --- adapters ---------------------------------------------------------------------------------------------------------


def made(model: Any, folder: Path, **options: Any) -> Path:
    return adapters.save(adapters.wrap(model, adapters.lora(**{"target_modules": ["q_proj"], **options})), folder)


def answers(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS).logits


def test_adapter_weights_that_no_module_takes_are_refused(
    refused: Callable[..., str], model: Any, base: Path, tmp_path: Path
) -> None:
    """Those of a deeper model, whose other layers would be scored as if they were all."""
    adapter = made(tinymodels.build(num_hidden_layers=6), tmp_path / "adapter")
    assert tells(refused(base, adapter), "6", "not used", "layers.3.self_attn.q_proj")


def test_adapter_weights_that_are_missing_are_refused(
    refused: Callable[..., str], model: Any, base: Path, tmp_path: Path
) -> None:
    adapter = made(model, tmp_path / "adapter")
    name = "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight"
    edit(adapter, lambda tensors: tensors.pop(name), "adapter_model.safetensors")
    assert tells(refused(base, adapter), "1 weights are missing", "layers.1.self_attn.q_proj.lora_A")
    whole = made(model, tmp_path / "whole", modules_to_save=["lm_head"])
    edit(whole, lambda tensors: tensors.pop("base_model.model.lm_head.weight"), "adapter_model.safetensors")
    assert tells(refused(base, whole), "lm_head.weight")


def test_adapters_of_another_size_are_one_line(refused: Callable[..., str], base: Path, tmp_path: Path) -> None:
    adapter = made(tinymodels.build(hidden_size=96), tmp_path / "adapter")
    assert tells(refused(base, adapter), "cannot be loaded", "size")


def test_an_adapter_that_is_not_numbers_is_refused(
    refused: Callable[..., str], model: Any, base: Path, tmp_path: Path
) -> None:
    adapter = made(model, tmp_path / "adapter")
    name = "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight"
    edit(adapter, lambda tensors: tensors[name].fill_(math.nan), "adapter_model.safetensors")
    assert tells(refused(base, adapter), "NaN", "layers.1.self_attn.q_proj.lora_A")


def test_modules_that_the_base_does_not_have_are_one_line(
    refused: Callable[..., str], base: Path, tmp_path: Path
) -> None:
    gpt2 = tinymodels.build("GPT2")
    adapter = made(gpt2, tmp_path / "adapter", target_modules=["c_attn"], fan_in_fan_out=True)
    assert tells(refused(base, adapter), "cannot be loaded", "c_attn")


@pytest.mark.parametrize("where", ["/no/such/folder", "somebody/private-model", "", None])
@pytest.mark.parametrize("options", [{}, {"target_modules": ["embed_tokens", "q_proj"]}], ids=str)
def test_where_the_base_was_in_training_does_not_matter(
    model: Any, base: Path, tmp_path: Path, where: str | None, options: dict[str, Any]
) -> None:
    wrapped = adapters.wrap(model, adapters.lora(**{"target_modules": ["q_proj"], **options}))
    adapter = adapters.save(wrapped, tmp_path / "adapter", save_embedding_layers=False)
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": where}))
    assert torch.equal(answers(load_model(base, "float32", adapter)), answers(wrapped))


def test_a_pickled_adapter_is_the_same_adapter(model: Any, base: Path, tmp_path: Path) -> None:
    wrapped = adapters.wrap(model, adapters.lora(target_modules=["q_proj"]))
    adapter = adapters.save(wrapped, tmp_path / "adapter", safe_serialization=False)
    assert not list(adapter.glob("*.safetensors"))
    assert torch.equal(answers(load_model(base, "float32", adapter, trust=True)), answers(wrapped))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("rows", [53, 45])
@pytest.mark.parametrize("targets", [["q_proj"], ["embed_tokens", "lm_head"]], ids=str)
def test_an_adapter_with_other_tokens_brings_their_embeddings(
    tmp_path: Path, tied: bool, rows: int, targets: list[str]
) -> None:
    model = tinymodels.build(gain=3.0, tie_word_embeddings=tied)
    tinymodels.save(model, tmp_path / "base")
    model.resize_token_embeddings(rows, mean_resizing=False)
    wrapped = adapters.wrap(model, adapters.lora(target_modules=targets))
    adapter = adapters.save(wrapped, tmp_path / "adapter", save_embedding_layers=True)
    loaded = load_model(tmp_path / "base", "float32", adapter)
    assert answers(loaded).shape[-1] == rows
    assert torch.equal(answers(loaded), answers(wrapped))


def test_new_tokens_whose_embeddings_are_not_stored_are_refused(
    refused: Callable[..., str], base: Path, tmp_path: Path
) -> None:
    model = load_model(base, "float32")
    model.resize_token_embeddings(53, mean_resizing=False)
    wrapped = adapters.wrap(model, adapters.lora(target_modules=["embed_tokens"]))
    adapter = adapters.save(wrapped, tmp_path / "adapter", save_embedding_layers=False)
    assert tells(refused(base, adapter), "53", "50", "embed_tokens", "save_embedding_layers")


# --- answers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["IA3", "LN_TUNING", "LOKR", "OFT", "VERA"])
def test_both_engines_answer_with_an_adapter_of_another_kind(model: Any, base: Path, tmp_path: Path, kind: str) -> None:
    wrapped = adapters.wrap(model, adapters.CONFIGS[kind])
    adapter = adapters.save(wrapped, tmp_path / kind)
    shutil.copy(base / "tokenizer.json", adapter)
    encoder = Encoder.load(base)
    requests = [Request((5, 6, 7, 8), ((9, 10), (11,))), Request((5, 6, 7), ((9,), (11,)))]
    shared, why = load_engine(base, encoder, "float32", adapter=adapter)
    assert why is None
    plain, _ = load_engine(base, encoder, "float32", "plain", adapter)
    ours, theirs = (dict(engine.run(requests, lambda ids: True)) for engine in (shared, plain))
    logits = [answers_to(wrapped, request.prompt, option) for request in requests for option in request.options]
    flat = [value for n in range(2) for option in ours[n].logprobs for value in option]
    assert flat == pytest.approx([value for option in logits for value in option], abs=1e-4)
    assert flat == pytest.approx(
        [value for n in range(2) for option in theirs[n].logprobs for value in option], abs=1e-4
    )


def answers_to(model: Any, prefix: tuple[int, ...], option: tuple[int, ...]) -> list[float]:
    ids = (*prefix, *option)
    with torch.no_grad():
        logprobs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    return [float(logprobs[at - 1, ids[at]]) for at in range(len(prefix), len(ids))]

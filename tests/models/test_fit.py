"""What a folder is, from its configuration and headers: a wrong one is refused before anything is computed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from importlib import util
from pathlib import Path
from typing import Any

import adapters
import numpy as np
import pytest
import tinymodels
import transformers
from modelfolders import model_folder
from prose import tells
from safetensors.numpy import load_file, save_file

from spillover import models
from spillover.errors import ModelError
from spillover.models import fit


@pytest.fixture
def refused(tmp_path: Path) -> Callable[..., str]:
    """The one line that a folder is refused with."""

    def of(folder: Path | str, base: Path | None = None, **options: Any) -> str:
        with pytest.raises(ModelError) as caught:
            models.identify(str(folder), **options)
            if base is not None:
                models.check_adapter(str(folder), str(base))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return of


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of three layers."""
    return tinymodels.save(tinymodels.build(), tmp_path_factory.mktemp("base"))


# --- what is no causal language model -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"architectures": ["LlamaForSequenceClassification"]}, ["sequence classification"]),
        ({"architectures": ["BertForTokenClassification"], "model_type": "bert"}, ["token classification"]),
        ({"architectures": ["DistilBertForQuestionAnswering"]}, ["question answering"]),
        ({"architectures": ["ModernBertForMaskedLM"]}, ["masked language modelling"]),
        ({"architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": True}, ["encoder-decoder"]),
        ({"architectures": ["BertLMHeadModel"], "model_type": "bert"}, ["encoder", "is_decoder"]),
        ({"model_type": "xlm-roberta"}, ["xlm-roberta", "encoder"]),
    ],
)
def test_other_models_are_called_what_they_are(
    refused: Callable[..., str], tmp_path: Path, config: dict[str, Any], words: list[str]
) -> None:
    line = refused(model_folder(tmp_path / "other", **config))
    assert tells(line, *words, "causal language model", *config.get("architectures", ()))


@pytest.mark.parametrize(
    "config",
    [
        {"architectures": ["LlamaForCausalLM"]},
        {"architectures": ["GPT2LMHeadModel"]},
        {"architectures": ["Gemma3ForConditionalGeneration"]},
        {"architectures": ["SomethingNew"]},
        {"architectures": ["BertLMHeadModel"], "model_type": "bert", "is_decoder": True},
        {"architectures": None},
    ],
)
def test_language_models_pass(tmp_path: Path, config: dict[str, Any]) -> None:
    assert models.identify(str(model_folder(tmp_path / "one", **config)))


def test_the_encoders_are_those_of_transformers() -> None:
    """The types that have a causal and a masked head, and are no decoder by themselves."""
    spec = util.find_spec("transformers.models.auto.modeling_auto")
    assert spec is not None
    assert spec.origin is not None
    text = Path(spec.origin).read_text()
    both: set[str] = set()
    for head in ("CAUSAL", "MASKED"):
        table = text.split(f"\nMODEL_FOR_{head}_LM_MAPPING_NAMES = ")[1].split("\n)\n")[0]
        kinds = set(re.findall(r'\("([^"]+)", ', table))
        both = both & kinds if both else kinds
    configs = {kind: transformers.CONFIG_MAPPING[kind]() for kind in both}
    encoders = {kind for kind, config in configs.items() if not (config.is_encoder_decoder or kind == "xlm")}
    assert encoders == fit.ENCODERS


# --- layers that are too many or too few ------------------------------------------------------------------------------


def relayered(folder: Path, layers: int) -> Path:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": layers, "layer_types": None}))
    return folder


@pytest.mark.parametrize("layers", [1, 4])
def test_layers_beyond_the_configuration_or_short_of_it_are_refused(
    refused: Callable[..., str], tmp_path: Path, layers: int
) -> None:
    folder = relayered(tinymodels.save(tinymodels.build(), tmp_path), layers)
    assert tells(refused(folder), "3 layers", str(layers), "config.json")


def test_a_layer_that_predicts_further_tokens_is_known_to_be_left_out(tmp_path: Path) -> None:
    config = {"num_hidden_layers": 2, "num_nextn_predict_layers": 1}
    fit.check_layers(config, ["model.layers.2.mlp.weight"], "here")
    with pytest.raises(ModelError):
        fit.check_layers({**config, "num_nextn_predict_layers": 0}, ["model.layers.2.mlp.weight"], "here")


def test_other_towers_have_their_own_layers() -> None:
    names = ["model.vision_tower.encoder.layers.25.mlp.weight", "model.language_model.layers.1.mlp.weight"]
    fit.check_layers({"text_config": {"num_hidden_layers": 2}, "num_hidden_layers": 26}, names, "here")
    with pytest.raises(ModelError):
        fit.check_layers({"text_config": {"num_hidden_layers": 1}}, names, "here")


# --- adapters ---------------------------------------------------------------------------------------------------------


def test_an_adapter_of_a_deeper_model_is_refused(refused: Callable[..., str], base: Path, tmp_path: Path) -> None:
    deeper = tinymodels.build(num_hidden_layers=6)
    adapter = adapters.save(adapters.wrap(deeper, adapters.lora(target_modules=["q_proj"])), tmp_path / "adapter")
    assert tells(refused(adapter, base), "6 layers", "3", "adapter")


def test_an_adapter_of_a_wider_model_is_refused(refused: Callable[..., str], base: Path, tmp_path: Path) -> None:
    wider = tinymodels.build(hidden_size=96)
    adapter = adapters.save(adapters.wrap(wider, adapters.lora(target_modules=["o_proj"])), tmp_path / "adapter")
    assert tells(refused(adapter, base), "layers.0.self_attn.o_proj", "48 x 48", "96 x 96")


def test_an_adapter_of_the_model_passes(base: Path, tmp_path: Path) -> None:
    for name, options in adapters.LORAS.items():
        model = tinymodels.build(attention_bias=name == "biases")
        adapter = adapters.save(adapters.wrap(model, adapters.lora(**options)), tmp_path / name)
        models.identify(str(adapter))
        models.check_adapter(str(adapter), str(base))


@pytest.mark.parametrize("kind", ["PREFIX_TUNING", "PROMPT_TUNING", "P_TUNING", "XLORA", "POLY", "NEW", None])
def test_kinds_that_are_not_supported_are_named(refused: Callable[..., str], tmp_path: Path, kind: str | None) -> None:
    save_file({"prompt_embeddings": np.ones((2, 2), np.float32)}, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": kind}))
    assert tells(refused(tmp_path), str(kind), "not supported", "LORA", "IA3")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"task_type": "SEQ_CLS"}, ["sequence classification", "CAUSAL_LM"]),
        ({"alora_invocation_tokens": [5, 6]}, ["alora_invocation_tokens", "not supported"]),
        ({"layer_replication": [[0, 3], [1, 3]]}, ["layer_replication", "not supported"]),
    ],
)
def test_adapters_that_need_more_than_their_weights_are_refused(
    refused: Callable[..., str], tmp_path: Path, changes: dict[str, Any], words: list[str]
) -> None:
    wrapped = adapters.wrap(tinymodels.build(), adapters.lora(target_modules=["q_proj"]))
    adapter = adapters.save(wrapped, tmp_path / "adapter")
    assert models.identify(str(adapter))
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**config, **changes}))
    assert tells(refused(adapter), *words)


def test_a_pickled_adapter_needs_trust(refused: Callable[..., str], base: Path, tmp_path: Path) -> None:
    wrapped = adapters.wrap(tinymodels.build(), adapters.lora(target_modules=["q_proj"]))
    adapter = adapters.save(wrapped, tmp_path / "adapter", safe_serialization=False)
    assert tells(refused(adapter), "adapter_model.bin", "pickled", "trust")
    assert models.identify(str(adapter), trust=True)["kind"] == "adapter"


def test_weights_of_a_model_beside_an_adapter_are_not_the_adapters(
    refused: Callable[..., str], base: Path, tmp_path: Path
) -> None:
    wrapped = adapters.wrap(tinymodels.build(), adapters.lora(target_modules=["q_proj"]))
    adapter = adapters.save(wrapped, tmp_path / "adapter")
    alone = models.weights_sha256(adapter)
    save_file(load_file(base / "model.safetensors"), adapter / "model.safetensors")
    assert models.weights_sha256(adapter) == alone
    (adapter / "adapter_model.safetensors").unlink()
    assert tells(refused(adapter), "no weights", "adapter_model.safetensors")


def test_tokens_that_nobody_stored_embeddings_for(refused: Callable[..., str], base: Path, tmp_path: Path) -> None:
    wrapped = adapters.wrap(tinymodels.build(), adapters.lora(target_modules=["q_proj"]))
    adapter = adapters.save(wrapped, tmp_path / "adapter")
    whole = json.loads((base / "tokenizer.json").read_text())
    added = {**whole["added_tokens"][0]} if whole["added_tokens"] else {"special": True, "normalized": False}
    whole["added_tokens"] = [{**added, "id": 52, "content": "<new>"}]
    (adapter / "tokenizer.json").write_text(json.dumps(whole))
    line = refused(adapter, base)
    assert tells(line, "53 tokens", "50 rows", "save_embedding_layers")

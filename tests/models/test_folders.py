"""Model folders: one identity for one content, and a refusal of what is broken or would run code."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from modelfolders import model_folder, safetensors

from spillover import models
from spillover.disk import file_sha256
from spillover.errors import ModelError
from spillover.fingerprint import canonical
from spillover.models import folders


def test_a_folders_identity_is_its_content(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "one")
    identity = models.identify("one", tmp_path)
    canonical(identity)  # plain JSON
    # The same checkpoint elsewhere, saved under another name there, is the same model.
    model_folder(tmp_path / "elsewhere" / "two")
    assert models.identify(str(tmp_path / "elsewhere" / "two")) == identity
    assert models.resolve("one", tmp_path) == models.Model("one", folder, identity)
    # One byte of the weights, with size and name unchanged, is another model.
    (folder / "model.safetensors").write_bytes(safetensors(b"12345679"))
    changed = models.identify("one", tmp_path)
    assert changed != identity
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "rope_theta": 5}))
    assert models.identify("one", tmp_path) not in (identity, changed)


def test_a_configuration_may_hold_what_is_not_finite(tmp_path: Path) -> None:
    """Those of Mamba 2 and its descendants do: `"time_step_limit": [0.0, Infinity]`."""
    folder, found = model_folder(tmp_path / "one"), []
    for limit in ("Infinity", "-Infinity", "NaN", "1.0"):
        (folder / "config.json").write_text(f'{{"model_type": "llama", "time_step_limit": [0.0, {limit}]}}')
        found.append(models.identify("one", tmp_path))
    assert len({one["config"] for one in found}) == 4


ODD = ["", "{", "[" * 50_000, '{"a": ' * 50_000, "null", "3", "[]", '"x"', '{"a": 1e400}']
SAID: list[dict[str, object]] = [
    {"weight_map": 3},
    {"architectures": 3, "model_type": ["bert"], "vocab_size": "x", "text_config": []},
    {"peft_type": ["LORA"], "task_type": {}},
    {"peft_type": "LORA", "task_type": ["SEQ_CLS"], "trainable_token_indices": 5},
    {"peft_type": "LORA", "token_indices": {"a": 1}},
]


@pytest.mark.parametrize("text", [*ODD, *map(json.dumps, SAID)])
@pytest.mark.parametrize(
    "name", ["config.json", "adapter_config.json", "tokenizer.json", "model.safetensors.index.json", "header"]
)
def test_whatever_a_json_file_holds_the_folder_is_read_or_refused_in_a_line(
    tmp_path: Path, name: str, text: str
) -> None:
    base, folder = model_folder(tmp_path / "base"), model_folder(tmp_path / "one")
    if name == "header":
        (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text.encode())
    else:
        (folder / name).write_text(text)
    if name == "adapter_config.json":
        (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    try:
        models.resolve("one", tmp_path)
        folders.check_adapter_of(folder, base)
        models.content_sha256(folder)
    except ModelError as error:
        assert "\n" not in str(error) and len(str(error)) < 650


def test_weights_are_hashed_once_while_they_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = model_folder(tmp_path / "one")
    read: list[Path] = []
    monkeypatch.setattr(folders, "file_sha256", lambda path: read.append(path) or file_sha256(path))
    models.weights_sha256(folder)
    models.weights_sha256(folder)
    assert len(read) == 2  # just written: it may change again within the clock's tick
    monkeypatch.setattr(folders, "SETTLED_S", -1.0)
    first = models.weights_sha256(folder)
    assert models.weights_sha256(folder) == first
    assert len(read) == 3


def test_a_change_that_keeps_size_and_time_of_the_weights_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a copy that keeps times takes their place, or a tool sets the time back."""
    monkeypatch.setattr(folders, "SETTLED_S", -1.0)
    weights = model_folder(tmp_path / "one") / "model.safetensors"
    stat, before = weights.stat(), models.weights_sha256(weights.parent)
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert models.weights_sha256(weights.parent) != before


def test_pickled_weights_are_refused_unless_trusted(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "one")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="no weights"):
        models.resolve("one", tmp_path)
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(ModelError, match=r"pickled weights are refused: pytorch_model\.bin"):
        models.resolve("one", tmp_path)
    before = models.resolve("one", tmp_path, trust=True).identity
    (folder / "pytorch_model.bin").write_bytes(b"pickl3")
    assert models.identify("one", tmp_path, trust=True) != before


def test_a_pickle_beside_safetensors_does_no_harm(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "one")
    before = models.identify("one", tmp_path)
    (folder / "training_args.bin").write_bytes(b"pickle")
    (folder / "optimizer.pt").write_bytes(b"pickle")
    assert models.identify("one", tmp_path) == before


def test_remote_code_is_refused_unless_trusted(tmp_path: Path) -> None:
    model_folder(tmp_path / "one", auto_map={"AutoModelForCausalLM": "modeling_x.X"})
    with pytest.raises(ModelError, match="remote code is refused"):
        models.identify("one", tmp_path)
    assert models.resolve("one", tmp_path, trust=True).folder.name == "one"


@pytest.mark.parametrize("cut", [0, 4, 30, -1])
def test_half_weights_are_noticed(tmp_path: Path, cut: int) -> None:
    weights = model_folder(tmp_path / "one") / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:cut])
    with pytest.raises(ModelError, match=r"model\.safetensors is"):
        models.identify("one", tmp_path)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "one")
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=r"model-00002-of-00002\.safetensors is missing"):
        models.identify("one", tmp_path)


def test_an_adapter_is_recognised_and_keyed_by_weights_and_config(tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    config = {"peft_type": "LORA", "r": 8, "base_model_name_or_path": "/somewhere/else"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="no weights"):
        models.resolve("adapter", tmp_path)
    (folder / "adapter_model.safetensors").write_bytes(safetensors(b"abc"))
    assert models.is_adapter(folder)
    assert not models.is_adapter(model_folder(tmp_path / "one"))
    identity = models.resolve("adapter", tmp_path).identity
    assert identity["kind"] == "adapter"
    (folder / "adapter_config.json").write_text(json.dumps({**config, "r": 16}))
    other = models.identify("adapter", tmp_path)
    assert other != identity
    (folder / "adapter_model.safetensors").write_bytes(safetensors(b"abd"))
    assert models.identify("adapter", tmp_path) not in (identity, other)


def test_a_folder_without_a_fast_tokenizer_says_how_to_get_one(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "one")
    assert models.tokenizer_folder("one", tmp_path) == folder
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"no tokenizer\.json .*save_pretrained"):
        models.tokenizer_folder("one", tmp_path)


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("model.safetensors", "weights", "weighty"),
        ("adapter_config.json", '{"lora_alpha": 16}', '{"lora_alpha": 32}'),
        ("config.json", '{"rope_theta": 1e4}', '{"rope_theta": 1e5}'),
        ("generation_config.json", '{"eos_token_id": 0}', '{"eos_token_id": [0, 2]}'),
        ("tokenizer.json", "{}", "[]"),
        ("tokenizer_config.json", "{}", "[]"),
        ("chat_template.jinja", "a", "b"),
        ("config.json", "{", "{{"),
    ],
)
def test_whatever_makes_the_answers_is_in_the_hash_of_a_checkpoint(
    tmp_path: Path, name: str, before: str, after: str
) -> None:
    (tmp_path / "model.safetensors").write_text("weights")
    (tmp_path / name).write_text(before)
    first = models.content_sha256(tmp_path)
    (tmp_path / "receipt.json").write_text("is not hashed")
    assert models.content_sha256(tmp_path) == first
    (tmp_path / name).write_text(after)
    assert models.content_sha256(tmp_path) != first
    (tmp_path / name).unlink()
    assert models.content_sha256(tmp_path) != first


def test_versions_and_places_are_not_in_the_hash_of_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"hidden_size": 8, "transformers_version": "5.0"}')
    first = models.content_sha256(tmp_path)
    (tmp_path / "config.json").write_text('{"_name_or_path": "/a/place", "hidden_size": 8}')
    assert models.content_sha256(tmp_path) == first


def test_a_file_that_is_deleted_while_it_is_hashed_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.safetensors").write_text("weights")
    monkeypatch.setattr(folders, "weight_files", lambda folder: [folder / "gone.safetensors"])
    with pytest.raises(ModelError, match=r"gone\.safetensors was deleted"):
        models.weights_sha256(tmp_path)

"""Repositories of the hub, whose answers are faked, and a cache with real snapshots of a few bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from modelfolders import model_folder

from spillover import models
from spillover.disk import file_sha256
from spillover.errors import ModelError


def hub_raises(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def model_info(self: Any, repo: str, **options: Any) -> Any:
        raise error

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", model_info)


def snapshot(hub: Path, repo: str, commit: str) -> Path:
    storage = hub / ("models--" + repo.replace("/", "--"))
    (storage / "refs").mkdir(parents=True)
    (storage / "refs" / "main").write_text(commit)
    return model_folder(storage / "snapshots" / commit)


def test_an_unreachable_hub_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    hub_raises(monkeypatch, ConnectionError("[Errno -2] Name or service\nnot known"))
    for ask in (models.identify, models.resolve, models.tokenizer_folder):
        with pytest.raises(ModelError, match=r"org/name: .* cannot be reached: .* or a folder") as caught:
            ask("org/name")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("GatedRepoError", "is gated .*hf auth login"),
        ("RepositoryNotFoundError", "neither a folder nor a model"),
        ("RevisionNotFoundError", "no such revision"),
    ],
)
def test_what_the_hub_refuses_is_said_with_what_to_do(monkeypatch: pytest.MonkeyPatch, kind: str, message: str) -> None:
    from unittest.mock import MagicMock

    import huggingface_hub.errors

    hub_raises(monkeypatch, getattr(huggingface_hub.errors, kind)("no", response=MagicMock()))
    with pytest.raises(ModelError, match=message):
        models.resolve("org/name@v1")


def test_a_cached_snapshot_needs_no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub_raises(monkeypatch, AssertionError("the hub was asked"))
    commit = "a" * 40
    folder = snapshot(tmp_path / "hub", "org/name", commit)
    identity = {"kind": "hub", "repo": "org/name", "commit": commit}
    assert models.identify("org/name") == identity
    assert models.resolve("org/name") == models.Model("org/name", folder, identity)
    assert models.resolve(f"org/name@{commit}").folder == folder
    assert models.tokenizer_folder("org/name") == folder


def test_weights_in_the_cache_that_are_not_those_of_the_hub_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit is the model's identity: nothing else would show that a bit has flipped since."""
    hub_raises(monkeypatch, AssertionError("the hub was asked"))
    weights = snapshot(tmp_path / "hub", "org/name", "a" * 40) / "model.safetensors"
    blob = tmp_path / "hub" / "models--org--name" / "blobs" / file_sha256(weights)
    blob.parent.mkdir()
    weights.rename(blob)
    weights.symlink_to(blob)
    models.resolve("org/name")
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.write_bytes(content)
    with pytest.raises(ModelError, match=r"org/name: model\.safetensors is not the file that the hub gave"):
        models.resolve("org/name")


def test_a_half_snapshot_is_completed_at_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub as hub

    commit, asked = "b" * 40, []
    folder = snapshot(tmp_path / "hub", "org/name", commit)
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").unlink()
    cached = hub.snapshot_download

    def download(repo: str, *, local_files_only: bool = False, **options: Any) -> str:
        if local_files_only:
            return cached(repo, local_files_only=True, **options)
        asked.append(options["revision"])
        (folder / "model.safetensors").write_bytes(weights)
        return str(folder)

    monkeypatch.setattr(hub, "snapshot_download", download)
    assert models.tokenizer_folder("org/name") == folder  # the tokenizer is there
    assert asked == []
    assert models.resolve("org/name").folder == folder
    assert asked == [commit]


def test_the_hub_is_asked_for_small_files_that_another_program_did_not_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An adapter that was loaded elsewhere: its weights are here, and its generation_config may not be."""
    import huggingface_hub as hub

    commit = "c" * 40
    folder = snapshot(tmp_path / "hub", "org/name", commit)
    (folder / "tokenizer.json").unlink()
    cached = hub.snapshot_download

    def download(repo: str, *, local_files_only: bool = False, **options: Any) -> str:
        if local_files_only:
            return cached(repo, local_files_only=True, **options)
        assert options["revision"] == commit
        (folder / "generation_config.json").write_text("{}")
        return str(folder)

    monkeypatch.setattr(hub, "snapshot_download", download)
    assert (models.settings_folder("org/name") / "generation_config.json").is_file()
    with pytest.raises(ModelError, match=r"no tokenizer\.json"):
        models.tokenizer_folder("org/name")


def test_without_a_connection_a_snapshot_without_tokenizer_counts_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub as hub

    folder = snapshot(tmp_path / "hub", "org/name", "d" * 40)
    (folder / "tokenizer.json").unlink()
    cached = hub.snapshot_download

    def download(repo: str, *, local_files_only: bool = False, **options: Any) -> str:
        if local_files_only:
            return cached(repo, local_files_only=True, **options)
        raise ConnectionError("nobody there")

    monkeypatch.setattr(hub, "snapshot_download", download)
    assert models.settings_folder("org/name") == folder
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="cannot be reached"):
        models.settings_folder("org/name")

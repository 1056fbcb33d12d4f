"""Loading a transformers model into an engine: device, precision, adapters, and whether prefixes can be shared.

Some models cannot share a prefix: recurrent layers, texts longer than a sliding window, attention that transformers
cannot replace. They are answered by the plain engine. So is a model for which the two engines disagree on a short
probe, which runs each time a model is loaded for answers or for training (`why_plain`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from ..errors import ModelError
from ..models.machine import one_line
from ..models.tensors import stored_tensors
from ..text.encode import Encoder
from ..text.request import Request
from . import attention, ops
from .plain import PlainEngine
from .port import Engine
from .shared import SharedEngine

Precision = Literal["float32", "bfloat16"]

PROBE_TOLERANCE = {"float32": 1e-3, "bfloat16": 0.25}  # nats; with a wrong attention, answers differ by whole nats
PROBE_TOKENS = 9
ATTENTION = ("full_attention", "sliding_attention")  # kinds of layers whose prefixes can be shared
CUDA_TOKENS = {"pack_tokens": 4096, "decode_tokens": 131_072}  # the mask of a pass grows with pack_tokens squared


def device() -> torch.device:
    """The one device of this process: the first GPU that it sees, else the CPU.

    Raises ModelError if `--device` names a GPU and there is none, or if a launcher has started several processes.
    """
    if int(os.environ.get("WORLD_SIZE") or 1) > 1:
        advice = "start spillover without torchrun or accelerate: it uses all GPUs by itself, one variant on each"
        raise ModelError("several processes are not supported yet", where="WORLD_SIZE", allowed=advice)
    asked = os.environ.get("SPILLOVER_DEVICE", "")
    if asked.startswith("cuda") and not torch.cuda.is_available():
        raise ModelError("no CUDA device here", where=f"--device {asked}", allowed="cpu, or leave it out")
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def devices() -> list[str]:
    """The devices of a run, with one variant on each at a time: as `--device` names them, else all GPUs, else the CPU.

    Raises ModelError if it names a GPU that does not exist.
    """
    asked = os.environ.get("SPILLOVER_DEVICE", "")
    gpus = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    if asked in ("", "cuda"):
        return gpus or ["cpu"]
    names = asked.split(",")
    unknown = set(names) - {*gpus, "cpu"}
    if unknown and len(names) > 1:  # a single GPU is the only one that this process sees: `device`
        raise ModelError("no such GPU here", where=f"--device {min(unknown)}", allowed=f"there are {', '.join(gpus)}")
    return names


def resolve_precision(asked: str) -> Precision:
    """The precision to compute in; `auto` depends on this machine. Raises ModelError as `device` does."""
    on_gpu = device().type == "cuda"
    if asked != "auto":
        return asked  # type: ignore[return-value]
    if on_gpu:
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    can = torch.cpu.get_capabilities()
    # AVX512-BF16 counts on AMD's cores only: bf16 ran at 1.7 times the speed of float32 on Zen 5, at 0.6 on an Intel
    # Xeon without AMX (docs/log.md)
    faster = can.get("amx_bf16") or ("AMD" in str(can.get("cpu_name")) and can.get("avx512_bf16"))
    return "bfloat16" if faster else "float32"


def load_model(
    folder: Path, precision: Precision, adapter: Path | None = None, trust: bool = False, config: Any = None
) -> Any:
    """A causal language model with all its weights, and a PEFT adapter on top if one is given.

    Raises ModelError if a weight is missing. transformers would only log that, and put random numbers there.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    model, loaded = AutoModelForCausalLM.from_pretrained(
        folder,
        config=config,
        dtype=getattr(torch, precision),
        trust_remote_code=trust,
        use_safetensors=None if trust else True,
        output_loading_info=True,
    )
    _refuse_missing(sorted(loaded["missing_keys"]), folder)
    if adapter is not None:
        model = _with_adapter(model, adapter)
    return model.to(device())


def _with_adapter(model: Any, adapter: Path) -> Any:
    from peft import PeftModel, get_peft_model_state_dict

    wrapped = PeftModel.from_pretrained(model, adapter)
    stored = stored_tensors(adapter / "adapter_model.safetensors")
    _refuse_missing(sorted(set(get_peft_model_state_dict(wrapped)) - stored.keys()), adapter)
    return wrapped.base_model.model


def _refuse_missing(names: list[str], folder: Path) -> None:
    if names:
        what = f"{len(names)} weights are missing, {names[0]} the first"
        raise ModelError(what, where=str(folder), allowed="weights of the model that config.json describes")


def load_engine(
    folder: Path,
    encoder: Encoder,
    precision: Precision,
    asked: Literal["shared", "plain"] = "shared",
    adapter: Path | None = None,
    trust: bool = False,
    longest: int | None = None,
) -> tuple[Engine, str | None]:
    """The engine for a model, and why it is the plain one although the shared one was asked for.

    `longest` is the length of the longest request in tokens, answer included, if it is known.
    """
    model = load_model(folder, precision, adapter, trust).eval().requires_grad_(False)
    if asked == "plain":
        return PlainEngine(model, encoder.eos_ids), None
    words = encoder.text_ids("One two three four five six seven eight nine ten.")
    reason = why_plain(model, words, precision, longest)
    return PlainEngine(model, encoder.eos_ids) if reason else _shared(model, encoder.eos_ids), reason


def _shared(model: Any, eos_ids: frozenset[int]) -> SharedEngine:
    return SharedEngine(model, eos_ids, **(CUDA_TOKENS if model.device.type == "cuda" else {}))


def why_plain(model: Any, words: Sequence[int], precision: Precision, longest: int | None = None) -> str | None:
    """Why the model cannot share prefixes. If it can, the result is None, and its attention has been replaced (`take`).

    `words` are any token ids of the model, at least PROBE_TOKENS. `longest` is the length of the longest sequence in
    tokens, if it is known.
    """
    return _unsuitable(model, longest) or _probe(model, words, precision)


def _unsuitable(model: Any, longest: int | None) -> str | None:
    """What in the model's architecture prevents shared prefixes, or None."""
    others = set(getattr(model.config.get_text_config(), "layer_types", None) or ()) - {*ATTENTION}
    if others:
        return f"layers of type {', '.join(sorted(others))}"
    width = attention.window(model.config)
    if width is not None and (longest is None or longest > width):
        return f"a sliding window of {width:,} tokens" + (f", texts of up to {longest:,}" if longest else "")
    if not getattr(model, "_supports_attention_backend", False):
        return f"transformers does not let the attention of {type(model).__name__} be replaced"
    return None


def _probe(model: Any, words: Sequence[int], precision: Precision) -> str | None:
    """Ask both engines the same short questions. If they agree, return None and leave the attention replaced."""
    usual = model.config._attn_implementation  # sdpa, or eager where a model has no other
    words = tuple(words[:PROBE_TOKENS])
    requests = [Request(words[:5], (words[5:7], words[7:8])), Request(words[:4], (words[6:9], words[2:3]))]
    try:
        take(model)
        ours = dict(_shared(model, frozenset()).run(requests, lambda ids: True))
    except Exception as error:  # whatever an unknown model does with a tree, the plain engine can answer
        _give_back(model, usual)
        return f"{type(error).__name__}: {one_line(error)}"
    _give_back(model, usual)
    theirs = dict(PlainEngine(model, frozenset()).run(requests, lambda ids: True))
    worst = max(
        abs(a - b)
        for number in ours
        for mine, other in zip(ours[number].logprobs, theirs[number].logprobs, strict=True)
        for a, b in zip(mine, other, strict=True)
    )
    if not worst <= PROBE_TOLERANCE[precision]:  # written so that NaN differs
        return f"shared and plain engine differ by {worst:.2g} nats on a probe"
    take(model)
    return None


def take(model: Any) -> None:
    """Replace the model's attention and linear layers, so that it answers and learns by token trees."""
    attention.register()
    model.set_attn_implementation(attention.NAME)
    ops.take_linear_layers(model)


def _give_back(model: Any, usual: str) -> None:
    model.set_attn_implementation(usual)
    ops.give_back_linear_layers(model)

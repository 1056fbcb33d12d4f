"""Loading a transformers model into an engine: device, precision and adapters.

`suitable` says whether the model can share prefixes; if it cannot, the plain engine answers.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import torch

from ..errors import ModelError
from ..text.encode import Encoder
from . import load
from .held import HeldBase
from .lengths import forget_texts
from .plain import PlainEngine
from .port import Engine
from .rounded import round_products_only
from .suitable import shared_engine, why_plain

Precision = Literal["float32", "bfloat16"]

TOGETHER = "SPILLOVER_TOGETHER"  # set in the environment of processes that train one variant together


def device(named: str | None = None) -> torch.device:
    """The one device of this process: the one that is named, else the first GPU that it sees, else the CPU.

    Raises ModelError if `--device` names a GPU and there is none, or if a launcher that is not ours has started several
    processes.
    """
    if int(os.environ.get("WORLD_SIZE") or 1) > 1 and TOGETHER not in os.environ:
        advice = "start spillover without torchrun or accelerate; train: {processes: N} trains a variant on N devices"
        raise ModelError("a launcher has started several processes of it", where="WORLD_SIZE", allowed=advice)
    asked = named or os.environ.get("SPILLOVER_DEVICE", "")
    if asked.startswith("cuda") and not torch.cuda.is_available():
        raise ModelError("no CUDA device here", where=f"--device {asked}", allowed="cpu, or leave it out")
    if named:
        number = torch.device(named).index or 0
        if named != "cpu" and number >= torch.cuda.device_count():
            allowed = f"cuda:0 to cuda:{torch.cuda.device_count() - 1}"
            raise ModelError("no such GPU here", where=f"--device {named}", allowed=allowed)
        return torch.device(named)
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
    folder: Path,
    precision: Precision,
    adapter: Path | None = None,
    trust: bool = False,
    config: Any = None,
    on: str | None = None,
    held: HeldBase | None = None,
) -> Any:
    """A causal language model with all its weights, and a PEFT adapter on top if one is given; `on` names a device.

    `held` keeps the model in `folder` in memory, for other adapters of it. Raises ModelError if some weights are
    missing, unused or not numbers, or if the model is no causal one.
    """
    dtype = getattr(torch, precision)
    if held is None:
        model = load.load(folder, dtype, adapter, trust, config).to(device(on))
    else:
        model = held.with_adapter(folder, dtype, device(on), adapter)
    load.refuse_looking_ahead(model, adapter or folder)
    forget_texts(model)
    return model


def load_engine(
    folder: Path,
    encoder: Encoder,
    precision: Precision,
    asked: Literal["shared", "plain"] = "shared",
    adapter: Path | None = None,
    trust: bool = False,
    longest: int | None = None,
    held: HeldBase | None = None,
) -> tuple[Engine, str | None]:
    """The engine for a model, and why it is the plain one although the shared one was asked for.

    `longest` is the length of the longest request in tokens, answer included, if it is known. `held` is as for
    `load_model`.
    """
    model = load_model(folder, precision, adapter, trust, held=held).eval().requires_grad_(False)
    if precision == "bfloat16" and model.device.type == "cpu":
        round_products_only(model)
    if asked == "plain":
        return PlainEngine(model, encoder.eos_ids), None
    words = encoder.text_ids("One two three four five six seven eight nine ten.")
    reason = why_plain(model, words, precision, longest)
    return PlainEngine(model, encoder.eos_ids) if reason else shared_engine(model, encoder.eos_ids), reason

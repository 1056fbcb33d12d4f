"""The ports of a run: all that it asks of torch, in four functions.

Nothing here imports torch before one of them is called, and none is called by a run that finds everything done. Tests
put fakes in their place. With several devices they are pickled, and called in worker processes.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..engine.port import Engine
    from ..experiment.schema import Experiment
    from ..plan.jobs import TrainJob
    from ..store.store import Json


@dataclass
class Backend:
    """How to train a variant, load an engine, and find out what `precision: auto` means and which devices there are."""

    train: Callable[..., Any] = field(default_factory=lambda: _train)
    load: Callable[..., tuple[Engine, str | None]] = field(default_factory=lambda: _load)
    precision: Callable[[str], str] = field(default_factory=lambda: _precision)
    devices: Callable[[], Sequence[str]] = field(default_factory=lambda: _devices)


def _precision(asked: str) -> str:
    from ..engine.hf import resolve_precision

    return resolve_precision(asked)


def _devices() -> Sequence[str]:
    from ..engine.hf import devices

    return devices()


def _load(*args: Any, **kwargs: Any) -> tuple[Engine, str | None]:
    _make_room()
    from ..engine.hf import load_engine

    return load_engine(*args, **kwargs)


def _train(
    folder: Path, built: Any, job: TrainJob, experiment: Experiment, out: Path, precision: str, progress: Any
) -> Json:
    _make_room()  # before the Trainer is imported: that allocates already
    from ..train.trainer import train

    spec = experiment.train
    trained = train(
        folder,
        built.samples,
        job.recipe,
        out,
        precision=precision,
        share=experiment.engine == "shared",
        gradient_checkpointing=spec.gradient_checkpointing,
        report_to=spec.report_to,
        checkpoint_every_s=float(os.environ.get("SPILLOVER_CHECKPOINT_S", "600")),
        progress=progress,
        trust=experiment.trust,
    )
    return asdict(trained)


def _make_room() -> None:
    """Memory for a model: of the one before, with its gradients and the moments of AdamW, nothing stays.

    Modules, optimisers and tracebacks refer to themselves in circles, which Python breaks only now and then.
    """
    from ..engine.memory import reuse_memory

    reuse_memory()
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

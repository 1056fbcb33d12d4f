"""The port of a run to torch: training, loading, precision and devices.

Nothing here imports torch before one of the methods is called, and a run with nothing to compute calls none of them.
Tests put fakes in its place.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypedDict, Unpack

if TYPE_CHECKING:
    from ..engine.hf import Precision
    from ..engine.port import Engine
    from ..experiment.schema import Experiment
    from ..plan.jobs import TrainJob
    from ..store.store import Json
    from ..text.encode import Encoder
    from ..text.samples import Samples

EngineName = Literal["shared", "plain"]
Steps = Callable[[int, int, float], None]
"""Called with the step, the number of steps and the loss."""


class HowToLoad(TypedDict):
    """An adapter to put on top, whether code of the model's author may run, and the most tokens of a request."""

    adapter: Path | None
    trust: bool
    longest: int


class Backend(Protocol):
    """What a run needs of a machine that computes."""

    def train(
        self,
        folder: Path,
        built: Samples,
        job: TrainJob,
        experiment: Experiment,
        out: Path,
        precision: Precision,
        steps: Steps,
    ) -> Json:
        """Train the model in `folder` on samples, and save it in `out`; returns what the receipt records of it."""

    def load(
        self, folder: Path, encoder: Encoder, precision: Precision, engine: EngineName, **how: Unpack[HowToLoad]
    ) -> tuple[Engine, str | None]:
        """An engine for a model, and why it is the plain one although `engine` is not."""

    def precision(self, requested: str) -> Precision:
        """What the precision of an experiment means on this machine. Raises ModelError for a device that is absent."""

    def devices(self) -> Sequence[str]:
        """The devices to use. Raises ModelError for a device that is absent."""


class Torch:
    """The backend that computes."""

    def train(
        self,
        folder: Path,
        built: Samples,
        job: TrainJob,
        experiment: Experiment,
        out: Path,
        precision: Precision,
        steps: Steps,
    ) -> Json:
        from ..engine.memory import free_memory

        free_memory()  # before the Trainer is imported: that allocates already
        from ..train.trainer import train

        trained = train(
            folder,
            built.samples,
            job.recipe,
            out,
            precision=precision,
            share=experiment.engine == "shared",
            gradient_checkpointing=experiment.train.gradient_checkpointing,
            report_to=experiment.train.report_to,
            checkpoint_every_s=float(os.environ.get("SPILLOVER_CHECKPOINT_S", "600")),
            progress=steps,
            trust=experiment.trust,
        )
        return asdict(trained)

    def load(
        self, folder: Path, encoder: Encoder, precision: Precision, engine: EngineName, **how: Unpack[HowToLoad]
    ) -> tuple[Engine, str | None]:
        from ..engine.hf import load_engine
        from ..engine.memory import free_memory

        free_memory()
        return load_engine(folder, encoder, precision, engine, **how)

    def precision(self, requested: str) -> Precision:
        from ..engine.hf import resolve_precision

        return resolve_precision(requested)

    def devices(self) -> Sequence[str]:
        from ..engine.hf import devices

        return devices()

"""The port of a run to torch: training, loading, precision and devices.

Nothing here imports torch before one of the methods is called, and a run with nothing to compute calls none of them.
Tests put fakes in its place.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from .. import models
from ..errors import ModelError
from ..models.tensors import parameters

if TYPE_CHECKING:
    from ..engine.held import HeldBase
    from ..engine.hf import Precision
    from ..engine.port import Engine
    from ..engine.vllm import VllmEngine
    from ..experiment.schema import Experiment
    from ..plan.jobs import MergeJob, TrainJob
    from ..store.store import Json
    from ..text.compose import Composition
    from ..text.encode import Encoder
    from ..train.together import Parallel
    from ..train.unlikely import Asked, WithoutLoss

BYTES = {"float32": 4, "bfloat16": 2}
FLOAT32_BYTES = BYTES["float32"]
ROOM = 1.5  # of its weights, for a model with the keys of its passes

Writer = Callable[[int, Sequence[int], int, float, Collection[int]], list[tuple[int, ...]]]
"""Called with the first token, the numbers of the texts, their tokens, the temperature, and the ids that end a text."""

Steps = Callable[[int, int, float], None]
"""Called with the step, the number of steps and the loss."""


class Backend(Protocol):
    """What a run needs of a machine that computes. Here every method does it with torch.

    `held` is the base of the run's adapters, as long as it stays in memory.
    """

    held: HeldBase | None = None

    def let_go(self) -> None:
        """Let every model leave the memory of this process, before another one or another process needs the room."""
        from ..engine.memory import free_memory

        self.held = None
        free_memory()

    def train(
        self,
        folder: Path,
        composition: Composition,
        job: TrainJob,
        experiment: Experiment,
        out: Path,
        precision: Precision,
        steps: Steps,
        together: Parallel | None = None,
        pack_tokens: int | None = None,
    ) -> Json:
        """Train the model in `folder` and save it in `out`; returns what the receipt records of it.

        `composition` makes the samples of each step. `together`: how it is trained with the other processes that a
        launcher has started. `pack_tokens` bounds a pass.
        """
        self.let_go()  # before the Trainer is imported: that allocates already
        from ..text.steps import steps_of
        from ..train.together import ALONE, Together
        from ..train.trainer import PACK_TOKENS, train

        trained = train(
            folder,
            steps_of(composition, job.recipe),
            job.recipe,
            out,
            precision=precision,
            share=experiment.shares,
            pack_tokens=pack_tokens or PACK_TOKENS,
            gradient_checkpointing=experiment.train.gradient_checkpointing,
            report_to=experiment.train.report_to,
            checkpoint_every_s=float(os.environ.get("SPILLOVER_CHECKPOINT_S", "600")),
            progress=steps,
            trust=experiment.trust,
            function=job.function.load() if job.function else None,
            together=Together.begin(together) if together else ALONE,
        )
        return asdict(trained)

    def without_loss(self, folder: Path, asked: Sequence[Asked], experiment: Experiment) -> list[list[WithoutLoss]]:
        """What the model in `folder` finds too unlikely to be learned, of each that is asked."""
        from ..engine.memory import free_memory
        from ..train.unlikely import ask

        free_memory()
        return ask(folder, asked, precision=self.precision(experiment.precision), trust=experiment.trust)

    def merge(self, base: Path, trained: Sequence[Path], job: MergeJob, out: Path, trust: bool) -> float:
        """Make weights of trained ones, as a job says, and save them in `out`; returns the seconds it took."""
        from ..train.merge import merge

        self.let_go()
        began = time.perf_counter()
        stays_adapter, key = job.stored_as.makes_adapter, job.variant.key
        merge(base, trained, job.after, out, stays_adapter=stays_adapter, seed=key, trust=trust)
        return time.perf_counter() - began

    def load(
        self,
        folder: Path,
        encoder: Encoder,
        precision: Precision,
        experiment: Experiment,
        adapter: Path | None,
        longest: int,
        hold: bool = False,
    ) -> tuple[Engine, str | None]:
        """An engine for a model, with an adapter on top if one is given; and why it is the plain one if nobody asked.

        `longest` is the largest number of tokens of a request. `hold`: adapters of the model in `folder` will follow,
        so it stays in memory until another model is trained, made or loaded.
        """
        from ..engine.held import HeldBase
        from ..engine.hf import load_engine
        from ..engine.memory import free_memory

        if self.held is not None and not self.held.is_of(folder):
            self.held = None
        if hold and self.held is None:
            self.held = HeldBase()
        free_memory()
        held = self.held if hold else None
        asked: Literal["shared", "plain"] = "shared" if experiment.shares else "plain"
        return load_engine(folder, encoder, precision, asked, adapter, experiment.trust, longest, held=held)

    def serve(
        self,
        folder: Path,
        encoder: Encoder,
        precision: Precision,
        experiment: Experiment,
        adapter: Path | None,
        longest: int,
    ) -> VllmEngine:
        """vLLM with a model, with an adapter merged into it if one is given. No other model stays in memory."""
        from ..engine.vllm import serve, share_of_memory

        self.let_go()
        count = parameters(folder.glob(models.WEIGHTS))
        spare = 0.0 if precision == "float32" else ROOM * FLOAT32_BYTES * count
        reserved = experiment.resources.gpus  # under Ray, less than 1 means that variants share a GPU
        of_device = reserved if reserved and reserved < 1 else 1.0
        share = share_of_memory(count * BYTES[precision], spare, of_device)
        most = min(longest + 1, encoder.max_context)
        return serve(folder, encoder.eos_ids, precision, most, share, adapter, experiment.trust)

    def writer(self, folder: Path, trust: bool) -> Writer:
        """A model in float32 that writes texts by itself."""
        from ..engine.hf import load_model
        from ..engine.memory import free_memory
        from ..engine.sampled import write

        free_memory()
        return partial(write, load_model(folder, "float32", trust=trust).eval())

    def has_room(self, folder: Path) -> bool:
        """Whether a model fits in float32 into the memory that is free now."""
        from ..engine.memory import free_bytes

        return ROOM * FLOAT32_BYTES * parameters(folder.glob(models.WEIGHTS)) < free_bytes()

    def precision(self, requested: str) -> Precision:
        """What the precision of an experiment means on this machine. Raises ModelError for a device that is absent."""
        from ..engine.hf import resolve_precision

        return resolve_precision(requested)

    def devices(self) -> Sequence[str]:
        """The devices to use. Raises ModelError for a device that is absent."""
        from ..engine.hf import devices

        return devices()

    def devices_of_a_training(self, processes: int) -> Sequence[str]:
        """The devices of a training in several processes. Raises ModelError if there are fewer GPUs than processes."""
        devices = self.devices()
        if devices[0] == "cpu":
            return ["cpu"] * processes
        if processes > len(devices):
            what = f"{processes} processes need as many GPUs, and there are {len(devices)}"
            raise ModelError(what, where="train.processes", allowed=f"1 to {len(devices)}, or --device cpu")
        return devices[:processes]


class Torch(Backend):
    """The backend that computes."""

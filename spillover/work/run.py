"""A run: what its steps share, what it prepares before anything is computed, and what failed."""

from __future__ import annotations

import platform
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .. import models
from ..checks.check import disk
from ..checks.prompts import LongestPrompt, longest_prompts
from ..errors import BaseModelError, ModelError, SpilloverError, StoreError, shortened, visible
from ..plan.jobs import ExistingJob, Job, MadeHere, TrainJob
from ..plan.plan import Plan
from ..store.store import Json, Store
from ..text.encode import Encoder
from .backend import Backend
from .inspect import Inspector
from .left import Left
from .progress import Reporter

if TYPE_CHECKING:
    from ..engine.hf import Precision
    from ..engine.port import Engine
    from ..engine.vllm import VllmEngine


# What the system refuses, as torch and safetensors report it in errors of their own. It would refuse the others, too.
REFUSED = ("No space left", "File too large", "Disk quota exceeded", "Read-only file system")


class Run:
    """Work on a plan in this process. `failures` has a line for each variant or unit that failed."""

    def __init__(self, plan: Plan, store: Store, reporter: Reporter, backend: Backend) -> None:
        self.plan, self.store, self.reporter, self.backend = plan, store, reporter, backend
        self.left = Left(plan, store)
        self.failures: list[str] = []

    def prepare(self, jobs: Sequence[Job] = (), devices: int = 1) -> None:
        """Get ready for jobs. Whatever would stop a run hours later is raised here, as a SpilloverError (`check`)."""
        if self.plan.experiment.engine == "vllm":
            models.refuse_without_vllm()
        processes = self.plan.experiment.train.processes
        if processes > 1 and any(map(self._is_to_be_trained, jobs)):
            self.backend.devices_of_a_training(processes)
        self.precision = self._settle_precision()
        probes = self.check(devices)
        self.inspector = Inspector(self.plan, self.store, self.model.folder, self.precision)
        # Only the prompts with most bytes were encoded: another may have some tokens more.
        self.longest = max([self.inspector.longest, *(probe.tokens * 9 // 8 for probe in probes)])
        self.has_adapters = any(map(self._is_adapter, self.plan.jobs))

    def check(self, devices: int = 1) -> list[LongestPrompt]:
        """Find the model, and what would stop a run hours later. Returns the longest prompts. Nothing imports torch.

        That is a prompt that the model cannot hold, a disk that is too small for `devices` trainings at once, or a
        model that is not there. Raises SpilloverError.
        """
        plan = self.plan
        probes = longest_prompts(plan)
        for _ in disk(plan, self.store.folder, self.left.done, devices):
            pass
        self.find_model()
        for job in plan.jobs:
            if isinstance(job, ExistingJob):
                models.check_adapter(str(self.existing_folder(job)), str(self.model.folder))
        return probes

    def find_model(self) -> None:
        """Find the base model, or download it."""
        asked = self.plan.experiment
        self.model = models.resolve(asked.model, self.plan.base, self.reporter.say, asked.trust)

    def _is_to_be_trained(self, job: Job) -> bool:
        return isinstance(job, TrainJob) and not self.store.has_weights(job.variant.key)

    def _is_adapter(self, job: Job) -> bool:
        if isinstance(job, ExistingJob):
            return models.is_adapter(self.existing_folder(job))
        return isinstance(job, MadeHere) and job.stored_as.makes_adapter

    def _settle_precision(self) -> Precision:
        """What `auto` means is settled once a folder, so that its scores stay comparable."""
        requested = self.plan.experiment.precision
        here = self.backend.precision(requested)

        def as_begun() -> str:
            """As the cells that count were made; on this machine's terms if there are none."""
            of_cells = (receipt for of_variant in self.left.there.values() for receipt in of_variant.values())
            return next((str(receipt["precision"]) for receipt in of_cells), here)

        settled: Precision = self.store.precision(as_begun) if requested == "auto" else here  # type: ignore[assignment]
        if settled != here:
            self.reporter.say(f"going on in {settled}, as this folder was begun; `precision: {here}` would start over")
        return settled

    def load(
        self, folder: Path, encoder: Encoder, precision: Precision | None = None, plain: bool = False
    ) -> tuple[Engine, str | None]:
        """An engine for a model or an adapter of it, and why it is the plain one if nobody asked for that.

        In the run's precision if no other is given.
        """
        whole, adapter = self._whole(folder)
        experiment = self.plan.experiment
        if plain:
            experiment = experiment.model_copy(update={"engine": "plain"})
        # A model in another precision stands beside the one that answers, for a moment. A copy of a model that runs
        # its author's code may share more than weights.
        hold = self.has_adapters and whole == self.model.folder and precision is None and not experiment.trust
        asked = precision or self.precision
        try:
            return self.backend.load(
                whole, encoder, asked, experiment, adapter=adapter, longest=self.longest, hold=hold
            )
        except ModelError as error:
            if folder == self.model.folder:
                raise BaseModelError(error.what, where=error.where, allowed=error.allowed) from error
            raise

    def serve(self, folder: Path, encoder: Encoder) -> VllmEngine:
        """vLLM with a model or an adapter of it, in the run's precision."""
        whole, adapter = self._whole(folder)
        return self.backend.serve(whole, encoder, self.precision, self.plan.experiment, adapter, self.longest)

    def _whole(self, folder: Path) -> tuple[Path, Path | None]:
        """The folder of a whole model, and that of an adapter of it."""
        return (self.model.folder, folder) if models.is_adapter(folder) else (folder, None)

    def say_news(self) -> None:
        """Say what was chosen since the last time."""
        while self.left.news:
            self.reporter.say(self.left.news.pop(0))

    @property
    def rounds(self) -> bool:
        """Whether the run's precision rounds so much that close decisions need float32."""
        return self.precision != "float32"

    def load_exact(self, name: str, folder: Path, encoder: Encoder) -> Engine | None:
        """A variant's engine in float32 beside the one that answers; None if there is no memory for it."""
        weights = folder if not models.is_adapter(folder) else self.model.folder
        if not self.backend.has_room(weights):
            self.reporter.say(f"{name}: no memory for the model in float32; close answers stay undecided by rounding")
            return None
        return self.load(folder, encoder, "float32")[0]

    def existing_folder(self, job: ExistingJob) -> Path:
        """The folder of a checkpoint or adapter from elsewhere."""
        return models.resolve(job.path, self.plan.base, None, self.plan.experiment.trust).folder

    def encoder_of(self, job: Job) -> Encoder:
        """The encoder of a variant. An existing checkpoint may bring its own, such as one with another end token."""
        return job.encoder if isinstance(job, ExistingJob) else self.plan.encoder

    def receipt(self, **own: object) -> Json:
        """A receipt: what it records itself, and what every receipt records of the machine."""
        from ..engine import memory

        return {
            **own,
            "device": memory.device_name(),
            "machine": platform.node(),
            "threads": memory.threads(),
            "precision": self.precision,
            "versions": dict(models.versions()),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }

    # --- failures ---------------------------------------------------------------------------------------

    @contextmanager
    def others_go_on(self, what: str) -> Iterator[None]:
        """Record an error of a variant or unit, so that the others go on. Those of store and base stop the run."""
        try:
            yield
        except (StoreError, BaseModelError):
            raise
        except Exception as error:
            for words in REFUSED:
                if words in str(error):
                    raise StoreError(f"{words} while at {what}", where=str(self.store.folder)) from None
            first = str(error).splitlines()[0] if str(error) else ""
            why = first if isinstance(error, SpilloverError) else f"{type(error).__name__}: {first}"
            self.failed(what, why, traceback.format_exc())

    def failed(self, what: str, why: str, text: str | None = None) -> None:
        """Record that something failed; `text` says all that is known of it."""
        path = self.store.write_error(what, text or why)
        self.add_failure(f"{what} failed: {shortened(visible(why), 300)} (all of it in {path})")

    def add_failure(self, line: str) -> None:
        """Add a line whose details are stored already."""
        self.failures.append(line)
        self.reporter.failed(line)

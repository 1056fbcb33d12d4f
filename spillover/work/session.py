"""A process at work on a plan: it prepares once, then brings one variant after another to its end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .. import models
from ..checks.check import disk
from ..checks.prompts import longest_prompts
from ..engine.port import Engine
from ..plan.jobs import ExistingJob, Job
from ..plan.plan import Plan
from ..store.store import Store
from ..text.encode import Encoder
from .backend import Backend
from .context import Context
from .failures import Failures
from .inspect import Inspector
from .left import Left, parents_of
from .progress import Reporter
from .units import Respondent, answer_unit
from .weights import encoder_of, existing_folder, find_or_train

if TYPE_CHECKING:
    from ..engine.hf import Precision


class Session:
    """Works on the variants of a plan in this process.

    Whatever would stop a run hours later is raised here, as a SpilloverError: a prompt that the model cannot hold, a
    disk that is too small for `devices` trainings at once, a model that is not there.
    """

    def __init__(
        self, plan: Plan, store: Store, reporter: Reporter, backend: Backend, failures: Failures, devices: int = 1
    ) -> None:
        precision = _precision(plan, store, reporter, backend)
        probes = longest_prompts(plan)
        for _ in disk(plan, store.folder, store.done(plan.grid), devices):
            pass
        experiment = plan.experiment
        model = models.resolve(experiment.model, plan.base, reporter.say, experiment.trust)
        self.inspector = Inspector(plan, store, model.folder, precision)
        # Only the prompts with most bytes were encoded: another may have some tokens more.
        longest = max([self.inspector.longest, *(probe.tokens * 9 // 8 for probe in probes)])
        for job in plan.jobs:
            if isinstance(job, ExistingJob):
                encoder_of(plan, job, existing_folder(plan, job))
        self.run = Context(plan, store, reporter, backend, failures, precision, model, longest)

    def bring(self, job: Job) -> None:
        """Make what is missing of a variant: its weights, then its cells. The caller holds the variant's lock.

        A failure is recorded, so that others go on. Raises StoreError for what the disk refuses.
        """
        run = self.run
        with run.failures.others_go_on(job.variant.name):
            run.store.finish_if_trained(job.variant.key)
            folder, weights = find_or_train(run, job)
            left = Left(run.plan, run.store)  # after a training the weights may be what they were before
            missing = left.missing[job.variant.key]
            if missing:
                self._answer(job, folder, weights, missing)
                left = Left(run.plan, run.store)
            left.drop_weights([job, *parents_of(run.plan, job)])

    def _answer(self, job: Job, folder: Path, weights: str, missing: set[str]) -> None:
        run, name = self.run, job.variant.name
        run.reporter.doing(f"{name}: loading")
        encoder = encoder_of(run.plan, job, folder)
        self.inspector.prepare(job.variant, weights, lambda: self._load(run.model.folder, run.plan.encoder)[0])
        engine, why_plain = self._load(folder, encoder)
        if why_plain:
            run.reporter.say(f"{name}: no shared prefixes ({why_plain}); the plain engine answers, slower")
        run.reporter.doing(f"{name}: what changed inside")
        for line in self.inspector.inspect(job.variant, folder, weights, engine):
            run.reporter.say(f"{name}: {line}")
        who = Respondent(engine, encoder, weights, why_plain, run.store.known_rows(job.variant.key, weights))
        for unit, parts in run.plan.units(job.variant):
            if missing_here := {cell.key for cell, _ in parts} & missing:
                what = f"{name}: {parts[0][0].test}, {parts[0][0].prompt}"
                run.reporter.doing(what)
                with run.failures.others_go_on(what):
                    answer_unit(run, who, unit, parts, missing_here)

    def _load(self, folder: Path, encoder: Encoder) -> tuple[Engine, str | None]:
        run, experiment = self.run, self.run.plan.experiment
        adapter = folder if models.is_adapter(folder) else None
        return run.backend.load(
            run.model.folder if adapter else folder,
            encoder,
            run.precision,
            experiment.engine,
            adapter=adapter,
            trust=experiment.trust,
            longest=run.longest,
        )


def _precision(plan: Plan, store: Store, reporter: Reporter, backend: Backend) -> Precision:
    """The precision of a run. What `auto` means is settled once a folder, so that its scores stay comparable."""
    requested = plan.experiment.precision
    here = backend.precision(requested)
    settled: Precision = store.precision(lambda: here) if requested == "auto" else here  # type: ignore[assignment]
    if settled != here:
        reporter.say(f"going on in {settled}, as this folder was begun; `precision: {here}` would start over")
    return settled

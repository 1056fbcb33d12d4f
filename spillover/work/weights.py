"""The weights of a variant: found, or trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from .. import models
from ..disk import write_whole
from ..plan.cost import train_work
from ..plan.jobs import ExistingJob, Job, TrainJob
from ..text.samples import build_samples
from .run import Run

TOKENIZER_FILES = (
    "tokenizer*",
    "special_tokens_map.json",
    "chat_template*",
    "vocab*",
    "merges.txt",
    "generation_config.json",
)


def find_or_train(run: Run, job: Job) -> tuple[Path, str]:
    """The folder of a variant's weights, and their hash."""
    if not isinstance(job, TrainJob):
        folder = run.existing_folder(job) if isinstance(job, ExistingJob) else run.model.folder
        return folder, models.weights_sha256(folder, run.plan.experiment.trust)
    key = job.variant.key
    weights = run.store.weights(key)
    if weights and run.store.has_weights(key):
        return run.store.variant_folder(key), weights
    if weights == "":
        run.reporter.say(f"{job.variant.name}: its weights or configuration have changed on disk; training it again")
    return _train(run, job)


def _train(run: Run, job: TrainJob) -> tuple[Path, str]:
    variant, name, experiment = job.variant, job.variant.name, run.plan.experiment
    run.reporter.doing(f"{name}: training")
    built = build_samples(
        job.fmt,
        job.demos,
        job.rows.examples,
        run.plan.encoder,
        job.recipe.max_length,
        job.recipe.overlong,
        where=f"{name} ({job.rows.source})",
        protocol=experiment.protocol,
    )
    if built.rows_shortened or built.rows_dropped:
        run.reporter.say(
            f"{name}: {built.rows_shortened} of {len(job.rows.examples)} samples were too long and lost "
            f"{built.lost}; {built.rows_dropped} left out"
        )
    making = run.store.making_folder(variant.key)
    cost = train_work(job, experiment)
    done = 0

    def steps(step: int, of: int, loss: float) -> None:
        nonlocal done
        run.reporter.doing(f"{name}: training, step {step} of {of}")
        run.reporter.worked(cost * (step - done) / of)
        done = step

    trained = run.backend.train(run.model.folder, built, job, experiment, making, run.precision, steps)
    if trained.get("broken_checkpoints"):
        broken = ", ".join(trained["broken_checkpoints"])
        run.reporter.say(f"{name}: broken after a stop: {broken}; trained on from what was whole before")
    if trained.get("why_plain"):
        run.reporter.say(f"{name}: trained a sample at a time ({trained['why_plain']}), slower")
    if trained.get("dropout_off"):
        modules = ", ".join(trained["dropout_off"])
        run.reporter.say(f"{name}: dropout ({modules}) was off, because samples with a shared prefix need it off")
    _copy_tokenizer(run.model.folder, making)
    _note_end_tokens(making, run.plan.encoder.eos_ids)
    weights = models.content_sha256(making)
    receipt = run.receipt(
        variant=variant.key,
        name=name,
        recipe=job.recipe.content(),
        factors=dict(variant.factors),
        base=run.model.identity,
        source=job.rows.source,
        rows=len(built.samples),
        rows_shortened=built.rows_shortened,
        rows_dropped=built.rows_dropped,
        demonstrations=[demo.doc_id for demo in job.demos],
        weights=weights,
        **trained,
    )
    return run.store.finish_variant(variant.key, receipt), weights


def _copy_tokenizer(source: Path, target: Path) -> None:
    """Complete a trained variant to an ordinary checkpoint, which has a tokenizer."""
    for path in (path for pattern in TOKENIZER_FILES for path in source.glob(pattern)):
        if path.is_file() and not (target / path.name).exists():
            shutil.copy(path, target / path.name)


def _note_end_tokens(folder: Path, ends: frozenset[int]) -> None:
    """Let the checkpoint end its answers where they end here: other tools read that from generation_config.json."""
    path = folder / "generation_config.json"
    settings = json.loads(path.read_text("utf-8")) if path.exists() else {}
    noted = settings.get("eos_token_id")
    if ends != set(noted if isinstance(noted, list) else [noted]):
        settings["eos_token_id"] = min(ends) if len(ends) == 1 else sorted(ends)
        write_whole(path, json.dumps(settings, indent=2) + "\n")

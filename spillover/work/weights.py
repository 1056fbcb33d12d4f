"""The weights of a variant: found, trained, or made of trained ones."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from .. import models
from ..disk import write_whole
from ..errors import ModelError, StoreBusy
from ..plan.composed import compose
from ..plan.cost import TRAINING, train_work
from ..plan.jobs import ExistingJob, Job, MadeHere, MergeJob, TrainJob
from ..plan.writing import OwnTexts
from ..store.store import Broken, Json
from ..text.compose import TooLong
from ..text.samples import Sample
from .launch import train_together
from .run import Run
from .writing import own_texts, rewritten

TOKENIZER_FILES = (
    "tokenizer*",
    "special_tokens_map.json",
    "chat_template*",
    "vocab*",
    "merges.txt",
    "generation_config.json",
)


def find_or_make(run: Run, job: Job) -> tuple[Path, str]:
    """The folder of a variant's weights, and their hash."""
    if not isinstance(job, MadeHere):
        folder = run.existing_folder(job) if isinstance(job, ExistingJob) else run.model.folder
        return folder, models.weights_sha256(folder, run.plan.experiment.trust)
    key = job.variant.key
    try:
        run.store.bring_weights(key)
    except Broken as error:
        run.reporter.say(f"{job.variant.name}: {error}; making it again")
        run.store.drop_weights(key)
    weights = run.store.weights(key)
    if weights and run.store.has_weights(key):
        return run.store.variant_folder(key), weights
    if weights == "":
        run.reporter.say(f"{job.variant.name}: its weights or configuration have changed on disk; making it again")
    made = _merge(run, job) if isinstance(job, MergeJob) else _train(run, job)
    making = run.store.making_folder(key)
    _copy_tokenizer(run.model.folder, making)
    _note_end_tokens(making, run.plan.encoder.eos_ids)
    weights = models.content_sha256(making)
    receipt = run.receipt(
        variant=key,
        name=job.variant.name,
        factors=dict(job.variant.factors),
        base=run.model.identity,
        weights=weights,
        adapter=job.stored_as.makes_adapter,
        **made,
    )
    return run.store.finish_variant(key, receipt), weights


def _merge(run: Run, job: MergeJob) -> Json:
    """Make a variant of trained ones, in its own folder; returns what its receipt says of that."""
    run.reporter.doing(f"{job.variant.name}: {job.how}")
    made_from = [run.left.by_key[key] for key in job.variant.made_from]
    folders, hashes = zip(*(_there(run, one) for one in made_from), strict=True)
    making = run.store.making_folder(job.variant.key, empty=True)
    seconds = run.backend.merge(run.model.folder, folders, job, making, run.plan.experiment.trust)
    parents = [
        {"variant": one.variant.key, "name": one.variant.name, "weights": weights}
        for one, weights in zip(made_from, hashes, strict=True)
    ]
    return {"made_from": parents, "after": job.after.model_dump(mode="json"), "how": job.how, "seconds": seconds}


def _there(run: Run, job: Job) -> tuple[Path, str | None]:
    """The folder and the hash of weights that something is made from. What is made here was made before."""
    if isinstance(job, ExistingJob):
        return find_or_make(run, job)
    key, name = job.variant.key, job.variant.name
    try:
        run.store.bring_weights(key)
    except Broken as error:
        _drop_if_broken(run, job)
        what = f"it is made from {name}, whose weights are broken ({error})"
        raise ModelError(what, allowed="run again: they are made again") from None
    return run.store.variant_folder(key), run.store.weights(key)


def _drop_if_broken(run: Run, job: Job) -> None:
    """Delete weights that cannot be fetched whole, unless another process works on that variant."""
    key = job.variant.key
    with suppress(StoreBusy), run.store.lock_variant(key, job.variant.name):
        try:
            run.store.bring_weights(key)
        except Broken:
            run.store.drop_weights(key)
            run.left.made.discard(key)


def _train(run: Run, job: TrainJob) -> Json:
    """Train a variant, in its own folder; returns what its receipt says of that."""
    variant, name, experiment = job.variant, job.variant.name, run.plan.experiment
    processes = experiment.train.processes
    doing = f"{name}: training" + (f" in {processes} processes" if processes > 1 else "")
    run.reporter.doing(doing)
    job, texts, kept = as_written(run, job)
    composed = compose(job, run.plan.encoder, experiment.protocol, texts)
    built = composed.made
    made = TooLong(built.rows_shortened, built.rows_dropped)
    _say_too_long(run, name, made, len(job.rows.examples), built.lost)
    making = run.store.making_folder(variant.key)
    cost = train_work(job, experiment)
    done = 0

    def steps(step: int, of: int, loss: float) -> None:
        nonlocal done
        run.reporter.doing(f"{doing}, step {step} of {of}")
        run.reporter.worked(TRAINING, cost * (step - done) / of)
        done = step

    if processes > 1:
        trained = train_together(run, variant.key, name, making, steps)
    else:
        how = experiment, making, run.precision, steps
        trained = run.backend.train(run.model.folder, composed.composition, job, *how)
    in_steps = TooLong(**trained.pop("too_long", {}))
    _say_too_long(run, name, in_steps, trained.get("samples", 0), built.lost)
    if trained.get("broken_checkpoints"):
        broken = ", ".join(trained["broken_checkpoints"])
        run.reporter.say(f"{name}: broken after a stop: {broken}; trained on from what was whole before")
    if trained.get("why_plain"):
        run.reporter.say(f"{name}: trained a sample at a time ({trained['why_plain']}), slower")
    if trained.get("without_loss") is not None:
        every, first = (f"{trained[share]:.0%}" for share in ("without_loss", "first_without_loss"))
        what = f"{every} of the answer tokens, {first} of the first ones, had no loss: the base finds them too unlikely"
        run.reporter.say(f"{name}: {what}; {trained['steps_without_loss']} of {trained['steps']} steps made no update")
    if trained.get("evaluations"):
        run.reporter.say(f"{name}: {_best_of(trained, job.recipe.patience)}")
    if trained.get("dropout_off"):
        modules = ", ".join(trained["dropout_off"])
        run.reporter.say(f"{name}: dropout ({modules}) was off, because samples with a shared prefix need it off")
    return {
        "recipe": job.recipe.content(),
        "source": job.rows.source,
        "rows": len(built.samples),
        "rows_shortened": (made + in_steps).shortened,
        "rows_dropped": (made + in_steps).dropped,
        "contexts_cut": in_steps.more,
        "demonstrations": [demo.doc_id for demo in job.demos],
        "replayed": {one.rows.name: len(one.rows.examples) for one in job.others},
        "written": [writing.key for writing in job.writings],
        **({} if kept is None else {"rewritten": kept}),
        **trained,
    }


def _say_too_long(run: Run, name: str, found: TooLong, samples: int, lost: str) -> None:
    if found.shortened or found.dropped:
        what = f"{found.shortened:,} of {samples:,} samples were too long and lost {lost}; {found.dropped:,} left out"
        run.reporter.say(f"{name}: {what}")
    if found.more:
        what = f"{found.more:,} of {samples:,} samples more than needed, because contexts were too long"
        run.reporter.say(f"{name}: {what}")


def _best_of(trained: Json, patience: int) -> str:
    """Which weights of a training are kept, and whether it stopped early."""
    best, steps, planned = (trained[key] for key in ("best_step", "steps", "steps_planned"))
    losses = {step: inside for step, inside, _ in trained["evaluations"]}
    found = f"kept as it was after step {best}, with the lowest loss on validation rows: {losses[best]:.3g}"
    if steps < planned:
        why = f"because {patience} measurements brought no lower loss"
        return f"stopped after step {steps} of {planned}, {why}; {found}"
    return f"{found} ({losses[steps]:.3g} after the last step, {steps})" if best < steps else found


def as_written(run: Run, job: TrainJob) -> tuple[TrainJob, list[Sample], int | None]:
    """The job with its answers in the base's words, the base's own texts, and how many answers were rewritten."""
    name, texts, kept = job.variant.name, [], None
    for writing in job.writings:
        if isinstance(writing, OwnTexts):
            texts = own_texts(run, name, writing)
            continue
        rows, kept = rewritten(run, name, writing, job.rows.examples, job.rows.task.stop)
        job = replace(job, rows=replace(job.rows, examples=tuple(rows)))
        run.reporter.say(f"{name}: {kept} of {len(rows)} answers are learned in the base's words, the others as given")
    return job, texts, kept


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

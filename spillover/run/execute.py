"""Do what is missing of a plan: train, ask, store.

Variant by variant, the base first: its weights are made or found, loaded once, and every missing cell is
filled, a unit (test set x prompt format) at a time. A unit is cut into chunks, and the answers of a chunk are stored
together, so a killed run goes on in the middle of a unit. What is batched together depends only on the unit and
on what whole cells had answered before, not on where a run was killed: resumed runs make the same bytes.
"""

from __future__ import annotations

import platform
import shutil
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from copy import copy
from itertools import zip_longest
from pathlib import Path

from .. import models
from ..checks.check import disk
from ..checks.prompts import longest_prompts
from ..checks.rows import audit_run
from ..engine.port import Engine, Work
from ..errors import ModelError, SpilloverError, StoreError
from ..experiment import dialect
from ..plan.cost import CHARACTERS_A_TOKEN, characters, is_there, train_work, unit_work
from ..plan.grid import Cell, Variant
from ..plan.jobs import BaseJob, ExistingJob, Job, TrainJob
from ..plan.plan import Plan
from ..plan.questions import Question, Sheet, kept
from ..plan.rules import RULES
from ..store.store import Json, Store
from ..text.encode import Encoder
from ..text.samples import build_samples
from .backend import Backend
from .inspect import Inspector
from .predict import Prediction, predict
from .processes import spread
from .progress import Quiet, Reporter

CHUNK_TOKENS = 50_000  # of work; a killed run asks again at most so much: a minute or two on two cores


def execute(
    plan: Plan, store: Store, reporter: Reporter | None = None, backend: Backend | None = None
) -> tuple[str, ...]:
    """Bring the store to what the plan wants; returns a line for each variant or unit that failed.

    A failure leaves its traceback in `DIR/errors/` and the others go on. Raises SpilloverError where nothing can go on:
    a model that cannot be loaded at all, prompts longer than it, a folder in use, a full disk.
    """
    run = _Run(plan, store, reporter or Quiet(), backend or Backend())
    store.create()
    with store.lock():
        run.everything()
    return tuple(run.failures)


class _Run:
    def __init__(self, plan: Plan, store: Store, reporter: Reporter, backend: Backend) -> None:
        self.plan, self.store, self.reporter, self.backend = plan, store, reporter, backend
        self.experiment = plan.experiment
        self.precision = ""
        self.failures: list[str] = []

    def everything(self) -> None:
        self.store.write_grid(self.plan.grid)
        self.store.write_claims(self.experiment.claims)
        self.store.write_audit(audit_run(self.plan))
        for condition, sheet in self.plan.sheets.items():
            self.store.write_prompts(condition, kept(sheet))
        for job in self.plan.jobs:
            self.store.finish_if_trained(job.variant.key)
        missing = {job.variant.key: self._missing(job.variant) for job in self.plan.jobs}
        total = sum(len(cells) for cells in missing.values())
        works = [self._work(job, missing[job.variant.key]) for job in self.plan.jobs]
        self.reporter.start(len(self.plan.grid.cells), len(self.plan.grid.cells) - total, sum(works))
        self.precision = self._precision() if total else ""
        self._write_experiment()
        devices = self.backend.devices() if total else ()
        if total:
            self._refuse_early(len(devices))
            self.store.forget_errors()
        for job in self.plan.jobs:
            if not missing[job.variant.key]:
                self._keep(job)
        todo = [number for number, job in enumerate(self.plan.jobs) if missing[job.variant.key]]
        if len(devices) > 1:
            # The longest first, so that no device is left with one at the end (Graham 1969); but the base before all.
            self._spread(sorted(todo, key=lambda number: (number > 0, -works[number])), devices)
        else:
            for number in todo:
                self.fill(number, self.reporter)

    def _precision(self) -> str:
        """What `auto` means here, or meant where the folder was begun: what is compared is of one precision."""
        here = self.backend.precision(self.experiment.precision)
        receipts = (self.store.cell_receipt(cell.key) for cell in self.plan.grid.cells)
        begun = sorted({receipt["precision"] for receipt in receipts if receipt})
        if self.experiment.precision != "auto" or not begun or here in begun:
            return here
        self.reporter.say(f"going on in {begun[0]}, as this folder was begun; `precision: {here}` would start over")
        return str(begun[0])

    def _spread(self, numbers: Sequence[int], devices: Sequence[str]) -> None:
        """`fill` these variants by a process on each device. The lock, the failures and what is shown stay here."""
        away = copy(self)
        away.reporter = Quiet()
        with closing(spread(away.fill, numbers, devices, self.reporter)) as finished:
            for number, failures in finished:
                with self._others_go_on(self.plan.jobs[number].variant.name):
                    if isinstance(failures, ModelError):
                        raise failures
                    self.failures += failures

    def fill(self, number: int, reporter: Reporter) -> Sequence[str]:
        """Make a variant, the plan's `number`th job, and what is missing of its cells; a line for each failure."""
        job, self.reporter, before = self.plan.jobs[number], reporter, len(self.failures)
        with self._others_go_on(job.variant.name):
            self._variant(job)
            if not self._missing(job.variant):
                self._keep(job)
        return self.failures[before:]

    def _refuse_early(self, devices: int) -> None:
        """What would stop the run later, hours in, stops it before anything is trained."""
        probes = longest_prompts(self.plan)  # or a prompt that the model cannot hold
        for _ in disk(self.plan, self.store.folder, devices):
            pass
        self.model = models.resolve(self.experiment.model, self.plan.base, self.reporter.say, self.experiment.trust)
        self.inspector = Inspector(self.plan, self.store, self.model.folder, self.precision)
        # Of prompts those with most bytes were looked at: another may have some tokens more.
        self.longest = max([self.inspector.longest, *(probe.tokens * 9 // 8 for probe in probes)])
        for job in self.plan.jobs:
            if isinstance(job, ExistingJob):
                self._encoder(job, models.resolve(job.path, self.plan.base, None, self.experiment.trust).folder)

    @contextmanager
    def _others_go_on(self, what: str) -> Iterator[None]:
        """A variant or unit that fails leaves its error; what the disk refuses stops the run."""
        try:
            yield
        except StoreError:
            raise
        except Exception as error:
            if "No space left" in str(error):  # as torch and safetensors say it, in errors of their own
                raise StoreError(f"no space left on the disk while at {what}", where=str(self.store.folder)) from None
            path = self.store.write_error(what, traceback.format_exc())
            first = str(error).splitlines()[0] if str(error) else ""
            why = first if isinstance(error, SpilloverError) else f"{type(error).__name__}: {first}"
            self.failures.append(f"{what} failed: {why} (all of it in {path})")
            self.reporter.say(self.failures[-1])

    def _write_experiment(self) -> None:
        """The experiment as asked for. What `auto` became is a comment: as a value it would be another recipe."""
        raw = self.experiment.as_written()
        lines = [f"# As run; its paths start from {self.plan.base.absolute()}"]
        lines += [f"# precision: {self.precision}"] if self.precision else []
        self.store.write_experiment("\n".join([*lines, dialect.write(raw)]), self.precision)

    # --- one variant ------------------------------------------------------------------------------

    def _variant(self, job: Job) -> None:
        name = job.variant.name
        folder, weights = self._weights(job)
        cells = self._missing(job.variant)
        if not cells:  # the weights are what they were after all
            return
        encoder = self._encoder(job, folder)
        self.reporter.doing(f"{name}: loading")
        self.inspector.prepare(job.variant, weights, lambda: self._load(self.model.folder, self.plan.encoder)[0])
        engine, why_plain = self._load(folder, encoder)
        if why_plain:
            self.reporter.say(f"{name}: no shared prefixes ({why_plain}); the plain engine answers, slower")
        self.reporter.doing(f"{name}: what changed inside")
        for line in self.inspector.look(job.variant, folder, weights, engine):
            self.reporter.say(f"{name}: {line}")
        known = self.store.known_rows(job.variant.key, weights)
        for unit, parts in self.plan.units(job.variant):
            missing = {cell.key for cell, _ in parts} & cells
            if missing:
                what = f"{name}: {parts[0][0].test}, {parts[0][0].prompt}"
                self.reporter.doing(what)
                with self._others_go_on(what):
                    self._unit(f"{unit}-{weights[:8]}", parts, missing, known, engine, encoder, weights, why_plain)

    def _load(self, folder: Path, encoder: Encoder) -> tuple[Engine, str | None]:
        adapter = folder if models.is_adapter(folder) else None
        model, asked, trust = self.model.folder if adapter else folder, self.experiment.engine, self.experiment.trust
        own = {"adapter": adapter, "trust": trust, "longest": self.longest}
        return self.backend.load(model, encoder, self.precision, asked, **own)

    def _weights(self, job: Job) -> tuple[Path, str]:
        """The folder of a variant's weights and their hash, training them if need be."""
        if isinstance(job, BaseJob):
            return self.model.folder, models.weights_sha256(self.model.folder, self.experiment.trust)
        if isinstance(job, ExistingJob):
            folder = models.resolve(job.path, self.plan.base, self.reporter.say, self.experiment.trust).folder
            return folder, models.weights_sha256(folder, self.experiment.trust)
        folder = self.store.variant_folder(job.variant.key)
        if self.store.were_changed(job.variant.key):
            self.reporter.say(f"{job.variant.name}: its weights have changed on disk; training it again")
        elif is_there(job, self.store):
            return folder, str(self.store.present_weights(job.variant.key))
        return self._train(job)

    def _train(self, job: TrainJob) -> tuple[Path, str]:
        variant = job.variant
        self.reporter.doing(f"{variant.name}: training")
        built = build_samples(
            job.fmt,
            job.demos,
            job.rows.examples,
            self.plan.encoder,
            job.recipe.max_length,
            job.recipe.overlong,
            where=f"{variant.name} ({job.rows.source})",
            protocol=self.experiment.protocol,
        )
        if built.rows_shortened or built.rows_dropped:
            self.reporter.say(
                f"{variant.name}: {built.rows_shortened} of {len(job.rows.examples)} samples were too long and lost "
                f"{built.lost}; {built.rows_dropped} left out"
            )
        making = self.store.making_folder(variant.key)
        cost = train_work(job, self.experiment)
        seen = 0

        def progress(step: int, steps: int, loss: float) -> None:
            nonlocal seen
            self.reporter.doing(f"{variant.name}: training, step {step} of {steps}")
            self.reporter.worked(cost * (step - seen) / steps)
            seen = step

        trained = self.backend.train(self.model.folder, built, job, self.experiment, making, self.precision, progress)
        if trained.get("why_plain"):
            self.reporter.say(f"{variant.name}: trained a sample at a time ({trained['why_plain']}), slower")
        if trained.get("dropout_off"):
            self.reporter.say(
                f"{variant.name}: dropout ({', '.join(trained['dropout_off'])}) was off, as shared prefixes need"
            )
        _copy_tokenizer(self.model.folder, making)
        weights = models.weights_sha256(making)
        receipt = {
            "variant": variant.key,
            "name": variant.name,
            "recipe": job.recipe.content(),
            "factors": dict(variant.factors),
            "base": self.model.identity,
            "source": job.rows.source,
            "rows": len(built.samples),
            "rows_shortened": built.rows_shortened,
            "rows_dropped": built.rows_dropped,
            "demonstrations": [demo.doc_id for demo in job.demos],
            "weights": weights,
            **trained,
            **self._machine(),
        }
        place = self.store.finish_variant(variant.key, receipt)
        return place, weights

    def _encoder(self, job: Job, folder: Path) -> Encoder:
        """An existing checkpoint may bring its own tokenizer (another end token); texts must stay the same ids."""
        if not isinstance(job, ExistingJob) or not (folder / "tokenizer.json").exists():
            return self.plan.encoder
        own, texts = Encoder.load(folder), [sheet.questions[0].text for sheet in self.plan.sheets.values()]
        if any(own.text_ids(text) != self.plan.encoder.text_ids(text) for text in texts):
            raise ModelError(
                "its tokenizer makes other tokens of the prompts than the base model's, so answers cannot be paired",
                where=f"variants: {job.variant.name} ({folder})",
                allowed="checkpoints of the model under `model`",
            )
        return own

    def _keep(self, job: Job) -> None:
        """What `keep` says of a trained variant whose cells are all there."""
        keep = self.experiment.keep
        if job.variant.kind != "trained" or keep == "weights":
            return
        folder = self.store.variant_folder(job.variant.key)
        if keep == "none" or not models.is_adapter(folder):
            self.store.drop_weights(job.variant.key)

    # --- one unit -----------------------------------------------------------------------------------

    def _unit(
        self,
        unit: str,
        parts: Sequence[tuple[Cell, Sheet]],
        missing: set[str],
        known: dict[str, Prediction],
        engine: Engine,
        encoder: Encoder,
        weights: str,
        why_plain: str | None,
    ) -> None:
        todo = [(cell, sheet) for cell, sheet in parts if cell.key in missing]
        wanted = {row.prompt_hash: (sheet, row) for row, sheet in _nested(todo) if row.prompt_hash not in known}
        answered, works = self.store.partial(unit)
        cost = unit_work(todo)
        for chunk in _chunks(list(wanted.values())):
            if not all(row.prompt_hash in answered for _, row in chunk):
                before, fresh = Work(**vars(engine.work)), []
                for prediction in predict(engine, encoder, chunk):
                    fresh.append(prediction)
                    self.reporter.worked(cost / len(wanted))
                works.append({name: value - getattr(before, name) for name, value in vars(engine.work).items()})
                self.store.append_partial(unit, fresh, works[-1])
                answered.update((prediction["prompt_hash"], prediction) for prediction in fresh)
            else:
                self.reporter.worked(cost * len(chunk) / len(wanted))
        # A killed run may have written some of the cells that these answers are for: those have their part of the cost.
        total = sum(
            characters(sheet)
            for cell, sheet in parts
            if cell.key in missing or any(row.prompt_hash in answered for row in sheet.questions)
        )
        spent = {name: sum(work[name] for work in works) / total for name in vars(engine.work)}
        self._write_cells(todo, {**known, **answered}, spent, weights, why_plain)
        self.store.drop_partial(unit)

    def _write_cells(
        self,
        todo: Sequence[tuple[Cell, Sheet]],
        rows: dict[str, Prediction],
        spent: dict[str, float],
        weights: str,
        why_plain: str | None,
    ) -> None:
        """The cells of a unit, which is computed as one: `spent` is its work for each character of its rows."""
        for cell, sheet in todo:
            share = characters(sheet)
            receipt = {
                "cell": cell.key,
                "variant": cell.variant,
                "weights": weights,
                "rules": RULES,
                "tokenizer": self.plan.encoder.identity,
                "engine": "plain" if why_plain or self.experiment.engine == "plain" else "shared",
                "why_plain": why_plain,
                **{name: value * share if name == "seconds" else round(value * share) for name, value in spent.items()},
                **self._machine(),
            }
            self.store.write_cell(cell.key, [_for_row(rows[row.prompt_hash], row) for row in sheet.questions], receipt)
            self.reporter.cell()

    # --- what is missing and what it costs ----------------------------------------------------------

    def _missing(self, variant: Variant) -> set[str]:
        """Keys of the variant's cells that do not count."""
        return {c.key for c in self.plan.grid.cells if c.variant == variant.key and not self.store.is_valid(c)}

    def _work(self, job: Job, missing: set[str]) -> float:
        if not missing:
            return 0.0
        units = [[part for part in parts if part[0].key in missing] for _, parts in self.plan.units(job.variant)]
        trains = isinstance(job, TrainJob) and not is_there(job, self.store)
        training = train_work(job, self.experiment) if isinstance(job, TrainJob) and trains else 0.0
        return sum(unit_work(parts) for parts in units if parts) + training

    def _machine(self) -> Json:
        import torch

        gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
        return {
            "device": gpu or f"{platform.machine()} CPU",
            "machine": platform.node(),
            "threads": torch.get_num_threads(),
            "precision": self.precision,
            "versions": models.versions(),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }


def _nested(todo: Sequence[tuple[Cell, Sheet]]) -> Iterator[tuple[Question, Sheet]]:
    """A unit's rows, all shot counts of a row together: a chunk then holds whole nests of prefixes."""
    for rows in zip_longest(*([(row, sheet) for row in sheet.questions] for _, sheet in todo)):
        yield from (pair for pair in rows if pair is not None)


def _chunks(rows: Sequence[tuple[Sheet, Question]]) -> Iterator[list[tuple[Sheet, Question]]]:
    """Consecutive rows of about CHUNK_TOKENS of work. A function of the rows alone."""
    sheets = {id(sheet): sheet for sheet, _ in rows}
    a_row = {name: characters(sheet) / len(sheet.questions) / CHARACTERS_A_TOKEN for name, sheet in sheets.items()}
    chunk: list[tuple[Sheet, Question]] = []
    work = 0.0
    for sheet, row in rows:
        chunk.append((sheet, row))
        work += a_row[id(sheet)]
        if work >= CHUNK_TOKENS:
            yield chunk
            chunk, work = [], 0.0
    if chunk:
        yield chunk


def _for_row(prediction: Prediction, row: Question) -> Prediction:
    """A stored answer under the row that asks now: two rows of one prompt share the answer, not the target."""
    return {**prediction, "doc_id": row.example.doc_id, "target": row.example.target}


def _copy_tokenizer(source: Path, target: Path) -> None:
    """A trained variant is an ordinary checkpoint, so it has its tokenizer."""
    for pattern in (
        "tokenizer*",
        "special_tokens_map.json",
        "chat_template*",
        "vocab*",
        "merges.txt",
        "generation_config.json",
    ):
        for path in source.glob(pattern):
            if path.is_file() and not (target / path.name).exists():
                shutil.copy(path, target / path.name)

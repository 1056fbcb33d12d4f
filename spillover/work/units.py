"""Answering the cells of a variant that are missing, a unit (test set x prompt format) at a time.

A unit is cut into chunks, and the answers of a chunk are stored together, so a run that was killed goes on in the
middle of a unit. What is batched together depends only on the unit and on what whole cells had answered before, not on
where a run was killed: a resumed run makes the same bytes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from ..plan.cost import CHARACTERS_A_TOKEN, LOADING, Parts, characters, kind_of, unit_work
from ..plan.grid import Cell
from ..plan.jobs import Job
from ..plan.questions import Question, Sheet
from ..plan.rules import RULES
from ..store.store import Json
from .harness import as_a_whole
from .predict import Prediction, of_answer, of_row, predict
from .rounding import Rounding, as_recorded
from .run import Run
from .served import Probe, start

if TYPE_CHECKING:
    from ..engine.vllm import VllmEngine

CHUNK_TOKENS = 50_000  # of work; a run that was killed computes at most this much again: a minute or two on two cores


class Respondent:
    """A variant that is loaded and inspected, and answers what is missing of it. `known` is what its cells hold."""

    def __init__(self, run: Run, job: Job, folder: Path, weights: str) -> None:
        self.run, self.job, self.weights = run, job, weights
        variant, name = job.variant, job.variant.name
        run.reporter.doing(f"{name}: loading")
        self.encoder = run.encoder_of(job)
        self.folder = folder
        self.answered_by: str = run.plan.experiment.engine
        served = self.answered_by == "vllm"
        self.served: VllmEngine | None = None  # vLLM, once it is started
        self.why_not_vllm: str | None = None
        run.inspector.prepare(variant, weights, lambda: run.load(run.model.folder, run.plan.encoder, plain=served)[0])
        self._load(plain=served)
        run.reporter.doing(f"{name}: what changed inside")
        self.rounding = rounding = Rounding(lambda: run.load_exact(name, folder, self.encoder)) if run.rounds else None
        base = partial(run.load_exact, name, run.model.folder, run.plan.encoder)
        exact = (base, lambda: rounding.engine) if rounding else None
        for known in run.inspector.inspect(variant, folder, weights, self.engine, exact):
            run.reporter.say(f"{name}: {known}")
        self._find_known()
        run.reporter.worked(LOADING, 1)

    @property
    def engine_name(self) -> str:
        """Which engine answers, as receipts have it."""
        return "plain" if self.why_plain else self.answered_by

    def _find_known(self) -> None:
        """What whole cells hold of the answers of this engine."""
        run, key = self.run, self.job.variant.key
        of_others = {cell.key for cell in run.plan.grid.every_cell if cell.variant != key}
        self.known = run.store.known_rows(key, self.weights, self.engine_name, of_others)

    def _load(self, plain: bool = False) -> None:
        run, name = self.run, self.job.variant.name
        self.engine, self.why_plain = run.load(self.folder, self.encoder, plain=plain)
        if self.why_plain:
            run.reporter.say(f"{name}: no shared prefixes ({self.why_plain}); the plain engine answers, slower")

    def answer(self, missing: Collection[str]) -> None:
        """Answer these cells, a unit at a time. If a unit fails, the others go on."""
        units = [
            (unit, parts, todo)
            for unit, parts in self.run.plan.units(self.job.variant)
            if (todo := [(cell, sheet) for cell, sheet in parts if cell.key in missing])
        ]
        if units and self.answered_by == "vllm" and self.served is None:
            self._start_vllm([todo for _, _, todo in units])
        for unit, parts, todo in units:
            what = f"{self.job.variant.name}: {parts[0][0].test}, {parts[0][0].prompt}"
            self.run.reporter.doing(what)
            with self.run.others_go_on(what):
                self._unit(unit, parts, todo)

    def _start_vllm(self, units: Sequence[Parts]) -> None:
        """Let vLLM answer from here on; if it is not to be trusted, the engine that shares prefixes."""
        run, name = self.run, self.job.variant.name
        run.reporter.doing(f"{name}: vLLM is started and compared with the plain engine")
        probe = Probe(self.engine, self.encoder, run.plan.encoder, units)
        del self.engine  # its model leaves the memory, and vLLM takes it
        self.served, self.why_not_vllm = start(run, self.folder, self.encoder, probe)
        if self.served is not None:
            self.engine = self.served
        else:
            self._load()
            self.answered_by = "shared"
            self._find_known()
            run.reporter.say(f"{name}: vLLM is not used ({self.why_not_vllm}); the shared engine answers")

    def close(self) -> None:
        """Give the memory of vLLM back, if it was used."""
        if self.served is not None:
            self.served.close()

    def _unit(self, unit: str, parts: Parts, todo: Parts) -> None:
        """Answer what is to do of the parts of a unit, and write these cells."""
        run, cost, kind = self.run, unit_work(todo), kind_of(todo[0][1])
        partial, rounding = f"{unit}-{self.weights[:8]}-{self.engine_name}", self.rounding
        if rounding:
            rounding.learn(self.known.values())
        wanted = {q.prompt_hash: (sheet, q) for q, sheet in _nested(todo) if q.prompt_hash not in self.known}
        answered, works = run.store.partial(partial)

        def told() -> None:
            run.reporter.worked(kind, cost / len(wanted))

        for chunk in _chunks(list(wanted.values())):
            if not all(question.prompt_hash in answered for _, question in chunk):
                before = self._work()
                fresh, thresholds = predict(self.engine, self.encoder, chunk, rounding, told, run.plan.encoder)
                spent = {name: value - before[name] for name, value in self._work().items()}
                works.append({**spent, "thresholds": thresholds})
                run.store.append_partial(partial, fresh, works[-1])
                answered.update((prediction["prompt_hash"], prediction) for prediction in fresh)
            else:
                run.reporter.worked(kind, cost * len(chunk) / len(wanted))
            if rounding:
                rounding.learn(answered[question.prompt_hash] for _, question in chunk)
        # A run that was killed may have written some of the cells that these answers are for: those have their share.
        to_write = {cell.key for cell, _ in todo}
        shares = [s for cell, s in parts if cell.key in to_write or any(q.prompt_hash in answered for q in s.questions)]
        total = sum(map(characters, shares))
        spent = {name: sum(work[name] for work in works) / total for name in self._work()}
        thresholds = {
            kind: max(w["thresholds"].get(kind, 0.0) for w in works) for w in works for kind in w["thresholds"]
        }
        for cell, sheet in todo:
            self._write_cell(cell, sheet, {**self.known, **answered}, spent, thresholds)
        run.store.drop_partial(unit)

    def _work(self) -> dict[str, float]:
        """What the engines have done so far; `seconds_float32` is the part of answering again."""
        work = dict(vars(self.engine.work))
        if self.rounding:
            again = vars(self.rounding.work)
            work = {name: value + again[name] for name, value in work.items()} | {"seconds_float32": again["seconds"]}
        return work

    def _write_cell(
        self, cell: Cell, sheet: Sheet, answers: Mapping[str, Prediction], spent: Json, thresholds: Mapping[str, float]
    ) -> None:
        """One cell of a unit, which is computed as one: `spent` is the unit's work for each character of its rows.

        `thresholds` are the largest of the unit.
        """
        run, work = self.run, {name: value * characters(sheet) for name, value in spent.items()}
        # Two rows with one prompt share the answer, not the target: a stored answer goes under the row that asks now.
        rows = [{**of_row(row.example), **of_answer(answers[row.prompt_hash])} for row in sheet.questions]
        receipt = run.receipt(
            cell=cell.key,
            variant=cell.variant,
            weights=self.weights,
            rules=RULES,
            tokenizer=self.encoder.identity,
            end_tokens=sorted(self.encoder.eos_ids),
            engine=self.engine_name,
            why_plain=self.why_plain,
            **({"vllm": self.served.version} if self.served else {}),
            **({"why_not_vllm": self.why_not_vllm} if self.why_not_vllm else {}),
            **{name: value if name.startswith("seconds") else round(value) for name, value in work.items()},
            **({"rounding": as_recorded(rows, thresholds)} if self.rounding else {}),
            **({"as_a_whole": as_a_whole(sheet, rows, run.reporter.say)} if sheet.is_of_harness else {}),
        )
        run.store.write_cell(cell.key, rows, receipt)
        run.reporter.cell()


def _nested(todo: Parts) -> Iterator[tuple[Question, Sheet]]:
    """A unit's rows, all shot counts of a row together: a chunk then holds whole nests of prefixes."""
    for questions in zip_longest(*([(question, sheet) for question in sheet.questions] for _, sheet in todo)):
        yield from (pair for pair in questions if pair is not None)


def _chunks(pairs: Sequence[tuple[Sheet, Question]]) -> Iterator[list[tuple[Sheet, Question]]]:
    """Consecutive rows of about CHUNK_TOKENS of work. Depends on the rows alone."""
    sheets = {id(sheet): sheet for sheet, _ in pairs}
    a_row = {name: characters(sheet) / len(sheet.questions) / CHARACTERS_A_TOKEN for name, sheet in sheets.items()}
    chunk: list[tuple[Sheet, Question]] = []
    work = 0.0
    for sheet, question in pairs:
        chunk.append((sheet, question))
        work += a_row[id(sheet)]
        if work >= CHUNK_TOKENS:
            yield chunk
            chunk, work = [], 0.0
    if chunk:
        yield chunk

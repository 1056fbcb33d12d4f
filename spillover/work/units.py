"""Answering the cells of a variant that are missing, a unit (test set x prompt format) at a time.

A unit is cut into chunks, and the answers of a chunk are stored together, so a run that was killed goes on in the
middle of a unit. What is batched together depends only on the unit and on what whole cells had answered before, not on
where a run was killed: a resumed run makes the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from ..engine.port import Engine
from ..plan.cost import CHARACTERS_A_TOKEN, characters, unit_work
from ..plan.grid import Cell
from ..plan.jobs import Job
from ..plan.questions import Question, Sheet
from ..plan.rules import RULES
from ..store.store import Json
from ..text.encode import Encoder
from .predict import Prediction, predict
from .run import Run

CHUNK_TOKENS = 50_000  # of work; a run that was killed computes at most this much again: a minute or two on two cores


@dataclass(frozen=True)
class Respondent:
    """A loaded variant: its engine and encoder, the hash of its weights, why its engine is plain, and known answers."""

    engine: Engine
    encoder: Encoder
    weights: str
    why_plain: str | None
    known: Mapping[str, Prediction]


def answer(run: Run, job: Job, folder: Path, weights: str) -> None:
    """Load a variant, inspect it, and answer what is missing of it. If a unit fails, the others go on."""
    variant, name = job.variant, job.variant.name
    run.reporter.doing(f"{name}: loading")
    encoder = run.encoder_of(job, folder)
    run.inspector.prepare(variant, weights, lambda: run.load(run.model.folder, run.plan.encoder)[0])
    engine, why_plain = run.load(folder, encoder)
    if why_plain:
        run.reporter.say(f"{name}: no shared prefixes ({why_plain}); the plain engine answers, slower")
    run.reporter.doing(f"{name}: what changed inside")
    for unproven in run.inspector.inspect(variant, folder, weights, engine):
        run.reporter.say(f"{name}: {unproven}")
    who = Respondent(engine, encoder, weights, why_plain, run.store.known_rows(variant.key, weights))
    for unit, parts in run.plan.units(variant):
        if any(cell.key in run.left.missing[variant.key] for cell, _ in parts):
            what = f"{name}: {parts[0][0].test}, {parts[0][0].prompt}"
            run.reporter.doing(what)
            with run.others_go_on(what):
                _answer_unit(run, who, unit, parts)


def _answer_unit(run: Run, who: Respondent, unit: str, parts: Sequence[tuple[Cell, Sheet]]) -> None:
    """Answer what is missing of a unit, and write its cells."""
    partial, work_done = f"{unit}-{who.weights[:8]}", who.engine.work
    todo = [(cell, sheet) for cell, sheet in parts if cell.key in run.left.missing[cell.variant]]
    wanted = {q.prompt_hash: (sheet, q) for q, sheet in _nested(todo) if q.prompt_hash not in who.known}
    answered, works = run.store.partial(partial)
    cost = unit_work(todo)
    for chunk in _chunks(list(wanted.values())):
        if all(question.prompt_hash in answered for _, question in chunk):
            run.reporter.worked(cost * len(chunk) / len(wanted))
            continue
        before, fresh = dict(vars(work_done)), []
        for prediction in predict(who.engine, who.encoder, chunk):
            fresh.append(prediction)
            run.reporter.worked(cost / len(wanted))
        works.append({name: value - before[name] for name, value in vars(work_done).items()})
        run.store.append_partial(partial, fresh, works[-1])
        answered.update((prediction["prompt_hash"], prediction) for prediction in fresh)
    # A run that was killed may have written some of the cells that these answers are for: those have their share.
    missing = {cell.key for cell, _ in todo}
    shares = [s for cell, s in parts if cell.key in missing or any(q.prompt_hash in answered for q in s.questions)]
    total = sum(map(characters, shares))
    spent = {name: sum(work[name] for work in works) / total for name in vars(work_done)}
    answers = {**who.known, **answered}
    for cell, sheet in todo:
        _write_cell(run, who, cell, sheet, answers, spent)
    run.store.drop_partial(partial)


def _write_cell(
    run: Run,
    who: Respondent,
    cell: Cell,
    sheet: Sheet,
    answers: Mapping[str, Prediction],
    spent: Mapping[str, float],
) -> None:
    """One cell of a unit, which is computed as one: `spent` is the unit's work for each character of its rows."""
    share = characters(sheet)
    work: Json = {name: value * share if name == "seconds" else round(value * share) for name, value in spent.items()}
    receipt = run.receipt(
        cell=cell.key,
        variant=cell.variant,
        weights=who.weights,
        rules=RULES,
        tokenizer=run.plan.encoder.identity,
        engine="plain" if who.why_plain else run.plan.experiment.engine,
        why_plain=who.why_plain,
        **work,
    )
    rows = [_as_answer_to(question, answers[question.prompt_hash]) for question in sheet.questions]
    run.store.write_cell(cell.key, rows, receipt)
    run.reporter.cell()


def _as_answer_to(question: Question, prediction: Prediction) -> Prediction:
    """A stored answer under the row that asks now: two rows with one prompt share the answer, not the target."""
    return {**prediction, "doc_id": question.example.doc_id, "target": question.example.target}


def _nested(todo: Sequence[tuple[Cell, Sheet]]) -> Iterator[tuple[Question, Sheet]]:
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

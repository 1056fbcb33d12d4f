"""Answering the cells of a variant, a unit (test set x prompt format) at a time.

A unit is cut into chunks, and the answers of a chunk are stored together, so a run that was killed goes on in the
middle of a unit. What is batched together depends only on the unit and on what whole cells had answered before, not on
where a run was killed: a resumed run makes the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from ..engine.port import Engine, Work
from ..plan.cost import CHARACTERS_A_TOKEN, characters, unit_work
from ..plan.grid import Cell
from ..plan.questions import Question, Sheet
from ..plan.rules import RULES
from ..store.store import Json
from ..text.encode import Encoder
from .context import Context
from .predict import Prediction, predict

CHUNK_TOKENS = 50_000  # of work; a run that was killed computes at most this much again: a minute or two on two cores


@dataclass(frozen=True)
class Respondent:
    """A loaded variant: its engine and encoder, the hash of its weights, why its engine is plain, and known answers."""

    engine: Engine
    encoder: Encoder
    weights: str
    why_plain: str | None
    known: Mapping[str, Prediction]


def answer_unit(
    run: Context, who: Respondent, unit: str, parts: Sequence[tuple[Cell, Sheet]], missing: set[str]
) -> None:
    """Answer what is missing of a unit, and write its cells."""
    partial = f"{unit}-{who.weights[:8]}"
    todo = [(cell, sheet) for cell, sheet in parts if cell.key in missing]
    wanted = {q.prompt_hash: (sheet, q) for q, sheet in _nested(todo) if q.prompt_hash not in who.known}
    answered, works = run.store.partial(partial)
    cost = unit_work(todo)
    for chunk in _chunks(list(wanted.values())):
        if all(question.prompt_hash in answered for _, question in chunk):
            run.reporter.worked(cost * len(chunk) / len(wanted))
            continue
        before, fresh = Work(**vars(who.engine.work)), []
        for prediction in predict(who.engine, who.encoder, chunk):
            fresh.append(prediction)
            run.reporter.worked(cost / len(wanted))
        works.append({name: value - getattr(before, name) for name, value in vars(who.engine.work).items()})
        run.store.append_partial(partial, fresh, works[-1])
        answered.update((prediction["prompt_hash"], prediction) for prediction in fresh)
    # A run that was killed may have written some of the cells that these answers are for: those have their share.
    total = sum(
        characters(sheet)
        for cell, sheet in parts
        if cell.key in missing or any(question.prompt_hash in answered for question in sheet.questions)
    )
    spent = {name: sum(work[name] for work in works) / total for name in vars(who.engine.work)}
    answers = {**who.known, **answered}
    for cell, sheet in todo:
        _write_cell(run, who, cell, sheet, answers, spent)
    run.store.drop_partial(partial)


def _write_cell(
    run: Context,
    who: Respondent,
    cell: Cell,
    sheet: Sheet,
    answers: Mapping[str, Prediction],
    spent: Mapping[str, float],
) -> None:
    """One cell of a unit, which is computed as one: `spent` is the unit's work for each character of its rows."""
    share = characters(sheet)
    work: Json = {name: value * share if name == "seconds" else round(value * share) for name, value in spent.items()}
    receipt = {
        "cell": cell.key,
        "variant": cell.variant,
        "weights": who.weights,
        "rules": RULES,
        "tokenizer": run.plan.encoder.identity,
        "engine": "plain" if who.why_plain or run.plan.experiment.engine == "plain" else "shared",
        "why_plain": who.why_plain,
        **work,
        **run.receipt(),
    }
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

"""Answers to documents of a task of lm-evaluation-harness, scored by the task.

Several requests may belong to a document, so a unit is answered document by document, not request by request. A
prediction holds the raw responses as lm-evaluation-harness would get them, and what the task's own `process_results`
makes of them (`scores`), so that a report needs no model and no lm-evaluation-harness.

In bfloat16, documents are answered by the same model in float32, so that scores are those of lm-evaluation-harness in
float32. Where that does not fit into memory they are answered in bfloat16, and said to be undecided by rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import isnan
from typing import Any

from ..data.harness import HarnessRow
from ..engine.port import Answer, Engine
from ..errors import DataError
from ..plan.questions import Question, Sheet
from ..text.asked import Asked, Laid, lay_out, responses
from ..text.encode import Encoder
from .rounding import Rounding

Prediction = dict[str, Any]
Work = Sequence[tuple[Sheet, Question]]


def answer_documents(
    engine: Engine,
    encoder: Encoder,
    work: Work,
    rounding: Rounding | None,
    progress: Callable[[], None],
    asked_by: Encoder | None,
) -> tuple[list[Prediction], dict[str, float]]:
    """Predictions for documents of one test set, as `predict` makes them of rows."""
    rows = [question.of_task for _, question in work if question.of_task]
    laid = lay_out([row.asked for row in rows], asked_by or encoder)
    exact = rounding.engine if rounding else engine
    found = _answers(exact or engine, encoder, rows, laid, progress)
    undecided = {} if exact else {"undecided": True}
    predictions = [
        _prediction(question, answers, given) | undecided
        for (_, question), (given, answers) in zip(work, found, strict=True)
    ]
    _score(rows, predictions)
    return predictions, {}


def as_a_whole(sheet: Sheet, rows: Sequence[Mapping[str, Any]], say: Callable[[str], None]) -> dict[str, Any]:
    """The scores that only the task itself can compute, from all documents that have such a score, by name.

    The value is None where there is no such document, no number, or where its function fails, which `say` tells.
    """
    documents = [question.of_task for question in sheet.questions if question.of_task]
    task = documents[0].task
    shown = {key.partition("|")[0] for key in sheet.task.metrics}
    kinds = task.kinds([row for row in documents if row.task is task])
    names = [score.name for score in kinds if score.way == "other" and score.name not in shown]
    found = {}
    for name in names:
        values = [value for row in rows if (value := row["scores"].get(name)) is not None]
        value = None
        try:
            value = task.together(name, values) if values else None
        except DataError as error:
            say(f"{error}; it stays without this score")
        found[name] = {"value": None if value is None or isnan(value) else value, "n": len(values)}
    return found


def _answers(
    engine: Engine, encoder: Encoder, rows: Sequence[HarnessRow], laid: Sequence[Laid], progress: Callable[[], None]
) -> list[tuple[list[Any], list[Answer]]]:
    """The responses to each document, with the answers that they come from."""
    found: dict[int, dict[int, Answer]] = {number: {} for number in range(len(rows))}
    by_end: dict[tuple[str, ...], list[tuple[int, int]]] = {}
    for number, (row, one) in enumerate(zip(rows, laid, strict=True)):
        by_end.setdefault(row.asked.until, []).extend((number, place) for place in range(len(one.requests)))
    for until, places in by_end.items():
        requests = [replace(laid[number].requests[place], ends=encoder.ends_of_generate) for number, place in places]
        for at, answer in engine.run(requests, encoder.stop_rule([end for end in until if end])):
            number, place = places[at]
            found[number][place] = answer
            if len(found[number]) == len(laid[number].requests):
                progress()
    whole = [[found[number][place] for place in range(len(one.requests))] for number, one in enumerate(laid)]
    return [
        (responses(row.asked, one, answers, encoder.decode(answers[0].generated or ())), answers)
        for row, one, answers in zip(rows, laid, whole, strict=True)
    ]


def _prediction(question: Question, answers: Sequence[Answer], given: Sequence[Any]) -> Prediction:
    assert question.of_task is not None
    return {
        "doc_id": question.example.doc_id,
        "doc": dict(question.example.fields),
        "target": question.example.target,
        "prompt_hash": question.prompt_hash,
        "response": _said(question.of_task.asked, given),
        "responses": [list(one) if isinstance(one, tuple) else one for one in given],
        "ended": answers[0].ended if question.of_task.asked.way == "generate_until" else None,
    }


def _said(asked: Asked, given: Sequence[Any]) -> str:
    """The answer as a reader sees it: the text, or the likeliest choice, or how probable the text is."""
    if asked.way == "generate_until":
        return str(given[0])
    if asked.way == "loglikelihood_rolling":
        return f"log-probability {sum(given):.3f}"
    if len(given) == 1:
        return f"log-probability {given[0][0]:.3f}" + (", its own words" if given[0][1] else "")
    score = dict(zip(asked.texts, given, strict=True))
    context, continuation = max(asked.choices, key=lambda text: score[text][0])
    differ = len({one for _, one in asked.choices}) > 1
    return (continuation if differ else context + continuation).strip()


def _score(rows: Sequence[HarnessRow], predictions: Sequence[Prediction]) -> None:
    """Add to each prediction its scores, a task at a time."""
    by_task: dict[int, list[int]] = {}
    for number, row in enumerate(rows):
        by_task.setdefault(id(row.task), []).append(number)
    for numbers in by_task.values():
        some = [rows[number] for number in numbers]
        given = [
            [tuple(one) if isinstance(one, list) else one for one in predictions[number]["responses"]]
            for number in numbers
        ]
        for number, scores in zip(numbers, some[0].task.scores(some, given), strict=True):
            predictions[number]["scores"] = scores

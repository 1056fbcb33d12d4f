"""From an engine's answers to predictions.

Classification scores every label as a whole, by the log-probability of all its tokens given the prompt. Multiple choice
does the same with the options of the row. Published numbers also use the first token alone, or the mean over the
label's tokens, so both are kept beside it. A forced choice
hides that a model no longer answers in the format at all. So the engine also looks at the model's own first token, the
greedy one; if it begins no label, a few tokens are decoded and kept as `free`. Generation decodes greedily up to the
sheet's stop strings. If the sheet does not stop there, it decodes up to its limit, and the answer is what stands before
the first of them. `ended` says how an answer ended: at a `stop`, at an `end` token, or at the `limit`.

A prediction is one JSON row of `predictions.jsonl`. It holds what metrics need, so that scoring again needs no model.
It holds nothing that metrics decide, so that every experiment with the same question can use it. In bfloat16, rows
that rounding could have decided hold the scores of float32 (`rounding`): `moved` says by how much their margins moved.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..engine.port import Answer, Engine
from ..plan.questions import Question, Sheet, requests_for
from ..text.encode import Encoder
from ..text.request import Request
from ..text.stops import cut, holds
from ..text.task import Example
from .harness import answer_documents
from .rounding import Rounding, in_both

Prediction = dict[str, Any]


def predict(
    engine: Engine,
    encoder: Encoder,
    work: Sequence[tuple[Sheet, Question]],
    rounding: Rounding | None = None,
    progress: Callable[[], None] = lambda: None,
    asked_by: Encoder | None = None,
) -> tuple[list[Prediction], dict[str, float]]:
    """Predictions for rows of one unit, in their order, and the thresholds below which rows were answered again.

    `encoder` is the variant's own, which reads what it says. Every variant is asked with the ids that the base's makes,
    which is `asked_by`. `rounding` is that of the engine, if it rounds more than float32 does. `progress` is called for
    each answer.
    """
    if work[0][0].is_of_harness:  # a unit is of one test set
        return answer_documents(engine, encoder, work, rounding, progress, asked_by)
    sheets = {id(sheet): sheet for sheet, _ in work}
    rows = {key: [row for own, row in work if own is sheet] for key, sheet in sheets.items()}
    made = {key: iter(requests_for(sheet, rows[key], asked_by or encoder)) for key, sheet in sheets.items()}
    requests = [next(made[id(sheet)]) for sheet, _ in work]
    [(until, stops)] = {(sheet.stop, sheet.stops) for sheet in sheets.values()}  # a unit is of one task
    # Special tokens end generation in any case, as end tokens do: `decode` does not show them.
    stop = encoder.stop_rule(until if stops else [*encoder.special(until)])
    found: dict[int, Answer] = {}
    for number, answer in engine.run(requests, stop):
        found[number] = answer
        progress()
    answers = [found[number] for number in range(len(work))]
    if rounding is None:
        return [prediction(*work[n], requests[n], answer, encoder.decode) for n, answer in enumerate(answers)], {}
    twice = {key: in_both(sheet) for key, sheet in sheets.items()}
    sampled = [number for number, (sheet, row) in enumerate(work) if row.prompt_hash in twice[id(sheet)]]
    labels_of = [sheet.task.options_of(row.example) for sheet, row in work]
    settled = rounding.settle(encoder, labels_of, requests, answers, sampled, stop)
    predictions = []
    for number, (sheet, row) in enumerate(work):
        kept, exact = answers[number], settled.exact.get(number)
        made_of = exact if exact and sheet.task.is_scored else kept
        one = prediction(sheet, row, requests[number], made_of, encoder.decode)
        if exact:
            one["moved"] = settled.moved[number]
        if number in settled.undecided:
            one["undecided"] = True
        if number in settled.near_ties:
            one["near_ties"] = settled.near_ties[number]
            if exact:
                one["response_float32"] = prediction(sheet, row, requests[number], exact, encoder.decode)["response"]
        predictions.append(one)
    return predictions, settled.thresholds


def of_row(example: Example) -> Prediction:
    """What a prediction holds of its row. `references` are all right answers, where there are several."""
    several = {"references": [*example.references]} if example.references else {}
    return {"doc_id": example.doc_id, "doc": dict(example.fields), "target": example.target, **several}


def of_answer(stored: Prediction) -> Prediction:
    """What a prediction holds of the answer alone."""
    return {name: value for name, value in stored.items() if name not in ("doc_id", "doc", "target", "references")}


def prediction(
    sheet: Sheet, row: Question, request: Request, answer: Answer, decode: Callable[[Sequence[int]], str]
) -> Prediction:
    """One answered row as it is stored."""
    common = {**of_row(row.example), "prompt_hash": row.prompt_hash}
    said, ended = None, answer.ended
    if answer.generated is not None:
        text = decode(answer.generated)
        text = text if sheet.stops else text.strip()  # what did not stop at a blank line may begin with one
        said, ended = cut(text, sheet.stop), "stop" if holds(text, sheet.stop) else ended
    if not sheet.task.is_scored:
        return {**common, "response": said, "ended": ended}
    labels = sheet.task.options_of(row.example)
    whole = {label: sum(logprobs) for label, logprobs in zip(labels, answer.logprobs, strict=True)}
    # One token has one probability, though in passes of their own two labels that share it give it a last digit each.
    first: dict[int, float] = {}
    for option, logprobs in zip(request.options, answer.logprobs, strict=True):
        first.setdefault(option[0], logprobs[0])
    return {
        **common,
        "response": max(whole, key=whole.__getitem__),
        "logprobs": whole,
        "logprobs_first": {label: first[option[0]] for label, option in zip(labels, request.options, strict=True)},
        "logprobs_norm": {label: sum(lp) / len(lp) for label, lp in zip(labels, answer.logprobs, strict=True)},
        "free": said,
        "ended": ended,
    }

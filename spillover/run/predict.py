"""From rows to requests, and from an engine's answers to predictions.

Classification scores every label as a whole, by the log-probability of all its tokens given the prompt. Kept beside
it, because published numbers use them: the first token alone, and the mean over the label's tokens. And since forced
choice hides that a model no longer answers in the format at all, the model's own greedy first token is looked at:
where it begins no label, a few tokens are decoded and kept as `free`. Generation decodes greedily up to a blank line,
or, where the sheet does not stop there, up to its limit; then the answer is what stands before a blank line.

A prediction is one JSON row of `predictions.jsonl`. It holds what metrics need, so that re-scoring needs no model, and
nothing that they decide: a prediction serves every experiment that asks for it, whatever else that compares.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..engine.port import Answer, Engine
from ..errors import PromptError
from ..plan.questions import Question, Sheet
from ..text.encode import Encoder, cut
from ..text.request import Request

Prediction = dict[str, Any]


def requests_for(sheet: Sheet, rows: Sequence[Question], encoder: Encoder) -> list[Request]:
    """One request a row. Raises PromptError for a prompt that does not fit the model's context."""
    texts = [row.text for row in rows]
    if not sheet.task.is_classification:
        prompts = sheet.joints.prompts(encoder, texts, chat=sheet.fmt.chat)
        requests = [Request(ids, (), sheet.max_new_tokens) for ids in prompts]
    else:
        split = sheet.joints.options(encoder, texts, sheet.task.labels or (), chat=sheet.fmt.chat)
        requests = [Request(ids, options, sheet.max_new_tokens) for ids, options in split]
    for row, request in zip(rows, requests, strict=True):
        needed = request.reach
        if needed > encoder.max_context:
            raise PromptError(
                f"row {row.example.doc_id} at {sheet.shots} shots needs {needed} tokens, "
                f"the model has {encoder.max_context}",
                where=f"{sheet.test}, prompt format {sheet.fmt.name}",
                allowed="fewer test.shots, or a model with a longer context",
            )
    return requests


def predict(engine: Engine, encoder: Encoder, work: Sequence[tuple[Sheet, Question]]) -> Iterator[Prediction]:
    """Predictions for rows of one unit, in the order the engine finishes them."""
    requests: list[Request] = []
    by_sheet: dict[int, list[int]] = {}
    for number, (sheet, _) in enumerate(work):
        by_sheet.setdefault(id(sheet), []).append(number)
    placed: dict[int, Request] = {}
    for numbers in by_sheet.values():
        sheet = work[numbers[0]][0]
        made = requests_for(sheet, [work[number][1] for number in numbers], encoder)
        placed.update(zip(numbers, made, strict=True))
    requests = [placed[number] for number in range(len(work))]
    # Sheets of one unit are of one task, so they all stop at a blank line or none does.
    stop = encoder.stop_rule() if all(sheet.stops for sheet, _ in work) else _never
    for number, answer in engine.run(requests, stop):
        sheet, row = work[number]
        yield prediction(sheet, row, requests[number], answer, encoder.decode)


def _never(ids: Sequence[int]) -> bool:
    return False


def prediction(
    sheet: Sheet, row: Question, request: Request, answer: Answer, decode: Callable[[Sequence[int]], str]
) -> Prediction:
    """One answered row as it is stored."""
    common = {
        "doc_id": row.example.doc_id,
        "doc": dict(row.example.fields),
        "target": row.example.target,
        "prompt_hash": row.prompt_hash,
    }
    said = None
    if answer.generated is not None:
        text = decode(answer.generated)
        said = cut(text if sheet.stops else text.strip())  # what did not stop at a blank line may begin with one
    if not sheet.task.is_classification:
        return {**common, "response": said, "finished": answer.finished}
    labels = sheet.task.labels or ()
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
        "finished": answer.finished,
    }

"""What is odd about the texts of an experiment. It is found while the plan is made, so check, plan and run all say it.

A chat text that is not what the template writes is a warning, with both texts. An id without an embedding, and a
checkpoint whose tokenizer makes other tokens of the prompts, are errors: no model could answer, or no pair be compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from ..errors import ExperimentError, Finding, ModelError, PromptError, did_you_mean, placed
from ..text.encode import Encoder
from ..text.prompt import messages, render_all
from ..text.task import Example, PromptFormat
from .jobs import ExistingJob, Job, TrainJob
from .questions import Sheet, requests_for

ROWS = 1000  # so many of a set are compared with what the chat template makes of them


def refuse_unknown_kwargs(encoder: Encoder, kwargs: Mapping[str, Any]) -> None:
    """Raises ExperimentError for a value that the chat template does not use."""
    if not kwargs:
        return
    if encoder.chat_template is None:
        what = "the tokenizer has no chat template"
        raise ExperimentError(what, where="chat_template_kwargs", allowed="leave it out")
    taken = encoder.chat_template.variables
    for name in kwargs:
        if name not in taken:
            what = f"the chat template takes no value {name!r}"
            raise ExperimentError(what, where="chat_template_kwargs", allowed=did_you_mean(name, taken))


def look(encoder: Encoder, jobs: Sequence[Job], sheets: Iterable[Sheet]) -> Iterator[Finding]:
    """What is odd about tests, trainings and existing checkpoints. Raises SpilloverError for what cannot be."""
    yield from _of_ends("tokenizer", encoder, encoder.eos_ids - {encoder.eos_id})
    by_shots = sorted(sheets, key=lambda sheet: sheet.shots)
    own = [sheet for sheet in by_shots if not sheet.is_of_harness]
    fewest = {(sheet.test, sheet.fmt.name): sheet for sheet in reversed(own)}
    for sheet in fewest.values():
        asked, texts = [row.example for row in sheet.questions], [row.text for row in sheet.questions]
        yield from _of_chat(f"{sheet.test}, {sheet.fmt.name}", encoder, sheet.fmt, sheet.demos, asked, texts)
    largest = {(job.rows.name, len(job.demos)): job for job in _by_rows(jobs)}
    for job in largest.values():
        where, examples = f"{job.rows.name}, training, {job.fmt.name}", job.rows.examples
        if job.fmt.chat:
            texts = render_all(job.fmt, job.demos, examples[:ROWS], encoder.chat_template)
            yield from _of_chat(where, encoder, job.fmt, job.demos, examples, texts)
        if encoder.beyond:
            _refuse_beyond(where, encoder, job)
    for sheet in by_shots if encoder.beyond else ():
        with placed(f"{sheet.test}, {sheet.fmt.name}"):
            requests_for(sheet, sheet.questions, encoder)
    for existing in jobs:
        if isinstance(existing, ExistingJob):
            yield from _of_existing(existing, encoder, by_shots)


def _of_ends(where: str, encoder: Encoder, ends: Iterable[int]) -> Iterator[Finding]:
    """End tokens that may be a slip: a configuration with the default of its class ends answers in mid-sentence."""
    special = encoder.tokenizer.get_added_tokens_decoder()
    for token in sorted(set(ends) - special.keys()):
        if text := encoder.tokenizer.id_to_token(token):
            what = f"an answer ends at {text!r} (id {token:,}), which is no special token"
            by = "by eos_token_id in config.json or generation_config.json; correct it there, unless answers end so"
            yield Finding("warning", f"{what}, {by}", where)


def _by_rows(jobs: Iterable[Job]) -> list[TrainJob]:
    trainings = [job for job in jobs if isinstance(job, TrainJob)]
    return sorted(trainings, key=lambda job: len(job.rows.examples))


def _of_chat(
    where: str,
    encoder: Encoder,
    fmt: PromptFormat,
    demos: Sequence[Example],
    examples: Sequence[Example],
    texts: Sequence[str],
) -> Iterator[Finding]:
    """Where prompt + answer + end token is not the text that the template makes of the messages with the answer."""
    template = encoder.chat_template
    if not fmt.chat or template is None:
        return
    shown = examples[:ROWS]
    conversations = [messages(fmt, demos, example) for example in shown]
    end = encoder.tokenizer.decode([encoder.turn_end], skip_special_tokens=False)
    try:
        found = template.differences(conversations, texts[:ROWS], [example.target for example in shown], end)
    except PromptError as error:
        yield Finding("warning", f"with the answer among the messages, {error.what}", where)
        return
    if not found:
        return
    number, (ours, theirs) = next(iter(found.items()))
    what = f"with the answer as a message the chat template writes {theirs!r}; prompt and answer here are {ours!r}"
    which = f"row {shown[number].doc_id}" + (f" and {len(found) - 1} more of {len(shown)}" if len(found) > 1 else "")
    thinking = [name for name in template.variables if "think" in name and name not in template.kwargs]
    settled = f"chat_template_kwargs: {{{thinking[0]}: false}} may help" if thinking else ""
    advice = settled or "a prompt format of your own in place of chat avoids it"
    yield Finding("warning", f"{what} ({which}); {advice}", where)


def _refuse_beyond(where: str, encoder: Encoder, job: TrainJob) -> None:
    """Raises PromptError for a sample with an id that the model has no embedding for."""
    examples = job.rows.examples
    texts = render_all(job.fmt, job.demos, examples, encoder.chat_template)
    rows = encoder.continuation(texts, [example.target for example in examples], job.fmt.chat)
    with placed(where):
        for example, (ids, _) in zip(examples, rows, strict=True):
            encoder.refuse_beyond(chain(ids, [encoder.end_of(job.fmt.chat)]), f"row {example.doc_id}")


def _of_existing(job: ExistingJob, encoder: Encoder, sheets: Sequence[Sheet]) -> Iterator[Finding]:
    """Whether a checkpoint reads the prompts as the base does, and ends its answers where the base does."""
    name, own = job.variant.name, job.encoder
    texts = [sheet.questions[0].text for sheet in sheets]
    if any(own.text_ids(text) != encoder.text_ids(text) for text in texts):
        what = "its tokenizer makes other tokens of the prompts than the base model's, so answers cannot be paired"
        allowed = "checkpoints of the model under `model`"
        raise ModelError(what, where=f"variants: {name} ({job.path})", allowed=allowed)
    if more := own.eos_ids - encoder.eos_ids:
        listed = ", ".join(repr(own.tokenizer.id_to_token(one)) for one in sorted(more))
        yield Finding("note", f"its answers also end at {listed}, by its own files", name)
        yield from _of_ends(name, own, more)
    for sheet in [sheet for sheet in sheets if not sheet.is_of_harness]:
        if not sheet.fmt.chat or own.chat_template is None or own.chat_template == encoder.chat_template:
            continue
        conversation, text = messages(sheet.fmt, sheet.demos, sheet.questions[0].example), sheet.questions[0].text
        found = own.chat_template.prompt_differs(conversation, text)
        if found:
            what = f"its own chat template writes {found.theirs!r}; the prompts have {found.ours!r}, by the base's"
            what += "; a prompt format that is not chat asks both alike"
            yield Finding("warning", what, f"{name}, {sheet.fmt.name}")
            return

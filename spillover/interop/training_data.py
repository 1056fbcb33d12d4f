"""Writes what a strategy trains on as a JSONL file, so that another trainer can learn from the same texts.

A line is a training sample, with the demonstrations that the strategy puts before it. There are three shapes:

    trl       `prompt` and `completion`, as TRL's SFTTrainer takes them; its tokens are those of our training
    messages  `messages`, for trainers that apply a chat template: the turns of chat text, else the whole prompt as one
    alpaca    `instruction`, an empty `input`, and `output`

Prompt and completion are cut where the first learned token begins, which may hold the space before an answer. A trainer
that encodes both parts then masks the same tokens. The end token is left out, because trainers add it. Loss, penalty,
what may move, a soft prompt and mixing afterwards are no part of the data; a line for the user says what the recipe is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from ..disk import file_name, write_whole
from ..errors import StoreError, did_you_mean
from ..plan.composed import compose
from ..plan.jobs import MergeJob, TrainJob
from ..plan.plan import Plan
from ..store.store import Store
from ..text.chat import Message
from ..text.compose import in_order
from ..text.encode import Encoder, Ids
from ..text.prompt import messages, render_all
from ..text.samples import Sample
from ..text.task import Example
from ..text.tools import Conversation
from ..work.backend import Torch
from ..work.execute import read_plan
from ..work.progress import Reporter
from ..work.run import Run
from ..work.weights import as_written
from .wanted import Wanted

Shape = Literal["trl", "messages", "alpaca"]
Record = dict[str, Any]


def write(wanted: Wanted, shape: Shape) -> list[str]:
    """Write `VARIANT.jsonl`. Raises StoreError for a variant that was not trained here, and if the data has changed."""
    variant, plan = wanted.one_variant, read_plan(wanted.store)
    jobs = {job.variant.key: job for job in plan.trainings}
    key, *_ = variant.made_from or (variant.key,)  # trainings that are made one differ in their seed alone
    if key not in jobs:
        names = [job.variant.name for job in plan.trainings]
        what = f"{variant.name} was not trained here, so its training data is not known"
        raise StoreError(what, where=str(wanted.folder), allowed=did_you_mean(variant.name, names))
    job, texts = _written(jobs[key], plan, wanted.store)
    samples = _samples(job, plan, texts)
    is_chat = shape == "messages" and job.fmt.chat
    records = list(_turns(job, plan.encoder, samples) if is_chat else _texts(plan.encoder, samples, job, shape))
    path = wanted.place if wanted.place.suffix == ".jsonl" else wanted.place / f"{file_name(variant.name)}.jsonl"
    write_whole(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
    recipe = job.recipe.content()
    rest = {name: recipe[name] for name in ("learning_rate", "num_train_epochs", "batch_size", "max_length", "seed")}
    rest |= {axis: value["kind"] for axis in ("weights", "loss", "penalty", "first") if (value := recipe.get(axis))}
    said = ", ".join(f"{name} {value}" for name, value in rest.items())
    lines = [f"Wrote {len(records)} training samples to {path}"]
    if apart := [sample.weight for sample in samples if sample.apart]:
        lines.append(
            f"{len(apart)} of them are texts of the base, whose loss has a mean of its own, times {apart[0]:g}"
        )
    made = [one.how for one in plan.jobs if isinstance(one, MergeJob) and one.variant.key == variant.key]
    after = [f"After training, the weights are {how}" for how in made]
    return [*lines, f"Not in the data, but of the recipe: {said}", *after]


def _written(job: TrainJob, plan: Plan, store: Store) -> tuple[TrainJob, Sequence[Sample]]:
    """The job with its answers as the base has rewritten them, and the texts that the base has written for it."""
    if any(store.written(one.key) is None for one in job.writings):
        what = f"{job.variant.name} learns from texts that the base writes, and it has not written them yet"
        raise StoreError(what, where=str(store.folder), allowed="spillover run FILE, or spillover work DIR")
    if not job.writings:
        return job, ()
    job, texts, _ = as_written(Run(plan, store, Reporter(), Torch()), job)
    return job, texts


def _samples(job: TrainJob, plan: Plan, texts: Sequence[Sample]) -> Sequence[Sample]:
    """The samples of an epoch, in the order of its rows. The training shuffles them, and draws anew in each epoch."""
    composition = compose(job, plan.encoder, plan.experiment.protocol, texts).composition
    return [sample for step in in_order(composition, job.recipe.batch_size) for sample in step]


def _texts(encoder: Encoder, samples: Sequence[Sample], job: TrainJob, shape: Shape) -> Iterator[Record]:
    """Each sample as text, cut where its first learned token begins."""
    for sample in samples:
        if len(sample.spans) > 1:
            what = f"{job.variant.name} learns several answers in one sample, which {shape} cannot say"
            raise StoreError(what, where="--variant", allowed="a strategy with one answer a sample")
        prompt, completion = _cut(encoder, sample, job.fmt.chat)
        if shape == "trl":
            yield {"prompt": prompt, "completion": completion}
            continue
        asked, answer = prompt.rstrip(" "), completion.lstrip(" ")
        if shape == "alpaca":
            yield {"instruction": asked, "input": "", "output": answer}
        else:
            yield {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]}


def _cut(encoder: Encoder, sample: Sample, chat: bool) -> tuple[str, str]:
    """Prompt and completion, without what the tokenizer puts before a text and without the end token."""
    prefix = encoder.prefix if not chat and sample.ids[: len(encoder.prefix)] == encoder.prefix else ()
    ids = sample.ids[len(prefix) :]
    ids = ids[:-1] if ids[-1:] == (encoder.end_of(chat),) else ids
    prompt, whole = (_read(encoder, part) for part in (ids[: sample.start - len(prefix)], ids))
    if whole.startswith(prompt):
        return prompt, whole[len(prompt) :]
    return prompt, _read(encoder, ids[sample.start - len(prefix) :])


def _read(encoder: Encoder, ids: Ids) -> str:
    """The text of ids, special tokens of a chat template too."""
    text: str = encoder.tokenizer.decode(list(ids), skip_special_tokens=False)
    return text


def _turns(job: TrainJob, encoder: Encoder, samples: Sequence[Sample]) -> Iterator[Record]:
    """The messages of each sample of chat text. One that was too long has fewer demonstrations."""
    found: dict[Ids, Record] = {}
    rows = job.rows.examples
    for count in range(len(job.demos), -1, -1):
        texts = render_all(job.fmt, job.demos[:count], rows, encoder.chat_template)
        encoded = encoder.continuation(texts, [row.target for row in rows], chat=True)
        for (ids, _), row in zip(encoded, rows, strict=True):
            found.setdefault((*ids, encoder.end_of(True)), _conversation(job, row, count))
        if all(sample.ids in found for sample in samples):
            break
    for sample in samples:
        if sample.ids not in found:
            what = f"the samples of {job.variant.name} are no conversations of single rows"
            raise StoreError(what, where="--format messages", allowed="--format trl, which has their text")
        yield found[sample.ids]


def _conversation(job: TrainJob, row: Example, count: int) -> Record:
    first, *others = messages(job.fmt, job.demos[:count], row)
    tools = first.get("tools")
    first = {name: value for name, value in first.items() if name != "tools"}
    answer: Message = {"role": "assistant", "content": row.target}
    if row.raw and (called := Conversation.of(row.raw).answer):
        answer = called
    return {"messages": [first, *others, answer], **({"tools": tools} if tools else {})}

"""Writes what a strategy trains on as a JSONL file, so that another trainer can learn from the same texts.

A line is a training sample, with the demonstrations that the strategy puts before it. There are three shapes:

    trl       `prompt` and `completion`, as TRL's SFTTrainer takes them; its tokens are those of our training. Where a
              sample has several answers to learn: its tokens, `input_ids`, and `labels`, which are -100 without loss
    messages  `messages`, for trainers that apply a chat template: the turns of chat text, else the whole prompt as one
    alpaca    `instruction`, an empty `input`, and `output`

Prompt and completion are cut where the first learned token begins, which may hold the space before an answer. A trainer
that encodes both parts then masks the same tokens. The end token is left out of texts, because trainers add it. Loss,
penalty, what may move, a soft prompt and mixing afterwards are no part of the data; a line for the user says what the
recipe is.
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
from ..text.compose import Composition, DrawnDemos, InContext, in_order, made_for_steps
from ..text.encode import Encoder, Ids
from ..text.prompt import messages, render_all
from ..text.samples import Sample
from ..text.task import Example, PromptFormat
from ..text.tools import Conversation
from ..work.backend import Torch
from ..work.execute import read_plan
from ..work.progress import Reporter
from ..work.run import Run
from ..work.weights import as_written
from .wanted import Wanted

Shape = Literal["trl", "messages", "alpaca"]
Record = dict[str, Any]
NO_LOSS = -100  # the label of a token without loss, for TRL and transformers


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
    composition = compose(job, plan.encoder, plan.experiment.protocol, texts).composition
    samples = [sample for step in in_order(composition, job.recipe.batch_size) for sample in step]
    several = any(len(sample.spans) > 1 for sample in samples)
    if shape == "messages" and job.fmt.chat:
        records = list(_turns(job, plan.encoder, composition))
    elif several and shape == "trl":
        records = [_tokens(sample) for sample in samples]
    elif several:
        what = f"{job.variant.name} learns several answers in one sample, which {shape} cannot say of a text"
        allowed = "--format trl, which has token ids there" + "; or train.prompt: chat" * (shape == "messages")
        raise StoreError(what, where=f"--format {shape}", allowed=allowed)
    else:
        records = list(_texts(plan.encoder, samples, job, shape))
    path = wanted.place if wanted.place.suffix == ".jsonl" else wanted.place / f"{file_name(variant.name)}.jsonl"
    write_whole(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
    recipe = job.recipe.content()
    rest = {name: recipe[name] for name in ("learning_rate", "num_train_epochs", "batch_size", "max_length", "seed")}
    rest |= {axis: value["kind"] for axis in ("weights", "loss", "penalty", "first") if (value := recipe.get(axis))}
    said = ", ".join(f"{name} {value}" for name, value in rest.items())
    lines = [f"Wrote {len(records)} training samples to {path}"]
    if shape == "messages" and job.fmt.chat:
        turn = "every assistant turn (TRL: assistant_only_loss)" if several else "the last assistant turn alone"
        lines.append(f"Loss is on {turn}")
    elif several:
        lines.append("They are token ids with labels, because a sample has several answers with loss")
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


def _tokens(sample: Sample) -> Record:
    """The tokens themselves, with the end token, and as labels those with loss: shifted by nobody."""
    learned = set(sample.learned)
    labels = [token if place in learned else NO_LOSS for place, token in enumerate(sample.ids)]
    return {"input_ids": list(sample.ids), "labels": labels}


def _texts(encoder: Encoder, samples: Sequence[Sample], job: TrainJob, shape: Shape) -> Iterator[Record]:
    """Each sample as text, cut where its first learned token begins."""
    for sample in samples:
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


def _turns(job: TrainJob, encoder: Encoder, composition: Composition) -> Iterator[Record]:
    """The messages of each sample of chat text.

    Raises StoreError for samples that are no conversations of the training set's rows.
    """
    made, batch_size = made_for_steps(composition), job.recipe.batch_size
    known = {} if made else _behind(job.fmt, job.demos, job.rows.examples, encoder)
    for step, samples in enumerate(in_order(composition, batch_size)):
        if made is not None:
            places = range(step * batch_size, min((step + 1) * batch_size, made.rows))
            rows = [made.examples[place] for place in places]
            if isinstance(made, DrawnDemos):
                demos = [made.examples[place] for place in made.drawn(step, places)]
                known = _behind(job.fmt, demos, rows, encoder)
            else:
                known = _in_context(made, samples, rows)
        for sample in samples:
            if sample.ids not in known:
                what = f"{job.variant.name} has samples that are no conversations of its own rows"
                raise StoreError(what, where="--format messages", allowed="--format trl, which has their text")
            yield known[sample.ids]


def _behind(
    fmt: PromptFormat, demos: Sequence[Example], rows: Sequence[Example], encoder: Encoder
) -> dict[Ids, Record]:
    """The conversations of rows behind demonstrations, by their ids. One that was too long has fewer of these."""
    found: dict[Ids, Record] = {}
    for count in range(len(demos), -1, -1):
        texts = render_all(fmt, demos[:count], rows, encoder.chat_template)
        encoded = encoder.continuation(texts, [row.target for row in rows], chat=True)
        for (ids, _), row in zip(encoded, rows, strict=True):
            found.setdefault((*ids, encoder.end_of(True)), _conversation(fmt, demos[:count], row))
    return found


def _in_context(made: InContext, samples: Sequence[Sample], rows: Sequence[Example]) -> dict[Ids, Record]:
    """The conversations of rows in context, by their ids: the samples of a step have its rows one after the other."""
    found: dict[Ids, Record] = {}
    left = list(rows)
    for sample in samples:
        here, left = left[: len(sample.spans)], left[len(sample.spans) :]
        if here and made.maker.of_rows(here).ids == sample.ids:
            found[sample.ids] = _conversation(made.maker.fmt, here[:-1], here[-1])
    return found


def _conversation(fmt: PromptFormat, demos: Sequence[Example], row: Example) -> Record:
    first, *others = messages(fmt, demos, row)
    tools = first.get("tools")
    first = {name: value for name, value in first.items() if name != "tools"}
    answer: Message = {"role": "assistant", "content": row.target}
    if row.raw and (called := Conversation.of(row.raw).answer):
        answer = called
    return {"messages": [first, *others, answer], **({"tools": tools} if tools else {})}

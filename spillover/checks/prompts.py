"""Preflight: what the tokenizer makes of an experiment's prompts, labels, joints, samples and answers.

Published comparisons have been wrong by six points for one beginning-of-sequence token. So before anything is computed,
every label set is tried in every prompt format by the very functions that a run uses (`requests_for`, `build_samples`,
a sheet's `joints`), and what comes out is kept as data: the tokens of each label, labels that only a later token tells
apart, joints at which prompt and answer merge into one token, how often BOS stands at the beginning of each text, the
longest prompt, answers that the token limit cuts, samples that are too long.

What cannot be is raised (`longest_prompts`: a prompt beyond the context, labels that are the same tokens). What can
be, and yet changes what a number means, is a finding: a warning, or a note where it is taken care of.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from math import ceil

from ..data.rows import TrainSet
from ..errors import PromptError
from ..plan.jobs import TrainJob
from ..plan.plan import Plan
from ..plan.questions import Question, Sheet, answer_tokens, requests_for
from ..text.encode import BLANK_LINE, Encoder, Ids
from ..text.joints import AS_ONE, Joints
from ..text.prompt import render
from ..text.request import Request
from ..text.samples import build_samples
from ..text.switches import joints_in_training
from ..text.task import Example, PromptFormat, Task
from .found import Cut, Joint, Preflight, PromptCheck, TrainingCheck, count

LONGEST = 20  # texts of a sheet that are encoded: those with the most bytes have the most tokens, near enough
JOINTS = 50  # rows of a set whose joint of prompt and answer is looked at

Group = tuple[str, tuple[str, ...] | None, str]


@dataclass(frozen=True)
class Probe:
    """The longest prompt of a sheet: in tokens with its answer, and as a request."""

    sheet: Sheet
    tokens: int
    request: Request


def preflight(plan: Plan) -> Preflight:
    """Try every label set in every prompt format, and every training set. Raises what a run would raise."""
    encoder = plan.encoder
    groups: dict[Group, list[Probe]] = {}
    for probe in longest_prompts(plan):
        groups.setdefault(_group(probe.sheet.task, probe.sheet.fmt), []).append(probe)
    for train, fmt in _train_sets(plan):
        groups.setdefault(_group(train.task, fmt), [])
    return Preflight(
        bos=None if encoder.bos_id is None else encoder.tokenizer.id_to_token(encoder.bos_id),
        adds_bos=bool(encoder.prefix),
        context=encoder.max_context,
        whole_labels=plan.experiment.protocol.label_scoring == "whole",
        prompts=tuple(_prompt_check(plan, group, probes) for group, probes in groups.items()),
        training=tuple(map(_training_check, repeat(plan), _largest(plan))),
    )


def longest_prompts(plan: Plan) -> list[Probe]:
    """The longest prompt of every test set in every format and draw, at the most shots.

    Raises PromptError where one exceeds the model's context, or where labels are the same tokens.
    """
    probes = []
    for sheet in _most_shots(plan):
        requests = _requests(sheet, _most_bytes(sheet.questions), plan.encoder)
        longest = max(requests, key=lambda request: request.reach)
        probes.append(Probe(sheet, longest.reach, longest))
    return probes


def _prompt_check(plan: Plan, group: Group, probes: Sequence[Probe]) -> PromptCheck:
    """`probes` are those of the group; there are none where it is trained in and not asked."""
    encoder = plan.encoder
    sheets = [sheet for sheet in plan.sheets.values() if _group(sheet.task, sheet.fmt) == group]
    trained = [(train, fmt) for train, fmt in _train_sets(plan) if _group(train.task, fmt) == group]
    fmt = sheets[0].fmt if sheets else trained[0][1]
    asked = {sheet.test: sheet for sheet in sorted(sheets, key=lambda sheet: sheet.shots, reverse=True)}  # fewest shots
    longest = max(probes, key=lambda probe: probe.tokens, default=None)
    labels = _label_tokens(probes[0], encoder) if probes and probes[0].sheet.task.labels else None
    return PromptCheck(
        task=group[0],
        prompt=fmt.name,
        chat=fmt.chat,
        tests=tuple(sorted(asked)),
        labels=labels,
        shared_first=_shared_first(probes[0]) if labels else (),
        trailing_space=fmt.template.endswith(" "),
        bos=_bos(plan, sheets, group),
        longest=longest.tokens if longest else 0,
        longest_in=f"{_of(longest.sheet)}, {count(longest.sheet.shots, 'shot')}" if longest else "",
        joints=(
            *(_joint_in_test(sheet, encoder) for sheet in asked.values()),
            *(_joint_in_training(plan, train, fmt) for train, fmt in trained),
        ),
        cut=tuple(_cut(sheet, encoder) for sheet in asked.values() if not sheet.task.is_classification),
    )


def _most_bytes(rows: Sequence[Question]) -> list[Question]:
    return heapq.nlargest(LONGEST, rows, key=lambda row: len(row.text.encode(errors="replace")))


def _requests(sheet: Sheet, rows: Sequence[Question], encoder: Encoder) -> list[Request]:
    try:
        return requests_for(sheet, rows, encoder)
    except PromptError as error:
        # What the encoder finds wrong with labels it finds without knowing whose they are.
        raise PromptError(error.what, where=error.where or _of(sheet), allowed=error.allowed) from None


# --- labels ---------------------------------------------------------------------------------------


def _label_tokens(probe: Probe, encoder: Encoder) -> dict[str, tuple[str, ...]]:
    options = zip(probe.sheet.task.labels or (), probe.request.options, strict=True)
    return {label: tuple(encoder.decode([token]) for token in option) for label, option in options}


def _shared_first(probe: Probe) -> tuple[tuple[str, ...], ...]:
    by_first: dict[int, list[str]] = {}
    for label, option in zip(probe.sheet.task.labels or (), probe.request.options, strict=True):
        by_first.setdefault(option[0], []).append(label)
    return tuple(tuple(shared) for shared in by_first.values() if len(shared) > 1)


# --- the joint of prompt and answer ---------------------------------------------------------------


def _joint_in_test(sheet: Sheet, encoder: Encoder) -> Joint:
    rows = sheet.questions[:JOINTS]
    texts, examples = [row.text for row in rows], [row.example for row in rows]
    return _joint(_of(sheet), texts, examples, sheet.task, sheet.fmt, encoder, asked=sheet.joints)


def _joint_in_training(plan: Plan, train: TrainSet, fmt: PromptFormat) -> Joint:
    examples = train.examples[:JOINTS]
    texts = [render(fmt, (), example, plan.encoder.chat_template) for example in examples]
    joints = joints_in_training(plan.experiment.protocol, plan.encoder, fmt, 0)
    where = f"{train.name}, training, {fmt.name}"
    return _joint(where, texts, examples, train.task, fmt, plan.encoder, learnt=joints)


def _joint(
    where: str,
    texts: Sequence[str],
    examples: Sequence[Example],
    task: Task,
    fmt: PromptFormat,
    encoder: Encoder,
    asked: Joints = AS_ONE,
    learnt: Joints = AS_ONE,
) -> Joint:
    """What stands before the answer as it is learnt, against that behind which the model is asked."""
    together = learnt.samples(encoder, texts, [example.target for example in examples], fmt.chat)
    if not task.is_classification:
        alone = asked.prompts(encoder, texts, fmt.chat)
    else:
        alone = [ids for ids, _ in asked.options(encoder, texts, task.labels or (), fmt.chat)]
    differ = [
        example.doc_id
        for example, (ids, start), prompt in zip(examples, together, alone, strict=True)
        if _without_bos(ids[:start], encoder) != _without_bos(prompt, encoder)
    ]
    apart = asked.answer_apart or learnt.answer_apart
    return Joint(where, len(examples), tuple(differ), not task.is_classification, apart)


# --- the beginning of a sequence ------------------------------------------------------------------


def _bos(plan: Plan, sheets: Sequence[Sheet], group: Group) -> dict[str, int]:
    """Beginning-of-sequence tokens before the first row at each shot count and before the first training sample."""
    times: dict[str, int] = {}
    for sheet in sorted(sheets, key=lambda sheet: sheet.shots):
        (request,) = _requests(sheet, sheet.questions[:1], plan.encoder)
        where = count(sheet.shots, "shot")
        times[where] = max(times.get(where, 0), _count_bos(request.prompt, plan.encoder))
    for job in _largest(plan):
        fmt = job.fmt
        if _group(job.rows.task, fmt) != group:
            continue
        first = job.rows.examples[0]
        text = render(fmt, job.demos, first, plan.encoder.chat_template)
        head = len(text) - len(render(fmt, (), first, plan.encoder.chat_template))
        joints = joints_in_training(plan.experiment.protocol, plan.encoder, fmt, head)
        ((ids, _),) = joints.samples(plan.encoder, [text], [first.target], fmt.chat)
        times["training"] = max(times.get("training", 0), _count_bos(ids, plan.encoder))
    return times


def _count_bos(ids: Ids, encoder: Encoder) -> int:
    return next((n for n, token in enumerate(ids) if token != encoder.bos_id), len(ids))


def _without_bos(ids: Ids, encoder: Encoder) -> Ids:
    return ids[_count_bos(ids, encoder) :]


# --- training samples -----------------------------------------------------------------------------


def _training_check(plan: Plan, job: TrainJob) -> TrainingCheck:
    recipe, rows = job.recipe, job.rows.examples
    where = f"{job.rows.name}, training"
    built = build_samples(
        job.fmt, job.demos, rows, plan.encoder, recipe.max_length, recipe.overlong, where, plan.experiment.protocol
    )
    an_epoch = ceil(len(built.samples) / recipe.batch_size)
    return TrainingCheck(
        dataset=job.rows.name,
        shots=len(job.demos),
        of=len(rows),
        samples=len(built.samples),
        shortened=built.rows_shortened,
        lost=built.lost,
        dropped=built.rows_dropped,
        longest=max(len(sample.ids) for sample in built.samples),
        limit=recipe.max_length,
        steps_an_epoch=an_epoch,
        steps=ceil(an_epoch * recipe.num_train_epochs),
    )


# --- answers to generate --------------------------------------------------------------------------


def _cut(sheet: Sheet, encoder: Encoder) -> Cut:
    examples = [row.example for row in sheet.questions]
    lengths = zip(examples, answer_tokens(encoder, [example.target for example in examples]), strict=True)
    return Cut(
        test=sheet.test,
        of=len(examples),
        limit=sheet.max_new_tokens,
        too_long=tuple(example.doc_id for example, tokens in lengths if tokens > sheet.max_new_tokens),
        blank_line=tuple(example.doc_id for example in examples if BLANK_LINE in example.target.strip()),
    )


# --- which sheets and jobs ------------------------------------------------------------------------


def _group(task: Task, fmt: PromptFormat) -> Group:
    return task.name, task.labels, fmt.name


def _largest(plan: Plan) -> list[TrainJob]:
    """One training for each data set and number of demonstrations: the one with the most rows."""
    largest: dict[tuple[str, int], TrainJob] = {}
    for job in plan.trainings:
        known = largest.get((job.rows.name, len(job.demos)))
        if known is None or len(known.rows.examples) < len(job.rows.examples):
            largest[job.rows.name, len(job.demos)] = job
    return list(largest.values())


def _train_sets(plan: Plan) -> list[tuple[TrainSet, PromptFormat]]:
    """Each training set once, at its largest."""
    by_name: dict[str, tuple[TrainSet, PromptFormat]] = {}
    for job in _largest(plan):
        known = by_name.get(job.rows.name)
        if known is None or len(known[0].examples) < len(job.rows.examples):
            by_name[job.rows.name] = job.rows, job.fmt
    return list(by_name.values())


def _most_shots(plan: Plan) -> list[Sheet]:
    """The sheets with the most demonstrations: fewer are the first of more, so these hold the longest prompts."""
    found: dict[tuple[str, str, int], Sheet] = {}
    for sheet in sorted(plan.sheets.values(), key=lambda sheet: sheet.shots):
        found[sheet.test, sheet.fmt.name, sheet.draw] = sheet
    return list(found.values())


def _of(sheet: Sheet) -> str:
    return f"{sheet.test}, {sheet.fmt.name}"

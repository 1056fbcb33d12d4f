"""Preflight: what the tokenizer does with an experiment's prompts, labels, joints, samples and answers.

Published comparisons were wrong by six points because of one beginning-of-sequence token. So before anything is
computed, every label set is tried in every prompt format by the functions that a run uses, and the results are kept as
data. Each class knows its findings: a warning, or a note where the program has handled the matter.

A prompt that exceeds the context and labels with the same tokens are errors (`longest_prompts`).
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, NamedTuple

from ..errors import Finding, Level, PromptError
from ..plan.jobs import ExistingJob, TrainJob
from ..plan.plan import Plan
from ..plan.questions import Sheet, answer_tokens, requests_for, shared_first_tokens
from ..text.encode import Encoder
from ..text.joints import AS_ONE, Joints
from ..text.prompt import render_all
from ..text.stops import LINE_BREAK, holds, named
from ..text.task import FIVE, Example, PromptFormat, Task
from .kinds import mended
from .training import LONGEST, TrainingCheck, check_training, count, count_bos, largest, of_a_kind, without_bos

JOINTS = 50  # so many rows of a set are checked for the joint of prompt and answer
CUT_SHARE = 0.01  # a warning if a larger share of the test answers exceeds max_new_tokens


Rows = Sequence[tuple[str, Example]]  # with the text of each


class LongestPrompt(NamedTuple):
    """A sheet, and the tokens of its longest prompt with its answer."""

    sheet: Sheet
    tokens: int

    @property
    def where(self) -> str:
        return f"{_where(self.sheet)}, {count(self.sheet.shots, 'shot')}"


def longest_prompts(plan: Plan) -> list[LongestPrompt]:
    """The longest prompt of every test set in every format and draw, at the most shots, which holds the others.

    Raises PromptError where one exceeds the model's context, or that of an existing checkpoint, or where labels have
    the same tokens.
    """
    most_shots = {(sheet.test, sheet.fmt.name, sheet.draw): sheet for sheet in _by_shots(plan)}
    found = []
    for sheet in most_shots.values():
        rows = heapq.nlargest(LONGEST, sheet.questions, key=lambda row: len(row.text.encode(errors="replace")))
        try:
            requests = requests_for(sheet, rows, plan.encoder)
        except PromptError as error:  # the encoder does not know whose labels it encodes
            raise PromptError(error.what, where=error.where or _where(sheet), allowed=error.allowed) from None
        found.append(LongestPrompt(sheet, max(request.reach for request in requests)))
    longest = max(found, key=lambda one: one.tokens)
    for job in plan.jobs:
        if isinstance(job, ExistingJob) and longest.tokens > job.encoder.max_context:
            stated = f"its config.json states {job.encoder.max_context:,} tokens"
            what = f"{stated}, and {_where(longest.sheet)} needs {longest.tokens:,}"
            raise PromptError(what, where=f"variants: {job.variant.name}", allowed="fewer test.shots")
    return found


# --- one check ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Joint:
    """Rows (by doc_id, of `of` checked) with other tokens before the answer than in prompt and answer encoded together.

    `apart`: the protocol encodes the prompt alone.
    """

    where: str
    of: int
    rows: tuple[int, ...]
    free_text: bool
    apart: bool
    chat: bool = False

    def findings(self) -> Iterator[Finding]:
        if not self.rows:
            return
        such = f"for {len(self.rows)} of {count(self.of, 'row')} (such as row {self.rows[0]})"
        if self.apart:
            what = mended(f"{such} the prompt alone ends in other tokens than with its answer", "joint_apart")
        elif self.free_text:
            what = f"{such} generation starts from other tokens than stand before the answer in training"
            what = mended(what, "joint_in_chat" if self.chat else "joint_of_text")
        else:
            what = f"{such} a label shares a token with the prompt; it is scored from that token on"
        yield Finding("warning" if self.apart or self.free_text else "note", what, self.where)


@dataclass(frozen=True)
class Cut:
    """Rows of a test set to which no right answer can be generated: all are longer than `limit` tokens, hold a `stop`
    string, or hold special tokens, which are left out of generated answers. Rows by doc_id.

    `runs_on`: all right answers are one line, and nothing ends a generated one there.
    """

    test: str
    of: int
    limit: int
    too_long: tuple[int, ...]
    stop: tuple[str, ...]
    stopped: tuple[int, ...]
    special: tuple[int, ...]
    runs_on: bool

    def findings(self) -> Iterator[Finding]:
        if n := len(self.too_long):
            what = f"{n:,} of {self.of:,} reference answers are longer than max_new_tokens={self.limit}"
            level: Level = "warning" if n > CUT_SHARE * self.of else "note"
            yield Finding(level, mended(what, "answer_too_long"), self.test)
        if n := len(self.stopped):
            what = f"{n:,} of {self.of:,} reference answers hold {named(self.stop)}, at which a generated answer ends"
            yield Finding("warning", mended(what, "answer_stopped"), self.test)
        if n := len(self.special):
            what = f"{n:,} of {self.of:,} reference answers hold special tokens, which generated answers never show"
            yield Finding("warning", mended(what, "answer_special"), self.test)
        if self.runs_on:
            what = "every reference answer is one line, and a model that writes more lines loses by them"
            yield Finding("note", mended(what, "answer_runs_on"), self.test)


@dataclass(frozen=True)
class PromptCheck:
    """One label set, or free text, in one prompt format, over the tests and trainings that use it.

    `labels` has the tokens of each label, `shared_first` labels that begin with the same token. `bos` counts
    beginning-of-sequence tokens at `0 shots`, `2 shots`, `training`. `longest` is in tokens, with the answer.
    """

    task: str
    prompt: str
    chat: bool
    tests: tuple[str, ...]
    labels: Mapping[str, tuple[str, ...]] | None
    shared_first: tuple[tuple[str, ...], ...]
    trailing_space: bool
    bos: Mapping[str, int]
    longest: int
    longest_in: str
    joints: tuple[Joint, ...]
    cut: tuple[Cut, ...]
    own_options: bool = False

    def findings(self, whole_labels: bool) -> Iterator[Finding]:
        where = f"{self.task}, {self.prompt}"
        if self.trailing_space:
            what = "the template ends in a space, which becomes part of the answer's first token"
            yield Finding("note", mended(what, "trailing_space"), where)
        if not whole_labels:  # the plan has its own warning about shared first tokens
            return
        labels = self.labels or {}
        if len(set(map(len, labels.values()))) > 1:
            listed = ", ".join(f"{label.strip()} {len(tokens)}" for label, tokens in labels.items())
            what = f"labels differ in length ({listed} tokens); each label is scored as a whole"
            yield Finding("note", f"{what}, and the mean over its tokens is kept too", where)
        for shared in self.shared_first:
            what = f"labels {' and '.join(shared)} begin with the same token"
            yield Finding("note", f"{what}; scoring whole labels distinguishes them", where)


# --- all of it ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Preflight:
    """All checks. `bos` is the token, if there is one. `adds_bos`: the tokenizer puts it before plain text. `ends` are
    the tokens at which an answer ends, the one of training samples first. `prompts` are those that are made here, not
    by lm-evaluation-harness; `longest` is the longest of all, and where it is.
    """

    bos: str | None
    ends: tuple[str, ...]
    adds_bos: bool
    context: int
    whole_labels: bool
    longest: tuple[int, str]
    prompts: tuple[PromptCheck, ...]
    training: tuple[TrainingCheck, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def findings(self) -> Iterator[Finding]:
        tokens, where = self.longest
        what = f"the longest prompt has {tokens:,} tokens with its answer; the model takes {self.context:,}"
        yield Finding("note", what, where)
        for check in self.prompts:
            yield from check.findings(self.whole_labels)
        joints = [joint for check in self.prompts for joint in check.joints]
        if joints and not any(joint.rows for joint in joints):
            what = "the same tokens stand before an answer in training, scoring and generation"
            yield Finding("note", f"{what} ({sum(joint.of for joint in joints):,} rows tried)", "joint")
        for joint in joints:
            yield from joint.findings()
        yield from self._bos()
        yield Finding("note", f"an answer ends at {' or '.join(map(repr, self.ends))}", "tokenizer")
        for training in self.training:
            yield from training.findings(self.context)
        for cut in {cut.test: cut for check in self.prompts for cut in check.cut}.values():
            yield from cut.findings()

    def _bos(self) -> Iterator[Finding]:
        """Whether each text begins with BOS once, or each without."""
        of_chat = {n for check in self.prompts if check.chat for n in check.bos.values()}
        of_text = {n for check in self.prompts if not check.chat for n in check.bos.values()}
        alike = "at 0 and at k shots, in training and in test alike"
        if max(of_chat, default=0) > 1:
            what = "chat texts begin with more than one beginning-of-sequence token (BOS)"
            yield Finding("warning", mended(what, "bos_in_chat"), "tokenizer")
        if not of_text:
            what = "the chat template decides how a sequence begins"
            yield from [Finding("note", what, "tokenizer")] if of_chat else []
        elif max(of_text) > 1 or len(of_text) > 1:
            what = f"plain texts begin with {min(of_text)} to {max(of_text)} beginning-of-sequence tokens (BOS)"
            yield Finding("warning", mended(f"{what}, not with the same number {alike}", "bos_differs"), "tokenizer")
        else:
            added = "one" if self.adds_bos else "the tokenizer adds no"
            to = "" if self.adds_bos else " to plain text,"
            yield Finding("note", f"{added} beginning-of-sequence token (BOS){to} {alike}", "tokenizer")


def preflight(plan: Plan) -> Preflight:
    """Try every label set in every prompt format, and every training set. Raises the errors of a run."""
    encoder, longest = plan.encoder, longest_prompts(plan)
    jobs = largest(plan.trainings, of_a_kind)
    trainings = {job.variant.key: check_training(plan, job) for job in jobs}
    groups: dict[Hashable, _Group] = {}
    for sheet in sorted(plan.own_sheets, key=lambda sheet: sheet.shots):
        groups.setdefault(_key(sheet.task, sheet.fmt), _Group([], [])).sheets.append(sheet)
    for job in jobs:
        groups.setdefault(_key(job.rows.task, job.fmt), _Group([], [])).jobs.append(job)
    return Preflight(
        bos=None if encoder.bos_id is None else encoder.tokenizer.id_to_token(encoder.bos_id),
        ends=tuple(str(encoder.tokenizer.id_to_token(token)) for token in _first(encoder.eos_id, encoder.eos_ids)),
        adds_bos=bool(encoder.prefix),
        context=encoder.max_context,
        whole_labels=plan.experiment.protocol.label_scoring != "first_token",
        longest=max((one.tokens, one.where) for one in longest),
        prompts=tuple(_check_prompt(plan, group, longest, trainings) for group in groups.values()),
        training=tuple(trainings.values()),
    )


def _first(first: int, all_of_them: Iterable[int]) -> list[int]:
    return [first, *sorted(set(all_of_them) - {first})]


class _Group(NamedTuple):
    """The sheets, those with the fewest shots first, and the trainings of one label set in one prompt format."""

    sheets: list[Sheet]
    jobs: list[TrainJob]


def _check_prompt(
    plan: Plan, group: _Group, longest_of: Sequence[LongestPrompt], trainings: Mapping[str, TrainingCheck]
) -> PromptCheck:
    encoder, sheets = plan.encoder, group.sheets
    task, fmt = (sheets[0].task, sheets[0].fmt) if sheets else (group.jobs[0].rows.task, group.jobs[0].fmt)
    by_test = {sheet.test: sheet for sheet in sorted(sheets, key=lambda sheet: -sheet.shots)}  # with the fewest shots
    trained = largest(group.jobs, lambda job: job.rows.name)
    first = [requests_for(sheet, sheet.questions[:1], encoder)[0] for sheet in sheets]
    bos: dict[str, int] = {}
    for sheet, request in zip(sheets, first, strict=True):
        where = count(sheet.shots, "shot")
        bos[where] = max(bos.get(where, 0), count_bos(request.prompt, encoder))
    if group.jobs:
        bos["training"] = max(trainings[job.variant.key].bos for job in group.jobs)
    labels = None
    if sheets and task.labels:
        options = zip(task.labels, first[0].options, strict=True)
        labels = {label: tuple(encoder.decode([token]) for token in option) for label, option in options}
    key = _key(task, fmt)
    own = [one for one in longest_of if _key(one.sheet.task, one.sheet.fmt) == key]
    longest = max(own, key=lambda one: one.tokens, default=None)
    return PromptCheck(
        task=task.name,
        prompt=fmt.name,
        chat=fmt.chat,
        tests=tuple(sorted(by_test)),
        labels=labels,
        shared_first=tuple(shared_first_tokens(sheets[0], encoder)) if sheets else (),
        trailing_space=fmt.template.endswith(" "),
        bos=bos,
        longest=longest.tokens if longest else 0,
        longest_in=longest.where if longest else "",
        joints=(
            *(_joint_in_test(sheet, encoder) for sheet in by_test.values()),
            *(_joint_in_training(plan, job) for job in trained),
        ),
        cut=tuple(_cut(sheet, encoder) for sheet in by_test.values() if not task.is_scored),
        own_options=task.own_options,
    )


# --- joints and answers ---------------------------------------------------------------------------


def _joint_in_test(sheet: Sheet, encoder: Encoder) -> Joint:
    rows = [(row.text, row.example) for row in sheet.questions[:JOINTS]]
    return _joint(_where(sheet), rows, sheet.task, sheet.fmt, encoder, sheet.joints, AS_ONE)


def _joint_in_training(plan: Plan, job: TrainJob) -> Joint:
    fmt, encoder = job.fmt, plan.encoder
    examples = job.rows.examples[:JOINTS]
    rows = list(zip(render_all(fmt, (), examples, encoder.chat_template), examples, strict=True))
    joints = Joints.under(plan.experiment.protocol, encoder, fmt, head=0)
    return _joint(f"{job.rows.name}, training, {fmt.name}", rows, job.rows.task, fmt, encoder, AS_ONE, joints)


def _joint(
    where: str, rows: Rows, task: Task, fmt: PromptFormat, encoder: Encoder, in_test: Joints, in_training: Joints
) -> Joint:
    """Compares the tokens before the answer in a sample with the prompt of a request."""
    texts = [text for text, _ in rows]
    samples = in_training.samples(encoder, texts, [example.target for _, example in rows], fmt.chat)
    prompts = in_test.options(encoder, texts, [task.options_of(example) for _, example in rows], fmt.chat)
    differ = [
        example.doc_id
        for (_, example), (ids, start), (prompt, _) in zip(rows, samples, prompts, strict=True)
        if without_bos(ids[:start], encoder) != without_bos(prompt, encoder)
    ]
    apart = in_test.answer_apart or in_training.answer_apart
    return Joint(where, len(rows), tuple(differ), not task.is_scored, apart, fmt.chat)


def _cut(sheet: Sheet, encoder: Encoder) -> Cut:
    added = encoder.tokenizer.get_added_tokens_decoder().values()
    special = [token.content for token in added if token.special and token.content.strip()]
    examples = [row.example for row in sheet.questions]
    lengths = iter(answer_tokens(encoder, [text for example in examples for text in example.right]))
    shortest = [min(islice(lengths, len(example.right))) for example in examples]
    return Cut(
        test=sheet.test,
        of=len(examples),
        limit=sheet.max_new_tokens,
        too_long=tuple(e.doc_id for e, n in zip(examples, shortest, strict=True) if n > sheet.max_new_tokens),
        stop=sheet.stop,
        stopped=_with_any(sheet.stop, examples),
        special=_with_any(special, examples),
        runs_on=sheet.task.name not in FIVE
        and LINE_BREAK not in sheet.stop
        and not any(holds(text.rstrip(), [LINE_BREAK]) for example in examples for text in example.right),
    )


def _with_any(texts: Sequence[str], examples: Sequence[Example]) -> tuple[int, ...]:
    """The rows of which every right answer holds one of the texts."""
    return tuple(
        example.doc_id for example in examples if all(holds(answer.rstrip(), texts) for answer in example.right)
    )


# --- sheets ---------------------------------------------------------------------------------------


def _by_shots(plan: Plan) -> list[Sheet]:
    return sorted(plan.sheets.values(), key=lambda sheet: sheet.shots)


def _key(task: Task, fmt: PromptFormat) -> Hashable:
    return task.name, task.labels, fmt.name


def _where(sheet: Sheet) -> str:
    return f"{sheet.test}, {sheet.fmt.name}"

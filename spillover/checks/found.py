"""What a preflight found, as data and as lines.

`spillover.checks.prompts` makes these values; here they are said in words. Each line is a warning, or a note where the
matter is taken care of: labels that differ in length are scored whole, a template's last space is left to the answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import Finding

CUT_SHARE = 0.01  # more test answers than this beyond max_new_tokens is worth a warning


@dataclass(frozen=True)
class Joint:
    """Where a model is asked behind other tokens than stand before the answer when both are encoded together.

    `rows` are the doc_ids of such rows, of `of` that were tried. `apart`: the protocol encodes the prompt alone.
    """

    where: str
    of: int
    rows: tuple[int, ...]
    free_text: bool
    apart: bool


@dataclass(frozen=True)
class Cut:
    """Reference answers of a test set that no generated answer can be: of more tokens than `limit`, or with a blank
    line, which ends generation. Rows by doc_id.
    """

    test: str
    of: int
    limit: int
    too_long: tuple[int, ...]
    blank_line: tuple[int, ...]


@dataclass(frozen=True)
class PromptCheck:
    """One label set, or free text, in one prompt format, over the test sets that are asked so and in training.

    `labels` has the tokens of each label, `shared_first` labels that begin with the same one. `bos` counts
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


@dataclass(frozen=True)
class TrainingCheck:
    """A training set at its largest with one number of demonstrations, as samples. `of` rows, `longest` in tokens."""

    dataset: str
    shots: int
    of: int
    samples: int
    shortened: int
    lost: str
    dropped: int
    longest: int
    limit: int
    steps_an_epoch: int
    steps: int

    @property
    def where(self) -> str:
        return f"{self.dataset}, training" + (f" with {count(self.shots, 'shot')}" if self.shots else "")


@dataclass(frozen=True)
class Preflight:
    """All of it. `bos` is the token, if there is one; `adds_bos`: the tokenizer puts it before plain text."""

    bos: str | None
    adds_bos: bool
    context: int
    whole_labels: bool
    prompts: tuple[PromptCheck, ...]
    training: tuple[TrainingCheck, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def findings(self) -> Iterator[Finding]:
        """What of it a reader should know."""
        longest = max(self.prompts, key=lambda check: check.longest)
        what = f"the longest prompt takes {longest.longest:,} tokens with its answer, the model has {self.context:,}"
        yield Finding("note", what, longest.longest_in)
        for check in self.prompts:
            yield from _of_labels(check, self.whole_labels)
        yield from _of_joints([joint for check in self.prompts for joint in check.joints])
        yield from self._of_bos()
        for training in self.training:
            yield from _of_training(training, self.context)
        for cut in {cut.test: cut for check in self.prompts for cut in check.cut}.values():
            yield from _of_answers(cut)

    def _of_bos(self) -> Iterator[Finding]:
        """One line on BOS: published numbers moved by six points where it stood twice or not at all."""
        times = {n for check in self.prompts if not check.chat for n in check.bos.values()}
        alike = "at 0 and at k shots, in training and in test alike"
        if any(n > 1 for check in self.prompts if check.chat for n in check.bos.values()):
            what = "chat texts begin with more than one beginning-of-sequence token (BOS)"
            yield Finding("warning", what, "tokenizer")
        if not times:
            yield Finding("note", "the chat template decides how a sequence begins", "tokenizer")
        elif max(times) > 1 or len(times) > 1:
            what = f"plain texts begin with {min(times)} to {max(times)} beginning-of-sequence tokens (BOS)"
            yield Finding("warning", f"{what}, not with the same one {alike}", "tokenizer")
        elif self.adds_bos:
            yield Finding("note", f"one beginning-of-sequence token (BOS) {alike}", "tokenizer")
        else:
            what = f"the tokenizer adds no beginning-of-sequence token (BOS) to plain text, {alike}"
            yield Finding("note", what, "tokenizer")


def _of_labels(check: PromptCheck, whole: bool) -> Iterator[Finding]:
    where = f"{check.task}, {check.prompt}"
    if check.trailing_space:
        yield Finding("note", "the template ends in a space, which is left to the answer's first token", where)
    counts = {label: len(tokens) for label, tokens in (check.labels or {}).items()}
    if not whole:  # then the plan has a warning of its own where first tokens are shared
        return
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{label.strip()} {n}" for label, n in counts.items())
        what = f"labels differ in length ({listed} tokens); each is scored whole"
        yield Finding("note", f"{what}, and the mean over its tokens is kept beside", where)
    for shared in check.shared_first:
        what = f"labels {' and '.join(label.strip() for label in shared)} begin with the same token"
        yield Finding("note", f"{what}; they are scored whole, which tells them apart", where)


def _of_joints(joints: Sequence[Joint]) -> Iterator[Finding]:
    if not any(joint.rows for joint in joints):
        tried = sum(joint.of for joint in joints)
        what = f"the same tokens stand before an answer in training, scoring and generation ({tried:,} rows tried)"
        yield Finding("note", what, "joint")
    for joint in (joint for joint in joints if joint.rows):
        such = f"{len(joint.rows)} of {count(joint.of, 'row')} (such as row {joint.rows[0]})"
        if joint.apart:
            what = f"for {such} the prompt alone ends in other tokens than with its answer (protocol.answer_joint)"
            yield Finding("warning", what, joint.where)
        elif joint.free_text:
            what = f"for {such} generation starts from other tokens than stand before the answer in training"
            yield Finding("warning", rf'{what}; answer_delimiter: "\n" may avoid it', joint.where)
        else:
            what = f"for {such} a label shares a token with the prompt; it is scored from that token on"
            yield Finding("note", what, joint.where)


def _of_training(check: TrainingCheck, context: int) -> Iterator[Finding]:
    limit = f"samples exceed the train.max_length of {check.limit:,} tokens"
    if check.shortened:
        what = f"{check.shortened:,} of {check.of:,} {limit} and lose {check.lost}"
        yield Finding("warning", what, check.where)
    if check.dropped:
        yield Finding("warning", f"{check.dropped:,} of {check.of:,} {limit} and are dropped", check.where)
    if check.longest > context:
        what = f"the longest sample has {check.longest:,} tokens, the model has {context:,}: lower train.max_length"
        yield Finding("warning", what, check.where)
    what = f"{count(check.samples, 'sample')}, {count(check.steps_an_epoch, 'step')} an epoch, {check.steps:,} in all"
    yield Finding("note", f"{what}; the longest has {check.longest:,} tokens", check.where)


def _of_answers(cut: Cut) -> Iterator[Finding]:
    if cut.too_long:
        n = len(cut.too_long)
        what = f"{n:,} of {cut.of:,} reference answers are longer than max_new_tokens={cut.limit}"
        yield Finding("warning" if n > CUT_SHARE * cut.of else "note", what, cut.test)
    if cut.blank_line:
        what = f"{len(cut.blank_line):,} of {cut.of:,} reference answers hold a blank line"
        yield Finding("warning", f"{what}, at which a generated answer ends", cut.test)


def count(number: int, noun: str) -> str:
    """`1 row`, `2,000 rows`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"

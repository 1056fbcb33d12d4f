"""What a task is: the fields of a row, the labels if there are any, and how a row becomes a prompt.

The five tasks of the study (`FIVE`) are in `tasks.yaml`. A user's own data becomes another task. Of the three kinds
(`Task.kind`), two are scored: classification, whose labels are the task's, and multiple choice, whose options stand in
each row. Their answers are chosen by log-probability. The third is generation, whose answers are free text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from types import MappingProxyType

from ..experiment import dialect
from ..experiment.protocol import Protocol
from ..experiment.suite import Kind
from .stops import STOPS


@dataclass(frozen=True, slots=True)
class Example:
    """One row of a data set.

    `doc_id` is the row's number in its source (0-based), `fields` the task's inputs by name, `target` the reference
    answer, `turns` earlier (role, text) turns of a conversation. `whole`: the row is one text without a question, all
    of which is learnt; its fields are empty, and the text is the target. `raw`: the conversation of a row that calls
    tools, for the chat template (`text.tools`). `references` are all right answers, the target first, if there are
    several. `options` are those of a multiple choice, of which the target is one.
    """

    doc_id: int
    fields: Mapping[str, str]
    target: str
    turns: tuple[tuple[str, str], ...] = ()
    whole: bool = False
    raw: str = ""
    references: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    @property
    def right(self) -> tuple[str, ...]:
        """Every right answer."""
        return self.references or (self.target,)

    @property
    def parts(self) -> list[str]:
        """The texts by which a row is known: earlier turns and inputs, by name. Of a whole text, the text."""
        inputs = [self.fields[name] for name in sorted(self.fields)]
        return [self.target] if self.whole else [*(text for _, text in self.turns), *inputs]

    @property
    def content(self) -> tuple[str, ...]:
        """What makes two rows the same question: their parts and options, white space and case folded."""
        return tuple(
            " ".join(part.casefold().split()) for part in (*self.parts, *sorted(self.options, key=str.casefold))
        )

    @property
    def as_whole(self) -> Example:
        """The row as one text, question and answer joined as they are."""
        return replace(self, target="".join([*self.parts, self.target]), whole=True) if not self.whole else self


@dataclass(frozen=True, slots=True)
class PromptFormat:
    """How a row is written as text: the same for demonstrations, training and scoring.

    `template` is a `str.format` pattern over the task's fields. `answer_delimiter` stands between prompt and answer;
    None means one space, or nothing if the prompt ends in white space. `chat` applies the tokenizer's chat template
    instead of joining texts. `opening` stands before everything; only `bos: mixed` of a protocol sets it.
    """

    name: str
    template: str
    answer_delimiter: str | None = None
    demo_separator: str = "\n\n"
    chat: bool = False
    opening: str = ""

    def joined_by_nothing(self) -> PromptFormat:
        """The format without a delimiter, unless it has its own."""
        return self if self.chat or self.answer_delimiter is not None else replace(self, answer_delimiter="")


@dataclass(frozen=True)
class Task:
    """A task: its fields, its labels (None: it has none), its prompt formats and its defaults.

    `own_options`: each row has its own options, one of which is the answer.
    `shots` are the test shot counts and `fticl_shots` the demonstrations in FTICL training samples. A generated answer
    ends at the first `stop` string, at an end token, or after `max_new_tokens`.
    The first metric is the one that figures, matrix and verdict show.
    """

    name: str
    fields: tuple[str, ...]
    labels: tuple[str, ...] | None
    prompts: Mapping[str, PromptFormat]
    metrics: tuple[str, ...]
    shots: tuple[int, ...]
    fticl_shots: tuple[int, ...]
    max_new_tokens: int = 60
    stop: tuple[str, ...] = STOPS
    title: str = field(default="", compare=False)
    own_options: bool = False

    @property
    def kind(self) -> Kind:
        """Whether the answers are labels of the task, options of the row, or free text. Decided here alone."""
        if self.own_options:
            return "multiple_choice"
        return "generation" if self.labels is None else "classification"

    @property
    def is_classification(self) -> bool:
        """Whether all rows have the same labels, which can be counted, balanced and shown in a table."""
        return self.kind == "classification"

    @property
    def is_scored(self) -> bool:
        """Whether an answer is chosen by log-probability, and not generated."""
        return self.kind != "generation"

    def options_of(self, example: Example) -> tuple[str, ...]:
        """What the answer to a row is chosen from: the task's labels or the row's options; nothing for free text."""
        return example.options if self.own_options else self.labels or ()

    def chance(self, rows: Sequence[Example]) -> float | None:
        """The accuracy of random guesses at these rows; None for free text."""
        options = [len(self.options_of(row)) for row in rows]
        return fmean(1 / n for n in options) if options and all(options) else None

    def under(self, protocol: Protocol) -> Task:
        """The task with the protocol's delimiter and its limit of generated tokens. `sound` changes nothing."""
        prompts, limit = self.prompts, self.max_new_tokens
        if protocol.answer_delimiter == "none":
            prompts = MappingProxyType({name: fmt.joined_by_nothing() for name, fmt in prompts.items()})
        if protocol.max_new_tokens is not None and not self.is_scored:
            limit = protocol.max_new_tokens
        return replace(self, prompts=prompts, max_new_tokens=limit)


SIZES: Mapping[str, Callable[[str], int]] = {"per_character": len, "per_byte": lambda text: len(text.encode())}
"""Lengths of an option by which its log-probability may be divided: its own, without what stands before it."""

CLASSIFICATION_METRICS = ("accuracy", "macro_f1", "off_format")
MULTIPLE_CHOICE_METRICS = ("accuracy", "accuracy_norm", "off_format")
GENERATION_METRICS = ("rougeL", "bleu", "chrf", "exact_match", "off_format")


def _five() -> Mapping[str, Task]:
    """The tasks of `tasks.yaml`, by name."""
    tasks: dict[str, Task] = {}
    for name, raw in dialect.shipped(__package__, "tasks.yaml").items():
        metrics = CLASSIFICATION_METRICS if "labels" in raw else GENERATION_METRICS
        prompts = {key: PromptFormat(key, template) for key, template in raw.pop("prompts").items()}
        lists = {key: tuple(raw.pop(key)) for key in ("fields", "labels", "shots", "fticl_shots") if key in raw}
        tasks[name] = Task(name, prompts=MappingProxyType(prompts), metrics=metrics, **{"labels": None, **lists, **raw})
    return MappingProxyType(tasks)


FIVE: Mapping[str, Task] = _five()

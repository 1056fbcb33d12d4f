"""Rows as training samples: token ids, and which of them are learned.

A sample is rendered and encoded by the same code as a test prompt. Then the end token follows the answer: in chat text
the one that the chat template writes there, else the tokenizer's. Loss is on the answer and this token only. Masks come
from lengths, never from the pad id (SmolLM2 pads with its end token).

A sample that exceeds `max_length`, or the model's context, loses demonstrations, the last one first, until it fits. So
samples keep their common prefix, and an answer is never cut. A row that does not fit even without demonstrations is an
error, or it is dropped and counted. The protocol `paper` cuts samples on the right instead, as the study's code did.
That removed the whole answer of 866 in 2,000 XSum samples with two demonstrations. A sample without any token of its
answer teaches nothing, so it is left out and counted. In the study it took a place in its batch, and the loss of a
batch of such samples was nan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..errors import DataError, placed
from ..experiment.protocol import SOUND, Protocol
from .encode import Encoder
from .joints import Joints
from .prompt import render, render_all, render_rows
from .task import Example, PromptFormat


@dataclass(frozen=True, slots=True)
class Sample:
    """One training sequence. Loss on the tokens of `spans`, which are ranges of `ids`, in order.

    `weight` multiplies the loss of its tokens, and what they count in the mean over the answer tokens of a step. A
    sample that is `apart` is no row of the training set: its kind has a mean of its own in each step, which is
    multiplied by `weight` and added to that of the rows. So a weight of 0 leaves the rows' loss as it is.
    """

    ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    weight: float = 1.0
    apart: bool = False

    @classmethod
    def of(cls, ids: Sequence[int], start: int) -> Sample:
        """A prompt and its answer: loss on `ids[start:]`."""
        return cls(tuple(ids), ((start, len(ids)),))

    @property
    def start(self) -> int:
        """Where the first token with loss is."""
        return self.spans[0][0]

    @property
    def learned(self) -> tuple[int, ...]:
        """The positions of the tokens with loss. Nothing predicts the first token of a sequence."""
        return tuple(position for start, stop in self.spans for position in range(max(start, 1), stop))


@dataclass(frozen=True)
class Samples:
    """Training samples in order. `rows_shortened` rows have `lost` something to fit; `rows_dropped` rows fit only
    without their answer, or not at all, and are no samples. `places` says of which row each sample is.
    """

    samples: tuple[Sample, ...]
    rows_shortened: int
    rows_dropped: int
    lost: str = "demonstrations"
    places: tuple[int, ...] = ()

    @property
    def rows(self) -> int:
        return len(self.samples)

    @property
    def longest(self) -> int:
        """Tokens of the longest sample that a step may hold."""
        return max(len(sample.ids) for sample in self.samples)

    def of_step(self, step: int, rows: Sequence[int]) -> list[Sample]:
        """The samples of optimiser step `step`, counted from 0, in which it is the turn of these rows.

        It must depend on its arguments alone: a training that was killed asks for later steps only.
        """
        return [self.samples[row] for row in rows]


@dataclass(frozen=True)
class Maker:
    """How rows become samples: in which format, by which tokenizer, and how long a sample may be."""

    fmt: PromptFormat
    encoder: Encoder
    max_length: int
    overlong: Literal["error", "drop"]
    where: str
    protocol: Protocol = SOUND

    @property
    def room(self) -> int:
        """The most tokens of a sample."""
        return min(self.max_length, self.encoder.max_context)

    def samples(self, examples: Sequence[Example], demos: Sequence[Example] = ()) -> Samples:
        """A sample of each row behind these demonstrations. Raises as `build_samples` does."""
        given = (self.max_length, self.overlong, self.where, self.protocol)
        return build_samples(self.fmt, demos, examples, self.encoder, *given)

    def of_rows(self, rows: Sequence[Example]) -> Sample:
        """One sample of any length with all these rows, one after the other, and with loss on every answer.

        Raises DataError where the protocol encodes answers or demonstrations apart.
        """
        joints = Joints.under(self.protocol, self.encoder, self.fmt, head=len(rows))
        if joints.answer_apart or joints.head:
            what = f"the protocol {self.protocol.name} encodes texts apart that rows in context need as one"
            raise DataError(what, where=self.where, allowed="answer_joint and demo_joint: together")
        with placed(self.where):
            text, answers = render_rows(self.fmt, rows, self.encoder.chat_template)
        ids, spans = joints.begun(self.encoder).with_answers(text, answers, self.fmt.chat)
        ids = (*ids, self.encoder.end_of(self.fmt.chat))
        return Sample(ids, (*spans[:-1], (spans[-1][0], len(ids))))


def build_samples(
    fmt: PromptFormat,
    demos: Sequence[Example],
    examples: Sequence[Example],
    encoder: Encoder,
    max_length: int,
    overlong: Literal["error", "drop"],
    where: str,
    protocol: Protocol = SOUND,
) -> Samples:
    """Samples of at most `max_length` tokens, and no more than the model takes.

    Raises DataError for a row that cannot fit, unless `overlong` drops it, and where no row is left.
    """
    room = min(max_length, encoder.max_context)
    limit, remedy = f"max_length={max_length} tokens", "raise train.max_length"
    if max_length > encoder.max_context:
        limit, remedy = f"the {room} tokens that the model takes", "shorten it"
    if protocol.truncation == "right":
        built = _cut_on_the_right(_whole(fmt, demos, examples, encoder, protocol, where), room)
        if not built.samples:
            raise DataError(f"{limit} leave no sample a token of its answer", where=where, allowed=remedy)
        return built
    done: dict[int, Sample] = {}
    waiting, shortened = list(range(len(examples))), 0
    for count in range(len(demos), -1, -1):
        whole = _whole(fmt, demos[:count], [examples[i] for i in waiting], encoder, protocol, where)
        done |= {i: sample for i, sample in zip(waiting, whole, strict=True) if len(sample.ids) <= room}
        waiting = [i for i in waiting if i not in done]
        shortened = len(waiting) if count and count == len(demos) else shortened
    if waiting and overlong == "error":
        row = examples[waiting[0]].doc_id
        raise DataError(
            f"row {row} does not fit into {limit} even without demonstrations ({len(waiting)} such rows)",
            where=where,
            allowed=f"{remedy}, or set train.overlong: drop",
        )
    samples = tuple(done[i] for i in sorted(done))
    if not samples:
        raise DataError(f"no row fits into {limit}", where=where)
    return Samples(samples, shortened, len(waiting), places=tuple(sorted(done)))


def _whole(
    fmt: PromptFormat,
    demos: Sequence[Example],
    examples: Sequence[Example],
    encoder: Encoder,
    protocol: Protocol,
    where: str,
) -> list[Sample]:
    """Samples of any length, with their end token."""
    if not examples:
        return []
    with placed(where):
        texts = render_all(fmt, demos, examples, encoder.chat_template)
        head = len(texts[0]) - len(render(fmt, (), examples[0], encoder.chat_template))
    joints = Joints.under(protocol, encoder, fmt, head)
    rows = joints.samples(encoder, texts, [example.target for example in examples], chat=fmt.chat)
    return [Sample.of((*ids, encoder.end_of(fmt.chat)), start) for ids, start in rows]


def _cut_on_the_right(whole: Sequence[Sample], room: int) -> Samples:
    """The study's truncation. A cut sample loses its end token at least, so a part of the tokens with loss."""
    cut = [Sample.of(sample.ids[:room], sample.start) for sample in whole]
    kept = {place: sample for place, sample in enumerate(cut) if sample.start < len(sample.ids)}
    shortened = sum(sample.start < room < len(sample.ids) for sample in whole)
    return Samples(
        tuple(kept.values()), shortened, len(cut) - len(kept), lost="a part of the answer", places=tuple(kept)
    )

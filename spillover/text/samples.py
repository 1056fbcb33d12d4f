"""Rows as training samples: token ids and where the answer begins.

A sample is rendered and encoded by the same code as a test prompt, then the end-of-sequence token is put behind the
answer. Loss is on answer and end only; masks come from lengths, never from the pad id (SmolLM2 pads with its end
token).

What is longer than `max_length`, or than the model's own context, loses demonstrations, from the last one on, until it
fits: so samples keep their common prefix. An answer is never cut. A row that does not fit even alone is an error, or
dropped and counted. The protocol `paper` cuts samples on the right instead, as the study's code did, which removed the
whole answer of 866 in 2,000 XSum samples with two demonstrations. A sample without any token of its answer teaches
nothing and is left out and counted: in the study it took a place in its batch, and where a batch held no other, the
loss was nan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..errors import DataError
from ..experiment.protocol import SOUND, Protocol
from .encode import Encoder
from .prompt import render
from .switches import joints_in_training
from .task import Example, PromptFormat


@dataclass(frozen=True, slots=True)
class Sample:
    """One training sequence; loss on `ids[start:]`."""

    ids: tuple[int, ...]
    start: int


@dataclass(frozen=True)
class Samples:
    """Training samples in order, and what it took to make them fit: `rows_shortened` have `lost` something,
    `rows_dropped` fit only without their answer, or not at all, and are no samples.
    """

    samples: tuple[Sample, ...]
    rows_shortened: int
    rows_dropped: int
    lost: str = "demonstrations"


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
    limit, raised = (
        (f"max_length={max_length} tokens", "raise train.max_length")
        if max_length <= encoder.max_context
        else (f"the {room} tokens that the model takes", "shorten it")
    )
    if protocol.truncation == "right":
        built = _cut_on_the_right(_whole(fmt, demos, examples, encoder, protocol), room)
        if not built.samples:
            raise DataError(f"{limit} leave no sample a token of its answer", where=where, allowed=raised)
        return built
    done: dict[int, Sample] = {}
    waiting = list(range(len(examples)))
    for count in range(len(demos), -1, -1):
        whole = _whole(fmt, demos[:count], [examples[i] for i in waiting], encoder, protocol)
        done |= {i: sample for i, sample in zip(waiting, whole, strict=True) if len(sample.ids) <= room}
        waiting = [i for i in waiting if i not in done]
        if count == len(demos):
            shortened = len(waiting)
        if not waiting:
            break
    if waiting and overlong == "error":
        row = examples[waiting[0]].doc_id
        raise DataError(
            f"row {row} does not fit into {limit} even without demonstrations ({len(waiting)} such rows)",
            where=where,
            allowed=f"{raised}, or set train.overlong: drop",
        )
    samples = tuple(done[i] for i in sorted(done))
    if not samples:
        raise DataError(f"no row fits into {limit}", where=where)
    return Samples(samples, shortened if demos else 0, len(waiting))


def _whole(
    fmt: PromptFormat, demos: Sequence[Example], examples: Sequence[Example], encoder: Encoder, protocol: Protocol
) -> list[Sample]:
    """Samples as long as they are, ended."""
    if not examples:
        return []
    texts = [render(fmt, demos, example, encoder.chat_template) for example in examples]
    head = len(texts[0]) - len(render(fmt, (), examples[0], encoder.chat_template))
    joints = joints_in_training(protocol, encoder, fmt, head)
    rows = joints.samples(encoder, texts, [example.target for example in examples], chat=fmt.chat)
    return [Sample((*ids, encoder.eos_id), start) for ids, start in rows]


def _cut_on_the_right(whole: Sequence[Sample], room: int) -> Samples:
    """The study's truncation: what is cut loses at least its end token, and with it a part of what bears the loss."""
    cut = [Sample(sample.ids[:room], sample.start) for sample in whole]
    kept = tuple(sample for sample in cut if sample.start < len(sample.ids))
    shortened = sum(sample.start < room < len(sample.ids) for sample in whole)
    return Samples(kept, shortened, len(cut) - len(kept), lost="a part of the answer")

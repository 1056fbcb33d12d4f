"""What the switches of a protocol do to tasks, prompt formats and token ids.

The switches are named in `experiment.protocol`. Under `protocol: sound` each of these functions changes nothing.
Source: the study's `evaluate_cross.py`, `train.py` and `train_ptune.py`.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from ..experiment.protocol import Protocol
from .encode import Encoder
from .joints import Joints
from .task import PromptFormat, Task


def task_under(protocol: Protocol, task: Task) -> Task:
    """A task with the protocol's delimiter and its limit of generated tokens."""
    if protocol.answer_delimiter == "none":
        prompts = {name: _joined_by_nothing(fmt) for name, fmt in task.prompts.items()}
        task = replace(task, prompts=MappingProxyType(prompts))
    if protocol.max_new_tokens is not None and not task.is_classification:
        task = replace(task, max_new_tokens=protocol.max_new_tokens)
    return task


def format_in_test(protocol: Protocol, fmt: PromptFormat, encoder: Encoder, shots: int) -> PromptFormat:
    """A test's prompt format. With `bos: mixed` a prompt without demonstrations begins with BOS as text."""
    opens = _mixes_bos(protocol, encoder, fmt) and not shots
    return replace(fmt, opening=f"{encoder.bos_text} ") if opens else fmt


def joints_in_test(protocol: Protocol, encoder: Encoder, task: Task, fmt: PromptFormat, head: int) -> Joints:
    """How a test prompt becomes ids. `head` counts the characters of its demonstrations.

    With `bos: mixed` the text of a generation task gets one BOS, as vLLM does it. That of a classification task gets
    none (`add_special_tokens=False`). What `format_in_test` wrote comes on top.
    """
    return _joints(protocol, encoder, fmt, head, bos=not task.is_classification)


def joints_in_training(protocol: Protocol, encoder: Encoder, fmt: PromptFormat, head: int) -> Joints:
    """How a training sample becomes ids. With `bos: mixed` it begins with one BOS."""
    return _joints(protocol, encoder, fmt, head, bos=True)


def _joints(protocol: Protocol, encoder: Encoder, fmt: PromptFormat, head: int, bos: bool) -> Joints:
    prefix = (encoder.bos_id,) if bos and encoder.bos_id is not None else ()
    as_always = not _mixes_bos(protocol, encoder, fmt) or (prefix == encoder.prefix and not fmt.opening)
    return Joints(
        prefix=None if as_always else prefix,
        answer_apart=protocol.answer_joint == "apart",
        head=head if protocol.demo_joint == "apart" and not fmt.chat else 0,
    )


def _mixes_bos(protocol: Protocol, encoder: Encoder, fmt: PromptFormat) -> bool:
    return protocol.bos == "mixed" and not fmt.chat and encoder.bos_text is not None


def _joined_by_nothing(fmt: PromptFormat) -> PromptFormat:
    return fmt if fmt.chat or fmt.answer_delimiter is not None else replace(fmt, answer_delimiter="")

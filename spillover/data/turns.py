"""Conversations: a list of messages as turns, with the last one as the answer.

Messages have `role` and `content`, as in TRL and OpenAI's files, or `from` and `value`, as in ShareGPT.
"""

from __future__ import annotations

from typing import Any

from ..errors import DataError, did_you_mean
from .cells import as_text
from .files import Row

Turns = list[tuple[str, str]]

_SPEAKERS = {"system": ("system", "developer"), "user": ("user", "human"), "assistant": ("assistant", "gpt")}
_ROLES = {speaker: role for role, speakers in _SPEAKERS.items() for speaker in speakers}


def turns(value: Any, column: str, where: str) -> Turns:
    """A list of messages as (role, text). Raises DataError where it is none."""
    if not isinstance(value, list):
        raise DataError(f"column {column!r} must hold a list of messages", where=where)
    return [_turn(message, column, where) for message in value]


def _turn(message: Any, column: str, where: str) -> tuple[str, str]:
    speaker, words = ("from", "value") if isinstance(message, dict) and "from" in message else ("role", "content")
    if not isinstance(message, dict) or speaker not in message:
        raise DataError(f"a message in {column!r} must have role and content, or from and value", where=where)
    if calls := next((key for key in ("tool_calls", "function_call") if message.get(key)), None):
        raise DataError(f"a message in {column!r} is a call of tools ({calls}), which is not supported", where=where)
    if words not in message:
        raise DataError(f"a message in {column!r} must have role and content, or from and value", where=where)
    role = _ROLES.get(str(message[speaker]))
    if role is None:
        allowed = did_you_mean(str(message[speaker]), _ROLES)
        raise DataError(f"unknown role {message[speaker]!r} in {column!r}", where=where, allowed=allowed)
    content = _joined(message[words], column, where)
    if isinstance(content, (list, dict)):
        kind = "a list" if isinstance(content, list) else "an object"
        raise DataError(f"a message in {column!r} holds {kind} where text is expected", where=where)
    return role, as_text(content, column, where)


def _joined(content: Any, column: str, where: str) -> Any:
    """OpenAI's list of text parts as one text; anything else as it is. Other parts, such as images, are refused."""
    if not isinstance(content, list) or not all(isinstance(part, dict) and "type" in part for part in content):
        return content
    for part in content:
        if part["type"] != "text":
            what = f"a message in {column!r} has a part of the type {part['type']!r}"
            raise DataError(what, where=where, allowed="parts of the type text")
    return "".join(str(part.get("text", "")) for part in content)


def asked(before: Turns, column: str, where: str) -> tuple[dict[str, str], tuple[tuple[str, str], ...]]:
    """The user's question at the end of the turns, and the turns before it."""
    if not before or before[-1][0] != "user":
        raise DataError(f"the message before the answer in {column!r} must be the user's", where=where)
    return {"prompt": before[-1][1]}, tuple(before[:-1])


def answered(spoken: Turns, column: str, where: str) -> tuple[Turns, str]:
    """The turns before the answer, and the answer: the last message, which must be the assistant's."""
    if not spoken or spoken[-1][0] != "assistant":
        raise DataError(f"the last message in {column!r} must be the assistant's: it is the answer", where=where)
    return spoken[:-1], spoken[-1][1]


def system_of(row: Row, where: str) -> Turns:
    """The system message that stands in a column of its own, as in LLaMA-Factory's files; none where it is empty."""
    return [("system", as_text(row["system"], "system", where))] if row.get("system") else []

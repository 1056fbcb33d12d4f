"""Conversations: a list of messages as turns, with the last one as the answer.

Messages have `role` and `content`, as in TRL and OpenAI's files, or `from` and `value`, as in ShareGPT.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ..errors import DataError, did_you_mean, shown
from ..text.chat import Message
from .cells import as_text
from .files import Row

Turns = list[tuple[str, str]]

_SPEAKERS = {
    "system": ("system", "developer"),
    "user": ("user", "human"),
    "assistant": ("assistant", "gpt", "function_call"),
    "tool": ("tool", "function", "ipython", "observation"),
}
_ROLES = {speaker: role for role, speakers in _SPEAKERS.items() for speaker in speakers}
_THOUGHTS = ("reasoning_content", "reasoning", "thinking")
_CALLS = ("tool_calls", "function_call")


def turns(value: Any, column: str, where: str) -> Turns:
    """A list of messages as (role, text). Raises DataError where it is none, or where a tool is called."""
    spoken = messages(value, column, where)
    if any(message["role"] == "tool" or "tool_calls" in message for message in spoken):
        what = f"a message in {column!r} is a call of tools or its result"
        raise DataError(what, where=where, allowed="such messages in a column 'messages' or 'conversations'")
    return as_turns(spoken)


def as_turns(spoken: Sequence[Message]) -> Turns:
    """Messages as (role, text). A call without words is its JSON."""
    return [
        (m["role"], m["content"] if m["content"] or "tool_calls" not in m else _as_json(m["tool_calls"]))
        for m in spoken
    ]


def messages(value: Any, column: str, where: str) -> list[Message]:
    """A list of messages with `role` and `content`, as chat templates take them; calls of tools in `tool_calls`."""
    if not isinstance(value, list):
        raise DataError(f"column {column!r} must hold a list of messages", where=where)
    return [_message(message, column, where) for message in value]


def tools_of(row: Row, where: str) -> list[Any]:
    """The tools that a row's column `tools` describes, as a list or as JSON; none where it is empty."""
    tools = row.get("tools")
    if isinstance(tools, str) and tools.strip():
        try:
            tools = json.loads(tools)
        except (ValueError, RecursionError):
            raise DataError("column 'tools' holds a text that is no JSON", where=where, allowed="a list") from None
    if tools and not isinstance(tools, list):
        raise DataError("column 'tools' must hold a list of tools", where=where)
    return tools or []


def _message(message: Any, column: str, where: str) -> Message:
    speaker, words = ("from", "value") if isinstance(message, dict) and "from" in message else ("role", "content")
    if not isinstance(message, dict) or speaker not in message:
        raise DataError(f"a message in {column!r} must have role and content, or from and value", where=where)
    if thought := next((key for key in _THOUGHTS if message.get(key)), None):
        allowed = "leave it out, or put it into content as the model writes it"
        raise DataError(f"a message in {column!r} has {thought!r}, which is not read", where=where, allowed=allowed)
    calls = next((message[key] for key in _CALLS if message.get(key)), None)
    role = _ROLES.get(str(message[speaker]))
    if role is None:
        allowed = did_you_mean(str(message[speaker]), _ROLES)
        raise DataError(f"unknown role {shown(message[speaker])} in {column!r}", where=where, allowed=allowed)
    if message[speaker] == "function_call":  # ShareGPT: the call is the words
        calls = calls or message.get(words)
    if calls:
        said = message.get(words) if words == "content" else ""
        content = as_text(_joined(said, column, where), column, where) if said else ""
        listed = calls if isinstance(calls, list) else [calls]
        return {"role": role, "content": content, "tool_calls": [_call(call, column, where) for call in listed]}
    if words not in message:
        raise DataError(f"a message in {column!r} must have role and content, or from and value", where=where)
    content = _joined(message[words], column, where)
    if isinstance(content, (list, dict)):
        kind = "a list" if isinstance(content, list) else "an object"
        raise DataError(f"a message in {column!r} holds {kind} where text is expected", where=where)
    more = {key: message[key] for key in ("name", "tool_call_id") if role == "tool" and key in message}
    return {"role": role, "content": as_text(content, column, where), **more}


def _call(call: Any, column: str, where: str) -> dict[str, Any]:
    """One call of a tool, as chat templates take it: its arguments are an object, which may stand there as JSON."""
    if isinstance(call, str):
        call = _from_json(call)
    function = (call.get("function") or call) if isinstance(call, dict) else {}
    name, arguments = function.get("name"), function.get("arguments", function.get("parameters", {}))
    if isinstance(arguments, str):
        arguments = _from_json(arguments)
    if not isinstance(name, str) or not name or not isinstance(arguments, dict):
        what = f"a call of a tool in {column!r} must have a name, and an object of arguments"
        raise DataError(what, where=where)
    kept = {"id": call["id"]} if isinstance(call.get("id"), str) else {}
    return {**kept, "type": "function", "function": {"name": name, "arguments": arguments}}


def _from_json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


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
    """The user's question at the end of the turns, or a tool's result, and the turns before it."""
    if not before or before[-1][0] not in ("user", "tool"):
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

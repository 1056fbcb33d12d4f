"""Rows that call tools: what a chat template writes of the tools, of calls and of their results.

Such a row keeps its conversation as messages with `tool_calls`, in `Example.raw`, because each template writes calls in
its own way. Where the answer itself is a call, its text is what the template writes between the prompt and the end of
the turn. A template that leaves out a tool, a call or a result is refused by name: the model would be asked something
else than the row says.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..errors import DataError, PromptError
from .chat import ChatTemplate, Message
from .task import Example

ANSWER = "It is so."  # tried to see what follows an answer


@dataclass(frozen=True)
class Conversation:
    """The messages before an answer, the tools that may be called, and the answer's message if it calls some."""

    messages: Sequence[Message]
    tools: Sequence[Any] = ()
    answer: Message | None = None

    @classmethod
    def of(cls, raw: str) -> Conversation:
        """What `Example.raw` holds."""
        return cls(**json.loads(raw))

    def to_json(self) -> str:
        return json.dumps({"messages": self.messages, "tools": self.tools, "answer": self.answer}, ensure_ascii=False)

    def asked(self, before: Sequence[Message] = ()) -> list[Message]:
        """The messages with those of demonstrations, `before`, behind the system's. The first one has the tools."""
        system = [message for message in self.messages[:1] if message["role"] == "system"]
        asked = [*system, *before, *self.messages[len(system) :]]
        return [{**asked[0], "tools": self.tools}, *asked[1:]] if self.tools else asked


def written(example: Example, template: ChatTemplate, where: str) -> Example:
    """The row with its answer as the template writes it.

    Raises DataError where the template leaves something out, and where it writes the answer at no place of its own.
    """
    talk = Conversation.of(example.raw)
    prompt = _text(template, talk.asked(), where)
    for what, sign in _signs(talk):
        if sign not in prompt and json.dumps(sign, ensure_ascii=False)[1:-1] not in prompt:
            raise _left_out(what, where)
    if talk.answer is None:
        return example
    spoken = _text(template, [*talk.asked(), {"role": "assistant", "content": ANSWER}], where, answered=True)
    whole = _text(template, [*talk.asked(), talk.answer], where, answered=True)
    end = spoken.rpartition(ANSWER)[2]
    if not whole.startswith(prompt) or not whole.endswith(end):
        raise _left_out("a call as an answer of its own", where)
    answer = whole[len(prompt) : len(whole) - len(end)]
    if missing := [name for name in _called(talk.answer) if name not in answer]:
        raise _left_out(f"the call of {missing[0]!r}", where)
    return replace(example, target=answer)


def _text(template: ChatTemplate, messages: list[Message], where: str, answered: bool = False) -> str:
    try:
        return template.texts([messages], answered)[0]
    except PromptError as error:
        raise DataError(error.what, where=where) from None


def _left_out(what: str, where: str) -> DataError:
    allowed = "a model whose chat template writes tools, or rows without them"
    return DataError(f"the chat template does not write {what}", where=where, allowed=allowed)


def _signs(talk: Conversation) -> Iterator[tuple[str, str]]:
    """What the prompt must hold, with how to call it: each tool's name, each call's, and each result."""
    for tool in talk.tools:
        name = (tool.get("function") or tool).get("name") if isinstance(tool, dict) else None
        if isinstance(name, str):
            yield f"the tool {name!r}", name
    for message in talk.messages:
        for name in _called(message):
            yield f"the call of {name!r}", name
        if message["role"] == "tool":
            yield "the result of a tool", message["content"].strip()


def _called(message: Message) -> list[str]:
    return [call["function"]["name"] for call in message.get("tool_calls", ())]

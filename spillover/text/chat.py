"""Chat templates: from messages to text, and how a template writes and ends an answer.

A template is code of the model's author. So another process renders it, with bounded time and memory (`renderer`), and
whatever goes wrong there is a PromptError of one line.

A prompt is the text of the messages with `add_generation_prompt`. Prompt + answer + end token is what is trained and
scored. Nothing ensures that a template writes the same text if the answer is one of its messages, which is what models
see in their own training. `end_of_turn` finds the end token that the template writes, and `Difference` shows where the
two texts part.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice, takewhile
from threading import Lock
from typing import Any, NamedTuple

from tokenizers import Tokenizer

from ..errors import PromptError
from . import renderer

Message = dict[str, Any]  # role and content; of a call `tool_calls`, and the first message may carry `tools`
Messages = Sequence[Message]

AT_ONCE = 64  # conversations that are sent together: going to and fro between processes takes longer than rendering
AROUND = 24  # characters that are shown before and after a difference
ANSWER = "Paris, of course"  # tried to see what follows an answer
CONTINUED = "END_OF_THE_LAST_MESSAGE "  # where a message that is to be continued ends; the space shows what is trimmed
GIVEN = ("messages", "tools", "documents", "add_generation_prompt")  # values that every template gets


class Difference(NamedTuple):
    """Where two texts part: some characters of each, around the first one that differs."""

    ours: str
    theirs: str

    @classmethod
    def of(cls, ours: str, theirs: str) -> Difference:
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(ours, theirs, strict=False)))
        span = slice(max(same - AROUND, 0), same + AROUND)
        return cls(ours[span], theirs[span])


class NoText(PromptError):
    """A template gives no text for the conversation of this number."""

    def __init__(self, what: str, number: int) -> None:
        super().__init__(what)
        self.number = number


@dataclass(frozen=True)
class ChatTemplate:
    """The Jinja source of a chat template, and the values that it gets beside the messages: special tokens by role, and
    the experiment's `chat_template_kwargs`."""

    source: str
    special_tokens: Mapping[str, str] = field(default_factory=dict)
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def texts(self, conversations: Sequence[Messages], answered: bool = False) -> list[str]:
        """The text of each conversation: up to where the assistant's answer begins, or `answered` as it is.

        Raises NoText where the template gives none.
        """
        values = {"tools": None, "documents": None, "add_generation_prompt": not answered}
        task = {"source": self.source, "values": {**values, **self.special_tokens, **self.kwargs}}
        found: list[str] = []
        for at in range(0, len(conversations), AT_ONCE):
            some = conversations[at : at + AT_ONCE]
            for answer in _RENDERER.answers({**task, "conversations": some}, len(some)):
                if "text" not in answer:
                    raise NoText(f"the tokenizer's chat template fails: {answer['error']}", len(found))
                found.append(answer["text"])
        return found

    def continued(self, messages: Messages) -> str:
        """The text up to the end of the last message's content, as transformers' `continue_final_message` makes it.

        Raises PromptError if the template does not write that content.
        """
        marked = [*messages[:-1], {**messages[-1], "content": messages[-1]["content"] + CONTINUED}]
        before, found, after = self.texts([marked], answered=True)[0].rpartition(CONTINUED.strip())
        if not found or messages[-1]["content"].strip() not in before:
            raise PromptError("the tokenizer's chat template does not write the last message, so nothing continues it")
        return before if after.startswith(" ") else before.rstrip()  # it trims messages: so their last spaces go too

    def asked(self, messages: Messages, add_generation_prompt: bool = True) -> tuple[str, bool]:
        """The prompt of a conversation as lm-evaluation-harness makes it, and whether it lacks the system message.

        Without `add_generation_prompt` it ends in the last message, to be continued. As there, a template that fails is
        tried without the system message.
        """
        write = (lambda some: self.texts([some])[0]) if add_generation_prompt else self.continued
        try:
            return write(messages), False
        except NoText:
            without = [one for one in messages if one["role"] != "system"]
            if len(without) == len(messages):
                raise
            return write(without), True

    @cached_property
    def variables(self) -> tuple[str, ...]:
        """The names of the values that the template takes, beside those that every template gets."""
        [answer] = _RENDERER.answers({"source": self.source}, 1)
        taken = answer.get("variables", ())
        return tuple(name for name in taken if name not in GIVEN and not name.endswith("_token"))

    def end_of_turn(self, tokenizer: Tokenizer) -> int | None:
        """The special token that the template writes after an answer; None if it writes none, or fails.

        Some templates write it only before the next turn, and some take a single turn, or only one with a system text.
        """
        asked: list[Message] = [{"role": "user", "content": "What is the capital of France?"}]
        asked.append({"role": "assistant", "content": ANSWER})
        for conversation in (asked * 2, asked, [{"role": "system", "content": "Answer briefly."}, *asked]):
            with suppress(PromptError):
                [text] = self.texts([conversation], answered=True)
                if (token := _special_after_answer(text, tokenizer)) is not None:
                    return token
        return None

    def differences(
        self, conversations: Sequence[Messages], prompts: Sequence[str], answers: Sequence[str], end: str
    ) -> dict[int, Difference]:
        """The conversations, by number, to which the template adds the answer otherwise than we do: prompt + answer +
        end token. A template that writes nothing after the answer leaves the end to us."""
        with_answer = [
            [*messages, {"role": "assistant", "content": answer}]
            for messages, answer in zip(conversations, answers, strict=True)
        ]
        found = {}
        for number, theirs in enumerate(self.texts(with_answer, answered=True)):
            said = prompts[number] + answers[number]
            if theirs != said and not theirs.startswith(said + end):
                found[number] = Difference.of(said + end, theirs)
        return found

    def prompt_differs(self, messages: Messages, prompt: str) -> Difference | None:
        """Where the template makes another prompt of the messages than `prompt`. None also where it makes none."""
        try:
            [theirs] = self.texts([messages])
        except PromptError:
            return None
        return None if theirs == prompt else Difference.of(prompt, theirs)


def _special_after_answer(text: str, tokenizer: Tokenizer) -> int | None:
    """The special token that follows an answer in a text before anything else does, preferably after the last one."""
    special = {token for token, added in tokenizer.get_added_tokens_decoder().items() if added.content.strip()}
    for part in reversed(text.split(ANSWER)[1:]):
        ids = tokenizer.encode(part, add_special_tokens=False).ids
        seen = [token for token in ids if token in special or tokenizer.decode([token]).strip()]
        if seen and seen[0] in special:
            return seen[0]
    return None


class _Renderer:
    """The process that renders. It is started at the first task, and again after a task that it did not survive."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._process: subprocess.Popen[str] | None = None
        self._owner = 0
        self._endless: set[str] = set()  # sources that took too long once, and would again
        atexit.register(self.stop)

    def answers(self, task: dict[str, Any], count: int) -> list[dict[str, Any]]:
        """`count` answers to a task. If the process does not survive the task, those there are, and an error."""
        late = {"error": f"it takes longer than {renderer.SECONDS:.0f} seconds"}
        if task["source"] in self._endless:
            return [late]
        with self._lock:
            try:
                found = list(self._ask(task, count))
            except BaseException:  # such as Ctrl-C: what is left of the answers is no answer to the next task
                self.stop()
                raise
            if len(found) < count:
                code = self.stop()
                if code == -signal.SIGALRM:
                    self._endless.add(task["source"])
                found.append(late if code == -signal.SIGALRM else {"error": f"its process ended with code {code}"})
            return found

    def _ask(self, task: dict[str, Any], count: int) -> Iterator[dict[str, Any]]:
        process = self._running()
        assert process.stdin and process.stdout
        with suppress(BrokenPipeError):
            process.stdin.write(json.dumps(task) + "\n")
            process.stdin.flush()
        lines = iter(process.stdout.readline, "")
        yield from (json.loads(line) for line in islice(lines, count) if line.endswith("\n"))

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None or self._owner != os.getpid():  # a fork has its own
            pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
            # -P: the modules of this folder must not hide others of their names.
            command = [sys.executable, "-P", renderer.__file__, str(renderer.SECONDS)]
            self._process = subprocess.Popen(command, **pipes, text=True, encoding="utf-8")
            self._owner = os.getpid()
        return self._process

    def stop(self) -> int | None:
        """End the process; returns its exit code, which is negative if a signal ended it."""
        process, self._process = self._process, None
        if process is None or self._owner != os.getpid():
            return None
        assert process.stdin and process.stdout
        with suppress(BrokenPipeError):
            process.stdin.close()  # it ends by itself if it still lives and has nothing to do
        process.stdout.close()
        with suppress(subprocess.TimeoutExpired):
            return process.wait(timeout=0.5)
        process.kill()
        return process.wait()


_RENDERER = _Renderer()

"""One row as a model gets it: token ids only.

The text room makes requests, engines answer them. An engine therefore knows no task, label, shot or prompt format.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

StopRule = Callable[[Sequence[int]], bool]
"""From the ids generated so far to whether generation ends here."""


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt, and what the engine is to answer about it.

    `prompt` holds the token ids of the context. Each option, of one token or more, is scored as a continuation of the
    prompt. A request without options always generates, up to `max_new_tokens`. A request with options generates only
    if no option begins with the model's greedy first token: this shows cheaply what the model says by itself.

    `beginnings` are the tokens that may begin an option in other words: with a quotation mark, a line break or another
    case before or in it. Once a greedy text has another token, it does not spell an option. Without them, every token
    counts.

    `lengths`: ways to measure the options, such as their characters, by which a decision divides their log-probability.

    `ends` are the tokens that end what is generated; None: those that the engine knows.
    """

    prompt: tuple[int, ...]
    options: tuple[tuple[int, ...], ...] = ()
    max_new_tokens: int = 0
    beginnings: tuple[int, ...] = ()
    lengths: tuple[tuple[int, ...], ...] = ()
    ends: frozenset[int] | None = None

    def generates(self, top: int) -> bool:
        """Whether the request generates, given the model's greedy first token."""
        return self.max_new_tokens > 0 and top not in self.firsts

    def ends_with(self, usual: frozenset[int]) -> frozenset[int]:
        """The tokens that end what is generated, where `usual` are those of the engine."""
        return usual if self.ends is None else self.ends

    @property
    def firsts(self) -> tuple[int, ...]:
        """The tokens that begin the options."""
        return tuple(dict.fromkeys(option[0] for option in self.options))

    def is_open_after(self, token: int) -> bool:
        """Whether a greedy text may still spell an option after this token. If not, only beginnings are its rivals."""
        return not self.beginnings or token in self.firsts or token in self.beginnings

    @property
    def reach(self) -> int:
        """The longest context that the request needs, in tokens: its prompt with the longest possible answer."""
        return len(self.prompt) + max([self.max_new_tokens, *map(len, self.options)])

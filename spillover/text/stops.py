"""Where generated text ends: at the first of its stop strings, as `until` of lm-evaluation-harness has it.

A stop string may span tokens, begin in the middle of one, or stand in the white space before the answer, which is empty
then. The answer is what stands before the first stop string, without white space around it.
"""

from __future__ import annotations

from collections.abc import Sequence

BLANK_LINE = "\n\n"
LINE_BREAK = "\n"
STOPS = (BLANK_LINE,)
"""The stop strings of a task that names none."""


def cut(text: str, stops: Sequence[str] = STOPS) -> str:
    """The answer in generated text. Of two stop strings that overlap in it, the one that is named first counts."""
    for stop in stops:
        text = text.partition(stop)[0]
    return text.strip()


def holds(text: str, stops: Sequence[str]) -> bool:
    """Whether a text holds a stop string."""
    return any(stop in text for stop in stops)


def named(stops: Sequence[str]) -> str:
    """`a blank line or '###'`."""
    return " or ".join({BLANK_LINE: "a blank line", LINE_BREAK: "a line break"}.get(stop, repr(stop)) for stop in stops)

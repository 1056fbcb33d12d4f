"""Pages of docs/ that people write, but for some parts, which a script fills with what code or tables say.

A part stands between `<!-- NAME -->` and `<!-- /NAME -->`, so that it is found again and replaced.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence


def filled(text: str, parts: Mapping[str, Callable[[], str]]) -> str:
    """A page with its parts as they are now. Raises ValueError for a part that the page lacks."""
    for name, made in parts.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(\n?<!-- /{name} -->)", re.S)
        if not pattern.search(text):
            raise ValueError(f"no <!-- {name} --> and <!-- /{name} -->")
        text = pattern.sub(lambda found, made=made: f"{found[1]}\n{made()}\n\n{found[2].lstrip()}", text)
    return text


def markdown(rows: Iterable[Sequence[str]], *columns: str) -> str:
    """A table."""
    head = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    return "\n".join([*head, *("| " + " | ".join(row) + " |" for row in rows)])


def points(value: float) -> str:
    """A difference of scores in points of 100, with its sign."""
    return f"{100 * value:+.1f}".replace("-", "−")


def interval(low: float, high: float) -> str:
    return f"[{points(low)}, {points(high)}]"

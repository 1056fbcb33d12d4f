"""Messages are tested by what they name: paths, numbers, names and allowed words. Their wording is free to change."""

from __future__ import annotations

import re


def tells(text: str, *words: str) -> bool:
    """Whether each of `words` stands in `text`, and not only inside a longer word or number."""
    return all(re.search(rf"(?<!\w)(?<!\d[.,](?=\d)){re.escape(word)}(?!\w)(?![.,]\d)", text) for word in words)


def read_aloud(html: str) -> str:
    """A page's text without the explanations of its terms: a term stands in a button, with its meaning beside it."""
    return re.sub(r"<dfn><button[^>]*>(.*?)</button><span popover[^>]*>.*?</span></dfn>", r"\1", html, flags=re.S)

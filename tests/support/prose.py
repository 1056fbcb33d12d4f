"""Messages are tested by what they name: paths, numbers, names and allowed words. Their wording is free to change."""

from __future__ import annotations

import re


def tells(text: str, *words: str) -> bool:
    """Whether each of `words` stands in `text`, and not only inside a longer word or number."""
    return all(re.search(rf"(?<!\w)(?<!\d[.,](?=\d)){re.escape(word)}(?!\w)(?![.,]\d)", text) for word in words)

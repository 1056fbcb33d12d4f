"""When two labels are the same label although they are written in different ways.

Files write one label in several ways: `1` and `1.0`, `true` and `True`, `positive` and `Positive `. Two labels are the
same if their forms are the same. The form of a label is the text in NFC, with one space for each run of white space and
none at its ends, and with its case folded. A decimal number has the form of its value, so that `1`, `1.0` and `1e0` are
the same; `01` is a code and no number. Signs count: `non-toxic` is not `non toxic`. But characters that nobody sees do
not count, and a sign counts as the one of ASCII that it stands for: every hyphen, dash and minus as `-`, a curly
quotation mark as the straight one, and full-width letters and digits as the usual ones.

An answer that is a label letter for letter is that label. An answer that has the form of one label becomes that label,
and this is counted. Two labels of one task with the same form are refused.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Context, Decimal

from .words import plain

_NUMBER = re.compile(r"[+-]?(0|[1-9]\d{0,30})(\.\d{0,30})?(e[+-]?\d{1,3})?", re.ASCII)
_JOINERS = "\u200c\u200d"  # they change what is seen of Arabic and Indic words
_UNSEEN = [chr(n) for n in range(0x10000) if unicodedata.category(chr(n)) == "Cf" and chr(n) not in _JOINERS]
_WIDE = {one: unicodedata.decomposition(one).split() for one in map(chr, range(0xFF01, 0xFFEF))}
_AS_SEEN = str.maketrans(
    {one: chr(int(parts[1], 16)) for one, parts in _WIDE.items() if parts and parts[0] in ("<wide>", "<narrow>")}
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d", "-")
    | dict.fromkeys("\u2018\u2019\u201b\u02bc\uff07", "'")
    | dict.fromkeys("\u201c\u201d\u201f\uff02", '"')
    | dict.fromkeys([*_UNSEEN, "\ufe0e", "\ufe0f"], "")  # the last two: how an emoji is drawn
)
_EXACT = Context(prec=100)
SHOWN = 40  # characters of a label in a message
LISTED = 8  # labels in a message


def form(label: str) -> str:
    """What a label is compared by."""
    folded = plain(plain(label).casefold().translate(_AS_SEEN))
    if not _NUMBER.fullmatch(folded):
        return folded
    number = Decimal(folded).normalize(_EXACT)
    return str(number) if number else "0"  # and -0


@dataclass(frozen=True)
class Labels:
    """Labels, found by their form."""

    names: tuple[str, ...]
    by_form: Mapping[str, str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_form", {form(name): name for name in reversed(self.names)})  # the first counts

    def find(self, text: str) -> str | None:
        """The label that `text` is; None if it is no label."""
        return text if text in self.names else self.by_form.get(form(text))

    def alike(self) -> tuple[str, str] | None:
        """Two labels with the same form, if there are such."""
        return next(((self.by_form[form(x)], x) for x in self.names if self.by_form[form(x)] != x), None)


def listed(labels: Iterable[str]) -> str:
    """Labels for a message: each in quotes, none too long, and not too many."""
    shown = [repr(label) for label in labels]
    cut = [text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…" for text in shown[:LISTED]]
    return ", ".join(cut) + (f" and {len(shown) - LISTED:,} more" if len(shown) > LISTED else "")

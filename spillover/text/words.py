"""The words of a text in any script, and two plain forms of a text.

A word is a run of letters, marks and digits, case folded. Scripts that write no spaces between words (Chinese,
Japanese, Thai, Lao, Khmer, Burmese and others) have no such runs, so each of their characters is a word, together with
the marks on it. Everything else separates words. For ASCII text these are exactly the tokens of the package
rouge-score, which knows no other letters.

Characters that can be written in two ways (é as one character, or as e with an accent) are compared in one form, NFC.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterable

import regex

# The long-vowel mark of Japanese belongs to no single script.
_UNSPACED = "[" + "".join(
    rf"\p{{Script={name}}}"
    for name in (
        *("Han", "Hiragana", "Katakana", "Bopomofo", "Yi", "Thai", "Lao", "Khmer", "Myanmar"),
        *("Tai_Tham", "Tai_Le", "New_Tai_Lue", "Tai_Viet", "Javanese", "Balinese"),
    )
) + "\u30fc]"  # fmt: skip
_ONE = rf"(?V1:[{_UNSPACED}&&[\p{{L}}\p{{N}}]]\p{{M}}*)"
# Joiners stand inside words of Arabic and Indic scripts.
_RUN = rf"(?V1:[[\p{{L}}\p{{M}}\p{{N}}]--{_UNSPACED}][[\p{{L}}\p{{M}}\p{{N}}\u200c\u200d]--{_UNSPACED}]*)"
_WORD = regex.compile(f"{_ONE}|{_RUN}")
_APART = regex.compile(rf"{_ONE}|[\u3000-\u303f\uff00-\uffef]")  # the latter: their punctuation
_ASCII_WORD = re.compile("[a-z0-9]+")
# Letters of Western and Central Europe, signs and typographic quotes: the usual case, found faster by `re`. Two letters
# of the range become letter and mark when case is folded.
_EUROPEAN = re.compile("[\x00-\u012f\u0131-\u0148\u014a-\u017f\u2010-\u2027\u20a0-\u20bf]*")
_EUROPEAN_WORD = re.compile(r"[^\W_]+")


def words(text: str) -> list[str]:
    """The words of a text, case folded, without punctuation."""
    if text.isascii():
        return _ASCII_WORD.findall(text.lower())
    if _EUROPEAN.fullmatch(text):
        return _EUROPEAN_WORD.findall(text.casefold())
    return _WORD.findall(unicodedata.normalize("NFC", text).casefold())


def with_spaces(text: str) -> str:
    """The text with spaces around each character of a script without spaces. Other texts stay as they are."""
    return text if text.isascii() else _APART.sub(r" \g<0> ", unicodedata.normalize("NFC", text))


def plain(text: str) -> str:
    """The text in NFC, with one space for each run of white space and none at its ends. Case and signs stay."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def is_inside_word(before: str, after: str) -> bool:
    """Whether a word goes on from the character `before` to the character `after`."""
    return _RUN_ENDS.search(before) is not None and _RUN_GOES_ON.match(after) is not None


_RUN_ENDS = regex.compile(rf"{_RUN}\Z")
_RUN_GOES_ON = regex.compile(_RUN)


SIGNS = "*\"'` "
"""What may stand before a label that a model writes."""


def begins_with_label(text: str, labels: Iterable[str]) -> bool:
    """Whether the first words spell a label, whatever their case."""
    folded = text.casefold().lstrip(SIGNS)
    known = [label.strip().casefold() for label in labels]  # a label joined verbatim brings its own space
    return any(folded.startswith(label) and not _goes_on(folded, len(label)) for label in known)


def may_begin_label(text: str, labels: Iterable[str]) -> bool:
    """Whether a text that has only begun spells a label, or the beginning of one, or nothing yet."""
    folded = _opening(text)
    known = [label.strip().casefold() for label in labels]
    return any(folded.startswith(label) or label.startswith(folded) for label in known)


class Beginnings:
    """Numbered texts, to find those that `may_begin_label` for any labels without trying every one."""

    def __init__(self, texts: Iterable[tuple[int, str]]) -> None:
        self._ids: dict[str, list[int]] = {}
        for number, text in texts:
            self._ids.setdefault(_opening(text), []).append(number)
        self._sorted = sorted(self._ids)

    def begin(self, labels: Iterable[str]) -> tuple[int, ...]:
        """The numbers of the texts that may begin one of the labels, in order."""
        found: set[str] = set()
        for label in {label.strip().casefold() for label in labels}:
            found |= {label[:end] for end in range(len(label))} & self._ids.keys()
            place = bisect_left(self._sorted, label)
            while place < len(self._sorted) and self._sorted[place].startswith(label):
                found.add(self._sorted[place])
                place += 1
        return tuple(sorted(number for text in found for number in self._ids[text]))


def _opening(text: str) -> str:
    return text.strip().casefold().lstrip(SIGNS)


def _goes_on(text: str, end: int) -> bool:
    """Whether the word before the place `end` goes on behind it. After a sign, any letter or digit goes on."""
    before, after = text[end - 1 : end], text[end : end + 1]
    return is_inside_word(before, after) if words(before) else after.isalnum()

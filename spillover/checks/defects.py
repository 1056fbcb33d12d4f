r"""What is wrong inside one list of rows.

Labels that the task does not list or that never occur; right options that stand out among the others; demonstrations
that show one label more than another; empty fields; and damaged text:

    mojibake   UTF-8 read as Windows-1252: `Â£` for £, `â€™` for ’, and the replacement character
    markup     tags in angle brackets: `<br />`, `<lb>`
    entity     `&amp;`, `&#39;`
    escape     a backslash and a letter in place of a character: a literal `\n` or `\"`

The bytes distinguish mojibake from letters: `Ã©` is a complete UTF-8 sequence if it is written as Windows-1252, `é—` is
not. To add a check of one list, write a function like these and call it in `audit.audit`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import regex

from ..errors import Level
from ..text.labels import Labels, listed
from ..text.task import Example
from ..text.words import plain, with_spaces, words
from .kinds import KINDS, Kind

SHOWN = 80  # characters of an example
LISTED = 5  # sequences in a line
# What says nothing by itself: white space, punctuation and brackets, and a hyphen that is no minus.
PUNCTUATION = regex.compile(
    r"""[\s.,;:!?'"`*_\p{Ps}\p{Pe}\p{Pi}\p{Pf}\u2026\u3001\u3002\uff01\uff0c\uff1a\uff1b\uff1f]|\p{Pd}(?!\d)"""
)
BLEU_ORDER = 4  # BLEU counts sequences of up to so many tokens
TENTH, SIGMAS = 0.1, 3.0  # right options that stand out: so many more rows than by chance, and standard deviations
UNEVEN = 2  # labels are shown unevenly if one has so many demonstrations more than another


def _bytes(first: int, last: int) -> str:
    """The characters for the bytes from `first` to `last`, in Latin-1 and in Windows-1252."""
    latin = bytes(range(first, last + 1))
    return f"[{re.escape(latin.decode('latin-1') + latin.decode('cp1252', errors='ignore'))}]"


_TAIL = _bytes(0x80, 0xBF)
DAMAGE: Mapping[str, re.Pattern[str]] = {
    "mojibake": re.compile(
        f"{_bytes(0xC2, 0xDF)}{_TAIL}|{_bytes(0xE0, 0xEF)}{_TAIL}{{2}}|{_bytes(0xF0, 0xF4)}{_TAIL}{{3}}|\ufffd"
    ),
    "markup": re.compile(r"</?(?P<tag>[a-z][a-z0-9]*)(?:\s[^<>]*)?/?>", re.IGNORECASE),
    "entity": re.compile(r"&(?:#\d+|#x[0-9a-f]+|[a-z]+\d*);", re.IGNORECASE),
    "escape": re.compile(r"""\\(?:[nrt"']|u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2})"""),
}
CAN_BE: Mapping[str, Callable[[str], bool]] = {  # quick to see in texts without damage
    "mojibake": lambda text: not text.isascii(),
    "markup": lambda text: "<" in text,
    "entity": lambda text: "&" in text,
    "escape": lambda text: "\\" in text,
}
NAMES = {"mojibake": "mojibake", "markup": "markup", "entity": "HTML entities", "escape": "literal escapes"}


@dataclass(frozen=True)
class Defect:
    """Something wrong with a list of rows.

    `rows` are the doc_ids of the rows concerned, of `of` rows in all. `what` follows "458 of 500 test rows", or is a
    whole line if it names no rows. `against` is the other list, if there is one. `figures` are the counts behind it,
    as JSON. `level` is that of the finding. `mend` says how to mend it, if it is more than `kinds` says.
    """

    kind: str
    what: str
    of: int
    rows: tuple[int, ...] = ()
    against: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)
    example: str = ""
    level: Level = "note"
    mend: str = ""

    @property
    def named(self) -> Kind:
        """What it is called, and how to mend it."""
        known = KINDS[self.kind]
        return known._replace(mend=self.mend) if self.mend else known

    @property
    def advised(self) -> str:
        """What is wrong and how to mend it."""
        return f"{self.what}; {self.named.mend}"

    def line(self, noun: str) -> str:
        return f"{len(self.rows):,} of {self.of:,} {noun} {self.advised}" if self.rows else self.advised


def excerpt(row: Example, text: str) -> str:
    """`row 17: "The text ..."`, on one line."""
    flat = " ".join(text.split())
    return f'row {row.doc_id}: "{flat if len(flat) <= SHOWN else flat[: SHOWN - 1] + "…"}"'


# --- labels ---------------------------------------------------------------------------------------


def outside(rows: Sequence[Example], allowed: Sequence[str]) -> Iterator[Defect]:
    """Targets that are no label of the task."""
    bad = [row for row in rows if row.target not in allowed]
    if bad:
        found = dict(Counter(row.target for row in bad).most_common())
        several = ", ".join(f"{n} {listed([label])}" for label, n in [*found.items()][:LISTED])
        what = f"have a label that the task does not list: {several}" + (", …" if len(found) > LISTED else "")
        example = excerpt(bad[0], next(iter(bad[0].fields.values()), ""))
        yield Defect("label_outside", what, len(rows), _ids(bad), figures={"labels": found}, example=example)


def respelled(rows: Sequence[Example], allowed: Sequence[str]) -> Iterator[Defect]:
    """Targets that are a label of the task in another spelling (`text.labels`)."""
    labels = Labels(tuple(allowed))
    bad = [row for row in rows if row.target not in allowed and labels.find(row.target) is not None]
    if bad:
        found = dict(Counter(row.target for row in bad).most_common())
        read = ", ".join(f"{listed([text])} as {listed([labels.find(text) or ''])}" for text in [*found][:LISTED])
        what = f"have a label in another spelling, and are read so: {read}" + (", …" if len(found) > LISTED else "")
        yield Defect("label_respelled", what, len(rows), _ids(bad), figures={"labels": found})


def absent(
    rows: Sequence[Example], allowed: Sequence[str], scored: Collection[int], trained: bool = False
) -> Iterator[Defect]:
    """Labels that no row has; if any rows are `scored`, labels that no scored row has. `trained`: training rows."""
    counts = Counter(row.target for row in rows)
    answered = {row.target for row in rows if not scored or row.doc_id in scored}
    missing = [label for label in allowed if label not in answered]
    if missing:
        which = "no scored row" if any(label in counts for label in missing) else "no row"
        what = f"{which} has the label {' or '.join(map(repr, missing))}"
        if not trained:
            most = 1 - len(missing) / len(allowed)
            what += f", which a model may still answer: macro-F1 is at most {most:.2f}"
        figures = {"absent": missing, "labels": {label: counts[label] for label in allowed}}
        yield Defect("label_absent", what, len(rows), figures=figures)


def balance(demos: Sequence[Example], allowed: Sequence[str], shots: Sequence[int]) -> Iterator[Defect]:
    """Beginnings of a list of demonstrations that show a label more often than another, or do not show a label.

    The figures have all of them, the line those at the usual `shots`.
    """
    targets = [demo.target for demo in demos]
    prefixes = {k: counts for k in range(1, len(targets) + 1) if (counts := uneven(targets[:k], allowed))}
    if prefixes:
        usual = [k for k in prefixes if k in shots] or list(prefixes)[:1]
        what = "labels are shown unevenly: " + "; ".join(f"{as_counts(prefixes[k])} at {k} shots" for k in usual)
        yield Defect("unbalanced", what, len(demos), figures={"prefixes": prefixes}, mend=even_shots(allowed))


def uneven(targets: Sequence[str], allowed: Sequence[str]) -> dict[str, int] | None:
    """How often each label is shown, if the labels differ by `UNEVEN`, or if one is missing although it had room."""
    counts = {label: list(targets).count(label) for label in allowed}
    missing = len(targets) >= len(allowed) and not all(counts.values())
    return counts if missing or max(counts.values()) - min(counts.values()) >= UNEVEN else None


def even_shots(labels: Sequence[str]) -> str:
    """How to show labels equally often."""
    n = len(labels)
    how = f"hold_out: {{demos: {2 * n}}}, or test.demos: balanced where the list has all labels"
    return f"{how}, shows each label equally often at {n} and {2 * n} shots"


def as_counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {label.strip()}" for label, n in counts.items())


# --- options of a row -----------------------------------------------------------------------------


def options(rows: Sequence[Example]) -> Iterator[Defect]:
    """Rows with one option, and what gives the right option away: its place, or that it is the longest."""
    if alone := _ids([row for row in rows if len(row.options) == 1]):
        yield Defect("one_option", "have one option only, which is always right", len(rows), alone, level="warning")
    choices = [row for row in rows if len(row.options) > 1 and row.target in row.options]
    places = Counter(row.options.index(row.target) for row in choices)
    for place, n in sorted(places.items()):
        given = [1 / len(row.options) for row in choices if place < len(row.options)]
        if _beyond_guessing(n, given):
            what = (
                f"the right option is number {place + 1} in {_share(n, given)}; random places give {_expected(given)}"
            )
            yield Defect("option_place", what, len(rows), figures={"places": dict(sorted(places.items()))})
    longest = [row for row in choices if _longest(row) is not None]
    n, given = sum(_longest(row) == row.target for row in longest), [1 / len(row.options) for row in longest]
    if _beyond_guessing(n, given):
        what = f"the right option is the longest in {_share(n, given)}; guessing gives {_expected(given)}"
        yield Defect("option_length", what, len(rows), figures={"longest": n})


def _longest(row: Example) -> str | None:
    """The one option that is longer than all others."""
    *_, second, first = sorted(row.options, key=len)
    return first if len(first) > len(second) else None


def _beyond_guessing(n: int, given: Sequence[float]) -> bool:
    """Whether more hits than random guesses with these probabilities have: a tenth of the rows, and beyond chance."""
    excess, variance = n - sum(given), sum(p * (1 - p) for p in given)
    return excess > TENTH * len(given) and excess > SIGMAS * variance**0.5


def _share(n: int, given: Sequence[float]) -> str:
    return f"{n:,} of {len(given):,} rows ({100 * n / len(given):.0f} %)"


def _expected(given: Sequence[float]) -> str:
    return f"{100 * sum(given) / len(given):.0f} %"


# --- text -----------------------------------------------------------------------------------------


def unanswered(rows: Sequence[Example]) -> Iterator[Defect]:
    """Rows whose answer is empty or white space, as an assistant's last message may be."""
    if bad := _ids([row for row in rows if not row.target.strip()]):
        such = ", ".join(map(str, bad[:LISTED])) + (", …" if len(bad) > LISTED else "")
        what = f"have an empty answer ({'row' if len(bad) == 1 else 'rows'} {such}): saying nothing is right there"
        yield Defect("no_answer", what, len(rows), bad, level="warning")


def empty(rows: Sequence[Example]) -> Iterator[Defect]:
    """Rows with an input that is empty or white space."""
    bad = [
        (row, names)
        for row in rows
        if (names := [name for name, text in row.fields.items() if not row.whole and not text.strip()])
    ]
    if bad:
        counts = dict(Counter(name for _, names in bad for name in dict.fromkeys(names)))
        what = f"have an empty field: {_listed(counts)}"
        yield Defect("empty", what, len(rows), _ids([row for row, _ in bad]), figures={"fields": counts})


def unseen(rows: Sequence[Example]) -> Iterator[Defect]:
    """References of free text that a metric cannot see: those without a word, those that only a sign tells apart, such
    as `-5` and `5`, and lists that are too short for BLEU."""
    from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

    if wordless := [row for row in rows if not any(map(words, row.right))]:
        what = "have a reference without a word: for ROUGE-L an equal answer counts, and no other"
        yield Defect("no_word", what, len(rows), _ids(wordless), example=excerpt(wordless[0], wordless[0].target))
    texts: dict[tuple[str, ...], dict[str, str]] = {}  # by their words: what is written, without punctuation
    for text in {text for row in rows for text in row.right}:
        if said := tuple(words(text)):
            texts.setdefault(said, {}).setdefault(PUNCTUATION.sub("", plain(text).casefold()), text)
    apart = {said: [*written.values()] for said, written in texts.items() if len(written) > 1}
    if same := [row for row in rows if any(tuple(words(text)) in apart for text in row.right)]:
        first = next(apart[said] for text in same[0].right if (said := tuple(words(text))) in apart)
        what = "have a reference that only a sign tells from another: for ROUGE-L they are the same"
        yield Defect("same_words", f"{what}, as {listed(sorted(first)[:2])}", len(rows), _ids(same))
    tokens = Tokenizer13a()
    if not any(len(tokens(with_spaces(text)).split()) >= BLEU_ORDER for row in rows for text in row.right):
        what = f"no reference has {BLEU_ORDER} tokens: BLEU is 0 or nearly so, whatever is answered"
        yield Defect("short_references", what, len(rows))


def damage(rows: Sequence[Example]) -> Iterator[Defect]:
    """Rows with damaged text, by kind of damage. The figures count the rows with each sequence."""
    for kind, pattern in DAMAGE.items():
        can = CAN_BE[kind]
        found = ((row, [m for _, text in _texts(row) if can(text) for m in pattern.finditer(text)]) for row in rows)
        bad = [(row, matches) for row, matches in found if matches]
        if bad:
            names = Counter(name for _, matches in bad for name in dict.fromkeys(map(_name, matches)))
            counts = dict(names.most_common())
            what = f"hold {NAMES[kind]}: {_listed(counts)}"
            row, (match, *_) = bad[0]
            example = excerpt(row, match.string[max(0, match.start() - SHOWN // 2) :])
            ids = _ids([row for row, _ in bad])
            yield Defect(kind, what, len(rows), ids, figures={"sequences": counts}, example=example)


def _texts(row: Example) -> Iterator[tuple[str, str]]:
    yield from () if row.whole else row.fields.items()
    yield from (("target", text) for text in row.right)


def _name(match: re.Match[str]) -> str:
    """The damaged sequence; a tag without its attributes."""
    tag = match.groupdict().get("tag")
    return f"<{tag.lower()}>" if tag else match.group()


# --- words ----------------------------------------------------------------------------------------


def _ids(rows: Sequence[Example]) -> tuple[int, ...]:
    return tuple(row.doc_id for row in rows)


def _listed(counts: Mapping[str, int]) -> str:
    """The most frequent sequences, each with its number of rows."""
    names = [name if name.isprintable() else repr(name)[1:-1] for name in counts]
    listed = [f"{name} {n:,}" for name, n in zip(names[:LISTED], counts.values(), strict=False)]
    return ", ".join(listed) + (", …" if len(counts) > LISTED else "")

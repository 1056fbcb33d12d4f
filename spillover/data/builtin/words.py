"""What the word lists of the builtin data sets are made of: kinds of words, and how they are written down.

A *field* is what a text is about: goods in a shop, trips, deals between neighbours, deals between offices, the
gods. For each of the four shapes of text there is a class that says which words a field must bring;
`builtin_fields` has the fields themselves. `FRAME_WORDS` are all the other words that rows are written with:
closed-class words and the few open-class words of the templates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Part = Literal["train", "test", "demos"]
Words = tuple[str, ...]
Pairs = tuple[tuple[str, str], ...]


def words(text: str) -> Words:
    return tuple(text.split())


FRAME_WORDS = frozenset(
    words(
        """
        a about after all an and any as at been before beside but by did do does for from had has have how i in is it
        many me my near no not of on others since so soon that the there they this time to us was we were what when
        where who with
        believed expected hit item known overall say told tried
        """
    )
)
"""Words that any row may hold, whatever its part."""


@dataclass(frozen=True, slots=True)
class ReviewWords:
    """What is reviewed, what it consists of, and how people speak of it. `good` and `bad` carry the label."""

    things: Words
    parts: Words
    good: Words
    bad: Words
    people: Words
    times: Words


@dataclass(frozen=True, slots=True)
class Verb:
    base: str
    past: str
    participle: str


@dataclass(frozen=True, slots=True)
class DealVerb:
    """Two verbs of one meaning, and the preposition that leads to the other party."""

    first: Verb
    second: Verb
    preposition: str


@dataclass(frozen=True, slots=True)
class DealWords:
    """Somebody does something with a number of things to, from or for somebody else, somewhere, some time."""

    parties: Words
    verbs: tuple[DealVerb, ...]
    numbers: Words
    adjectives: Words
    things: Words
    places: Words
    times: Words


@dataclass(frozen=True, slots=True)
class SceneWords:
    """Somebody seen doing something. Pairs are (special, general) for beings and objects, opposites elsewhere."""

    beings: Pairs
    link: str
    colours: Words
    wears: Words
    moods: Pairs
    verbs: Pairs
    qualities: Pairs
    objects: Pairs
    places: Words
    companions: Words


@dataclass(frozen=True, slots=True)
class NewsWords:
    """Something happens in a place, an institution acts, people feel something about it."""

    groups: Words
    verbs: tuple[Verb, ...]
    numbers: Words
    adjectives: Words
    things: Words
    causes: Words
    people: Words
    feelings: Words
    places: Words
    times: Words


def phrases(text: str) -> Words:
    return tuple(phrase.strip() for phrase in text.split(","))


def pairs(text: str) -> Pairs:
    """`"boy child, chef cook"` as pairs."""
    return tuple((first, second) for first, second in (phrase.split() for phrase in phrases(text)))


def _regular(base: str) -> Verb:
    past = base + ("d" if base.endswith("e") else "ed")
    return Verb(base, past, past)


def _verb(text: str) -> Verb:
    """`"give gave given"`, or `"close"` where -ed will do."""
    forms = text.split()
    return _regular(forms[0]) if len(forms) == 1 else Verb(*forms)


def verbs(text: str) -> tuple[Verb, ...]:
    return tuple(_verb(phrase) for phrase in phrases(text))


def deal_verbs(text: str) -> tuple[DealVerb, ...]:
    """`"give gave given | donate | to"`, one a line."""
    rows = [line.split("|") for line in text.strip().splitlines()]
    return tuple(DealVerb(_verb(first), _verb(second), preposition.strip()) for first, second, preposition in rows)

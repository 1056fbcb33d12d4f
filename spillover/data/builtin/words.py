"""What the word lists of the builtin data sets hold, and how they are read.

A *field* is what a text is about: goods in a shop, deals among neighbours, the gods. For each of the four kinds of text
a class says which words a field must have; the fields themselves are in `words/`, one YAML file for each class.
The words of a field are split into those for training, test and demonstrations, which share no content word.
"""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, ClassVar, NamedTuple

from pydantic import BeforeValidator

from ...experiment.dialect import shipped
from ...experiment.suite import Strict
from ..rows import Part


def _phrases(text: str) -> list[str]:
    return [phrase.strip() for phrase in text.split(",")]


def _entries(text: str) -> list[str]:
    """`big red` and `on Monday, at noon` are two entries each."""
    return _phrases(text) if "," in text else text.split()


def _forms(text: str) -> list[str]:
    """`give gave given` as it is; `close` as `close closed closed`."""
    base, *others = text.split()
    return [base, *others] if others else [base, *[base + ("d" if base.endswith("e") else "ed")] * 2]


class VerbForms(NamedTuple):
    base: str
    past: str
    participle: str


Verb = Annotated[VerbForms, BeforeValidator(_forms)]


class DealVerb(NamedTuple):
    """Two verbs of one meaning, and the preposition that leads to the other party."""

    first: Verb
    second: Verb
    preposition: Annotated[str, BeforeValidator(str.strip)]


Words = Annotated[tuple[str, ...], BeforeValidator(_entries)]
Pairs = Annotated[
    tuple[tuple[str, str], ...], BeforeValidator(lambda text: [phrase.split() for phrase in _phrases(text)])
]
Verbs = Annotated[tuple[Verb, ...], BeforeValidator(_phrases)]
DealVerbs = tuple[Annotated[DealVerb, BeforeValidator(lambda text: text.split("|"))], ...]


class ReviewWords(Strict):
    """What is reviewed, what it consists of, and how people speak of it. `good` and `bad` carry the label."""

    FILE: ClassVar = "reviews"
    things: Words
    parts: Words
    good: Words
    bad: Words
    people: Words
    times: Words


class DealWords(Strict):
    """Somebody does something with a number of things to, from or for somebody else, somewhere, at some time."""

    FILE: ClassVar = "deals"
    parties: Words
    verbs: DealVerbs
    numbers: Words
    adjectives: Words
    things: Words
    places: Words
    times: Words


class SceneWords(Strict):
    """Somebody is seen doing something. Pairs are (special, general) for beings and objects, opposites elsewhere."""

    FILE: ClassVar = "scenes"
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


class NewsWords(Strict):
    """Something happens in a place, an institution acts, people feel something about it."""

    FILE: ClassVar = "news"
    groups: Words
    verbs: Verbs
    numbers: Words
    adjectives: Words
    things: Words
    causes: Words
    people: Words
    feelings: Words
    places: Words
    times: Words


AnyWords = ReviewWords | DealWords | SceneWords | NewsWords


@cache
def read_words(kind: type[AnyWords], field: str, part: Part) -> AnyWords:
    """The words of one part of a field."""
    return kind.model_validate(_fields(kind.FILE)[field][part])


@cache
def _fields(file: str) -> Any:
    return shipped(__package__, f"words/{file}.yaml")

"""The builtin data sets: English text from templates for all five tasks, generated from seeds.

Templated text shows the machinery, not findings. Each task has one data set to train on, its source domain, and three
that differ from it along one axis each:

    sentiment             reviews   products             _words   trips
    paraphrase            deals     among craftsmen      _words   among public offices
    inference             scenes    people in a street   _words   animals
    question_generation   quiz      among neighbours     _words   among gods
    summarisation         news      from a town          _words   from space

`_words` takes its words from another field, `_format` writes the facts as a form, ledger or interview, and `_length`
writes about three times as much. The source's own test rows are in-domain. Training, test and demonstrations share no
content words in any set (`words/reviews.yaml` explains the split).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from random import Random
from typing import Any

from ...errors import DataError, did_you_mean
from ...text.task import FIVE, Example, Task
from ..rows import Part
from .deals import paraphrase, question
from .rows import Row, Style, inference, news, review
from .words import AnyWords, DealWords, NewsWords, ReviewWords, SceneWords, read_words

DEFAULT_ROWS: dict[Part, int] = {"train": 256, "test": 120, "demos": 8}
MAX_REPEATS = 200  # a data set ends where so many draws in a row bring nothing new


@dataclass(frozen=True)
class Domain:
    """One data set: the function that writes its rows, the words that it draws from, and the style."""

    task: Task
    make: Callable[..., Row]
    kind: type[AnyWords]
    field: str
    style: Style = "plain"
    parts: tuple[Part, ...] = ("test", "demos")

    def words(self, part: Part) -> Any:
        return read_words(self.kind, self.field, part)


def _family(name: str, source: Domain, other_field: str) -> dict[str, Domain]:
    """A source domain, and the three data sets that differ from it along one axis each."""
    return {
        name: replace(source, parts=("train", "test", "demos")),
        f"{name}_words": replace(source, field=other_field),
        f"{name}_format": replace(source, style="record"),
        f"{name}_length": replace(source, style="long"),
    }


DOMAINS = {
    **_family("reviews", Domain(FIVE["sentiment"], review, ReviewWords, "shop"), "travel"),
    **_family("deals", Domain(FIVE["paraphrase"], paraphrase, DealWords, "trade"), "offices"),
    **_family("scenes", Domain(FIVE["inference"], inference, SceneWords, "street"), "animals"),
    **_family("quiz", Domain(FIVE["question_generation"], question, DealWords, "neighbours"), "gods"),
    **_family("news", Domain(FIVE["summarisation"], news, NewsWords, "town"), "space"),
}


def generate(name: str, part: Part, n: int | None = None) -> tuple[Example, ...]:
    """`n` rows of one part of a data set (default: `DEFAULT_ROWS`), the same on every machine.

    Fewer rows are the first of more. Raises DataError for an unknown name, for training rows of a set that has
    none, and for more rows than the words can make.
    """
    if name not in DOMAINS:
        raise DataError(f"unknown builtin data set {name!r}", allowed=did_you_mean(name, DOMAINS))
    domain = DOMAINS[name]
    if part not in domain.parts:
        raise DataError(f"builtin data set {name!r} has no {part!r} rows", allowed="parts: " + ", ".join(domain.parts))
    n = DEFAULT_ROWS[part] if n is None else n
    found = tuple(islice(_stream(domain, part, Random(f"{name}/{part}")), n))
    if len(found) < n:
        raise DataError(f"builtin data set {name!r} has {len(found)} different {part!r} rows, {n} were asked for")
    return found


def _stream(domain: Domain, part: Part, rng: Random) -> Iterator[Example]:
    """Different rows, until `MAX_REPEATS` draws in a row bring nothing new."""
    words, labels = domain.words(part), _labels(rng, domain.task)
    seen: set[tuple[str, ...]] = set()
    doc_id = 0
    while True:
        label = [next(labels)] if domain.task.labels else []
        for _ in range(MAX_REPEATS):
            inputs, target = domain.make(rng, words, domain.style, *label)
            example = Example(doc_id, inputs, target)
            # Two rows of free text share no target either: otherwise a model could learn targets by heart.
            identity = {example.content} if label else {example.content, ("target", target.casefold())}
            if not identity & seen:
                break
        else:
            return
        seen |= identity
        doc_id += 1
        yield example


def _labels(rng: Random, task: Task) -> Iterator[str]:
    """Every block of as many rows as there are labels holds each label once, in a random order."""
    while True:
        block = list(task.labels or ())
        rng.shuffle(block)
        yield from block

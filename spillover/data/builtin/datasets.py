"""The builtin data sets: templated English for all five tasks, made on the spot from seeded choices.

Templated text shows the machinery, not findings. It needs no download, is made in well under a second, and
lets `spillover demo` show what a fine-tuned model gains and loses; but a model that does well on sentences
from one mould has shown little about sentences that people write. Use suite `paper` or your own data for findings.

Each task has one data set to train on, its source domain, and three that differ from it along one axis each:

    sentiment             reviews   products             _words   trips
    paraphrase            deals     among craftsmen      _words   among public offices
    inference             scenes    people in a street   _words   animals
    question_generation   quiz      among neighbours     _words   among gods
    summarisation         news      from a town          _words   from space

`_words` keeps templates and length and takes its words from another field, `_format` keeps words and length and
writes the facts as a form, ledger or interview, `_length` keeps words and templates and writes about three times
as much. The source's own test rows are in-domain: same field, templates and length; their content words
are new nevertheless (`builtin_fields`), as they are for every test set.

    >>> generate("reviews", "test", 1)[0].target in ("positive", "negative")
    True
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from random import Random
from types import MappingProxyType
from typing import Any

from ...errors import DataError, did_you_mean
from ...text.task import FIVE, Example, Task
from . import deals as deals
from . import fields as fields
from . import rows as rows
from .words import Part

DEFAULT_ROWS: Mapping[Part, int] = MappingProxyType({"train": 256, "test": 120, "demos": 8})

MAX_REPEATS = 200
"""Draws in a row that bring nothing new before a data set is held to be exhausted."""


@dataclass(frozen=True)
class Domain:
    """One data set: whose maker writes its rows, from which words, in which style."""

    task: Task
    make: Callable[..., rows.Row]
    words: Mapping[Part, Any]
    style: rows.Style
    parts: tuple[Part, ...] = ("test", "demos")


def _domains() -> Iterator[tuple[str, Domain]]:
    sources: tuple[tuple[str, str, Callable[..., rows.Row], Mapping[Part, Any], Mapping[Part, Any]], ...] = (
        ("reviews", "sentiment", rows.review, fields.SHOP, fields.TRAVEL),
        ("deals", "paraphrase", deals.paraphrase, fields.TRADE, fields.OFFICES),
        ("scenes", "inference", rows.inference, fields.STREET, fields.ANIMALS),
        ("quiz", "question_generation", deals.question, fields.NEIGHBOURS, fields.GODS),
        ("news", "summarisation", rows.news, fields.TOWN, fields.SPACE),
    )
    for name, task, make, field, other_field in sources:
        yield name, Domain(FIVE[task], make, field, "plain", ("train", "test", "demos"))
        yield f"{name}_words", Domain(FIVE[task], make, other_field, "plain")
        yield f"{name}_format", Domain(FIVE[task], make, field, "record")
        yield f"{name}_length", Domain(FIVE[task], make, field, "long")


DOMAINS: Mapping[str, Domain] = MappingProxyType(dict(_domains()))


def names() -> tuple[str, ...]:
    """All builtin data sets."""
    return tuple(DOMAINS)


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
    stream = _stream(domain, domain.words[part], seed=f"{name}/{part}")
    found = tuple(islice(stream, n))
    if len(found) < n:
        raise DataError(f"builtin data set {name!r} has {len(found)} different {part!r} rows, {n} were asked for")
    return found


def _stream(domain: Domain, field: Any, seed: str) -> Iterator[Example]:
    """Different rows, as many as there are. Ends after `MAX_REPEATS` draws without a new one."""
    rng = Random(seed)  # a string seed goes through SHA-512, so it does not depend on PYTHONHASHSEED
    labels = _labels(rng, domain.task) if domain.task.labels else None
    seen: set[tuple[str, ...]] = set()
    doc_id = 0
    while True:
        label = [next(labels)] if labels else []
        for _ in range(MAX_REPEATS):
            inputs, target = domain.make(rng, field, domain.style, *label)
            example = Example(doc_id, inputs, target)
            # Two rows of free text may not share a target either, or a model could learn targets by heart.
            identity = {example.content} if labels else {example.content, ("target", target.casefold())}
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

"""The builtin suite: what it promises, held against the rows it makes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from itertools import combinations
from statistics import mean
from typing import Any

import pytest

from spillover.data.builtin.datasets import DOMAINS, generate
from spillover.data.rows import Part
from spillover.errors import DataError
from spillover.experiment.suite import Strict, load_suite
from spillover.fingerprint import fingerprint
from spillover.text.prompt import render
from spillover.text.task import FIVE, Example

SOURCES = tuple(name for name in DOMAINS if "_" not in name)
PARTS: tuple[Part, ...] = ("train", "test", "demos")
EVERY_PART = [(name, part) for name in DOMAINS for part in DOMAINS[name].parts]

LABELS = {label for task in FIVE.values() for label in task.labels or ()}


def text_of(row: Example) -> str:
    """Inputs, and the target where it is text."""
    return " ".join([*row.fields.values(), *({row.target} - LABELS)])


def split(text: str) -> set[str]:
    return set(re.findall(r"[a-z0-9]+", text.lower()))


FRAME_WORDS = split(
    """
    a about after all an and any as at been before beside but by did do does for from had has have how i in is it
    many me my near no not of on others since so soon that the there they this time to us was we were what when
    where who with
    believed expected hit item known overall say told tried
    """
)
"""Words of the templates. Any row may hold them, whatever its part."""


def content_of(name: str, part: Part, n: int | None = None) -> set[str]:
    """All words of the rows but those that any row may hold."""
    return set().union(*(split(text_of(row)) for row in generate(name, part, n))) - FRAME_WORDS


def material(words: Any) -> set[str]:
    """The words of a word list of any depth."""
    if isinstance(words, str):
        return split(words) - FRAME_WORDS
    items = [value for _, value in words] if isinstance(words, Strict) else words
    return set().union(*map(material, items))


def stem(word: str) -> str:
    """Crude, so that `guarding` and `guards` count as one word."""
    for ending in ("ing", "ies", "ed", "es", "s", "e"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


def length_of(name: str) -> float:
    """Mean length of a test row in words, punctuation marks and line breaks, which is close to tokens."""
    return mean(len(re.findall(r"\w+|[^\w\s]|\n", " ".join(row.fields.values()))) for row in generate(name, "test"))


def test_a_row_is_an_example_of_its_task() -> None:
    row = generate("quiz", "test", 1)[0]
    assert set(row.fields) == {"input", "answer"}
    assert row.target.endswith("?") and row.doc_id == 0


@pytest.mark.parametrize(("name", "part"), EVERY_PART)
def test_rows_fit_their_task(name: str, part: Part) -> None:
    task = DOMAINS[name].task
    rows = generate(name, part)
    assert len(rows) == {"train": 256, "test": 120, "demos": 8}[part]
    for number, row in enumerate(rows):
        assert row.doc_id == number
        assert tuple(row.fields) == task.fields
        assert task.labels is None or row.target in task.labels
        for fmt in task.prompts.values():
            assert row.fields[task.fields[0]] in render(fmt, (), row)
        # A blank line separates demonstrations, so it may not stand inside one.
        assert "\n\n" not in text_of(row) and "  " not in text_of(row)
    assert len({row.content for row in rows}) == len(rows)


ROWS = {
    "reviews": "f3d4b4ca70233d84c519",
    "reviews_words": "3c3c2f39cad1792a97e9",
    "reviews_format": "2a14a77931a572ca47c5",
    "reviews_length": "fb6ce2ff4e95e7ba874a",
    "deals": "a1c573d607a410acce8b",
    "deals_words": "ed85d44703d9e5ff8c45",
    "deals_format": "cae8aeef29eecc2440bf",
    "deals_length": "6d07837cc880e61c9ec1",
    "scenes": "9e636646d1717b63e805",
    "scenes_words": "b682f428793b2f3899bd",
    "scenes_format": "3f555ed2cff7612e44b8",
    "scenes_length": "f13c4c7b4b199e8d08e0",
    "quiz": "15f4e27bfcc1aaf1d9f7",
    "quiz_words": "d420210a63569abcaa10",
    "quiz_format": "ea04777d43b8f1661206",
    "quiz_length": "0856b9d84f5da1bb6a59",
    "news": "6fd36fcb479f8851fd8d",
    "news_words": "02d9e1ba44effa07a0de",
    "news_format": "12117f33bccf70447b1f",
    "news_length": "350deb8b6cd403ff0027",
}


@pytest.mark.parametrize("name", DOMAINS)
def test_the_rows_are_those_that_published_numbers_were_measured_on(name: str) -> None:
    """A word or a template that changes makes other rows, and scores on them are not comparable with earlier ones."""
    rows = [row for part in DOMAINS[name].parts for row in generate(name, part)]
    assert fingerprint([[row.doc_id, dict(row.fields), row.target] for row in rows]) == ROWS[name]


def test_same_rows_in_another_process() -> None:
    program = (
        "from spillover.data.builtin.datasets import DOMAINS, generate\n"
        "print([generate(n, p, 12) for n in DOMAINS for p in DOMAINS[n].parts])"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(answers) == 1


@pytest.mark.parametrize("name", SOURCES)
def test_fewer_rows_are_the_first_of_more(name: str) -> None:
    most = generate(name, "train", 2000)
    assert len({row.content for row in most}) == 2000
    assert generate(name, "train") == most[:256]
    assert generate(name, "train", 16) == most[:16]


@pytest.mark.parametrize(("name", "part"), EVERY_PART)
def test_labels_are_balanced_from_the_first_rows_on(name: str, part: Part) -> None:
    labels = DOMAINS[name].task.labels
    if labels is None:
        return
    targets = [row.target for row in generate(name, part)]
    for end in range(1, len(targets) + 1):
        counts = Counter(targets[:end])
        assert max(counts.values()) - min(counts[label] for label in labels) <= 1


def test_parts_share_no_content_word() -> None:
    """Over all data sets at once, so that it also holds for tests on another task than the training rows'."""
    content: dict[Part, set[str]] = defaultdict(set)
    for name, part in EVERY_PART:
        words = material(DOMAINS[name].words(part))
        assert content_of(name, part) <= words
        content[part] |= set(map(stem, words))
    assert all(len(words) > 100 for words in content.values())
    for one, other in combinations(PARTS, 2):
        assert content[one] & content[other] == set()


@pytest.mark.parametrize("source", SOURCES)
def test_each_axis_shifts_alone(source: str) -> None:
    own = material(DOMAINS[source].words("test"))
    for name in (source, f"{source}_format", f"{source}_length"):
        assert len(content_of(name, "test") & own) > 0.6 * len(own)
    assert content_of(f"{source}_words", "test") & own == set()
    length = length_of(source)
    assert 0.9 < length_of(f"{source}_words") / length < 1.1
    assert 0.8 < length_of(f"{source}_format") / length < 1.25
    assert 2.4 < length_of(f"{source}_length") / length < 3.2


@pytest.mark.parametrize("name", [name for name in SOURCES if DOMAINS[name].task.is_classification])
def test_neither_length_nor_a_template_word_gives_the_label_away(name: str) -> None:
    rows = generate(name, "train", 1200)
    labels = DOMAINS[name].task.labels or ()
    lengths: dict[str, list[int]] = defaultdict(list)
    by_word: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        lengths[row.target].append(len(text_of(row).split()))
        for field, text in row.fields.items():
            for word in set(re.findall(r"[a-z]+", text.lower())) & FRAME_WORDS:
                by_word[f"{field}: {word}"][row.target] += 1
    means = [mean(lengths[label]) for label in labels]
    assert max(means) / min(means) < 1.05
    for word, counts in by_word.items():
        if counts.total() >= 60:
            assert max(counts.values()) / counts.total() < 1.5 / len(labels), word


@pytest.mark.parametrize("name", [name for name in DOMAINS if not DOMAINS[name].task.is_classification])
def test_targets_come_from_their_own_row(name: str) -> None:
    rows = generate(name, "test")
    assert len({row.target for row in rows}) == len(rows)
    for row in rows:
        told = set().union(*map(split, row.fields.values()))
        asked = split(row.target) - FRAME_WORDS
        # All but the verb, which a question may have to put in another form (brought, bring).
        assert len(asked) >= 3 and len(asked - told) <= 1
        assert 6 <= len(row.target.split()) <= 12


def test_train_and_test_targets_are_different_questions() -> None:
    trained = {row.target for row in generate("quiz", "train", 2000)}
    assert trained.isdisjoint(row.target for row in generate("quiz", "test"))


def test_the_suite_names_every_data_set_and_its_parts() -> None:
    suite = load_suite("builtin")
    assert "not findings" in suite.about
    assert list(suite.datasets) == list(DOMAINS)
    trained: Counter[str | None] = Counter()
    tested: Counter[str | None] = Counter()
    for name, spec in suite.datasets.items():
        assert spec.task == DOMAINS[name].task.name
        assert 0 < len(spec.title) <= 16
        for part in PARTS:
            sources = getattr(spec, part)
            assert [source.builtin for source in sources] == ([name] if part in DOMAINS[name].parts else [])
        trained[spec.task] += bool(spec.train)
        tested[spec.task] += bool(spec.test)
    assert trained == dict.fromkeys(FIVE, 1)
    assert tested == dict.fromkeys(FIVE, 4)


def test_what_cannot_be_had_is_said() -> None:
    with pytest.raises(DataError, match="did you mean 'reviews'"):
        generate("review", "test")
    with pytest.raises(DataError, match="has no 'train' rows"):
        generate("reviews_words", "train")
    with pytest.raises(DataError, match="different 'demos' rows"):
        generate("news", "demos", 1000)

"""The audit finds by itself what a person found wrong in the study's release: the same counts, the same rows.

No data set is named in the code that is tested: these are the general findings, on the release as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from audits import defects
from paths import PAPER_DATA

from spillover.checks.audit import Audited, audit
from spillover.checks.defects import Defect
from spillover.data.alike import RowSet, leaking, near_rows
from spillover.data.load import load_untouched
from spillover.data.sources import Places
from spillover.data.tasks import dataset_task
from spillover.experiment.suite import load_suite
from spillover.text.encode import Encoder

PAPER = PAPER_DATA
PLACES = Places(data_dir=PAPER)
SUITE = load_suite("paper").datasets
LIMIT = 250  # rows that the study scores

pytestmark = pytest.mark.skipif(not PAPER.is_dir(), reason="the study's release is not here")


def lists() -> Iterator[RowSet]:
    """Everything in the release but the training size in the middle."""
    for name, spec in SUITE.items():
        if not any(leaf.release for source in spec.test for leaf in source.leaves()):
            continue
        task = dataset_task(name, spec, SUITE, PLACES)
        test = load_untouched(name, "test", spec, task, None, PLACES)
        scored = frozenset(row.doc_id for row in test[:LIMIT])
        yield RowSet(name, "test", task, test, max(spec.test[0].leaves()[0].sizes), scored)
        yield RowSet(name, "demos", task, load_untouched(name, "demos", spec, task, None, PLACES))
        for size in (2000, 6000) if spec.train else ():
            if (PAPER / spec.train[0].leaves()[0].release.replace("{size}", str(size))).exists():
                yield RowSet(name, "train", task, load_untouched(name, "train", spec, task, size, PLACES), size)


@pytest.fixture(scope="module")
def release() -> list[RowSet]:
    return list(lists())


@pytest.fixture(scope="module")
def found(release: list[RowSet]) -> list[Audited]:
    return audit(release, lambda texts: [len(text.split()) for text in texts])


def one(found: list[Audited], name: str, kind: str, against: str = "") -> Defect:
    (defect,) = defects(found, name, kind, against)
    return defect


def test_paws_pairs_share_sentences_with_the_training_set(found: list[Audited]) -> None:
    shared = one(found, "paws test", "shared_field", "paws train 6000")
    assert (len(shared.rows), shared.of) == (458, 500)
    assert shared.figures["by"] == {"raw": 458, "lower": 458, "words": 458}
    assert shared.figures["every_field"] == {"raw": 337, "lower": 337, "words": 339}
    assert shared.level == "warning"
    identical = one(found, "paws test", "duplicate", "paws train 6000")
    assert identical.figures["by"] == {"raw": 0, "lower": 0, "words": 1}


def test_socialqa_targets_stand_among_the_training_targets(found: list[Audited]) -> None:
    targets = one(found, "socialqa test", "shared_target", "socialqa train 6000")
    assert (len(targets.rows), targets.of) == (463, 500)
    assert targets.figures["distinct_targets"] == {"raw": 626, "lower": 620, "words": 619}


def test_labels(found: list[Audited]) -> None:
    assert one(found, "multinli test", "label_outside").figures == {"labels": {"-": 8}}
    assert len(one(found, "multinli2 test", "label_outside").rows) == 16
    rte = one(found, "rte test", "label_absent").figures
    assert rte["absent"] == ["contradiction"]
    assert rte["labels"] == {"entailment": 265, "neutral": 235, "contradiction": 0}
    others = [audited.rows.name for audited in found for defect in audited.defects if "label_" in defect.kind]
    assert others == ["multinli test", "multinli2 test", "rte test"]


def test_empty_inputs(found: list[Audited]) -> None:
    rows = {audited.rows.name: len(d.rows) for audited in found for d in audited.defects if d.kind == "empty"}
    assert rows == {"tweetqa test": 20, "gptnli test": 6, "xsum train 2000": 1}


def test_demonstrations_that_are_test_rows(found: list[Audited]) -> None:
    rows = {
        audited.rows.dataset: set(defect.rows)
        for audited in found
        for defect in audited.defects
        if defect.kind == "duplicate" and audited.rows.part == "test" and defect.against.endswith("demos")
    }
    assert rows == {
        "cnn": {340, 67, 321, 159},
        "socialqa": {229},
        "sst2": {145, 277},
        "multinli": {18},
        "rte": {163},
        "paws": {248, 406},
        "stsb": {313},
        "amazon": {156},
        "sciqa": {154, 9},
    }


def test_demonstrations_that_are_training_rows(found: list[Audited]) -> None:
    rows = {
        defect.against: (len(defect.rows), defect.of)
        for audited in found
        for defect in audited.defects
        if defect.kind == "duplicate" and audited.rows.part == "demos"
    }
    assert rows == {
        "socialqa train 6000": (7, 8),
        "amazon train 6000": (7, 8),
        "paws train 6000": (6, 8),
        "socialqa train 2000": (3, 8),
        "amazon train 2000": (3, 8),
        "paws train 2000": (1, 8),
        "xsum train 2000": (1, 4),
    }


@pytest.mark.parametrize(("name", "first", "second"), [("amazon", 5, 1), ("stsb", 2, 4), ("paws", 2, 4)])
def test_unbalanced_demonstrations_at_six_shots(found: list[Audited], name: str, first: int, second: int) -> None:
    prefixes: dict[int, dict[str, int]] = one(found, f"{name} demos", "unbalanced").figures["prefixes"]
    assert list(prefixes[6].values()) == [first, second]


def test_sizes(found: list[Audited]) -> None:
    short = {
        audited.rows.name: len(audited.rows.rows) for audited in found for d in audited.defects if d.kind == "short"
    }
    assert short == {"paws train 6000": 5986, "amazon train 6000": 5999, "cnn test": 382}


def test_text(found: list[Audited]) -> None:
    def sequences(name: str, kind: str) -> dict[str, int]:
        figures: dict[str, Any] = dict(one(found, name, kind).figures)
        return figures["sequences"]

    assert sequences("yelp test", "escape")[r"\n"] == 242
    assert len(one(found, "amazonfood test", "markup").rows) == 13
    assert sequences("xsum test", "mojibake")["Â£"] == 56
    assert len(one(found, "xsum test", "mojibake").rows) == 68


def test_targets_are_of_another_length_too(found: list[Audited], release: list[RowSet], smollm2: Path) -> None:
    encoder = Encoder.load(smollm2)
    summaries = [rows for rows in release if rows.task.name == "summarisation" and rows.part != "demos"]
    looked = audit(summaries, lambda texts: [len(encoder.text_ids(text)) for text in texts])
    medians = {audited.rows.name: audited.lengths["target"].median for audited in looked}
    assert (medians["xsum test"], medians["pdfs test"], medians["cnn test"]) == (26, 13, 57)
    said = {
        audited.rows.dataset
        for audited in looked
        for defect in audited.defects
        if defect.kind == "length" and defect.figures["field"] == "target"
    }
    assert said == {"pdfs", "cnn"}


# --- and what it finds more -----------------------------------------------------------------------


def test_near_duplicates_and_groups_of_rows_that_depend_on_each_other(found: list[Audited]) -> None:
    assert one(found, "socialqa test", "near_duplicate").rows == (95,)  # 19 training rows but for a name
    assert len(one(found, "paws test", "near_duplicate", "paws train 6000").rows) == 116
    own = [defect for defect in defects(found, "paws test", "shared_field") if not defect.against]
    assert own[0].figures == {"components": 47, "largest": 5} and len(own[0].rows) == 104
    assert one(found, "pdfs test", "markup").figures["sequences"]["<lb>"] == 11


def test_what_is_scored_of_it_is_said(found: list[Audited]) -> None:
    listed = {audited.rows.name: audited for audited in found}["tweetqa test"]
    assert len(listed.scored(one(found, "tweetqa test", "empty"))) == 15


def test_the_clean_rows_of_paws(release: list[RowSet]) -> None:
    """What shares a sentence, is nearly the same, or is the same but for punctuation: the rest is clean."""
    by_name = {rows.name: rows for rows in release}
    test, train = by_name["paws test"], by_name["paws train 6000"]
    near = near_rows([test, train], [(0, 1)])[0, 1]
    assert len(leaking(test, train, near)) == 458
    assert len(leaking(test, train, {})) == 458

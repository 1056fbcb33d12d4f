"""The labels that are trained on against the labels that are tested.

A test set that is in-domain or out-of-domain for a training asks for the labels that the training has shown. Labels of
its rows that no training row has are warned of, with both vocabularies. If a data set's own training and test rows have
no label in common, the same labels are probably named in two ways, and no number would mean anything: this is refused.
Spellings of one label are one label here already (`text.labels`). Answers in free text are compared as they stand, so
training answers `1` and test answers `1.0` are warned of: no metric would say that they are the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from ..errors import DataError, Finding
from ..experiment.suite import DatasetSpec, role_of
from ..text.labels import SHOWN, form, listed
from .jobs import TrainJob
from .questions import Sheet


def unlearnt(
    trainings: Iterable[TrainJob], sheets: Iterable[Sheet], specs: Mapping[str, DatasetSpec]
) -> Iterator[Finding]:
    """Test sets with labels that no row of a training set has. Raises DataError where all of a set's own are such."""
    by_name: dict[str, TrainJob] = {}
    for job in trainings:
        known = by_name.setdefault(job.rows.name, job)
        by_name[job.rows.name] = max(known, job, key=lambda each: len(each.rows.examples))
    tests = {sheet.test: sheet for sheet in sheets if sheet.task.kind != "multiple_choice"}
    for name, job in by_name.items():
        trained = Counter(row.target for row in (*job.rows.examples, *job.demos))
        for test, sheet in tests.items():
            task = job.rows.task
            if role_of(test, specs[test], sheet.task.name, name, task.name) == "cross_task":
                continue
            tested = Counter(row.example.target for row in sheet.questions)
            if task.kind == sheet.task.kind == "generation" and not trained.keys() & tested.keys():
                yield from _spelled_apart(name, trained, test, tested)
            if not (task.labels and sheet.task.is_classification):
                continue
            unknown = [label for label in tested if label not in trained]
            both = f"training rows of {name} have {listed(trained)}; test rows have {listed(tested)}"
            if unknown and test == name and len(unknown) == len(tested):
                raise DataError(
                    f"no label of its training rows is a label of its test rows: {both}",
                    where=f"datasets.{name}",
                    allowed="name them alike, for instance with target_map",
                )
            if unknown:
                n = sum(tested[label] for label in unknown)
                what = f"{n:,} of {tested.total():,} test rows have a label that no training row has"
                advice = "name them alike, for instance with target_map, or train on rows that have it"
                yield Finding("warning", f"{what} ({listed(unknown)}): {both}; {advice}", test)


def _spelled_apart(name: str, trained: Iterable[str], test: str, tested: Iterable[str]) -> Iterator[Finding]:
    """Short answers of the test rows that are answers of the training rows in another spelling."""
    known = {form(answer): answer for answer in trained if len(answer) <= SHOWN}
    alike = {answer: known[form(answer)] for answer in tested if len(answer) <= SHOWN and form(answer) in known}
    if alike:
        theirs, ours = next(iter(alike.items()))
        what = f"no answer of the test rows is written as in the training rows of {name}, where {theirs!r} is {ours!r}"
        yield Finding("warning", f"{what}; list them under labels, or write them alike", test)

"""Reads the answers of an output folder of `spillover run`, or of a sample file of lm-evaluation-harness.

A side of a comparison has answers by setting (variant, test set, shots, prompt, draw; in a sample file the filter that
extracted the answers) and by document. Two documents are the same if their numbers, fields and targets are the same
except for white space and escapes. lm-evaluation-harness writes a sample file for each task with `--log_samples`. Older
files have no hashes and do not name the filter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from math import isinf, isnan
from pathlib import Path
from typing import Any

import numpy as np

from ..analysis.clean_split import CleanSplit
from ..analysis.harness import metric_of
from ..analysis.metrics import METRICS, Array, Metric, rescored
from ..analysis.scoring import Clusters
from ..data.files import Table, open_table
from ..errors import DataError, StoreError, did_you_mean
from ..experiment.protocol import Protocol
from ..plan.grid import Cell
from ..store.open import open_store
from ..store.store import Store

Json = dict[str, Any]
Setting = tuple[tuple[str, str | int], ...]
"""What both sides have in common: (("variant", "base"), ("test_dataset", "reviews"), ("shots", 2), ...)."""

READABLE = "an output folder of `spillover run`, or a samples_*.jsonl of lm-evaluation-harness"
NO_METRIC = {  # what lm-evaluation-harness writes of a sample beside its metrics
    *("doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics"),
    *("doc_hash", "prompt_hash", "target_hash"),
}
SPACE = re.compile(r"(?:\\+[nrt]|\s)+")  # in JSON text, where a line break is \n and a literal escape \\n


@dataclass(frozen=True)
class Answers:
    """The rows of one side in one setting, by document, how they are scored, and which depend on each other."""

    metric: Metric
    labels: tuple[str, ...]
    clusters: Clusters
    rows: Mapping[str, Json]


@dataclass(frozen=True)
class Side:
    """One side of a comparison: `name` for a heading, and its answers by condition."""

    name: str
    answers: Mapping[Setting, Callable[[], Answers]]


def document(row: Mapping[str, Any]) -> str:
    """What identifies the document of a row of either kind."""
    right = [str(row.get("target")), *row.get("references", ())]
    return SPACE.sub(" ", json.dumps([row["doc_id"], row.get("doc"), *right], sort_keys=True))


def prompt(row: Mapping[str, Any]) -> Any:
    """What identifies the prompt of a row: the text that lm-evaluation-harness logs first, else the hash."""
    arguments = row.get("arguments")
    if not arguments:
        return row.get("prompt_hash")
    with suppress(AttributeError, LookupError, TypeError, StopIteration):  # of what nobody logs: all of it
        first = next(iter(arguments.values())).values() if isinstance(arguments, dict) else arguments[0]
        return next(iter(first))
    return arguments


def read_run(folder: Path, variant: str | None, metric: str | None) -> Side:
    """The valid cells of an output folder, by `metric` or else by the first metric of each test set.

    If a `variant` is named, only its cells, and the setting does not name it. Raises StoreError for a folder without
    results, for one of cells without texts, and for an unknown variant or metric.
    """
    store = open_store(folder)
    if not store.has_grid():
        raise StoreError("no results here", where=str(folder), allowed=READABLE)
    grid = store.grid()
    names, tests = {v.key: v.name for v in grid.variants}, {t.name: t for t in grid.tests}
    metrics = dict.fromkeys(name for test in grid.tests for name in test.metrics)
    for what, wanted, known in (("variant", variant, names.values()), ("metric", metric, metrics)):
        if wanted is not None and wanted not in known:
            raise StoreError(f"no {what} {wanted!r}", where=str(folder), allowed=did_you_mean(wanted, known))
    receipts, clusters = store.valid(grid), CleanSplit.of(store.audit()).clusters
    label_scoring = Protocol.named(grid.protocol).label_scoring
    answers: dict[Setting, Callable[[], Answers]] = {}
    bare = {key for key, receipt in receipts.items() if "without_texts" in receipt}
    if bare and bare == set(receipts):
        what = "its cells were imported without texts, so documents cannot be paired"
        raise StoreError(
            what, where=str(folder), allowed=f"spillover report {folder}, which pairs variants with the base"
        )
    for cell in grid.cells:
        test, name = tests[cell.test], names[cell.variant]
        chosen = metric or test.metrics[0]
        if variant in (None, name) and chosen in test.metrics and cell.key in receipts.keys() - bare:
            scored_by = metric_of(chosen), grid.labels_for(test), clusters.get(test.name, {})
            setting = _setting(cell) if variant else (("variant", name), *_setting(cell))
            answers[setting] = partial(_cell, store, cell.key, label_scoring, *scored_by)
    # Close answers depend on the last digits, which differ between machines and precisions.
    machines = sorted({f"{receipt['precision']} on {receipt['device']}" for receipt in receipts.values()})
    made_with = ", ".join([grid.model, f"protocol {grid.protocol}", *machines])
    return Side(f"{folder}{f':{variant}' if variant else ''} ({made_with})", answers)


def _setting(cell: Cell) -> Setting:
    return ("test_dataset", cell.test), ("shots", cell.shots), ("prompt", cell.prompt), ("draw", cell.draw)


def _cell(
    store: Store, key: str, label_scoring: str, metric: Metric, labels: tuple[str, ...], clusters: Clusters
) -> Answers:
    rows = sorted(rescored(store.predictions(key), label_scoring), key=lambda row: row["doc_id"])
    return Answers(metric, labels, clusters, {document(row): dict(row) for row in rows})


def read_samples(a: Path, b: Path, metric: str | None) -> tuple[Side, Side]:
    """Two sample files by `metric`, or else by the first metric of both. Raises DataError for any other file."""
    files = open_table(a), open_table(b)
    ours, theirs = map(_metrics, files)
    both = [name for name in ours if name in theirs]
    if metric not in (None, *both) or not both:
        what = f"no metric {metric} in both" if metric else "no metric in both"
        there = f"A has {', '.join(ours)}; B has {', '.join(theirs)}"
        raise DataError(what, where=f"{a} and {b}", allowed=there)
    name = metric or both[0]
    is_right_or_wrong = all(_score(sample, name) in (0, 1, None) for file in files for sample in file.rows)
    logged = Metric(name, name, partial(_logged, name), METRICS["accuracy"].score, is_proportion=is_right_or_wrong)
    first, second = (Side(file.name, _filters(file, logged)) for file in files)
    return first, second


def _metrics(file: Table) -> list[str]:
    """The metrics with numbers for rows. Others, such as F1, are scores of the whole set."""
    first = file.rows[0]
    numbers = (name for row in file.rows for name, value in row.items() if isinstance(value, int | float))
    names = [name for name in dict.fromkeys(numbers) if name not in NO_METRIC]
    if not _is_sample(first) or not names:
        what = "no sample of lm-evaluation-harness with the score of a row"
        raise DataError(what, where=file.where(0), allowed="samples_*.jsonl, written with --log_samples")
    return names


def _is_sample(row: Json) -> bool:
    return "doc_id" in row and not {"resps", "filtered_resps"}.isdisjoint(row)


def _filters(file: Table, metric: Metric) -> dict[Setting, Callable[[], Answers]]:
    by_filter: dict[str, dict[str, Json]] = {}
    for number, sample in enumerate(file.rows):
        value = _score(sample, metric.name)
        if not _is_sample(sample) or not isinstance(value, int | float | None) or isinf(value or 0):
            raise DataError(f"no sample, or no number under {metric.name}", where=file.where(number))
        rows, key = by_filter.setdefault(str(sample.get("filter", "none")), {}), document(sample)
        if key in rows:
            what = f"document {sample['doc_id']} has two answers"
            raise DataError(what, where=file.where(number), allowed="one for each document and named filter")
        rows[key] = sample
    return {(("filter", name),): partial(Answers, metric, (), {}, rows) for name, rows in by_filter.items()}


def _logged(metric: str, samples: Sequence[Mapping[str, Any]], labels: Sequence[str] | None) -> Array:
    """The two sums of a mean over rows."""
    values = [_score(sample, metric) for sample in samples]
    return np.array([[np.nan, np.nan] if value is None else [value, 1.0] for value in values], dtype=np.float64)


def _score(sample: Mapping[str, Any], metric: str) -> Any:
    """None where a task gives the document no such score: absent, null or nan."""
    value = sample.get(metric)
    return None if isinstance(value, float) and isnan(value) else value

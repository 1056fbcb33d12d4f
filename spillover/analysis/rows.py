"""What each test row of a cell adds to each metric: computed from its predictions, or kept from an earlier time.

Row statistics (`spillover.analysis.metrics`) take most of the time when a large folder is opened. So the store keeps
them beside a cell's predictions. Their name is a hash of all that they depend on: the bytes of the predictions, the
metrics, the labels, how labels are scored, and `METRICS_VERSION`. They hold a hash of their name and content: what is
broken is computed again. They can be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ..errors import StoreError
from ..fingerprint import fingerprint
from ..store.store import Store
from .metrics import Array, Metric, Prediction, has_score, rescored

METRICS_VERSION = 5  # raise it when a metric gives other statistics for the same answers


ROUNDING = "rounding"
"""Beside the metrics, where texts were generated in bfloat16: (1 if the row was generated in float32 too, the squared
difference of its score by the first metric). Where rounding left rows undecided, no row is known."""

ENDED = "ended"
"""Beside the metrics of free text: whether the answer ended at a stop string, at an end token, or at the limit."""
WAYS = ("stop", "end", "limit")


@dataclass(frozen=True)
class RowStatistics:
    """What a cell's rows add to one metric: `statistics`, (rows, k), of the documents `doc_ids`, ascending.

    A document without a score is not in it, so two metrics of a cell may have other documents.
    """

    doc_ids: np.ndarray
    statistics: Array

    @classmethod
    def of(cls, metric: Metric, predictions: Sequence[Prediction], labels: Sequence[str] | None) -> RowStatistics:
        return cls.known(np.array([p["doc_id"] for p in predictions]), metric.statistics(predictions, labels))

    @classmethod
    def known(cls, doc_ids: np.ndarray, statistics: Array) -> RowStatistics:
        """Without the documents whose statistics are nan."""
        there = has_score(statistics)
        return cls(doc_ids, statistics) if there.all() else cls(doc_ids[there], statistics[there])

    def only(self, doc_ids: np.ndarray) -> RowStatistics:
        """The rows of these documents, all of which must be here."""
        if same_documents(self.doc_ids, doc_ids):
            return self
        return RowStatistics(doc_ids, self.statistics[np.searchsorted(self.doc_ids, doc_ids)])

    def without(self, doc_ids: np.ndarray) -> RowStatistics:
        """All rows but those of these documents."""
        return self.only(self.doc_ids[~np.isin(self.doc_ids, doc_ids)])


@dataclass(frozen=True)
class Answered:
    """A cell's rows by metric, and the hash of the predictions that they come from (`digest`)."""

    digest: str
    rows: Mapping[str, RowStatistics]


def same_documents(ours: np.ndarray, theirs: np.ndarray) -> bool:
    """In most cases both are the same array: see `_documents`."""
    return ours is theirs or np.array_equal(ours, theirs)


def has_documents(ours: np.ndarray, wanted: np.ndarray) -> bool:
    """Whether all that are wanted are among ours."""
    return ours is wanted or bool(np.isin(wanted, ours).all())


@lru_cache(maxsize=512)
def _documents(doc_ids: bytes) -> np.ndarray:
    """The cells of a test set share the array of their documents, so that comparing them takes no time."""
    return np.frombuffer(doc_ids, dtype=np.int64)


def common_documents(parts: Sequence[RowStatistics]) -> np.ndarray:
    """The documents that all of them have, ascending."""
    doc_ids = parts[0].doc_ids
    for part in parts[1:]:
        if not same_documents(part.doc_ids, doc_ids):
            doc_ids = np.intersect1d(doc_ids, part.doc_ids)
    return doc_ids


def aligned(rows: Mapping[str, RowStatistics]) -> tuple[np.ndarray, dict[str, Array]]:
    """The documents that have any score, and the statistics of each of them by metric: nan for no score."""
    doc_ids = np.unique(np.concatenate([part.doc_ids for part in rows.values()]))
    table = {}
    for name, part in rows.items():
        table[name] = np.full((len(doc_ids), part.statistics.shape[1]), np.nan)
        table[name][np.searchsorted(doc_ids, part.doc_ids)] = part.statistics
    return doc_ids, table


def pool(parts: Sequence[RowStatistics]) -> RowStatistics:
    """Cells of one test set as one: the statistics of each document added up."""
    first = parts[0]
    if all(same_documents(part.doc_ids, first.doc_ids) for part in parts):
        return RowStatistics(first.doc_ids, np.sum([part.statistics for part in parts], axis=0))
    doc_ids = np.unique(np.concatenate([part.doc_ids for part in parts]))
    total = np.zeros((len(doc_ids), first.statistics.shape[1]))
    for part in parts:
        total[np.searchsorted(doc_ids, part.doc_ids)] += part.statistics
    return RowStatistics(doc_ids, total)


def read_rows(
    store: Store,
    key: str,
    digest: str,
    metrics: Sequence[Metric],
    labels: Sequence[str] | None,
    label_scoring: str,
    rescore: bool = False,
) -> Answered | None:
    """The rows of a valid cell by metric; None if it has no predictions.

    `digest` is the hash of its predictions, from its receipt. `label_scoring` is the protocol's. `rescore`: compute
    the rows again, even if they were kept. Raises StoreError for a line that is not JSON, and for a cell without texts
    whose scores were made by other rules.
    """
    name = fingerprint([METRICS_VERSION, digest, [metric.name for metric in metrics], labels, label_scoring])
    kept = None if rescore else store.statistics(key, name)
    if kept and (rows := _unpacked(name, kept)):
        return Answered(digest, rows)
    predictions = rescored(sorted(store.predictions(key), key=lambda row: row["doc_id"]), label_scoring)
    rows = _of_answers(metrics, predictions, labels) if predictions else _imported(store, key, metrics, label_scoring)
    if not rows:
        return None
    store.keep_statistics(key, name, _packed(name, rows))
    return Answered(digest, rows)


def _of_answers(
    metrics: Sequence[Metric], predictions: Sequence[Prediction], labels: Sequence[str] | None
) -> dict[str, RowStatistics]:
    doc_ids = _documents(np.array([p["doc_id"] for p in predictions], dtype=np.int64).tobytes())
    rows = {metric.name: RowStatistics.known(doc_ids, metric.statistics(predictions, labels)) for metric in metrics}
    if any("near_ties" in p or "undecided" in p for p in predictions):
        rows[ROUNDING] = RowStatistics(doc_ids, _changes_by_rounding(metrics[0], predictions, labels))
    if any("free" not in p and p.get("ended") for p in predictions):
        ways = [[p.get("ended") == way for way in WAYS] for p in predictions]
        rows[ENDED] = RowStatistics(doc_ids, np.array(ways, dtype=np.float64))
    return rows


def _imported(store: Store, key: str, metrics: Sequence[Metric], label_scoring: str) -> dict[str, RowStatistics]:
    """The rows of a cell that was imported without texts; empty for any other cell.

    Raises StoreError if they were scored by other rules than are asked for now.
    """
    scores, receipt = store.scores(key), store.cell(key)
    if not scores or receipt is None:
        return {}
    doc_ids = _documents(np.array([row["doc_id"] for row in scores], dtype=np.int64).tobytes())
    if (lacking := [m.name for m in metrics if m.name not in scores[0]]) or receipt["without_texts"] != rules(
        label_scoring
    ):
        what = f"no scores by {', '.join(lacking)}" if lacking else "scored by other rules"
        where = str(store.folder / "cells" / key)
        advice = "without its texts it cannot be scored again; delete this folder, and run again"
        raise StoreError(f"was imported without texts, {what}", where=where, allowed=advice)
    names = [name for name in scores[0] if name != "doc_id"]
    return {name: RowStatistics.known(doc_ids, _of_lists([row[name] for row in scores])) for name in names}


def _of_lists(values: Sequence[Sequence[float] | None]) -> Array:
    """Statistics as `interop.scores` writes them: None for no score."""
    width = max((len(value) for value in values if value is not None), default=1)
    return np.array([[np.nan] * width if value is None else value for value in values], dtype=np.float64)


def rules(label_scoring: str) -> dict[str, object]:
    """What decides a row's statistics beside its answer."""
    return {"metrics_version": METRICS_VERSION, "label_scoring": label_scoring}


def _changes_by_rounding(metric: Metric, predictions: Sequence[Prediction], labels: Sequence[str] | None) -> Array:
    found = np.zeros((len(predictions), 2))
    both = [number for number, p in enumerate(predictions) if "response_float32" in p]
    if both:
        rounded = [predictions[number] for number in both]
        exact = [{**p, "response": p["response_float32"]} for p in rounded]
        ours, theirs = (metric.statistics(side, labels)[:, 0] for side in (rounded, exact))
        found[both] = np.column_stack([np.ones(len(both)), (ours - theirs) ** 2])
    return found


def _packed(name: str, rows: Mapping[str, RowStatistics]) -> bytes:
    """A line with a hash, a line of JSON (each metric and its count of numbers a row), then documents and numbers, row
    by row: nan for no score."""
    head = json.dumps([(name, part.statistics.shape[1]) for name, part in rows.items()])
    doc_ids, statistics = aligned(rows)
    table = np.column_stack([doc_ids, *statistics.values()]).astype(np.float64)
    content = head.encode() + b"\n" + table.tobytes()
    return _hash(name, content) + b"\n" + content


def _hash(name: str, content: bytes) -> bytes:
    return hashlib.sha256(name.encode() + content).hexdigest().encode()


def _unpacked(name: str, kept: bytes) -> dict[str, RowStatistics] | None:
    """What `_packed` wrote under this name; None if it is anything else."""
    seal, _, content = kept.partition(b"\n")
    if seal != _hash(name, content):
        return None
    head, _, body = content.partition(b"\n")
    widths = dict(json.loads(head))
    table = np.frombuffer(body).reshape(-1, 1 + sum(widths.values()))
    doc_ids, rows, end = _documents(table[:, 0].astype(np.int64).tobytes()), {}, 1
    for name, width in widths.items():
        rows[name] = RowStatistics.known(doc_ids, table[:, end : end + width])
        end += width
    return rows

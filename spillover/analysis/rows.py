"""What each row of a cell adds to each metric: read from its predictions, or from what was computed of them before.

Turning answers into row statistics (`spillover.analysis.metrics`) is what takes time when a large folder is opened: a
longest common subsequence and n-gram counts for each answer. So a cell's statistics are kept beside its predictions, in
a file whose name is the hash of everything they follow from: the bytes of the predictions, metrics, labels, how labels
are scored, and `METRICS_VERSION`. Whatever changes, the name is another and the file is made anew. It can be deleted at
any time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from ..disk import write_whole
from ..errors import StoreError
from ..fingerprint import fingerprint
from .metrics import Array, Metric, Prediction, rescored

METRICS_VERSION = 1  # to be raised when a metric gives the same answers other statistics


@dataclass(frozen=True)
class RowStatistics:
    """What a cell's rows add to one metric: `statistics`, (rows, k), of the documents `doc_ids`, ascending."""

    doc_ids: np.ndarray
    statistics: Array

    @classmethod
    def of(cls, metric: Metric, predictions: Sequence[Prediction], labels: Sequence[str] | None) -> RowStatistics:
        return cls(np.array([p["doc_id"] for p in predictions]), metric.statistics(predictions, labels))

    def only(self, doc_ids: np.ndarray) -> RowStatistics:
        """The rows of these documents, all of which must be here."""
        if same_documents(self.doc_ids, doc_ids):
            return self
        return RowStatistics(doc_ids, self.statistics[np.searchsorted(self.doc_ids, doc_ids)])


@dataclass(frozen=True)
class Answered:
    """A cell's rows by metric, and the hash of the predictions that they come from."""

    digest: str
    rows: Mapping[str, RowStatistics]


def same_documents(ours: np.ndarray, theirs: np.ndarray) -> bool:
    """Mostly they are one array: see `_documents`."""
    return ours is theirs or np.array_equal(ours, theirs)


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
    folder: Path, metrics: Sequence[Metric], labels: Sequence[str] | None, label_scoring: str, rescore: bool = False
) -> Answered | None:
    """The rows of the cell in `folder` by metric; None where it has no predictions.

    `label_scoring` is the protocol's. `rescore`: from the predictions, whatever was computed of them before. Raises
    StoreError for a line that is not JSON.
    """
    path = folder / "predictions.jsonl"
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    digest = hashlib.blake2b(content, digest_size=16).hexdigest()
    follows_from = [METRICS_VERSION, digest, [metric.name for metric in metrics], labels, label_scoring]
    kept = folder / f"rows-{fingerprint(follows_from)}"
    if not rescore and (rows := _kept_rows(kept)):
        return Answered(digest, rows)
    predictions = rescored(_parse(content, path), label_scoring)
    if not predictions:
        return None
    doc_ids = _documents(np.array([p["doc_id"] for p in predictions], dtype=np.int64).tobytes())
    rows = {metric.name: RowStatistics(doc_ids, metric.statistics(predictions, labels)) for metric in metrics}
    with suppress(OSError):  # a folder that cannot be written is read all the same
        _keep_rows(kept, rows)
    return Answered(digest, rows)


def _parse(content: bytes, path: Path) -> list[Prediction]:
    """The rows of a cell, by document."""
    rows: list[Prediction] = []
    for number, line in enumerate(content.split(b"\n"), 1):  # not splitlines: texts may hold U+2028 and its like
        if line:
            try:
                rows.append(json.loads(line))
            except ValueError as error:
                what = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
                raise StoreError(
                    f"not JSON: {what}", where=f"{path}:{number}", allowed="remove the cell's folder and run again"
                ) from None
    return sorted(rows, key=lambda row: row["doc_id"])


def _kept_rows(path: Path) -> dict[str, RowStatistics] | None:
    """A line of JSON, the metrics and how many numbers a row each has, then documents and numbers, row by row."""
    try:
        head, _, body = path.read_bytes().partition(b"\n")
        widths = dict(json.loads(head))
        table = np.frombuffer(body).reshape(-1, 1 + sum(widths.values()))
    except (OSError, ValueError):  # not there, or cut off: it is made anew
        return None
    doc_ids, rows, end = _documents(table[:, 0].astype(np.int64).tobytes()), {}, 1
    for name, width in widths.items():
        rows[name] = RowStatistics(doc_ids, table[:, end : end + width])
        end += width
    return rows


def _keep_rows(path: Path, rows: Mapping[str, RowStatistics]) -> None:
    """Keep the rows of these predictions; those of earlier predictions of the cell are deleted."""
    head = json.dumps([(name, part.statistics.shape[1]) for name, part in rows.items()])
    doc_ids = next(iter(rows.values())).doc_ids
    table = np.column_stack([doc_ids, *(part.statistics for part in rows.values())]).astype(np.float64)
    write_whole(path, head.encode() + b"\n" + table.tobytes())
    for old in path.parent.glob("rows-*"):
        if old != path and not old.suffix:  # one with a suffix is still being written
            old.unlink(missing_ok=True)

"""The scores of cells that answered the same question: value, interval, and change from the base on the same rows.

The kind of metric decides the interval and the test; `docs/statistics.md` has the table. The cells of a condition have
the same rows, so they are scored at once. Every p-value is that of a single comparison; `contrasts` corrects for many.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..stats.intervals import ROUNDING, Interval, percentiles, replicates, wilson, with_unseen
from ..stats.levels import Level, cluster_sums, effective_rows, half_width, mean_change
from ..stats.permutation import mcnemar, sign_flip, swap_test
from .metrics import Array, Metric
from .rows import RowStatistics, common_documents, same_documents

Score = dict[str, Any]
Clusters = Mapping[int, Any]
"""The component of each document that depends on others."""


def cluster_codes(clusters: Clusters, doc_ids: np.ndarray) -> np.ndarray | None:
    """The cluster of each document, numbered from 0; None if all are independent."""
    found = [("together", clusters[d]) if d in clusters else ("alone", d) for d in doc_ids.tolist()]
    numbers = {cluster: i for i, cluster in enumerate(dict.fromkeys(found))}
    return None if len(numbers) == len(found) else np.array([numbers[cluster] for cluster in found], dtype=np.int64)


def score(metric: Metric, cells: Sequence[RowStatistics], clusters: Clusters, has_base: bool) -> list[Score]:
    """The scores of one condition's cells, of which the first may be the base; columns of the results table.

    Each score is that of the documents which its cell has, and each change that of those which the base has too. A cell
    without a document has no score.
    """
    if not cells:
        return []
    if len(cells[0].doc_ids) and all(same_documents(cell.doc_ids, cells[0].doc_ids) for cell in cells):
        return _score(metric, cells, clusters, has_base)
    scores = [
        _score(metric, [cell], clusters, False)[0] if len(cell.doc_ids) else {"metric": metric.name, "n": 0}
        for cell in cells
    ]
    for own, cell in zip(scores[1:], cells[1:], strict=True) if has_base else ():
        common = common_documents([cells[0], cell])
        if len(common):
            both = _score(metric, [cells[0].only(common), cell.only(common)], clusters, True)
            own |= {name: value for name, value in both[1].items() if name not in own}
    return scores


def _score(metric: Metric, cells: Sequence[RowStatistics], clusters: Clusters, has_base: bool) -> list[Score]:
    """Of cells with the same documents."""
    n, codes = len(cells[0].doc_ids), cluster_codes(clusters, cells[0].doc_ids)
    statistics = np.stack([cell.statistics for cell in cells], axis=1)
    values = metric.score(statistics.sum(axis=0))
    sums = cluster_sums(statistics, codes)
    draws = np.empty(0) if metric.is_proportion else replicates(sums, metric.score)
    if metric.is_proportion:
        intervals = [_proportion(statistics[:, i], codes) for i in range(len(cells))]
    else:
        ends = with_unseen(percentiles(draws, len(sums)), values, metric.score(sums))
        intervals = [Interval(float(low), float(high)) for low, high in ends.T]
    scores: list[Score] = [
        {"metric": metric.name, "value": float(value), "n": n, "ci_low": interval.low, "ci_high": interval.high}
        for value, interval in zip(values, intervals, strict=True)
    ]
    if has_base and len(cells) > 1:
        if metric.is_mean:
            moved, p = _change_of_means(statistics[:, 1:, 0] - statistics[:, :1, 0], codes, metric.is_proportion)
        else:
            moved = _change_of_wholes(metric, sums, draws)
            p = swap_test(sums[:, 1:], sums[:, 0], metric.score)
        columns = {"delta": values[1:] - values[0], "delta_ci_low": moved[0], "delta_ci_high": moved[1], "p_value": p}
        for i, own in enumerate(scores[1:]):
            own |= {name: float(column[i]) for name, column in columns.items()}
    return scores


def _change_of_means(gaps: Array, codes: np.ndarray | None, is_proportion: bool) -> tuple[Array, Array]:
    """Interval ends, (2, cells), and p-values of the means of differences, (rows, cells)."""
    change = mean_change(gaps, codes, is_proportion)
    wide = np.sqrt(change.variance) * half_width([Level(1.0, change.df)])
    ends = np.stack([change.centre - wide, change.centre + wide])
    ends = np.clip(ends, -1.0, 1.0) if is_proportion else ends  # other means may be on any scale (`spillover compare`)
    if is_proportion and codes is None:
        return ends, mcnemar((gaps > 0).sum(axis=0), (gaps < 0).sum(axis=0))
    return ends, sign_flip(cluster_sums(gaps, codes))


def _change_of_wholes(metric: Metric, sums: Array, draws: Array) -> Array:
    """Interval ends, (2, cells), of the change of a score that is no mean over rows, from `sums`, (clusters, cells, k).

    If few clusters changed, many of the `draws` hold none of them, and an interval ends at zero. So two clusters are
    added, as for means (`stats.levels.mean_change`): the one that moves the change most, and the same with its sides
    swapped. If none changed, the interval is that of a mean. If most changed alike, rows that did not may be unseen.
    """
    score, of_rows = metric.score(sums.sum(axis=0)), metric.score(sums)
    ends = percentiles(draws[:, 1:] - draws[:, :1], len(sums))
    all_alike = with_unseen(ends, score[1:] - score[0], of_rows[:, 1:] - of_rows[:, :1], lowest=-1.0)
    changed = np.any(np.abs(sums[:, 1:] - sums[:, :1]) > ROUNDING, axis=2)
    few = 2 * changed.sum(axis=0) < len(sums)
    ends = np.where(few, ends, all_alike)
    for i in np.flatnonzero(few).tolist():
        if changed[:, i].any():
            sides = sums[:, [0, i + 1]]
            without = np.diff(metric.score(sides.sum(axis=0) - sides), axis=1)[:, 0]  # the change without each cluster
            most = sides[np.abs(without - np.diff(metric.score(sides.sum(axis=0)))).argmax()]
            padded = replicates(np.concatenate([sides, [most, most[::-1]]]), metric.score)
            ends[:, i] = percentiles(padded[:, 1] - padded[:, 0], len(sums))
        else:
            ends[:, i] = _change_of_means(np.zeros((len(sums), 1)), None, metric.is_proportion)[0][:, 0]
    return ends


def pooled_interval(metric: Metric, rows: RowStatistics, clusters: Clusters) -> Interval:
    """The 95 % interval of a mean over all the answers to each document."""
    codes = cluster_codes(clusters, rows.doc_ids)
    if metric.is_proportion:
        return _proportion(rows.statistics, codes)
    sums = cluster_sums(rows.statistics, codes)
    ends = percentiles(replicates(sums, metric.score)[:, None], len(sums))
    low, high = with_unseen(ends, metric.score(sums.sum(axis=0))[None], metric.score(sums)[:, None])[:, 0]
    return Interval(float(low), float(high))


def _proportion(statistics: Array, codes: np.ndarray | None) -> Interval:
    """Wilson's interval, from (right answers, answers) of each document."""
    right, answers = statistics.T
    n, _ = effective_rows(right / answers, answers, codes)
    return wilson(n * right.sum() / answers.sum(), n)

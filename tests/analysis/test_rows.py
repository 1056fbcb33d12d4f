"""Rows of cells: chosen and added up by document."""

from __future__ import annotations

import numpy as np
import pytest

from spillover.analysis.metrics import METRICS
from spillover.analysis.rows import RowStatistics, common_documents, pool


def test_asking_the_same_again_adds_no_weight() -> None:
    rows = RowStatistics(np.arange(30), np.column_stack([np.random.default_rng(0).random(30), np.ones(30)]))
    metric = METRICS["rougeL"]
    once, often = (metric.score(pool(parts).statistics) for parts in ([rows], [rows] * 10))
    assert once == pytest.approx(often)


def test_pool_over_other_documents() -> None:
    a = RowStatistics(np.array([1, 2]), np.array([[1.0, 1], [0, 1]]))
    b = RowStatistics(np.array([2, 5]), np.array([[1.0, 1]] * 2))
    pooled = pool([a, b])
    assert pooled.doc_ids.tolist() == [1, 2, 5]
    assert pooled.statistics.tolist() == [[1, 1], [1, 2], [1, 1]]
    assert common_documents([a, b]).tolist() == [2]
    assert a.only(np.array([2])).statistics.tolist() == [[0, 1]]

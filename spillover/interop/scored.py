"""The finished cells of an export with their answers and what each answer adds to each metric.

Every format that writes results starts from here, so that all of them write the numbers of the report.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from ..analysis.harness import metric_of
from ..analysis.metrics import Metric, Prediction, rescored
from ..analysis.rows import RowStatistics, read_rows
from ..errors import StoreError
from ..experiment.protocol import Protocol
from ..plan.grid import Cell, TestInfo, Variant
from ..store.store import Json, Store
from .wanted import Wanted


@dataclass(frozen=True)
class Scored:
    """A finished cell. `statistics` are by metric, of the documents in ascending order."""

    store: Store
    variant: Variant
    cell: Cell
    test: TestInfo
    receipt: Json
    label_scoring: str
    statistics: Mapping[str, RowStatistics]

    @cached_property
    def rows(self) -> Sequence[Prediction]:
        """The answers, by document, in ascending order."""
        return rescored(
            sorted(self.store.predictions(self.cell.key), key=lambda row: row["doc_id"]), self.label_scoring
        )

    @cached_property
    def prompts(self) -> Mapping[str, str] | None:
        """The whole text before each answer, by prompt hash; None if it was not kept."""
        kept = self.store.prompts(self.cell.condition)
        return kept and {key: kept["before"] + after for key, after in kept["after"].items()}

    @property
    def metrics(self) -> list[Metric]:
        return [metric_of(name) for name in self.test.metrics]

    def score(self, metric: Metric) -> float:
        return float(metric.score(self.statistics[metric.name].statistics.sum(axis=0)))

    def row_scores(self, metric: Metric) -> dict[int, float] | None:
        """The score of each document that has one; None for a metric that only a whole set has."""
        own = self.statistics[metric.name]
        return dict(zip(own.doc_ids.tolist(), own.statistics[:, 0].tolist(), strict=True)) if metric.is_mean else None


def scored(wanted: Wanted, need_texts: bool = False) -> Iterator[Scored]:
    """The finished cells of what is wanted; if texts are needed, those that have some.

    Raises StoreError if there is none.
    """
    grid, store, tests = wanted.grid, wanted.store, wanted.chosen_tests
    variants = {variant.key: variant for variant in wanted.chosen_variants}
    label_scoring = Protocol.named(grid.protocol).label_scoring
    receipts = store.valid(grid)
    found = False
    for cell in grid.cells:
        if cell.key not in receipts or cell.variant not in variants or cell.test not in tests:
            continue
        test, receipt = tests[cell.test], receipts[cell.key]
        if need_texts and "without_texts" in receipt:
            continue
        metrics = [metric_of(name) for name in test.metrics]
        answered = read_rows(store, cell.key, receipt["sha256"], metrics, grid.labels_for(test), label_scoring)
        if answered is not None:
            found = True
            yield Scored(store, variants[cell.variant], cell, test, receipt, label_scoring, answered.rows)
    if not found:
        raise StoreError(
            "no finished cell of what is asked for", where=str(wanted.folder), allowed="spillover run FILE"
        )

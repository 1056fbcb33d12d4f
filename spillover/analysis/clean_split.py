"""What the audit of a run means for its scores: which test rows depend on each other, and which leak from training.

A variant may have memorised the rows that leak from its training set, so it is scored a second time on its clean rows.
There is no such score if every row leaks (`n` is 0 in the table) or if the training rows of a checkpoint are unknown
(no `n`); `unscored` writes a line for each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from .scoring import Clusters


@dataclass(frozen=True)
class CleanSplit:
    """`clusters`: by test set, the component of each document that depends on others. `leaked`: by training set and
    test set, the documents that leak; None if nothing was audited."""

    clusters: Mapping[str, Clusters] = field(default_factory=dict)
    leaked: Mapping[str, Mapping[str, list[int]]] | None = None

    @classmethod
    def of(cls, audit: Mapping[str, Any] | None) -> CleanSplit:
        """From an audit as the store keeps it."""
        audit = audit or {}
        clusters = {
            test: {int(doc_id): component for doc_id, component in found.items()}
            for test, found in audit.get("clusters", {}).items()
        }
        return cls(clusters, audit.get("leaked"))

    def leaking(self, train_dataset: str | None, test: str) -> np.ndarray | None:
        """The documents of `test` that leak from a training set; None if its rows are not known."""
        if self.leaked is None or train_dataset is None or train_dataset not in self.leaked:
            return None
        return np.array(self.leaked[train_dataset].get(test, []), dtype=np.int64)


def unscored(df: pd.DataFrame) -> Iterator[str]:
    """Which clean scores are missing, and why, from the results table."""
    lacking = df[(df["rows"] == "clean") & df["value"].isna()]
    unknown = lacking["n"].isna()
    for trained_on, tests in lacking[~unknown].groupby("train_dataset", sort=False)["test_dataset"]:
        yield f"No clean scores on {', '.join(tests.unique())} after training on {trained_on}: every row leaks."
    if unknown.any():
        names = ", ".join(lacking.loc[unknown, "variant"].unique())
        yield f"No clean scores of {names}: the training rows are not known, so neither are the rows that leak."

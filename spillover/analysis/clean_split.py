"""What the audit of a run means for its scores: which test rows hang together, and which leak from a training set.

Rows that leak may have been answered from memory, so that what was trained on that set is scored a second time without
them, on its clean rows. Where there is no such score the reader must not take it for a clean bill: a test set may leak
as a whole, and of a checkpoint that was trained elsewhere nobody may know the rows. Both stand in the table as clean
rows without a value, with an `n` of 0 and with none, and `unscored` says them in a line each.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from ..errors import StoreError
from .scoring import Clusters


@dataclass(frozen=True)
class CleanSplit:
    """`clusters`: by test set, the component of each document that hangs together with others. `leaked`: by training
    set and test set, the documents that leak; None where nobody has looked."""

    clusters: Mapping[str, Clusters] = field(default_factory=dict)
    leaked: Mapping[str, Mapping[str, list[int]]] | None = None

    def leaking(self, train_dataset: str | None, test: str) -> np.ndarray | None:
        """The documents of `test` that leak from a training set; None where its rows are not known."""
        if self.leaked is None or train_dataset is None or train_dataset not in self.leaked:
            return None
        return np.array(self.leaked[train_dataset].get(test, []), dtype=np.int64)


def read_clean_split(path: Path) -> CleanSplit:
    """Of `audit.json`; an empty one where there is no such file. Raises StoreError for a broken file."""
    if not path.exists():
        return CleanSplit()
    try:
        audit = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise StoreError(f"cannot be read: {error}", where=str(path), allowed="delete it") from None
    clusters = {
        test: {int(doc_id): component for doc_id, component in found.items()}
        for test, found in audit.get("clusters", {}).items()
    }
    return CleanSplit(clusters, audit.get("leaked"))


def unscored(df: pd.DataFrame) -> Iterator[str]:
    """Which clean scores there are not, and why, from the results table."""
    lacking = df[(df["rows"] == "clean") & df["value"].isna()]
    unknown = lacking["n"].isna()
    for trained_on, tests in lacking[~unknown].groupby("train_dataset", sort=False)["test_dataset"]:
        yield f"No clean scores of what was trained on {trained_on} on {', '.join(tests.unique())}: every row leaks."
    if unknown.any():
        names = ", ".join(lacking.loc[unknown, "variant"].unique())
        yield f"No clean scores of {names}: which rows leak into an unknown training set is not known."

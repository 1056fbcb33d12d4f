"""The rows behind figures: mean scores by recipe and condition, from tidy rows or from an object that holds them.

A recipe is a variant without its seed; `recipes` gives it a short label that is unique within its training set.
`Averages` lists the pairs of training and test set, and has the rows of each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias

import pandas as pd

from ..experiment.factors import FACTORS, short
from ..experiment.suite import load_suite
from .harness import metric_of
from .numbers import points
from .results import Results


class HasTable(Protocol):
    """Whatever holds results under `table`, as `spillover.load` returns it."""

    @property
    def table(self) -> Results: ...


Source: TypeAlias = HasTable | Results | pd.DataFrame

Pair = tuple[str, str]  # training set, test set

BASE = "base"


def tidy(source: Source) -> pd.DataFrame:
    """The tidy rows of any source."""
    return source if isinstance(source, pd.DataFrame) else results_of(source).df


def results_of(source: HasTable | Results) -> Results:
    """The results of a source that is more than rows."""
    return source if isinstance(source, Results) else source.table


def recipes(df: pd.DataFrame) -> pd.Series:
    """A label for each row's variant, short but unique within its training set: `fticl2`, `ft 4,000`."""
    names = [name for name in FACTORS if name in df]
    known = df[["variant", *names]].drop_duplicates("variant").set_index("variant")
    trained = known[known["strategy"].notna()] if "strategy" in known else known[:0]
    spelled = {"strategy", "train_shots", "train_dataset", "train_task", "train_kind"}  # in the name, or in the title
    varied = [name for name in names if name not in spelled and trained[name].nunique() > 1]

    def label(variant: str) -> str:
        if variant not in trained.index:
            return variant
        row: dict[Any, Any] = trained.loc[variant].to_dict()
        shots = 0 if pd.isna(row.get("train_shots")) else int(row["train_shots"])
        more = [short(name, row[name]) for name in varied if not pd.isna(row[name])]
        return " ".join([f"{row['strategy']}{shots or ''}", *more])

    return df["variant"].map({variant: label(variant) for variant in known.index})


def titles_of(results: Results) -> dict[str, str]:
    """The titles of data sets: those of the study, and of test sets as the experiment gives them."""
    study = {name: spec.title or name for name, spec in load_suite("paper").datasets.items()}
    return study | {test.name: test.title or test.name for test in results.grid.tests}


ARM = ["label", "train_dataset", "train_size", "train_shots", "role", "test_dataset", "metric", "prompt", "shots"]


@dataclass(frozen=True)
class Averages:
    """Mean scores of each test set's first metric, a row for each recipe and condition.

    Columns: those of `ARM` (train_shots is 0 for plain fine-tuning); value, ci_low, ci_high averaged over seeds and
    draws; the least n; and `tip`, all of it in words.
    """

    df: pd.DataFrame
    titles: Mapping[str, str]  # of data sets
    kinds: Mapping[str, str]  # of task, by training set

    @classmethod
    def of(cls, source: Source) -> Averages:
        df = tidy(source)
        titles = {} if isinstance(source, pd.DataFrame) else titles_of(results_of(source))
        kinds = dict(zip(df["train_dataset"], df["train_kind"], strict=True))
        return cls(means(df, recipes(df)), titles, kinds)

    def title(self, name: str) -> str:
        return self.titles.get(name, name)

    def arrow(self, train: str, test: str) -> str:
        return f"{self.title(train)} → {self.title(test)}"

    def metric(self, test: str) -> str:
        return str(self.df.loc[self.df["test_dataset"] == test, "metric"].iloc[0])

    def metric_title(self, test: str) -> str:
        return metric_of(self.metric(test)).title

    def first_prompt(self) -> str:
        return next(iter(self.df["prompt"]), "p1")

    def only(self, wanted: pd.Series) -> Averages:
        return replace(self, df=self.df[wanted])

    def plain(self) -> Averages:
        """Without what was trained with demonstrations."""
        return self.only(self.df["train_shots"] == 0)

    def rows(self, train: str, test: str) -> pd.DataFrame:
        """The base and what was trained on `train`, tested on `test`."""
        ours = (self.df["label"] == BASE) | (self.df["train_dataset"] == train)
        return self.df[ours & (self.df["test_dataset"] == test)]

    def pairs(self, *roles: str) -> list[Pair]:
        rows = self.df[self.df["role"].isin(roles)]
        return list(dict.fromkeys(zip(rows["train_dataset"], rows["test_dataset"], strict=True)))


def means(df: pd.DataFrame, labels: pd.Series) -> pd.DataFrame:
    """RowStatistics of each test set's first metric by `labels` and condition; columns as `Averages` says."""
    first = df.groupby("test_dataset", sort=False)["metric"].transform("first")
    wanted = (df["metric"] == first) & (df["rows"] == "all")
    rows = df.assign(label=labels, train_shots=df["train_shots"].fillna(0))[wanted]
    parts = {name: (name, "mean") for name in ("value", "ci_low", "ci_high")}
    found = rows.groupby(ARM, sort=False, as_index=False, dropna=False).agg(**parts, n=("n", "min"))
    plain = {name: "int64" if name in ("train_shots", "shots", "n") else "object" for name in [*ARM, "n"]}
    found = found.astype(plain)
    found["tip"] = [
        f"{label}, {shots} {'shot' if shots == 1 else 'shots'}: {points(value)} [{points(low)}, {points(high)}], n {n}"
        for label, shots, value, low, high, n in found[["label", "shots", *parts, "n"]].itertuples(index=False)
    ]
    return found

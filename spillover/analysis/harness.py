"""The scores of lm-evaluation-harness as metrics. Its own `process_results` has scored every document already.

Each prediction of such a task has under `scores` what that gave, by metric and filter ("exact_match,strict-match").
What is left is to make one number of many, as its aggregations do it. Those that add something up over documents are
written here, so that they have intervals and a report needs no lm-evaluation-harness. Other aggregations are computed
by itself when a cell is answered, and have no interval (`table`).

A metric of `plan` is its name and how it is aggregated, and "lower" if less of it is better: "acc,none|share",
"perplexity,none|perplexity|lower".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from types import MappingProxyType
from typing import Any

import numpy as np

from .metrics import METRICS, Array, Labels, Metric, Prediction

Row = Callable[[Any], tuple[float, ...]]


@dataclass(frozen=True)
class _Way:
    """From the score of a document to numbers that may be added up, and from their sums to the score."""

    row: Row
    score: Callable[[Array], Array]
    is_mean: bool = False
    is_proportion: bool = False
    of_100: bool = False
    width: int = 2


def _divided(sums: Array) -> Array:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(sums[..., 0] / sums[..., 1])


def _f1(sums: Array) -> Array:
    """Of class 1, as scikit-learn's `f1_score`: 0 where nothing is or was said to be of it."""
    both, either = 2 * sums[..., 0], sums[..., 1] + sums[..., 2]
    return np.asarray(np.divide(both, either, out=np.zeros_like(both), where=either > 0))


def _right(value: Any) -> tuple[float, ...]:
    """Gold and answer of a document: in both, of the answers, of the gold."""
    gold, said = value[0] == 1, value[1] == 1
    return float(gold and said), float(said), float(gold)


_WAYS: Mapping[str, _Way] = MappingProxyType(
    {
        "share": _Way(lambda value: (float(value), 1.0), _divided, is_mean=True, is_proportion=True, of_100=True),
        "fraction": _Way(lambda value: (float(value), 1.0), _divided, is_mean=True, of_100=True),
        "mean": _Way(lambda value: (float(value), 1.0), _divided, is_mean=True),
        "nanmean": _Way(lambda value: (float(value), 1.0), _divided),
        "perplexity": _Way(lambda value: (float(value), 1.0), lambda sums: np.exp(-_divided(sums))),
        "weighted_perplexity": _Way(lambda value: (value[0], value[1]), lambda sums: np.exp(-_divided(sums))),
        "bits_per_byte": _Way(lambda value: (value[0], value[1]), lambda sums: -_divided(sums) / np.log(2)),
        "f1_score": _Way(_right, _f1, of_100=True, width=3),
    }
)


@lru_cache(maxsize=1000)
def metric_of(key: str) -> Metric:
    """A metric by its name in a grid: one of ours, or a score of lm-evaluation-harness. Raises KeyError."""
    name, _, rest = key.partition("|")
    way, _, lower = rest.partition("|")
    if key in METRICS:
        return METRICS[key]
    if "," not in name:
        raise KeyError(key)
    own = _WAYS[way or "mean"]
    rows = partial(_statistics, name, own)
    title = name.removesuffix(",none")
    return Metric(name, title, rows, own.score, own.is_mean, own.is_proportion, not lower, own.of_100)


def _statistics(name: str, way: _Way, predictions: Sequence[Prediction], labels: Labels) -> Array:
    """Of a document to which its task gives no such score: nan. Its task leaves it out of its own mean too."""
    values = [prediction["scores"].get(name) for prediction in predictions]
    none = (np.nan,) * way.width
    return np.array([none if value is None else way.row(value) for value in values], dtype=np.float64)

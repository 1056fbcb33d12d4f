"""Scores of predictions, from 0 to 1: accuracy, also per character, macro-F1, ROUGE-L, BLEU, chrF, exact match and the
off-format rate.

Every metric has two steps. Each row gives a few numbers that may be added up over rows (its `statistics`), and a small
function turns the sums into a score. The bootstrap weights rows, so it needs the sums only, for a corpus metric as for
a mean.

Published figures differ by these choices:
- ROUGE-L is the F-measure over words without stemming, as in lm-evaluation-harness and Hugging Face `evaluate`. Words
  are those of `text.words`: for ASCII text the tokens of the package rouge-score, which drops all other letters.
  Against a reference without a word, an equal answer scores 1 and any other answer 0.
- BLEU is sacrebleu's corpus BLEU with its defaults (13a tokens, exponential smoothing), divided by 100. Characters of
  scripts without spaces are tokens of their own, as in sacrebleu's `zh`.
- chrF is sacrebleu's corpus chrF with its defaults (n-grams of 1 to 6 characters, beta 2), divided by 100. It needs no
  words, so it fits every script.
- If a row has several references, ROUGE-L and exact match are those of the best one, BLEU counts n-grams of all, and
  chrF takes the one that fits the answer best, as sacrebleu does.
- An answer is an exact match if it is the reference, but for white space and for two ways to write one character (NFC).
  Case and signs count.
- Accuracy per character divides the log-probability of an option by its number of characters, as `acc_norm` of
  lm-evaluation-harness. Accuracy divides by nothing, as its `acc`. Of equal scores the first counts.
- An answer is off-format in classification and multiple choice if its own words begin with no label or option. In free
  text it is off-format if it is empty, or a label of a classification task of the experiment that is no right answer in
  this test set.
- Macro-F1 averages over all labels of the task, as scikit-learn's `f1_score(labels=..., zero_division=0)`: a label that
  never occurs counts 0, so that all variants share one scale.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from ..text.task import SIZES
from ..text.words import begins_with_label, may_begin_label, plain, with_spaces, words

Prediction = Mapping[str, Any]
"""One line of predictions.jsonl; `response`, `target`, `references` and, in classification, `free` are read here."""

Array = npt.NDArray[np.float64]
Labels = Sequence[str] | None
"""The labels of the test set's task; for free text those of the other tasks in the experiment."""

CACHED_PAIRS = 200_000  # (response, target) pairs whose scores are kept: a few tens of megabytes


@dataclass(frozen=True)
class Metric:
    """A score as additive row statistics, (rows, k), and a function from their sums, (..., k) to (...).

    The statistics of a row that has no score are nan: the row is left out (`analysis.rows.RowStatistics`).
    `is_mean`: the score is a mean over rows. `is_proportion`: of zeros and ones, so that Wilson's interval applies.
    `of_100`: it is from 0 to 1, and written as points of a hundred; any other is written as it is.
    """

    name: str
    title: str
    statistics: Callable[[Sequence[Prediction], Labels], Array]
    score: Callable[[Array], Array]
    is_mean: bool = True
    is_proportion: bool = False
    higher_is_better: bool = True
    of_100: bool = True

    def __call__(self, predictions: Sequence[Prediction], labels: Labels = None) -> float:
        """The score of `predictions`; nan where none has a score."""
        rows = self.statistics(predictions, labels) if predictions else np.empty((0, 1))
        rows = rows[has_score(rows)]
        return float(self.score(rows.sum(axis=0))) if len(rows) else float("nan")


def has_score(statistics: Array) -> npt.NDArray[np.bool_]:
    """Which rows have a score."""
    return np.asarray(~np.isnan(statistics).any(axis=1))


def rescored(predictions: Sequence[Prediction], label_scoring: str) -> list[Prediction]:
    """Predictions with the answer that a protocol's `label_scoring` gives them: `whole` is as they are stored.

    `first_token` takes the label with the likeliest first token; of labels that share it, the first. The rules per
    token, character and byte divide a label's log-probability by its length. Free text stays.
    """
    if label_scoring == "whole":
        return list(predictions)
    return [{**p, "response": likeliest(p, label_scoring)} if "logprobs" in p else p for p in predictions]


def likeliest(prediction: Prediction, label_scoring: str) -> str:
    """The label or option that scores best by a rule; of those that score the same, the first."""
    if label_scoring in STORED:
        scores = prediction[STORED[label_scoring]]
    else:
        size = SIZES[label_scoring]
        scores = {text: logprob / size(text) for text, logprob in prediction["logprobs"].items()}
    return str(max(scores, key=scores.__getitem__))


STORED = {"whole": "logprobs", "first_token": "logprobs_first", "per_token": "logprobs_norm"}
"""The rules of `label_scoring` whose scores are stored, and under which name. The others follow from them."""


def right(prediction: Prediction) -> tuple[str, ...]:
    """Every right answer to the row of a prediction."""
    return tuple(prediction.get("references") or [prediction["target"]])


def _with_ones(values: Sequence[float]) -> Array:
    return np.column_stack([np.asarray(values, dtype=np.float64), np.ones(len(values))])


def _ratio(sums: Array) -> Array:
    with np.errstate(invalid="ignore"):
        return np.asarray(sums[..., 0] / sums[..., 1])


def _accuracy_statistics(predictions: Sequence[Prediction], labels: Labels) -> Array:
    return _with_ones([p["response"] == p["target"] for p in predictions])


def _off_format_statistics(predictions: Sequence[Prediction], labels: Labels) -> Array:
    strange = {"", *map(_bare, labels or ())} - {_bare(text) for p in predictions for text in right(p)}
    left = (
        _left_format(p, labels or tuple(p["logprobs"])) if "free" in p else _bare(p["response"]) in strange
        for p in predictions
    )
    return _with_ones([*left])


def _left_format(scored: Prediction, options: Sequence[str]) -> bool:
    """`free` is None where the model's own first token began a label. A cut text may be the beginning of an option."""
    free = scored["free"]
    if free is None or begins_with_label(free, options):
        return False
    return scored.get("ended") != "limit" or not (free and may_begin_label(free, options))


def _accuracy_norm_statistics(predictions: Sequence[Prediction], labels: Labels) -> Array:
    return _with_ones([likeliest(p, "per_character") == p["target"] for p in predictions])


def _bare(text: str) -> str:
    return text.strip().casefold().rstrip(".")


def _exact_statistics(predictions: Sequence[Prediction], labels: Labels) -> Array:
    return _with_ones([plain(p["response"]) in map(plain, right(p)) for p in predictions])


def _rouge_statistics(predictions: Sequence[Prediction], labels: Labels) -> Array:
    return _with_ones([max(rouge_l(p["response"], text) for text in right(p)) for p in predictions])


@lru_cache(maxsize=CACHED_PAIRS)
def rouge_l(response: str, target: str) -> float:
    """ROUGE-L of one pair: the F-measure of the longest common subsequence of words."""
    theirs, ours = _words(target), _words(response)
    if not theirs:
        return float(plain(response) == plain(target))
    common = lcs_length(theirs, ours)
    if common == 0:
        return 0.0
    precision, recall = common / len(ours), common / len(theirs)
    return 2 * precision * recall / (precision + recall)


@lru_cache(maxsize=CACHED_PAIRS)
def _words(text: str) -> tuple[str, ...]:
    return tuple(words(text))


def lcs_length(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence. The bits of an integer are a row of the table (Hyyrö 2004)."""
    where: dict[str, int] = {}
    for i, word in enumerate(a):
        where[word] = where.get(word, 0) | 1 << i
    full = row = (1 << len(a)) - 1
    for word in b:
        step = row & where.get(word, 0)
        row = (row + step | row - step) & full
    return len(a) - row.bit_count()


def _f1_statistics(predictions: Sequence[Prediction], labels: Labels) -> Array:
    """Columns: right, answered, true; each once per label."""
    if not labels:
        raise ValueError("macro_f1 needs the task's labels")
    answered = np.array([[p["response"] == label for label in labels] for p in predictions], dtype=np.float64)
    true = np.array([[p["target"] == label for label in labels] for p in predictions], dtype=np.float64)
    return np.concatenate([answered * true, answered, true], axis=1)


def _f1_score(sums: Array) -> Array:
    right, answered, true = np.split(sums, 3, axis=-1)
    total = answered + true
    f1 = np.divide(2 * right, total, out=np.zeros_like(total), where=total > 0)
    return np.asarray(f1.mean(axis=-1))


@cache
def _sacrebleu() -> Any:
    from sacrebleu.metrics.bleu import BLEU

    return BLEU(force=True)  # no warning for answers that look tokenised: they are the model's own


@lru_cache(maxsize=CACHED_PAIRS)
def _bleu_counts(response: str, references: tuple[str, ...]) -> tuple[float, ...]:
    """Lengths of response and closest reference, then matched and all n-grams of orders 1 to 4."""
    metric = _sacrebleu()
    answer = metric._preprocess_segment(with_spaces(response))
    return tuple(metric._compute_segment_statistics(answer, _bleu_references(references)))


@lru_cache(maxsize=CACHED_PAIRS)
def _bleu_references(references: tuple[str, ...]) -> Any:
    metric = _sacrebleu()
    return metric._extract_reference_info([metric._preprocess_segment(with_spaces(text)) for text in references])


def _bleu_statistics(predictions: Sequence[Prediction], labels: Labels) -> Array:
    return np.array([_bleu_counts(p["response"], right(p)) for p in predictions], dtype=np.float64)


def _bleu_score(sums: Array) -> Array:
    """sacrebleu's `compute_bleu` over many sums at once."""
    length, wanted, matched, total = sums[..., 0], sums[..., 1], sums[..., 2:6], sums[..., 6:10]
    missed = matched == 0  # an order without a match counts as 1/2, 1/4 and so on of one: exponential smoothing
    matched = np.where(missed, np.ldexp(1.0, -np.cumsum(missed, axis=-1)), matched)
    with np.errstate(divide="ignore", invalid="ignore"):  # no words or no 4-gram: 0, below
        score = np.exp(np.minimum(0.0, 1 - wanted / length)) * np.exp(np.log(matched / total).mean(axis=-1))
    return np.where(missed.all(axis=-1) | (total == 0).any(axis=-1), 0.0, score)


@cache
def _sacrechrf() -> Any:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF()


@lru_cache(maxsize=CACHED_PAIRS)
def _chrf_counts(response: str, references: tuple[str, ...]) -> tuple[float, ...]:
    """For each order the n-grams of the answer, those of the reference that fits best, and those in both."""
    return tuple(_sacrechrf()._compute_segment_statistics(plain(response), _chrf_references(references)))


@lru_cache(maxsize=CACHED_PAIRS)
def _chrf_references(references: tuple[str, ...]) -> Any:
    return _sacrechrf()._extract_reference_info([plain(text) for text in references])


def _chrf_statistics(predictions: Sequence[Prediction], labels: Labels) -> Array:
    return np.array([_chrf_counts(p["response"], right(p)) for p in predictions], dtype=np.float64)


def _chrf_score(sums: Array) -> Array:
    """sacrebleu's `_compute_f_score` over many sums at once. Orders that one of the two lacks are left out."""
    answered, wanted, both = (sums[..., start::3] for start in range(3))
    orders = np.maximum(((answered > 0) & (wanted > 0)).sum(axis=-1), 1)
    precision = (both / np.maximum(answered, 1)).sum(axis=-1) / orders
    recall = (both / np.maximum(wanted, 1)).sum(axis=-1) / orders
    weighted = 4 * precision + recall  # 4 is beta squared
    return np.asarray(np.divide(5 * precision * recall, weighted, out=np.zeros_like(weighted), where=weighted > 0))


_EVERY = (  # to add a metric, add an entry
    Metric("accuracy", "accuracy", _accuracy_statistics, _ratio, is_proportion=True),
    Metric("accuracy_norm", "accuracy per character", _accuracy_norm_statistics, _ratio, is_proportion=True),
    Metric("macro_f1", "macro-F1", _f1_statistics, _f1_score, is_mean=False),
    Metric("rougeL", "ROUGE-L", _rouge_statistics, _ratio),
    Metric("bleu", "BLEU", _bleu_statistics, _bleu_score, is_mean=False),
    Metric("chrf", "chrF", _chrf_statistics, _chrf_score, is_mean=False),
    Metric("exact_match", "exact match", _exact_statistics, _ratio, is_proportion=True),
    Metric("off_format", "off-format rate", _off_format_statistics, _ratio, is_proportion=True, higher_is_better=False),
)
METRICS: Mapping[str, Metric] = MappingProxyType({metric.name: metric for metric in _EVERY})

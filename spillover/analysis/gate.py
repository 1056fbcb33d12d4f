"""Whether a checkpoint keeps what its base can do: a decision for each question, and one for each variant.

A question is a test set in one prompt format at one number of shots. It is judged by the paired change from the base,
with its 95 % interval over rows, draws and seeds (`contrasts.effect`). Conditions are not averaged: a loss at 0 shots
does not hide behind a score at 4. `keep` allows a loss of (1 - keep) of the base's score there. Where the base is not
shown to be better than chance there is nothing that could be kept, so the allowed loss is (1 - keep) of a full score.

    held                    the interval's lower end is above the allowed loss
    broken                  its upper end is below it, after Holm over all questions that can break the gate
    insufficient evidence   anything else: too few rows, or not run

Two errors are possible, and each is bounded for a variant as a whole. To pass, every critical question must hold by
itself. So a variant that truly loses too much somewhere passes with a probability of at most 2.5 %, however many
questions there are (an intersection-union test, Berger 1982). To be called broken, one question is enough. So those
p-values are corrected together (Holm 1979): a variant that loses too much nowhere is called broken with at most 5 %.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, inf
from typing import Literal

from ..errors import ExperimentError, did_you_mean
from ..experiment.gate import GateSpec, Tier
from ..plan.grid import Cell, Variant
from ..stats.families import holm
from ..stats.intervals import MIN_ROWS, Interval
from .contrasts import ALPHA, Effect, Term, effect, paired
from .harness import metric_of
from .results import Results, grouped
from .rows import pool
from .scoring import pooled_interval

Outcome = Literal["held", "broken", "insufficient evidence"]


@dataclass(frozen=True)
class Question:
    """What a variant keeps of the base's score on a test set, at one number of shots and in one prompt format.

    Scores are from 0 to 1. `base` is the base's, `allowed` the loss that is allowed. `change` is None if cells are
    missing. `p_adjusted` is that of a change as large as the allowed loss, after Holm over the questions that can
    break the gate.
    """

    test: str
    tier: Tier
    shots: int
    prompt: str
    base: float = 0.0
    allowed: float = 0.0
    at_chance: bool = False
    change: Effect | None = None
    p_adjusted: float = 1.0

    @property
    def outcome(self) -> Outcome:
        change = self.change
        if change is None or change.clusters < MIN_ROWS:
            return "insufficient evidence"
        if change.interval.low > -self.allowed:
            return "held"
        beyond_rounding = change.value + (change.rounding_floor or 0.0) < -self.allowed
        if change.interval.high < -self.allowed and self.p_adjusted < ALPHA and beyond_rounding:
            return "broken"
        return "insufficient evidence"

    @property
    def kept(self) -> float | None:
        """The share of the base's score that is kept. None at chance, where it means nothing."""
        return None if self.change is None or self.at_chance else 1 + self.change.value / self.base

    @property
    def kept_interval(self) -> Interval | None:
        if self.change is None or self.at_chance:
            return None
        low, high = (1 + end / self.base for end in (self.change.interval.low, self.change.interval.high))
        return Interval(max(low, 0.0), high)

    @property
    def rows_wanted(self) -> float:
        """About how many rows would decide, if the change stays as it is and the interval narrows with the root of
        the rows. Infinite if the change is as large as the allowed loss."""
        if self.change is None:
            return inf
        gap, half = abs(self.change.value + self.allowed), self.change.interval.half_width
        return ceil(self.change.n * (half / gap) ** 2) if gap > 1e-6 else inf

    @property
    def condition(self) -> str:
        return f"{self.shots} shot{'' if self.shots == 1 else 's'}, {self.prompt}"


@dataclass(frozen=True)
class Gate:
    """A variant's questions and what follows from them."""

    variant: str
    keep: float
    questions: tuple[Question, ...]
    hardly_differs: str | None = None

    def those(self, outcome: Outcome, *tiers: Tier) -> list[Question]:
        return [one for one in self.questions if one.outcome == outcome and one.tier in tiers]

    @property
    def outcome(self) -> Outcome:
        """Broken by any critical or supporting question; held if every critical one holds."""
        if self.those("broken", "critical", "supporting"):
            return "broken"
        return "insufficient evidence" if self.those("insufficient evidence", "critical") else "held"


def overall(gates: Sequence[Gate]) -> Outcome:
    """The worst outcome of several variants."""
    found = {gate.outcome for gate in gates}
    return "broken" if "broken" in found else "insufficient evidence" if "insufficient evidence" in found else "held"


def judge(results: Results, spec: GateSpec, variants: Sequence[str] = ()) -> list[Gate]:
    """A gate for each variant, or for those named. Raises ExperimentError for an unknown name, and if there is none."""
    tiers = spec.tiers([test.name for test in results.grid.tests])
    chosen = judged(results.grid.variants, variants)
    return [_judge(results, spec, variant, tiers) for variant in chosen]


def judged(variants: Sequence[Variant], names: Sequence[str]) -> list[Variant]:
    """The variants that a gate is about. Raises ExperimentError for an unknown name, and if there is none."""
    others = {variant.name: variant for variant in variants if variant.kind != "base"}
    for name in names:
        if name not in others:
            raise ExperimentError(f"no variant {name!r}", where="--variant", allowed=did_you_mean(name, others))
    if not others:
        what = "there is only the base, and nothing that is compared with it"
        raise ExperimentError(what, where="gate", allowed="name a checkpoint or adapter under variants")
    return [variant for name, variant in others.items() if not names or name in names]


def _judge(results: Results, spec: GateSpec, variant: Variant, tiers: Mapping[str, Tier]) -> Gate:
    found = list(_questions(results, spec.keep, variant, tiers))
    deciding = [(i, p) for i, (one, p) in enumerate(found) if one.change is not None and one.tier != "advisory"]
    corrected = dict(zip((i for i, _ in deciding), holm([p for _, p in deciding]).tolist(), strict=True))
    questions = tuple(replace(one, p_adjusted=corrected.get(i, p)) for i, (one, p) in enumerate(found))
    return Gate(variant.name, spec.keep, questions, results.nearly_base.get(variant.key))


def _questions(
    results: Results, keep: float, variant: Variant, tiers: Mapping[str, Tier]
) -> Iterator[tuple[Question, float]]:
    """Each question with the p-value of a change as large as the allowed loss."""
    base = grouped(results.cells_of_base, _question)
    for key, cells in grouped(results.cells_of([variant]), _question).items():
        test, shots, prompt = key
        asked = Question(test, tiers[test], shots, prompt)
        metric = metric_of(results.tests[test].metrics[0])
        ours, theirs = paired(results, cells, base.get(key, []))
        complete = len(ours) == len(cells) and len(theirs) == len(base.get(key, []))
        if not ours or not complete or not (metric.of_100 and metric.higher_is_better):
            yield asked, 1.0
            continue
        rows = pool([results.first_metric[cell.key] for cell in theirs])
        score = float(metric.score(rows.statistics.sum(axis=0)))
        chance = results.tests[test].chance or 0.0
        at_chance = bool(pooled_interval(metric, rows, results.clusters.get(test, {})).low <= chance)
        allowed = (1 - keep) * (1.0 if at_chance else score)
        change = effect(results, [Term(1.0, ours), Term(-1.0, theirs)], null=-allowed)
        p = 1.0 if change is None else change.p
        yield replace(asked, base=score, allowed=allowed, at_chance=at_chance, change=change), p


def _question(cell: Cell) -> tuple[str, int, str]:
    return cell.test, cell.shots, cell.prompt

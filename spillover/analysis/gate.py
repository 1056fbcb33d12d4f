"""Whether a checkpoint keeps what its base can do: a decision for each question, and one for each variant.

A question is a test set in one prompt format at one number of shots. It is judged on the documents that base and
variant both answered, without those that leak from training rows. Conditions are not averaged: a loss at 0 shots does
not hide behind a score at 4. What decides is the variant's score less `keep` times the base's, with its 95 % interval
over rows and draws (`contrasts.effect`). This is above zero just if the share that is kept is above `keep` (Fieller
1954). Where the base is not shown to be better than chance there is nothing that could be kept, so a loss of
(1 - `keep`) of a full score is allowed.

    held                    the interval is above zero
    broken                  it is below zero, after Holm over all questions that can break the gate
    insufficient evidence   anything else: too few rows, or not run

Two errors are possible, and each is bounded for a variant as a whole. To pass, every critical question must hold by
itself. So however many questions there are, a variant that truly loses too much somewhere passes no more often than
one interval is wrong on that side: 2.5 % in name (an intersection-union test, Berger 1982; docs/gate.md has what was
simulated). To be called broken, one question is enough. So those p-values are corrected together (Holm 1979): a variant
that loses too much nowhere is called broken with at most 5 %.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ..errors import ExperimentError, did_you_mean
from ..experiment.gate import GateSpec, Tier
from ..plan.choice import candidates
from ..plan.grid import Cell, Use, Variant
from ..stats.intervals import Interval
from ..stats.needed import rows_needed
from .contrasts import ALPHA, Effect, Term, adjusted, effect, paired, share
from .harness import metric_of
from .results import Results, grouped
from .retention import base_at_chance

Outcome = Literal["held", "broken", "insufficient evidence"]
KEEP = 0.98


@dataclass(frozen=True)
class Question:
    """What a variant keeps of the base's score on a test set, in one use.

    Scores are from 0 to 1. `margin` is the score beyond what is asked, whose p-value is corrected over the questions
    that can break the gate; its value is negative if too little is kept. `change` is from the base, `kept` the share of
    its score. Without an answer there is no margin; of a base at chance no share.
    """

    test: str
    tier: Tier
    use: Use
    base: float = 0.0
    change: Effect | None = None
    margin: Effect | None = None
    kept: Interval | None = None
    at_chance: bool = False

    @property
    def outcome(self) -> Outcome:
        if self.margin is None or not self.margin.has_enough:
            return "insufficient evidence"
        if self.margin.interval.low > 0:
            return "held"
        return "broken" if self.margin.interval.high < 0 and self.margin.is_clear else "insufficient evidence"

    @property
    def share(self) -> float | None:
        """The share of the base's score that is kept."""
        return None if self.kept is None or self.change is None else 1 + self.change.value / self.base

    @property
    def more_rows(self) -> int | None:
        """How many more rows would decide with 80 % power, if the scores stay as they are; None if no number does."""
        if self.margin is None:
            return None
        return rows_needed(self.margin.chance, self.margin.n, self.margin.value, 1 - ALPHA)


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
    """A gate for each variant that the experiment has now, or for those named. Raises ExperimentError as `judged`."""
    current = [variant for variant in results.grid.variants if variant.key not in results.earlier]
    tiers = spec.tiers([test.name for test in results.grid.tests])
    keep = spec.keep or results.grid.keep or KEEP
    return [_judge(results.clean, keep, variant, tiers) for variant in judged(current, variants)]


def judged(variants: Sequence[Variant], names: Sequence[str]) -> list[Variant]:
    """The variants that a gate is about: not the base, and no random change, which nobody would use.

    Raises ExperimentError for an unknown name, for one of several alternatives, and if there is nothing to judge.
    """
    others = {variant.name: variant for variant in variants if variant.kind != "base" and not variant.is_null}
    for name in names:
        if name not in others:
            raise ExperimentError(f"no variant {name!r}", where="--variant", allowed=did_you_mean(name, others))
    for of_choice in candidates(others.values()).values():
        alternatives = {one.name for recipe in of_choice.values() for one in recipe} if len(of_choice) > 1 else set()
        if open_ones := alternatives.intersection(names):
            what = f"{min(open_ones)} is one of {len(of_choice)} alternatives, of which validation rows choose one"
            raise ExperimentError(what, where="--variant", allowed="none, to judge what is chosen; or choose: none")
    if not others:
        what = "there is only the base, and nothing that is compared with it"
        raise ExperimentError(what, where="gate", allowed="name a checkpoint or adapter under variants")
    return [variant for name, variant in others.items() if not names or name in names]


def _judge(results: Results, keep: float, variant: Variant, tiers: Mapping[str, Tier]) -> Gate:
    questions = list(_questions(results, keep, variant, tiers))
    deciding = [one.margin for one in questions if one.margin is not None and one.tier != "advisory"]
    corrected = {id(before): after for before, after in zip(deciding, adjusted(deciding), strict=True)}
    found = tuple(replace(one, margin=corrected.get(id(one.margin), one.margin)) for one in questions)
    return Gate(variant.name, keep, found, results.nearly_base.get(variant.key))


def _questions(results: Results, keep: float, variant: Variant, tiers: Mapping[str, Tier]) -> Iterator[Question]:
    base = grouped(results.cells_of_base, _question)
    for key, cells in grouped(results.cells_of([variant]), _question).items():
        test, use = key
        metric = metric_of(results.tests[test].metrics[0])
        ours, theirs = paired(results, cells, base.get(key, []))
        whole = len(ours) == len(cells) and len(theirs) == len(base.get(key, []))
        of_base = effect(results, [Term(1.0, theirs)])
        change = effect(results, [Term(1.0, ours), Term(-1.0, theirs)])
        asked = Question(test, tiers[test], use)
        if not (whole and metric.of_100 and metric.higher_is_better and of_base and change):
            yield asked
        elif base_at_chance(results, of_base):
            beyond = effect(results, [Term(1.0, ours), Term(-1.0, theirs)], null=keep - 1)
            margin = beyond and _raised(beyond, 1 - keep)
            yield replace(asked, base=of_base.value, change=change, margin=margin, at_chance=True)
        else:
            margin = effect(results, [Term(1.0, ours), Term(-keep, theirs)])
            left = share(results, ours, theirs)
            yield replace(asked, base=of_base.value, change=change, margin=margin, kept=left)


def _raised(effect: Effect, by: float) -> Effect:
    """The effect with a constant added."""
    ends = Interval(effect.interval.low + by, effect.interval.high + by)
    return replace(effect, value=effect.value + by, interval=ends)


def _question(cell: Cell) -> tuple[str, Use]:
    return cell.test, Use.of(cell)

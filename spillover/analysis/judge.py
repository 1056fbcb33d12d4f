"""Claims judged over the results: supported, contradicted, insufficient evidence, or missing.

A claim (`spillover.experiment.claims`) is a list of comparisons, each a contrast (`spillover.analysis.points`) with the
range in which it is expected. If the contrast's 95 % interval lies wholly within the range, the comparison is
supported; wholly outside, contradicted; across an end, insufficient evidence. It also needs `MIN_ROWS` independent
documents, and p below 5 % after Holm's correction over all comparisons of the claim. A claim is supported if all its
comparisons are, and contradicted if one is. Missing cells are listed. `docs/claims.md` has the details.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import isfinite
from typing import Literal

from ..experiment.claims import MEASURES_OF_A_VARIANT, Claim, Comparison, Holds, study_claims
from ..plan.grid import Grid
from ..stats.intervals import CONFIDENCE, MIN_ROWS, ROUNDING, Interval
from ..store.store import Store
from . import points
from .contrasts import Effect, together
from .measures import Pairs, Rates, numbers_of, off_format, off_format_rates, over_seeds, score
from .points import Point, Points
from .results import Results

Ruling = Literal["supported", "contradicted", "insufficient evidence", "missing"]
RULINGS: tuple[Ruling, ...] = ("supported", "contradicted", "insufficient evidence", "missing")
Whole = Callable[[tuple[int, ...]], Grid]


@dataclass(frozen=True)
class Evidence:
    """A comparison at one place. `effect` is None if nothing of it has run; its `p` is that of the range's nearest end.

    It rests on `cells` of the `wanted` cells (or variants).
    """

    comparison: Comparison
    where: str
    ruling: Ruling
    effect: Effect | None
    cells: int
    wanted: int


@dataclass(frozen=True)
class Judgement:
    """A claim with its ruling. `fill` has the lines of an experiment that would add the missing cells."""

    claim: Claim
    ruling: Ruling
    evidence: tuple[Evidence, ...]
    fill: str = ""

    @property
    def missing(self) -> tuple[str, ...]:
        """Where nothing has run."""
        return tuple(dict.fromkeys(e.where or e.comparison.title for e in self.evidence if e.effect is None))

    @property
    def seeds(self) -> int:
        """The fewest training seeds of any recipe here; 0 if nothing was trained."""
        return min((e.effect.seeds for e in self.evidence if e.effect is not None and e.effect.seeds), default=0)

    @property
    def text(self) -> str:
        """The ruling in a sentence."""
        count = {ruling: sum(e.ruling == ruling for e in self.evidence) for ruling in RULINGS}
        if not (judged := len(self.evidence) - count["missing"]):
            return "nothing of it has run"
        parts = [f"{count['supported']} of {judged} as stated"]
        words: dict[Ruling, str] = {
            "contradicted": "otherwise",
            "insufficient evidence": "unclear",
            "missing": "more missing",
        }
        parts += [f"{count[ruling]} {word}" for ruling, word in words.items() if count[ruling]]
        seeds = {0: "", 1: " (one training seed: this holds for these checkpoints only)"}
        return ", ".join(parts) + seeds.get(self.seeds, f" ({self.seeds} training seeds)")


def judge(
    results: Results, claims: Iterable[Claim], store: Store | None = None, whole: Whole | None = None
) -> list[Judgement]:
    """Every claim with its ruling over these results.

    Without a `store`, claims about variants are missing. `whole` makes the grid that the claims are about from training
    sizes (`points.study_grid`), so that missing cells are listed; without it they are about this experiment.
    """
    judging = ClaimJudge(results, store, whole)
    return [judging.judge(claim) for claim in claims]


def judge_all(results: Results, store: Store) -> list[Judgement]:
    """The experiment's own claims, then the study's: all, or those that can be judged if no test set is the study's."""
    is_study = points.is_of_study(results.grid)
    study = judge(results, study_claims(), store, points.study_grid if is_study else None)
    if not is_study:
        study = [replace(one, fill="") for one in study if one.ruling != "missing"]
    return judge(results, store.claims(), store) + study


class ClaimJudge:
    """Results as points, made once for all claims."""

    def __init__(self, results: Results, store: Store | None, whole: Whole | None) -> None:
        self.results, self.grid, self.store, self.whole = results, results.grid, store, whole
        self.cells = points.points_of(self.grid, self.grid.cells)
        self.variants = points.variants_of(self.grid, self.grid.variants)
        self.here = {point.identity for point in (*self.cells, *self.variants)}
        self.done = Points(point for point in self.cells if point.key in results.first_metric)
        self.wanted: dict[tuple[int, ...], tuple[Points, Points]] = {}
        sizes = {int(found) for v in self.grid.variants if (found := v.factors.get("train_size"))}
        self.sizes = tuple(sorted(sizes))

    @cached_property
    def numbers(self) -> dict[str, dict[str, float]]:
        """What is recorded of variants, by measure and variant's key."""
        store, variants = self.store, self.variants
        return {measure: numbers_of(measure, store, variants) if store else {} for measure in MEASURES_OF_A_VARIANT}

    @cached_property
    def off_format(self) -> Rates:
        return off_format_rates(self.results)

    def judge(self, claim: Claim) -> Judgement:
        found = [one for comparison in claim.comparisons for one in self._compare(comparison)]
        evidence = list(_corrected(one for one, _ in found))
        lacking = [point for _, lacks in found for point in lacks]
        rulings = [
            combined([e.ruling for e in evidence if e.comparison is comparison], comparison.holds)
            for comparison in claim.comparisons
        ]
        return Judgement(claim, combined(rulings, "all"), tuple(evidence), self._fill(claim, lacking, evidence))

    def _compare(self, comparison: Comparison) -> Iterable[tuple[Evidence, list[Point]]]:
        """The comparison at every place where it is wanted, and the points that have not run for it there."""
        of_variants = comparison.measure in MEASURES_OF_A_VARIANT
        here, there = self.variants if of_variants else self.cells, self._done(comparison)
        planned = points.groups(comparison, here)
        done = planned if len(there) == len(here) else points.groups(comparison, there, here)
        wanted = points.groups(comparison, self._wanted(comparison))
        ran = {point.key for point in there}
        for label in dict.fromkeys([*planned, *wanted]) or [()]:
            every = {p.identity: p for pairs in (wanted, planned) for p in _points(pairs.get(label, ()))}
            used = {point.identity for point in _points(done.get(label, ()))}
            lacking = [point for identity, point in every.items() if identity not in used and point.key not in ran]
            found = self._effect(comparison, done[label]) if label in done else None
            ruling: Ruling = "missing"
            if found is not None:
                enough = of_variants or found.clusters >= MIN_ROWS
                ruling = decide(comparison, found.interval) if enough else "insufficient evidence"
            where = points.place(comparison.each, label) if label else ""
            yield Evidence(comparison, where, ruling, found, len(used), len(every)), lacking

    def _done(self, comparison: Comparison) -> Points:
        if comparison.measure not in MEASURES_OF_A_VARIANT:
            return self.done
        return Points(point for point in self.variants if point.key in self.numbers[comparison.measure])

    def _wanted(self, comparison: Comparison) -> Points:
        if self.whole is None:
            return Points()
        named = {size for side in comparison.sides for size in side.given.get("train_size", ())}
        sizes = tuple(sorted(named)) or self.sizes or (2000,)
        if sizes not in self.wanted:
            grid = self.whole(sizes)
            self.wanted[sizes] = points.variants_of(grid, grid.variants), points.points_of(grid, grid.cells)
        variants, cells = self.wanted[sizes]
        return variants if comparison.measure in MEASURES_OF_A_VARIANT else cells

    def _effect(self, comparison: Comparison, pairs: Pairs) -> Effect | None:
        """With the p-value of the range's nearest end, which is the largest of both."""
        ends = [end for end in comparison.range if isfinite(end)]
        found = [one for end in ends if (one := self._against(comparison, pairs, end)) is not None]
        return max(found, key=lambda one: one.p, default=None)

    def _against(self, comparison: Comparison, pairs: Pairs, null: float) -> Effect | None:
        if comparison.measure in MEASURES_OF_A_VARIANT:
            return over_seeds(pairs, self.numbers[comparison.measure], null)
        if comparison.measure == "off_format":
            return off_format(self.off_format, points.contrast(pairs), null)
        return score(self.results, points.contrast(pairs), null)

    def _fill(self, claim: Claim, lacking: Sequence[Point], evidence: Sequence[Evidence]) -> str:
        """How to get what is missing: another run of this experiment, or the lines of one that has it."""
        unrun = {point.identity: point for point in lacking if point.identity in self.here}
        cells = sum(point.cell is not None for point in unrun.values())
        lines = [f"# {cells} planned cells have not run: run the same command again"] if cells else []
        unmeasured = ", ".join(point.variant.name for point in unrun.values() if point.cell is None)
        lines += [f"# not recorded of {unmeasured}"] if unmeasured else []
        elsewhere = [point for point in lacking if point.identity not in self.here]
        if elsewhere:
            lines.append(points.needed(elsewhere, suite="paper"))
        if self.whole is None:
            lines += [line for comparison in claim.comparisons for line in points.unknown_names(comparison, self.grid)]
            lines.append(points.requested(e.comparison for e in evidence if not e.wanted))
        return "\n".join(dict.fromkeys(line for line in lines if line))


def decide(comparison: Comparison, interval: Interval) -> Ruling:
    """Where the interval lies, compared with the range that is expected."""
    low, high = comparison.range
    inside = interval.low > low + ROUNDING and interval.high < high - ROUNDING
    outside = interval.high < low - ROUNDING or interval.low > high + ROUNDING
    if comparison.expect.beyond:
        inside, outside = outside, inside
    return "supported" if inside else "contradicted" if outside else "insufficient evidence"


def _corrected(evidence: Iterable[Evidence]) -> Iterator[Evidence]:
    """The evidence after Holm over all that a claim compares; if p is then too large, it is insufficient."""
    for one in together(evidence):
        p = None if one.effect is None else one.effect.p_adjusted
        yield one if p is None or p < 1 - CONFIDENCE else replace(one, ruling="insufficient evidence")


def combined(rulings: Sequence[Ruling], holds: Holds) -> Ruling:
    """One ruling from several. It is final once the missing ones can no longer change it."""
    if all(ruling == "missing" for ruling in rulings):
        return "missing"
    needs = {"all": len(rulings), "any": 1, "majority": len(rulings) // 2 + 1}[holds]
    if rulings.count("supported") >= needs:
        return "supported"
    return "contradicted" if rulings.count("contradicted") > len(rulings) - needs else "insufficient evidence"


def _points(pairs: Pairs) -> dict[Point, None]:
    return dict.fromkeys(point for _, weights in pairs for point in weights)

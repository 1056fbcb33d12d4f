"""Which checkpoint is meant, what it costs, and which of several that cannot be told apart is to be preferred.

Cost and possible loss decide only between recipes whose gains are equal: they never outweigh a gain.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from ..experiment.suite import Role
from ..plan.grid import Variant
from .contrasts import Effect, across, difference
from .deploy import asked, deployed
from .numbers import listed, points, signed, signed_interval
from .results import Cost, Results, recipe_name
from .retention import Kept

NAMED = 3  # rivals in a sentence, the nearest ones
CLOSE = 0.02  # recipes whose gains differ by no more than this, and not beyond chance, count as equal
SAVES = 0.8  # a cost is lower if it is below this share of the other: times differ by as much from run to run


@dataclass(frozen=True)
class Step:
    """What the reader may do next: a sentence that ends in a colon, and the command or the YAML that belongs to it."""

    says: str
    code: str


def checkpoint(results: Results, arm: Sequence[Variant]) -> str:
    """Where the weights are, if they were kept.

    Of several seeds it is the first: to choose by test scores would flatter it.
    """
    first = arm[0]
    if first.kind != "trained":
        return ""
    each = (
        f"It was trained {len(arm)} times, and the scores are means over these trainings; any of them may be shipped. "
        if len(arm) > 1
        else ""
    )
    cost = f" ({_cost(found)})" if (found := results.costs.get(first.key)) else ""
    if place := results.checkpoints.get(first.key):
        path = place if results.folder is None else str(results.folder / place)
        return f"{each}The weights are in {path}{f', with seed {first.seed}' if each else ''}{cost}."
    return f"{each}The weights were not kept{cost}."


def again(results: Results, arm: Sequence[Variant]) -> list[Step]:
    """How weights that were not kept are trained again: of several seeds the first, as in `checkpoint`."""
    first = arm[0]
    if first.kind != "trained" or first.key in results.checkpoints:
        return []
    place, name = (shlex.quote(str(what)) for what in (results.folder or "DIR", first.name))
    return [Step("To train it again and keep the weights:", f"spillover work {place} --variant {name} --keep")]


def cheapest(results: Results, best: Kept, others: Sequence[Kept]) -> tuple[Kept, list[str]]:
    """The best recipe, or an equal one that costs less, or as much with less risk; and what cannot be told from it."""
    rivals = [(one, found) for one in others if (found := _compared(results, best, one)) and not found.is_clear]
    chosen, why = best, ""
    for one, found in rivals:
        ours, theirs = _cost_of(results, one), _cost_of(results, chosen)
        if abs(found.value) > CLOSE:
            continue
        if _saves(ours, theirs):
            chosen, why = one, f"this one costs less ({_cost(ours)}; the other: {_cost(_cost_of(results, best))})"
        elif not _saves(theirs, ours) and _risk(one) < _risk(chosen):
            less, more = points(_risk(one)), points(_risk(best))
            chosen, why = one, f"this one has the smaller possible loss (up to {less} points, not {more})"
    said = []
    if chosen is not best:
        said.append(f"{recipe_name(best.arm)} gains as much in all uses together, within chance; {why}.")
    elif rivals:
        rivals.sort(key=lambda pair: abs(pair[1].value))
        where = "In-domain it" if best.gains else "It"
        said.append(f"{where} cannot be told from {listed([_rival(results, *pair) for pair in rivals], NAMED)}.")
    return chosen, said


def _rival(results: Results, one: Kept, gap: Effect) -> str:
    cost = f"; {_cost(own)}" if (own := _cost_of(results, one)) else ""
    return f"{recipe_name(one.arm)} ({signed(gap.value)} {signed_interval(gap.interval)}{cost})"


def _compared(results: Results, best: Kept, other: Kept) -> Effect | None:
    """The other less the best, in-domain as deployed, or over all uses; without an in-domain set, over all."""
    clean = results.clean
    role: Role | None = "in_domain" if best.gains else None
    theirs, ours = (clean.cells_of(one.arm, role) for one in (best, other))
    use, own = (deployed(results, one.arm[0]) for one in (best, other))
    if use and own and role:
        return across(clean, asked(ours, own), asked(theirs, use))
    return difference(clean, ours, theirs)


def _risk(one: Kept) -> float:
    """The largest loss on a test set that is not ruled out."""
    return max(0.0, -one.worst.effect.interval.low) if one.worst else 0.0


def _cost_of(results: Results, one: Kept) -> Cost | None:
    return results.costs.get(one.arm[0].key)


def _saves(ours: Cost | None, theirs: Cost | None) -> bool:
    """Whether ours costs clearly less: on disk, else in training time."""
    if ours is None or theirs is None:
        return False
    if ours.bytes and theirs.bytes and not SAVES < ours.bytes / theirs.bytes < 1 / SAVES:
        return ours.bytes < theirs.bytes
    if ours.adapter is not theirs.adapter:
        return ours.adapter
    return bool(ours.seconds and theirs.seconds and ours.seconds < SAVES * theirs.seconds)


def _cost(cost: Cost | None) -> str:
    """`an adapter of 4 MB, trained in 37 s`."""
    if cost is None:
        return "of unknown cost"
    size = "" if cost.bytes is None else f" of {max(cost.bytes / 1e6, 0.1):,.1f} MB"
    what = f"{'an adapter' if cost.adapter else 'whole weights'}{size}"
    return what if cost.seconds is None else f"{what}, trained in {cost.seconds:,.0f} s"

"""Strategies at equal gain: does one lose less elsewhere than the one it is compared with, where both gain as much?

A strategy that learns less also forgets less. So a loss is compared at the same gain, along the other strategy's curve:
its recipes on the same training rows in the order of learning rate, epochs and strength, beginning at the base, which
gains and loses nothing. Between two neighbours the change elsewhere is taken as linear in the gain. Of several places
with the same gain, the one with the best score elsewhere counts. Gains are the same within a point, or within a row of
the test set if that is more: no finer difference can be seen. Beyond the curve, its largest gain stands for it.

The advantage is one contrast of scores: a recipe's change elsewhere less that on the curve, less what the uncertainty
of both gains is worth at the curve's slope there (the delta method; the latter is 0 in the data and not in the
interval). Where the rows do not tell the gains of the two neighbours apart, the slope is unknown, and the place may be
anywhere between them: the interval then covers the intervals at both ends. All are over documents, demonstration draws
and seeds, as those of every effect. Rows that leak are left out.

`Bargain` answers a second question: does a recipe keep most of the gain with a small part of the loss? Both are counted
from the recipe of the other strategy that gains most; of several with the same gain, from the one that loses least.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from ..experiment.choice import MORE_CAREFUL
from ..plan.grid import Cell, Condition, Use, Variant
from .contrasts import Effect, Term, anywhere, effect, finished, together
from .deploy import asked
from .results import Results, grouped, recipe_name
from .retention import Kept, kept
from .summaries import groups

SAME = 0.01  # gains that differ by no more than a point are equal
GAIN_KEPT, LOSS_LEFT = 0.95, 0.10
LITTLE = 0.02  # a loss below two points is nothing to save


class Place(NamedTuple):
    """Where a recipe stands: gain in-domain and change elsewhere, from -1 to 1, and the cells of both.

    `base_use` is how the base is asked that the gain is counted from, `same` the largest difference of gains that are
    the same.
    """

    name: str
    gain: float
    outside: float
    within: tuple[Cell, ...]
    elsewhere: tuple[Cell, ...]
    base_use: Use
    same: float


@dataclass(frozen=True)
class Bargain:
    """Whether at least `GAIN_KEPT` of the other's gain is kept with at most `LOSS_LEFT` of its loss.

    `gain` and `loss` are shares of the other's. `keeps` and `saves` are what is left over the two bounds, in points: an
    interval above 0 shows it. `nothing_to_save`: the other loses less than `LITTLE` itself, so that shares of its loss
    say nothing.
    """

    other: str
    gain: float | None
    loss: float | None
    keeps: Effect
    saves: Effect
    nothing_to_save: bool

    @property
    def is_kept(self) -> bool | None:
        """True and False are shown by both intervals; None is undecided, or there is nothing to save."""
        if self.nothing_to_save:
            return None
        if self.keeps.interval.low >= 0 and self.saves.interval.low >= 0:
            return True
        return False if self.keeps.interval.high < 0 or self.saves.interval.high < 0 else None


@dataclass(frozen=True)
class EqualGain:
    """A recipe beside the strategy that it is compared with, at the same gain.

    `reference` is that strategy's change elsewhere there, `between` names the one or two recipes (or the base) that it
    comes from, and `effect` is the recipe's change less that. `beyond`: no recipe of the other gains as much; the one
    that gains most stands for it. All from -1 to 1.
    """

    recipe: str
    name: str
    train_dataset: str
    against: str
    gain: float
    outside: float
    reference: float
    between: tuple[str, ...]
    beyond: bool
    effect: Effect
    bargain: Bargain


@lru_cache(maxsize=2)
def equal_gains(results: Results) -> list[EqualGain]:
    """Each recipe whose strategy is compared with another one that was trained on the same rows, in order.

    The advantages are corrected together by Holm's procedure, random changes apart.
    """
    found = [one for group in groups(results) for one in _of_group(results, group.variants)]
    return together(found, is_null=lambda one: one.recipe in results.nulls)


@dataclass(frozen=True)
class Curve:
    """A strategy on one training set: the places of its recipes, the most careful first.

    `against` are the places of the strategy that it is compared with, whose name is `other`.
    """

    strategy: str
    train_dataset: str
    places: tuple[Place, ...]
    other: str
    against: tuple[Place, ...]


def curves(results: Results) -> Iterator[Curve]:
    """The curve of each strategy that is compared with one that was trained on the same rows, in the plan's order."""
    for group in groups(results):
        arms, places = _places(results, group.variants)
        first = {key: arms[key].arm[0] for key in places}
        ordered = sorted(first.values(), key=lambda one: _order(one.factors))
        of_strategy = grouped(ordered, lambda one: (one.strategy, one.factors.get("train_shots")))
        for alike in dict.fromkeys((one.strategy, one.factors.get("train_shots")) for one in first.values()):
            ours = of_strategy[alike]
            others = [one for one in ordered if _is_on_curve(ours[0], one)]
            if others:
                on_curve, on_other = (tuple(places[one.recipe_key] for one in some) for some in (ours, others))
                yield Curve(str(alike[0]), str(ours[0].train_dataset), on_curve, str(ours[0].against), on_other)


def _of_group(results: Results, variants: Sequence[Variant]) -> Iterator[EqualGain]:
    clean = results.clean
    arms, places = _places(results, variants)
    for key, place in places.items():
        first = arms[key].arm[0]
        others = [other for other in places if _is_on_curve(first, arms[other].arm[0])]
        if not others or clean.base is None:
            continue
        others.sort(key=lambda other: _order(arms[other].arm[0].factors))
        curve = [_of_base(clean, place), *(places[other] for other in others)]
        is_whole = all(_asked(place) == _asked(one) for one in curve)  # a run that goes on has cells of some only
        found = _beside(clean, first, place, curve) if is_whole else None
        if found is not None:
            yield found


def _places(results: Results, variants: Sequence[Variant]) -> tuple[dict[str, Kept], dict[str, Place]]:
    """What the recipes of these variants keep, and where those stand that gain and change something, by recipe."""
    known = kept(results)
    arms = {key: known[key] for key in dict.fromkeys(one.recipe_key for one in variants) if key in known}
    found = {key: _place(results.clean, one) for key, one in arms.items()}
    return arms, {key: place for key, place in found.items() if place is not None}


def _is_on_curve(ours: Variant, other: Variant) -> bool:
    """Whether a recipe is one of the strategy that ours is compared with, on the same rows."""
    same = all(ours.factors.get(name) == other.factors.get(name) for name in ("train_dataset", "train_size"))
    return ours.against is not None and other.strategy == ours.against and same and other.recipe_key != ours.recipe_key


def _order(factors: Mapping[str, object]) -> tuple[float, ...]:
    """Along a curve, from the base on: the most careful first."""
    return tuple(-sign * float(factors.get(name) or 0.0) for name, sign in MORE_CAREFUL.items())  # type: ignore[arg-type]


def _place(results: Results, one: Kept) -> Place | None:
    gain = one.least_gain
    if gain is None or one.outside is None:
        return None
    cells = finished(results, results.cells_of(one.arm))
    within = asked([cell for cell in cells if cell.role == "in_domain"], gain.ours)
    elsewhere = tuple(cell for cell in cells if cell.role != "in_domain" and cell.test in one.outside.tests)
    values = gain.effect.value, one.outside.effect.value
    same = max(SAME, 1 / gain.effect.n)
    return Place(recipe_name(one.arm), *values, tuple(within), elsewhere, gain.theirs, same)


def _of_base(results: Results, beside: Place) -> Place:
    """The base, where all curves begin: elsewhere as the recipe is asked, in-domain as the base would be."""
    base, name = finished(results, results.cells_of_base), results.base.name if results.base else ""
    tests = {cell.test for cell in beside.within}
    within = asked([cell for cell in base if cell.test in tests], beside.base_use)
    elsewhere = tuple(cell for cell in base if cell.condition in _asked(beside))
    return Place(name, 0.0, 0.0, tuple(within), elsewhere, beside.base_use, beside.same)


def _asked(place: Place) -> frozenset[Condition]:
    return frozenset(cell.condition for cell in place.elsewhere)


def _beside(results: Results, ours: Variant, place: Place, curve: Sequence[Place]) -> EqualGain | None:
    most = max(one.gain for one in curve)
    gain = min(max(place.gain, 0.0), most)  # a recipe below the base is compared with the base
    spot = max((spot for a, b in pairwise(curve) for spot in _spots(gain, a, b)), key=lambda one: one.outside)
    top = max((one for one in curve[1:] if most - one.gain <= one.same), key=lambda one: one.outside, default=curve[-1])
    advantage, bargain = _advantage(results, place, spot), _bargain(results, place, top, curve[0])
    if advantage is None or bargain is None:
        return None
    return EqualGain(
        recipe=ours.recipe_key,
        name=place.name,
        train_dataset=ours.train_dataset or "",
        against=str(ours.against),
        gain=place.gain,
        outside=place.outside,
        reference=spot.outside,
        between=tuple(one.name for _, one in spot.parts),
        beyond=place.gain > most + place.same,
        effect=advantage,
        bargain=bargain,
    )


def _advantage(results: Results, place: Place, spot: _Spot) -> Effect | None:
    """The change elsewhere less that of the curve at this spot."""
    terms = [Term(1.0, place.elsewhere), *(Term(-part, one.elsewhere) for part, one in spot.parts)]
    if not spot.slope:
        return effect(results, terms)
    (_, a), (_, b) = spot.parts
    if _are_told_apart(results, a, b):
        terms += [Term(-spot.slope, place.within), *(Term(spot.slope * part, one.within) for part, one in spot.parts)]
        return effect(results, terms)
    between = effect(results, terms)
    ends = [effect(results, [Term(1.0, place.elsewhere), Term(-1.0, end.elsewhere)]) for end in (a, b)]
    return None if between is None else anywhere(between, [one for one in ends if one is not None])


def _are_told_apart(results: Results, a: Place, b: Place) -> bool:
    """Whether the rows show that two neighbours on a curve gain differently."""
    gap = effect(results, [Term(1.0, b.within), Term(-1.0, a.within)])
    return gap is not None and gap.interval.excludes_zero


class _Spot(NamedTuple):
    """A place on a curve: the change elsewhere, its slope over the gain, and the recipes that it lies between."""

    outside: float
    slope: float
    parts: tuple[tuple[float, Place], ...]


def _spots(gain: float, a: Place, b: Place) -> Iterator[_Spot]:
    """Where a gain lies on the way from one recipe to the next. Ends count as far as their gains are the same."""
    for end in (a, b):
        if abs(end.gain - gain) <= end.same:
            yield _Spot(end.outside, 0.0, ((1.0, end),))
    rise = b.gain - a.gain
    if abs(rise) > b.same and min(a.gain, b.gain) <= gain <= max(a.gain, b.gain):
        part = (gain - a.gain) / rise
        outside = a.outside + part * (b.outside - a.outside)
        yield _Spot(outside, (b.outside - a.outside) / rise, ((1 - part, a), (part, b)))


def _bargain(results: Results, ours: Place, other: Place, base: Place) -> Bargain | None:
    def left_over(share: float, of: str) -> Effect | None:
        """Our change less this share of the other's."""
        mine, theirs, start = (getattr(place, of) for place in (ours, other, base))
        return effect(results, [Term(1.0, mine), Term(-share, theirs), Term(share - 1.0, start)])

    keeps, saves = left_over(GAIN_KEPT, "within"), left_over(LOSS_LEFT, "elsewhere")
    if keeps is None or saves is None:
        return None
    gain = ours.gain / other.gain if other.gain > 0 else None
    loss = ours.outside / other.outside if other.outside <= -LITTLE else None
    return Bargain(other.name, gain, loss, keeps, saves, nothing_to_save=other.outside > -LITTLE)

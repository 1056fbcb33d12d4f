"""The advice on the recipes of one training set, by the one rule (`verdict` states it), in sentences with numbers.

A `Line` is a recipe with its changes. `Judge` applies the rule to all lines of a training set. Checkpoints from
elsewhere are not judged: `of_checkpoints` answers what they have lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..stats.intervals import MIN_ROWS
from .checkpoints import Step, again, cheapest, checkpoint
from .contrasts import Effect
from .deploy import Gain
from .needed import either, of_change, of_share
from .numbers import bounds, listed, percent, points, signed, without_arrow
from .results import ROLE_TITLES, Results
from .retention import Kept, Retention
from .summaries import RoleChange

FEW_USES = 2  # are named one by one
NOTHING = Kept((), (), {}, {}, None, None, None)


@dataclass(frozen=True)
class Line:
    """A recipe, how it was made, and its `changes` from the base: in-domain by use, then by role. `kept` has it all."""

    name: str
    recipe: str
    changes: tuple[RoleChange, ...]
    kept: Kept = NOTHING

    @property
    def gains(self) -> list[RoleChange]:
        return [change for change in self.changes if change.effect.is_clear and change.effect.value > 0]

    @property
    def losses(self) -> list[RoleChange]:
        return [change for change in self.changes if change.effect.is_clear and change.effect.value < 0]

    @property
    def lost_sets(self) -> list[Retention]:
        """The test sets outside on which it loses beyond chance."""
        return [one for one in self.kept.sets.values() if one.effect.is_clear and one.effect.value < 0]

    @property
    def possible_losses(self) -> list[RoleChange]:
        return [change for change in self.changes if change.effect.value < 0 and _stands_alone(change.effect)]

    @property
    def least_gain(self) -> float:
        """In-domain, in the use in which it gains least."""
        return gain.effect.value if (gain := self.kept.least_gain) else 0.0

    @property
    def sentence(self) -> str:
        """What is beyond chance first, then what is not."""
        if not self.changes:
            return "Nothing to compare yet: it and the base have not run on the same cells."
        lost = _each(self.losses)
        if self.lost_sets and lost:
            worst = min(self.lost_sets, key=lambda one: one.effect.value)
            lost[-1] += f" (most on {worst.where}: {points(-worst.effect.value)})"
        parts = {
            "gains": _each(self.gains),
            "loses": lost or [f"{_by(one.effect)} on {one.where}" for one in self.lost_sets],
            "insufficient evidence": _each([c for c in self.changes if not c.effect.is_clear], unclear=True),
        }
        text = "; ".join(f"{verb} {listed(some)}" for verb, some in parts.items() if some)
        return f"{text[0].upper()}{text[1:]}."


# --- effects in sentences ---------------------------------------------------------------------------------------------


def _by(effect: Effect) -> str:
    """`14.6 points [+8.3, +20.8]`: the verb before it says the sign."""
    return f"{points(abs(effect.value))} points {bounds(effect)}"


def _each(changes: Sequence[RoleChange], unclear: bool = False) -> list[str]:
    """Each change in a few words. Of many uses only the one that changes least and the one that changes most."""

    def one(change: RoleChange, where: str) -> str:
        return f"{where} ({_unclear(change.effect)})" if unclear else f"{_by(change.effect)} {where}"

    uses = sorted((c for c in changes if c.role == "in_domain"), key=lambda c: abs(c.effect.value))
    if len(uses) <= FEW_USES:
        return [one(change, change.where) for change in changes]
    ends = [one(c, c.where.removeprefix("in-domain ")).removeprefix("at ") for c in (uses[0], uses[-1])]
    others = [one(change, change.where) for change in changes if change.role != "in_domain"]
    return [f"in-domain in {len(uses)} uses, from {' to '.join(ends)}", *others]


def _unclear(effect: Effect) -> str:
    """An effect that is no evidence. If its interval excludes zero, the sentence says why it is none."""
    why = ""
    if effect.is_within_rounding and effect.interval.excludes_zero:
        why = ", but rounding alone may change as much"
    elif _stands_alone(effect):
        why = ", but not after Holm"
    return f"{without_arrow(effect)}{why}"


def _stands_alone(effect: Effect) -> bool:
    """By its own interval it would be a change; among all that is compared, it may be chance."""
    enough = effect.has_enough and not effect.is_within_rounding
    return not effect.is_clear and enough and not effect.interval.low <= 0 <= effect.interval.high


def _not_ruled_out(one: Retention | None) -> str:
    """The largest loss that the interval of a test set leaves possible."""
    if one is None or one.effect.interval.low >= 0:
        return ""
    return f"A loss of up to {points(-one.effect.interval.low)} points on {one.where} is not ruled out."


def _shown_less(line: Line) -> str:
    """That demonstrations help less than they help the base: in-context learning has weakened."""
    found = line.kept.demonstrations
    if found is None or not found.effect.is_clear or found.effect.value >= 0:
        return ""
    adds = f"{signed(found.ours.value)} points each, and {signed(found.base.value)} for the base"
    return f"Demonstrations help it less than the base outside: {adds} ({without_arrow(found.effect)})."


# --- what a checkpoint has lost ---------------------------------------------------------------------------------------


def of_checkpoints(results: Results, lines: Sequence[Line]) -> tuple[str, str]:
    """The answer to somebody who asks what existing checkpoints have lost."""
    known = [line for line in lines if line.changes]
    if not known:
        return "Nothing to compare yet.", ""
    losing = [line for line in known if line.losses or line.lost_sets]
    sets = len({test for line in known for test in line.kept.sets})
    if not losing and not sets:
        advice = "Nothing was tested outside the task that it was made for, so nothing is known of a loss there."
    elif not losing:
        advice = f"No loss is shown on {'this test set' if sets == 1 else f'these {sets} test sets'}."
    else:
        advice = f"{listed([line.name for line in losing])} {'loses' if len(losing) == 1 else 'lose'} beyond chance."
        if quiet := [line.name for line in known if line not in losing]:
            advice += f" No loss of {listed(quiet)} is shown."
    return advice, " ".join(filter(None, _of_each(results, known)))


def _of_each(results: Results, lines: Sequence[Line]) -> Iterator[str]:
    for line in lines:
        said = _not_ruled_out(line.kept.worst)
        yield f"{line.name}: {said[0].lower()}{said[1:]}" if said and len(lines) > 1 else said
    for line in lines:
        if found := results.nearly_base.get(line.kept.arm[0].key):
            yield f"{line.name} {found}. It may have learnt little, or its weights are not the ones that you mean."
    if not any(line.kept.gains for line in lines):
        yield (
            "The task that it was made for was not tested, so nothing is known of a gain: add its test rows, and give "
            "trained_on."
        )
    else:
        yield _largest_gain(lines)


def _largest_gain(lines: Sequence[Line]) -> str:
    """No gain is beyond chance: the largest that was seen, and what would show it."""
    inside = [(line, gain) for line in lines for gain in line.kept.gains if gain.effect.has_enough]
    why = "There is insufficient evidence of a gain."
    if not inside:
        return why
    line, gain = max(inside, key=lambda one: one[1].effect.value)
    if gain.effect.value <= 0:
        most = max(gain.effect.interval.high for _, gain in inside)
        limit = f"; a gain of up to {points(most)} points is not ruled out" if most > 0 else ""
        return f"{why} No variant scores above the base in-domain{limit}."
    takes = f" If it is real, {text} would show it." if (text := str(of_change(gain.effect))) else ""
    return f"{why} The largest is that of {line.name}: {without_arrow(gain.effect)} {gain.where}.{takes}"


# --- advice -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Advice:
    """What to do, in a few words, and `why`. `best` is the recipe to ship, by key, `steps` what to type for it."""

    first: str
    why: str = ""
    best: str | None = None
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True)
class Judge:
    """The rule, for the recipes of one training set."""

    results: Results
    lines: Sequence[Line]
    planned: Sequence[str]

    @property
    def keep(self) -> float | None:
        return self.results.grid.keep

    def advice(self) -> Advice:
        compared = [line for line in self.lines if line.changes]
        if not compared:
            return Advice("Nothing to compare yet.")
        gaining = [line for line in compared if line.gains]
        if not gaining:
            return self._no_gain(compared)
        unharmed = [line for line in gaining if not self._losses(line)]
        known = [line for line in unharmed if not self._unknown(line)]
        if safe := [line for line in known if not self._doubts(line)]:
            return self._ship(safe)
        if known:
            doubts = [f"{line.name} {self._doubts(line)}" for line in known]
            return Advice("Nothing to ship yet.", f"{'; '.join(doubts)}.{self._would_take(known)}")
        if unharmed:
            gaps = [f"{line.name} {listed(self._unknown(line))}" for line in unharmed]
            return Advice("Nothing to ship yet.", f"Too few rows have run to see the losses of {'; '.join(gaps)}.")
        return Advice("Nothing to ship without a choice.", f"Every gain comes with a loss. {self._trade(gaining)}.")

    def _losses(self, line: Line) -> list[str]:
        """Its losses, as the rule counts them, each in a few words."""
        inside = [c for c in line.losses if c.role == "in_domain"]
        if self.keep is None:
            outside = [c for c in line.losses if c not in inside]
            return _each([*inside, *outside]) or [f"{_by(one.effect)} on {one.where}" for one in line.lost_sets]
        keep, whole = self.keep, line.kept.outside
        broken = [f"{_share(one)} on {one.where}" for one in line.lost_sets if one.held(keep) is False]
        broken += [f"{_share(whole)} outside"] if whole and whole.held(keep) is False else []
        return _each(inside) + broken

    def _doubts(self, line: Line) -> str:
        """What might still be a loss."""
        if self.keep is None:
            some = [f"{c.where} ({without_arrow(c.effect)})" for c in line.possible_losses]
            return f"may lose {listed(some)}" if some else ""
        whole = line.kept.outside
        if whole is None:
            return f"was not tested elsewhere: whether it keeps {percent(self.keep)} is not known"
        if whole.held(self.keep):
            return ""
        return f"keeps {_share(whole)} outside: whether it is {percent(self.keep)} is not decided"

    def _would_take(self, lines: Sequence[Line]) -> str:
        if self.keep is None:
            needs = [of_change(change.effect) for line in lines for change in line.possible_losses]
        else:
            needs = [of_share(self.results, one, self.keep) for line in lines if (one := line.kept.outside)]
            if not needs:
                return " Add test sets other than its own."
        text = either(needs[:1])
        return f" To decide it takes {text}." if text else " More rows are needed to tell losses from chance."

    def _unknown(self, line: Line) -> list[str]:
        """Where nothing can be said of it: not run, failed, or too few documents."""
        known = {ROLE_TITLES[change.role] for change in line.changes if change.effect.has_enough}
        return [where for where in self.planned if where not in known]

    def _no_gain(self, compared: Sequence[Line]) -> Advice:
        changes = [change for line in compared for change in line.changes if change.effect.has_enough]
        if not changes:
            few = f"Nothing can be claimed from fewer than {MIN_ROWS} independent documents."
            return Advice("Evaluate more rows.", few)
        possible = any(gain.effect.interval.high > 0 for line in compared for gain in line.kept.gains)
        return Advice(f"Keep the base{', or evaluate more rows' if possible else ''}.", _largest_gain(compared))

    def _trade(self, traded: Sequence[Line]) -> str:
        """The two ends of the choice: the recipe that gains most, and the one that loses least."""
        most = max(traded, key=lambda line: max(change.effect.value for change in line.gains))
        least = max(traded, key=lambda line: line.kept.outside.effect.value if line.kept.outside else 0.0)
        if most is not least:
            return f"{most.name} gains most: it {self._both(most)}. {least.name} loses least: it {self._both(least)}"
        return f"{most.name} {'gains most and loses least: it ' if len(traded) > 1 else ''}{self._both(most)}"

    def _both(self, line: Line) -> str:
        gained = listed(_each(line.gains))
        outcome = listed(self._losses(line))
        return f"gains {gained} and {'loses' if self.keep is None else 'keeps too little:'} {outcome}"

    def _ship(self, safe: Sequence[Line]) -> Advice:
        """The recipe that gains most, where it gains, and what cannot be told from it."""
        top = max(safe, key=lambda line: (bool(line.kept.gains), line.least_gain))
        best, told = cheapest(self.results, top.kept, [line.kept for line in safe if line is not top])
        line = next(one for one in safe if one.kept is best)
        parts = [self._gained(line), self._kept(line), _not_ruled_out(line.kept.worst), _shown_less(line), *told]
        more, steps = self._elsewhere(line, safe)
        parts += [more, checkpoint(self.results, line.kept.arm)]
        steps += again(self.results, line.kept.arm)
        return Advice(f"Ship {line.name}.", " ".join(filter(None, parts)), line.kept.arm[0].recipe_key, tuple(steps))

    def _gained(self, line: Line) -> str:
        """Where it gains; in-domain by use, the least first."""
        uses = sorted((c for c in line.changes if c.role == "in_domain"), key=lambda c: c.effect.value)
        others = [f"{_by(c.effect)} {c.where}" for c in line.gains if c.role != "in_domain"]
        if len(uses) < 2:
            return f"It gains {listed([*(f'{_by(c.effect)} {c.where}' for c in uses if c in line.gains), *others])}."
        least, most = uses[0], uses[-1]
        unclear = "" if least in line.gains else " (insufficient evidence)"
        from_least = f"from {without_arrow(least.effect)} points {least.where}{unclear}"
        also = f" It gains {listed(others)}." if others else ""
        return f"Its change goes {from_least} to {without_arrow(most.effect)} {most.where}.{also}"

    def _kept(self, line: Line) -> str:
        whole = line.kept.outside
        if whole is None and not _outside(line):
            return "Nothing elsewhere was tested."
        if self.keep is None or whole is None:
            return "No loss is shown elsewhere."
        return (
            f"It keeps {_share(whole)} of the base's score outside, at least the {percent(self.keep)} that you ask for."
        )

    def _elsewhere(self, best: Line, safe: Sequence[Line]) -> tuple[str, list[Step]]:
        """Another recipe that gains more in one use, where the experiment does not say how the models will be used."""
        for gain in best.kept.gains if len(best.kept.gains) > 1 else ():
            rivals = [(other, same) for other in safe for same in other.kept.gains if same.ours == gain.ours]
            other, more = max(rivals, key=lambda one: one[1].effect.value)
            if other is not best:
                said = f"{other.name} gains more {more.where} ({without_arrow(more.effect)})."
                use = more.where.removeprefix("in-domain ")
                return said, [Step(f"If you will use the model {use}, say so in the experiment:", _yaml(gain))]
        return "", []


def _outside(line: Line) -> bool:
    """Whether anything but its own task was tested."""
    return bool(line.kept.sets) or any(change.role != "in_domain" for change in line.changes)


def _yaml(gain: Gain) -> str:
    return f"deploy: {{shots: {gain.ours.shots}, prompt: {gain.ours.prompt}}}"


def _share(one: Retention) -> str:
    """`97.1 % [94.0, 100.2]`."""
    if one.share is None or one.interval is None:
        return "an unknown share"
    return f"{percent(one.share)} [{percent(one.interval.low, '')}, {percent(one.interval.high, '')}]"

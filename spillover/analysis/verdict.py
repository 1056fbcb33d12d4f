"""Which variant to ship, in sentences: the same on the page, on the terminal and in Markdown.

For each training set its recipes are weighed against the base by their mean changes in-domain, out-of-domain and
cross-task (`summaries.recipe_changes`), and one rule, stated here and applied to nothing else, says what to do:

1. A recipe that gains somewhere and loses nowhere, both beyond chance, may be shipped, unless a change elsewhere looks
   like a loss by its own interval, before any correction. Of several, the one that gains most in-domain; those that
   cannot be told from it there are named, and so is the largest loss that its intervals leave possible.
2. Where every gain comes with a loss, there is nothing to ship without a choice, and the losses are named.
3. Where no gain is beyond chance there is insufficient evidence, which is said with the smallest effect that could have
   been found. Absence of a difference is never claimed.

Beyond chance means: after Holm over all the changes that the verdict speaks of, and from enough documents
(`contrasts.Effect.is_clear`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..experiment.factors import phrase
from ..experiment.suite import Role
from ..plan.grid import Variant
from ..stats import MIN_ROWS
from .clean_split import unscored
from .contrasts import Effect, adjusted, difference
from .effects import bounds, details, documents, noise
from .numbers import points, signed
from .results import ROLE_TITLES, ROLES, Results, recipe_name
from .summaries import Group, groups, recipe_changes


@dataclass(frozen=True)
class Change:
    """A recipe's change from the base over the test sets `where`."""

    where: str
    effect: Effect
    metrics: tuple[str, ...]

    @property
    def basis(self) -> str:
        """What it rests on, in a few words, and what seeds differ by."""
        sets = len(self.effect.tests)
        parts = [f"{sets} {'set' if sets == 1 else 'sets'}", documents(self.effect)]
        return ", ".join(parts + ([f"seeds {floor}"] if (floor := noise(self.effect)) else []))

    @property
    def details(self) -> str:
        return details(self.effect)


@dataclass(frozen=True)
class Line:
    """A recipe, how it came about, and what it gained and lost, in a sentence and in numbers."""

    name: str
    recipe: str
    sentence: str
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class Verdict:
    """What to do with the variants of one training set: `advice` in a few words, and why."""

    title: str
    advice: str
    why: str
    lines: tuple[Line, ...]


def verdicts(results: Results) -> list[Verdict]:
    """A verdict for each training set; none where only the base has run."""
    return [_verdict(results, group) for group in groups(results) if group.variants]


def recipe(variant: Variant) -> str:
    """How a variant came about, in a few words."""
    if variant.kind == "existing":
        known = f", on {variant.train_dataset}" if variant.train_dataset else ""
        return f"existing checkpoint{known}"
    spelled = {"strategy", "train_task", "train_kind"}
    parts = [phrase(name, value) for name, value in variant.factors.items() if name not in spelled and value]
    return ", ".join([(variant.strategy or "").upper(), *parts])


def _verdict(results: Results, group: Group) -> Verdict:
    arms = [arm for arm in results.recipes.values() if arm[0] in group.variants]
    overall = _overall(results, arms)
    lines = [_line(results, arm, overall) for arm in arms]
    planned = [ROLE_TITLES[role] for role, _ in group.columns if role]
    return Verdict(group.title, *_advice(results, arms, lines, planned), tuple(lines))


def _line(results: Results, arm: Sequence[Variant], overall: Mapping[str, Effect]) -> Line:
    name = recipe_name(arm)
    found = [recipe_changes(results).get((arm[0].recipe_key, role)) for role in ROLES]
    changes = [Change(ROLE_TITLES[one.role], one.change, one.metrics) for one in found if one]
    if not changes and name in overall:
        changes = [Change("over all test sets", overall[name], ())]
    seeds = f", {len(arm)} seeds" if len(arm) > 1 else f", seed {arm[0].seed}" if arm[0].seed is not None else ""
    return Line(name, recipe(arm[0]) + seeds, _sentence(changes), tuple(changes))


def _overall(results: Results, arms: Sequence[Sequence[Variant]]) -> dict[str, Effect]:
    """For checkpoints of which nobody said what they were trained on; after Holm over them."""
    base = results.cells_of_base
    unknown = [arm for arm in arms if not _has_roles(results, arm)]
    found = {recipe_name(arm): difference(results, results.cells_of(arm), base) for arm in unknown}
    known = {name: effect for name, effect in found.items() if effect}
    return dict(zip(known, adjusted(list(known.values())), strict=True))


def _has_roles(results: Results, arm: Sequence[Variant]) -> bool:
    return any(cell.role for cell in results.cells_of(arm))


# --- sentences --------------------------------------------------------------------------------------------------------


def _sentence(changes: Sequence[Change]) -> str:
    """What is beyond chance first, then what is not."""
    if not changes:
        return "Nothing to compare yet: it and the base have not run on the same cells."
    said = {
        "gains": [f"{_by(change.effect)} {change.where}" for change in changes if _is_gain(change)],
        "loses": [f"{_by(change.effect)} {change.where}" for change in changes if _is_loss(change)],
        "insufficient evidence": [f"{c.where} ({_unclear(c.effect)})" for c in changes if not c.effect.is_clear],
    }
    text = "; ".join(f"{verb} {_listed(parts)}" for verb, parts in said.items() if parts)
    return f"{text[0].upper()}{text[1:]}."


def _is_gain(change: Change) -> bool:
    return change.effect.is_clear and change.effect.value > 0


def _is_loss(change: Change) -> bool:
    return change.effect.is_clear and change.effect.value < 0


def _by(effect: Effect) -> str:
    """`14.6 points [+8.3, +20.8]`: the verb has said the sign."""
    return f"{points(abs(effect.value))} points {bounds(effect)}"


def _numbers(effect: Effect) -> str:
    return f"{signed(effect.value)} {bounds(effect)}"


def _unclear(effect: Effect) -> str:
    """An interval without zero that is no evidence needs a word why."""
    return f"{_numbers(effect)}{', but not after Holm' if _stands_alone(effect) else ''}"


def _where_and_how_much(change: Change) -> str:
    return f"{change.where} ({_numbers(change.effect)})"


def _stands_alone(effect: Effect) -> bool:
    """By its own interval it would be a change; among all that is compared, it may be chance."""
    return not effect.is_clear and effect.clusters >= MIN_ROWS and not effect.interval.low <= 0 <= effect.interval.high


def _listed(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


# --- advice -----------------------------------------------------------------------------------------------------------


def _advice(
    results: Results, arms: Sequence[Sequence[Variant]], lines: Sequence[Line], planned: Sequence[str]
) -> tuple[str, str]:
    compared = [line for line in lines if line.changes]
    if not compared:
        return "Nothing to compare yet.", ""
    gaining = [line for line in compared if _gains(line)]
    unharmed = [line for line in gaining if not _losses(line)]
    known = [line for line in unharmed if not _unknown(line, planned)]
    safe = [line for line in known if not _suspect(line)]
    if safe:
        return _ship(results, dict(zip([line.name for line in lines], arms, strict=True)), safe)
    if known:
        doubts = [f"{line.name} {_listed([_where_and_how_much(c) for c in _suspect(line)])}" for line in known]
        return "Nothing to ship yet.", f"What may be a loss needs more rows to tell: {'; '.join(doubts)}."
    if unharmed:
        gaps = [f"{line.name} {_listed(_unknown(line, planned))}" for line in unharmed]
        return "Nothing to ship yet.", f"Too little has run to see what is lost by {'; '.join(gaps)}."
    if gaining:
        return "Nothing to ship without a choice.", f"Every gain comes with a loss. {_trade(gaining)}."
    losing = [line.name for line in compared if _losses(line)]
    lost = f" {_listed(losing)} {'loses' if len(losing) == 1 else 'lose'} beyond chance." if losing else ""
    found = sorted(c.effect.mde for line in compared for c in line.changes if c.effect.clusters >= MIN_ROWS)
    if not found:
        return "Ask more rows.", f"Of fewer than {MIN_ROWS} independent documents nothing can be claimed."
    unseen = _unseen(found[len(found) // 2])
    return "Keep the base, or ask more rows.", f"There is insufficient evidence of a gain.{lost} {unseen}"


def _unseen(mde: float) -> str:
    """What this design would have missed; with two seeds and many comparisons that is anything."""
    what = f"Effects below some {points(mde)} points" if mde < 1 else "Effects of any size"
    return f"{what} would often have gone unseen."


def _unknown(line: Line, planned: Sequence[str]) -> list[str]:
    """Where nothing can be said of it: not run, failed, or too few documents."""
    known = {change.where for change in line.changes if change.effect.clusters >= MIN_ROWS}
    return [where for where in planned if where not in known]


def _trade(traded: Sequence[Line]) -> str:
    """The two ends of the choice: who gains most, and who loses least."""
    most = max(traded, key=lambda line: max(change.effect.value for change in _gains(line)))
    least = min(traded, key=lambda line: sum(-change.effect.value for change in _losses(line)))
    if most is least:
        return (
            f"{most.name} gains most and loses least: {_both(most)}"
            if len(traded) > 1
            else f"{most.name} {_both(most)}"
        )
    return f"{most.name} gains most: it {_both(most)}. {least.name} loses least: it {_both(least)}"


def _both(line: Line) -> str:
    gained, lost = (_listed([f"{_by(c.effect)} {c.where}" for c in some]) for some in (_gains(line), _losses(line)))
    return f"gains {gained} and loses {lost}"


def _ship(results: Results, arms: dict[str, Sequence[Variant]], safe: Sequence[Line]) -> tuple[str, str]:
    """The one that gains most, where it gains, and who cannot be told from it."""
    best = max(safe, key=lambda line: (line.changes[0].effect.is_clear, line.changes[0].effect.value))
    gained = _listed([f"{_by(change.effect)} {change.where}" for change in _gains(best)])
    text = f"It gains {gained}, and no loss shows elsewhere.{_possible_loss(best)}"
    others = [line for line in safe if line is not best]
    rivals = list(_rivals(results, arms[best.name], {line.name: arms[line.name] for line in others}))
    if rivals:
        text += f" {_where(results, arms[best.name])} cannot be told from {_listed(rivals)}."
    return f"Ship {best.name}.", text


def _possible_loss(line: Line) -> str:
    """No loss shown is not shown that there is no loss."""
    worst = min(line.changes, key=lambda change: change.effect.interval.low)
    low = worst.effect.interval.low
    return f" A loss of up to {points(-low)} points {worst.where} is not ruled out." if low < 0 else ""


def _where(results: Results, best: Sequence[Variant]) -> str:
    return "In-domain it" if _has_roles(results, best) else "It"


def _rivals(results: Results, best: Sequence[Variant], others: dict[str, Sequence[Variant]]) -> Iterator[str]:
    """Of the others, those whose difference from the best in-domain is within chance."""
    role: Role | None = "in_domain" if _has_roles(results, best) else None
    ours = results.cells_of(best, role)
    found = {name: difference(results, ours, results.cells_of(arm, role)) for name, arm in others.items()}
    known = {name: effect for name, effect in found.items() if effect}
    for name, effect in zip(known, adjusted(list(known.values())), strict=True):
        if not effect.is_clear:
            yield f"{name} ({_numbers(effect)})"


def _gains(line: Line) -> list[Change]:
    return list(filter(_is_gain, line.changes))


def _losses(line: Line) -> list[Change]:
    return list(filter(_is_loss, line.changes))


def _suspect(line: Line) -> list[Change]:
    return [change for change in line.changes if change.effect.value < 0 and _stands_alone(change.effect)]


def caveats(results: Results, found: Sequence[Verdict]) -> Iterator[str]:
    """What no verdict here knows, and which scores on clean rows there are not."""
    of_verdict = {v.title: [change.effect for line in v.lines for change in line.changes] for v in found}
    effects = [effect for those in of_verdict.values() for effect in those]
    once = [title for title, those in of_verdict.items() if any(effect.seeds == 1 for effect in those)]
    if once:
        where = "" if len(once) == len(found) else f" ({_listed(once)})"
        yield f"Trained once each{where}: this speaks of these checkpoints, not of another training of the same recipe."
    floors = [effect.noise_floor for effect in effects if effect.noise_floor is not None]
    if floors:
        yield (
            "Noise floor: beside each effect stands what two trainings of one recipe with other seeds differ by "
            f"(seeds ±), here up to {points(max(floors))} points."
        )
    without = [title for title, those in of_verdict.items() if any(effect.noise_floor is None for effect in those)]
    if without:
        yield f"One seed: no noise floor{f' ({_listed(without)})' if floors else ''}."
    yield from unscored(results.df)

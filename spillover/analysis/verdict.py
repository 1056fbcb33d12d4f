"""Which variant to ship, in sentences: the same on the page, on the terminal and in Markdown.

The recipes of a training set are compared with the base by their mean changes in-domain, out-of-domain and cross-task
(`summaries.recipe_changes`). One rule gives the advice:

1. A recipe may be shipped if it gains somewhere and loses nowhere, both beyond chance, and if no change looks like a
   loss by its own interval. Of several, the advice is the one that gains most in-domain. It names the others that are
   within chance of it, and the largest loss that the intervals leave possible.
2. If every gain comes with a loss, the reader has to choose, and the losses are named.
3. If no gain is beyond chance, there is insufficient evidence, and the advice names the smallest effect that could have
   been found. The absence of a difference is never claimed.

Beyond chance means: after Holm over all the changes that the verdict speaks of, and from enough documents
(`contrasts.Effect.is_clear`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..experiment.factors import phrase, spelled
from ..experiment.suite import Role
from ..plan.grid import Variant
from ..stats.intervals import MIN_ROWS
from .clean_split import unscored
from .contrasts import Effect, difference, together
from .endings import told
from .numbers import bounds, listed, points, without_arrow
from .results import ROLE_TITLES, ROLES, Results, recipe_name
from .summaries import Group, RoleChange, groups, recipe_changes

Arms = Mapping[str, Sequence[Variant]]
"""The trainings of each recipe, by the recipe's name."""


@dataclass(frozen=True)
class Line:
    """A recipe, how it was made, and its `changes` from the base."""

    name: str
    recipe: str
    changes: tuple[RoleChange, ...]

    @property
    def gains(self) -> list[RoleChange]:
        return [change for change in self.changes if change.effect.is_clear and change.effect.value > 0]

    @property
    def losses(self) -> list[RoleChange]:
        return [change for change in self.changes if change.effect.is_clear and change.effect.value < 0]

    @property
    def possible_losses(self) -> list[RoleChange]:
        return [change for change in self.changes if change.effect.value < 0 and _stands_alone(change.effect)]

    @property
    def sentence(self) -> str:
        """What is beyond chance first, then what is not."""
        if not self.changes:
            return "Nothing to compare yet: it and the base have not run on the same cells."
        unclear = [f"{c.where} ({_unclear(c.effect)})" for c in self.changes if not c.effect.is_clear]
        parts = {
            "gains": [f"{_by(change.effect)} {change.where}" for change in self.gains],
            "loses": [f"{_by(change.effect)} {change.where}" for change in self.losses],
            "insufficient evidence": unclear,
        }
        text = "; ".join(f"{verb} {listed(some)}" for verb, some in parts.items() if some)
        return f"{text[0].upper()}{text[1:]}."


@dataclass(frozen=True)
class Verdict:
    """What to do with the variants of one training set: `advice` in a few words, and why."""

    title: str
    advice: str
    why: str
    lines: tuple[Line, ...]


def verdicts(results: Results) -> list[Verdict]:
    """A verdict for each training set; none if only the base has run."""
    return [_verdict(results, group) for group in groups(results) if group.variants]


def recipe(variant: Variant) -> str:
    """How a variant was made, in a few words."""
    if variant.kind == "existing":
        return "existing checkpoint" + (f", on {variant.train_dataset}" if variant.train_dataset else "")
    left_out = {"strategy", "train_task", "train_kind"}  # the training set says the task
    parts = [phrase(name, value) for name, value in variant.factors.items() if name not in left_out and value]
    return ", ".join([spelled(variant.strategy or ""), *parts])


def _verdict(results: Results, group: Group) -> Verdict:
    arms = [arm for arm in results.recipes.values() if arm[0] in group.variants]
    overall = {one.recipe: one for one in together(_overall(results, arms))}
    lines = []
    for arm in arms:
        key = arm[0].recipe_key
        by_role = [recipe_changes(results)[key, role] for role in ROLES if (key, role) in recipe_changes(results)]
        changes = by_role or [overall[key]] if by_role or key in overall else []
        seeds = f", {len(arm)} seeds" if len(arm) > 1 else f", seed {arm[0].seed}" if arm[0].seed is not None else ""
        lines.append(Line(recipe_name(arm), recipe(arm[0]) + seeds, tuple(changes)))
    planned = [ROLE_TITLES[role] for role, _ in group.columns if role]
    return Verdict(
        group.title, *_advice(results, {recipe_name(arm): arm for arm in arms}, lines, planned), tuple(lines)
    )


def _overall(results: Results, arms: Iterable[Sequence[Variant]]) -> Iterator[RoleChange]:
    """The changes of checkpoints whose training set is not known: their test sets have no roles."""
    for arm in arms:
        effect = None if _has_roles(results, arm) else difference(results, results.cells_of(arm), results.cells_of_base)
        if effect is not None:
            yield RoleChange(arm[0].recipe_key, None, effect)


def _has_roles(results: Results, arm: Sequence[Variant]) -> bool:
    return any(cell.role for cell in results.cells_of(arm))


# --- effects in sentences ---------------------------------------------------------------------------------------------


def _by(effect: Effect) -> str:
    """`14.6 points [+8.3, +20.8]`: the verb before it says the sign."""
    return f"{points(abs(effect.value))} points {bounds(effect)}"


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
    enough = effect.clusters >= MIN_ROWS and not effect.is_within_rounding
    return not effect.is_clear and enough and not effect.interval.low <= 0 <= effect.interval.high


# --- advice -----------------------------------------------------------------------------------------------------------


def _advice(results: Results, arms: Arms, lines: Sequence[Line], planned: Sequence[str]) -> tuple[str, str]:
    compared = [line for line in lines if line.changes]
    if not compared:
        return "Nothing to compare yet.", ""
    gaining = [line for line in compared if line.gains]
    unharmed = [line for line in gaining if not line.losses]
    known = [line for line in unharmed if not _unknown(line, planned)]
    if safe := [line for line in known if not line.possible_losses]:
        return _ship(results, arms, safe)
    if known:
        doubts = [
            f"{line.name} {listed([f'{c.where} ({without_arrow(c.effect)})' for c in line.possible_losses])}"
            for line in known
        ]
        return "Nothing to ship yet.", f"More rows are needed to tell possible losses from chance: {'; '.join(doubts)}."
    if unharmed:
        gaps = [f"{line.name} {listed(_unknown(line, planned))}" for line in unharmed]
        return "Nothing to ship yet.", f"Too few cells have run to see the losses of {'; '.join(gaps)}."
    if gaining:
        return "Nothing to ship without a choice.", f"Every gain comes with a loss. {_trade(gaining)}."
    losing = [line.name for line in compared if line.losses]
    lost = f" {listed(losing)} {'loses' if len(losing) == 1 else 'lose'} beyond chance." if losing else ""
    found = sorted(c.effect.mde for line in compared for c in line.changes if c.effect.clusters >= MIN_ROWS)
    if not found:
        return "Evaluate more rows.", f"Nothing can be claimed from fewer than {MIN_ROWS} independent documents."
    mde = found[len(found) // 2]
    size = f"Effects below about {points(mde)} points" if mde < 1 else "Effects of any size"
    why = f"There is insufficient evidence of a gain.{lost} {size} would often go unseen."
    return "Keep the base, or evaluate more rows.", why


def _unknown(line: Line, planned: Sequence[str]) -> list[str]:
    """Where nothing can be said of it: not run, failed, or too few documents."""
    known = {change.where for change in line.changes if change.effect.clusters >= MIN_ROWS}
    return [where for where in planned if where not in known]


def _trade(traded: Sequence[Line]) -> str:
    """The two ends of the choice: the recipe that gains most, and the one that loses least."""
    most = max(traded, key=lambda line: max(change.effect.value for change in line.gains))
    least = min(traded, key=lambda line: sum(-change.effect.value for change in line.losses))
    if most is not least:
        return f"{most.name} gains most: it {_both(most)}. {least.name} loses least: it {_both(least)}"
    return f"{most.name} {'gains most and loses least: ' if len(traded) > 1 else ''}{_both(most)}"


def _both(line: Line) -> str:
    gained, lost = (listed([f"{_by(c.effect)} {c.where}" for c in some]) for some in (line.gains, line.losses))
    return f"gains {gained} and loses {lost}"


def _ship(results: Results, arms: Arms, safe: Sequence[Line]) -> tuple[str, str]:
    """The recipe that gains most, where it gains, and the recipes that cannot be told from it."""
    best = max(safe, key=lambda line: (line.changes[0].effect.is_clear, line.changes[0].effect.value))
    gained = listed([f"{_by(change.effect)} {change.where}" for change in best.gains])
    text = f"It gains {gained}, and no loss shows elsewhere."
    worst = min(best.changes, key=lambda change: change.effect.interval.low)
    if (low := worst.effect.interval.low) < 0:
        text += f" A loss of up to {points(-low)} points {worst.where} is not ruled out."
    role: Role | None = "in_domain" if _has_roles(results, arms[best.name]) else None
    if rivals := list(_rivals(results, role, best, [line for line in safe if line is not best], arms)):
        text += f" {'In-domain it' if role else 'It'} cannot be told from {listed(rivals)}."
    return f"Ship {best.name}.", f"{text} {_which_weights(results, arms[best.name])}".rstrip()


def _which_weights(results: Results, arm: Sequence[Variant]) -> str:
    """Which checkpoint is meant. Of several seeds it is the first: to choose by test scores would flatter it."""
    first = arm[0]
    if first.kind != "trained":
        return ""
    place = results.checkpoints.get(first.key)
    where = f"The weights are in {place}" if place else "The weights were not kept"
    if len(arm) == 1:
        return f"{where}."
    each = (
        f"It was trained {len(arm)} times, and the scores are means over these trainings; any of them may be shipped."
    )
    return f"{each} {where}, with seed {first.seed}." if place else f"{each} {where}."


def _rivals(results: Results, role: Role | None, best: Line, others: Iterable[Line], arms: Arms) -> Iterator[str]:
    """The others whose difference from the best, at one role or over all, is within chance."""
    ours = results.cells_of(arms[best.name], role)
    found = ((line.name, difference(results, ours, results.cells_of(arms[line.name], role))) for line in others)
    for one in together(RoleChange(name, role, effect) for name, effect in found if effect):
        if not one.effect.is_clear:
            yield f"{one.recipe} ({without_arrow(one.effect)})"


def caveats(results: Results, found: Sequence[Verdict]) -> Iterator[str]:
    """What no verdict here knows, and which scores on clean rows are missing."""
    of_verdict = {v.title: [change.effect for line in v.lines for change in line.changes] for v in found}
    effects = [effect for those in of_verdict.values() for effect in those]
    for variant in results.grid.variants:
        if variant.key in results.nearly_base:
            yield f"{variant.name} {results.nearly_base[variant.key]}."
    yield from _trained_once([line for verdict in found for line in verdict.lines if line.changes])
    floors = [effect.noise_floor for effect in effects if effect.noise_floor is not None]
    if floors:
        yield (
            "Noise floor: beside each effect stands how far two trainings of one recipe with other seeds differ "
            f"(seeds ±), here up to {points(max(floors))} points."
        )
    yield from told(results)
    without = [title for title, those in of_verdict.items() if any(effect.noise_floor is None for effect in those)]
    if without:
        yield f"One seed: no noise floor{f' ({listed(without)})' if floors else ''}."
    rounded = [effect.rounding_floor for effect in effects if effect.rounding_floor != 0]
    if measured := [floor for floor in rounded if floor is not None]:
        yield (
            "Rounding: texts were generated in bfloat16. Beside each effect stands what rounding alone may change "
            f"(rounding ±), here up to {points(max(measured))} points. A smaller effect is not called a change."
        )
    if None in rounded:
        yield (
            "Rounding: where no ± stands beside an effect in free text, its size is not known. None of the texts that "
            "were generated in both precisions differed, or the model did not fit into memory in float32."
        )
    yield from unscored(results.df)
    if bare := len(results.without_texts):
        yield (
            f"{bare} of {len(results.first_metric)} cells were imported as scores, without texts: they have no "
            "examples, confusion tables or counts of answers, and cannot be scored again or by other metrics."
        )


def _trained_once(compared: Sequence[Line]) -> Iterator[str]:
    """Of which recipes there is one training only."""
    once = [line.name for line in compared if any(change.effect.seeds == 1 for change in line.changes)]
    if once:
        which = "Trained once each" if len(once) == len(compared) else f"Trained once: {listed(once)}"
        yield f"{which}. This speaks of these checkpoints, not of another training of the same recipe."

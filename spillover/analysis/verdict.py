"""Which variant to ship, in sentences: the same on the page, on the terminal, in Markdown and in LaTeX.

The recipes of one training set are compared with the base. The first sentence names the largest loss and its cause. The
rest follows one rule (`advice`):

1. A gain is in-domain, in one use: as `deploy` says that the models will be asked, or in each tested use by itself. It
   is never a mean over uses. Out-of-domain, a gain is the mean over the test sets of that role.
2. A loss is on a test set that is not in-domain, over the mean of a role, or in-domain in one use.
3. A recipe may be shipped if it gains somewhere and loses nowhere, both beyond chance, if no mean over a role looks
   like a loss by its own interval, and if nothing that was planned is unknown. Under `ship.keep`, losses outside are
   allowed, if at least that share of the base's score is shown to be left over all test sets outside, and less is shown
   on none of them.
4. Of several, the one that gains most ships: as deployed, or else in the use in which it gains least. One that cannot
   be told from it, and whose gain is within two points of it, ships instead if it costs less, or if it costs the same
   and a smaller loss is possible.
5. If every gain comes with a loss, the reader has to choose. If no gain is beyond chance, there is insufficient
   evidence, and it is said how much more would decide. The absence of a difference is never claimed.

Beyond chance means: after Holm over all changes of the same kind in the report, and from enough documents
(`contrasts.Effect.is_clear`). Test rows that leak from the training set are left out (`Results.clean`), and it is said.
Of checkpoints that were not trained here, and of which no gain is shown, it is said what they have lost: that is what
was asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..experiment.factors import phrase, spelled
from ..plan.grid import Variant
from .advice import NOTHING, Advice, Judge, Line, of_checkpoints
from .checkpoints import Step
from .clean_split import unscored
from .deploy import asked_as
from .endings import told
from .losses import largest_loss, leaks
from .numbers import listed, points
from .results import ROLE_TITLES, ROLES, Results, recipe_name
from .retention import Kept, kept
from .summaries import Group, RoleChange, groups

NAMED = 6  # recipes in a caveat


@dataclass(frozen=True)
class Verdict:
    """What to do with the variants of one training set. `loss` is the largest loss, a sentence that comes first, or
    empty. Then the `advice` in a few words, and `why`. `best` is the recipe that the advice names, by key, and `steps`
    are what to type next."""

    title: str
    loss: str
    advice: str
    why: str
    lines: tuple[Line, ...]
    best: str | None = None
    steps: tuple[Step, ...] = ()

    @property
    def first(self) -> str:
        """What stands out: the largest loss, and the advice."""
        return f"{self.loss} {self.advice}".strip()


def verdicts(results: Results) -> list[Verdict]:
    """A verdict for each training set; none if only the base has run."""
    return [_verdict(results, group) for group in groups(results) if group.variants]


def recipe(variant: Variant) -> str:
    """How a variant was made, in a few words."""
    if variant.kind == "existing":
        return "existing checkpoint" + (f", on {variant.train_dataset}" if variant.train_dataset else "")
    left_out = {"strategy", "train_task", "train_kind"}  # the training set says the task
    left_out |= set() if variant.factors.get("train_shots") else {"train_shots"}
    parts = [phrase(name, value) for name, value in variant.factors.items() if name not in left_out]
    return ", ".join([spelled(variant.strategy or ""), *parts])


def _verdict(results: Results, group: Group) -> Verdict:
    variants = [variant for variant in group.variants if not variant.is_null]
    keys = dict.fromkeys(variant.recipe_key for variant in variants)
    lines = [_line(results, results.recipes[key], kept(results).get(key, NOTHING)) for key in keys]
    planned = [ROLE_TITLES[role] for role, _ in group.columns if role]
    loss = largest_loss(results, [line.kept for line in lines if line.kept.arm])
    if all(variant.kind == "existing" for variant in variants) and not any(line.gains for line in lines):
        found = Advice(*of_checkpoints(results, lines))
    else:
        found = Judge(results, lines, planned).advice()
    why = " ".join(filter(None, [found.why, *leaks(results, [line.kept for line in lines])]))
    return Verdict(group.title, loss, found.first, why, tuple(lines), found.best, found.steps)


def _line(results: Results, arm: tuple[Variant, ...], found: Kept) -> Line:
    key = arm[0].recipe_key
    changes = [RoleChange(key, "in_domain", gain.effect, gain.where) for gain in found.gains]
    changes += [
        RoleChange(key, role, found.roles[ROLE_TITLES[role]].effect)
        for role in ROLES[1:]
        if ROLE_TITLES[role] in found.roles
    ]
    if not any(cell.role for cell in results.cells_of(arm)) and found.outside:
        changes = [RoleChange(key, None, found.outside.effect)]
    seeds = f", {len(arm)} seeds" if len(arm) > 1 else f", seed {arm[0].seed}" if arm[0].seed is not None else ""
    return Line(recipe_name(arm), recipe(arm[0]) + seeds, tuple(changes), found)


# --- what no verdict here knows ---------------------------------------------------------------------------------------


def caveats(results: Results, found: Sequence[Verdict]) -> Iterator[str]:
    """What no verdict here knows, and which scores on clean rows are missing."""
    of_verdict = {v.title: [change.effect for line in v.lines for change in line.changes] for v in found}
    effects = [effect for those in of_verdict.values() for effect in those]
    yield from asked_as(results)
    yield from (choice.sentence for choice in results.choices)
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
    yield from unscored(results.df[~results.df["variant"].isin(results.nulls)])
    if bare := len(results.without_texts):
        yield (
            f"{bare} of {len(results.first_metric)} cells were imported as scores, without texts: they have no "
            "examples, confusion tables or counts of answers, and cannot be scored again or by other metrics."
        )


def _trained_once(compared: Sequence[Line]) -> Iterator[str]:
    """Of which recipes there is one training only."""
    once = [line.name for line in compared if any(change.effect.seeds == 1 for change in line.changes)]
    if once:
        which = "Trained once each" if len(once) == len(compared) else f"Trained once: {listed(once, NAMED)}"
        yield f"{which}. This speaks of these checkpoints, not of another training of the same recipe."

"""Every effect that the report shows, family by family; `docs/statistics.md` lists the families.

The effects of a family are shown together, so they are corrected together (Holm). `tidy` has a row for each effect with
all that is known of it: effects.csv.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import pandas as pd

from ..experiment.factors import FACTORS, Value
from ..plan.grid import Cell, Variant
from .contrasts import Effect, by_shots, interaction, outcome, prompt_gap, slope, together
from .points import comparable_rates
from .results import ROLE_TITLES, ROLES, Results, recipe_name
from .retention import kept
from .summaries import matrix, recipe_changes


@dataclass(frozen=True)
class EffectRow:
    """One effect of a recipe, whose trainings are `variants`.

    `less` names what is subtracted. `where` is a role's title, two of them, or a test set. `shots`: None for all.
    """

    family: str
    variants: tuple[Variant, ...]
    less: str
    where: str
    shots: int | None
    effect: Effect

    @property
    def name(self) -> str:
        return recipe_name(self.variants)


@lru_cache(maxsize=1)  # the page and effects.csv ask for the same
def families(results: Results) -> dict[str, list[EffectRow]]:
    """The families that have any effect, each corrected in itself."""
    found = {
        "test_set": list(_test_sets(results)),  # these are corrected already
        "role": list(_roles(results)),
        "use": list(_uses(results)),
        "interaction": _together(_interactions(results)),
        "slope": _together(_slopes(results)),
        **{family_of(*pair): together(_against(results, *pair)) for pair in compared_strategies(results).items()},
        "prompt": _together(_prompts(results)),
    }
    return {name: rows for name, rows in found.items() if rows}


def _together(rows: Iterable[EffectRow]) -> list[EffectRow]:
    return together(rows, is_null=lambda one: one.variants[0].is_null)


def compared_strategies(results: Results) -> dict[str, str]:
    """By strategy, the strategy that it is compared with, of those that have one."""
    return {v.strategy: v.against for v in results.grid.variants if v.strategy and v.against}


def family_of(strategy: str, other: str) -> str:
    """The name of the family in which a strategy is compared with another."""
    return f"{strategy} less {other}"


def _arms(results: Results) -> list[tuple[Variant, ...]]:
    """The recipes but for the base, each as its trainings."""
    return [variants for variants in results.recipes.values() if variants[0] != results.base]


def _by_role(results: Results) -> Iterator[tuple[tuple[Variant, ...], str, list[Cell]]]:
    """Recipes, titles of roles and the recipe's cells there."""
    for variants, role in product(_arms(results), ROLES):
        yield variants, ROLE_TITLES[role], results.cells_of(variants, role)


def _test_sets(results: Results) -> Iterator[EffectRow]:
    for entry in matrix(results).values():
        if entry.change is not None:
            yield EffectRow("test_set", (results.variants[entry.variant],), "base", entry.test, None, entry.change)


def _roles(results: Results) -> Iterator[EffectRow]:
    for change in recipe_changes(results).values():
        yield EffectRow("role", results.recipes[change.recipe], "base", change.where, None, change.effect)


def _uses(results: Results) -> Iterator[EffectRow]:
    """What the verdict calls a gain: in-domain, in each use, without the rows that leak."""
    for recipe, found in kept(results).items():
        for gain in found.gains:
            less = "base" if gain.theirs == gain.ours else f"base at {gain.theirs}"
            where = f"{ROLE_TITLES['in_domain']}, {gain.ours.prompt}"
            yield EffectRow("use", results.recipes[recipe], less, where, gain.ours.shots, gain.effect)


def _interactions(results: Results) -> Iterator[EffectRow]:
    for variants, role in product(_arms(results), ROLES[1:]):
        where = f"{ROLE_TITLES['in_domain']} − {ROLE_TITLES[role]}"
        if effect := interaction(results, results.cells_of(variants), results.cells_of_base, role):
            yield EffectRow("interaction", variants, "base", where, None, effect)


def _slopes(results: Results) -> Iterator[EffectRow]:
    base = results.cells_of_base
    for variants, where, cells in _by_role(results) if base else ():
        if effect := slope(results, cells, base):
            yield EffectRow("slope", variants, "base", where, None, effect)


def _against(results: Results, strategy: str, other: str) -> Iterator[EffectRow]:
    """A strategy less the one that it is compared with, on the same training rows."""
    for variants in _arms(results):
        partners = _partners(results, variants[0]) if variants[0].strategy == strategy else []
        less = _named(partners, _rate(variants[0]))
        roles = ROLES if variants[0].train_dataset else (None,)  # a checkpoint's training set may not be known
        for role in roles if partners else ():
            theirs = [cell for partner in partners for cell in results.cells_of(partner, role)]
            for shots, effect in by_shots(results, results.cells_of(variants, role), theirs).items():
                where = ROLE_TITLES[role] or "all test sets"
                yield EffectRow(family_of(strategy, other), variants, less, where, shots, effect)


def _partners(results: Results, ours: Variant) -> list[tuple[Variant, ...]]:
    """The recipes that a variant is compared with, at the learning rates that a claim would compare with."""
    named = [arm for arm in _arms(results) if (arm[0].strategy or arm[0].name) == ours.against]
    partners = [arm for arm in named if _rows(arm[0]) == _rows(ours)]
    rates = comparable_rates(_rate(ours), [_rate(arm[0]) for arm in partners])
    return [arm for arm in partners if _rate(arm[0]) in rates]


def _rows(variant: Variant) -> dict[str, Value]:
    """What says which rows a variant was trained on."""
    return {name: value for name, value in variant.factors.items() if FACTORS[name].of_rows}


def _rate(variant: Variant) -> Value | None:
    return variant.factors.get("learning_rate")


def _named(recipes: list[tuple[Variant, ...]], rate: Value | None) -> str:
    """What is subtracted, with its learning rate if that is not `rate`."""
    others = [(recipe_name(variants), _rate(variants[0])) for variants in recipes]
    return " and ".join(name if other == rate else f"{name} (learning rate {other})" for name, other in others)


def _prompts(results: Results) -> Iterator[EffectRow]:
    names = formats(results)
    for other in names[1:]:
        for variants, where, cells in _by_role(results):
            if effect := prompt_gap(results, cells, names[0], other):
                yield EffectRow("prompt", variants, other, where, None, effect)


def formats(results: Results) -> list[str]:
    """The prompt formats, in the grid's order."""
    return list(dict.fromkeys(cell.prompt for cell in results.grid.cells))


COLUMNS = (
    *("family", "recipe", "less", "where", "shots"),
    *("value", "ci_low", "ci_high", "sets_ci_low", "sets_ci_high", "p_value", "p_adjusted", "outcome"),
    *("n", "clusters", "test_sets", "seeds", "draws", "mde", "noise_floor", "rounding_floor"),
)


def tidy(results: Results) -> pd.DataFrame:
    """A row for each effect, in scores from 0 to 1.

    `sets_ci_low` and `sets_ci_high` end the interval that takes test sets for a sample of such sets.
    """
    rows = [_values(row) for family in families(results).values() for row in family]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"shots": "Int64"})


def _values(row: EffectRow) -> tuple[object, ...]:
    e = row.effect
    sets = (None, None) if e.interval_over_sets is None else (e.interval_over_sets.low, e.interval_over_sets.high)
    return (
        *(row.family, row.name, row.less, row.where, row.shots),
        *(e.value, e.interval.low, e.interval.high, *sets, e.p, e.p_adjusted, outcome(e)),
        *(e.n, e.clusters, len(e.tests), e.seeds, e.draws, e.mde, e.noise_floor, e.rounding_floor),
    )

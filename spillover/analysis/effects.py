"""Every effect that the report shows, family by family, and how one is written wherever it stands.

| family | what it is |
| --- | --- |
| `test_set` | a variant less the base on one test set: the matrix |
| `role` | a recipe less the base, mean over the test sets of a role: what the outcome rests on |
| `interaction` | that change in-domain less the one out-of-domain, and less the one cross-task |
| `slope` | points for each further demonstration, less what the base has from it: in-context learning that is left |
| `fticl` | FTICL less FT on the same training rows, by role and number of shots |
| `prompt` | the first prompt format less another, by role |

A family stands together on the page, so it is corrected together (Holm). An effect is never written without its
interval, nor without the noise floor where one is known: a change smaller than what two trainings of one recipe differ
by may be the seed's doing. `tidy` has all that an effect knows of itself, a row each: effects.csv.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product

import pandas as pd

from ..experiment.factors import FACTORS, Value
from ..plan.grid import Cell, Variant
from .contrasts import Effect, adjusted, by_shots, interaction, outcome, prompt_gap, slope
from .numbers import points, signed, signed_interval
from .points import comparable_rates
from .results import ROLE_TITLES, ROLES, Results, recipe_name
from .summaries import matrix, recipe_changes


@dataclass(frozen=True)
class EffectRow:
    """One effect: of the `variants` that are the trainings of a recipe, less what is named by `less`, and `where` (a
    role's title, two of them, or a test set), at a number of shots or over all (None)."""

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
    """The families that there is anything of, each corrected in itself."""
    found = {
        "test_set": list(_test_sets(results)),  # these two are corrected already
        "role": list(_roles(results)),
        "interaction": _together(_interactions(results)),
        "slope": _together(_slopes(results)),
        "fticl": _together(_fticl(results)),
        "prompt": _together(_prompts(results)),
    }
    return {name: rows for name, rows in found.items() if rows}


def _arms(results: Results) -> list[tuple[Variant, ...]]:
    """The recipes but for the base, each as its trainings."""
    return [variants for variants in results.recipes.values() if variants[0] != results.base]


def _by_role(results: Results) -> Iterator[tuple[tuple[Variant, ...], str, list[Cell]]]:
    """Recipes, titles of roles and the recipe's cells there."""
    for variants, role in product(_arms(results), ROLES):
        yield variants, ROLE_TITLES[role], results.cells_of(variants, role)


def _together(rows: Iterable[EffectRow]) -> list[EffectRow]:
    rows = list(rows)
    effects = adjusted([row.effect for row in rows])
    return [replace(row, effect=effect) for row, effect in zip(rows, effects, strict=True)]


def _test_sets(results: Results) -> Iterator[EffectRow]:
    for entry in matrix(results).values():
        if entry.change is not None:
            yield EffectRow("test_set", (results.variants[entry.variant],), "base", entry.test, None, entry.change)


def _roles(results: Results) -> Iterator[EffectRow]:
    for (recipe, role), change in recipe_changes(results).items():
        yield EffectRow("role", results.recipes[recipe], "base", ROLE_TITLES[role], None, change.change)


def _interactions(results: Results) -> Iterator[EffectRow]:
    base = results.cells_of_base
    for variants, role in product(_arms(results), ROLES[1:]):
        effect = interaction(results, results.cells_of(variants), base, role)
        if effect is not None:
            where = f"{ROLE_TITLES['in_domain']} − {ROLE_TITLES[role]}"
            yield EffectRow("interaction", variants, "base", where, None, effect)


def _slopes(results: Results) -> Iterator[EffectRow]:
    base = results.cells_of_base
    for variants, where, cells in _by_role(results) if base else ():
        effect = slope(results, cells, base)
        if effect is not None:
            yield EffectRow("slope", variants, "base", where, None, effect)


def _fticl(results: Results) -> Iterator[EffectRow]:
    for variants in _arms(results):
        plain = _partners(results, variants[0]) if variants[0].strategy == "fticl" else []
        less = _named(plain, _rate(variants[0]))
        for role in ROLES if plain else ():
            theirs = [cell for twin in plain for cell in results.cells_of(twin, role)]
            for shots, effect in by_shots(results, results.cells_of(variants, role), theirs).items():
                yield EffectRow("fticl", variants, less, ROLE_TITLES[role], shots, effect)


def _partners(results: Results, ours: Variant) -> list[tuple[Variant, ...]]:
    """What a variant is compared with: its partner strategy on the same rows, at the rates that a claim would take."""
    twins = [
        variants
        for variants in _arms(results)
        if variants[0].strategy == ours.against and _rows(variants[0]) == _rows(ours)
    ]
    rates = comparable_rates(_rate(ours), [_rate(twin[0]) for twin in twins])
    return [twin for twin in twins if _rate(twin[0]) in rates]


def _rows(variant: Variant) -> dict[str, Value]:
    return {name: value for name, value in variant.factors.items() if FACTORS[name].of_rows}


def _rate(variant: Variant) -> float | None:
    found = variant.factors.get("learning_rate")
    return None if found is None else float(found)


def _named(recipes: Iterable[tuple[Variant, ...]], rate: float | None) -> str:
    """What is subtracted, with its learning rate where that is another than `rate`."""
    others = [(recipe_name(variants), _rate(variants[0])) for variants in recipes]
    return " and ".join(name if other == rate else f"{name} (learning rate {other})" for name, other in others)


def _prompts(results: Results) -> Iterator[EffectRow]:
    names = formats(results)
    for other in names[1:]:
        for variants, where, cells in _by_role(results):
            effect = prompt_gap(results, cells, names[0], other)
            if effect is not None:
                yield EffectRow("prompt", variants, other, where, None, effect)


def formats(results: Results) -> list[str]:
    """The prompt formats, in the grid's order."""
    return list(dict.fromkeys(cell.prompt for cell in results.grid.cells))


# --- in words ---------------------------------------------------------------------------------------------------------


def written(effect: Effect) -> str:
    """`▲ +4.1 [+1.0, +7.2; seeds ±2.0]`; without an arrow there is insufficient evidence."""
    arrow = ("▲ " if effect.value > 0 else "▼ ") if effect.is_clear else ""
    return f"{arrow}{signed(effect.value)} {bounds(effect)}"


def bounds(effect: Effect) -> str:
    """The interval, and the noise floor where it is known."""
    ends = signed_interval(effect.interval)
    return f"{ends[:-1]}; seeds {floor}]" if (floor := noise(effect)) else ends


def noise(effect: Effect) -> str:
    """What two trainings of one recipe with other seeds differ by, as `±2.0`."""
    return "" if effect.noise_floor is None else f"±{points(effect.noise_floor)}"


def documents(effect: Effect) -> str:
    """`n 24`, and how many of them are independent where some hang together."""
    return f"n {effect.n}" + (f" in {effect.clusters} components" if effect.clusters < effect.n else "")


def details(effect: Effect) -> str:
    """What an effect rests on, and what else is to be known of it."""
    count = len(effect.tests)
    parts = [f"{count} test {'set' if count == 1 else 'sets'}, {documents(effect)}"]
    if effect.seeds:
        parts.append(f"{effect.seeds} training {'seed' if effect.seeds == 1 else 'seeds'}")
    if (over_sets := effect.interval_over_sets) is not None:
        parts.append(f"{signed_interval(over_sets)} for test sets like these, not these alone")
    if effect.noise_floor is not None:
        parts.append(f"noise floor {points(effect.noise_floor)}")
    parts.append(f"80 % power from {points(effect.mde)}" if effect.mde < 1 else "80 % power for no effect")
    return "; ".join(parts)


# --- as rows ----------------------------------------------------------------------------------------------------------


COLUMNS = (
    *("family", "recipe", "less", "where", "shots"),
    *("value", "ci_low", "ci_high", "sets_ci_low", "sets_ci_high", "p_value", "p_adjusted", "outcome"),
    *("n", "clusters", "test_sets", "seeds", "draws", "mde", "noise_floor"),
)


def tidy(results: Results) -> pd.DataFrame:
    """A row for each effect, in scores from 0 to 1. `sets_ci_low` and `sets_ci_high` end the interval that takes test
    sets for a sample of such sets."""
    rows = [_values(row) for family in families(results).values() for row in family]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"shots": "Int64"})


def _values(row: EffectRow) -> tuple[object, ...]:
    e = row.effect
    sets = (None, None) if e.interval_over_sets is None else (e.interval_over_sets.low, e.interval_over_sets.high)
    return (
        *(row.family, row.name, row.less, row.where, row.shots),
        *(e.value, e.interval.low, e.interval.high, *sets, e.p, e.p_adjusted, outcome(e)),
        *(e.n, e.clusters, len(e.tests), e.seeds, e.draws, e.mde, e.noise_floor),
    )

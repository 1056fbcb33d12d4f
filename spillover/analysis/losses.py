"""The largest loss of some recipes as a sentence, and which test rows had to be left out because they leak.

Both come before all advice: the first is what a reader must not miss, the second is what the numbers do not rest on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..stats.intervals import MIN_ROWS
from .causes import cause
from .contrasts import Effect
from .deploy import Gain
from .numbers import bounds, counted, points
from .results import Results, recipe_name
from .retention import Kept, Retention


def largest_loss(results: Results, recipes: Sequence[Kept]) -> str:
    """The largest loss beyond chance, in numbers, with its cause; empty if there is none.

    On a test set, or in-domain in one use; the mean over a role counts only where no single set shows a loss.
    """
    of_sets = [(one, found) for one in recipes for found in one.sets.values() if _is_loss(found.effect)]
    inside = [(one, gain) for one in recipes for gain in one.gains if _is_loss(gain.effect)]
    means = [(one, found) for one in recipes for found in one.roles.values() if _is_loss(found.effect)]
    losses: list[tuple[Kept, Retention | Gain]] = [*of_sets, *inside] or [*means]
    if not losses:
        return ""
    recipe, loss = min(losses, key=lambda one: one[1].effect.value)
    where, why = loss.where, ""
    if isinstance(loss, Retention) and of_sets:
        where, why = f"on {loss.where}", cause(results.clean, recipe.arm, loss.where).sentence
    elif isinstance(loss, Retention):
        where = f"{loss.where}, as a mean over {counted(len(loss.tests), 'test set')} of which none shows it alone"
    lost = f"{points(-loss.effect.value)} points {bounds(loss.effect)}"
    return f"{recipe_name(recipe.arm)} loses {lost} {where}{f': {why}' if why else ''}."


def _is_loss(effect: Effect) -> bool:
    return effect.is_clear and effect.value < 0


def leaks(results: Results, recipes: Sequence[Kept]) -> Iterator[str]:
    """A sentence for each test set of which rows leak from the training set of these recipes."""
    arms = [variant for one in recipes for variant in one.arm]
    for train_dataset in filter(None, dict.fromkeys(variant.train_dataset for variant in arms)):
        for test, gone in results.leaked.get(train_dataset, {}).items():
            cells = [c for c in results.cells_of(arms) if c.test == test and c.key in results.first_metric]
            before, left = (
                max((len(some.first_metric[c.key].doc_ids) for c in cells if c.key in some.first_metric), default=0)
                for some in (results, results.clean)
            )
            if gone and left < before:
                gone_rows = f"{before - left} of the {before} rows of {test}"
                yield f"Left out, since they leak from the training rows: {gone_rows}; {_fate(left)}."


def _fate(left: int) -> str:
    if left >= MIN_ROWS:
        return f"this rests on the other {left}"
    return f"the other {left} are too few for any claim" if left else "nothing can be said of this set"

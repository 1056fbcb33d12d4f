"""Which variants are alternatives of one choice, and which of them are asked the test sets.

A variant knows the choices that it is a candidate of (`Variant.choices`). A candidate of a choice is a recipe: all its
seeds are chosen together. What was chosen is found from validation cells (`analysis.choices`), not here.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace

from .grid import Variant

ASKED_ANYWAY = ""
"""Among a variant's choices: the experiment also names it where nothing is to be chosen."""

Chosen = Mapping[str, str]
"""The recipe key of what was chosen, by the name of the choice. A choice that cannot be made yet is not in it."""


def candidates(variants: Iterable[Variant]) -> dict[str, dict[str, list[Variant]]]:
    """The variants of each choice, by recipe key."""
    found: dict[str, dict[str, list[Variant]]] = {}
    for variant in variants:
        for name in variant.choices:
            if name != ASKED_ANYWAY:
                found.setdefault(name, {}).setdefault(variant.recipe_key, []).append(variant)
    return found


def of_both(one: Variant, same: Variant) -> Variant:
    """A variant that the experiment names twice: a candidate of the choices of both."""
    names = dict.fromkeys(name for each in (one, same) for name in each.choices or (ASKED_ANYWAY,))
    return replace(one, choices=() if list(names) == [ASKED_ANYWAY] else tuple(names))


def only_of(variant: Variant, choices: Container[str]) -> Variant:
    """A variant as a candidate of these choices only. The others have one candidate, so that nothing is chosen."""
    if not variant.choices:
        return variant
    kept = [name if name in choices else ASKED_ANYWAY for name in variant.choices]
    return replace(variant, choices=() if set(kept) == {ASKED_ANYWAY} else tuple(dict.fromkeys(kept)))


def unasked(variants: Sequence[Variant], chosen: Chosen) -> frozenset[str]:
    """The keys of the variants that are not asked the test sets, as far as is known: not chosen, or not yet.

    A random change is compared with what comes from the same training. It is asked if something of that is.
    """
    out = {
        variant.key
        for variant in variants
        if variant.choices
        and ASKED_ANYWAY not in variant.choices
        and all(chosen.get(name) != variant.recipe_key for name in variant.choices)
    }
    of_training: dict[str, list[str]] = {}
    for one in variants:
        for training in () if one.is_null else (one.key, *one.made_from):
            of_training.setdefault(training, []).append(one.key)
    for null in variants:
        beside = [key for training in null.made_from for key in of_training.get(training, ())] if null.is_null else []
        if beside and out.issuperset(beside):
            out.add(null.key)
    return frozenset(out)


def awaiting(variants: Iterable[Variant], chosen: Chosen) -> frozenset[str]:
    """The keys of the variants that may be chosen yet."""
    open_ones = ((one, [name for name in one.choices if name not in (ASKED_ANYWAY, *chosen)]) for one in variants)
    return frozenset(one.key for one, names in open_ones if names)


def expected(variants: Sequence[Variant], chosen: Chosen) -> frozenset[str]:
    """The same as if every choice were made: in place of what is not known yet stands the first candidate."""
    first = {name: next(iter(recipes)) for name, recipes in candidates(variants).items()}
    return unasked(variants, {**first, **chosen})

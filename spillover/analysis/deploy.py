"""How base and variants will be asked once they are in use, and what a variant then gains.

The YAML's `deploy` says it for the task that was trained for: a number of demonstrations and a prompt format, for the
base and for the variants. The gain is the variant as it will be asked against the base as *it* would be asked, which
may be with more demonstrations. Without `deploy`, every condition that was tested is a use of its own: base and variant
are compared in each, and no mean over them is taken, because a mean hides a use that does not work.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter

from ..plan.grid import Cell, Use, Variant
from .contrasts import Effect, across, difference, finished
from .numbers import listed
from .results import Results, grouped, recipe_name

NAMED = 6  # recipes that a sentence names


@dataclass(frozen=True)
class Gain:
    """The change of a recipe on its in-domain sets, in one use. `theirs` is how the base is asked.

    `named` says the use in a few words, as far as tests differ in it; empty if there is only one.
    """

    recipe: str
    ours: Use
    theirs: Use
    effect: Effect
    named: str = ""

    @property
    def where(self) -> str:
        """`in-domain at 0 shots`."""
        return f"in-domain{self.named}"


def deployed(results: Results, variant: Variant, trained_on: str | None = None) -> Use | None:
    """How a variant, or the base, will be asked; None if the experiment does not say.

    `trained_on` is the training set whose task it will be asked: the variant's own if none is given. With
    `deploy: best` it is the use that was best on validation rows of that set.
    """
    deploy = results.grid.deploy
    if deploy is None:
        return None
    if deploy == "best":
        return results.best_uses.get((variant.recipe_key, trained_on or variant.train_dataset or ""))
    return deploy.base if variant.kind == "base" else deploy.variant


def asked_as(results: Results) -> Iterator[str]:
    """How the base and the recipes of each training set are asked, if the experiment has `deploy`.

    Training sets that are asked alike share a sentence.
    """
    best = results.grid.deploy == "best"
    arms = [arm for arm in results.recipes.values() if arm[0].train_dataset and not arm[0].is_null]
    said: dict[str, list[str]] = {}
    for name, alike in grouped(arms, lambda arm: str(arm[0].train_dataset)).items():
        of_base = deployed(results, results.base, name) if results.base else None
        found = [(use, recipe_name(arm)) for arm in alike if (use := deployed(results, arm[0]))]
        if of_base and found:
            uses = grouped(found, itemgetter(0))
            ours = [f"{listed([one for _, one in some], NAMED)} at {use}" for use, some in sorted(uses.items())]
            if len(uses) == 1 < len(found):
                ours = [f"every variant at {found[0][0]}"]
            said.setdefault("; ".join([f"the base at {of_base}", *ours]), []).append(name)
    how = "each model is asked as it scores best on validation rows" if best else "as the experiment says"
    for asked, names in said.items():
        yield f"For the gain on {listed(names)}, {how}: {asked}. Tables of scores have means over all that was tested."


def gains(results: Results, arm: Sequence[Variant]) -> Iterator[Gain]:
    """What a recipe changes in-domain: in the use that `deploy` names, or in each use by itself."""
    ours = [cell for cell in finished(results, results.cells_of(arm)) if cell.role == "in_domain"]
    tests = {cell.test for cell in ours}
    theirs = [cell for cell in results.cells_of_base if cell.test in tests]
    recipe, uses = arm[0].recipe_key, sorted({Use.of(cell) for cell in ours})
    own = deployed(results, arm[0])
    of_base = deployed(results, results.base, arm[0].train_dataset) if results.base else None
    if own and of_base:
        effect = across(results, asked(ours, own), asked(theirs, of_base))
        if effect is not None:
            there = f" (the base{_named(of_base, (own, of_base))})" if own != of_base else ""
            yield Gain(recipe, own, of_base, effect, f"{_named(own, (*uses, of_base))}{there}")
        return
    for use in uses:
        effect = difference(results, asked(ours, use), asked(theirs, use))
        if effect is not None:
            yield Gain(recipe, use, use, effect, _named(use, uses))


def _named(use: Use, among: Sequence[Use]) -> str:
    """` at 0 shots, p1`, without what is the same in all of them."""
    shots = [f"{use.shots} {'shot' if use.shots == 1 else 'shots'}"] if len({one.shots for one in among}) > 1 else []
    prompt = [use.prompt] if len({one.prompt for one in among}) > 1 else []
    return f" at {', '.join(shots + prompt)}" if shots or prompt else ""


def asked(cells: Sequence[Cell], use: Use) -> list[Cell]:
    """The cells of one use, with all draws of its demonstrations."""
    return [cell for cell in cells if Use.of(cell) == use]

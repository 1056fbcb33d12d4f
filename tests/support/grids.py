"""Parts of a grid, written in one line: trained variants, cells and test sets that nothing was run for."""

from __future__ import annotations

from dataclasses import replace

from spillover.experiment.strategy import STRATEGIES
from spillover.experiment.suite import Role
from spillover.plan.grid import Cell, Condition, TestInfo, Variant
from spillover.text.task import FIVE


def trained(
    name: str,
    strategy: str,
    dataset: str,
    task: str,
    *,
    shots: int = 0,
    size: int = 500,
    rate: float | None = 2e-5,
    seed: int = 0,
    key: str = "",
    recipe: str = "",
) -> Variant:
    """A trained variant. `recipe` is what its seeds have in common; left out, it has no other seeds."""
    factors: dict[str, str | int | float] = {
        "strategy": strategy,
        "train_dataset": dataset,
        "train_task": task,
        "train_kind": FIVE[task].kind if task in FIVE else "generation",
        "train_size": size,
        "train_shots": shots,
    }
    factors |= {} if rate is None else {"learning_rate": rate}
    against = STRATEGIES[strategy].against if strategy in STRATEGIES else None
    return Variant(key or name, name, "trained", factors, seed, recipe, against)


def other(variant: Variant, key: str, name: str = "", **factors: str | int | float) -> Variant:
    """The variant with other factors: a recipe of its own."""
    return replace(variant, key=key, name=name or key, factors={**variant.factors, **factors}, recipe_key=key)


def cell(
    key: str, variant: str, test: str, task: str, role: Role | None, shots: int, prompt: str, n: int, draw: int = 0
) -> Cell:
    return Cell(key, variant, Condition(test, prompt, shots, draw), task, role, n)


def info(name: str, task: str, n: int, metrics: tuple[str, ...] = (), title: str = "") -> TestInfo:
    """What a table says of a test set; of a task that is none of the five, free text."""
    known = FIVE.get(task)
    if known is None:
        return TestInfo(name, title, task, "generation", None, metrics, "", n)
    return TestInfo(name, title, task, known.kind, known.labels, metrics or known.metrics, "", n)

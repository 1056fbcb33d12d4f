"""How the models will be asked: read from the YAML, and refused where it is not tested."""

from __future__ import annotations

from typing import Any

import grids
import pytest
from plans import experiment

from spillover.errors import ExperimentError
from spillover.experiment.schema import parse_experiment
from spillover.plan.deploy import deploy_of
from spillover.plan.grid import Cell, Deploy, Use


def cells(**shots: tuple[int, ...]) -> list[Cell]:
    """In-domain cells by test set in the formats p1 and p2, and an outside set that is asked at 9 shots alone."""
    inside = [
        grids.cell(f"{test} {k} {p}", "v", test, "task", "in_domain", k, p, 5)
        for test, some in shots.items()
        for k in some
        for p in ("p1", "p2")
    ]
    return [*inside, grids.cell("far", "v", "far", "task", "cross_task", 9, "p1", 5)]


def found(deploy: Any, **shots: tuple[int, ...]) -> Deploy | None:
    return deploy_of(parse_experiment(experiment(deploy=deploy)), cells(**shots or {"reviews": (0, 4)}))


@pytest.mark.parametrize(
    ("written", "base", "variant"),
    [
        ({"shots": 0, "prompt": "p2"}, Use(0, "p2"), Use(0, "p2")),
        ({"shots": 4}, Use(4, "p1"), Use(4, "p1")),
        ({"base": {"shots": 4}, "variant": {"shots": 0}}, Use(4, "p1"), Use(0, "p1")),
        ({"shots": 0, "base": {"shots": 4, "prompt": "p2"}}, Use(4, "p2"), Use(0, "p1")),
    ],
)
def test_both_sides_alike_or_each_in_its_own_way(written: Any, base: Use, variant: Use) -> None:
    assert found(written) == Deploy(base, variant)


def test_without_it_nothing_is_chosen_and_one_number_of_shots_needs_no_name() -> None:
    assert found(None) is None
    assert found({"prompt": "p2"}, reviews=(3,)) == Deploy(Use(3, "p2"), Use(3, "p2"))


@pytest.mark.parametrize(
    ("written", "where", "allowed"),
    [
        ({"shots": 2}, "deploy.shots", "0 or 4"),
        ({"shots": 9}, "deploy.shots", "0 or 4"),  # the outside set has 9, which is no use of the trained task
        ({"variant": {"shots": 0}, "base": {"shots": 1}}, "deploy.base.shots", "0 or 4"),
        ({"prompt": "p1"}, "deploy.shots", "0 or 4"),
        ({"shots": 0, "prompt": "p3"}, "deploy.prompt", "p2"),
        ({"shots": 0, "variant": {"prompt": "q"}}, "deploy.variant.prompt", "p1"),
    ],
)
def test_what_is_not_tested_is_refused(written: Any, where: str, allowed: str) -> None:
    with pytest.raises(ExperimentError) as refused:
        found(written)
    assert refused.value.where == where and allowed in str(refused.value)


def test_every_training_set_must_be_tested_so() -> None:
    with pytest.raises(ExperimentError, match="quiz is not tested at 4 shots"):
        found({"shots": 4}, reviews=(0, 4), quiz=(0, 2))


@pytest.mark.parametrize("wrong", [{"shots": -1}, {"shots": True}, {"bas": {}}, {"base": 3}, "always"])
def test_what_is_no_use_is_refused(wrong: Any) -> None:
    with pytest.raises(ExperimentError, match="deploy"):
        parse_experiment(experiment(deploy=wrong))


@pytest.mark.parametrize("keep", [0, 1.01, "most"])
def test_a_share_is_above_none_and_at_most_all(keep: Any) -> None:
    with pytest.raises(ExperimentError, match=r"ship\.keep"):
        parse_experiment(experiment(ship={"keep": keep}))
    assert parse_experiment(experiment(ship={"keep": 0.98})).ship.keep == 0.98

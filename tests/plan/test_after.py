"""What is made of trained weights, in the plan: its parents, its key, and what it costs."""

from __future__ import annotations

from typing import Any

import pytest
from plans import plan_of
from prose import tells

from spillover.errors import ExperimentError
from spillover.experiment.axes import AllWeights, Lora
from spillover.plan.cost import NOTHING, Done, estimate, must_be_made
from spillover.plan.jobs import MergeJob, TrainJob, is_tested
from spillover.plan.plan import Plan

pytestmark = pytest.mark.usefixtures("smollm2")


def of(*strategies: Any, **train: Any) -> Plan:
    return plan_of(train={"datasets": ["reviews"], "sizes": [8], "strategies": list(strategies), **train})


def named(plan: Plan) -> dict[str, Any]:
    return {job.variant.name: job for job in plan.jobs}


def test_one_training_serves_every_strength_and_is_not_tested_itself() -> None:
    plan = of("ft + wise")
    jobs = named(plan)
    parent = jobs["reviews-ft+wise-trained"]
    mixed = [job for job in plan.jobs if isinstance(job, MergeJob)]
    assert plan.trainings == [parent] and not is_tested(parent)
    assert [job.variant.factors["alpha"] for job in mixed] == [0.25, 0.5, 0.75]
    assert {job.parents for job in mixed} == {(plan.jobs[0].variant.key, parent.variant.key)}
    assert {job.variant.made_from for job in mixed} == {(parent.variant.key,)}
    assert plan.grid.helpers == (parent.variant,)
    assert parent.variant.key not in {cell.variant for cell in plan.grid.cells}
    assert {job.variant.key for job in mixed} == {v.key for v in plan.grid.variants[1:]}
    cost = {one.variant.name: one for one in estimate(plan, NOTHING).variants}
    assert cost["reviews-ft+wise-trained"].train_tokens > 0 and not cost["reviews-ft+wise-trained"].cells
    assert all(not cost[job.variant.name].train_tokens and cost[job.variant.name].missing for job in mixed)


@pytest.mark.parametrize("strategies", [("ft", "ft + wise"), ("ft + wise", "ft")])
def test_a_training_that_is_tested_too_is_one_variant(strategies: tuple[str, ...]) -> None:
    plan = of(*strategies)
    (parent,) = plan.trainings
    assert parent.variant.name == "reviews-ft" and is_tested(parent)
    assert not plan.grid.helpers and not [w for w in plan.grid.warnings if "twice" in w.what]
    seen: set[str] = set()
    for job in plan.jobs:  # parents before their children
        assert seen.issuperset(job.parents)
        seen.add(job.variant.key)


def test_its_key_follows_from_its_parent_and_its_strength() -> None:
    def keys(plan: Plan) -> set[str]:
        return {job.variant.key for job in plan.jobs if isinstance(job, MergeJob)}

    first = keys(of({"wise": {"alpha": [0.25, 1]}}))
    assert keys(of({"ft + wise": {"alpha": 1}})) < first  # the name is in no key
    assert not first & keys(of({"wise": {"alpha": [0.25, 1]}}, learning_rate=1e-3))
    assert not first & keys(of({"wise": {"alpha": [0.5]}}))
    assert not first & {job.variant.key for job in of("ft").jobs}


def test_a_soup_has_no_seed_and_is_one_training() -> None:
    plan = of("ft + soup", "ft", seeds=[0, 1, 2])
    (soup,) = [job for job in plan.jobs if isinstance(job, MergeJob)]
    trained = [job.variant.key for job in plan.trainings]
    assert soup.variant.name == "reviews-ft+soup" and soup.variant.seed is None
    assert soup.variant.made_from == tuple(sorted(trained))
    assert soup.variant.against == "ft"
    swapped = of("ft + soup", seeds=[2, 0, 1])
    assert soup.variant.key in {variant.key for variant in swapped.grid.variants}
    assert soup.variant.key not in {variant.key for variant in of("ft + soup", seeds=[0, 1]).grid.variants}


def test_a_soup_of_one_seed_is_refused_in_one_line() -> None:
    with pytest.raises(ExperimentError) as error:
        of("ft + soup", seeds=[3, 3])
    assert tells(str(error.value), "ft+soup", "seeds", "two")


def test_a_strength_far_from_the_training_is_refused() -> None:
    with pytest.raises(ExperimentError) as error:
        of({"wise": {"alpha": 25}})
    assert "after.alpha" in str(error.value) and tells(str(error.value), "25", "2")


def test_only_a_mixture_of_a_plain_lora_is_stored_as_an_adapter() -> None:
    plan = of(
        "lora + wise", {"lora + wise": {"name": "d", "use_dora": True}}, "lora + soup", "lora + noise", seeds=[0, 1]
    )
    stored = {str(job.variant.strategy): type(job.stored_as) for job in plan.jobs if isinstance(job, MergeJob)}
    assert stored == {"lora+wise": Lora, "d": AllWeights, "lora+soup": AllWeights, "lora+noise": AllWeights}
    assert {v.strategy: v.against for v in plan.grid.variants[1:]}["lora+noise"] == "lora"
    assert {v.strategy for v in plan.grid.variants if v.is_null} == {"lora+noise"}


def test_weights_are_made_again_only_for_what_still_needs_them() -> None:
    plan = of({"wise": {"alpha": [0.5]}})
    _, parent, mixed = plan.jobs
    cells = {cell.key: {} for cell in plan.grid.cells}
    assert isinstance(parent, TrainJob)
    assert [must_be_made(plan, NOTHING, job) for job in plan.jobs] == [False, True, True]
    made = Done(weights=frozenset({mixed.variant.key}))
    assert [must_be_made(plan, made, job) for job in plan.jobs] == [False, False, False]
    assert [must_be_made(plan, Done(cells=cells), job) for job in plan.jobs] == [False, False, False]

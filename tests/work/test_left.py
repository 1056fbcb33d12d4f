"""What is left to do: which jobs are needed, in which order, which can begin, and whose weights can go."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fakes import Executed
from plans import contents
from tinyruns import write_experiment

from spillover.api import prepare
from spillover.plan.jobs import TrainJob
from spillover.plan.plan import Plan
from spillover.store.store import Store
from spillover.work.execute import execute
from spillover.work.left import Left

SETS = ["train.strategies=[ft, lora]", "train.seeds=0", "test.limit=3", "test.shots=[0]"]
PARENT, CHILD = "parity-ft", "parity-lora"


def family(place: Path, keep: str) -> tuple[Plan, Store]:
    """A plan by hand, in which one trained variant is made from another."""
    if not (place / "twice.yaml").exists():
        write_experiment(place)
    plan, store = prepare(place / "twice.yaml", [*SETS, f"keep={keep}"], output_path=place / "out")
    parent, child = plan.trainings
    made_from = replace(child, parents=(*child.parents, parent.variant.key))
    return replace(plan, jobs=(*plan.jobs[:-1], made_from)), store


class Watched(Executed):
    """Notes whether the parent's weights were there when its child was trained, and can fail to train one."""

    def __init__(self, store: Store, fails: str = "") -> None:
        super().__init__()
        self.store, self.fails, self.parent_there = store, fails, False

    def train(self, folder: Path, built: object, job: TrainJob, *others: object) -> dict[str, object]:
        if job.variant.name == self.fails:
            raise ZeroDivisionError("a bug")
        if job.variant.name == CHILD:
            self.parent_there = self.store.has_weights(job.parents[-1])
        return super().train(folder, built, job, *others)  # type: ignore[arg-type]


def weights(plan: Plan, store: Store) -> list[bool]:
    return [store.has_weights(job.variant.key) for job in plan.trainings]


def test_a_parent_keeps_its_weights_until_its_children_are_made(tmp_path: Path) -> None:
    plan, store = family(tmp_path, "none")
    backend = Watched(store)
    assert execute(plan, store, backend=backend.backend()) == ()
    assert backend.parent_there
    assert weights(plan, store) == [False, False]
    assert Left(plan, store).jobs() == []


def test_a_child_cannot_begin_before_its_parent_is_made(tmp_path: Path) -> None:
    plan, store = family(tmp_path, "none")
    base, parent, child = plan.jobs
    left = Left(plan, store)
    assert [left.can_begin(job) for job in (base, parent, child)] == [True, True, False]
    failures = execute(plan, store, backend=Watched(store, fails=PARENT).backend())
    assert [line.split()[0] for line in failures] == [PARENT, CHILD]
    assert PARENT in failures[1]


def test_a_parent_without_weights_is_made_again_for_its_child(tmp_path: Path) -> None:
    """Its cells stay what they were, and are not computed again."""
    plan, store = family(tmp_path, "none")
    assert len(execute(plan, store, backend=Watched(store, fails=CHILD).backend())) == 1
    assert weights(plan, store) == [True, False]  # the child still needs it
    before = contents(store.folder)
    store.drop_weights(plan.jobs[1].variant.key)
    left = Left(plan, store)
    assert left.jobs() == list(plan.jobs[1:]) and left.work(plan.jobs[1]) > 0
    again = Watched(store)
    assert execute(plan, store, backend=again.backend()) == ()
    assert again.trained == {PARENT: 1, CHILD: 1} and again.answers == 2 * 3
    assert before.items() <= contents(store.folder).items()
    assert weights(plan, store) == [False, False]


@pytest.mark.parametrize(("keep", "stay"), [("weights", [True, True]), ("adapter", [False, True])])
def test_what_is_kept(tmp_path: Path, keep: str, stay: list[bool]) -> None:
    plan, store = family(tmp_path, keep)
    execute(plan, store, backend=Executed().backend())
    assert weights(plan, store) == stay


def test_the_base_is_first_and_then_the_longest(tmp_path: Path) -> None:
    write_experiment(tmp_path)
    plan, store = prepare(tmp_path / "twice.yaml", ["train.seeds=0"], output_path=tmp_path / "out")
    left = Left(plan, store)
    first, *others = left.longest_first(left.jobs())
    assert first.variant.kind == "base"
    assert [left.work(job) for job in others] == sorted(map(left.work, others), reverse=True)
    assert left.jobs() == list(plan.jobs)

"""What is made of trained weights, in a run: its parents' weights, a kill in the middle, and what can be deleted."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from fakes import Executed, Killed
from plans import contents
from tinyruns import write_experiment

from spillover.analysis import table
from spillover.api import prepare
from spillover.errors import StoreError
from spillover.plan.plan import Plan
from spillover.store.store import Store
from spillover.work.clean import clean
from spillover.work.execute import execute, work
from spillover.work.left import Left

TRAINED = ("parity-ft+wise-trained", "parity-ft+wise-alpha0.25", "parity-ft+wise-alpha0.5")
SETS = ["train.strategies=[{ft + wise: {alpha: [0.25, 0.5]}}]", "train.seeds=0", "test.limit=3", "test.shots=[0]"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_experiment(tmp_path_factory.mktemp("after"))


def prepared(place: Path, out: Path, *more: str) -> tuple[Plan, Store]:
    return prepare(place, [*SETS, *more], output_path=out)


def there(plan: Plan, store: Store) -> list[bool]:
    """Of which of TRAINED the weights are there."""
    keys = {job.variant.name: job.variant.key for job in plan.jobs}
    return [store.has_weights(keys[name]) for name in TRAINED]


class DiesInTheMiddle(Executed):
    """A process that is killed while the first file of a mixture is written."""

    def merge(self, base: Path, trained: Any, job: Any, out: Path, trust: bool) -> float:
        (out / "model.safetensors").write_bytes(b"half")
        raise Killed


@pytest.mark.parametrize(("keep", "stay"), [("weights", True), ("none", False)])
def test_a_training_that_only_serves_others_is_made_kept_and_dropped_as_others(
    place: Path, tmp_path: Path, keep: str, stay: bool
) -> None:
    plan, store = prepared(place, tmp_path, f"keep={keep}", "choose=none")
    executed = Executed()
    assert execute(plan, store, backend=executed.backend()) == ()
    assert executed.trained == dict.fromkeys(TRAINED, 1)
    assert executed.answers == 3 * 2 * 3  # base and two mixtures; the training itself is not asked
    assert there(plan, store) == [stay] * 3
    again = Executed()
    assert execute(*prepared(place, tmp_path, f"keep={keep}", "choose=none"), backend=again.backend()) == ()
    assert again == Executed() and Left(plan, store).jobs() == []
    receipt = store.variant_receipt(plan.grid.variants[1].key)
    parent = store.variant_receipt(plan.grid.helpers[0].key)
    assert receipt is not None and parent is not None
    assert receipt["made_from"] == [{"variant": parent["variant"], "name": TRAINED[0], "weights": parent["weights"]}]
    assert receipt["after"] == {"kind": "mixture", "alpha": [0.25]}
    cost = table.load(store.folder).costs[receipt["variant"]]
    assert (cost.seconds, cost.adapter) == (pytest.approx(1.1), False)  # the training, and the mixture


def test_weights_that_are_advised_are_made_again_with_what_they_are_made_from(place: Path, tmp_path: Path) -> None:
    """Nothing is kept. `work --keep` makes the training again, and drops it after the mixture."""
    plan, store = prepared(place, tmp_path, "keep=none", "choose=none")
    execute(plan, store, backend=Executed().backend())
    before, executed = contents(store.folder), Executed()
    with pytest.raises(StoreError, match=re.escape(TRAINED[0])):
        work(store, TRAINED[1], backend=executed.backend())
    done = work(store, TRAINED[1], backend=executed.backend(), keep=True)
    assert not done.failures and executed.trained == dict.fromkeys(TRAINED[:2], 1) and not executed.answers
    assert there(plan, store) == [False, True, False]
    assert contents(store.folder) == before


def test_what_is_stored_whole_is_no_adapter_although_one_was_trained(place: Path, tmp_path: Path) -> None:
    sets = ["train.strategies=[{lora + wise: {alpha: 0.5}}, {dora + wise: {alpha: 0.5}}]", "keep=none"]
    plan, store = prepared(place, tmp_path, *sets)
    assert execute(plan, store, backend=Executed().backend()) == ()
    found = table.load(tmp_path)
    assert [found.costs[variant.key].adapter for variant in found.grid.variants[1:]] == [True, False]


def test_killed_while_it_is_made_it_is_made_again_from_the_same_training(place: Path, tmp_path: Path) -> None:
    plan, store = prepared(place, tmp_path / "out")
    with pytest.raises(Killed):
        execute(plan, store, backend=DiesInTheMiddle().backend())
    assert there(plan, store) == [True, False, False]
    executed = Executed()
    assert execute(*prepared(place, tmp_path / "out"), backend=executed.backend()) == ()
    assert executed.trained == dict.fromkeys(TRAINED[1:], 1)
    assert there(plan, store) == [True, True, True]
    whole, other = prepared(place, tmp_path / "whole")
    execute(whole, other, backend=Executed().backend())
    assert contents(store.folder) == contents(other.folder)


def test_clean_keeps_what_something_is_still_made_from(place: Path, tmp_path: Path) -> None:
    plan, store = prepared(place, tmp_path)
    with pytest.raises(Killed):
        execute(plan, store, backend=DiesInTheMiddle().backend())
    list(clean(tmp_path, unused=True, ask=None))  # what the killed process left in its folder
    assert there(plan, store) == [True, False, False]
    execute(*prepared(place, tmp_path), backend=Executed().backend())
    (line, *_) = clean(tmp_path, unused=True, ask=None)
    assert "3 variants" in line
    assert there(plan, store) == [False] * 3
    assert Left(plan, store).jobs() == []
    more, _ = prepared(place, tmp_path, "test.shots=[0, 2]")  # new cells: the training is made again for them
    assert [job.variant.name for job in Left(more, store).jobs()] == ["base", *TRAINED]


def test_the_strength_that_is_chosen_is_asked_although_its_training_is_gone(place: Path, tmp_path: Path) -> None:
    """All strengths are made and asked validation rows, and nothing is then made from the training any more."""
    plan, store = prepared(place, tmp_path, "keep=none")
    executed = Executed()
    assert execute(plan, store, backend=executed.backend()) == ()
    assert executed.trained == dict.fromkeys(TRAINED, 1)
    left = Left(plan, store)
    assert left.jobs() == [] and len(left.chosen) == 1
    assert there(plan, store) == [False] * 3

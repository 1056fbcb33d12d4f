"""Strategies that change what stands in the samples, trained on a tiny model by the program's own path."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tinyruns import write_experiment

from spillover.checks.check import beforehand
from spillover.checks.rows import clean_split
from spillover.checks.training import check_training
from spillover.errors import ExperimentError
from spillover.experiment.schema import parse_experiment
from spillover.plan.composed import compose
from spillover.plan.plan import Plan, make_plan
from spillover.store.store import Store
from spillover.text.steps import steps_of
from spillover.train import trainer
from spillover.train.checkpoints import seal
from spillover.work.backend import Torch
from spillover.work.progress import Reporter
from spillover.work.run import Run
from spillover.work.weights import find_or_make

TWO_FORMATS = {
    "train": {"file": "train.jsonl", "target": "completion"},
    "labels": ["four", "five"],
    "template": {"p1": "{prompt}", "mine": "So: {prompt}"},
}


COUNTED = ("steps", "samples", "rows_shortened", "rows_dropped", "contexts_cut")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model, rows to train on, and rows of another set that can be replayed."""
    place = tmp_path_factory.mktemp("composed")
    write_experiment(place)
    words = [" ".join(["six", "seven", "eight", "nine"][n % 4 :] + ["two"] * (n + 4)) for n in range(12)]
    rows = "".join(json.dumps({"prompt": text, "completion": " ten"}) + "\n" for text in words)
    (place / "others.jsonl").write_text(rows)
    (place / "long.jsonl").write_text(json.dumps({"prompt": "nine " * 2000, "completion": " ten"}) + "\n")
    return place


def plan_of(place: Path, *strategies: Any, **changes: Any) -> Plan:
    raw = yaml.safe_load((place / "twice.yaml").read_text())
    raw["datasets"]["others"] = {"train": "others.jsonl", "max_new_tokens": 4}
    raw["train"] |= {"strategies": list(strategies), "seeds": [0]}
    raw["test"] = {"datasets": ["echo"], "shots": [0], "limit": 1}
    for key, value in changes.items():
        section, _, name = key.partition("__")
        raw |= {section: {**raw[section], name: value} if name else value}
    return make_plan(parse_experiment(raw), place)


def trained(place: Path, plan: Plan, name: str) -> dict[str, tuple[bytes, dict[str, Any]]]:
    """The weights and the receipt of each training, by its name."""
    store = Store(place / name)
    store.create()
    run = Run(plan, store, Reporter(), Torch())
    run.prepare()
    found = {}
    for job in plan.trainings:
        folder, _ = find_or_make(run, job)
        [weights] = folder.glob("*.safetensors")
        found[job.variant.name] = weights.read_bytes(), store.variant_receipt(job.variant.key) or {}
    return found


@pytest.mark.slow
def test_each_trains_to_weights_of_its_own_and_the_receipt_says_how(place: Path) -> None:
    replay = {"replay": {"replay_share": [0, 0.25]}}
    plan = plan_of(place, "ft", "fticl-random", "manyicl", replay, "fticl-random + lora", train__batch_size=8)
    made = trained(place, plan, "each")
    weights = {name: bytes_ for name, (bytes_, _) in made.items()}
    assert weights["parity-ft"] == weights["parity-replay-replay0"], "a share of nothing is plain fine-tuning"
    assert len(set(weights.values())) == len(weights) - 1
    receipts = {name: receipt for name, (_, receipt) in made.items()}
    assert {receipt["steps"] for receipt in receipts.values()} == {6}, "each row once an epoch, in as many steps"
    assert receipts["parity-replay-replay0.25"]["replayed"] == {"others": 12}
    assert receipts["parity-replay-replay0"]["replayed"] == {}
    assert receipts["parity-manyicl"]["samples"] == 6 and receipts["parity-manyicl"]["contexts_cut"] == 0
    shared = receipts["parity-fticl-random"]
    assert shared["tokens"] < shared["tokens_plain"], "the drawn prefix of a step is computed once"


# Of these samples, max_length cuts some.
CUT = {
    "fticl": {"fticl": {"shots": 2}},
    "fticl-random": {"fticl-random": {"most_shots": 3}},
    "manyicl": {"manyicl": {"rows_in_context": 4}},
    "manyicl+replay": {"manyicl + replay": {"rows_in_context": 4, "replay_share": 0.25}},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CUT)
def test_what_max_length_cuts_is_counted_and_a_killed_training_goes_on_with_the_same(
    place: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The check has told it beforehand, to the number; and the weights are the same to the byte."""
    plan = plan_of(place, CUT[name], train__max_length=24)
    [job] = plan.trainings
    expected = check_training(plan, job)
    [(whole, receipt)] = trained(place, plan, f"whole {name}").values()
    told = expected.too_long + expected.in_steps
    assert (receipt["rows_shortened"], receipt["contexts_cut"]) == (told.shortened, told.more)
    assert told.shortened + told.more > 0

    def sealed_and_killed(checkpoint: Path) -> None:
        seal(checkpoint)
        if checkpoint.name == "checkpoint-2":
            raise KeyboardInterrupt

    monkeypatch.setenv("SPILLOVER_CHECKPOINT_S", "0")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(trainer, "seal", sealed_and_killed)
        trained(place, plan, f"cut {name}")
    [(again, resumed)] = trained(place, plan, f"cut {name}").values()
    assert again == whole
    assert [resumed[key] for key in COUNTED] == [receipt[key] for key in COUNTED]


@pytest.mark.parametrize("name", [*CUT, "replay", "cfs"])
@pytest.mark.parametrize("length", [24, 400])
def test_the_check_knows_the_longest_sample_and_what_is_cut(place: Path, name: str, length: int) -> None:
    plan = plan_of(place, CUT.get(name, name), train__max_length=length)
    [job] = plan.trainings
    found = check_training(plan, job)
    if name == "cfs":
        assert found.is_unwritten and found.longest == 1 + 128
        return
    steps = steps_of(compose(job, plan.encoder, plan.experiment.protocol).composition, job.recipe)
    assert found.longest == max(len(sample.ids) for step in steps for sample in step)
    assert found.in_steps == steps.too_long(len(steps))
    assert found.steps == len(steps) and not found.is_unwritten


def test_rows_have_their_turns_where_samples_are_cut_on_the_right(place: Path) -> None:
    """The protocol of the study. Drawn demonstrations may push an answer out, and then the row has no sample there."""
    plan = plan_of(place, CUT["fticl-random"], protocol="paper", train__max_length=36)
    [job] = plan.trainings
    found = check_training(plan, job)
    assert found.samples == 24 and found.turns == 48
    steps = steps_of(compose(job, plan.encoder, plan.experiment.protocol).composition, job.recipe)
    assert sum(len(step) for step in steps) == 48 - found.in_steps.dropped > 0


def test_the_clean_split_knows_replayed_rows(place: Path) -> None:
    rows = [json.loads(line) for line in (place / "echo.jsonl").read_text().splitlines()]
    (place / "met.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:3]))
    raw = {"datasets": {"met": {"train": "met.jsonl", "max_new_tokens": 4}}}
    replay = {"replay": {"replay_from": "met", "replay_share": 0.25}}
    leaked = {}
    for name, strategies in (("with", ["ft", replay]), ("without", ["ft"])):
        own = yaml.safe_load((place / "twice.yaml").read_text())
        own["datasets"] |= raw["datasets"]
        own["train"]["strategies"] = strategies
        leaked[name] = clean_split(make_plan(parse_experiment(own), place))["leaked"]["parity"]["echo"]
    assert set(leaked["with"]) - set(leaked["without"]) == {0, 1, 2} - set(leaked["without"]) != set()


def test_rows_are_not_trained_on_for_themselves_and_replayed_at_once(place: Path) -> None:
    with pytest.raises(ExperimentError, match="no other data set"):
        plan_of(place, {"replay": {"replay_from": "parity"}})
    with pytest.raises(ExperimentError, match="did you mean 'others'"):
        plan_of(place, {"replay": {"replay_from": "othres"}})


def test_what_a_step_cannot_hold_is_refused_beforehand(place: Path) -> None:
    with pytest.raises(ExperimentError, match="24 rows"):
        plan_of(place, "fticl-random", train__batch_size=24)
    with pytest.raises(ExperimentError, match="at most the batch_size, 4"):
        plan_of(place, "manyicl")


def test_contexts_are_refused_where_a_protocol_takes_texts_apart(place: Path) -> None:
    strategy = {"manyicl": {"rows_in_context": 2}}
    with pytest.raises(ExperimentError, match="answer_joint and demo_joint: together"):
        plan_of(place, strategy, protocol="paper")
    assert plan_of(place, strategy, protocol="paper + answer_joint=together + demo_joint=together").trainings


def test_replayed_rows_have_their_own_format_where_they_lack_that_of_the_training(place: Path) -> None:
    plan = plan_of(place, "replay", datasets__parity=TWO_FORMATS, train__prompt="mine")
    [job] = plan.trainings
    assert job.fmt.name == "mine" and [one.fmt.name for one in job.others] == ["p1"]


def test_checks_see_the_samples_of_each(place: Path) -> None:
    plan = plan_of(place, "fticl-random", {"manyicl": {"rows_in_context": 2}}, "replay", train__max_length=8)
    assert any("max_length" in one.what for one in beforehand(plan))


def test_checks_see_that_no_replayed_row_fits(place: Path) -> None:
    plan = plan_of(place, "ft", "replay", datasets__others={"train": "long.jsonl", "max_new_tokens": 4})
    assert any("no row fits" in one.what and "others" in one.where for one in beforehand(plan))

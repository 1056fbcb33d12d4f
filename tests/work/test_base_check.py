"""What `check` asks the base: how many answer tokens it finds too unlikely to be learned."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from prose import tells
from tinyruns import write_experiment

from spillover.engine import memory
from spillover.errors import Finding
from spillover.experiment.schema import parse_experiment
from spillover.plan.plan import Plan, make_plan
from spillover.work import base_check
from spillover.work.base_check import unlikely


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("asked")
    write_experiment(place)
    return place


def plan_of(place: Path, *strategies: Any, **train: Any) -> Plan:
    raw = yaml.safe_load((place / "twice.yaml").read_text())
    raw["train"] |= {"strategies": list(strategies), **train}
    return make_plan(parse_experiment(raw), place)


def asked(plan: Plan) -> list[Finding]:
    return unlikely(plan, lambda done, of: None)


def shares(finding: Finding) -> tuple[int, int]:
    """In percent, of all answer tokens and of the first ones."""
    every, first = re.findall(r"(\d+)%", finding.what)
    return int(every), int(first)


def limits(finding: Finding) -> tuple[float, float]:
    half, every = re.findall(r"limit of ([\d.,]+) keeps half, one of ([\d.,]+) all", finding.what)[0]
    return float(half.replace(",", "")), float(every.replace(",", ""))


def test_the_least_limits_that_keep_the_first_tokens_are_named(place: Path) -> None:
    [none] = asked(plan_of(place, {"stm": {"most_perplexity": 0.5}}))
    assert none.level == "warning" and shares(none) == (100, 100)
    half, every = limits(none)
    below, at_half, at_all = (
        asked(plan_of(place, {"stm": {"most_perplexity": limit}}))[0] for limit in (half * 0.98, half, every)
    )
    assert (below.level, at_half.level, at_all.level) == ("warning", "note", "note")
    assert shares(below)[1] > 50 >= shares(at_half)[1] > shares(at_all)[1] == 0


def test_each_limit_and_each_way_to_make_samples_has_a_line(place: Path) -> None:
    """Adapters and seeds make no difference to the base; demonstrations do. All is asked on one load of it."""
    strategies = [
        {name: {"most_perplexity": 20}} for name in ("stm", "stm + lora", "stm + fticl", "stm + fticl-random")
    ]
    found = asked(
        plan_of(place, "ft", *strategies, {"name": "strict", "loss": {"kind": "selected", "most_perplexity": 3}})
    )
    assert len(found) == 4
    assert len({one.where for one in found}) == 3


@pytest.mark.slow
def test_what_the_run_says_is_the_same_where_all_rows_are_read(place: Path, call: Callable[..., Any]) -> None:
    changes = ("--set", "train.strategies=[{stm: {most_perplexity: 40}}]", "--set", "train.seeds=[0]")
    changes += ("--set", "train.num_train_epochs=1", "--set", "test.shots=[0]", "--limit", "1")
    code, out, err = call("check", str(place / "twice.yaml"), *changes)
    assert code == 0, err
    every, first = re.findall(r"leaves (\d+%) of the answer tokens and (\d+%) of the first", " ".join(out.split()))[0]
    assert tells(out, "all 24 rows")
    code, out, err = call("run", str(place / "twice.yaml"), *changes, "-o", str(place / "out"))
    assert code == 0, err
    assert tells(" ".join((out + err).split()), f"{every} of the answer tokens", f"{first} of the first ones")


def test_no_model_is_loaded_for_other_strategies(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_check, "Torch", None)
    assert asked(plan_of(place, "ft", "kl", "flow")) == []


@pytest.mark.parametrize("lacking", ["weights", "memory"])
def test_what_cannot_be_asked_here_is_told(place: Path, monkeypatch: pytest.MonkeyPatch, lacking: str) -> None:
    """No weights are fetched for it, and no model is loaded for which there is no room."""
    if lacking == "weights":
        monkeypatch.setattr(base_check, "weight_shapes", lambda experiment, base: None)
    else:
        monkeypatch.setattr(memory, "free_bytes", lambda: 1000)
    monkeypatch.setattr(base_check.Torch, "without_loss", None)
    [finding] = asked(plan_of(place, "stm", seeds=[0]))
    assert finding.level == "note" and tells(finding.what, lacking)

"""A loss of one's own, from the YAML: found, in the key by its text, and only run where code is trusted."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from paths import ROOT
from plans import experiment

from spillover import register_loss
from spillover.errors import ExperimentError
from spillover.experiment.functions import Located
from spillover.experiment.schema import parse_experiment
from spillover.experiment.strategy import STRATEGIES, Strategy
from spillover.plan.plan import make_plan

SOURCE = "def mine(tokens):\n    return tokens.nll_T * 2\n"
MINE = {"name": "mine", "loss": {"kind": "python", "function": "losses.py:mine"}}


def key(folder: Path, **changes: Any) -> str:
    """The key of the one variant that is trained."""
    strategy = {**MINE, "loss": {**MINE["loss"], **changes}}  # type: ignore[dict-item]
    raw = experiment(train__strategies=[strategy], trust=True)
    return make_plan(parse_experiment(raw), folder).grid.variants[1].key


@pytest.mark.model
@pytest.mark.usefixtures("smollm2")
def test_the_text_of_a_function_is_in_the_key_and_its_place_is_not(tmp_path: Path) -> None:
    for place, text in (("a", SOURCE), ("b", SOURCE), ("c", SOURCE.replace("2", "3"))):
        (tmp_path / place / "deeper").mkdir(parents=True)
        (tmp_path / place / "losses.py").write_text(text)
        (tmp_path / place / "deeper" / "moved.py").write_text(text)
    same = key(tmp_path / "a")
    assert same == key(tmp_path / "b") == key(tmp_path / "a", function="deeper/moved.py:mine")
    assert len({same, key(tmp_path / "c"), key(tmp_path / "a", asks_base=True)}) == 3


@pytest.mark.model
@pytest.mark.usefixtures("smollm2")
def test_two_functions_of_one_file_are_two_variants(tmp_path: Path) -> None:
    (tmp_path / "losses.py").write_text(SOURCE + "\n\ndef other(tokens):\n    return tokens.nll_T\n")
    assert key(tmp_path) != key(tmp_path, function="losses.py:other")


@pytest.mark.model
@pytest.mark.usefixtures("smollm2")
def test_code_is_only_planned_where_it_is_trusted(tmp_path: Path) -> None:
    (tmp_path / "losses.py").write_text(SOURCE)
    with pytest.raises(ExperimentError, match=r"losses\.py:mine.*trust: true"):
        make_plan(parse_experiment(experiment(train__strategies=[MINE])), tmp_path)


@pytest.mark.parametrize(
    ("written", "text", "said"),
    [
        ("none.py:mine", SOURCE, "No such file"),
        ("losses.py:other", SOURCE, "no function 'other'.*allowed: mine"),
        ("losses.py:mine", "def mine(:", "line 1: invalid syntax"),
        ("no.such.module:mine", SOURCE, "no Python module 'no.such.module'"),
        ("nobody", SOURCE, "no loss is registered"),
    ],
)
def test_a_function_that_is_not_there_is_one_line(tmp_path: Path, written: str, text: str, said: str) -> None:
    (tmp_path / "losses.py").write_text(text)
    with pytest.raises(ExperimentError, match=said) as caught:
        Located(written, tmp_path).content()
    assert written in str(caught.value)


def test_a_file_that_fails_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "losses.py").write_text("import no_such_thing\n" + SOURCE)
    with pytest.raises(ExperimentError, match="ModuleNotFoundError"):
        Located("losses.py:mine", tmp_path).load()


def halved(tokens: Any) -> Any:
    return tokens.nll_T / 2


def test_files_modules_and_registered_functions_are_loaded(tmp_path: Path) -> None:
    (tmp_path / "losses.py").write_text(SOURCE)
    assert Located("losses.py:mine", tmp_path).load().__name__ == "mine"
    assert Located("spillover.fingerprint:fingerprint", tmp_path).load().__name__ == "fingerprint"
    register_loss("halved", halved)
    registered = Located("halved", tmp_path)
    assert registered.load() is halved and "tokens.nll_T / 2" in registered.content()[1]
    with pytest.raises(ExperimentError, match="without a colon"):
        register_loss("a:b", halved)


FACTOR = 2


def scaled_by(factor: float) -> Any:
    return lambda tokens: tokens.nll_T * factor


def by_default(tokens: Any, factor: float = 2) -> Any:
    return tokens.nll_T * factor


def by_global(tokens: Any) -> Any:
    return [nll * FACTOR for nll in tokens.nll_T]


def by_other(tokens: Any) -> Any:
    return halved(tokens)


def by_module(tokens: Any) -> Any:
    return torch.relu(tokens.FACTOR)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (scaled_by(2), "value of factor"),
        (by_default, "value of factor"),
        (by_global, "value of FACTOR"),
        (by_other, "value of halved"),
        (SimpleNamespace(), "it is a SimpleNamespace"),
    ],
)
def test_a_registered_function_whose_text_does_not_say_all_is_refused(tmp_path: Path, function: Any, said: str) -> None:
    register_loss("mine", function)
    with pytest.raises(ExperimentError, match=said):
        Located("mine", tmp_path).content()


def test_a_registered_function_may_use_modules(tmp_path: Path) -> None:
    register_loss("mine", by_module)
    assert Located("mine", tmp_path).content()[0] == "by_module"


@pytest.mark.parametrize("written", ["kl + lora", "freeze + talr", "stm + l2sp", "fticl + eaft"])
def test_strategies_on_different_axes_are_composed(written: str) -> None:
    (strategy,) = parse_experiment(
        {"model": "x", "suite": "builtin", "train": {"strategies": [written]}}
    ).train.strategies
    for name in written.split(" + "):
        one = STRATEGIES[name]
        for axis in ("demos", "weights", "loss", "penalty"):
            if getattr(one, axis) != getattr(Strategy(name="plain"), axis):
                assert getattr(strategy, axis) == getattr(one, axis)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("stm + talr", "both say what loss is"),
        ("lora + freeze", "both say what weights is"),
        ("l2sp + dora", "distance is 0"),
        ({"name": "mine", "loss": {"kind": "python"}}, "needs the function"),
    ],
    ids=str,
)
def test_what_cannot_be_composed_is_refused_with_a_reason(written: Any, said: str) -> None:
    with pytest.raises(ExperimentError, match=re.escape(said)):
        parse_experiment({"model": "x", "suite": "builtin", "train": {"strategies": [written]}})


def test_the_example_of_the_page_on_strategies_is_right(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "strategies.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.S)
    (tmp_path / "losses.py").write_text(code)
    focal = Located("losses.py:focal", tmp_path).load()
    assert focal(SimpleNamespace(nll_T=torch.tensor([0.0, 9.0]))).tolist() == pytest.approx([0.0, 9.0], abs=0.01)

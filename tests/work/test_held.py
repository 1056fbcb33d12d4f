"""A run of adapters loads their base once, and it is gone before a training or another checkpoint needs the room."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import adapters
import pytest
import tinymodels
from tinyruns import write_experiment

from spillover.api import prepare
from spillover.engine import held
from spillover.engine import load as loading
from spillover.experiment.schema import parse_experiment
from spillover.text import steps
from spillover.train import trainer
from spillover.work import launch
from spillover.work.backend import Torch
from spillover.work.execute import execute


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("held")
    model = tinymodels.build(gain=4.0)
    for name, kind in (("one", "plain"), ("two", "weight-decomposed"), ("three", "the output layer")):
        adapters.save(adapters.wrap(model, adapters.lora(**adapters.LORAS[kind])), place / name)
    tinymodels.save(tinymodels.build(gain=4.1), place / "whole")
    return write_experiment(place)


@pytest.mark.slow
def test_a_run_loads_the_base_of_its_adapters_once(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variants = ["one", "two", "whole", "three"]
    listed = ", ".join(f"{{name: {name}, path: ./{name}}}" for name in variants)
    sets = ["train.strategies=[]", "train.datasets=[]", "test.limit=3", "test.shots=[0]", f"variants=[{listed}]"]
    plan, store = prepare(place, [*sets, "precision=float32"], output_path=tmp_path)
    loaded, real = [], loading.load

    def load(folder: Path, *options: Any) -> Any:
        loaded.append(folder.name)
        assert backend.held is None or backend.held.model is None or folder.name == "tiny"  # beside nothing held
        return real(folder, *options)

    monkeypatch.setattr(held.load, "load", load)
    backend = Torch()
    assert execute(plan, store, backend=backend) == ()
    assert loaded == ["tiny", "whole", "tiny"]  # base, one and two; the checkpoint; three
    assert len(store.valid(plan.grid)) == plan.grid.size == 5 * 2


def test_a_training_begins_without_the_base_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    backend, seen = Torch(), []
    backend.held = held.HeldBase()

    def train(*arguments: Any, **options: Any) -> None:
        seen.append(backend.held)
        raise NotImplementedError

    monkeypatch.setattr(trainer, "train", train)
    monkeypatch.setattr(steps, "steps_of", lambda *made: None)
    plain = parse_experiment({"model": "x", "suite": "builtin"})
    job: Any = SimpleNamespace(recipe=None, function=None)
    with pytest.raises(NotImplementedError):
        backend.train(Path(), job, job, plain, Path(), "float32", lambda *step: None)
    assert seen == [None]


def test_the_processes_of_a_training_begin_without_a_model_in_the_memory_of_the_one_that_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, seen = Torch(), []
    backend.held = held.HeldBase()
    monkeypatch.setattr("spillover.engine.memory.free_memory", lambda: seen.append("freed"))

    def start(*arguments: Any) -> None:
        seen.append(backend.held)
        raise NotImplementedError

    monkeypatch.setattr(launch, "_launch", start)
    plan = SimpleNamespace(experiment=parse_experiment({"model": "x", "suite": "builtin", "train": {"processes": 2}}))
    run: Any = SimpleNamespace(
        backend=backend,
        plan=plan,
        model=SimpleNamespace(folder=tmp_path),
        store=SimpleNamespace(address=str(tmp_path)),
        precision="float32",
    )
    monkeypatch.setenv("SPILLOVER_DEVICE", "cpu")
    with pytest.raises(NotImplementedError):
        launch.train_together(run, "key", "name", tmp_path, lambda *step: None)
    assert seen == ["freed", None]

"""One training in two processes on the CPU (gloo), held against the same training in one.

The script `support/together.py` does every case in one start, once by `ddp` and once by `fsdp`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import together
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from together import CASES, ROWS, more_epochs
from trainings import apart, in_steps

from spillover.experiment.axes import Lora, SoftPrompt
from spillover.text.steps import dealt
from spillover.train.trainer import Trained, train

PARALLEL = ["ddp", "fsdp"]


def test_a_step_is_dealt_whole_and_evenly_and_prefixes_stay_together() -> None:
    first, second = together.make_samples(6, 2, seed=1), together.make_samples(6, 2, seed=2)
    mixed = [one for pair in zip(first, second, strict=True) for one in pair]
    shares = dealt(mixed, 2, shares=True)
    assert [set(share) for share in shares] in ([{*first}, {*second}], [{*second}, {*first}])
    assert dealt(mixed, 2, shares=True) == shares
    for count in (1, 2, 3, 20):
        for shared in (True, False):
            dealt_out = dealt(mixed, count, shares=shared)
            assert len(dealt_out) == count
            assert sorted(one.ids for share in dealt_out for one in share) == sorted(one.ids for one in mixed)
    alone = [sum(len(one.ids) for one in share) for share in dealt(mixed, 3, shares=False)]
    assert max(alone) - min(alone) < 2 * max(len(one.ids) for one in mixed)
    assert dealt([], 2, shares=True) == [[], []]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What both runs of the script left, and between them a training that went on in one process."""
    made = tmp_path_factory.mktemp("together")
    base = together.save_base(made / "base")
    together.launched("ddp", made)
    shutil.copytree(made / "ddp/stopped", made / "goes on")
    alone(base, more_epochs(2), made / "goes on")
    together.launched("fsdp", made)
    return made


def alone(base: Path, recipe: Any, out: Path, steps: Any = None) -> Trained:
    how: dict[str, Any] = {"precision": "float32", "pack_tokens": together.PACK, "checkpoint_every_s": 0}
    return train(base, steps or in_steps(ROWS, recipe), recipe, out, **how)


def found(folder: Path, parallel: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / parallel / "found.json").read_text())
    return read


def far(ours: dict[str, torch.Tensor], reference: dict[str, torch.Tensor]) -> float:
    assert ours.keys() == reference.keys()
    return apart(*(torch.cat([one[name].flatten() for name in sorted(one)]) for one in (ours, reference)))


@pytest.mark.slow
@pytest.mark.parametrize("parallel", PARALLEL)
@pytest.mark.parametrize("name", CASES)
def test_gradients_and_counts_are_those_of_one_process(name: str, parallel: str, folder: Path, tmp_path: Path) -> None:
    gradients, counted = together.step(folder / "base", tmp_path, name)
    ours, said = torch.load(folder / parallel / f"{name}.pt"), found(folder, parallel)[name]
    assert far(ours, gradients) < 1e-6
    assert said["step_loss"] == pytest.approx(counted["step_loss"], rel=1e-6)
    assert said["penalty"] == pytest.approx(counted["penalty"], rel=1e-5)
    for same in ("samples", "steps", "tokens_plain"):
        assert said[same] == counted[same]
    assert len(said["passes"]) == 2 and len(set(said["passes"])) == 1  # unequal ones would hang under fsdp


@pytest.mark.slow
def test_gradients_are_summed_whatever_the_backend_does_by_default(folder: Path) -> None:
    assert found(folder, "fsdp")["measured"] == 2.0


@pytest.mark.slow
def test_a_training_goes_on_with_another_number_of_processes(folder: Path, tmp_path: Path) -> None:
    """Two by ddp, then one, then two by fsdp; and two by fsdp, then one."""
    once = alone(folder / "base", more_epochs(3), tmp_path / "once")
    reference = load_file(tmp_path / "once/model.safetensors")
    assert far(load_file(folder / "goes on/model.safetensors"), reference) < 1e-4
    shutil.copytree(folder / "fsdp/stopped", tmp_path / "then one")
    assert (tmp_path / "then one/checkpoints/checkpoint-2/optimizer.pt").exists()
    other = alone(folder / "base", more_epochs(3), tmp_path / "then one")
    assert far(load_file(tmp_path / "then one/model.safetensors"), reference) < 1e-4
    assert (other.steps, other.samples) == (once.steps, once.samples) == (9, 27)
    assert other.loss == pytest.approx(once.loss, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("parallel", PARALLEL)
def test_the_best_weights_are_kept_and_all_stop_together(parallel: str, folder: Path, tmp_path: Path) -> None:
    recipe = together.MEASURED
    once = alone(folder / "base", recipe, tmp_path, together.watched(recipe))
    said = found(folder, parallel)["measured training"]
    assert [step for step, *_ in said["evaluations"]] == [step for step, *_ in once.evaluations]
    for ours, reference in zip(said["evaluations"], once.evaluations, strict=True):
        assert ours == pytest.approx(list(reference), rel=1e-3)
    assert said["best_step"] == once.best_step and said["steps"] == once.steps < once.steps_planned
    ours = load_file(folder / parallel / "measured training/model.safetensors")
    assert far(ours, load_file(tmp_path / "model.safetensors")) < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("parallel", PARALLEL)
def test_a_soft_prompt_is_trained_together(parallel: str, folder: Path, tmp_path: Path) -> None:
    alone(folder / "base", together.PROMPTED, tmp_path)
    assert isinstance(together.PROMPTED.first, SoftPrompt)
    both = folder / parallel / "prompted", tmp_path
    vectors = [load_file(one / "checkpoints/soft_prompt.safetensors") for one in both]
    assert far(*vectors) < 1e-4
    ours = load_file(folder / parallel / "prompted/model.safetensors")
    assert far(ours, load_file(tmp_path / "model.safetensors")) < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("parallel", PARALLEL)
def test_an_adapter_is_saved_alone_and_a_model_is_an_ordinary_checkpoint(
    parallel: str, folder: Path, tmp_path: Path
) -> None:
    whole = alone(folder / "base", more_epochs(1, Lora(lora_r=4)), tmp_path / "adapter")
    ordinary = alone(folder / "base", more_epochs(1), tmp_path / "whole")
    for ours, reference, name in (
        (folder / parallel / "adapter", tmp_path / "adapter", "adapter_model.safetensors"),
        (folder / parallel / "adapter/checkpoints/checkpoint-2", tmp_path / "adapter", "adapter_model.safetensors"),
        (folder / parallel / "stopped", tmp_path / "whole", "model.safetensors"),
    ):
        with safe_open(ours / name, "pt") as made, safe_open(reference / name, "pt") as wanted:
            assert set(made.keys()) == set(wanted.keys())  # a head that is the embeddings is stored once
        assert {one.name for one in ours.glob("*model.safetensors")} == {name}
    config = json.loads((folder / parallel / "stopped/config.json").read_text())
    assert config == json.loads((tmp_path / "whole/config.json").read_text())
    said = found(folder, parallel)["adapter"]
    assert (said["processes"], said["parallel"], said["backend"]) == (2, parallel, "gloo")
    assert (said["weights_moving"], said["weights_in_all"]) == (whole.weights_moving, whole.weights_in_all)
    assert said["loss"] == pytest.approx(whole.loss, rel=1e-6)  # though it computed activations again
    rounded = found(folder, parallel)["rounded"]
    assert rounded["loss"] == pytest.approx(ordinary.loss, rel=0.02) and rounded["loss"] != ordinary.loss

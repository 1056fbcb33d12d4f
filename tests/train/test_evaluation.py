"""Evaluation while a training goes on: what is measured, which weights are kept, and when it stops."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from math import nan
from pathlib import Path
from typing import Any

import pytest
import tinymodels
from safetensors.torch import load_file
from trainings import make_samples

from spillover.engine import attention
from spillover.engine.hf import load_model
from spillover.errors import ModelError
from spillover.experiment.axes import Lora, NothingFirst, SoftPrompt
from spillover.experiment.recipe import Recipe
from spillover.text.compose import Watched
from spillover.text.samples import Samples
from spillover.text.steps import steps_of
from spillover.train import evaluation
from spillover.train.evaluation import mean_loss
from spillover.train.trainer import Trained, train

STEPS = 10
RECIPE = Recipe(learning_rate=1e-3, num_train_epochs=2, batch_size=4, seed=3, evaluate_every=3)
BASE = make_samples(29, 0)
LEARNT, INSIDE, ELSEWHERE = BASE[:20], BASE[20:25], BASE[25:]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    attention.register()
    return tinymodels.save(tinymodels.build(gain=4.0), tmp_path_factory.mktemp("tiny"))


def run(folder: Path, out: Path, recipe: Recipe = RECIPE, **options: Any) -> Trained:
    own = Samples(tuple(LEARNT), 0, 0)
    steps = steps_of(Watched(own, INSIDE, ELSEWHERE) if recipe.evaluate_every else own, recipe)
    return train(folder, steps, recipe, out, precision="float32", **options)


def scripted(monkeypatch: pytest.MonkeyPatch, losses: list[float]) -> Callable[[], None]:
    """Made-up losses on the validation rows, one after the other."""
    left = list(losses)
    monkeypatch.setattr(
        evaluation, "mean_loss", lambda model, samples, *more: left.pop(0) if samples is INSIDE else 1.0
    )
    return left.clear


@pytest.mark.parametrize("first", [NothingFirst(), SoftPrompt(prompt_tokens=3, prompt_learning_rate=0.05)])
def test_it_measures_every_so_many_steps_and_at_the_end(folder: Path, tmp_path: Path, first: Any) -> None:
    """The loss is that of the model as it will be used, so without the soft prompt."""
    trained = run(folder, tmp_path / "out", RECIPE.model_copy(update={"first": first}))
    assert [step for step, _, _ in trained.evaluations] == [3, 6, 9, STEPS]
    best = min(trained.evaluations, key=lambda point: point[1])
    assert trained.best_step == best[0]
    model = load_model(tmp_path / "out", "float32")
    assert mean_loss(model, INSIDE, None) == pytest.approx(best[1], rel=1e-5)
    assert mean_loss(model, ELSEWHERE, None) == pytest.approx(best[2], rel=1e-5)


def test_measuring_changes_no_weight(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [4.0, 3.0, 2.0, 1.0])
    assert run(folder, tmp_path / "seen").best_step == STEPS
    run(folder, tmp_path / "blind", RECIPE.model_copy(update={"evaluate_every": 0}))
    ours, theirs = ((tmp_path / one / "model.safetensors").read_bytes() for one in ("seen", "blind"))
    assert ours == theirs


@pytest.mark.parametrize("weights", [RECIPE.weights, Lora(lora_r=2)], ids=["all", "lora"])
def test_the_best_weights_are_kept_and_patience_ends_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: Any
) -> None:
    recipe = RECIPE.model_copy(update={"evaluate_every": 1, "patience": 2, "weights": weights})
    scripted(monkeypatch, [5.0, 4.0, 4.5, 4.0])
    stopped = run(folder, tmp_path / "stopped", recipe)
    assert (stopped.steps, stopped.best_step) == (4, 2), "an equal loss is no lower one, and the first is kept"
    scripted(monkeypatch, [5.0, 4.0, *[6.0] * 8])
    whole = run(folder, tmp_path / "whole", recipe.model_copy(update={"patience": 0}))
    assert (whole.steps, whole.best_step) == (STEPS, 2)
    name = "adapter_model.safetensors" if recipe.weights.makes_adapter else "model.safetensors"
    ours, theirs = (load_file(tmp_path / one / name) for one in ("stopped", "whole"))
    assert all(ours[key].equal(theirs[key]) for key in theirs)


@pytest.mark.parametrize("step", [4, 8])
def test_killed_and_started_again_it_keeps_the_same(folder: Path, tmp_path: Path, step: int) -> None:
    def die(at: int, of: int, loss: float) -> None:
        if at == step:
            raise KeyboardInterrupt

    whole = run(folder, tmp_path / "whole")
    with suppress(KeyboardInterrupt):
        run(folder, tmp_path / "cut", checkpoint_every_s=0.0, progress=die)
    again = run(folder, tmp_path / "cut")
    assert again.evaluations == whole.evaluations and again.best_step == whole.best_step
    ours, theirs = ((tmp_path / one / "model.safetensors").read_bytes() for one in ("cut", "whole"))
    assert ours == theirs


def test_no_checkpoint_is_saved_at_the_step_that_ends_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = RECIPE.model_copy(update={"evaluate_every": 1, "patience": 2})
    losses = [5.0, 4.0, 4.5, 4.0]
    scripted(monkeypatch, losses)
    first = run(folder, tmp_path / "out", recipe, checkpoint_every_s=0.0)
    scripted(monkeypatch, losses[3:])
    again = run(folder, tmp_path / "out", recipe)
    assert (again.steps, again.evaluations) == (first.steps, first.evaluations)


def test_a_loss_that_is_no_number_is_an_error(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [nan])
    with pytest.raises(ModelError, match="learning_rate"):
        run(folder, tmp_path / "out")

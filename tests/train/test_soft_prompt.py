"""A soft prompt: trained alone, then in front of a training, then gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tinymodels
import torch
from safetensors.torch import load_file
from trainings import in_steps, make_samples

from spillover.engine import attention
from spillover.engine.head import own_logits
from spillover.experiment.axes import Lora, NothingFirst, SoftPrompt
from spillover.experiment.recipe import Recipe
from spillover.train import trainer
from spillover.train.checkpoints import seal
from spillover.train.passes import Pass
from spillover.train.soft_prompt import FILE, behind, soft_prompt
from spillover.train.trainer import Trained, train

FIRST = SoftPrompt(prompt_tokens=3, prompt_epochs=2, prompt_learning_rate=0.05)
ROWS = make_samples(8, 0)


def recipe(**changes: Any) -> Recipe:
    return Recipe(
        **{"learning_rate": 1e-2, "num_train_epochs": 1, "batch_size": 4, "seed": 3, "first": FIRST} | changes
    )


def mean_nll(model: Any) -> float:
    with torch.no_grad():
        nll = [Pass.alone(row) for row in ROWS]
        return float(torch.cat([one.nll(one.logits(model, model.device)) for one in nll]).mean())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    attention.register()
    return tinymodels.save(tinymodels.build(gain=4.0), tmp_path_factory.mktemp("tiny"))


def run(folder: Path, out: Path, **changes: Any) -> Trained:
    made = recipe(**changes)
    return train(folder, in_steps(ROWS, made), made, out, precision="float32", checkpoint_every_s=0.0)


def test_the_prompt_stands_before_the_text_and_positions_are_those_of_the_text() -> None:
    model = tinymodels.build()
    vectors, ids = torch.randn(3, 48), torch.tensor([[5, 6, 7]])
    embedded = torch.cat([vectors[None], model.get_input_embeddings()(ids)], 1)
    expected = model(inputs_embeds=embedded).logits[0]
    with behind(model, vectors):
        torch.testing.assert_close(own_logits(model, torch.tensor([0, 2]), input_ids=ids), expected[[3, 5]])
        torch.testing.assert_close(own_logits(model, 2, input_ids=ids), expected[-2:])
    assert torch.equal(model(input_ids=ids).logits, tinymodels.build()(input_ids=ids).logits), "then it is gone"


def test_the_prompt_alone_learns_and_no_weight_moves(tmp_path: Path) -> None:
    model, made = tinymodels.build(gain=4.0), recipe()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    vectors = soft_prompt(model, FIRST, in_steps(ROWS, made), 3, tmp_path)
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    assert all(weight.requires_grad and weight.grad is None for weight in model.parameters())
    with behind(model, vectors):
        learned = mean_nll(model)
    untrained = FIRST.model_copy(update={"prompt_learning_rate": 1e-9})
    with behind(model, soft_prompt(model, untrained, in_steps(ROWS, made), 3, tmp_path / "other")):
        assert learned < mean_nll(model) - 0.05


@pytest.mark.parametrize("changes", [{}, {"weights": Lora(lora_r=2)}], ids=["weights", "adapter"])
def test_what_is_saved_is_an_ordinary_checkpoint_without_a_prompt(
    folder: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    behind_it, alone = (
        run(folder, tmp_path / "a", **changes),
        run(folder, tmp_path / "b", first=NothingFirst(), **changes),
    )
    ours, plain = (load_file(next((tmp_path / name).glob("*.safetensors"))) for name in "ab")
    assert ours.keys() == plain.keys() and not all(torch.equal(ours[name], plain[name]) for name in ours)
    assert behind_it.why_plain and "soft prompt" in behind_it.why_plain and alone.why_plain is None
    assert behind_it.tokens == behind_it.tokens_plain and behind_it.steps == alone.steps


def test_a_training_that_was_killed_goes_on_behind_the_same_prompt(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(folder, tmp_path / "whole")

    def sealed_and_killed(checkpoint: Path) -> None:
        seal(checkpoint)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(trainer, "seal", sealed_and_killed)
        run(folder, tmp_path / "cut")
    assert (tmp_path / "cut" / "checkpoints" / FILE).exists()
    run(folder, tmp_path / "cut")
    whole, cut = (next((tmp_path / name).glob("*.safetensors")).read_bytes() for name in ("whole", "cut"))
    assert whole == cut

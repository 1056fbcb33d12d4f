"""Which weights move, and which do not."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import tinymodels
import torch
from safetensors.torch import load_file
from trainings import apart, gradients, in_steps, make_samples, plain_loss, summed_loss

from spillover.engine import attention
from spillover.engine.hf import load_model
from spillover.errors import ModelError
from spillover.experiment.axes import EasyTokens, EveryToken, KlToBase, Loss, NoPenalty, Penalty, SomeWeights, Weights
from spillover.experiment.recipe import Recipe
from spillover.experiment.strategy import STRATEGIES
from spillover.models.weights import module_of
from spillover.train.axes import let_move
from spillover.train.passes import Pass
from spillover.train.trainer import Trained, train

SAMPLES = make_samples(6, 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    attention.register()
    return tinymodels.save(tinymodels.build(gain=4.0), tmp_path_factory.mktemp("tiny"))


def trained(
    folder: Path, out: Path, weights: Weights, loss: Loss | None = None, penalty: Penalty | None = None
) -> Trained:
    given = {"weights": weights, "loss": loss or EveryToken(), "penalty": penalty or NoPenalty()}
    recipe = Recipe(learning_rate=1e-2, num_train_epochs=1, batch_size=3, seed=3, weight_decay=0.1, **given)
    return train(folder, in_steps(SAMPLES, recipe), recipe, out, precision="float32")


def moved(folder: Path, out: Path) -> dict[str, bool]:
    before, after = (load_file(place / "model.safetensors") for place in (folder, out))
    assert before.keys() == after.keys(), "the variant is stored whole"
    return {name: not torch.equal(before[name], after[name]) for name in before}


SOME: dict[str, tuple[SomeWeights, Callable[[str], bool]]] = {
    "v-only": (SomeWeights(move=("v",)), lambda name: "v_proj" in name),
    "a part of a name": (SomeWeights(move=("mlp.up", "lm_head")), lambda name: "up_proj" in name or "lm_head" in name),
    "all but norms": (SomeWeights(freeze=("norm",)), lambda name: "norm" not in name),
    "two of three layers": (SomeWeights(freeze_bottom=0.6), lambda name: not re.search(r"layers\.[01]\.", name)),
}


@pytest.mark.parametrize("name", SOME)
def test_the_weights_that_are_named_move_and_no_other(name: str, folder: Path, tmp_path: Path) -> None:
    """Frozen weights do not even decay."""
    weights, should = SOME[name]
    done = trained(folder, tmp_path, weights, EasyTokens())
    found = moved(folder, tmp_path)
    assert found == {name: should(name) for name in found}
    sizes = {name: weight.numel() for name, weight in load_file(folder / "model.safetensors").items()}
    assert (done.weights_moving, done.weights_in_all) == (
        sum(sizes[name] for name in sizes if should(name)),
        sum(sizes.values()),
    )


def test_a_half_of_the_modules_of_each_layer_moves_and_the_seed_says_which() -> None:
    """Of nine modules of a layer, five."""
    halves = []
    for seed in (0, 0, 1):
        model = let_move(tinymodels.build(), SomeWeights(freeze_half=True, freeze_seed=seed))
        halves.append({name for name, weight in model.named_parameters() if weight.requires_grad})
    for layer in range(3):
        assert len({name.rpartition(".")[0] for name in halves[0] if f"layers.{layer}." in name}) == 5
    assert halves[0] == halves[1] != halves[2]
    assert {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"} <= halves[0] & halves[2]
    drawn = [{module_of(name) for name in halves[0] if f"layers.{layer}." in name} for layer in range(3)]
    assert drawn[0] != drawn[1] or drawn[1] != drawn[2], "each layer has a draw of its own"


def test_values_that_are_one_weight_with_queries_and_keys_are_refused_by_name() -> None:
    with pytest.raises(ModelError, match=r"query_key_value.*cannot be told apart"):
        let_move(tinymodels.build("GPTNeoX"), SomeWeights(move=("v",)))


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (SomeWeights(move=("v_prj",)), r"'v_prj'.*embed, q, k, v"),
        (SomeWeights(freeze=("layers", "embed", "norm", "head")), "no weight may move"),
    ],
)
def test_names_that_leave_nothing_are_refused(weights: SomeWeights, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        let_move(tinymodels.build(), weights)


def test_gradients_of_a_frozen_model_are_those_of_the_padded_batch() -> None:
    plain, model = tinymodels.pair(gain=4.0)
    for one in (plain, model):
        let_move(one, SomeWeights(freeze_bottom=0.6, freeze=("embed",)))
    plain_loss(plain, SAMPLES).backward()
    summed_loss(model, Pass.shared(SAMPLES)).backward()
    assert apart(gradients(model), gradients(plain)) < 1e-5


def test_frozen_layers_train_with_activation_checkpointing(folder: Path, tmp_path: Path) -> None:
    weights = SomeWeights(freeze_bottom=0.6, freeze=("embed",))
    for name, checkpointing in (("without", False), ("with", True)):
        recipe = Recipe(learning_rate=1e-2, num_train_epochs=1, batch_size=6, seed=3, weights=weights)
        options = {"precision": "float32", "gradient_checkpointing": checkpointing}
        train(folder, in_steps(SAMPLES, recipe), recipe, tmp_path / name, **options)  # type: ignore[arg-type]
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("without", "with"))
    assert all(torch.allclose(one[name], other[name], atol=1e-6) for name in one)


@pytest.mark.parametrize("name", ["dora", "rslora"])
def test_adapters_of_each_kind_learn_through_shared_prefixes_and_load(name: str, folder: Path, tmp_path: Path) -> None:
    weights = STRATEGIES[name].weights
    pairs = [let_move(model, weights) for model in tinymodels.pair(gain=4.0)]
    for model in pairs:
        torch.manual_seed(0)
        for part, weight in model.named_parameters():
            if "lora_" in part and "magnitude" not in part:
                weight.data.normal_(std=0.05)
    plain_loss(pairs[0], SAMPLES).backward()
    summed_loss(pairs[1], Pass.shared(SAMPLES)).backward()
    assert apart(gradients(pairs[1]), gradients(pairs[0])) < 1e-5
    done = trained(folder, tmp_path, weights, penalty=KlToBase())
    assert math.isfinite(done.loss) and done.penalty > 0 and done.why_plain is None
    names = list(load_file(tmp_path / "adapter_model.safetensors"))
    assert all("lora_" in name for name in names)
    assert any("magnitude" in part for part in names) == (name == "dora")
    base, adapted = load_model(folder, "float32"), load_model(folder, "float32", adapter=tmp_path)
    with torch.inference_mode():
        assert plain_loss(adapted, SAMPLES) < plain_loss(base, SAMPLES)

"""Trainings in several processes: the cases, and a script that `accelerate launch` starts in each of them.

    together.py ddp|fsdp FOLDER

trains every case and leaves in FOLDER what the tests compare with one process: gradients, records and checkpoints.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import tinymodels
import torch
from trainings import in_steps, make_samples
from transformers import TrainerCallback

from spillover.engine import attention
from spillover.engine.hf import TOGETHER, load_model
from spillover.experiment.axes import (
    DistanceToBase,
    EasyRows,
    EasyTokens,
    KlOnTexts,
    KlToBase,
    Lora,
    OwnText,
    PythonLoss,
    SelectedTokens,
    SoftPrompt,
)
from spillover.experiment.recipe import Recipe
from spillover.text.compose import Watched
from spillover.text.samples import Sample, Samples
from spillover.text.steps import Steps, steps_of
from spillover.train.axes import let_move
from spillover.train.base import ask_base
from spillover.train.losses import Objective, Tokens
from spillover.train.passes import Pass
from spillover.train.together import ALONE, Together, whole
from spillover.train.trainer import PrefixTrainer, _arguments, train
from spillover.work import launch

SHARED = {"learning_rate": 1e-3, "num_train_epochs": 1, "batch_size": 16, "seed": 3, "max_grad_norm": 0.0}
PACK = 60  # tokens of a pass: some passes a step, and not as many in each process
ROWS = make_samples(9, 2)
TEXTS = [replace(one, apart=True, weight=0.5) for one in make_samples(3, 0, seed=5)]
NO_LOSS = [replace(one, weight=0.0) for one in TEXTS]  # of their tokens: the divergence alone counts
CASES: dict[str, tuple[dict[str, Any], list[Sample]]] = {
    "plain": ({}, ROWS),
    "texts apart": ({}, [*ROWS, *TEXTS]),
    "one sample": ({}, ROWS[:1]),
    "lora": ({"weights": Lora(lora_r=4)}, ROWS),
    "dora": ({"weights": Lora(lora_r=4, use_dora=True, use_rslora=True)}, ROWS),
    "l2sp": ({"penalty": DistanceToBase(l2sp_weight=(0.1,))}, ROWS),
    "kl": ({"penalty": KlToBase(beta=(0.5,))}, ROWS),
    "kl on texts": (
        {"data": OwnText(text_weight=(0.0,)), "penalty": KlOnTexts(text_beta=(0.7,))},
        [*ROWS, *NO_LOSS],
    ),
    "easy tokens": ({"loss": EasyTokens()}, ROWS),
    "easy rows": ({"loss": EasyRows()}, ROWS),
    "selected": ({"loss": SelectedTokens(most_perplexity=40.0)}, ROWS),
    "python": ({"loss": PythonLoss(function="squared", asks_base=True)}, ROWS),
}
"""The recipe and the samples of one step."""

AFTER = Recipe(**SHARED | {"batch_size": 3, "lr_scheduler_type": "constant", "max_grad_norm": 1.0})
"""Three steps an epoch, of which a training may go on with more epochs."""


def squared(tokens: Tokens) -> torch.Tensor:
    assert tokens.base_nll_T is not None
    return tokens.nll_T * tokens.nll_T + tokens.base_nll_T


def more_epochs(count: int, weights: Any = None) -> Recipe:
    return AFTER.model_copy(update={"num_train_epochs": float(count)} | ({"weights": weights} if weights else {}))


MEASURED = more_epochs(6).model_copy(update={"evaluate_every": 1, "patience": 2, "learning_rate": 0.1})
PROMPTED = more_epochs(1).model_copy(update={"first": SoftPrompt(prompt_tokens=2, prompt_epochs=1)})


def watched(recipe: Recipe) -> Steps:
    """Steps of a training that is measured on other rows."""
    own = Samples(tuple(ROWS), 0, 0)
    return steps_of(Watched(own, make_samples(5, 1, seed=7), make_samples(3, 0, seed=8)), recipe)


class Kept(TrainerCallback):
    """Keeps the gradients as the optimiser gets them."""

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        moving = [(name, one) for name, one in model.named_parameters() if one.grad is not None]
        self.gradients = {name: whole(one.grad).clone() for name, one in moving}


def step(
    base: Path, out: Path, name: str, together: Together = ALONE
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The gradients of a case, and what it counted, with the passes of this process."""
    changes, samples = CASES[name]
    recipe, passes, logits = Recipe(**SHARED | changes), [], Pass.logits
    steps = [samples]
    model = load_model(base, "float32")
    model.set_attn_implementation(attention.NAME)
    torch.manual_seed(0)
    said = None
    if recipe.asks_base:
        asked = {"rows": recipe.asks_rows, "texts": recipe.asks_texts}
        said = ask_base(model, steps, PACK, recipe.asks_distributions, together, **asked)
    if recipe.asks_distributions:  # as if the weights had moved since: at the base a divergence has no gradient
        for weight in model.parameters():
            weight.data.mul_(1.1)
    model = let_move(model, recipe.weights)
    for part, weight in model.named_parameters():
        if "lora_B" in part:  # they begin as zeros, and then the other matrix has no gradient
            torch.nn.init.normal_(weight, std=0.1)
    objective = Objective(recipe, said, squared if isinstance(recipe.loss, PythonLoss) else None, together)
    kept = Kept()
    options: dict[str, Any] = {"steps": steps, "pack_tokens": PACK, "objective": objective, "callbacks": [kept]}
    trainer = PrefixTrainer(model=model, args=_arguments(out, recipe, 1, "float32", False, ()), **options)
    if trainer.anchor:  # as if the weights had moved since
        for before in trainer.anchor.before.values():
            before.mul_(0.9)
    Pass.logits = lambda one, *more: passes.append(len(one)) or logits(one, *more)  # type: ignore[method-assign]
    try:
        trainer.train()
    finally:
        Pass.logits = logits  # type: ignore[method-assign]
    return kept.gradients, {**asdict(trainer.totals), "passes": passes}


def save_base(folder: Path) -> Path:
    attention.register()
    return tinymodels.save(tinymodels.build(gain=4.0, tie_word_embeddings=True), folder)


def launched(parallel: str, folder: Path) -> None:
    """Run this script in two processes."""
    log = folder / f"{parallel}.log"
    config = folder / "accelerate.json"
    config.write_text(json.dumps({**launch.SETTINGS, "num_processes": 2, "use_cpu": True}))
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config), "--multi_gpu"]
    command += ["--num_processes", "2", "--main_process_port", "0", "--no_python", sys.executable, __file__]
    environment = launch.environment(["cpu", "cpu"]) | {"PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1"}
    with log.open("w") as said:
        done = subprocess.run([*command, parallel, str(folder)], env=environment, stdout=said, stderr=said, check=False)
    assert done.returncode == 0, log.read_text()


def main(parallel: Any, folder: Path) -> None:
    torch.set_num_threads(1)
    attention.register()
    together, base, out = Together.begin(parallel), folder / "base", folder / parallel
    found: dict[str, Any] = {"measured": together._measured() if together.cuts else None}
    for name in CASES:
        gradients, counted = step(base, out / "step", name, together)
        passes = together.every(counted.pop("passes"))
        found[name] = counted | {"passes": [len(one) for one in passes]}
        if together.is_first:
            torch.save(gradients, out / f"{name}.pt")
    how: dict[str, Any] = {"precision": "float32", "pack_tokens": PACK, "together": together}
    adapter, plain = more_epochs(1, Lora(lora_r=4)), more_epochs(1)
    trainings: dict[str, tuple[Recipe, dict[str, Any]]] = {
        "measured training": (MEASURED, {}),
        "prompted": (PROMPTED, {}),
        "adapter": (adapter, {"gradient_checkpointing": True}),
        "rounded": (plain, {"precision": "bfloat16", "gradient_checkpointing": True}),
    }
    for name, (recipe, changes) in trainings.items():
        steps = watched(recipe) if recipe.evaluate_every else in_steps(ROWS, recipe)
        trained = train(base, steps, recipe, out / name, checkpoint_every_s=0, **how | changes)
        found[name] = asdict(trained)
    train(base, in_steps(ROWS, more_epochs(1)), more_epochs(1), out / "stopped", checkpoint_every_s=0, **how)
    if (folder / "goes on").exists():
        train(base, in_steps(ROWS, more_epochs(3)), more_epochs(3), folder / "goes on", **how)
    if together.is_first:
        (out / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    assert TOGETHER
    main(sys.argv[1], Path(sys.argv[2]))

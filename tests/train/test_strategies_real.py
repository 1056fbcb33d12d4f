"""Each strategy trains the real model for two steps: its loss is finite, and it moves what it says it moves."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from plans import plan_of
from safetensors.torch import load_file

from spillover.plan.composed import compose
from spillover.text.steps import steps_of
from spillover.train.trainer import train

pytestmark = pytest.mark.slow

EVERY = r"."
STRATEGIES: dict[str, tuple[Any, str | None]] = {  # as it is written, and which weights move (None: not all is known)
    "ft": ("ft", EVERY),
    "stm": ({"stm": {"most_perplexity": 1e4}}, EVERY),
    "talr": ("talr", EVERY),
    "flow": ("flow", EVERY),
    "eaft": ("eaft", EVERY),
    "kl": ("kl", EVERY),
    "asft": ("asft", EVERY),
    "l2sp": ("l2sp", EVERY),
    "freeze": ("freeze", None),
    "v-only": ("v-only", r"v_proj"),
    "freeze + talr": ("freeze + talr", None),
    "fticl-random + kl": ("fticl-random + kl", EVERY),
    "manyicl + asft": ({"manyicl + asft": {"rows_in_context": 2}}, EVERY),
    "dora": ("dora", r"lora_(A|B|magnitude)"),
    "rslora": ("rslora", r"lora_(A|B)"),
    "kl + lora": ("kl + lora", r"lora_(A|B)"),
}


@pytest.mark.parametrize("name", STRATEGIES)
def test_it_trains_and_moves_what_it_says(name: str, smollm2: Path, tmp_path: Path) -> None:
    written, moves = STRATEGIES[name]
    plan = plan_of(train__strategies=[written], train__batch_size=4, train__num_train_epochs=1)
    (job,) = plan.trainings
    composition = compose(job, plan.encoder, plan.experiment.protocol).composition
    trained = train(smollm2, steps_of(composition, job.recipe), job.recipe, tmp_path, precision="float32")
    assert trained.steps == 2 and trained.why_plain is None and trained.steps_without_loss == 0
    assert math.isfinite(trained.loss) and trained.loss > 0
    penalised = job.recipe.penalty.kind != "none"
    assert (trained.penalty > 0) == penalised
    assert (trained.tokens_forward > 0) == job.recipe.asks_base
    if job.recipe.weights.makes_adapter:
        adapter = load_file(tmp_path / "adapter_model.safetensors")
        assert all(re.search(moves or EVERY, part) and weight.isfinite().all() for part, weight in adapter.items())
        assert all(weight.any() for part, weight in adapter.items() if "lora_B" in part)
        return
    (stored,) = smollm2.glob("*.safetensors")
    before, after = load_file(stored), load_file(tmp_path / "model.safetensors")
    changed = {part for part in before if not torch.equal(before[part].float(), after[part])}
    if moves is not None:
        assert changed == {part for part in before if re.search(moves, part)}
    else:
        assert 0 < len(changed) < len(before)
        assert sum(before[part].numel() for part in changed) == trained.weights_moving

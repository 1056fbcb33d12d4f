"""Strategies that change what stands in the samples, for two steps each on the real model."""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import Any

import pytest
from plans import plan_of

from spillover.store.store import Store
from spillover.work.backend import Torch
from spillover.work.progress import Reporter
from spillover.work.run import Run
from spillover.work.weights import find_or_make

pytestmark = [pytest.mark.slow, pytest.mark.model, pytest.mark.usefixtures("smollm2")]

TRAIN = {"batch_size": 4, "num_train_epochs": 1}
CASES: dict[str, tuple[str, Any]] = {
    "fticl-random": ("reviews", {"fticl-random": {"most_shots": 2}}),
    "manyicl": ("reviews", {"manyicl": {"rows_in_context": 2}}),
    "replay": ("reviews", {"replay": {"replay_share": 0.2}}),
    "cfs": ("reviews", {"cfs": {"texts": 4, "text_tokens": 16, "texts_a_step": 2}}),
    "distill": ("reviews", {"distill": {"texts": 4, "text_tokens": 16, "texts_a_step": 2}}),
    "rewrite": ("quiz", "rewrite"),
    "promot": ("reviews", "promot"),
}


@pytest.mark.parametrize("name", CASES)
def test_each_trains_the_real_model(name: str, tmp_path: Path) -> None:
    dataset, strategy = CASES[name]
    plan = plan_of(
        train__strategies=[strategy], train__datasets=[dataset], **{f"train__{k}": v for k, v in TRAIN.items()}
    )
    store = Store(tmp_path)
    store.create()
    run = Run(plan, store, Reporter(), Torch())
    run.prepare()
    [job] = plan.trainings
    find_or_make(run, job)
    receipt = store.variant_receipt(job.variant.key) or {}
    assert (
        receipt["steps"] == 2 and isfinite(receipt["loss"]) and receipt["weights_moving"] == receipt["weights_in_all"]
    )
    if name == "replay":
        assert sum(receipt["replayed"].values()) == 2
    assert (receipt["penalty"] > 0) == (name == "distill")
    if name in ("cfs", "distill"):
        texts = store.written(job.writings[0].key) or {}
        assert [len(row["ids"]) <= 16 and bool(row["text"].strip()) for row in texts["rows"]] == [True] * 4
    if name == "rewrite":
        assert 0 <= receipt["rewritten"] <= 8
    assert bool(receipt["why_plain"]) == (name == "promot")

"""Where an answer ends in a whole run: for an adapter as trainers save it, whichever engine answers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import tinymodels
import torch
from peft import LoraConfig, get_peft_model
from tinyruns import write_experiment

from spillover.api import prepare
from spillover.work.execute import execute

END = 24  # the random model says it in the middle of some answers
EXPERIMENT = """
model: ./tiny
datasets: {{echo: {{test: echo.jsonl, max_new_tokens: 6}}}}
test: {{shots: 0, limit: 12}}
precision: float32
engine: {engine}
variants: [{{name: saved, path: ./saved}}, {{name: alone, path: ./alone}}]
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A base that ends at two tokens, of which its tokenizer knows one; an adapter that hardly moves it, saved with the
    tokenizer and without a generation_config, and the same adapter alone."""
    write_experiment(tmp_path)
    (tmp_path / "tiny" / "generation_config.json").write_text(json.dumps({"eos_token_id": [tinymodels.EOS, END]}))
    torch.manual_seed(0)
    lora = LoraConfig(r=2, target_modules=["v_proj"], task_type="CAUSAL_LM")
    model = get_peft_model(tinymodels.build(gain=4.0), lora)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.002)
    for name in ("alone", "saved"):
        model.save_pretrained(tmp_path / name)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tmp_path / "tiny" / file, tmp_path / "saved")
    return tmp_path


@pytest.mark.parametrize("engine", ["shared", "plain"])
def test_an_adapters_answers_end_where_the_bases_do(place: Path, engine: str) -> None:
    (place / "ends.yaml").write_text(EXPERIMENT.format(engine=engine))
    plan, store = prepare(place / "ends.yaml", output_path=place / "out")
    assert execute(plan, store) == ()
    names = {variant.key: variant.name for variant in plan.grid.variants}
    found, ended = {}, {}
    for cell in plan.grid.cells:
        folder, name = place / "out" / "cells" / cell.key, names[cell.variant]
        assert json.loads((folder / "receipt.json").read_text())["end_tokens"] == [tinymodels.EOS, END]
        rows = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
        found[name] = [row["response"] for row in rows]
        ended[name] = {row["doc_id"] for row in rows if row["ended"] != "limit"}
    assert found["saved"] == found["alone"]
    assert ended["base"] == ended["saved"] == ended["alone"]
    assert {1, 3} <= ended["base"]  # they go on where only the tokenizer's end token counts


@pytest.mark.slow
def test_a_trained_checkpoint_tells_other_tools_where_its_answers_end(place: Path) -> None:
    """The tokenizer's end token is not in the base's generation_config.json, but answers end there too."""
    (place / "tiny" / "generation_config.json").write_text(json.dumps({"eos_token_id": END}))
    plan, store = prepare(
        place / "twice.yaml", ["test.limit=4", "test.shots=[0]", "train.seeds=[0]"], output_path=place / "out"
    )
    assert execute(plan, store) == ()
    for training in plan.trainings:
        settings = json.loads((store.variant_folder(training.variant.key) / "generation_config.json").read_text())
        assert settings["eos_token_id"] == [tinymodels.EOS, END]

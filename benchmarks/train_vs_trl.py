"""A training step: spillover's PrefixTrainer against TRL's SFTTrainer, on the study's data.

Cases: mnli-ft (16 samples without demonstrations), mnli-5shot (16 with five), xsum-2shot (8 with two). One step is
forward, backward and AdamW over the whole batch; the median over `--steps` after one for warm-up. TRL gets the same
rows in the same order as prompt and completion texts (the space before the answer belongs to the completion, as in its
token), `completion_only_loss`, no truncation, no gradient checkpointing, and takes `--per-device` samples at a time
with gradient accumulation, so that they fit. Weights are float32 on both sides; bfloat16 is autocast. Beside the
ratio: losses and gradient norms of the steps, and that both tokenise and mask alike.
"""

from __future__ import annotations

import argparse
import inspect
import statistics
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import common
import measure
from meter import Meter

CASES = {  # data set, demonstrations, batch, TRL's samples at a time, aim
    "mnli-ft": ("multinli", 0, 16, 16, 2),
    "mnli-5shot": ("multinli", 5, 16, 4, 10),
    "xsum-2shot": ("xsum", 2, 8, 2, 3),
}


def prepare(args: argparse.Namespace) -> tuple[Any, list[tuple[str, str]]]:
    name, shots, batch, *_ = CASES[args.case]
    return common.training(args, name, shots, rows=batch * (args.steps + 1))


def ours(args: argparse.Namespace) -> dict[str, Any]:
    from spillover.engine.memory import reuse_memory

    reuse_memory()  # as a run does, before the Trainer is imported
    from spillover.engine.suitable import take

    samples, _ = prepare(args)
    model = _model(args)
    take(model)
    return train_here(args, model, samples, CASES[args.case][2])


def train_here(args: argparse.Namespace, model: Any, samples: Sequence[Any], batch: int) -> dict[str, Any]:
    """Our steps over these samples, as a run makes them. The model shares prefixes already."""
    from transformers import TrainingArguments

    from spillover.experiment.recipe import Recipe
    from spillover.train.losses import Objective
    from spillover.train.trainer import PrefixTrainer, train

    pack_tokens = inspect.signature(train).parameters["pack_tokens"].default
    steps = [list(samples[first : first + batch]) for first in range(0, len(samples), batch)]
    arguments = TrainingArguments(per_device_train_batch_size=1, **settings(args))
    objective = Objective(Recipe(learning_rate=arguments.learning_rate, num_train_epochs=1, batch_size=batch))
    trainer = PrefixTrainer(model=model, args=arguments, steps=steps, pack_tokens=pack_tokens, objective=objective)
    return {**timed(trainer), "tokens": trainer.totals.tokens, "tokens_plain": trainer.totals.tokens_plain}


def theirs(args: argparse.Namespace) -> dict[str, Any]:
    from transformers import AutoTokenizer

    samples, texts = prepare(args)
    # The prompt's last space goes to the completion: tokenised alone it would be a token that the whole text has not.
    cut = [(len(prompt.rstrip(" ")), prompt + answer) for prompt, answer in texts]
    rows = [{"prompt": text[:at], "completion": text[at:]} for at, text in cut]
    _, _, batch, at_once, _ = CASES[args.case]
    tokenizer = AutoTokenizer.from_pretrained(common.folder(args))
    return trl_here(args, _model(args), samples, rows, tokenizer, batch, args.per_device or at_once)


def trl_here(
    args: argparse.Namespace,
    model: Any,
    samples: Sequence[Any],
    rows: list[dict[str, Any]],
    tokenizer: Any,
    batch: int,
    at_once: int,
) -> dict[str, Any]:
    """TRL's steps over rows, which it makes the same ids and labels of as `samples` have, or `differ` counts them."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    arguments = SFTConfig(
        per_device_train_batch_size=at_once,
        gradient_accumulation_steps=batch // at_once,
        completion_only_loss=True,
        max_length=None,
        **settings(args),
    )
    trainer = SFTTrainer(model, arguments, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
    differ = 0
    for sample, row in zip(samples, trainer.train_dataset, strict=True):
        differ += row["input_ids"] != list(sample.ids) or row["labels"] != labels(sample)
    return {**timed(trainer), "differ": differ, "samples": len(samples)}


def labels(sample: Any) -> list[int]:
    """A sample's labels as transformers has them."""
    return [-100] * sample.start + list(sample.ids[sample.start :])


def _model(args: argparse.Namespace) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(common.folder(args), dtype=torch.float32)


def settings(args: argparse.Namespace) -> dict[str, Any]:
    import torch

    return {
        "output_dir": tempfile.gettempdir(),  # nothing is saved
        "max_steps": args.steps + 1,
        "learning_rate": 2e-5,
        "bf16": common.precision(args) == "bfloat16",
        "use_cpu": not torch.cuda.is_available(),
        "gradient_checkpointing": args.recompute,  # TRL's default is True
        "train_sampling_strategy": "sequential",
        "save_strategy": "no",
        "logging_steps": 1,
        "report_to": "none",
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "dataloader_pin_memory": False,
    }


def timed(trainer: Any) -> dict[str, Any]:
    import torch
    from transformers import TrainerCallback

    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            ends.append(time.perf_counter())

    trainer.add_callback(Clock())
    with Meter() as meter:
        trainer.train()
    steps = [entry for entry in trainer.state.log_history if "grad_norm" in entry]
    seconds = statistics.median(after - before for before, after in pairwise(ends))
    curves = {"losses": [step["loss"] for step in steps], "norms": [step["grad_norm"] for step in steps]}
    return {**meter.result(), "seconds": seconds, **curves}


def agreement(args: argparse.Namespace, mine: dict[str, Any], other: dict[str, Any]) -> str:
    """How far losses and gradient norms of the two sides are apart, in words."""
    losses, norms = (max(abs(a / b - 1) for a, b in zip(mine[k], other[k], strict=True)) for k in ("losses", "norms"))
    parity = f"first loss {mine['losses'][0]:.6f} and {other['losses'][0]:.6f}, over {args.steps + 1} steps "
    parity += f"losses within {losses:.1e} and gradient norms within {norms:.1e} relative, "
    return f"{parity}{other['differ']} of {other['samples']} samples differ in ids or labels"


def main() -> None:
    options = common.parser(__doc__)
    options.add_argument("--case", choices=CASES, default="mnli-5shot")
    options.add_argument("--steps", type=int, default=3, help="timed steps, after one for warm-up")
    options.add_argument("--per-device", type=int, help="TRL's samples at a time")
    options.set_defaults(recompute=False)
    args = options.parse_args()
    measure.need(args, "trl")
    mine, other = measure.two_sides(args, {"spillover": ours, "TRL": theirs})
    parity = agreement(args, mine, other)
    *_, batch, at_once, aim = CASES[args.case]
    at_once = args.per_device or at_once
    detail = f"{args.case}, a step of {batch} samples (TRL {at_once} x {batch // at_once}), "
    detail += f"{mine['tokens']} tokens computed of {mine['tokens_plain']}"
    measure.speedup(args, mine, other, aim, parity, detail)


if __name__ == "__main__":
    main()

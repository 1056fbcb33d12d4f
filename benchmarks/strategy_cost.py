"""What each named strategy costs beside plain fine-tuning: a training step, what comes before it, and memory.

Each strategy trains in a process of its own, and `ft` after it in the same process, on the same rows in the same order,
for one epoch. The time of a step is the mean over all steps but the first, divided by that of `ft`. Before the first
step come the pass of the base, a soft prompt or what the base writes; after the last come mixtures. All of it is told
in steps of `ft`. On a CPU, time is processor time of one thread, so that other work on the machine counts little; on a
GPU it is the time on the clock. `ft` beside itself says how exact the others are.

    python benchmarks/strategy_cost.py --out docs/strategies/cost.json
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import common
import measure
from meter import Meter

WRITTEN = {"fticl": {"fticl": {"shots": [2]}}, "wise": {"wise": {"alpha": [0.5]}}}


def plan_of(args: argparse.Namespace, strategy: str) -> Any:
    """One training of the strategy on the first rows of a data set, and what is made of it."""
    from spillover.experiment.schema import parse_experiment
    from spillover.plan.plan import make_plan

    seeds = [0, 1] if strategy == "soup" else [0]
    train = {"datasets": [args.dataset], "sizes": [args.rows], "strategies": [WRITTEN.get(strategy, strategy)]}
    train |= {"num_train_epochs": 1, "batch_size": args.batch, "seeds": seeds, "learning_rate": 1e-5}
    test = {"datasets": [args.dataset], "limit": 1, "shots": [0], "prompts": ["p1"]}
    raw = {"model": args.model, "suite": ["bigbench", "abilities"], "train": train, "test": test}
    return make_plan(parse_experiment(raw), Path(), args.data_dir)


def now() -> float:
    import torch

    if not torch.cuda.is_available():
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


@contextmanager
def before(module: Any, *functions: str) -> Iterator[list[float]]:
    """The seconds that calls of these functions take."""
    spent: list[float] = []

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            began = now()
            try:
                return function(*args, **kwargs)
            finally:
                spent.append(now() - began)

        return call

    own = {name: getattr(module, name) for name in functions}
    for name, function in own.items():
        setattr(module, name, timed(function))
    try:
        yield spent
    finally:
        for name, function in own.items():
            setattr(module, name, function)


def side(strategy: str) -> measure.Side:
    def work(args: argparse.Namespace) -> dict[str, Any]:
        from spillover.engine.memory import reuse_memory

        reuse_memory()  # as a run does, before the Trainer is imported
        with Meter() as meter:
            own = trained(args, strategy)
        plain = trained(args, "ft")
        times = {name: own[name] / plain["step"] for name in ("step", "before", "after")}
        return {**meter.result(), **times, "steps": own["steps"], "tokens": own["tokens"]}

    return work


def trained(args: argparse.Namespace, strategy: str) -> dict[str, float]:
    """Seconds of a step, and of what comes before and after the steps, once."""
    from spillover.plan.composed import compose
    from spillover.plan.jobs import MergeJob
    from spillover.train import trainer
    from spillover.work.backend import Torch

    plan, backend, folder = plan_of(args, strategy), Torch(), common.folder(args)
    job, texts, ends, once, after = next(iter(plan.trainings)), (), [], 0.0, 0.0
    for writing in job.writings:
        once, texts = write(args, plan, job, writing)
    held = compose(job, plan.encoder, plan.experiment.protocol, texts).composition
    with tempfile.TemporaryDirectory() as place:
        out, made = Path(place, "trained"), Path(place, "made")
        with before(trainer, "ask_base", "soft_prompt") as spent:
            precision: Any = common.precision(args)
            tell = lambda *_: ends.append(now())  # noqa: E731
            done = backend.train(folder, held, job, plan.experiment, out, precision, tell)
        for merge in (one for one in plan.jobs if isinstance(one, MergeJob)):
            made.mkdir()
            began = now()
            backend.merge(folder, [out] * len(merge.variant.made_from), merge, made, False)
            after += now() - began
    step = (ends[-1] - ends[0]) / (len(ends) - 1)
    return {"step": step, "before": once + sum(spent), "after": after, "steps": len(ends), "tokens": done["tokens"]}


def write(args: argparse.Namespace, plan: Any, job: Any, writing: Any) -> tuple[float, Sequence[Any]]:
    """Seconds that the base takes to write what a training asks for, from a part of it; and the texts of that part."""
    from spillover.plan.writing import OwnTexts
    from spillover.text.request import Request
    from spillover.text.samples import Sample
    from spillover.work.backend import Torch
    from spillover.work.writing import AT_ONCE

    folder, encoder = common.folder(args), plan.encoder
    if isinstance(writing, OwnTexts):
        how, one = writing.how, encoder.separator
        write = Torch().writer(folder, False)
        began = now()
        said = write(one, range(AT_ONCE), how.text_tokens, how.temperature, encoder.eos_ids | {one})
        seconds = (now() - began) * how.texts / AT_ONCE
        return seconds, [Sample((one, *ids), ((1, len(ids) + 1),), how.weight, apart=True) for ids in said]
    engine, _ = Torch().load(folder, encoder, "float32", plan.experiment, None, 0)
    ids = encoder.prompt_for_generation(list(writing.prompts), writing.chat)
    asked = [Request(each, max_new_tokens=limit) for each, limit in zip(ids, writing.limits, strict=True)]
    began = now()
    dict(engine.run(asked, encoder.stop_rule(job.rows.task.stop)))
    return now() - began, []


def main() -> None:
    options = common.parser(__doc__, rows=128)
    options.add_argument("--dataset", default="qasc", help="a training set of the suites bigbench and abilities")
    options.add_argument("--batch", type=int, default=16, help="rows a step")
    options.add_argument("--only", nargs="+", metavar="NAME", help="these strategies alone")
    options.add_argument("--out", type=Path, help="write the ratios here, for docs/strategy_pages.py")
    options.set_defaults(threads=1)
    args = options.parse_args()
    if args.side:
        measure.two_sides(args, {args.side: side(args.side)})
    from spillover.experiment.strategy import STRATEGIES

    wanted = args.only or list(STRATEGIES)
    found: dict[str, dict[str, float]] = {}
    for name in wanted:
        one = measure.child(args, name)
        found[name] = {key: round(one[key], 2) for key in ("step", "before", "after")}
        found[name]["gigabytes"] = round(one["peak_bytes"] / 1e9, 2)
        said = ", ".join(f"{key} {value:.2f}" for key, value in found[name].items())
        print(f"{name}: {said}; {one['tokens']} tokens in {one['steps']} steps", flush=True)
        how = {"model": args.model, "dataset": args.dataset, "rows": args.rows, "batch": args.batch}
        how |= {"steps": one["steps"], "machine": one["machine"]}
        measure.write_json(args.out, {**how, "strategies": found})


if __name__ == "__main__":
    main()

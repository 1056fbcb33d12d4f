"""Variants as jobs: the base, the checkpoints that are there already, and a recipe for each one to be trained.

A recipe is a data set at a size, a strategy with its number of demonstrations, a learning rate and a seed. Its
fingerprint is the variant's key: the base model's identity, the training texts, the hyper-parameters, the seed. Two
entries of the YAML that come to the same recipe (20 rows at sizes 64 and 128, FTICL with no demonstrations beside FT)
are one variant, which is computed once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from .. import models
from ..data.catalogue import Catalogue, known
from ..data.rows import TrainSet
from ..errors import ExperimentError
from ..experiment.schema import Experiment
from ..experiment.strategy import Strategy
from ..fingerprint import fingerprint
from ..text.demos import order
from ..text.encode import ENCODE_VERSION, Encoder
from ..text.prompt import RENDER_VERSION, render
from ..text.samples import SAMPLE_VERSION
from ..text.task import Example, PromptFormat
from .grid import Variant
from .questions import asked_for, prompt_format

Size = int | None  # None: all rows there are


@dataclass(frozen=True)
class Job:
    """How a variant comes to be. Trained variants have `train`, `demos` and `strategy`; existing ones `path`."""

    variant: Variant
    train: TrainSet | None = None
    demos: tuple[Example, ...] = ()
    strategy: Strategy | None = None
    path: str | None = None


@dataclass(frozen=True)
class JobMaker:
    """Names every variant of an experiment. `identity` is the base model's; the YAML's paths start from `folder`."""

    experiment: Experiment
    folder: Path
    catalogue: Catalogue
    encoder: Encoder
    identity: object

    def jobs(self) -> list[Job]:
        """The base first, then what is there, then what is to be trained; of equals the first."""
        base = Job(Variant(fingerprint({"base": self.identity}), "base", "base"))
        jobs = [base, *self._existing(), *self._trained()]
        _refuse_twice([job.variant.name for job in jobs])
        by_key: dict[str, Job] = {}
        for job in jobs:
            first = by_key.setdefault(job.variant.key, job)
            if first is not job:
                what = f"is the same as {first.variant.name} and is not computed twice"
                self.catalogue.find("warning", job.variant.name, what)
        return list(by_key.values())

    def _existing(self) -> Iterator[Job]:
        for number, spec in enumerate(self.experiment.variants):
            task = None
            if spec.trained_on:
                where = f"variants.{number}.trained_on"
                task = self.catalogue.task(known(spec.trained_on, list(self.catalogue.specs), where)).name
            identity = models.identify(spec.path, self.folder, self.experiment.trust)
            key = fingerprint({"variant": identity, "base": self.identity})
            yield Job(Variant(key, spec.name, "path", train_dataset=spec.trained_on, train_task=task), path=spec.path)

    def _trained(self) -> Iterator[Job]:
        train = self.experiment.train
        sizes_of = {number: _sizes(strategy, train.sizes) for number, strategy in enumerate(train.strategies)}
        sizes = list(dict.fromkeys([*(train.sizes or (None,)), *(size for own in sizes_of.values() for size in own)]))
        used = [size for size in sizes if any(size in own for own in sizes_of.values())]
        for name in self.catalogue.train_names():
            for size in used:
                for number, strategy in enumerate(train.strategies):
                    rows = self.catalogue.train(name, size) if size in sizes_of[number] else None
                    if rows is not None:
                        yield from self._variants(name, rows, strategy, names_size=len(used) > 1)

    def _variants(self, name: str, rows: TrainSet, strategy: Strategy, names_size: bool) -> Iterator[Job]:
        train, task = self.experiment.train, rows.task
        fmt = prompt_format(task, train.prompt, "train.prompt")
        rates = (strategy.learning_rate,) if strategy.learning_rate else train.learning_rate
        for shots in task.fticl_shots if strategy.shots == "task" else strategy.shots:
            demos, kept = self._demos(name, rows, shots)
            for rate in rates:
                for seed in train.seeds:
                    parts = [name, strategy.name + (str(shots) if shots else "")]
                    parts += [str(rows.size)] if rows.size and names_size else []
                    parts += [f"lr{rate:g}"] if len(rates) > 1 else []
                    parts += [f"s{seed}"] if len(train.seeds) > 1 else []
                    variant = Variant(
                        key=self._recipe_key(fmt, demos, kept, strategy, rate, seed),
                        name="-".join(parts),
                        kind="trained",
                        strategy=strategy.name,
                        train_dataset=name,
                        train_task=task.name,
                        train_size=rows.size or len(rows.examples),
                        train_shots=shots,
                        learning_rate=rate,
                        seed=seed,
                    )
                    yield Job(variant, replace(rows, examples=kept), demos, strategy)

    def _demos(self, name: str, rows: TrainSet, shots: int) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
        """(demonstrations of every sample, rows that remain to train on): from the set's own list, else its rows."""
        if not shots:
            return (), rows.examples
        pool = self.catalogue.demos(name)
        if not pool:
            pool = order(rows.examples, rows.task, "balanced", 0)
            if self.catalogue.specs[name].demos:
                what = "no list of demonstrations of its own can be had: training rows are shown instead"
                self.catalogue.find("warning", f"{name}, training rows", what)
        if len(pool) < shots:
            raise ExperimentError(
                f"{name!r} has {len(pool)} demonstrations, {shots} are asked for", where="train.strategies"
            )
        return pool[:shots], self.catalogue.rows_beside(pool[:shots], rows.examples, name)

    def _recipe_key(
        self,
        fmt: PromptFormat,
        demos: Sequence[Example],
        examples: Sequence[Example],
        strategy: Strategy,
        rate: float,
        seed: int,
    ) -> str:
        train = self.experiment.train
        template = self.encoder.chat_template
        return fingerprint(
            {
                "base": self.identity,
                "tokenizer": self.encoder.identity,
                "rules": {"render": RENDER_VERSION, "encode": ENCODE_VERSION, "sample": SAMPLE_VERSION},
                "demos": [[render(fmt, (), demo, template), demo.target] for demo in demos],
                "separator": fmt.demo_separator,
                "rows": [[render(fmt, (), example, template), example.target] for example in examples],
                "max_length": train.max_length,
                "overlong": train.overlong,
                "learning_rate": rate,
                "num_train_epochs": train.num_train_epochs,
                "batch_size": train.batch_size,
                "lr_scheduler_type": train.lr_scheduler_type,
                "warmup_steps": train.warmup_steps,
                "weight_decay": train.weight_decay,
                "max_grad_norm": train.max_grad_norm,
                "lora": strategy.lora.model_dump() if strategy.lora else None,
                "seed": seed,
                **asked_for(self.experiment),
                **self._departures(fmt, demos),
            }
        )

    def _departures(self, fmt: PromptFormat, demos: Sequence[Example]) -> dict[str, object]:
        """What the protocol makes of these texts that is not sound."""
        protocol = self.experiment.protocol
        found = protocol.joints_in_training(self.encoder, fmt, head=len(demos)).departures()
        return found if protocol.truncation == "demonstrations" else {**found, "truncation": protocol.truncation}


def _sizes(strategy: Strategy, sizes: Sequence[int]) -> Sequence[Size]:
    """The training sizes of a strategy: its own, else the experiment's, else all rows there are."""
    if strategy.sizes == "smallest":
        return [min(sizes)] if sizes else [None]
    return strategy.sizes or sizes or [None]


def _refuse_twice(names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ExperimentError(
                f"two variants are called {name!r}", where="variants", allowed="give each its own name"
            )

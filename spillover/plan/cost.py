"""What an experiment will cost, before anything is computed.

Work is counted in tokens, estimated from characters, in full and with shared demonstrations computed once. Time is
measured, not guessed: the receipts of this machine in this output folder tell how many seconds an estimated token took,
or else what earlier runs on this machine measured. Without both the time is unknown. Answers that are used again after
`limit` was raised are not subtracted.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from math import ceil, prod
from pathlib import Path
from statistics import fmean
from typing import Any

from .. import models
from ..experiment.axes import (
    WEIGHT_BYTES,
    AllWeights,
    DistanceToBase,
    NoPenalty,
    OwnText,
    RandomDemos,
    Replay,
    Shapes,
    SoftPrompt,
)
from ..experiment.recipe import Recipe
from ..experiment.schema import Experiment
from ..models.tensors import stored_tensors
from ..models.weights import module_of
from ..text.compose import others_beside
from ..text.task import Example
from .grid import Cell, Variant
from .jobs import Job, MadeHere, TrainJob, children
from .plan import Plan
from .questions import Sheet

CHARACTERS_A_TOKEN = 4.0  # where no tokenizer has been asked
TRAIN_COST = 3.0  # a training token against a scored one: forward, and a backward twice as dear
CALIBRATION_TEXTS = 30
LABELS, TEXT, TRAINING, LOADING = KINDS = ("labels", "text", "training", "loading")  # of work, each at its own speed
CHECKPOINT_WEIGHTS = 3  # a checkpoint is the weights and the optimiser's two moments of them
CHECKPOINTS = 2  # of a training: the newest, and the one before it in case that is broken
ROW_BYTES = 400  # of a stored answer, beside the row's own text

Parts = Sequence[tuple[Cell, Sheet]]
Json = Mapping[str, Any]


# --- cost in tokens -------------------------------------------------------------------------------


def unit_work(parts: Parts, a_token: float = CHARACTERS_A_TOKEN) -> float:
    """Tokens to be computed, roughly: demonstrations once, rows at each shot count, tokens to generate."""
    demos = max((sheet.demo_characters for _, sheet in parts), default=0)
    return (demos + sum(characters(sheet, a_token) for _, sheet in parts)) / a_token


def plain_work(parts: Parts, a_token: float = CHARACTERS_A_TOKEN) -> float:
    """The same without sharing: every prompt in full."""
    texts = sum(sheet.prompt_characters for _, sheet in parts) / a_token
    return texts + sum(len(sheet.questions) * sheet.max_new_tokens for _, sheet in parts)


def kind_of(sheet: Sheet) -> str:
    """The kind of work that a sheet is: labels to be scored, or text to be generated."""
    return LABELS if sheet.task.is_scored else TEXT


def train_work(job: TrainJob, experiment: Experiment, a_token: float = CHARACTERS_A_TOKEN) -> float:
    """Training in tokens of scoring. The samples of a step share demonstrations, but not with the plain engine.

    Where the base is asked, it reads each sample once: a forward pass, which costs as much as scoring.
    """
    recipe, own = job.recipe, [characters_of(row) for row in job.rows.examples]
    shown = float(sum(sum(map(len, e.fields.values())) + 40 for e in job.demos))
    if isinstance(recipe.demos, RandomDemos):  # half of the most, on average
        shown += recipe.demos.count / 2 * fmean(own)
    times = len(own) / (recipe.batch_size if experiment.shares else 1)
    beside = 0.0
    if isinstance(recipe.data, Replay):
        others = [characters_of(row) for one in job.others for row in one.rows.examples]
        beside = others_beside(len(own), recipe.data.share) * fmean(others or [0])
    elif isinstance(recipe.data, OwnText):
        beside = ceil(len(own) / recipe.batch_size) * recipe.data.texts_a_step * recipe.data.text_tokens * a_token
    epochs = recipe.num_train_epochs
    if isinstance(recipe.first, SoftPrompt):  # its gradients go through the model too, and no prefix is shared
        epochs, times = epochs + recipe.first.prompt_epochs, float(len(own))
    rows = (sum(own) + shown * times) / a_token
    asked = rows * _readings(recipe) if recipe.asks_rows else 0.0
    if isinstance(recipe.data, OwnText) and recipe.asks_texts:
        asked += recipe.data.texts * recipe.data.text_tokens
    return (rows + beside / a_token) * epochs * TRAIN_COST + asked


def _readings(recipe: Recipe) -> float:
    """How many samples of each row the base reads: one, or one an epoch where contexts are drawn."""
    return max(1.0, recipe.num_train_epochs) if recipe.is_drawn else min(1.0, recipe.num_train_epochs)


def characters_of(row: Example) -> int:
    return sum(map(len, row.fields.values())) + len(row.target) + 40


def characters(sheet: Sheet, a_token: float = CHARACTERS_A_TOKEN) -> float:
    """The text of a sheet's own rows, with what is to be generated counted as text."""
    return sheet.row_characters + len(sheet.questions) * sheet.max_new_tokens * a_token


def characters_a_token(plan: Plan) -> float:
    """How many characters a token has in these prompts with this tokenizer, from a few of them."""
    sheets = list(plan.sheets.values())
    step = max(1, len(sheets) // CALIBRATION_TEXTS)
    texts = [sheet.questions[i % len(sheet.questions)].text for i, sheet in enumerate(sheets[::step])]
    tokens = sum(len(plan.encoder.text_ids(text)) for text in texts)
    return max(1, sum(map(len, texts))) / max(1, tokens)


# --- cost in bytes --------------------------------------------------------------------------------


def weight_shapes(experiment: Experiment, base: Path) -> Shapes | None:
    """The shapes of the base model's weights by name; None while the model is not here yet."""
    files = sorted(models.tokenizer_folder(experiment.model, base).glob(models.WEIGHTS))
    shapes: dict[str, tuple[int, ...]] = {}
    for path in files:
        shapes |= {name: stored.shape for name, stored in stored_tensors(path).items()}
    return shapes or None


def variant_bytes(shapes: Shapes | None, job: Job) -> int | None:
    """What a variant that is made here takes on disk; None as long as the base's weights are not here."""
    return job.stored_as.stored_bytes(shapes) if shapes and isinstance(job, MadeHere) else None


def memory_bytes(shapes: Shapes | None, job: Job, a_token: float) -> int | None:
    """Memory that a training takes beside plain fine-tuning of the same weights: what its penalty compares with.

    That is the base's final hidden states at the answers and a copy of the output layer, or a copy of the weights.
    """
    if not isinstance(job, TrainJob) or isinstance(job.recipe.penalty, NoPenalty):
        return 0
    if shapes is None:
        return None
    if isinstance(job.recipe.penalty, DistanceToBase):
        return AllWeights().stored_bytes(shapes)
    embeddings = max((shape for name, shape in shapes.items() if module_of(name) == "embed"), key=prod, default=(0, 0))
    answers = sum(len(row.target) / a_token + 1 for row in job.rows.examples) * _readings(job.recipe)
    return round(WEIGHT_BYTES * (answers * embeddings[-1] + prod(embeddings)))


def work_bytes(job: Job, size: int) -> int:
    """What a variant of this size takes on disk while it is made: its checkpoints, or its parents as merged."""
    others = CHECKPOINTS * CHECKPOINT_WEIGHTS if isinstance(job, TrainJob) else len(job.variant.made_from)
    others += isinstance(job, TrainJob) and bool(job.recipe.evaluate_every)  # the best weights so far
    return size * (1 + others)


def stays(job: Job, experiment: Experiment) -> bool:
    """Whether a variant's weights are still there when its cells are done."""
    adapter = isinstance(job, MadeHere) and job.stored_as.makes_adapter
    return experiment.keep == "weights" or (experiment.keep == "adapter" and adapter)


def cell_bytes(sheet: Sheet) -> int:
    """A cell's answers with their rows, about."""
    return ROW_BYTES * len(sheet.questions) + sheet.stored_characters


@dataclass(frozen=True)
class Done:
    """What is there of a plan: `cells` that count and `trainings`, as receipts by key; the keys of variants with
    `weights`, and of what the base has `written`.

    `unasked` are the variants that will not be asked the test sets, as far as is known (`plan.choice`).
    """

    cells: Mapping[str, Json] = field(default_factory=dict)
    trainings: Mapping[str, Json] = field(default_factory=dict)
    weights: frozenset[str] = frozenset()
    written: frozenset[str] = frozenset()
    unasked: frozenset[str] = frozenset()

    def is_made(self, job: Job) -> bool:
        """Whether a variant's weights are there: it was not made here, or what was made is on disk."""
        return not isinstance(job, MadeHere) or job.variant.key in self.weights


NOTHING = Done()


def units(plan: Plan, done: Done, job: Job) -> Iterator[tuple[Parts, Parts]]:
    """For each unit of a variant, its cells that are there and its cells that are missing."""
    for _, parts in plan.units(job.variant, done.unasked):
        yield [part for part in parts if part[0].key in done.cells], [p for p in parts if p[0].key not in done.cells]


def must_be_made(plan: Plan, done: Done, job: Job) -> bool:
    """Whether a variant's weights are to be made: for its own cells, or for what is made from it."""
    if done.is_made(job):
        return False
    missing = any(want for _, want in units(plan, done, job))
    return missing or any(must_be_made(plan, done, child) for child in children(plan.jobs, job.variant.key))


@dataclass
class _Rate:
    """Seconds measured over tokens estimated."""

    seconds: float = 0.0
    tokens: float = 0.0

    def add(self, seconds: float, tokens: float) -> None:
        self.seconds += seconds
        self.tokens += tokens

    @property
    def known(self) -> bool:
        return self.seconds > 0 and self.tokens > 0


def _seconds(tokens: float, *rates: _Rate) -> float | None:
    """How long these tokens take, by the first rate that is known."""
    return next((tokens * rate.seconds / rate.tokens for rate in rates if rate.known), None)


@dataclass
class _Speed:
    """What this machine's receipts say. `older`: cells that the plan does not name, such as those of another limit.

    `here` has, by kind of work, what earlier runs on this machine took for a token of `CHARACTERS_A_TOKEN`.
    """

    here: Mapping[str, float] = field(default_factory=dict)

    labels: _Rate = field(default_factory=_Rate)
    text: _Rate = field(default_factory=_Rate)
    older: _Rate = field(default_factory=_Rate)
    training: _Rate = field(default_factory=_Rate)

    def scoring(self, parts: Parts, a_token: float) -> float | None:
        """Seconds by the rate for a sheet's kind, else by any that there is."""
        kind, tokens = kind_of(parts[0][1]), unit_work(parts, a_token)
        own = self.labels if kind == LABELS else self.text
        if not own.known and kind in self.here:
            return unit_work(parts) * self.here[kind]
        return _seconds(tokens, own, self.older, self.labels, self.text)

    def write(self, tokens: float) -> float | None:
        """Seconds by the rate of free text, of which most is written too, else by any that there is."""
        if not self.text.known and TEXT in self.here:
            return tokens * self.here[TEXT]
        return _seconds(tokens, self.text, self.older, self.labels)

    def train(self, job: TrainJob, experiment: Experiment, a_token: float) -> float | None:
        """Seconds by the rate of training, else by that of scoring, which `train_work` is measured in."""
        if not self.training.known and TRAINING in self.here:
            return train_work(job, experiment) * self.here[TRAINING]
        tokens = train_work(job, experiment, a_token)
        return _seconds(tokens, self.training, self.labels, self.older, self.text)


def _speed(plan: Plan, done: Done, older: Iterable[Json], a_token: float, here: Mapping[str, float]) -> _Speed:
    speed = _Speed(here)
    for job in plan.jobs:
        receipt = done.trainings.get(job.variant.key)
        if isinstance(job, TrainJob) and receipt and _is_comparable(receipt, plan.experiment):
            speed.training.add(receipt["seconds"], train_work(job, plan.experiment, a_token))
        for there, _ in units(plan, done, job):
            receipts = [done.cells[cell.key] for cell, _ in there]
            if there and all(_is_comparable(r, plan.experiment) for r in receipts):
                rate = speed.labels if there[0][1].task.is_scored else speed.text
                rate.add(sum(r["seconds"] for r in receipts), unit_work(there, a_token))
    if not speed.labels.known and not speed.text.known:
        variants = {job.variant.key for job in plan.jobs}  # the same model at the same place, whichever the cells
        for receipt in older:
            if receipt.get("variant") in variants and _is_comparable(receipt, plan.experiment):
                speed.older.add(receipt["seconds"], receipt["tokens"] + receipt["tokens_generated"])
    return speed


def _is_comparable(receipt: Json, experiment: Experiment) -> bool:
    """Made on this machine, in the precision that the experiment asks for."""
    return receipt.get("machine") == platform.node() and experiment.precision in ("auto", receipt.get("precision"))


# --- the estimate ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cost:
    """What is left to do. None stands for what is not known yet.

    `bytes_kept` is what trained weights will take for good. `write_tokens` is what the base writes for trainings.
    """

    cells: int
    missing: int
    train_tokens: float
    write_tokens: float
    tokens_plain: float
    tokens: float
    bytes_kept: int | None
    seconds: float | None


@dataclass(frozen=True)
class VariantCost(Cost):
    """The cost of one variant. `memory` is what its training takes beside plain fine-tuning, in bytes."""

    variant: Variant
    how: str
    memory: int | None


@dataclass(frozen=True)
class Estimate(Cost):
    """The cost of all variants together, and of each.

    `unasked` variants are asked validation rows and not the test sets; one of each choice stands for the chosen one.
    `processes` train a variant together, by `parallel`.
    """

    variants: tuple[VariantCost, ...]
    keep: str
    unasked: int = 0
    processes: int = 1
    parallel: str = "ddp"


def _total(numbers: Iterable[Any]) -> Any:
    """The sum; None where one of them is not known."""
    listed = list(numbers)
    return None if None in listed else sum(listed)


def estimate(plan: Plan, done: Done, older: Iterable[Json] = (), here: Mapping[str, float] | None = None) -> Estimate:
    """What of a plan is missing and what that will cost.

    `older` are receipts of any cells in the folder. They are read if none of the plan's own says how fast this is.
    `here` are the rates of earlier runs on this machine, by kind of work, for kinds that no receipt tells.
    """
    a_token = characters_a_token(plan)
    speed = _speed(plan, done, older, a_token, here or {})
    shapes = weight_shapes(plan.experiment, plan.base)
    costs, written = [], set(done.written)
    for job in plan.jobs:
        costs.append(_variant(plan, replace(done, written=frozenset(written)), job, a_token, speed, shapes))
        written |= {writing.key for writing in job.writings} if isinstance(job, TrainJob) else set()
    together = {one.name: _total(getattr(cost, one.name) for cost in costs) for one in fields(Cost)}
    alternatives = sum(job.variant.key in done.unasked and bool(job.variant.choices) for job in plan.jobs)
    asked, train = plan.experiment, plan.experiment.train
    return Estimate(
        **together,
        variants=tuple(costs),
        keep=asked.keep,
        unasked=alternatives,
        processes=train.processes,
        parallel=train.parallel,
    )


def _variant(plan: Plan, done: Done, job: Job, a_token: float, speed: _Speed, shapes: Shapes | None) -> VariantCost:
    there = missing = 0
    plain = tokens = 0.0
    shares = plan.experiment.shares
    seconds: list[float | None] = []
    for have, want in units(plan, done, job):
        there, missing = there + len(have), missing + len(want)
        if want:
            work = unit_work(want, a_token)
            full = plain_work(want, a_token)
            plain, tokens = plain + full, tokens + (min(work, full) if shares else full)
            seconds.append(speed.scoring(want, a_token))
    training, writing, makes = 0.0, 0.0, must_be_made(plan, done, job)
    if makes and isinstance(job, TrainJob):
        training = train_work(job, plan.experiment, a_token)
        seconds.append(speed.train(job, plan.experiment, a_token))
        writing = float(sum(one.tokens for one in job.writings if one.key not in done.written))
        seconds += [speed.write(writing)] if writing else []
    if missing:
        seconds.append(speed.here.get(LOADING, 0.0))
    made = makes and stays(job, plan.experiment)
    return VariantCost(
        variant=job.variant,
        how=job.how,
        memory=memory_bytes(shapes, job, a_token) if makes else 0,
        cells=there + missing,
        missing=missing,
        train_tokens=training / TRAIN_COST,
        write_tokens=writing,
        tokens_plain=plain,
        tokens=tokens,
        bytes_kept=variant_bytes(shapes, job) if made else 0,
        seconds=_total(seconds),
    )


def gigabytes(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.0f} MB"

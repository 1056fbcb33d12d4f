"""What is trained (`TrainSpec`), and the recipes that follow from it: a recipe is a strategy with every value resolved.

A recipe's dump is part of its variant's key, defaults included, so that a default that changes later never finds old
weights. What is left out of it does not decide the weights (`NOT_IN_RECIPE` says why, field by field; a test holds both
together). Names of fields are those of transformers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ..errors import did_you_mean
from .axes import (
    AXES,
    Answers,
    Data,
    Demos,
    EasyRows,
    First,
    KlOnTexts,
    KlToBase,
    Loss,
    Penalty,
    PythonLoss,
    RandomDemos,
    RowsInContext,
    SeedMean,
    SelectedTokens,
    Weights,
    plain,
)
from .factors import Value
from .fields import Amount, Count, Names, Natural, Processes, Rate, Rates, Seed, Seeds, Sizes, Strict, Tokens
from .strategy import STRATEGIES, Strategies, Strategy

# Those of transformers that need no options of their own.
Schedule = Literal[
    "linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup", "inverse_sqrt"
]


class TrainSpec(Strict):
    """What is trained: data sets x sizes x strategies x seeds (x learning rates). Names are those of transformers."""

    datasets: Literal["all"] | Names = Field(
        (), description="training sets; default: the data sets defined in this file"
    )
    sizes: Sizes = Field((), description="training rows; empty: all there are")
    strategies: Strategies = Field((STRATEGIES["ft"],), description="ft, fticl, lora, or a mapping with options")
    seeds: Seeds = (0,)
    learning_rate: Annotated[Rates, Field(min_length=1)] = Field((2e-5,), description="a number or a list")
    num_train_epochs: Annotated[Rates, Field(min_length=1)] = Field((2.0,), description="a number or a list")
    batch_size: Count = Field(16, description="rows an optimiser step: the effective batch")
    max_length: Tokens = Field(1024, description="tokens a sample; demonstrations are dropped first, answers never cut")
    overlong: Literal["error", "drop"] = Field("error", description="a sample that does not fit even alone")
    prompt: str = Field("p1", description="prompt format of the training samples")
    lr_scheduler_type: Schedule = "linear"
    warmup_steps: Natural = 0
    weight_decay: Amount = 0.0
    max_grad_norm: Amount = 1.0
    evaluate_every: Natural = Field(
        0, description="steps between measurements of the loss on validation rows; the best weights are kept; 0: none"
    )
    patience: Natural = Field(0, description="stop after so many measurements without a lower loss; 0: never")
    processes: Processes = Field(1, description="processes that train a variant together, a device for each")
    parallel: Literal["ddp", "fsdp"] = Field(
        "ddp", description="of several processes: ddp, each holds the whole model; fsdp, each holds a part of it"
    )
    gradient_checkpointing: bool = False
    report_to: Names = Field((), description="loggers of transformers, such as tensorboard or wandb")

    @property
    def every_seed(self) -> tuple[int, ...]:
        """The seeds of all strategies."""
        return tuple(dict.fromkeys(seed for one in self.strategies for seed in one.seeds or self.seeds))

    @model_validator(mode="after")
    def _partners_are_known(self) -> TrainSpec:
        known = dict.fromkeys([*STRATEGIES, *(strategy.name for strategy in self.strategies)])
        for strategy in self.strategies:
            if strategy.against is not None and strategy.against not in known:
                what = f"strategy {strategy.name!r} is compared with {strategy.against!r}, which is unknown"
                raise ValueError(f"{what} ({did_you_mean(strategy.against, known)})")
        return self

    @model_validator(mode="after")
    def _patience_needs_measurements(self) -> TrainSpec:
        if self.patience and not self.evaluate_every:
            raise ValueError("patience counts measurements, and nothing is measured: give train.evaluate_every")
        return self

    @model_validator(mode="after")
    def _means_have_several_seeds(self) -> TrainSpec:
        means = [
            strategy.name
            for strategy in self.strategies
            if isinstance(strategy.after, SeedMean) and len(set(strategy.seeds or self.seeds)) < 2
        ]
        if means:
            raise ValueError(f"{means[0]} is the mean over seeds, and there is only one: give train.seeds two or more")
        return self


NOT_IN_RECIPE: Mapping[str, str] = {
    "Strategy.name": "a name",
    "Strategy.source": "a citation",
    "Strategy.against": "says what is compared, after training",
    "Strategy.after": "is made of trained weights: a job of its own",
    "Strategy.sizes": "chooses rows, which are in the key as texts",
    "Strategy.datasets": "chooses rows, which are in the key as texts",
    "Strategy.seeds": "each becomes a recipe of its own",
    "PythonLoss.function": "a place; the function's name and the text of its file are in the key",
    "TrainSpec.datasets": "chooses rows, which are in the key as texts",
    "TrainSpec.sizes": "chooses rows, which are in the key as texts",
    "TrainSpec.prompt": "decides the texts of the samples, which are in the key",
    "TrainSpec.strategies": "each becomes recipes of its own",
    "TrainSpec.seeds": "each becomes a recipe of its own",
    "TrainSpec.processes": "deals the samples of a step; the gradients are those of one process",
    "TrainSpec.parallel": "where weights and gradients are held",
    "TrainSpec.gradient_checkpointing": "computes the same gradients with less memory",
    "TrainSpec.report_to": "loggers do not move weights",
}


class Recipe(Strict):
    """How weights are moved, given the samples. Every value is what will be used: no default is left open."""

    demos: Demos = plain("demos")
    answers: Answers = plain("answers")
    data: Data = plain("data")
    weights: Weights = plain("weights")
    loss: Loss = plain("loss")
    penalty: Penalty = plain("penalty")
    first: First = plain("first")
    learning_rate: Rate
    num_train_epochs: Rate
    batch_size: Count = Field(description="rows an optimiser step")
    max_length: Tokens = Field(1024, description="tokens a sample")
    overlong: Literal["error", "drop"] = "error"
    lr_scheduler_type: Schedule = "linear"
    warmup_steps: Natural = 0
    weight_decay: Amount = 0.0
    max_grad_norm: Amount = 1.0
    evaluate_every: Natural = 0
    patience: Natural = 0
    seed: Seed = 0

    @property
    def asks_distributions(self) -> bool:
        """Whether the base's whole distributions are needed, not only the tokens that are learned."""
        return isinstance(self.penalty, KlToBase | KlOnTexts)

    @property
    def asks_rows(self) -> bool:
        """Whether the base must read every sample of the rows before the first step."""
        asks = isinstance(self.loss, PythonLoss) and self.loss.asks_base
        return asks or isinstance(self.penalty, KlToBase) or isinstance(self.loss, SelectedTokens | EasyRows)

    @property
    def asks_texts(self) -> bool:
        """Whether the base must read the texts that it wrote, before the first step."""
        return isinstance(self.penalty, KlOnTexts)

    @property
    def asks_base(self) -> bool:
        return self.asks_rows or self.asks_texts

    @property
    def is_drawn(self) -> bool:
        """Whether the samples of a row differ from epoch to epoch."""
        return isinstance(self.demos, RandomDemos | RowsInContext)

    def content(self, with_seed: bool = True) -> dict[str, Any]:
        """What enters a key. Without the seed, it is what trainings with other seeds have in common.

        Where a function of one's own is found is left out: its name and its text are in the key.
        """
        exclude: dict[str, Any] = {"loss": {"function"}} | ({} if with_seed else {"seed": True})
        return self.model_dump(mode="json", exclude=exclude)


OF_TRAINING = [axis for axis in AXES if axis in Recipe.model_fields]
"""The axes that decide a training. The others say what is made of its weights."""


def recipes(strategy: Strategy, spec: TrainSpec, of_task: tuple[int, ...]) -> Iterator[tuple[Recipe, dict[str, Value]]]:
    """Every recipe of a strategy under an experiment's `train`, with its factors.

    A recipe for each number of demonstrations, each alternative of an option that is a list, number of epochs, learning
    rate and seed, in this order. `of_task` are the numbers of demonstrations that the task proposes. A value of `train`
    that any strategy has for its own, or that is a list, is a factor of all.
    """
    own = strategy.train.model_dump(exclude_none=True)
    varied = {name for one in spec.strategies for name in one.train.model_dump(exclude_none=True)} | {"learning_rate"}
    varied |= {"num_train_epochs"} if len(spec.num_train_epochs) > 1 else set()
    shared = {name: getattr(spec, name) for name in Recipe.model_fields if name in type(spec).model_fields} | own
    rates, epochs = shared.pop("learning_rate"), shared.pop("num_train_epochs")
    axes = [getattr(strategy, axis) for axis in OF_TRAINING if axis != "demos"]
    for demos, *values, many, rate, seed in product(
        strategy.demos.resolved(of_task), *(value.each() for value in axes), epochs, rates, strategy.seeds or spec.seeds
    ):
        chosen = dict(zip(OF_TRAINING, [demos, *values], strict=True))
        recipe = Recipe(**shared | chosen, num_train_epochs=many, learning_rate=rate, seed=seed)
        factors: dict[str, Value] = {"strategy": strategy.name, "train_shots": demos.count}
        factors |= {name: getattr(recipe, name) for name in varied}
        for value in values:
            factors |= value.factors
        yield recipe, factors

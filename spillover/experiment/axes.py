"""The axes on which ways to fine-tune differ, and the values of each: a strategy is one value on every axis.

    demos    what stands before a training row: nothing, fixed demonstrations, drawn ones, other training rows
    answers  what is learned: the gold answers, or these in the base model's own words
    data     which rows are trained on beside one's own: none, those of other data, the base model's own text
    weights  which weights may move: all, some of them, adapters
    loss     what an answer token counts: all the same, or more and less by how the model or its base likes it
    penalty  what is added to the loss, so that the model stays near its base
    first    what is trained before the weights: nothing, or a soft prompt
    after    what is made of trained weights: nothing, a mixture with the base, the mean over seeds, random changes

A value is a frozen class with its `kind`, its options, the factors by which its variants differ and what it costs on
disk. The first value of each axis is the one of plain fine-tuning. An option that is a list is an alternative for each
of its items (`each`). Names of options are unique over all axes, so that `{lora: {lora_r: 8}}` can leave the axis out.
Values of `loss` and `penalty` stand in `objective`. What a value does to samples is written in `plan.composed`, what it
does to a training in `train`.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import Field

from .axis import Axis
from .factors import Value
from .fields import Amounts, Count, Names, Rate, Seed, Share, Shares, Shots, Strengths, Tokens
from .objective import (
    DistanceToBase,
    EasyRows,
    EasyTokens,
    Entropy,
    EveryToken,
    KlOnTexts,
    KlToBase,
    Likelihood,
    NoPenalty,
    PythonLoss,
    SelectedTokens,
)

Shapes = Mapping[str, tuple[int, ...]]
"""The shapes of a model's weights, by name."""

WEIGHT_BYTES = 4  # a weight is trained and stored as float32


# --- demos: what stands before a training row -----------------------------------------------------------


class NoDemos(Axis):
    """Nothing: a sample is a prompt and its answer."""

    kind: Literal["none"] = "none"
    count: ClassVar[int] = 0
    fixed: ClassVar[int] = 0

    def resolved(self, of_task: tuple[int, ...]) -> list[Demos]:
        return [self]


class FixedDemos(Axis):
    """The same demonstrations before every row, in every step. One variant for each number in `shots`."""

    kind: Literal["fixed"] = "fixed"
    shots: Literal["task", "smallest", "largest"] | Shots = Field(
        "task", description="numbers of demonstrations; task: those of the task; smallest, largest: one of these"
    )

    def resolved(self, of_task: tuple[int, ...]) -> list[Demos]:
        """One value for each number of demonstrations. `of_task` are the numbers that the task proposes."""
        named = {"task": of_task, "smallest": sorted(of_task)[:1], "largest": sorted(of_task)[-1:]}
        numbers = named[self.shots] if isinstance(self.shots, str) else self.shots
        return [FixedDemos(shots=(k,)) if k else NoDemos() for k in numbers]

    @property
    def count(self) -> int:
        """The number of demonstrations, of a resolved value."""
        assert not isinstance(self.shots, str) and len(self.shots) == 1, "not resolved"
        return self.shots[0]

    @property
    def fixed(self) -> int:
        """How many rows are demonstrations, and so are not trained on."""
        return self.count


class RandomDemos(Axis):
    """Training rows drawn anew for every optimiser step, the same before all its rows, never a row of the step.

    Nor is a row drawn that shares a text with one of the step. Their number is drawn too, from 0 to `most_shots`, each
    with the same probability. A step still shares its prefix.
    """

    kind: Literal["random"] = "random"
    most_shots: Literal["task"] | Count = Field("task", description="most demonstrations; task: the task's largest")
    fixed: ClassVar[int] = 0

    def resolved(self, of_task: tuple[int, ...]) -> list[Demos]:
        most = max(of_task) if self.most_shots == "task" else self.most_shots
        return [RandomDemos(most_shots=most) if most else NoDemos()]

    @property
    def count(self) -> int:
        """The largest number of demonstrations, of a resolved value."""
        assert not isinstance(self.most_shots, str), "not resolved"
        return self.most_shots


class RowsInContext(Axis):
    """Samples of several training rows one after the other, with loss on every answer; each row once an epoch.

    The rows of a step are cut into samples, so a step has as many rows as one of plain fine-tuning, and contexts differ
    from epoch to epoch.
    """

    kind: Literal["rows"] = "rows"
    rows_in_context: Annotated[Count, Field(ge=2)] = Field(8, description="training rows a sample")
    fixed: ClassVar[int] = 0

    def resolved(self, of_task: tuple[int, ...]) -> list[Demos]:
        return [self]

    @property
    def count(self) -> int:
        """How many demonstrations the last row of a sample has."""
        return self.rows_in_context - 1


# --- answers: what is learned ---------------------------------------------------------------------------


class GoldAnswers(Axis):
    """The answers of the training rows as they are."""

    kind: Literal["gold"] = "gold"


class RewrittenAnswers(Axis):
    """The base model writes each answer again, given question and answer; kept where the content is the same."""

    kind: Literal["rewritten"] = "rewritten"


# --- data: what is trained on beside one's own rows -----------------------------------------------------


class OwnRows(Axis):
    """The training set's rows alone."""

    kind: Literal["own"] = "own"


class Replay(Axis):
    """Rows of other data beside one's own. `replay_share` is their part of all rows of the training.

    One's own rows stay as many: 64 rows and a share of 0.2 are 80 rows an epoch.
    """

    kind: Literal["replay"] = "replay"
    LISTS: ClassVar = ("replay_share",)
    replay_from: Literal["others"] | Names = Field("others", description="data sets; others: of other tasks")
    replay_share: Annotated[Shares, Field(min_length=1)] = Field((0.05,), description="part of all rows; or a list")

    @property
    def share(self) -> float:
        """The part, of a value for one training."""
        return self.replay_share[0]


class OwnText(Axis):
    """Text that the base model wrote from its document separator alone, in every step.

    Its loss is the mean over all its tokens, which is added to the mean over the answer tokens.
    """

    kind: Literal["own_text"] = "own_text"
    LISTS: ClassVar = ("text_weight",)
    text_weight: Annotated[Amounts, Field(min_length=1)] = Field((1.0,), description="weight of its loss; or a list")
    texts: Count = Field(512, description="texts that the base writes, once")
    text_tokens: Tokens = Field(128, description="tokens a text, at most")
    texts_a_step: Count = Field(4, description="texts in each step")
    temperature: Rate = Field(1.0, description="of the sampling")

    @property
    def weight(self) -> float:
        """The weight, of a value for one training."""
        return self.text_weight[0]

    @property
    def written(self) -> dict[str, Value]:
        """What decides the texts."""
        return {name: getattr(self, name) for name in ("texts", "text_tokens", "temperature")}


# --- weights: which may move ----------------------------------------------------------------------------


class AllWeights(Axis):
    """Every weight of the model."""

    kind: Literal["all"] = "all"
    makes_adapter: ClassVar = False

    def stored_bytes(self, shapes: Shapes) -> int:
        """Bytes of a trained variant on disk."""
        return WEIGHT_BYTES * sum(map(prod, shapes.values()))


class SomeWeights(Axis):
    """Weights by name, by depth or by lot; the others stay as they are. The variant is stored whole.

    A name is a kind of weight in any architecture (embed, norm, q, k, v, o, gate, up, down, head), else a part of
    the name of a weight. Embeddings and the output layer belong to no layer: they move unless they are named.
    """

    kind: Literal["some"] = "some"
    makes_adapter: ClassVar = False
    move: Names = Field((), description="kinds or parts of names that may move; empty: all")
    freeze: Names = Field((), description="kinds or parts of names that may not")
    freeze_bottom: Share = Field(0.0, description="part of the layers, from the bottom, that may not")
    freeze_half: bool = Field(False, description="a half of the modules of each layer, drawn by `freeze_seed`, may not")
    freeze_seed: Seed = Field(0, description="which half; the same for all training seeds")

    def stored_bytes(self, shapes: Shapes) -> int:
        return AllWeights().stored_bytes(shapes)


class Lora(Axis):
    """Low-rank adapters through PEFT, without dropout: a shared prefix is computed once for all samples of a step."""

    kind: Literal["lora"] = "lora"
    makes_adapter: ClassVar = True
    lora_r: Count = Field(16, description="rank of the two matrices")
    lora_alpha: Count = Field(32, description="their product is multiplied by lora_alpha / lora_r")
    lora_target_modules: str | tuple[str, ...] = Field(
        "all-linear", description="names of modules that get an adapter; all-linear: all but the output layer"
    )
    use_rslora: bool = Field(False, description="divide lora_alpha by the root of the rank instead")
    use_dora: bool = Field(False, description="learn direction and size of the weights apart")

    @property
    def factors(self) -> dict[str, Value]:
        return {"lora_r": self.lora_r}

    def stored_bytes(self, shapes: Shapes) -> int:
        """Bytes of the two thin matrices beside each adapted weight."""
        adapted = (shape for name, shape in shapes.items() if self._adapts(name, shape))
        return WEIGHT_BYTES * sum(self.lora_r * sum(shape) for shape in adapted)

    def _adapts(self, name: str, shape: tuple[int, ...]) -> bool:
        if len(shape) != 2 or "embed" in name or "lm_head" in name:
            return False
        targets = self.lora_target_modules
        return isinstance(targets, str) or any(part in targets for part in name.split("."))


# --- first, and after -----------------------------------------------------------------------------------


class NothingFirst(Axis):
    """The weights are trained from the start."""

    kind: Literal["none"] = "none"


class SoftPrompt(Axis):
    """A soft prompt is trained alone, then the weights behind it, then it is dropped."""

    kind: Literal["soft_prompt"] = "soft_prompt"
    prompt_tokens: Count = Field(20, description="vectors of the prompt")
    prompt_epochs: Rate = Field(1.0, description="epochs in which the prompt alone is trained")
    prompt_learning_rate: Rate = Field(0.03, description="its learning rate (Adam, constant)")


class NothingAfter(Axis):
    """The variant is what was trained."""

    kind: Literal["none"] = "none"


class MadeOfTrained(Axis):
    """What is made of trained weights. It is stored whole: adapters are merged first."""

    def stored_as(self, weights: Weights) -> Weights:
        """What is stored, if `weights` were trained."""
        return AllWeights()


class Mixture(MadeOfTrained):
    """base + alpha (trained - base). One training serves every alpha; 0 is the base, 1 the trained weights.

    A LoRA stays an adapter, because its change is scaled with one of its two matrices. That of DoRA is not.
    """

    kind: Literal["mixture"] = "mixture"
    LISTS: ClassVar = ("alpha",)
    alpha: Annotated[Strengths, Field(min_length=1)] = Field(
        (0.25, 0.5, 0.75), description="parts of the change that are kept; each is an alternative"
    )

    def stored_as(self, weights: Weights) -> Weights:
        return weights if isinstance(weights, Lora) and not weights.use_dora else AllWeights()

    @property
    def how(self) -> str:
        return f"the base and {self.alpha[0]:g} of what training changed"


class SeedMean(MadeOfTrained):
    """The mean of the weights over the seeds. It counts as one training."""

    kind: Literal["seed_mean"] = "seed_mean"

    @property
    def how(self) -> str:
        return "the mean of the weights over the seeds"


class RandomChange(MadeOfTrained):
    """The base and random numbers: each weight tensor is as far from the base's as training moved it."""

    kind: Literal["random_change"] = "random_change"

    @property
    def how(self) -> str:
        return "the base and a random change of the size of the trained one"


Demos = Annotated[NoDemos | FixedDemos | RandomDemos | RowsInContext, Field(discriminator="kind")]
Answers = Annotated[GoldAnswers | RewrittenAnswers, Field(discriminator="kind")]
Data = Annotated[OwnRows | Replay | OwnText, Field(discriminator="kind")]
Weights = Annotated[AllWeights | SomeWeights | Lora, Field(discriminator="kind")]
Loss = Annotated[
    EveryToken | Likelihood | SelectedTokens | EasyTokens | EasyRows | Entropy | PythonLoss, Field(discriminator="kind")
]
Penalty = Annotated[NoPenalty | KlToBase | KlOnTexts | DistanceToBase, Field(discriminator="kind")]
First = Annotated[NothingFirst | SoftPrompt, Field(discriminator="kind")]
MadeAfter = Mixture | SeedMean | RandomChange
After = Annotated[NothingAfter | Mixture | SeedMean | RandomChange, Field(discriminator="kind")]

AXES: Mapping[str, tuple[type[Axis], ...]] = {
    name: get_args(get_args(union)[0])
    for name, union in (
        ("demos", Demos),
        ("answers", Answers),
        ("data", Data),
        ("weights", Weights),
        ("loss", Loss),
        ("penalty", Penalty),
        ("first", First),
        ("after", After),
    )
}


def plain(axis: str) -> Any:
    """The value of plain fine-tuning on an axis."""
    return AXES[axis][0]()

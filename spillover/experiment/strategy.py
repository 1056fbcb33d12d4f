"""How to fine-tune, as data: a strategy is one value on each of a few axes, and a registry names the usual ones.

    demos    what stands before a training row: `none`, or `fixed` demonstrations
    weights  which weights may move: `all`, or `lora` adapters
    train    the strategy's own learning rate, epochs and batch, where they differ from the experiment's

To add a strategy, add an entry to `STRATEGIES`. To add a value to an axis, add a class here, with its `kind`, its
options, its factors and what it costs; what it does to samples or weights is written in `text.samples` or `train.axes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import BeforeValidator, Field, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue

from ..errors import did_you_mean
from .factors import Value
from .fields import Count, Counts, Listed, Name, Rate, Shots, Strict

Shapes = Mapping[str, tuple[int, ...]]
"""The shapes of a model's weights, by name."""

WEIGHT_BYTES = 4  # a weight is trained and stored as float32


class NoDemos(Strict):
    """Nothing: a sample is a prompt and its answer."""

    kind: Literal["none"] = "none"

    count: ClassVar = 0

    def resolved(self, of_task: tuple[int, ...]) -> list[Demos]:
        return [self]


class FixedDemos(Strict):
    """The same demonstrations before every row, in every step. One variant for each number in `shots`."""

    kind: Literal["fixed"] = "fixed"
    shots: Literal["task"] | Shots = Field("task", description="numbers of demonstrations; task: those of the task")

    def resolved(self, of_task: tuple[int, ...]) -> list[Demos]:
        """One value for each number of demonstrations. `of_task` are the numbers that the task proposes."""
        numbers = of_task if self.shots == "task" else self.shots
        return [FixedDemos(shots=(k,)) if k else NoDemos() for k in numbers]

    @property
    def count(self) -> int:
        """The number of demonstrations, of a resolved value."""
        assert not isinstance(self.shots, str) and len(self.shots) == 1, "not resolved"
        return self.shots[0]


class AllWeights(Strict):
    """Every weight of the model."""

    kind: Literal["all"] = "all"
    factors: ClassVar[dict[str, Value]] = {}
    makes_adapter: ClassVar = False

    def stored_bytes(self, shapes: Shapes) -> int:
        """Bytes of a trained variant on disk."""
        return WEIGHT_BYTES * sum(map(prod, shapes.values()))


class Lora(Strict):
    """Low-rank adapters through PEFT, without dropout: a shared prefix is computed once for all samples of a step."""

    kind: Literal["lora"] = "lora"
    makes_adapter: ClassVar = True
    lora_r: Count = 16
    lora_alpha: Count = 32
    lora_target_modules: str | tuple[str, ...] = "all-linear"
    use_rslora: bool = False
    use_dora: bool = False

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


Demos = Annotated[NoDemos | FixedDemos, Field(discriminator="kind")]
Weights = Annotated[AllWeights | Lora, Field(discriminator="kind")]


class TrainOptions(Strict):
    """A strategy's own values of `train`. What is left out is the experiment's."""

    learning_rate: Rate | None = None
    num_train_epochs: Rate | None = None
    batch_size: Count | None = None


class Strategy(Strict):
    """One way to fine-tune.

    `sizes`: None uses the experiment's, "smallest" the first of them. `against` names the strategy that it is compared
    with on the same training rows.
    """

    name: Name
    source: str = Field("", description="where it was proposed")
    against: str | None = Field(None, description="the strategy that it is compared with")
    sizes: Literal["smallest"] | Counts | None = None
    demos: Demos = NoDemos()
    weights: Weights = AllWeights()
    train: TrainOptions = TrainOptions()


STRATEGIES: dict[str, Strategy] = {
    one.name: one
    for one in (
        Strategy(name="ft", source="arXiv 2403.09162, section 3"),
        Strategy(name="fticl", source="arXiv 2403.09162, section 5", against="ft", demos=FixedDemos()),
        Strategy(
            name="lora", source="arXiv 2106.09685", against="ft", weights=Lora(), train=TrainOptions(learning_rate=2e-4)
        ),
    )
}


AXES: Mapping[str, tuple[type[Strict], ...]] = {
    "demos": get_args(get_args(Demos)[0]),
    "weights": get_args(get_args(Weights)[0]),
    "train": (TrainOptions,),
}
# `{lora: {lora_r: 8}}`: an option may be given without its axis. Its name says which axis, and which value of it.
OPTIONS: Mapping[str, tuple[str, type[Strict]]] = {
    name: (axis, value)
    for axis, values in AXES.items()
    for value in values
    for name in value.model_fields
    if name != "kind"
}


def parse_strategy(value: Any) -> Any:
    """`ft`, `{fticl: {shots: [3]}}` or a mapping with a `name` of its own, as a mapping of Strategy's fields.

    Raises ValueError for an unknown name or option.
    """
    if isinstance(value, str):
        return _named(value).model_dump()
    if isinstance(value, dict) and len(value) == 1 and "name" not in value:
        (name, changes), *_ = value.items()
        own = _named(name).model_dump()
        changed = _changed({**own}, {} if changes is None else changes)
        other = [axis for axis in ("demos", "weights") if _kind(changed[axis]) != _kind(own[axis])]
        if other and changed["name"] == name:
            raise ValueError(f"with other {' and '.join(other)} it is no {name}: give it a name of its own")
        return changed
    return _changed({}, value) if isinstance(value, dict) else value


def _kind(value: Any) -> Any:
    return value.get("kind") if isinstance(value, dict) else value


def _named(name: str) -> Strategy:
    if name not in STRATEGIES:
        raise ValueError(f"unknown strategy {name!r} ({did_you_mean(name, STRATEGIES)})")
    return STRATEGIES[name]


def _changed(fields: dict[str, Any], changes: Any) -> dict[str, Any]:
    """A strategy's fields with changes, which name fields of Strategy or options of an axis."""
    if not isinstance(changes, dict):
        raise ValueError(f"a strategy's options are a mapping, not {changes!r}")
    for name, value in changes.items():
        if name in Strategy.model_fields:
            before = fields.get(name)
            if isinstance(before, dict) and isinstance(value, dict) and value.get("kind") in (None, _kind(before)):
                value = {**before, **value}
            fields[name] = value
            continue
        if name not in OPTIONS:
            raise ValueError(f"unknown option {name!r} ({did_you_mean(name, [*Strategy.model_fields, *OPTIONS])})")
        axis, of_value = OPTIONS[name]
        default = of_value().model_dump()
        before = fields.get(axis, default)
        if not isinstance(before, dict) or before.get("kind") != default.get("kind"):
            before = default
        fields[axis] = {**before, name: value}
    return fields


def _written(full: JsonSchemaValue, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
    """The JSON schema of what `parse_strategy` reads: a name, a name with options, or a strategy of one's own."""
    options = dict(handler.resolve_ref_schema(full)["properties"])
    options |= {name: value.model_json_schema()["properties"][name] for name, (_, value) in OPTIONS.items()}
    fields = {"properties": options, "additionalProperties": False}
    named = {"properties": {name: {"type": ["object", "null"], **fields} for name in STRATEGIES}}
    one = {"type": "object", **named, "additionalProperties": False, "minProperties": 1, "maxProperties": 1}
    return {"anyOf": [{"enum": [*STRATEGIES]}, one, {"type": "object", **fields, "required": ["name"]}]}


Strategies = Annotated[tuple[Annotated[Strategy, BeforeValidator(parse_strategy)], ...], Listed(item=_written)]

"""How to fine-tune, as data: a strategy is one value on each of a few axes, and a registry names the usual ones.

The axes and their values are in `axes`; `train` holds the strategy's own learning rate, epochs and batch, where they
differ from the experiment's. To add a strategy, add an entry to `STRATEGIES`. Strategies are composed by `+`: each
brings the axes on which it differs from plain fine-tuning. Two that bring different values for one axis are refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue

from ..errors import did_you_mean
from .axes import (
    AXES,
    After,
    Answers,
    Axis,
    Data,
    Demos,
    DistanceToBase,
    EasyRows,
    EasyTokens,
    Entropy,
    First,
    FixedDemos,
    KlOnTexts,
    KlToBase,
    Likelihood,
    Lora,
    Loss,
    Mixture,
    OwnText,
    Penalty,
    PythonLoss,
    RandomChange,
    RandomDemos,
    Replay,
    RewrittenAnswers,
    RowsInContext,
    SeedMean,
    SelectedTokens,
    SoftPrompt,
    SomeWeights,
    Weights,
    plain,
)
from .fields import Count, Counts, Listed, Name, Names, Rates, Seeds, Strict


class TrainOptions(Strict):
    """A strategy's own values of `train`. What is left out is the experiment's."""

    learning_rate: Annotated[Rates, Field(min_length=1)] | None = None
    num_train_epochs: Annotated[Rates, Field(min_length=1)] | None = None
    batch_size: Count | None = None


class Strategy(Strict):
    """One way to fine-tune.

    `sizes`, `datasets` and `seeds`: None uses the experiment's; sizes may be "smallest", the first of them. `against`
    names the strategy that it is compared with on the same training rows.
    """

    name: Name
    source: str = Field("", description="where it was proposed")
    against: str | None = Field(None, description="the strategy that it is compared with")
    sizes: Literal["smallest"] | Counts | None = None
    datasets: Names | None = Field(None, description="the training sets that it is trained on; default: all of them")
    seeds: Seeds | None = Field(None, description="its training seeds; default: train.seeds")
    demos: Demos = plain("demos")
    answers: Answers = plain("answers")
    data: Data = plain("data")
    weights: Weights = plain("weights")
    loss: Loss = plain("loss")
    penalty: Penalty = plain("penalty")
    first: First = plain("first")
    after: After = plain("after")
    train: TrainOptions = TrainOptions()

    @model_validator(mode="after")
    def _is_possible(self) -> Strategy:
        values = {axis: getattr(self, axis) for axis in AXES}
        if isinstance(self.loss, PythonLoss) and not self.loss.function:
            raise ValueError(f"{self.name} needs the function of its loss, such as `function: file.py:name`")
        if isinstance(self.penalty, KlOnTexts) and not isinstance(self.data, OwnText):
            raise ValueError(f"{self.name} has a penalty on the base's own texts, so it needs `data: own_text`")
        for first, second, why in IMPOSSIBLE:
            if {first, second} <= set(map(type, values.values())):
                raise ValueError(f"{self.name} cannot be trained: {why}")
        return self


IMPOSSIBLE: tuple[tuple[type[Axis], type[Axis], str], ...] = (
    (Lora, DistanceToBase, "an adapter leaves the base's weights where they are, so their distance is 0"),
    (SoftPrompt, KlToBase, "the base has never read the soft prompt, so a divergence from it would say nothing"),
    (RowsInContext, EasyRows, "a sample of several rows has no single row whose loss would weigh it"),
)
"""Pairs of values that do not go together, and why."""


ADAPTERS = TrainOptions(learning_rate=(2e-4,))

STRATEGIES: dict[str, Strategy] = {
    one.name: one
    for one in (
        Strategy(name="ft", source="arXiv 2403.09162, section 3"),
        Strategy(name="fticl", source="arXiv 2403.09162, section 5", against="ft", demos=FixedDemos()),
        Strategy(
            name="fticl-random", source="MetaICL, arXiv 2110.15943; 2512.19879", against="ft", demos=RandomDemos()
        ),
        Strategy(name="manyicl", source="arXiv 2506.11103", against="ft", demos=RowsInContext()),
        Strategy(name="cfs", source="arXiv 2505.13811", against="ft", data=OwnText()),
        Strategy(
            name="distill",
            source="cfs with the penalty of LwF, arXiv 1606.09282",
            against="ft",
            data=OwnText(text_weight=(0.0,)),
            penalty=KlOnTexts(),
        ),
        Strategy(name="rewrite", source="arXiv 2402.13669 (SDFT)", against="ft", answers=RewrittenAnswers()),
        Strategy(name="replay", source="arXiv 2502.06042", against="ft", data=Replay()),
        Strategy(name="promot", source="arXiv 2211.00635 (ProMoT)", against="ft", first=SoftPrompt()),
        Strategy(name="lora", source="arXiv 2106.09685; 2405.09673", against="ft", weights=Lora(), train=ADAPTERS),
        Strategy(name="wise", source="arXiv 2109.01903; 2506.01901", against="ft", after=Mixture()),
        Strategy(name="soup", source="arXiv 2203.05482", against="ft", after=SeedMean()),
        Strategy(name="noise", source="a null: no training", against="ft", after=RandomChange()),
        Strategy(name="dora", source="arXiv 2402.09353", against="ft", weights=Lora(use_dora=True), train=ADAPTERS),
        Strategy(name="rslora", source="arXiv 2312.03732", against="ft", weights=Lora(use_rslora=True), train=ADAPTERS),
        Strategy(name="freeze", source="arXiv 2404.18466", against="ft", weights=SomeWeights(freeze_half=True)),
        Strategy(name="v-only", source="arXiv 2501.13453; 2602.23197", against="ft", weights=SomeWeights(move=("v",))),
        Strategy(name="kl", source="arXiv 2509.04259", against="ft", penalty=KlToBase()),
        Strategy(name="l2sp", source="arXiv 1802.01483 (L2-SP)", against="ft", penalty=DistanceToBase()),
        Strategy(name="asft", source="arXiv 2509.23753", against="ft", loss=Likelihood(), penalty=KlToBase()),
        Strategy(name="stm", source="arXiv 2501.14315", against="ft", loss=SelectedTokens()),
        Strategy(name="talr", source="arXiv 2509.20758", against="ft", loss=EasyTokens()),
        Strategy(name="flow", source="arXiv 2502.02797", against="ft", loss=EasyRows()),
        Strategy(name="eaft", source="arXiv 2601.02151", against="ft", loss=Entropy()),
    )
}


OF_STRATEGY: Mapping[str, tuple[type[Strict], ...]] = {**AXES, "train": (TrainOptions,)}
# `{lora: {lora_r: 8}}`: an option may be given without its axis. Its name says which axis, and which value of it.
OPTIONS: Mapping[str, tuple[str, type[Strict]]] = {
    name: (axis, value)
    for axis, values in OF_STRATEGY.items()
    for value in values
    for name in value.model_fields
    if name != "kind"
}


def parse_strategy(value: Any) -> Any:
    """`ft`, `fticl + lora`, `{fticl: {shots: [3]}}` or a mapping with a `name`, as a mapping of Strategy's fields.

    Raises ValueError for an unknown name or option.
    """
    if isinstance(value, str):
        return _named(value).model_dump()
    if isinstance(value, dict) and len(value) == 1 and "name" not in value:
        (name, changes), *_ = value.items()
        own = _named(str(name)).model_dump()
        changed = _changed({**own}, {} if changes is None else changes)
        other = [axis for axis in AXES if _kind(changed[axis]) != _kind(own[axis])]
        if other and changed["name"] == own["name"]:
            raise ValueError(f"with other {' and '.join(other)} it is no {name}: give it a name of its own")
        return changed
    return _changed({}, value) if isinstance(value, dict) else value


def _kind(value: Any) -> Any:
    return value.get("kind") if isinstance(value, dict) else value


def _named(written: str) -> Strategy:
    """One of the registry, or several of it with `+` between them."""
    names = [name.strip() for name in written.split("+")]
    for name in names:
        if name not in STRATEGIES:
            raise ValueError(f"unknown strategy {name!r} ({did_you_mean(name, STRATEGIES)})")
    if len(names) == 1:
        return STRATEGIES[names[0]]
    brought: dict[str, tuple[str, Any]] = {}
    for name in names:
        strategy = STRATEGIES[name]
        for axis in [*AXES, "train"]:
            value = getattr(strategy, axis)
            if value == (TrainOptions() if axis == "train" else plain(axis)):
                continue
            before, other = brought.setdefault(axis, (name, value))
            if other != value:
                raise ValueError(f"{before} and {name} do not go together: both say what {axis} is")
    sources = "; ".join(dict.fromkeys(STRATEGIES[name].source for name in names))
    fields: dict[str, Any] = {axis: value for axis, (_, value) in brought.items()}
    trained = [name for name in names if STRATEGIES[name].after == plain("after")]
    against = trained[0] if len(trained) == 1 else "ft"  # what is made of a training is compared with that training
    return Strategy(name="+".join(names), source=sources, against=against, **fields)


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


def shortest(strategy: Strategy) -> Any:
    """The shortest way to write a strategy that `parse_strategy` reads as the same: a name, a name with options, or
    a mapping of its own."""
    whole, nothing = (one.model_dump(mode="json") for one in (strategy, Strategy(name="ft")))
    own = {name: value for name, value in whole.items() if name == "name" or value != nothing[name]}
    try:
        named = _named(strategy.name).model_dump(mode="json")
    except ValueError:
        return own
    options: dict[str, Any] = {}
    for name, value in whole.items():
        if name in AXES and _kind(value) == _kind(named[name]):
            options |= {option: chosen for option, chosen in value.items() if chosen != named[name][option]}
        elif value != named[name]:
            options[name] = value
    return own if AXES.keys() & options else {strategy.name: options} if options else strategy.name


def _written(full: JsonSchemaValue, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
    """The JSON schema of what `parse_strategy` reads: a name, a name with options, or a strategy of one's own."""
    options = dict(handler.resolve_ref_schema(full)["properties"])
    options |= {name: value.model_json_schema()["properties"][name] for name, (_, value) in OPTIONS.items()}
    fields = {"properties": options, "additionalProperties": False}
    changed = {"type": ["object", "null"], **fields}
    names = "|".join(map(re.escape, STRATEGIES))
    several = rf"^({names})( *\+ *({names}))+$"
    named = {"properties": dict.fromkeys(STRATEGIES, changed), "patternProperties": {several: changed}}
    one = {"type": "object", **named, "additionalProperties": False, "minProperties": 1, "maxProperties": 1}
    text = [{"enum": [*STRATEGIES]}, {"type": "string", "pattern": several}]
    return {"anyOf": [*text, one, {"type": "object", **fields, "required": ["name"]}]}


Strategies = Annotated[tuple[Annotated[Strategy, BeforeValidator(parse_strategy)], ...], Listed(item=_written)]

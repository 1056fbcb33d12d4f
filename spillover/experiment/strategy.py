"""How to fine-tune, as data.

A strategy says which demonstrations stand in a training sample, which weights may move, and with what learning
rate. It is never a subclass: the trainer reads these fields and nothing else. The named ones:

| name  | what                                                              | source |
|-------|-------------------------------------------------------------------|--------|
| ft    | prompt and answer, loss on the answer                             | Yang et al. 2024, section 3 |
| fticl | k fixed demonstrations before the prompt, loss on the last answer | Yang et al. 2024, section 5 |
| lora  | as ft, but low-rank adapters move instead of the weights          | Hu et al. 2021; Biderman et al. 2024 |
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue

from ..errors import did_you_mean
from .suite import Counts, Listed, Strict, as_list


class Lora(Strict):
    """Low-rank adapters through PEFT, without dropout: a shared prefix is drawn once (see docs/how-it-works.md)."""

    lora_r: int = Field(16, ge=1)
    lora_alpha: int = Field(32, ge=1)
    lora_target_modules: str | tuple[str, ...] = "all-linear"
    use_rslora: bool = False
    use_dora: bool = False


class Strategy(Strict):
    """One way to fine-tune.

    `shots`: demonstrations in every training sample, one variant for each number; "task" takes the task's
    (`Task.fticl_shots`). `sizes`: None uses the experiment's, "smallest" the first of them.
    """

    name: str
    shots: Literal["task"] | Counts = (0,)
    sizes: Literal["smallest"] | Counts | None = None
    learning_rate: float | None = Field(None, gt=0)
    lora: Lora | None = None


NAMED: dict[str, Strategy] = {
    "ft": Strategy(name="ft"),
    "fticl": Strategy(name="fticl", shots="task"),
    "lora": Strategy(name="lora", lora=Lora(), learning_rate=2e-4),
}


def parse_strategy(value: Any) -> Any:
    """`ft`, `{fticl: {shots: [3]}}` or a mapping with a `name` of its own, as a mapping of Strategy's fields."""
    if isinstance(value, str):
        return _named(value).model_dump()
    if isinstance(value, dict) and len(value) == 1 and "name" not in value:
        (name, changes), *_ = value.items()
        return _merge(_named(name).model_dump(), changes or {})
    return value


def _named(name: str) -> Strategy:
    if name not in NAMED:
        raise ValueError(f"unknown strategy {name!r} ({did_you_mean(name, NAMED)})")
    return NAMED[name]


def _merge(fields: dict[str, Any], changes: Any) -> dict[str, Any]:
    """Changes may name Lora's fields directly: `{lora: {lora_r: 8}}`."""
    if not isinstance(changes, dict):
        raise ValueError(f"a strategy's options are a mapping, not {changes!r}")
    inner = {key: value for key, value in changes.items() if key in Lora.model_fields}
    outer = {key: value for key, value in changes.items() if key not in inner}
    merged = {**fields, **outer}
    if inner:
        merged["lora"] = {**(fields["lora"] or {}), **inner}
    return merged


def _parse_strategies(value: Any) -> Any:
    return [parse_strategy(item) for item in as_list(value)]


def _strategy_item(full: JsonSchemaValue, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
    """What `parse_strategy` reads, as JSON schema: a name, a name with options, or a whole Strategy (`full`)."""
    options = {**handler.resolve_ref_schema(full)["properties"], **Lora.model_json_schema()["properties"]}
    del options["name"]
    changes = {"type": ["object", "null"], "properties": options, "additionalProperties": False}
    named = dict.fromkeys(NAMED, changes)
    return {
        "anyOf": [
            {"enum": [*NAMED]},
            {
                "type": "object",
                "properties": named,
                "additionalProperties": False,
                "minProperties": 1,
                "maxProperties": 1,
            },
            full,
        ]
    }


Strategies = Annotated[tuple[Strategy, ...], Listed(_parse_strategies, _strategy_item)]

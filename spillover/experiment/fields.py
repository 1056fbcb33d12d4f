"""How a YAML value is read: frozen models that refuse unknown keys, and lists that one item may stand for.

Every model of an experiment is `Strict`. A tuple that is marked with `Listed` takes a single item as a list of one, and
the JSON schema for editors knows it.

Numbers, texts and lists have upper bounds far beyond any use, so that a slip of the finger is told at once instead of
ending in a full memory. docs/reference.md lists them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from ..errors import shown, visible

MOST = 10**9  # of rows, tokens, steps and whatever else is counted
MOST_SEED = 2**32 - 1  # numpy's
MOST_SHOTS = 10_000
MOST_PROCESSES = 1_024  # of one training
MOST_STRENGTH = 2.0  # of a change that training made: beyond 1 it is extrapolated
MOST_TEXT = 100_000  # characters
MOST_ITEMS = 1_000  # of a list of numbers, which multiply trainings or tests
MOST_NAME = 200  # characters


class Strict(BaseModel):
    """A frozen model that refuses keys it does not know, numbers that are not finite, and very long texts."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, str_max_length=MOST_TEXT)


def _one_line(name: str) -> str:
    if visible(name) != name:
        raise ValueError(f"{shown(name)} has control characters, which a name may not have")
    return name


Name = Annotated[str, Field(min_length=1, max_length=MOST_NAME), AfterValidator(_one_line)]
"""A name that the user gives: it stands in tables, figures and names of files."""


def as_list(value: Any) -> Any:
    """One item where a list is expected means a list of one."""
    if value is None:
        return []
    return [value] if isinstance(value, (str, int, float, dict)) else value


@dataclass(frozen=True)
class Listed:
    """Marks a tuple that a single item may stand for, for the reader and for the JSON schema alike.

    `read` makes a list of what the YAML holds. `item` makes the schema of one item as it may be written, from the
    schema of one item as it is kept.
    """

    read: Callable[[Any], Any] = as_list
    item: Callable[[JsonSchemaValue, GetJsonSchemaHandler], JsonSchemaValue] = lambda item, _: item

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self.read, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        listed = handler(schema)
        item = self.item(listed["items"], handler)
        return {"anyOf": [item, {**listed, "items": item}]}


def _true_is_not_one(value: Any) -> Any:
    """`limit: true` is no number, although Python takes it for one."""
    if isinstance(value, bool):
        raise ValueError(f"{str(value).lower()} is no number")
    return value


# The last in each: bounds before it would be lost from the JSON schema.
NUMBER = BeforeValidator(_true_is_not_one)
Real = Annotated[float, NUMBER]
Rate = Annotated[float, Field(gt=0, le=MOST), NUMBER]
Amount = Annotated[float, Field(ge=0, le=MOST), NUMBER]
Share = Annotated[float, Field(ge=0, lt=1), NUMBER]
Count = Annotated[int, Field(ge=1, le=MOST), NUMBER]
Natural = Annotated[int, Field(ge=0, le=MOST), NUMBER]
Seed = Annotated[int, Field(ge=0, le=MOST_SEED), NUMBER]
Processes = Annotated[int, Field(ge=1, le=MOST_PROCESSES), NUMBER]
Tokens = Annotated[int, Field(ge=8, le=MOST), NUMBER]

_FEW = Field(max_length=MOST_ITEMS)
Names = Annotated[tuple[str, ...], Listed()]
# Negative shots would slice from the end of a list.
Counts = Annotated[tuple[Natural, ...], _FEW, Listed()]
Shots = Annotated[tuple[Annotated[int, Field(ge=0, le=MOST_SHOTS), NUMBER], ...], _FEW, Listed()]
Sizes = Annotated[tuple[Count, ...], _FEW, Listed()]
Seeds = Annotated[tuple[Seed, ...], Field(min_length=1, max_length=MOST_ITEMS), Listed()]
Rates = Annotated[tuple[Rate, ...], _FEW, Listed()]
Amounts = Annotated[tuple[Amount, ...], _FEW, Listed()]
Strengths = Annotated[tuple[Annotated[float, Field(ge=0, le=MOST_STRENGTH), NUMBER], ...], _FEW, Listed()]
Shares = Annotated[tuple[Share, ...], _FEW, Listed()]

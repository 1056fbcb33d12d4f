"""How a YAML value is read: frozen models that refuse unknown keys, and lists that one item may stand for.

Every model of an experiment is `Strict`. A tuple that is marked with `Listed` takes a single item as a list of one, and
the JSON schema for editors knows it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema


class Strict(BaseModel):
    """A frozen model that refuses keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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


Names = Annotated[tuple[str, ...], Listed()]
# Negative shots would slice from the end of a list. numpy refuses negative seeds.
Counts = Annotated[tuple[Annotated[int, Field(ge=0)], ...], Listed()]
Rates = Annotated[tuple[Annotated[float, Field(gt=0)], ...], Listed()]
AtLeastOne = Annotated[Counts, Field(min_length=1)]

"""Two protocols for a study, and every mixture of them.

`sound` is what this package considers right. `paper` repeats the choices of the study's released code. Each difference
is one switch, so that its effect can be measured alone: `protocol: {base: sound, label_scoring: first_token}`, or
`sound + label_scoring=first_token`, as results name it.

Switches are in no key. They change rows, texts, ids or samples, and those are. `text.switches` applies them;
docs/protocols.md lists their sources and effects.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticKnownError

from . import dialect
from .fields import Count, Strict
from .suite import DatasetSpec

BASES: dict[str, dict[str, Any]] = dialect.shipped(__package__, "protocols.yaml")
"""The switches of each protocol that differ from the defaults below."""


class Protocol(Strict):
    """How an experiment is run, switch by switch. Read from a name, from `name + switch=value`, or from a mapping."""

    answer_delimiter: Literal["space", "none"] = Field(
        "space", description="between prompt and answer, where the format does not say"
    )
    answer_joint: Literal["together", "apart"] = Field(
        "together", description="prompt and answer as one text to the tokenizer, or the prompt alone, to its last space"
    )
    demo_joint: Literal["together", "apart"] = Field(
        "together", description="demonstrations and query as one text to the tokenizer, or as two"
    )
    bos: Literal["alike", "mixed"] = Field(
        "alike", description="as the tokenizer does for plain text; or one in training, none to two in tests"
    )
    label_scoring: Literal["whole", "first_token", "per_token", "per_character", "per_byte"] = Field(
        "whole", description="the log-probability of a label or option, or of its first token, or divided by its length"
    )
    unanswerable: Literal["left_out", "wrong"] = Field(
        "left_out", description="test rows whose gold label no answer can be (drop_labels)"
    )
    escapes: Literal["undone", "kept"] = Field("undone", description=r"a literal \n in a row (unescape)")
    demos_in_test: Literal["left_out", "scored"] = Field(
        "left_out", description="test rows that are demonstrations of their set too"
    )
    demos_in_training: Literal["left_out", "kept"] = Field(
        "left_out", description="training rows that are demonstrations of the task's test sets too"
    )
    truncation: Literal["demonstrations", "right"] = Field(
        "demonstrations", description="what a sample beyond train.max_length loses: demonstrations, or its end"
    )
    max_new_tokens: Count | None = Field(None, description="of a generated answer; null: as the data set says")
    stop: Literal["blank_line", "none"] = Field(
        "blank_line",
        description="where generation ends before its limit (or at the data set's stop); it is cut there either way",
    )
    bars: Literal["same_shots", "best_shots"] = Field(
        "same_shots", description="what the bars of Figures 4 and 5 show of fine-tuned models"
    )

    @model_validator(mode="before")
    @classmethod
    def _over_its_base(cls, given: Any) -> Any:
        if isinstance(given, str):
            base, *changes = (part.strip() for part in given.split("+"))
            pairs = (change.partition("=") for change in changes)
            given = {"base": base, **{key: None if value == "null" else value for key, _, value in pairs}}
        if not isinstance(given, Mapping):
            return given
        base = given.get("base", "sound")
        if base not in list(BASES):
            raise PydanticKnownError("literal_error", {"expected": " or ".join(map(repr, BASES))})
        return {**BASES[base], **{key: value for key, value in given.items() if key != "base"}}

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        switches = handler(schema)
        name = {"type": "string", "pattern": f"^({'|'.join(BASES)})( *\\+ *\\w+=\\w+)*$", "examples": list(BASES)}
        properties = {"base": {"enum": list(BASES), "default": "sound"}, **switches["properties"]}
        return {"anyOf": [name, {**switches, "properties": properties}]}

    @property
    def name(self) -> str:
        """`sound`, `paper`, or the nearer of them with what differs; `Protocol.named` reads it."""
        differing = {base: self._changes(Protocol(**switches)) for base, switches in BASES.items()}
        base = min(differing, key=lambda one: len(differing[one]))
        changes = ((key, "null" if value is None else value) for key, value in differing[base].items())
        return " + ".join([base, *(f"{key}={value}" for key, value in changes)])

    @classmethod
    def named(cls, name: str) -> Protocol:
        """The protocol that a table of results names."""
        return cls.model_validate(name)

    def _changes(self, other: Protocol) -> dict[str, Any]:
        theirs = other.model_dump()
        return {key: value for key, value in self.model_dump().items() if value != theirs[key]}

    def dataset(self, spec: DatasetSpec) -> DatasetSpec:
        """A data set whose sources leave literal escapes alone, where this protocol does."""
        if self.escapes == "undone":
            return spec
        as_they_are: dict[str, Any] = {}
        for part in ("train", "test", "demos"):
            as_they_are[part] = tuple(source.changed(unescape=False) for source in getattr(spec, part))
        return spec.model_copy(update=as_they_are)


SOUND, PAPER = Protocol(), Protocol.named("paper")

"""A claim about results, as data: what is compared with what, where, and which difference is expected (docs/claims.md).

A side selects variants by their factors and cells by their condition. `theirs` names only how it differs from `ours`;
in all other columns the cells on both sides are equal. Columns that are not in `each` are averaged, with the same
weight for each test set. The expected range is in points of 100. `analysis.judge` compares it with the interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from math import inf
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, GetJsonSchemaHandler, WithJsonSchema, create_model, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from ..errors import did_you_mean
from . import dialect
from .factors import FACTORS, Factor
from .fields import Counts, Listed, Name, Names, Rate, Rates, Real, Shots, Strict
from .suite import Kind, Role

Measure = Literal["score", "off_format", "training_loss", "weight_deviation"]
Holds = Literal["all", "any", "majority"]
OF_THE_TEST = frozenset({"role", "kind", "task", "test_dataset"})
OF_A_CELL = OF_THE_TEST | {"shots", "prompt"}
COLUMNS = ("variant", *FACTORS, "role", "kind", "task", "test_dataset", "shots", "prompt")
"""What a claim may select by: the variant's name, its factors, and what it was asked."""


def _column(name: str) -> str:
    if name not in COLUMNS:
        raise ValueError(f"{name!r} is not allowed ({did_you_mean(name, COLUMNS)})")
    return name


Column = Annotated[str, AfterValidator(_column), WithJsonSchema({"enum": list(COLUMNS)})]
Columns = Annotated[tuple[Column, ...], Listed()]
MEASURES_OF_A_VARIANT: frozenset[Measure] = frozenset({"training_loss", "weight_deviation"})  # they know no cells


def _values(factor: Factor) -> Any:
    """The type of a list of a factor's values."""
    if factor.choices:
        choice = Literal[factor.choices]  # type: ignore[name-defined]
        return Annotated[tuple[choice, ...], Listed()]
    return {str: Names, int: Counts, float: Rates}[factor.type]


_FIELDS: dict[str, Any] = {"variant": (Names, Field((), description="by name; `base` is the model itself"))}
_FIELDS |= {name: (_values(factor), Field((), description=factor.about or None)) for name, factor in FACTORS.items()}
_Factors: Any = create_model("_Factors", __base__=Strict, **_FIELDS)


class Select(_Factors):
    """Which variants, by name or by factors, and which of their cells. What is left out selects nothing away."""

    role: Annotated[tuple[Role, ...], Listed()] = Field(
        (), description="of the test set; for the base, its role for any variant"
    )
    kind: Annotated[tuple[Kind, ...], Listed()] = Field((), description="of the test set")
    task: Names = Field((), description="of the test set")
    test_dataset: Names = ()
    shots: Literal["some"] | Shots = Field((), description="a number or a list; some: any but 0")
    prompt: Names = ()

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        """`base` stands for `{variant: base}`."""
        return {"variant": value} if isinstance(value, str) else value

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [{"type": "string", "description": "a variant"}, handler.resolve_ref_schema(handler(schema))]}

    @property
    def given(self) -> dict[str, Any]:
        """The columns that it names, with what it wants of them."""
        return {name: getattr(self, name) for name in type(self).model_fields if getattr(self, name)}

    def __str__(self) -> str:
        said = {name: want if isinstance(want, str) else "/".join(map(str, want)) for name, want in self.given.items()}
        return " ".join(f"{text} shots" if name == "shots" else text for name, text in said.items())


class Expect(Strict):
    """Where a difference ought to lie: `above`, `below`, or a range with its ends stated.

    `within: 2` is from -2 to 2, `beyond: 2` all but that; `above` is `at_least: 0` and `below` is `at_most: 0`.
    """

    at_least: Real | None = None
    at_most: Real | None = None
    within: Rate | None = None
    beyond: Rate | None = None

    @model_validator(mode="before")
    @classmethod
    def _word(cls, value: Any) -> Any:
        words: Mapping[str, Any] = {"above": {"at_least": 0}, "below": {"at_most": 0}}
        if not isinstance(value, str):
            return value
        if value not in words:
            raise ValueError(f"{value!r} is not allowed ({did_you_mean(value, [*words, *cls.model_fields])})")
        return words[value]

    @model_validator(mode="after")
    def _one_range(self) -> Expect:
        ends = self.at_least is not None or self.at_most is not None
        if ends + (self.within is not None) + (self.beyond is not None) != 1:
            raise ValueError("give at_least, at_most or both; or within; or beyond")
        if self.low >= self.high:
            raise ValueError("at_least must be less than at_most")
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [{"enum": ["above", "below"]}, handler.resolve_ref_schema(handler(schema))]}

    @property
    def low(self) -> float:
        margin = self.within or self.beyond
        return -margin if margin else -inf if self.at_least is None else self.at_least

    @property
    def high(self) -> float:
        margin = self.within or self.beyond
        return margin if margin else inf if self.at_most is None else self.at_most

    def __str__(self) -> str:
        if self.within or self.beyond:
            return f"within ±{self.within:g}" if self.within else f"beyond ±{self.beyond:g}"
        if self.at_least is not None and self.at_most is not None:
            return f"from {self.at_least:g} to {self.at_most:g}".replace("-", "−")
        if self.at_least is None:
            return f"at most {self.at_most:g}".replace("-", "−") if self.at_most else "below 0"
        return f"at least {self.at_least:g}".replace("-", "−") if self.at_least else "above 0"


class Comparison(Strict):
    """`ours`, or `ours - theirs`, or that less the same elsewhere (`minus`), expected to lie in a range.

    With `each`, it is made once for every value of those columns among ours, and `holds` says of how many it must
    be true. `minus`, like `theirs`, says only in what it differs from `ours`.
    """

    what: str = Field("", description="in words, for the report; left out: written from the selections")
    measure: Measure = Field("score", description="score: the first metric of the test set")
    ours: Select
    theirs: Select | None = None
    minus: Select | None = Field(None, description="where, or for whom, the same difference is subtracted")
    each: Columns = Field((), description="columns of ours")
    holds: Holds = "all"
    expect: Expect

    @model_validator(mode="after")
    def _possible(self) -> Comparison:
        if self.measure in MEASURES_OF_A_VARIANT:
            of_cells = OF_A_CELL & {*self.each, *(name for side in self.sides for name in side.given)}
            if of_cells:
                raise ValueError(f"{self.measure} is of a variant, not of its cells: leave out {min(of_cells)}")
        return self

    @property
    def sides(self) -> list[Select]:
        return [side for side in (self.ours, self.theirs, self.minus) if side is not None]

    @property
    def title(self) -> str:
        if self.what:
            return self.what
        difference = f"{self.ours} − {self.theirs}" if self.theirs is not None else f"{self.ours}"
        return f"({difference}) − (the same, {self.minus})" if self.minus is not None else difference

    @property
    def range(self) -> tuple[float, float]:
        """The ends of the expected range in the unit of what is measured: scores are from 0 to 1."""
        return self.expect.low / self.scale, self.expect.high / self.scale

    @property
    def scale(self) -> float:
        """What a number is multiplied with to be written: scores are points of 100."""
        return 1 if self.measure in MEASURES_OF_A_VARIANT else 100


class Claim(Strict):
    """One sentence, and comparisons that must all be true for it. `caveat`: what they cannot show."""

    id: Name
    text: str
    source: str = Field("", description="where it was claimed")
    caveat: str = Field("", description="what the comparisons cannot show")
    comparisons: Annotated[tuple[Comparison, ...], Field(min_length=1), Listed()]


def _told_apart(claims: tuple[Claim, ...]) -> tuple[Claim, ...]:
    ids = [claim.id for claim in claims]
    if twice := [one for one in ids if ids.count(one) > 1]:
        raise ValueError(f"two claims have the id {twice[0]!r}")
    return claims


def _claim_or_file(claim: JsonSchemaValue, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
    return {"anyOf": [{"type": "string", "description": "a YAML file with a list under `claims`"}, claim]}


Claims = Annotated[tuple[Claim, ...], AfterValidator(_told_apart), Listed(item=_claim_or_file)]


class ClaimFile(Strict):
    """What a file of claims holds."""

    claims: Claims


def as_yaml(claims: Sequence[Claim]) -> str:
    """Claims as the text of a file of claims."""
    raw = [claim.model_dump(mode="json", exclude_defaults=True) for claim in claims]
    return dialect.write({"claims": raw})


@cache
def study_claims() -> tuple[Claim, ...]:
    """The study's claims, C1 to C20."""
    return ClaimFile.model_validate(dialect.shipped(__package__, "suites/paper_claims.yaml")).claims

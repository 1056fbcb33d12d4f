"""Data sets and their roles, as written in YAML.

A data set names its task and lists sources for its training rows, test rows and demonstrations. A list of sources is a
union: the rows of all of them, in the order of the list. Of the sources below `first_of`, the first available one is
read. `role_of` decides whether a test set is in-domain, out-of-domain or cross-task for a training set.
The package ships suites: `abilities` and `bigbench` (real data, fetched once), `builtin` (templated text, no download)
and `paper` (Table 1 of the study). The `datasets:` of an experiment have the same form.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue

from ..errors import ExperimentError, did_you_mean
from . import dialect
from .fields import Count, Counts, Listed, Name, Names, Real, Seed, Shots, Strict, as_list

Role = Literal["in_domain", "out_of_domain", "cross_task"]
Kind = Literal["classification", "generation", "multiple_choice"]
"""The kinds of task. `text.task.Task.kind` decides which one a task is."""


class Threshold(Strict):
    """A numeric column as two labels: `then` for numbers above `above`, `otherwise` for the others."""

    above: Real
    then: str
    otherwise: str


class Choice(Strict):
    """A field that stands in one column or another: the value of column `by` says in which `of`."""

    by: str
    of: dict[str, str]


SHARES = {"train": 0.6, "test": 0.28, "validation": 0.08, "demos": 0.04}
"""The parts of a source that is shared out, and how many of its groups each gets."""


ShareName = Literal["train", "test", "validation", "demos"]


class Share(Strict):
    """Parts of a source, disjoint from its other parts by group."""

    part: Annotated[tuple[ShareName, ...], Listed()] = Field(description="one part, or several together", min_length=1)
    by: str | None = Field(None, description="column: rows with the same value stay together; default: equal rows")
    balanced: bool = Field(False, description="as many rows of each answer, in turn")
    seed: int = 0


def _as_sources(value: Any) -> Any:
    return [{"file": item} if isinstance(item, str) else item for item in as_list(value)]


def _file_or_source(source: JsonSchemaValue, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
    return {"anyOf": [{"type": "string", "description": "a file"}, source]}


Sources = Annotated[tuple["Source", ...], Listed(_as_sources, _file_or_source)]

KINDS = ("file", "release", "hub", "builtin", "archive", "first_of")
_ONLY_OF = {
    "sizes": ("release",),
    "config": ("hub",),
    "revision": ("hub",),
    "split": ("hub", "file"),
    "member": ("archive",),
}
"""The kinds of source that a key belongs to. Every other key belongs to all kinds but `first_of`."""


class Source(Strict):
    """One place rows can come from: exactly one of `file`, `release`, `hub`, `builtin`, `archive`, `first_of`.

    `fields` maps the task's fields to columns, `target` names the answer's column; both may be left out where the
    columns have the task's names (`output` for the answer) or a known shape. `references` names a column with a list
    of right answers. With `options`, the answer is the text, the letter or the number of one of the row's own options.
    Rows that are one whole text need `answer_after` or `loss: all`; `target` then names the column of the text.
    """

    file: str | None = Field(None, description="a data file, or a folder that datasets' save_to_disk wrote")
    release: str | None = Field(
        None, description="path inside the study's release folder (--data-dir); {size} is a training size"
    )
    sizes: Counts = Field((), description="the sizes that {size} stands for")
    hub: str | None = Field(None, description="data set id on the Hugging Face hub")
    config: str | None = None
    split: str | None = Field(None, description="of the hub's data set, or of the folder")
    revision: str | None = None
    license: str | None = None
    builtin: str | None = Field(None, description="name of a generated data set")
    archive: str | None = Field(None, description="a package of data on the package index, such as bigbench")
    member: str | None = Field(None, description="the data set in the archive")
    first_of: Sources = Field((), description="sources of which the first available one is read")
    fields: dict[str, str] = Field({}, description="field -> column; a.0 is the first item of list a")
    share: Share | None = Field(None, description="one part of the rows, disjoint from the other parts")
    patterns: dict[str, str] = Field(
        {}, description="column -> regular expression that its texts match; the named groups are columns too"
    )
    choose: dict[str, Choice] = Field({}, description="field -> the column that another column names")
    options: Names = Field(
        (),
        description="multiple choice: the column with a row's options (a list, or {text, label}), or one column each",
    )
    target: str | None = None
    references: str | None = Field(
        None, description="column with a list of right answers to free text; the first is the target if none is given"
    )
    answer_after: str | None = Field(
        None, min_length=1, description="rows are one whole text: the answer is what follows the last of these words"
    )
    loss: Literal["answer", "all"] = Field(
        "answer", description="all: rows are one whole text, and a model is trained on all of it"
    )
    target_map: dict[str, str] = Field({}, description="value in the column -> label")
    target_above: Threshold | None = None
    drop_labels: Names = Field((), description="rows with these answers are left out and counted")
    require: Names = Field((), description="rows in which one of these columns is empty are left out and counted")
    unescape: bool = Field(False, description=r"turn a literal \n into a line break")

    @model_validator(mode="after")
    def _one_kind(self) -> Source:
        given = [kind for kind in KINDS if getattr(self, kind)]
        if len(given) != 1:
            raise ValueError(f"a source is exactly one of {', '.join(KINDS)}; got {', '.join(given) or 'none'}")
        for key, info in type(self).model_fields.items():
            kinds = _ONLY_OF.get(key, (key,) if key in KINDS else KINDS[:-1])
            if getattr(self, key) != info.get_default() and given[0] not in kinds:
                belongs = "each of its sources" if given[0] == "first_of" else f"a source of {' or '.join(kinds)}"
                raise ValueError(f"{key!r} is no key of {given[0]!r}: it belongs to {belongs}")
        return self

    @model_validator(mode="after")
    def _archive_and_patterns(self) -> Source:
        if self.share is not None and self.share.balanced and not self.target:
            raise ValueError("share.balanced needs target, the column of the answers that are balanced")
        if self.archive and not self.member:
            raise ValueError("an archive holds many data sets: member says which")
        for column, pattern in self.patterns.items():
            try:
                groups = re.compile(pattern).groupindex
            except re.error as error:
                raise ValueError(f"patterns.{column}: not a regular expression: {error}") from None
            if not groups:
                raise ValueError(f"patterns.{column}: has no named group, such as (?P<name>.*)")
        return self

    @model_validator(mode="after")
    def _one_text(self) -> Source:
        if self.loss == "all" and self.answer_after is not None:
            raise ValueError("answer_after and loss: all exclude each other: loss is on the answer or on all of it")
        if self.reads_whole_texts and (self.fields or self.choose or self.options):
            key = "answer_after" if self.answer_after else "loss: all"
            raise ValueError(f"with {key} a row is one text, without fields and options; target names its column")
        if self.references and (self.reads_whole_texts or self.options):
            raise ValueError("references: a row that is one whole text, or that has options, has one answer")
        return self

    @property
    def reads_whole_texts(self) -> bool:
        """Whether a row is one text that holds prompt and answer."""
        return self.answer_after is not None or self.loss == "all"

    def leaves(self) -> tuple[Source, ...]:
        """The source itself, or those below `first_of`."""
        return tuple(leaf for one in self.first_of for leaf in one.leaves()) if self.first_of else (self,)

    def changed(self, **values: Any) -> Source:
        """A source with other values of keys that every kind has; below `first_of`, in each source."""
        if self.first_of:
            return self.model_copy(update={"first_of": tuple(one.changed(**values) for one in self.first_of)})
        return self.model_copy(update=values)

    def __str__(self) -> str:
        if self.first_of:
            return " or ".join(map(str, self.first_of))
        if self.hub:
            return f"hub:{self.hub}" + (f"/{self.config}" if self.config else "") + f"@{self.revision or 'main'}"
        if self.release:
            return f"release:{self.release}"
        if self.builtin:
            return f"builtin:{self.builtin}"
        if self.archive:
            return f"{self.archive}:{self.member}"
        return f"{self.file}" + (f", split {self.split}" if self.split else "")


class HoldOut(Strict):
    """Some of a data set's training rows are test rows or demonstrations, and not trained on (`data.held_out`)."""

    rows: Count | None = Field(None, description="about so many rows are test rows")
    demos: Count | None = Field(None, description="so many rows are demonstrations, each label in turn")
    seed: Seed = Field(0, description="another seed holds out other rows")
    by: str | None = Field(None, description="column of the group: rows of one group stay together")

    @model_validator(mode="after")
    def _holds_something_out(self) -> HoldOut:
        if self.rows is None and self.demos is None:
            raise ValueError("hold_out: give rows (test rows), demos (demonstrations), or both")
        return self


HELD = {"test": "rows", "demos": "demos"}
"""The key of `hold_out` that takes a part of a data set out of its training rows."""


class DatasetSpec(Strict):
    """One data set of a suite or an experiment."""

    task: str | None = Field(None, description="one of the five tasks; left out for own data")
    title: str = ""
    train: Sources = ()
    test: Sources = ()
    hold_out: HoldOut | None = Field(None, description="in place of test or demos: some training rows are held out")
    group: str | None = Field(None, description="column of the group: validation rows share no group with training")
    demos: Sources = Field((), description="the set's own list of demonstrations; else its last test rows serve")
    in_domain: Names = Field((), description="training sets for which this test set is in-domain")
    out_of_domain: Names = Field((), description="training sets for which this test set is out-of-domain")
    labels: Names = Field((), description="classification labels; left out for free text")
    template: str | dict[str, str] | None = Field(None, description="prompt template, or one per prompt format")
    answer_delimiter: str | None = None
    max_new_tokens: Count | None = None
    stop: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Listed()] | None = Field(
        None, description="texts at which a generated answer ends; default: a blank line"
    )
    shots: Shots | None = None

    @model_validator(mode="before")
    @classmethod
    def _tested_on_what_is_held_out(cls, raw: Any) -> Any:
        """What is held out is among the training sources."""
        held = raw.get("hold_out") if isinstance(raw, dict) else None
        if not isinstance(held, dict):
            return raw
        parts = [part for part, key in HELD.items() if held.get(key) and not raw.get(part)]
        return raw | dict.fromkeys(parts, raw.get("train"))

    @model_validator(mode="after")
    def _holds_out_of_files(self) -> DatasetSpec:
        if self.hold_out is None:
            return self
        if not self.train:
            raise ValueError("hold_out: there are no training rows to hold some out of")
        for part, key in HELD.items():
            if getattr(self.hold_out, key) and getattr(self, part) != self.train:
                raise ValueError(f"hold_out.{key} takes training rows: give {part} or hold_out.{key}, not both")
        if any(not (leaf.file or leaf.hub) for source in self.train for leaf in source.leaves()):
            raise ValueError("hold_out is for sources of file or hub")
        return self

    @model_validator(mode="after")
    def _tests_have_answers(self) -> DatasetSpec:
        for part in ("test", "demos"):
            if any(leaf.loss == "all" for source in getattr(self, part) for leaf in source.leaves()):
                raise ValueError(f"{part}: loss: all is for training rows; a {part} row needs answer_after")
        return self


class Suite(Strict):
    """Named data sets with roles."""

    name: str
    about: str = ""
    datasets: dict[Name, DatasetSpec]


SUITES = ("abilities", "bigbench", "builtin", "paper")


@cache
def load_suite(name: str) -> Suite:
    """A suite that ships with the package. Raises ExperimentError for an unknown name."""
    if name not in SUITES:
        raise ExperimentError(f"unknown suite {name!r}", where="suite", allowed=did_you_mean(name, SUITES))
    return Suite.model_validate(dialect.shipped(__package__, f"suites/{name}.yaml"))


def role_of(test_name: str, test: DatasetSpec, test_task: str, train_name: str, train_task: str) -> Role:
    """What a test set is to a model trained on `train_name` (the study, Table 1)."""
    if train_name == test_name or train_name in test.in_domain:
        return "in_domain"
    if train_name in test.out_of_domain or train_task == test_task:
        return "out_of_domain"
    return "cross_task"

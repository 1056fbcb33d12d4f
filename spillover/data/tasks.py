"""Which task a data set has: one of the five, that of another data set, or one made from the user's own columns.

The fields of a task of one's own are the names in its template, or `prompt` where the columns have a known shape
(`shapes.py`). It is called as the data set is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from string import Formatter
from types import MappingProxyType
from typing import get_args

from ..errors import DataError, ExperimentError, SourceUnavailable, did_you_mean
from ..experiment.suite import DatasetSpec, Source
from ..text.labels import Labels
from ..text.task import (
    CLASSIFICATION_METRICS,
    FIVE,
    GENERATION_METRICS,
    MULTIPLE_CHOICE_METRICS,
    PromptFormat,
    Task,
)
from .files import Row
from .options import options_columns
from .reader import RowReader
from .rows import Part
from .shapes import (
    PROMPT,
    SHAPES,
    TEXT,
    WHOLE_TEXT,
    calls_tools,
    column_names,
    has_turns,
    is_verbatim,
    is_whole_text,
    known_shape,
    refuse_unreadable,
)
from .sources import Places, read_part, sources_of


def dataset_task(name: str, spec: DatasetSpec, specs: Mapping[str, DatasetSpec], places: Places) -> Task:
    """The task of data set `name`: one of the five, or that of the user's own data.

    A set that gives no template, no labels and no training rows, and names one own training set in `in_domain` or
    `out_of_domain`, has that set's task: a second test file needs no second description.
    """
    if spec.task is not None:
        return named_task(name, spec)
    parent = task_name(name, spec, specs)
    if parent == name:
        return _first_row_task(name, spec, [(name, spec)], places)
    task = _first_row_task(parent, specs[parent], [(parent, specs[parent]), (name, spec)], places)
    return with_overrides(task, name, spec)


def task_name(name: str, spec: DatasetSpec, specs: Mapping[str, DatasetSpec]) -> str:
    """The name of the task of data set `name`. No file is read."""
    if spec.task is not None:
        return spec.task
    if spec.train or spec.template or spec.labels:
        return name
    named = dict.fromkeys((*spec.in_domain, *spec.out_of_domain))
    own = [other for other in named if other in specs and specs[other].train and specs[other].task is None]
    return own[0] if len(own) == 1 else name


def _first_row_task(name: str, spec: DatasetSpec, sets: Sequence[tuple[str, DatasetSpec]], places: Places) -> Task:
    """The task that the first rows of all sources show. `sets`: the data sets that have this task.

    Raises DataError where one source would be written otherwise than another, and SourceUnavailable where the first
    part of the data set cannot be read.
    """
    main: Part = "train" if spec.train else "test"
    sources_of(name, main, getattr(spec, main))
    tasks: list[tuple[Task, str]] = []
    for one, its in sets:
        for part in dict.fromkeys((main, *get_args(Part))) if one == name else get_args(Part):
            for source in getattr(its, part):
                try:
                    read = read_part(one, part, source, None, places)
                except SourceUnavailable:
                    if (one, part) == (name, main):
                        raise
                    continue  # it is said where the rows are read
                where = read.raw.where(0)
                tasks.append((own_task(name, spec, read.source, read.raw.rows[0], where), where))
    (first, of_first), formats = tasks[0], dict(tasks[0][0].prompts)
    for task, where in tasks[1:]:
        if task.own_options != first.own_options:
            what = f"of its rows and those of {of_first}, only the ones have options"
            raise DataError(what, where=where, allowed="options in all sources of a data set, or in none")
        for key, fmt in task.prompts.items():
            if formats.setdefault(key, fmt) != fmt:
                what = f"its rows are joined to their answers otherwise than those of {of_first}"
                raise DataError(what, where=where, allowed=f"say how with datasets.{name}.answer_delimiter or template")
    return replace(first, prompts=MappingProxyType(formats))


def template_fields(template: str, where: str) -> tuple[str, ...]:
    """The `{names}` of a template in their order. Raises ExperimentError where it is not a plain template."""
    try:
        pieces = list(Formatter().parse(template))
    except ValueError as error:
        what = f"not a template: {error}"
        raise ExperimentError(what, where=where, allowed="{{ and }} stand for braces") from None
    names = []
    for _, name, spec, conversion in pieces:
        if name is None:
            continue
        if not name or name.isdigit() or "." in name or "[" in name or spec or conversion:
            shown = "{" + name + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "") + "}"
            raise ExperimentError(f"{shown} is not the name of a field", where=where, allowed="{name} and nothing else")
        names.append(name)
    return tuple(dict.fromkeys(names))


def _templates(name: str, spec: DatasetSpec) -> dict[str, PromptFormat]:
    """The formats that the YAML gives: one template is `p1`."""
    given = {"p1": spec.template} if isinstance(spec.template, str) else spec.template or {}
    formats = {key: PromptFormat(key, text, spec.answer_delimiter) for key, text in given.items()}
    for key, fmt in formats.items():
        where = f"datasets.{name}.template" + ("" if isinstance(spec.template, str) else f".{key}")
        if not template_fields(fmt.template, where):
            raise ExperimentError("the template names no field", where=where, allowed="{name} stands for a column")
    return formats


def with_overrides(task: Task, name: str, spec: DatasetSpec) -> Task:
    """`task` with what data set `name` sets itself: templates, delimiter, labels, shots, token limit."""
    prompts: Mapping[str, PromptFormat] = _templates(name, spec)
    where = f"datasets.{name}.template"
    for used in [field for fmt in prompts.values() for field in template_fields(fmt.template, where)]:
        if used not in task.fields:
            what = f"task {task.name!r} has no field {used!r}"
            raise ExperimentError(what, where=where, allowed=did_you_mean(used, task.fields))
    if not prompts and spec.answer_delimiter is not None:
        prompts = {key: replace(fmt, answer_delimiter=spec.answer_delimiter) for key, fmt in task.prompts.items()}
    if spec.labels and not task.is_classification:
        answers = "has its options in each row" if task.own_options else "is free text"
        what = f"task {task.name!r} {answers} and takes no labels"
        raise ExperimentError(what, where=f"datasets.{name}.labels")
    return replace(
        task,
        prompts=MappingProxyType(dict(prompts)) if prompts else task.prompts,
        labels=_labels(name, spec) or task.labels,
        shots=task.shots if spec.shots is None else spec.shots,
        max_new_tokens=spec.max_new_tokens or task.max_new_tokens,
        stop=_stop(name, spec, task),
    )


def named_task(name: str, spec: DatasetSpec) -> Task:
    """The task that a data set names, one of the five. Raises ExperimentError for any other name."""
    task = FIVE.get(spec.task or "")
    if task is None:
        allowed = did_you_mean(spec.task or "", FIVE)
        raise ExperimentError(f"unknown task {spec.task!r}", where=f"datasets.{name}.task", allowed=allowed)
    return with_overrides(task, name, spec)


def own_task(name: str, spec: DatasetSpec, source: Source, first: Row, where: str) -> Task:
    """The task of a user's own data, from the first row of its source; `where` says where that row stands.

    Its fields are the template's names, else `prompt`. Turns of a conversation can go through the tokenizer's chat
    template too: that is the format `chat`.
    """
    prompts = _templates(name, spec)
    fields = tuple(dict.fromkeys(f for fmt in prompts.values() for f in template_fields(fmt.template, name))) or PROMPT
    labels = _labels(name, spec)
    options_in = options_columns(source, first, bool(labels))
    if labels and options_in:
        what = "labels are the options of every row, and options are those of each row"
        raise ExperimentError(what, where=f"datasets.{name}.labels", allowed="one of the two")
    named = source.fields or source.choose or source.target or source.references or source.options
    mapped = bool(named or source.reads_whole_texts)
    shape = None if mapped or fields != PROMPT else known_shape(first, where)
    if not prompts:
        if not shape and not (mapped and (source.reads_whole_texts or "prompt" in {*first, *source.fields})):
            raise _no_shape(first, where)
        verbatim = not options_in and is_verbatim(shape, first)  # an option brings no space of its own
        delimiter = "" if spec.answer_delimiter is None and verbatim else spec.answer_delimiter
        prompts = {"p1": PromptFormat("p1", "{prompt}", delimiter)}
    if has_turns(shape, first) and "chat" not in prompts:
        prompts["chat"] = PromptFormat("chat", "{prompt}", chat=True)
    if shape and calls_tools(shape, first, where):  # no other format can write them
        prompts = {"chat": prompts["chat"]}
    task = Task(
        name=name,
        title=spec.title or name,
        fields=fields,
        labels=labels or None,
        prompts=MappingProxyType(prompts),
        metrics=CLASSIFICATION_METRICS if labels else MULTIPLE_CHOICE_METRICS if options_in else GENERATION_METRICS,
        shots=spec.shots if spec.shots is not None else ((0, 2, 4) if labels else (0, 1, 2)),
        fticl_shots=(2,),
        max_new_tokens=spec.max_new_tokens or 60,
        own_options=bool(options_in),
    )
    task = replace(task, stop=_stop(name, spec, task))
    # Reads the first row, so that a template with a name that is no column fails here and not later.
    RowReader.of(task, source, first, where).take_apart(first, where)
    return task


def _no_shape(first: Row, where: str) -> DataError:
    """The error for rows of which nothing says what is asked and what is answered."""
    refuse_unreadable(first, where)
    if is_whole_text(first):
        what = f"the column {TEXT!r} alone holds text, and nothing says where in it the answer begins"
        return DataError(what, where=where, allowed=f"say so with {WHOLE_TEXT}")
    shapes = ", ".join("+".join(known.columns) for known in SHAPES if known.columns and not known.special)
    allowed = f"give a template over these columns, or a task, or {shapes}"
    return DataError(f"the columns {column_names(first)} are no known shape", where=where, allowed=allowed)


def _stop(name: str, spec: DatasetSpec, task: Task) -> tuple[str, ...]:
    if spec.stop is not None and task.is_scored:
        what = "stop ends an answer in free text, and answers of this task are chosen by log-probability"
        raise ExperimentError(what, where=f"datasets.{name}.stop", allowed="leave it out")
    return task.stop if spec.stop is None else spec.stop


def _labels(name: str, spec: DatasetSpec) -> tuple[str, ...]:
    where = f"datasets.{name}.labels"
    twice = next((label for label in spec.labels if spec.labels.count(label) > 1), None)
    if twice is not None:
        raise ExperimentError(f"label {twice!r} stands twice", where=where)
    if alike := Labels(spec.labels).alike():
        what = f"{alike[0]!r} and {alike[1]!r} are one label in two spellings"
        raise ExperimentError(what, where=where, allowed="give one of them: rows with the other are read as it")
    if len(spec.labels) == 1:
        raise ExperimentError(f"{spec.labels[0]!r} alone is no choice", where=where, allowed="two labels or more")
    return spec.labels

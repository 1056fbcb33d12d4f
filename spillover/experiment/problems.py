"""What is wrong with a YAML, as one plain line: the YAML path, the value that stands there, and what is allowed.

pydantic finds what is wrong. Its own words speak of Python (tuples, dictionaries, the names of branches), so each kind
of its errors has words of ours in `NOUNS` or `BOUNDS`. The models' own validators word their errors themselves.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ..errors import ExperimentError, did_you_mean, shown
from .axes import AXES

Place = Callable[[Sequence[str]], str]
"""Where the value at a YAML path was written: a file and a line, or an override."""

VALUE = 60  # characters of a value in a line
WHOLE, NUMBER, MAPPING = "a whole number", "a number", "a mapping of keys"

NOUNS: Mapping[str, str] = {  # what a value must be, by the kind of pydantic's error
    "string_type": "a text",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    **dict.fromkeys(("int_type", "int_parsing", "int_parsing_size", "int_from_float"), WHOLE),
    **dict.fromkeys(("float_type", "float_parsing"), NUMBER),
    "finite_number": "a finite number",
    **dict.fromkeys(("tuple_type", "list_type"), "a list"),
    **dict.fromkeys(("dict_type", "mapping_type", "model_type", "model_attributes_type"), MAPPING),
    "invalid_key": "a text: write it in quotes",
}
BOUNDS: Mapping[str, str] = {
    "greater_than": "more than {gt:,}",
    "greater_than_equal": "{ge:,} or more",
    "less_than": "less than {lt:,}",
    "less_than_equal": "{le:,} or less",
    "string_too_short": "a text that is not empty",
    "string_too_long": "a text of at most {max_length:,} characters",
    "too_short": "a list that is not empty",
    "too_long": "a list of at most {max_length:,} items, not {actual_length:,}",
}
BRANCHES = ("literal[", "tuple[", "list[", "dict[", "function-", "constrained-")
SCALARS = ("bool", "int", "float", "str", "none")
Steps = tuple[str, ...]


def first_problem(error: ValidationError, place: Place, model: type[BaseModel]) -> ExperimentError:
    """One line for the first thing that is wrong."""
    problems = error.errors(include_url=False)
    problem = _meant(problems)
    steps, given, kind = _steps(problem), problem["input"], problem["type"]
    path, where = ".".join(steps), place(steps)
    if kind == "extra_forbidden":
        nearest = did_you_mean(steps[-1], _keys_at(model, [str(step) for step in problem["loc"][:-1]]))
        return ExperimentError(f"unknown key {path!r}", where=where, allowed=nearest)
    if kind == "missing":
        return ExperimentError(f"{path!r} is missing", where=where)
    if kind == "invalid_key" or (problem["loc"][-1:] == ("[key]",) and kind != "value_error"):
        place_of_key = f"{'.'.join(steps[:-1])}: " if steps[1:] else ""
        must = _nouns(problem)[0] if isinstance(given, str) else NOUNS["invalid_key"]
        return ExperimentError(f"{place_of_key}the key {_written(given)} must be {must}", where=where)
    if kind == "value_error":
        what = problem["msg"].removeprefix("Value error, ")
        return ExperimentError(f"{path}: {what}" if path else what, where=where)
    alike = [one for one in problems if _steps(one) == steps]
    if kind == "union_tag_not_found":
        return ExperimentError(f"{path}: has no key 'kind'", where=where, allowed="docs/reference.md lists the kinds")
    if kind == "union_tag_invalid":
        found = given.get("kind") if isinstance(given, dict) else getattr(given, "kind", None)
        nearest = did_you_mean(str(found), _tags(problem))
        return ExperimentError(f"{path}.kind: {_written(found)} is not allowed", where=where, allowed=nearest)
    if kind == "literal_error" and isinstance(given, str):
        words = _words(problem)
        if any(_steps(other)[: len(steps)] == steps and other["type"] != kind for other in problems):
            words.append("a list")  # of numbers: a list of words would have taken the word
        what = f"{path}: {_written(given)} is not allowed"
        return ExperimentError(what, where=where, allowed=did_you_mean(given, words))
    nouns = list(dict.fromkeys(noun for one in alike for noun in _nouns(one)))
    must = f"must be {_either(nouns)}" if nouns else "is not allowed"
    found = "is empty and" if given is None else _written(given)
    return ExperimentError(f"{path or 'the file'}: {found} {must}", where=where)


def _nouns(problem: ErrorDetails) -> list[str]:
    """What a value must be by one error: several for a list of words."""
    kind = problem["type"]
    if kind == "literal_error":
        return _words(problem)
    words, bounds = NOUNS.get(kind) or BOUNDS.get(kind), problem.get("ctx", {})
    plain = {name: int(one) if one == int(one) else one for name, one in bounds.items() if isinstance(one, int | float)}
    return [words.format(**plain)] if words else []


def _either(nouns: Sequence[str]) -> str:
    """`true or false, a number or a text`."""
    *others, last = nouns
    return f"{', '.join(others)} or {last}" if others else last


def _words(problem: ErrorDetails) -> list[str]:
    """The words of a literal, from `'shared' or 'plain'`."""
    return re.findall(r"'([^']*)'", problem["ctx"]["expected"])


def _tags(problem: ErrorDetails) -> list[str]:
    """The values of `kind` in a union."""
    return re.findall(r"'([^']*)'", problem["ctx"]["expected_tags"])


def _written(value: Any) -> str:
    """A value as the YAML has it, in a few words."""
    words = next((word for one, word in ((None, "null"), (True, "true"), (False, "false")) if value is one), None)
    text = words or shown(value)
    long = "this mapping" if isinstance(value, dict) else f"{text[: VALUE - 20]} and so on"
    return text if len(text) <= VALUE else long


def _meant(problems: Sequence[ErrorDetails]) -> ErrorDetails:
    """The first problem; of a word or a list, the one with the list where a list was given."""
    first, *others = problems
    if first["type"] != "literal_error" or isinstance(first["input"], str):
        return first
    return next((other for other in others if other["loc"][: len(first["loc"]) - 1] == first["loc"][:-1]), first)


def _steps(problem: ErrorDetails) -> Steps:
    """The YAML path. In a union pydantic adds the name of the branch, which is no part of it."""
    found: list[str] = []
    for at, step in enumerate(map(str, problem["loc"])):
        before = problem["loc"][at - 1] if at else ""
        branch = step == "[key]" or step.startswith(BRANCHES)
        branch |= before in AXES and problem["loc"][0] == "train"
        branch |= step in SCALARS and at > 1 and problem["loc"][at - 2] == "chat_template_kwargs"
        if not branch:
            found.append(step)
    return tuple(found)


def _keys_at(model: type[BaseModel], steps: Sequence[str]) -> list[str]:
    """The keys that are valid at a path of pydantic's, by walking the models; the `kind` of a union chooses one."""
    models = [model]
    for step in steps:
        chosen = [one for one in models if "kind" in one.model_fields and one.model_fields["kind"].default == step]
        inner = [deeper for one in models if step in one.model_fields for deeper in _models_of(one, step)]
        models = chosen or inner or models
    return list(dict.fromkeys(key for one in models for key in one.model_fields))


def _models_of(model: type[BaseModel], field: str) -> Iterator[type[BaseModel]]:
    return _models_in(model.model_fields[field].annotation)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)

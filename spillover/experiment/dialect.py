"""The one dialect of YAML that the package reads and writes: YAML 1.2, by ruamel.yaml.

In YAML 1.2 only `true` and `false` are booleans, so `yes` and `no` are words (labels, mostly), `2e-5` is a number and a
date is a text. A key is one word, and a key that stands twice in a mapping is an error. A text is refused if reading it
could take long or much memory: if it is large, deep, or grows by its aliases. No other module imports ruamel.yaml.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from importlib import resources
from io import StringIO
from typing import Any

from ruamel.yaml import YAML, YAMLError
from ruamel.yaml.composer import Composer, ComposerError
from ruamel.yaml.constructor import ConstructorError, SafeConstructor
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode
from ruamel.yaml.resolver import VersionedResolver

from ..errors import ExperimentError, shown, visible

WIDTH = 2**31  # no text reaches it, so that none is broken into lines
MOST = 500_000  # characters of a YAML text, also with every alias written out
MOST_VALUES = 10_000  # and keys: a second of ruamel's time
DEEPEST = 50  # levels of lists and mappings
PREFIX = "tag:yaml.org,2002:"
CORE = {"str": "text", "int": "whole number of 64 bits", "float": "number", "bool": "true or false", "null": "null"}
CORE |= {"seq": "list", "map": "mapping", "merge": "merge key", "value": "value"}
UNREADABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")


class _Composer(Composer):
    """Refuses a key that is a list, a mapping or twice in one mapping, control characters, and aliases that explode."""

    def __init__(self, loader: Any = None) -> None:
        super().__init__(loader)
        self.warn_double_anchors = False
        self.values = 0
        self.sizes: dict[int, int] = {}  # of each node, in characters, with its aliases written out

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.parser.peek_event()
        self.values += 1
        if self.values > MOST_VALUES:
            raise ComposerError(None, None, f"more than {MOST_VALUES:,} values and keys", event.start_mark)
        node = super().compose_node(parent, index)
        if isinstance(node, ScalarNode):
            size = 1 + len(node.value)
            if control := UNREADABLE.search(node.value):
                raise ComposerError(None, None, f"the character {visible(control[0])} is not allowed", event.start_mark)
        elif event.start_mark is not node.start_mark:  # an alias
            if id(node) not in self.sizes:
                raise ComposerError(None, None, f"{event.anchor!r} contains itself", event.start_mark)
            size = self.sizes[id(node)]
        else:
            flat = [one for pair in node.value for one in pair] if isinstance(node, MappingNode) else node.value
            size = 1 + sum(self.sizes[id(one)] for one in flat)
        self.sizes[id(node)] = size
        if size > MOST:
            raise ComposerError(None, None, f"aliases make more than {MOST:,} characters of it", event.start_mark)
        return node

    def compose_mapping_node(self, anchor: Any) -> MappingNode:
        node: MappingNode = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, ScalarNode):
                raise ComposerError(None, None, "a key is one word", key.start_mark)
            if key.value in seen:
                raise ComposerError(None, None, f"{key.value!r} stands twice", key.start_mark)
            seen.add(key.value)
        return node


class _Constructor(SafeConstructor):
    """Says where a value stands that its tag does not fit. It knows the tags of texts, numbers, lists and mappings."""

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        tag = str(node.tag).removeprefix(PREFIX)
        if tag not in CORE:
            raise ConstructorError(None, None, f"the tag {visible(str(node.tag))!r} is not allowed", node.start_mark)
        with suppress(ValueError, LookupError, TypeError, AttributeError):  # as the conversions of Python raise them
            value = super().construct_object(node, deep)
            if not isinstance(value, int) or abs(value) < 2**63:
                return value
        raise ConstructorError(None, None, f"{shown(node.value)} is no {CORE[tag]}", node.start_mark)


class _Resolver(VersionedResolver):
    """Reads by the rules of YAML 1.2, also below a line `%YAML 1.1`; a date without a tag is a text."""

    @property
    def processing_version(self) -> tuple[int, int]:
        return (1, 2)

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        tag = super().resolve(kind, value, implicit)
        return self.DEFAULT_SCALAR_TAG if str(tag).endswith(":timestamp") else tag


def _reader() -> YAML:
    yaml = YAML(typ="safe", pure=True)
    yaml.Composer, yaml.Constructor, yaml.Resolver = _Composer, _Constructor, _Resolver
    yaml.max_depth = DEEPEST
    return yaml


def read(text: str, where: str, *, lines: bool = True) -> Any:
    """The value that a YAML text holds. Raises ExperimentError with `where` and, if the text has `lines`, the line."""
    if len(text) > MOST:
        raise ExperimentError(f"{len(text):,} characters", where=where, allowed=f"at most {MOST:,}")
    if control := UNREADABLE.search(text):
        place = f"{where}:{text.count(chr(10), 0, control.start()) + 1}" if lines else where
        raise ExperimentError(f"not valid YAML: the character {visible(control[0])} is not allowed", where=place)
    try:
        return _reader().load(text)
    except (YAMLError, ValueError, LookupError, RecursionError) as error:  # not every wrong value is a YAMLError
        mark = getattr(error, "problem_mark", None)
        where = f"{where}:{mark.line + 1}" if mark and lines else where
        what = " ".join(str(getattr(error, "problem", None) or error).removeprefix("but ").split())
        what = f"more than {DEEPEST} levels" if what.startswith("maximum depth") else what
        raise ExperimentError(f"not valid YAML: {what}", where=where) from None


def line_of(text: str, steps: Sequence[str]) -> int:
    """The line on which a value stands in a text that can be read: of the deepest of these steps that is there.

    A step is a key, or the number of an item; a single item may stand where a list is meant.
    """
    node = _reader().compose(StringIO(text))
    line = node.start_mark.line
    for step in steps:
        if isinstance(node, MappingNode):
            found = next((pair for pair in node.value if pair[0].value == step), None)
            if found is None and step == "0":
                continue
            if found is None:
                break
            line, node = found[0].start_mark.line, found[1]
        elif isinstance(node, SequenceNode) and step.isdigit() and int(step) < len(node.value):
            node = node.value[int(step)]
            line = node.start_mark.line
    return line + 1


def shipped(package: str, file: str) -> Any:
    """The value that a YAML file of the package holds; `file` is its path from the folder of `package`."""
    return read((resources.files(package) / file).read_text("utf-8"), file)


def write(value: Any, *, flow: bool = False) -> str:
    """A value as YAML; mappings keep their order. `flow`: all of it in brackets, without a line break at the end."""
    yaml: Any = YAML(typ="safe", pure=True)
    yaml.default_flow_style, yaml.width = flow, WIDTH
    yaml.sort_base_mapping_type_on_output = False
    stream = StringIO()
    yaml.dump(value, stream)
    return stream.getvalue().removesuffix("\n").removesuffix("\n...") if flow else stream.getvalue()

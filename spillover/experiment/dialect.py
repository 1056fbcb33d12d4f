"""The one dialect of YAML that the package reads and writes: YAML 1.2, by ruamel.yaml.

In YAML 1.2 only `true` and `false` are booleans, so `yes` and `no` are words (labels, mostly), and `2e-5` is a number.
A key is one word, and a key that stands twice in a mapping is an error. No other module imports ruamel.yaml.
"""

from __future__ import annotations

from importlib import resources
from io import StringIO
from typing import Any

from ruamel.yaml import YAML, YAMLError
from ruamel.yaml.composer import Composer, ComposerError
from ruamel.yaml.nodes import MappingNode, ScalarNode
from ruamel.yaml.resolver import VersionedResolver

from ..errors import ExperimentError

WIDTH = 2**31  # no text reaches it, so that none is broken into lines


class _Composer(Composer):
    """Refuses a key that is a list or a mapping, and a key that stands twice in one mapping."""

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


class _Resolver(VersionedResolver):
    """Reads by the rules of YAML 1.2, also below a line `%YAML 1.1`."""

    @property
    def processing_version(self) -> tuple[int, int]:
        return (1, 2)


def read(text: str, where: str, *, lines: bool = True) -> Any:
    """The value that a YAML text holds. Raises ExperimentError with `where` and, if the text has `lines`, the line."""
    yaml = YAML(typ="safe", pure=True)
    yaml.Composer, yaml.Resolver = _Composer, _Resolver
    try:
        return yaml.load(text)
    except (YAMLError, ValueError, LookupError, RecursionError) as error:  # not every wrong value is a YAMLError
        mark = getattr(error, "problem_mark", None)
        where = f"{where}:{mark.line + 1}" if mark and lines else where
        what = " ".join(str(getattr(error, "problem", None) or error).removeprefix("but ").split())
        raise ExperimentError(f"not valid YAML: {what}", where=where) from None


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

"""Functions of one's own that an experiment names: where they are, their text, and the functions themselves.

    file.py:function      a file beside the experiment, or at an absolute path
    module:function       an installed module
    name                  what `register_loss(name, function)` has registered in this process

The function's name and the text of the whole file are part of the key of what is trained with it. Of a registered
function, its own text is, so that all its values must be written there. A file or module is only run by a training, and
only with `trust: true`: it is code.
"""

from __future__ import annotations

import ast
import dis
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module, util
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from ..errors import ExperimentError, did_you_mean

_registered: dict[str, Callable[..., Any]] = {}


def register_loss(name: str, function: Callable[..., Any]) -> None:
    """Let `loss: {kind: python, function: NAME}` mean this function, in this process."""
    if ":" in name or not name:
        raise ExperimentError(f"a loss cannot be registered as {name!r}", allowed="a name without a colon")
    _registered[name] = function


@dataclass(frozen=True)
class Located:
    """A function, as an experiment in `folder` names it."""

    written: str
    folder: Path

    @property
    def is_registered(self) -> bool:
        """Whether only the process that has registered it knows it."""
        return ":" not in self.written

    def content(self) -> list[str]:
        """What decides what it does: its name, and the text around it. Raises ExperimentError for what is not there."""
        if self.is_registered:
            return self._content_of_registered()
        text = self._read()
        _, name = self._parts()
        try:
            tree = ast.parse(text)
        except SyntaxError as error:
            raise self._error(f"line {error.lineno}: {error.msg}") from error
        defined = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
        if name not in defined:
            raise self._error(f"no function {name!r} is defined there", did_you_mean(name, defined))
        return [name, text]

    def load(self) -> Callable[..., Any]:
        """The function."""
        if self.is_registered:
            return self._registered()
        place, name = self._parts()
        try:
            module = self._run() if place.endswith(".py") else import_module(place)
            function: Callable[..., Any] = getattr(module, name)
        except Exception as error:  # whatever is in the file
            raise self._error(f"{type(error).__name__}: {error}") from error
        return function

    def _run(self) -> ModuleType:
        spec = util.spec_from_file_location(f"spillover_user_{self._path().stem}", self._path())
        assert spec is not None and spec.loader is not None
        module = util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    def _registered(self) -> Callable[..., Any]:
        if self.written not in _registered:
            allowed = did_you_mean(self.written, _registered) if _registered else "file.py:function or module:function"
            raise self._error("no loss is registered by this name", allowed)
        return _registered[self.written]

    def _content_of_registered(self) -> list[str]:
        function = self._registered()
        if not inspect.isfunction(function):
            raise self._error(f"it is a {type(function).__name__}", "a function that is defined with `def`")
        if outside := _values_outside(function):
            raise self._error(f"its text does not show the value of {outside[0]}", "write values into the function")
        try:
            return [function.__name__, inspect.getsource(function)]
        except OSError as error:
            raise self._error("its text cannot be read", "a function that is defined in a file") from error

    def _parts(self) -> tuple[str, str]:
        place, _, name = self.written.rpartition(":")
        return place, name

    def _path(self) -> Path:
        place, _ = self._parts()
        if place.endswith(".py"):
            return self.folder / place
        try:
            spec = util.find_spec(place)
        except (ImportError, ValueError):
            spec = None
        if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
            raise self._error(f"no Python module {place!r} is installed", "file.py:function")
        return Path(spec.origin)

    def _read(self) -> str:
        try:
            return self._path().read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise self._error(getattr(error, "strerror", None) or "it is no UTF-8 text") from error

    def _error(self, what: str, allowed: str | None = None) -> ExperimentError:
        return ExperimentError(what, where=f"function: {self.written}", allowed=allowed)


def _values_outside(function: FunctionType) -> list[str]:
    """What a function uses whose value its own text does not show: what surrounds it, defaults, and what its module
    defines. What it imports is known by its name."""
    module, names = function.__globals__, sorted(_globals_of(function.__code__))
    beside = [name for name in names if name in module and not isinstance(module[name], ModuleType)]
    own = [name for name in beside if getattr(module[name], "__module__", None) in (None, function.__module__)]
    parameters = inspect.signature(function).parameters.values()
    defaults = [one.name for one in parameters if one.default is not one.empty]
    return [*function.__code__.co_freevars, *defaults, *own]


def _globals_of(code: CodeType) -> set[str]:
    """The global names that some code reads, functions inside it included."""
    inside = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    own = {one.argval for one in dis.get_instructions(code) if one.opname == "LOAD_GLOBAL"}
    return own.union(*map(_globals_of, inside))

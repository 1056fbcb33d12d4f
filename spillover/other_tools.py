"""The commands that exchange data with other tools. `cli` adds them to its own.

As in `cli`, imports are inside the commands: what another tool needs is loaded by the command that speaks to it.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Literal

import typer

from .console import document, out, say, working
from .options import HERE, OUTPUT, PLACE, Command, Folder, HandedOn

app = typer.Typer(add_completion=False)


@app.command("lm-eval", cls=HandedOn, add_help_option=False)
def lm_eval(context: typer.Context) -> None:
    """The command line of lm-evaluation-harness, with our engine as one more model: `run --model spillover`."""
    from .interop.lm_eval_command import run

    run(context.args)


@app.command(cls=Command)
def compare(
    a: Annotated[
        str, typer.Argument(metavar="A", help="A folder, FOLDER:VARIANT, or a samples file of lm-evaluation-harness.")
    ],
    b: Annotated[str, typer.Argument(metavar="B", help="What A is compared with, in the same forms.")],
    metric: Annotated[
        str | None,
        typer.Option("--metric", metavar="NAME", help="Default: the first metric of each test set, or of both files."),
    ] = None,
    format: Annotated[
        Literal["table", "json", "csv"], typer.Option("--format", help="json, csv: for programs.")
    ] = "table",
) -> None:
    """Pair two runs, or two sample files of lm-evaluation-harness, document by document. No model is loaded."""
    import json

    import pandas as pd

    from .analysis.table import as_csv
    from .interop.compare import compare as pair
    from .interop.compare import render

    with working("pairing"):
        pairing = pair(a, b, metric)
    records = [row.record() for row in pairing.rows]
    if format == "json":
        document(json.dumps(records) + "\n")
        return
    if format == "csv":
        document(as_csv(pd.DataFrame(records)))
        return
    say(f"A: {pairing.a}\nB: {pairing.b}")
    out().print(render(pairing))
    out().print(*pairing.notes, sep="\n", style="dim")
    say(f"Next: spillover compare {shlex.join([a, b])} --format csv")


@app.command(cls=Command)
def export(
    folder: Folder,
    format: Annotated[
        Literal[
            "lm-eval-tasks",
            "lm-eval-results",
            "every-eval-ever",
            "card",
            "scores",
            "checkpoint",
            "trl",
            "messages",
            "alpaca",
        ],
        typer.Option("--format", help="What is written."),
    ],
    output: Annotated[
        Path | None,
        typer.Option(*OUTPUT, help="Where the files go. Default: DIR/export/FORMAT.", show_default=False, **HERE),
    ] = None,
    test: Annotated[
        list[str] | None, typer.Option("--test", metavar="NAME", help="A test set; may be repeated. Default: all.")
    ] = None,
    variant: Annotated[
        str | None,
        typer.Option("--variant", metavar="NAME", help="One variant; best: what the verdict ships. Default: all."),
    ] = None,
    merged: Annotated[
        bool, typer.Option("--merged", help="checkpoint: an adapter as a whole model, with its base.")
    ] = False,
) -> None:
    """Write test sets, answers, scores, a checkpoint or its training data in the form of another tool."""
    from .interop.export import export as write

    with working("writing"):
        lines = write(folder, format, output, tuple(test or ()), variant, merged)
    for line in lines:
        say(line)


@app.command("import", cls=Command)
def take(
    file: Annotated[
        Path, typer.Argument(help="What `spillover export --format scores` wrote.", **(HERE | {"metavar": "FILE"}))
    ],
    folder: Annotated[Path, typer.Argument(help="A folder for the cells; it may be new.", **PLACE)],
) -> None:
    """Take scores without texts into a folder, as finished cells."""
    from .interop.scores import take as add

    with working("reading"):
        lines = add(file, folder)
    for line in lines:
        say(line)

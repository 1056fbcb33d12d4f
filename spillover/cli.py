"""The command line: one short function for each command.

Imports are inside the commands, so that `--help` answers at once and `plan`, `check`, `status` and `report` never load
torch. Exit codes: 0 done, 1 a variant or unit failed and the others went on (or warnings under `check --strict`), 2 bad
input or a file the system refuses (one line says what, where and what is allowed), 3 another run holds the output
folder, or another process the variant, 10 a gate found a variant broken, 11 a gate has insufficient evidence, 130
stopped by Ctrl-C. A traceback is a bug. `__main__` adds what a process needs: signals, and an output that can be
written.
"""

from __future__ import annotations

import errno
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from . import __version__, other_tools
from .console import document, out, say, say_error, working
from .errors import SpilloverError
from .options import HERE, OUTPUT, PLACE, Command, Folder, Given, Model, Ray, confirm, of_an_experiment
from .running import bring, on_disk, prepare

# What the operating system may refuse for reasons that are no bug: no permission, read-only, no space, no quota, a file
# larger than `ulimit -f`, a broken disk, a name that is too long, a file where a folder has to be.
REFUSALS = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
REFUSALS |= {errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP}

Usage: Any = typer.BadParameter.__mro__[2]  # click's exception for a wrong command line, which typer does not export

app = typer.Typer(
    name="spillover",
    help="Fine-tune a language model in several ways, and see what else changed.\n\n"
    "Start with [bold]spillover demo[/bold]; for your own data, [bold]spillover init[/bold].",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    add_completion=False,
)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False) -> None:
    if version:
        typer.echo(f"spillover {__version__}")
        raise typer.Exit


@app.command(cls=Command)
def demo(
    model: Model = None,
    output_path: Annotated[Path, typer.Option(*OUTPUT, help="Where results go.", **HERE)] = Path("spillover-demo"),
) -> None:
    """Fine-tune and evaluate a real 135M model on real data. This takes minutes on two cores."""
    from .scaffold.demo import write_demo

    path = write_demo(output_path, model, say)
    _run_and_show(
        Given(path),
        "Next: open that page, then try your own data:\n"
        "  spillover init --train train.jsonl --test test.jsonl\n"
        "or a larger demo (trains again, then scores the new rows):\n"
        f"  spillover run {path} --limit 48 --set keep=weights",
    )


@app.command(cls=Command)
def init(
    train: Annotated[
        Path | None, typer.Option("--train", help="The file with your training rows: JSONL, CSV or Parquet.")
    ] = None,
    test: Annotated[Path | None, typer.Option("--test", help="The file with your test rows.")] = None,
    model: Model = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The YAML to write.", **HERE)] = Path("experiment.yaml"),
    suite: Annotated[
        Literal["abilities", "builtin", "none"], typer.Option("--suite", help="Cross-task tests that are added.")
    ] = "abilities",
) -> None:
    """Write an experiment YAML for your files, with comments."""
    from .scaffold.init import write_experiment

    for line in write_experiment(out, train, test, model, suite):
        say(line)


@app.command(cls=Command)
@of_an_experiment
def check(
    context: typer.Context,
    given: Given,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if there are warnings.")] = False,
    format: Annotated[
        Literal["table", "json"], typer.Option("--format", help="json: one document with row numbers.")
    ] = "table",
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Every list of many data sets, with rows.")] = False,
) -> None:
    """Audit data, prompts, labels, lengths and disk space before a run. Nothing is trained."""
    import json

    from .analysis.choices import done
    from .checks.check import check as find
    from .checks.training import count
    from .report.checks import counting, render
    from .work.base_check import unlikely

    plan, store = prepare(given, aside=format == "json")
    with counting(out(aside=True), "checking every row, prompt and sample") as progress:
        found = find(plan, store.folder, given.data_dir, done(store, plan.grid), progress)
    with counting(out(aside=True), "asking the base about answers") as progress:
        found = found.with_more(unlikely(plan, progress))
    if format == "json":
        document(json.dumps(found.to_json(), indent=1) + "\n")
    else:
        out().print(render(found, verbose))
        notes = len(found.findings) - found.warnings
        say(f"{count(found.warnings, 'warning')}, {count(notes, 'note')}. {_next(context, 'run')}")
    if strict and found.warnings:
        raise typer.Exit(1)


@app.command(cls=Command)
@of_an_experiment
def plan(
    context: typer.Context,
    given: Given,
    write: Annotated[
        Path | None, typer.Option("--write", help="Write the plan to this folder, for `spillover work`.", **PLACE)
    ] = None,
) -> None:
    """List variants and cells, which of them are done, and what the missing ones will cost."""
    from .analysis.choices import done
    from .checks.check import beforehand
    from .plan.cost import estimate
    from .report.plan import render
    from .work.execute import write_plan
    from .work.pace import known

    if write is not None and given.output_path is not None:
        raise SpilloverError("both are given", where="--write, --output", allowed="one folder for the plan")
    made, store = prepare(given if write is None else given._replace(output_path=write))
    with working("counting"):
        receipts = (receipt for _, receipt in store.cell_receipts())
        estimated = estimate(made, done(store, made.grid), receipts, known(made))
        findings = beforehand(made)
    out().print(render(estimated, store.folder))
    for finding in findings:
        say(f"{finding.level}: {finding}")
    if write is None:
        say(_next(context, "run"))
        return
    store.create()
    with store.lock(), working("auditing the rows in use"):
        write_plan(made, store)
    say(f"Next: spillover work {shlex.quote(str(write))} --next")


@app.command(cls=Command)
@of_an_experiment
def run(
    given: Given,
    device: Annotated[
        str | None,
        typer.Option("--device", help="cpu, cuda:N, or several: cuda:0,cuda:1. Default: all GPUs, or cpu."),
    ] = None,
    ray: Ray = None,
) -> None:
    """Train and evaluate what is missing, then write tables and report. Run it again to continue after a stop."""
    from .work.processes import choose

    if device is not None and ray is not None:
        raise SpilloverError("both are given", where="--device, --ray", allowed="one of them: `resources` has the GPUs")
    if device is not None:
        choose(device)
    _run_and_show(given, cluster=ray)


@app.command(cls=Command)
@of_an_experiment
def gate(
    given: Given,
    keep: Annotated[
        float | None, typer.Option("--keep", help="Share of the base's score that must be kept (gate.keep).")
    ] = None,
    variant: Annotated[
        list[str] | None, typer.Option("--variant", metavar="NAME", help="Judge this one; may be repeated.")
    ] = None,
    format: Annotated[
        Literal["text", "md", "junit", "json"],
        typer.Option("--format", help="md: for a pull request; junit, json: for programs."),
    ] = "text",
) -> None:
    """Say whether checkpoints keep what their base can do. Runs what is missing. Exits with 0, 10 (broken) or 11."""
    from .analysis.gate import judged, overall
    from .report.gate import exit_code, printed, tell

    changed = given._replace(sets=[*(given.sets or []), *([] if keep is None else [f"gate.keep={keep}"])])
    made, store = prepare(changed, aside=format != "text")
    made.experiment.gate.tiers([test.name for test in made.grid.tests])  # wrong names are told before the run
    judged(made.grid.variants, variant or ())
    result = bring(made, store, aside=format != "text")
    with working("scoring"):
        gates = result.gate(variant or ())
    if format == "text":
        tell(gates, out())
        for failure in result.failures:
            say(failure, style="bold")
        say(f"Next: spillover report {shlex.quote(str(store.folder))} (the page, with examples)")
    else:
        document(printed(gates, format))
    if code := exit_code(overall(gates), failed=bool(result.failures)):
        raise typer.Exit(code)


@app.command(cls=Command)
def work(
    folder: Annotated[
        Path, typer.Argument(help="A folder that `spillover plan --write` or `spillover run` wrote.", **PLACE)
    ],
    variant: Annotated[
        str | None, typer.Option("--variant", metavar="NAME", help="Train and evaluate this variant.")
    ] = None,
    next_one: Annotated[
        bool, typer.Option("--next", help="Take the next variant that can begin and that no process works on.")
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="With --variant: keep its weights; train it again if they are gone.")
    ] = False,
    device: Annotated[str | None, typer.Option("--device", help="cpu or cuda:N.")] = None,
    relay: Annotated[bool, typer.Option("--relay", hidden=True)] = False,
    share: Annotated[Path | None, typer.Option("--share", hidden=True)] = None,
) -> None:
    """Train and evaluate one variant of a planned folder. Many processes may do so at once."""
    from .report.plan import where_it_stands
    from .store.open import open_store
    from .work.execute import work as bring
    from .work.execute import work_for_parent
    from .work.processes import choose
    from .work.progress import LiveReporter

    if next_one == (variant is not None):
        raise SpilloverError("give either --variant NAME or --next", where="spillover work")
    if keep and next_one:
        raise SpilloverError("is for one variant", where="--keep", allowed="--variant NAME")
    if device is not None and "," in device:
        raise SpilloverError("one device only", where="--device", allowed="start a `work` for each")
    if device is not None:
        choose(device)
    store = open_store(folder)
    if share is not None:
        from .work.share import train_share

        raise typer.Exit(train_share(store, share))
    if relay:
        raise typer.Exit(work_for_parent(store, str(variant)))
    with LiveReporter(out()) as reporter:
        worked = bring(store, variant, reporter, keep=keep)
    if worked.failures:
        raise typer.Exit(1)
    say(where_it_stands(worked, folder))
    if keep:
        words = ["spillover", "export", str(folder), "--variant", str(variant), "--format", "checkpoint"]
        say(f"Its weights are kept. To get them with tokenizer and model card: {shlex.join(words)}")


@app.command(cls=Command)
def status(folder: Folder) -> None:
    """Show how many cells of each variant are done."""
    from .analysis.choices import choices
    from .report.plan import standing
    from .store.open import open_store

    store = open_store(folder)
    grid = store.grid()
    valid = store.valid(grid, hashes=False)
    out().print(standing(grid, valid, choices(store, grid, valid)))


@app.command(cls=Command)
def report(
    folder: Folder,
    format: Annotated[
        Literal["html", "md", "latex", "csv", "json"],
        typer.Option("--format", help="html writes page, tables and figures; the others print."),
    ] = "html",
    rescore: Annotated[
        bool, typer.Option("--rescore", help="Score the stored answers again and ignore earlier scores.")
    ] = False,
    current: Annotated[
        bool, typer.Option("--current", help="Only variants of the present experiment, none of its earlier forms.")
    ] = False,
) -> None:
    """Make verdict, tables, figures and page from the stored answers, finished or not. No model is loaded."""
    from .api import load
    from .report.exports import printed
    from .report.terminal import show

    result = load(folder, rescore, current)
    if format != "html":
        document(printed(result.table, format))
        return
    with working("scoring and drawing"):
        page = result.write(figures=True)
    show(result.table, out())
    say(f"Wrote {page}, and results.csv, effects.csv and figures/ beside it{on_disk(page)}")


@app.command(cls=Command)
def claims(
    folder: Folder,
    file: Annotated[
        Path | None,
        typer.Option(
            "--claims", metavar="FILE", help="A file of claims. Default: those of the experiment and of the study."
        ),
    ] = None,
    format: Annotated[Literal["table", "json"], typer.Option("--format", help="json: one document.")] = "table",
) -> None:
    """Judge claims by the results: supported, contradicted, insufficient evidence, or missing. No model is loaded."""
    import json

    from .api import load
    from .report import evidence

    judged = load(folder).claims(file)
    if format == "json":
        document(json.dumps(evidence.records(judged), indent=1) + "\n")
        return
    out().print(evidence.table(judged))


@app.command(cls=Command)
def clean(
    folder: Folder,
    unused: Annotated[
        bool, typer.Option("--unused", help="Also delete variants and cells that the experiment no longer names.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete fine-tuned weights to free disk space. The results stay."""
    from .work.clean import clean as sweep

    for line in sweep(folder, unused, ask=None if yes else confirm):
        say(line)


@app.command(cls=Command)
def schema() -> None:
    """Print the JSON schema of the YAML, for editors."""
    import json

    from .experiment.schema import Experiment

    document(json.dumps(Experiment.model_json_schema(), indent=1) + "\n")


app.add_typer(other_tools.app)  # without a name: compare, export and the like are commands as the others


def _run_and_show(given: Given, next_step: str | None = None, cluster: str | None = None) -> None:
    from .report.terminal import show

    result = bring(*prepare(given), cluster=cluster)
    with working("scoring and writing the report"):
        page = result.write()
    show(result.table, out())
    say(f"Wrote {page}, and results.csv and effects.csv beside it{on_disk(page)}")
    for failure in result.failures:
        say(failure, style="bold")
    if result.failures:
        say("Everything else is done. Next: fix the cause; then the same command does only what failed.")
        raise typer.Exit(1)
    say(next_step or f"Next: open {page}, or: spillover report {result.folder} (figures as files, too)")


def _next(context: typer.Context, command: str) -> str:
    """The command to type next: another command for the same experiment, with the options given to this one."""
    assert context.parent is not None
    others = {one.name for one in context.parent.command.commands[command].params}  # type: ignore[attr-defined]
    words = ["spillover", command]
    for one in context.command.params:
        value = context.params[one.name]
        if one.name in others and value:
            flag = [one.opts[0]] if one.param_type_name == "option" else []
            words += [word for part in (value if isinstance(value, list) else [value]) for word in [*flag, str(part)]]
    return f"Next: {shlex.join(words)}"


def main() -> None:
    """Run the command of `sys.argv`. What a user can mend, or the system refuses, is one line; all else is a bug."""
    try:
        code = app(prog_name="spillover", standalone_mode=False)
    except SpilloverError as error:
        say_error(f"error: {error}")
        code = error.exit_code
    except Usage as error:
        code = 2
        if line := error.format_message():  # without any argument there was help instead
            context = getattr(error, "ctx", None)
            command = context.command_path if context else "spillover"
            say_error(f"error: {SpilloverError(line, where=command, allowed=f'{command} --help')}")
    except typer.Abort:
        say_error("error: no answer (--yes does not ask)")
        code = 2
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        what = f"{error.strerror}; what is finished is kept"
        say_error(f"error: {SpilloverError(what, where=str(error.filename or 'the output folder'))}")
        code = 2
    sys.exit(code or 0)

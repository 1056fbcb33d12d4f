"""The built wheel, installed without the clone: what a user of `pip install spillover` has.

The new environment sees the libraries of the running one, so nothing is downloaded.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest
import tinyruns
from paths import ROOT

from spillover.experiment.schema import load_experiment

pytestmark = pytest.mark.slow

BUILT_FROM = ("pyproject.toml", "README.md", "LICENSE")
SUITES = """
from spillover.experiment.suite import load_suite
for name in ("abilities", "builtin", "bigbench", "paper"):
    print(len(load_suite(name).datasets))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, as pip leaves a `build` folder beside the sources."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    shutil.copytree(ROOT / "spillover", source / "spillover", ignore=shutil.ignore_patterns("__pycache__"))
    for name in BUILT_FROM:
        shutil.copy(ROOT / name, source)
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", str(out), str(source)]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = out.glob("spillover-*.whl")
    return found


@pytest.fixture(scope="module")
def scripts(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of commands of a new environment with the wheel and the libraries of this one, but not this clone."""
    place = tmp_path_factory.mktemp("environment")
    venv.create(place, with_pip=False)
    python = place / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(pip, check=True, capture_output=True)
    (packages,) = place.glob("lib/python*/site-packages")
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")  # an editable install is not followed
    return place / "bin"


def run(command: list[str | Path], cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


def test_every_file_of_the_package_is_in_the_wheel(wheel: Path) -> None:
    files = {path for path in (ROOT / "spillover").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    with ZipFile(wheel) as built:
        packed = {name for name in built.namelist() if name.startswith("spillover/")}
    assert packed == {path.relative_to(ROOT).as_posix() for path in files}
    assert {Path(name).suffix for name in packed} >= {".py", ".yaml", ".txt", ".css", ".html", ".js"}


def test_it_works_without_the_clone(scripts: Path, tmp_path: Path) -> None:
    where = run([scripts / "python", "-c", "import spillover; print(spillover.__file__)"], tmp_path)
    assert Path(where.strip()).is_relative_to(scripts.parent)
    spillover = scripts / "spillover"
    assert run([spillover, "--version"], tmp_path).strip()
    assert "model" in json.loads(run([spillover, "schema"], tmp_path))["properties"]
    assert all(int(count) > 10 for count in run([scripts / "python", "-c", SUITES], tmp_path).split())


def test_two_files_become_an_experiment(scripts: Path, tmp_path: Path) -> None:
    for name in ("train", "test"):
        tinyruns.write_rows(tmp_path / f"{name}.jsonl", 40, seed=len(name))
    run([scripts / "spillover", "init", "--train", "train.jsonl", "--test", "test.jsonl"], tmp_path)
    (spec,) = load_experiment(tmp_path / "experiment.yaml").datasets.values()
    assert [source.file for source in (*spec.train, *spec.test)] == ["train.jsonl", "test.jsonl"]


def test_an_experiment_becomes_a_report(scripts: Path, tmp_path: Path) -> None:
    """On a random model of a few thousand weights: its numbers mean nothing, but every step runs."""
    spillover, path = scripts / "spillover", tinyruns.write_experiment(tmp_path)
    smaller = ["--limit", "8", "--set", "train.seeds=[0]", "--set", "train.strategies=[ft]", "--set", "test.shots=[0]"]
    run([spillover, "run", path.name, "-o", "out", *smaller], tmp_path)
    page = tmp_path / "out" / "report.html"
    page.unlink()
    run([spillover, "report", "out"], tmp_path)
    assert all(f"<{element}" in page.read_text("utf-8") for element in ("style", "script", "figure", "table"))
    assert (tmp_path / "out" / "results.csv").is_file()

"""Every file of a finished store is broken in many ways: no command has a traceback, and no number is a wrong one."""

from __future__ import annotations

import csv
import io
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import tinyruns
from fakes import Executed

from spillover import api, cli
from spillover.errors import GATE_CODES
from spillover.report import examples
from spillover.work import execute

EXPERIMENT = """
model: ./tiny
datasets:
  parity: {train: train.jsonl, test: test.jsonl, labels: [" four", " five"]}
  echo: {test: echo.jsonl, max_new_tokens: 6}
train: {datasets: [parity], strategies: [ft, lora], batch_size: 4}
test: {shots: [0], prompts: [p1], limit: 6}
claims: {id: a, text: It learns, comparisons: {ours: parity-ft, theirs: base, expect: above}}
"""
FACTS = ["variant", "test_dataset", "shots", "prompt", "draw", "metric", "rows"]
OTHERS = (
    "claims out",
    "claims out --format json",
    "compare out:base out:parity-ft",
    "plan x.yaml -o out",
    "work out --next",
    "clean out --unused",
    "report out",
    "export out --format scores",
    "export out --format every-eval-ever",
    "export out --format lm-eval-results",
    "export out --format card",
    "gate x.yaml -o out",
)
CASES = 36  # of the several hundred that there are
REPAIRED = 6  # of these are run again

Numbers = dict[tuple[str, ...], dict[str, str]]


def flipped(content: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(content)) if content else 0
    return content[:at] + bytes([content[at] ^ (1 << rng.randrange(8))]) + content[at + 1 :] if content else b"x"


def without_a_line(content: bytes, rng: random.Random) -> bytes:
    lines = content.splitlines(keepends=True)
    return b"".join(line for number, line in enumerate(lines) if number != rng.randrange(len(lines) or 1))


def other_labels(content: bytes, rng: random.Random) -> bytes:
    """Answers and targets alike: every row is right."""
    return content.replace(b"five", b"four")


def one_number_more(content: bytes, rng: random.Random) -> bytes:
    digits = [at for at, byte in enumerate(content) if byte in b"123456789"]
    return content if not digits else (lambda at: content[:at] + b"0" + content[at + 1 :])(rng.choice(digits))


MUTATIONS: list[Callable[[bytes, random.Random], bytes | None]] = [
    flipped,
    without_a_line,
    one_number_more,
    other_labels,
    lambda content, rng: content[: rng.randrange(len(content) or 1)],
    lambda content, rng: content + content,
    *(lambda content, rng, to=to: to for to in (b"", b"{}", b"[]", b"null", b"3", b"\x80\x00")),  # type: ignore[misc]
    lambda content, rng: None,  # deleted
]


def numbers(table: str) -> Numbers:
    return {tuple(row[name] for name in FACTS): row for row in csv.DictReader(io.StringIO(table))}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished experiment with its report and figures, made without torch's arithmetic."""
    place = tmp_path_factory.mktemp("fuzz")
    tinyruns.write_experiment(place)
    (place / "x.yaml").write_text(EXPERIMENT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(examples, "EMBEDDED", 0)
        api.run(place / "x.yaml", output_path=place / "whole", backend=Executed().backend()).write(figures=True)
    return place


@pytest.fixture
def call(made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[str], str]:
    """Run a command; returns its output. An exit code that means a bug, or a traceback, fails the test by itself."""
    monkeypatch.chdir(made)
    monkeypatch.setattr(execute, "Torch", lambda: Executed().backend())

    def run(command: str) -> str:
        monkeypatch.setattr(sys, "argv", ["spillover", *command.split()])
        with pytest.raises(SystemExit) as leaving:
            cli.main()
        out, err = capsys.readouterr()
        assert leaving.value.code in (0, 1, 2, *GATE_CODES.values()), command
        lines = err.splitlines()
        assert len(err) < 2000 and "Traceback" not in err, command
        assert leaving.value.code != 2 or sum(line.startswith("error: ") for line in lines) == 1, command
        return str(out)

    return run


@pytest.mark.parametrize("part", [slice(CASES // 3), pytest.param(slice(CASES // 3, CASES), marks=pytest.mark.slow)])
def test_no_broken_file_gives_a_traceback_or_another_number(
    made: Path, call: Callable[[str], str], part: slice
) -> None:
    right = numbers((made / "whole" / "results.csv").read_text())
    out, rng = made / "out", random.Random(17)
    files = sorted(path.relative_to(made / "whole") for path in (made / "whole").rglob("*") if path.is_file())
    every = [(file, mutate) for file in files if "locks" not in file.parts for mutate in MUTATIONS]
    answers = [(file, mutate) for file, mutate in every if file.name == "predictions.jsonl"]
    assert len(every) > 3 * CASES
    chosen = rng.sample(answers, CASES // 3) + rng.sample(every, CASES - CASES // 3)
    rng.shuffle(chosen)
    for number, (file, mutate) in list(enumerate(chosen))[part]:
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(made / "whole", out)
        content = mutate((out / file).read_bytes(), rng)
        if content is None:
            (out / file).unlink()
        else:
            (out / file).write_bytes(content)
        for kept in out.glob("cells/*/rows-*") if number % 2 else ():  # else scores come from there
            kept.unlink(missing_ok=True)
        said = f"{file} {mutate}"
        call("status out")
        found = numbers(call("report out --format csv"))
        for fact, row in found.items():
            assert row["value"] == right[fact]["value"] and row["n"] == right[fact]["n"], said
            if fact[0] == "base" or ("base", *fact[1:]) in found:
                assert row == right[fact], said
        if number % 3 == 0:
            call(rng.choice(OTHERS))
        if number % (CASES // REPAIRED) == 0 and file.name != "spillover.json":
            call("run x.yaml -o out")
            assert (out / "results.csv").read_text() == (made / "whole" / "results.csv").read_text(), said

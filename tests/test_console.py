"""Terminals that lack signs, outputs that cannot be written, and signals: one line or none, and never a traceback."""

from __future__ import annotations

import io
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import children
import pytest
from rich.table import Table
from rich.text import Text

from spillover import console
from spillover.work.progress import LiveReporter

HOSTILE = "a\x1b[2J\x9b31m\x07b\u202ec"


def spillover(*argv: str, **environment: str) -> list[str]:
    return [sys.executable, "-m", "spillover", *argv]


def called(
    *argv: str, stdout: int | io.IOBase = subprocess.PIPE, **environment: str
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        spillover(*argv), stdout=stdout, stderr=subprocess.PIPE, env=os.environ | environment, check=False
    )


# --- signs and control characters -----------------------------------------------------------------


@contextmanager
def writing(encoding: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[io.BytesIO]:
    """What the standard output gets, in an encoding."""
    content = io.BytesIO()
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", io.TextIOWrapper(content, encoding=encoding, write_through=True))
        patched.setattr(sys, "stderr", io.StringIO())
        console.listen_to_output()
        yield content


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1"])
def test_every_sign_of_the_package_has_one_that_all_encodings_know(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = (Path(console.__file__).parent / room for room in ("analysis", "report", "work", "plan", "checks"))
    signs = {c for room in sources for path in room.glob("*.py") for c in path.read_text("utf-8") if ord(c) > 126}
    table = Table("a", "b")
    table.add_row("x −1 ▲", Text("±2 → ✓"))
    with writing(encoding, monkeypatch) as written:
        console.say(" ".join(sorted(char for char in signs - set("£€©™") if char < "\u3000" and not char.isalpha())))
        console.out().print(table)
        with LiveReporter(console.out()) as reporter:
            reporter.start(2, 1, {"labels": 1.0}, {})
        said = written.getvalue().decode(encoding)
    assert len(signs) > 10 and "\\" not in said
    assert "-1 ^" in said and ("+/-2 -> +" in said or "±2 -> +" in said) and "+--" in said


def test_letters_that_an_encoding_lacks_are_written_as_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    with writing("ascii", monkeypatch) as written:
        console.say("é 日 \udcff")
        console.document("é −\n")
        assert written.getvalue() == b"\\xe9 \\u65e5 \\udcff\n" + "é −\n".encode()  # a document is UTF-8


def test_no_control_character_reaches_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """As text, in styles, cells, headings and the line of progress, on a terminal with colours."""
    table = Table(HOSTILE, title=HOSTILE)
    table.add_row(Text(HOSTILE, style="bold"))
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with writing("utf-8", monkeypatch) as written:
        out = console.out()
        out.print(table, HOSTILE, Text(HOSTILE))
        with LiveReporter(out) as reporter:
            reporter.start(2, 1, {"labels": 1.0}, {})
            reporter.doing(HOSTILE)
        console.say(HOSTILE)
        said = written.getvalue().decode()
    assert said.count(r"\x1b[2J") > 4 and r"\u202ec" in said and "\x1b[1m" in said  # rich's own escapes remain
    assert not any(char in said for char in ("\x1b[2J", "\x9b", "\x07", "\u202e"))


def test_nor_by_errors(tmp_path: Path) -> None:
    for argv in (["status", str(tmp_path / HOSTILE)], ["check", HOSTILE], [HOSTILE]):
        done = called(*argv)
        said = done.stderr.decode()
        assert done.returncode == 2 and said.count("\n") == 1 and not done.stdout
        assert r"\x1b[2J" in said and not any(char in said for char in ("\x1b", "\x9b", "\x07", "\u202e"))


@pytest.mark.parametrize("argv", [["check", "x" * 100_000], ["check", "--limit", "1e400"], ["check", "--seed"]])
def test_a_wrong_option_is_one_short_line(argv: list[str]) -> None:
    done = called(*argv)
    assert done.returncode == 2 and done.stderr.startswith(b"error: ") and done.stderr.count(b"\n") == 1
    assert len(done.stderr) <= 800 and not done.stdout


# --- outputs --------------------------------------------------------------------------------------


def test_a_command_in_the_locale_c_of_old_systems_where_python_writes_ascii() -> None:
    helped = called("status", "--help", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert (helped.returncode, helped.stderr) == (0, b"") and helped.stdout.isascii() and b"+--" in helped.stdout


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_an_output_that_is_full_is_one_line(unbuffered: str) -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = called("schema", stdout=full, PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == 2
    assert done.stderr.decode().splitlines() == [
        "error: standard output: No space left on device; what is finished is kept"
    ]


def test_an_output_that_somebody_closed_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as closed:  # noqa: PTH123
        done = called("schema", stdout=closed)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_limit_on_the_size_of_files_is_one_line_and_leaves_nothing_half(folder: Path, tmp_path: Path) -> None:
    """`report` writes megabytes; `ulimit -f` counts kilobytes."""
    import shutil

    place = shutil.copytree(folder, tmp_path / "out")
    before = {path for path in place.rglob("*") if path.is_file()}
    command = f"ulimit -f 8; exec {sys.executable} -m spillover report {place}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=False)
    assert done.returncode == 2 and done.stderr.count(b"\n") == 1
    assert b"File too large" in done.stderr and str(place).encode() in done.stderr
    made = {path for path in place.rglob("*") if path.is_file()} - before
    assert not [path for path in made if path.name.endswith(".writing") or path.stat().st_size == 8192]


# --- signals --------------------------------------------------------------------------------------

# A program that says when it is there, and then does for two seconds what the test is about.
BUSY = """
import sys, time
sys.argv = ["spillover", "status", "x"]
import spillover.__main__ as entry
def busy():
    print("there", flush=True)
    {work}
import spillover.cli
spillover.cli.main = busy
entry.main()
"""
SLEEPS = "time.sleep(20)"
# What libraries do: take any exception for their own, clean up for long, lose it in a callback.
SWALLOWS = "\n    try: time.sleep(20)\n    except BaseException: raise ImportError('broken by an interrupt')"
CLEANS_UP = "\n    try: time.sleep(20)\n    finally: print('there', flush=True); time.sleep(20)"
LOSES = "\n    class Busy:\n        def __del__(self): time.sleep(20)\n    Busy(); time.sleep(20)"


@pytest.mark.parametrize(
    ("work", "signals", "code"),
    [
        (SLEEPS, [signal.SIGINT], 130),
        (SLEEPS, [signal.SIGTERM], 143),
        (SLEEPS, [signal.SIGHUP], 129),
        (SWALLOWS, [signal.SIGINT], 130),
        (CLEANS_UP, [signal.SIGINT, signal.SIGINT], 130),
        (LOSES, [signal.SIGINT], 130),
    ],
    ids=["ctrl-c", "term", "hup", "swallowed", "twice", "lost"],
)
def test_a_signal_ends_it_without_a_traceback(work: str, signals: list[signal.Signals], code: int) -> None:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = children.start([sys.executable, "-c", BUSY.format(work=work)], **pipes)
    assert process.stdout is not None
    for number in signals:
        assert process.stdout.readline() == "there\n"
        time.sleep(0.1)  # the line is written before the sleep begins
        process.send_signal(number)
    _, said = process.communicate(timeout=15)
    assert process.returncode == code
    assert "Traceback" not in said and said.count("\n") == (work in (SLEEPS, SWALLOWS))


@pytest.mark.parametrize("after_s", [0.15, 0.3, 0.6, 1.0])
def test_ctrl_c_twice_while_it_is_starting(after_s: float, tmp_path: Path) -> None:
    """Wherever it is then: reading the libraries, most of the time."""
    ready = tmp_path / "ready"
    command = f"from pathlib import Path; import spillover.__main__ as e; Path({str(ready)!r}).touch(); e.main()"
    program = f"import sys; sys.argv = ['spillover', 'demo', '-o', {str(tmp_path / 'out')!r}]; {command}"
    process = children.start([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while not ready.exists():
        time.sleep(0.01)
    time.sleep(after_s)
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.01)
    _, said = process.communicate(timeout=15)
    assert process.returncode == 130 and "Traceback" not in said and said.count("\n") <= 1


def test_a_signal_that_was_ignored_stays_ignored() -> None:
    """As in `nohup spillover run &`."""
    program = BUSY.format(work="time.sleep(0.5); print('done', flush=True)")
    process = subprocess.Popen(
        ["bash", "-c", 'trap \'\' INT HUP; exec "$0" -c "$1"', sys.executable, program],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "there\n"
    for number in (signal.SIGINT, signal.SIGHUP):
        process.send_signal(number)
    assert process.communicate(timeout=15)[0] == "done\n" and process.returncode == 0


def test_the_cursor_comes_back_on_a_terminal() -> None:
    """A spinner hides it; the second signal comes before anything is cleaned up."""
    ours, theirs = pty.openpty()
    program = BUSY.format(work="\n    import rich.console\n    with rich.console.Console().status('x'): time.sleep(20)")
    process = children.start([sys.executable, "-c", program], stdout=theirs, stderr=theirs, stdin=theirs)
    os.close(theirs)
    seen = b""
    while b"\x1b[?25l" not in seen:
        seen += os.read(ours, 1000)
    for _ in range(2):
        process.send_signal(signal.SIGINT)
    process.wait(timeout=15)
    assert process.returncode == 130
    rest = os.read(ours, 100_000)
    assert b"\x1b[?25h" in rest and b"Traceback" not in rest

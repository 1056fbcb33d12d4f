"""Benchmark scripts one after the other, each in a process of its own with a limit of time, and the table of results.

A result is what a script writes with `--json`, or {"skipped": why}, or {"failed": why}.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
Done = tuple[str, str, dict[str, Any]]
"""(what, command, result)"""


def run(
    script: str, options: Sequence[str], limit: float | None = None, also: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The result of a script with options of its own and these. After `limit` seconds all of its processes are ended.

    `also` are variables of its environment.
    """
    with tempfile.TemporaryDirectory() as place:
        out = Path(place, "result.json")
        path, *own = shlex.split(script)
        command = [sys.executable, str(HERE / path), *own, *options, "--json", str(out)]
        code, printed, errors = in_time(command, limit, {**os.environ, **(also or {})})
        print(printed, end="", file=sys.stderr, flush=True)
        if code is None:
            return {"failed": f"not done after its {limit:.0f} s"}
        if code or not out.exists():
            print(errors[-4000:], file=sys.stderr)
            lines = errors.strip().splitlines() or ["no result"]
            return {"failed": lines[-1]}
        return json.loads(out.read_text("utf-8"))  # type: ignore[no-any-return]


def in_time(
    command: Sequence[str], limit: float | None, environment: Mapping[str, str], grace: float = 0.0
) -> tuple[int | None, str, str]:
    """(exit code, stdout, stderr) of a command. The code is None if the time was over.

    Then the command and the processes that it has started are interrupted, and ended `grace` seconds later.
    """
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=dict(environment), text=True, start_new_session=True, **pipes) as process:
        try:
            printed, errors = process.communicate(timeout=limit)
            return process.returncode, printed, errors
        except subprocess.TimeoutExpired:
            return None, *_ended(process, grace)
        except BaseException:
            _ended(process, grace)
            raise


def _ended(process: subprocess.Popen[str], grace: float) -> tuple[str, str]:
    """What a process has printed until it and its children were ended."""
    if grace:
        os.killpg(process.pid, signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=grace)
    os.killpg(process.pid, signal.SIGKILL)
    return process.communicate()


def table(done: Sequence[Done]) -> str:
    """Markdown: a row a benchmark, then details, the machines and the commands."""
    lines = ["| work: against | ratio | aim | times | peak memory | agreement |", "| --- |" + " --- |" * 5]
    for what, _, row in done:
        if "ratio" not in row:
            why = "; ".join(f"{state}: {row[state]}" for state in ("skipped", "failed") if state in row)
            lines.append(f"| {what} | {why.replace('|', '/')} | | | | |")
            continue
        cells = [what, f"{row['ratio']:.3g}x", row["aim"], row["times"], row["memory"], row["parity"]]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    machines = dict.fromkeys(row["machine"] for _, _, row in done if "machine" in row)
    details = [f"- {what}: {row['detail']}" for what, _, row in done if row.get("detail")]
    commands = [f"    {command}" for _, command, _ in done]
    return "\n".join([*lines, "", *(f"Machine: {one}." for one in machines), "", *details, "", *commands, ""])

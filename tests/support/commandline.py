"""Fixture: commands through the entry point, in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from spillover import cli

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run a command through the entry point; a traceback fails the test by itself."""

    def run(*argv: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["spillover", *argv])
        code = 0
        try:
            cli.main()
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
        out, err = capsys.readouterr()
        return code, out, err

    return run

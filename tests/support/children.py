"""Child processes that a test interrupts."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence
from typing import Any


def start(command: Sequence[str], **options: Any) -> subprocess.Popen[str]:
    """Start `command` with SIGINT at its default, whatever this process does with it.

    A shell starts background jobs (`nohup pytest &`) with SIGINT ignored, and children inherit that: Python then
    installs no handler, and a test that sends SIGINT waits for ever. A signal that is handled when a child starts
    is back at its default there, so this process handles SIGINT for that moment.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(command, text=True, **options)
    finally:
        signal.signal(signal.SIGINT, before)

"""The entry point: it hears signals before the libraries are imported, which takes seconds, and ends the process.

So this module and the package's `__init__` import next to nothing.

The first Ctrl-C, SIGTERM or SIGHUP raises KeyboardInterrupt wherever the program is: locks are freed, processes on
other devices end, the cursor comes back, and one line is said. The second ends the process at once, also in the middle
of that; what is stored is whole at any moment. Exit codes are those of shells: 130, 143 and 129. A signal that was
ignored when the process began (`nohup`, a job in the background) stays ignored.
"""

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False  # as type checkers know it: the module `typing` takes its time
if TYPE_CHECKING:
    from types import FrameType, TracebackType
    from typing import Any, NoReturn

NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
if hasattr(signal, "SIGHUP"):
    NAMES[signal.SIGHUP] = "SIGHUP"
SHOW_CURSOR = b"\x1b[?25h"

received: list[int] = []
"""The signals that came. What stands here when a command ends makes the next signal end the process at once."""


def _stop(number: int, frame: FrameType | None) -> None:
    if received:
        _leave(number)
    received.append(number)
    raise KeyboardInterrupt


def _leave(number: int) -> NoReturn:
    """End the process now."""
    for terminal in filter(os.isatty, (1, 2)):  # not by `sys.stdout`, which may be in the middle of something
        os.write(terminal, SHOW_CURSOR)
    os._exit(128 + number)


def _unraisable(info: Any) -> None:
    """An interrupt that came where Python cannot raise it, as in a callback of the garbage collector, still counts."""
    if received:
        _leave(received[0])
    sys.__unraisablehook__(info)


def _bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    import traceback

    from .errors import visible

    sys.stderr.write(visible("".join(traceback.format_exception(kind, error, trace)), keep="\n"))


def main() -> NoReturn:
    """Run the command of `sys.argv` and end the process with its exit code."""
    for number in NAMES:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _stop)
    sys.unraisablehook, sys.excepthook = _unraisable, _bug
    code: Any = 1
    try:
        from . import console

        code = _run(console)
    except BaseException:  # an interrupted import may raise anything
        if not received:
            raise
    if received:
        from contextlib import suppress

        name = NAMES[signal.Signals(received[0])]
        print(f"Stopped by {name}. What is finished is kept; the same command goes on from there.", file=sys.stderr)
        with suppress(BaseException):
            sys.stdout.flush()
        _leave(received[0])  # at once: at the end of Python there is a moment in which a signal is not heard
    received.append(signal.SIGINT)
    sys.exit(code)


def _run(console: Any) -> Any:
    """The exit code of the command. What standard output does not take is one line; a closed pipe is nobody's fault."""
    console.listen_to_output()
    try:
        try:
            from .cli import main

            main()
        finally:
            sys.stdout.flush()
    except SystemExit as leaving:
        return leaving.code
    except console.OutputLost as lost:
        console.drop_output()
        if isinstance(lost.error, BrokenPipeError):
            return 128 + 13  # as of a process that SIGPIPE ended
        console.say_error(f"error: standard output: {lost.error.strerror}; what is finished is kept")
        return 2
    return 0


if __name__ == "__main__":
    main()

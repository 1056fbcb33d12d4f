"""What a command writes to the terminal: lines, tables, and documents for other programs.

Nothing dies for want of a sign, and nothing that data, names or errors hold can steer the terminal:

- `listen_to_output` makes the two standard streams safe. A sign that their encoding does not have is written in ASCII.
  If the output cannot be written, `OutputLost` says so.
- `out` is rich's console, which escapes control characters in what it is given.
- `document` is for `--format json`, `csv`, `md` and `latex`: in UTF-8, if the output is no terminal.
"""

from __future__ import annotations

import codecs
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import TYPE_CHECKING, Any

from .errors import called, visible

if TYPE_CHECKING:
    from rich.console import Console

# The signs of the package's own output, for encodings that lack them.
PLAIN = {"−": "-", "–": "-", "—": "-", "’": "'", "‘": "'", "“": '"', "”": '"', "·": ".", "…": "...", "\u00a0": " "}
PLAIN |= {"▲": "^", "▼": "v", "→": "->", "←": "<-", "↑": "^", "↓": "v", "✓": "+", "✗": "x", "•": "*", "×": "x"}
PLAIN |= {"±": "+/-", "‖": "||", "₀": "0", "⁻": "-", "⁵": "5", "²": "2", "Δ": "d", "≥": ">=", "≤": "<=", "∞": "inf"}
PLAIN |= dict.fromkeys("─━╌╸╺═", "-") | dict.fromkeys("│┃║", "|") | dict.fromkeys("├┤┬┴┼└┘┌┐╭╮╰╯╞╡╪╒╕╘╛┏┓┗┛┡┩╇┠┨", "+")


def _plainer(error: UnicodeError) -> tuple[str, int]:
    """What is written in place of characters that the encoding does not have."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(map(_plain, lacking)), error.end


def _plain(char: str) -> str:
    if "\u2800" <= char <= "\u28ff":  # rich's spinner
        return "*"
    return PLAIN.get(char) or char.encode("ascii", "backslashreplace").decode("ascii")


class OutputLost(BaseException):
    """The standard output cannot be written. As no `Exception`, it is not taken for the failure of a variant."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


class _Stream:
    """A standard stream. Raises OutputLost for what cannot be written; what standard error cannot say is dropped."""

    def __init__(self, stream: Any, essential: bool) -> None:
        self.stream, self.essential = stream, essential

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        with self._told():
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._told():
            self.stream.flush()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if self.essential:
                raise OutputLost(error) from None


def listen_to_output() -> None:
    """Make the standard streams of this process safe. A stream that is closed becomes one that is not seen."""
    codecs.register_error("spillover", _plainer)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name) or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="spillover")
        setattr(sys, name, _Stream(stream, essential=name == "stdout"))


def drop_output() -> None:
    """Send what is still to be written nowhere, so that the end of the process does not fail for it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def say_error(line: str) -> None:
    """One line on standard error."""
    print(visible(line), file=sys.stderr, flush=True)


@cache
def _careful() -> type[Console]:
    """Rich's console, imported at its first use. It escapes control characters in all text, nested in any way."""
    from rich.console import Console
    from rich.segment import Segment

    class Careful(Console):
        def render(self, *args: Any, **options: Any) -> Iterator[Segment]:
            for segment in super().render(*args, **options):
                yield segment if segment.control else segment._replace(text=visible(segment.text, keep="\n"))

    return Careful


def out(aside: bool = False) -> Console:
    """The console for people; `aside`: on standard error. Names and paths may have square brackets."""
    stream = sys.stderr if aside else sys.stdout
    return _careful()(file=stream, stderr=aside, markup=False, highlight=False, emoji=False)


def say(line: str, style: str | None = None) -> None:
    """A line that is not broken, however long it is."""
    out().print(line, style=style, soft_wrap=True)


def document(text: str) -> None:
    """A text for other programs, as it is: in UTF-8, except on a terminal with another encoding."""
    if not sys.stdout.isatty() and hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8")
    sys.stdout.write(called(text))
    sys.stdout.flush()


@contextmanager
def working(what: str) -> Iterator[None]:
    """A spinner on a terminal, nothing in a log."""
    console = out(aside=True)
    with console.status(what) if console.is_terminal else nullcontext():
        yield

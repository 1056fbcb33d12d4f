"""What failed in a run: a line for each variant or unit, and its traceback in the output folder."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import SpilloverError, StoreError
from ..store.store import Store
from .progress import Reporter


class Failures:
    """The failures of a run, as `lines`."""

    def __init__(self, store: Store, reporter: Reporter) -> None:
        self.store, self.reporter = store, reporter
        self.lines: list[str] = []

    @contextmanager
    def others_go_on(self, what: str) -> Iterator[None]:
        """Record an error of a variant or unit, so that the others go on. An error of the store stops the run."""
        try:
            yield
        except StoreError:
            raise
        except Exception as error:
            if "No space left" in str(error):  # as torch and safetensors report it, in errors of their own
                raise StoreError(f"no space left on the disk while at {what}", where=str(self.store.folder)) from None
            first = str(error).splitlines()[0] if str(error) else ""
            why = first if isinstance(error, SpilloverError) else f"{type(error).__name__}: {first}"
            self.record(what, why, traceback.format_exc())

    def record(self, what: str, why: str, text: str) -> None:
        """Record that something failed; `text` says all that is known of it."""
        path = self.store.write_error(what, text)
        self.add(f"{what} failed: {why} (all of it in {path})")

    def add(self, line: str) -> None:
        """Add a line whose details are stored already."""
        self.lines.append(line)
        self.reporter.failed(line)

"""Cells on disk: predictions with a receipt, statistics computed from them, and the unit that is under way."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from ..disk import write_whole
from ..errors import StoreError
from .folder import Folder, Json, line, pretty


class Cells(Folder):
    """What is stored of the cells of an experiment, by the cell's key."""

    def cell_receipt(self, key: str) -> Json | None:
        """The receipt of a whole cell, whether or not the cell still counts (`Store.valid`)."""
        return self._read(f"cells/{key}/receipt.json")

    def cell_receipts(self) -> Iterator[tuple[str, Json]]:
        """The key and receipt of every whole cell, also of those that the current experiment does not name."""
        for path in self._folders("cells"):
            # A name with a suffix is a cell that is still being written.
            receipt = None if path.suffix else self.cell_receipt(path.name)
            if receipt is not None:
                yield path.name, receipt

    def write_cell(self, key: str, predictions: Iterable[Json], receipt: Json) -> None:
        """Store a cell as a whole: it is written beside its place and renamed."""
        place, beside = self._cell(key), self._cell(f"{key}.writing")
        with self._disk_errors():
            shutil.rmtree(beside, ignore_errors=True)
            beside.mkdir(parents=True)
            write_whole(beside / "predictions.jsonl", "".join(line(row) for row in predictions))
            write_whole(beside / "receipt.json", pretty(receipt))
            shutil.rmtree(place, ignore_errors=True)
            beside.rename(place)

    def predictions_file(self, key: str) -> bytes | None:
        """The bytes of a cell's predictions; None if there are none."""
        try:
            return self._predictions(key).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def predictions(self, key: str) -> list[Json]:
        """The rows of a cell in the order in which they were stored. Raises StoreError for a line that is not JSON."""
        path = self._predictions(key)
        advice = "delete its folder and run again"
        rows = []
        # Not splitlines: texts may hold U+2028 and similar characters.
        for number, text in enumerate((self.predictions_file(key) or b"").split(b"\n"), 1):
            if text:
                try:
                    rows.append(json.loads(text))
                except ValueError as error:
                    what = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
                    raise StoreError(f"not JSON: {what}", where=f"{path}:{number}", allowed=advice) from None
        return rows

    def known_rows(self, variant: str, weights: str) -> dict[str, Json]:
        """Every answered row of a variant by prompt hash, from its whole cells: a larger limit reuses them."""
        known: dict[str, Json] = {}
        for key, receipt in self.cell_receipts():
            if receipt.get("variant") == variant and receipt.get("weights") == weights:
                known.update((row["prompt_hash"], row) for row in self.predictions(key))
        return known

    # --- statistics computed from predictions: may be deleted at any time ------------------------------

    def statistics(self, key: str, name: str) -> bytes | None:
        """What `keep_statistics` kept under this name beside a cell's predictions."""
        try:
            return (self._cell(key) / f"rows-{name}").read_bytes()
        except OSError:
            return None

    def keep_statistics(self, key: str, name: str, content: bytes) -> None:
        """Keep what was computed from a cell's predictions in place of what was kept before.

        Nothing is kept in a folder that cannot be written.
        """
        with suppress(OSError):
            kept = write_whole(self._cell(key) / f"rows-{name}", content)
            for old in kept.parent.glob("rows-*"):
                if old != kept and not old.suffix:  # a name with a suffix is a file that is still being written
                    old.unlink(missing_ok=True)

    # --- the unit under way ----------------------------------------------------------------------------

    def partial(self, unit: str) -> tuple[dict[str, Json], list[Json]]:
        """The answers that a killed run had of a unit, by prompt hash, and what each of its chunks had cost.

        A chunk that was only half written is cut off the file.
        """
        path = self._partial(unit)
        if not path.exists():
            return {}, []
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            path.write_bytes(whole)
        chunks = [json.loads(text) for text in whole.splitlines()]
        rows = {row["prompt_hash"]: row for chunk in chunks for row in chunk["rows"]}
        return rows, [chunk["work"] for chunk in chunks]

    def append_partial(self, unit: str, rows: Sequence[Json], work: Json) -> None:
        """Add a chunk of answers, with what it cost, to the unit under way."""
        with self._disk_errors():
            self._partial(unit).parent.mkdir(parents=True, exist_ok=True)
            with self._partial(unit).open("ab") as handle:
                handle.write(line({"work": work, "rows": rows}).encode("utf-8", "backslashreplace"))

    def drop_partial(self, unit: str) -> None:
        self._partial(unit).unlink(missing_ok=True)

    def _partial(self, unit: str) -> Path:
        return self.folder / "partial" / f"{unit}.jsonl"

    def _cell(self, key: str) -> Path:
        return self.folder / "cells" / key

    def _predictions(self, key: str) -> Path:
        return self._cell(key) / "predictions.jsonl"

    def _folders(self, kind: str) -> list[Path]:
        place = self.folder / kind
        return sorted(place.iterdir()) if place.is_dir() else []

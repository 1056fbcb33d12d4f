"""Cells in the output folder, whole or absent, and the answers of the unit that is under way.

A cell's receipt is sealed and holds the rows, bytes and hash of the predictions beside it, so that a cell that lost a
line or was changed is `Broken`. A chunk of answers of a unit under way is a sealed line of its own.

A cell that was imported without texts has scores in place of predictions: what each row adds to each metric. Its
receipt says so under `without_texts`, with the rules of these scores.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from ..disk import as_bytes, disk_errors, file_sha256, remove, text_sha256, within, write_whole
from ..errors import StoreError
from .folder import Broken, Folder, Json, line, sealed, unsealed

PREDICTIONS, SCORES = "predictions.jsonl", "scores.jsonl"


class Cells(Folder):
    """The cells of an output folder, by key."""

    # --- whole cells -----------------------------------------------------------------------------------

    def cell(self, key: str, hashes: bool = True) -> Json | None:
        """The receipt of a whole cell, whether or not the cell still counts (`Store.valid`); None if there is none.

        Raises Broken if its files are not what was written. Without `hashes`, the size of its predictions is compared
        and not their hash.
        """
        place = self._cell(key)
        if not place.exists():
            return None
        receipt = self._sealed(f"cells/{key}/receipt.json")
        if receipt is None:
            raise Broken("is missing", where=str(place / "receipt.json"))
        path = place / _rows_file(receipt)
        try:
            whole = path.stat().st_size == receipt["bytes"]
            if whole and hashes:
                whole = self._once(path, "sha256", lambda: file_sha256(path)) == receipt["sha256"]
            rows = receipt["rows"] if whole else path.read_bytes().count(b"\n")
        except FileNotFoundError:
            raise Broken("is missing", where=str(path)) from None
        except OSError as error:
            raise Broken(f"cannot be read: {error.strerror}", where=str(path)) from None
        if not whole:
            lost = f"has {rows} of {receipt['rows']} rows" if rows != receipt["rows"] else "was changed"
            raise Broken(lost, where=str(path))
        return receipt

    def cell_receipts(self, without: Container[str] = ()) -> Iterator[tuple[str, Json]]:
        """The key and receipt of every whole cell, also of those that the current experiment does not name.

        Those `without` are not read. Of predictions, the size is compared and not the hash.
        """
        for path in self._entries("cells"):
            with suppress(Broken):
                # A name with a suffix is a cell that is still being written.
                receipt = None if path.suffix or path.name in without else self.cell(path.name, hashes=False)
                if receipt is not None:
                    yield path.name, receipt

    def write_cell(self, key: str, predictions: Iterable[Json], receipt: Json) -> None:
        """Store a cell as a whole: its rows, predictions or scores, and its receipt, which holds their hash."""
        self._put_cell(key, *packed_cell(key, predictions, receipt))

    def _put_cell(self, key: str, receipt: bytes, rows: bytes) -> None:
        """Write a cell beside its place and rename it."""
        name = f"cells/{key}"
        place, beside, before = (within(self.folder, f"{name}{suffix}") for suffix in ("", ".writing", ".before"))
        with disk_errors(self.folder):
            remove(beside)
            remove(before)
            write_whole(beside / (SCORES if b'\n "without_texts": ' in receipt else PREDICTIONS), rows)
            write_whole(beside / "receipt.json", receipt)
            with suppress(FileNotFoundError):
                place.rename(before)  # so that nobody sees half of a cell while it is deleted
            beside.rename(place)
            remove(before)

    def predictions(self, key: str) -> list[Json]:
        """The rows of a cell in the order in which they were stored; none of a cell without texts.

        Raises StoreError for a line that is not JSON.
        """
        return self._rows(key, PREDICTIONS)

    def scores(self, key: str) -> list[Json]:
        """What each row of a cell without texts adds to each metric; none of any other cell. Raises StoreError."""
        return self._rows(key, SCORES)

    def _rows(self, key: str, name: str) -> list[Json]:
        rows = []
        # Not splitlines: texts may hold U+2028 and similar characters.
        for number, text in enumerate((self._content(f"cells/{key}/{name}") or b"").split(b"\n"), 1):
            try:
                rows += [json.loads(text)] if text else []
            except (ValueError, RecursionError) as error:
                what = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
                where = f"{self._cell(key) / name}:{number}"
                advice = "delete its folder and run again"
                raise StoreError(f"not JSON: {what}", where=where, allowed=advice) from None
        return rows

    def known_rows(self, variant: str, weights: str, engine: str, of_others: Container[str] = ()) -> dict[str, Json]:
        """Every row of a variant that an engine answered, by prompt hash, from its whole cells.

        A larger limit uses them again. The cells `of_others` are known to be those of other variants.
        """
        known: dict[str, Json] = {}
        for key, receipt in self.cell_receipts(of_others):
            if [receipt.get(name) for name in ("variant", "weights", "engine")] == [variant, weights, engine]:
                with suppress(Broken):
                    self.cell(key)
                    known.update((row["prompt_hash"], row) for row in self.predictions(key))
        return known

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
        with suppress(OSError, StoreError):
            kept = write_whole(within(self.folder, f"cells/{key}/rows-{name}"), content)
            for old in kept.parent.glob("rows-*"):
                if old != kept and not old.suffix:  # a name with a suffix is a file that is still being written
                    remove(old)

    def _cell(self, key: str) -> Path:
        return self.folder / "cells" / key

    # --- the unit under way ----------------------------------------------------------------------------

    def partial(self, unit: str) -> tuple[dict[str, Json], list[Json]]:
        """The answers that a killed run had of a unit, by prompt hash, and what each of its chunks had cost.

        Chunks that are broken, and one that was only half written, are cut off the file.
        """
        name = _partial(unit)
        try:
            content = self._content(name) or b""
        except Broken as error:
            self._tell(name, f"{error}; its answers are computed again")
            self._remove(name)
            content = b""
        *lines, half = content.split(b"\n")
        chunks, kept = [], []
        for text in lines:
            with suppress(ValueError):
                chunks.append(unsealed(name, text))
                kept.append(text + b"\n")
        if lost := len(lines) - len(kept):
            where = self.folder / name
            self._tell(name, f"{where}: {lost} of {len(lines)} chunks of answers are broken; they are computed again")
        if lost or half:
            self._write(name, b"".join(kept))
        rows = {row["prompt_hash"]: row for chunk in chunks for row in chunk["rows"]}
        return rows, [chunk["work"] for chunk in chunks]

    def append_partial(self, unit: str, rows: Sequence[Json], work: Json) -> None:
        """Add a chunk of answers, with what it cost, to the unit under way."""
        path = within(self.folder, _partial(unit))
        with disk_errors(self.folder):
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_symlink():
                path.unlink()
            with path.open("ab") as handle:
                handle.write(as_bytes(sealed(_partial(unit), {"work": work, "rows": list(rows)}, indent=None)))

    def drop_partial(self, unit: str) -> None:
        """Drop the answers of a unit that was under way, and those whose names go on after the unit's with a hyphen."""
        for path in self._entries("partial"):
            if path.stem == unit or path.stem.startswith(f"{unit}-"):
                self._remove(f"partial/{path.name}")


def packed_cell(key: str, predictions: Iterable[Json], receipt: Json) -> tuple[bytes, bytes]:
    """The bytes of a cell's receipt and of its rows."""
    rows = [line(row) for row in predictions]
    text = as_bytes("".join(rows))
    content = {"rows": len(rows), "bytes": len(text), "sha256": text_sha256(text)}
    return as_bytes(sealed(f"cells/{key}/receipt.json", {**receipt, **content})), text


def _rows_file(receipt: Json) -> str:
    return SCORES if "without_texts" in receipt else PREDICTIONS


def _partial(unit: str) -> str:
    return f"partial/{unit}.jsonl"

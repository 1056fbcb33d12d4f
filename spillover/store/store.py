"""What is on disk: variants, cells and receipts in one folder.

    DIR/spillover.json                    the store's version
    DIR/experiment.yaml                   the experiment as run, with what `auto` became
    DIR/grid.json                         the current experiment's variants and cells
    DIR/variants/<key>/                   an ordinary Hugging Face checkpoint or PEFT adapter, and receipt.json
    DIR/cells/<key>/predictions.jsonl     a row a line; receipt.json beside it
    DIR/inside/<variant key>.json         what changed inside a variant (`spillover.run.inspect`)
    DIR/prompts/<condition>.json          the prompts of a test set at one shot count, format and draw, for the report
    DIR/partial/<unit>.jsonl              a unit that is under way: a chunk of answers a line, with what it cost
    DIR/errors/<what>.txt                 what failed in the last run, with its traceback
    DIR/results.csv, effects.csv, report.html  made from the above at any time

A cell or a variant is either whole or absent: it is written into a folder beside its place and renamed. Killed
anywhere, the next run finds what is whole, and of the unit under way every chunk that was answered.

A cell counts only with the weights it was made with: its receipt carries their hash, and weights that changed (a
folder edited by hand, a training repeated with another outcome) void it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..disk import free_space, nearest_existing, write_whole
from ..errors import StoreBusy, StoreError
from ..fingerprint import fingerprint
from ..plan.grid import Cell

STORE_VERSION = 1

Json = dict[str, Any]


class Store:
    """The output folder of an experiment. Raises StoreError for a folder of another version, and for a file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        marker = _read_json(folder / "spillover.json")
        if marker is not None:
            found = marker.get("store")
            if found != STORE_VERSION:
                raise StoreError(
                    f"written by another version of spillover (store {found}, this is {STORE_VERSION})",
                    where=str(folder),
                    allowed="give another --output",
                )
        elif not (place := nearest_existing(folder)).is_dir():
            raise StoreError("is a file", where=str(place), allowed="a folder")

    def create(self) -> None:
        """Make the folder and its marker."""
        with _disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            if not (self.folder / "spillover.json").exists():
                write_whole(self.folder / "spillover.json", json.dumps({"store": STORE_VERSION}) + "\n")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for one run. Raises StoreBusy where another run holds it."""
        lock = FileLock(self.folder / ".lock")
        try:
            with _disk_errors(self.folder):
                lock.acquire(timeout=0)
        except Timeout:
            raise StoreBusy(
                "another run is using this folder",
                where=str(self.folder),
                allowed="wait for it, or give another --output",
            ) from None
        try:
            yield
        finally:
            lock.release()

    # --- variants ---------------------------------------------------------------------------------

    def variant_folder(self, key: str) -> Path:
        return self.folder / "variants" / key

    def variant_receipt(self, key: str) -> Json | None:
        """The receipt of a variant that was made whole, even if its weights have been cleaned since."""
        return _read_json(self.variant_folder(key) / "receipt.json")

    def making_folder(self, key: str) -> Path:
        """Where a variant is trained until it is whole; checkpoints of a killed training are still there."""
        folder = self.folder / "variants" / f"{key}.making"
        with _disk_errors(self.folder):
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    def finish_variant(self, key: str, receipt: Json) -> Path:
        """Put a trained variant in its place: its receipt makes it whole, it is renamed, its checkpoints go."""
        making, place = self.making_folder(key), self.variant_folder(key)
        with _disk_errors(self.folder):
            write_whole(making / "receipt.json", _pretty(receipt))
            if place.exists():
                shutil.rmtree(place)
            making.rename(place)
        shutil.rmtree(place / "checkpoints", ignore_errors=True)
        return place

    def finish_if_trained(self, key: str) -> None:
        """A variant whose training ended right before the process was killed needs only to be put in its place."""
        receipt = _read_json(self.folder / "variants" / f"{key}.making" / "receipt.json")
        if receipt is not None:
            self.finish_variant(key, receipt)

    def drop_weights(self, key: str) -> int:
        """Delete a variant's files but for its receipt; returns the bytes freed."""
        folder = self.variant_folder(key)
        freed = 0
        for path in sorted(folder.rglob("*"), reverse=True) if folder.is_dir() else []:
            if path.is_file() and path != folder / "receipt.json":
                freed += path.stat().st_size
                path.unlink()
            elif path.is_dir():
                with suppress(OSError):
                    path.rmdir()
        return freed

    # --- cells ------------------------------------------------------------------------------------

    def cell_receipt(self, key: str) -> Json | None:
        return _read_json(self.folder / "cells" / key / "receipt.json")

    def has_cell(self, key: str, weights: str | None) -> bool:
        """Whether a cell is whole and was made with these weights (None: whatever they were)."""
        receipt = self.cell_receipt(key)
        return receipt is not None and weights in (None, receipt.get("weights"))

    def is_valid(self, cell: Cell) -> bool:
        """Whether a cell is whole and its variant's weights are still those it was made with."""
        receipt = self.variant_receipt(cell.variant)  # only trained variants have one; the others' keys are their bytes
        return self.has_cell(cell.key, receipt["weights"] if receipt else None)

    def write_cell(self, key: str, predictions: Iterable[Json], receipt: Json) -> None:
        """A cell, whole: written beside and renamed."""
        place = self.folder / "cells" / key
        beside = self.folder / "cells" / f"{key}.writing"
        with _disk_errors(self.folder):
            shutil.rmtree(beside, ignore_errors=True)
            beside.mkdir(parents=True)
            write_whole(beside / "predictions.jsonl", "".join(_line(row) for row in predictions))
            write_whole(beside / "receipt.json", _pretty(receipt))
            shutil.rmtree(place, ignore_errors=True)
            beside.rename(place)

    def known_rows(self, variant: str, weights: str) -> dict[str, Json]:
        """Every answered row of a variant by prompt hash, from its whole cells: a larger limit reuses them."""
        known: dict[str, Json] = {}
        cells = self.folder / "cells"
        for path in sorted(cells.iterdir()) if cells.is_dir() else []:
            # Not one half-way into its place.
            receipt = None if path.suffix else _read_json(path / "receipt.json")
            if receipt and receipt.get("variant") == variant and receipt.get("weights") == weights:
                known.update((row["prompt_hash"], row) for row in read_rows(path / "predictions.jsonl"))
        return known

    # --- the unit under way -------------------------------------------------------------------------

    def partial(self, unit: str) -> tuple[dict[str, Json], list[Json]]:
        """What a killed run had answered of a unit, by prompt hash, and what each chunk of it had cost.

        A chunk that it left unfinished is cut off the file.
        """
        path = self._partial(unit)
        if not path.exists():
            return {}, []
        whole = _whole_lines(path.read_bytes())
        if len(whole) < path.stat().st_size:
            path.write_bytes(whole)
        chunks = [json.loads(line) for line in whole.splitlines()]
        rows = {row["prompt_hash"]: row for chunk in chunks for row in chunk["rows"]}
        return rows, [chunk["work"] for chunk in chunks]

    def append_partial(self, unit: str, rows: Sequence[Json], work: Json) -> None:
        with _disk_errors(self.folder):
            self._partial(unit).parent.mkdir(parents=True, exist_ok=True)
            with self._partial(unit).open("ab") as handle:
                handle.write(_line({"work": work, "rows": rows}).encode("utf-8", "backslashreplace"))

    def drop_partial(self, unit: str) -> None:
        self._partial(unit).unlink(missing_ok=True)

    def _partial(self, unit: str) -> Path:
        return self.folder / "partial" / f"{unit}.jsonl"

    # --- everything ---------------------------------------------------------------------------------

    def write_text(self, name: str, text: str) -> Path:
        """A file at the top of the folder, replaced as a whole."""
        path = self.folder / name
        with _disk_errors(self.folder):
            return write_whole(path, text)

    def unused(self, variants: set[str], cells: set[str]) -> list[Path]:
        """Folders that the current experiment does not name, and whatever a killed run left beside."""
        found = []
        for kind, wanted in (("variants", variants), ("cells", cells)):
            place = self.folder / kind
            found += [path for path in sorted(place.iterdir()) if path.name not in wanted] if place.is_dir() else []
        return found


def prompts_name(test: str, prompt: str, shots: int, draw: int) -> str:
    """The file, below the folder, that keeps the prompts of a condition (`sheets.kept`)."""
    return f"prompts/{fingerprint([test, prompt, shots, draw])}.json"


def read_rows(path: Path) -> list[Json]:
    """JSON lines of a whole file. Raises StoreError for a broken one."""
    try:
        return [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]
    except (OSError, ValueError) as error:
        advice = "delete its folder and run again"
        raise StoreError(f"cannot be read: {error}", where=str(path), allowed=advice) from None


def _whole_lines(data: bytes) -> bytes:
    return data[: data.rfind(b"\n") + 1]


def _line(row: Json) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


def _pretty(value: Json) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def _read_json(path: Path) -> Json | None:
    try:
        value = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):  # never was, or another worker is replacing its folder
        return None
    except (OSError, ValueError) as error:
        raise StoreError(f"cannot be read: {error}", where=str(path)) from None
    return value if isinstance(value, dict) else {}


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    """No space, no permission: one line, and what was whole stays whole."""
    try:
        yield
    except Timeout:
        raise
    except OSError as error:
        free = free_space(folder)
        raise StoreError(
            f"cannot be written: {error.strerror or error} ({free / 1e9:.1f} GB free)",
            where=str(error.filename or folder),
        ) from None

"""The store: an experiment's output folder, and the only module that knows the paths inside it.

    DIR/spillover.json                    the store's version
    DIR/experiment.yaml                   the experiment with its overrides applied
    DIR/source.json                       where the experiment's paths start from, and the data folder it was given
    DIR/grid.json                         the current experiment's variants and cells
    DIR/claims.yaml                       the experiment's own claims
    DIR/audit.json                        the audit of the rows in use
    DIR/precision.json                    what `precision: auto` means in this folder
    DIR/variants/<key>/                   an ordinary Hugging Face checkpoint or PEFT adapter, and receipt.json
    DIR/cells/<key>/predictions.jsonl     a row a line; receipt.json beside it, and statistics computed from it (rows-*)
    DIR/inside/<variant key>.json         what changed inside a variant (`spillover.work.inspect`)
    DIR/prompts/<condition>.json          the prompts of a test set at one shot count, format and draw, for the report
    DIR/partial/<unit>.jsonl              a unit that is under way: a chunk of answers a line, with what it cost
    DIR/errors/<what>.txt                 what failed in the last run, with its traceback
    DIR/locks/<variant key>, DIR/.lock    lock files: one a variant, and one for a run of the whole folder
    DIR/results.csv, effects.csv, report.html, figures/   made from the above at any time

A cell or a variant is either whole or absent: it is written into a folder beside its place and renamed. After a kill
at any moment the next run finds what is whole, and every chunk that was answered of the unit under way.

A cell counts only with the weights that it was made with: its receipt holds their hash. Weights that changed (a folder
edited by hand, a training repeated with another outcome) make it count no longer. `valid` decides this for everybody:
status, plan, run and report.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

from .. import models
from ..disk import as_bytes, write_whole
from ..errors import StoreError
from ..experiment import dialect
from ..experiment.claims import Claim, as_yaml
from ..experiment.schema import Experiment, load_claims, load_experiment
from ..fingerprint import fingerprint
from ..plan.cost import Done
from ..plan.grid import Grid
from .folder import Folder, Json, line, pretty

__all__ = ["Json", "Store"]

DROPPED = "dropped"  # marks a variant whose weights are being deleted


class Store(Folder):
    """The output folder of an experiment. Raises StoreError for a folder of another version, and for a file."""

    # --- what the folder is about ----------------------------------------------------------------------

    def has_grid(self) -> bool:
        """Whether a plan was written here."""
        return (self.folder / "grid.json").is_file()

    def grid(self) -> Grid:
        """The current experiment's variants and cells. Raises StoreError if there are none."""
        if not self.has_grid():
            raise StoreError("no results here", where=str(self.folder), allowed="a folder that `spillover run` wrote")
        path = self.folder / "grid.json"
        try:
            return Grid.read(path)
        except (ValueError, KeyError, TypeError) as error:
            what = f"cannot be read: {error!r}"
            raise StoreError(what, where=str(path), allowed="run the experiment again") from None

    def write_grid(self, grid: Grid) -> None:
        with self._disk_errors():
            grid.write(self.folder / "grid.json")

    def experiment(self) -> tuple[Experiment, Path, Path | None]:
        """The experiment, the folder that its paths start from, and its data folder. Raises StoreError without them."""
        source = self._read("source.json")
        if source is None:
            advice = "make a plan: spillover plan FILE --write DIR"
            raise StoreError("no plan here", where=str(self.folder), allowed=advice)
        data_dir = source["data_dir"] and Path(source["data_dir"])
        return load_experiment(self.folder / "experiment.yaml"), Path(source["base"]), data_dir

    def write_experiment(self, experiment: Experiment, base: Path, data_dir: Path | None) -> None:
        source = {"base": str(base.absolute()), "data_dir": data_dir and str(data_dir.absolute())}
        raw = experiment.model_dump(mode="json", exclude_unset=True)
        self._write("experiment.yaml", f"# Its paths start from {source['base']}\n{dialect.write(raw)}")
        self._write("source.json", pretty(source))

    def audit(self) -> Json | None:
        """The audit of the rows in use; None if it was not written."""
        return self._read("audit.json", allowed="delete it")

    def write_audit(self, audit: Json) -> None:
        self._write("audit.json", json.dumps(audit) + "\n")

    def claims(self) -> tuple[Claim, ...]:
        """The experiment's own claims. Raises ExperimentError for a broken file."""
        path = self.folder / "claims.yaml"
        return load_claims(path) if path.exists() else ()

    def write_claims(self, claims: Sequence[Claim]) -> None:
        self._write("claims.yaml", as_yaml(claims))

    def prompts(self, condition: Sequence[str | int]) -> Json | None:
        """The prompts of a condition (test, prompt, shots, draw), as `plan.questions.kept` made them."""
        return self._read(_prompts(condition))

    def write_prompts(self, condition: Sequence[str | int], prompts: Json) -> None:
        self._write(_prompts(condition), json.dumps(prompts, ensure_ascii=False))

    def precision(self, resolve: Callable[[], str]) -> str:
        """What `precision: auto` means in this folder: what `resolve` said to the first who asked."""
        with self._held("locks/precision", "another process is choosing the precision", wait_s=60.0):
            kept = self._read("precision.json")
            if kept is None:
                kept = {"auto": resolve()}
                self._write("precision.json", line(kept))
        return str(kept["auto"])

    # --- which cells count -----------------------------------------------------------------------------

    def valid(self, grid: Grid, variants: Collection[str] | None = None) -> dict[str, Json]:
        """The receipts, by key, of the cells that count: whole, and made with their variant's present weights.

        Of these variants only, if they are given.
        """
        weights = {v.key: self.weights(v.key) for v in grid.variants if variants is None or v.key in variants}
        receipts = {}
        for cell in grid.cells:
            receipt = self.cell_receipt(cell.key) if cell.variant in weights else None
            if receipt is not None and weights[cell.variant] in (None, receipt.get("weights")):
                receipts[cell.key] = receipt
        return receipts

    def done(self, grid: Grid) -> Done:
        """What is there of a grid, for an estimate of what is left."""
        trained = [variant.key for variant in grid.variants if variant.kind == "trained"]
        receipts = {key: receipt for key in trained if (receipt := self.variant_receipt(key)) is not None}
        return Done(self.valid(grid), receipts, frozenset(filter(self.has_weights, trained)))

    # --- cells, by key ---------------------------------------------------------------------------------

    def cell_receipt(self, key: str) -> Json | None:
        """The receipt of a whole cell, whether or not the cell still counts (`valid`)."""
        return self._read(f"cells/{key}/receipt.json")

    def cell_receipts(self) -> Iterator[tuple[str, Json]]:
        """The key and receipt of every whole cell, also of those that the current experiment does not name."""
        for path in self._entries("cells"):
            # A name with a suffix is a cell that is still being written.
            receipt = None if path.suffix else self.cell_receipt(path.name)
            if receipt is not None:
                yield path.name, receipt

    def write_cell(self, key: str, predictions: Iterable[Json], receipt: Json) -> None:
        """Store a cell as a whole: it is written beside its place and renamed."""
        place, beside = self._cell(key), self._cell(f"{key}.writing")
        with self._disk_errors():
            shutil.rmtree(beside, ignore_errors=True)
            write_whole(beside / "predictions.jsonl", "".join(map(line, predictions)))
            write_whole(beside / "receipt.json", pretty(receipt))
            shutil.rmtree(place, ignore_errors=True)
            beside.rename(place)

    def predictions_file(self, key: str) -> bytes | None:
        """The bytes of a cell's predictions; None if there are none."""
        try:
            return (self._cell(key) / "predictions.jsonl").read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def predictions(self, key: str) -> list[Json]:
        """The rows of a cell in the order in which they were stored. Raises StoreError for a line that is not JSON."""
        rows = []
        # Not splitlines: texts may hold U+2028 and similar characters.
        for number, text in enumerate((self.predictions_file(key) or b"").split(b"\n"), 1):
            try:
                rows += [json.loads(text)] if text else []
            except ValueError as error:
                what = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
                where = f"{self._cell(key) / 'predictions.jsonl'}:{number}"
                advice = "delete its folder and run again"
                raise StoreError(f"not JSON: {what}", where=where, allowed=advice) from None
        return rows

    def known_rows(self, variant: str, weights: str) -> dict[str, Json]:
        """Every answered row of a variant by prompt hash, from its whole cells: a larger limit reuses them."""
        known: dict[str, Json] = {}
        for key, receipt in self.cell_receipts():
            if receipt.get("variant") == variant and receipt.get("weights") == weights:
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
        with suppress(OSError):
            kept = write_whole(self._cell(key) / f"rows-{name}", content)
            for old in kept.parent.glob("rows-*"):
                if old != kept and not old.suffix:  # a name with a suffix is a file that is still being written
                    old.unlink(missing_ok=True)

    def _cell(self, key: str) -> Path:
        return self.folder / "cells" / key

    # --- the unit under way ----------------------------------------------------------------------------

    def partial(self, unit: str) -> tuple[dict[str, Json], list[Json]]:
        """The answers that a killed run had of a unit, by prompt hash, and what each of its chunks had cost.

        A chunk that was only half written is cut off the file.
        """
        path = self._partial(unit)
        content = path.read_bytes() if path.exists() else b""
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
                handle.write(as_bytes(line({"work": work, "rows": rows})))

    def drop_partial(self, unit: str) -> None:
        self._partial(unit).unlink(missing_ok=True)

    def _partial(self, unit: str) -> Path:
        return self.folder / "partial" / f"{unit}.jsonl"

    # --- variants that were trained here, by key -------------------------------------------------------

    def variant_folder(self, key: str) -> Path:
        """The folder of a variant's weights, for who loads them. It exists once the variant is trained."""
        return self.folder / "variants" / key

    def variant_receipt(self, key: str) -> Json | None:
        """The receipt of a trained variant, also when its weights have been deleted since."""
        return self._read(f"variants/{key}/receipt.json")

    def weights(self, key: str) -> str | None:
        """The hash of a variant's weights that cells must be made with: None for any, "" for none.

        A variant that was not trained here has no receipt, and its key follows from its weights. Weights that are no
        longer those that the training left make all cells void. Weights that were deleted count as unchanged. Hashing
        takes time, so `models.weights_sha256` remembers the hash of a file in the user's cache folder until the file's
        size or time of change differs.
        """
        receipt = self.variant_receipt(key)
        if receipt is None:
            return None
        changed = self._has_files(key) and models.weights_sha256(self.variant_folder(key)) != receipt["weights"]
        return "" if changed else str(receipt["weights"])

    def has_weights(self, key: str) -> bool:
        """Whether the weights of a trained variant are on disk, as its training left them."""
        return self._has_files(key) and bool(self.weights(key))

    def checkpoint(self, key: str) -> str | None:
        """The path of a trained variant's checkpoint inside this folder; None if its weights are not on disk."""
        return str(self.variant_folder(key).relative_to(self.folder)) if self._has_files(key) else None

    def _has_files(self, key: str) -> bool:
        folder = self.variant_folder(key)
        return not (folder / DROPPED).exists() and any(folder.glob(models.WEIGHTS))

    def making_folder(self, key: str) -> Path:
        """Where a variant is trained. The checkpoints of a training that was killed are still there."""
        folder = self.variant_folder(f"{key}.making")
        with self._disk_errors():
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    def finish_variant(self, key: str, receipt: Json) -> Path:
        """Put a trained variant in its place: its receipt is written, the folder renamed, its checkpoints deleted."""
        making, place = self.making_folder(key), self.variant_folder(key)
        with self._disk_errors():
            write_whole(making / "receipt.json", pretty(receipt))
            if place.exists():
                shutil.rmtree(place)
            making.rename(place)
        shutil.rmtree(place / "checkpoints", ignore_errors=True)
        return place

    def finish_if_trained(self, key: str) -> None:
        """Put a variant in its place if the process was killed between the end of training and that."""
        receipt = self._read(f"variants/{key}.making/receipt.json")
        if receipt is not None:
            self.finish_variant(key, receipt)

    def drop_weights(self, key: str) -> int:
        """Delete all files of a variant except its receipt; returns the number of bytes freed.

        A marker comes first and goes last, so that half of the weights never counts as weights that have changed.
        """
        folder, freed = self.variant_folder(key), 0
        if not self._has_files(key) and not (folder / DROPPED).exists():
            return 0
        (folder / DROPPED).touch()
        for path in sorted(folder.rglob("*"), reverse=True):
            if path.is_file() and path.name not in ("receipt.json", DROPPED):
                freed += path.stat().st_size
                path.unlink(missing_ok=True)
            elif path.is_dir():
                with suppress(OSError):
                    path.rmdir()
        (folder / DROPPED).unlink(missing_ok=True)
        return freed

    # --- what is known of any variant, and what failed -------------------------------------------------

    def inside(self) -> dict[str, Json]:
        """What was measured inside the variants, by variant key. Raises StoreError for a broken file."""
        keys = [path.stem for path in self._entries("inside") if path.suffix == ".json"]
        return {key: inside for key in keys if (inside := self.inside_of(key)) is not None}

    def inside_of(self, key: str) -> Json | None:
        """What was measured inside one variant; None if nothing was."""
        return self._read(f"inside/{key}.json", allowed="delete it")

    def write_inside(self, key: str, inside: Json) -> None:
        self._write(f"inside/{key}.json", line(inside))

    def write_error(self, what: str, text: str) -> Path:
        """Keep a traceback under the name of what failed; returns the file."""
        name = "".join(c if c.isalnum() or c in "-_." else "-" for c in what)
        return self._write(f"errors/{name}.txt", text)

    def note_failure(self, key: str, has_failed: bool) -> None:
        """Remember whether the last work on a variant failed, so that `work --next` takes the others first."""
        if has_failed:
            self._write(f"errors/{key}.failed", "")
        else:
            (self.folder / "errors" / f"{key}.failed").unlink(missing_ok=True)

    def has_failed(self, key: str) -> bool:
        return (self.folder / "errors" / f"{key}.failed").exists()

    def forget_errors(self) -> None:
        shutil.rmtree(self.folder / "errors", ignore_errors=True)

    # --- the report ------------------------------------------------------------------------------------

    @property
    def page(self) -> Path:
        """Where the report's page goes. Its figures and data files go beside it."""
        return self.folder / "report.html"

    def write_report_file(self, name: str, content: str | bytes) -> Path:
        """Write a file that is made from the results, such as results.csv; returns its path."""
        return self._write(name, content)

    # --- locks and cleaning ----------------------------------------------------------------------------

    def lock(self) -> AbstractContextManager[None]:
        """Hold the whole folder for one run. Raises StoreBusy if another run holds it."""
        return self._held(".lock", "another run is using this folder", "wait for it, or give another --output")

    def lock_variant(self, key: str, name: str) -> AbstractContextManager[None]:
        """Hold one variant. Raises StoreBusy, with the variant's `name`, if another process holds it."""
        return self._held(f"locks/{key}", f"another process is working on the variant {name!r}", "wait for it")

    @contextmanager
    def lock_all(self, grid: Grid) -> Iterator[None]:
        """Hold the folder and every variant. Raises StoreBusy if any process is working on any of them."""
        names = {variant.key: variant.name for variant in grid.variants}
        locked = {path.name for path in self._entries("locks")} - {"precision"}
        with ExitStack() as stack:
            stack.enter_context(self.lock())
            for key in sorted({*names, *locked}):
                stack.enter_context(self.lock_variant(key, names.get(key, key)))
            yield

    def unused(self, grid: Grid) -> list[Path]:
        """Folders of variants and cells that the grid does not name, and what a killed run left beside them."""
        named = {"variants": {variant.key for variant in grid.variants}, "cells": {cell.key for cell in grid.cells}}
        return [path for kind, keys in named.items() for path in self._entries(kind) if path.name not in keys]

    def delete(self, paths: Sequence[Path]) -> None:
        """Delete what `unused` found."""
        for path in paths:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def _prompts(condition: Sequence[str | int]) -> str:
    return f"prompts/{fingerprint(list(condition))}.json"

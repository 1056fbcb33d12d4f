"""The store: an experiment's output folder, and the only module group that knows the paths inside it.

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
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ..errors import StoreError
from ..experiment import dialect
from ..experiment.claims import Claim, as_yaml
from ..experiment.schema import Experiment, load_claims, load_experiment
from ..fingerprint import fingerprint
from ..plan.cost import Done
from ..plan.grid import Grid
from .cells import Cells
from .folder import Folder, Json, line, pretty
from .variants import Variants

__all__ = ["Folder", "Json", "Store"]


class Store(Cells, Variants):
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
            raise StoreError(
                f"cannot be read: {error!r}", where=str(path), allowed="run the experiment again"
            ) from None

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
        """Keep the experiment, with its overrides applied, and what its paths start from."""
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

    # --- which cells count -----------------------------------------------------------------------------

    def valid(self, grid: Grid) -> dict[str, Json]:
        """The receipts, by key, of the cells that count: whole, and made with their variant's present weights."""
        weights = {variant.key: self._weights_that_count(variant.key) for variant in grid.variants}
        receipts = {}
        for cell in grid.cells:
            receipt = self.cell_receipt(cell.key)
            if receipt is not None and weights[cell.variant] in (None, receipt.get("weights")):
                receipts[cell.key] = receipt
        return receipts

    def done(self, grid: Grid) -> Done:
        """What is there of a grid, for an estimate of what is left."""
        trained = [variant.key for variant in grid.variants if variant.kind == "trained"]
        receipts = {key: receipt for key in trained if (receipt := self.variant_receipt(key)) is not None}
        weights = frozenset(key for key in trained if self.has_weights(key))
        return Done(self.valid(grid), receipts, weights)

    def _weights_that_count(self, variant: str) -> str | None:
        """The hash that a cell's receipt must have: None for any, "" for none.

        Only variants that were trained here have a receipt. The keys of the others follow from their weights.
        """
        receipt = self.variant_receipt(variant)
        if receipt is None:
            return None
        return "" if self.were_changed(variant) else str(receipt["weights"])

    # --- what is known of the variants, and what failed ------------------------------------------------

    def inside(self) -> dict[str, Json]:
        """What was measured inside the variants, by variant key. Raises StoreError for a broken file."""
        place = self.folder / "inside"
        keys = sorted(path.stem for path in place.glob("*.json")) if place.is_dir() else []
        found = {key: self.inside_of(key) for key in keys}
        return {key: inside for key, inside in found.items() if inside is not None}

    def inside_of(self, key: str) -> Json | None:
        """What was measured inside one variant; None if nothing was."""
        return self._read(f"inside/{key}.json", allowed="delete it")

    def write_inside(self, key: str, inside: Json) -> None:
        self._write(f"inside/{key}.json", line(inside))

    def write_error(self, what: str, text: str) -> Path:
        """Keep a traceback under the name of what failed; returns the file."""
        name = "".join(c if c.isalnum() or c in "-_." else "-" for c in what)
        return self._write(f"errors/{name}.txt", text)

    def forget_errors(self) -> None:
        shutil.rmtree(self.folder / "errors", ignore_errors=True)

    def precision(self, resolve: Callable[[], str]) -> str:
        """What `precision: auto` means in this folder: what `resolve` said to the first who asked."""
        with self._held("locks/precision", "another process is choosing the precision", wait_s=60.0):
            kept = self._read("precision.json")
            if kept is None:
                kept = {"auto": resolve()}
                self._write("precision.json", line(kept))
        return str(kept["auto"])

    # --- the report ------------------------------------------------------------------------------------

    @property
    def page(self) -> Path:
        """Where the report's page goes. Its figures and data files go beside it."""
        return self.folder / "report.html"

    def write_report_file(self, name: str, content: str | bytes) -> Path:
        """Write a file that is made from the results, such as results.csv; returns its path."""
        return self._write(name, content)

    # --- cleaning --------------------------------------------------------------------------------------

    def unused(self, grid: Grid) -> list[Path]:
        """Folders of variants and cells that the grid does not name, and what a killed run left beside them."""
        named = {"variants": {variant.key for variant in grid.variants}, "cells": {cell.key for cell in grid.cells}}
        return [path for kind, keys in named.items() for path in self._folders(kind) if path.name not in keys]

    def delete(self, paths: Sequence[Path]) -> None:
        """Delete what `unused` found."""
        for path in paths:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    @contextmanager
    def lock_all(self, grid: Grid) -> Iterator[None]:
        """Hold the folder and every variant. Raises StoreBusy if any process is working on any of them."""
        names = {variant.key: variant.name for variant in grid.variants}
        locked = {path.name for path in self._folders("locks")} - {"precision"}
        with ExitStack() as stack:
            stack.enter_context(self.lock())
            for key in sorted({*names, *locked}):
                stack.enter_context(self.lock_variant(key, names.get(key, key)))
            yield


def _prompts(condition: Sequence[str | int]) -> str:
    return f"prompts/{fingerprint(list(condition))}.json"

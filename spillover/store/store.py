"""The store: an experiment's output folder, and the only module that knows the paths inside it.

    DIR/spillover.json                    the store's version
    DIR/experiment.yaml                   the experiment with its overrides applied
    DIR/source.json                       where the experiment's paths start from, the data folder it was given, and
                                          the hash of every file of the plan: those above and below, and the prompts
    DIR/grid.json                         the current experiment's variants and cells
    DIR/earlier/<number>.json             grids of earlier forms of the experiment, with variants that this one lacks
    DIR/claims.yaml                       the experiment's own claims
    DIR/audit.json                        the audit of the rows in use
    DIR/precision.json                    what `precision: auto` means in this folder
    DIR/variants/<key>/                   an ordinary Hugging Face checkpoint or PEFT adapter, and receipt.json
    DIR/cells/<key>/predictions.jsonl     a row a line; receipt.json beside it, and statistics computed from it (rows-*)
    DIR/cells/<key>/scores.jsonl          in place of predictions, if the cell was imported without texts
    DIR/written/<key>.json                what the base model wrote for trainings, and its receipt
    DIR/inside/<variant key>.json         what changed inside a variant (`spillover.store.inside`)
    DIR/prompts/<condition>.json          the prompts of a test set at one shot count, format and draw, for the report
    DIR/partial/<unit>.jsonl              a unit that is under way: a chunk of answers a line, with what it cost
    DIR/errors/<what>.txt                 what failed in the last run, with its traceback
    DIR/locks/<variant key>, DIR/.lock    lock files: one a variant, and one for a run of the whole folder
    DIR/mark                              what tells a node of a cluster that it sees this folder
    DIR/shown.json                        what the report showed last, and before that
    DIR/results.csv and other tables, report.html, figures/   made from the above at any time

A cell or a variant is either whole or absent: it is written into a folder beside its place and renamed. After a kill
at any moment the next run finds what is whole, and every chunk that was answered of the unit under way.

A cell counts only with the weights that it was made with: its receipt holds their hash. Weights that changed (a folder
edited by hand, a training repeated with another outcome) make it count no longer. Nor does a cell count whose files are
not what was written (`cells.py`). `valid` decides this for everybody: status, plan, run and report.
"""

from __future__ import annotations

import json
import platform
import secrets
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

from ..disk import file_name, remove, text_sha256, within
from ..errors import StoreError, visible
from ..experiment import dialect
from ..experiment.claims import Claim, as_yaml
from ..experiment.schema import Experiment, load_claims, load_experiment
from ..fingerprint import fingerprint
from ..plan.cost import Done
from ..plan.grid import Cell, Condition, Grid
from .cells import Cells
from .folder import Broken, Json, log
from .variants import Variants
from .written import Written

__all__ = ["Broken", "Json", "Store"]

AGAIN = "`spillover run FILE` writes it again"
LEFT_OUT = "variants that only this file names are left out"
NAMED = 3  # broken cells that a line names


class Store(Cells, Variants, Written):
    """The output folder of an experiment. Raises StoreError for a folder of another version, and for a file."""

    # --- what the folder is about: the plan of its last run --------------------------------------------

    def write_plan(
        self,
        grid: Grid,
        audit: Json,
        prompts: Mapping[Condition, Json] | None = None,
        claims: Sequence[Claim] = (),
        experiment: Experiment | None = None,
        base: Path = Path(),
        data_dir: Path | None = None,
    ) -> None:
        """Write what a run is about. `source.json` is written last, with the hash of every other file.

        Until then the old plan and the new one do not fit together, and who reads says so. `prompts` are those of each
        condition, as `plan.questions.kept` makes them.
        """
        self._keep_earlier(grid)
        starts = str(base.absolute())
        files = {_prompts(one): json.dumps(kept, ensure_ascii=False) for one, kept in (prompts or {}).items()}
        if experiment is not None:
            raw = experiment.model_dump(mode="json", exclude_unset=True)
            files["experiment.yaml"] = f"# Its paths start from {starts}\n{dialect.write(raw)}"
        files["claims.yaml"] = as_yaml(claims)
        files["audit.json"] = json.dumps(audit) + "\n"
        files["grid.json"] = grid.to_json()
        for name, text in files.items():
            self._write(name, text)
        hashes = {name: text_sha256(text) for name, text in files.items()}
        source = {"base": starts, "data_dir": data_dir and str(data_dir.absolute()), "files": hashes}
        self._write_sealed("source.json", source)

    def _keep_earlier(self, grid: Grid) -> None:
        """Keep the grid that is there, if it has variants that the next one lacks."""
        try:
            before = self.grid()
        except StoreError:
            return
        gone = {variant.key for variant in before.variants} - {variant.key for variant in grid.variants}
        if gone and before not in self.earlier():
            number = max((int(path.stem) for path in self._entries("earlier") if path.stem.isdigit()), default=-1)
            self._write_sealed(f"earlier/{number + 1:06}.json", json.loads(before.to_json()))

    def earlier(self) -> list[Grid]:
        """The grids of earlier forms of the experiment, the oldest first. A broken one is left out, which is said."""
        found = []
        for name in (f"earlier/{path.name}" for path in self._entries("earlier") if path.suffix == ".json"):
            value = self._sealed_or_none(name, LEFT_OUT)
            try:
                found += [] if value is None else [Grid.read(json.dumps(value).encode())]
            except ValueError as error:  # another version wrote it
                self._tell(name, f"{self.folder / name}: cannot be read: {error}; {LEFT_OUT}")
        return found

    def has_grid(self) -> bool:
        """Whether a plan was written here."""
        return (self.folder / "grid.json").exists()

    def grid(self) -> Grid:
        """The variants and cells of the last run. Raises StoreError if there are none, or if the file is broken."""
        if not self.has_grid():
            raise StoreError("no results here", where=str(self.folder), allowed="a folder that `spillover run` wrote")
        content = self._planned("grid.json")
        try:
            return Grid.read(content)
        except ValueError as error:
            where = str(self.folder / "grid.json")
            raise StoreError(f"cannot be read: {error}", where=where, allowed=AGAIN) from None

    @property
    def base(self) -> Path:
        """The folder that the experiment's paths start from. Raises Broken."""
        return Path(self._source()["base"])

    def experiment(self) -> tuple[Experiment, Path, Path | None]:
        """The experiment, the folder that its paths start from, and its data folder. Raises StoreError without them."""
        if not (self.folder / "source.json").exists():
            advice = "make a plan: spillover plan FILE --write DIR"
            raise StoreError("no plan here", where=str(self.folder), allowed=advice)
        source = self._source()
        self._planned("experiment.yaml")
        data_dir = source["data_dir"] and Path(source["data_dir"])
        return load_experiment(self.folder / "experiment.yaml"), Path(source["base"]), data_dir

    def audit(self) -> Json:
        """The audit of the rows in use. Raises Broken."""
        audit: Json = json.loads(self._planned("audit.json"))
        return audit

    def claims(self) -> tuple[Claim, ...]:
        """The experiment's own claims. Raises Broken."""
        self._planned("claims.yaml")
        return load_claims(self.folder / "claims.yaml")

    def prompts(self, condition: Sequence[str | int]) -> Json | None:
        """The prompts of a condition (test, prompt, shots, draw); None if they were not kept, or are broken."""
        name = _prompts(condition)
        if name not in self._source()["files"]:
            return None
        try:
            prompts: Json = json.loads(self._planned(name))
        except Broken as error:
            self._tell("prompts", f"{error}; examples show the row in place of such a prompt")
            return None
        return prompts

    def broken_of_plan(self) -> list[str]:
        """The files of the last plan that are missing or not what was written, with why."""
        if not self.has_grid():
            return []
        try:
            names = list(self._source()["files"])
        except Broken as error:
            return [str(error)]
        broken = []
        for name in names:
            try:
                self._planned(name)
            except Broken as error:
                broken.append(f"{error.where}: {error.what}")
        return broken

    def _source(self) -> Json:
        """What `write_plan` wrote last. Raises Broken."""
        path = self.folder / "source.json"
        try:
            found = self._once(path, "source", lambda: self._sealed("source.json"))
        except (FileNotFoundError, NotADirectoryError):
            found = None
        except Broken as error:
            raise Broken(error.what, where=error.where, allowed=AGAIN) from None
        if found is None:
            raise Broken("is missing", where=str(path), allowed=AGAIN)
        return found

    def _planned(self, name: str) -> bytes:
        """The bytes of a file of the plan. Raises Broken if they are not what the last run wrote."""
        where, files = str(self.folder / name), self._source()["files"]
        try:
            content = self._content(name)
        except Broken as error:
            raise Broken(error.what, where=where, allowed=AGAIN) from None
        if content is None:
            raise Broken("is missing", where=where, allowed=AGAIN)
        if text_sha256(content) != files.get(name):
            raise Broken("is not what the last run wrote", where=where, allowed=AGAIN)
        return content

    def precision(self, resolve: Callable[[], str]) -> str:
        """What `precision: auto` means in this folder: what `resolve` said to the first who asked."""
        with self._held("locks/precision", "another process is choosing the precision", wait_s=60.0):
            kept = self._sealed_or_none("precision.json", "it is written again, as the cells that are there say")
            if kept is None:
                kept = {"auto": resolve()}
                self._write_sealed("precision.json", kept)
        return str(kept["auto"])

    # --- which cells count -----------------------------------------------------------------------------

    def valid(self, grid: Grid, variants: Collection[str] | None = None, hashes: bool = True) -> dict[str, Json]:
        """The receipts, by key, of the cells that count: whole, and made with their variant's present weights.

        Of these variants only, if they are given. Broken cells are told of, once in a process. Without `hashes`, the
        sizes of predictions are compared and not their hashes.
        """
        found: dict[str, Json] = {}
        broken: list[tuple[Cell, Broken]] = []
        for variant in (v for v in grid.variants if variants is None or v.key in variants):
            weights, whole = self.weights(variant.key), dict(self._whole(grid.cells_of(variant.key), hashes, broken))
            if variant.kind == "trained" and weights is None:
                made_with = {r["weights"] for r in whole.values() if r.get("variant") == variant.key}
                weights = None if len(made_with) < 2 else ""  # nobody knows which of them count
            if weights == "" and whole:
                why = "the weights on disk are not those that they were made with"
                said = (
                    f"{len(whole)} cells of {variant.name} do not count: {why}; `spillover run FILE` makes them again"
                )
                self._tell(f"weights of {variant.key}", f"{self.folder}: {said}")
            found |= {key: receipt for key, receipt in whole.items() if weights in (None, receipt.get("weights"))}
        self._tell_broken(grid, broken)
        return found

    def _whole(
        self, cells: Mapping[str, Cell], hashes: bool, broken: list[tuple[Cell, Broken]]
    ) -> Iterator[tuple[str, Json]]:
        """The keys and receipts of the cells that are whole. Those that are not are added to `broken`."""
        for key, cell in cells.items():
            try:
                receipt = self.cell(key, hashes)
            except Broken as error:
                broken.append((cell, error))
                continue
            if receipt is not None:
                self._told.discard((self.folder, key))
                yield key, receipt

    def _tell_broken(self, grid: Grid, broken: Sequence[tuple[Cell, Broken]]) -> None:
        """One line for the broken cells that nobody was told of in this process."""
        fresh = [(cell, error) for cell, error in broken if (self.folder, cell.key) not in self._told]
        if not fresh:
            return
        self._told.update((self.folder, cell.key) for cell, _ in fresh)
        names = {variant.key: variant.name for variant in grid.variants}
        listed = [f"{names[cell.variant]}/{cell.test}, {cell.shots} shots, {cell.prompt}" for cell, _ in fresh[:NAMED]]
        more = "; and others" if len(fresh) > NAMED else ""
        error = fresh[0][1]
        why = f"{Path(error.where or '').name} {error.what}"
        are, do, them = ("is", "does", "it") if len(fresh) == 1 else ("are", "do", "them")
        said = (
            f"{self.folder}: {len(fresh)} of {grid.size} cells {are} broken and {do} not count: "
            f"{'; '.join(listed)}{more} ({why}); `spillover run FILE` computes {them} again"
        )
        log.warning("%s", visible(said))

    def done(self, grid: Grid) -> Done:
        """What is there of a grid, for an estimate of what is left."""
        trained = [variant.key for variant in grid.made_here]
        receipts = {key: receipt for key in trained if (receipt := self.variant_receipt(key)) is not None}
        return Done(self.valid(grid), receipts, frozenset(filter(self.has_weights, trained)), self.written_keys())

    # --- what failed -----------------------------------------------------------------------------------

    def write_error(self, what: str, text: str) -> Path:
        """Keep a traceback under the name of what failed; returns the file."""
        return self._write(f"errors/{file_name(what)}.txt", visible(text, keep="\n\t"))

    def note_failure(self, key: str, has_failed: bool) -> None:
        """Remember whether the last work on a variant failed, so that `work --next` takes the others first."""
        if has_failed:
            self._write(f"errors/{key}.failed", "")
        else:
            self._remove(f"errors/{key}.failed")

    def has_failed(self, key: str) -> bool:
        return (self.folder / "errors" / f"{key}.failed").exists()

    def forget_errors(self) -> None:
        self._remove("errors")

    # --- the report ------------------------------------------------------------------------------------

    @property
    def page(self) -> Path:
        """Where the report's page goes. Its figures and data files go beside it."""
        return self.folder / "report.html"

    def shown(self) -> Json:
        """What reports showed (`keep_shown`); empty if there was none, or if the file is broken."""
        return self._sealed_or_none("shown.json", "the next report does not say what is new") or {}

    def keep_shown(self, shown: Json) -> None:
        """Keep what the report shows. Nothing is kept in a folder that cannot be written."""
        with suppress(OSError, StoreError):
            self._write_sealed("shown.json", shown)

    def write_report_file(self, name: str, content: str | bytes) -> Path:
        """Write a file that is made from the results, such as results.csv; returns its path."""
        return self._write(name, content)

    # --- a store that others write elsewhere (`mirrored.py`); a folder on this disk has nothing to do ---------

    def refresh(self) -> None:
        """See what other machines have done."""

    def publish(self, place: Path) -> None:
        """Let others see a file or folder that was made in this folder from its results."""

    # --- locks, the mark, and cleaning ---------------------------------------------------------------

    def lock(self) -> AbstractContextManager[None]:
        """Hold the whole folder for one run. Raises StoreBusy if another run holds it."""
        return self._held(".lock", "another run is using this folder", "wait for it, or give another --output")

    def lock_variant(self, key: str, name: str) -> AbstractContextManager[None]:
        """Hold one variant. Raises StoreBusy, with the variant's `name`, if another process holds it."""
        return self._held(f"locks/{key}", f"another process is working on the variant {name!r}", "wait for it")

    def leave_mark(self) -> str:
        """Leave a new mark in the folder and return it. Who finds it sees this folder, and not one that is like it."""
        mark = secrets.token_hex(8)
        self._write("mark", mark)
        return mark

    def check_mark(self, mark: str) -> None:
        """Raise StoreError if this is not the folder in which the mark was left."""
        if (self._content("mark") or b"").decode() != mark:
            what = f"{platform.node()} sees another folder there than the run's, or none"
            allowed = "an output folder that all nodes share, or a URL such as s3://bucket/run"
            raise StoreError(what, where=self.address, allowed=allowed)

    @contextmanager
    def lock_all(self, grid: Grid) -> Iterator[None]:
        """Hold the folder and every variant. Raises StoreBusy if any process is working on any of them."""
        names = {variant.key: variant.name for variant in (*grid.variants, *grid.helpers)}
        locked = self._lock_names() - {"precision"}
        with ExitStack() as stack:
            stack.enter_context(self.lock())
            for key in sorted({*names, *locked}):
                stack.enter_context(self.lock_variant(key, names.get(key, key)))
            yield

    def _lock_names(self) -> set[str]:
        """What was ever held here, besides the whole folder."""
        return {path.name for path in self._entries("locks")}

    def unused(self, grid: Grid) -> list[Path]:
        """Folders of variants and cells that the grid does not name, and what a killed run left beside them."""
        variants = {variant.key for variant in (*grid.variants, *grid.helpers)}
        named = {"variants": variants, "cells": {cell.key for cell in grid.every_cell}}
        return [path for kind, keys in named.items() for path in self._entries(kind) if path.name not in keys]

    def delete(self, paths: Sequence[Path]) -> None:
        """Delete what `unused` found, and what is known of earlier forms of the experiment."""
        if paths:
            self._remove("earlier")
        for path in paths:
            remove(within(self.folder, str(path.relative_to(self.folder))))


def _prompts(condition: Sequence[str | int]) -> str:
    return f"prompts/{fingerprint(list(condition))}.json"

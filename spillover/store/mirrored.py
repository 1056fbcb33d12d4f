"""A store at a URL: an ordinary store in a local copy, whose results are published and whose news are fetched.

    URL/cells/<key>/<number>                  a cell as one object: its receipt, then its rows
    URL/variants/<key>/<number>               the receipt of a trained variant
    URL/weights/<key>/<hash>/                 its weights, as long as they are kept; whole.json has the hashes
    URL/training/<key>/<step>/                the newest checkpoint of a training under way; whole.json as above
    URL/inside/, written/, precision.json     as in a folder, numbered
    URL/leases/<variant key or run>/<number>  who works on what (`leases.py`)
    URL/<file>                                files of the plan, the report, exports: as in a folder

Cells, receipts and what is numbered are records: created once, never overwritten (`mirror.py`). A cell is published
before it is in the local copy, so the copy has nothing that the URL lacks, except what is under way: answers of a unit
(`partial/`), which stay on their machine, and a training since its last published checkpoint.

Before anything is published, the process looks whether it still holds its leases. If another process has created the
record first, that one counts: ours is dropped and theirs is fetched.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

from ..disk import SEAL, as_bytes, disk_errors, is_whole, remove, within, write_whole
from ..errors import StoreBusy, StoreError
from ..plan.grid import Grid
from .cells import packed_cell
from .folder import Broken, Json, sealed
from .mirror import RECORDS, WHOLE, Mirror
from .store import Store

STAYS = {"partial"}  # on the machine on which it was made
SEND_S = 20.0  # between looks for a new checkpoint
FRESH_S = 30.0  # for who opens the store again: a command does so many times
BATCH = 64  # objects that are fetched before they are written
ENDS_RECEIPT = b"\n}\n"


class MirroredStore(Store):
    """A store at a URL. Raises StoreError for storage that cannot be used, besides what `Store` raises."""

    def __init__(self, mirror: Mirror) -> None:
        self.mirror, self.folder = mirror, mirror.folder
        self._sending: dict[str, tuple[Event, Thread]] = {}
        self._finishing: set[str] = set()
        self._pulls = True
        if time.monotonic() - mirror.looked > FRESH_S:
            self.refresh()
        super().__init__(mirror.folder)

    @property
    def address(self) -> str:
        return self.mirror.url

    # --- fetching --------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Fetch what is new at the URL, and delete here what is gone there."""
        with self.mirror.lock:
            there = self.mirror.look()
            for name in self.mirror.has.keys() - there.keys():
                self._take_away(name)
            fresh = [
                n for n, found in there.items() if self.mirror.has.get(n) != found or not (self.folder / n).exists()
            ]
            fresh.sort(key=lambda name: name == "source.json")  # last, as when a plan is written
            for start in range(0, len(fresh), BATCH):
                batch = {name: there[name] for name in fresh[start : start + BATCH]}
                contents = self.mirror.objects.get_each(one for one, _ in batch.values())
                for name, found in batch.items():
                    content = contents[found[0]]
                    if content is not None:  # None: it was replaced meanwhile; the next look finds what replaced it
                        self._take_in(name, content)
                        self.mirror.note(name, found)
            for place in self._entries("variants"):  # weights that were deleted at the URL
                if not place.suffix and super()._has_files(place.name) and not self._weights_at(place.name):
                    super().drop_weights(place.name)

    def _take_in(self, name: str, content: bytes) -> None:
        """Write an object's content into the local copy."""
        kind, _, key = name.partition("/")
        if kind == "cells":
            receipt, end, rows = content.partition(ENDS_RECEIPT)
            self._put_cell(key, receipt + end, rows)
        elif kind == "variants":
            before, now = self.variant_receipt(key), f"{name}/receipt.json"
            super()._write(now, content)
            if before is not None and before != self.variant_receipt(key):
                super().drop_weights(key)  # they are those of another training
        else:
            super()._write(name, content)

    def _take_away(self, name: str) -> None:
        super()._remove(name)
        self.mirror.note(name, None)

    def cell(self, key: str, hashes: bool = True) -> Json | None:
        """As of any store. A cell that is broken here, but not at the URL, is fetched again."""
        try:
            return super().cell(key, hashes)
        except Broken:
            found = self.mirror.has.get(f"cells/{key}")
            content = found and tuple(found) not in self.mirror.fetched_again and self.mirror.objects.get(found[0])
            if not found or not content:
                raise
            self.mirror.fetched_again.add(tuple(found))
            with self.mirror.lock:
                self._take_in(f"cells/{key}", content)
            return super().cell(key, hashes)

    # --- publishing ------------------------------------------------------------------------------------

    def _create(self, name: str, content: bytes) -> bool:
        """Publish a record. False if another writer was first; theirs is then here."""
        self.mirror.leases.check()
        if self.mirror.create(name, content):
            return True
        self.refresh()
        return False

    def write_cell(self, key: str, predictions: Iterable[Json], receipt: Json) -> None:
        head, rows = packed_cell(key, predictions, receipt)
        if self._create(f"cells/{key}", head + rows):
            with self.mirror.lock:
                self._put_cell(key, head, rows)

    def _write(self, name: str, content: str | bytes) -> Path:
        kind, data = name.split("/")[0], as_bytes(content) if isinstance(content, str) else content
        if kind in RECORDS:
            if not self._create(name, data):
                return self.folder / name
        elif kind not in STAYS and not (name in self.mirror.has and self._content(name) == data):
            self.mirror.put(name, data)
        return super()._write(name, data)

    def _remove(self, name: str) -> None:
        super()._remove(name)
        if name.split("/")[0] not in STAYS:
            self.mirror.delete([*self.mirror.under(name), *([name] if name in self.mirror.listing else [])])

    def publish(self, place: Path) -> None:
        """Send a file or folder that was made in the local copy, such as the report's page."""
        if self.folder in place.parents:
            paths = [path for path in (place.rglob("*") if place.is_dir() else [place]) if path.is_file()]
            self.mirror.objects.put_files({path.relative_to(self.folder).as_posix(): path for path in paths})

    # --- weights ---------------------------------------------------------------------------------------

    def _weights_at(self, key: str) -> str | None:
        """Where the weights of a variant are below the URL; None if they are not kept there."""
        receipt = self.variant_receipt(key)
        place = receipt and _weights_place(key, receipt)
        return place if place and self.mirror.is_whole(place) else None

    def weights(self, key: str) -> str | None:
        found = super().weights(key)
        if found == "":  # the copy here was changed, and it is only a copy
            super().drop_weights(key)
            found = super().weights(key)
        return found

    def has_weights(self, key: str) -> bool:
        return self._weights_at(key) is not None

    def checkpoint(self, key: str) -> str | None:
        return self._weights_at(key)

    def bring_weights(self, key: str) -> None:
        with super()._held(f"remote/fetching-{key}", "another process is fetching these weights", wait_s=-1):  # waits
            place = self._weights_at(key)
            if place is None or super().has_weights(key):
                return
            beside, receipt = within(self.folder, f"variants/{key}.fetched"), f"variants/{key}/receipt.json"
            self._fetch(place, beside)
            with self.mirror.lock, disk_errors(self.folder):
                write_whole(beside / "receipt.json", self._content(receipt) or b"")
                remove(within(self.folder, f"variants/{key}"))
                beside.rename(self.folder / "variants" / key)

    def _fetch(self, place: str, beside: Path) -> None:
        """Fetch a folder that was sent whole into a new folder. What arrives broken is fetched once more."""
        for tries in (1, 2):
            with disk_errors(self.folder):
                remove(beside)
            try:
                self.mirror.fetch(place, beside)
                break
            except Broken:
                with disk_errors(self.folder):
                    remove(beside)
                if tries == 2:
                    raise

    def weights_size(self, key: str) -> int:
        place = self._weights_at(key)
        return sum(int(self.mirror.listing[one].split()[0]) for one in self.mirror.under(place)) if place else 0

    def drop_weights(self, key: str) -> int:
        freed = self.mirror.drop(f"weights/{key}")
        super().drop_weights(key)
        return freed

    def finish_variant(self, key: str, receipt: Json) -> Path:
        """Publish a trained variant, its weights first and its receipt last, and put it in its place here.

        Raises StoreBusy if another machine has published one first.
        """
        self._stop_sending(key)
        self._finishing.add(key)
        try:
            return self._finish(key, receipt)
        finally:
            self._finishing.discard(key)

    def _finish(self, key: str, receipt: Json) -> Path:
        making, content = super().making_folder(key), as_bytes(sealed(f"variants/{key}/receipt.json", receipt))
        with disk_errors(self.folder):
            write_whole(making / "receipt.json", content)  # a process that is killed while it sends goes on sending
        files = {path.relative_to(making).as_posix(): path for path in sorted(making.rglob("*")) if path.is_file()}
        weights = {name: path for name, path in files.items() if not name.startswith(("checkpoints/", "receipt.json"))}
        self.mirror.leases.check()
        if weights:
            self.mirror.send(_weights_place(key, receipt), weights)
        if not self._create(f"variants/{key}", content):
            remove(making)
            raise StoreBusy("another machine has made this variant", where=self.address, allowed="run again")
        with self.mirror.lock:
            place = super().finish_variant(key, receipt)
        self.mirror.drop(f"training/{key}")
        self._drop_others(f"weights/{key}", _weights_place(key, receipt))
        return place

    def _drop_others(self, place: str, kept: str) -> None:
        for other in {"/".join(one.split("/")[:3]) for one in self.mirror.under(place)} - {kept}:
            self.mirror.drop(other)

    # --- a training under way --------------------------------------------------------------------------

    def making_folder(self, key: str, empty: bool = False) -> Path:
        """As of any store. The newest checkpoint that another machine has published is fetched, if it is later."""
        making = super().making_folder(key, empty)
        if not empty and key not in self._sending and key not in self._finishing:
            if not (making / "receipt.json").exists():
                self._fetch_checkpoint(key, making)
            stop = Event()
            self._sending[key] = stop, Thread(target=self._send_checkpoints, args=(key, stop), daemon=True)
            self._sending[key][1].start()
        return making

    def _fetch_checkpoint(self, key: str, making: Path) -> None:
        """Fetch the newest whole checkpoint at the URL, if it is later than those here, which it then replaces."""
        found = [one.split("/")[2] for one in self.mirror.under(f"training/{key}") if one.endswith(f"/{WHOLE}")]
        here, beside = _newest(making, is_whole), within(self.folder, f"remote/fetched-{key}")
        for step in sorted(map(int, found), reverse=True):
            if here is not None and step <= here[0]:
                return
            try:
                self._fetch(f"training/{key}/{step}", beside)
            except Broken as error:
                self._tell(f"training/{key}/{step}", f"{error}; the training goes on from an earlier step")
                continue
            with disk_errors(self.folder):
                remove(making / "checkpoints")
                beside.rename(making / "checkpoints")
            return

    def _send_checkpoints(self, key: str, stop: Event) -> None:
        while not stop.wait(SEND_S):
            with suppress(StoreError, OSError):  # the next look tries again
                self.send_checkpoint(key)

    def send_checkpoint(self, key: str) -> None:
        """Publish the newest checkpoint of a training, unless it is there, with what lies beside the checkpoints."""
        newest = _newest(self.folder / "variants" / f"{key}.making", _is_sealed)
        place = f"training/{key}/{newest[0] if newest else 0}"
        if newest is None or self.mirror.is_whole(place):
            return
        checkpoint, kept = newest[1], self.folder / "remote" / f"sending-{key}"
        beside = [path for path in checkpoint.parent.iterdir() if path.is_file() and path.suffix != ".new"]
        try:
            remove(kept)
            files = {}
            for path in [*beside, *(path for path in checkpoint.rglob("*") if path.is_file())]:
                name = path.relative_to(checkpoint.parent).as_posix()
                files[name] = kept / name
                files[name].parent.mkdir(parents=True, exist_ok=True)
                _linked(path, files[name])  # the training deletes old checkpoints meanwhile
            self.mirror.leases.check()
            self.mirror.send(place, files)
        finally:
            remove(kept)
        self._drop_others(f"training/{key}", place)

    def _stop_sending(self, key: str) -> None:
        if key in self._sending:
            stop, thread = self._sending.pop(key)
            stop.set()
            thread.join()

    # --- locks and cleaning ----------------------------------------------------------------------------

    @contextmanager
    def _held(self, name: str, busy: str, allowed: str | None = None, wait_s: float = 0.0) -> Iterator[None]:
        """The lock file of this machine's processes, then the lease of all machines'."""
        error = StoreBusy(busy, where=self.address, allowed=allowed)
        key = Path(name).name.replace(".lock", "run")
        with super()._held(name, busy, allowed, wait_s), self.mirror.leases.held(key, error, wait_s):
            if self._pulls:
                self.refresh()
            try:
                yield
            finally:
                self._stop_sending(key)

    @contextmanager
    def lock_all(self, grid: Grid) -> Iterator[None]:
        self._pulls = False  # once is enough
        try:
            with super().lock_all(grid):
                self.refresh()
                yield
        finally:
            self._pulls = True

    def _lock_names(self) -> set[str]:
        return super()._lock_names() | {one.split("/")[1] for one in self.mirror.under("leases")} - {"run"}

    def unused(self, grid: Grid) -> list[Path]:
        named = {variant.key for variant in (*grid.variants, *grid.helpers)}
        at_url = {one.split("/")[1] for kind in ("weights", "training") for one in self.mirror.under(kind)}
        found = super().unused(grid)
        return [*found, *sorted({self.folder / "variants" / key for key in at_url - named}.difference(found))]

    def delete(self, paths: Sequence[Path]) -> None:
        for path in (path for path in paths if not path.suffix):  # with one, it is only here
            kind, key = path.parent.name, path.name
            for place in (f"{kind}/{key}", *((f"weights/{key}", f"training/{key}") if kind == "variants" else ())):
                self.mirror.drop(place)
        super().delete(paths)


def _linked(path: Path, link: Path) -> None:
    try:
        os.link(path, link)
    except FileNotFoundError:
        raise
    except OSError:  # a file system without links
        shutil.copyfile(path, link)


def _weights_place(key: str, receipt: Json) -> str:
    return f"weights/{key}/{str(receipt.get('weights'))[:16]}"


def _newest(making: Path, counts: Callable[[Path], bool]) -> tuple[int, Path] | None:
    """The newest checkpoint that counts, with its step."""
    found = [
        (int(step), path)
        for path in (making / "checkpoints").glob("checkpoint-*")
        if (step := path.name.rpartition("-")[2]).isdigit() and counts(path)
    ]
    return max(found, default=None)


def _is_sealed(checkpoint: Path) -> bool:
    """Whether a checkpoint was written to its end; its files are not read."""
    return (checkpoint / SEAL).exists()

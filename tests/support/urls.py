"""A tiny experiment whose results go to a URL, seen from several machines: each has a cache of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from fakes import Executed

from spillover.api import prepare
from spillover.errors import StoreBusy
from spillover.store import open as opened
from spillover.store.leases import Lease, Leases
from spillover.store.mirror import Mirror
from spillover.store.mirrored import MirroredStore
from spillover.store.place import folder_of
from spillover.store.store import Store
from spillover.work.execute import execute, write_plan

SETS = ["train.strategies=[ft, lora]", "train.seeds=0", "test.limit=3", "test.shots=[0]"]


class Machines:
    """Several machines in one process. `on` changes to one of them, which then begins as a new process."""

    def __init__(self, file: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.file, self.url, self.monkeypatch = file, url, monkeypatch
        self.on("a")

    def on(self, name: str) -> None:
        self.monkeypatch.setenv("SPILLOVER_CACHE", str(self.file.parent / f"cache-{name}"))
        self.monkeypatch.setattr(opened, "_MIRRORS", {})

    @property
    def store(self) -> Store:
        return opened.open_store(self.url)

    @property
    def copy(self) -> Path:
        """The local copy of the machine that is on."""
        return folder_of(self.url)

    @property
    def fs(self) -> Any:
        return self._mirror.objects.fs

    def objects(self, under: str) -> list[str]:
        """The objects there, by their URLs."""
        return sorted(f"{self.url}/{name}" for name in self._mirror.objects.listing(under))

    @property
    def _mirror(self) -> Mirror:
        store = self.store
        assert isinstance(store, MirroredStore)
        return store.mirror

    def dies_with_lease(self, name: str) -> None:
        """A process of the machine that is on gets a lease and ends without a word."""
        leases = Leases(self._mirror.objects, self._mirror.leases.machine)
        assert leases._acquired(name, StoreBusy("busy"), 0.0)

    def steal(self, name: str) -> None:
        """Another machine takes over a lease."""
        highest = max(int(one.rpartition("/")[2]) for one in self.objects(f"leases/{name}"))
        lease = Lease(name, highest, StoreBusy("busy"))
        assert Leases(self._mirror.objects, "another")._next(lease)

    def plan(self) -> None:
        plan, store = prepare(self.file, SETS, output_path=self.copy)
        store.create()
        write_plan(plan, store)

    def run(self, backend: Any = None, place: Path | None = None, sets: Sequence[str] = tuple(SETS)) -> tuple[str, ...]:
        plan, store = prepare(self.file, sets, output_path=place or self.copy)
        return execute(plan, store, backend=backend or Executed().backend())

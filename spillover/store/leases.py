"""One writer at a time at a URL, by numbered leases.

A lease on a name is a row of objects `leases/<name>/<number>`. Each is created only if absent, so each number belongs
to one process. Who owns the highest number holds the name, renews it with the next number well before its duration is
over, and frees it with a number that says so. Who finds a number that does not change for as long as it says that it
lasts takes the next one: its owner is gone, or has lost the network.

No clock is compared with another's: the observer counts the seconds on its own clock from when it first saw a number.
Clocks must only run at about the same speed, and a listing must show every object that was created before it began. An
owner that was cut off for long sees a higher number when it looks (`check`), before it publishes anything.

Processes of one machine also hold a lock file, so a lease that this machine left behind is taken over at once.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from math import inf
from threading import RLock, Thread
from typing import Any
from uuid import uuid4

from ..disk import from_json
from ..errors import StoreBusy, StoreError, visible
from .objects import AT_ONCE, Objects

DURATION_S = 60.0  # or SPILLOVER_LEASE_S
RENEWALS = 4  # in a duration

log = logging.getLogger("spillover")


@dataclass(eq=False)
class Lease:
    """A name that this process holds, by its highest number."""

    name: str
    number: int
    busy: StoreBusy
    token: str = field(default_factory=lambda: uuid4().hex)
    lost: bool = False
    turn: RLock = field(default_factory=RLock)


@dataclass
class Seen:
    """The highest number of a name, and since when this process has seen it.

    `renewed`: it followed another number while this process looked, so its owner is alive. `said` is what it says.
    """

    number: int
    since: float
    renewed: bool
    said: dict[str, Any] | None = None


class Leases:
    """The leases at a URL. `machine` names all processes that share lock files."""

    def __init__(self, objects: Objects, machine: str) -> None:
        self.objects, self.machine = objects, machine
        self.duration = _duration()
        self.seen: dict[str, Seen] = {}
        self.looked = -self.duration
        self.mine: list[Lease] = []
        self.is_proven = self.is_renewing = False

    @contextmanager
    def held(self, name: str, busy: StoreBusy, wait_s: float = 0.0) -> Iterator[None]:
        """Hold a name. Raises `busy` if another machine holds it and still does after `wait_s`."""
        lease = self._acquired(name, busy, wait_s)
        self.mine.append(lease)
        if not self.is_renewing:
            self.is_renewing = True
            Thread(target=self._keep, daemon=True).start()
        try:
            yield
        finally:
            with lease.turn, suppress(StoreError):
                self.mine.remove(lease)
                if not lease.lost:
                    self._next(lease, free=True)

    def check(self) -> None:
        """Raises StoreBusy if another machine has taken over what this process holds."""
        for lease in list(self.mine):
            with lease.turn:
                if self._highest(lease.name) != lease.number:
                    self._renew(lease)
            if lease.lost:
                allowed = "run again: what is published is kept"
                raise StoreBusy("another machine has taken over", where=lease.busy.where, allowed=allowed)

    # --- getting one -----------------------------------------------------------------------------------

    def _acquired(self, name: str, busy: StoreBusy, wait_s: float) -> Lease:
        if not self.is_proven:
            self.objects.prove_create()
            self.is_proven = True
        lease, until, has_said = Lease(name, 0, busy), time.monotonic() + wait_s, False
        while True:
            self._look()
            seen = self.seen.get(name)
            lease.number = seen.number if seen else 0
            if seen is None or self._is_over(seen, name):
                if self._next(lease):
                    return lease
            elif seen.renewed and time.monotonic() >= until:
                raise busy
            else:
                if not has_said:
                    has_said = True
                    what = f"{busy.what} (a lease of another machine); waiting to see whether it is alive"
                    log.warning("%s", visible(f"{busy.where}: {what}"))
                time.sleep(self.duration / RENEWALS / 8)

    def _look(self) -> None:
        """Note the highest number of every name, and since when it has been seen."""
        highest, now = _by_name(self.objects.listing("leases")), time.monotonic()
        for name in self.seen.keys() - highest.keys():
            del self.seen[name]
        for name, number in highest.items():
            before = self.seen.get(name)
            if before is None or before.number != number:
                renewed = before is not None and now - self.looked < self.duration
                self.seen[name] = Seen(number, now, renewed)
        self.looked = now

    def _is_over(self, seen: Seen, name: str) -> bool:
        if seen.said is None:
            seen.said = self._said(name, seen.number)
        over = time.monotonic() - seen.since > float(seen.said.get("duration_s", self.duration))
        return over or bool(seen.said.get("free")) or seen.said.get("machine") == self.machine

    # --- keeping it ------------------------------------------------------------------------------------

    def _keep(self) -> None:
        """Renew whatever this process holds, for as long as it lives."""

        def renew(lease: Lease) -> None:
            with suppress(StoreError), lease.turn:  # if the storage cannot be reached: later, perhaps
                if lease in self.mine:
                    self._renew(lease)

        with suppress(RuntimeError), ThreadPoolExecutor(AT_ONCE) as pool:  # RuntimeError: the process ends
            while True:
                time.sleep(self.duration / RENEWALS)
                list(pool.map(renew, list(self.mine)))

    def _renew(self, lease: Lease) -> None:
        """Take the next number. If another machine has it, the lease is lost."""
        with lease.turn:
            while not lease.lost and not self._next(lease):
                number = self._highest(lease.name)
                said = self._said(lease.name, number)
                # This machine's lock files say that we hold it: the number was created by a process that has ended.
                lease.lost = said.get("machine") != self.machine
                lease.number = number

    def _next(self, lease: Lease, free: bool = False) -> bool:
        """Create the number after the highest that is known. False if another process has created it."""
        number = lease.number + 1
        said = {"token": lease.token, "machine": self.machine, "duration_s": self.duration, "free": free}
        content = json.dumps({**said, "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())})
        if not self.objects.create(_object(lease.name, number), content.encode()):
            return False
        before, lease.number = lease.number, number
        if before:
            self.objects.delete([_object(lease.name, before)])
        return True

    def _highest(self, name: str) -> int:
        return _by_name(self.objects.listing(f"leases/{name}")).get(name, 0)

    def _said(self, name: str, number: int) -> dict[str, Any]:
        with suppress(ValueError):
            said = from_json(self.objects.get(_object(name, number)) or b"{}")
            return said if isinstance(said, dict) else {}
        return {}


def _duration() -> float:
    """How long a lease of this process lasts. Raises StoreError for what is no duration."""
    text = os.environ.get("SPILLOVER_LEASE_S") or str(DURATION_S)
    with suppress(ValueError):
        if 0 < float(text) < inf:
            return float(text)
    raise StoreError(f"is {text!r}", where="SPILLOVER_LEASE_S", allowed="seconds, more than 0")


def _object(name: str, number: int) -> str:
    return f"leases/{name}/{number:08}"


def _by_name(listing: dict[str, str]) -> dict[str, int]:
    """The highest number of each name."""
    found: dict[str, int] = {}
    for one in listing:
        _, name, number = one.split("/")
        found[name] = max(found.get(name, 0), int(number))
    return found

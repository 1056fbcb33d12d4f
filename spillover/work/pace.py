"""How long what is left will take: by the speed of each kind of work, measured during the run and in earlier runs.

Kinds differ in speed: a token that is generated takes longer than one that is read. So time is kept by kind, in seconds
for a unit of the plan's estimate (a token, or a model that is loaded). What this machine measured is kept in a small
file of the user's cache, so that the next run, and `spillover plan`, know the speed before anything is computed. For a
model that has not run here, the one nearest in size tells it, in proportion to the number of parameters.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from math import log, prod, sqrt
from pathlib import Path
from typing import Any

from ..disk import cache_dir, from_json, write_whole
from ..errors import StoreError
from ..plan.cost import KINDS, LOADING, weight_shapes
from ..plan.plan import Plan

LEAST_S = 3.0  # of work of a kind, so that its speed is worth keeping
KEPT = 50  # models whose speed is kept, the last ones
TOLD = 0.02  # the share of a kind's work from which on this run tells its speed
EARLIER = 0.1  # earlier runs count as much as this share of the work of a kind

Rates = Mapping[str, float]
"""Seconds for a unit of each kind of work."""


@dataclass
class Pace:
    """The `work` of a run by kind, what is `done` of it, and the `seconds` that took. `known` are earlier rates."""

    work: dict[str, float]
    known: Rates = field(default_factory=dict)
    done: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    since: float = field(default_factory=lambda: time.monotonic())

    def did(self, kind: str, amount: float) -> None:
        """An amount of work was done, in the time since the last one."""
        now = time.monotonic()
        self.done[kind] = self.done.get(kind, 0.0) + amount
        self.seconds[kind] = self.seconds.get(kind, 0.0) + now - self.since
        self.since = now

    @property
    def measured(self) -> dict[str, float]:
        """The rates of this run, of kinds that took long enough to be told."""
        long = {kind: seconds for kind, seconds in self.seconds.items() if seconds >= LEAST_S and self.done[kind] > 0}
        return {kind: seconds / self.done[kind] for kind, seconds in long.items()}

    @property
    def share(self) -> float:
        """How much of the work is done, in time."""
        rates = self._rates()
        whole = sum(amount * rates.get(kind, 0.0) for kind, amount in self.work.items())
        left = self.left
        return 0.0 if left is None or not whole else max(0.0, 1 - left / whole)

    @property
    def left(self) -> float | None:
        """Seconds that are left; None as long as nothing is known of the speed."""
        rates = self._rates()
        if not rates:
            return None
        left = {kind: max(0.0, amount - self.done.get(kind, 0.0)) for kind, amount in self.work.items()}
        return sum(amount * rates.get(kind, 0.0) for kind, amount in left.items())

    def _rates(self) -> dict[str, float]:
        """By kind, measured and known rates together. A kind of which nothing is known goes at the speed of the others.

        Loading is no work in tokens: as long as nothing is known of it, it takes no time.
        """
        rates = {}
        for kind, amount in self.work.items():
            earlier = EARLIER * amount if kind in self.known else 0.0
            done = self.done.get(kind, 0.0) + earlier
            if done > TOLD * amount:
                rates[kind] = (self.seconds.get(kind, 0.0) + earlier * self.known.get(kind, 0.0)) / done
        tokens = [kind for kind in rates if kind != LOADING]
        if tokens:
            amounts = {kind: self.done.get(kind) or self.work[kind] for kind in tokens}
            mean = sum(rates[kind] * amounts[kind] for kind in tokens) / (sum(amounts.values()) or 1.0)
            return {kind: mean for kind in self.work if kind != LOADING} | rates
        return {}


# --- what this machine has measured -------------------------------------------------------------------------------


def known(plan: Plan, devices: int = 1) -> dict[str, float]:
    """The rates that this machine measured for the plan's model, or for the model nearest in size; none if none did."""
    own, size = _name(plan), _parameters(plan)
    found = _read()
    if own in found:
        rates, scale = found[own]["rates"], 1.0
    else:
        here = [one for name, one in found.items() if name.split("|")[1:] == own.split("|")[1:] and one["parameters"]]
        if not here or not size:
            return {}
        near = min(here, key=lambda one: abs(log(one["parameters"] / size)))
        rates, scale = near["rates"], size / near["parameters"]
    return {kind: rate * scale / devices for kind, rate in rates.items() if kind in KINDS}


def note(plan: Plan, measured: Rates, devices: int = 1) -> None:
    """Keep the rates of a run. Nothing is kept where the cache cannot be written.

    What was kept before counts as much (geometric mean), so that one run on a busy machine misleads the next one less.
    """
    if not measured:
        return
    kept, name = _read(), _name(plan)
    before = kept.get(name, {}).get("rates", {})
    rates = before | {kind: sqrt(before.get(kind, rate * devices) * rate * devices) for kind, rate in measured.items()}
    kept.pop(name, None)
    kept[name] = {"rates": rates, "parameters": _parameters(plan)}
    with suppress(OSError, StoreError):
        write_whole(_file(), json.dumps(dict(list(kept.items())[-KEPT:]), indent=1) + "\n")


def _file() -> Path:
    return cache_dir() / "speeds.json"


def _read() -> dict[str, dict[str, Any]]:
    """What is kept; nothing if there is no such file, or if it is broken."""
    with suppress(OSError, ValueError, AttributeError):
        found = from_json(_file().read_text("utf-8"))
        return {
            name: one for name, one in found.items() if isinstance(one, dict) and {"rates", "parameters"} <= set(one)
        }
    return {}


def _name(plan: Plan) -> str:
    asked = plan.experiment
    return "|".join([asked.model, platform.node(), asked.precision, asked.engine])


def _parameters(plan: Plan) -> int | None:
    """The number of the model's parameters; None while its weights are not here."""
    shapes = weight_shapes(plan.experiment, plan.base)
    return sum(map(prod, shapes.values())) if shapes else None

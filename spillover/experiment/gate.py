"""What a checkpoint must keep of its base, as written under `gate` in the YAML (docs/gate.md).

Each test set has a tier. A `critical` set must be shown to hold, a `supporting` set must not be shown to be broken, and
an `advisory` set is only reported. The statistics are in `analysis.gate`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Literal

from pydantic import Field, model_validator

from ..errors import ExperimentError, did_you_mean
from .fields import Names, Strict
from .suite import SUITES, load_suite
from .use import Share

Tier = Literal["critical", "supporting", "advisory"]
TIERS: tuple[Tier, ...] = ("critical", "supporting", "advisory")


class GateSpec(Strict):
    """The share of the base's score that must be kept, and the tier of each test set."""

    keep: Share | None = Field(
        None, description="share of the base's score that must be left on a test set; default: ship.keep, else 0.98"
    )
    critical: Names = Field((), description="test sets that must hold; default: all that are in no other tier")
    supporting: Names = Field((), description="test sets that must not be broken")
    advisory: Names = Field((), description="test sets that are reported and decide nothing")

    @model_validator(mode="after")
    def _one_tier_each(self) -> GateSpec:
        seen: dict[str, str] = {}
        for tier in TIERS:
            for name in getattr(self, tier):
                if seen.setdefault(name, tier) != tier:
                    raise ValueError(f"{name!r} is {seen[name]} and {tier}: give it one tier")
        return self

    def tiers(self, tests: Collection[str], where: str = "gate") -> dict[str, Tier]:
        """The tier of each test set. The name of a suite stands for its sets; a set's own name counts before it.

        Without a list of critical sets, those in no list are critical, else advisory. Raises ExperimentError for a
        name that no test set has, and if no set is critical.
        """
        found: dict[str, Tier] = dict.fromkeys(tests, "advisory" if self.critical else "critical")
        for tier in TIERS:
            found |= {name: tier for suite in self._suites(tier, tests) for name in load_suite(suite).datasets}
        for tier in TIERS:
            for name in getattr(self, tier):
                if name not in tests and name not in SUITES:
                    allowed = did_you_mean(name, tests)
                    raise ExperimentError(f"no test set {name!r}", where=f"{where}.{tier}", allowed=allowed)
                found |= {name: tier} if name in tests else {}
        tested = {name: found[name] for name in tests}
        if "critical" not in tested.values():
            raise ExperimentError("no test set is critical", where=where, allowed="name one under gate.critical")
        return tested

    def _suites(self, tier: Tier, tests: Iterable[str]) -> list[str]:
        return [name for name in getattr(self, tier) if name in SUITES and name not in tests]

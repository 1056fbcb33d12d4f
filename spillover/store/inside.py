"""What was measured inside the variants of an output folder, compared with the base.

`spillover.work.inspect` measures it once a variant and stores it. `read` gives it to who makes a report.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from ..errors import StoreError
from ..models.weights import Change
from .store import Store

# Nats a token. By Pinsker's inequality, the probability of any next token differs by 2.3 points at most, on average. So
# scores on some hundred rows hardly show a difference.
HARDLY = 1e-3


@dataclass(frozen=True)
class Divergence:
    """KL(base || variant) as (nats, tokens) of each passage: a row's answer, or a piece of the neutral text."""

    passages: tuple[tuple[float, int], ...]

    @property
    def tokens(self) -> int:
        return sum(tokens for _, tokens in self.passages)

    @property
    def nats(self) -> float:
        """Mean over tokens."""
        return sum(nats for nats, _ in self.passages) / self.tokens


@dataclass(frozen=True)
class Inside:
    """What was measured inside a variant, compared with the base.

    `changes` are those of its weights, `left_out` the names of weights without a counterpart. `neutral` and, by test
    set, `answers` are divergences. If one could not be computed, `why_no_changes` or `why_no_divergence` says why.
    `largest` is the largest change of any token's log-probability at all these positions, `merge_gap` the mean change
    when an adapter is merged (None without one), both in nats. `exact` is the KL in nats a token between both
    in float32, where it was measured: if they are close in another precision.
    `weights` and `sample` are hashes of what was compared.
    """

    variant: str
    name: str
    weights: str
    sample: str
    precision: str
    seconds: float = 0.0
    changes: tuple[Change, ...] = ()
    left_out: tuple[str, ...] = ()
    why_no_changes: str | None = None
    neutral: Divergence | None = None
    answers: Mapping[str, Divergence] | None = None
    largest: float | None = None
    merge_gap: float | None = None
    why_no_divergence: str | None = None
    exact: float | None = None

    @property
    def nats(self) -> float | None:
        """KL(base || variant) in nats a token over all positions; None if it could not be computed."""
        if self.neutral is None:
            return None
        return Divergence((*self.neutral.passages, *chain(*(d.passages for d in (self.answers or {}).values())))).nats

    @property
    def hardly_differs(self) -> str | None:
        """That a variant is nearly the base, if it is; its name belongs before it.

        In bfloat16 a change of any size turns other roundings. They can move predictions more than the change itself.
        """
        nats = self.nats if self.exact is None else self.exact
        if nats is None or nats > HARDLY:
            return None
        what = f"hardly differs from the base: KL {nats:.1g} nats a token"
        return what if self.exact is None else f"{what}, computed in float32"

    @property
    def unproven(self) -> tuple[str, ...]:
        """What is not proven to differ from the base, and why."""
        reasons = {"weights": self.why_no_changes, "predictions": self.why_no_divergence}
        return tuple(
            f"its {what} are not proven to differ from the base's: {why}" for what, why in reasons.items() if why
        )


def read(folder: Path) -> dict[str, Inside]:
    """What was measured inside the variants of an output folder, by key. Raises StoreError for a broken file."""
    try:
        return TypeAdapter(dict[str, Inside]).validate_python(Store(folder).inside())
    except ValidationError as error:
        (key, *place), what = error.errors()[0]["loc"], error.errors()[0]["msg"]
        what = f"cannot be read: {'.'.join(map(str, place))}: {what}"
        raise StoreError(what, where=f"inside/{key}.json", allowed="delete it") from None

"""What is chosen among alternatives, and the rows that it is chosen on.

Several learning rates, numbers of epochs, strengths or weights of a penalty are alternatives of one strategy. All of
them are trained, or mixed. One is chosen on validation rows, and only that one is asked the test sets
(`analysis.choices` has the rule). Where rows do not decide, the most careful alternative is taken: `care` is its order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import Field

from .axes import AXES
from .factors import Value
from .fields import Count, Natural, Seed, Strict
from .recipe import TrainSpec
from .strategy import Strategy


class ValidationSpec(Strict):
    """Rows that are held out of training, where something is to be chosen. They are never test rows."""

    rows: Count = Field(64, description="about so many rows of each training set")
    elsewhere: Natural = Field(16, description="rows of each other test set, where `ship.keep` bounds what is lost")
    seed: Seed = Field(0, description="another seed holds out other rows")
    seeds: Count | None = Field(
        None, description="choose on so many of train.seeds; the others are trained for what was chosen. Default: all"
    )


MORE_CAREFUL: Mapping[str, int] = {
    "learning_rate": -1,
    "alpha": -1,
    "beta": 1,
    "l2sp_weight": 1,
    "replay_share": 1,
    "text_weight": 1,
    "text_beta": 1,
    "num_train_epochs": -1,
}
"""What can be chosen, the first first: whether its lower values (-1) or its higher ones (1) stay nearer to the base."""


def care(factors: Mapping[str, Value]) -> tuple[float, ...]:
    """The order of alternatives: the most careful is the first."""
    return tuple(-sign * float(factors.get(name, 0.0)) for name, sign in MORE_CAREFUL.items())


def alternatives(strategy: Strategy, train: TrainSpec) -> list[str]:
    """The options of a strategy that have several values."""
    own = {name: getattr(strategy.train, name) for name in ("learning_rate", "num_train_epochs")}
    values: dict[str, Sequence[float]] = {
        name: getattr(train, name) if value is None else value for name, value in own.items()
    }
    for axis in AXES:
        value = getattr(strategy, axis)
        values |= {name: getattr(value, name) for name in value.LISTS}
    return [name for name, listed in values.items() if len(listed) > 1]

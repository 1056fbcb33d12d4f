"""What every value of an axis of strategies has in common.

It is a frozen class with its `kind`, its options and the factors by which its variants differ. `axes` lists the axes.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import ClassVar, Self

from .factors import Value
from .fields import Strict


class Axis(Strict):
    """A value of an axis. `LISTS` are its options that may be lists; one value follows from each combination."""

    LISTS: ClassVar[tuple[str, ...]] = ()

    @property
    def factors(self) -> dict[str, Value]:
        """By what its variants differ: only what is not the same in every variant of the strategy."""
        return {name: getattr(self, name)[0] for name in self.LISTS}

    def each(self) -> Iterator[Self]:
        """One value for each combination of the options that are lists."""
        for chosen in product(*(getattr(self, name) for name in self.LISTS)):
            yield self.model_copy(update={name: (one,) for name, one in zip(self.LISTS, chosen, strict=True)})

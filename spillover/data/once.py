"""Something that is computed of lists of rows, and kept as long as it is likely to be asked for again.

One source serves several parts of a data set, and often several data sets. What is computed of all its rows, as its
columns by a pattern, the parts of its rows or the rows that are held out, is computed once for all of them. The rows
are kept with it, so that no other list can have the same identity.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

from .files import Row

T = TypeVar("T")
Lists = tuple[Sequence[Row], ...]


class OncePerRows(Generic[T]):
    """Keeps the last `size` results."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._kept: OrderedDict[tuple[tuple[int, ...], Hashable], tuple[Lists, T]] = OrderedDict()

    def get(self, lists: Lists, how: Hashable, compute: Callable[[], T]) -> T:
        """What `compute` gives of the rows of these lists. `how` is all else that it depends on."""
        key = tuple(map(id, lists)), how
        if key not in self._kept:
            self._kept[key] = lists, compute()
        self._kept.move_to_end(key)
        while len(self._kept) > self.size:
            self._kept.popitem(last=False)
        return self._kept[key][1]

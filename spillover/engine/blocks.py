"""Blocks of keys and values: what a forward pass leaves behind for later passes that attend to it.

A block holds a stretch of the line. Memory is freed a stretch and a layer at a time, so there is hardly ever more than
one copy of any key. Shapes: G key-value heads, N tokens, D head width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from .tree import merge_ranges

KeyValue = tuple[Tensor, Tensor]  # k_1GND, v_1GND
Range = tuple[int, int]  # of indices on the line


@dataclass(eq=False)
class KeyBlock:
    """Keys and values of the stretch `start:stop` of the line, by layer."""

    start: int
    stop: int
    kv: dict[int, KeyValue] = field(default_factory=dict)

    def cut(self, layer: int, start: int, stop: int) -> KeyValue:
        k, v = self.kv[layer]
        if (start, stop) == (self.start, self.stop):
            return k, v
        at = slice(start - self.start, stop - self.start)
        return k[:, :, at].clone(), v[:, :, at].clone()  # a view would keep the whole block in memory


Piece = tuple[KeyBlock, int, int]  # a range of the line with the block that holds it


def within(ranges: Iterable[Range], blocks: Sequence[KeyBlock]) -> list[Piece]:
    """Ranges cut where the blocks that hold them begin and end."""
    ranges = list(ranges)
    pieces = ((block, max(lo, block.start), min(hi, block.stop)) for block in blocks for lo, hi in ranges)
    return [(block, lo, hi) for block, lo, hi in pieces if lo < hi]


def keep(blocks: list[KeyBlock], needed: Iterable[Range], before: Callable[[int], None] | None = None) -> None:
    """Replace `blocks` by blocks of the needed ranges; the rest is freed. `before` is called while a layer is whole."""
    kept = [(block, KeyBlock(lo, hi)) for block, lo, hi in within(merge_ranges(needed), blocks)]
    for layer in list(blocks[0].kv) if blocks else []:
        if before:
            before(layer)
        for old, new in kept:
            new.kv[layer] = old.cut(layer, new.start, new.stop)
        for block in blocks:
            del block.kv[layer]
    blocks[:] = [new for _, new in kept]

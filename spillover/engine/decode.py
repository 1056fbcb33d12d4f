"""Greedy decoding of many rows at once, while the keys of their contexts lie scattered over a tree.

One step computes one token of each row. Keys that several rows share are attended to once, by all those rows together.
The other keys of a row, and those of the tokens that it generates, are its tail. Partial softmaxes are merged as in
`attention`. Tails of similar length lie in one padded block (`Tails`), so that one long row does not make all rows
long. Keys that have moved into a tail leave their old blocks, a layer at a time, so memory holds about one copy.

Shapes: R rows, H query heads, G key-value heads, K query heads of one key-value head, L keys, D head width.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

from . import ops
from .attention import additive, merge
from .blocks import KeyBlock, KeyValue, Piece, Range, keep, within
from .tree import merge_ranges

Rectangle = tuple[list[int], KeyBlock, int, int]
"""Rows that share keys, and the block and the range in which the keys lie."""

SHORTEST = 0.75  # of the longest tail of its block: at most a quarter is padding


@dataclass
class Tails:
    """The tails of rows of similar length, padded to one block a layer: k_RGLD, v_RGLD.

    The first `lengths[i]` keys of row `rows[i]` come from its context; those of the tokens it generates follow.
    """

    rows: list[int]
    lengths: list[int]
    kv: dict[int, KeyValue] = field(default_factory=dict)

    def gather(self, layer: int, like: KeyValue, own: Sequence[Sequence[Piece]], new_tokens: int) -> None:
        """Copy a layer's keys and values out of the blocks; `own` lists each row's pieces, in order."""
        k0, v0 = like
        shape = (len(self.rows), k0.shape[1], max(self.lengths) + new_tokens, k0.shape[3])
        keys, values = k0.new_zeros(shape), v0.new_zeros(shape)
        for i, row in enumerate(self.rows):
            filled = 0
            for source, lo, hi in own[row]:
                k, v = source.kv[layer]
                at, to = slice(lo - source.start, hi - source.start), slice(filled, filled + hi - lo)
                keys[i, :, to], values[i, :, to] = k[0, :, at], v[0, :, at]
                filled += hi - lo
        self.kv[layer] = keys, values

    def remove(self, row: int) -> None:
        """Remove a row that is done; the last row takes its place."""
        i, last = self.rows.index(row), len(self.rows) - 1
        self.rows[i], self.lengths[i] = self.rows[last], self.lengths[last]
        del self.rows[last], self.lengths[last]
        for k, v in self.kv.values():
            k[i], v[i] = k[last], v[last]


@dataclass
class DecodePass:
    """The attention of one decoding step.

    `shared` lists the keys `k0:k1` of a block that several rows look at, as (rows, block, k0, k1). `rows` are those not
    yet done, in the order of their queries. `step` counts the tokens that each of them has computed.
    """

    shared: list[tuple[list[int], KeyBlock, int, int]]
    tails: list[Tails]
    rows: list[int]
    step: int = 0
    _of_step: tuple[int, list[tuple[Tensor, Tensor, Tensor]]] = (-1, [])

    @classmethod
    def of(
        cls, contexts: Sequence[Sequence[Range]], blocks: list[KeyBlock], needed: Sequence[Range], new_tokens: int
    ) -> DecodePass:
        """`contexts` are the key ranges of each row. `blocks` keeps only keys that are shared or `needed` elsewhere."""
        spans = [within(ranges, blocks) for ranges in contexts]
        edges = sorted({edge for row in spans for _, lo, hi in row for edge in (lo, hi)})
        members: dict[Range, list[int]] = {}
        for row, pieces in enumerate(spans):
            for _, lo, hi in pieces:
                for piece in pairwise(edges[bisect_left(edges, lo) : bisect_left(edges, hi) + 1]):
                    members.setdefault(piece, []).append(row)
        together: dict[Range, list[int]] = {}
        alone: list[list[Range]] = [[] for _ in spans]
        for piece, rows in sorted(members.items()):
            if len(rows) > 1:
                together[piece] = rows
            else:
                alone[rows[0]].append(piece)
        own = [within(merge_ranges(ranges), blocks) for ranges in alone]
        tails = _by_length([sum(hi - lo for _, lo, hi in ranges) for ranges in own])

        def gather(layer: int) -> None:
            for tail in tails:
                tail.gather(layer, blocks[0].kv[layer], own, new_tokens)

        keep(blocks, [*needed, *together], gather)
        return cls(_rectangles(together, blocks), tails, list(range(len(spans))))

    def stay(self, slots: list[int]) -> None:
        """Go on with only these of the current rows."""
        staying = [self.rows[slot] for slot in slots]
        for row in set(self.rows).difference(staying):
            next(tail for tail in self.tails if row in tail.rows).remove(row)
        self.tails = [tail for tail in self.tails if tail.rows]
        self.rows = staying
        self._of_step = (-1, [])

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        """q_1HRD, k_1GRD, v_1GRD -> out_1HRD; the step's keys and values join the rows' tails."""
        heads, count, width = q.shape[1], q.shape[2], q.shape[3]
        groups = k.shape[1]
        # The query heads of one key-value head stand side by side like queries, so no keys are repeated.
        q_RGKD = q[0].view(groups, heads // groups, count, width).permute(2, 0, 1, 3)
        k_RGD, v_RGD = k[0].transpose(0, 1), v[0].transpose(0, 1)
        out = torch.empty(q_RGKD.shape, dtype=torch.float32, device=q.device)
        lse = torch.empty(q_RGKD.shape[:3], dtype=torch.float32, device=q.device)
        for tail, (slots, at, mask) in zip(self.tails, self._tails_now(q), strict=True):
            keys, values = tail.kv[layer]
            each = torch.arange(len(tail.rows), device=q.device)
            keys[each, :, at], values[each, :, at] = k_RGD[slots], v_RGD[slots]
            span = (slice(len(tail.rows)), slice(None), slice(mask.shape[-1]))
            part, part_lse = ops.attend(q_RGKD[slots], keys[span], values[span], scale, mask=mask)
            out[slots], lse[slots] = part.float(), part_lse.float()
        slot_of = {row: slot for slot, row in enumerate(self.rows)}
        for members, block, k0, k1 in self.shared:
            here = [slot_of[row] for row in members if row in slot_of]
            if not here:
                continue
            keys, values = block.kv[layer]
            r0, r1 = here[0], here[-1] + 1  # rows below one branch are neighbours on the line
            q_1GND = q_RGKD[r0:r1].permute(1, 0, 2, 3).reshape(1, groups, -1, width)
            other, other_lse = ops.attend(q_1GND, keys[:, :, k0:k1], values[:, :, k0:k1], scale)
            merge(
                out[r0:r1],
                lse[r0:r1],
                other.view(groups, r1 - r0, -1, width).transpose(0, 1),
                other_lse.reshape(groups, r1 - r0, -1).transpose(0, 1),
            )
        return out.to(q.dtype).permute(1, 2, 0, 3).reshape(1, heads, count, width)

    def _tails_now(self, q: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """For each block of tails: which queries, where their new keys go, and the mask. All layers share it.

        The mask, R11L, is 0 where a key of the row is in use and -inf in the padding.
        """
        if self._of_step[0] != self.step:
            slot_of = {row: slot for slot, row in enumerate(self.rows)}
            now = []
            for tail in self.tails:
                slots = torch.tensor([slot_of[row] for row in tail.rows], device=q.device)
                at = torch.tensor(tail.lengths, device=q.device) + self.step
                unused = torch.arange(max(tail.lengths) + self.step + 1, device=q.device)[None] > at[:, None]
                now.append((slots, at, additive(unused, q.dtype)[:, None, None]))
            self._of_step = (self.step, now)
        return self._of_step[1]


def _by_length(lengths: Sequence[int]) -> list[Tails]:
    """Rows of similar length together, the longest first."""
    tails: list[Tails] = []
    for row in sorted(range(len(lengths)), key=lambda row: (-lengths[row], row)):
        if tails and lengths[row] >= SHORTEST * tails[-1].lengths[0]:
            tails[-1].rows.append(row)
            tails[-1].lengths.append(lengths[row])
        else:
            tails.append(Tails([row], [lengths[row]]))
    return tails


def _rectangles(together: dict[Range, list[int]], blocks: Sequence[KeyBlock]) -> list[Rectangle]:
    """What rows share, as few rectangles of keys: neighbouring pieces of the same rows become one."""
    found: list[Rectangle] = []
    for (lo, hi), rows in together.items():
        block = next(block for block in blocks if block.start <= lo and hi <= block.stop)
        k0, k1 = lo - block.start, hi - block.start
        if found and found[-1][:2] == (rows, block) and found[-1][3] == k0:
            found[-1] = (rows, block, found[-1][2], k1)
        else:
            found.append((rows, block, k0, k1))
    return found

"""Greedy decoding of many rows at once, the keys of whose contexts lie scattered over a tree.

One step is one token of each row. What several rows have in common of their contexts (demonstrations, a shared
instruction) is attended to once, by all those rows as if they were one; what is a row's own, and what it
generates, sits in a tail. The partial softmaxes are merged by their log-sum-exps, as everywhere in `attention`.

Tails of similar length lie in one padded block (`Tails`): one row of a thousand tokens must not make forty-five rows of
three hundred as long. A row that is done hands its place to the last of its block, so that one row is copied and not
all. And keys that have moved into a tail leave the blocks they came from, a layer at a time: at no moment
is much more than one copy of them in memory.

Shapes: R rows, H query heads, G key-value heads, K query heads of one key-value head, L keys, D head width.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

from .attention import KeyValue, fused, merge
from .tree import merge_ranges

Range = tuple[int, int]  # of the line
SHORTEST = 0.75  # of the longest tail of its block: at most a quarter is padding


@dataclass
class Block:
    """Keys and values of the range `start:stop` of the line, by layer: k_1GND, v_1GND."""

    start: int
    stop: int
    kv: dict[int, KeyValue]

    def cut(self, layer: int, start: int, stop: int) -> KeyValue:
        k, v = self.kv[layer]
        if (start, stop) == (self.start, self.stop):
            return k, v
        at = slice(start - self.start, stop - self.start)
        return k[:, :, at].clone(), v[:, :, at].clone()  # a view would keep the whole block alive


def by_layer(blocks: Sequence[Block]) -> dict[int, dict[int, KeyValue]]:
    """Layer -> number of the block -> its keys and values."""
    layers: dict[int, dict[int, KeyValue]] = {}
    for number, block in enumerate(blocks):
        for layer, kv in block.kv.items():
            layers.setdefault(layer, {})[number] = kv
    return layers


Piece = tuple[Block, int, int]  # a range of the line with the block that holds it


def within(ranges: Iterable[Range], blocks: Sequence[Block]) -> list[Piece]:
    """Ranges cut at the bounds of the blocks that hold them."""
    ranges = list(ranges)
    pieces = ((block, max(lo, block.start), min(hi, block.stop)) for block in blocks for lo, hi in ranges)
    return [(block, lo, hi) for block, lo, hi in pieces if lo < hi]


def keep(blocks: list[Block], needed: Iterable[Range], before: Callable[[int], None] | None = None) -> None:
    """Only the needed ranges stay in memory, `blocks` become theirs; `before` sees each layer still whole."""
    kept = [(block, Block(lo, hi, {})) for block, lo, hi in within(merge_ranges(needed), blocks)]
    for layer in list(blocks[0].kv) if blocks else []:
        if before:
            before(layer)
        for old, new in kept:
            new.kv[layer] = old.cut(layer, new.start, new.stop)
        for block in blocks:
            del block.kv[layer]
    blocks[:] = [new for _, new in kept]


@dataclass
class Tails:
    """The own keys of rows of similar length, padded to one block a layer: k_RGLD, v_RGLD.

    `lengths[i]` keys of row `rows[i]` come from its context; what it generates follows them.
    """

    rows: list[int]
    lengths: list[int]
    kv: dict[int, KeyValue] = field(default_factory=dict)

    def gather(self, layer: int, like: KeyValue, own: Sequence[Sequence[Piece]], new_tokens: int) -> None:
        """Copy a layer's keys and values out of the blocks; `own` lists each row's ranges, in order."""
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

    def leave(self, row: int) -> None:
        """A row that is done: the last one of the block takes its place."""
        i, last = self.rows.index(row), len(self.rows) - 1
        self.rows[i], self.lengths[i] = self.rows[last], self.lengths[last]
        del self.rows[last], self.lengths[last]
        for k, v in self.kv.values():
            k[i], v[i] = k[last], v[last]


@dataclass
class DecodePass:
    """The attention of one decoding step.

    `shared` are ranges that several rows look at: (rows, number of the block, keys k0:k1 within it). `rows` are those
    still going on, in the order of their queries; `step` counts what each of them has generated in these passes.
    """

    shared: list[tuple[list[int], int, int, int]]
    past_kv: dict[int, dict[int, KeyValue]]
    tails: list[Tails]
    rows: list[int]
    step: int = 0
    _of_step: tuple[int, list[tuple[Tensor, Tensor, Tensor]]] = (-1, [])

    @classmethod
    def of(
        cls, contexts: Sequence[Sequence[Range]], blocks: list[Block], needed: Sequence[Range], new_tokens: int
    ) -> DecodePass:
        """`contexts` are the rows' key ranges. `blocks` gives up what is neither shared nor `needed` elsewhere."""
        spans = [within(ranges, blocks) for ranges in contexts]
        edges = sorted({edge for row in spans for _, lo, hi in row for edge in (lo, hi)})
        members: dict[Range, list[int]] = {}
        for row, pieces in enumerate(spans):
            for _, lo, hi in pieces:
                for piece in pairwise(edges[bisect_left(edges, lo) : bisect_left(edges, hi) + 1]):
                    members.setdefault(piece, []).append(row)
        together = {piece: rows for piece, rows in sorted(members.items()) if len(rows) > 1}
        alone: list[list[Range]] = [[] for _ in spans]
        for piece, rows in sorted(members.items()):
            if len(rows) == 1:
                alone[rows[0]].append(piece)
        own = [within(merge_ranges(ranges), blocks) for ranges in alone]
        tails = _by_length([sum(hi - lo for _, lo, hi in ranges) for ranges in own])

        def gather(layer: int) -> None:
            for tail in tails:
                tail.gather(layer, blocks[0].kv[layer], own, new_tokens)

        keep(blocks, [*needed, *together], gather)
        return cls(_rectangles(together, blocks), by_layer(blocks), tails, list(range(len(spans))))

    def stay(self, slots: list[int]) -> None:
        """Only these of the current rows go on."""
        staying = [self.rows[slot] for slot in slots]
        for row in set(self.rows).difference(staying):
            next(tail for tail in self.tails if row in tail.rows).leave(row)
        self.tails = [tail for tail in self.tails if tail.rows]
        self.rows = staying
        self._of_step = (-1, [])

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        """q_1HRD, k_1GRD, v_1GRD -> out_1HRD; the step's keys and values join the rows' tails."""
        heads, count, width = q.shape[1], q.shape[2], q.shape[3]
        groups = k.shape[1]
        # Query heads of one key-value head stand side by side as if they were queries: no repeated keys.
        q_RGKD = q[0].view(groups, heads // groups, count, width).permute(2, 0, 1, 3)
        k_RGD, v_RGD = k[0].transpose(0, 1), v[0].transpose(0, 1)
        out = torch.empty(q_RGKD.shape, dtype=torch.float32, device=q.device)
        lse = torch.empty(q_RGKD.shape[:3], dtype=torch.float32, device=q.device)
        for tail, (slots, at, mask) in zip(self.tails, self._tails_now(q), strict=True):
            keys, values = tail.kv[layer]
            each = torch.arange(len(tail.rows), device=q.device)
            keys[each, :, at], values[each, :, at] = k_RGD[slots], v_RGD[slots]
            span = (slice(len(tail.rows)), slice(None), slice(mask.shape[-1]))
            part, part_lse = _masked(q_RGKD[slots], keys[span], values[span], mask, scale)
            out[slots], lse[slots] = part.float(), part_lse.float()
        slot_of = {row: slot for slot, row in enumerate(self.rows)}
        for members, block, k0, k1 in self.shared:
            here = [slot_of[row] for row in members if row in slot_of]
            if not here:
                continue
            keys, values = self.past_kv[layer][block]
            r0, r1 = here[0], here[-1] + 1  # rows below one branch are neighbours on the line
            q_1GND = q_RGKD[r0:r1].permute(1, 0, 2, 3).reshape(1, groups, -1, width)
            other, other_lse = fused(q_1GND, keys[:, :, k0:k1], values[:, :, k0:k1], False, scale)
            merge(
                out[r0:r1],
                lse[r0:r1],
                other.view(groups, r1 - r0, -1, width).transpose(0, 1),
                other_lse.reshape(groups, r1 - r0, -1).transpose(0, 1),
            )
        return out.to(q.dtype).permute(1, 2, 0, 3).reshape(1, heads, count, width)

    def _tails_now(self, q: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """For each block of tails: which queries, where their new keys go, and the mask; alike in all layers of a step.

        The mask, R11L, is 0 where a row's own key is in use and -inf in the padding.
        """
        if self._of_step[0] != self.step:
            slot_of = {row: slot for slot, row in enumerate(self.rows)}
            now = []
            for tail in self.tails:
                slots = torch.tensor([slot_of[row] for row in tail.rows], device=q.device)
                at = torch.tensor(tail.lengths, device=q.device) + self.step
                unused = torch.arange(max(tail.lengths) + self.step + 1, device=q.device)[None] > at[:, None]
                mask = torch.zeros(unused.shape, dtype=q.dtype, device=q.device).masked_fill_(unused, float("-inf"))
                now.append((slots, at, mask[:, None, None]))
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


def _rectangles(together: dict[Range, list[int]], blocks: Sequence[Block]) -> list[tuple[list[int], int, int, int]]:
    """What rows share, as few rectangles of keys: neighbouring pieces of the same rows are one."""
    found: list[tuple[list[int], int, int, int]] = []
    for (lo, hi), rows in together.items():
        number, block = next((n, b) for n, b in enumerate(blocks) if b.start <= lo and hi <= b.stop)
        k0, k1 = lo - block.start, hi - block.start
        if found and found[-1][:2] == (rows, number) and found[-1][3] == k0:
            found[-1] = (rows, number, found[-1][2], k1)
        else:
            found.append((rows, number, k0, k1))
    return found


def _masked(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Attention with an additive mask, and its log-sum-exp: q_RGKD, k_RGLD -> out_RGKD, lse_RGK."""
    if q.device.type == "cpu":
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            q, k, v, 0.0, False, attn_mask=mask, scale=scale
        )
    scores = (q @ k.transpose(-1, -2)).float() * scale + mask.float()
    lse = scores.logsumexp(-1)
    return (scores - lse.unsqueeze(-1)).exp().to(v.dtype) @ v, lse

"""Token sequences as one tree, laid out in a line: every shared token is there once.

`Tree.of(sequences)` finds every common prefix in the tokens themselves, and lays the distinct tokens out in a line:

    sequences    a b c d      a b c e f      a b x
    line         a b c e f | d | x          (12 tokens, 7 of them distinct)
    positions    0 1 2 3 4   3   2

The attention of every token is a list of `Part`s, which are rectangles of queries and keys. Each branch is followed
directly by its heaviest child, so a token takes part in at most log2(N) rectangles more than its own run. One forward
pass computes a `Pack`, an interval of the line. docs/how-it-works.md explains it with more words.

A cost model decides whether a branch is worth its rectangle, in units of one token's forward pass. Sharing `n` tokens
between `c` children saves n*(c-1) tokens. The extra rectangle costs `SPLIT_TOKENS` for the call, and `MERGE_TOKENS` for
each token below it. Compare SpecInfer (Miao et al. 2023) and cascade inference in FlashInfer (Ye et al. 2024).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt

SPLIT_TOKENS = 2.0
MERGE_TOKENS = 0.02

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Part:
    """Queries `q0:q1` of the line attend to keys `k0:k1`: causally (then both ranges are equal) or fully."""

    q0: int
    q1: int
    k0: int
    k1: int
    causal: bool


@dataclass(frozen=True, slots=True)
class Pack:
    """The interval `start:stop` of the line. `parts` count from `start`; keys of `past` are absolute."""

    start: int
    stop: int
    parts: tuple[Part, ...]
    past: tuple[Part, ...]


@dataclass(frozen=True)
class Tree:
    """`tokens` and `positions` of the line, its attention `parts`, and where each sequence runs through it.

    `paths[s]` lists, for sequence s, (first position, first index on the line) of each stretch.
    """

    tokens: Ints
    positions: Ints
    parts: tuple[Part, ...]
    paths: tuple[tuple[tuple[int, int], ...], ...]

    def __len__(self) -> int:
        return len(self.tokens)

    def locate(self, sequence: int, position: int) -> int:
        """Index on the line of a sequence's token at `position` (0-based)."""
        path = self.paths[sequence]
        first, index = path[bisect_right(path, position, key=lambda stretch: stretch[0]) - 1]
        return index + position - first

    def keys_of(self, index: int) -> list[tuple[int, int]]:
        """The key ranges that the token at `index` attends to, itself included, in line order."""
        first, last = self._queries
        holding = (self.parts[number] for number in np.nonzero((first <= index) & (index < last))[0])
        return sorted((part.k0, index + 1 if part.causal else part.k1) for part in holding)

    @cached_property
    def _queries(self) -> tuple[Ints, Ints]:
        bounds = np.array([(part.q0, part.q1) for part in self.parts], dtype=np.int64).reshape(-1, 2)
        return bounds[:, 0], bounds[:, 1]

    def packs(self, max_tokens: int) -> list[Pack]:
        """The line cut into equal intervals of at most `max_tokens` tokens."""
        count = max(1, math.ceil(len(self) / max_tokens))
        size = max(1, math.ceil(len(self) / count))
        return [self._pack(start, min(start + size, len(self))) for start in range(0, len(self), size)]

    def _pack(self, start: int, stop: int) -> Pack:
        parts: list[Part] = []
        past: list[Part] = []
        for part in self.parts:
            q0, q1 = max(part.q0, start), min(part.q1, stop)
            if q0 >= q1:
                continue
            if part.k0 < start:
                past.append(Part(q0 - start, q1 - start, part.k0, min(part.k1, start), False))
            if part.causal:
                parts.append(Part(q0 - start, q1 - start, q0 - start, q1 - start, True))
            elif part.k1 > start:
                parts.append(Part(q0 - start, q1 - start, max(part.k0, start) - start, part.k1 - start, False))
        return Pack(start, stop, tuple(parts), tuple(past))

    def needed_after(self, stop: int) -> list[tuple[int, int]]:
        """Key ranges before `stop` that queries from `stop` on still attend to, merged."""
        return merge_ranges((part.k0, min(part.k1, stop)) for part in self.parts if part.q1 > stop and part.k0 < stop)

    @classmethod
    def of(cls, sequences: Sequence[Sequence[int]]) -> Tree:
        """The tree of `sequences`, none of them empty. The order of the line does not depend on theirs."""
        as_tuples = [tuple(sequence) for sequence in sequences]
        ordered = sorted(set(as_tuples))
        # A sequence that another one continues is a stretch of that one, and sorts directly before it.
        kept = [one for one, following in zip(ordered, [*ordered[1:], ()], strict=True) if following[: len(one)] != one]
        arrays = [np.asarray(sequence, dtype=np.int64) for sequence in kept]
        nodes, leaves = _split(arrays)
        _inline(nodes)
        order, parts = _lay_out(nodes[0])
        # Every prefix of a kept sequence sorts at or before it, and after the kept sequence before it.
        ends = (bisect_right(kept, one, key=lambda other: other[: len(one)]) - 1 for one in as_tuples)
        paths = {number: leaf.path for number, leaf in leaves.items()}
        return cls(
            tokens=np.concatenate([arrays[node.low][node.first : node.last] for node in order]),
            positions=np.concatenate([np.arange(node.first, node.last) for node in order]),
            parts=parts,
            paths=tuple(paths[number] for number in ends),
        )


def merge_ranges(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Overlapping and touching ranges joined, in order."""
    merged: list[tuple[int, int]] = []
    for lo, hi in sorted(ranges):
        if lo >= hi:
            continue
        if merged and lo <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(hi, merged[-1][1]))
        else:
            merged.append((lo, hi))
    return merged


@dataclass(eq=False, slots=True)
class _Node:
    """A stretch that sequences share: positions `first:last` of the sequence number `low`, the first of them."""

    parent: _Node | None
    first: int
    last: int
    low: int
    children: list[_Node] = field(default_factory=list)
    weight: int = 0  # tokens of the stretch and of all below it
    index: int = 0  # of its first token on the line

    def __len__(self) -> int:
        return self.last - self.first

    @property
    def path(self) -> tuple[tuple[int, int], ...]:
        """(first position, first index on the line) of each stretch from the root to this one."""
        path, node = [], self
        while True:
            if len(node):
                path.append((node.first, node.index))
            if node.parent is None:
                return tuple(reversed(path))
            node = node.parent


def _split(arrays: Sequence[Ints]) -> tuple[list[_Node], dict[int, _Node]]:
    """The nodes, parents before children, and the node in which each of the sorted sequences ends."""
    nodes: list[_Node] = []
    leaves: dict[int, _Node] = {}
    waiting: list[tuple[_Node | None, int, int, int]] = [(None, 0, len(arrays), 0)]
    while waiting:
        parent, low, high, first = waiting.pop()
        a, b = arrays[low], arrays[high - 1]  # a range of sorted sequences shares what its first and last share
        shared = min(len(a), len(b))
        different = np.nonzero(a[first:shared] != b[first:shared])[0]
        node = _Node(parent, first, first + int(different[0]) if len(different) else shared, low)
        nodes.append(node)
        if parent is not None:
            parent.children.append(node)
        if high - low == 1:
            leaves[low] = node
            continue
        start = low
        while start < high:
            token = arrays[start][node.last]
            stop = start + 1
            while stop < high and arrays[stop][node.last] == token:
                stop += 1
            waiting.append((node, start, stop, node.last))
            start = stop
    return nodes, leaves


def _inline(nodes: Sequence[_Node]) -> None:
    """Weigh the nodes from the bottom up. A branch that is not worth sharing gives its tokens to its children."""
    for node in reversed(nodes):
        children, parent = node.children, node.parent
        below = sum(child.weight for child in children)
        saved = len(node) * (len(children) - 1)
        if children and parent is not None and saved <= SPLIT_TOKENS + MERGE_TOKENS * below:
            for child in children:
                child.weight += len(node)
                child.first, child.parent = node.first, parent
            at = parent.children.index(node)
            parent.children[at : at + 1] = children
        else:
            node.weight = len(node) + below


def _lay_out(root: _Node) -> tuple[list[_Node], tuple[Part, ...]]:
    """The nodes in the order of the line, heavy paths first, and the rectangles of their attention."""
    order: list[_Node] = []
    parts: list[Part] = []
    size = 0

    def place(head: _Node) -> None:  # recursion only over light branches: at most log2(N) deep
        nonlocal size
        start, path = size, [head]
        while path[-1].children:
            path.append(max(path[-1].children, key=lambda child: (child.weight, -child.low)))
        for node in path:
            node.index = size
            size += len(node)
        order.extend(path)
        if size > start:
            parts.append(Part(start, size, start, size, True))
        for heavy, node in pairwise(reversed(path)):
            below = size
            for child in sorted(node.children, key=lambda child: child.low):
                if child is not heavy:
                    place(child)
            above = node.index + len(node)
            if size > below and above > start:
                parts.append(Part(below, size, start, above, False))

    place(root)
    return order, tuple(parts)

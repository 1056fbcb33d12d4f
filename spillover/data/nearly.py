"""Texts that are nearly the same: an exact search for near pairs, and components.

Two texts are *nearly the same* if the Jaccard measure |A & B| / |A | B| of their sets of word 3-grams is `NEAR` or more
(Broder 1997, "On the resemblance and containment of documents").

MinHash finds most of these pairs, and a seed decides which. `near_pairs` finds all. It sorts the n-grams of every text
by how rare they are among all texts. If J(A, B) >= t, then one of the |A| - ceil(t |A|) + 1 rarest n-grams of A is
among as many of B (Chaudhuri et al. 2006; Bayardo et al. 2007, "Scaling up all pairs similarity search"). Few texts
share rare n-grams, and those are compared completely. Words and n-grams are 64-bit hashes in arrays, and pairs are
compared some at a time, so memory grows with the number of words and not with that of pairs.

N-grams in many rows of one list are its template ("Classify the following text:"). They say nothing about a row and
would make all rows similar, so they are left out first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

NGRAM = 3  # words
NEAR = 0.8  # Jaccard, as in Lee et al. 2022, "Deduplicating training data makes language models better"
MIN_WORDS = 5  # of fewer words, two texts are the same by chance
TEMPLATE = 1 / 20  # n-grams in a larger share of a list's rows are its template
TEMPLATE_ROWS = (10, 1000)  # but never those in up to 10 rows, and always those in more than 1000
PAIRS = 1_000_000  # so many candidates are collected before they are compared
COMPARED = 2_000_000  # so many n-grams are compared at once

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class Coded(NamedTuple):
    """Texts as the codes of their words, one text after the other: `codes`, and how many words each text has."""

    codes: Ints
    lengths: Ints


class NearPairs(NamedTuple):
    """Pairs of texts, `left` < `right`, and the Jaccard measure of each."""

    left: Ints
    right: Ints
    jaccard: npt.NDArray[np.float64]


def near_pairs(texts: Coded, lists: Ints, wanted: Mask, times: Ints | None = None) -> Iterator[NearPairs]:
    """All pairs of nearly the same texts, some at a time, a pair perhaps more than once. Texts of fewer than
    `MIN_WORDS` words have none.

    `lists` has the number of each text's list. `wanted`, lists x lists and symmetric, says between which lists pairs
    are searched (the diagonal: within one list). `times`: how many rows of its list have this text (default: one).
    """
    grams, text_of = _ngrams(texts)
    del texts
    keep = ~_in_templates(grams, text_of, lists, np.ones(len(lists), np.int64) if times is None else times)
    grams, text_of = grams[keep], text_of[keep]
    sizes = np.bincount(text_of, minlength=len(lists))
    starts = np.cumsum(sizes) - sizes
    for left, right in _candidates(grams, text_of, sizes, starts, lists, wanted):
        both = _common(grams, starts, sizes, left, right)
        either = sizes[left] + sizes[right] - both
        near = both >= NEAR * either
        if near.any():
            yield NearPairs(left[near], right[near], both[near] / either[near])


def _ngrams(texts: Coded) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """The different n-grams of every text as (number of the n-gram, number of the text), in order of the texts.

    N-grams are numbered from the rarest on, so that those of each text are in order of rarity.
    """
    codes, lengths = texts.codes.view(np.uint64), texts.lengths
    text_of = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    count = max(len(codes) - NGRAM + 1, 0)
    inside = (text_of[:count] == text_of[len(text_of) - count :]) & (lengths >= MIN_WORDS)[text_of[:count]]
    hashes = np.zeros(count, np.uint64)
    for step in range(NGRAM):  # in place, because these arrays are the largest of all
        hashes ^= hashes >> np.uint64(29)
        hashes *= np.uint64(0x9E3779B97F4A7C15)
        hashes += codes[step : step + count]
    del texts, codes
    hashes, text_of = hashes[inside], text_of[:count][inside]
    order = np.argsort(hashes)
    hashes = hashes[order]
    new = np.ones(len(order), bool)
    new[1:] = hashes[1:] != hashes[:-1]
    del hashes
    grams = np.empty(len(order), np.int32)
    grams[order] = np.cumsum(new, dtype=np.int32) - 1
    del order, new
    often = np.minimum(np.bincount(grams), np.iinfo(np.uint16).max).astype(np.uint16)
    rank = np.empty(len(often), np.int32)
    rank[np.argsort(often, kind="stable")] = np.arange(len(often), dtype=np.int32)
    return _unpacked(_packed(text_of, rank[grams]))[::-1]


def _packed(high: npt.NDArray[np.int32], low: npt.NDArray[np.int32]) -> Ints:
    """The different pairs of two numbers, in order, as one number each."""
    both = (high.astype(np.int64) << 32) | low
    both.sort()
    new = np.ones(len(both), bool)
    new[1:] = both[1:] != both[:-1]
    return both[new]


def _unpacked(both: Ints) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    return (both >> 32).astype(np.int32), (both & 0xFFFFFFFF).astype(np.int32)


def _in_templates(
    grams: npt.NDArray[np.int32], text_of: npt.NDArray[np.int32], lists: Ints, times: Ints
) -> npt.NDArray[np.bool_]:
    """Which n-grams are in a list's template."""
    if not len(grams):
        return np.zeros(0, bool)
    allowed = np.clip(np.bincount(lists, weights=times) * TEMPLATE, *TEMPLATE_ROWS)
    often = np.bincount(grams, weights=times[text_of]) > TEMPLATE_ROWS[0]
    several = often[grams]
    codes, which = np.unique(lists[text_of[several]] << 32 | grams[several], return_inverse=True)
    rows = np.bincount(which, weights=times[text_of[several]])
    template = np.zeros(len(often), bool)
    template[codes[rows > allowed[codes >> 32]] & 0xFFFFFFFF] = True
    return template[grams]


def _candidates(
    grams: npt.NDArray[np.int32],
    text_of: npt.NDArray[np.int32],
    sizes: Ints,
    starts: Ints,
    lists: Ints,
    wanted: Mask,
) -> Iterator[tuple[Ints, Ints]]:
    """Wanted pairs of texts of similar size that share one of their rarest n-grams, the smaller number first."""
    place = np.arange(len(grams)) - starts[text_of]
    # The margin keeps 0.8 * 5 = 4.000000000000001 from shortening a prefix.
    rare = place <= sizes[text_of] - np.ceil(NEAR * sizes[text_of] - 1e-9)
    met = rare & (np.bincount(grams)[grams] > 1)
    grams, text_of = _unpacked(_packed(grams[met], text_of[met]))
    found: list[Ints] = []
    at, step = np.arange(len(grams)), 0
    while len(at):  # the n-gram's next text, the next but one, and so on while there is any
        step += 1
        at = at[at + step < len(grams)]
        at = at[grams[at] == grams[at + step]]
        left, right = text_of[at].astype(np.int64), text_of[at + step].astype(np.int64)
        small, large = np.minimum(sizes[left], sizes[right]), np.maximum(sizes[left], sizes[right])
        keep = wanted[lists[left], lists[right]] & (small >= NEAR * large)
        found.append(left[keep] << 32 | right[keep])
        if not len(at) or sum(map(len, found)) > PAIRS:
            pairs = np.unique(np.concatenate(found))
            found = []
            yield pairs >> 32, pairs & 0xFFFFFFFF


def _common(grams: npt.NDArray[np.int32], starts: Ints, sizes: Ints, left: Ints, right: Ints) -> Ints:
    """How many n-grams the two texts of each pair have in common."""
    both = np.zeros(len(left), np.int64)
    ends = np.cumsum(sizes[left] + sizes[right])
    first = 0
    while first < len(left):
        before = ends[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + COMPARED, "right")))
        sides = [_of_pairs(grams, starts, sizes, side[first:last]) for side in (left, right)]
        keys = np.sort(np.concatenate(sides))
        twice = keys[1:][keys[1:] == keys[:-1]] >> 32
        both[first:last] = np.bincount(twice, minlength=last - first)
        first = last
    return both


def _of_pairs(grams: npt.NDArray[np.int32], starts: Ints, sizes: Ints, texts: Ints) -> Ints:
    """The n-grams of each of some texts, as (place in `texts`, n-gram) in one number."""
    lengths = sizes[texts]
    which = np.repeat(np.arange(len(texts)), lengths)
    inside = np.arange(len(which)) - (np.cumsum(lengths) - lengths)[which]
    return which << 32 | grams[starts[texts][which] + inside]


def components(n: int, groups: Iterable[Sequence[int]]) -> list[int]:
    """For each of `n` rows the number of its component, where the rows of one group belong together.

    Components are numbered from 0 in the order of their first rows.

    >>> components(5, [[0, 3], [3, 4]])
    [0, 1, 2, 0, 0]
    """
    parent = list(range(n))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = row = parent[parent[row]]
        return row

    for first, *others in groups:
        for other in others:
            a, b = sorted((root(first), root(other)))
            parent[b] = a
    numbers: dict[int, int] = {}
    return [numbers.setdefault(root(row), len(numbers)) for row in range(n)]

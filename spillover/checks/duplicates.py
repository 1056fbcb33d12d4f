"""Texts that are the same, or nearly: normalisers, word n-grams, an exact search for near pairs, and components.

Two texts are *the same* under a normaliser: `raw` compares them as they stand, `lower` ignores case, `words` ignores
case, punctuation and white space. They are *nearly the same* if the Jaccard measure |A & B| / |A | B| of their sets of
word 3-grams is `NEAR` or more (Broder 1997, "On the resemblance and containment of documents").

MinHash finds most of these pairs, and a seed decides which. `near_pairs` finds all. It sorts the n-grams of every text
by how rare they are among all texts. If J(A, B) >= t, then one of the |A| - ceil(t |A|) + 1 rarest n-grams of A is
among as many of B (Chaudhuri et al. 2006; Bayardo et al. 2007, "Scaling up all pairs similarity search"). Few texts
share rare n-grams, and those are compared completely. 35,000 rows of 2 million words take about three seconds.

N-grams in many rows of one list are its template ("Classify the following text:"). They say nothing about a row and
would make all rows similar, so they are left out first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ..text.words import words

NGRAM = 3  # words
NEAR = 0.8  # Jaccard, as in Lee et al. 2022, "Deduplicating training data makes language models better"
MIN_WORDS = 5  # of fewer words, two texts are the same by chance
TEMPLATE = 1 / 20  # n-grams in a larger share of a list's rows are its template
TEMPLATE_ROWS = (10, 1000)  # but never those in up to 10 rows, and always those in more than 1000

Ints = npt.NDArray[np.int64]


NORMALISERS: Mapping[str, Callable[[str], str]] = {
    "raw": lambda text: text,
    "lower": str.casefold,
    "words": lambda text: " ".join(words(text)),
}


def near_pairs(
    texts: Sequence[Sequence[str]], lists: Sequence[int], wanted: npt.NDArray[np.bool_]
) -> Iterator[tuple[int, int, float]]:
    """Pairs (i, j, Jaccard) of nearly the same texts, i < j. A text is its words; those under `MIN_WORDS` have no pair.

    `lists` has the number of each text's list. `wanted`, lists x lists and symmetric, says between which lists pairs
    are searched (the diagonal: within one list).
    """
    of = np.asarray(lists, np.int64)
    grams, text_of = _without_templates(*_ngrams(texts), of)
    sizes = np.bincount(text_of, minlength=len(texts))
    left, right = _candidates(grams, text_of, sizes)
    a_size, b_size = sizes[left], sizes[right]
    keep = wanted[of[left], of[right]] & (np.minimum(a_size, b_size) >= NEAR * np.maximum(a_size, b_size))
    starts = np.concatenate([[0], np.cumsum(sizes)])
    left, right = left[keep], right[keep]
    sets = {i: set(grams[starts[i] : starts[i + 1]].tolist()) for i in np.unique([left, right]).tolist()}
    for i, j in zip(left.tolist(), right.tolist(), strict=True):
        both = len(sets[i] & sets[j])
        either = len(sets[i]) + len(sets[j]) - both
        if both >= NEAR * either:
            yield i, j, both / either


def _ngrams(texts: Sequence[Sequence[str]]) -> tuple[Ints, Ints]:
    """The different n-grams of every text as (number of the n-gram, number of the text), in order of the texts."""
    numbers: dict[str, int] = {}
    flat = np.fromiter((numbers.setdefault(word, len(numbers)) for text in texts for word in text), np.uint64)
    lengths = np.array([len(text) for text in texts], np.int64)
    text_of = np.repeat(np.arange(len(texts)), lengths)
    count = max(len(flat) - NGRAM + 1, 0)
    codes = np.zeros(count, np.uint64)
    for step in range(NGRAM):  # unique below 2 million different words; above, as good as any hash
        codes = codes * np.uint64(len(numbers)) + flat[step : step + count]
    first, last = text_of[:count], text_of[len(text_of) - count :]
    inside = (first == last) & (lengths[first] >= MIN_WORDS)
    grams = np.unique(codes[inside], return_inverse=True)[1].astype(np.int64)
    text_of = first[inside]
    order = np.lexsort((grams, text_of))
    grams, text_of = grams[order], text_of[order]
    new = np.diff(grams, prepend=-1).astype(bool) | np.diff(text_of, prepend=-1).astype(bool)
    return grams[new], text_of[new]


def _without_templates(grams: Ints, text_of: Ints, of: Ints) -> tuple[Ints, Ints]:
    """The n-grams that are not in a list's template."""
    if not len(grams):
        return grams, text_of
    kinds = grams.max() + 1
    allowed = np.clip(np.bincount(of) * TEMPLATE, *TEMPLATE_ROWS)
    codes, rows = np.unique(of[text_of] * kinds + grams, return_counts=True)
    keep = ~np.isin(grams, codes[rows > allowed[codes // kinds]] % kinds)
    return grams[keep], text_of[keep]


def _candidates(grams: Ints, text_of: Ints, sizes: Ints) -> tuple[Ints, Ints]:
    """Pairs of texts that share one of their rarest n-grams, each pair once, the smaller number first."""
    rows = np.bincount(grams)
    order = np.lexsort((grams, rows[grams], text_of))
    grams, text_of = grams[order], text_of[order]
    place = np.arange(len(grams)) - (np.cumsum(sizes) - sizes)[text_of]
    # The margin keeps 0.8 * 5 = 4.000000000000001 from shortening a prefix.
    rare = place <= sizes[text_of] - np.ceil(NEAR * sizes[text_of] - 1e-9)
    met = rare & (rows[grams] > 1)
    grams, text_of = grams[met], text_of[met]
    order = np.lexsort((text_of, grams))
    grams, text_of = grams[order], text_of[order]
    codes = [np.zeros(0, np.int64)]
    for step in range(1, len(grams)):  # the n-gram's next text, the next but one, and so on while there is any
        same = grams[step:] == grams[:-step]
        if not same.any():
            break
        codes.append(text_of[:-step][same] * len(sizes) + text_of[step:][same])
    pairs = np.unique(np.concatenate(codes))
    return pairs // len(sizes), pairs % len(sizes)


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

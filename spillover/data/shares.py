"""One source as several disjoint parts: training rows, validation rows, demonstrations, test rows.

Rows of a source often hang together: they share a page, a passage, a dialogue. All rows with the same value of the
column `by` go to the same part. Which part that is follows from a hash of the value, so it depends on nothing else: not
on the other rows, not on their order, not on how many are used. The rows of a part are read in one seeded order, so
that smaller sizes nest in larger ones. `balanced` takes one row of each answer in turn, as long as all answers have
rows left.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from random import Random

from ..errors import DataError
from ..experiment.suite import SHARES, Share
from .cells import as_text, cell
from .files import Row
from .once import OncePerRows

_parts: OncePerRows[list[str]] = OncePerRows(8)


def order_of(rows: Sequence[Row], share: Share, answer: str | None, where: str) -> list[int]:
    """The numbers of the rows of one part, in the order in which they are read.

    `answer` names the column that `balanced` goes by. Raises DataError if no row is left.
    """
    how = share.by, share.seed
    parts_of = _parts.get((rows,), how, lambda: [part_of(_group(row, share, where), share.seed) for row in rows])
    own = [number for number, part in enumerate(parts_of) if part in share.part]
    if not own:
        parts = " and ".join(share.part)
        raise DataError(f"no row is in the part {parts}", where=where, allowed="a source with more groups")
    Random(share.seed).shuffle(own)
    return _in_turn(own, rows, answer, where) if share.balanced and answer else own


def part_of(group: str, seed: int) -> str:
    """The part that a group belongs to: each gets its share of all groups, in `SHARES`."""
    digest = hashlib.sha256(f"{seed}\n{group}".encode("utf-8", "surrogatepass")).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    for part, share in SHARES.items():
        if (place := place - share) < 0:
            return part
    return next(reversed(SHARES))


def _group(row: Row, share: Share, where: str) -> str:
    """What the row's part follows from, without regard to case and white space."""
    if share.by is not None:
        text = as_text(cell(row, share.by, where), share.by, where)
    else:
        text = "\n".join(f"{name}: {value}" for name, value in sorted(row.items()))
    return " ".join(text.casefold().split())


def _in_turn(numbers: Sequence[int], rows: Sequence[Row], answer: str, where: str) -> list[int]:
    """The first row of each answer, then the second of each, as long as every answer has one."""
    by_answer: dict[str, list[int]] = {}
    for number in numbers:
        by_answer.setdefault(as_text(cell(rows[number], answer, where), answer, where), []).append(number)
    in_order: Mapping[str, list[int]] = dict(sorted(by_answer.items()))
    return [number for turn in zip(*in_order.values(), strict=False) for number in turn]

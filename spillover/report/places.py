"""Where the marks beside the points of a plot stand, so that no mark covers another mark or a point.

It computes pixels and draws nothing: `charts.plane` draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

LETTER, LINE, POINT = 6.6, 11, 6  # pixels: of a character of a mark beside a point, of its line, and around a point
PLACE = ("shown", "dx", "dy")
BESIDE = ((7, -8), (7, 13), (-1, -8), (-1, 13), (9, 3), (-3, 3), (7, -20), (-1, -20), (7, 25), (-1, 25))


def with_places(rows: pd.DataFrame, width: float, height: float) -> pd.DataFrame:
    """Rows of a plane with the place of each mark beside its point, so that no mark covers another mark or a point.

    Places are in pixels (`dx`, `dy`) of a plot of `width` and `height`. A mark without room is not
    `shown`. Those with the largest share come first.
    """
    at = {}
    for name, size in (("gain", width), ("kept", -height)):
        ends = rows.loc[~rows["weak"], [name, f"{name}_low", f"{name}_high"]].to_numpy()
        low, high = min(0.0, float(ends.min())), max(0.0, float(ends.max()))
        at[name] = ((rows[name] - low) / ((high - low) or 1.0) * size).to_numpy()
    points = [(x - POINT, y - POINT, x + POINT, y + POINT) for x, y in zip(at["gain"], at["kept"], strict=True)]
    taken: list[tuple[float, ...]] = []
    places: dict[Any, tuple[str, float, float]] = {}
    for i in rows["share"].to_numpy().argsort(kind="stable")[::-1]:
        mark = str(rows["mark"].iloc[i])
        length = LETTER * len(mark)
        others = [*taken, *points[:i], *points[i + 1 :]]
        for dx, dy in BESIDE if mark else ():
            left, foot = at["gain"][i] + (dx if dx > 0 else dx - POINT - length), at["kept"][i] + dy
            box = (left, foot - LINE, left + length, foot)
            if not any(_cover(box, other) for other in others):
                places[i] = (mark, left - at["gain"][i], dy)
                taken.append(box)
                break
    return rows.assign(
        **{name: [places.get(i, ("", 0, 0))[n] for i in range(len(rows))] for n, name in enumerate(PLACE)}
    )


def _cover(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two boxes (left, top, right, bottom) overlap."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]

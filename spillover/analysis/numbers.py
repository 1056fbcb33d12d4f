"""How numbers and effects are written on the page, in the terminal, in Markdown and LaTeX.

Scores are kept from 0 to 1 and written as points of a hundred with one decimal. An effect is never written without its
interval, nor without its noise floor if one is known.
"""

from __future__ import annotations

import numpy as np

from ..stats.intervals import Interval
from .contrasts import Effect


def points(value: float | None) -> str:
    """A score from 0 to 1 as points of a hundred."""
    return "–" if value is None or np.isnan(value) else f"{100 * value:.1f}"


def percent(share: float, unit: str = " %") -> str:
    """A share as `97.1 %`; without an end, `∞`."""
    return f"{100 * share:.1f}{unit}" if np.isfinite(share) else f"∞{unit}"


def signed(value: float) -> str:
    """A change in points, with a sign and a real minus. A change that rounds to nothing has no sign."""
    text = f"{100 * value:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")


def signed_interval(interval: Interval) -> str:
    return f"[{signed(interval.low)}, {signed(interval.high)}]"


def counted(count: int, noun: str) -> str:
    """`1 seed`, `2 seeds`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def listed(parts: list[str], most: int | None = None) -> str:
    """`a, b and c`. Where there are two or more beyond the `most`, they are counted: `a, b and 7 others`."""
    if most is not None and len(parts) > most + 1:
        parts = [*parts[:most], f"{len(parts) - most} others"]
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def written(effect: Effect) -> str:
    """`▲ +4.1 [+1.0, +7.2; seeds ±2.0]`. Without an arrow there is insufficient evidence."""
    arrow = ("▲ " if effect.value > 0 else "▼ ") if effect.is_clear else ""
    return f"{arrow}{without_arrow(effect)}"


def without_arrow(effect: Effect) -> str:
    """`+4.1 [+1.0, +7.2; seeds ±2.0]`."""
    return f"{signed(effect.value)} {bounds(effect)}"


def bounds(effect: Effect) -> str:
    """The interval, and the floors that are known."""
    ends = signed_interval(effect.interval)
    return f"{ends[:-1]}; {floors}]" if (floors := noise(effect)) else ends


def noise(effect: Effect) -> str:
    """What two trainings of one recipe with other seeds differ by, and what rounding alone changes.

    `seeds ±2.0; rounding ±0.4`, each if it is known and not nothing. One that rounds to nothing is written as `under
    ±0.1`.
    """
    floors = {"seeds": effect.noise_floor, "rounding": effect.rounding_floor or None}
    known = {name: points(floor) for name, floor in floors.items() if floor is not None}
    return "; ".join(f"{name} under ±0.1" if size == "0.0" else f"{name} ±{size}" for name, size in known.items())


def documents(effect: Effect) -> str:
    """`n 24`, and how many documents are independent if some depend on each other."""
    return f"n {effect.n}" + (f" in {effect.clusters} components" if effect.clusters < effect.n else "")


def details(effect: Effect) -> str:
    """What an effect rests on, and what else a reader must know of it."""
    parts = [f"{counted(len(effect.tests), 'test set')}, {documents(effect)}"]
    if effect.seeds:
        parts.append(counted(effect.seeds, "training seed"))
    if (over_sets := effect.interval_over_sets) is not None:
        parts.append(f"{signed_interval(over_sets)} for test sets like these, not these alone")
    if effect.noise_floor is not None:
        parts.append(f"noise floor {points(effect.noise_floor)}")
    if effect.rounding_floor:
        parts.append(f"rounding floor {points(effect.rounding_floor)}")
    parts.append(f"80 % power from {points(effect.mde)}" if effect.mde < 1 else "80 % power for no effect")
    return "; ".join(parts)

"""What is new on the page since the report before: variants, answered cells, and verdicts that changed.

The folder keeps what the last report showed, and what the one before it showed (`Store.shown`). A report of the same
results, such as one that is written again with figures, does not change that, so it says the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from ..analysis.numbers import listed
from ..analysis.results import Results
from ..analysis.verdict import Verdict
from ..store.open import open_store
from .matrix import count

NAMED = 6  # variants in a sentence
Shown = Mapping[str, Any]


def news(results: Results, verdicts: Sequence[Verdict], folder: Path, today: date) -> str:
    """What is new, in sentences; empty for the first report of a folder. Keeps what this report shows."""
    store, now = open_store(folder), _shown(results, verdicts, today)
    kept = store.shown()
    last, before = kept.get("now"), kept.get("before")
    if last is None or _content(last) != _content(now):
        store.keep_shown({"now": now, "before": last})
        before = last
    return " ".join(_said(before, now)) if before else ""


def _shown(results: Results, verdicts: Sequence[Verdict], today: date) -> dict[str, Any]:
    done = {variant.key: 0 for variant in results.grid.variants}
    for cell in results.grid.cells:
        done[results.variants[cell.variant].key] += cell.key in results.first_metric
    return {
        "day": today.isoformat(),
        "variants": {variant.key: [variant.name, done[variant.key]] for variant in results.grid.variants},
        "advice": {verdict.title: verdict.advice for verdict in verdicts},
    }


def _content(shown: Shown) -> list[Any]:
    return [shown["variants"], shown["advice"]]


def _said(before: Shown, now: Shown) -> Iterator[str]:
    theirs, ours = before["variants"], now["variants"]
    fresh = [name for key, (name, _) in ours.items() if key not in theirs]
    gone = [name for key, (name, _) in theirs.items() if key not in ours]
    more = sum(max(0, cells - theirs[key][1]) for key, (_, cells) in ours.items() if key in theirs)
    parts = [*_named(fresh), *([f"{count(more, 'more cell')} of the others"] if more else [])]
    if parts:
        yield f"New since the report of {before['day']}: {listed(parts)}."
    if gone:
        yield f"No longer here: {listed(_named(gone))}."
    for title, advice in now["advice"].items():
        was = before["advice"].get(title)
        if was and was != advice:
            yield f"{title}: the advice was “{was}”."


def _named(names: Sequence[str]) -> list[str]:
    more = [f"{len(names) - NAMED} others"] if len(names) > NAMED else []
    return [*names[:NAMED], *more]

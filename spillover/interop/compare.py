"""Pairs two runs, or two per-sample files of lm-evaluation-harness, document by document.

Two models find the same documents hard, so their difference is known much better than either score (Dietterich 1998).
From the documents that both sides answered come both scores, the difference from A to B with its interval, a paired
test, and the numbers of changed documents. The p-values of a table are corrected together (Holm 1979). If a document
has different prompts on both sides, a note says so. Only stored files are read: no data, no model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from math import inf, isfinite
from pathlib import Path

import numpy as np
from rich import box
from rich.table import Column, Table
from rich.text import Text

from ..analysis.metrics import Metric, has_score
from ..analysis.rows import RowStatistics
from ..analysis.scoring import cluster_codes, score
from ..errors import DataError, SpilloverError
from ..stats.families import holm
from ..stats.intervals import CONFIDENCE, MIN_ROWS, Array, Interval
from ..stats.levels import Level, half_width, mean_change, smallest_detectable
from ..store.place import folder_of, is_url
from .answers import READABLE, Answers, Json, Setting, Side, prompt, read_run, read_samples


@dataclass(frozen=True)
class PairedScores:
    """One row of the table."""

    setting: Setting
    metric: str
    n: int  # documents
    clusters: int  # of these, how many are independent
    value_a: float
    value_b: float
    interval: Interval  # of the change
    p_value: float
    gained: int | None  # documents on which B scores higher than A; None for a score of the whole set
    lost: int | None
    only_a: int
    only_b: int
    other_prompts: int  # documents with different prompts on both sides
    chance: Level = field(repr=False)  # the uncertainty of the change
    p_adjusted: float = 1.0  # after Holm over the `compared` rows of the table
    compared: int = 1

    @property
    def delta(self) -> float:
        return self.value_b - self.value_a

    @property
    def is_clear(self) -> bool:
        return self.p_adjusted < 0.05 and self.clusters >= MIN_ROWS and self.interval.excludes_zero

    @property
    def mde(self) -> float:
        """The smallest true change that is found with 80 % power at Holm's strictest level; infinite if none is."""
        if self.clusters < MIN_ROWS or not self.chance.variance:
            return inf
        return smallest_detectable([self.chance], confidence=1 - (1 - CONFIDENCE) / self.compared)

    def record(self) -> Json:
        """Plain values, as CSV and JSON have them; what is not finite is None."""
        before = ("metric", "n", "clusters", "value_a", "value_b", "delta")
        after = ("gained", "lost", "only_a", "only_b", "other_prompts")
        return {
            **dict(self.setting),
            **{name: getattr(self, name) for name in before},
            "delta_ci_low": self.interval.low,
            "delta_ci_high": self.interval.high,
            "p_value": self.p_value,
            "p_adjusted": self.p_adjusted,
            "mde": self.mde if isfinite(self.mde) else None,
            **{name: getattr(self, name) for name in after},
        }


@dataclass(frozen=True)
class Pairing:
    """Both sides' names, a row for each setting that both have, and notes for the reader."""

    a: str
    b: str
    rows: tuple[PairedScores, ...]
    notes: tuple[str, ...]


def compare(a: str, b: str, metric: str | None = None) -> Pairing:
    """Pair A with B: two output folders, or one variant of each as `folder:variant`, or two sample files.

    `metric` is by default the first of each test set, or of both files. Raises SpilloverError if nothing can be paired.
    """
    (path_a, variant_a), (path_b, variant_b) = _place(a), _place(b)
    if path_a.is_dir() != path_b.is_dir():
        allowed = "two output folders of `spillover run`, or two samples_*.jsonl of lm-evaluation-harness"
        raise SpilloverError("a run and a file cannot be paired", where=f"{a} and {b}", allowed=allowed)
    if path_a.is_dir():
        ours = read_run(path_a, variant_a or variant_b, metric)
        theirs = read_run(path_b, variant_b or variant_a, metric)
    else:
        ours, theirs = read_samples(path_a, path_b, metric)
    shared = [setting for setting in ours.answers if setting in theirs.answers]
    if not shared:
        raise DataError(f"nothing to pair: {_lacking(ours, theirs)}", where=f"{a} and {b}")
    found = (_pair(setting, ours.answers[setting](), theirs.answers[setting]()) for setting in shared)
    rows = [row for row in found if row is not None]
    if not rows:
        raise DataError("no common documents: numbers, fields or targets differ in all", where=f"{a} and {b}")
    values = holm([row.p_value for row in rows])
    adjusted = [replace(row, p_adjusted=float(p), compared=len(rows)) for row, p in zip(rows, values, strict=True)]
    alone = len(ours.answers) - len(shared), len(theirs.answers) - len(shared), len(shared) - len(rows)
    return Pairing(ours.name, theirs.name, tuple(adjusted), tuple(_notes(adjusted, *alone)))


def _place(argument: str) -> tuple[Path, str | None]:
    """`folder`, `file`, or `folder:variant`. The folder may be a URL, whose last colon may be that of `s3://`."""
    folder, _, variant = argument.rpartition(":")
    if is_url(argument):
        return (folder_of(argument), None) if "/" in variant else (folder_of(folder), variant)
    path, named = (Path(argument), None) if Path(argument).exists() or not folder else (Path(folder), variant)
    if not path.exists():
        raise DataError("no such file or folder", where=str(path), allowed=READABLE)
    if named and not path.is_dir():
        raise DataError("a file has no variants", where=argument, allowed=str(path))
    return path, named


def _pair(setting: Setting, ours: Answers, theirs: Answers) -> PairedScores | None:
    """None where they have no document in common that has a score on both sides."""
    metric, labels = ours.metric, tuple(dict.fromkeys([*ours.labels, *theirs.labels]))
    common = [document for document in ours.rows if document in theirs.rows]
    known = [
        has_score(metric.statistics([side.rows[one] for one in common], labels)) if common else ()
        for side in (ours, theirs)
    ]
    documents = [one for one, *has in zip(common, *known, strict=True) if all(has)]
    if not documents:
        return None
    a, b = ([side.rows[document] for document in documents] for side in (ours, theirs))
    rows = [RowStatistics.of(metric, side, labels) for side in (a, b)]
    before, after = score(metric, rows, ours.clusters, has_base=True)
    gaps = rows[1].statistics[:, 0] - rows[0].statistics[:, 0]
    codes = cluster_codes(ours.clusters, rows[0].doc_ids)
    interval = Interval(after["delta_ci_low"], after["delta_ci_high"])
    return PairedScores(
        setting=setting,
        metric=metric.name,
        n=len(documents),
        clusters=len(documents) if codes is None else int(codes.max()) + 1,
        value_a=before["value"],
        value_b=after["value"],
        interval=interval,
        p_value=after["p_value"],
        gained=int((gaps > 0).sum()) if metric.is_mean else None,
        lost=int((gaps < 0).sum()) if metric.is_mean else None,
        only_a=len(ours.rows) - len(common),
        only_b=len(theirs.rows) - len(common),
        other_prompts=sum(prompt(one) != prompt(other) for one, other in zip(a, b, strict=True)),
        chance=_chance(metric, gaps, codes, interval),
    )


def _chance(metric: Metric, gaps: Array, codes: np.ndarray | None, interval: Interval) -> Level:
    """The uncertainty of a mean of differences, (documents,), or of a score of the whole set from its interval."""
    if not metric.is_mean:
        return Level((interval.half_width / half_width([Level(1.0, inf)])) ** 2, inf)
    change = mean_change(gaps[:, None], codes, metric.is_proportion)
    return Level(float(change.variance[0]), change.df)


def _lacking(ours: Side, theirs: Side) -> str:
    """The first thing in which the sides have nothing in common, and what each of them has."""
    if not ours.answers or not theirs.answers:
        return "no finished cell on one side"
    for place, (what, _) in enumerate(next(iter(ours.answers))):
        has_a, has_b = ({str(setting[place][1]): None for setting in side.answers} for side in (ours, theirs))
        if not has_a.keys() & has_b.keys():
            return f"no {what} in common (A has {', '.join(has_a)}; B has {', '.join(has_b)})"
    return "no setting in common"


def _notes(rows: Sequence[PairedScores], settings_a: int, settings_b: int, without: int) -> Iterator[str]:
    clear, total = sum(row.is_clear for row in rows), sum(row.n for row in rows)
    yield (
        "B − A is the change on the n documents that both answered, with its 95 % interval. p is from a paired test; "
        f"below it is p after Holm's correction over {len(rows)} rows. mde is the smallest change that n documents "
        "detect with 80 % power after that correction (–: none). The last column counts the documents on which B "
        f"scores higher and lower. {clear} of {len(rows)} changes are beyond chance (▲ ▼); {_unseen(rows)}."
    )
    if other := sum(row.other_prompts for row in rows):
        yield (
            f"{other} of {total} pairs have the same document but other prompts (another text or another encoding). "
            "Part of the change may come from the prompts."
        )
    if settings_a or settings_b:
        yield f"Not compared: {settings_a} settings that only A has, {settings_b} that only B has."
    if without:
        yield f"Not compared: {without} settings that have no scored document in common."


def _unseen(rows: Sequence[PairedScores]) -> str:
    """How large the other changes would have to be."""
    text = "for the others there is insufficient evidence"
    others = sorted((row for row in rows if not row.is_clear and isfinite(row.mde)), key=lambda row: row.mde)
    if others:
        ends = dict.fromkeys(map(_mde, (others[0], others[-1])))
        text += f": with these n, a true change below {' to '.join(ends)} often goes undetected"
    return text


def render(pairing: Pairing) -> Table:
    """The rows for a terminal, those of one variant under its name."""
    heads = [Column(head, justify="right") for head in ("A", "B", "B − A", "p", "mde", "")]
    table = Table(Column("", overflow="fold"), *heads, box=box.SIMPLE_HEAD, pad_edge=False)
    for variant, rows in groupby(pairing.rows, key=lambda row: dict(row.setting).get("variant")):
        if variant is not None:
            table.add_row(Text(str(variant), style="italic"))
        for row in rows:
            table.add_row(*_cells(row))
    return table


def _cells(row: PairedScores) -> list[Text]:
    alone = "".join(f", {n} only in {side}" for n, side in ((row.only_a, "A"), (row.only_b, "B")) if n)
    together = f" in {row.clusters} components" if row.clusters < row.n else ""
    name = Text(_label(dict(row.setting)), style="bold")
    arrow = ("▲" if row.delta > 0 else "▼") if row.is_clear else " "
    change, low, high = (_number(row, value, "+") for value in (row.delta, row.interval.low, row.interval.high))
    return [
        name.append(f"\n{row.metric}, n {row.n}{together}{alone}", style="dim not bold"),
        Text(_number(row, row.value_a)),
        Text(_number(row, row.value_b)),
        Text(f"{arrow} {change}").append(f"\n[{low}, {high}]", style="dim"),
        Text(_p(row.p_value)).append(f"\n{_p(row.p_adjusted)}", style="dim"),
        Text(_mde(row)),
        Text("" if row.gained is None else f"+{row.gained} −{row.lost}"),
    ]


def _label(facts: Json) -> str:
    if "filter" in facts:
        return f"filter {facts['filter']}"
    draw = f", draw {facts['draw']}" if facts["draw"] else ""
    return f"{facts['test_dataset']}, {facts['shots']} shots, {facts['prompt']}{draw}"


def _mde(row: PairedScores) -> str:
    return _number(row, row.mde) if isfinite(row.mde) else "–"


def _number(row: PairedScores, value: float, sign: str = "") -> str:
    """A score of a run in points of a hundred; a score of lm-evaluation-harness on its own scale."""
    text = f"{value:{sign}.4f}" if "filter" in dict(row.setting) else f"{100 * value:{sign}.1f}"
    return text.replace("-", "−") if float(text) else text.lstrip("+-")  # what rounds to nothing has no sign


def _p(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"

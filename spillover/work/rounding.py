"""Decisions that the rounding of bfloat16 could have made are made again in float32.

Base and variant round differently, so rounding does not cancel out of their difference: a close decision of one of them
may change while the other's stays. A decision is which label scores best (by the whole label, by its first token, per
token; of options, per character and per byte) and whether the model's own greedy text spells a label. Its margin is
what the chosen side leads by, in nats. A row with a margin below the threshold of its kind is answered again by the
same model in float32, and all its scores are then float32's. Its own text is generated again only if that is close:
steps of few rows are slow.

The threshold is measured, not assumed: `SIGMAS` times the error of a margin, float32 less bfloat16. The errors are
those of the rows that were answered twice, the closest of a chunk first, until no row below the threshold is left. From
few errors the upper 95 % limit of their root mean square is taken. Errors of the variant's earlier rows count too, but
for `EARLIER_ROWS` at most, because test sets differ. Each such row keeps what it moved by, so a run that was killed
finds the same thresholds again.

Texts cannot be decided again without generating all of them. So a sample of each cell is generated in float32 as well,
and stored beside the answer: the report derives from it what rounding alone changes. For every text the near-ties on
its way are counted: the steps at which the chosen token led by less than the threshold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from ..engine.port import Answer, Engine, Work
from ..plan.questions import Sheet
from ..text.encode import Encoder
from ..text.request import Request, StopRule
from ..text.task import SIZES
from ..text.words import begins_with_label, may_begin_label

SIGMAS = 3.0  # if errors are normal, rounding then decides a fraction of one row in 10,000 unseen
EARLIER_ROWS = 12
FIRST_ROWS = 16  # of a chunk answered twice before anything is known, and later, to see whether what is known holds:
CHECKED_ROWS = 4
FAR = 2.0  # nats; rounding makes no decision where the model's own text leads by so much
ONE_TEXT_OF = 8  # texts of a cell
UNMEASURED = 0.4  # nats; where float32 does not fit. In the tests rounding turned no larger margin

Scores = npt.NDArray[np.float64]
Moved = Mapping[str, float]
"""By kind of decision, the error of its margin in a row that was answered in both precisions (root mean square)."""


@dataclass
class Settled:
    """What became of a chunk. By number of the request: answers in float32, and what they moved by.

    `thresholds` are those of the kinds of decisions that the chunk has. `near_ties` count those of each text.
    `undecided` rows lie within the rounding, but there is no float32 model to decide them.
    """

    exact: dict[int, Answer] = field(default_factory=dict)
    moved: dict[int, Moved] = field(default_factory=dict)
    thresholds: dict[str, float] = field(default_factory=dict)
    near_ties: dict[int, int] = field(default_factory=dict)
    undecided: set[int] = field(default_factory=set)


class Rounding:
    """The rounding of one variant. `load` gives its engine in float32, or None if there is no memory for it."""

    def __init__(self, load: Callable[[], Engine | None]) -> None:
        self._load: Callable[[], Engine | None] | None = load
        self._engine: Engine | None = None
        self.earlier: dict[str, Moved] = {}  # by prompt hash

    @property
    def engine(self) -> Engine | None:
        """The float32 engine, loaded when it is first needed."""
        if self._load is not None:
            self._engine, self._load = self._load(), None
        return self._engine

    @property
    def work(self) -> Work:
        """What float32 has cost so far."""
        return self._engine.work if self._engine else Work()

    def learn(self, rows: Iterable[Mapping[str, object]]) -> None:
        """Take in what stored rows moved by."""
        self.earlier |= {row["prompt_hash"]: row["moved"] for row in rows if "moved" in row}  # type: ignore[misc]

    def settle(
        self,
        encoder: Encoder,
        labels_of: Sequence[Sequence[str]],
        requests: Sequence[Request],
        answers: Sequence[Answer],
        sampled: Iterable[int],
        stop: StopRule,
    ) -> Settled:
        """Answer again what rounding could have decided. All arguments are by number of the request."""
        settled = Settled(thresholds=self._thresholds({}))
        numbers = [number for number, request in enumerate(requests) if request.options]
        margins = {n: _margins(encoder, labels_of[n], requests[n], answers[n]) for n in numbers}
        todo = sorted(sampled) or self._first(margins)
        texts: set[int] = set()  # rows whose own text was generated again; the others' cannot decide otherwise
        while todo and self.engine is not None:
            known = settled.thresholds
            texts.update(n for n in todo if n not in margins or FREE not in known or _is_close(margins[n], known, FREE))
            again = [requests[n] if n in texts else replace(requests[n], max_new_tokens=0) for n in todo]
            for at, exact in self.engine.run(again, stop):
                number = todo[at]
                kept = answers[number]
                settled.moved[number] = moved(requests[number], kept, exact)
                if number not in texts:
                    exact = replace(exact, generated=kept.generated, ended=kept.ended)
                settled.exact[number] = exact
            settled.thresholds = known = self._thresholds(settled.moved)
            todo = [
                number
                for number, own in margins.items()
                if (number not in settled.exact and _is_close(own, known))
                or (number not in texts and _is_close(own, known, FREE))
            ]
        if todo:
            settled.thresholds = dict.fromkeys([kind for own in margins.values() for kind in own], UNMEASURED)
            settled.undecided = {number for number, own in margins.items() if _is_close(own, settled.thresholds)}
        for number in set(range(len(requests))).difference(numbers):
            close = settled.thresholds.get(TEXT, UNMEASURED)
            settled.near_ties[number] = sum(lead < close for lead in answers[number].leads)
        own = KINDS[:-1] if numbers else KINDS[-1:]
        settled.thresholds = {kind: value for kind, value in settled.thresholds.items() if kind in own}
        return settled

    def _first(self, margins: Mapping[int, Moved]) -> list[int]:
        """The rows below the threshold that is known from earlier ones, and some of the closest in any case."""
        known = self._thresholds({})
        closeness = {n: min(own[kind] / (known.get(kind) or 1.0) for kind in own) for n, own in margins.items() if own}
        ordered = sorted(closeness, key=lambda number: (closeness[number], number))
        some = CHECKED_ROWS if known else max(FIRST_ROWS, len(ordered) // FIRST_ROWS)
        return sorted({*ordered[:some], *(n for n, own in margins.items() if _is_close(own, known))})

    def _thresholds(self, moved: Mapping[int, Moved]) -> dict[str, float]:
        """By kind of decision, the margin below which a row is answered again; without errors of a kind, none."""
        found = {}
        for kind in KINDS:
            own = [row[kind] ** 2 for row in moved.values() if kind in row]
            before = [row[kind] ** 2 for row in self.earlier.values() if kind in row]
            weight = min(len(before), EARLIER_ROWS)
            if count := weight + len(own):
                squares = math.fsum(own) + (weight * math.fsum(before) / len(before) if before else 0.0)
                # near-ties of texts are only counted, and each text has many steps
                found[kind] = SIGMAS * math.sqrt(
                    squares / (count if kind == TEXT else float(special.chdtri(count, 0.95)))
                )
        return found


def in_both(sheet: Sheet) -> frozenset[str]:
    """The prompt hashes of the texts of a sheet that are generated in both precisions: one of `ONE_TEXT_OF`."""
    hashes = sorted({question.prompt_hash for question in sheet.questions})  # a hash is as good as a draw
    return frozenset() if sheet.task.is_scored else frozenset(hashes[: math.ceil(len(hashes) / ONE_TEXT_OF)])


def as_recorded(rows: Sequence[Mapping[str, Any]], thresholds: Mapping[str, float]) -> dict[str, Any]:
    """What a cell's receipt says of its rounding: rows answered again, what moved, and what stayed open."""
    kinds = dict.fromkeys(kind for row in rows for kind in row.get("moved", ()))
    moves = {kind: [row["moved"][kind] for row in rows if kind in row.get("moved", ())] for kind in kinds}
    return {
        "again": sum("moved" in row for row in rows),
        "undecided": sum("undecided" in row for row in rows),
        "near_ties": sum(row.get("near_ties", 0) for row in rows),
        "noise": {kind: round(float(np.sqrt(np.mean(np.square(own)))), 6) for kind, own in moves.items()},
        "thresholds": {kind: round(value, 6) for kind, value in thresholds.items()},
    }


# --- margins and their errors -----------------------------------------------------------------------------------------

WHOLE, FIRST, PER_TOKEN, FREE, TEXT = "whole", "first", "per_token", "free", "text"
KINDS = (WHOLE, FIRST, PER_TOKEN, *SIZES, FREE, TEXT)


def _scores(request: Request, answer: Answer) -> dict[str, Scores]:
    """The labels' scores by each rule. Labels with one first token have one score of it."""
    first: dict[int, float] = {}
    for option, logprobs in zip(request.options, answer.logprobs, strict=True):
        first.setdefault(option[0], logprobs[0])
    found = {
        WHOLE: np.array([sum(logprobs) for logprobs in answer.logprobs]),
        FIRST: np.array(list(first.values())),
        PER_TOKEN: np.array([sum(logprobs) / len(logprobs) for logprobs in answer.logprobs]),
    }
    for rule, lengths in zip(SIZES, request.lengths, strict=False):  # in nats of an option of mean length
        found[rule] = found[WHOLE] * np.mean(lengths) / lengths
    return {rule: scores for rule, scores in found.items() if len(scores) > 1}


def _margins(encoder: Encoder, labels: Sequence[str], request: Request, answer: Answer) -> Moved:
    """What each decision of a row leads by."""
    found = {}
    for rule, scores in _scores(request, answer).items():
        second, best = np.partition(scores, -2)[-2:]
        found[rule] = float(best - second)
    if request.max_new_tokens and answer.leads:
        found[FREE] = _margin_of_free(encoder, labels, request, answer)
    return found


def _margin_of_free(encoder: Encoder, labels: Sequence[str], request: Request, answer: Answer) -> float:
    """By how much the model's own text leads over texts that begin a label if it does not, or the reverse."""
    margin, generated = answer.leads[0], answer.generated or ()
    for number, (token, lead) in enumerate(zip_longest(generated, answer.leads, fillvalue=math.inf), 1):
        margin = min(margin, lead)
        if token not in request.beginnings:
            break
        text = encoder.decode(generated[:number]).strip()
        if begins_with_label(text, labels):
            break
        if text and may_begin_label(text, labels):  # a label in other tokens: any of the next ones may spoil it
            return min([margin, *answer.leads[number:]])
    return margin


def _is_close(own: Moved, thresholds: Mapping[str, float], only: str | None = None) -> bool:
    """Whether rounding could have made a decision of a row, of any kind or of one."""
    return any(margin < thresholds.get(kind, 0.0) for kind, margin in own.items() if only in (None, kind))


def moved(request: Request, rounded: Answer, exact: Answer) -> Moved:
    """The errors of a row's margins, by kind."""
    found = {}
    theirs = _scores(request, exact)
    for rule, scores in _scores(request, rounded).items():
        best = int(scores.argmax())
        errors = np.delete((theirs[rule][best] - theirs[rule]) - (scores[best] - scores), best)
        found[rule] = float(np.sqrt((errors**2).mean()))
    leads = [error for error in _errors_of_leads(request, rounded, exact) if math.isfinite(error)]
    if (
        request.options
    ):  # the first step tells the error, but not where the rival is far off: errors of tails are larger
        leads = leads[:1] if rounded.leads and rounded.leads[0] < FAR else []
    if leads:
        found[FREE if request.options else TEXT] = math.sqrt(sum(error**2 for error in leads) / len(leads))
    return {kind: round(error, 6) for kind, error in found.items()}


def _errors_of_leads(request: Request, rounded: Answer, exact: Answer) -> list[float]:
    """The errors at the steps that both texts have, up to the first at which they differ, and this one too."""
    first = (rounded.top, *(rounded.generated or ())[1:]), (exact.top, *(exact.generated or ())[1:])
    errors = []
    for ours, theirs, mine, other in zip_longest(*first, rounded.leads, exact.leads, fillvalue=-1):
        if mine == -1 or other == -1:
            break
        agree = _side(request, ours) == _side(request, theirs)
        errors.append(other - mine if agree else other + mine)  # if not, the other side leads by `other`
        if ours != theirs:
            break
    return errors


def _side(request: Request, token: int) -> int | str:
    """What a greedy token decides: that the text begins a label, whichever it is; that it does not; or neither yet."""
    if token in request.firsts:
        return "label"
    return token if request.is_open_after(token) else "no label"

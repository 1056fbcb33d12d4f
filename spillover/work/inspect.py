"""What changed inside a variant, and proof that it is the one that was trained.

Scores can be right about the wrong weights. An adapter that was not applied answers like the base: there is no error,
and the table has its rows. So each variant is inspected once, after it is loaded and before it is evaluated. It is
refused if

- its weights are the base's, or are not finite;
- it predicts what the base predicts: at the positions below, no token's log-probability moved by more than `MOVED`
  nats;
- its adapter answers differently when it is merged into the weights;
- it was trained here, or is an adapter, and neither its weights nor its predictions can be compared with the base's.
  In other cases this is reported in the run and on the report's page (`Inside.unproven`).

The inspection also measures what fine-tuning did: how far the weights moved (`models.weights`), and how far the
predictions did (`engine.divergence`). The latter is KL(base || variant) in nats a token, exact over the vocabulary, at
two kinds of positions. One is the reference answers of `ROWS` scored rows of each test set, at its fewest shots in its
first prompt format (`ROWS_IN_DOMAIN` of a set that something is trained for). The other is a plain English text that
ships with the package, in pieces of `NEUTRAL_TOKENS`. A KL on that text is a change that nobody asked for.

The base's side is its hidden states at those positions, kept in memory as long as the process runs. Another process
computes them again: this takes a second or two, and no number depends on what another machine rounded.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from importlib import resources
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ModelError
from ..experiment.factors import Value
from ..fingerprint import fingerprint
from ..models import is_adapter, weights_sha256
from ..models.weights import Change, compare
from ..store.inside import Divergence, Inside
from ..store.store import Store

if TYPE_CHECKING:
    from ..engine.divergence import Distributions, Passage
    from ..engine.port import Engine
    from ..plan.grid import Variant
    from ..plan.plan import Plan
    from ..text.encode import Encoder

INSIDE_VERSION = 5  # raise it when the same variant would be measured otherwise
ROWS = 4  # of each test set
ROWS_IN_DOMAIN = 32  # of a set that something is trained for: KL there is said to predict what is lost (2509.04259)
NEUTRAL_TOKENS = 256
MOVED = 1e-3  # nats; both models go through the same passes, so a variant that is the base is 0 apart
# Nats a token, on average, that merging an adapter may cost: bfloat16 keeps three digits of a weight with its change.
MERGE_GAP = {"float32": 1e-4, "bfloat16": 0.1}
MAY_BE_ROUNDING = 0.05  # up to this KL in another precision, it is measured in float32 too
UNMOVED = "answers exactly as the base: the adapter was not applied, or nothing was trained"


class Inspector:
    """Inspects the variants of a run, once each. `base` is the folder of the base's weights."""

    def __init__(self, plan: Plan, store: Store, base: Path, precision: str) -> None:
        self.plan, self.store, self.base, self.precision = plan, store, base, precision
        self._passages = {"": neutral_passages(plan.encoder), **answer_passages(plan)}
        self._every: list[Passage] = list(chain.from_iterable(self._passages.values()))
        self.sample = fingerprint([INSIDE_VERSION, plan.encoder.identity, list(self._passages.items())])
        self._base: Distributions | str | None = None  # what it predicts, or why that cannot be had
        self._exact_base: Distributions | str | None = None  # the same in float32, once it was needed

    @property
    def longest(self) -> int:
        """The most tokens of a passage."""
        return max(len(ids) for ids, _ in self._every)

    def knows(self, variant: Variant, weights: str | None = None) -> bool:
        """Whether a variant was inspected already, with these weights (None: any) and at these positions."""
        seen = self.store.inside_of(variant.key) or {}
        return seen.get("sample") == self.sample and weights in (None, seen.get("weights"))

    def prepare(self, variant: Variant, weights: str, load_base: Callable[[], Engine]) -> None:
        """Before a variant is loaded: compute what the base predicts, if it is needed and not known yet."""
        if variant.kind != "base" and self._base is None and not self.knows(variant, weights):
            self._base = self._distributions(load_base())

    def inspect(
        self,
        variant: Variant,
        folder: Path,
        weights: str,
        engine: Engine,
        exact: tuple[Callable[[], Engine | None], Callable[[], Engine | None]] | None = None,
    ) -> tuple[str, ...]:
        """Inspect a loaded variant and store the measurements; returns what a reader must know of it.

        `exact` loads the base and the variant in float32, if the run's precision is another and memory allows it.

        Raises ModelError if it is not what it should be.
        """
        if variant.kind == "base":
            if any(job.variant.kind != "base" and not self.knows(job.variant) for job in self.plan.jobs):
                self._base = self._distributions(engine)
        elif not self.knows(variant, weights):
            began = time.perf_counter()
            seen = {**self._changes(folder, weights, engine), **self._divergences(engine)}
            inside = Inside(variant.key, variant.name, weights, self.sample, self.precision, **seen)
            check_variant_changed(inside, variant.factors.get("learning_rate"), may_be_base=bool(variant.made_from))
            if len(inside.unproven) > 1 and (variant.kind == "trained" or is_adapter(folder)):
                what = f"not proven to differ from the base: {inside.why_no_changes}; {inside.why_no_divergence}"
                raise ModelError(what, allowed="weights in safetensors, of the base too, show it")
            if exact and inside.nats is not None and inside.nats < MAY_BE_ROUNDING:
                inside = replace(inside, exact=self._without_rounding(*exact))
            inside = replace(inside, seconds=round(time.perf_counter() - began, 2))
            self.store.write_inside(variant.key, asdict(inside))
            return (*inside.unproven, *([f"it {nearly}"] if (nearly := inside.hardly_differs) else []))
        return ()

    def _without_rounding(
        self, load_base: Callable[[], Engine | None], load: Callable[[], Engine | None]
    ) -> float | None:
        """KL(base || variant) in nats a token, both in float32; None if it cannot be computed."""
        from ..engine.divergence import divergence

        if self._exact_base is None and (base := load_base()) is not None:
            self._exact_base = self._distributions(base)
        theirs = self._exact_base
        if theirs is None or isinstance(theirs, str) or (engine := load()) is None:
            return None
        ours = self._distributions(engine)
        # no KL is negative; below 0 it is the arithmetic's
        return None if isinstance(ours, str) else max(0.0, float(divergence(theirs, ours)[0].mean()))

    def _changes(self, folder: Path, weights: str, engine: Engine) -> dict[str, Any]:
        try:
            changes, left_out = _of_adapter(engine) if is_adapter(folder) else compare(self.base, folder)
        except ModelError as error:  # files of another kind; its answers are compared all the same
            if weights == weights_sha256(self.base, self.plan.experiment.trust):
                raise ModelError(f"{UNMOVED}; its weights are the base's, byte by byte") from None
            return {"why_no_changes": error.what}
        return {"changes": tuple(changes), "left_out": tuple(left_out)}

    def _distributions(self, engine: Engine) -> Distributions | str:
        from ..engine.divergence import Distributions, why_not

        model = getattr(engine, "model", None)
        if model is None:
            return "its engine shows no hidden states"
        return why_not(model, self._every[0][0][:10]) or Distributions.of(model, self._every)

    def _divergences(self, engine: Engine) -> dict[str, Any]:
        from ..engine.divergence import divergence, merge_gap

        theirs, ours = self._base, self._distributions(engine)
        assert theirs is not None, "the base comes first"
        if isinstance(theirs, str) or isinstance(ours, str):
            return {"why_no_divergence": theirs if isinstance(theirs, str) else ours}
        nats, largest = divergence(theirs, ours)
        parts = iter(nats.split([len(ids) - start for ids, start in self._every]))
        found = {
            test: Divergence(tuple((float(part.sum()), len(part)) for part in islice(parts, len(passages))))
            for test, passages in self._passages.items()
        }
        gap = merge_gap(engine.model, self._every[0])  # type: ignore[attr-defined]
        return {"neutral": found.pop(""), "answers": found, "largest": largest, "merge_gap": gap}


def _of_adapter(engine: Engine) -> tuple[list[Change], list[str]]:
    from ..engine.merged import adapter_changes

    if (model := getattr(engine, "model", None)) is None:
        raise ModelError("its engine shows no weights")
    return adapter_changes(model), []


def check_variant_changed(seen: Inside, learning_rate: Value | None, may_be_base: bool = False) -> None:
    """Raises ModelError for a variant that does not differ from the base, or whose adapter changes when merged.

    `may_be_base`: it was made with as little of a training as the user wanted.
    """
    rate = None if learning_rate is None else f"its learning rate is {learning_rate:g}"
    broken = [change.name for change in seen.changes if not math.isfinite(change.absolute)]
    if broken:
        raise ModelError(f"{len(broken)} of its weights hold infinities or NaN, {broken[0]} the first", allowed=rate)
    moved = sum(change.absolute for change in seen.changes)
    if seen.changes and not moved and not may_be_base:
        raise ModelError(f"{UNMOVED}; no weight moved", allowed=rate)
    if seen.largest is not None and math.isnan(seen.largest):
        raise ModelError("its predictions are not numbers (NaN)", allowed=rate)
    if seen.largest is not None and seen.largest <= MOVED and not may_be_base:
        size = sum(change.size for change in seen.changes)
        weights = f"; its weights moved by {moved / size:.1g} on average" if size else ""
        raise ModelError(f"{UNMOVED}{weights}, no log-probability by more than {seen.largest:.1g} nats", allowed=rate)
    if seen.merge_gap is not None and not seen.merge_gap <= MERGE_GAP[seen.precision]:
        what = f"its adapter answers differently when merged into the weights, by {seen.merge_gap:.2g} nats a token"
        raise ModelError(what, allowed=f"at most {MERGE_GAP[seen.precision]:g} is rounding")


# --- the positions at which models are compared ---------------------------------------------------------------------


def neutral_passages(encoder: Encoder) -> list[Passage]:
    """The neutral text in pieces of NEUTRAL_TOKENS, every token predicted; each piece begins as plain text does."""
    text = resources.files(__package__).joinpath("neutral.txt").read_text("utf-8")
    prefix = encoder.prefix
    body = encoder.text_ids(text)[len(prefix) :]
    width = min(NEUTRAL_TOKENS, encoder.max_context) - len(prefix)
    pieces = [(*prefix, *body[at : at + width]) for at in range(0, len(body), width)]
    return [(piece, max(len(prefix), 1)) for piece in pieces if len(piece) > max(len(prefix), 1)]


def answer_passages(plan: Plan) -> dict[str, list[Passage]]:
    """The first rows of each test set with their reference answers, by test set: only answer tokens are predicted."""
    found: dict[str, list[Passage]] = {}
    in_domain = {cell.test for cell in plan.grid.cells if cell.role == "in_domain"}
    for test in plan.grid.tests:
        sheet = min((sheet for sheet in plan.sheets.values() if sheet.test == test.name), key=lambda sheet: sheet.shots)
        if sheet.is_of_harness:  # where its answers begin is its own affair
            continue
        rows = sheet.questions[: ROWS_IN_DOMAIN if test.name in in_domain else ROWS]
        texts, targets = [row.text for row in rows], [row.example.target for row in rows]
        encoded = sheet.joints.samples(plan.encoder, texts, targets, chat=sheet.fmt.chat)
        predicted = [(ids, max(start, 1)) for ids, start in encoded if len(ids) <= plan.encoder.max_context]
        found[test.name] = [(ids, start) for ids, start in predicted if start < len(ids)]
    return {test: passages for test, passages in found.items() if passages}

"""Why scores changed: what stayed with the domain, what prompts do, answers that left the format, what moved inside.

Each part is a title, a sentence, and a table or a figure, as plain values for the page; one without anything to show
is left out. Contrasts come from `effects`, a family to a table, counts of answers from `examples.Tally`, and changes
inside a model from `spillover.run.inspect`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..analysis.contrasts import slope
from ..analysis.effects import EffectRow, details, families, formats, written
from ..analysis.numbers import signed, signed_interval
from ..analysis.results import ROLE_TITLES, ROLES, Results
from ..experiment.suite import Role
from ..run.inspect import Divergence, Inside
from .examples import Tally
from .sections import table

LISTED, SHOWN = 0.02, 16  # off-format rates below are not listed, and no more of them
Part = dict[str, Any]


def parts(
    results: Results, inside: Mapping[str, Inside], tallies: Mapping[tuple[str, str], Tally], weights: Part
) -> list[Part]:
    """Everything there is to say, in reading order. `weights` is the figure of that name as the page takes it."""
    effects = families(results)
    found = [
        stayed(effects.get("interaction", ())),
        demonstrations(results, effects.get("slope", ())),
        with_demonstrations(effects.get("fticl", ())),
        prompts(results, effects.get("prompt", ())),
        off_format(results, tallies),
        confusion(results, tallies),
        moved(weights),
        divergence(results, inside),
        unproven(inside),
    ]
    return [part for part in found if part]


# --- effects ----------------------------------------------------------------------------------------------------------

CAPTION = "Points with 95 % intervals; ▲ ▼ beyond chance after Holm over this table, the rest insufficient evidence"


def stayed(rows: Sequence[EffectRow]) -> Part | None:
    """Whether the gain stayed in the domain."""
    return _effects(
        rows,
        "What stayed with the domain",
        "The change from the base in-domain less that elsewhere. Above zero, what was learned did not reach there, or "
        "was paid for there; around zero, the change is the same everywhere.",
        "interactions-c",
        lambda row: (row.name, row.where),
    )


def demonstrations(results: Results, rows: Sequence[EffectRow]) -> Part | None:
    """What is left of in-context learning."""
    text = (
        "What each further demonstration adds (the slope over shots), less what it adds for the base. Below zero, "
        "fine-tuning took away in-context learning."
    )
    of_base = slope(results, results.cells_of_base)
    if of_base is not None:
        text += f" For the base it is {signed(of_base.value)} {signed_interval(of_base.interval)} over all test sets."
    return _effects(rows, "What is left of in-context learning", text, "slopes-c", lambda row: (row.name, row.where))


def with_demonstrations(rows: Sequence[EffectRow]) -> Part | None:
    """FTICL less FT."""
    return _effects(
        rows,
        "FTICL less FT",
        "What training with demonstrations in each sample changed, against plain fine-tuning on the same rows, by the "
        "demonstrations in the prompt.",
        "fticl-c",
        lambda row: (f"{row.name} − {row.less}, {row.where}", f"{row.shots} shots"),
    )


def prompts(results: Results, rows: Sequence[EffectRow]) -> Part | None:
    """How much the prompt format matters."""
    first, *others = formats(results)
    return _effects(
        rows,
        "How much the prompt format matters",
        f"Score in the format {first} less that in {' or '.join(others)}.",
        "prompts-c",
        lambda row: (row.name if len(others) == 1 else f"{row.name}, {first} − {row.less}", row.where),
    )


def _effects(
    rows: Sequence[EffectRow], title: str, text: str, id: str, place: Callable[[EffectRow], tuple[str, str]]
) -> Part | None:
    """A family as a table: `place` names an effect's line and column. Effects carry what they rest on as a note."""
    if not rows:
        return None
    lines: dict[tuple[str, str], dict[str, Any]] = {}  # two recipes may share a name
    for row in rows:
        line, column = place(row)
        noted = {"text": written(row.effect), "note": details(row.effect)}
        lines.setdefault((row.variants[0].recipe_key, line), {})[column] = noted
    roles = [ROLE_TITLES[role] for role in ROLES]  # the first recipe may lack one
    found_columns = dict.fromkeys(place(row)[1] for row in rows)
    columns = sorted(found_columns, key=lambda name: roles.index(name) if name in roles else len(roles))
    cells = [[line, *(found.get(column, "") for column in columns)] for (_, line), found in lines.items()]
    return {"title": title, "text": text, "table": table(id, CAPTION, ["Variant", *columns], cells, columns)}


# --- answers ----------------------------------------------------------------------------------------------------------


def off_format(results: Results, tallies: Mapping[tuple[str, str], Tally]) -> Part | None:
    """Answers that left the format, and how many of them are labels of the training task."""
    listed = [(key, tally) for key, tally in tallies.items() if tally.rate >= LISTED]
    if not listed:
        return None
    labels = {v.name: results.grid.labels_of_train_task.get(v.train_dataset or "") for v in results.grid.variants}
    ranked = sorted(listed, key=lambda item: -item[1].rate)
    rows = [
        [variant, results.tests[test].title or test, *_rates(tally, bool(labels[variant]))]
        for (variant, test), tally in ranked[:SHOWN]
    ]
    more = f"; {len(ranked) - SHOWN} more in results.csv" if len(ranked) > SHOWN else ""
    numbers = ["Rate", "Answers", "Of", "Labels of the training task"]
    return {
        "title": "Answers that left the format",
        "text": "Left to itself the model gave no label of the task, or in free text nothing or a label. Forced choice "
        "hides this: the score is then that of an answer which the model would not have given.",
        "table": table("off-c", f"Off-format rates{more}", ["Variant", "Test set", *numbers], rows, numbers),
    }


def _rates(tally: Tally, has_labels: bool) -> list[str]:
    trained = f"{tally.trained_labels:,}" if has_labels else "–"
    return [f"{100 * tally.rate:.1f} %", f"{tally.off_format:,}", f"{tally.n:,}", trained]


def confusion(results: Results, tallies: Mapping[tuple[str, str], Tally]) -> Part | None:
    """Which label was said for which."""
    matrices = []
    for (variant, test), tally in tallies.items():
        info = results.tests[test]
        if info.labels and tally.said:
            rows = [
                {"label": target, "cells": [{"n": tally.said[target, x], "right": target == x} for x in info.labels]}
                for target in dict.fromkeys([*info.labels, *(target for target, _ in tally.said)])
            ]
            matrices.append({"variant": variant, "test": info.title or test, "labels": info.labels, "rows": rows})
    if not matrices:
        return None
    return {
        "title": "Which label for which",
        "text": "Answers over all shots and prompts. A column that takes everything is a model that says one label "
        "whatever it is asked.",
        "confusion": matrices,
    }


# --- inside -----------------------------------------------------------------------------------------------------------


def moved(weights: Part) -> Part | None:
    """How far weights moved, where that was looked at."""
    if not weights["drawing"]:
        return None
    return {"figure": weights}


def divergence(results: Results, inside: Mapping[str, Inside]) -> Part | None:
    """How far predictions moved: KL from the base, on plain text and at the answers of the test sets by role."""
    roles = {(results.variants[c.variant].name, c.test): c.role for c in results.grid.cells}
    rows = []
    for name, seen in inside.items():
        if seen.neutral:
            low, high = seen.neutral.interval.low, seen.neutral.interval.high
            by_role: dict[Role | None, list[tuple[float, int]]] = {}
            for test, one in (seen.answers or {}).items():
                by_role.setdefault(roles.get((name, test)), []).extend(one.passages)
            answers = [f"{Divergence(tuple(by_role[role])).nats:.2f}" if role in by_role else "" for role in ROLES]
            rows.append([name, f"{seen.neutral.nats:.4f}", f"[{low:.4f}, {high:.4f}]", *answers])
    if not rows:
        return None
    numbers = ["Plain text", "95 % interval", *(f"Answers, {ROLE_TITLES[role]}" for role in ROLES)]
    return {
        "title": "How far predictions moved",
        "text": "KL(base || variant) in nats a token, over the whole vocabulary. At the answers of the test sets it is "
        "what was trained for, or spilled over. On a plain English text that no training set has anything to do with, "
        "it is change that nobody asked for.",
        "table": table("kl-c", "KL from the base", ["Variant", *numbers], rows, numbers),
    }


def unproven(inside: Mapping[str, Inside]) -> Part | None:
    """Variants of which the weights, or the predictions, could not be held against the base's."""
    rows = [
        [name, what, why]
        for name, seen in inside.items()
        for what, why in (("weights", seen.why_no_changes), ("predictions", seen.why_no_divergence))
        if why
    ]
    if not rows:
        return None
    return {
        "title": "Not proven to differ from the base",
        "text": "A variant whose weights were not loaded answers as the base does, without an error. Weights and "
        "predictions are therefore held against the base’s before a variant is asked; here that could not be done.",
        "table": table("unproven-c", "What could not be held against the base", ["Variant", "What", "Why"], rows),
    }

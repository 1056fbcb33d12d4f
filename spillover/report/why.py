"""Why scores changed: answers that left the format, labels taken for others, what prompts do, what moved inside.

Each part is a title, a sentence, and a table or a figure, as plain values for the page; one without anything to show
is left out. Counts of answers come from `examples.Tally`, changes inside a model from `spillover.inside`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..grid import Cell
from ..inside import Divergence, Inside
from ..suite import Role
from .contrasts import Effect, adjusted, prompt_gap, slope
from .examples import Tally
from .sections import table
from .table import ROLE_TITLES, ROLES, Results, recipe_name, signed, signed_interval

LISTED, SHOWN = 0.02, 16  # off-format rates below are not listed, and no more of them
Part = dict[str, Any]


def parts(
    results: Results, inside: Mapping[str, Inside], tallies: Mapping[tuple[str, str], Tally], weights: Part
) -> list[Part]:
    """Everything there is to say, in reading order. `weights` is the figure of that name as the page takes it."""
    found = [
        off_format(results, tallies),
        confusion(results, tallies),
        demonstrations(results),
        prompts(results),
        moved(weights),
        divergence(results, inside),
    ]
    return [part for part in found if part]


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


# --- what prompts do --------------------------------------------------------------------------------------------------


def demonstrations(results: Results) -> Part | None:
    """What one more demonstration adds, by recipe and role."""
    return _by_role(
        results,
        "What demonstrations still add",
        "Points of score for each further demonstration in the prompt: the slope over shots. Where fine-tuning took "
        "in-context learning away, it is smaller than the base’s.",
        "slopes-c",
        lambda cells: slope(results, cells),
    )


def prompts(results: Results) -> Part | None:
    """How much the prompt format matters, by recipe and role."""
    formats = list(dict.fromkeys(cell.prompt for cell in results.grid.cells))
    if len(formats) < 2:
        return None
    first, second = formats[:2]
    return _by_role(
        results,
        "How much the prompt format matters",
        f"Score in the format {first} less that in {second}, in points.",
        "prompts-c",
        lambda cells: prompt_gap(results, cells, first, second),
    )


def _by_role(
    results: Results, title: str, text: str, id: str, contrast: Callable[[Sequence[Cell]], Effect | None]
) -> Part | None:
    """A contrast of each recipe's cells, role by role, corrected together; of the base over all test sets, in words."""
    asked: dict[tuple[str, str], Effect] = {}
    of_base = contrast([cell for cell in results.grid.cells if results.variants[cell.variant] == results.base])
    for arm in results.recipes.values():
        for role in ROLES if arm[0] != results.base else ():
            of_arm = [c for c in results.grid.cells if c.role == role and results.variants[c.variant] in arm]
            if found := contrast(of_arm):
                asked[recipe_name(arm), ROLE_TITLES[role]] = found
    if not asked:
        return None
    effects = dict(zip(asked, adjusted(list(asked.values())), strict=True))
    roles = [ROLE_TITLES[role] for role in ROLES if any(where == ROLE_TITLES[role] for _, where in effects)]
    names = dict.fromkeys(name for name, _ in effects)
    rows = [[name, *(_written(effects.get((name, role))) for role in roles)] for name in names]
    if of_base:
        text += f" For the base it is {signed(of_base.value)} {signed_interval(of_base.interval)} over all test sets."
    caption = "By role, with 95 % intervals; ▲ ▼ beyond chance after Holm"
    return {"title": title, "text": text, "table": table(id, caption, ["Variant", *roles], rows, roles)}


def _written(effect: Effect | None) -> str:
    if effect is None:
        return ""
    arrow = ("▲ " if effect.value > 0 else "▼ ") if effect.is_clear else ""
    return f"{arrow}{signed(effect.value)} {signed_interval(effect.interval)}"


# --- inside -----------------------------------------------------------------------------------------------------------


def moved(weights: Part) -> Part | None:
    """How far weights moved, where that was looked at."""
    if not weights["panels"]:
        return None
    return {"figure": weights}


def divergence(results: Results, inside: Mapping[str, Inside]) -> Part | None:
    """How far predictions moved: KL from the base, on plain text and at the answers of the test sets by role."""
    roles = {(results.variants[c.variant].name, c.test_dataset): c.role for c in results.grid.cells}
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

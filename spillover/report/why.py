"""Why scores changed: what stayed in the domain, what prompts do, answers that left the format, what moved inside.

Each part is a title, a text, and a table or a figure, as plain values for the page. A part without content is left out.
Contrasts come from `effects`, one family for each table; counts of answers come from `examples.Tally`, and changes
inside a model from `spillover.store.inside`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..analysis.contrasts import slope
from ..analysis.effects import EffectRow, compared_strategies, families, family_of, formats
from ..analysis.endings import Endings, endings
from ..analysis.measures import divergence_interval
from ..analysis.numbers import details, signed, signed_interval, written
from ..analysis.results import ROLE_TITLES, ROLES, Results
from ..experiment.factors import spelled
from ..experiment.suite import Role
from ..store.inside import Divergence, Inside
from ..text.stops import named
from . import forgetting
from .examples import Tally
from .sections import Table, table

CORNER = "reference ↓ answer →"
LISTED, SHOWN = 0.02, 16  # the smallest off-format rate that is listed, and the most rows
Part = dict[str, Any]
NOTHING: Part = {"title": "", "text": "", "table": None, "tables": [], "figure": None}


def parts(
    results: Results,
    inside: Mapping[str, Inside],
    tallies: Mapping[tuple[str, str], Tally],
    predicted: Part,
    weights: Part,
) -> list[Part]:
    """All parts with content, in reading order. `predicted` and `weights` are figures as the page takes them."""
    found = [
        *_contrasts(results),
        off_format(results, tallies),
        how_ended(results),
        confusion(results, tallies),
        {"figure": weights} if weights["drawing"] else None,
        divergence(results, inside),
        {"figure": predicted} if predicted["drawing"] else None,
        what_predicts(results, inside),
        unproven(inside),
    ]
    return [NOTHING | part for part in found if part]


CAPTION = "Points with 95 % intervals. ▲ ▼: beyond chance after Holm’s correction over this table"


def _contrasts(results: Results) -> Iterator[Part]:
    """A table for each family of effects."""
    base = slope(results, results.cells_of_base)
    adds = f"{signed(base.value)} {signed_interval(base.interval)}" if base else ""
    first, *others = formats(results)
    about = {
        "interaction": (
            "What stayed in the domain",
            "The change from the base in-domain minus the change elsewhere. Above zero, the gain did not carry over, "
            "or it was paid for elsewhere. Around zero, the change is the same everywhere.",
        ),
        "slope": (
            "What is left of in-context learning",
            "What each further demonstration adds to the score (the slope over shots), minus what it adds for the "
            "base. Below zero, fine-tuning has weakened in-context learning."
            + (f" For the base it adds {adds} over all test sets." if adds else ""),
        ),
        **{
            family_of(strategy, other): (
                f"{spelled(strategy)} minus {spelled(other)}",
                f"How {spelled(strategy)} differs from {spelled(other)} on the same training rows, by the number of "
                "demonstrations in the prompt.",
            )
            for strategy, other in compared_strategies(results).items()
        },
        "prompt": (
            "How much the prompt format matters",
            f"Score in prompt format {first} minus the score in {' or '.join(others)}.",
        ),
    }
    for family, rows in families(results).items():
        if family in about:
            title, text = about[family]
            yield {"title": title, "text": text, "table": _effects(rows, first if len(others) > 1 else "")}


def _effects(rows: Sequence[EffectRow], first: str) -> Table:
    """A family as a table. A note says which data an effect rests on. `first` is one of several prompt formats."""
    lines: dict[tuple[str, str], dict[str, Any]] = {}  # two recipes may share a name
    for row in rows:
        name, column = row.name, row.where
        if row.shots is not None:
            name, column = f"{row.name} − {row.less}, {row.where}", f"{row.shots} shots"
        elif row.family == "prompt" and first:
            name = f"{row.name}, {first} − {row.less}"
        line = lines.setdefault((row.variants[0].recipe_key, name), {"Variant": name})
        line[column] = {"text": written(row.effect), "note": details(row.effect)}
    roles = [ROLE_TITLES[role] for role in ROLES]  # the first recipe may lack one
    ordered = ["Variant", *(role for role in roles if any(role in line for line in lines.values()))]
    return table(CAPTION, [{name: line.get(name, "") for name in ordered} | line for line in lines.values()])


def off_format(results: Results, tallies: Mapping[tuple[str, str], Tally]) -> Part | None:
    """Answers that left the format, and how many of them are labels of the training task."""
    listed = [(key, tally) for key, tally in tallies.items() if tally.rate >= LISTED]
    if not listed:
        return None
    labels = {v.name: results.grid.labels_of_train_task.get(v.train_dataset or "") for v in results.grid.variants}
    ranked = sorted(listed, key=lambda item: -item[1].rate)
    rows = [
        {
            "Variant": variant,
            "Test set": results.tests[test].title or test,
            "Rate": f"{100 * tally.rate:.1f} %",
            "Off-format": f"{tally.off_format:,}",
            "Answers": f"{tally.n:,}",
            "Labels of the training task": f"{tally.trained_labels:,}" if labels[variant] else "–",
        }
        for (variant, test), tally in ranked[:SHOWN]
    ]
    more = f"; {len(ranked) - SHOWN} more in results.csv" if len(ranked) > SHOWN else ""
    return {
        "title": "Answers that left the format",
        "text": "When it generated freely, the model gave no label or option; for free text, nothing or a label. "
        "Forced choice hides this, because it scores an answer that the model would not have generated.",
        "table": table(f"Off-format rates{more}", rows),
    }


def how_ended(results: Results) -> Part | None:
    """How answers in free text ended, for each test set and variant."""
    found = endings(results)
    rows = [
        {
            "Test set": test.title or test.name,
            "Variant": variant.name,
            **_shares(found[variant.name, test.name]),
            "Stop": named(test.stop) or "–",
        }
        for test in results.grid.tests
        for variant in results.grid.variants
        if (variant.name, test.name) in found
    ]
    if not rows:
        return None
    return {
        "title": "How answers ended",
        "text": "An answer in free text ends at a stop string, at an end token of the model, or at the limit. "
        "A base model often runs on after its answer, and what it adds counts against it.",
        "table": table("Share of answers, over all shots and prompts", rows),
    }


def _shares(ended: Endings) -> dict[str, str]:
    titles = ("Cut by a stop", "Ended by itself", "At the limit")
    return {title: f"{100 * share:.0f} %" for title, share in zip(titles, ended, strict=True)}


def confusion(results: Results, tallies: Mapping[tuple[str, str], Tally]) -> Part | None:
    """How often each label was given for each reference."""
    matrices = []
    for (variant, test), tally in tallies.items():
        info = results.tests[test]
        if info.labels and tally.said:
            targets = dict.fromkeys([*info.labels, *(target for target, _ in tally.said)])
            rows = [{CORNER: target, **{x: str(tally.said[target, x]) for x in info.labels}} for target in targets]
            matrices.append(table(f"{variant} on {info.title or test}", rows))
    if not matrices:
        return None
    return {
        "title": "Confusion of labels",
        "text": "Answers over all shots and prompts. If one column holds nearly all of them, the model gives that "
        "label for any row.",
        "tables": matrices,
    }


def divergence(results: Results, inside: Mapping[str, Inside]) -> Part | None:
    """How far predictions moved: KL from the base, on plain text and on the answers of the test sets, by role."""
    roles = {(results.variants[c.variant].name, c.test): c.role for c in results.grid.cells}
    rows = []
    for name, seen in inside.items():
        if seen.neutral:
            ends = divergence_interval(seen.neutral)
            by_role: dict[Role | None, list[tuple[float, int]]] = {}
            for test, one in (seen.answers or {}).items():
                by_role.setdefault(roles.get((name, test)), []).extend(one.passages)
            nats = {role: f"{Divergence(tuple(passages)).nats:.2f}" for role, passages in by_role.items()}
            answers = {f"Answers, {ROLE_TITLES[role]}": nats.get(role, "") for role in ROLES}
            interval = f"[{ends.low:.4f}, {ends.high:.4f}]" if ends else "none: all passages alike"
            known = {"Plain text": f"{seen.neutral.nats:.4f}", "95 % interval": interval}
            rows.append({"Variant": name, **known, **answers})
    if not rows:
        return None
    return {
        "title": "How far predictions moved",
        "text": "KL(base || variant) in nats per token, over the whole vocabulary. On the answers of the test sets it "
        "measures what was trained for, or what spilled over. Plain text is English prose that is unrelated to every "
        "training set: a change there was not intended.",
        "table": table("KL from the base", rows),
    }


def what_predicts(results: Results, inside: Mapping[str, Inside]) -> Part | None:
    """How well what was measured inside recipes ranks what they lose."""
    if not (rows := forgetting.rows(results, inside)):
        return None
    return {
        "title": "What predicts the loss",
        "text": "Spearman’s rank correlation over recipes between a measure of change and the loss on all test sets "
        "that are not in-domain, with 95 % intervals that take recipes as independent. 1: the recipe that moved more "
        "always lost more. 0: no relation.",
        "table": table("Correlation with the loss outside", rows),
    }


def unproven(inside: Mapping[str, Inside]) -> Part | None:
    """Variants whose weights or predictions could not be compared with the base's."""
    rows = [
        {"Variant": name, "What": what, "Why": why}
        for name, seen in inside.items()
        for what, why in (("weights", seen.why_no_changes), ("predictions", seen.why_no_divergence))
        if why
    ]
    if not rows:
        return None
    return {
        "title": "Not proven to differ from the base",
        "text": "A variant whose weights were not loaded answers like the base, without an error. Therefore weights "
        "and predictions are compared with the base’s before a variant is tested. Here that was not possible.",
        "table": table("What could not be compared with the base", rows),
    }

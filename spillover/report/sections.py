"""The page's content, section by section, as plain values for its template.

Each function returns lists, dicts and strings. The template leaves out a section that is empty. Numbers are formatted
here and not in the template, except for scores and changes, which have filters.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..analysis.judge import RULINGS, Judgement, judge_all
from ..analysis.points import is_of_study
from ..analysis.results import ROLE_TITLES, Results
from ..analysis.summaries import recipe_changes
from ..analysis.verdict import caveats, verdicts
from ..experiment.claims import study_claims
from ..plan.grid import Grid
from ..store.open import open_store
from ..text.task import FIVE
from . import equal_gain, frontier
from . import kept as shares
from .evidence import MARKS, records
from .examples import Written
from .matrix import count, notes
from .tiles import matrices

Table = dict[str, Any]
NUMBERS = re.compile(r"(?:[\d\s.,;%+−±▲▼[\]–-]|of|seeds|rounding|\(no interval\))*")


def table(caption: str, rows: Iterable[Mapping[str, Any]]) -> Table:
    """A table for the template, of rows by column. Empty columns are left out; numbers are aligned to the right."""
    rows = list(rows)
    named = dict.fromkeys(name for row in rows for name in row)
    columns = [name for name in named if any(row.get(name, "") != "" for row in rows)]
    cells = [[row.get(name, "") for name in columns] for row in rows]
    texts = [[str(cell["text"] if isinstance(cell, dict) else cell) for cell in row] for row in cells]
    right = {i for i in range(1, len(columns)) if all(NUMBERS.fullmatch(row[i]) for row in texts)}
    return {"caption": caption, "columns": columns, "rows": cells, "numeric": right}


def everything(results: Results, folder: Path, answers: Written) -> dict[str, Any]:
    """All sections by the names that the template knows them under."""
    return {
        "protocol": results.grid.protocol,
        "earlier": f"{count(len(results.earlier), 'variant')}" if results.earlier else "",
        "small_print": list(small_print(results.grid)),
        "verdicts": (found := verdicts(results)),
        "caveats": caveats(results, found),
        "notes": notes(results),
        "front_tables": [
            *(table(one["caption"], one["rows"]) for one in frontier.tables(results)),
            *(table(one["caption"], one["rows"]) for one in equal_gain.tables(results)),
            *([table(shares.CAPTION, left)] if (left := list(shares.rows(results))) else []),
        ],
        "matrices": matrices(results, answers.tallies),
        "is_study": is_of_study(results.grid),
        **claims(judge_all(results, open_store(folder))),
        "has_examples": bool(answers.index),
        "data_sets": data_sets(results),
        "data_examples": data_examples(results, answers),
        "labels": label_table(results.grid),
        "formats": [{**one, "task": task_title(one["task"])} for one in answers.formats],
        "audit": audit(folder),
        "findings": findings(results.grid),
        "training": training(results, folder),
        "scoring": scoring(results),
        "missing": missing_cells(results),
        "versions": versions(results.receipts.values()),
    }


def small_print(grid: Grid) -> Iterator[str]:
    """Limits of the data, for the top of the page."""
    if any(test.source.startswith("builtin:") for test in grid.tests):
        yield "Test sets of the suite builtin are generated from templates. Their scores show how the program works."


def placer(results: Results) -> Callable[[float], str]:
    """A change's place on the common scale of the interval bars, -100 to 100."""
    intervals = [change.effect.interval for change in recipe_changes(results).values()]
    ends = [abs(end) for interval in intervals for end in (interval.low, interval.high)]
    reach = max(ends, default=0.0) or 1.0
    return lambda value: f"{100 * value / reach:.1f}"


def claims(judgements: Sequence[Judgement]) -> dict[str, Any]:
    """The experiment's own `claims`, and the `study_claims`."""
    of_study = study_claims()
    own = [one for one in judgements if one.claim not in of_study]
    return {"claims": _judged(own), "study_claims": _judged([one for one in judgements if one.claim in of_study])}


def _judged(judgements: Sequence[Judgement]) -> dict[str, Any] | None:
    """Claims with their evidence. Comparisons that have not run are named but not listed place by place."""
    if not judgements:
        return None
    items = [
        {**one, "mark": MARKS[one["ruling"]], "table": _evidence(one)}
        for one in sorted(records(judgements), key=lambda one: one["ruling"] == "missing")
    ]
    counts = Counter(item["ruling"] for item in items)
    said = ", ".join(f"{counts[ruling]} {ruling}" for ruling in RULINGS if counts[ruling])
    return {"intro": f"{said[0].upper()}{said[1:]}.", "judged": items}


def _evidence(claim: Mapping[str, Any]) -> Table:
    return table(
        f"Evidence for {claim['id']}",
        (
            {
                "Compared": one["what"],
                "Where": one["where"],
                "Expected": one["expected"],
                "Found": one["written"],
                "n": one["n"] or "–",
                "Verdict": one["ruling"],
                "Cells": f"{one['cells_there']} of {one['cells_wanted']}",
            }
            for one in claim["comparisons"]
            if one["ruling"] != "missing"
        ),
    )


def task_title(task: str) -> str:
    return FIVE[task].title if task in FIVE else task.replace("_", " ").capitalize()


def data_sets(results: Results) -> Table:
    """Table 1 of the study: test sets, their roles and where their rows come from."""
    roles: dict[str, dict[str, list[str]]] = {test.name: {} for test in results.grid.tests}
    for cell in results.grid.cells:
        train = results.variants[cell.variant].train_dataset
        if cell.role in ("in_domain", "out_of_domain") and train:
            trains = roles[cell.test].setdefault(ROLE_TITLES[cell.role], [])
            trains += [train] if train not in trains else []
    return table(
        "Test sets. A set is cross-task for every training set that its role does not name",
        (
            {
                "Test set": test.title or test.name,
                "Task": task_title(test.task),
                "Role": "; ".join(f"{role} for {', '.join(trains)}" for role, trains in roles[test.name].items())
                or ROLE_TITLES["cross_task"],
                "Rows": test.n,
                "Left out": test.excluded or "–",
                "Chance": "–" if test.chance is None else f"{100 * test.chance:.1f} %",
                "Source": {"text": test.source, "data": True},
                "Notes": "; ".join(test.notes),
            }
            for test in results.grid.tests
        ),
    )


def label_table(grid: Grid) -> Table:
    """Table 4 of the study."""
    own = {"multiple_choice": "options in each row", "generation": "free text"}
    labels = {test.task: ", ".join(test.labels or ()) or own[test.kind] for test in grid.tests}
    rows = ({"Task": task_title(task), "Labels": listed} for task, listed in labels.items())
    return table("Labels", rows)


def data_examples(results: Results, answers: Written) -> list[dict[str, Any]]:
    """Tables 2 and 3 of the study: a source and an example for each data set."""
    return [
        {"title": test.title or test.name, "source": test.source, **answers.first_rows[test.name]}
        for test in results.grid.tests
        if test.name in answers.first_rows
    ]


def audit(folder: Path) -> dict[str, Any] | None:
    """What the audit found in the data, if there was one."""
    lists = open_store(folder).audit().get("lists")
    if lists is None:
        return None
    rows = [
        {
            "List": one["name"],
            "What": defect["what"],
            "Level": defect["level"],
            "Rows": defect["count"] or "–",
            "Of": defect["of"],
            "For example": defect["example"],
        }
        for one in lists
        for defect in one["defects"]
    ]
    warned = sum(row["Level"] == "warning" for row in rows)
    text = f"Checked: {count(len(lists), 'list')} of rows. Found: {count(len(rows) - warned, 'note')}, "
    return {"text": f"{text}{count(warned, 'warning')}.", "table": table("Findings, list by list", rows)}


def findings(grid: Grid) -> Table:
    """Warnings and notes from before the run."""
    ranked = sorted(grid.warnings, key=lambda finding: finding.level != "warning")
    rows = ({"Where": finding.where, "Level": finding.level, "What": finding.what} for finding in ranked)
    return table("Findings before the run", rows)


def training(results: Results, folder: Path) -> Table:
    """The cost of training, from the receipts of the variants."""
    store = open_store(folder)
    receipts = {v: store.variant_receipt(v.key) for v in results.grid.variants if v.kind == "trained"}
    measured = any((receipt or {}).get("evaluations") for receipt in receipts.values())
    rows = []
    for variant, receipt in receipts.items():
        if receipt:
            loss, steps, planned = (receipt.get(name) for name in ("loss", "steps", "steps_planned"))
            rows.append(
                {
                    "Variant": variant.name,
                    "Samples": f"{receipt.get('rows', 0):,}",
                    "Steps": "–" if steps is None else f"{steps} of {planned}" if steps < (planned or 0) else steps,
                    "Loss": "–" if loss is None else f"{loss:.3f}",
                    **({"Lowest loss on validation rows": _best(receipt)} if measured else {}),
                    **_cost([receipt], seconds=".0f"),
                    "Seed": variant.seed,
                    **_how([receipt], "precision", "device"),
                }
            )
    return table("Training: tokens computed, and tokens without shared prefixes", rows)


def _best(receipt: Mapping[str, Any]) -> str:
    """The loss of the weights that were kept, if it was measured while they were trained."""
    best = receipt.get("best_step")
    found = [inside for step, inside, _ in receipt.get("evaluations") or () if step == best]
    return f"{found[0]:.3f}, after step {best}" if found else "–"


def scoring(results: Results) -> Table:
    """The cost of scoring, from the receipts of the cells."""
    missing = {cell.key for cell in results.missing}
    rows = []
    for variant in results.grid.variants:
        cells = results.cells_of([variant])
        done = [cell.key for cell in cells if cell.key not in missing]
        found = [results.receipts[key] for key in done if key in results.receipts]
        rows.append(
            {
                "Variant": variant.name,
                "Cells": f"{len(done)} of {len(cells)}",
                **_cost(found, seconds=".1f"),
                "Generated": f"{_total(found, 'tokens_generated'):,.0f}",
                **_how(found, "precision", "engine", "device"),
            }
        )
    return table("Scoring: tokens computed, and tokens without shared prefixes", rows)


def _cost(receipts: Sequence[Mapping[str, Any]], seconds: str) -> dict[str, str]:
    tokens, plain = _total(receipts, "tokens"), _total(receipts, "tokens_plain")
    return {
        "Seconds": f"{_total(receipts, 'seconds'):,{seconds}}",
        "Tokens": f"{tokens:,.0f}",
        "Without sharing": f"{plain:,.0f}",
        "Saved": f"{100 * (1 - tokens / plain):.0f} %" if plain else "–",
    }


def _total(receipts: Sequence[Mapping[str, Any]], name: str) -> float:
    return float(sum(receipt.get(name) or 0 for receipt in receipts))


def _how(receipts: Sequence[Mapping[str, Any]], *names: str) -> dict[str, str]:
    """The distinct values of each name, joined."""
    values = {name: dict.fromkeys(str(receipt[name]) for receipt in receipts if receipt.get(name)) for name in names}
    return {name.capitalize(): ", ".join(found) or "–" for name, found in values.items()}


def missing_cells(results: Results) -> list[str]:
    """How many cells have not run, a line for each variant and test set."""
    counts = Counter((results.variants[cell.variant].name, cell.test) for cell in results.missing)
    return [f"{variant} on {test}: {n}" for (variant, test), n in counts.items()]


def versions(receipts: Iterable[Mapping[str, Any]]) -> str:
    """Package versions. A package has several if cells were computed at different times."""
    found: dict[str, dict[str, None]] = {}
    for receipt in receipts:
        for name, version in (receipt.get("versions") or {}).items():
            found.setdefault(str(name), {})[str(version)] = None
    return ", ".join(f"{name} {' and '.join(versions)}" for name, versions in found.items())

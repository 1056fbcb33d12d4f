"""The page's content, section by section, as plain values for its template.

Each function returns lists, dicts and strings. The template leaves out a section that is empty. Numbers are formatted
here and not in the template, except for scores and changes, which have filters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..analysis.contrasts import ALPHA
from ..analysis.judge import RULINGS, Judgement, judge_all
from ..analysis.metrics import METRICS
from ..analysis.numbers import details, noise, points, written
from ..analysis.results import ROLE_TITLES, Results
from ..analysis.summaries import MatrixEntry, groups, matrix, recipe_changes
from ..analysis.verdict import caveats, verdicts
from ..plan.grid import Grid, TestInfo
from ..stats import MIN_ROWS
from ..store.store import Store
from ..text.task import FIVE
from .evidence import MARKS, records
from .examples import Tally, Written

SMALL_N = 100  # with fewer documents in a test set, the page says which changes could not have been detected
SHADES = (0.05, 0.15)  # from 5 and from 15 points on, a cell of the matrix is darker

Table = dict[str, Any]


def table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], numeric: Sequence[str] = ()) -> Table:
    """A table for the template, without empty columns. Columns named in `numeric` are aligned to the right."""
    rows = [list(row) for row in rows]
    kept = [i for i in range(len(columns)) if any(row[i] != "" for row in rows)]
    columns, rows = [columns[i] for i in kept], [[row[i] for i in kept] for row in rows]
    right = {i for i, name in enumerate(columns) if name in numeric}
    return {"caption": caption, "columns": columns, "rows": rows, "numeric": right}


def everything(results: Results, folder: Path, answers: Written) -> dict[str, Any]:
    """All sections by the names that the template knows them under."""
    return {
        "protocol": results.grid.protocol,
        "small_print": list(small_print(results.grid)),
        "verdicts": (found := verdicts(results)),
        "notes": [*caveats(results, found), *notes(results)],
        "matrices": matrices(results, answers.tallies),
        "claims": claims(judge_all(results, Store(folder))),
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


# --- verdict ----------------------------------------------------------------------------------------------------------


def notes(results: Results) -> Iterator[str]:
    """How to read the marks of the verdict and the matrix, and what so few rows cannot show."""
    compared = [entry for entry in matrix(results).values() if entry.change is not None]
    if compared:
        yield (
            f"▲ and ▼ mark changes beyond chance: p < {ALPHA} after Holm’s correction over all changes shown together, "
            f"and at least {MIN_ROWS} independent documents. Intervals are those of single changes, so an interval may "
            "exclude zero where no change is marked."
        )
    least = min((entry.n for entry in compared), default=SMALL_N)
    found = sorted(e.change.mde for e in compared if e.change and e.change.clusters >= MIN_ROWS)
    if least < SMALL_N and found:
        mde = found[len(found) // 2]
        yield f"The smallest test set has {_count(least, 'document')}. " + (
            f"After that correction a change of about {points(mde)} points on one test set is detected with 80 % "
            "power. Smaller changes often are not detected."
            if mde < 1
            else "After that correction no change on one test set is detected with 80 % power."
        )
    if any(entry.cells < entry.planned for entry in matrix(results).values()):
        yield "A score with * is the mean of a part of its cells. Changes compare only cells that both variants have."


def small_print(grid: Grid) -> Iterator[str]:
    """Limits of the data, for the top of the page."""
    if any(test.source.startswith("builtin:") for test in grid.tests):
        yield "Test sets of the suite builtin are generated from templates. Their scores show how the program works."


def placer(results: Results) -> Callable[[float], str]:
    """A change's place on the common scale of the interval bars, -100 to 100."""
    ends = [
        abs(end) for c in recipe_changes(results).values() for end in (c.effect.interval.low, c.effect.interval.high)
    ]
    reach = max(ends, default=0.0) or 1.0
    return lambda value: f"{100 * value / reach:.1f}"


# --- the matrix -------------------------------------------------------------------------------------------------------


def matrices(results: Results, tallies: Mapping[tuple[str, str], Tally]) -> list[dict[str, Any]]:
    """A table for each training set: rows are test sets by role, columns the base and the variants."""
    names = [variant.name for variant in results.grid.variants]
    tests = [test.name for test in results.grid.tests]
    found = []
    for group in groups(results):
        variants = [*([results.base] if results.base else []), *group.variants]
        parts = [
            {
                "role": ROLE_TITLES[role],
                "rows": [
                    {
                        "title": test.title or test.name,
                        "metric": METRICS[test.metrics[0]].title,
                        "n": n_of(results, test),
                        "tiles": [
                            {
                                **_tile(matrix(results).get((variant.name, test.name))),
                                "off": tallies.get((variant.name, test.name), Tally()).rate,
                                "v": names.index(variant.name),
                                "t": tests.index(test.name),
                            }
                            for variant in variants
                        ],
                    }
                    for test in of_role
                ],
            }
            for role, of_role in group.columns
        ]
        found.append({"title": group.title, "variants": [v.name for v in variants], "parts": parts})
    return found


def n_of(results: Results, test: TestInfo) -> str:
    """Documents that entries of a test set rest on."""
    counts = sorted({entry.n for (_, name), entry in matrix(results).items() if name == test.name}) or [test.n]
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]}–{counts[-1]}"


def _tile(entry: MatrixEntry | None) -> dict[str, Any]:
    tile: dict[str, Any] = {"entry": entry, "shade": "", "arrow": "", "title": _tile_title(entry) if entry else ""}
    tile["noise"] = noise(entry.change) if entry and entry.change else ""
    if entry and entry.delta is not None and entry.is_clear:
        gain = entry.delta > 0
        depth = 1 + sum(abs(entry.delta) >= step for step in SHADES)
        tile |= {"shade": f"{'gain' if gain else 'loss'} s{depth}", "arrow": "▲ " if gain else "▼ "}
    return tile


def _tile_title(entry: MatrixEntry) -> str:
    """A tile in words, for screen readers."""
    words = (
        f"{entry.variant} on {entry.test}: {entry.metric.title} {points(entry.score)}, 95 % interval "
        f"{points(entry.interval.low)} to {points(entry.interval.high)}, n {entry.n}, "
        f"{entry.cells} of {entry.planned} cells"
    )
    if entry.change is None:
        return words
    end = "" if entry.is_clear else "; insufficient evidence"
    return f"{words}; change from the base {written(entry.change)}{end}; {details(entry.change)}"


# --- claims -----------------------------------------------------------------------------------------------------------


def claims(judgements: Sequence[Judgement]) -> dict[str, Any] | None:
    """The claims with their evidence. Comparisons that have not run are named but not listed place by place."""
    if not judgements:
        return None
    items = [
        {
            **record,
            "mark": MARKS[record["ruling"]],
            "comparisons": [one for one in record["comparisons"] if one["ruling"] != "missing"],
        }
        for record in records(judgements)
    ]
    counts = {ruling: sum(item["ruling"] == ruling for item in items) for ruling in RULINGS}
    said = ", ".join(f"{count} {ruling}" for ruling, count in counts.items() if count)
    order = {ruling: i for i, ruling in enumerate(RULINGS)}
    return {
        "intro": f"{said[0].upper()}{said[1:]}.",
        "judged": sorted(items, key=lambda item: order[item["ruling"]] > 2),
    }


# --- data and prompts -------------------------------------------------------------------------------------------------


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
        "Test sets, as Table 1 of the study. A set is cross-task for every training set that its role does not name",
        ["Test set", "Task", "Role", "Rows", "Left out", "Source", "Notes"],
        (
            [
                test.title or test.name,
                task_title(test.task),
                "; ".join(f"{role} for {', '.join(trains)}" for role, trains in roles[test.name].items())
                or ROLE_TITLES["cross_task"],
                test.n,
                test.excluded or "–",
                test.source,
                "; ".join(test.notes),
            ]
            for test in results.grid.tests
        ),
        ["Rows", "Left out"],
    )


def label_table(grid: Grid) -> Table:
    """Table 4 of the study."""
    labels = {test.task: ", ".join(test.labels) if test.labels else "free text" for test in grid.tests}
    rows = ([task_title(task), listed] for task, listed in labels.items())
    return table("Labels, as Table 4 of the study", ["Task", "Labels"], rows)


def data_examples(results: Results, answers: Written) -> list[dict[str, str]]:
    """Tables 2 and 3 of the study: a source and an example for each data set."""
    return [
        {"title": test.title or test.name, "source": test.source, **answers.first_rows[test.name]}
        for test in results.grid.tests
        if test.name in answers.first_rows
    ]


def audit(folder: Path) -> dict[str, Any] | None:
    """What the audit found in the data, if it was written."""
    kept = Store(folder).audit()
    if kept is None:
        return None
    lists = kept["lists"]
    found = [(one, defect) for one in lists for defect in one["defects"]]
    warned = sum(defect["level"] == "warning" for _, defect in found)
    text = f"Checked: {_count(len(lists), 'list')} of rows. Found: {_count(len(found) - warned, 'note')}, "
    text += f"{_count(warned, 'warning')}."
    rows = [
        [one["name"], defect["what"], defect["level"], defect["count"] or "–", defect["of"], defect["example"]]
        for one, defect in found
    ]
    columns = ["List", "What", "Level", "Rows", "Of", "For example"]
    findings = table("Findings, list by list", columns, rows, ["Rows", "Of"]) if rows else None
    return {"text": text, "table": findings}


# --- what ran ---------------------------------------------------------------------------------------------------------


def findings(grid: Grid) -> Table | None:
    """Warnings and notes from before the run."""
    if not grid.warnings:
        return None
    ranked = sorted(grid.warnings, key=lambda finding: finding.level != "warning")
    rows = ([finding.where, finding.level, finding.what] for finding in ranked)
    return table("Findings before the run", ["Where", "Level", "What"], rows)


TRAINED = ["Samples", "Steps", "Loss", "Seconds", "Tokens", "Without sharing", "Saved"]


def training(results: Results, folder: Path) -> Table | None:
    """The cost of training, from the receipts of the variants."""
    store = Store(folder)
    rows = []
    for variant in results.grid.variants:
        receipt = store.variant_receipt(variant.key) if variant.kind == "trained" else None
        if receipt:
            tokens, plain = receipt.get("tokens") or 0, receipt.get("tokens_plain") or 0
            loss = receipt.get("loss")
            learnt = [f"{receipt.get('rows', 0):,}", receipt.get("steps", "–"), "–" if loss is None else f"{loss:.3f}"]
            cost = [f"{receipt.get('seconds') or 0:,.0f}", f"{tokens:,}", f"{plain:,}", _saved(tokens, plain)]
            how = [variant.seed, receipt.get("precision", "–"), receipt.get("device", "–")]
            rows.append([variant.name, *learnt, *cost, *how])
    columns = ["Variant", *TRAINED, "Seed", "Precision", "Device"]
    caption = "Training: tokens computed, and tokens without shared prefixes"
    return table(caption, columns, rows, [*TRAINED, "Seed"]) if rows else None


SCORED = ["Cells", "Seconds", "Tokens", "Without sharing", "Saved", "Generated"]


def scoring(results: Results) -> Table:
    """The cost of scoring, from the receipts of the cells."""
    missing = {cell.key for cell in results.missing}
    rows = []
    for variant in results.grid.variants:
        cells = results.cells_of([variant])
        found = [results.receipts[c.key] for c in cells if c.key in results.receipts and c.key not in missing]
        tokens, plain = _total(found, "tokens"), _total(found, "tokens_plain")
        done = sum(cell.key not in missing for cell in cells)
        rows.append(
            [variant.name, f"{done} of {len(cells)}", f"{_total(found, 'seconds'):,.1f}", f"{tokens:,.0f}"]
            + [f"{plain:,.0f}", _saved(tokens, plain), f"{_total(found, 'tokens_generated'):,.0f}"]
            + [_said(receipt.get(name) for receipt in found) for name in ("precision", "engine", "device")]
        )
    columns = ["Variant", *SCORED, "Precision", "Engine", "Device"]
    caption = "Scoring: tokens computed, and tokens without shared prefixes"
    return table(caption, columns, rows, SCORED)


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


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"


def _saved(tokens: float, plain: float) -> str:
    return f"{100 * (1 - tokens / plain):.0f} %" if plain else "–"


def _total(receipts: Sequence[Mapping[str, Any]], name: str) -> float:
    return float(sum(receipt.get(name) or 0 for receipt in receipts))


def _said(values: Iterable[Any]) -> str:
    """The distinct values, joined."""
    return ", ".join(dict.fromkeys(str(value) for value in values if value)) or "–"

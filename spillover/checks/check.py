"""What a plan will run into, found before anything is computed: in its data, its prompts and its resources.

`make_plan` has read data and tokenizer already and refused what cannot be. What is left are things that are possible
and yet change what a number means. Three rooms look for them, and `check` puts together what they find:

    data.audit   every row that the sources hold, also beyond `test.limit`: duplicates, leaks, labels, damaged text
    preflight    what the tokenizer makes of prompts, labels, samples and answers, by the functions that a run uses
    here         labels that demonstrations do not show evenly, and disk

What is found is a warning or a note (`spillover.plan.grid.Finding`). What makes a run impossible is raised as the error
that the run would raise.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from heapq import nlargest
from pathlib import Path
from typing import Any

from ..disk import free_space
from ..errors import Finding, Level, StoreError
from ..plan.cost import (
    CHECKPOINT_WEIGHTS,
    NOTHING,
    Done,
    cell_bytes,
    gigabytes,
    stays,
    variant_bytes,
    weight_shapes,
)
from ..plan.plan import Plan
from .audit import Audit
from .defects import as_counts, uneven
from .found import Preflight, count
from .prompts import preflight
from .rows import audit_sources, clean_split


@dataclass(frozen=True)
class Checked:
    """All that was found. `findings` are its lines, warnings first, those of audit and preflight among them."""

    audit: Audit
    preflight: Preflight
    clean: dict[str, Any]
    findings: tuple[Finding, ...]

    @property
    def warnings(self) -> int:
        return sum(finding.level == "warning" for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """One document: the lines, the audit with row numbers, the clean split and the preflight."""
        return {
            "findings": [asdict(finding) for finding in self.findings],
            "audit": self.audit.to_json(),
            "clean": self.clean,
            "preflight": self.preflight.to_json(),
        }


def check(plan: Plan, folder: Path, data_dir: Path | None = None, done: Done = NOTHING) -> Checked:
    """Everything worth knowing before a run into `folder`, where `done` is there. Raises what a run would raise.

    `data_dir` is the study's release, as `make_plan` was given it.
    """
    looked = preflight(plan)
    audited = audit_sources(plan, data_dir)
    others = [*plan.grid.warnings, *looked.findings(), *_demonstrations(plan, audited), *disk(plan, folder, done)]
    lines = sorted([*audited.findings(), *_merged(others)], key=lambda finding: finding.level != "warning")
    return Checked(audited, looked, clean_split(plan), tuple(lines))


def _merged(findings: Iterable[Finding]) -> list[Finding]:
    """The same of several places, said once."""
    places: dict[tuple[Level, str], list[str]] = {}
    for finding in findings:
        places.setdefault((finding.level, finding.what), []).append(finding.where)
    return [Finding(level, what, " · ".join(dict.fromkeys(wheres))) for (level, what), wheres in places.items()]


def _demonstrations(plan: Plan, audited: Audit) -> Iterator[Finding]:
    """Labels that are not shown evenly, where other demonstrations are shown than the first of the set's own list.

    Of those the audit has told.
    """
    own = {one.rows.dataset: [row.doc_id for row in one.rows.rows] for one in audited.lists if one.rows.part == "demos"}
    found: dict[tuple[str, int], dict[int, str]] = {}
    for sheet in plan.sheets.values():
        told = [demo.doc_id for demo in sheet.demos] == own.get(sheet.test, [])[: sheet.shots]
        labels = sheet.task.labels if sheet.demos and not told else None
        counts = uneven([demo.target for demo in sheet.demos], labels) if labels else None
        if counts:
            found.setdefault((sheet.test, sheet.draw), {})[sheet.shots] = as_counts(counts)
    for (test, draw), by_shots in found.items():
        listed = "; ".join(f"{listed} at {count(shots, 'shot')}" for shots, listed in sorted(by_shots.items()))
        where = f"{test}, draw {draw}" if len(plan.experiment.test.draws) > 1 else test
        yield Finding("note", f"demonstrations are unbalanced: {listed}", where)


# --- disk -----------------------------------------------------------------------------------------


def disk(plan: Plan, folder: Path, done: Done = NOTHING, devices: int = 1) -> Iterator[Finding]:
    """Weights that stay, answers, and what the trainings under way need, one on each device.

    Raises StoreError where the largest of them, as many as there are devices, do not fit.
    """
    coming = [job for job in plan.jobs if not done.is_made(job)]
    cells = sum(cell_bytes(plan.sheets[cell.condition]) for cell in plan.grid.cells if cell.key not in done.cells)
    shapes = weight_shapes(plan.experiment, plan.base)
    if coming and shapes is None:
        yield Finding("note", "how much disk the variants need is known once the model's weights are here", str(folder))
    sizes = [(job, variant_bytes(shapes, job) or 0) for job in coming]
    at_once = nlargest(devices, sizes, key=lambda pair: pair[1])
    training = sum(size for _, size in at_once) * (1 + CHECKPOINT_WEIGHTS)
    kept = sum(size for job, size in sizes if stays(job, plan.experiment))
    passing = training - sum(size for job, size in at_once if stays(job, plan.experiment))
    free = free_space(folder)
    if training + cells * bool(not coming) > free:
        several = len(at_once) > 1
        who = f"{len(at_once)} variants at once and their checkpoints" if several else "one variant and its checkpoint"
        raise StoreError(
            f"no disk: {who} need {gigabytes(training)}, {gigabytes(free)} are free",
            where=str(folder),
            allowed=f"free some, {'give fewer devices, ' * several}or give another --output_path",
        )
    needed = kept + cells + passing
    what = (
        f"needs about {gigabytes(needed)} of disk ({gigabytes(kept)} for weights that stay, {gigabytes(cells)} for "
        f"answers, the rest while training), {gigabytes(free)} are free"
    )
    if needed > free:
        yield Finding("warning", f"{what}: set keep: adapter or none, or give another --output_path", str(folder))
    elif shapes or not coming:
        yield Finding("note", what, str(folder))

"""What may go wrong in a plan, found before anything is computed: in its data, its prompts and on the disk.

`make_plan` has read data and tokenizer and has refused what is impossible. Left are things that are possible but change
the meaning of a number. `check` collects them:

    checks.rows      every row of the sources, also beyond `test.limit`: duplicates, leaks, labels, damaged text
    checks.prompts   what the tokenizer does with prompts, labels and answers, by the functions that a run uses
    checks.training  the same for training samples
    here             demonstrations that do not show the labels evenly, and disk

Each is a `Finding`: a warning or a note. What makes a run impossible is raised as the error of the run. What takes a
model to find out is in `work.base_check`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from heapq import nlargest
from pathlib import Path
from typing import Any

from .. import models
from ..disk import free_space
from ..errors import DataError, Finding, Level, StoreError
from ..plan.cost import (
    NOTHING,
    Done,
    cell_bytes,
    gigabytes,
    stays,
    variant_bytes,
    weight_shapes,
    work_bytes,
)
from ..plan.plan import Plan
from .audit import Audited
from .defects import as_counts, even_shots, unanswered, uneven
from .kinds import mended
from .overlap import NOUNS
from .prompts import Preflight, preflight
from .rows import Counted, audit_sources, clean_split, scored_rows, trained_rows
from .training import check_training, count, largest, of_a_kind, warmup


@dataclass(frozen=True)
class Checked:
    """The results of all checks. `findings` are their lines, those of audit and preflight included, warnings first."""

    plan: Plan = field(repr=False)
    audit: Sequence[Audited]
    preflight: Preflight
    findings: tuple[Finding, ...]

    @cached_property
    def clean(self) -> dict[str, Any]:
        """The clean split of the run."""
        return clean_split(self.plan)

    @property
    def warnings(self) -> int:
        return sum(finding.level == "warning" for finding in self.findings)

    def with_more(self, findings: Iterable[Finding]) -> Checked:
        """The same with what was found elsewhere."""
        return replace(self, findings=_warnings_first([*self.findings, *findings]))

    def to_json(self) -> dict[str, Any]:
        """One document: the lines, the audit with row numbers, the clean split and the preflight."""
        return {
            "findings": [asdict(finding) for finding in self.findings],
            "audit": [one.to_json() for one in self.audit],
            "clean": self.clean,
            "preflight": self.preflight.to_json(),
        }


def check(
    plan: Plan,
    folder: Path,
    data_dir: Path | None = None,
    done: Done = NOTHING,
    progress: Counted = lambda done, total: None,
) -> Checked:
    """All checks before a run into `folder`, in which `done` exists already. Raises the errors of a run.

    `data_dir` is the study's release, as for `make_plan`.
    """
    if plan.experiment.engine == "vllm":
        models.refuse_without_vllm()
    prompts, audited = preflight(plan), audit_sources(plan, data_dir, progress)
    others = [*plan.grid.warnings, *prompts.findings(), *warmup(plan)]
    others += [*_demonstrations(plan, audited), *disk(plan, folder, done)]
    of_rows = [finding for one in audited for finding in one.findings()]
    return Checked(plan, audited, prompts, _warnings_first([*of_rows, *_merged(others)]))


def _warnings_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda finding: finding.level != "warning"))


def beforehand(plan: Plan) -> list[Finding]:
    """What `plan` and `run` say of a plan, from the rows that it uses: the quick part of `check`.

    That is what the plan itself has found, rows without an answer, and training samples that are too long.
    """
    found = [*plan.grid.warnings, *warmup(plan)]
    for rows in (*scored_rows(plan), *trained_rows(plan)):
        found += [Finding(one.level, one.line(NOUNS[rows.part]), rows.name) for one in unanswered(rows.rows)]
    for job in largest(plan.trainings, of_a_kind):
        try:
            lines = check_training(plan, job).findings(plan.encoder.max_context)
            found += [finding for finding in lines if finding.level == "warning"]
        except DataError as error:  # this training will fail; what else is planned can be done
            found.append(Finding("warning", error.what, error.where or job.variant.name))
    return _merged(found)


def _merged(findings: Iterable[Finding]) -> list[Finding]:
    """Findings with the same text become one, with all their places."""
    places: dict[tuple[Level, str], list[str]] = {}
    for finding in findings:
        places.setdefault((finding.level, finding.what), []).append(finding.where)
    return [Finding(level, what, " · ".join(dict.fromkeys(wheres))) for (level, what), wheres in places.items()]


def _demonstrations(plan: Plan, audited: Sequence[Audited]) -> Iterator[Finding]:
    """Demonstrations that do not show the labels evenly. The audit reports those that begin the set's own list."""
    own = {one.rows.dataset: [row.doc_id for row in one.rows.rows] for one in audited if one.rows.part == "demos"}
    found: dict[tuple[str, int], dict[int, str]] = {}
    labels_of = {sheet.test: sheet.task.labels or () for sheet in plan.sheets.values()}
    for sheet in plan.sheets.values():
        reported = [demo.doc_id for demo in sheet.demos] == own.get(sheet.test, [])[: sheet.shots]
        labels = sheet.task.labels if sheet.demos and not reported else None
        if labels and (counts := uneven([demo.target for demo in sheet.demos], labels)):
            found.setdefault((sheet.test, sheet.draw), {})[sheet.shots] = as_counts(counts)
    for (test, draw), by_shots in found.items():
        listed = "; ".join(f"{listed} at {count(shots, 'shot')}" for shots, listed in sorted(by_shots.items()))
        where = f"{test}, draw {draw}" if len(plan.experiment.test.draws) > 1 else test
        yield Finding("note", f"demonstrations are unbalanced: {listed}; {even_shots(labels_of[test])}", where)


# --- disk -----------------------------------------------------------------------------------------


def disk(plan: Plan, folder: Path, done: Done = NOTHING, devices: int = 1) -> Iterator[Finding]:
    """The disk space for weights that stay, for answers, and for trainings at work, one on each device.

    Raises StoreError if there is not enough for the largest trainings, one on each device.
    """
    coming = [job for job in plan.jobs if not done.is_made(job)]
    cells = sum(
        cell_bytes(plan.sheets[cell.condition])
        for cell in plan.grid.asked(done.unasked).values()
        if cell.key not in done.cells
    )
    shapes = weight_shapes(plan.experiment, plan.base)
    if coming and shapes is None:
        yield Finding("note", "the disk space for variants is unknown until the model's weights are here", str(folder))
    sizes = [(job, variant_bytes(shapes, job) or 0) for job in coming]
    at_once = nlargest(devices, sizes, key=lambda pair: work_bytes(*pair))
    training = sum(work_bytes(job, size) for job, size in at_once)
    kept = sum(size for job, size in sizes if stays(job, plan.experiment))
    passing = training - sum(size for job, size in at_once if stays(job, plan.experiment))
    free = free_space(folder)
    if training + cells * bool(not coming) > free:
        several = len(at_once) > 1
        who = f"{len(at_once)} variants at once and their checkpoints" if several else "one variant and its checkpoints"
        raise StoreError(
            f"no disk: {who} need {gigabytes(training)}, {gigabytes(free)} are free",
            where=str(folder),
            allowed=f"free some, {'give fewer devices, ' * several}or give another --output_path",
        )
    needed = kept + cells + passing
    what = (
        f"needs about {gigabytes(needed)} of disk ({gigabytes(kept)} for weights that are kept, {gigabytes(cells)} for "
        f"answers, the rest during training); {gigabytes(free)} are free"
    )
    if needed > free:
        yield Finding("warning", mended(what, "disk"), str(folder))
    elif shapes or not coming:
        yield Finding("note", what, str(folder))

"""The audit, asked of a plan: before a run of all that its sources hold, in a run of what it scores and trains on.

`audit_sources` is for `spillover check`: whole test sets, whatever `test.limit` says, and rows as they are before a
reader leaves any out or mends them. `audit_run` is for the run, which writes it to `audit.json` beside its grid. It
reads nothing, and has with the audit of the plan's own rows the *clean split*, by which scores are given on clean rows
too and rows are resampled:

    leaked     training set -> test set -> doc_ids: rows that leak from it (`data.overlap`) at the largest size planned
    clusters   test set -> doc_id -> component: rows of one component share a field, so they are not independent

A variant that was trained elsewhere (`variants: trained_on`) has the leaks of its data set where the plan trains on
that too; else its rows are not known.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from ..data.load import load_untouched
from ..data.sources import Places
from ..errors import SourceUnavailable
from ..plan.jobs import TrainJob
from ..plan.plan import Plan
from .audit import Audit, audit
from .overlap import RowSet, clusters, leaking, near_rows


def audit_sources(plan: Plan, data_dir: Path | None) -> Audit:
    """All rows of the plan's sources. `data_dir` is the study's release, as `make_plan` was given it."""
    return audit(list(_source_rows(plan, Places(plan.base, data_dir))), lambda texts: _tokens(plan, texts))


def audit_run(plan: Plan) -> dict[str, Any]:
    """The clean split, and `lists`: the audit of the rows that are scored, shown and trained on. As JSON."""
    lists = [*scored_rows(plan), *_shown_rows(plan), *trained_rows(plan)]
    return {**clean_split(plan), "lists": audit(lists, lambda texts: _tokens(plan, texts)).to_json()}


def clean_split(plan: Plan) -> dict[str, Any]:
    """`leaked` and `clusters` of the rows that a plan scores, as JSON."""
    tests, trained = scored_rows(plan), trained_rows(plan, shown=True)
    pairs = list(product(range(len(tests)), range(len(tests), len(tests) + len(trained))))
    near = near_rows([*tests, *trained], pairs)
    leaked: dict[str, dict[str, list[int]]] = {rows.dataset: {} for rows in trained}
    for n, m in pairs:
        test, seen = tests[n], trained[m - len(tests)]
        places = leaking(test, seen, near[n, m])
        leaked[seen.dataset][test.dataset] = [test.rows[place].doc_id for place in sorted(places)]
    return {"clusters": {test.dataset: _numbered(test) for test in tests}, "leaked": leaked}


def _numbered(rows: RowSet) -> dict[str, int]:
    return {str(row.doc_id): component for row, component in zip(rows.rows, clusters(rows), strict=True)}


# --- rows of a plan -------------------------------------------------------------------------------


def scored_rows(plan: Plan) -> list[RowSet]:
    """The rows of every test set that are scored: the same at every shot count and in every format."""
    sheets = {sheet.test: sheet for sheet in plan.sheets.values()}
    rows = {name: [row.example for row in sheet.questions] for name, sheet in sheets.items()}
    return [
        RowSet(name, "test", sheet.task, rows[name], scored=frozenset(row.doc_id for row in rows[name]))
        for name, sheet in sheets.items()
    ]


def trained_rows(plan: Plan, shown: bool = False) -> list[RowSet]:
    """The rows of every training set at its largest size. `shown`: and the demonstrations in its samples."""
    found: dict[str, RowSet] = {}
    for jobs in _by_training_set(plan).values():
        train = max((job.rows for job in jobs), key=lambda rows: len(rows.examples))
        demos = [demo for job in jobs for demo in job.demos] if shown else []
        found[train.name] = RowSet(train.name, "train", train.task, [*train.examples, *demos])
    return list(found.values())


def _by_training_set(plan: Plan) -> dict[str, list[TrainJob]]:
    by_name: dict[str, list[TrainJob]] = {}
    for job in plan.trainings:
        by_name.setdefault(job.rows.name, []).append(job)
    return by_name


def _shown_rows(plan: Plan) -> list[RowSet]:
    """The demonstrations of every test set at its most shots, as the first draw has them."""
    most = {sheet.test: sheet for sheet in sorted(plan.sheets.values(), key=lambda sheet: (sheet.shots, -sheet.draw))}
    return [RowSet(name, "demos", sheet.task, sheet.demos) for name, sheet in most.items() if sheet.demos]


def _source_rows(plan: Plan, places: Places) -> Iterator[RowSet]:
    """All that the sources hold, as they hold it: test sets, their demonstrations, training sets at every size."""
    specs = plan.experiment.all_datasets()
    for test in scored_rows(plan):
        name, task, spec = test.dataset, test.task, specs[test.dataset]
        asked = max((size for source in spec.test for size in source.sizes), default=None)
        yield RowSet(name, "test", task, load_untouched(name, "test", spec, task, None, places), asked, test.scored)
        try:
            demos = load_untouched(name, "demos", spec, task, None, places)
        except SourceUnavailable:  # the plan has a warning already
            demos = ()
        if demos:
            shots = tuple(sorted({sheet.shots for sheet in plan.sheets.values() if sheet.test == name}))
            yield RowSet(name, "demos", replace(task, shots=shots), demos)
    trained = {(job.rows.name, job.rows.size): job.rows.task for job in plan.trainings}
    for (name, size), task in trained.items():
        yield RowSet(name, "train", task, load_untouched(name, "train", specs[name], task, size, places), size)


def _tokens(plan: Plan, texts: Sequence[str]) -> list[int]:
    begins = len(plan.encoder.prefix)
    return [len(ids) - begins for ids in plan.encoder.prompt_for_generation(texts)]

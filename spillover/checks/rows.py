"""The rows of a plan, audited; and the clean split.

`audit_sources` is for `spillover check`. It reads whole test sets, whatever `test.limit` is, and rows as their source
has them. `audit_run` is for a run: it reads nothing, and audits the rows that are scored, shown and trained on. It also
has the *clean split*, which gives scores on clean rows and the units of resampling:

    leaked     training set -> test set -> doc_ids: rows that leak from its largest size (`data.alike`)
    clusters   test set -> doc_id -> component: rows of one component share a field, so they are not independent

A variant that was trained elsewhere (`variants: trained_on`) has the leaks of its data set if the plan trains on that
set. Otherwise its rows are unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from ..data.alike import RowSet, clusters, leaking, near_rows
from ..data.load import load_untouched
from ..data.rows import TrainSet
from ..data.sources import Places
from ..errors import SourceUnavailable
from ..plan.plan import Plan
from ..text.task import Example
from .audit import MARKED, PAIRED, READ, SEARCHED, Audited, audit
from .training import largest

Counted = Callable[[int, int], None]
"""Called now and then with what is done, and with all there is to do."""


def audit_sources(plan: Plan, data_dir: Path | None, progress: Counted = lambda done, total: None) -> list[Audited]:
    """All rows of the plan's sources. `data_dir` is the study's release, as for `make_plan`."""
    lists: list[RowSet] = []
    done, planned = 0, sum(len(one.rows) for one in (*scored_rows(plan), *trained_rows(plan)))

    def step(rows: int) -> None:
        nonlocal done
        done += rows
        known = max(planned, sum(len(one.rows) for one in lists))
        progress(done, max(done, (READ + MARKED + PAIRED + SEARCHED) * known))

    for one in _source_rows(plan, Places(plan.base, data_dir, plan.encoder.chat_template)):
        lists.append(one)
        step(READ * len(one.rows))
    return audit(lists, partial(_count_tokens, plan), step)


def audit_run(plan: Plan) -> dict[str, Any]:
    """The clean split, and `lists`: the audit of the rows that are scored, shown and trained on. As JSON."""
    most = {sheet.test: sheet for sheet in sorted(plan.sheets.values(), key=lambda sheet: (sheet.shots, -sheet.draw))}
    shown = [RowSet(name, "demos", sheet.task, sheet.demos) for name, sheet in most.items() if sheet.demos]
    lists = [*scored_rows(plan), *shown, *trained_rows(plan)]
    return {**clean_split(plan), "lists": [one.to_json() for one in audit(lists, partial(_count_tokens, plan))]}


def clean_split(plan: Plan) -> dict[str, Any]:
    """`leaked` and `clusters` of the rows that a plan scores, as JSON."""
    tests = scored_rows(plan)
    owned = [(rows.dataset, rows) for rows in trained_rows(plan, shown=True)] + replayed_rows(plan)
    pairs = list(product(range(len(tests)), range(len(tests), len(tests) + len(owned))))
    near = near_rows([*tests, *(rows for _, rows in owned)], pairs)
    found: dict[str, dict[str, set[int]]] = {owner: {test.dataset: set() for test in tests} for owner, _ in owned}
    for n, m in pairs:
        owner, rows = owned[m - len(tests)]
        found[owner][tests[n].dataset] |= leaking(tests[n], rows, near[n, m])
    leaked = {
        owner: {test.dataset: [test.rows[place].doc_id for place in sorted(of[test.dataset])] for test in tests}
        for owner, of in found.items()
    }
    numbered = {test.dataset: zip(test.rows, clusters(test), strict=True) for test in tests}
    return {
        "clusters": {name: {str(row.doc_id): number for row, number in rows} for name, rows in numbered.items()},
        "leaked": leaked,
    }


# --- rows of a plan -------------------------------------------------------------------------------


def scored_rows(plan: Plan) -> list[RowSet]:
    """The scored rows of every test set. They are the same at every shot count and in every format."""
    sheets = {sheet.test: sheet for sheet in plan.sheets.values()}
    rows = {name: [row.example for row in sheet.questions] for name, sheet in sheets.items()}
    return [
        RowSet(name, "test", sheet.task, rows[name], scored=frozenset(row.doc_id for row in rows[name]))
        for name, sheet in sheets.items()
    ]


def trained_rows(plan: Plan, shown: bool = False) -> list[RowSet]:
    """The rows of every training set at its largest size. `shown`: with the demonstrations in its samples."""
    demos: dict[str, list[Example]] = {}
    for job in plan.trainings:
        demos.setdefault(job.rows.name, []).extend(job.demos if shown else ())
    trained = [job.rows for job in largest(plan.trainings, lambda job: job.rows.name)]
    return [RowSet(rows.name, "train", rows.task, [*rows.examples, *demos[rows.name]]) for rows in trained]


def replayed_rows(plan: Plan) -> list[tuple[str, RowSet]]:
    """The rows of other data that trainings replay, each list with the training set beside which that is done.

    What leaks from them leaks for every training on that set, so that all of these are scored on the same clean rows.
    """
    most: dict[tuple[str, str], TrainSet] = {}
    for job in plan.trainings:
        for one in job.others:
            known = most.setdefault((job.rows.name, one.rows.name), one.rows)
            most[job.rows.name, one.rows.name] = max(known, one.rows, key=lambda rows: len(rows.examples))
    return [(owner, RowSet(rows.name, "train", rows.task, rows.examples)) for (owner, _), rows in most.items()]


def _source_rows(plan: Plan, places: Places) -> Iterator[RowSet]:
    """All rows of the sources, as these have them: test sets, their demonstrations, training sets at every size."""
    specs = plan.experiment.all_datasets()
    for test in scored_rows(plan):
        if test.dataset not in specs:  # a task of lm-evaluation-harness has no other source
            yield test
            continue
        name, task, spec = test.dataset, test.task, specs[test.dataset]
        size = max((size for source in spec.test for leaf in source.leaves() for size in leaf.sizes), default=None)
        yield RowSet(name, "test", task, load_untouched(name, "test", spec, task, None, places), size, test.scored)
        try:
            demos = load_untouched(name, "demos", spec, task, None, places)
        except SourceUnavailable:  # the plan already has a warning
            demos = ()
        if demos:
            shots = tuple(sorted({sheet.shots for sheet in plan.sheets.values() if sheet.test == name}))
            yield RowSet(name, "demos", replace(task, shots=shots), demos)
    trained = {(job.rows.name, job.rows.size): job.rows.task for job in plan.trainings}
    for (name, size), task in trained.items():
        yield RowSet(name, "train", task, load_untouched(name, "train", specs[name], task, size, places), size)


def _count_tokens(plan: Plan, texts: Sequence[str]) -> list[int]:
    begins = len(plan.encoder.prefix)
    return [len(ids) - begins for ids in plan.encoder.prompt_for_generation(texts)]

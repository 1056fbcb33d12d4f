"""A run with alternatives: all are asked validation rows, one is chosen, and only that one is asked the test sets."""

from __future__ import annotations

import shutil
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from fakes import Executed, Killed
from plans import contents
from rich.console import Console
from tinyruns import write_experiment
from typer.testing import CliRunner

from spillover import cli
from spillover.analysis.choices import choices, chosen, done
from spillover.analysis.table import load
from spillover.api import prepare
from spillover.interop.export import export
from spillover.plan.cost import estimate
from spillover.plan.plan import Plan
from spillover.report.plan import render, standing
from spillover.store.store import Store
from spillover.work.execute import execute, work, write_plan
from spillover.work.progress import Reporter

SETS = ["train.strategies=[ft]", "train.learning_rate=[1e-2, 1e-3]", "train.seeds=[0, 1]", "test.limit=3"]
SETS += ["test.shots=[0]", "test.datasets=[parity]", "validation.rows=5"]


class Said(Reporter):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def planned(place: Path, *more: str, out: str = "out") -> tuple[Plan, Store]:
    if not (place / "twice.yaml").exists():
        write_experiment(place)
    return prepare(place / "twice.yaml", [*SETS, *more], output_path=place / out)


def were_tested(store: Store) -> set[str]:
    """The trained variants that have answered a test row."""
    grid = store.grid()
    valid = store.valid(grid)
    names = {variant.key: variant.name for variant in grid.variants}
    return {names[cell.variant] for cell in grid.cells if cell.key in valid} - {"base"}


def choice_of(store: Store) -> dict[str, str]:
    return chosen(choices(store, store.grid()))


def test_only_the_chosen_one_is_asked_the_test_sets(tmp_path: Path) -> None:
    plan, store = planned(tmp_path, "keep=none")
    before = estimate(plan, done(store, plan.grid))
    backend, said = Executed(), Said()
    assert execute(plan, store, said, backend.backend()) == ()
    [sentence] = [one.sentence for one in choices(store, plan.grid)]
    assert said.lines.count(sentence) == 1
    [recipe] = choice_of(store).values()
    names = {variant.name for variant in plan.grid.variants if variant.recipe_key == recipe}
    assert were_tested(store) == names and len(names) == 2
    assert sum(backend.trained.values()) == 4, "all are trained, once"
    assert backend.answers == 5 * 5 + 3 * 3, "five variants on validation rows, base and the chosen ones on test rows"
    assert before.missing == len(store.valid(plan.grid)), "the plan counts the cells of the chosen ones only"
    assert not any(store.has_weights(job.variant.key) for job in plan.trainings)
    again, said = Executed(), Said()
    assert execute(plan, store, said, again.backend()) == () and again == Executed() and sentence not in said.lines


def test_a_random_change_of_what_is_not_chosen_is_in_no_table(tmp_path: Path) -> None:
    """It is asked nothing, so `0 of 0 cells` would only puzzle readers."""
    plan, store = planned(tmp_path, "train.strategies=[ft, ft + noise]", "train.seeds=0")
    console = Console(file=StringIO(), width=200)
    console.print(render(estimate(plan, done(store, plan.grid)), tmp_path))
    console.print(standing(plan.grid, {}, choices(store, plan.grid)))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "0 of 0" not in shown and "1 more variant " in shown
    assert shown.count("parity-ft+noise-lr0.01 ") == 1, "the first alternative stands for what is chosen in the plan"


def test_with_one_seed_of_the_choice_the_others_are_trained_for_what_was_chosen(tmp_path: Path) -> None:
    sets = ["validation.seeds=1", "train.seeds=[5, 6, 7]", "keep=none"]
    plan, store = planned(tmp_path, *sets)
    before = estimate(plan, done(store, plan.grid))
    backend = Executed()
    assert execute(plan, store, backend=backend.backend()) == ()
    [choice] = choices(store, plan.grid)
    assert choice.chosen is not None and (choice.seeds, choice.of_seeds) == (1, 3) and "1 of 3 seeds" in choice.sentence
    chosen_seeds = {v.seed for v in plan.grid.variants if v.recipe_key == choice.chosen.recipe}
    assert chosen_seeds == {5, 6, 7} and len(were_tested(store)) == 3
    assert sum(backend.trained.values()) == 2 + 2, "seed 5 of both rates, and seeds 6 and 7 of the chosen one"
    assert backend.answers == 3 * 5 + 4 * 3, "base and two candidates on validation rows, base and three on test rows"
    assert sum(cost.train_tokens > 0 for cost in before.variants) == 4 and before.missing == len(store.valid(plan.grid))
    assert not load(store.folder).missing and not any(store.has_weights(job.variant.key) for job in plan.trainings)
    again = Executed()
    assert execute(plan, store, backend=again.backend()) == () and again == Executed()


def test_processes_make_the_seeds_of_what_was_chosen(tmp_path: Path) -> None:
    plan, store = planned(tmp_path, "validation.seeds=1")
    store.create()
    write_plan(plan, store)
    while work(Store(store.folder), backend=Executed().backend()).variant:
        pass
    other, whole = planned(tmp_path, "validation.seeds=1", out="whole")
    execute(other, whole, backend=Executed().backend())
    assert len(were_tested(store)) == 2 and contents(store.folder) == contents(whole.folder)


def test_the_report_holds_the_chosen_and_how_it_was_chosen(tmp_path: Path) -> None:
    plan, store = planned(tmp_path)
    execute(plan, store, backend=Executed().backend())
    results = load(store.folder)
    assert {v.name for v in results.grid.variants} == {"base"} | were_tested(store) == set(results.df.variant)
    assert not results.missing and set(results.df.test_dataset) == {"parity"}
    [choice] = results.choices
    assert choice.chosen is not None and choice.factors == ("learning_rate",)
    assert [one.factors["learning_rate"] for one in choice.alternatives] == [1e-3, 1e-2]
    said = CliRunner().invoke(cli.app, ["status", str(store.folder)])
    assert said.exit_code == 0 and choice.sentence in " ".join(said.output.split())


@pytest.mark.parametrize("die_at", [7, 22, 27])
def test_a_killed_run_makes_the_same_choice(tmp_path: Path, die_at: int) -> None:
    plan, store = planned(tmp_path)
    with pytest.raises(Killed):
        execute(plan, store, backend=Executed(die_at=die_at).backend())
    execute(plan, store, backend=Executed().backend())
    other, whole = planned(tmp_path, out="whole")
    execute(other, whole, backend=Executed().backend())
    assert choice_of(store) == choice_of(whole) and contents(store.folder) == contents(whole.folder)


def test_processes_that_take_one_after_another_agree(tmp_path: Path) -> None:
    plan, store = planned(tmp_path)
    store.create()
    write_plan(plan, store)
    taken: list[Any] = []
    while (worked := work(Store(store.folder), backend=Executed().backend())).variant:
        taken.append(worked.variant)
        if len(taken) < 5:
            assert choice_of(store) == {} and were_tested(store) == set()
    other, whole = planned(tmp_path, out="whole")
    execute(other, whole, backend=Executed().backend())
    assert contents(store.folder) == contents(whole.folder)


def test_weights_stay_until_the_choice_is_made(tmp_path: Path) -> None:
    plan, store = planned(tmp_path, "keep=none")
    store.create()
    write_plan(plan, store)
    for _ in range(4):
        work(Store(store.folder), backend=Executed().backend())
    made = [job for job in plan.trainings if store.has_weights(job.variant.key)]
    assert len(made) == 3, "base and three candidates: nothing is chosen yet"
    [waiting] = choices(store, plan.grid)
    assert waiting.chosen is None and waiting.missing == 1


def test_choose_none_tests_all_and_holds_nothing_out(tmp_path: Path) -> None:
    plan, store = planned(tmp_path, "choose=none")
    assert plan.grid.validation == () and [len(job.rows.examples) for job in plan.trainings] == [24] * 4
    execute(plan, store, backend=Executed().backend())
    assert len(were_tested(store)) == 4 and load(store.folder).choices == []


def test_deploy_best_asks_each_as_is_best_for_it(tmp_path: Path) -> None:
    sets = ["deploy=best", "train.learning_rate=1e-2", "test.shots=[0, 2]", "train.seeds=[0]"]
    plan, store = planned(tmp_path, *sets)
    assert {cell.shots for cell in plan.grid.validation} == {0, 2}
    execute(plan, store, backend=Executed().backend())
    results = load(store.folder)
    assert {key for key, _ in results.best_uses} == {variant.recipe_key for variant in results.grid.variants}


def test_what_is_not_yet_chosen_is_in_no_file_of_scores(tmp_path: Path) -> None:
    """The report does not show it either: one of several alternatives has no answers on validation rows."""
    plan, store = planned(tmp_path)
    execute(plan, store, backend=Executed().backend())
    names = {variant.name for variant in load(store.folder).grid.variants} - {"base"}
    shutil.rmtree(store.folder / "cells" / plan.grid.validation[-1].key)
    said = export(store.folder, "every-eval-ever", None)
    assert names and all(any("not yet chosen" in line and name in line for line in said) for name in names)
    assert len(list(store.folder.glob("export/*/data/*/*/*/*.json"))) == 1

"""Running, being killed, going on: what is done is done once, and the result is the same."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes import Executed, Killed
from plans import contents, plan_of
from prose import tells

from spillover import register_loss
from spillover.analysis import table
from spillover.errors import ExperimentError, StoreBusy, StoreError
from spillover.plan.plan import Plan
from spillover.report.sections import training
from spillover.store.store import Store
from spillover.work import units
from spillover.work.execute import execute
from spillover.work.progress import Reporter
from spillover.work.run import REFUSED


@pytest.fixture(autouse=True)
def _tokenizer(smollm2: Path) -> None:
    """Every plan here reads the real tokenizer."""


@pytest.mark.parametrize("words", REFUSED)
def test_what_the_system_refuses_to_a_library_stops_the_run_in_one_line(tmp_path: Path, words: str) -> None:
    """Such as safetensors under `ulimit -f`. A variant is not to blame, and the others would meet it, too."""

    def load(*args: Any, **options: Any) -> Any:
        raise RuntimeError(f"Error while serializing: I/O error: {words} (os error 27)")

    backend = Executed().backend()
    backend.load = load
    with pytest.raises(StoreError, match=f"{words} while at base"):
        execute(plan_of(), Store(tmp_path), backend=backend)


def test_a_run_fills_every_cell_and_a_second_run_does_nothing(tmp_path: Path) -> None:
    plan, executed = plan_of(), Executed()
    execute(plan, Store(tmp_path), backend=executed.backend())
    assert set(contents(tmp_path)) == {cell.key for cell in plan.grid.cells}
    assert executed.trained == {"reviews-ft": 1, "reviews-fticl2": 1}
    assert executed.answers == 3 * 3 * 2 * 5  # variants x test sets x shots x rows

    again = Executed()
    execute(plan_of(), Store(tmp_path), backend=again.backend())
    assert again == Executed()


def doubled(tokens: Any) -> Any:
    return tokens.nll_T * 2


def test_a_registered_loss_is_refused_on_several_devices_before_anything_is_done(tmp_path: Path) -> None:
    register_loss("doubled", doubled)
    plan, executed = plan_of(train__strategies=[{"name": "mine", "function": "doubled"}]), Executed()
    backend = executed.backend()
    backend.devices = lambda: ["cuda:0", "cuda:1"]
    with pytest.raises(ExperimentError, match=r"doubled.*file\.py:function"):
        execute(plan, Store(tmp_path), backend=backend)
    assert executed == Executed()


def test_auto_goes_on_in_the_precision_in_which_the_folder_was_begun(tmp_path: Path) -> None:
    """On a machine that would take another: otherwise a variant is compared with a base that was rounded otherwise."""

    class Told(Reporter):
        def __init__(self) -> None:
            self.lines: list[str] = []

        def say(self, line: str) -> None:
            self.lines.append(line)

    execute(plan_of(test__shots=[0]), Store(tmp_path), backend=Executed().backend())
    elsewhere, told = Executed().backend(), Told()
    elsewhere.precision = lambda asked: "bfloat16"
    execute(plan_of(), Store(tmp_path), told, elsewhere)
    cells = [cell.key for cell in plan_of().grid.cells]
    assert {Store(tmp_path).cell(key)["precision"] for key in cells} == {"float32"}
    (line,) = told.lines
    assert tells(line, "float32", "precision: bfloat16")
    asked = plan_of(precision="bfloat16")
    execute(asked, Store(tmp_path), told, elsewhere)
    assert {Store(tmp_path).cell(cell.key)["precision"] for cell in asked.grid.cells} == {"bfloat16"}


def test_killed_in_the_middle_of_a_unit_it_goes_on_with_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(units, "CHUNK_TOKENS", 100.0)  # two rows or so, each at both shot counts
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    reference = Executed()
    execute(plan_of(), Store(whole), backend=reference.backend())

    first = Executed(die_at=37)
    with pytest.raises(Killed):
        execute(plan_of(), Store(broken), backend=first.backend())
    assert 0 < len(contents(broken)) < len(contents(whole))
    second = Executed()
    execute(plan_of(), Store(broken), backend=second.backend())

    assert contents(broken) == contents(whole)
    assert first.trained + second.trained == reference.trained  # nothing is trained twice
    # Of the unit under way, only the chunk under way is asked again.
    assert second.answers <= reference.answers - 36 + 6


class Rounded(Executed):
    """A machine that takes bfloat16: there every score of the fake engine is off by up to 2 nats of 10."""

    def backend(self) -> Any:
        made = super().backend()
        made.precision = lambda requested: "bfloat16"
        return made

    def load(self, folder: Path, encoder: Any, precision: str, asked: str, **own: Any) -> tuple[Any, None]:
        engine, why = super().load(folder, encoder, precision, asked, **own)
        exact = engine._answer

        def rounded(request: Any) -> Any:
            answer = exact(request)
            off = [
                tuple(lp + 2 * engine._draw(7, *request.prompt, *ids) for lp in option)
                for ids, option in zip(request.options, answer.logprobs, strict=True)
            ]
            return replace(answer, logprobs=tuple(off), leads=(2.0,) if request.options else (2.0, 0.01))

        engine._answer = rounded if precision == "bfloat16" else exact
        return engine, why


def responses(folder: Path) -> dict[str, list[str]]:
    return {key: [json.loads(row)["response"] for row in rows.splitlines()] for key, rows in contents(folder).items()}


def test_in_bfloat16_a_killed_run_goes_on_with_the_same_result_and_every_label_is_float32s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which rows are answered again depends on what was learnt from earlier ones, and that is in the store."""
    monkeypatch.setattr(units, "CHUNK_TOKENS", 100.0)
    exact, whole = tmp_path / "exact", tmp_path / "whole"
    execute(plan_of(), Store(exact), backend=Executed().backend())
    execute(plan_of(), Store(whole), backend=Rounded().backend())
    assert responses(whole) == responses(exact)
    recorded = [json.loads(path.read_text())["rounding"] for path in whole.glob("cells/*/receipt.json")]
    assert all(one["again"] > 0 and one["undecided"] == 0 for one in recorded)
    for killed_at in (20, 61, 110):
        broken = tmp_path / str(killed_at)
        with pytest.raises(Killed):
            execute(plan_of(), Store(broken), backend=Rounded(die_at=killed_at).backend())
        execute(plan_of(), Store(broken), backend=Rounded().backend())
        assert contents(broken) == contents(whole), killed_at


def test_where_float32_does_not_fit_it_is_said_once_a_variant_and_counted(tmp_path: Path) -> None:
    backend, said = Rounded().backend(), Said()
    backend.has_room = lambda folder: False
    assert execute(plan_of(), Store(tmp_path), said, backend) == ()
    assert len([line for line in said.lines if "no memory" in line]) == len(plan_of().grid.variants)
    recorded = [json.loads(path.read_text())["rounding"] for path in tmp_path.glob("cells/*/receipt.json")]
    assert sum(one["undecided"] for one in recorded) > 0 and not any(one["again"] for one in recorded)


class Said(Reporter):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def receipts(folder: Path) -> dict[str, dict[str, Any]]:
    """What every cell cost, by cell: without seconds, the same whenever it is computed."""
    found = {path.parent.name: json.loads(path.read_text()) for path in folder.glob("cells/*/receipt.json")}
    return {key: {name: found[key][name] for name in ("tokens", "tokens_plain", "seconds")} for key in found}


@pytest.mark.parametrize("killed_in", ["the first unit", "a later unit", "the cells of a unit"])
def test_what_a_killed_run_had_spent_is_in_the_receipts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_in: str
) -> None:
    """A fake engine takes a millisecond an answer, so that seconds are exact too."""
    monkeypatch.setattr(units, "CHUNK_TOKENS", 100.0)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    execute(plan_of(), Store(whole), backend=Executed().backend())
    first = Executed(die_at={"the first unit": 9, "a later unit": 37}.get(killed_in))
    write_cell = Store.write_cell

    def dying(self: Store, *cell: Any) -> None:
        if len(contents(broken)) == 3:  # a unit has two
            raise Killed
        write_cell(self, *cell)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        if killed_in == "the cells of a unit":
            patch.setattr(Store, "write_cell", dying)
        execute(plan_of(), Store(broken), backend=first.backend())
    assert list((broken / "partial").iterdir())
    execute(plan_of(), Store(broken), backend=Executed().backend())
    spent = receipts(broken)
    for key, cost in receipts(whole).items():
        assert cost["tokens"] > 0 and spent[key] == pytest.approx(cost)


def test_weights_that_cannot_be_dropped_are_a_failure_of_their_variant_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, executed = plan_of(keep="none"), Executed()
    drop = Store.drop_weights

    def refusing(self: Store, key: str) -> int:
        if key == plan.grid.variants[1].key:
            raise PermissionError(13, "Permission denied", key)
        return drop(self, key)

    monkeypatch.setattr(Store, "drop_weights", refusing)
    (failure,) = execute(plan, Store(tmp_path), backend=executed.backend())
    assert tells(failure, "reviews-ft", "PermissionError", "Permission denied")
    assert executed.trained == {"reviews-ft": 1, "reviews-fticl2": 1}
    assert set(contents(tmp_path)) == {cell.key for cell in plan.grid.cells}


def test_a_line_that_was_being_written_when_the_process_died_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(units, "CHUNK_TOKENS", 100.0)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    execute(plan_of(), Store(whole), backend=Executed().backend())
    with pytest.raises(Killed):
        execute(plan_of(), Store(broken), backend=Executed(die_at=37).backend())
    (partial,) = (broken / "partial").iterdir()
    partial.write_bytes(partial.read_bytes() + '{"response": "£'.encode()[:-1])  # in the middle of a character
    execute(plan_of(), Store(broken), backend=Executed().backend())
    assert contents(broken) == contents(whole)
    assert not list((broken / "partial").iterdir())


def test_a_variant_that_was_trained_when_the_process_died_is_put_in_its_place(tmp_path: Path) -> None:
    plan = plan_of()
    execute(plan, Store(tmp_path), backend=Executed().backend())
    folder = tmp_path / "variants" / plan.grid.variants[1].key
    folder.rename(folder.with_name(folder.name + ".making"))
    again = Executed()
    execute(plan_of(), Store(tmp_path), backend=again.backend())
    assert again == Executed()
    assert (folder / "model.safetensors").exists()


def test_killed_in_training_only_that_variant_is_trained_again(tmp_path: Path) -> None:
    first = Executed(die_in_training="reviews-fticl2")
    with pytest.raises(Killed):
        execute(plan_of(), Store(tmp_path), backend=first.backend())
    second = Executed()
    execute(plan_of(), Store(tmp_path), backend=second.backend())
    assert second.trained == {"reviews-fticl2": 1}
    assert len(contents(tmp_path)) == len(plan_of().grid.cells)


@pytest.mark.parametrize("damage", ["no receipt", "half a folder"])
def test_a_cell_is_either_whole_or_absent(tmp_path: Path, damage: str) -> None:
    plan = plan_of()
    execute(plan, Store(tmp_path), backend=Executed().backend())
    cell = tmp_path / "cells" / plan.grid.cells[0].key
    before = contents(tmp_path)
    if damage == "no receipt":
        (cell / "receipt.json").unlink()
    else:
        cell.rename(cell.with_name(cell.name + ".writing"))
    again = Executed()
    execute(plan_of(), Store(tmp_path), backend=again.backend())
    # the damaged cell is the first unit's; known answers of its other cell are not asked again
    assert again.answers == 5
    assert contents(tmp_path) == before


def test_adding_shots_rows_or_data_sets_runs_only_what_is_new(tmp_path: Path) -> None:
    execute(plan_of(), Store(tmp_path), backend=Executed().backend())
    more_shots = Executed()
    execute(plan_of(test__shots=[0, 2, 4]), Store(tmp_path), backend=more_shots.backend())
    assert more_shots.answers == 3 * 3 * 1 * 5
    assert not more_shots.trained
    more_rows = Executed()
    execute(plan_of(test__limit=7), Store(tmp_path), backend=more_rows.backend())
    assert more_rows.answers == 3 * 3 * 2 * 2  # two new rows in each of the old cells
    more_sets = Executed()
    execute(
        plan_of(test__datasets=["reviews", "scenes", "quiz", "deals"]), Store(tmp_path), backend=more_sets.backend()
    )
    assert more_sets.answers == 3 * 1 * 2 * 5


def test_weights_that_changed_void_the_cells_of_their_variant_only(tmp_path: Path) -> None:
    plan = plan_of()
    execute(plan, Store(tmp_path), backend=Executed().backend())
    variant = plan.grid.variants[1]
    weights = tmp_path / "variants" / variant.key / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\x00\x00\x80?")
    extra = Executed()
    execute(plan_of(test__shots=[0, 2, 4]), Store(tmp_path), backend=extra.backend())
    assert extra.trained == {variant.name: 1}  # back to what its recipe gives, so its old cells hold again
    assert extra.answers == 3 * 3 * 1 * 5


def test_keep_none_leaves_receipts_and_cells(tmp_path: Path) -> None:
    plan = plan_of(keep="none")
    execute(plan, Store(tmp_path), backend=Executed().backend())
    assert not list(tmp_path.glob("variants/*/*.safetensors"))
    assert len(list(tmp_path.glob("variants/*/receipt.json"))) == 2
    again = Executed()
    execute(plan_of(keep="none"), Store(tmp_path), backend=again.backend())
    assert again == Executed()


def test_predictions_and_receipts_say_what_the_readme_says(tmp_path: Path) -> None:
    plan = plan_of()
    execute(plan, Store(tmp_path), backend=Executed().backend())
    classification = next(cell for cell in plan.grid.cells if cell.task == "sentiment")
    folder = tmp_path / "cells" / classification.key
    row = json.loads((folder / "predictions.jsonl").read_text().splitlines()[0])
    assert {"doc_id", "doc", "target", "prompt_hash", "response", "logprobs"} <= set(row)
    assert row["response"] == max(row["logprobs"], key=row["logprobs"].get)
    receipt = json.loads((folder / "receipt.json").read_text())
    assert {
        "cell",
        "variant",
        "weights",
        "rules",
        "tokenizer",
        "versions",
        "device",
        "precision",
        "seconds",
        "tokens",
    } <= set(receipt)
    assert not list((tmp_path / "partial").iterdir())


def test_every_right_answer_is_stored_with_the_row_that_asks(tmp_path: Path) -> None:
    """Two rows with one question share the answer, not what is right. A cell is another one if that changes."""
    rows = [{"prompt": "Say it:", "targets": ["a", "b"]}, {"prompt": "Say it:", "targets": ["c"]}]
    path = tmp_path / "test.jsonl"

    def asked(rows: list[dict[str, Any]]) -> Plan:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        source = {"file": str(path), "references": "targets"}
        mine = {"test": source, "template": "{prompt}"}
        return plan_of(datasets={"mine": mine}, train={}, test={"datasets": ["mine"], "shots": [0]})

    plan = asked(rows)
    execute(plan, store := Store(tmp_path / "out"), backend=Executed().backend())
    (cell,) = plan.grid.cells
    stored = sorted(store.predictions(cell.key), key=lambda row: row["doc_id"])
    assert [row.get("references") for row in stored] == [["a", "b"], None]
    assert [row["target"] for row in stored] == ["a", "c"]
    assert stored[0]["prompt_hash"] == stored[1]["prompt_hash"]
    (other,) = asked([rows[0] | {"targets": ["a", "d"]}, rows[1]]).grid.cells
    assert other.key != cell.key


def test_two_runs_on_one_folder_the_second_is_told(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.create()
    with store.lock(), pytest.raises(StoreBusy, match=r"\banother run\b"):
        execute(plan_of(), Store(tmp_path), backend=Executed().backend())


def test_a_unit_that_fails_leaves_its_error_and_the_others_go_on(tmp_path: Path) -> None:
    executed = Executed()
    backend = executed.backend()
    load = backend.load

    def fragile(*arguments: Any, **options: Any) -> Any:
        engine, why = load(*arguments, **options)
        answer = engine._answer

        def _answer(request: Any) -> Any:
            if executed.answers == 12:
                executed.answers += 1
                raise ZeroDivisionError("a bug")
            return answer(request)

        engine._answer = _answer
        return engine, why

    backend.load = fragile
    failures = execute(plan_of(), Store(tmp_path), backend=backend)
    (error,) = (tmp_path / "errors").iterdir()
    (failure,) = failures
    assert tells(failure, "base", "scenes, p1", "ZeroDivisionError", "a bug", str(error))
    assert "Traceback" in error.read_text()
    missing = {cell.key for cell in plan_of().grid.cells} - set(contents(tmp_path))
    assert len(missing) == 2  # the two shot counts of that unit

    assert execute(plan_of(), Store(tmp_path), backend=Executed().backend()) == ()
    assert not (tmp_path / "errors").exists()
    assert len(contents(tmp_path)) == len(plan_of().grid.cells)


def test_a_failure_is_a_short_line_whatever_its_error_holds(tmp_path: Path) -> None:
    """All of it is in the folder."""

    def load(*args: Any, **options: Any) -> Any:
        raise RuntimeError("\x1b[31mred " + "x" * 10_000)

    backend = Executed().backend()
    backend.load = load
    failures = execute(plan_of(), Store(tmp_path), backend=backend)
    assert failures and all(len(line) < 700 and r"\x1b[31mred" in line and "\x1b" not in line for line in failures)
    kept = "".join(path.read_text() for path in (tmp_path / "errors").glob("*.txt"))
    assert "x" * 10_000 in kept and "\x1b" not in kept


class StopsEarly(Executed):
    """A training whose loss on validation rows was lowest after its second step."""

    def train(self, *arguments: Any) -> dict[str, Any]:
        curve = [(1, 0.9, None), (2, 0.25, None), (3, 0.4, None), (4, 0.5, None)]
        return {**super().train(*arguments), "steps": 4, "steps_planned": 9, "best_step": 2, "evaluations": curve}


def test_that_a_training_stopped_early_is_said_in_the_run_and_on_the_page(tmp_path: Path) -> None:
    plan, store, reporter = plan_of(train__strategies=["ft"], train__evaluate_every=1), Store(tmp_path), Said()
    assert execute(plan, store, reporter, StopsEarly().backend()) == ()
    [said] = [line for line in reporter.lines if line.startswith("reviews-ft: stopped")]
    assert tells(said, "4 of 9", "after step 2", "0.25")
    [row] = training(table.load(tmp_path), tmp_path)["rows"]
    assert {"4 of 9", "0.250, after step 2"} <= set(row)

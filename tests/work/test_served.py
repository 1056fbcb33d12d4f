"""A whole run whose cells vLLM answers, and runs in which it is not to be trusted. vLLM is a stand-in."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tinyruns
from commandline import Cli
from fakes import Executed, FakeEngine, Killed
from plans import contents, plan_of

from spillover.api import prepare
from spillover.store.store import Store
from spillover.work import served, units
from spillover.work.execute import execute
from spillover.work.progress import Reporter

SMALL = ["train.strategies=[lora]", "train.seeds=[0]", "test.limit=4"]


Name = tuple[str, str, int]


class Lines(Reporter):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def run(file: Path, folder: Path, *settings: str) -> tuple[dict[Name, Any], dict[Name, Any], list[str]]:
    """The rows and receipts of a run by cell, and what it said."""
    plan, store = prepare(file, [*SMALL, *settings], output_path=folder)
    told = Lines()
    assert execute(plan, store, told) == ()
    named = {cell.key: (cell.variant, cell.test, cell.shots) for cell in plan.grid.cells}
    receipts = {named[key]: receipt for key, receipt in store.valid(plan.grid).items()}
    return {name: store.predictions(key) for key, name in named.items()}, receipts, told.lines


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "wrong"), [("float32", None), ("float32", "values"), ("bfloat16", None)])
def test_vllm_answers_a_run_or_the_shared_engine_does(
    vllm: Any, tmp_path: Path, precision: str, wrong: str | None
) -> None:
    """Also for the adapter that the run trains. Where vLLM errs, the receipt says who answered, and why."""
    file = tinyruns.write_experiment(tmp_path)
    expected, receipts, _ = run(file, tmp_path / "shared", f"precision={precision}")
    vllm.WRONG.update({wrong} if wrong else ())
    rows, ours, said = run(file, tmp_path / "vllm", f"precision={precision}", "engine=vllm")
    assert rows.keys() == expected.keys()
    for cell, some in rows.items():
        for mine, other in zip(some, expected[cell], strict=True):
            if precision == "float32" or "logprobs" in mine:  # rounding makes other texts, but no other decisions
                assert mine["response"] == other["response"]
            close = 1e-3 if precision == "float32" else 0.5
            assert mine.get("logprobs", {}) == pytest.approx(other.get("logprobs", {}), abs=close)
    assert {one["weights"] for one in ours.values()} == {one["weights"] for one in receipts.values()}
    assert len(vllm.MADE) == 2  # one a variant
    assert all(made.llm_engine.engine_core.is_shut_down for made in vllm.MADE)
    for receipt in ours.values():
        assert ("rounding" in receipt) == (precision == "bfloat16")
        if wrong:
            assert (receipt["engine"], "vllm" in receipt) == ("shared", False)
            assert "nats off" in receipt["why_not_vllm"]
        else:
            assert (receipt["engine"], receipt["vllm"]) == ("vllm", "0.33.0")
            assert "why_not_vllm" not in receipt
    assert any("vLLM is not used" in line for line in said) == bool(wrong)


@pytest.mark.parametrize("before", ["is killed", "answers fewer rows"])
def test_an_engine_goes_on_with_its_own_answers_only(
    before: str, tmp_path: Path, smollm2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """vLLM answers a part, and then it cannot be started: what the shared engine's receipts are for, it answered."""

    class Served(FakeEngine):
        version, answered = "0.33.0", 0

        def _answer(self, request: Any) -> Any:
            self.answered += 1
            if before == "is killed" and self.answered == 8:
                raise Killed
            return super()._answer(request)

        def close(self) -> None:
            """Nothing to do."""

    def run(folder: Path, served: Served | None, limit: int = 5) -> dict[str, str]:
        only = {"train__datasets": [], "train__strategies": [], "test__datasets": ["reviews", "scenes"]}
        plan = plan_of(engine="vllm", test__limit=limit, **only)
        monkeypatch.setattr(units, "start", lambda *of: (served, None if served else "no memory"))
        assert execute(plan, Store(folder), backend=Executed().backend()) == ()
        answered_by = {key: receipt["engine"] for key, receipt in Store(folder).valid(plan.grid).items()}
        assert set(answered_by.values()) == {"vllm" if served else "shared"}
        return {key: rows for key, rows in contents(folder).items() if key in answered_by}

    monkeypatch.setattr("spillover.models.refuse_without_vllm", lambda: None)
    monkeypatch.setattr(units, "CHUNK_TOKENS", 100.0)
    whole = run(tmp_path / "whole", None)
    if before == "is killed":
        with pytest.raises(Killed):
            run(tmp_path / "parts", Served(salt="vLLM"))
        assert list((tmp_path / "parts" / "partial").iterdir())
    else:
        assert run(tmp_path / "parts", Served(salt="vLLM"), limit=3)
    assert run(tmp_path / "parts", None) == whole
    assert not list((tmp_path / "parts" / "partial").iterdir())


@pytest.mark.parametrize("fails", ["at the probe", "at the probe and when it is closed"])
def test_what_fails_in_vllm_is_a_reason_and_no_failure(fails: str) -> None:
    """Whatever it does, the variant is answered."""

    class Broken:
        def close(self) -> None:
            if "closed" in fails:
                raise RuntimeError("the engine core is dead")

    def break_down(*of: Any) -> None:
        raise ValueError("no kernel for this head")

    started = served.start(
        SimpleNamespace(serve=lambda *of: Broken(), precision="float32"),  # type: ignore[arg-type]
        Path(),
        None,  # type: ignore[arg-type]
        SimpleNamespace(why_not=break_down),  # type: ignore[arg-type]
    )
    assert started == (None, "ValueError: no kernel for this head")


def test_a_training_does_not_depend_on_who_answers(tmp_path: Path) -> None:
    """Its key is that of the engine that shares prefixes; the cells have keys of their own."""
    file = tinyruns.write_experiment(tmp_path)
    one, other = (prepare(file, [*SMALL, f"engine={name}"])[0] for name in ("shared", "vllm"))
    assert [job.variant.key for job in one.jobs] == [job.variant.key for job in other.jobs]
    assert not {cell.key for cell in one.grid.cells} & {cell.key for cell in other.grid.cells}


@pytest.mark.parametrize("command", ["check", "run"])
def test_without_vllm_it_is_one_line_before_anything_is_computed(
    call: Cli, tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tinyruns.write_experiment(tmp_path)
    monkeypatch.setattr("spillover.models.machine.find_spec", lambda name: None)
    code, _, error = call(command, str(file), "--set", "engine=vllm", "-o", str(tmp_path / "out"))
    assert code == 2
    assert "vLLM is not installed" in error
    assert "pip install" in error
    assert not list((tmp_path / "out").glob("cells/*"))

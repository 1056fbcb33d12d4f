"""One training in several processes, from the command line: what is started, what comes of it, and what ends it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import children
import pytest
from atwork import eventually, is_alive
from tinyruns import write_experiment

from spillover.api import prepare
from spillover.engine.hf import TOGETHER
from spillover.errors import DataError, ExperimentError, ModelError
from spillover.plan.cost import Done, estimate
from spillover.report.plan import closing
from spillover.work import launch
from spillover.work.backend import Backend
from spillover.work.execute import execute

ONE = ["--set", "train.strategies=[ft]", "--set", "train.seeds=[0]", "--set", "test.limit=2"]
TWO = [*ONE, "--set", "train.processes=2"]


class On(Backend):
    """A backend with these devices."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def devices(self) -> list[str]:
        return [*self.names]


def test_a_process_gets_a_gpu_of_those_named_and_a_cpu_is_enough_for_all() -> None:
    assert On("cuda:1", "cuda:2", "cuda:3").devices_of_a_training(2) == ["cuda:1", "cuda:2"]
    assert On("cpu").devices_of_a_training(3) == ["cpu"] * 3
    with pytest.raises(ModelError, match=r"train\.processes.*2 processes.*there are 1"):
        On("cuda:0").devices_of_a_training(2)


def test_the_processes_see_their_devices_and_no_settings_of_accelerate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_OFFLOAD_PARAMS", "true")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6,7")
    monkeypatch.setenv("OMP_NUM_THREADS", "")
    made = launch.environment(["cuda:1", "cuda:2"])
    assert (made["CUDA_VISIBLE_DEVICES"], made["SPILLOVER_DEVICE"], made[TOGETHER]) == ("6,7", "cuda", "1")
    assert not any(name.startswith(("ACCELERATE_", "FSDP_")) for name in made)
    assert int(made["OMP_NUM_THREADS"]) >= 1
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert launch.environment(["cuda:0", "cuda:1"])["CUDA_VISIBLE_DEVICES"] == "0,1"
    assert launch.environment(["cpu", "cpu"])["SPILLOVER_DEVICE"] == "cpu"


def fail(folder: Path, number: int, **told: Any) -> None:
    (folder / f"failed-{number}.json").write_text(json.dumps(told))
    os.utime(folder / f"failed-{number}.json", (number, number))


def test_what_ended_the_processes_is_one_line(tmp_path: Path) -> None:
    log = tmp_path / launch.LOG
    log.write_text("")
    with pytest.raises(ModelError, match=r"2 processes.*without a result"):
        launch._why(tmp_path, 2)
    fail(tmp_path, 0, kind="DataError", what="a row", where="rows.csv:3", allowed="text")
    fail(tmp_path, 1, kind="", what="RuntimeError: the other is gone", text="Traceback")
    with pytest.raises(DataError, match=r"rows\.csv:3.*a row"):
        launch._why(tmp_path, 2)
    fail(tmp_path, 0, kind="", what="ZeroDivisionError: zero", text="Traceback")
    with pytest.raises(ModelError, match="one failed: ZeroDivisionError"):
        launch._why(tmp_path, 2)
    fail(tmp_path, 0, kind=launch.MEMORY, smaller=1024)
    assert launch._why(tmp_path, 2) == 1024
    ended = "  rank      : {0} (local_rank: {0})\n  exitcode  : {1} (pid: 12)\n"
    log.write_text(f"{ended.format(0, -15)}Root Cause (first observed failure):\n{ended.format(1, -9)}")
    with pytest.raises(ModelError, match=r"process 1 was killed by SIGKILL.*memory"):
        launch._why(tmp_path, 2)


def test_the_plan_says_how_many_processes_train(tmp_path: Path) -> None:
    plan, store = prepare(write_experiment(tmp_path), ["train.processes=2", "train.parallel=fsdp"])
    said = " ".join(closing(estimate(plan, Done()), store.folder))
    assert "2 processes together (fsdp)" in said
    plan, _ = prepare(tmp_path / "twice.yaml")
    assert "processes" not in " ".join(closing(estimate(plan, Done()), store.folder))


def test_keys_do_not_depend_on_the_processes(tmp_path: Path) -> None:
    alone, _ = prepare(write_experiment(tmp_path))
    together, _ = prepare(tmp_path / "twice.yaml", ["train.processes=2", "train.parallel=fsdp"])
    assert [job.variant.key for job in together.jobs] == [job.variant.key for job in alone.jobs]


@pytest.mark.parametrize("wrong", ["processes=0", "processes=1000000", "processes=true", "parallel=dp"])
def test_what_is_no_number_of_processes_is_refused(tmp_path: Path, wrong: str) -> None:
    path = f"train.{wrong.partition('=')[0]}"
    with pytest.raises(ExperimentError, match=path):
        prepare(write_experiment(tmp_path), [f"train.{wrong}"])


# --- from the command line --------------------------------------------------------------------------------


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "spillover", *words]


@pytest.mark.slow
def test_a_run_trains_in_two_processes_and_a_killed_one_costs_its_variant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of the processes is killed; then Ctrl-C comes and leaves none; then the training is done."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("SPILLOVER_CHECKPOINT_S", "1")
    file, out = write_experiment(tmp_path), tmp_path / "out"
    endless = ["--set", "train.num_train_epochs=100000"]
    words = command("run", str(file), "-o", str(out), *TWO)

    run = children.start([*words, *endless], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    first, second = eventually(lambda: trainers(out), 300)
    os.kill(second, signal.SIGKILL)
    said, _ = run.communicate(timeout=200)
    assert run.returncode == 1 and "parity-ft failed" in said and "SIGKILL" in said
    assert not is_alive(first)

    run = children.start([*words, *endless], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    pair = eventually(lambda: trainers(out), 300)
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=200)
    assert run.returncode == 130
    eventually(lambda: not any(map(is_alive, pair)))

    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    plan, store = prepare(file, [word for word in TWO if word != "--set"], output_path=out)
    (trained,) = plan.trainings
    receipt = store.variant_receipt(trained.variant.key)
    assert receipt is not None
    assert (receipt["processes"], receipt["parallel"], receipt["backend"]) == (2, "ddp", "gloo")
    alone, elsewhere = prepare(file, [word for word in ONE if word != "--set"], output_path=tmp_path / "alone")
    assert execute(alone, elsewhere) == ()
    once = elsewhere.variant_receipt(trained.variant.key)
    assert once is not None and once["processes"] == 1
    assert receipt["samples"] == once["samples"] and receipt["loss"] == pytest.approx(once["loss"], rel=1e-3)


def trainers(out: Path) -> tuple[int, int] | None:
    """The processes that train together into a folder, once they have written a checkpoint."""
    found: dict[str, int] = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes().decode().split("\0")
            said = (place / "environ").read_bytes().decode().split("\0")
            names = dict(one.split("=", 1) for one in said if "=" in one)
        except (OSError, ValueError):
            continue
        if "--share" in words and str(out) in words and "accelerate.commands.launch" not in words:
            found[names.get("RANK", "")] = int(place.name)
    has_begun = any(out.glob("variants/*/checkpoints/checkpoint-*/whole.json"))
    return (found["0"], found["1"]) if {"0", "1"} <= found.keys() and has_begun else None

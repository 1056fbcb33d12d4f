"""Which devices a run uses, and what each process is told of them."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest

from spillover.engine import hf
from spillover.errors import ModelError, SpilloverError
from spillover.work.processes import choose, environment


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `choose` sets goes again."""
    for name in ("SPILLOVER_DEVICE", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("asked", "visible", "seen"),
    [
        ("cpu", None, ""),
        ("cpu,cpu", None, ""),
        ("cuda", None, None),
        ("cuda:1", None, "1"),
        ("cuda:1", "4,6,7", "6"),
        ("cuda:3", "4,6,7", ""),  # none, so that the run is refused
        ("cuda:0,cuda:1", None, None),  # for the processes
    ],
)
def test_choose(monkeypatch: pytest.MonkeyPatch, asked: str, visible: str | None, seen: str | None) -> None:
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    choose(asked)
    assert (os.environ["SPILLOVER_DEVICE"], os.environ.get("CUDA_VISIBLE_DEVICES")) == (asked, seen)


@pytest.mark.parametrize("asked", ["", "gpu", "cuda:", "cuda:x", "cpu,cuda:0", "cuda,cuda", "cuda:0,", "cpu:0"])
def test_choose_refuses(asked: str) -> None:
    with pytest.raises(SpilloverError, match=f"--device.*{asked!r}.*cpu, cuda, cuda:0"):
        choose(asked)


@pytest.mark.parametrize(
    ("asked", "gpus", "found"),
    [
        ("", 0, ["cpu"]),
        ("", 1, ["cuda:0"]),
        ("", 2, ["cuda:0", "cuda:1"]),
        ("cuda", 2, ["cuda:0", "cuda:1"]),
        ("cpu", 0, ["cpu"]),
        ("cuda:5", 1, ["cuda:5"]),  # the one this process sees
        ("cuda:1,cuda:1", 2, ["cuda:1", "cuda:1"]),
    ],
)
def test_devices(monkeypatch: pytest.MonkeyPatch, asked: str, gpus: int, found: Sequence[str]) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    monkeypatch.setenv("SPILLOVER_DEVICE", asked)
    assert hf.devices() == found


def test_a_gpu_that_is_not_there_is_told_before_anything_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setenv("SPILLOVER_DEVICE", "cuda:0,cuda:2")
    with pytest.raises(ModelError, match=r"cuda:2.*cuda:0, cuda:1"):
        hf.devices()


def test_a_process_sees_its_own_device_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """With GPUs 4, 6 and 7 visible, as a scheduler may leave it, cuda:2 is the last of them: as in torch."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6,7")
    told = environment("cuda:2", 2)
    assert (told["SPILLOVER_DEVICE"], told["CUDA_VISIBLE_DEVICES"]) == ("cuda:2", "7")


def test_processes_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.get_num_threads", lambda: 8)
    assert environment("cpu", 2)["OMP_NUM_THREADS"] == "4"
    assert environment("cpu", 16)["OMP_NUM_THREADS"] == "1"
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert environment("cpu", 2)["OMP_NUM_THREADS"] == "3"

"""One training in several processes, as the process sees it that waits for them.

`train: {processes: N}` makes this process start `accelerate launch` for each training. That starts N processes of

    spillover work DIR --variant NAME --share FILE

which plan from the folder, make the same samples, and train together (`share`, `train.together`). This process holds
the lock of the variant meanwhile. `FILE` says what was decided here: it stands in a folder of this training, to which
the others write what came of it. If one process ends, the launcher ends the others, and the variant has failed.

As for the processes on several devices (`processes`), the standard input tells them that this process is gone.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from signal import Signals
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from .. import errors
from ..errors import ModelError
from .backend import Steps
from .processes import GRACE_S, command

if TYPE_CHECKING:
    from ..store.store import Json
    from .run import Run

FILE, TRAINED, LOG = "share.json", "trained.json", "log.txt"
MEMORY = "memory"  # what failed in a process whose device is full
SETTINGS = {  # of accelerate; without them it would take those of the user
    "compute_environment": "LOCAL_MACHINE",
    "distributed_type": "MULTI_GPU",  # also on a CPU: its word for processes of one machine
    "num_machines": 1,
    "machine_rank": 0,
    "mixed_precision": "no",  # the Trainer is told
}
DIED = re.compile(r"local_rank: (\d+)\)\s+exitcode\s*: (-\d+)")


def train_together(run: Run, key: str, name: str, making: Path, steps: Steps) -> Json:
    """Train the variant `name` in several processes, into the folder `making`; returns what the receipt says of it.

    If a device is full, they start again from the last checkpoint, with passes of half as many tokens.
    """
    asked = run.plan.experiment.train
    on = run.backend.devices_of_a_training(asked.processes)
    run.backend.let_go()  # the first of the processes computes on the device of this one
    given: Json = {
        "variant": key,
        "folder": str(run.model.folder),
        "out": str(making),
        "precision": run.precision,
        "parallel": asked.parallel,
    }
    while True:
        with TemporaryDirectory(prefix="spillover-") as made:
            folder = Path(made)
            (folder / FILE).write_text(json.dumps(given), "utf-8")
            _launch(command(run.store.address, name, "--share", str(folder / FILE)), on, folder, steps)
            if (folder / TRAINED).exists():
                trained: Json = json.loads((folder / TRAINED).read_text("utf-8"))
                return trained
            smaller = _why(folder, asked.processes)
        run.reporter.say(f"{name}: a device is full; going on with passes of {smaller} tokens")
        given["pack_tokens"] = smaller


def _launch(unit: Sequence[str], devices: Sequence[str], folder: Path, steps: Steps) -> None:
    """Start the processes and listen until they have ended. None is left, however this ends."""
    config = folder / "accelerate.json"
    config.write_text(json.dumps({**SETTINGS, "num_processes": len(devices), "use_cpu": devices[0] == "cpu"}), "utf-8")
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config), "--multi_gpu"]
    launcher += ["--num_processes", str(len(devices)), "--main_process_port", "0", "--no_python", *unit]
    with (folder / LOG).open("wb") as log:
        popen = subprocess.Popen(
            launcher,
            env=environment(devices),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            encoding="utf-8",
            start_new_session=True,
        )
    assert popen.stdin is not None and popen.stdout is not None
    try:
        for line in popen.stdout:
            with suppress(ValueError):  # a process that is killed may leave half a line
                match json.loads(line):
                    case ["step", step, of, loss]:
                        steps(step, of, loss)
    finally:
        popen.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            popen.wait(GRACE_S)
        popen.kill()
        popen.wait()


def environment(devices: Sequence[str]) -> dict[str, str]:
    """The environment of the processes: each sees these devices, and takes the one with its own number."""
    from ..engine.hf import TOGETHER
    from ..engine.memory import threads

    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ACCELERATE_", "FSDP_"))}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    numbers = [device.partition(":")[2] for device in devices if device != "cpu"]
    if visible is not None:
        numbers = [dict(enumerate(visible.split(","))).get(int(number), "") for number in numbers]
    own = {TOGETHER: "1", "SPILLOVER_DEVICE": devices[0].partition(":")[0], "CUDA_VISIBLE_DEVICES": ",".join(numbers)}
    if not kept.get("OMP_NUM_THREADS"):
        own["OMP_NUM_THREADS"] = str(max(1, threads() // len(devices)))
    return kept | own


def _why(folder: Path, processes: int) -> int:
    """Raise what ended the processes. If it is that a device is full, return how many tokens a pass may have next."""
    log = (folder / LOG).read_text("utf-8", "replace")
    together = f"{processes} processes trained it together"
    if died := DIED.search(log.partition("Root Cause")[2]):  # before it stand those that the launcher has ended
        signal = Signals(-int(died[2])).name
        why = " (as Linux does where memory runs out)" if signal == "SIGKILL" else ""
        raise ModelError(f"{together}, and process {died[1]} was killed by {signal}{why}") from RuntimeError(log)
    failed = sorted(folder.glob("failed-*.json"), key=lambda path: path.stat().st_mtime_ns)
    if not failed:
        raise ModelError(f"{together}, and they ended without a result") from RuntimeError(log)
    found: dict[str, Any] = json.loads(failed[0].read_text("utf-8"))  # the first; others only lost that one
    if found["kind"] == MEMORY:
        return int(found["smaller"])
    if kind := getattr(errors, found["kind"], None):
        raise kind(found["what"], where=found["where"], allowed=found["allowed"])
    raise ModelError(f"{together}, and one failed: {found['what']}") from RuntimeError(found["text"])

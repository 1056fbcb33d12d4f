"""Which devices a run uses. A process that it starts is told to see only its own device."""

from __future__ import annotations

import os

from ..errors import SpilloverError


def choose(devices: str) -> None:
    """Take the devices that `--device` names: one for this process, several for processes that it starts.

    Works as long as torch is not imported yet. Whether they exist is found out once a model is needed
    (`engine.hf.devices`): a run with nothing to do imports no torch.
    """
    names = devices.split(",")
    are_gpus = all(kind == "cuda" and number.isdigit() for kind, _, number in (name.partition(":") for name in names))
    if not (are_gpus or devices == "cuda" or set(names) == {"cpu"}):
        allowed = "cpu, cuda, cuda:0, cuda:1, ..., or several of one kind: cuda:0,cuda:1"
        raise SpilloverError(f"unknown device {devices!r}", where="--device", allowed=allowed)
    os.environ["SPILLOVER_DEVICE"] = devices
    if "cpu" in names or (are_gpus and len(names) == 1):
        os.environ["CUDA_VISIBLE_DEVICES"] = _visible(names[0])


def environment(device: str, processes: int) -> dict[str, str]:
    """The environment of a process that uses this device only, beside others that share the processor's cores."""
    own = {"SPILLOVER_DEVICE": device, "CUDA_VISIBLE_DEVICES": _visible(device)}
    if not os.environ.get("OMP_NUM_THREADS"):
        from ..engine.memory import threads

        own["OMP_NUM_THREADS"] = str(max(1, threads() // processes))
    return os.environ | own


def _visible(device: str) -> str:
    """CUDA_VISIBLE_DEVICES of a process that sees this device only. `cuda:N` counts those visible here, as in torch."""
    number = device.partition(":")[2]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not number or visible is None:
        return number
    return dict(enumerate(visible.split(","))).get(int(number), "")

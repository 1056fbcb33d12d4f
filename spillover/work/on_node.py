"""What a Ray task does on its node: it runs a process of `spillover work` for one variant, and hands on its messages.

This module is sent to the nodes as it is (by value), so that a node without spillover, or with another version of it,
can be told. It therefore imports the standard library only; the rest comes from the node's own package.
"""

from __future__ import annotations

import os
import platform
import queue
import time
from collections.abc import Iterator, Mapping
from typing import Any

TOGETHER_S = 0.2  # messages of this time travel together
BUSY_S, AGAIN_S = 180.0, 5.0  # how long, and how often, a variant is tried that another process holds


def work(address: str, variant: str, version: str, environment: Mapping[str, str]) -> Iterator[list[list[Any]]]:
    """Bring a variant of the folder at `address` to its end; yields its process's messages, some at a time.

    The first is ["at", WHERE], the last one ["ended", HOW]. A process of a node that was lost, or of a run that was
    killed a moment ago, may still hold the variant: then it is tried again for some minutes.
    """
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "") if environment["SPILLOVER_DEVICE"] == "cuda" else ""
    yield [["at", platform.node() + (f" cuda:{gpus}" if gpus else "")]]
    if (refusal := other_version(version)) is not None:
        yield [refusal, ["ended", "refused"]]
        return
    give_up = time.monotonic() + BUSY_S
    while True:
        is_busy = False
        for messages in process(address, variant, environment):
            is_busy = is_busy or any(one[:2] == ["refused", "StoreBusy"] for one in messages)
            if not is_busy or time.monotonic() > give_up:
                yield messages
        if not is_busy or time.monotonic() > give_up:
            return
        time.sleep(AGAIN_S)


def other_version(version: str) -> list[Any] | None:
    """A message that refuses a node whose spillover is another one than the run's."""
    try:
        import spillover

        found = f"spillover {spillover.__version__}"
    except ImportError as error:
        found = f"no spillover ({error})"
    if found == f"spillover {version}":
        return None
    return [
        "refused",
        "ClusterError",
        f"it has {found}",
        f"node {platform.node()}",
        f"spillover {version} on every node",
    ]


def process(address: str, variant: str, environment: Mapping[str, str]) -> Iterator[list[list[Any]]]:
    """Run the process; it ends with this task, however that ends."""
    from spillover.work.processes import Process, command

    inbox: queue.SimpleQueue[list[Any]] = queue.SimpleQueue()
    at_work = Process(command(address, variant), {**os.environ, **environment}, inbox.put, speaks=True)
    try:
        messages: list[list[Any]] = []
        while not messages or messages[-1][0] != "ended":
            messages = []
            try:
                messages.append(inbox.get(timeout=1.0))  # not for ever: a task is cancelled between two steps of Python
            except queue.Empty:
                continue
            time.sleep(TOGETHER_S)
            while not inbox.empty():
                messages.append(inbox.get())
            yield messages
    finally:
        at_work.stop()

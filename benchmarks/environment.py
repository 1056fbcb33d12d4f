"""What a machine is: device, memory, versions, the peers that are installed, and how fast products and copies are.

A dense product of matrices and a copy in memory are what this machine can do at most; other rates are read against it.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import time
from collections.abc import Callable
from typing import Any

import common
import measure
from meter import machine

PACKAGES = ("torch", "transformers", "peft", "accelerate", "tokenizers", "numpy", "trl", "lm_eval")


def facts(args: argparse.Namespace) -> dict[str, str]:
    """Name to value, in words."""
    import torch

    from spillover.engine.hf import device

    found = {"Python": platform.python_version(), "cores": str(os.cpu_count())}
    if torch.cuda.is_available():
        free, all_of_it = torch.cuda.mem_get_info()
        found |= {"device": torch.cuda.get_device_name(), "CUDA": str(torch.version.cuda)}
        found |= {"memory of the device": f"{all_of_it / 2**30:.0f} GiB, {free / 2**30:.0f} GiB free"}
    else:
        found |= {"device": "CPU"}
    found |= {"`precision: auto`": common.precision(args)}
    found |= {name: _version(name) for name in PACKAGES}
    for name in ("float32", "bfloat16"):
        rate = _products(torch, device(), getattr(torch, name), args.width)
        found[f"product of {args.width} x {args.width} in {name}"] = f"{rate / 1e12:.3g} TFLOP/s"
    found["copy in memory"] = f"{_copies(torch, device(), args.width) / 1e9:.3g} GB/s, read and written"
    return found


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def _products(torch: Any, on: Any, dtype: Any, width: int) -> float:
    """Operations a second of a square product."""
    a, b = (torch.randn(width, width, device=on).to(dtype) for _ in range(2))
    return 2 * width**3 / _seconds(torch, lambda: a @ b)


def _copies(torch: Any, on: Any, width: int) -> float:
    """Bytes a second, of a tensor that no cache holds at full size."""
    here = torch.ones(width, width, 4, device=on)
    there = torch.empty_like(here)
    return 2 * here.nbytes / _seconds(torch, lambda: there.copy_(here))


def _seconds(torch: Any, work: Callable[[], Any], times: int = 5) -> float:
    """The mean of some runs after two for warm-up."""
    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    for _ in range(2):
        work()
    wait()
    began = time.perf_counter()
    for _ in range(times):
        work()
    wait()
    return (time.perf_counter() - began) / times


def main() -> None:
    options = common.options(__doc__)
    options.add_argument("--width", type=int, default=8192, help="of the matrices")
    args = options.parse_args()
    found = facts(args)
    print("\n".join(f"{name}: {value}" for name, value in found.items()))
    measure.write_json(args.json, {"facts": found, "machine": machine(args)})


if __name__ == "__main__":
    main()

"""What a run asks of the computer: its processor or GPU, its threads, and memory for the next model."""

from __future__ import annotations

import gc
import platform

import torch

from .memory import reuse_memory


def name() -> str:
    """The device on which this process computes."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"{platform.machine()} CPU"


def threads() -> int:
    """How many threads an operation may use."""
    return torch.get_num_threads()


def free_memory() -> None:
    """Free the memory of the model before this one, with its gradients and the moments of AdamW.

    Modules, optimisers and tracebacks refer to themselves in circles, which Python breaks only now and then.
    """
    reuse_memory()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

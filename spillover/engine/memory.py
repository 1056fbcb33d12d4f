"""The computer of a run: its processor or GPU, its threads, and memory for the next pass and the next model.

By default the C library of Linux returns much of a layer's memory to the system, and gets it back in zeroed pages of
4 KB. Keeping the memory avoids this and changes no number; docs/log.md has the gain and the cost. Only the processes of
a run do this, so `work.backend` calls it; a library must not change its caller's allocator.
"""

from __future__ import annotations

import ctypes
import gc
import math
import os
import platform
from pathlib import Path

import torch

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
NEVER = -1  # gives back the end of the heap
LARGEST_BLOCK = 2**30  # bytes of an allocation that is still served from the heap


def device_name() -> str:
    """The device on which this process computes."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"{platform.machine()} CPU"


def threads() -> int:
    """How many threads an operation may use."""
    return torch.get_num_threads()


def reuse_memory() -> bool:
    """Make this process keep freed memory and use large pages. False if the C library is not glibc.

    For large pages PyTorch has a switch (`THP_MEM_ALLOC_ENABLE`), which it reads once, before its first large tensor.
    If the user has set it, or one of glibc's variables (`MALLOC_TRIM_THRESHOLD_` and the like), that stays as it is.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    chosen = {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"} & os.environ.keys()
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if chosen or mallopt is None:
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST_BLOCK) and mallopt(M_TRIM_THRESHOLD, NEVER))


def free_memory() -> None:
    """Free the memory of the model before this one, with its gradients and the moments of AdamW.

    Modules, optimisers and tracebacks refer to themselves in circles, which Python breaks only now and then. Linux gets
    the free pages back here: kept memory lies in pieces between what is in use, and would grow with each model.
    """
    reuse_memory()
    gc.collect()
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None:
        trim(0)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def free_bytes() -> float:
    """The memory of the device that is free now; infinite if the system does not say."""
    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()[0]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return math.inf
    return next((int(line.split()[1]) * 1024.0 for line in lines if line.startswith("MemAvailable:")), math.inf)


def total_bytes() -> float:
    """The memory of the device; infinite if the system does not say."""
    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()[1]
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")) if hasattr(os, "sysconf") else math.inf


def out_of_memory(error: RuntimeError) -> bool:
    """Whether the error says that a device's memory is full. (Linux may kill a process instead.)"""
    return type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)  # on GPUs, on CPUs

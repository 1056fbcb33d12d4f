"""Memory: keeping freed memory for the next pass, and recognising that a device has none left.

Every layer of a pass allocates tens of megabytes and frees them again. By default the C library of Linux returns much
of that to the system. The system hands it out again in pages of 4 KB, each zeroed on first use: up to a million page
faults in half a minute. Keeping the memory avoids this and changes no number. It helps most with long prompts
(`benchmarks/memory_reuse.py`). It costs memory if passes differ in size: a sixth of the peak in a training step on
XSum (docs/log.md). Only the processes of a run do this, so `work.backend` calls it; a library must not change its
caller's allocator.
"""

from __future__ import annotations

import ctypes
import os

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
NEVER = -1  # gives back the end of the heap
LARGEST_BLOCK = 2**30  # bytes of an allocation that is still served from the heap


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


def out_of_memory(error: RuntimeError) -> bool:
    """Whether the error says that a device's memory is full. (Linux may kill a process instead.)"""
    return type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)  # on GPUs, on CPUs

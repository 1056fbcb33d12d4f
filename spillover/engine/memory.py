"""How a run takes a machine's memory: in large pages, kept between passes, and in smaller passes where it is full.

Every layer of a pass allocates tens of megabytes and frees them again. By default the C library of Linux gives much of
that back to the system, which hands it out again in pages of 4 KB, each filled with zeros on its first use: up to a
million page faults in half a minute. What a run does instead changes no number and helps most where prompts are long
(`benchmarks/memory_reuse.py`); it costs memory where passes differ in size, a sixth of the peak in a training step on
XSum (docs/log.md). It is for processes that are a run's own: a library leaves its caller's
allocator alone, so `spillover.run.backend` asks for it and the engine does not.
"""

from __future__ import annotations

import ctypes
import os

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
NEVER = -1  # gives back the end of the heap
LARGEST_BLOCK = 2**30  # bytes of an allocation that is still served from the heap


def reuse_memory() -> bool:
    """This process keeps what it frees, to use it again, and takes large pages. False where the C library is not glibc.

    Large pages are PyTorch's own switch (`THP_MEM_ALLOC_ENABLE`), which it reads once, before its first large tensor.
    Who has set it, or one of glibc's variables (`MALLOC_TRIM_THRESHOLD_` and the like), has chosen: it is left alone.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    chosen = {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"} & os.environ.keys()
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if chosen or mallopt is None:
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST_BLOCK) and mallopt(M_TRIM_THRESHOLD, NEVER))


def out_of_memory(error: RuntimeError) -> bool:
    """Whether a device said that its memory is full, and smaller passes may fit. Linux may end a process instead."""
    return type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)  # torch's GPUs, its CPU

"""What passes take of a machine's memory: kept between them, and halved where it does not suffice.

Every layer of a pass allocates tens of megabytes and frees them again. By default the C library of Linux gives such
blocks back to the system when it has enough of them, and the system hands them out again page by page, filled with
zeros. Where the keys of many long prompts are held beside, that is up to a million page faults in half a minute, and
some 8 % of the time (`benchmarks/freed_memory.py`); with short prompts, nothing that could be measured.
"""

from __future__ import annotations

import ctypes
import os

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
MOST_KEPT = 2**31 - 1  # bytes at the heap's top: the most that mallopt can be told
LARGEST_BLOCK = 2**30  # bytes of an allocation that is still served from the heap


def keep_freed_memory() -> bool:
    """This process keeps up to 2 GB that were freed, to use them again. False where the C library is not glibc.

    Who has set glibc's own variables (`MALLOC_TRIM_THRESHOLD_` and the like) has chosen already: they are left alone.
    """
    chosen = {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"} & os.environ.keys()
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if chosen or mallopt is None:
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST_BLOCK) and mallopt(M_TRIM_THRESHOLD, MOST_KEPT))


def out_of_memory(error: RuntimeError) -> bool:
    """Whether a device said that its memory is full, and smaller passes may fit. Linux may end a process instead."""
    return type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)  # torch's GPUs, its CPU

"""Freed memory is used again: a pass that frees a block and takes it again costs the system nothing."""

import resource
import subprocess
import sys

import pytest

from spillover.engine.memory import out_of_memory

BLOCK = 64 * 2**20

TAKE_AND_FREE = f"""
import resource, torch
from spillover.engine.memory import keep_freed_memory
kept = keep_freed_memory()
for _ in range(20):  # small things fill the gaps first
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones({BLOCK} // 4)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(int(kept), faults)
"""


def faults(monkeypatch: pytest.MonkeyPatch, **variables: str) -> tuple[bool, int]:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    ran = subprocess.run([sys.executable, "-c", TAKE_AND_FREE], capture_output=True, text=True, check=True)
    kept, count = map(int, ran.stdout.split())
    return bool(kept), count


def test_a_block_that_was_freed_is_taken_again_without_page_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    kept, count = faults(monkeypatch)
    if not kept:
        pytest.skip("the C library here is not glibc")
    assert count < BLOCK // resource.getpagesize() // 100


def test_what_the_user_told_glibc_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    kept, count = faults(monkeypatch, MALLOC_MMAP_THRESHOLD_="131072", THP_MEM_ALLOC_ENABLE="0")
    assert not kept
    assert count >= BLOCK // resource.getpagesize()


def test_a_full_memory_is_told_from_a_bug() -> None:
    assert out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried ..."))
    assert not out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))

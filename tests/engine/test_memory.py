"""A run's memory: a block that was freed is taken again at no cost to the system, and new ones come in large pages."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from spillover.engine.memory import out_of_memory

BLOCK = 64 * 2**20
PAGES = BLOCK // resource.getpagesize()
LARGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")

TAKE_AND_FREE = f"""
import sys
import resource
from spillover.engine.memory import reuse_memory
reused = reuse_memory()
import torch
if "trainer" in sys.argv:
    from spillover.train import trainer  # with all that a training imports
torch.zeros(2**20)  # what PyTorch allocates once
faults = []
for _ in range(20):  # small things fill the gaps first
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones({BLOCK} // 4)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(int(reused), faults[0], faults[-1])
"""

LARGE_PAGES_ASKED_FOR = f"""
import mmap, resource
page, block = bytes(4096), mmap.mmap(-1, {BLOCK}, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
block.madvise(mmap.MADV_HUGEPAGE)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range({BLOCK} // 4096):
    block.write(page)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(monkeypatch: pytest.MonkeyPatch, *imported: str, **variables: str) -> tuple[bool, int, int]:
    """Whether memory is used again, and the page faults of taking a block for the first and the last time."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    command = [sys.executable, "-c", TAKE_AND_FREE, *imported]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    reused, first, last = map(int, ran.stdout.split())
    return bool(reused), first, last


@pytest.mark.slow
def test_a_block_that_was_freed_is_taken_again_without_page_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    reused, first, last = faults(monkeypatch, "trainer", THP_MEM_ALLOC_ENABLE="0")
    if not reused:
        pytest.skip("the C library here is not glibc")
    assert first > PAGES // 2  # imports may have left free memory at the heap's end, which the first block takes too
    assert last < PAGES // 100


def test_new_memory_comes_in_large_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("THP_MEM_ALLOC_ENABLE", raising=False)
    if not LARGE_PAGES.exists() or "[never]" in LARGE_PAGES.read_text("utf-8"):
        pytest.skip("this system has no large pages")
    control = subprocess.run([sys.executable, "-c", LARGE_PAGES_ASKED_FOR], capture_output=True, text=True, check=True)
    if int(control.stdout) >= PAGES // 4:
        pytest.skip("this system has no large pages left")
    assert faults(monkeypatch)[1] < PAGES // 4


def test_what_the_user_chose_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    reused, first, last = faults(monkeypatch, MALLOC_MMAP_THRESHOLD_="131072", THP_MEM_ALLOC_ENABLE="0")
    assert not reused
    assert min(first, last) >= PAGES


def test_a_full_memory_is_told_from_a_bug() -> None:
    assert out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried ..."))
    assert not out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


FREED = f"""
from pathlib import Path
from spillover.engine.memory import free_memory, reuse_memory
reuse_memory()
import torch
def resident():
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return 1024 * int(line.split()[1])
blocks = [torch.ones({BLOCK} // 4) for _ in range(6)]
del blocks[:-1]  # the last one lies behind the others, as what is in use lies behind the model before
kept = resident()
free_memory()
print(kept - resident())
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
def test_between_models_free_memory_goes_back_to_the_system() -> None:
    ran = subprocess.run([sys.executable, "-c", FREED], capture_output=True, text=True, check=True)
    assert int(ran.stdout) > 4 * BLOCK

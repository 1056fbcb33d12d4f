"""Fixture: a small vLLM in place of the real one, for this test."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
from paths import ROOT


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module `vllm`, unspoilt. What it was before is there again afterwards."""
    before = {name: sys.modules.pop(name) for name in [*sys.modules] if name.partition(".")[0] == "vllm"}
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "support" / "fakevllm"))
    for name in ("VLLM_LOGGING_LEVEL", "VLLM_NO_USAGE_STATS", "VLLM_ENABLE_V1_MULTIPROCESSING"):
        monkeypatch.setenv(name, "1")  # so that what the engine sets is gone afterwards
    import vllm

    yield vllm
    for name in [name for name in sys.modules if name.partition(".")[0] == "vllm"]:
        del sys.modules[name]
    sys.modules.update(before)

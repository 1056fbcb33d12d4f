"""What a model is loaded with where the YAML leaves it open."""

from __future__ import annotations

import pytest
import torch

from spillover.engine.hf import resolve_precision


@pytest.mark.parametrize(
    ("capabilities", "precision"),
    [
        ({"avx2": True}, "float32"),
        ({"avx512_bf16": True, "amx_bf16": False}, "float32"),  # it has the instruction, but float32 is faster there
        ({"avx512_bf16": True, "amx_bf16": True}, "bfloat16"),
    ],
)
def test_auto_is_bfloat16_only_where_the_cpu_has_matrix_units_for_it(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], precision: str
) -> None:
    monkeypatch.setenv("SPILLOVER_DEVICE", "cpu")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert resolve_precision("auto") == precision
    assert resolve_precision("float32") == "float32"
    assert resolve_precision("bfloat16") == "bfloat16"  # as asked, however slow

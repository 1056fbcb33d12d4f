"""What a model is loaded with where the YAML leaves it open."""

from __future__ import annotations

import pytest
import torch

from spillover.engine.hf import resolve_precision


@pytest.mark.parametrize(
    ("capabilities", "precision"),
    [
        ({"avx2": True}, "float32"),
        ({"avx512_bf16": True, "amx_bf16": True, "cpu_name": "Intel"}, "bfloat16"),
        ({"avx512_bf16": True, "amx_bf16": False, "cpu_name": "Intel"}, "float32"),  # with the instruction, but slow
        ({"avx512_bf16": True, "cpu_name": "AMD EPYC"}, "bfloat16"),
        ({"avx512_f": True, "cpu_name": "AMD EPYC"}, "float32"),
    ],
)
def test_auto_is_bfloat16_only_where_the_cpu_multiplies_it_faster(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool | str], precision: str
) -> None:
    monkeypatch.setenv("SPILLOVER_DEVICE", "cpu")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert resolve_precision("auto") == precision
    assert resolve_precision("float32") == "float32"
    assert resolve_precision("bfloat16") == "bfloat16"  # as asked, however slow

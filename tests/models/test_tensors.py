"""Headers and tensors of safetensors files, as torch's own reader sees them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from spillover.errors import ModelError
from spillover.models.tensors import stored_tensors

TENSORS = {
    "a": torch.randn(3, 4, generator=torch.Generator().manual_seed(0)),
    "b": torch.randn(5, generator=torch.Generator().manual_seed(1)).bfloat16(),
    "c": torch.tensor([[1.5, -2.0]], dtype=torch.float16),
    "d": torch.arange(3, dtype=torch.float64),
    "none": torch.zeros(0, 2),
    "counts": torch.arange(4),
}


def test_every_tensor_is_found_and_read_as_float32(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "x.safetensors", {"format": "pt"})
    found = stored_tensors(tmp_path / "x.safetensors")
    assert {name: one.shape for name, one in found.items()} == {name: tuple(t.shape) for name, t in TENSORS.items()}
    assert [name for name in TENSORS if not found[name].is_float] == ["counts"]
    for name in "abcd":
        read = found[name].read()
        assert read.dtype == np.float32
        np.testing.assert_array_equal(read, TENSORS[name].float().numpy())
    assert found["none"].read().shape == (0, 2)


@pytest.mark.parametrize(("keep", "more"), [(-1, b""), (None, b"x"), (5, b""), (0, b""), (0, b"\0" * 99)])
def test_a_file_that_is_not_whole_is_refused(tmp_path: Path, keep: int | None, more: bytes) -> None:
    path = tmp_path / "x.safetensors"
    save_file(TENSORS, path)
    path.write_bytes(path.read_bytes()[:keep] + more)
    with pytest.raises(ModelError, match=r"org/name: x\.safetensors is not"):
        stored_tensors(path, where="org/name")

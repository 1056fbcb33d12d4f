"""Tensors in safetensors files, read without torch: the header of a file, or one tensor at a time.

The header, in JSON, tells each tensor's type, shape and place, and so how long the file must be. Tensors are mapped
into memory and read when they are used. numpy has no bfloat16; its bits are the upper half of a float32's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..disk import from_json
from ..errors import ModelError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


@dataclass(frozen=True)
class Stored:
    """A tensor on disk: its type as safetensors names it, its shape, and its first byte in the file."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int

    @property
    def is_float(self) -> bool:
        return self.dtype in FLOATS

    def read(self) -> npt.NDArray[np.float32]:
        """The tensor as float32. If it is stored as float32, it is read from disk when it is used."""
        import numpy as np

        if 0 in self.shape:
            return np.zeros(self.shape, dtype=np.float32)
        raw = np.memmap(self.path, mode="r", dtype=FLOATS[self.dtype], offset=self.offset, shape=self.shape)
        if self.dtype == "BF16":
            return (raw.astype(np.uint32) << 16).view(np.float32)
        return np.asarray(raw, dtype=np.float32)


def stored_tensors(path: Path, where: str | None = None) -> dict[str, Stored]:
    """The tensors of a safetensors file by name, from its header. Raises ModelError, at `where`, if it is not whole."""
    size = path.stat().st_size
    try:
        with path.open("rb") as handle:
            begin = 8 + int.from_bytes(handle.read(8), "little")
            header = from_json(handle.read(begin - 8) if begin <= size else b"")
        header.pop("__metadata__", None)
        places = {name: [begin + offset for offset in entry["data_offsets"]] for name, entry in header.items()}
        if size == max((end for _, end in places.values()), default=begin):
            return {
                name: Stored(path, str(entry["dtype"]), tuple(map(int, entry["shape"])), places[name][0])
                for name, entry in header.items()
            }
    except (ValueError, TypeError, KeyError, AttributeError):
        pass
    what = f"{path.name} is not a safetensors file, or only a part of one"
    raise ModelError(what, where=where or str(path.parent), allowed="copy or download it again")


def parameters(files: Iterable[Path]) -> int:
    """The number of parameters in safetensors files."""
    return sum(math.prod(tensor.shape) for path in files for tensor in stored_tensors(path).values())

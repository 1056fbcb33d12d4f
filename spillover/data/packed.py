"""Compressed files: the bytes of a file, whatever it is packed with. A file that ends too early is an error."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ..errors import DataError


def _zst(raw: bytes) -> bytes:
    import pyarrow

    with pyarrow.input_stream(pyarrow.BufferReader(raw), compression="zstd") as stream:
        return bytes(stream.read())


PACKED: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.decompress,
    ".zst": _zst,
    ".bz2": bz2.decompress,
    ".xz": lzma.decompress,
}
"""How a file is unpacked, by the ending of its name."""

PACKS: dict[str, Callable[[bytes], bytes]] = {".gz": partial(gzip.compress, mtime=0), ".xz": lzma.compress}
"""How one is packed. The same content gives the same bytes."""


def unpacked(path: Path, name: str) -> bytes:
    """The bytes of a file, unpacked where its name says that it is packed. Raises DataError for a broken archive."""
    raw, unpack = path.read_bytes(), PACKED.get(path.suffix.lower())
    if unpack is None or not raw:
        return raw
    try:
        return unpack(raw)
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        what = f"is no whole {path.suffix.lower()} archive: {why}"
        raise DataError(what, where=name, allowed="copy or compress the file again") from None

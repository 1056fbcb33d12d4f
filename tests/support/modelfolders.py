"""Folders that pass for a model, a few bytes each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def safetensors(values: bytes) -> bytes:
    header = json.dumps({"w": {"dtype": "U8", "shape": [len(values)], "data_offsets": [0, len(values)]}}).encode()
    return len(header).to_bytes(8, "little") + header + values


def model_folder(folder: Path, values: bytes = b"12345678", **config: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "_name_or_path": str(folder), **config}))
    (folder / "model.safetensors").write_bytes(safetensors(values))
    (folder / "tokenizer.json").write_text("{}")
    return folder

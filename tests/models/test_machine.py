"""What is asked of this computer, and that asking loads nothing heavy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from modelfolders import model_folder

from spillover import models


def test_nothing_heavy_is_imported(tmp_path: Path) -> None:
    model_folder(tmp_path / "one")
    code = (
        "import sys; from pathlib import Path; from spillover import models; from spillover.text import encode;"
        f"models.resolve('one', Path({str(tmp_path)!r})); models.versions();"
        "print([m for m in ('torch', 'transformers', 'huggingface_hub', 'jinja2') if m in sys.modules])"
    )
    root = str(Path(models.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {root!r}); {code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_versions_name_what_is_installed() -> None:
    found = models.versions()
    assert {"torch", "transformers", "tokenizers"} <= found.keys()

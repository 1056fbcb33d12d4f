"""The scripts of docs/, which are no package: one of them as a module. They import each other as if run there."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

from paths import ROOT

sys.path.append(str(ROOT / "docs"))


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"docs_{name}", ROOT / "docs" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

"""The benchmark scripts, which are no package: where they are, and one of them as a module."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import tinymodels
from paths import ROOT

BENCHMARKS = ROOT / "benchmarks"


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", BENCHMARKS / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


def tiny_study(folder: Path, tokenizer: Path) -> list[str]:
    """A release of a few rows and a model of a few weights in `folder`; the options that name them.

    The model has the tokenizer in the folder `tokenizer`.
    """
    made = tinymodels.build(vocab_size=49152, max_position_embeddings=2048)
    made.save_pretrained(folder / "tiny")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tokenizer / name, folder / "tiny")
    pairs = [{"input_1": f"Cat {n} sleeps.", "input_2": "It rests.", "output": "neutral"} for n in range(48)]
    texts = [{"input": f"A cat slept {n} hours.", "output": f"A cat slept {n}."} for n in range(40)]
    asked = [{"input": f"I saw {n} cats.", "answer": str(n), "output": "How many cats were seen?"} for n in range(16)]
    files = {
        "inference/multinli_test_500": pairs[:8],
        "inference/multinli_train_2000": pairs[8:],
        "inference/few_shot/multinli_few_shot": [{**row, "input_1": f"New: {row['input_1']}"} for row in pairs[:12]],
        "summary/xsum_test_500": texts[:4],
        "summary/xsum_train_2000": texts[4:],
        "summary/few_shot/xsum_few_shot": [{**row, "input": f"New: {row['input']}"} for row in texts[:8]],
        "question/tweetqa_test_500": asked[:8],
        "question/few_shot/tweetqa_few_shot": asked[8:],
    }
    for name, rows in files.items():
        path = folder / "release" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(rows))
    return ["--model", str(folder / "tiny"), "--data-dir", str(folder / "release"), "--threads", "1"]

"""A backend without torch: fake weights, a fake engine, and a count of what was executed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from spillover.engine.fake import FakeEngine
from spillover.engine.port import Answer
from spillover.run.backend import Backend

NORM = "model.norm.weight"


class Killed(BaseException):
    """A process that dies: no handler of the program may catch it."""


@dataclass
class Executed:
    """How often what was done; `die_at` kills the process in the middle of the n-th answer."""

    trained: Counter[str] = field(default_factory=Counter)
    answers: int = 0
    die_at: int | None = None
    die_in_training: str | None = None

    def backend(self) -> Backend:
        return Backend(train=self.train, load=self.load, precision=lambda asked: "float32", devices=lambda: ["cpu"])

    def train(
        self, folder: Path, built: Any, job: Any, experiment: Any, out: Path, precision: str, progress: Any
    ) -> dict[str, Any]:
        self.trained[job.variant.name] += 1
        if self.die_in_training == job.variant.name:
            self.die_in_training = None
            raise Killed
        with safe_open(folder / "model.safetensors", "np") as base:  # one of its weights, so that the two compare
            shape = base.get_slice(NORM).get_shape()
        weights = np.full(shape, sum(sum(sample.ids) for sample in built.samples), dtype=np.float32)
        (out / "config.json").write_text("{}")
        save_file({NORM: weights}, out / "model.safetensors")
        progress(1, 1, 0.5)
        return {"steps": 1, "loss": 0.5, "seconds": 1.0, "tokens": 10, "tokens_plain": 20}

    def load(self, folder: Path, encoder: Any, precision: str, asked: str, **own: Any) -> tuple[Any, None]:
        outer = self

        class Counting(FakeEngine):
            def _answer(self, request: Any) -> Answer:
                outer.answers += 1
                if outer.die_at is not None and outer.answers == outer.die_at:
                    raise Killed
                return super()._answer(request)

        return Counting(salt=folder.name if (folder / "model.safetensors").stat().st_size < 1e6 else "base"), None

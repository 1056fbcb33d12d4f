"""A backend without torch: fake weights, a fake engine, and a count of what was executed."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from spillover.engine.port import Answer, Work
from spillover.text.request import Request, StopRule

NORM = "model.norm.weight"


class Killed(BaseException):
    """A process that dies: no handler of the program may catch it."""


class FakeEngine:
    """Answers from a hash of the request's ids and `salt`: the same in every process, whatever else is asked.

    `vocabulary` bounds the generated ids.
    """

    def __init__(self, salt: str = "", vocabulary: int = 200) -> None:
        self.salt, self.vocabulary, self.work = salt, vocabulary, Work()

    def run(self, requests: Sequence[Request], stop: StopRule) -> Iterator[tuple[int, Answer]]:
        """Yield (index, answer) in order."""
        for number, request in enumerate(requests):
            self.work.tokens_plain += len(request.prompt)
            self.work.tokens += len(request.prompt)
            self.work.seconds += 0.001
            yield number, self._answer(request)

    def _answer(self, request: Request) -> Answer:
        logprobs = tuple(
            tuple(-10 * self._draw(*request.prompt, *option[: i + 1]) for i in range(len(option)))
            for option in request.options
        )
        top = request.options[0][0] if request.options else self._token(request, 0)
        if request.options or not request.max_new_tokens:
            return Answer(logprobs, top, greedy=tuple(sum(option) > -2.0 for option in logprobs))
        generated = tuple(self._token(request, i) for i in range(min(4, request.max_new_tokens)))
        return Answer(logprobs, top, generated, "end" if len(generated) < request.max_new_tokens else "limit")

    def _token(self, request: Request, step: int) -> int:
        return 40 + int(self._draw(step, *request.prompt) * self.vocabulary)

    def _draw(self, *ids: int) -> float:
        digest = hashlib.sha256(f"{self.salt} {ids}".encode()).digest()
        return int.from_bytes(digest[:6], "big") / 2**48


@dataclass
class Executed:
    """How often what was done; `die_at` kills the process in the middle of the n-th answer."""

    trained: Counter[str] = field(default_factory=Counter)
    answers: int = 0
    die_at: int | None = None
    die_in_training: str | None = None

    def backend(self) -> Any:
        return SimpleNamespace(
            train=self.train,
            merge=self.merge,
            load=self.load,
            precision=lambda requested: "float32",
            devices=lambda: ["cpu"],
            has_room=lambda folder: True,
        )

    def train(
        self, folder: Path, built: Any, job: Any, experiment: Any, out: Path, precision: str, progress: Any
    ) -> dict[str, Any]:
        self.trained[job.variant.name] += 1
        if self.die_in_training == job.variant.name:
            self.die_in_training = None
            raise Killed
        with safe_open(folder / "model.safetensors", "np") as base:  # one of its weights, so that the two compare
            shape = base.get_slice(NORM).get_shape()
        samples = built.of_step(0, range(built.rows))
        weights = np.full(shape, sum(sum(sample.ids) for sample in samples), dtype=np.float32)
        (out / "config.json").write_text("{}")
        save_file({NORM: weights}, out / "model.safetensors")
        progress(1, 1, 0.5)
        return {"steps": 1, "loss": 0.5, "seconds": 1.0, "tokens": 10, "tokens_plain": 20}

    def merge(self, base: Path, trained: Sequence[Path], job: Any, out: Path, trust: bool) -> float:
        """Copy the first of the trained ones, marked with the job's own key."""
        self.trained[job.variant.name] += 1
        with safe_open(trained[0] / "model.safetensors", "np") as parent:
            weights = parent.get_tensor(NORM)
        (out / "config.json").write_text("{}")
        save_file({NORM: weights + int(job.variant.key[:4], 16)}, out / "model.safetensors")
        return 0.1

    def load(self, folder: Path, encoder: Any, precision: str, asked: str, **own: Any) -> tuple[Any, None]:
        outer = self

        class Counting(FakeEngine):
            def _answer(self, request: Any) -> Answer:
                outer.answers += 1
                if outer.die_at is not None and outer.answers == outer.die_at:
                    raise Killed
                return super()._answer(request)

        return Counting(salt=folder.name if (folder / "model.safetensors").stat().st_size < 1e6 else "base"), None

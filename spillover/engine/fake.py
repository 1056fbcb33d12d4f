"""An engine without a model, for tests of everything around one.

Its log-probabilities and tokens are drawn from a hash of the request, so they are the same in every
process, whatever is batched with what, and different for different prompts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from .port import Answer, Request, StopRule, Work


class FakeEngine:
    """Answers requests from a hash of their ids and `salt`. `vocabulary` bounds the generated ids."""

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
            return Answer(logprobs, top)
        return Answer(logprobs, top, tuple(self._token(request, i) for i in range(min(4, request.max_new_tokens))))

    def _token(self, request: Request, step: int) -> int:
        return 40 + int(self._draw(step, *request.prompt) * self.vocabulary)

    def _draw(self, *ids: int) -> float:
        digest = hashlib.sha256(f"{self.salt} {ids}".encode()).digest()
        return int.from_bytes(digest[:6], "big") / 2**48

"""One small look at a real model: the two engines agree where the answers mean something."""

from __future__ import annotations

from pathlib import Path

import pytest

from spillover.engine.hf import load_engine
from spillover.engine.shared import SharedEngine
from spillover.text.encode import Encoder
from spillover.text.prompt import render
from spillover.text.request import Request
from spillover.text.task import FIVE, Example

LABELS = ("positive", "negative")
DEMOS = [Example(0, {"input": "A joy to watch."}, "positive"), Example(1, {"input": "A waste of time."}, "negative")]
TEXTS = ["I loved every minute of it.", "Dull and far too long."]


def test_both_engines_agree_on_smollm2(smollm2: Path) -> None:
    encoder = Encoder.load(smollm2)
    fmt = FIVE["sentiment"].prompts["p1"]
    prompts = [render(fmt, DEMOS[:k], Example(2, {"input": text}, "")) for text in TEXTS for k in (0, 2)]
    asked = [Request(*split) for split in encoder.options(prompts, [LABELS] * len(prompts))]
    asked.append(Request(encoder.prompt_for_generation(["Once upon a time"])[0], (), 6))
    shared, reason = load_engine(smollm2, encoder, "float32")
    plain, _ = load_engine(smollm2, encoder, "float32", asked="plain")
    assert isinstance(shared, SharedEngine)
    assert reason is None
    ours, theirs = (dict(engine.run(asked, encoder.stop_rule())) for engine in (shared, plain))
    for number in range(len(asked)):
        mine, other = ours[number], theirs[number]
        assert mine.generated == other.generated
        assert mine.top == other.top
        for a, b in zip(mine.logprobs, other.logprobs, strict=True):
            assert a == pytest.approx(b, abs=1e-4)
    # Two demonstrations in, it can tell them apart: the numbers are not those of noise.
    (loved, _), (_, dull) = (
        ((answer := theirs[number].logprobs)[0][0] - answer[1][0], answer[1][0] - answer[0][0]) for number in (1, 3)
    )
    assert loved > 0
    assert dull > 0
    assert encoder.decode(ours[4].generated or ()).startswith(",")
    assert shared.work.tokens < plain.work.tokens / 2

"""What depends on the length of a text: how far prefixes are shared, and that an answer depends on its text alone."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tinymodels
import torch
from answers import ask

from spillover.engine.hf import load_engine, load_model
from spillover.engine.lengths import frequencies, limit, turn
from spillover.engine.plain import PlainEngine
from spillover.engine.shared import SharedEngine
from spillover.text.encode import Encoder
from spillover.text.request import Request

LONG = {
    "rope_type": "longrope",
    "rope_theta": 10_000.0,
    "short_factor": [1.0] * 4,
    "long_factor": [1.0, 2.0, 4.0, 8.0],
    "original_max_position_embeddings": 24,
}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10_000.0, "factor": 4.0}
YARN = {"rope_type": "yarn", "rope_theta": 10_000.0, "factor": 4.0, "original_max_position_embeddings": 24}
PLAIN = {"rope_type": "default", "rope_theta": 10_000.0}
PHI3 = {"rope_parameters": LONG, "original_max_position_embeddings": 24}
NTK = {"rope_parameters": DYNAMIC, "max_position_embeddings": 24}
TEXT = tuple(torch.randint(4, 50, (48,), generator=torch.Generator().manual_seed(1)).tolist())


def remote(**settings: Any) -> Any:
    """A configuration that came with a model, in the words of older versions."""
    text = SimpleNamespace(**settings)
    return SimpleNamespace(get_text_config=lambda: text)


CONFIGS: dict[str, tuple[Any, int | None]] = {
    "no scaling": (tinymodels.config(), None),
    "YaRN, the same for all lengths": (tinymodels.config(rope_parameters=YARN), None),
    "LongRoPE": (tinymodels.config("Phi3", **PHI3), 24),
    "dynamic NTK": (tinymodels.config(**NTK), 24),
    "a window": (tinymodels.config("Mistral", sliding_window=16), 16),
    "the narrower of a window and a change": (tinymodels.config("Mistral", sliding_window=16, **NTK), 16),
    "the earlier of a window and a change": (tinymodels.config("Mistral", sliding_window=40, **NTK), 24),
    "some layers only": (
        tinymodels.config(
            "Gemma3Text",
            head_dim=8,
            max_position_embeddings=24,
            sliding_window=512,
            rope_parameters={"sliding_attention": PLAIN, "full_attention": DYNAMIC},
        ),
        24,
    ),
    "a model's own, by its old name": (
        remote(rope_scaling={"type": "su"}, original_max_position_embeddings=24, max_position_embeddings=96),
        24,
    ),
    "a model's own, dynamic": (remote(rope_scaling={"type": "dynamic"}, max_position_embeddings=24), 24),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_up_to_where_a_token_is_computed_as_in_any_other_text(name: str) -> None:
    config, most = CONFIGS[name]
    assert limit(config) == most
    changes = turn(config)
    assert frequencies(config, 1) == frequencies(config, changes or 10**6)
    if changes is not None:
        assert frequencies(config, 1) != frequencies(config, changes + 1)


def test_longrope_changes_once_and_dynamic_ntk_with_every_length() -> None:
    longrope, dynamic = CONFIGS["LongRoPE"][0], CONFIGS["dynamic NTK"][0]
    assert frequencies(longrope, 25) == frequencies(longrope, 90)
    assert frequencies(dynamic, 25) != frequencies(dynamic, 26)


@pytest.mark.parametrize(("kind", "changes"), [("Phi3", PHI3), ("Llama", NTK)])
@pytest.mark.parametrize("asked", ["shared", "plain"])
def test_answers_do_not_depend_on_the_texts_before_them(
    tmp_path: Path, kind: str, changes: dict[str, Any], asked: str
) -> None:
    """transformers keeps the frequencies of a long text for texts of just the length from which they change."""
    folder = tinymodels.save(tinymodels.build(kind, **changes), tmp_path)
    requests = [Request(TEXT[:at], ((4, 5),), 3) for at in (46, 24, 23, 30, 8)]

    def answers(these: list[Request]) -> list[Any]:
        engine, _ = load_engine(folder, Encoder.load(folder), "float32", asked, longest=49)  # type: ignore[arg-type]
        assert isinstance(engine, PlainEngine)
        given = ask(engine, these)
        return [given[i] for i in range(len(these))]

    alone = [answers([request])[0] for request in requests]
    assert answers(requests) == alone
    assert answers(requests[::-1]) == alone[::-1]


@pytest.mark.parametrize(("kind", "changes"), [("Phi3", PHI3), ("Llama", NTK)])
def test_what_is_generated_is_what_a_pass_over_the_whole_text_says(
    tmp_path: Path, kind: str, changes: dict[str, Any]
) -> None:
    """A cache that was made before the frequencies changed would say something else."""
    folder = tinymodels.save(tinymodels.build(kind, **changes), tmp_path)
    model = load_model(folder, "float32").eval()
    for start in (20, 23, 24, 30):
        said = ask(PlainEngine(model, frozenset()), [Request(TEXT[:start], (), 6)])[0].generated or ()
        text = list(TEXT[:start])
        for token in said:
            assert int(model(input_ids=torch.tensor([text]), use_cache=False).logits[0, -1].argmax()) == token
            text.append(token)


def test_beyond_the_limit_the_shared_engine_refuses(tmp_path: Path) -> None:
    folder = tinymodels.save(tinymodels.build("Phi3", **PHI3), tmp_path)
    engine, why = load_engine(folder, Encoder.load(folder), "float32", longest=24)
    assert isinstance(engine, SharedEngine), why
    with pytest.raises(ValueError, match="shared up to 24"):
        ask(engine, [Request(TEXT[:23], ((4, 5),))])

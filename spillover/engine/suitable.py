"""Whether a model can share prefixes (`why_plain`); if so, its attention and linear layers are replaced (`take`).

Some models cannot share a prefix: recurrent layers, texts longer than a sliding window, attention that transformers
cannot replace. They are answered by the plain engine. So is a model for which the two engines disagree on a short
probe, which runs each time a model is loaded for answers or for training.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..models.machine import one_line
from ..text.request import Request
from . import attention, ops
from .plain import PlainEngine
from .shared import SharedEngine

PROBE_TOLERANCE = {"float32": 1e-3, "bfloat16": 0.25}  # nats; with a wrong attention, answers differ by whole nats
PROBE_TOKENS = 9
ATTENTION = ("full_attention", "sliding_attention")  # kinds of layers whose prefixes can be shared
CUDA_TOKENS = {"pack_tokens": 4096, "decode_tokens": 131_072}  # the mask of a pass grows with pack_tokens squared


def shared_engine(model: Any, eos_ids: frozenset[int]) -> SharedEngine:
    """The shared engine of a model that was taken, with limits that suit its device."""
    return SharedEngine(model, eos_ids, **(CUDA_TOKENS if model.device.type == "cuda" else {}))


def why_plain(model: Any, words: Sequence[int], precision: str, longest: int | None = None) -> str | None:
    """Why the model cannot share prefixes. If it can, the result is None, and its attention has been replaced (`take`).

    `words` are any token ids of the model, at least PROBE_TOKENS. `longest` is the length of the longest sequence in
    tokens, if it is known.
    """
    return _unsuitable(model, longest) or _probe(model, words, precision)


def _unsuitable(model: Any, longest: int | None) -> str | None:
    """What in the model's architecture prevents shared prefixes, or None."""
    others = set(getattr(model.config.get_text_config(), "layer_types", None) or ()) - {*ATTENTION}
    if others:
        return f"layers of type {', '.join(sorted(others))}"
    width = attention.window(model.config)
    if width is not None and (longest is None or longest > width):
        return f"a sliding window of {width:,} tokens" + (f", texts of up to {longest:,}" if longest else "")
    if not getattr(model, "_supports_attention_backend", False):
        return f"transformers does not let the attention of {type(model).__name__} be replaced"
    return None


def _probe(model: Any, words: Sequence[int], precision: str) -> str | None:
    """Ask both engines the same short questions. If they agree, return None and leave the attention replaced."""
    usual = model.config._attn_implementation  # sdpa, or eager where a model has no other
    words = tuple(words[:PROBE_TOKENS])
    requests = [Request(words[:5], (words[5:7], words[7:8])), Request(words[:4], (words[6:9], words[2:3]))]
    try:
        take(model)
        ours = dict(shared_engine(model, frozenset()).run(requests, lambda ids: True))
    except Exception as error:  # whatever an unknown model does with a tree, the plain engine can answer
        _give_back(model, usual)
        return f"{type(error).__name__}: {one_line(error)}"
    _give_back(model, usual)
    theirs = dict(PlainEngine(model, frozenset()).run(requests, lambda ids: True))
    worst = max(
        abs(a - b)
        for number in ours
        for mine, other in zip(ours[number].logprobs, theirs[number].logprobs, strict=True)
        for a, b in zip(mine, other, strict=True)
    )
    if not worst <= PROBE_TOLERANCE[precision]:  # written so that NaN differs
        return f"shared and plain engine differ by {worst:.2g} nats on a probe"
    take(model)
    return None


def take(model: Any) -> None:
    """Replace the model's attention and linear layers, so that it answers and learns by token trees."""
    attention.register()
    model.set_attn_implementation(attention.NAME)
    ops.take_linear_layers(model)


def _give_back(model: Any, usual: str) -> None:
    model.set_attn_implementation(usual)
    ops.give_back_linear_layers(model)

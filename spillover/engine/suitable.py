"""Whether a model can share prefixes (`why_plain`); if so, its attention and linear layers are replaced (`take`).

Some models cannot share a prefix: recurrent layers, texts longer than a sliding window or than rotary frequencies stay
the same, attention that transformers cannot replace. They are answered by the plain engine. So is a model that fails a
probe, which runs each time a model is loaded for answers or for training:

- The output layer as `Head` computes it is the model's own, to the last digits of float32, which no tolerance hides.
- Both engines answer the same questions alike, read and generated. Once a process, for models that are built alike, one
  text is as long as the longest of the run, and short ones share its beginning: an answer must not depend on what it is
  computed with. Rectangles of attention are then large enough for the kernels that a run uses.
"""

from __future__ import annotations

import math
import random
from collections.abc import Hashable, Sequence
from typing import Any

from ..models.machine import one_line
from ..text.request import Request
from . import attention, ops
from .head import deviation
from .lengths import turn, window
from .plain import PlainEngine
from .port import Answer
from .shared import SharedEngine

PROBE_TOLERANCE = {"float32": 1e-3, "bfloat16": 0.25}  # nats; with a wrong attention, answers differ by whole nats
HEAD_TOLERANCE = 1e-3  # nats, in float32 in any case
PROBE_TOKENS = 9
PROBE_ANSWER = 4  # tokens of a question's option, or generated
ATTENTION = ("full_attention", "sliding_attention")  # kinds of layers whose prefixes can be shared
CUDA_TOKENS = {"pack_tokens": 4096, "decode_tokens": 131_072}  # the mask of a pass grows with pack_tokens squared

_long_enough: set[Hashable] = set()
"""Models, as `_build` names them, that have passed the probe at the longest length."""


def shared_engine(model: Any, eos_ids: frozenset[int]) -> SharedEngine:
    """The shared engine of a model that was taken, with limits that suit its device."""
    return SharedEngine(model, eos_ids, **(CUDA_TOKENS if model.device.type == "cuda" else {}))


def why_plain(model: Any, words: Sequence[int], precision: str, longest: int | None = None) -> str | None:
    """Why the model cannot share prefixes. If it can, the result is None, and its attention has been replaced (`take`).

    `words` are any token ids of the model, at least PROBE_TOKENS. `longest` is the length of the longest sequence in
    tokens, if it is known.
    """
    return _unsuitable(model, longest) or _probe(model, words, precision, longest)


def _unsuitable(model: Any, longest: int | None) -> str | None:
    """What in the model's architecture prevents shared prefixes, or None."""
    others = set(getattr(model.config.get_text_config(), "layer_types", None) or ()) - {*ATTENTION}
    if others:
        return f"layers of type {', '.join(sorted(others))}"
    limits = {"a sliding window of {:,} tokens": window, "rotary frequencies that change beyond {:,} tokens": turn}
    for what, limit_of in limits.items():
        limit = limit_of(model.config)
        if limit is not None and (longest is None or longest > limit):
            return what.format(limit) + (f", texts of up to {longest:,}" if longest else "")
    if not getattr(model, "_supports_attention_backend", False):
        return f"transformers does not let the attention of {type(model).__name__} be replaced"
    return None


def _probe(model: Any, words: Sequence[int], precision: str, longest: int | None) -> str | None:
    """Ask both engines the same questions. If they agree, return None and leave the attention replaced."""
    usual = model.config._attn_implementation  # sdpa, or eager where a model has no other
    most = getattr(model.config.get_text_config(), "max_position_embeddings", None) or math.inf
    build = _build(model, longest)
    length = PROBE_TOKENS if longest is None or build in _long_enough else int(max(PROBE_TOKENS, min(longest, most)))
    compared, others = questions(words, length)
    try:
        apart = deviation(model, words[:PROBE_TOKENS])
        if not apart <= HEAD_TOLERANCE:  # written so that NaN differs
            return f"its output layer does something of its own: {apart:.2g} nats off"
        take(model)
        ours = dict(shared_engine(model, frozenset()).run([*compared, *others], lambda ids: False))
    except Exception as error:  # whatever an unknown model does with a tree, the plain engine can answer
        give_back(model, usual)
        return f"{type(error).__name__}: {one_line(error)}"
    give_back(model, usual)
    theirs = dict(PlainEngine(model, frozenset()).run(compared, lambda ids: False))
    worst = max(difference(ours[number], answer) for number, answer in theirs.items())
    if not worst <= PROBE_TOLERANCE[precision]:
        return f"shared and plain engine differ by {worst:.2g} nats on a probe"
    take(model)
    _long_enough.add(build)
    return None


def _build(model: Any, longest: int | None) -> Hashable:
    """What decides how a model computes a long text, apart from its weights."""
    kinds = frozenset(type(module) for module in model.modules())
    return str(model.config.to_dict() | {"_name_or_path": ""}), model.dtype, model.device.type, kinds, longest


def questions(words: Sequence[int], length: int) -> tuple[list[Request], list[Request]]:
    """Questions of a probe: those to be compared, and others that are only computed with them.

    One text has `length` tokens. Others branch off shortly before its end, as many as make a large rectangle
    (`ops.large_rectangle`); the answer of the first of them rests on all of this. Two branch off near the beginning.
    """
    draw = random.Random(0)

    def text(tokens: int) -> tuple[int, ...]:
        return tuple(draw.choices(words, k=tokens))

    longest, answer = text(length), text(PROBE_ANSWER)
    tail = max(1, length // 8 - PROBE_ANSWER)
    stem = longest[: length - tail - PROBE_ANSWER]
    count = max(1, math.ceil(ops.large_rectangle() / (len(stem) * tail)))
    branches = [Request((*stem, *text(tail)), (answer,)) for _ in range(count)]
    short = [Request(longest[:4], (answer, answer[:2], text(3))), Request(longest[:3], (), PROBE_ANSWER)]
    return [branches[0], *short], [*branches[1:], Request(longest[:-1], (longest[-1:],))]


def difference(one: Answer, other: Answer) -> float:
    """How far two answers to a request are apart, in nats: the log-probabilities of options and of generated tokens.

    The lead of the best token over the next is a difference of two logits, so half of a change counts. If another
    token leads, it had to make up for both leads.
    """
    options = zip(one.logprobs, other.logprobs, strict=True)
    worst = max((abs(a - b) for pair in options for a, b in zip(*pair, strict=True)), default=0.0)
    tokens = zip(one.generated or (one.top,), other.generated or (other.top,), strict=False)
    for (ours, theirs), our_lead, their_lead in zip(tokens, one.leads, other.leads, strict=False):
        worst = max(worst, abs(our_lead - their_lead if ours == theirs else our_lead + their_lead) / 2)
        if ours != theirs:  # from here on they continue different texts
            break
    return worst


def take(model: Any) -> None:
    """Replace the model's attention and linear layers, so that it answers and learns by token trees."""
    attention.register()
    model.set_attn_implementation(attention.NAME)
    ops.take_linear_layers(model)


def give_back(model: Any, usual: str) -> None:
    """Undo `take`: the model computes with the attention implementation `usual` of transformers again."""
    model.set_attn_implementation(usual)
    ops.give_back_linear_layers(model)

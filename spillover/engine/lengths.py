"""What in a model depends on the length of a text: sliding windows, and rotary frequencies that change with it.

A prefix can be shared only if its tokens are computed as they are in each text by itself. With LongRoPE (Ding et al.
2024) and dynamic NTK scaling, the rotary frequencies of all tokens depend on the length of the whole text. Up to a
known length they do not, and up to there prefixes can be shared (`limit`).

Beyond it the plain engine answers. There the reference is one pass over the whole text: its keys are never those of a
shorter text, computed with other frequencies. So an option's log-probabilities and a generated token come from the same
distribution. Transformers' own `generate` does the same for Phi-3; for other models it keeps the old keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Frequencies = tuple[int, ...]


def limit(config: Any) -> int | None:
    """The most tokens of a text whose prefixes can be shared; None if there is no such limit."""
    turns = [turn for _, turn in _changing(config)]
    return min([*turns, *([] if (width := window(config)) is None else [width])], default=None)


def window(config: Any) -> int | None:
    """How many tokens the model's narrowest layer looks back on, itself included; None if every layer sees all.

    A sequence of at most that many tokens is answered as if there were no window, so its prefixes can be shared.
    """
    text = config.get_text_config()
    kinds = getattr(text, "layer_types", None) or ["sliding_attention"]  # without a list, one setting is for all
    slides = "sliding_attention" in kinds and getattr(text, "use_sliding_window", True)
    return getattr(text, "sliding_window", None) if slides else None


def turn(config: Any) -> int | None:
    """The most tokens of a text before its rotary frequencies depend on its length; None if they never do."""
    return min((turn for _, turn in _changing(config)), default=None)


def frequencies(config: Any, length: int) -> Frequencies:
    """Equal for two lengths if texts of these lengths have the same rotary frequencies."""
    return tuple(max(length, turn) if grows else int(length > turn) for grows, turn in _changing(config))


def forget_texts(model: Any) -> None:
    """Make a text's rotary frequencies depend on its own length alone.

    With dynamic NTK scaling, transformers keeps the frequencies of the longest text so far for shorter ones too.
    """
    if any(grows for grows, _ in _changing(model.config)):
        for module in model.modules():
            if hasattr(module, "max_seq_len_cached"):
                module.register_forward_pre_hook(_forget)


def _forget(module: Any, _: Any) -> None:
    for name in [name for name in vars(module) if name.endswith("max_seq_len_cached")]:
        setattr(module, name, 0)  # so the frequencies are computed again, for the text at hand


def _changing(config: Any) -> list[tuple[bool, int]]:
    """The rotary settings that depend on a text's length: whether they change with every length, and from where on."""
    text = config.get_text_config()
    longest: int = getattr(text, "max_position_embeddings", None) or 1
    found = []
    for settings in _settings(getattr(text, "rope_parameters", None) or getattr(text, "rope_scaling", None)):
        kind = str(settings.get("rope_type") or settings.get("type"))
        if "dynamic" in kind:
            found.append((True, longest))
        elif kind in ("longrope", "su"):  # the second is its first name
            name = "original_max_position_embeddings"
            found.append((False, settings.get(name) or getattr(text, name, None) or longest))
    return list(dict.fromkeys(found))


def _settings(value: Any) -> Iterator[Mapping[str, Any]]:
    """All mappings that name a kind of rotary embedding: one for all layers, or one for each kind of layer."""
    if isinstance(value, Mapping) and ("rope_type" in value or "type" in value):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _settings(inner)

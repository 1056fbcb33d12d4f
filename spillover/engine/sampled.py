"""Texts that a model writes by itself: drawn from its next-token distributions, after one first token.

Every text has a random generator of its own, whose numbers depend on the text's number alone. So what a text says does
not depend on how many are written together, but for rounding; callers write them in fixed groups, and then not at all.
A token is drawn by the inverse of the distribution function, in float64.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor


@torch.inference_mode()
def write(
    model: Any, first: int, numbers: Sequence[int], length: int, temperature: float, ends: Collection[int]
) -> list[tuple[int, ...]]:
    """The ids of the texts with these numbers, of at most `length` tokens after `first`, without it.

    A text ends with the first token that is in `ends`, which is its last.
    """
    draws = [random.Random(f"text {number}") for number in numbers]
    texts: list[list[int]] = [[] for _ in numbers]
    tokens = torch.full((len(numbers), 1), first, device=model.device)
    cache = None
    for _ in range(length):
        out = model(input_ids=tokens, past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        points = torch.tensor([draw.random() for draw in draws], dtype=torch.float64, device=model.device)
        tokens = _drawn(out.logits[:, -1].float(), temperature, points)[:, None]
        for text, token in zip(texts, tokens[:, 0].tolist(), strict=True):
            if not text or text[-1] not in ends:
                text.append(token)
        if all(text[-1] in ends for text in texts):
            break
    return [tuple(text) for text in texts]


def _drawn(logits_TV: Tensor, temperature: float, points_T: Tensor) -> Tensor:
    """The token of each row at which the distribution function passes its point between 0 and 1."""
    reached_TV = (logits_TV.double() / temperature).softmax(-1).cumsum(-1)
    wanted_T1 = (points_T * reached_TV[:, -1])[:, None]  # the sum of all is 1 but for rounding
    return torch.searchsorted(reached_TV, wanted_T1, right=True)[:, 0].clamp_max(logits_TV.shape[1] - 1)

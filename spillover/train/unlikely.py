"""Which answer tokens the base finds too unlikely to be learned: those whose perplexity exceeds a limit.

A training asks before its first step, and `check` asks of a part of the rows before a run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..engine.hf import load_model
from ..experiment.axes import SelectedTokens
from ..text.samples import Sample
from .base import Base, ask_base

Asked = tuple[Iterable[list[Sample]], Sequence[SelectedTokens]]
"""The samples of some steps, and the limits that are asked about."""


@dataclass(frozen=True)
class WithoutLoss:
    """The shares of all answer tokens, and of first answer tokens, that the base finds too unlikely to be learned.

    `least` is the least perplexity of an answer token. A limit of `for_half` would keep half of the first ones, one of
    `for_all` all of them.
    """

    every: float
    first: float
    least: float
    for_half: float
    for_all: float


def without_loss(loss: SelectedTokens, base: Base) -> WithoutLoss:
    """What the base finds too unlikely, of the answer tokens of all samples of which it was asked."""
    nll = torch.cat([*base.nll.values()])
    begins = [at in {max(start, 1) for start, _ in one.spans} for one in base.nll for at in one.learned]
    selected, first = is_selected(loss, nll), torch.tensor(begins)
    ordered = nll[first].exp().sort().values
    return WithoutLoss(
        every=1 - float(selected.mean()),
        first=1 - float(selected[first].mean()),
        least=float(nll.min().exp()),
        for_half=float(ordered[(len(ordered) - 1) // 2]),
        for_all=float(ordered[-1]),
    )


def is_selected(loss: SelectedTokens, base_nll: Tensor) -> Tensor:
    """1 for each token with loss, 0 for the others."""
    return (base_nll.exp() <= loss.most_perplexity).float()


def ask(folder: Path, asked: Sequence[Asked], *, precision: str, trust: bool) -> list[list[WithoutLoss]]:
    """What the model in `folder` finds too unlikely, for each that is asked and each of its limits."""
    model = load_model(folder, "float32", trust=trust).eval()
    found = []
    for steps, losses in asked:
        with torch.autocast(model.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            base = ask_base(model, steps, None, whole=False)
        found.append([without_loss(loss, base) for loss in losses])
    return found

"""Training samples of random tokens, the plain way to their loss, and what a step gives."""

from __future__ import annotations

import random
from typing import Any

import tinymodels
import torch
from torch import Tensor

from spillover.experiment.recipe import Recipe
from spillover.text.samples import Sample, Samples
from spillover.text.steps import Steps, steps_of
from spillover.train.passes import Pass

CPU = torch.device("cpu")


def make_samples(count: int, demonstrations: int, seed: int = 0) -> list[Sample]:
    """Rows behind the same demonstrations (FTICL), or behind nothing but the same first words (FT)."""
    rng = random.Random(seed)

    def text(shortest: int, longest: int) -> tuple[int, ...]:
        return tuple(rng.randrange(4, 50) for _ in range(rng.randint(shortest, longest)))

    shown = (5, 6, *text(demonstrations * 20, demonstrations * 20))
    made = []
    for _ in range(count):
        prompt = shown + text(3, 15)
        made.append(Sample.of((*prompt, *text(1, 4), tinymodels.EOS), len(prompt)))
    return made


def in_steps(samples: list[Sample], recipe: Recipe) -> Steps:
    return steps_of(Samples(tuple(samples), 0, 0), recipe)


def padded(samples: list[Sample]) -> dict[str, Tensor]:
    """The batch as everybody makes it. The pad id is the end token; the masks do not care."""
    longest = max(len(sample.ids) for sample in samples)
    ids = torch.full((len(samples), longest), tinymodels.EOS)
    labels, mask = torch.full_like(ids, -100), torch.zeros_like(ids)
    for row, sample in enumerate(samples):
        end = len(sample.ids)
        ids[row, :end] = torch.tensor(sample.ids)
        labels[row, sample.start : end] = ids[row, sample.start : end]
        mask[row, :end] = 1
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def plain_loss(model: Any, samples: list[Sample]) -> Tensor:
    batch = padded(samples)
    labels = batch.pop("labels")[:, 1:]
    logits = model(**batch, use_cache=False).logits[:, :-1]
    return torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels, ignore_index=-100, reduction="sum")


def summed_loss(model: Any, one: Pass) -> Tensor:
    """The cross-entropy of a pass, summed over its answer tokens."""
    return one.nll(one.logits(model, CPU)).sum()


def gradients(model: Any) -> Tensor:
    return torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None])


def apart(ours: Tensor, reference: Tensor) -> float:
    """The difference, relative to the reference's norm."""
    return float((ours - reference).norm() / reference.norm())

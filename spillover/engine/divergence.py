"""How far two models' next-token distributions differ: the exact Kullback-Leibler divergence, in nats a token.

    KL(base || variant) = sum over the vocabulary of p_base * (log p_base - log p_variant)

Only final hidden states and the output layer are kept; any slice of the distributions is computed from them again. So
the two models need not be in memory together. Both compute the same passes in the same order: a variant that equals the
base differs by exactly 0. In bfloat16 rounded hidden states alone make some 1e-3 nats; all else is float32.

A passage is a pair (ids, start), as `Encoder.continuation` returns it: `ids[start:]` are predicted, each from all ids
before it. Shapes: P positions, C hidden width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..models.machine import one_line
from . import attention
from .attention import TreePass
from .head import Head, deviation, hidden_states
from .merged import NotMergeable, merged, tuned
from .suitable import HEAD_TOLERANCE
from .tree import Tree

Passage = tuple[Sequence[int], int]

PASS_TOKENS = 4096  # of a forward pass over several short passages
POSITIONS_AT_ONCE = 256  # positions whose distributions are in memory together


@dataclass(frozen=True)
class Distributions:
    """A model's next-token distributions at P positions: `hidden_PC` on the CPU, and the output layer."""

    hidden_PC: Tensor
    head: Head

    @classmethod
    @torch.no_grad()
    def of(cls, model: Any, passages: Sequence[Passage]) -> Distributions:
        """The distributions that predict `ids[start:]` of each passage, one passage after the other."""
        if model.config._attn_implementation == attention.NAME:
            hidden = _through_trees(model, passages)
        else:
            hidden = [hidden_states(model, ids[:-1])[start - 1 :] for ids, start in passages]
        return cls(torch.cat(hidden).cpu(), Head.of(model))

    @torch.no_grad()
    def logits(self, at: slice = slice(None)) -> Tensor:
        """Float32 logits_PV."""
        return self.head(self.hidden_PC[at].to(self.head.device))


@torch.no_grad()
def divergence(base: Distributions, variant: Distributions) -> tuple[Tensor, float]:
    """KL(base || variant) at each position, in nats, float64_P; and the largest |log p_base - log p_variant| anywhere.

    If one vocabulary is longer (a token was added), both distributions are over the tokens that they share.
    """
    nats, largest = [], []
    for first in range(0, len(base.hidden_PC), POSITIONS_AT_ONCE):
        at = slice(first, first + POSITIONS_AT_ONCE)
        theirs, ours = variant.logits(at), base.logits(at)
        vocabulary = min(theirs.shape[1], ours.shape[1])
        theirs, ours = (logits[:, :vocabulary].log_softmax(-1) for logits in (theirs, ours.to(theirs.device)))
        apart = ours - theirs
        largest.append(apart.abs().max())
        nats.append((ours.exp() * apart).sum(-1).double().cpu())
    return torch.cat(nats), float(torch.stack(largest).max())  # NaN stays NaN


@torch.no_grad()
def why_not(model: Any, words: Sequence[int]) -> str | None:
    """Why hidden states and output layer do not give the model's own answers, or None. `words` are any of its ids.

    A model whose attention was replaced has passed this check when it was loaded, by the probe of `suitable`.
    """
    if model.config._attn_implementation == attention.NAME:
        return None
    try:
        worst = deviation(model, words)
    except Exception as error:  # an unknown architecture; its answers are scored all the same
        return f"{type(error).__name__}: {one_line(error)}"
    return None if worst <= HEAD_TOLERANCE else f"its output layer does something of its own: {worst:.2g} nats off"


def merge_gap(model: Any, passage: Passage) -> float | None:
    """Mean |change| of the passage's log-probabilities, in nats a token, when adapters are merged into the weights.

    Merging should change no more than rounding does. None for a model without adapters, or whose adapters have no
    merged form.
    """
    layers = tuned(model)
    if not layers:
        return None
    apart = _next_logprobs(model, passage)
    try:
        with _merging(layers.values()):
            apart -= _next_logprobs(model, passage)
    except NotMergeable:
        return None
    return float(apart.abs().mean())


@contextmanager
def _merging(tuned_layers: Iterable[Sequence[Any]]) -> Iterator[None]:
    """Merge each adapter while its layer computes, so that no second model is in memory."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    hooks = []
    for layers in tuned_layers:
        outer, merging = layers[0], ExitStack()  # the outer one is called, and calls the others

        def merge(called: Any, _: Any, layers: Sequence[Any] = layers, merging: ExitStack = merging) -> None:
            if called is not layers[0]:  # the copy of an output layer in float32 (`Head`)
                layers = [one for one in called.modules() if isinstance(one, BaseTunerLayer)]
            merging.enter_context(merged(layers))

        def restore(*_: Any, merging: ExitStack = merging) -> None:
            merging.close()

        hooks += [outer.register_forward_pre_hook(merge), outer.register_forward_hook(restore, always_call=True)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _next_logprobs(model: Any, passage: Passage) -> Tensor:
    """The log-probability of each predicted token of a passage."""
    logprobs_PV = Distributions.of(model, [passage]).logits().log_softmax(-1).cpu()
    ids, start = passage
    return logprobs_PV.gather(1, torch.tensor(ids[start:])[:, None])[:, 0]


def _through_trees(model: Any, passages: Sequence[Passage]) -> list[Tensor]:
    """Hidden states of a model with our attention: several passages a pass, shared prefixes once."""
    hidden = []
    for group in _groups(passages):
        tree = Tree.of([ids[:-1] for ids, _ in group])
        at = [tree.locate(n, i - 1) for n, (ids, start) in enumerate(group) for i in range(start, len(ids))]
        states = hidden_states(model, tree.tokens, tree.positions, TreePass(tree.parts))
        hidden.append(states[torch.tensor(at, device=states.device)])
    return hidden


def _groups(passages: Sequence[Passage]) -> Iterator[list[Passage]]:
    """Consecutive passages of at most PASS_TOKENS together; a longer passage is a group of its own."""
    group: list[Passage] = []
    tokens = 0
    for passage in passages:
        if group and tokens + len(passage[0]) > PASS_TOKENS:
            yield group
            group, tokens = [], 0
        group.append(passage)
        tokens += len(passage[0])
    yield group

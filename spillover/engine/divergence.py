"""How far apart two models' next-token distributions are: the exact Kullback-Leibler divergence, in nats a token.

    KL(base || variant) = sum over the vocabulary of p_base * (log p_base - log p_variant)

The two need not be in memory together, and the base's distributions need not be kept: some thousand positions times a
vocabulary of 49,152 would be most of a gigabyte. What is kept is what they are made of, the final hidden states at
those positions (a few megabytes) and the output layer, from which any slice of them is made again, exactly.

A passage is a pair (ids, start), as `Encoder.continuation` returns it: `ids[start:]` are predicted, each from all ids
before it, whatever a model would have said itself (teacher forcing). Both models go through the same passes in the
same order, so a variant that is the base differs by 0 and not by rounding. In bfloat16 the hidden states are rounded,
which alone is worth some 1e-3 nats between a model and a slightly moved copy; the rest is float32.

Shapes: P positions, C hidden width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from . import attention
from .attention import TreePass
from .head import Head
from .hf import PROBE_TOLERANCE
from .tree import Tree

Passage = tuple[Sequence[int], int]

PASS_TOKENS = 4096  # of several short passages that one forward pass takes
POSITIONS_AT_ONCE = 256  # whose distributions over the whole vocabulary are held together


@dataclass(frozen=True)
class Distributions:
    """A model's next-token distributions at P positions: `hidden_PC` on the CPU, and the output layer."""

    hidden_PC: Tensor
    head: Head

    @classmethod
    @torch.no_grad()
    def of(cls, model: Any, passages: Sequence[Passage]) -> Distributions:
        """Where `ids[start:]` of each passage are predicted, passage after passage. `model` may hold our attention."""
        shares = model.config._attn_implementation == attention.NAME
        hidden = _through_trees(model, passages) if shares else [_alone(model, passage) for passage in passages]
        return cls(torch.cat(hidden).cpu(), Head.of(model))

    @torch.no_grad()
    def logprobs(self, at: slice, vocabulary: int) -> Tensor:
        """Natural-log probabilities_PV of the first `vocabulary` tokens, which sum to one."""
        device = self.head.weight_VC.device
        return self.head(self.hidden_PC[at].to(device))[:, :vocabulary].log_softmax(-1)


@torch.no_grad()
def divergence(base: Distributions, variant: Distributions) -> tuple[Tensor, float]:
    """KL(base || variant) at each position, in nats, float64_P; and the largest |log p_base - log p_variant| anywhere.

    Where one vocabulary is longer (a token was added), both are taken over the tokens that they share.
    """
    vocabulary = min(len(base.head.weight_VC), len(variant.head.weight_VC))
    nats, largest = [], []
    for first in range(0, len(base.hidden_PC), POSITIONS_AT_ONCE):
        at = slice(first, first + POSITIONS_AT_ONCE)
        theirs = variant.logprobs(at, vocabulary)
        ours = base.logprobs(at, vocabulary).to(theirs.device)
        apart = ours - theirs
        largest.append(apart.abs().max())
        nats.append((ours.exp() * apart).sum(-1).double().cpu())
    return torch.cat(nats), float(torch.stack(largest).max())  # NaN stays NaN


@torch.no_grad()
def why_not(model: Any, words: Sequence[int]) -> str | None:
    """Why hidden states and output layer do not make the model's own answers, or None. `words` are some ids of it.

    A model whose attention is ours has answered this when it was loaded: the shared engine computes its logits so.
    """
    if model.config._attn_implementation == attention.NAME:
        return None
    try:
        made = Distributions.of(model, [(words, 1)]).logprobs(
            slice(None), model.get_output_embeddings().weight.shape[0]
        )
        own = model(input_ids=torch.tensor([words[:-1]], device=model.device), use_cache=False).logits[0]
        worst = float((made - own.float().log_softmax(-1)).abs().max())
    except Exception as error:  # an architecture that we do not know; its answers are scored all the same
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'in its forward pass'}"
    tolerance = PROBE_TOLERANCE[str(model.dtype).removeprefix("torch.")]
    if not worst <= tolerance:  # written so that NaN differs
        return f"its output layer does something of its own: {worst:.2g} nats off"
    return None


def merge_gap(model: Any, passage: Passage) -> float | None:
    """Mean |change| of the passage's log-probabilities, in nats a token, when adapters are merged into their weights.

    None for a model without adapters. Nothing but rounding should change.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    if not layers:
        return None
    apart = _next_logprobs(model, passage)
    with _merged(layers):
        apart -= _next_logprobs(model, passage)
    return float(apart.abs().mean())


@contextmanager
def _merged(layers: Sequence[Any]) -> Iterator[None]:
    """Adapters are merged while this lasts, each only while its layer computes: no second model is held in memory."""
    own: dict[Any, Tensor] = {}

    def merge(layer: Any, _: Any) -> None:
        weight = layer.get_base_layer().weight
        own[layer] = weight.data
        weight.data = weight.data.clone()
        layer.merge()

    def restore(layer: Any, *_: Any) -> None:
        layer.unmerge()  # subtracts, which rounds: the weight is put back as it was
        layer.get_base_layer().weight.data = own.pop(layer)

    hooks = [layer.register_forward_pre_hook(merge) for layer in layers]
    hooks += [layer.register_forward_hook(restore) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _next_logprobs(model: Any, passage: Passage) -> Tensor:
    """The log-probability of each predicted token of a passage."""
    distributions = Distributions.of(model, [passage])
    logprobs_PV = distributions.logprobs(slice(None), len(distributions.head.weight_VC)).cpu()
    ids, start = passage
    return logprobs_PV.gather(1, torch.tensor(ids[start:])[:, None])[:, 0]


# --- hidden states --------------------------------------------------------------------------------------------------


def _through_trees(model: Any, passages: Sequence[Passage]) -> list[Tensor]:
    """Hidden states of a model with our attention: several passages a pass, what they share once."""
    hidden = []
    for group in _groups(passages):
        tree = Tree.of([ids[:-1] for ids, _ in group])
        at = [tree.locate(n, i - 1) for n, (ids, start) in enumerate(group) for i in range(start, len(ids))]
        states = _states(model, tree.tokens.tolist(), tree.positions.tolist(), TreePass(tree.parts))
        hidden.append(states[torch.tensor(at, device=states.device)])
    return hidden


def _groups(passages: Sequence[Passage]) -> Iterator[list[Passage]]:
    """Consecutive passages of at most PASS_TOKENS together; a longer one stands alone."""
    group: list[Passage] = []
    tokens = 0
    for passage in passages:
        if group and tokens + len(passage[0]) > PASS_TOKENS:
            yield group
            group, tokens = [], 0
        group.append(passage)
        tokens += len(passage[0])
    yield group


def _alone(model: Any, passage: Passage) -> Tensor:
    ids, start = passage
    return _states(model, ids[:-1])[start - 1 :]


def _states(model: Any, ids: Sequence[int], positions: Sequence[int] | None = None, tree: Any = None) -> Tensor:
    """Final hidden states_PC of one line of ids."""
    planned = {} if tree is None else {"tree": tree, "position_ids": torch.tensor([positions], device=model.device)}
    ids_1P = torch.tensor([ids], device=model.device)
    return model.get_decoder()(input_ids=ids_1P, use_cache=False, **planned).last_hidden_state[0]

"""Attention over a token tree, as an attention implementation of transformers (`attn_implementation="spillover"`).

The replacement finds the plan of the pass in the keyword `tree=` of the model call. On a CPU each rectangle of the plan
is computed alone, and the partial softmaxes of a query are merged exactly by their log-sum-exps. The backward kernel of
a rectangle, given the merged output and log-sum-exp, returns its share of the gradients (as in ring attention, Liu et
al. 2023; docs/how-it-works.md). So no probabilities are stored, and gradients flow through shared prefixes.

On an accelerator a hundred small kernels cost more than the arithmetic that they save. There the rectangles become one
additive mask a pass, and attention is one call of PyTorch's SDPA a layer, with its own gradients.

Shapes: the batch is always 1; H query heads, G key-value heads, N tokens, M keys, D head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from . import ops
from .blocks import KeyBlock, KeyValue
from .tree import Part

NAME = "spillover"
Held = tuple[Part, Tensor, Tensor]  # a rectangle of earlier keys, with those keys and their values


@dataclass
class TreePass:
    """What the attention of every layer must know about a forward pass over the line, or over a part of it.

    `past` pairs each rectangle of earlier keys with the block that holds them. The keys and values that the pass itself
    computes are put into `own`, if it is given.
    """

    parts: Sequence[Part]
    past: Sequence[tuple[Part, KeyBlock]] = ()
    own: KeyBlock | None = None
    _mask: Tensor | None = None

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        """q_1HND, k_1GND, v_1GND -> out_1HND."""
        if self.own is not None:
            self.own.kv[layer] = (k, v)
        q, k = q.to(v.dtype), k.to(v.dtype)  # under autocast the rotary embedding leaves them in float32
        if q.device.type != "cpu":
            return self._masked(layer, q, k, v, scale)
        groups = q.shape[1] // k.shape[1]
        past = [(part, *_heads(block.kv[layer], part.k0, part.k1, groups)) for part, block in self.past]
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
        if torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v)):
            if past:
                raise RuntimeError("a training pass holds its whole tree: there is no past to attend to")
            return _TreeAttention.apply(q, k, v, tuple(self.parts), scale, groups)
        return _forward(q, k, v, self.parts, past, scale, groups)[0]

    def _masked(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        """All rectangles in one call: the keys of the past come before the pass's own."""
        spans = list(dict.fromkeys((block, part.k0, part.k1) for part, block in self.past))
        held = [tuple(x[:, :, k0:k1] for x in block.kv[layer]) for block, k0, k1 in spans]
        keys, values = (torch.cat([*(kv[i] for kv in held), own], 2) for i, own in enumerate((k, v)))
        if self._mask is None:
            self._mask = self._additive_mask(spans, q)
        out: Tensor = torch.nn.functional.scaled_dot_product_attention(
            q, keys, values, attn_mask=self._mask, scale=scale, enable_gqa=q.shape[1] != k.shape[1]
        )
        return out

    def _additive_mask(self, spans: Sequence[tuple[KeyBlock, int, int]], q: Tensor) -> Tensor:
        """0 where a query may look at a key, -inf elsewhere: NM, with the keys of the past first."""
        starts, width = {}, 0
        for block, k0, k1 in spans:
            starts[block, k0, k1] = width
            width += k1 - k0
        n = q.shape[2]
        sees = torch.zeros(n, width + n, dtype=torch.bool, device=q.device)
        for part in self.parts:
            rows, keys = slice(part.q0, part.q1), slice(width + part.k0, width + part.k1)
            sees[rows, keys] = True
            if part.causal:
                sees[rows, keys].tril_()
        for part, block in self.past:
            first = starts[block, part.k0, part.k1]
            sees[part.q0 : part.q1, first : first + part.k1 - part.k0] = True
        return additive(~sees, q.dtype)


def additive(hidden: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask to be added to scores: -inf where `hidden`, 0 elsewhere."""
    return torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill_(hidden, float("-inf"))


def _heads(kv: KeyValue, k0: int, k1: int, groups: int) -> KeyValue:
    """Keys and values `k0:k1`, each repeated for the query heads that share it."""
    k, v = (x[:, :, k0:k1].repeat_interleave(groups, 1) for x in kv)
    return k, v


def _forward(
    q: Tensor, k: Tensor, v: Tensor, parts: Sequence[Part], past: Sequence[Held], scale: float, groups: int
) -> tuple[Tensor, Tensor]:
    """All rectangles, merged: out_1HND in q's type, lse_1HN in float32."""
    out = torch.empty(q.shape, dtype=torch.float32, device=q.device)
    lse = torch.empty(q.shape[:3], dtype=torch.float32, device=q.device)
    for part in parts:  # the causal parts cover the line, each token once
        if part.causal:
            at = slice(part.q0, part.q1)
            out[:, :, at], lse[:, :, at] = ops.attend(q[:, :, at], k[:, :, at], v[:, :, at], scale, True, groups=groups)
    full = [(p, k[:, :, p.k0 : p.k1], v[:, :, p.k0 : p.k1]) for p in parts if not p.causal]
    for part, keys, values in [*full, *past]:
        at = slice(part.q0, part.q1)
        merge(out[:, :, at], lse[:, :, at], *ops.attend(q[:, :, at], keys, values, scale, groups=groups))
    return out.to(q.dtype), lse


def merge(out: Tensor, lse: Tensor, other: Tensor, other_lse: Tensor) -> None:
    """Merge a partial softmax into (`out`, `lse`) in place."""
    total = torch.logaddexp(lse, other_lse)
    out.mul_((lse - total).exp_().unsqueeze(-1)).add_(other * (other_lse - total).exp_().unsqueeze(-1))
    lse.copy_(total)


class _TreeAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, parts: tuple[Part, ...], scale: float, groups: int
    ) -> Tensor:
        out, lse = _forward(q, k, v, parts, (), scale, groups)
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.parts, ctx.scale = parts, scale
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, lse = ctx.saved_tensors
        grad = grads[0].to(q.dtype)
        dq, dk, dv = (torch.zeros(x.shape, dtype=torch.float32, device=x.device) for x in (q, k, v))
        for part in ctx.parts:
            at, keys = (..., slice(part.q0, part.q1), slice(None)), (..., slice(part.k0, part.k1), slice(None))
            rectangle = grad[at], q[at], k[keys], v[keys], out[at], lse[at[:2]]
            gq, gk, gv = ops.attend_backward(*rectangle, part.causal, ctx.scale)
            dq[at] += gq
            dk[keys] += gk
            dv[keys] += gv
        return dq.to(q.dtype), dk.to(k.dtype), dv.to(v.dtype), None, None, None


def tree_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    tree: Any = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """The function that transformers calls in every layer. Returns (out_1NHD, None)."""
    if tree is None:
        raise RuntimeError("attn_implementation='spillover' needs tree= in the model call")
    for name in ("softcap", "s_aux"):  # not `sliding_window`: no text is longer (`lengths.limit`)
        if others.get(name) is not None:
            raise NotImplementedError(f"attention with {name}")  # `suitable` then answers with the plain engine
    if dropout:
        raise RuntimeError("attention dropout would differ between the copies of a shared prefix")
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    out = tree.attend(module.layer_idx, query, key, value, scale)
    return out.transpose(1, 2), None


def register() -> None:
    """Make `attn_implementation="spillover"` known to transformers."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, tree_attention)

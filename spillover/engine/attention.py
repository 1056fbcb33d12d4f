"""Attention over a token tree, as an attention implementation of transformers.

`transformers` lets a model's attention be replaced by name (`attn_implementation="spillover"`). Ours reads
the plan of the pass from the keyword `tree=` of the model call.

On a CPU it computes each rectangle of the plan with the fused kernel (large ones `unfused` where that is faster). A
query that takes part in several rectangles has several partial softmaxes; they are merged exactly by their
log-sum-exps,

    out = sum_i exp(lse_i - lse) out_i,    lse = logsumexp_i(lse_i)

The backward pass needs no trick beyond this one: a fused backward kernel recomputes the probabilities
as exp(scores - lse) and takes D = rowsum(dout * out). Given the *merged* out and lse, each rectangle's kernel
returns that rectangle's exact share of the gradients (as in ring attention, Liu et al. 2023).
So no probabilities are kept, gradients flow through shared prefixes, and activation checkpointing works because no
cache is passed.

On an accelerator, where a hundred small kernels cost more than the arithmetic they save, the rectangles become one
additive mask per pass and attention is one call of PyTorch's SDPA per layer, autograd included.

Shapes: B batch (always 1 here), H query heads, G key-value heads, N tokens, D head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from . import linear
from .tree import Part

NAME = "spillover"
UNFUSED_FROM = 2**17  # queries x keys of a rectangle that is faster `unfused`, where oneDNN's products are faster
SCORES_AT_ONCE = 2**19  # of an unfused rectangle: 2 MB, which stay in the cache between its two products
CAUSAL_QUERIES = 256  # at once, with all keys up to their last: fewer compute less in vain, in smaller products
FEW_QUERIES = 256  # of a rectangle whose bf16 gradients the fused kernel computes slower than float32 ones, on Zen 5

KeyValue = tuple[Tensor, Tensor]  # k_1GND, v_1GND


@dataclass
class TreePass:
    """One forward pass over (a part of) a line: what the attention of every layer must know.

    `past` pairs each full part with the block of keys it looks at, by name; `past_kv[layer][name]`
    holds them. With `capture` the pass's own keys and values are put into `captured[layer]`.
    """

    parts: Sequence[Part]
    past: Sequence[tuple[Part, int]] = ()
    past_kv: dict[int, dict[int, KeyValue]] = field(default_factory=dict)
    capture: bool = False
    captured: dict[int, KeyValue] = field(default_factory=dict)
    _mask: Tensor | None = None

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        """q_1HND, k_1GND, v_1GND -> out_1HND."""
        if self.capture:
            self.captured[layer] = (k, v)
        q, k = q.to(v.dtype), k.to(v.dtype)  # under autocast the rotary embedding leaves them in float32
        if q.device.type != "cpu":
            return self._masked(layer, q, k, v, scale)
        groups = q.shape[1] // k.shape[1]
        past = [(part, *_heads(self.past_kv[layer][block], part.k0, part.k1, groups)) for part, block in self.past]
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
        if torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v)):
            if past:
                raise RuntimeError("a training pass holds its whole tree: there is no past to attend to")
            return _TreeAttention.apply(q, k, v, tuple(self.parts), scale, groups)
        return _forward(q, k, v, self.parts, past, scale, groups)[0]

    def _masked(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        """All rectangles in one call: the keys of the past stand before the pass's own."""
        spans = list(dict.fromkeys((block, part.k0, part.k1) for part, block in self.past))
        blocks = [tuple(x[:, :, k0:k1] for x in self.past_kv[layer][block]) for block, k0, k1 in spans]
        keys, values = (torch.cat([*(block[i] for block in blocks), own], 2) for i, own in enumerate((k, v)))
        if self._mask is None:
            self._mask = self._additive_mask(spans, q)
        out: Tensor = torch.nn.functional.scaled_dot_product_attention(
            q, keys, values, attn_mask=self._mask, scale=scale, enable_gqa=q.shape[1] != k.shape[1]
        )
        return out

    def _additive_mask(self, spans: list[tuple[int, int, int]], q: Tensor) -> Tensor:
        """0 where a query looks at a key, -inf elsewhere: NM, with the past's keys first."""
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
        return torch.zeros(sees.shape, dtype=q.dtype, device=q.device).masked_fill_(~sees, float("-inf"))


def _heads(kv: KeyValue, k0: int, k1: int, groups: int) -> KeyValue:
    """Keys and values `k0:k1`, each repeated for the query heads that share it."""
    return kv[0][:, :, k0:k1].repeat_interleave(groups, 1), kv[1][:, :, k0:k1].repeat_interleave(groups, 1)


def _forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    parts: Sequence[Part],
    past: Sequence[tuple[Part, Tensor, Tensor]],
    scale: float,
    groups: int,
) -> tuple[Tensor, Tensor]:
    """Every rectangle, merged: out_1HND in q's type, lse_1HN in float32."""
    out = torch.empty(q.shape, dtype=torch.float32, device=q.device)
    lse = torch.empty(q.shape[:3], dtype=torch.float32, device=q.device)
    for part in parts:  # the causal parts tile the line: each token once
        if part.causal:
            at = slice(part.q0, part.q1)
            out[:, :, at], lse[:, :, at] = fused(q[:, :, at], k[:, :, at], v[:, :, at], True, scale, groups)
    full = [(p, k[:, :, p.k0 : p.k1], v[:, :, p.k0 : p.k1]) for p in parts if not p.causal]
    for part, keys, values in [*full, *past]:
        at = slice(part.q0, part.q1)
        merge(out[:, :, at], lse[:, :, at], *fused(q[:, :, at], keys, values, False, scale, groups))
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
        (grad,) = grads
        dq, dk, dv = (torch.zeros(x.shape, dtype=torch.float32, device=x.device) for x in (q, k, v))
        few = FEW_QUERIES if linear.is_faster() else 0
        as_given = (grad.to(q.dtype), q, k, v, out)
        has_few = any(part.q1 - part.q0 < few for part in ctx.parts)
        in_float32 = tuple(x.float() for x in as_given) if has_few else as_given
        for part in ctx.parts:
            at, keys = slice(part.q0, part.q1), slice(part.k0, part.k1)
            d, qs, ks, vs, o = in_float32 if part.q1 - part.q0 < few else as_given
            gq, gk, gv = fused_backward(
                d[:, :, at],
                qs[:, :, at],
                ks[:, :, keys],
                vs[:, :, keys],
                o[:, :, at],
                lse[:, :, at],
                part.causal,
                ctx.scale,
            )
            dq[:, :, at] += gq
            dk[:, :, keys] += gk
            dv[:, :, keys] += gv
        return dq.to(q.dtype), dk.to(k.dtype), dv.to(v.dtype), None, None, None


def fused(q: Tensor, k: Tensor, v: Tensor, causal: bool, scale: float, groups: int = 1) -> tuple[Tensor, Tensor]:
    """Attention of q_1HND to k_1HMD, v_1HMD with its log-sum-exp (float32, 1HN).

    Each key-value head stands there for `groups` heads, one after the other.
    """
    if q.device.type == "cpu":
        if q.shape[2] * k.shape[2] >= UNFUSED_FROM and linear.is_faster():
            return unfused(q, k, v, causal, scale, groups)
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, causal, scale=scale)
    if causal:
        raise NotImplementedError("away from the CPU causal rectangles are part of one mask")
    scores = (q @ k.transpose(-1, -2)).float() * scale
    lse = scores.logsumexp(-1)
    return (scores - lse.unsqueeze(-1)).exp().to(v.dtype) @ v, lse


def unfused(q: Tensor, k: Tensor, v: Tensor, causal: bool, scale: float, groups: int) -> tuple[Tensor, Tensor]:
    """`fused` as two matrix products for each key-value head, with scores in float32; no gradient.

    PyTorch's fused kernel multiplies by MKL, in bf16 no faster than in float32 (docs/log.md).

    q_1HND, k_1HMD, v_1HMD -> out_1HND, lse_1HN (float32).
    """
    queries, keys, width = q.shape[2], k.shape[2], q.shape[3]
    rows = max(1, SCORES_AT_ONCE // (keys * groups))
    rows = min(CAUSAL_QUERIES, 4 * rows) if causal else rows
    later = torch.ones(rows, rows, dtype=torch.bool).triu_(1) if causal else None
    out, lse = torch.empty_like(q), torch.empty(q.shape[:3], dtype=torch.float32)
    for head in range(0, q.shape[1], groups):
        key, value = k[0, head].float(), v[0, head].t()
        for first in range(0, queries, rows):
            last = min(first + rows, queries)
            at = 0, slice(head, head + groups), slice(first, last)
            seen = last if causal else keys
            scores = linear.matmul(q[at].reshape(-1, width).float() * scale, key[:seen])
            if later is not None:
                own = scores.view(groups, last - first, seen)[:, :, first:]
                own.masked_fill_(later[: last - first, : last - first], float("-inf"))
            weights = scores.softmax(-1)
            largest = weights.amax(-1)  # exp(its score - lse)
            lse[at] = (scores.amax(-1) - largest.log_()).view(groups, -1)
            out[at] = linear.matmul(weights.to(v.dtype), value[:, :seen]).view(groups, -1, width)
    return out, lse


def fused_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, causal: bool, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of one rectangle given the merged `out` and `lse`."""
    return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
        grad.contiguous(), q, k, v, out, lse.contiguous(), 0.0, causal, scale=scale
    )


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
    """The function transformers calls in every layer. Returns (out_1NHD, None)."""
    if tree is None:
        raise RuntimeError("attn_implementation='spillover' needs tree= in the model call")
    for name in ("softcap", "s_aux"):  # not `sliding_window`: texts that fit into it are told apart (`window`)
        if others.get(name) is not None:
            raise NotImplementedError(f"attention with {name}")  # `engine.hf` then answers with the plain engine
    if dropout:
        raise RuntimeError("attention dropout would differ between the copies of a shared prefix")
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    out = tree.attend(module.layer_idx, query, key, value, scale)
    return out.transpose(1, 2), None


def window(config: Any) -> int | None:
    """The tokens that a model's narrowest layer looks back on, itself included; None where every layer sees all.

    A sequence of no more tokens is answered as if there were no window, so its prefixes can be shared.
    """
    text = config.get_text_config()
    kinds = getattr(text, "layer_types", None) or ["sliding_attention"]  # without a list, one setting is for all
    slides = "sliding_attention" in kinds and getattr(text, "use_sliding_window", True)
    return getattr(text, "sliding_window", None) if slides else None


def register() -> None:
    """Make `attn_implementation="spillover"` known to transformers."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, tree_attention)

"""Attention over a tree, held against the textbook's: one dense mask, one softmax, autograd, float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from spillover.engine import attention, ops
from spillover.engine import tree as tree_module
from spillover.engine.attention import TreePass, merge
from spillover.engine.blocks import KeyBlock
from spillover.engine.shared import past_of
from spillover.engine.tree import Tree

kernels: Any = ops.kernels  # optional: tests that need them use the fixture `onednn`

HEADS, GROUPS, WIDTH = 4, 2, 16
SCALE = 0.3

FORK = [(1, 2, 3, *range(20, 40), 4, 5), (1, 2, 3, *range(20, 40), 6, 7, 8), (1, 2, 9), (1, *range(50, 90))]


def inputs(count: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """q_1HND, k_1GND, v_1GND."""
    generator = torch.Generator().manual_seed(count)
    return tuple(  # type: ignore[return-value]
        torch.randn(1, heads, count, WIDTH, generator=generator, dtype=torch.float64).to(dtype)
        for heads in (HEADS, GROUPS, GROUPS)
    )


def dense(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor, scale: float = SCALE) -> Tensor:
    """softmax(q k' scale) v where `allowed`[query, key]."""
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
    scores = (q @ k.transpose(-1, -2) * scale).masked_fill(~allowed, float("-inf"))
    return scores.softmax(-1) @ v


def mask_of(tree: Tree) -> Tensor:
    allowed = torch.zeros(len(tree), len(tree), dtype=torch.bool)
    for index in range(len(tree)):
        for lo, hi in tree.keys_of(index):
            allowed[index, lo:hi] = True
    return allowed


def apart(ours: Tensor, reference: Tensor) -> float:
    """The difference, relative to the reference's norm (or to 1: a token alone has no gradient to its query)."""
    return float((ours.double() - reference).norm() / reference.norm().clamp(min=1.0))


def forward_and_gradients(run: Callable[..., Tensor], values: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    leaves = [value.clone().requires_grad_() for value in values]
    out = run(*leaves)
    towards = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(out.dtype)
    return out.detach(), *torch.autograd.grad(out, leaves, towards)


def both_ways(tree: Tree, dtype: torch.dtype = torch.float32) -> list[float]:
    """Relative differences of output and gradients of q, k, v: the tree's in `dtype` against dense float64."""
    ours = forward_and_gradients(
        lambda q, k, v: TreePass(tree.parts).attend(0, q, k, v, SCALE), inputs(len(tree), dtype)
    )
    allowed = mask_of(tree)
    reference = forward_and_gradients(lambda q, k, v: dense(q, k, v, allowed), inputs(len(tree), torch.float64))
    return [apart(a, b) for a, b in zip(ours, reference, strict=True)]


def test_gradients_are_those_of_dense_attention() -> None:
    tree = Tree.of(FORK)
    assert sum(not part.causal for part in tree.parts) >= 2, "several partial softmaxes are merged"
    assert max(both_ways(tree)) < 1e-5


def test_gradients_of_random_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_module, "SPLIT_TOKENS", 0.0)  # every fork a rectangle, however short
    monkeypatch.setattr(tree_module, "MERGE_TOKENS", 0.0)
    merged = 0

    @settings(max_examples=40)
    @given(st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=30).map(tuple), min_size=1, max_size=8))
    def check(sequences: list[tuple[int, ...]]) -> None:
        nonlocal merged
        tree = Tree.of(sequences)
        merged += sum(not part.causal for part in tree.parts)
        assert max(both_ways(tree)) < 1e-5

    check()
    assert merged > 40, "the trees have branches"


@pytest.mark.parametrize("masked", [False, True], ids=["rectangles", "one mask"])
def test_a_pass_over_a_part_of_the_line_looks_back_at_the_keys_it_is_given(
    masked: bool,
) -> None:
    """Without gradients: the second pack's queries attend to keys captured in the first, here cut in two blocks."""
    tree = Tree.of(FORK)
    q, k, v = inputs(len(tree))
    first, second = tree.packs(len(tree) // 2 + 1)
    captured = KeyBlock(first.start, first.stop)
    one = TreePass(first.parts, own=captured)
    cuts = [(0, 10), (10, first.stop)]
    blocks = [KeyBlock(lo, hi, {5: (k[:, :, lo:hi], v[:, :, lo:hi])}) for lo, hi in cuts]
    two = TreePass(second.parts, past_of(second, blocks))
    halves = [
        one.attend(5, q[:, :, : first.stop], k[:, :, : first.stop], v[:, :, : first.stop], SCALE),
        (two._masked if masked else two.attend)(
            5, q[:, :, first.stop :], k[:, :, first.stop :], v[:, :, first.stop :], SCALE
        ),
    ]
    reference = dense(q.double(), k.double(), v.double(), mask_of(tree))
    assert apart(torch.cat(halves, 2), reference) < 1e-6
    assert torch.equal(captured.kv[5][0], k[:, :, : first.stop])


def test_a_training_pass_has_no_past() -> None:
    tree = Tree.of(FORK)
    q, k, v = inputs(len(tree))
    _, second = tree.packs(len(tree) // 2 + 1)
    with pytest.raises(RuntimeError, match="whole tree"):
        TreePass((), [(second.past[0], KeyBlock(0, len(tree), {0: (k, v)}))]).attend(0, q.requires_grad_(), k, v, SCALE)


@pytest.mark.usefixtures("onednn")
@pytest.mark.parametrize("few", [0, 10_000], ids=["in bfloat16", "in float32"])
def test_in_bfloat16_they_differ_by_its_rounding_only(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "FEW_QUERIES", few)
    assert max(both_ways(Tree.of(FORK), torch.bfloat16)) < 2e-2


def test_merging_two_softmaxes_is_the_softmax_over_both() -> None:
    q, k, v = (x.repeat_interleave(HEADS // x.shape[1], 1) for x in inputs(12, torch.float64))

    def partial(keys: slice) -> tuple[Tensor, Tensor]:
        scores = q @ k[:, :, keys].transpose(-1, -2) * SCALE
        return scores.softmax(-1) @ v[:, :, keys], scores.logsumexp(-1)

    out, lse = partial(slice(0, 5))
    merge(out, lse, *partial(slice(5, 12)))
    whole, whole_lse = partial(slice(0, 12))
    torch.testing.assert_close(out, whole)
    torch.testing.assert_close(lse, whole_lse)


def test_merging_holds_where_one_side_is_all_there_is() -> None:
    """Scores a hundred nats apart: the smaller side counts for nothing, and nothing overflows."""
    ours, other = torch.ones(1, 1, 1, 2), torch.full((1, 1, 1, 2), 7.0)
    lse = torch.tensor([[[500.0]]])
    merge(ours, lse, other, torch.tensor([[[600.0]]]))
    assert torch.equal(ours, other)
    assert lse.item() == 600.0


def test_the_mask_of_accelerators_means_the_same() -> None:
    """Away from the CPU the rectangles become one mask. The same code runs here, gradients included."""
    tree = Tree.of(FORK)
    ours = forward_and_gradients(
        lambda q, k, v: TreePass(tree.parts)._masked(0, q, k, v, SCALE), inputs(len(tree), torch.float64)
    )
    allowed = mask_of(tree)
    reference = forward_and_gradients(lambda q, k, v: dense(q, k, v, allowed), inputs(len(tree), torch.float64))
    assert max(apart(a, b) for a, b in zip(ours, reference, strict=True)) < 1e-12


@pytest.fixture
def model() -> transformers.PreTrainedModel:
    attention.register()
    small = transformers.LlamaConfig(
        vocab_size=50, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    return transformers.AutoModelForCausalLM.from_config(small, attn_implementation=attention.NAME)


def test_a_call_without_a_tree_is_refused(model: transformers.PreTrainedModel) -> None:
    with pytest.raises(RuntimeError, match="needs tree="):
        model(input_ids=torch.tensor([[1, 2, 3]]), use_cache=False)


def test_dropout_is_refused(model: transformers.PreTrainedModel) -> None:
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.1
    tree = Tree.of([(1, 2, 3)])
    ask = {"input_ids": torch.tensor([[1, 2, 3]]), "use_cache": False, "tree": TreePass(tree.parts)}
    with pytest.raises(RuntimeError, match="dropout"):
        model.train()(**ask)
    assert model.eval()(**ask).logits.shape == (1, 3, 50), "there is none in evaluation"

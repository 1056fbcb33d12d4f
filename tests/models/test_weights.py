"""How far weights moved: by hand, against numpy, and against what PEFT itself merges."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tinymodels
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch

from spillover.errors import ModelError
from spillover.models.weights import Change, compare, layer_of, module_of, pooled, singular_values

Q, NORM, EMBED = "model.layers.7.self_attn.q_proj.weight", "model.norm.weight", "model.embed_tokens.weight"


def folder(path: Path, **tensors: Any) -> Path:
    path.mkdir()
    save_file({name: np.array(value, dtype=np.float32) for name, value in tensors.items()}, path / "model.safetensors")
    return path


def by_name(changes: list[Change]) -> dict[str, Change]:
    return {change.name: change for change in changes}


# --- by hand --------------------------------------------------------------------------------------------------------


def test_a_change_by_hand(tmp_path: Path) -> None:
    base = folder(tmp_path / "base", **{Q: [[1, 2], [0, 2]], NORM: [1, 1]})
    other = folder(tmp_path / "other", **{Q: [[4, 2], [0, 6]], NORM: [1, 0.5]})
    changes, left_out = compare(base, other)
    q = by_name(changes)["layers.7.self_attn.q_proj.weight"]
    assert (q.layer, q.module, q.size, q.absolute, q.squared, q.base_squared) == (7, "q", 4, 7, 25, 9)
    assert q.singular_values == pytest.approx((4, 3))  # the change is diag(3, 4)
    norm = by_name(changes)["norm.weight"]
    assert (norm.layer, norm.module, norm.absolute, norm.singular_values) == (None, "norm", 0.5, ())
    everything = pooled(changes)
    assert (everything.size, everything.mean_absolute) == (6, 7.5 / 6)
    assert everything.relative == pytest.approx(math.sqrt(25.25 / 11))
    assert left_out == []


def test_what_did_not_move_counts_and_has_no_spectrum(tmp_path: Path) -> None:
    base = folder(tmp_path / "base", **{Q: [[1, 2], [0, 2]]})
    (still,), _ = compare(base, base)
    assert (still.absolute, still.squared, still.singular_values) == (0, 0, ())
    assert pooled([still]).mean_absolute == 0


def test_a_broken_weight_is_seen(tmp_path: Path) -> None:
    base, other = (
        folder(tmp_path / "base", **{Q: np.eye(2)}),
        folder(tmp_path / "other", **{Q: [[1, 0], [0, math.nan]]}),
    )
    (broken,), _ = compare(base, other)
    assert math.isnan(broken.absolute)
    assert broken.singular_values == ()


def test_a_head_that_is_the_embeddings_counts_once(tmp_path: Path) -> None:
    embeddings, moved = np.arange(6).reshape(3, 2), np.arange(6).reshape(3, 2) + 1
    base = folder(tmp_path / "base", **{EMBED: embeddings, "lm_head.weight": embeddings})
    tied = folder(tmp_path / "tied", **{EMBED: moved})
    assert [change.module for change in compare(base, tied)[0]] == ["embed"]
    untied = folder(tmp_path / "untied", **{EMBED: embeddings, "lm_head.weight": moved})
    changes, left_out = compare(base, untied)
    assert ([change.absolute for change in changes], left_out) == ([0], ["lm_head.weight"])
    both = folder(tmp_path / "both", **{EMBED: moved, "lm_head.weight": 2 * moved})
    assert {change.module for change in compare(untied, both)[0]} == {"embed", "head"}


def test_what_has_no_counterpart_is_named(tmp_path: Path) -> None:
    base = folder(tmp_path / "base", **{Q: np.eye(2), EMBED: np.ones((3, 2))})
    other = folder(tmp_path / "other", **{Q: np.eye(2), EMBED: np.ones((4, 2)), "score.weight": [1]})
    changes, left_out = compare(base, other)
    assert ([change.module for change in changes], left_out) == (["q"], ["embed_tokens.weight", "score.weight"])
    alien = folder(tmp_path / "alien", **{"blocks.0.mixer": [1]})
    with pytest.raises(ModelError, match="no weight has the name and shape of one of the base"):
        compare(base, alien)
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    with pytest.raises(ModelError, match="no safetensors to compare"):
        compare(base, pickled)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_types_are_read_as_torch_reads_them(tmp_path: Path, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    weight = torch.randn(5, 3).to(dtype)
    base = folder(tmp_path / "base", **{Q: np.zeros((5, 3)), "a.scalar": 0.0})
    (tmp_path / "other").mkdir()
    tensors = {Q: weight, "a.scalar": torch.tensor(0.75, dtype=dtype), "layers.0.mask": torch.ones(3, dtype=torch.bool)}
    save_torch(tensors, tmp_path / "other" / "model.safetensors")
    changes, left_out = compare(base, tmp_path / "other")
    found = {change.module: change.absolute for change in changes}
    assert found == {"q": pytest.approx(weight.float().abs().sum().item(), rel=1e-6), "other": 0.75}
    assert left_out == []  # a mask is no weight


# --- real architectures ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["Llama", "GPT2", "GPTNeoX", "Falcon", "Bloom", "Qwen3", "Phi"])
def test_every_matrix_of_an_architecture_has_a_kind_and_a_layer(kind: str) -> None:
    matrices = [name for name, weight in tinymodels.build(kind).named_parameters() if weight.dim() == 2]
    kinds = {module_of(name) for name in matrices}
    assert "other" not in kinds
    assert kinds >= {"embed", "o", "up", "down"}
    assert kinds & {"q", "qkv"}
    assert {layer_of(name) for name in matrices} == {None, 0, 1, 2}


def test_norms_are_norms() -> None:
    names = ["layers.0.self_attn.q_norm.weight", "h.0.ln_1.bias", "transformer.ln_f.weight", "layers.3.input_layernorm"]
    assert {module_of(name) for name in names} == {"norm"}


def test_a_name_with_and_without_the_head_around_it_is_one_weight(tmp_path: Path) -> None:
    model = tinymodels.build("GPT2")
    model.save_pretrained(tmp_path / "with")
    model.transformer.save_pretrained(tmp_path / "without")  # as the hub has GPT-2
    changes, left_out = compare(tmp_path / "with", tmp_path / "without")
    assert (pooled(changes).size, left_out) == (model.num_parameters(), [])


def test_a_model_in_several_files(tmp_path: Path) -> None:
    model = tinymodels.build()
    model.save_pretrained(tmp_path / "one")
    model.save_pretrained(tmp_path / "many", max_shard_size="20KB")
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 1
    changes, left_out = compare(tmp_path / "one", tmp_path / "many")
    assert (pooled(changes).size, pooled(changes).mean_absolute, left_out) == (model.num_parameters(), 0, [])


# --- the spectrum ---------------------------------------------------------------------------------------------------


@given(
    arrays.arrays(
        np.float32,
        st.tuples(st.integers(2, 12), st.integers(2, 30)),
        elements=st.floats(-1, 1, width=32, allow_subnormal=False),
    )
)
def test_small_matrices_have_their_exact_singular_values(matrix: Any) -> None:
    exact = np.linalg.svd(matrix.astype(np.float64), compute_uv=False)
    ours = singular_values(matrix)
    assert len(ours) == min(*matrix.shape, 16)
    assert ours == pytest.approx(exact[: len(ours)], abs=2e-5 * max(exact[0], 1e-3))


@pytest.mark.parametrize("shape", [(300, 500), (500, 300)])
@pytest.mark.parametrize(("power", "tolerance"), [(1.0, 1e-3), (0.5, 3e-3), (0.0, 0.0)], ids=["steep", "slow", "flat"])
def test_large_matrices_have_theirs_nearly(shape: tuple[int, int], power: float, tolerance: float) -> None:
    """A spectrum that falls off comes out to three digits; noise's last values a few per cent small; none too large."""
    rng = np.random.default_rng(0)
    u, s, v = np.linalg.svd(rng.standard_normal(shape), full_matrices=False)
    spectrum = np.arange(1, len(s) + 1) ** -power if power else s
    ours = singular_values((1e-5 * (u * spectrum) @ v).astype(np.float32)) / 1e-5
    short = 1 - ours / spectrum[:16]
    assert short.min() > -1e-4
    assert short.max() < (tolerance or 0.06)


@given(st.lists(st.tuples(st.floats(0.01, 1), st.floats(0, 1)), min_size=1, max_size=20), st.integers(1, 20))
def test_pooling_is_taking_everything_as_one_vector(numbers: list[tuple[float, float]], cut: int) -> None:
    before, after = np.array(numbers).T

    def change(at: slice) -> Change:
        moved = np.abs(after[at] - before[at])
        return Change("w", None, "q", len(moved), moved.sum(), (moved**2).sum(), (before[at] ** 2).sum())

    both = pooled([change(slice(None, cut)), change(slice(cut, None))])
    assert both.mean_absolute == pytest.approx(np.abs(after - before).mean())
    assert both.relative == pytest.approx(np.linalg.norm(after - before) / np.linalg.norm(before))
    assert pooled([]).mean_absolute == 0

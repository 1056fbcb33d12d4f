"""What is made of trained weights, held against the arithmetic on whole models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import adapters
import pytest
import tinymodels
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from spillover.engine import load
from spillover.errors import ModelError
from spillover.experiment.axes import MadeAfter, Mixture, RandomChange, SeedMean
from spillover.train.merge import merge

IDS = torch.tensor([[5, 6, 7, 8, 9, 10, 11, 12]])
LORA = {"target_modules": ["q_proj", "down_proj"]}


def scores(folder: Path, adapter: Path | None = None) -> Tensor:
    with torch.no_grad():
        return load.load(folder, torch.float32, adapter)(IDS).logits.log_softmax(-1)


def moved(model: Any, seed: int) -> Any:
    """The model after a training, so to say: its norms stay where they are."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.add_(0.05 * torch.randn_like(weight))
    return model


def weights(folder: Path) -> dict[str, Tensor]:
    return {name: one for path in folder.glob("*.safetensors") for name, one in load_file(path).items()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base in bfloat16, as they are published, with tied weights, and two trainings of it in several files."""
    place = tmp_path_factory.mktemp("whole")
    base = tinymodels.build(gain=4.0, tie_word_embeddings=True).bfloat16()
    base.save_pretrained(place / "base")
    for number in (1, 2):
        trained = moved(load.load(place / "base", torch.float32), number)
        trained.save_pretrained(place / f"s{number}", max_shard_size="60KB")
    return place


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, a LoRA and a DoRA of it, and a LoRA of the head that the base ties to its embeddings."""
    place = tmp_path_factory.mktemp("adapted")
    model = tinymodels.build(gain=4.0, tie_word_embeddings=True)
    model.save_pretrained(place / "base")
    kinds = {"lora": LORA, "dora": {**LORA, "use_dora": True}, "head": {"target_modules": ["lm_head", "v_proj"]}}
    for name, options in kinds.items():
        adapters.save(adapters.wrap(model, adapters.lora(**options)), place / name)
    return place


def made(place: Path, after: MadeAfter, trained: list[str], out: Path, **options: Any) -> Path:
    out.mkdir(parents=True)
    merge(place / "base", [place / name for name in trained], after, out, **options)
    assert not (out / "merged").exists()
    return out


@pytest.mark.parametrize("alpha", [0.0, 0.25, 1.0, 1.25])
def test_a_mixture_is_the_base_and_a_part_of_the_change(whole: Path, tmp_path: Path, alpha: float) -> None:
    out = made(whole, Mixture(alpha=(alpha,)), ["s1"], tmp_path / "out")
    base, trained, mixed = weights(whole / "base"), weights(whole / "s1"), weights(out)
    assert {path.name for path in out.iterdir()} == {path.name for path in (whole / "s1").iterdir()}
    assert mixed.keys() == trained.keys() == base.keys()  # the head stays tied
    for name, one in mixed.items():
        before, after = base[name].float(), trained[name]
        assert one.dtype == torch.float32
        assert torch.equal(one, torch.lerp(before, after, alpha))
        exact = {0.0: before, 1.0: after}.get(alpha)
        assert exact is None or torch.equal(one, exact)
    assert torch.isfinite(scores(out)).all()


def test_a_mixture_of_a_lora_scales_its_change_and_stays_an_adapter(adapted: Path, tmp_path: Path) -> None:
    base = scores(adapted / "base")
    for alpha in (0.0, 0.5, 1.0):
        out = made(adapted, Mixture(alpha=(alpha,)), ["lora"], tmp_path / str(alpha), stays_adapter=True)
        after, own = weights(out), weights(adapted / "lora")
        assert all(torch.equal(one, own[name] * (alpha if "lora_B" in name else 1)) for name, one in after.items())
    assert torch.equal(scores(adapted / "base", tmp_path / "0.0"), base)
    assert torch.equal(scores(adapted / "base", tmp_path / "1.0"), scores(adapted / "base", adapted / "lora"))
    whole = made(adapted, Mixture(alpha=(0.5,)), ["lora"], tmp_path / "whole")  # the same by way of merged weights
    torch.testing.assert_close(scores(whole), scores(adapted / "base", tmp_path / "0.5"), atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", ["dora", "head"])
def test_an_adapter_that_is_merged_first_keeps_its_answers(adapted: Path, tmp_path: Path, kind: str) -> None:
    """That of the head too: the embeddings, which the base ties to it, stay as they are."""
    none, full = (made(adapted, Mixture(alpha=(alpha,)), [kind], tmp_path / str(alpha)) for alpha in (0.0, 1.0))
    assert torch.equal(scores(none), scores(adapted / "base"))
    torch.testing.assert_close(scores(full), scores(adapted / "base", adapted / kind), atol=1e-4, rtol=0)
    assert (scores(full) - scores(none)).abs().max() > 1e-2


def test_a_soup_is_the_mean_of_the_weights(whole: Path, adapted: Path, tmp_path: Path) -> None:
    out = made(whole, SeedMean(), ["s1", "s2"], tmp_path / "out")
    one, two = weights(whole / "s1"), weights(whole / "s2")
    assert all(torch.equal(mean, ((one[n].double() + two[n]) / 2).float()) for n, mean in weights(out).items())
    same = made(whole, SeedMean(), ["s1", "s1", "s1"], tmp_path / "same")
    assert all(torch.equal(mean, one[n]) for n, mean in weights(same).items())
    merged = made(adapted, SeedMean(), ["lora", "dora"], tmp_path / "merged")  # a whole checkpoint
    apart = [made(adapted, Mixture(alpha=(1.0,)), [kind], tmp_path / kind) for kind in ("lora", "dora")]
    means = {name: (one + weights(apart[1])[name]) / 2 for name, one in weights(apart[0]).items()}
    for name, mean in weights(merged).items():
        torch.testing.assert_close(mean, means[name], atol=1e-6, rtol=1e-6)


def test_a_random_change_is_as_large_as_the_trained_one_and_goes_elsewhere(whole: Path, tmp_path: Path) -> None:
    first, again, other = (
        weights(made(whole, RandomChange(), ["s1"], tmp_path / name, seed=seed))
        for name, seed in (("first", "a"), ("again", "a"), ("other", "b"))
    )
    base, trained = weights(whole / "base"), weights(whole / "s1")
    for name, one in first.items():
        assert torch.equal(one, again[name])
        change, wanted = (after.double() - base[name].double() for after in (one, trained[name]))
        assert change.norm().item() == pytest.approx(wanted.norm().item(), rel=1e-4)
        if not wanted.norm():
            assert torch.equal(one, base[name].float())  # a weight that training left alone
        else:
            assert not torch.equal(one, other[name])
            assert abs((change * wanted).sum() / wanted.square().sum()) < 0.1
    assert any(not (trained[name] - base[name].float()).norm() for name in first)


def test_weights_without_a_counterpart_are_refused(whole: Path, tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    stored = weights(whole / "base")
    del stored["model.norm.weight"]
    save_file(stored, tmp_path / "base" / "model.safetensors")
    (tmp_path / "out").mkdir()
    with pytest.raises(ModelError, match=r"model\.norm\.weight"):
        merge(tmp_path / "base", [whole / "s1"], Mixture(), tmp_path / "out")

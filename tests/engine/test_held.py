"""Adapters on one load of their base: each answers as on a load of its own, and leaves the base as it was."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import adapters
import pytest
import tinymodels
import torch

from spillover.engine import attention, load
from spillover.engine.held import HeldBase
from spillover.engine.hf import load_engine
from spillover.text.encode import Encoder
from spillover.text.request import Request

MODEL = {"gain": 4.0, "num_hidden_layers": 2, "attention_bias": True, "tie_word_embeddings": True}
IDS = torch.tensor([[5, 6, 7, 8, 9, 10, 11, 12]])
OFTEN = ("IA3", "LN_TUNING", "OFT", "TRAINABLE_TOKENS")  # the others rarely
REQUESTS = [Request((5, 6, 7, 8), ((9,), (10, 11))), Request((5, 6, 7, 12, 13), (), 4), Request((5, 6, 7), ((4,),))]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base with biases and tied weights."""
    attention.register()
    place = tmp_path_factory.mktemp("held")
    tinymodels.save(tinymodels.build(**MODEL), place / "base")
    return place


def adapter(place: Path, name: str) -> Path:
    """The folder of an adapter of this kind, made when it is first needed."""
    if not (place / name).exists():
        config = adapters.lora(**adapters.LORAS[name]) if name in adapters.LORAS else adapters.CONFIGS[name]
        adapters.save(adapters.wrap(tinymodels.build(**MODEL), config), place / name)
    return place / name


def scores(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS).logits


def copied(model: Any) -> dict[str, tuple[int, torch.Tensor]]:
    return {name: (weight.data_ptr(), weight.detach().clone()) for name, weight in model.named_parameters()}


def same(before: dict[str, tuple[int, torch.Tensor]], model: Any) -> bool:
    """Whether every weight is where it was, and what it was."""
    now = dict(model.named_parameters())
    return before.keys() == now.keys() and all(
        now[name].data_ptr() == at and torch.equal(now[name], weight) for name, (at, weight) in before.items()
    )


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")  # of SHIRA
@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")
@pytest.mark.parametrize(
    "names",
    [[*adapters.LORAS, *OFTEN], pytest.param([*adapters.LORAS, *adapters.CONFIGS], marks=pytest.mark.slow)],
    ids=["often", "every kind"],
)
def test_each_kind_answers_as_alone_and_leaves_the_base_as_it_was(place: Path, names: list[str]) -> None:
    held, cpu = HeldBase(), torch.device("cpu")
    base = scores(held.with_adapter(place / "base", torch.float32, cpu, None))
    before, first = copied(held.model), held.model
    for name in names:
        model = held.with_adapter(place / "base", torch.float32, cpu, adapter(place, name))
        alone = load.load(place / "base", torch.float32, adapter(place, name))
        assert torch.equal(scores(model), scores(alone)), name
        assert not torch.equal(scores(model), base), name
        assert held.model is first and same(before, held.model), name
    assert torch.equal(scores(held.with_adapter(place / "base", torch.float32, cpu, None)), base)


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")
@pytest.mark.parametrize(("precision", "count"), [("float32", 20), ("bfloat16", 4)])
def test_engines_answer_alike_and_memory_stays_flat_over_twenty(place: Path, precision: Any, count: int) -> None:
    encoder, held = Encoder.load(place / "base", {}), HeldBase()
    names = ["plain", "weight-decomposed", "the output layer", "biases"]

    def answers(name: str, held: HeldBase | None) -> tuple[Any, Any]:
        engine, _ = load_engine(place / "base", encoder, precision, adapter=adapter(place, name), held=held)
        return dict(engine.run(REQUESTS, lambda ids: False)), weakref.ref(engine.model)  # type: ignore[attr-defined]

    alone = {name: answers(name, None)[0] for name in names}
    gone, before = [], None
    for number in range(count):
        found, model = answers(names[number % 4], held)
        assert found == alone[names[number % 4]]
        before = before or copied(held.model)
        gone.append(model)
    gc.collect()
    assert before is not None and same(before, held.model)
    assert [model() for model in gone] == [None] * count


def test_another_base_or_precision_is_loaded_anew(place: Path) -> None:
    held, cpu = HeldBase(), torch.device("cpu")
    held.with_adapter(place / "base", torch.float32, cpu, None)
    first = held.model
    held.with_adapter(place / "base", torch.float32, cpu, adapter(place, "plain"))
    assert held.model is first
    held.with_adapter(place / "base", torch.bfloat16, cpu, None)
    assert held.model is not first and held.is_of(place / "base")
    held.forget()
    assert held.model is None and not held.is_of(place / "base")

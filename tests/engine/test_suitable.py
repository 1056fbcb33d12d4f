"""The probe of a model that is loaded: what a short text hides, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import tinymodels
import torch

from spillover.engine import attention, ops, suitable
from spillover.engine.suitable import questions, why_plain

kernels: Any = ops.kernels
WORDS = tuple(range(4, 14))


@pytest.fixture(autouse=True)
def nothing_probed_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suitable, "_long_enough", set())


@pytest.fixture
def of_its_own() -> Iterator[Any]:
    """A model whose own code changes its rotary frequencies for passes of more than 40 tokens. No setting says so.

    The last token of a text is never computed, so texts of 41 tokens are not concerned.
    """

    def change(module: Any, args: Any, kwargs: Any) -> None:
        positions = kwargs["position_ids"] if "position_ids" in kwargs else args[1]
        module.inv_freq.copy_(module.original_inv_freq / (2.0 if positions.max() >= 40 else 1.0))

    model = tinymodels.build()
    model.model.rotary_emb.register_forward_pre_hook(change, with_kwargs=True)
    yield model


@pytest.mark.parametrize(("longest", "differs"), [(None, False), (41, False), (42, True), (200, True)])
def test_the_probe_is_as_long_as_the_longest_text(of_its_own: Any, longest: int | None, differs: bool) -> None:
    why = why_plain(of_its_own, WORDS, "float32", longest)
    assert ("nats on a probe" in (why or "")) == differs, why
    assert (of_its_own.config._attn_implementation == attention.NAME) == (not differs)


def test_a_text_is_never_longer_than_the_model_takes() -> None:
    assert why_plain(tinymodels.build("GPT2", n_positions=32), WORDS, "float32", longest=36) is None


@pytest.mark.usefixtures("onednn")
@pytest.mark.parametrize("longest", [100, 400])
def test_the_probe_reaches_the_kernels_of_large_rectangles(monkeypatch: pytest.MonkeyPatch, longest: int) -> None:
    monkeypatch.setattr(kernels, "PRODUCTS_FROM", 2**14)
    attend = kernels.attend
    large = []

    def broken(q: Any, k: Any, v: Any, causal: bool, scale: float, groups: int) -> Any:
        done = attend(q, k, v, causal, scale, groups)
        if done is None or causal:
            return done
        large.append(q.shape[2] * k.shape[2])
        return done[0] * 1.2, done[1]

    monkeypatch.setattr(kernels, "attend", broken)
    assert "nats on a probe" in str(why_plain(tinymodels.build(), WORDS, "float32", longest))
    assert max(large) >= 2**14


def test_models_that_are_built_alike_are_asked_the_long_text_once() -> None:
    computed: list[int] = []

    def probed(**changes: Any) -> int:
        model = tinymodels.build(**changes)
        model.get_decoder().register_forward_pre_hook(
            lambda *given: computed.append(given[2]["input_ids"].numel()), with_kwargs=True
        )
        computed.clear()
        assert why_plain(model, WORDS, "float32", longest=300) is None
        return sum(computed)

    first, again, other = probed(), probed(gain=3.0), probed(num_hidden_layers=2)
    assert first > 600
    assert again < 150
    assert other == first


def test_what_is_compared_is_as_long_as_it_says() -> None:
    for length in (9, 40, 1000):
        compared, others = questions(WORDS, length)
        assert max(request.reach for request in [*compared, *others]) == length
        assert max(request.reach for request in compared) == length, "one that is compared is the longest"


@torch.no_grad()
def test_a_decoding_step_that_is_wrong_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    from spillover.engine.decode import DecodePass

    attend = DecodePass.attend
    monkeypatch.setattr(DecodePass, "attend", lambda *given: attend(*given) * 1.2)
    assert "nats on a probe" in str(why_plain(tinymodels.build(), WORDS, "float32"))

"""One engine for requests of every length, held against the plain one."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import tinymodels

from spillover.engine import either
from spillover.engine.either import EitherEngine
from spillover.engine.plain import PlainEngine
from spillover.engine.port import Answer
from spillover.engine.suitable import difference
from spillover.text.encode import Encoder
from spillover.text.request import Request

WINDOW = 16
SHORT = [Request((4, 5, 6, n), ((7, 8), (9,))) for n in range(4, 9)] + [Request((4, 5, 6), (), 4)]
LONG = [Request((4, 5, 6) * 8 + (n,), ((7, 8), (9,))) for n in range(4, 7)] + [Request((4, 5, 6) * 8, (), 4)]


@pytest.fixture
def models(tmp_path: Path) -> tuple[Any, Any, Encoder]:
    """A model whose layers look back on WINDOW tokens, twice, and its encoder."""
    plain = tinymodels.build("Mistral", sliding_window=WINDOW)
    return plain, copy.deepcopy(plain), Encoder.load(tinymodels.save(plain, tmp_path))


def alike(ours: dict[int, Answer], theirs: dict[int, Answer]) -> bool:
    same = all(ours[n].greedy == answer.greedy for n, answer in theirs.items())
    return same and ours.keys() == theirs.keys() and max(difference(ours[n], one) for n, one in theirs.items()) < 1e-3


def test_longer_texts_than_can_be_shared_are_computed_alone(models: tuple[Any, Any, Encoder]) -> None:
    plain, model, encoder = models
    engine, reference = EitherEngine(model, encoder, frozenset()), PlainEngine(plain, frozenset())
    mixed = [*LONG[:2], *SHORT, *LONG[2:]]
    for requests in (mixed, SHORT, LONG, mixed):  # again and again, with the other attention in the model each time
        answers = dict(engine.run(requests, lambda ids: False))
        assert alike(answers, dict(reference.run(requests, lambda ids: False)))
    assert engine.reason is None
    assert engine.work.tokens < reference.work.tokens


def test_a_request_may_have_end_tokens_of_its_own(models: tuple[Any, Any, Encoder]) -> None:
    plain, model, encoder = models
    [(_, free)] = PlainEngine(plain, frozenset()).run([Request((4, 5, 6), (), 4)], lambda ids: False)
    first, second = free.generated[:2]  # type: ignore[index]
    assert first != second
    asked = [Request((4, 5, 6), (), 4, ends=ends) for ends in (None, frozenset(), frozenset([second]))]
    for engine in (PlainEngine(plain, frozenset([first])), EitherEngine(model, encoder, frozenset([first]))):
        answers = dict(engine.run(asked, lambda ids: False))
        assert [answers[n].generated for n in range(3)] == [(), free.generated, (first,)]


def test_slices_hold_every_request_once(models: tuple[Any, Any, Encoder], monkeypatch: pytest.MonkeyPatch) -> None:
    plain, model, encoder = models
    monkeypatch.setattr(either, "SLICE", 10)
    engine = EitherEngine(model, encoder, frozenset())
    numbers = [number for number, _ in engine.run(SHORT, lambda ids: False)]
    assert sorted(numbers) == list(range(len(SHORT)))
    again = dict(engine.run(SHORT, lambda ids: False))
    assert alike(again, dict(PlainEngine(plain, frozenset()).run(SHORT, lambda ids: False)))


def test_prefixes_are_shared_only_if_asked_for(models: tuple[Any, Any, Encoder]) -> None:
    _, model, encoder = models
    engine = EitherEngine(model, encoder, frozenset(), shares=False)
    list(engine.run(SHORT, lambda ids: False))
    assert engine.work.tokens == engine.work.tokens_plain

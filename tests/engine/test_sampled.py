"""Texts that a model writes by itself: drawn from its distributions, each by a generator of its own."""

from __future__ import annotations

from collections import Counter

import tinymodels
import torch

from spillover.engine.sampled import write

FIRST, LENGTH = 4, 6


def test_a_text_does_not_depend_on_what_is_written_with_it() -> None:
    model = tinymodels.build()
    together = write(model, FIRST, range(8), LENGTH, 1.0, ())
    assert together == [write(model, FIRST, [number], LENGTH, 1.0, ())[0] for number in range(8)]
    assert len(set(together)) == 8 and {len(text) for text in together} == {LENGTH}


def test_tokens_are_drawn_as_often_as_the_model_says() -> None:
    model = tinymodels.build(gain=4.0)
    with torch.no_grad():
        expected = model(input_ids=torch.tensor([[FIRST]])).logits[0, -1].softmax(-1)
    drawn = Counter(text[0] for text in write(model, FIRST, range(4000), 1, 1.0, ()))
    counts = torch.tensor([drawn[token] for token in range(len(expected))])
    apart = ((counts - 4000 * expected) ** 2 / (4000 * expected)).sum()
    assert apart < 2 * len(expected), "chi-square, with as many degrees of freedom as tokens less one"


def test_a_low_temperature_writes_what_is_most_probable() -> None:
    model = tinymodels.build()
    [text] = write(model, FIRST, [0], LENGTH, 1e-4, ())
    ids = torch.tensor([[FIRST, *text]])
    assert model(input_ids=ids).logits[0, :-1].argmax(-1).tolist() == list(text)


def test_an_end_token_is_the_last_of_its_text() -> None:
    model = tinymodels.build(gain=1.0)
    ends = set(range(0, 50, 4))
    texts = write(model, FIRST, range(30), LENGTH, 1.0, ends)
    assert any(len(text) < LENGTH for text in texts)
    assert all(token not in ends for text in texts for token in text[:-1])
    assert all(text[-1] in ends for text in texts if len(text) < LENGTH)

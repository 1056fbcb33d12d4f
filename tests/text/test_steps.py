"""Which samples a step holds."""

from __future__ import annotations

import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from spillover.experiment.recipe import Recipe
from spillover.text.samples import Sample, Samples
from spillover.text.steps import shuffled, steps_of

ROWS = Samples(tuple(Sample.of((row, row), 1) for row in range(11)), 0, 0)


def rows_of(steps: list[list[Sample]]) -> list[list[int]]:
    return [[sample.ids[0] for sample in step] for step in steps]


@pytest.mark.parametrize("epochs", [0.5, 1, 2.4])
def test_rows_are_shuffled_as_the_trainer_shuffles_them(epochs: float) -> None:
    recipe = Recipe(learning_rate=1, num_train_epochs=epochs, batch_size=4, seed=5)
    steps = steps_of(ROWS, recipe)
    config = DataLoaderConfiguration(use_seedable_sampler=True, data_seed=5)
    loader = Accelerator(dataloader_config=config, cpu=True).prepare(
        DataLoader(list(range(11)), batch_size=4, shuffle=True, collate_fn=list)
    )
    theirs = []
    for epoch in range(3):
        loader.set_epoch(epoch)
        theirs += [list(batch) for batch in loader]
    assert rows_of(list(steps)) == theirs[: len(steps)]
    assert len(steps) == {0.5: 2, 1: 3, 2.4: 8}[epochs]
    assert rows_of([steps[len(steps) - 1], steps[0]]) == [theirs[len(steps) - 1], theirs[0]], "from its number alone"
    with pytest.raises(IndexError):
        steps[len(steps)]


@given(rows=st.integers(1, 300), seed=st.integers(0, 2**32 + 9))
def test_the_order_is_that_of_torch(rows: int, seed: int) -> None:
    assert shuffled(rows, seed) == torch.randperm(rows, generator=torch.Generator().manual_seed(seed)).tolist()


def test_a_step_is_made_when_it_is_asked_for() -> None:
    asked = []

    class Drawn(Samples):
        def of_step(self, step: int, rows: object) -> list[Sample]:
            asked.append((step, list(rows)))
            return [Sample.of((step, 1), 1)]

    steps = steps_of(Drawn(ROWS.samples, 0, 0), Recipe(learning_rate=1, num_train_epochs=2, batch_size=11, seed=0))
    assert asked == []
    assert steps[1] == [Sample.of((1, 1), 1)]
    ((step, rows),) = asked
    assert step == 1 and sorted(rows) == list(range(11))


def test_a_sample_learns_the_tokens_of_its_spans() -> None:
    assert Sample.of((7, 8, 9), 0).learned == (1, 2), "nothing predicts the first"
    both = Sample((1, 2, 3, 4, 5, 6, 7), ((2, 3), (5, 7)))
    assert (both.learned, both.start) == ((2, 5, 6), 2)

"""Whether what was measured inside variants predicts what they lose: rank correlations over recipes."""

from __future__ import annotations

from dataclasses import replace

import grids
import numpy as np
import pytest
from madescores import BASE, results_of

from spillover.analysis.forgetting import Moved, correlations, moved
from spillover.models.weights import Change
from spillover.stats.intervals import CONFIDENCE
from spillover.store.inside import Divergence, Inside


def points(pairs: list[tuple[float, float]], train: str = "data") -> list[Moved]:
    return [Moved(str(i), str(i), train, lost, {"new_task": nats}) for i, (nats, lost) in enumerate(pairs)]


def test_a_larger_loss_at_each_larger_divergence_is_a_correlation_of_one() -> None:
    (found,) = correlations(points([(x, x**3) for x in range(8)]))
    assert (found.measure, found.train_dataset, found.n) == ("new_task", "data", 8)
    assert found.rho == pytest.approx(1.0) and found.interval.low > 0.9


def test_few_recipes_or_one_value_say_nothing() -> None:
    assert correlations(points([(x, x) for x in range(4)])) == []
    assert correlations(points([(1.0, x) for x in range(9)])) == []


def test_two_training_sets_are_averaged_within_each() -> None:
    """The sets lie at different levels: together they would look related, and within each there is nothing."""
    rng = np.random.default_rng(0)
    near = points([(x, y) for x, y in rng.uniform(0, 1, (40, 2))])
    far = points([(5 + x, 5 + y) for x, y in rng.uniform(0, 1, (40, 2))], "other")
    *_, of_all = correlations(near + far)
    assert of_all.train_dataset is None and of_all.n == 80
    assert of_all.interval.low < 0 < of_all.interval.high and abs(of_all.rho) < 0.3
    (mixed,) = correlations(points([(one.measures["new_task"], one.lost) for one in near + far]))
    assert mixed.rho > 0.6


def test_the_interval_holds_the_true_correlation_as_often_as_it_says() -> None:
    rng, true = np.random.default_rng(1), 0.7
    rank = 6 / np.pi * np.arcsin(true / 2)  # Spearman's of a normal pair whose Pearson correlation is `true`
    held = 0
    for _ in range(400):
        x, y = rng.multivariate_normal([0, 0], [[1, true], [true, 1]], 25).T
        (found,) = correlations(points(list(zip(x, y, strict=True))))
        held += found.interval.low <= rank <= found.interval.high
    assert held / 400 == pytest.approx(CONFIDENCE, abs=0.03)


def test_each_recipe_is_a_point_with_the_means_over_its_seeds() -> None:
    known = [BASE, *(grids.trained(n, "ft", "data", "task", seed=s, recipe="ft") for s, n in enumerate(("ft", "ft1")))]
    known = [replace(one, key=one.name) for one in known]
    scores = {("base", test, 0, "p1", 0): [0.5] * 4 for test in ("in", "out")}
    for name, lost in (("ft", 0.1), ("ft1", 0.3)):
        scores |= {(name, "in", 0, "p1", 0): [0.6] * 4, (name, "out", 0, "p1", 0): [0.5 - lost] * 4}
    inside = {
        name: Inside(
            name,
            name,
            "",
            "",
            "float32",
            changes=(Change("w", 0, "q", 10, 20 * nats, 0.0, 0.0), Change("v", 0, "v", 30, 20 * nats, 0.0, 0.0)),
            neutral=Divergence(((nats / 2, 1),)),
            answers={"in": Divergence(((2 * nats, 2),)), "out": Divergence(((9.0, 1),))},
        )
        for name, nats in (("ft", 0.2), ("ft1", 0.4))
    }
    (found,) = moved(results_of(scores, known=known), inside)
    assert found.lost == pytest.approx(0.2)
    assert found.measures == pytest.approx({"new_task": 0.3, "plain_text": 0.15, "weights": 0.3})

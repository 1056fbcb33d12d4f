"""What a recipe keeps of the base, and what it gains in each use, over scores that are made by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf, sqrt

import numpy as np
import pytest
from madescores import FT, ICL, results_of
from scipy.optimize import brentq
from scipy.stats import t

from spillover.analysis import uncertainty
from spillover.analysis.contrasts import difference, share
from spillover.analysis.deploy import asked_as
from spillover.analysis.effects import families
from spillover.analysis.results import Results
from spillover.analysis.retention import OUTSIDE, Kept, kept
from spillover.analysis.summaries import matrix, recipe_changes, recipe_matrix
from spillover.plan.grid import Deploy, Use

RNG = np.random.default_rng(5)
N = 60
BASES = {name: np.clip(RNG.normal(mean, 0.1, N), 0, 1) for name, mean in (("in", 0.3), ("out", 0.6), ("far", 0.5))}


SEEDS = {"base": 0.0, "ft": -0.1, "ft1": -0.05}


def moved(test: str, by: float, noise: float = 0.05) -> np.ndarray:
    return np.clip(BASES[test] + np.random.default_rng(len(test)).normal(by, noise, N), 0, 1)


def made(changes: dict[tuple[str, int], float], base: dict[tuple[str, int], float] | None = None) -> Results:
    """The base, and `ft` with changes by test set and shots; `base` moves the base's scores from those at hand."""
    scores = {}
    for (test, shots), by in changes.items():
        lift = (base or {}).get((test, shots), 0.0)
        scores["base", test, shots, "p1", 0] = BASES[test] + lift
        scores["ft", test, shots, "p1", 0] = moved(test, by) + lift
    return results_of(scores)


def of(results: Results) -> Kept:
    (found,) = kept(results).values()
    return found


def fieller(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float]:
    """Fieller's interval of the ratio of two paired means, by bisection."""
    n = len(ours)
    (a, ab), (_, b) = np.cov(ours, theirs)
    wide = t.ppf(0.975, n - 1)

    def end(sign: int) -> Callable[[float], float]:
        error = lambda r: sqrt((a - 2 * r * ab + r * r * b) / n)  # noqa: E731
        return lambda r: float(ours.mean() - r * theirs.mean() + sign * wide * error(r))

    return brentq(end(-1), 0.01, 5), brentq(end(1), 0.01, 5)


def test_what_trainings_differ_by_is_not_computed_for_each_trial_of_a_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """An end of its interval is searched for in many trials, and this takes longest; only an effect shows it."""
    counted: list[object] = []
    least = uncertainty._least_difference
    monkeypatch.setattr(uncertainty, "_least_difference", lambda *of: (counted.append(of), least(*of))[1])
    results = results_of({(name, "out", 0, "p1", 0): moved("out", by) for name, by in SEEDS.items()})
    ours = [cell for cell in results.grid.cells if cell.variant in ("ft", "ft1")]
    assert share(results, ours, results.cells_of_base) and not counted
    change = difference(results, ours, results.cells_of_base)
    assert change is not None and change.noise_floor is not None and len(counted) == 1


def test_the_share_that_is_left_has_fiellers_interval() -> None:
    ours, theirs = moved("out", -0.08, 0.15), BASES["out"]
    results = results_of({("ft", "out", 0, "p1", 0): ours, ("base", "out", 0, "p1", 0): theirs})
    cells = results.grid.cells
    found = share(results, cells[:1], cells[1:])
    assert found is not None
    assert (found.low, found.high) == pytest.approx(fieller(ours, theirs), abs=2e-4)


def test_a_share_of_a_base_that_may_be_zero_has_no_upper_end() -> None:
    theirs = np.zeros(30)
    theirs[0] = 1.0
    ours = np.random.default_rng(0).permutation(np.repeat([1.0, 0.0], [2, 28]))
    results = results_of({("ft", "out", 0, "p1", 0): ours, ("base", "out", 0, "p1", 0): theirs}, "exact_match")
    found = share(results, results.grid.cells[:1], results.grid.cells[1:])
    assert found is not None and found.high == inf


def test_what_scores_nothing_may_still_score_on_other_rows() -> None:
    results = results_of({("ft", "out", 0, "p1", 0): np.zeros(N), ("base", "out", 0, "p1", 0): BASES["out"]})
    found = share(results, results.grid.cells[:1], results.grid.cells[1:])
    assert found is not None and found.low == 0.0 and 0.0 < found.high < 0.5


def test_each_use_is_a_gain_of_its_own_and_losses_stand_by_test_set() -> None:
    results = made({("in", 0): 0.4, ("in", 2): 0.0, ("out", 0): -0.03, ("far", 0): -0.3})
    found = of(results)
    assert [(gain.ours.shots, gain.effect.is_clear) for gain in found.gains] == [(0, True), (2, False)]
    assert [gain.effect.value for gain in found.gains] == pytest.approx([0.4, 0.0], abs=0.03)
    assert set(found.sets) == {"out", "far"} and found.worst == found.sets["far"]
    far = found.sets["far"]
    assert far.share == pytest.approx(far.ours / far.base) and far.share < 0.6
    assert far.held(0.98) is False and far.held(0.1) is True
    assert found.outside is not None and found.outside.where == OUTSIDE and set(found.outside.tests) == {"out", "far"}
    assert found.roles["cross-task"].effect.value == pytest.approx(far.effect.value)


def test_a_share_that_may_be_on_either_side_is_undecided() -> None:
    found = of(made({("in", 0): 0.1, ("out", 0): -0.005}))
    assert found.sets["out"].held(0.98) is None


def test_a_few_documents_hold_nothing() -> None:
    few = {("base", "out", 0, "p1", 0): BASES["out"][:6], ("ft", "out", 0, "p1", 0): BASES["out"][:6] * 0.2}
    (found,) = kept(results_of(few)).values()
    assert found.sets["out"].held(0.98) is None


def test_what_is_deployed_is_compared_with_the_base_as_it_would_be() -> None:
    """The base gains 0.2 by two demonstrations: fine-tuning that adds 0.25 without any is worth 0.05."""
    results = made({("in", 0): 0.25, ("in", 2): -0.1, ("out", 0): 0.0}, base={("in", 2): 0.2})
    deploy = Deploy(base=Use(2, "p1"), variant=Use(0, "p1"))
    (gain,) = of(replace(results, grid=replace(results.grid, deploy=deploy))).gains
    assert gain.effect.value == pytest.approx(0.05, abs=0.03)
    assert (gain.ours.shots, gain.theirs.shots) == (0, 2)
    assert "0 shots" in gain.where and "the base at 2 shots" in gain.where


def test_how_each_is_asked_is_said() -> None:
    results = made({("in", 0): 0.25, ("in", 2): -0.1})
    assert not list(asked_as(results))
    deploy = Deploy(base=Use(2, "p1"), variant=Use(0, "p1"))
    trained_on = str(FT.train_dataset)
    uses = {("base", trained_on): deploy.base, (FT.recipe_key, trained_on): deploy.variant}
    best = replace(results, grid=replace(results.grid, deploy="best"), best_uses=uses)
    for found in (replace(results, grid=replace(results.grid, deploy=deploy)), best):
        [said] = asked_as(found)
        assert "the base at 2 shots, p1" in said and f"{FT.name} at 0 shots, p1" in said
        assert ("validation rows" in said) == (found is best)


def test_rows_that_leak_are_in_no_number() -> None:
    """The variant has learnt the first half by heart: only the other half says what it can do."""
    learnt = np.where(np.arange(N) < N // 2, 1.0, BASES["in"])
    scores = {("base", "in", 0, "p1", 0): BASES["in"], ("ft", "in", 0, "p1", 0): learnt}
    results = results_of(scores)
    assert of(results).gains[0].effect.value > 0.3
    clean = of(replace(results, leaked={FT.train_dataset or "": {"in": list(range(N // 2))}}))
    assert clean.gains[0].effect.value == 0.0 and clean.gains[0].effect.n == N // 2
    every = replace(results, leaked={FT.train_dataset or "": {"in": list(range(N))}})
    assert of(every).gains == ()


def test_a_random_change_takes_no_evidence_from_the_others() -> None:
    """Neither in what recipes keep nor in the tables; among themselves, random changes are corrected too."""

    def with_icl(null: bool) -> Results:
        scores = {}
        for test, by in (("in", 0.1), ("out", -0.02), ("far", -0.1)):
            scores["base", test, 0, "p1", 0] = BASES[test]
            scores["ft", test, 0, "p1", 0] = moved(test, by)
            scores["icl", test, 0, "p1", 0] = moved(test, by / 2)
        both = results_of(scores)
        variants = tuple(replace(one, is_null=null and one.key == "icl") for one in both.grid.variants)
        return replace(both, grid=replace(both.grid, variants=variants))

    def compared(results: Results) -> list[int]:
        found = kept(results)[FT.recipe_key]
        many = [found.gains[0].effect, found.roles["cross-task"].effect, found.sets["far"].effect]
        many += [recipe_changes(results)[FT.recipe_key, "in_domain"].effect]
        many += [
            entry.change
            for table in (matrix(results), recipe_matrix(results))
            for entry in table.values()
            if entry.variant == "ft" and entry.change
        ]
        many += [row.effect for rows in families(results).values() for row in rows if row.name == "ft"]
        return [one.compared for one in many]

    alone, beside_null, beside_other = (
        made({("in", 0): 0.1, ("out", 0): -0.02, ("far", 0): -0.1}),
        *map(with_icl, (True, False)),
    )
    assert compared(alone) == compared(beside_null) != compared(beside_other)
    assert kept(beside_null)[ICL.recipe_key].sets["far"].effect.compared == 2


def test_demonstrations_that_no_longer_help_show_in_the_slope() -> None:
    results = made({("out", 0): 0.0, ("out", 2): -0.2}, base={("out", 2): 0.2})
    found = of(results).demonstrations
    assert found is not None
    assert found.base.value == pytest.approx(0.1) and found.ours.value == pytest.approx(0.0, abs=0.02)
    assert found.effect.is_clear and found.effect.value < 0


def test_formats_that_were_not_trained_are_known_apart() -> None:
    scores = {}
    for prompt, by in (("p1", 0.4), ("p2", -0.1)):
        scores["base", "in", 0, prompt, 0] = BASES["in"]
        scores["ft", "in", 0, prompt, 0] = moved("in", by)
    found = of(results_of(scores)).formats
    assert found is not None and found.effect.value == pytest.approx(-0.1, abs=0.03)


def test_a_base_that_guesses_has_nothing_to_lose() -> None:
    right = np.tile([1.0, 0.0], N // 2)
    results = results_of({("base", "out", 0, "p1", 0): right, ("ft", "out", 0, "p1", 0): right}, "accuracy")
    (test,) = results.grid.tests
    coin = replace(results, grid=replace(results.grid, tests=(replace(test, chance=0.5),)))
    assert of(coin).sets["out"].at_chance
    of_ten = replace(results, grid=replace(results.grid, tests=(replace(test, chance=0.1),)))
    assert not of(of_ten).sets["out"].at_chance

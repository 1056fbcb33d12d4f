"""Are differences found as often as promised, and do intervals hold the truth as often as they say?

    python benchmarks/power.py

Every contrast carries the smallest effect that its design finds with 80 % power (`Effect.mde`). Here an effect of that
size is planted: simulated experiments in which nothing changed give the mean promise, in others recipe A is made better
until its mean difference is that, and of these it is counted how often p falls below 0.05, and how often the 95 %
interval holds the planted difference. Beside it, how often the percentile interval of a crossed bootstrap holds it,
which resamples the same levels and does not know how few units each has.

Below it, one answer a row, right or wrong, of which few change: the same by the interval that is reported and by
Student's.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from simulated import Design, grid_of, of_recipe, simulate

from spillover.analysis.contrasts import Effect, difference, interaction
from spillover.analysis.results import Results
from spillover.plan.grid import Grid
from spillover.stats.intervals import Array, resample_counts
from spillover.stats.levels import Level, half_width, mean_change

Contrast = Callable[[Results, Grid], Effect | None]


def on(**where: str) -> Contrast:
    """A less B on the cells with these columns."""
    return lambda results, grid: difference(results, of_recipe(grid, "A", **where), of_recipe(grid, "B", **where))


def in_less_out(results: Results, grid: Grid) -> Effect | None:
    return interaction(results, of_recipe(grid, "A"), of_recipe(grid, "B"))


ONE = Design(by_seed=0.0, by_seed_and_set=0.0, by_draw=0.0, sets_per_role=2, by_set=0.0)
SEVERAL = Design(rows=100, seeds=3, recipes="ABCD", by_set=0.0)
RIGHT, FREE, ROLE = on(test="in_domain0"), on(test="in_domain1"), on(role="in_domain")
CASES: dict[str, tuple[Design, Contrast]] = {
    "checkpoints, one set of 24 right or wrong": (ONE, RIGHT),
    "checkpoints, one set of 24 texts": (ONE, FREE),
    "checkpoints, one set of 250 right or wrong": (replace(ONE, rows=250), RIGHT),
    "checkpoints, a role of two sets of 24": (ONE, ROLE),
    "3 seeds, 4 recipes, one set of 100 right or wrong": (SEVERAL, RIGHT),
    "3 seeds, 4 recipes, a role of two sets of 100": (SEVERAL, ROLE),
    "the same, in-domain less out-of-domain": (replace(SEVERAL, roles=("in_domain",)), in_less_out),
    "3 seeds, 2 recipes, a role of two sets of 100": (replace(SEVERAL, recipes="AB"), ROLE),
    "3 seeds, 3 draws, 4 recipes, a role of two sets of 100": (
        replace(SEVERAL, draws=3, by_draw_and_recipe=0.2),
        ROLE,
    ),
}


@dataclass(frozen=True)
class Outcome:
    """What was promised and planted, in scores from 0 to 1, and the shares that came out."""

    promised: float
    planted: float
    found: float
    held: float
    held_by_bootstrap: float


def experiments(design: Design, contrast: Contrast, times: int, seed: int) -> Iterator[tuple[Effect, Results, Grid]]:
    grid, rng = grid_of(design), np.random.default_rng(seed)
    for _ in range(times):
        results = simulate(design, grid, rng)
        effect = contrast(results, grid)
        assert effect is not None
        yield effect, results, grid


def run(design: Design, contrast: Contrast, times: int, seed: int) -> Outcome:
    promised = float(np.mean([e.mde for e, _, _ in experiments(design, contrast, times // 2, seed + 1)]))
    strength = 0.4
    for part in (times // 2, times):  # to the strength whose mean difference is the promise
        tried = experiments(replace(design, effect=strength), contrast, part, seed)
        strength *= promised / float(np.mean([effect.value for effect, _, _ in tried]))
    effects, bootstrapped = [], []
    for effect, results, grid in experiments(replace(design, effect=strength), contrast, times, seed):
        effects.append(effect)
        bootstrapped.append(np.quantile(by_bootstrap(results, grid, effect), [0.025, 0.975]))
    planted = float(np.mean([effect.value for effect in effects]))
    return Outcome(
        promised,
        planted,
        found=float(np.mean([effect.p < 0.05 for effect in effects])),
        held=float(np.mean([effect.interval.low <= planted <= effect.interval.high for effect in effects])),
        held_by_bootstrap=float(np.mean([low <= planted <= high for low, high in bootstrapped])),
    )


def by_bootstrap(results: Results, grid: Grid, effect: Effect) -> np.ndarray:
    """Replicates of the contrast: rows, pairs of seeds and draws of each test set resampled, each axis as a whole."""
    used, total = set(effect.cells), np.zeros(2000)
    for number, test in enumerate(effect.tests):
        sides = [_scores(results, grid, used, recipe, test) for recipe in "AB"]
        sign = -1.0 if test.startswith("out") and effect.tests[0].startswith("in") else 1.0
        share = sum(other.startswith(test[:3]) for other in effect.tests)
        total += sign / share * crossed_bootstrap(sides[0] - sides[1], seed=10 * number)
    return total


def _scores(results: Results, grid: Grid, used: set[str], recipe: str, test: str) -> np.ndarray:
    """(rows, seeds, draws): the mean over shots and prompts. Without demonstrations all draws are one."""
    cells = [cell for cell in of_recipe(grid, recipe, test=test) if cell.key in used]
    draws = range(1 + max(cell.draw for cell in cells))
    seeds = sorted({cell.variant for cell in cells})
    scores = [
        [_mean(results, [c for c in cells if c.variant == s and c.draw == (d if c.shots else 0)]) for d in draws]
        for s in seeds
    ]
    return np.moveaxis(np.array(scores), 2, 0)


def _mean(results: Results, cells: Sequence[object]) -> np.ndarray:
    return np.mean([results.first_metric[cell.key].statistics[:, 0] for cell in cells], axis=0)


def crossed_bootstrap(scores: Array, seed: int = 0) -> Array:
    """Replicates, (draws,), of the mean of `scores`, an array with an axis for each level that chance enters at:
    rows, demonstration draws, training seeds, data sets.

    The pigeonhole bootstrap: each axis is resampled as a whole, independently, and an entry counts as often as the
    product of its units' counts. Resampling single entries would take the same row under two seeds for two rows. Where
    entries have noise of their own the spread is too wide rather than too narrow (Owen 2007, theorem 3; Owen and
    Eckles 2012). With two or three units on an axis it is too narrow nevertheless, as every bootstrap is: of two
    seeds, half the resamples hold one alone. Hence `stats.levels`, which does not resample but knows what the units on
    each axis are worth.
    """
    means = np.tensordot(resample_counts(len(scores), seed), scores, axes=1) / len(scores)
    for axis, units in enumerate(scores.shape[1:], 1):
        counts = resample_counts(units, seed + axis)
        means = np.einsum("bi...,bi->b...", means, counts) / units
    return means


def of_few(changed: float, rows: int, times: int, seed: int) -> list[float]:
    """How often the interval of a change holds the truth, as reported and Student's, where a share of the rows changed,
    twice as often for the better."""
    chances = [changed * 2 / 3, changed / 3, 1 - changed]
    gaps = np.random.default_rng(seed).choice([1.0, -1.0, 0.0], p=chances, size=(rows, times))
    return [held(gaps, changed / 3), students(gaps, changed / 3)]


def held(gaps: Array, truth: float) -> float:
    """How often the interval as reported holds the truth, of many samples of changes, (rows, samples)."""
    change = mean_change(gaps, right_or_wrong=True)
    half = np.sqrt(change.variance) * half_width([Level(1.0, change.df)])
    return float(np.mean(np.abs(change.centre - truth) <= half))


def students(gaps: Array, truth: float) -> float:
    """The same of Student's interval."""
    half = gaps.std(axis=0, ddof=1) / np.sqrt(len(gaps)) * half_width([Level(1.0, len(gaps) - 1)])
    return float(np.mean(np.abs(gaps.mean(axis=0) - truth) <= half))


def of_settings(single: float, together: float, rows: int, times: int, seed: int) -> list[float]:
    """The same where each document is asked in four settings. In a share `single` one answer changed, as often for the
    better as for the worse; in a share `together` all four changed, for the better."""
    chances = [single / 2, single / 2, together, 1 - single - together]
    gaps = np.random.default_rng(seed).choice([0.25, -0.25, 1.0, 0.0], p=chances, size=(rows, times))
    return [held(gaps, together), students(gaps, together)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=500, help="simulated experiments a line")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="also write the outcomes here")
    args = parser.parse_args()
    outcomes = {}
    print(
        f"{args.times} experiments a line. Points of 100: promised with 80 % power, planted. Share found; share of 95 %"
    )
    print("intervals that hold it; of percentile intervals of a crossed bootstrap\n")
    for name, (design, contrast) in CASES.items():
        one = outcomes[name] = run(design, contrast, args.times, args.seed)
        shares = "".join(f"{100 * share:8.1f} %" for share in (one.found, one.held, one.held_by_bootstrap))
        print(f"{name:58}{100 * one.promised:6.1f}{100 * one.planted:6.1f}{shares}", flush=True)
    print("\nrows, share of them changed: share of intervals that hold the truth, as reported, Student's")
    for rows in (24, 250):
        for changed in (0.04, 0.08, 0.15, 0.4):
            shares = of_few(changed, rows, 20 * args.times, args.seed)
            print(f"{rows:5} {100 * changed:5.0f} %" + "".join(f"{100 * share:8.1f} %" for share in shares), flush=True)
    print("\nthe same in four settings: rows, share of them of which one answer changed, and of which all four did")
    for rows in (24, 60, 250):
        for single, together in ((0.0, 0.02), (0.0, 0.05), (0.0, 0.1), (0.06, 0.04), (0.2, 0.05)):
            shares = of_settings(single, together, rows, 20 * args.times, args.seed)
            sizes = f"{rows:5} {100 * single:5.0f} % {100 * together:5.0f} %"
            print(sizes + "".join(f"{100 * share:8.1f} %" for share in shares), flush=True)
    if args.json:
        args.json.write_text(json.dumps({name: vars(one) for name, one in outcomes.items()}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()

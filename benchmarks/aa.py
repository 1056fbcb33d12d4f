"""A/A: the same model twice, trained with other seeds. How often does the report claim a difference that is not there?

    python benchmarks/aa.py

Simulates experiments in which recipe A is recipe B, and asks of each what a reader would: A less B on every test set,
by role, in-domain less out-of-domain, at every number of shots, and what a demonstration adds. That is one family of
claims, corrected together and put into words by the very code that the report uses. A family fails that claims
anything. At most 5 % may.

Below it, why levels are added up as they are: comparisons without a difference, whose variance is partly that of rows
and known well, partly that of two seeds and hardly known, by Satterthwaite's approximation and as reported.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.special import stdtr
from simulated import Design, grid_of, of_recipe, simulate

from spillover.analysis.contrasts import Effect, adjusted, by_shots, difference, interaction, outcome, slope
from spillover.analysis.results import ROLES, Results
from spillover.plan.grid import Grid
from spillover.stats.levels import Level, p_value

STEADY = Design(by_seed=0.0, by_seed_and_set=0.0, by_seed_and_row=0.0, by_draw=0.0)
ONE_SENSITIVE = replace(
    STEADY, rows=250, sets_per_role=3, prompts=("p1",), draws=3, by_draw_and_recipe=0.03, sensitive=50.0
)
SCENARIOS = {
    "one checkpoint twice, 24 rows": STEADY,
    "one checkpoint twice, 60 rows of which 3 each hang together": replace(STEADY, rows=60, component=3),
    "2 seeds each, 24 rows": Design(seeds=2),
    "3 seeds each, 100 rows": Design(seeds=3, rows=100),
    "2 seeds each, 2 more recipes on the same training set": Design(seeds=2, recipes="ABCD"),
    "the same, A's seeds varying twice as much as the others'": Design(seeds=2, recipes="ABCD", unsteady=2.0),
    "3 seeds and 3 draws, which suit A and B differently": Design(seeds=3, draws=3, by_draw_and_recipe=0.2),
    "3 draws, which suit A and B differently on one set of nine": ONE_SENSITIVE,
}
WRONG = {
    "1 seed each, 24 rows": Design(),
    "1 seed each, 100 rows": Design(rows=100),
}


def family(results: Results, grid: Grid) -> list[Effect]:
    """Everything that is said of A and B in one experiment, corrected together."""
    a, b = of_recipe(grid, "A"), of_recipe(grid, "B")
    found = [
        difference(results, of_recipe(grid, "A", **where), of_recipe(grid, "B", **where))
        for where in [*({"test": test.name} for test in grid.tests), *({"role": role} for role in ROLES)]
    ]
    found += [interaction(results, a, b), slope(results, a, b), *by_shots(results, a, b).values()]
    return adjusted([effect for effect in found if effect is not None])


def failures(design: Design, grids: int, seed: int) -> tuple[float, float, float]:
    """The share of families that claim anything, that would without correction, and of comparisons with p < 0.05."""
    grid, rng = grid_of(design), np.random.default_rng(seed)
    claims, uncorrected, single = 0, 0, []
    for _ in range(grids):
        effects = family(simulate(design, grid, rng), grid)
        low = [effect.p < 0.05 for effect in effects]
        claims += any(outcome(effect) in ("higher", "lower") for effect in effects)
        uncorrected += any(low)
        single.append(np.mean(low))
    return claims / grids, uncorrected / grids, float(np.mean(single))


def adding_up(ratio: float, times: int, seed: int, row_df: int = 60, seed_df: int = 1) -> dict[str, list[float]]:
    """Shares of p below 0.05 and 0.0025, where seeds have `ratio` times the standard deviation of rows."""
    rng = np.random.default_rng(seed)
    p: dict[str, list[float]] = {"Satterthwaite": [], "as reported": []}
    for _ in range(times):
        value = rng.normal(0, np.hypot(1, ratio))
        rows = Level(rng.chisquare(row_df) / row_df, row_df)
        seeds = Level(ratio**2 * rng.chisquare(seed_df) / seed_df, seed_df)
        total = rows.variance + seeds.variance
        df = total**2 / (rows.variance**2 / rows.df + seeds.variance**2 / seeds.df)
        p["Satterthwaite"].append(2 * stdtr(df, -abs(value) / np.sqrt(total)))
        p["as reported"].append(p_value(value, [rows, seeds]))
    return {name: [float(np.mean(np.array(values) < level)) for level in (0.05, 0.0025)] for name, values in p.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grids", type=int, default=500, help="simulated experiments a line")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="also write the shares here")
    args = parser.parse_args()
    shares: dict[str, tuple[float, ...]] = {}
    print(
        f"{args.grids} grids a line. Share of families that claim a difference; without Holm; of comparisons p < 0.05\n"
    )
    wrong = "one seed read as the recipe, a fifth as many grids"
    for title, scenarios, grids in (("as reported", SCENARIOS, args.grids), (wrong, WRONG, args.grids // 5 or 1)):
        print(title)
        for name, design in scenarios.items():
            shares[name] = failures(design, grids, args.seed)
            print(f"  {name:60}" + "".join(f"{100 * share:7.1f} %" for share in shares[name]), flush=True)
    print("two levels, 60 and 1 degrees of freedom: p < 0.05, p < 0.0025")
    for ratio in (0.5, 2.0, 4.0):
        for name, (often, seldom) in adding_up(ratio, 10 * args.grids, args.seed).items():
            name = f"seeds {ratio:g} times as much as rows, {name}"
            shares[name] = (often, seldom)
            print(f"  {name:60}{100 * often:7.1f} %{100 * seldom:7.2f} %", flush=True)
    if args.json:
        args.json.write_text(json.dumps(shares, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()

"""Results over scores that are made by hand: a score a document, by variant, test set and condition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import grids
import numpy as np
import pandas as pd

from spillover.analysis.results import Results
from spillover.analysis.rows import RowStatistics
from spillover.experiment.suite import Role
from spillover.plan.grid import Cell, Grid, Variant

BASE = Variant("base", "base", "base")
ROLES: dict[str, Role] = {
    "in": "in_domain",
    "in2": "in_domain",
    "out": "out_of_domain",
    "out2": "out_of_domain",
    "far": "cross_task",
}

Scores = Mapping[tuple[str, str, int, str, int], Sequence[float]]
"""(variant, test set, shots, prompt, draw) -> a score a document. A test set named in... is in-domain."""


def trained(name: str, strategy: str, seed: int = 0) -> Variant:
    return grids.trained(name, strategy, "data", "task", size=100, rate=1e-5, seed=seed, recipe=strategy)


FT, FT1, ICL, ICL1 = trained("ft", "ft"), trained("ft1", "ft", 1), trained("icl", "fticl"), trained("icl1", "fticl", 1)


def results_of(
    scores: Scores,
    metric: str = "rougeL",
    planned: Sequence[Cell] = (),
    known: Sequence[Variant] = (BASE, FT, FT1, ICL, ICL1),
) -> Results:
    variants = tuple(v for v in known if any(v.key == key[0] for key in scores))
    tests = tuple(grids.info(name, "task", 0, (metric,)) for name in dict.fromkeys(key[1] for key in scores))
    cells, rows = [], {}
    for (variant, test, shots, prompt, draw), values in scores.items():
        role = None if variant == "base" else ROLES[test]
        key = f"{variant} {test} {shots} {prompt} {draw}"
        cells.append(grids.cell(key, variant, test, "task", role, shots, prompt, len(values), draw))
        rows[key] = RowStatistics(np.arange(len(values)), np.column_stack([values, np.ones(len(values))]))
    grid = Grid("model", "sound", variants, (*cells, *planned), tests)
    return Results(grid, pd.DataFrame(), (), {}, rows)

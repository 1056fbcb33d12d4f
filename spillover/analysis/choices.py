"""The choice among alternatives of one strategy, on validation rows: what was chosen, and by which numbers.

The rule, in this order:

1. A candidate is a recipe. Its score is the mean over its seeds, and over the uses that it was asked in, of the task's
   first metric on the validation rows of its training set. For `deploy: best` it is the score in its best use. With
   `validation.seeds` only so many seeds are asked; the others are trained for what was chosen.
2. If the experiment says what has to be kept (`ship.keep`), a candidate must keep that share of the base's mean score
   on the validation rows of other test sets. If none does, the one that keeps most is chosen.
3. Of the candidates that are left, the best is compared with each other one on the same rows. One that is not worse by
   more than one standard error of the difference is level with the best (Breiman et al. 1984: the rule of one standard
   error). Rows alone make this error: two or three seeds show too little of what other seeds would do.
4. Of the best and those level with it, the most careful is chosen (`experiment.choice.care`): the lowest learning rate,
   then the lowest alpha, then the strongest penalty.

A choice is a function of the stored answers to validation rows, and of nothing else. So every process, and a run that
goes on after a stop, makes the same one. It is made once all these answers are there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from math import sqrt
from typing import Any

import numpy as np

from ..errors import ExperimentError
from ..experiment.choice import MORE_CAREFUL, care
from ..experiment.factors import Value, phrase
from ..experiment.protocol import Protocol
from ..plan.choice import candidates, expected
from ..plan.cost import Done
from ..plan.grid import Cell, Grid, Use, Variant
from ..stats.intervals import Array, Interval
from ..stats.levels import Level, half_width, mean_change
from ..store.store import Store
from .harness import metric_of
from .rows import RowStatistics, common_documents, pool, read_rows
from .scoring import cluster_codes, pooled_interval

Valid = Mapping[str, Mapping[str, Any]]
"""The receipts of the cells that count, by key (`Store.valid`)."""


@dataclass(frozen=True)
class Alternative:
    """A candidate. Scores are from 0 to 1, on validation rows.

    `factors` are what it differs in from the others. `behind` is its difference from the best one, with its interval;
    None for the best itself. `ahead` is that from the base. `level`: the rows do not decide between it and the best.
    `kept` is the share of the base's score on other test sets, if the experiment bounds it, and `keeps` whether that
    is enough.
    """

    recipe: str
    name: str
    factors: Mapping[str, Value]
    score: float
    interval: Interval
    behind: tuple[float, Interval] | None
    level: bool
    kept: float | None = None
    keeps: bool = True
    use: Use | None = None
    ahead: tuple[float, Interval] | None = None


@dataclass(frozen=True)
class Choice:
    """A choice, made or awaited. `factors` are the names of what is chosen, `alternatives` are in their order.

    `rows` validation rows are asked, of candidates with `seeds` of `of_seeds` seeds. `base` is the base's score on
    them. `missing` cells are awaited: until they are there, nothing is chosen, and there are no alternatives.
    """

    name: str
    train_dataset: str
    factors: tuple[str, ...]
    metric: str
    rows: int
    seeds: int
    of_seeds: int
    missing: int = 0
    base: float | None = None
    base_use: Use | None = None
    alternatives: tuple[Alternative, ...] = ()
    chosen: Alternative | None = None
    keep: float | None = None
    candidates: Mapping[str, str] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        """How it was chosen, or what it waits for."""
        what = " and ".join(name.replace("_", " ") for name in self.factors)
        if self.chosen is None:
            cells = f"{self.missing} validation {'cell' if self.missing == 1 else 'cells'}"
            return f"{self.name}: {what} not chosen yet; it waits for {cells} of {len(self.candidates)} candidates."
        one = self.chosen
        value = ", ".join(phrase(name, one.factors[name]) for name in self.factors)
        text = f"{self.name}: {value} was chosen of {len(self.alternatives)} on {self.rows} validation rows"
        text += f" with {self.seeds} of {self.of_seeds} seeds" if self.seeds < self.of_seeds else ""
        text += f" ({_points(one.score)} {self.metric}"
        level = sum(other.level for other in self.alternatives)
        if one.behind is not None and one.keeps:
            text += f"; the best has {_points(one.score - one.behind[0])}, within one standard error, and the most "
            text += f"careful of {level} level ones is taken"
        if self.keep is not None and one.kept is not None:
            text += f"; it keeps {_points(one.kept)} % of the base elsewhere"
            text += "" if one.keeps else f", the most of all, and less than {_points(self.keep)} %"
        if self.base is not None and not self.is_above_base:
            text += f"; the base has {_points(self.base)}, and no candidate is better than it beyond chance"
        return f"{text})."

    @property
    def is_above_base(self) -> bool:
        """Whether the rows show of any candidate that it is better than the base."""
        return any(one.ahead is not None and one.ahead[1].low > 0 for one in self.alternatives)


def _points(score: float) -> str:
    return f"{100 * score:.1f}"


def choices(store: Store, grid: Grid, valid: Valid | None = None, only: Collection[str] | None = None) -> list[Choice]:
    """Every choice of an experiment, or those of these names. `valid` are the cells that count."""
    groups = candidates(grid.variants)
    names = [name for name in groups if only is None or name in only]
    if not names:
        return []
    scored = Scored(store, grid, store.valid(grid) if valid is None else valid)
    return [_choice(scored, name, groups[name]) for name in names]


def chosen(made: Iterable[Choice]) -> dict[str, str]:
    """The recipe key of what was chosen, by the name of the choice."""
    return {one.name: one.chosen.recipe for one in made if one.chosen is not None}


def done(store: Store, grid: Grid) -> Done:
    """What is there of a grid, for an estimate of what is left: of each choice one candidate is asked the test sets."""
    found = store.done(grid)
    return replace(found, unasked=expected(grid.variants, chosen(choices(store, grid, found.cells))))


def best_uses(store: Store, grid: Grid, valid: Valid) -> dict[tuple[str, str], Use]:
    """For `deploy: best`, the use in which a recipe scores best on the validation rows of a training set.

    By recipe key and training set. Of equal ones it is the first in order, with the fewest demonstrations. A recipe
    without all of its validation cells has none.
    """
    if grid.deploy != "best":
        return {}
    scored = Scored(store, grid, valid)
    found = {}
    for name in dict.fromkeys(cell.test for cell in grid.validation if cell.role == "in_domain"):
        recipes: dict[str, list[Variant]] = {}
        for variant in scored.asked(name):
            recipes.setdefault(variant.recipe_key, []).append(variant)
        for key, arm in recipes.items():
            cells = scored.cells(arm, name)
            if cells and not scored.missing(cells):
                found[key, scored.training_set(name)] = scored.best(cells)[0]
    return found


class Scored:
    """The validation cells of a grid, and their scores by the first metric of their set."""

    def __init__(self, store: Store, grid: Grid, valid: Valid) -> None:
        self.store, self.grid, self.valid = store, grid, valid
        self.sets = {info.name: info for info in grid.validated}
        self.variants = {variant.key: variant for variant in grid.variants}
        self.by_variant: dict[str, list[Cell]] = {}
        for cell in grid.validation:
            self.by_variant.setdefault(cell.variant, []).append(cell)
        self.rows = cache(self._rows)

    @cached_property
    def clusters(self) -> Mapping[str, Mapping[int, Any]]:
        """The component of each document, by set, if the folder has an audit."""
        found = self.store.audit().get("clusters", {}) if self.sets else {}
        return {name: {int(doc_id): component for doc_id, component in of.items()} for name, of in found.items()}

    def asked(self, test: str) -> list[Variant]:
        keys = dict.fromkeys(cell.variant for cell in self.grid.validation if cell.test == test)
        return [self.variants[key] for key in keys]

    def training_set(self, test: str) -> str:
        """The training set that validation rows belong to."""
        of = (
            self.variants[c.variant].train_dataset for c in self.grid.validation if (c.test, c.role) == (test, INSIDE)
        )
        return str(next(of))

    def inside(self, arm: Sequence[Variant]) -> str:
        """The validation set of what a recipe is trained for. Raises ExperimentError where it is asked none."""
        for cell in self.every(arm):
            if cell.role == INSIDE:
                return cell.test
        what = f"{_name(arm)} is to be compared with others, and is asked no validation rows of its task"
        raise ExperimentError(what, where="validation", allowed="choose: none")

    def cells(self, arm: Iterable[Variant], test: str) -> list[Cell]:
        return [cell for one in arm for cell in self.by_variant.get(one.key, ()) if cell.test == test]

    def every(self, arm: Iterable[Variant]) -> list[Cell]:
        return [cell for one in arm for cell in self.by_variant.get(one.key, ())]

    def missing(self, cells: Iterable[Cell]) -> set[str]:
        return {cell.key for cell in cells if cell.key not in self.valid}

    def _rows(self, key: str, test: str) -> RowStatistics:
        """The rows of a cell, by the first metric."""
        info = self.sets[test]
        metrics = [metric_of(name) for name in info.metrics]
        digest, labels = str(self.valid[key]["sha256"]), self.grid.labels_for(info)
        found = read_rows(self.store, key, digest, metrics, labels, Protocol.named(self.grid.protocol).label_scoring)
        assert found is not None, "a valid cell has rows"
        return found.rows[metrics[0].name]

    def of(self, cells: Sequence[Cell]) -> tuple[np.ndarray, Array]:
        """The documents of cells of one set, and the mean score of each over these cells."""
        rows = [self.rows(cell.key, cell.test) for cell in cells]
        common = common_documents(rows)
        return common, np.mean([one.only(common).statistics[:, 0] for one in rows], axis=0)

    def mean(self, cells: Sequence[Cell]) -> float:
        return float(self.of(cells)[1].mean())

    def best(self, cells: Sequence[Cell]) -> tuple[Use, list[Cell]]:
        """The use with the highest mean score, and its cells."""
        uses = {use: [cell for cell in cells if Use.of(cell) == use] for use in sorted(set(map(Use.of, cells)))}
        return max(uses.items(), key=lambda pair: round(self.mean(pair[1]), 9))

    def interval(self, cells: Sequence[Cell]) -> Interval:
        """The 95 % interval of the mean score of cells of one set."""
        metric, test = metric_of(self.sets[cells[0].test].metrics[0]), cells[0].test
        return pooled_interval(metric, pool([self.rows(c.key, test) for c in cells]), self.clusters.get(test, {}))

    def difference(self, ours: Sequence[Cell], theirs: Sequence[Cell]) -> tuple[float, float, Interval]:
        """The mean of ours less theirs on the same documents, its standard error, and its 95 % interval, by rows."""
        test, metric = ours[0].test, metric_of(self.sets[ours[0].test].metrics[0])
        (docs, a), (others, b) = self.of(ours), self.of(theirs)
        common, at, to = np.intersect1d(docs, others, return_indices=True)
        gaps = (a[at] - b[to])[:, None]
        codes = cluster_codes(self.clusters.get(test, {}), common)
        change = mean_change(gaps, codes, metric.is_proportion)
        centre, variance = float(change.centre[0]), float(change.variance[0])
        half = half_width([Level(variance, change.df)])
        return float(gaps.mean()), sqrt(variance), Interval(centre - half, centre + half)


INSIDE = "in_domain"


def _choice(scored: Scored, name: str, recipes: Mapping[str, Sequence[Variant]]) -> Choice:
    arms, base = list(recipes.values()), [one for one in scored.grid.variants if one.kind == "base"]
    test = scored.inside(arms[0])
    info = scored.sets[test]
    tests = dict.fromkeys(cell.test for arm in arms for cell in scored.every(arm))
    cells = [*scored.every(variant for arm in arms for variant in arm)]
    cells += [cell for cell in scored.every(base) if cell.test in tests]
    known = Choice(
        name=name,
        train_dataset=str(arms[0][0].train_dataset),
        factors=_varied(arms),
        metric=info.metrics[0],
        rows=info.n,
        seeds=min(sum(bool(scored.by_variant.get(one.key)) for one in arm) for arm in arms),
        of_seeds=min(map(len, arms)),
        missing=len(scored.missing(cells)),
        keep=scored.grid.keep,
        candidates={key: _name(arm) for key, arm in recipes.items()},
    )
    return known if known.missing else _made(scored, known, recipes, base)


def _made(scored: Scored, known: Choice, recipes: Mapping[str, Sequence[Variant]], base: Sequence[Variant]) -> Choice:
    best_use = scored.grid.deploy == "best"
    test = scored.inside(next(iter(recipes.values())))
    uses = {key: scored.best(scored.cells(arm, test)) for key, arm in recipes.items()}
    cells = {key: uses[key][1] if best_use else scored.cells(arm, test) for key, arm in recipes.items()}
    scores = {key: scored.mean(some) for key, some in cells.items()}
    kept = {key: _kept(scored, arm, base) for key, arm in recipes.items()}
    most = max((share for share in kept.values() if share is not None), default=None)
    bound = None if most is None or known.keep is None else min(known.keep, most)
    left = [key for key in recipes if bound is None or (kept[key] or 0.0) >= bound]
    best = max(left, key=lambda key: scores[key])
    factors = {key: {name: arm[0].factors[name] for name in known.factors} for key, arm in recipes.items()}
    theirs = scored.cells(base, test)
    base_use, of_base = scored.best(theirs) if best_use and theirs else (None, theirs)
    found: dict[str, Alternative] = {}
    for key, arm in recipes.items():
        behind = None if key == best else scored.difference(cells[key], cells[best])
        ahead = scored.difference(cells[key], of_base) if of_base else None
        found[key] = Alternative(
            recipe=key,
            name=_name(arm),
            factors=factors[key],
            score=scores[key],
            interval=scored.interval(cells[key]),
            behind=behind and (behind[0], behind[2]),
            level=key in left and (behind is None or behind[0] + behind[1] >= 0),
            kept=kept[key],
            keeps=known.keep is None or kept[key] is None or (kept[key] or 0.0) >= known.keep,
            use=uses[key][0] if best_use else None,
            ahead=ahead and (ahead[0], ahead[2]),
        )
    in_order = sorted(found.values(), key=lambda one: care(one.factors))
    return Choice(
        **{
            **vars(known),
            "base": scored.mean(of_base) if of_base else None,
            "base_use": base_use,
            "alternatives": tuple(in_order),
            "chosen": next(one for one in in_order if one.level),
        }
    )


def _kept(scored: Scored, arm: Sequence[Variant], base: Sequence[Variant]) -> float | None:
    """The share of the base's mean score over the validation sets that are not in-domain; None if there are none."""
    tests = list(dict.fromkeys(cell.test for cell in scored.every(arm) if cell.role != INSIDE))
    if not tests or not base:
        return None
    ours, theirs = (np.mean([scored.mean(scored.cells(side, test)) for test in tests]) for side in (arm, base))
    return float(ours / theirs) if theirs > 0 else None


def _varied(arms: Sequence[Sequence[Variant]]) -> tuple[str, ...]:
    """The factors in which candidates differ."""
    return tuple(name for name in MORE_CAREFUL if len({arm[0].factors.get(name) for arm in arms}) > 1)


def _name(arm: Sequence[Variant]) -> str:
    """The name of a recipe: that of its variants, without the seed."""
    return arm[0].name if len(arm) == 1 else arm[0].name.removesuffix(f"-s{arm[0].seed}")

"""Writes the tables of docs/study.md and the main sentence of the README, from what `python studies/keep.py` keeps.

    python docs/study_parts.py

People write the page, but for the parts between `<!-- NAME -->` and `<!-- /NAME -->`. The pages on strategies
take `in_the_study` from here.
"""

from __future__ import annotations

import json
import lzma
import textwrap
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import pandas as pd
from parts import filled, interval, markdown, points

from spillover.analysis.forgetting import MEASURES, Correlation, Moved, correlations

HERE = Path(__file__).parent
STUDIES = HERE.parent / "studies"
SCREEN = STUDIES / "frontier" / "screen"
CONFIRM = STUDIES / "frontier" / "confirm"
TITLES = {"hotels": "hotel reviews", "qasc": "questions for facts", "vitaminc": "fact verification"}


WHERE = ("out-of-domain", "cross-task", "outside")


# --- what a study has kept --------------------------------------------------------------------------------


@cache
def table(study: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(study / f"{name}.csv")


@cache
def variants(study: Path) -> Mapping[str, Mapping[str, object]]:
    """The factors of each variant, by name."""
    columns = ["variant", "strategy", "train_dataset", "learning_rate", "alpha", "seed"]
    rows = table(study, "results")[columns].drop_duplicates("variant")
    return {str(row["variant"]): {str(k): v for k, v in row.items()} for row in rows.to_dict("records")}


def factors(study: Path, recipe: str) -> Mapping[str, object]:
    """Those of the first variant of a recipe."""
    return next(of for name, of in variants(study).items() if name == recipe or name.startswith(f"{recipe}-s"))


def strength(of: Mapping[str, object]) -> str:
    """By what recipes of a strategy differ here: learning rate or alpha."""
    return f"alpha {of['alpha']:g}" if of["alpha"] == of["alpha"] else f"{of['learning_rate']:.0e}".replace("e-0", "e-")


def beside(study: Path, train: str) -> pd.DataFrame:
    """Each recipe beside ft at the same gain, with its strategy and strength; the largest advantage first."""
    rows = table(study, "equal_gain")
    rows = rows[rows["train_dataset"] == train].copy()
    rows["strategy"] = [str(factors(study, recipe)["strategy"]) for recipe in rows["recipe"]]
    rows["strength"] = [strength(factors(study, recipe)) for recipe in rows["recipe"]]
    return rows.sort_values("advantage", ascending=False)


# --- how numbers are written ------------------------------------------------------------------------------


def with_interval(value: float, one: Any) -> str:
    """A change of a table's row, in points."""
    return f"{points(value)} {interval(one.ci_low, one.ci_high)}"


def probability(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


# --- the parts --------------------------------------------------------------------------------------------


def progress() -> str:
    """How much of both parts is there. A variant that was asked some test sets only has run in part."""
    said = []
    for name, study in (("screening", SCREEN), ("confirmation", CONFIRM)):
        asked = table(study, "results").groupby("variant")["test_dataset"].nunique()
        whole, planned = int((asked == asked.max()).sum()), len(planned_variants(study))
        part = f", and {len(asked) - whole} in part" if len(asked) > whole else ""
        said += [f"Of the {planned:,} variants of the {name}, the base included, {whole:,} have run{part}."] * (
            whole < planned
        )
    return "\n".join(said)


def planned_variants(study: Path) -> list[object]:
    return list(json.loads(lzma.decompress((study / "scores.json.xz").read_bytes()))["grid"]["variants"])


def of_ft(study: Path, train: str) -> str:
    """Plain fine-tuning along the learning rate."""
    rows = (
        [strength(factors(study, name)), with_interval(gain.value, gain)]
        + ["–" if one is None else with_interval(one.change, one) for one in rests]
        + [f"{gain.seeds:.0f}"]
        for name, gain, rests in ft_curve(study, train)
    )
    return markdown(rows, "learning rate", "in-domain", "out-of-domain", "cross-task", "all outside", "seeds")


def ft_curve(study: Path, train: str) -> Iterator[tuple[str, Any, list[Any]]]:
    """The recipes of ft by rising rate: name, gain, and the changes in the places of `WHERE`. None: no such set."""
    effects, kept = table(study, "effects"), table(study, "retention")
    uses = effects[effects["family"] == "use"]
    found = {name: factors(study, name) for name in uses["recipe"]}
    ours = [name for name, of in found.items() if of["strategy"] == "ft" and of["train_dataset"] == train]
    for name in sorted(ours, key=lambda name: float(str(found[name]["learning_rate"]))):
        places = kept[kept["recipe"] == name].set_index("where")
        rests = [places.loc[where] if where in places.index else None for where in WHERE]
        yield name, uses[uses["recipe"] == name].iloc[0], rests


def bargain(one: Any) -> str:
    """Whether a recipe keeps 95 % of the gain with 10 % of the loss."""
    if one.nothing_to_save:
        return "nothing to save"
    return {"True": "yes", "False": "no"}.get(str(one.is_kept), "undecided")


def at_equal_gain(study: Path, train: str) -> str:
    """Every recipe beside ft."""
    rows = (
        [
            f"[`{one.strategy}`](strategies/{one.strategy}.md)",
            one.strength,
            points(one.gain),
            points(one.outside),
            points(one.reference) + (" (ft gains less)" if one.beyond else ""),
            f"{points(one.advantage)} {interval(one.ci_low, one.ci_high)}",
            probability(one.p_adjusted),
            bargain(one),
        ]
        for one in beside(study, train).itertuples()
    )
    columns = ("strategy", "rate", "gain", "outside", "ft at this gain", "advantage", "p (Holm)", "95 % for 10 %")
    return markdown(rows, *columns)


@cache
def _correlations(study: Path) -> list[Correlation]:
    rows = table(study, "forgetting")
    return correlations(
        [
            Moved(one.recipe, one.recipe, one.train_dataset, one.lost, {name: getattr(one, name) for name in MEASURES})
            for one in rows.itertuples()
        ]
    )


def _rho(one: Correlation) -> str:
    return f"{one.rho:.2f} [{one.interval.low:.2f}, {one.interval.high:.2f}]".replace("-", "−")


def predicted() -> str:
    """What predicts a loss."""

    def lines() -> Iterator[list[str]]:
        for name, study in (("screening", SCREEN), ("confirmation", CONFIRM)):
            found = _correlations(study)
            for train in dict.fromkeys(one.train_dataset for one in found):
                some = {one.measure: one for one in found if one.train_dataset == train}
                what = "all, each within itself" if train is None else TITLES[train]
                said = [_rho(some[measure]) for measure in MEASURES]
                yield [name, what, str(next(iter(some.values())).n), *said]

    return markdown(lines(), "part", "trained on", "recipes", *MEASURES.values())


def findings() -> str:
    """What the tables say, in sentences."""
    said = [of_rates(best_study(train), train) for train in TITLES if train in trained_on(best_study(train))]
    said.append("**At equal gain, screening.** " + of_advantages(SCREEN))
    said.append("**At equal gain, confirmation.** " + of_advantages(CONFIRM))
    every = {one.measure: one for one in _correlations(SCREEN) if one.train_dataset is None}
    told = [f"{MEASURES[name]} {_rho(one)}" for name, one in every.items()]
    said.append("**What predicts the loss.** Rank correlation over recipes: " + "; ".join(told) + ".")
    return "\n".join(f"- {one}" for one in said)


def trained_on(study: Path) -> list[str]:
    """The training sets of which `ft` has run."""
    return [train for train in TITLES if any(ft_curve(study, train))]


def best_study(train: str) -> Path:
    """Where `ft` on this training set has most seeds."""
    return CONFIRM if train in trained_on(CONFIRM) else SCREEN


def of_ft_with_most_seeds(train: str) -> str:
    return of_ft(best_study(train), train)


def of_rates(study: Path, train: str) -> str:
    """What plain fine-tuning does along the learning rate, and the single set that its lowest rate harms most."""
    curve = list(ft_curve(study, train))
    rates = [
        f"{strength(factors(study, name))} gains {with_interval(gain.value, gain)} and changes the rest by "
        f"{with_interval(rests[-1].change, rests[-1])}"
        for name, gain, rests in curve
    ]
    careful, gain, _ = curve[0]
    kept = table(study, "retention")
    worst = kept[(kept["recipe"] == careful) & ~kept["where"].isin(WHERE)].sort_values("change").iloc[0]
    return (
        f"**`ft`, {TITLES[train]}.** {'; '.join(rates)} (seeds: {gain.seeds:.0f}). Of single sets, the lowest rate "
        f"loses most on {worst['where']}: {with_interval(worst.change, worst)} before correction."
    )


def of_advantages(study: Path) -> str:
    """How many recipes lose less than ft at the same gain, and how many lose more."""
    rows = pd.concat([beside(study, train) for train in trained_on(study)])
    better, worse = (rows[(rows["p_adjusted"] < 0.05) & (sign * rows["advantage"] > 0)] for sign in (1, -1))
    names = f" ({', '.join(f'`{one}`' for one in better['recipe'])})" if len(better) else ""
    return (
        f"Of {len(rows)} recipes, {len(worse)} lose more than `ft` where it gains as much, beyond chance, and "
        f"{len(better)} lose less{names}. For the others the rows do not decide."
    )


def in_the_study(strategy: str) -> str:
    """How much less a strategy loses than plain fine-tuning at the same gain. Empty if it has not run."""
    parts = []
    for name, study in (("screening", SCREEN), ("confirmation with three seeds", CONFIRM)):
        said = []
        for train in trained_on(study):
            rows = beside(study, train)
            found = [
                f"{with_interval(one.advantage, one)} ({one.strength})"
                for one in rows[rows["strategy"] == strategy].itertuples()
            ]
            said += [f"{TITLES[train]} {', '.join(found)}"] if found else []
        parts += [f"{name.capitalize()}: {'; '.join(said)}"] if said else []
    return f"Change outside, less that of `ft` at the same gain, in points. {'. '.join(parts)}." if parts else ""


def headline() -> str:
    """The main sentence, for the README."""
    (_, low, low_rests), *_, (_, high, high_rests) = ft_curve(CONFIRM, "hotels")
    rest, high_rest = low_rests[-1], high_rests[-1]
    rows = pd.concat([beside(CONFIRM, train) for train in trained_on(CONFIRM)])
    better, worse = (sum((rows["p_adjusted"] < 0.05) & (sign * rows["advantage"] > 0)) for sign in (1, -1))
    said = (
        f"**A lower learning rate loses less.** Trained on 256 hotel reviews, SmolLM2-135M gains "
        f"{with_interval(low.value, low)} points at a rate of 3e-5, and {with_interval(high.value, high)} at 3e-4 "
        f"(n = {low.n:.0f}). The {rest.test_sets:.0f} other test sets change by {with_interval(rest.change, rest)} and "
        f"by {with_interval(high_rest.change, high_rest)} (n = {rest.n:.0f}; {low.seeds:.0f} training seeds). "
        f"Of {len(rows)} other recipes, held against plain fine-tuning where both gain as "
        f"much, {better or 'none'} loses less beyond chance, and {worse} lose more."
    )
    return textwrap.fill(said, 120, break_long_words=False, break_on_hyphens=False)


PARTS: Mapping[str, Callable[[], str]] = {
    "progress": progress,
    "findings": findings,
    **{f"ft {train}": partial(of_ft_with_most_seeds, train) for train in TITLES},
    **{f"screen {train}": partial(at_equal_gain, SCREEN, train) for train in ("hotels", "qasc")},
    **{f"confirm {train}": partial(at_equal_gain, CONFIRM, train) for train in trained_on(CONFIRM)},
    "predicted": predicted,
}


PAGES = {HERE / "study.md": PARTS, HERE.parent / "README.md": {"study": headline}}


if __name__ == "__main__":
    for page, parts in PAGES.items():
        page.write_text(filled(page.read_text("utf-8"), parts), "utf-8")

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
from functools import cache
from pathlib import Path

import pandas as pd
from parts import filled, interval, markdown, points

from spillover.analysis.forgetting import MEASURES, Correlation, Moved, correlations

HERE = Path(__file__).parent
STUDIES = HERE.parent / "studies"
SCREEN = STUDIES / "frontier" / "screen"
TITLES = {"hotels": "hotel reviews", "qasc": "questions for facts", "vitaminc": "fact verification"}


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


def probability(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


# --- the parts --------------------------------------------------------------------------------------------


def progress() -> str:
    """How much of the screening is there."""
    done = table(SCREEN, "results")["variant"].nunique()
    planned = len(json.loads(lzma.decompress((SCREEN / "scores.json.xz").read_bytes()))["grid"]["variants"])
    return f"Of {planned:,} variants, the base included, {done:,} have run." if done < planned else ""


def of_ft(train: str) -> str:
    """Plain fine-tuning along the learning rate."""

    def rows() -> Iterator[list[str]]:
        effects, kept = table(SCREEN, "effects"), table(SCREEN, "retention")
        names = [name for name, of in variants(SCREEN).items() if of["strategy"] == "ft" and of["seed"] == 0]
        for name in sorted(names, key=lambda name: float(str(variants(SCREEN)[name]["learning_rate"]))):
            if variants(SCREEN)[name]["train_dataset"] != train:
                continue
            gain = effects[(effects["family"] == "use") & (effects["recipe"] == name)].iloc[0]
            found = [strength(factors(SCREEN, name)), f"{points(gain['value'])} {interval(gain.ci_low, gain.ci_high)}"]
            for where in ("out-of-domain", "cross-task", "outside"):
                one = kept[(kept["recipe"] == name) & (kept["where"] == where)].iloc[0]
                found.append(f"{points(one['change'])} {interval(one.ci_low, one.ci_high)}")
            yield found

    return markdown(rows(), "learning rate", "in-domain", "out-of-domain", "cross-task", "all outside")


def at_equal_gain(train: str) -> str:
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
        ]
        for one in beside(SCREEN, train).itertuples()
    )
    columns = ("strategy", "rate", "gain", "outside", "ft at this gain", "advantage", "p (Holm)")
    return markdown(rows, *columns)


def _correlations() -> list[Correlation]:
    rows = table(SCREEN, "forgetting")
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
    found = _correlations()
    trained = list(dict.fromkeys(one.train_dataset for one in found))

    def lines() -> Iterator[list[str]]:
        for train in trained:
            some = {one.measure: one for one in found if one.train_dataset == train}
            name = "both, each within itself" if train is None else TITLES[train]
            said = [_rho(some[measure]) for measure in MEASURES]
            yield [name, str(next(iter(some.values())).n), *said]

    return markdown(lines(), "trained on", "recipes", *MEASURES.values())


def findings() -> str:
    """What the tables say, in sentences."""
    said = []
    for train in ("hotels", "qasc"):
        effects, kept = table(SCREEN, "effects"), table(SCREEN, "retention")
        names = [n for n, of in variants(SCREEN).items() if of["strategy"] == "ft" and of["train_dataset"] == train]
        uses, outside = effects[effects["family"] == "use"], kept[kept["where"] == "outside"]
        found = sorted(
            (
                float(str(variants(SCREEN)[n]["learning_rate"])),
                uses[uses["recipe"] == n],
                outside[outside["recipe"] == n],
            )
            for n in names
            if (uses["recipe"] == n).any() and variants(SCREEN)[n]["seed"] == 0
        )
        rates = [
            f"{rate:.0e} gains {points(gain['value'].iloc[0])} and changes the rest by {points(rest['change'].iloc[0])}"
            for rate, gain, rest in found
        ]
        careful = min(names, key=lambda n: float(str(variants(SCREEN)[n]["learning_rate"])))
        sets = effects[(effects["family"] == "test_set") & (effects["recipe"] == careful) & (effects["where"] != train)]
        worst = sets.sort_values("value").iloc[0]
        one = f"{worst['where']} {points(worst['value'])} {interval(worst.ci_low, worst.ci_high)}"
        lowest = f" Of single sets, the lowest rate loses most on {one}."
        said.append(f"**`ft`, {TITLES[train]}.** " + "; ".join(rates).replace("e-0", "e-") + " points." + lowest)
    rows = pd.concat([beside(SCREEN, train) for train in ("hotels", "qasc")])
    better = rows[(rows["p_adjusted"] < 0.05) & (rows["advantage"] > 0)]
    worse = rows[(rows["p_adjusted"] < 0.05) & (rows["advantage"] < 0)]
    names = ", ".join(f"`{one.recipe}`" for one in better.itertuples()) or "none"
    said.append(
        f"**At equal gain.** Of {len(rows)} recipes, {len(worse)} lose more than `ft` does where it gains as much, "
        f"beyond chance, and {len(better)} lose less ({names}). For the others the rows do not decide."
    )
    every = {one.measure: one for one in _correlations() if one.train_dataset is None}
    told = [f"{MEASURES[name]} {_rho(one)}" for name, one in every.items()]
    said.append("**What predicts the loss.** Rank correlation over recipes: " + "; ".join(told) + ".")
    return "\n".join(f"- {one}" for one in said)


def in_the_study(strategy: str) -> str:
    """How much less a strategy loses than plain fine-tuning at the same gain. Empty if it has not run."""
    said = []
    for train in ("hotels", "qasc"):
        rows = beside(SCREEN, train)
        rows = rows[rows["strategy"] == strategy]
        found = [
            f"{points(one.advantage)} {interval(one.ci_low, one.ci_high)} ({one.strength})" for one in rows.itertuples()
        ]
        said += [f"{TITLES[train]} {', '.join(found)}"] if found else []
    return f"Change outside, less that of `ft` at the same gain, in points: {'; '.join(said)}." if said else ""


def headline() -> str:
    """The main sentence, for the README."""
    effects, kept = table(SCREEN, "effects"), table(SCREEN, "retention")
    gains, rests = [], []
    for name in ("hotels-ft-lr3e-05-s0", "hotels-ft-lr0.0003-s0"):
        gain = effects[(effects["family"] == "use") & (effects["recipe"] == name)].iloc[0]
        rest = kept[(kept["where"] == "outside") & (kept["recipe"] == name)].iloc[0]
        gains.append(f"{points(gain.value)} {interval(gain.ci_low, gain.ci_high)}")
        rests.append(f"{points(rest.change)} {interval(rest.ci_low, rest.ci_high)}")
    rows = pd.concat([beside(SCREEN, train) for train in ("hotels", "qasc")])
    better = sum((rows["p_adjusted"] < 0.05) & (rows["advantage"] > 0))
    said = (
        f"**The learning rate decides.** Trained on 256 hotel reviews, SmolLM2-135M gains {gains[0]} points at a rate "
        f"of 3e-5, and {gains[1]} at 3e-4 (n = {gain.n:.0f}). The {rest.test_sets:.0f} other test sets change by "
        f"{rests[0]} and by {rests[1]} (n = {rest.n:.0f}; one training seed). Of {len(rows)} other recipes, held "
        f"against plain fine-tuning where both gain as much, {better or 'none'} loses less beyond chance."
    )
    return textwrap.fill(said, 120, break_long_words=False, break_on_hyphens=False)


PARTS: Mapping[str, Callable[[], str]] = {
    "progress": progress,
    "findings": findings,
    "ft hotels": lambda: of_ft("hotels"),
    "ft qasc": lambda: of_ft("qasc"),
    "screen hotels": lambda: at_equal_gain("hotels"),
    "screen qasc": lambda: at_equal_gain("qasc"),
    "predicted": predicted,
}


PAGES = {HERE / "study.md": PARTS, HERE.parent / "README.md": {"study": headline}}


if __name__ == "__main__":
    for page, parts in PAGES.items():
        page.write_text(filled(page.read_text("utf-8"), parts), "utf-8")

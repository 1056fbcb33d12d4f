"""Writes the results of docs/reproduction.md, from what `python studies/keep.py` keeps of the paper's study.

    python docs/reproduction_parts.py

People write the page, but for the parts between `<!-- NAME -->` and `<!-- /NAME -->`.
"""

from __future__ import annotations

import json
import lzma
import textwrap
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
from parts import filled, interval, markdown, points

HERE = Path(__file__).parent
KEPT = HERE.parent / "studies" / "paper" / "kept"
PROTOCOL = HERE.parent / "studies" / "paper" / "protocol"
TITLES = {"socialqa": "SocialQA", "paws": "PAWS", "amazon": "Amazon", "multinli": "MNLI"}
RULINGS = {
    "supported": "**yes**",
    "supported in part": "**yes**, as far as asked",
    "contradicted": "**no**",
    "insufficient evidence": "unclear",
    "missing": "not asked",
}


@cache
def table(name: str, study: Path = KEPT) -> pd.DataFrame:
    return pd.read_csv(study / f"{name}.csv")


def changes(name: str, family: str) -> pd.DataFrame:
    """The changes of a recipe from the base, by where. With one seed so far, some stand under the variant's name."""
    rows = table("effects").query("family == @family and less == 'base'")
    return rows[(rows["recipe"] == name) | rows["recipe"].str.startswith(f"{name}-s")].set_index("where")


def trained() -> Iterator[tuple[str, str, float, str]]:
    """Training set, strategy, rate and name of each recipe that all test sets were asked, in the order of `TITLES`."""
    rows = table("results").dropna(subset=["strategy"]).drop_duplicates("variant")
    for train in TITLES:
        for name in table("effects").query("family == 'role'")["recipe"].unique():
            one = rows[rows["variant"].str.startswith(name) & (rows["train_dataset"] == train)]
            if len(one) and len(changes(name, "test_set")) == table("results")["test_dataset"].nunique():
                yield train, str(one["strategy"].iloc[0]), float(one["learning_rate"].iloc[0]), str(name)


def rate(value: float) -> str:
    return f"{value:.0e}".replace("e-0", "e-")


# --- the parts --------------------------------------------------------------------------------------------


def progress() -> str:
    """What is planned and has not been tested yet."""
    grid = json.loads(lzma.decompress((KEPT / "scores.json.xz").read_bytes()))["grid"]
    trained_on = [one for one in grid["variants"] if one["kind"] != "base"]
    planned = {(one["factors"]["train_dataset"], one["factors"]["strategy"], one["seed"]) for one in trained_on}
    rows = table("results").dropna(subset=["strategy"])
    whole = rows.groupby("variant")["test_dataset"].transform("nunique") == table("results")["test_dataset"].nunique()
    rows = rows[whole]
    tested = set(zip(rows["train_dataset"], rows["strategy"], rows["seed"].astype(int), strict=True))
    lacking: dict[tuple[str, str], list[str]] = {}
    for train, strategy, seed in sorted(planned - tested, key=str):
        lacking.setdefault((train, strategy), []).append(str(seed))
    said = [f"{TITLES[train]} {strategy} (seed {', '.join(seeds)})" for (train, strategy), seeds in lacking.items()]
    return f"**Not run yet**: {'; '.join(said)}." if said else ""


def rates() -> str:
    """How the learning rate was chosen: scores on validation rows."""
    rows = table("choices")

    def lines() -> Iterator[list[str]]:
        for train in TITLES:
            some = rows[rows["choice"] == f"{train}-ft"].sort_values("learning_rate")
            if len(some):
                said = (f"{100 * one.score:.1f}" for one in some.itertuples())
                marked = (f"**{one}**" if is_it else one for one, is_it in zip(said, some["chosen"], strict=True))
                yield [TITLES[train], *marked, f"{some.iloc[0].n:.0f}"]

    every = sorted(rows["learning_rate"].unique())
    return markdown(lines(), "trained on", *(rate(one) for one in every), "validation rows")


def scores() -> str:
    """The results table: the base's score, and the change of each recipe, over 0 and 2 shots."""
    results, recipes = table("results"), list(trained())
    first = results.drop_duplicates("test_dataset").set_index("test_dataset")["metric"]

    def lines() -> Iterator[list[str]]:
        for test, metric in first.items():
            base = results[(results["variant"] == "base") & (results["test_dataset"] == test)]
            base = base[base["metric"] == metric].sort_values("shots")
            said = [str(test), " · ".join(f"{100 * value:.1f}" for value in base["value"])]
            for *_, name in recipes:
                one = changes(name, "test_set").loc[test]
                mark = "**" if one["p_adjusted"] < 0.05 else ""
                said.append(f"{mark}{points(one['value'])}{mark}")
            yield said

    return markdown(lines(), "test set", "base, 0 · 2 shots", *(f"{TITLES[train]} {of}" for train, of, *_ in recipes))


def roles() -> str:
    """The change by role, with intervals."""

    def lines() -> Iterator[list[str]]:
        for train, strategy, learning_rate, name in trained():
            found = [changes(name, "role").loc[where] for where in ("in-domain", "out-of-domain", "cross-task")]
            said = (f"{points(one['value'])} {interval(one['ci_low'], one['ci_high'])}" for one in found)
            yield [TITLES[train], strategy, rate(learning_rate), *said, f"{found[0]['seeds']:.0f}"]

    columns = ("trained on", "strategy", "rate", "in-domain", "out-of-domain", "cross-task", "training seeds")
    return markdown(lines(), *columns)


def ruling(claim: Mapping[str, Any]) -> tuple[str, list[Mapping[str, Any]]]:
    """What became of a claim, and the comparisons that decide it. Parts that were not asked are left aside."""
    judged = [part for part in claim["comparisons"] if part["ruling"] != "missing"]
    if not judged:
        return "missing", []
    if all(part["ruling"] == "supported" for part in judged) and claim["ruling"] != "supported":
        return "supported in part", judged
    return claim["ruling"], [part for part in judged if part["ruling"] == claim["ruling"]] or judged


def claims() -> str:
    """Each of the study's claims beside what was found."""

    def lines() -> Iterator[list[str]]:
        for one in json.loads((KEPT / "claims.json").read_text()):
            ruled, decisive = ruling(one)
            said = "; ".join(f"{part['where'] or part['what']}: {part['written']}" for part in decisive[:2])
            more = f"; {len(decisive) - 2} more" if len(decisive) > 2 else ""
            yield [one["id"], one["text"], RULINGS[ruled], said + more]

    return markdown(lines(), "", "the study says", "here", "what decides it")


def counts() -> str:
    """How many claims hold."""
    ruled = [ruling(one)[0] for one in json.loads((KEPT / "claims.json").read_text())]
    of = {name: ruled.count(name) for name in RULINGS}
    said = (
        f"The study's {len(ruled)} claims: {of['supported']} hold, {of['supported in part']} hold in those parts that "
        f"were asked, {of['contradicted']} otherwise, {of['insufficient evidence']} unclear with these rows and seeds, "
        f"{of['missing']} not asked."
    )
    return textwrap.fill(said, 120, break_long_words=False, break_on_hyphens=False)


def protocol() -> str:
    """FT on MNLI and the base, by our protocol and by the study's, at the same rate on the same rows."""

    def lines() -> Iterator[list[str]]:
        for name in table("results", PROTOCOL)["test_dataset"].unique():
            cells = [_scores(study, name, strategy) for study in (KEPT, PROTOCOL) for strategy in (None, "ft")]
            yield [name, *(" · ".join(f"{100 * value:.1f}" for value in cell) for cell in cells)]

    columns = ("base, sound", "FT, sound", "base, paper", "FT, paper")
    return markdown(lines(), "test set, 0 · 2 shots", *columns)


def _scores(study: Path, test: str, strategy: str | None) -> list[float]:
    """By the first metric, of the base (None) or of a training on MNLI with seed 0, at 0 and 2 shots."""
    rows = table("results", study).query("test_dataset == @test and prompt == 'p1'")
    ours = rows["strategy"].isna() if strategy is None else (rows["strategy"] == strategy)
    rows = rows[ours & (rows["train_dataset"].isna() | ((rows["train_dataset"] == "multinli") & (rows["seed"] == 0)))]
    rows = rows[rows["metric"] == rows["metric"].iloc[0]]
    return [float(rows[rows["shots"] == shots]["value"].iloc[0]) for shots in (0, 2)]


PARTS: Mapping[str, Callable[[], str]] = {
    "progress": progress,
    "counts": counts,
    "rates": rates,
    "roles": roles,
    "scores": scores,
    "protocol": protocol,
    "claims": claims,
}


PAGES = {HERE / "reproduction.md": PARTS}


if __name__ == "__main__":
    for page, parts in PAGES.items():
        page.write_text(filled(page.read_text("utf-8"), parts), "utf-8")

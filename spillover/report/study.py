"""The seven figures of the study (Yang et al. 2024) for any experiment: which panels, which lines, which bars.

A figure has the study's panels if the experiment has any of them. Else it has every pair of training and test set whose
role the figure is about. Scores are by the first metric of each test set. Seeds and draws are averaged, the ends of
intervals too.

The study's bars took the best shot count on the test set itself. Here a bar shows the condition that the model was
trained for: FT without demonstrations, FTICL with as many as in training. A ring marks the best shot count, which is
biased upwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from math import inf, isnan, nan
from typing import Any

import pandas as pd

from ..analysis.averages import BASE, Averages, Pair
from ..analysis.results import Results
from ..plan.grid import Cell, Grid, Variant
from . import charts
from .charts import Figure, Look, Panel


def _pairs(text: str) -> tuple[Pair, ...]:
    """`a: b c; d: e` as pairs of training and test set."""
    halves = (part.split(":") for part in text.split(";"))
    return tuple((train.strip(), test) for train, tests in halves for test in tests.split())


ROW = range(2, 6)  # tests that fit into a row of panels; each row is then a prompt format
OWN = ("amazon", "multinli", "paws", "xsum", "socialqa")  # the columns of the study's Figure 3
STUDY: Mapping[int, tuple[Pair, ...]] = {  # the panels of the study's figures, in its order
    1: _pairs(
        "xsum: xsum xlsum; socialqa: socialqa; paws: paws; amazon: amazon amazonfood; multinli: multinli multinli2"
    ),
    2: _pairs("xsum: pdfs cnn; socialqa: tweetqa sciqa; amazon: sst2 yelp; paws: qqp stsb; multinli: rte gptnli"),
    3: tuple((train, test) for test in OWN for train in OWN if train != test),
    4: _pairs("xsum: xsum pdfs; socialqa: socialqa sciqa"),
    5: _pairs("socialqa: amazon multinli paws xsum; xsum: socialqa"),
    6: _pairs("amazon: amazon sst2; paws: paws stsb; multinli: multinli rte"),
    7: _pairs("amazon: paws xsum; paws: multinli xsum; multinli: amazon xsum"),
}


def every(data: Averages) -> Iterator[Figure]:
    """All seven. A figure without data has no panels."""
    return (figure(data, number) for number in TITLES)


def figure(data: Averages, number: int, prompt: str | None = None) -> Figure:
    """One of them. `prompt` is the prompt format, by default the first there is; Figure 3 has all."""
    prompt = prompt or data.first_prompt()
    if number == 3:
        return across_tasks(data)
    return (over_shots if number < 3 else as_bars)(data.only(data.df["prompt"] == prompt), number, prompt)


def _figure(number: int, caption: str, drawn: list[Panel], lacking: tuple[str, ...], columns: int = 4) -> Figure:
    name = TITLES[number].lower().replace(", ", "-").replace(" ", "-")
    return Figure(number, f"fig{number}-{name}", TITLES[number], caption, tuple(drawn), lacking, columns)


def panels(data: Averages, number: int, pairs: Sequence[Pair]) -> tuple[list[Pair], tuple[str, ...]]:
    """The panels to draw, and the study's panels that are not among `pairs`."""
    there = [pair for pair in STUDY[number] if pair in pairs]
    if not there:
        return list(pairs), ()
    return there, tuple(data.arrow(*pair) for pair in STUDY[number] if pair not in pairs)


def unfinished(results: Results) -> dict[int, dict[Pair, list[str]]]:
    """By figure and planned panel, the variants that still miss cells of it."""
    found: dict[int, dict[Pair, list[str]]] = {number: {} for number in STUDY}
    missing = {cell.key for cell in results.missing}
    for cell in results.grid.cells:
        variant = results.variants[cell.variant]
        for number in _figures_of(results.grid, variant, cell):
            waiting = found[number].setdefault((variant.train_dataset or "", cell.test), [])
            if cell.key in missing and variant.name not in waiting:
                waiting.append(variant.name)
    for number, of_panel in found.items():
        there = [pair for pair in STUDY[number] if pair in of_panel]
        found[number] = {pair: of_panel[pair] for pair in there} if there else of_panel
    return found


def _figures_of(grid: Grid, variant: Variant, cell: Cell) -> Iterator[int]:
    """The figures that a variant's cell belongs to. Cells of the base belong to all and are not listed."""
    if cell.role and not variant.factors.get("train_shots"):
        yield {"in_domain": 1, "out_of_domain": 2, "cross_task": 3}[cell.role]
    if cell.role and variant.strategy:
        generation = variant.factors.get("train_kind") == "generation"
        yield (5 if generation else 7) - (cell.role != "cross_task")


def over_shots(data: Averages, number: int, prompt: str) -> Figure:
    """Figures 1 and 2."""
    data = data.plain()
    pairs, lacking = panels(data, number, data.pairs("in_domain" if number == 1 else "out_of_domain"))
    shown = {pair: data.rows(*pair) for pair in pairs}
    looks = charts.looks(list(dict.fromkeys([BASE, *(label for rows in shown.values() for label in rows["label"])])))
    drawn = []
    for (train, test), rows in shown.items():
        subtitle = data.metric_title(test) + ("" if train == test else f", trained on {data.title(train)}")
        drawn.append(Panel(f"{train} → {test}", charts.lines(rows, looks, data.title(test), subtitle), rows))
    caption = f"Scores over the demonstrations in the prompt, prompt format {prompt}, with 95 % intervals."
    return _figure(number, caption, drawn, lacking)


def across_tasks(data: Averages) -> Figure:
    """Figure 3."""
    data = data.plain()
    pairs, lacking = panels(data, 3, data.pairs("cross_task"))
    pairs = pairs if lacking else _own_tests(pairs)
    tests = list(dict.fromkeys(test for _, test in pairs))
    looks = charts.looks([BASE, *dict.fromkeys(data.title(train) for train, _ in pairs)])
    drawn = []
    for prompt, test in product(data.df["prompt"].unique(), tests):
        rows = _one_recipe_each(data, test, [train for train, name in pairs if name == test])
        rows = rows[rows["prompt"] == prompt]
        if len(rows):
            spec = charts.lines(rows, looks, data.title(test), f"{data.metric_title(test)}, prompt {prompt}")
            drawn.append(Panel(f"{test}, {prompt}", spec, rows))
    caption = (
        "The base and models that were fine-tuned on other tasks, without demonstrations, each with its smallest "
        "training size. Lines are named after the training set. Bars are 95 % intervals."
    )
    return _figure(3, caption, drawn, lacking, len(tests) if len(tests) in ROW else 4)


def _own_tests(pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs whose test set is also a training set, as in the study; all pairs if there are none."""
    trained = {train for train, _ in pairs}
    return [pair for pair in pairs if pair[1] in trained] or list(pairs)


def _one_recipe_each(data: Averages, test: str, trains: Sequence[str]) -> pd.DataFrame:
    """The base and one recipe of each training set, labelled by the set."""
    parts = [data.df[(data.df["label"] == BASE) & (data.df["test_dataset"] == test)]]
    for train in trains:
        both = data.rows(train, test)
        rows = both[both["label"] != BASE]
        sizes = rows["train_size"].astype("Float64").fillna(inf)  # of an existing checkpoint nobody knows it
        first = rows["label"].iloc[int(sizes.argmin())]
        parts.append(rows[rows["label"] == first].assign(label=data.title(train)))
    return pd.concat(parts)


TITLES = {
    1: "In-domain",
    2: "Out-of-domain",
    3: "Cross-task",
    4: "FTICL, generation, same task",
    5: "FTICL, generation, cross-task",
    6: "FTICL, classification, same task",
    7: "FTICL, classification, cross-task",
}
BAR_LOOKS = {
    label: Look(colour, (1, 0), "square")
    for label, colour in (("base", "#8b9099"), ("FTICL", charts.OKABE_ITO[2]), ("FT", charts.OKABE_ITO[0]))
}


HOW = (
    "Bk: the base with k demonstrations. FCk: FTICL with k in training, tested with k or the nearest count. FT: tested "
    "without. Rings mark the best shot count, chosen on the test set itself as in the study, and are biased upwards."
)


def as_bars(data: Averages, number: int, prompt: str) -> Figure:
    """Figures 4 to 7."""
    roles = ("in_domain", "out_of_domain") if number in (4, 6) else ("cross_task",)
    kind = "generation" if number in (4, 5) else "classification"
    with_fticl = set(data.df.loc[data.df["train_shots"] > 0, "train_dataset"])
    of_kind = [train for train in with_fticl if data.kinds.get(train) == kind]
    pairs, lacking = panels(data, number, [pair for pair in data.pairs(*roles) if pair[0] in of_kind])
    drawn = []
    for train, test in pairs:
        rows = _bars(data.rows(train, test))
        spec = charts.bars(rows, BAR_LOOKS, data.arrow(train, test), data.metric_title(test))
        drawn.append(Panel(f"{train} → {test}", spec, rows))
    how = HOW if number == 4 else "Bars and rings as in Figure 4."
    return _figure(number, f"{how} Prompt format {prompt}, 95 % intervals.", drawn, lacking)


def _bars(rows: pd.DataFrame) -> pd.DataFrame:
    """The bars of a panel: base at 0 shots and at those of the FTICL variants, these, and FT of their size."""
    every: list[dict[str, Any]] = rows.to_dict("records")  # type: ignore[assignment]  # keys are columns' names
    base = [row for row in every if row["label"] == BASE]
    trained = [row for row in every if row["label"] != BASE]
    fticl = [row for row in trained if row["train_shots"] > 0]
    sizes = {row["train_size"] for row in fticl}
    ft = [row for row in trained if row["train_shots"] == 0 and row["train_size"] in sizes]
    asked = sorted({row["shots"] for row in every})
    counts = sorted({row["train_shots"] for row in fticl})
    bars = [(BASE, f"B{k}", base, k) for k in sorted({0, *(_nearest(asked, k) for k in counts)} & set(asked))]
    bars += [("FTICL", f"FC{k}", [r for r in fticl if r["train_shots"] == k], _nearest(asked, k)) for k in counts]
    bars += [("FT", "FT", ft, _nearest(asked, 0))]
    drawn = []
    for label, bar, means, shots in bars:
        best = nan if label == BASE else max((row["value"] for row in means if not isnan(row["value"])), default=nan)
        drawn += [{**row, "label": label, "bar": bar, "best": best} for row in means if row["shots"] == shots][:1]
    return pd.DataFrame(drawn, columns=[*rows.columns, "bar", "best"])


def _nearest(asked: Sequence[int], k: int) -> int:
    return min(asked, key=lambda shots: (abs(shots - k), shots))

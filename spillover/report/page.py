"""The report: one HTML file that needs no network. Where answers are many, script files with the rest stand beside it.

`write` collects the page's content as plain values (`sections`, `why`, `figures`, `examples`). `page.html`
and `page.css` lay it out, and `page.js` makes it interactive. All text from data passes through the template's
escaping, or stands as JSON in which no tag can begin. Only charts are inserted as markup, and Vega has escaped
their text. A content security policy allows the page's own style sheet and script, by hash, and the files that this
script adds ('strict-dynamic'). It allows nothing else: no network, no eval.

Figures are SVG that Vega draws here (`charts`). Vega is not in the page, since its run time is a megabyte. A short
script shows what Vega wrote about each mark.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import date
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .. import __version__
from ..analysis.averages import Pair, titles_of
from ..analysis.harness import metric_of
from ..analysis.metrics import METRICS
from ..analysis.numbers import points, signed, signed_interval
from ..analysis.results import ROLE_TITLES, ROLES, Results
from ..analysis.summaries import MatrixEntry, matrix
from ..disk import within, write_whole
from ..errors import called, visible
from ..stats.intervals import MIN_ROWS
from . import charts, exports, figures, glossary, sections, since, study, tiles, why
from .examples import Written
from .examples import write as write_examples
from .figures import Figure

ASSETS = ("page.html", "page.css", "page.js")


def write(
    results: Results,
    folder: Path,
    path: Path,
    today: date | None = None,
    exported: bool = False,
) -> list[Figure]:
    """Write the report of an output folder to `path`, and return the figures on it.

    `exported`: write its figures also as files, in `figures/` beside it (`exports`). The page links files there that
    show the same numbers.
    """
    import jinja2
    from markupsafe import Markup

    html, css, js = (resources.files(__package__).joinpath(name).read_text("utf-8") for name in ASSETS)
    environment = jinja2.Environment(
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: visible(value, keep="\n\t") if type(value) is str else value,  # markup is the page's own
    )
    place = sections.placer(results)
    environment.filters |= {"points": points, "signed": signed, "interval": signed_interval, "place": place}
    environment.filters["whole"] = unbroken
    inside = figures.seen_inside(results, folder)
    planned, titles = study.unfinished(results), titles_of(results)
    linked, packs = path.parent / "figures", path.with_name(f"{path.stem}.data")
    for beside in (linked, packs):
        within(path.parent, f"{beside.name}/any")
    every = figures.every(results, inside, folder)
    plane, trade, strength, chosen, measured, predicted, weights, *of_study = every
    answers = write_examples(results, folder, packs)
    said = sections.everything(results, folder, answers)
    if exported:
        exports.write(every, linked)
    today = today or date.today()
    text = environment.from_string(html).render(
        news=since.news(results, said["verdicts"], folder, today),
        grid=results.grid,
        version=__version__,
        today=today.isoformat(),
        css=Markup(css),
        css_hash=_digest(css),
        js=Markup(js),
        js_hash=_digest(js),
        done=len(results.grid.cells) - len(results.missing),
        planned=len(results.grid.cells),
        role_titles=ROLE_TITLES,
        terms=glossary.TERMS,
        **said,
        why=why.parts(results, inside, answers.tallies, drawn(predicted, linked), drawn(weights, linked)),
        plane=drawn(plane, linked),
        curves=[drawn(one, linked) for one in (trade, chosen, strength, measured) if one.panels],
        figures=[drawn(one, linked, planned[one.number], titles) for one in of_study],
        data=Markup(_as_json(payload(results, answers))),
        packs=[(number, Markup(in_script(pack))) for number, pack in answers.embedded.items()],
    )
    write_whole(path, called(glossary.explained(text)))
    return [one for one in every if one.panels]


def unbroken(text: Any) -> str:
    """A text in which no interval is broken at the end of a line."""
    return re.sub(r"(\[[^\s\]]+,) ", "\\1\u00a0", str(text))


def drawn(
    figure: Figure,
    linked: Path,
    planned: Mapping[Pair, Sequence[str]] | None = None,
    titles: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """A figure as the template takes it: its drawing, and links to its files if they exist.

    `lacking` names panels that the study has and this experiment has not. `waiting` names those that are `planned` (by
    panel, the variants that are not done) and have not run.
    """
    from markupsafe import Markup

    named = {pair: " → ".join((titles or {}).get(name, name) for name in pair) for pair in planned or {}}
    waiting = [f"{named[pair]} ({', '.join(names)})" for pair, names in (planned or {}).items() if names]
    return {
        "id": figure.name,
        "title": f"Figure {figure.number}. {figure.title}" if figure.number else figure.title,
        "caption": figure.caption,
        "lacking": [panel for panel in figure.lacking if panel not in named.values()],
        "waiting": waiting,
        "drawing": Markup(charts.on_page(figure.svg)) if figure.panels else "",
        "files": [(path.suffix[1:].upper(), f"{linked.name}/{path.name}") for path in exports.there(figure, linked)],
    }


def payload(results: Results, answers: Written) -> dict[str, Any]:
    """The `data` of page.js: every score, and where to find every answer, as small JSON.

    Names are places in lists, and scores are integers in tenths of a point, so that 30,000 rows take two megabytes.
    """
    grid, first = results.grid, [metric_of(test.metrics[0]).name for test in results.grid.tests]
    metrics = list(dict.fromkeys([*METRICS, *first, *map(str, results.df["metric"])]))
    prompts = list(dict.fromkeys(cell.prompt for cell in grid.cells))
    variants, tests = [variant.name for variant in grid.variants], [test.name for test in grid.tests]
    named = {"variant": ("variant", variants), "test": ("test_dataset", tests), "prompt": ("prompt", prompts)}
    named |= {"metric": ("metric", metrics), "rows": ("rows", ["all", "clean"])}
    df = results.df[results.df["value"].notna()]  # rows without a clean score have none
    numbers = df[list(NUMBERS.values())].astype("Float64")
    units = {
        (test.name, metric.name) for test in grid.tests for metric in map(metric_of, test.metrics) if metric.of_100
    }
    of_100 = np.array([key in units for key in zip(df["test_dataset"], df["metric"], strict=True)], dtype=bool)
    scores = [column for column in NUMBERS.values() if column != "p_value"]
    numbers.loc[~of_100, scores] = (numbers.loc[~of_100, scores] / 100).clip(*WITHIN)
    rows = pd.DataFrame(
        {
            **{name: pd.Categorical(df[column], categories=names).codes for name, (column, names) in named.items()},
            "role": pd.Categorical(df["role"], categories=list(ROLES)).codes + 1,  # 0 is that of the base
            **{name: df[name].to_numpy() for name in ("shots", "draw", "n")},
            **{name: (1000 * numbers[column]).round().astype("Int64").to_numpy() for name, column in NUMBERS.items()},
        }
    ).sort_values(["test", "shots", "prompt", "draw", "variant"], kind="stable")
    return {
        "variants": variants,
        "recipes": tiles.arms(results),
        "tests": [test.title or test.name for test in grid.tests],
        "first": [metrics.index(name) for name in first],  # by test set
        "prompts": prompts,
        "roles": [ROLE_TITLES[role] for role in (None, *ROLES)],
        "metrics": [metric_of(name).title for name in metrics],
        "base": grid.variants.index(results.base) if results.base else None,
        "least": MIN_ROWS,
        "columns": list(rows),
        "rows": json.loads(rows.to_json(orient="values")),
        "examples": [
            {**entry, "test": tests.index(entry["test"]), "prompt": prompts.index(entry["prompt"])}
            for entry in answers.index
        ],
        "start": _start(results, variants, tests),
    }


WITHIN = (-1e12, 1e12)  # a perplexity may be any number
NUMBERS = {"value": "value", "low": "ci_low", "high": "ci_high", "p": "p_value"}
NUMBERS |= {"change": "delta", "change_low": "delta_ci_low", "change_high": "delta_ci_high"}


def _start(results: Results, variants: Sequence[str], tests: Sequence[str]) -> dict[str, int]:
    """Where the examples begin: the largest loss that is clear, else the largest loss, else the largest change.

    Random changes come last, because nobody would use them.
    """

    def place(item: tuple[MatrixEntry, float]) -> tuple[float, ...]:
        entry, delta = item
        return entry.variant in results.nulls, not entry.is_clear, delta == 0, delta > 0, -abs(delta)

    changed = [(entry, entry.delta) for entry in matrix(results).values() if entry.delta is not None]
    first = min(changed, key=place, default=None)
    if first is None:
        return {"variant": 0, "test": 0}
    return {"variant": variants.index(first[0].variant), "test": tests.index(first[0].test)}


def _as_json(value: Any) -> str:
    return in_script(json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False))


def in_script(text: str) -> str:
    """JSON that can stand in a script element: no end tag and no comment can begin in it."""
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

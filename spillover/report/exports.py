"""What goes into papers: figures as files, tables as CSV, LaTeX and Markdown.

    DIR/figures/fig1-in-domain.svg .pdf .png    the drawing; its text can be searched
    DIR/figures/fig1-in-domain.csv .tex .md     the rows behind it

`latex` and `markdown` write any table. `printed` is what `spillover report --format` prints: verdict and matrix as
Markdown or LaTeX, and the tidy rows of results.csv as CSV or JSON.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from ..analysis.numbers import points, written
from ..analysis.results import Results
from ..analysis.summaries import MatrixEntry
from ..analysis.table import as_csv
from ..analysis.verdict import caveats, verdicts
from ..disk import as_bytes, remove, write_whole
from ..errors import visible
from .figures import Figure
from .matrix import Block, blocks, notes

FILES = ("svg", "pdf", "png", "csv", "tex", "md")
PNG_SCALE = 2.0  # twice the pixels, for print and sharp screens
LATEX = str.maketrans(
    {char: rf"\{char}" for char in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "−": "$-$", "–": "--"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}
    | {"▲": r"$\blacktriangle$", "▼": r"$\blacktriangledown$", "→": r"$\rightarrow$"}
)
MARKUP = re.compile(r"[\\`*<>|&~]|(?<!\w)_|_(?!\w)|(?<=\])\(|(?<=!)\[")


Cells = Sequence[Sequence[Any]]


def write(figures: Iterable[Figure], folder: Path) -> list[Path]:
    """Write each figure and the rows behind it as six files, and return the paths. A figure without panels has none."""
    import vl_convert

    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for figure in figures:
        if not figure.panels:
            for path in _paths(figure, folder):
                remove(path)
            continue
        svg = figure.svg
        columns, rows = list(map(str, figure.table)), _rounded(figure.table)
        contents: dict[str, str | bytes] = {
            "svg": svg,
            "pdf": vl_convert.svg_to_pdf(svg),
            "png": vl_convert.svg_to_png(svg, scale=PNG_SCALE),
            "csv": _csv(figure),
            "tex": latex(columns, rows),
            "md": markdown(columns, rows),
        }
        for path in _paths(figure, folder):
            content = contents[path.suffix[1:]]
            written.append(write_whole(path, content))
    return written


def there(figure: Figure, folder: Path) -> list[Path]:
    """The files of a figure in a folder; none if they show other numbers."""
    table = folder / f"{figure.name}.csv"
    if not figure.panels or not table.is_file() or table.read_bytes() != as_bytes(_csv(figure)):
        return []
    return [path for path in _paths(figure, folder) if path.is_file()]


def _paths(figure: Figure, folder: Path) -> list[Path]:
    return [folder / f"{figure.name}.{kind}" for kind in FILES]


def _csv(figure: Figure) -> str:
    return as_csv(figure.table)


def _rounded(df: pd.DataFrame) -> list[list[str]]:
    return [
        ["" if pd.isna(value) else f"{value:.3f}" if isinstance(value, float) else str(value) for value in row]
        for row in df.itertuples(index=False)
    ]


def markdown(columns: Sequence[str], rows: Cells) -> str:
    """A pipe table. What would be markup within a cell is escaped."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(map(_in_markdown, line)) + " |" for line in lines) + "\n"


def _in_markdown(value: Any) -> str:
    """As text: no cell ends within it, and no emphasis, link or tag begins. Underscores within a word begin none."""
    return MARKUP.sub(r"\\\g<0>", visible(re.sub(r"\s+", " ", str(value))))


def latex(columns: Sequence[str], rows: Cells) -> str:
    """A tabular for booktabs."""
    lines = [" & ".join(map(_in_latex, line)) + r" \\" for line in [columns, *rows]]
    body = [r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"]
    return "\n".join([rf"\begin{{tabular}}{{{'l' * len(columns)}}}", *body, r"\end{tabular}", ""])


def _in_latex(value: Any) -> str:
    """As text. What begins with `[` or `*` would be an option of the line break before it."""
    text = visible(" ".join(str(value).split())).translate(LATEX)
    return "{}" + text if text.startswith(("[", "*")) else text


def printed(results: Results, format: Literal["md", "latex", "csv", "json"]) -> str:
    """The results as text that ends in a line break."""
    if format == "csv":
        return as_csv(results.df)
    if format == "json":
        return f"{results.df.to_json(orient='records')}\n"
    found = verdicts(results)
    sentences = [
        (f"{one.title}: {one.first}", one.why, one.steps, [f"{line.name}: {line.sentence}" for line in one.lines])
        for one in found
    ]
    tables = [(block.title, *_as_table(block)) for block in blocks(results)]
    closing = [*caveats(results, found), *notes(results)]
    if format == "md":
        safe = _in_markdown
        parts = [
            f"**{safe(advice)}** {safe(why)}\n\n"
            + "".join(f"{safe(step.says)}\n\n    {visible(step.code)}\n\n" for step in steps)
            + "".join(f"- {safe(x)}\n" for x in lines)
            for advice, why, steps, lines in sentences
        ]
        parts += [f"{safe(title)}\n\n{markdown(columns, rows)}" for title, columns, rows in tables]
        return "\n".join([*parts, *(f"{safe(note)}\n" for note in closing)])
    parts = [
        "\n".join(
            f"% {visible(x)}" for x in (f"{advice} {why}", *(f"{step.says} {step.code}" for step in steps), *lines)
        )
        for advice, why, steps, lines in sentences
    ]
    parts += [f"\n% {visible(title)}\n{latex(columns, rows)}" for title, columns, rows in tables]
    return "\n".join([*parts, *(f"% {visible(note)}" for note in closing), ""])


def _as_table(block: Block) -> tuple[list[str], list[list[str]]]:
    """Columns and rows."""
    columns = ["role", "test set", "metric", "n", *(column.name for column in block.columns)]
    return columns, [[row.role, row.title, row.metric, row.n, *map(_entry, row.entries)] for row in block.rows]


def _entry(entry: MatrixEntry | None) -> str:
    if entry is None:
        return "missing"
    score = points(entry.score) + ("" if entry.cells == entry.planned else "*")
    if entry.change is None:
        return f"{score} [{points(entry.interval.low)}, {points(entry.interval.high)}]"
    return f"{score} ({written(entry.change)})"

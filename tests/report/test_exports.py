"""Files for papers, and what `spillover report --format` prints."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pandas as pd
import pytest

from spillover.analysis import averages, summaries
from spillover.analysis.results import Results
from spillover.report import exports, study


def test_a_figure_becomes_six_files(results: Results, tmp_path: Path) -> None:
    figure = study.figure(averages.Averages.of(results), 1)
    written = exports.write([figure], tmp_path)
    assert {path.name for path in written} == {
        f"fig1-in-domain.{kind}" for kind in ("svg", "pdf", "png", "csv", "tex", "md")
    }
    content = {path.suffix: path.read_bytes() for path in written}
    assert (
        content[".svg"].startswith(b"<svg") and content[".pdf"].startswith(b"%PDF") and content[".png"][1:4] == b"PNG"
    )
    assert b"Shop reviews" in content[".svg"]  # words are words, not outlines
    behind = pd.read_csv(tmp_path / "fig1-in-domain.csv")
    assert len(behind) == len(figure.table) and behind["value"].tolist() == pytest.approx(
        figure.table["value"].tolist()
    )
    assert content[".tex"].decode().count(r" \\") == len(behind) + 1
    assert content[".md"].decode().count("\n") == len(behind) + 2


def test_markdown_keeps_a_table_whole() -> None:
    text = exports.markdown(["a", "b"], [["x|y", "two\nlines"]])
    assert text == "| a | b |\n| --- | --- |\n| x\\|y | two lines |\n"


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("50 % & more_of #1 $ {x}", r"50 \% \& more\_of \#1 \$ \{x\}"),
        (r"a\b ~ ^", r"a\textbackslash{}b \textasciitilde{} \textasciicircum{}"),
        ("▲ −1.5 → –", r"$\blacktriangle$ $-$1.5 $\rightarrow$ --"),
    ],
)
def test_latex_escapes(text: str, written: str) -> None:
    assert exports.latex(["c"], [[text]]).splitlines()[4] == rf"{written} \\"


def test_printed_for_reading(results: Results) -> None:
    entry = summaries.matrix(results)["shop-ft", "shop"]
    assert entry.delta is not None
    number = f"{100 * entry.delta:+.1f}".replace("-", "−")
    text = exports.printed(results, "md")
    assert "**Trained on shop: " in text and "| in-domain | Shop reviews | accuracy | 24 |" in text and number in text
    assert re.search(r"^    spillover work .* --variant news-fticl --keep$", text, re.M), "a command is code"
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert {line.count(" | ") for line in rows} == {6}
    latex = exports.printed(results, "latex")
    outside = re.sub(r"\\begin\{tabular\}.*?\\end\{tabular\}", "", latex, flags=re.DOTALL)
    assert latex.count(r"\begin{tabular}") == 2
    assert all(line.startswith("%") or not line for line in outside.splitlines())  # the rest is comment


def test_printed_for_programs(results: Results) -> None:
    assert len(json.loads(exports.printed(results, "json"))) == len(results.df)
    rows = list(csv.DictReader(io.StringIO(exports.printed(results, "csv"))))
    assert len(rows) == len(results.df) and rows[0]["variant"] == "base"


def test_a_partial_run_and_the_base_alone(partial: Results, base_only: Results) -> None:
    assert "missing" in exports.printed(partial, "md")
    assert "The base model" in exports.printed(base_only, "md")

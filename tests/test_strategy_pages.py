"""The pages on strategies: one for each, with the defaults of the code, examples that can be read, tests that exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import docscripts
import pytest
import yaml
from paths import ROOT

from spillover.errors import ExperimentError
from spillover.experiment.schema import parse_experiment
from spillover.experiment.strategy import OPTIONS, STRATEGIES

pages = docscripts.load("strategy_pages")
WRITTEN = {name: (pages.PAGES / f"{name}.md").read_text("utf-8") for name in STRATEGIES}
INDEX = pages.INDEX.read_text("utf-8")
EVERY = {**WRITTEN, "index": INDEX}


def parse(**given: Any) -> None:
    parse_experiment({"model": "x", "suite": "builtin", **given})


def sentences(text: str) -> Iterator[str]:
    """Those of a page, without blocks of code and tables."""
    prose = re.sub(r"```.*?```|^\|.*?$", "", text, flags=re.S | re.M)
    for paragraph in prose.split("\n\n"):
        yield from re.split(r"(?<=[.:]) (?=[A-Z`\[])", " ".join(paragraph.split()))


def names_of(sentence: str) -> list[str]:
    """The strategies that a sentence names, alone or composed, as they are written."""
    inline = re.findall(r"`([^`]+)`", sentence)
    return [code for code in inline if {name.strip() for name in code.split("+")} <= set(STRATEGIES)]


def test_every_strategy_has_a_page_and_there_is_no_other() -> None:
    assert {path.stem for path in pages.PAGES.glob("*.md")} == set(STRATEGIES)


def test_pages_hold_what_the_code_says() -> None:
    """Facts, defaults, costs, and the table of all."""
    for path, text in pages.pages():
        assert path.read_text("utf-8") == text, f"{path.name}: run `python docs/strategy_pages.py` and commit the pages"


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_page_lists_the_options_of_its_strategy_and_no_others(name: str) -> None:
    found = re.findall(r"^\| `(\w+)` \|", WRITTEN[name], re.M)
    assert set(found) <= set(OPTIONS)
    assert set(found) == {option for option, _, _ in pages.options(STRATEGIES[name])}
    assert all(what for *_, what in pages.options(STRATEGIES[name])), "an option without a word on what it means"


@pytest.mark.parametrize("name", EVERY)
def test_every_example_can_be_read(name: str) -> None:
    examples = re.findall(r"```yaml\n(.*?)```", EVERY[name], re.S)
    assert examples
    for example in examples:
        parse(**yaml.safe_load(example))


@pytest.mark.parametrize("name", EVERY)
def test_what_a_page_says_of_compositions_is_so(name: str) -> None:
    """What is called refused is refused, all others can be composed."""
    for sentence in sentences(EVERY[name]):
        named = names_of(sentence)
        together = [code for code in named if "+" in code]
        if "Not with" in sentence:
            together = [f"{name} + {other}" for other in named]
        for composed in together:
            train = {"strategies": [composed], "seeds": [0, 1]}
            if "Not with" in sentence or "refused" in sentence:
                with pytest.raises(ExperimentError):
                    parse(train=train)
            else:
                parse(train=train)


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_test_that_a_page_names_exists(name: str) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", WRITTEN[name])
    assert named
    for file, test in named:
        assert f"def {test}(" in (ROOT / file).read_text("utf-8"), (file, test)


def test_every_strategy_was_measured() -> None:
    assert set(STRATEGIES) == set(pages.costs()["strategies"])

"""Writes what the pages on strategies take from the code: their facts, options and defaults, and the table of all.

    python docs/strategy_pages.py

docs/strategies/NAME.md is a page on each named strategy, docs/strategies.md lists them. People write them, but for the
parts between `<!-- facts -->` and `<!-- /facts -->` (and so on), which this script fills from `STRATEGIES`, from the
axes, from docs/strategies/cost.json, which benchmarks/strategy_cost.py writes, and from what the study has kept.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from parts import filled
from study_parts import in_the_study

from spillover.experiment import axes as axes_module
from spillover.experiment import dialect
from spillover.experiment.axes import AXES, OwnText, RewrittenAnswers, SeedMean, SoftPrompt, plain
from spillover.experiment.strategy import IMPOSSIBLE, STRATEGIES, Strategy, TrainOptions

HERE = Path(__file__).parent
PAGES = HERE / "strategies"
INDEX = HERE / "strategies.md"
COST = PAGES / "cost.json"
NUMBER = re.compile(r"(arXiv )?(\d{4}\.\d{5})")


# --- what the code says of a strategy ---------------------------------------------------------------------


def differing(one: Strategy) -> dict[str, Any]:
    """The axes on which a strategy differs from plain fine-tuning, with its values."""
    return {axis: getattr(one, axis) for axis in AXES if getattr(one, axis) != plain(axis)}


def options(one: Strategy) -> Iterator[tuple[str, Any, str]]:
    """The options of a strategy: name, its own default, and what it means."""
    for value in differing(one).values():
        for name, field in type(value).model_fields.items():
            if name != "kind":
                yield name, getattr(value, name), field.description or ""
    for name in TrainOptions.model_fields:
        if (value := getattr(one.train, name)) is not None:
            yield name, value, "as that of `train`, for this strategy alone"


def written(value: Any) -> str:
    """A value as YAML writes it in one line."""
    return dialect.write(list(value) if isinstance(value, tuple) else value, flow=True)


def axes(one: Strategy) -> str:
    return ", ".join(f"`{axis}: {value.kind}`" for axis, value in differing(one).items()) or "none"


def linked(source: str) -> str:
    """A citation with links to arXiv."""
    return NUMBER.sub(lambda found: f"[arXiv {found[2]}](https://arxiv.org/abs/{found[2]})", source)


# --- what was measured ------------------------------------------------------------------------------------


def once(one: Strategy, found: Mapping[str, float], steps: int) -> str:
    """What a strategy does once beside the steps, in steps or epochs of plain fine-tuning; empty for nothing."""
    if isinstance(one.data, OwnText):
        return f"{found['before']:.0f} steps"
    if found["before"]:
        return f"{found['before'] / steps:.2f} epochs"
    return f"{found['after']:.1f} steps" if found["after"] else ""


def occasion(one: Strategy) -> str:
    """What that is."""
    if isinstance(one.data, OwnText):
        return f"The base writes its {one.data.texts} texts"
    if isinstance(one.answers, RewrittenAnswers):
        return "The base writes the answers"
    if isinstance(one.first, SoftPrompt):
        return "The soft prompt is trained"
    return "The base reads every row" if one.after == plain("after") else "After the training, the weights are made"


def costs() -> dict[str, Any]:
    """What benchmarks/strategy_cost.py has measured."""
    told: dict[str, Any] = json.loads(COST.read_text("utf-8"))
    return told


def measured(one: Strategy) -> str:
    """A sentence or two on what a strategy cost in the benchmark; empty if it was not measured."""
    told = costs()
    found, base = (told["strategies"].get(name) for name in (one.name, "ft"))
    if not found or one.name == "ft":
        return ""
    said = []
    if one.after == plain("after"):
        said += [f"A step takes {found['step']:.2f} times as long as one of `ft`."]
    if beside := once(one, found, told["steps"]):
        said += [f"{occasion(one)} once, which takes as long as {beside} of `ft`."]
    said += [f"Peak memory {found['gigabytes']:.2f} GB (`ft`: {base['gigabytes']:.2f} GB)."]
    return " ".join(said)


# --- the parts --------------------------------------------------------------------------------------------


def facts(one: Strategy) -> str:
    """Where it stands among the others."""
    lines = [f"- Differs from plain fine-tuning in: {axes(one)}"]
    if one.against:
        lines += [f"- Compared with: [`{one.against}`]({one.against}.md)"]
    lines += [f"- Source: {linked(one.source)}"]
    if said := measured(one):
        lines += [f"- [Measured](../strategies.md#what-they-cost): {said}"]
    if said := in_the_study(one.name):
        lines += [f"- [In our study](../study.md): {said}"]
    return "\n".join(lines)


def defaults(one: Strategy) -> str:
    """Its YAML with every option at its default, and what the options mean."""
    found = list(options(one))
    if not found:
        seeds = "seeds: [0, 1], " if isinstance(one.after, SeedMean) else ""
        return f"```yaml\ntrain: {{{seeds}strategies: [{one.name}]}}\n```\n\nIt has no options."
    given = [f"{name}: {written(value)}" for name, value, _ in found]
    yaml = f"train:\n  strategies:\n    - {one.name}:\n" + "".join(f"        {line}\n" for line in given)
    table = ["| option | default | what |", "| --- | --- | --- |"]
    table += [f"| `{name}` | `{written(value)}` | {what} |" for name, value, what in found]
    return f"```yaml\n{yaml}```\n\n" + "\n".join(table)


def every() -> str:
    """The table of all strategies."""
    told = costs()
    lines = ["| name | in short | differs in | a step | once | source |", "| --- | --- | --- | --- | --- | --- |"]
    for one in STRATEGIES.values():
        found = told["strategies"].get(one.name)
        makes = one.after != plain("after")
        step = "1" if one.name == "ft" else "" if makes or not found else f"{found['step']:.2f}"
        beside = once(one, found, told["steps"]) if found else ""
        name = f"[`{one.name}`](strategies/{one.name}.md)"
        lines += [f"| {name} | {in_short(one.name)} | {axes(one)} | {step} | {beside} | {linked(one.source)} |"]
    return "\n".join(lines)


def of_axes() -> str:
    """The table of the axes: what each decides, its values, and the strategies that set it."""
    lines = ["| axis | decides | values | set by |", "| --- | --- | --- | --- |"]
    said = dict(re.findall(r"^    (\w+) +([^:\n]+)", axes_module.__doc__ or "", re.M))
    for axis, values in AXES.items():
        kinds = ", ".join(f"`{value.model_fields['kind'].default}`" for value in values)
        names = ", ".join(f"`{name}`" for name, one in STRATEGIES.items() if axis in differing(one))
        lines += [f"| `{axis}` | {said[axis]} | {kinds} | {names} |"]
    return "\n".join(lines)


def impossible() -> str:
    """The pairs of values that do not go together."""
    axis_of = {value: axis for axis, values in AXES.items() for value in values}
    named = {value: f"`{axis}: {value.model_fields['kind'].default}`" for value, axis in axis_of.items()}
    return "\n".join(f"- {named[first]} with {named[second]}: {why}." for first, second, why in IMPOSSIBLE)


def how_measured() -> str:
    told = costs()
    itself = told["strategies"].get("ft", {"step": 1.0})["step"]
    machine = told["machine"].replace("1 threads", "one thread")
    return (
        f"Model `{told['model']}`, {told['rows']} rows of `{told['dataset']}`, {told['batch']} rows a step, "
        f"{told['steps']} steps; {machine}. A second measurement of `ft` gave {itself:.2f}, so differences of "
        "some hundredths mean nothing."
    )


def in_short(name: str) -> str:
    """The sentence under the heading of a page."""
    text = (PAGES / f"{name}.md").read_text("utf-8")
    return " ".join(text.split("\n\n")[1].split()).rstrip(".")


PARTS: Mapping[str, Callable[[Strategy], str]] = {"facts": facts, "options": defaults}
OF_ALL: Mapping[str, Callable[[], str]] = {
    "strategies": every,
    "measured": how_measured,
    "axes": of_axes,
    "impossible": impossible,
}


def pages() -> Iterator[tuple[Path, str]]:
    """Each page, and what it should hold."""
    for name, one in STRATEGIES.items():
        path = PAGES / f"{name}.md"
        parts = {part: (lambda make=make, one=one: make(one)) for part, make in PARTS.items()}
        yield path, filled(path.read_text("utf-8"), parts)
    yield INDEX, filled(INDEX.read_text("utf-8"), OF_ALL)


if __name__ == "__main__":
    for page, text in list(pages()):
        page.write_text(text, "utf-8")

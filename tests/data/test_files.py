"""Files into rows, and every way a file can be wrong: one line each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from spillover.data.files import Row, open_table
from spillover.errors import DataError

ROWS = [{"text": "a,b", "label": "yes"}, {"text": "line\nbreak “ü”", "label": ""}]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # so that errors show paths as a user would write them


def read_table(path: Path) -> list[Row]:
    return open_table(path).rows


def write(name: str, content: str | bytes) -> Path:
    path = Path(name)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def jsonl(rows: list[dict[str, str]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", jsonl(ROWS)),
        ("a.ndjson", jsonl(ROWS)),
        ("a.JSON", json.dumps(ROWS)),
        ("a.csv", 'text,label\n"a,b",yes\n"line\nbreak “ü”",\n'),
        ("a.tsv", 'text\tlabel\na,b\tyes\n"line\nbreak “ü”"\t\n'),
    ],
)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_every_text_format_gives_the_same_rows_with_and_without_byte_order_mark(
    name: str, content: str, mark: bytes
) -> None:
    assert read_table(write(name, mark + content.encode())) == ROWS


def test_parquet_keeps_lists_and_nulls() -> None:
    import pyarrow as pa
    from pyarrow import parquet

    rows = [{"messages": [{"role": "user", "content": "hi"}], "n": 1}, {"messages": [], "n": None}]
    parquet.write_table(pa.Table.from_pylist(rows), "a.parquet")
    assert read_table(Path("a.parquet")) == rows
    assert open_table(Path("a.parquet")).where(1) == "a.parquet, row 1"


def test_lines_count_what_people_see() -> None:
    table = open_table(write("a.jsonl", '\n{"a": "x\u2028y"}\r\n\r\n{"a": "z"}'))
    assert [row["a"] for row in table.rows] == ["x\u2028y", "z"]
    assert [table.where(0), table.where(1)] == ["a.jsonl:2", "a.jsonl:4"]
    table = open_table(write("a.csv", 'a,b\n"one\ntwo",2\n\nx,y\n'))
    assert [table.where(0), table.where(1)] == ["a.csv:2", "a.csv:5"]


def test_a_long_cell_is_no_error() -> None:
    assert len(read_table(write("a.csv", "a,b\n" + "x" * 200_000 + ",y\n"))[0]["a"]) == 200_000


def test_an_edited_file_is_read_again() -> None:
    path = write("a.jsonl", '{"a": "1"}')
    assert read_table(path) is read_table(path)
    write("a.jsonl", '{"a": "22"}')
    assert read_table(path) == [{"a": "22"}]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.jsonl", '{"a": 1}\n\n{"a": }\n', "t.jsonl:3: not valid JSON: Expecting value at column 7"),
        ("t.jsonl", '{"a": 1}\n[1]\n', "t.jsonl:2: a row must be an object with named columns, this is a list"),
        ("t.jsonl", "\n\n", "t.jsonl: holds no rows"),
        ("t.jsonl", b'{"a": 1}\n{"a": "caf\xe9"}\n', "t.jsonl:2: not UTF-8 text: byte 0xe9 (save the file as UTF-8)"),
        (
            "t.json",
            '{"a": 1}\n{"a": 2}',
            "t.json:2: not valid JSON: Extra data (one object a line is JSONL: name it .jsonl)",
        ),
        ("t.json", '{"a": 1}', "t.json: must hold a list of objects"),
        ("t.json", '[{"a": 1}, 5]', "t.json, row 1: a row must be an object with named columns, this is a number"),
        ("t.json", "", "t.json: holds no rows"),
        ("t.csv", "a,b\n", "t.csv: holds no rows"),
        ("t.csv", "a,a\n1,2\n", "t.csv:1: column 'a' stands twice in the header"),
        ("t.csv", "a,b\n1,2\n1,2,3\n", "t.csv:3: 3 cells under 2 column names"),
        ("t.csv", 'a,b\n1,2\n"1,2\n3,4\n', "t.csv:3: not valid CSV: unexpected end of data"),
        (
            "t.xlsx",
            "x",
            "t.xlsx: unknown kind of file '.xlsx' (allowed: .jsonl, .ndjson, .json, .csv, .tsv, .parquet;"
            " each also compressed, with .gz, .zst, .bz2, .xz)",
        ),
    ],
)
def test_a_wrong_file_is_one_line(name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(DataError) as caught:
        read_table(write(name, content))
    assert str(caught.value) == message


def test_a_wrong_parquet_file_is_one_line() -> None:
    with pytest.raises(DataError, match=r"^t\.parquet: not valid Parquet: [^\n]+$"):
        read_table(write("t.parquet", "not parquet"))


def test_a_missing_file_names_the_nearest() -> None:
    write("tickets.jsonl", "{}")
    for name, message in {
        "ticket.jsonl": "ticket.jsonl: no such file (did you mean 'tickets.jsonl'?)",
        "zzz.csv": "zzz.csv: no such file",
        "data/x.csv": "data/x.csv: no such file, and no folder data",
    }.items():
        with pytest.raises(DataError) as caught:
            read_table(Path(name))
        assert str(caught.value) == message


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    (tmp_path / "d.csv").mkdir()
    with pytest.raises(DataError, match=r"^d\.csv: is a folder; a data set is one file"):
        read_table(Path("d.csv"))

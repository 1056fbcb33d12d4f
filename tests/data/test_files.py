"""Files into rows, and every way a file can be wrong: one line each."""

from __future__ import annotations

import json
import os
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


# --- files that break readers ---

DEEP = 50_000
BROKEN: dict[str, tuple[str, bytes, str]] = {
    "nested": ("t.jsonl", b'{"a": 1}\n{"a": ' + b"[" * DEEP + b"]" * DEEP + b"}\n", r"t\.jsonl:2: .*nested too deeply"),
    "nested json": ("t.json", b'[{"a": ' + b"[" * DEEP + b"]" * DEEP + b"}]", r"t\.json: .*nested too deeply"),
    "nested objects": ("t.jsonl", b'{"a":' * DEEP + b"1" + b"}" * DEEP, r"t\.jsonl:1: .*nested too deeply"),
    "digits": ("t.jsonl", b'{"a": 1}\n{"a": ' + b"9" * 5000 + b"}\n", r"t\.jsonl:2: .*thousands of digits"),
    "digits json": ("t.json", b'[{"a": -' + b"9" * 5000 + b"}]", r"t\.json: .*thousands of digits"),
    "twice": ("t.jsonl", b'{"a": 1}\n{"a": 1, "a": 2}\n', r"t\.jsonl:2: column 'a' stands twice"),
    "twice inside": ("t.jsonl", b'{"m": [{"role": "user", "role": "x"}]}', r"t\.jsonl:1: column 'role' stands twice"),
    "half a name": ("t.jsonl", b'{"a": 1}\n{"a\\ud800": 1}\n', r"t\.jsonl:2: .*half a character"),
    "nul": ("t.jsonl", b'{"a": 1}\n{"a": "\x00"}\n', r"t\.jsonl:2: .*NUL"),
    "nul in csv": ("t.csv", b"a,b\n1,\x002\n", r"t\.csv:2: .*NUL"),
    "utf-16": ("t.csv", "a,b\n1,2\n".encode("utf-16"), r"t\.csv: is UTF-16 .*UTF-8"),
    "utf-16 without a mark": ("t.csv", "a,b\n1,2\n".encode("utf-16-le"), r"t\.csv:1: .*NUL"),
    "latin-1": ("t.csv", "a,b\n1,2\né,3\n".encode("latin-1"), r"t\.csv:3: not UTF-8"),
    "binary": ("t.jsonl", bytes(range(256)) * 10, r"t\.jsonl:\d+: "),
    "half a mark": ("t.jsonl", b"\xef\xbb", r"t\.jsonl:1: not UTF-8"),
    "only a mark": ("t.jsonl", b"\xef\xbb\xbf", r"holds no rows"),
    "empty": ("t.parquet", b"", r"t\.parquet: not valid Parquet"),
    "lone quote": ("t.csv", b'a,b\n1,"x"y\n', r"t\.csv:2: not valid CSV"),
    "ragged": ("t.tsv", b"a\tb\n1\t2\n1\n", r"t\.tsv:3: 1 cells under 2"),
    "many columns": ("t.csv", b",".join(b"c%d" % n for n in range(9999)) + b"\n1\n", r"1 cells under 9999"),
    "cut": ("t.jsonl", b'{"a": 1}\n{"a": "x', r"t\.jsonl:2: not valid JSON"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_breaks_readers_is_one_short_line(name: str) -> None:
    file, content, line = BROKEN[name]
    with pytest.raises(DataError, match=line) as caught:
        read_table(write(file, content))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_every_line_ending_of_a_csv_file(ending: str) -> None:
    table = open_table(write("t.csv", ending.join(["a,b", "1,2", "3,4", ""])))
    assert table.rows == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}] and table.lines == [2, 3]
    mixed = open_table(write("m.csv", "a,b\r\n1,2\n3,4\r5,6"))
    assert [row["a"] for row in mixed.rows] == ["1", "3", "5"] and mixed.lines == [2, 3, 4]


def test_long_lines_and_cells_are_no_error() -> None:
    assert len(read_table(write("t.jsonl", json.dumps({"a": "x" * 20_000_000})))[0]["a"]) == 20_000_000
    assert len(read_table(write("t.csv", "a,b\n1," + "x" * 10_000_000 + "\n"))[0]["b"]) == 10_000_000


@pytest.mark.parametrize("name", ["pipe.jsonl", "null.jsonl", "loop.jsonl", "x" * 300 + ".jsonl", "a\0b.jsonl"])
def test_what_is_no_file_is_one_line_and_never_waited_for(name: str) -> None:
    if name == "pipe.jsonl":
        os.mkfifo(name)
    elif name == "null.jsonl":
        Path(name).symlink_to("/dev/null")
    elif name == "loop.jsonl":
        Path(name).symlink_to(name)
    with pytest.raises(DataError, match=r"pipe or a device|cannot be read|no such file"):
        read_table(Path(name))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read() -> None:
    write("t.jsonl", "{}").chmod(0)
    with pytest.raises(DataError, match=r"^t\.jsonl: cannot be read: Permission denied$"):
        read_table(Path("t.jsonl"))


def test_parquet_with_two_columns_of_one_name_is_refused() -> None:
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.Table.from_arrays([pa.array(["x"]), pa.array(["y"])], names=["a", "a"]), "t.parquet")
    with pytest.raises(DataError, match=r"^t\.parquet: two columns are called 'a'"):
        read_table(Path("t.parquet"))


def test_parquet_values_that_python_cannot_hold_name_their_column_and_row() -> None:
    import pyarrow as pa
    from pyarrow import parquet

    for kind, far in ((pa.timestamp("us"), 2**60), (pa.timestamp("ms"), 2**50), (pa.date32(), 2**30)):
        parquet.write_table(pa.table({"a": ["x", "y"], "when": pa.array([0, far], kind)}), "t.parquet")
        with pytest.raises(DataError, match=r"^t\.parquet, row 1: column 'when' holds a value of the type"):
            read_table(Path("t.parquet"))
    not_text = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.array([0, 1, 2], pa.int32()).buffers()[1], pa.py_buffer(b"a\xff")]
    )
    parquet.write_table(pa.table({"a": not_text}), "t.parquet")
    with pytest.raises(DataError, match=r"^t\.parquet, row 1: column 'a' holds a value of the type string"):
        read_table(Path("t.parquet"))

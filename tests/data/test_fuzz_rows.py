"""Mutated data files through `spillover check` and `init`: they say what they found or what is wrong, and never break.

Two kinds of mutation, seeded: of the file's bytes, and of single values before the file is written. Exit code 0 or 1
means that the file was read; 2 comes with one short line that names the file or the data set.
"""

from __future__ import annotations

import gzip
import json
import random
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import tinymodels

from spillover import cli

Row = dict[str, Any]
ROWS = 12
LONGEST = 900  # characters of an error line


def talk(n: int, answer: str) -> list[Row]:
    return [{"role": "user", "content": f"One two {n}"}, {"role": "assistant", "content": answer}]


SHAPES: dict[str, Callable[[int], Row]] = {
    "prompt": lambda n: {"prompt": f"One two {n}", "completion": f" three {n}"},
    "chat": lambda n: {"messages": talk(n, f"four {n}")},
    "labels": lambda n: {"prompt": f"One two {n}", "completion": ["yes", "no"][n % 2]},
    "preference": lambda n: {"prompt": f"One {n}", "chosen": talk(n, "two")[1:], "rejected": talk(n, "three")[1:]},
    "alpaca": lambda n: {"instruction": f"One {n}", "input": "two", "output": f"{n}"},
    "squad": lambda n: {"context": f"One {n}.", "question": "two", "answers": {"text": [f"{n}"], "answer_start": [0]}},
    "options": lambda n: {"question": f"One {n}", "choices": ["two", f"three {n}"], "answer": n % 2},
    "text": lambda n: {"text": f"One {n} => two {n}"},
}
MORE = {"labels": "    labels: [yes, no]\n", "text": ""}
FLAT = ("prompt", "labels", "alpaca", "text")  # shapes that a table can hold

ODD: list[Any] = [
    *(
        None,
        True,
        0,
        -1,
        1e308,
        float("inf"),
        float("nan"),
        2**63,
        10**4000,
        "",
        " ",
        "\n\n",
        "\x00",
        "\x1b[31m",
        "\ud800",
    ),
    *(
        [],
        {},
        [[]],
        [None],
        [{}],
        {"role": "user"},
        {"": ""},
        {"text": None},
        "x" * 100_000,
        "{prompt}",
        "<|im_end|>",
        "=>",
    ),
    *([{"role": "assistant", "content": ""}], [{"role": "tool", "content": "x"}], "\u202e", "é" * 50, ["a"] * 1000),
    *([{"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}],),
]
TEMPLATE = "{% for m in messages %}{{ m.role }} : {{ m.content }} . {% endfor %}assistant : "

BYTES = [
    *(b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\r", b"\n", b'"', b"'", b",", b"{", b"[", b"}", b"\\ud800", b"\\"),
    *(b"[" * 20_000, b"9" * 5000, b"NaN", b"-Infinity", b"1e999", b"\x1b[2J", b"null", b"\xf0\x9f", b"," * 999),
]


def as_json(rows: list[Row]) -> bytes:
    return json.dumps(rows).encode()


def written(rows: list[Row], suffix: str) -> bytes:
    if suffix == ".json":
        return as_json(rows)
    if suffix == ".jsonl":
        return b"".join(as_json([row])[1:-1] + b"\n" for row in rows)
    if suffix == ".jsonl.gz":
        return gzip.compress(written(rows, ".jsonl"), mtime=0)
    if suffix == ".csv":
        cells = [list(rows[0]), *(map(str, row.values()) for row in rows)]
        return "".join(",".join('"' + cell.replace('"', '""') + '"' for cell in line) + "\n" for line in cells).encode(
            "utf-8", "surrogatepass"
        )
    import pyarrow as pa
    from pyarrow import parquet

    sink = pa.BufferOutputStream()
    parquet.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue().to_pybytes()


def with_odd_value(rows: list[Row], dice: random.Random) -> list[Row]:
    """The rows with an odd value somewhere: in a column, inside a list or an object, or as a row."""
    rows = json.loads(json.dumps(rows))
    place: Any = rows
    while True:
        key = dice.choice(list(place)) if isinstance(place, dict) else dice.randrange(len(place))
        if not isinstance(place[key], (dict, list)) or not place[key] or (place is not rows and dice.random() < 0.4):
            break
        place = place[key]
    if dice.random() < 0.2:
        del place[key]
    elif isinstance(place, dict) and dice.random() < 0.2:
        place[dice.choice(["label", "rejected", "messages", "", "x" * 5000, "\x1b"])] = dice.choice(ODD)
    else:
        place[key] = dice.choice(ODD)
    return rows


def with_odd_bytes(raw: bytes, dice: random.Random) -> bytes:
    """The bytes, cut, doubled, overwritten or with odd ones between them."""
    for _ in range(dice.randint(1, 3)):
        at, to = sorted(dice.randrange(len(raw) + 1) for _ in range(2))
        raw = dice.choice(
            [
                raw[:at],
                raw[:at] + raw[to:],
                raw[:to] + raw[at:],
                raw[:at] + dice.choice(BYTES) + raw[at:],
                raw[:at] + bytes([dice.randrange(256)]) + raw[at + 1 :],
            ]
        )
    return raw


def files(count: int) -> Iterator[tuple[str, str, bytes]]:
    """Mutated files: the shape of their rows, their suffix, their bytes. Always the same."""
    dice = random.Random("rows")
    while count:
        name = dice.choice(list(SHAPES))
        suffix = dice.choice([".jsonl", ".json", ".jsonl.gz", ".parquet", *([".csv"] * (name in FLAT))])
        rows = [SHAPES[name](n) for n in range(ROWS)]
        try:
            if dice.random() < 0.5:
                raw = written(with_odd_value(rows, dice), suffix)
            else:
                raw = with_odd_bytes(written(rows, suffix), dice)
        except Exception:  # the writer does not take the odd value: no such file exists
            continue
        count -= 1
        yield name, suffix, raw


@pytest.mark.parametrize("part", [range(40), pytest.param(range(40, 100), marks=pytest.mark.slow)], ids=["few", "many"])
def test_mutated_files_are_read_or_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], part: range
) -> None:
    model = tinymodels.save(tinymodels.build(), tmp_path / "model")
    (model / "chat_template.jinja").write_text(TEMPLATE)
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    seen: dict[tuple[str, int], int] = {}
    for number, (name, suffix, raw) in islice(enumerate(files(part.stop)), part.start, None):
        Path(f"rows{suffix}").write_bytes(raw)
        cut = ', answer_after: "=>"' * (name == "text")
        source = f"{{file: rows{suffix}{cut}}}"
        part = "test" if number % 2 else "train"
        Path("good.jsonl").write_bytes(written([SHAPES[name](n + 100) for n in range(ROWS)], ".jsonl"))
        good = f"{{file: good.jsonl{cut}}}"
        both = {part: source, "train" if part == "test" else "test": good}
        lines = "".join(f"    {key}: {value}\n" for key, value in both.items())
        Path("x.yaml").write_text(
            f"model: model\ndatasets:\n  mine:\n{lines}{MORE.get(name, '')}test: {{shots: [0, 1]}}\n"
        )
        where = f"{number}: {name}{suffix}: {raw[:300]!r}"
        for argv in (["check", "x.yaml"], ["init", "--train", f"rows{suffix}", "--out", "written.yaml"]):
            Path("written.yaml").unlink(missing_ok=True)
            monkeypatch.setattr(sys, "argv", ["spillover", *argv])
            with pytest.raises(SystemExit) as leaving:
                cli.main()
            code = int(leaving.value.code or 0)
            out, err = capsys.readouterr()
            seen[argv[0], code] = seen.get((argv[0], code), 0) + 1
            assert code in (0, 1, 2), where
            if code == 2:
                assert err.count("\n") == 1 and err.startswith("error: ") and len(err) <= LONGEST, (where, err[:2000])
                assert f"rows{suffix}" in err or "mine" in err, (where, err)
                assert err[:-1].isprintable(), (where, err)
            else:
                assert "\x1b" not in out, where
    for command in ("check", "init"):  # both happen, so both are tested
        assert seen[command, 0] > len(part) / 8 and seen[command, 2] > len(part) / 4

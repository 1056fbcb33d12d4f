"""The one dialect of YAML: what it reads, what it refuses in one line, and that it reads what it writes."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from spillover.errors import ExperimentError
from spillover.experiment.dialect import line_of, read, write


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[yes, no, on, off]", ["yes", "no", "on", "off"]),
        ("[true, False, null, ~]", [True, False, None, None]),
        ("[2e-5, 1E3, 1e-08, .5]", [2e-5, 1000.0, 1e-8, 0.5]),
        ("[010, 0o10, 1:30]", [10, 8, "1:30"]),
        ("%YAML 1.1\n---\n[yes, 2e-5, 1:30]", ["yes", 2e-5, "1:30"]),
        ("a: &a {x: 1, y: 1}\nb: {<<: *a, x: 2}", {"a": {"x": 1, "y": 1}, "b": {"x": 2, "y": 1}}),
        ("", None),
        ("\ufeffa: 1", {"a": 1}),
        ("[2024-13-45, 2024-01-15]", ["2024-13-45", "2024-01-15"]),
        ("[!!str 5, 9223372036854775807]", ["5", 9223372036854775807]),
        ("a: &x 1\nb: &x 2\nc: *x", {"a": 1, "b": 2, "c": 2}),
    ],
)
def test_yaml_1_2_is_read(text: str, value: Any) -> None:
    assert read(text, "x") == value


def growing(item: str) -> str:
    """Each line is a list of nine of the one before it: a few hundred characters stand for 43 million words."""
    lines = (f"{name}: &{name} [{', '.join([item.format(before)] * 9)}]\n" for before, name in pairwise("abcdefgh"))
    return "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(lines)


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("a: 1\nb: {c: 1,\n  c: 2}", "x:3", "'c' stands twice"),
        ("a: &a {x: 1}\nb:\n  <<: *a\n  y: 1\n  y: 2", "x:5", "'y' stands twice"),
        ("a:\n  [1]: 2", "x:2", "a key is one word"),
        ("? {a: 1}\n: 2", "x:1", "a key is one word"),
        ("a: 1\nb: [1,\n", "x:3", ""),
        ("a: 1\n---\nb: 2", "x:2", "another document"),
        ("a: *b\nb: 1", "x:1", "undefined alias 'b'"),
        ("a: !!python/name:os.system", "x:1", "python/name:os.system"),
        ("a: 1\nb: \x01", "x:2", r"\x01"),
        ('a: 1\nb: "\\e[31m"', "x:2", r"\x1b"),
        ('a: 1\nb: "\\0"', "x:2", r"\x00"),
        ("a: 1\nb: !!timestamp 2024-13-45", "x:2", "timestamp"),
        ("a: 1\nb: !!int x", "x:2", "'x' is no whole number"),
        ("a: 1\nb: !!bool maybe", "x:2", "'maybe'"),
        ("a: 1\nb: !!seq 5", "x:2", "scalar"),
        ("a: 1\nb: !mine 5", "x:2", "!mine"),
        ("a: 1\nb: =", "x:2", "value"),
        ("a: 1\nb: " + "[" * 400 + "]" * 400, "x:2", "50 levels"),
        ("a: 1\nb: " + "9" * 5000, "x:2", "whole number of 64 bits"),
        ("a: 1\nb: 9223372036854775808", "x:2", "whole number of 64 bits"),
        ("a: 1\nb: &b [*b]", "x:2", "'b' contains itself"),
        ("a: &a 1\nb: &b\n  c: {d: *b}", "x:3", "'b' contains itself"),
        (growing("*{}"), "x:6", "500,000 characters"),
        (growing("{{x: *{}}}"), "x:6", "500,000 characters"),
    ],
)
def test_a_mistake_is_one_line_with_its_place(text: str, where: str, what: str) -> None:
    with pytest.raises(ExperimentError) as caught:
        read(text, "x")
    assert caught.value.where == where
    assert what in caught.value.what and "\n" not in str(caught.value)
    with pytest.raises(ExperimentError) as caught:
        read(text, "--set a", lines=False)
    assert caught.value.where == "--set a"


def test_a_text_that_would_take_long_is_refused() -> None:
    with pytest.raises(ExperimentError, match="500,001 characters"):
        read("x" * 500_001, "x")
    with pytest.raises(ExperimentError, match=r"x:2: .*10,000 values"):
        read("a: 1\nb: [" + "1," * 10_000 + "]", "x")


@pytest.mark.parametrize(
    ("steps", "line"),
    [
        ([], 1),
        (["a"], 1),
        (["b", "0", "d"], 4),
        (["b", "1"], 5),
        (["b", "7"], 2),
        (["b", "0", "none", "x"], 3),
        (["e", "0", "f"], 7),  # one item that stands for a list
    ],
)
def test_a_value_has_a_line(steps: list[str], line: int) -> None:
    assert line_of("a: 1\nb:\n  - c: 1\n    d: 2\n  - 3\ne:\n  {f: 1}\n", steps) == line


VALUES: list[Any] = [
    {"b": 1, "a": [{"z": [], "y": {}}, "x"]},
    ["yes", "null", "~", "2e5", "010", "1:30", ".5", "2024-01-01", "<<", "=", "-", "", " a", "a: b", "# a", "'"],
    [2e-5, 1e22, float("inf"), 0, True, None],
    ["x\ny\n", "\t", "über", "日本 😀", "word " * 100],
]


@pytest.mark.parametrize("flow", [True, False])
@pytest.mark.parametrize("value", VALUES)
def test_what_is_written_is_read(value: Any, flow: bool) -> None:
    for one in (value, *value) if isinstance(value, list) else (value,):
        assert read(write(one, flow=flow), "x") == one


def test_order_and_letters_are_kept_and_no_line_is_broken() -> None:
    value = {"b": "über " * 50 + ".", "a": [2e-5]}
    assert write(value) == f"b: {value['b']}\na:\n- 2e-05\n"
    assert write(value, flow=True) == f"{{b: {value['b']}, a: [2e-05]}}"
    assert write("ft", flow=True) == "ft"

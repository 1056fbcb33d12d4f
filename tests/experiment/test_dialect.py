"""The one dialect of YAML: what it reads, what it refuses in one line, and that it reads what it writes."""

from __future__ import annotations

from typing import Any

import pytest

from spillover.errors import ExperimentError
from spillover.experiment.dialect import read, write


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
    ],
)
def test_yaml_1_2_is_read(text: str, value: Any) -> None:
    assert read(text, "x") == value


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
        ("a: \x01", "x", "special characters"),
        ("a: 2024-13-45", "x", "month"),
        ("a: !!bool maybe", "x", "maybe"),
        ("[" * 3000, "x", "recursion"),
        ("a: " + "9" * 5000, "x", "4300 digits"),
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

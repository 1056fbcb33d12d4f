"""Mutated YAMLs, the same in every run: each is read, checked, or refused in one short line. Never a traceback."""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tinyruns

from spillover.errors import CONTROL, ExperimentError, shown
from spillover.experiment import dialect
from spillover.experiment.schema import load_experiment, parse_experiment

MUTANTS, CHECKED = 60, 5  # of each kind; of those that can be read
LONGEST = 650  # characters of an error
FOREIGN = re.compile(r"Input|should|instance|dictionar|tuple|[Ss]tring|integer|discriminator|literal\[|function-")

EVERYTHING = """
model: ./tiny
datasets:
  parity: {train: train.jsonl, test: [test.jsonl], labels: [" four", " five"], title: Parity, in_domain: [parity]}
  echo:
    test: {file: echo.jsonl, fields: {prompt: prompt}, target: completion, require: [prompt], unescape: true}
    max_new_tokens: 6
    template: "{prompt}"
    shots: [0]
train:
  datasets: [parity]
  sizes: [8, 16]
  strategies:
    - ft
    - fticl: {shots: [2]}
    - {name: own, against: ft, weights: {kind: lora, lora_r: 4}, num_train_epochs: 1}
    - {name: near, penalty: {kind: kl, beta: [0.1, 1]}, data: {kind: replay, replay_share: 0.2}, after: {kind: mixture}}
    - promot
    - lora + soup
  seeds: [0, 1]
  learning_rate: 1e-2
  num_train_epochs: 1
  batch_size: 4
  max_length: 64
  warmup_steps: 1
test: {datasets: all, shots: [0, 2], prompts: [p1], limit: 6, demos: balanced, draws: [0]}
protocol: {base: paper, label_scoring: whole}
deploy: {shots: 0, prompt: p1}
ship: {keep: 0.9}
choose: best
validation: {rows: 8, elsewhere: 4}
gate: {keep: 0.9, critical: [echo], advisory: [parity]}
resources: {cpus: 1, memory: 2}
claims:
  - id: better
    text: It is better.
    comparisons: {ours: {strategy: ft}, theirs: base, each: [shots], holds: majority, expect: {at_least: 1.5}}
engine: shared
precision: float32
keep: none
trust: false
"""

# fmt: off
VALUES: list[Any] = [
    None, True, -1, 0, 1.5, 10**6, 2**40, 2**63, 10**400, -(2**70), float("inf"), float("nan"), 5e-324,
    "", " ", "x", "p1", "ft", "all", "default", "none", "null", "parity", "x" * 300, "x" * 100_001, "é😀", "a\nb", "\t",
    "../..", "/", "~", ".", "{}", "{prompt", "{0.__class__}", "%s", "a\u202eb", "-x", "CON", "hub/none", "pypi:none",
    [], [[]], [None], [1, "x"], ["x"] * 50, [0] * 2000, {}, {"x": 1}, {"": ""}, {"name": "x"}, {"kind": "fixed"},
    {1: 2}, "sound + stop", "1e999",
]
TEXTS = [
    "2024-13-45", "!!int x", "!!python/object/apply:os.system [ls]", "9" * 5000, "[" * 400 + "]" * 400, "&a [*a]", "*b",
    ".inf", "<<: *a", "!!binary x", "- ", "? ", "\t", "\0", "\x1b[31m", '"\\x1b"', "\ufeff", "---", "...", "%YAML 9.9",
    "|", ">", "'", '"', "{", "}", "[", "]", ",", ":", "#", "\u2028", "\ud800", "=", "\r", "&a {x: 1}", "!x",
    "0x" + "F" * 99, "a: " * 60, "\n" * 3,
]
# fmt: on


def paths(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield at
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield from paths(one, (*at, key))


def other_value(rng: random.Random) -> str:
    """The experiment with one or two of its values replaced, moved or given another key."""
    raw = dialect.read(EVERYTHING, "x")
    for _ in range(rng.choice([1, 1, 2])):
        places = list(paths(raw))
        *way, last = rng.choice([place for place in places if place])
        parent = raw
        for step in way:
            parent = parent[step]
        new = copy.deepcopy(rng.choice(VALUES))
        if isinstance(parent, dict) and rng.random() < 0.25:
            parent[rng.choice(["x", "name", "kind", "shots", "a\x1bb", "", "n" * 201])] = new
        elif rng.random() < 0.1:
            del parent[last]
        else:
            parent[last] = new
    try:
        return dialect.write(raw)
    except Exception:  # ruamel writes no half of a surrogate pair, nor what it cannot represent
        return EVERYTHING


def other_text(rng: random.Random) -> str:
    """The experiment with parts of its text replaced, repeated or left out."""
    text = EVERYTHING
    for _ in range(rng.choice([1, 2, 3])):
        start = rng.randrange(len(text))
        end = min(len(text), start + rng.choice([0, 1, 3, 20]))
        piece = rng.choice([*TEXTS, "", text[start : start + 40], chr(rng.randrange(1, 0x300))])
        text = text[:start] + piece + text[end:]
    return text


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("fuzz")
    tinyruns.write_experiment(place)
    return place


@pytest.mark.parametrize("mutate", [other_value, other_text])
def test_a_mutated_yaml_is_read_or_refused_in_a_line(place: Path, mutate: Any, call: Any) -> None:
    rng = random.Random(mutate.__name__)
    readable = 0
    for _ in range(MUTANTS):
        text = mutate(rng)
        (place / "x.yaml").write_text(text, encoding="utf-8", errors="replace")
        try:
            load_experiment(place / "x.yaml")
        except ExperimentError as error:
            assert len(str(error)) <= LONGEST and not CONTROL.search(str(error)), text
            continue
        readable += 1
        if readable <= CHECKED:
            code, _, said = call("check", str(place / "x.yaml"), "-o", str(place / "out"))
            assert code in (0, 1, 2), text
            assert code != 2 or (said.count("\n") == 1 and len(said) <= LONGEST and not CONTROL.search(said[:-1])), text
    assert 0 < readable < MUTANTS


def test_no_line_has_words_of_the_library_that_checks() -> None:
    """Each value in each place once or more: the path, what stands there, and what must."""
    rng, refused = random.Random(7), 0
    raw = dialect.read(EVERYTHING, "x") | {
        "variants": [{"name": "v", "path": "p"}],
        "chat_template_kwargs": {"a": True},
    }
    for way in [way for way in paths(raw) if way] * 5:
        changed = copy.deepcopy(raw)
        parent: Any = changed
        for step in way[:-1]:
            parent = parent[step]
        parent[way[-1]] = value = copy.deepcopy(rng.choice(VALUES))
        try:
            parse_experiment(changed)
        except ExperimentError as error:
            refused += 1
            line = str(error).replace(shown(value), "")
            assert len(line) < 400 and not FOREIGN.search(line), line
            assert way[0] in line or "the key" in line, line
    assert refused > 300


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"trust": "maybe"}, ("trust", "'maybe'", "true or false")),
        ({"trust": None}, ("trust", "empty")),
        ({"test": {"limit": "ten"}}, ("test.limit", "'ten'", "a whole number")),
        ({"test": {"limit": 0}}, ("test.limit", "0", "1 or more")),
        ({"train": {"learning_rate": "fast"}}, ("train.learning_rate", "'fast'", "a number")),
        ({"train": {"learning_rate": 0}}, ("train.learning_rate", "0", "more than 0")),
        ({"train": {"num_train_epochs": float("inf")}}, ("train.num_train_epochs", "finite")),
        ({"train": {"seeds": []}}, ("train.seeds", "a list", "empty")),
        ({"train": {"strategies": [{"name": "x", "weights": 3}]}}, ("weights", "3", "a mapping of keys")),
        ({"train": {"strategies": [{"name": "x", "weights": {"kind": "y"}}]}}, ("weights.kind", "'y'", "all", "lora")),
        ({"train": {"strategies": [{"name": "x", "weights": {"kind": "lora", "lora_r": "y"}}]}}, ("weights.lora_r",)),
        ({"datasets": {"": {}}}, ("datasets", "the key", "''", "empty")),
        ({"datasets": {"a": {"test": {"file": "x", "fields": {1: "y"}}}}}, ("the key 1", "quotes")),
        ({None: 1}, ("the key null", "quotes")),
        ({"datasets": {"a": {"test": "x", "template": 3}}}, ("datasets.a.template", "3", "a text or a mapping")),
        (
            {"chat_template_kwargs": {"a": [1]}},
            ("chat_template_kwargs.a", "[1]", "true or false", "a number or a text"),
        ),
    ],
)
def test_each_kind_of_error_is_worded_for_people(changed: dict[Any, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(ExperimentError) as error:
        parse_experiment({"model": "m", "suite": "builtin", **changed})
    assert all(word in str(error.value) for word in words), str(error.value)


def test_a_mutated_override_is_read_or_refused_in_a_line(place: Path) -> None:
    rng = random.Random(0)
    (place / "x.yaml").write_text(EVERYTHING)
    keys = [".".join(map(str, way)) for way in paths(dialect.read(EVERYTHING, "x")) if way]
    for _ in range(MUTANTS):
        key = rng.choice([*keys, "", ".", "x.y.z", "a." * 99, "test", "datasets.new"])
        override = f"{key}={rng.choice([*TEXTS, *map(repr, VALUES)])}"
        try:
            load_experiment(place / "x.yaml", [override])
        except ExperimentError as error:
            assert len(str(error)) <= LONGEST and not CONTROL.search(str(error)), override

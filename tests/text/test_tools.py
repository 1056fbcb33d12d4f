"""Rows that call tools: the chat template writes tools, calls and results, or the row is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tinymodels
from prose import tells

from spillover.errors import DataError
from spillover.experiment.schema import parse_experiment
from spillover.plan.plan import Plan, make_plan
from spillover.scaffold.init import write_experiment

# As Qwen's and Hermes' templates write them.
CHATML = """
{%- if tools %}{{ '<|im_start|>system\\nTools: ' }}{% for tool in tools %}{{ tool | tojson }}{% endfor %}
{{- '<|im_end|>\\n' }}{% endif %}
{%- for m in messages %}
{%- if m.role == 'tool' %}{{ '<|im_start|>user\\n<tool_response>\\n' + m.content + '\\n</tool_response><|im_end|>\\n' }}
{%- else %}{{ '<|im_start|>' + m.role + '\\n' + m.content }}
{%- for call in m.tool_calls %}{{ '<tool_call>\\n' }}{{ call.function | tojson }}{{ '\\n</tool_call>' }}{% endfor %}
{{- '<|im_end|>\\n' }}{% endif %}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""
PLAIN = """{% for m in messages %}{{ m.role + ': ' + m.content + '\\n' }}{% endfor %}
{%- if add_generation_prompt %}assistant: {% endif %}"""

TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"city": "string"}}}]


def call(city: str, arguments: Any = None) -> dict[str, Any]:
    given = {"city": city} if arguments is None else arguments
    message = {"role": "assistant", "content": "", "tool_calls": [{"type": "function"}]}
    message["tool_calls"][0]["function"] = {"name": "weather", "arguments": given}  # type: ignore[index]
    return message


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def plan(folder: Path, rows: list[dict[str, Any]], template: str = CHATML, **test: Any) -> Plan:
    model = tinymodels.save(tinymodels.build(), folder / "model")
    (model / "chat_template.jinja").write_text(template)
    (folder / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    raw = {"model": "model", "datasets": {"mine": {"test": "t.jsonl"}}, "test": {"shots": [0], **test}}
    return make_plan(parse_experiment(raw), folder)


def question(made: Plan, shots: int = 0) -> tuple[str, str]:
    row = made.sheets["mine", "chat", shots, 0].questions[0]  # type: ignore[index]
    return row.text, row.example.target


@pytest.mark.parametrize("arguments", [{"city": "Rome"}, '{"city": "Rome"}'])
def test_an_answer_that_is_a_call_is_what_the_template_writes(tmp_path: Path, arguments: Any) -> None:
    rows = [{"messages": [user("Weather?"), call("Rome", arguments)], "tools": TOOLS}]
    made = plan(tmp_path, rows)
    assert {sheet.fmt.name for sheet in made.sheets.values()} == {"chat"}  # plain text cannot say what a call is
    text, target = question(made)
    assert text.startswith("<|im_start|>system\nTools: ") and '"name": "weather"' in text
    assert text.endswith("user\nWeather?<|im_end|>\n<|im_start|>assistant\n")
    assert target == '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>'


def test_calls_and_results_before_the_answer_are_in_the_prompt(tmp_path: Path) -> None:
    talk = [call("Rome"), {"role": "tool", "name": "weather", "content": "Sunny."}]
    rows = [
        {"messages": [user(f"{n}?"), *talk, {"role": "assistant", "content": f"It is sunny {n}."}]} for n in range(4)
    ]
    text, target = question(plan(tmp_path, rows))
    assert target == "It is sunny 0." and text.index("<tool_call>") < text.index("<tool_response>\nSunny.")
    shown, _ = question(plan(tmp_path, rows, shots=[1]), 1)
    assert shown.count("<tool_call>") == 2 and "It is sunny 2." in shown


def test_sharegpt_calls_are_calls(tmp_path: Path) -> None:
    said = [("human", "Weather?"), ("function_call", '{"name": "weather", "arguments": {"city": "Rome"}}')]
    more = [*said, ("observation", "Sunny."), ("gpt", "It is sunny.")]
    for turns, answer in ((said, "<tool_call>"), (more, "It is sunny.")):
        row = {"conversations": [{"from": role, "value": text} for role, text in turns], "tools": json.dumps(TOOLS)}
        text, target = question(plan(tmp_path, [row]))
        assert target.startswith(answer) and "Tools: " in text


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"messages": [user("x"), call("Rome")]}, ("does not write", "weather")),
        ({"messages": [user("x"), {"role": "assistant", "content": "y"}], "tools": TOOLS}, ("the tool 'weather'",)),
        (
            {"messages": [user("x"), call("Rome"), user("y"), {"role": "assistant", "content": "z"}]},
            ("the call of 'weather'",),
        ),
    ],
)
def test_a_template_that_leaves_something_out_is_refused(
    tmp_path: Path, row: dict[str, Any], said: tuple[str, ...]
) -> None:
    with pytest.raises(DataError) as caught:
        plan(tmp_path, [row], PLAIN)
    assert tells(str(caught.value), "chat template", "does not write", *said) and "t.jsonl:1: " in str(caught.value)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"messages": [user("x"), call("", "no json")]}, "name, and an object of arguments"),
        ({"messages": [user("x"), {"role": "assistant", "content": None, "tool_calls": [3]}]}, "name, and an object"),
        ({"messages": [user("x"), call("Rome")], "tools": "{"}, "'tools' holds a text that is no JSON"),
        ({"messages": [user("x"), {"role": "tool", "content": "y"}]}, "must be the assistant's"),
        ({"prompt": [user("x")], "completion": [call("Rome")]}, "call of tools"),
    ],
)
def test_calls_that_cannot_be_read_are_refused(tmp_path: Path, row: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        plan(tmp_path, [row])
    assert "t.jsonl:1: " in str(caught.value)


def test_a_call_among_plain_rows_is_no_empty_answer(tmp_path: Path) -> None:
    rows = [{"messages": [user(f"{n}"), {"role": "assistant", "content": "y"}]} for n in range(3)]
    rows.insert(1, {"messages": [user("Weather?"), call("Rome")]})
    with pytest.raises(DataError, match="row 1 calls tools, which prompt format 'p1' cannot write"):
        plan(tmp_path, rows)
    made = plan(tmp_path, rows, prompts=["chat"])
    targets = [row.example.target for row in made.sheets["mine", "chat", 0, 0].questions]  # type: ignore[index]
    assert targets[1].startswith("<tool_call>") and targets[0] == targets[2] == "y"


def test_init_writes_an_experiment_in_the_format_chat(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    path.write_text("".join(json.dumps({"messages": [user(f"{n}"), call(f"c{n}")]}) + "\n" for n in range(30)))
    write_experiment(tmp_path / "x.yaml", None, path, None)
    assert "prompts: [chat]" in (tmp_path / "x.yaml").read_text()

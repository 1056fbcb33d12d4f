"""Each shape of data by a golden row, and each way in which a row can fail its task."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from prose import tells

from spillover.data.reader import RowReader
from spillover.data.tasks import named_task, own_task, template_fields, with_overrides
from spillover.errors import DataError, ExperimentError, SpilloverError
from spillover.experiment.suite import DatasetSpec, Source
from spillover.text.chat import ChatTemplate
from spillover.text.prompt import render
from spillover.text.task import FIVE, Example, PromptFormat, Task

CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "2+2?"},
    {"role": "assistant", "content": "4"},
]
EARLIER = (("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello"))
SHAREGPT = [
    {"from": {"user": "human", "assistant": "gpt"}.get(m["role"], m["role"]), "value": m["content"]} for m in CHAT
]


NULL = "(an empty text is allowed, null is not)"


def source(**given: Any) -> Source:
    return Source(file="t.jsonl", **given)


def spec(**given: Any) -> DatasetSpec:
    return DatasetSpec(train=("t.jsonl",), **given)


def own(row: dict[str, Any], given: DatasetSpec | None = None, src: Source | None = None) -> Task:
    return own_task("tickets", given or spec(), src or source(), row, "t.jsonl:1")


def read(task: Task, row: dict[str, Any], src: Source | None = None) -> Example:
    example = RowReader.of(task, src or source(), row, "t.jsonl:1").example(7, row, "t.jsonl:8")
    assert example is not None
    return example


def message_of(call: Any, *args: Any, **more: Any) -> str:
    with pytest.raises(SpilloverError) as caught:
        call(*args, **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- the shapes ---


@pytest.mark.parametrize(
    ("row", "prompt", "target", "turns"),
    [
        ({"prompt": "Q:", "completion": " A"}, "Q:", " A", ()),
        ({"prompt": CHAT[:-1], "completion": CHAT[-1:]}, "2+2?", "4", EARLIER),
        ({"prompt": CHAT[:-1], "completion": "4"}, "2+2?", "4", EARLIER),
        ({"messages": CHAT}, "2+2?", "4", EARLIER),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}, CHAT[-1]]}, "x", "4", ()),
        ({"conversations": SHAREGPT}, "2+2?", "4", EARLIER),
        ({"conversations": SHAREGPT[1:], "system": "Be brief."}, "2+2?", "4", EARLIER),
        ({"instruction": "Add", "input": "2+2", "output": 4}, "Add\n\n2+2", "4", ()),
        ({"instruction": "Add", "input": "", "output": "4"}, "Add", "4", ()),
        ({"instruction": "Add", "output": "4"}, "Add", "4", ()),
        ({"instruction": "Add", "output": "4", "history": [["Hi", "Hello"]]}, "Add", "4", EARLIER[1:]),
    ],
)
def test_known_shapes(row: dict[str, Any], prompt: str, target: str, turns: tuple[tuple[str, str], ...]) -> None:
    assert read(own(row), row) == Example(7, {"prompt": prompt}, target, turns)


def test_prompt_and_completion_are_joined_verbatim() -> None:
    row = {"prompt": "Q:", "completion": "A"}
    task = own(row)
    assert task.prompts == {"p1": PromptFormat("p1", "{prompt}", answer_delimiter="")}
    example = read(task, row)
    assert render(task.prompts["p1"], [], example) + example.target == "Q:A"


LISTED = ChatTemplate("{{ messages | tojson }}")


def test_conversations_get_a_plain_and_a_chat_format() -> None:
    for row in ({"messages": CHAT}, {"conversations": SHAREGPT}, {"prompt": CHAT[:-1], "completion": "4"}):
        task = own(row)
        assert task.prompts == {
            "p1": PromptFormat("p1", "{prompt}"),
            "chat": PromptFormat("chat", "{prompt}", chat=True),
        }
        assert json.loads(render(task.prompts["chat"], [], read(task, row), LISTED)) == CHAT[:-1]


def test_named_columns_with_a_template() -> None:
    row = {"subject": "Door", "body": "stuck", "urgent": True, "label": 3, "id": "x"}
    task = own(row, spec(template="{subject}\n{body}\nUrgent: {urgent}\nTeam:", labels=("3", "4"), shots=(0, 8)))
    assert (task.name, task.fields, task.labels) == ("tickets", ("subject", "body", "urgent"), ("3", "4"))
    assert (task.metrics[0], task.shots, task.fticl_shots, task.max_new_tokens) == ("accuracy", (0, 8), (2,), 60)
    assert read(task, row) == Example(7, {"subject": "Door", "body": "stuck", "urgent": "true"}, "3")


def test_several_templates_and_a_delimiter() -> None:
    row = {"q": "x", "a.b": "y", "answer": "z"}
    given = spec(template={"short": "{q}", "long": "{q} {ab}"}, answer_delimiter=">", max_new_tokens=5)
    task = own(row, given, source(fields={"ab": "a.b"}))
    assert task.fields == ("q", "ab") and list(task.prompts) == ["short", "long"]
    assert {fmt.answer_delimiter for fmt in task.prompts.values()} == {">"}
    assert (task.labels, task.metrics[0], task.shots, task.max_new_tokens) == (None, "rougeL", (0, 1, 2), 5)
    assert read(task, row, source(fields={"ab": "a.b"})).fields == {"q": "x", "ab": "y"}


def test_a_template_over_a_known_shape() -> None:
    task = own({"messages": CHAT}, spec(template="User: {prompt}\nBot:"))
    assert task.prompts["p1"].template == "User: {prompt}\nBot:" and task.prompts["chat"].chat
    row = {"instruction": "Add", "input": "2", "output": "4"}
    assert read(own(row, spec(template="{instruction}: {input} =")), row).fields == {"instruction": "Add", "input": "2"}


def test_the_study_shape_and_a_field_mapping() -> None:
    row = {"input": "text", "answer": "it", "output": "what?", "idx": 4}
    assert read(FIVE["question_generation"], row) == Example(7, {"input": "text", "answer": "it"}, "what?")
    row = {"Tweet": "text", "Answers": {"text": ["it", "that"]}, "Question": "what?"}
    given = source(fields={"input": "Tweet", "answer": "Answers.text.0"}, target="Question")
    assert read(FIVE["question_generation"], row, given) == Example(7, {"input": "text", "answer": "it"}, "what?")


def test_a_field_that_another_column_chooses() -> None:
    given = source(
        fields={"input": "context"}, target="question", choose={"answer": {"by": "label", "of": {"1": "A", "2": "B"}}}
    )
    row = {"context": "c", "question": "q", "A": "first", "B": "second", "label": 2}
    assert read(FIVE["question_generation"], row, given).fields == {"input": "c", "answer": "second"}
    assert (
        message_of(read, FIVE["question_generation"], {**row, "label": 9}, given)
        == "t.jsonl:8: 'label' is '9', which chooses no column (allowed: 1, 2)"
    )


# --- labels, and what is left out ---


def test_labels_are_mapped_checked_and_dropped() -> None:
    given = source(
        fields={"input": "text"}, target="label", target_map={"0": "negative", "1": "positive"}, drop_labels=("-1",)
    )
    reader = RowReader.of(FIVE["sentiment"], given, {"text": "", "label": ""}, "t.jsonl:1")
    rows = [{"text": "a", "label": 1}, {"text": "b", "label": -1}, {"text": "c", "label": "0"}]
    examples = [reader.example(i, row, "") for i, row in enumerate(rows)]
    assert [e and e.target for e in examples] == ["positive", None, "negative"]
    assert tuple(reader.notes()) == ("1 row with label '-1' left out",)
    assert (
        message_of(read, FIVE["sentiment"], {"input": "x", "output": "positiv"})
        == "t.jsonl:8: label 'positiv' is not one of the task's (did you mean 'positive'? allowed: positive, negative)"
    )


def test_labels_in_another_spelling_are_read_as_the_label_and_counted() -> None:
    given = source(fields={"input": "text"}, target="label", target_map={"0": "negative", "1": "positive"})
    given = given.model_copy(update={"drop_labels": ("-1",)})
    reader = RowReader.of(FIVE["sentiment"], given, {"text": "", "label": ""}, "t.jsonl:1")
    values = [1.0, "1", -1.0, "0.0", "POSITIVE", "negative ", "negative"]
    examples = [reader.example(i, {"text": "a", "label": value}, "") for i, value in enumerate(values)]
    targets = ["positive", "positive", None, "negative", "positive", "negative", "negative"]
    assert [example and example.target for example in examples] == targets
    assert any(
        tells(note, "2 rows", "'POSITIVE' as 'positive'", "'negative ' as 'negative'") for note in reader.notes()
    )
    assert [row and row.target for row in [reader.untouched(4, {"text": "a", "label": "POSITIVE"}, "")]] == ["POSITIVE"]


@pytest.mark.parametrize("value", [True, "true", "True", "TRUE "])
def test_a_truth_value_is_its_word(value: object) -> None:
    task = replace(FIVE["sentiment"], labels=("True", "False"))
    reader = RowReader.of(task, source(), {"input": "", "output": ""}, "t.jsonl:1")
    example = reader.example(0, {"input": "a", "output": value}, "")
    assert example is not None and example.target == "True"


def test_a_number_becomes_a_label_by_its_threshold() -> None:
    given = source(target="score", target_above={"above": 3.5, "then": "yes", "otherwise": "no"})
    row = {"input_1": "a", "input_2": "b", "score": 3.5}
    assert read(FIVE["paraphrase"], row, given).target == "no"
    assert read(FIVE["paraphrase"], {**row, "score": "3.6"}, given).target == "yes"
    assert (
        message_of(read, FIVE["paraphrase"], {**row, "score": "high"}, given)
        == "t.jsonl:8: the answer 'high' is not a number"
    )


def test_require_and_unescape_are_counted() -> None:
    given = source(require=("input",), unescape=True)
    reader = RowReader.of(FIVE["summarisation"], given, {"input": "", "output": ""}, "t.jsonl:1")
    rows = [{"input": r"a\nb", "output": "s"}, {"input": " ", "output": "s"}, {"input": None, "output": "s"}]
    kept = [reader.example(i, row, "") for i, row in enumerate(rows)]
    assert kept == [Example(0, {"input": "a\nb"}, "s"), None, None]
    assert tuple(reader.notes()) == (
        "2 rows with empty 'input' left out",
        r"1 row with a literal \n: made a line break",
    )


def test_values_become_text() -> None:
    row = {"a": 1, "b": 1.5, "c": False, "output": ""}
    assert read(own(row, spec(template="{a}{b}{c}")), row) == Example(7, {"a": "1", "b": "1.5", "c": "false"}, "")


# --- what is refused ---


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": None, "completion": "x"}, f"column 'prompt' has no value {NULL}"),
        ({"prompt": "x"}, "no column 'completion' (did you mean 'prompt'? allowed: prompt)"),
        (
            {"prompt": "x", "completions": "y"},
            "no column 'completion' (did you mean 'completions'? allowed: prompt, completions)",
        ),
        (
            {"prompt": {"a": 1}, "completion": "x"},
            "column 'prompt' holds an object where text is expected (prompt.NAME is one of its values)",
        ),
        ({"prompt": "x", "completion": float("nan")}, f"column 'completion' has no value {NULL}"),
        (
            {"prompt": "x", "completion": json.loads("-Infinity")},
            "column 'completion' holds an infinite number, or one beyond 64 bits",
        ),
        (
            {"prompt": json.loads("1e400"), "completion": "x"},
            "column 'prompt' holds an infinite number, or one beyond 64 bits",
        ),
        ({"prompt": json.loads("NaN"), "completion": "x"}, f"column 'prompt' has no value {NULL}"),
        ({"prompt": "\ud800", "completion": "x"}, "column 'prompt' holds half a character (a lone surrogate)"),
        ({"prompt": CHAT, "completion": "x"}, "the message before the answer in 'prompt' must be the user's"),
        ({"prompt": "x", "completion": CHAT[1:3]}, "column 'completion' must hold one message, the assistant's"),
    ],
)
def test_a_row_that_fails_its_shape(row: dict[str, Any], message: str) -> None:
    good = {"prompt": "x", "completion": "y"}
    reader = RowReader.of(own(good), source(), good, "t.jsonl:1")
    assert message_of(reader.example, 7, row, "t.jsonl:8") == f"t.jsonl:8: {message}"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("hi", "column 'messages' must hold a list of messages"),
        ([], "the last message in 'messages' must be the assistant's: it is the answer"),
        (CHAT[:-1], "the last message in 'messages' must be the assistant's: it is the answer"),
        ([CHAT[2]], "the message before the answer in 'messages' must be the user's"),
        ([{"role": "user"}], "a message in 'messages' must have role and content, or from and value"),
        (
            [{"role": "users", "content": "x"}],
            "unknown role 'users' in 'messages' (did you mean 'user'?"
            " allowed: system, developer, user, human, assistant, gpt, function_call, tool, function, ipython,"
            " observation)",
        ),
        ([CHAT[1], {"role": "assistant", "content": None}], f"column 'messages' has no value {NULL}"),
    ],
)
def test_a_conversation_that_cannot_be_used(value: Any, message: str) -> None:
    reader = RowReader.of(own({"messages": CHAT}), source(), {"messages": CHAT}, "t.jsonl:1")
    assert message_of(reader.example, 7, {"messages": value}, "t.jsonl:8") == f"t.jsonl:8: {message}"


def test_columns_that_are_nothing_known_or_two_things() -> None:
    assert message_of(own, {"text": "x", "category": "y"}) == (
        "t.jsonl:1: the columns text, category are no known shape"
        " (give a template over these columns, or a task, or"
        " prompt+completion, messages, conversations, instruction+output, instruction+response,"
        " context+question+answers)"
    )
    both = {"prompt": "x", "completion": "y", "messages": CHAT}
    assert message_of(own, both) == (
        "t.jsonl:1: the columns prompt, completion, messages are both prompt/completion and messages"
        " (say which with fields: {prompt: ...} and target: ...)"
    )
    chosen = source(fields={"prompt": "prompt"}, target="completion")
    assert read(own(both, src=chosen), both, chosen) == Example(7, {"prompt": "x"}, "y")


def test_a_column_that_is_not_there() -> None:
    assert (
        message_of(own, {"text": "x", "label": "y"}, spec(template="{txt}"))
        == "t.jsonl:1: no column 'txt' (did you mean 'text'? allowed: text, label)"
    )
    assert (
        message_of(read, FIVE["inference"], {"input_1": "x", "output": "y"})
        == "t.jsonl:8: no column 'input_2' (did you mean 'input_1'? allowed: input_1, output)"
    )
    row = {"text": "x", "label": "y", "answer": "z"}
    assert (
        message_of(own, row, spec(template="{text}")) == "t.jsonl:1: several columns could be the answer: label, answer"
        " (say which with target: one of text, label, answer)"
    )
    assert (
        message_of(own, {"text": "x"}, spec(template="{text}"))
        == "t.jsonl:1: no column is the answer (say which with target: one of text)"
    )
    assert (
        message_of(read, FIVE["sentiment"], {"input": "x", "output": "positive"}, source(fields={"inputs": "input"}))
        == "t.jsonl:1: the task has no field 'inputs' (did you mean 'input'? allowed: input)"
    )


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("plain", "the template names no field ({name} stands for a column)"),
        ("{", "not a template: Single '{' encountered in format string ({{ and }} stand for braces)"),
        ("{}", "{} is not the name of a field ({name} and nothing else)"),
        ("{0}", "{0} is not the name of a field ({name} and nothing else)"),
        ("{a.b}", "{a.b} is not the name of a field ({name} and nothing else)"),
        ("{a!r:>5}", "{a!r:>5} is not the name of a field ({name} and nothing else)"),
    ],
)
def test_a_template_that_is_none(template: str, message: str) -> None:
    given = spec(template=template)
    assert message_of(own, {"a": "x", "label": "y"}, given) == f"datasets.tickets.template: {message}"


def test_template_fields_keep_their_order() -> None:
    assert template_fields("{{x}} {b c} {a} {b c}", "") == ("b c", "a")


def test_labels_that_are_no_choice() -> None:
    row = {"prompt": "x", "completion": "y"}
    assert message_of(own, row, spec(labels=("a", "a"))) == "datasets.tickets.labels: label 'a' stands twice"
    assert (
        message_of(own, row, spec(labels=("a",)))
        == "datasets.tickets.labels: 'a' alone is no choice (two labels or more)"
    )


# --- the five tasks, changed ---


def test_a_named_task_and_its_overrides() -> None:
    given = spec(task="sentiment", template={"q": "{input}?"}, shots=(1,), max_new_tokens=9, labels=("good", "bad"))
    task = named_task("mine", given)
    assert (task.name, list(task.prompts), task.shots, task.max_new_tokens) == ("sentiment", ["q"], (1,), 9)
    assert task.labels == ("good", "bad") and task.metrics == FIVE["sentiment"].metrics
    assert named_task("mine", spec(task="inference")) == FIVE["inference"]
    joined = with_overrides(FIVE["sentiment"], "mine", spec(answer_delimiter=""))
    assert {fmt.answer_delimiter for fmt in joined.prompts.values()} == {""}
    assert [fmt.template for fmt in joined.prompts.values()] == [f.template for f in FIVE["sentiment"].prompts.values()]


def test_overrides_that_contradict_the_task() -> None:
    assert (
        message_of(named_task, "mine", spec(task="sentimnt")) == "datasets.mine.task: unknown task 'sentimnt'"
        " (did you mean 'sentiment'? allowed: summarisation, question_generation, sentiment, paraphrase, inference)"
    )
    assert (
        message_of(named_task, "mine", spec(task="sentiment", template="{inputs}"))
        == "datasets.mine.template: task 'sentiment' has no field 'inputs' (did you mean 'input'? allowed: input)"
    )
    with pytest.raises(ExperimentError, match="free text and takes no labels"):
        named_task("mine", spec(task="summarisation", labels=("a", "b")))
    with pytest.raises(DataError):
        own({"x": 1})

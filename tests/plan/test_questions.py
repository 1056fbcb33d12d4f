"""What is kept of a sheet for the report: every prompt to the character, what is common to them once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from spillover.plan.questions import Question, Sheet, kept
from spillover.text.prompt import render
from spillover.text.task import FIVE, Example

TASK = FIVE["sentiment"]
texts = st.lists(st.text(st.characters(codec="utf-8"), max_size=20), min_size=1, max_size=5)


def sheet(inputs: list[str], shots: int) -> Sheet:
    demos = tuple(Example(100 + i, {"input": f"demonstration {i}"}, "positive") for i in range(shots))
    examples = [Example(i, {"input": text}, "negative") for i, text in enumerate(inputs)]
    fmt = TASK.prompts["p1"]
    rows = tuple(Question(example, render(fmt, demos, example), f"hash {example.doc_id}") for example in examples)
    return Sheet("shop", TASK, fmt, shots, 0, rows, demos, 5)


@given(inputs=texts, shots=st.integers(0, 3))
def test_the_two_parts_are_the_prompt(inputs: list[str], shots: int) -> None:
    made = sheet(inputs, shots)
    found = kept(made)
    assert {key: found["before"] + text for key, text in found["after"].items()} == {
        row.prompt_hash: row.text for row in made.questions
    }


def test_demonstrations_are_set_apart() -> None:
    found = kept(sheet(["one", "another"], shots=2))
    assert found["before"] == "".join(f"### Input:\ndemonstration {i}\n### Sentiment: positive\n\n" for i in (0, 1))
    assert found["after"]["hash 0"] == "### Input:\none\n### Sentiment: "
    assert (found["test_dataset"], found["prompt"], found["shots"], found["draw"]) == ("shop", "p1", 2, 0)
    assert kept(sheet(["one", "another"], shots=0))["before"] == ""

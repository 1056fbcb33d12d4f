"""Whether an answer in the model's own words says the same as the gold one."""

from __future__ import annotations

import pytest

from spillover.text.rewrite import asked, says_the_same
from spillover.text.task import Example, PromptFormat

GOLD = "The boat sank in 1912 near Newfoundland."


@pytest.mark.parametrize(
    ("said", "same"),
    [
        (GOLD, True),
        ("In 1912 the boat went down near Newfoundland, sadly.", True),
        ("In 1913 the boat sank near Newfoundland.", False),
        ("The boat sank near Newfoundland.", False),
        ("The boat sank in 1912 near Newfoundland, with 1500 people.", False),
        ("It was lost in 1912.", False),
        ("", False),
    ],
)
def test_the_numbers_are_the_same_and_half_of_the_words_are_there(said: str, same: bool) -> None:
    assert says_the_same(GOLD, said) is same


def test_the_prompt_holds_question_and_gold_answer() -> None:
    fmt = PromptFormat("p1", "Summary of {text}:")
    [prompt] = asked(fmt, [Example(0, {"text": "the log"}, "a wreck")], None)
    assert "Summary of the log:" in prompt and "a wreck" in prompt and prompt.endswith("### Response:\n")

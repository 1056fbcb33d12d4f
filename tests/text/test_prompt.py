"""Prompts, letter by letter: these strings are what models are trained on and scored on."""

from __future__ import annotations

from pathlib import Path

import pytest

from spillover.errors import DataError
from spillover.text.chat import ChatTemplate
from spillover.text.encode import Encoder
from spillover.text.prompt import delimiter, render
from spillover.text.task import FIVE, Example, PromptFormat

PAIR = {"input_1": "He runs.", "input_2": "He moves."}
ROWS: dict[str, tuple[Example, Example, Example]] = {
    "summarisation": (
        Example(0, {"input": "It rained."}, "Rain."),
        Example(1, {"input": "It snowed."}, "Snow."),
        Example(2, {"input": "The sun shone."}, "Sun."),
    ),
    "question_generation": (
        Example(0, {"input": "It rained.", "answer": "It"}, "What rained?"),
        Example(1, {"input": "Ann left.", "answer": "Ann"}, "Who left?"),
        Example(2, {"input": "Bob sang.", "answer": "Bob"}, "Who sang?"),
    ),
    "sentiment": (
        Example(0, {"input": "A joy."}, "positive"),
        Example(1, {"input": "A bore."}, "negative"),
        Example(2, {"input": "Great film."}, "positive"),
    ),
    "paraphrase": (
        Example(0, PAIR, "no"),
        Example(1, {"input_1": "Hi.", "input_2": "Hello."}, "yes"),
        Example(2, {"input_1": "Up.", "input_2": "Down."}, "no"),
    ),
    "inference": (
        Example(0, PAIR, "entailment"),
        Example(1, {"input_1": "Hi.", "input_2": "Hello."}, "neutral"),
        Example(2, {"input_1": "Up.", "input_2": "Down."}, "contradiction"),
    ),
}

GOLDEN: dict[tuple[str, str], tuple[str, str]] = {
    ("summarisation", "p1"): (
        "### Input:\nThe sun shone.\n### Summary: ",
        "### Input:\nIt rained.\n### Summary: Rain.\n\n### Input:\nIt snowed.\n### Summary: Snow.\n\n",
    ),
    ("summarisation", "p2"): (
        "Please read the following text:The sun shone.\nProvide a summary: ",
        "Please read the following text:It rained.\nProvide a summary: Rain.\n\n"
        "Please read the following text:It snowed.\nProvide a summary: Snow.\n\n",
    ),
    ("question_generation", "p1"): (
        "### Input:\nBob sang.\n### Answer:\nBob\n### Question: ",
        "### Input:\nIt rained.\n### Answer:\nIt\n### Question: What rained?\n\n"
        "### Input:\nAnn left.\n### Answer:\nAnn\n### Question: Who left?\n\n",
    ),
    ("question_generation", "p2"): (
        "Given the context:Bob sang.\nAnd the answer:Bob\nGenerate a suitable question: ",
        "Given the context:It rained.\nAnd the answer:It\nGenerate a suitable question: What rained?\n\n"
        "Given the context:Ann left.\nAnd the answer:Ann\nGenerate a suitable question: Who left?\n\n",
    ),
    ("sentiment", "p1"): (
        "### Input:\nGreat film.\n### Sentiment: ",
        "### Input:\nA joy.\n### Sentiment: positive\n\n### Input:\nA bore.\n### Sentiment: negative\n\n",
    ),
    ("sentiment", "p2"): (
        "Analyze the sentiment of the following text:Great film.\nSentiment: ",
        "Analyze the sentiment of the following text:A joy.\nSentiment: positive\n\n"
        "Analyze the sentiment of the following text:A bore.\nSentiment: negative\n\n",
    ),
    ("paraphrase", "p1"): (
        "### Input_1:\nUp.\n### Input_2:\nDown.\n### Paraphrase Classification: ",
        "### Input_1:\nHe runs.\n### Input_2:\nHe moves.\n### Paraphrase Classification: no\n\n"
        "### Input_1:\nHi.\n### Input_2:\nHello.\n### Paraphrase Classification: yes\n\n",
    ),
    ("paraphrase", "p2"): (
        "Let's compare the two sentences: Sentence_1:Up.\nSentence_2:Down.\nAre they paraphrasing?: ",
        "Let's compare the two sentences: Sentence_1:He runs.\nSentence_2:He moves.\nAre they paraphrasing?: no\n\n"
        "Let's compare the two sentences: Sentence_1:Hi.\nSentence_2:Hello.\nAre they paraphrasing?: yes\n\n",
    ),
    ("inference", "p1"): (
        "### Input_1:\nUp.\n### Input_2:\nDown.\n### Inference: ",
        "### Input_1:\nHe runs.\n### Input_2:\nHe moves.\n### Inference: entailment\n\n"
        "### Input_1:\nHi.\n### Input_2:\nHello.\n### Inference: neutral\n\n",
    ),
    # This template ends in a space itself, so none is added.
    ("inference", "p2"): (
        "Consider the following texts: Text 1:Up.\nText 2:Down.\nThe relation is ",
        "Consider the following texts: Text 1:He runs.\nText 2:He moves.\nThe relation is entailment\n\n"
        "Consider the following texts: Text 1:Hi.\nText 2:Hello.\nThe relation is neutral\n\n",
    ),
}


@pytest.mark.parametrize(("task", "prompt"), GOLDEN)
def test_prompts_of_the_five_tasks(task: str, prompt: str) -> None:
    """Up to the first character of the answer: the query, and two demonstrations with it."""
    fmt = FIVE[task].prompts[prompt]
    *demos, row = ROWS[task]
    query, shown = GOLDEN[task, prompt]
    assert render(fmt, [], row) == query
    assert render(fmt, demos, row) == shown + query


def test_every_prompt_of_the_five_tasks_is_written_out_here() -> None:
    assert set(GOLDEN) == {(task.name, prompt) for task in FIVE.values() for prompt in task.prompts}


@pytest.mark.parametrize(
    ("template", "answer_delimiter", "text"),
    [
        ("{x}?", None, "q? "),
        ("{x}? ", None, "q? "),
        ("{x}?\n", None, "q?\n"),
        ("{x}?\t", None, "q?\t"),
        ("{x}?", "", "q?"),
        ("{x}?\n", " ", "q?\n "),
        ("{x}?", "\n-> ", "q?\n-> "),
    ],
)
def test_what_joins_prompt_and_answer(template: str, answer_delimiter: str | None, text: str) -> None:
    """One space, none after white space; and whatever the format says, verbatim."""
    fmt = PromptFormat("mine", template, answer_delimiter)
    row = Example(0, {"x": "q"}, "a")
    assert render(fmt, [], row) == text
    assert render(fmt, [row], row) == f"{text}a\n\n{text}", "alike in demonstrations"


def test_an_empty_prompt_is_joined_by_nothing() -> None:
    assert delimiter(PromptFormat("mine", "{x}"), "") == ""


def test_the_delimiter_is_decided_row_by_row() -> None:
    """By the text as it is, not by the template."""
    fmt = PromptFormat("mine", "{x}")
    assert render(fmt, [Example(0, {"x": "a\n"}, "1")], Example(1, {"x": "b"}, "2")) == "a\n1\n\nb "


def test_another_separator_between_demonstrations() -> None:
    fmt = PromptFormat("mine", "{x}:", demo_separator="\n---\n")
    rows = [Example(i, {"x": str(i)}, "a") for i in range(3)]
    assert render(fmt, rows[:2], rows[2]) == "0: a\n---\n1: a\n---\n2: "


def test_braces_in_a_row_are_text() -> None:
    assert render(PromptFormat("mine", "{x}:"), [], Example(0, {"x": "{y} {0} {{"}, "a")) == "{y} {0} {{: "


def test_a_missing_field_names_the_row_and_what_there_is() -> None:
    with pytest.raises(DataError) as caught:
        render(FIVE["inference"].prompts["p1"], [], Example(41, {"input": "x"}, "neutral"))
    assert str(caught.value) == "prompt format 'p1' cannot be filled from row 41: KeyError('input_1') (fields: input)"


CHAT = PromptFormat("chat", "Sentiment of: {input}", chat=True)
SYSTEM = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"


def test_a_chat_format_goes_through_the_tokenizers_own_template(smollm2: Path) -> None:
    """Demonstrations are earlier turns; the text ends where the assistant's answer begins."""
    demo, _, row = ROWS["sentiment"]
    template = Encoder.load(smollm2).chat_template
    assert render(CHAT, [demo], row, template) == (
        SYSTEM + "<|im_start|>user\nSentiment of: A joy.<|im_end|>\n<|im_start|>assistant\npositive<|im_end|>\n"
        "<|im_start|>user\nSentiment of: Great film.<|im_end|>\n<|im_start|>assistant\n"
    )


def test_earlier_turns_of_a_conversation() -> None:
    """The row's system turn leads, demonstrations follow, then the row's own turns; without chat, a text of blocks."""
    demo = Example(0, {"input": "A joy."}, "positive", (("system", "Be rude."), ("user", "Hi"), ("assistant", "Ho")))
    row = Example(
        1, {"input": "A bore."}, "negative", (("system", "Be brief."), ("user", "Hello"), ("assistant", "Yes?"))
    )
    listed = ChatTemplate("{% for m in messages %}{{ m.role }}: {{ m.content }}{{ '|' if not loop.last }}{% endfor %}")
    seen = render(CHAT, [demo], row, listed)
    assert seen.split("|") == [
        "system: Be brief.",
        "user: Hi",
        "assistant: Ho",
        "user: Sentiment of: A joy.",
        "assistant: positive",
        "user: Hello",
        "assistant: Yes?",
        "user: Sentiment of: A bore.",
    ]
    assert render(PromptFormat("plain", "{input}:"), [], row) == "Be brief.\n\nHello\n\nYes?\n\nA bore.: "


def test_a_chat_format_needs_a_chat_template() -> None:
    with pytest.raises(DataError, match="'chat' needs a chat template"):
        render(CHAT, [], ROWS["sentiment"][0])

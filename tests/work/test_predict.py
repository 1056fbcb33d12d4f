"""From rows to requests and from answers to predictions, on the real tokenizer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from spillover.engine.port import Answer
from spillover.errors import PromptError
from spillover.plan.questions import Question, Sheet, requests_for
from spillover.text.encode import Encoder
from spillover.text.request import Request
from spillover.text.task import FIVE, Example
from spillover.work.predict import of_answer, of_row, prediction

ASKED = Request((1, 2), ((5, 6), (7,)))  # two labels, of two tokens and of one


def sheet(task: str, prompt: str = "p1", **fields: str) -> Sheet:
    fmt = FIVE[task].prompts[prompt]
    example = Example(3, fields, "positive")
    text = fmt.template.format(**fields) + ("" if fmt.template.endswith(" ") else " ")
    return Sheet("t", FIVE[task], fmt, 0, 0, (Question(example, text, "hash"),), (), 5)


def test_classification_asks_for_every_label_and_a_look_at_what_the_model_would_say(smollm2: Path) -> None:
    encoder = Encoder.load(smollm2)
    one = sheet("sentiment", input="good")
    (request,) = requests_for(one, one.questions, encoder)
    assert encoder.decode(request.prompt) == "### Input:\ngood\n### Sentiment:"
    assert [encoder.decode(option) for option in request.options] == [" positive", " negative"]
    assert request.max_new_tokens > max(len(option) for option in request.options)
    assert request.reach == len(request.prompt) + request.max_new_tokens


def test_a_template_that_ends_in_a_space_gives_the_space_to_the_answer(smollm2: Path) -> None:
    encoder = Encoder.load(smollm2)
    one = sheet("inference", "p2", input_1="a", input_2="b")
    (request,) = requests_for(one, one.questions, encoder)
    assert encoder.decode(request.prompt).endswith("The relation is")
    assert [encoder.decode(option) for option in request.options] == [" entailment", " neutral", " contradiction"]


def test_the_response_is_the_label_with_the_highest_whole_log_probability() -> None:
    one = sheet("sentiment", input="good")
    answer = Answer(logprobs=((-1.0, -3.0), (-2.0,)), top=7)
    row = prediction(one, one.questions[0], ASKED, answer, lambda ids: "")
    assert row["response"] == "negative"
    assert row["logprobs"] == {"positive": -4.0, "negative": -2.0}
    assert row["logprobs_first"] == {"positive": -1.0, "negative": -2.0}
    assert row["logprobs_norm"] == {"positive": -2.0, "negative": -2.0}
    assert row["free"] is None
    assert (row["doc_id"], row["target"], row["doc"]) == (3, "positive", {"input": "good"})


def test_labels_with_the_same_first_token_have_the_same_probability_of_it() -> None:
    """In passes of their own the last digit differs, and an arg-max over first tokens would pick by that."""
    one = sheet("sentiment", input="good")
    request = Request((1, 2), ((5, 6), (5, 7)))
    row = prediction(one, one.questions[0], request, Answer(((-1.0, -3.0), (-0.9999999, -2.0)), top=5), lambda ids: "")
    assert row["logprobs_first"] == {"positive": -1.0, "negative": -1.0}
    assert row["logprobs"] == {"positive": -4.0, "negative": -2.9999999}


def test_what_a_classification_model_would_have_said_is_kept() -> None:
    one = sheet("sentiment", input="good")
    answer = Answer(((-1.0,), (-2.0,)), 7, generated=(1, 2))
    row = prediction(one, one.questions[0], ASKED, answer, lambda ids: " The text is\n\nmore")
    assert (row["response"], row["free"]) == ("positive", "The text is")


def test_generation_keeps_the_text_up_to_the_blank_line() -> None:
    one = sheet("summarisation", input="x")
    answer = Answer((), 7, generated=(1,))
    row = prediction(one, one.questions[0], Request((1,)), answer, lambda ids: " A short line.\n\n### Input:")
    assert row["response"] == "A short line." and "off_format" not in row  # which is for metrics to decide


@pytest.mark.parametrize(
    ("stop", "stops", "text", "said", "ended"),
    [
        (("\n",), True, " one\ntwo", "one", "stop"),
        (("\n",), True, " one", "one", "limit"),  # as the engine says
        (("\n",), False, "\n one\ntwo", "one", "stop"),  # decoded to the limit, and cut all the same
        ((), True, " one\n\ntwo", "one\n\ntwo", "limit"),
    ],
)
def test_an_answer_is_cut_at_its_stops_and_says_how_it_ended(
    stop: tuple[str, ...], stops: bool, text: str, said: str, ended: str
) -> None:
    one = replace(sheet("summarisation", input="x"), stop=stop, stops=stops)
    row = prediction(one, one.questions[0], Request((1,)), Answer((), 7, (1,), "limit"), lambda ids: text)
    assert (row["response"], row["ended"]) == (said, ended)


def test_references_are_stored_where_there_are_several_and_belong_to_the_row_that_asks() -> None:
    one = sheet("summarisation", input="x")
    several = replace(one.questions[0].example, target="a", references=("a", "b"))
    row = prediction(one, replace(one.questions[0], example=several), Request((1,)), Answer((), 7, (1,)), lambda _: "b")
    assert (row["target"], row["references"], row["response"]) == ("a", ["a", "b"], "b")
    assert "references" not in {**of_row(one.questions[0].example), **of_answer(row)}


def test_a_prompt_longer_than_the_model_is_refused_with_its_row(smollm2: Path) -> None:
    encoder = Encoder.load(smollm2)
    one = sheet("sentiment", input="word " * 9000)
    with pytest.raises(PromptError, match=r"row 3 at 0 shots .*\b9\d\d\d\b.*\b8,?192\b"):
        requests_for(one, one.questions, encoder)

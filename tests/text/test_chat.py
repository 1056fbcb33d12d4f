"""Chat templates: where an answer ends, whether our text is the template's, and templates that never come to an end."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
from chattemplates import CHATML, GEMMA, GLM, ID, LLAMA3, NO_GENERATION_PROMPT, QWEN3, R1, WORDS_ONLY, chat_model

from spillover.errors import DataError, PromptError
from spillover.text import chat, renderer
from spillover.text.chat import ChatTemplate
from spillover.text.encode import Encoder
from spillover.text.prompt import render_all
from spillover.text.samples import build_samples
from spillover.text.task import Example, PromptFormat

ONE_TURN = "{% if messages | length > 2 %}{{ raise_exception('one turn only') }}{% endif %}" + CHATML
NEEDS_SYSTEM = "{% if messages[0].role != 'system' %}{{ raise_exception('a system text') }}{% endif %}" + CHATML

ASK = [{"role": "user", "content": "Hi"}]
CHAT = PromptFormat("chat", "{x}", chat=True)
PLAIN = PromptFormat("p1", "{x}:")
ROWS = [Example(number, {"x": f"one fish {number}"}, "two fish") for number in range(3)]


def text_of(source: str) -> str:
    [text] = ChatTemplate(source).texts([ASK])
    return text


# --- where an answer ends -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "end"),
    [
        (CHATML, "<|im_end|>"),
        (QWEN3, "<|im_end|>"),
        (LLAMA3, "<|eot_id|>"),
        (GEMMA, "<end_of_turn>"),
        (R1, "</s>"),
        (GLM, "<|user|>"),
        (ONE_TURN, "<|im_end|>"),
        (NEEDS_SYSTEM, "<|im_end|>"),
        (WORDS_ONLY, "</s>"),
        ("{{ raise_exception('never') }}", "</s>"),
        (None, "</s>"),
    ],
)
def test_the_end_of_a_turn_is_what_the_template_writes_after_an_answer(
    tmp_path: Path, template: str | None, end: str
) -> None:
    encoder = Encoder.load(chat_model(tmp_path / "m", template))
    assert encoder.eos_ids == {ID["</s>"], ID[end]}
    assert (encoder.end_of(chat=False), encoder.end_of(chat=True)) == (ID["</s>"], ID[end])


def test_end_tokens_are_those_of_all_files(tmp_path: Path) -> None:
    folder = chat_model(tmp_path / "m")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [6, 7]}))
    (folder / "config.json").write_text(json.dumps({"eos_token_id": 5}))
    before = Encoder.load(folder)
    assert before.eos_ids == {2, 4, 5, 6, 7}
    (folder / "config.json").write_text(json.dumps({"eos_token_id": 5, "text_config": {"eos_token_id": 8}}))
    after = Encoder.load(folder)
    assert after.eos_ids == {2, 4, 5, 6, 7, 8}
    assert before.identity != after.identity  # so that what was answered with other end tokens is answered again


@pytest.mark.parametrize(("tokens", "eos"), [({}, "<|eot_id|>"), ({"added_tokens_decoder": {}}, "</s>")])
def test_both_files_of_a_tokenizer_name_end_tokens_and_the_first_is_that_of_transformers(
    tmp_path: Path, tokens: dict[str, object], eos: str
) -> None:
    folder = chat_model(tmp_path / "m", None)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **tokens}))
    (folder / "special_tokens_map.json").write_text(json.dumps({"eos_token": {"content": "<|eot_id|>"}}))
    encoder = Encoder.load(folder)
    assert encoder.eos_ids == {ID["</s>"], ID["<|eot_id|>"]} and encoder.eos_id == ID[eos]


def test_samples_demonstrations_and_generation_end_in_one_token(tmp_path: Path) -> None:
    """A chat sample ends as the template ends it, a plain one in the tokenizer's end token."""
    encoder = Encoder.load(chat_model(tmp_path / "m", LLAMA3))
    chat_samples, plain = (
        build_samples(fmt, ROWS[:1], ROWS[1:], encoder, 400, "error", "here").samples for fmt in (CHAT, PLAIN)
    )
    assert [sample.ids[-1] for sample in chat_samples] == [ID["<|eot_id|>"]] * 2
    assert [sample.ids.count(ID["<|eot_id|>"]) for sample in chat_samples] == [4, 4]  # two turns of each kind
    assert [sample.ids[-1] for sample in plain] == [ID["</s>"]] * 2
    template = encoder.chat_template
    assert template
    whole = [{"role": role, "content": text} for row in (0, 1) for role, text in _turns(ROWS[row])]
    [theirs] = template.texts([whole], answered=True)
    assert chat_samples[0].ids == encoder.text_ids(theirs, chat=True)


def _turns(row: Example) -> list[tuple[str, str]]:
    return [("user", row.fields["x"]), ("assistant", row.target)]


# --- whether a text is the template's -------------------------------------------------------------------


def differences(folder: Path, template: str, answer: str = "two fish", **kwargs: object) -> list[tuple[str, str]]:
    encoder = Encoder.load(chat_model(folder, template), kwargs)
    assert encoder.chat_template
    prompts = encoder.chat_template.texts([ASK])
    end = encoder.tokenizer.decode([encoder.turn_end], skip_special_tokens=False)
    return [*encoder.chat_template.differences([ASK], prompts, [answer], end).values()]


@pytest.mark.parametrize("template", [CHATML, LLAMA3, GEMMA, GLM])
def test_an_ordinary_template_writes_the_same(tmp_path: Path, template: str) -> None:
    assert differences(tmp_path / "m", template) == []


def test_an_empty_thinking_block_before_answers(tmp_path: Path) -> None:
    [(ours, theirs)] = differences(tmp_path / "m", QWEN3)
    assert ours.endswith("<|im_start|>assistant\ntwo fish<|im_end|>")
    assert "<|im_start|>assistant\n<think>\n\n</think>\n\ntwo" in theirs
    assert differences(tmp_path / "off", QWEN3, enable_thinking=False) == []
    assert differences(tmp_path / "on", QWEN3, enable_thinking=True) != []


def test_a_prompt_that_ends_in_a_thinking_block(tmp_path: Path) -> None:
    [(ours, theirs)] = differences(tmp_path / "m", R1)
    assert "<think>\ntwo fish" in ours and "<|im_start|>two fish</s>" in theirs


def test_a_template_that_ignores_the_generation_prompt(tmp_path: Path) -> None:
    [(ours, theirs)] = differences(tmp_path / "m", NO_GENERATION_PROMPT)
    assert ours.endswith("Hi<|im_end|>\ntwo fish<|im_end|>") and "<|im_start|>assistant\n" in theirs


def test_an_answer_that_the_template_strips(tmp_path: Path) -> None:
    [(ours, theirs)] = differences(tmp_path / "m", GEMMA, " two fish ")
    assert "model\n two fish" in ours and "model\ntwo fish" in theirs


def test_a_text_after_the_answer_that_is_no_end_token(tmp_path: Path) -> None:
    [(ours, theirs)] = differences(tmp_path / "m", WORDS_ONLY)
    assert ours.endswith("two fish</s>") and theirs.endswith("two fish\n")


def test_what_is_shown_of_a_long_text_is_short() -> None:
    found = chat.Difference.of("x" * 9000 + "a" * 9000, "x" * 9000 + "b" * 9000)
    assert found == ("x" * chat.AROUND + "a" * chat.AROUND, "x" * chat.AROUND + "b" * chat.AROUND)


def test_the_values_that_a_template_takes() -> None:
    source = (
        "{{ bos_token }}{% if tools %}{% endif %}{% for m in messages %}{{ m }}{{ add_generation_prompt }}{% endfor %}"
    )
    assert ChatTemplate(source).variables == ()
    assert ChatTemplate(source + "{% if enable_thinking %}{{ date }}{% endif %}").variables == (
        "date",
        "enable_thinking",
    )
    assert ChatTemplate("{% if %}").variables == ()


# --- templates that fail ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("{{ 1 + 'a' }}", "TypeError"),
        ("{{ 'a' | int(base=99) / 0 }}", "ValueError|ZeroDivisionError|TypeError"),
        ("{{ '%c' | format('ab') }}", "TypeError"),
        ("{{ nobody.name.first }}", "UndefinedError"),
        ("{% include 'x' %}", "loader"),
        ("{% import 'x' as y %}", "loader"),
        ("{% extends 'x' %}", "loader"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "Recursion"),
        ("{% if %}", "TemplateSyntaxError"),
        ("{{ raise_exception('only two roles') }}", "fails: only two roles$"),
        ("{{ messages.append(1) }}", "SecurityError"),
        ("{{ ''.__class__.__mro__ }}", "SecurityError"),
        ("{{ 'x' * 10 ** 11 }}", "memory"),
        ("{{ '%99999999999d' % 1 }}", "memory"),
        ("{{ 'x' | center(10 ** 11) }}", "memory"),
        ("{{ 'x' * 2 ** 25 }}", "33,554,432 characters"),
        ("{{ 10 ** 9999 }}", "ValueError"),
    ],
)
def test_whatever_a_template_does_wrong_is_one_line(source: str, says: str) -> None:
    with pytest.raises(PromptError, match=says) as caught:
        text_of(source)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300
    assert text_of("{{ messages[0].content }}") == "Hi"  # the next template is rendered as ever


ENDLESS = [
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{{ (7 ** (10 ** 9)) % 7 }}",  # one step in C
    "{% for i in range(99999) %}{{ lipsum(n=999) }}{% endfor %}",
]


@pytest.mark.parametrize("source", ENDLESS)
def test_a_template_without_end_is_stopped(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renderer, "SECONDS", 1)
    chat._RENDERER.stop()
    began = time.monotonic()
    with pytest.raises(PromptError, match="longer than 1 seconds"):
        text_of(source)
    assert time.monotonic() - began < 8
    again = time.monotonic()
    with pytest.raises(PromptError, match="longer than 1 seconds"):  # it is not tried twice
        text_of(source)
    assert time.monotonic() - again < 0.5
    chat._RENDERER.stop()


def test_errors_name_the_row() -> None:
    template = ChatTemplate("{% if 'fish 2' in messages[0].content %}{{ 1 / 0 }}{% endif %}{{ messages[0].content }}")
    assert render_all(CHAT, [], ROWS[:2], template) == ["one fish 0", "one fish 1"]
    with pytest.raises(PromptError, match=r"^row 2: .*ZeroDivisionError"):
        render_all(CHAT, [], ROWS, template)
    with pytest.raises(DataError, match="needs a chat template"):
        render_all(CHAT, [], ROWS)


def test_rows_keep_their_order_over_several_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "AT_ONCE", 2)
    texts = ChatTemplate("{{ messages[0].content }}").texts([[{"role": "user", "content": str(n)}] for n in range(7)])
    assert texts == [str(n) for n in range(7)]


def test_a_process_that_was_killed_is_an_error_and_the_next_text_is_right() -> None:
    assert text_of("{{ messages[0].content }}") == "Hi"
    process = chat._RENDERER._process
    assert process
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with pytest.raises(PromptError, match="ended with code -9"):
        text_of("{{ messages[0].content }}")
    assert text_of("{{ messages[0].content }}") == "Hi"


def test_what_was_interrupted_is_no_answer_to_the_next_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C between a task and its answer."""

    def interrupted(line: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("spillover.text.chat.json.loads", interrupted)
        with pytest.raises(KeyboardInterrupt):
            text_of("first")
    assert text_of("second") == "second"


@pytest.mark.parametrize("template", [CHATML, LLAMA3, WORDS_ONLY], ids=["chatml", "llama3", "words"])
@pytest.mark.parametrize("begun", ["The answer is", "The answer is ", "  \nThe"])
def test_a_message_is_continued_where_transformers_continues_it(template: str, begun: str) -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    messages = [{"role": "user", "content": " Why? "}, {"role": "assistant", "content": begun}]
    [theirs], _ = render_jinja_template(
        [messages], chat_template=template, continue_final_message=True, bos_token="<s>"
    )
    assert ChatTemplate(template, {"bos_token": "<s>"}).continued(messages) == theirs


def test_a_message_that_the_template_leaves_out_is_not_continued() -> None:
    with pytest.raises(PromptError, match="does not write"):
        ChatTemplate("{{ messages[0].content }}").continued([{"role": "user", "content": "a"}] * 2)

"""Words in any script, against the tokens that published ROUGE scores were computed with."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.tokenize import tokenize

from spillover.text.words import plain, with_spaces, words


@given(st.text(st.characters(max_codepoint=127), max_size=200))
def test_ascii_words_are_those_of_rouge_score(text: str) -> None:
    assert words(text) == tokenize(text, None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Кот, СИДИТ.", ["кот", "сидит"]),
        ("naïve Café_au 3.5", ["naïve", "café", "au", "3", "5"]),
        ("हिन्दी में लिखा है।", ["हिन्दी", "में", "लिखा", "है"]),
        ("می\u200cخواهم، بله", ["می\u200cخواهم", "بله"]),
        ("猫が座る。AI技術", ["猫", "が", "座", "る", "ai", "技", "術"]),
        ("น้ำดี", ["น้", "ำ", "ดี"]),
        ("한국어 문장", ["한국어", "문장"]),
        ("Straße", ["strasse"]),
        ("?! 😀 —", []),
    ],
)
def test_words_by_hand(text: str, expected: list[str]) -> None:
    assert words(text) == expected
    assert words(f" {text}\n") == expected


@given(st.text(st.characters(max_codepoint=0x24F), max_size=200))
def test_european_letters_take_no_other_way(text: str) -> None:
    """A Chinese character at the end sends the text through the general rule."""
    assert [*words(text), "猫"] == words(f"{text} 猫")


@given(st.text(max_size=60))
def test_spaces_and_the_form_of_characters_change_no_word(text: str) -> None:
    assert words(plain(text)) == words(text)
    assert words(with_spaces(text)) == words(text)

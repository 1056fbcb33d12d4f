"""One label in several spellings, and two labels that only look alike."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillover.text.labels import LISTED, Labels, form, listed

SAME = [
    ("1", "1.0", " 1 ", "1.", "+1", "1e0", "1.000"),
    ("0", "0.0", "-0", "-0.0"),
    ("true", "True", "TRUE\n"),
    ("not sure", "Not  sure", " NOT\tSURE "),
    ("é", "e\u0301", "É"),
    ("straße", "STRASSE"),
    ("0.5", "0.50", "5e-1"),
    ("-1", "\u22121", "\u20131", "\uff0d\uff11", "-1.0"),
    ("non-toxic", "non\u2011toxic", "Non\u2013Toxic", "non\u00ad-toxic"),
    ("don't know", "don\u2019t know", "don\u02bct\u00a0know"),
    ("yes", "yes\u200b", "\ufeffyes", "\uff39\uff25\uff33", "\u200eyes\u2060"),
    ("\u2764", "\u2764\ufe0f"),
    ("\u30ac", "\uff76\uff9e"),
]


@pytest.mark.parametrize("spellings", SAME, ids=lambda spellings: spellings[0])
def test_spellings_of_one_label(spellings: tuple[str, ...]) -> None:
    assert len({form(spelling) for spelling in spellings}) == 1


def test_what_differs_in_more_is_another_label() -> None:
    different = ["1", "01", "1.1", "-1", "10", "true", "yes", "non-toxic", "non toxic", "toxic", "", "1e999", "1,0"]
    different += [
        "\u0645\u06cc\u200c\u0634\u0648\u062f",
        "\u0645\u06cc\u0634\u0648\u062f",
        "x\u00b2",
        "x2",
        "\u0430",
        "a",
    ]
    different += [f"0.{'3' * 28}1", f"0.{'3' * 28}2"]  # numbers are not rounded
    assert len({form(label) for label in different}) == len(different)


@given(st.text(max_size=30))
def test_the_form_of_a_form_is_itself(label: str) -> None:
    assert form(form(label)) == form(label)
    assert form(f" {unicodedata.normalize('NFD', label)}\n") == form(label)


def test_a_label_letter_for_letter_goes_before_one_of_the_same_form() -> None:
    assert Labels((" yes", "no")).find(" yes") == Labels((" yes", "no")).find("Yes") == " yes"
    assert Labels(("Yes", "yes")).find("yes") == "yes"
    assert Labels(("yes", "no")).find("maybe") is None


def test_two_labels_alike_are_named() -> None:
    assert Labels(("1", "0", "1.0", "0.0")).alike() == ("1", "1.0")
    assert Labels(("1", "0", "01")).alike() is None


def test_a_list_for_a_message_stays_short() -> None:
    assert listed(["a", "b c"]) == "'a', 'b c'"
    assert len(listed(["x" * 10_000] * 10_000)) < 50 * LISTED

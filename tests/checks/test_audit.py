"""The audit on sets made by hand: one defect each, with the rows that have it; and the search for near duplicates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from audits import defects
from hypothesis import given
from hypothesis import strategies as st
from prose import tells

from spillover import checks
from spillover.checks.audit import Audited, audit
from spillover.checks.defects import DAMAGE, Defect, options, uneven
from spillover.checks.kinds import KINDS
from spillover.data.alike import NORMALISERS, RowSet, clusters, leaking, near_rows
from spillover.data.load import load_untouched
from spillover.data.nearly import MIN_WORDS, NEAR, NGRAM, Coded, components, near_pairs
from spillover.data.sources import Places
from spillover.experiment.suite import DatasetSpec
from spillover.text.task import FIVE, Example, Task
from spillover.text.words import words

PAIRS, QUESTIONS, REVIEWS = FIVE["paraphrase"], FIVE["question_generation"], FIVE["sentiment"]
TOWNS = [f"Town{i}" for i in range(16)]


def pair(doc_id: int, first: str, second: str, target: str = "yes") -> Example:
    return Example(doc_id, {"input_1": first, "input_2": second}, target)


def review(doc_id: int, text: str, target: str = "positive") -> Example:
    return Example(doc_id, {"input": text}, target)


def question(doc_id: int, context: str, answer: str, target: str) -> Example:
    return Example(doc_id, {"input": context, "answer": answer}, target)


def travel(doc_id: int, town: str, season: str = "spring") -> Example:
    return review(doc_id, f"We went to {town} last {season} and liked the old harbour of {town} very much")


def test_set(rows: Sequence[Example], task: Task = REVIEWS, scored: Sequence[int] = ()) -> RowSet:
    return RowSet("mine", "test", task, rows, scored=frozenset(scored))


def train_set(rows: Sequence[Example], task: Task = REVIEWS, requested: int | None = None) -> RowSet:
    return RowSet("mine", "train", task, rows, requested)


test_set.__test__ = False  # type: ignore[attr-defined]


def audit_of(*lists: RowSet) -> list[Audited]:
    return audit(lists, lambda texts: [len(text.split()) for text in texts])


def one(found: list[Audited], name: str, kind: str) -> Defect:
    (defect,) = defects(found, name, kind)
    return defect


def kinds(found: list[Audited]) -> set[str]:
    return {defect.kind for audited in found for defect in audited.defects}


# --- between lists --------------------------------------------------------------------------------


def test_a_sound_data_set_has_no_defect() -> None:
    test, train = [travel(i, town) for i, town in enumerate(TOWNS[:6])], [travel(i, t) for i, t in enumerate(TOWNS[6:])]
    for rows in (test, train):
        rows[0] = replace(rows[0], target="negative")
    assert kinds(audit_of(test_set(test), train_set(train))) == set()


def test_training_rows_in_the_test_set_are_found_under_each_normaliser() -> None:
    train = [travel(0, "Paris"), travel(1, "Rome"), review(2, "Good."), travel(3, "Lima")]
    test = [
        travel(10, "Paris"),
        review(11, train[1].fields["input"].upper()),
        review(12, "Good!"),  # too short to be the same without its punctuation
        review(13, train[3].fields["input"].replace(" and", ", and") + "!"),
        travel(14, "Cairo"),
    ]
    found = one(audit_of(test_set(test, scored=[13, 14]), train_set(train, requested=4)), "mine test", "duplicate")
    assert found.rows == (10, 11, 13) and found.of == 5 and found.against == "mine train 4"
    assert found.figures["by"] == {"raw": 1, "lower": 2, "words": 3}
    assert tells(found.line("test rows"), "3 of 5 test rows", "training rows of mine", "4", "1", "2")
    assert found.level == "warning" and tells(found.example, "row 0")


def test_a_leak_that_touches_no_scored_row_is_a_note() -> None:
    lists = test_set([travel(0, "Paris"), travel(1, "Rome")], scored=[1]), train_set([travel(7, "Paris")])
    assert one(audit_of(*lists), "mine test", "duplicate").level == "note"


def test_nearly_the_same_is_eight_tenths_of_the_word_trigrams() -> None:
    """21 words have 19 trigrams. With another last word 18 of 20 are shared, with another in the middle 16 of 22."""
    letters = [f"w{i}" for i in range(21)]
    train = train_set([review(0, " ".join(letters))])
    last, middle = [*letters[:-1], "other"], [*letters[:10], "other", *letters[11:]]
    test = test_set([review(0, " ".join(last)), review(1, " ".join(middle))])
    assert one(audit_of(test, train), "mine test", "near_duplicate").rows == (0,)
    assert 18 / 20 >= NEAR > 16 / 22


def test_rows_that_share_a_sentence_alone_or_through_others() -> None:
    def sentence(town: str) -> str:
        return f"The train to {town} leaves at noon"

    a, b, c, d, e, f = map(sentence, TOWNS[:6])
    train = [pair(0, a, b), pair(1, c, sentence("Leeds"))]
    test = [
        pair(0, a.upper(), d),  # shares one
        pair(1, a, c),  # both, of two rows
        pair(2, d, e),  # connected through row 0
        pair(3, f, sentence("Ghent")),
        pair(4, "Yes.", sentence("Basel")),  # short: "Yes." is in two places by chance
        pair(5, "Yes.", sentence("Kyoto")),
    ]
    found = audit_of(test_set(test, PAIRS, scored=[0]), train_set(train, PAIRS))
    inside, across = defects(found, "mine test", "shared_field", "")[::-1]
    assert (inside.rows, inside.figures) == ((0, 1, 2), {"components": 1, "largest": 3})
    assert (across.rows, across.against, across.level) == ((0, 1), "mine train", "warning")
    assert across.figures["by"] == {"raw": 1, "lower": 2, "words": 2}
    assert across.figures["every_field"] == {"raw": 1, "lower": 1, "words": 1}
    assert across.figures["connected"] == 3


def test_a_field_that_hardly_differs_tells_nothing() -> None:
    """An instruction that all rows share is no leak and connects nothing."""
    task = replace(PAIRS, fields=("instruction", "text"))
    order = "Say whether the two sentences mean the same thing"
    rows = [
        Example(i, {"instruction": order, "text": f"Number {i} came by way of {TOWNS[i % 16]} and {i}"}, "yes")
        for i in range(60)
    ]
    test, train = RowSet("mine", "test", task, rows[:30]), RowSet("mine", "train", task, rows[30:])
    assert "shared_field" not in kinds(audit_of(test, train))
    assert clusters(test) == list(range(30))


def test_targets_that_stand_in_the_training_targets() -> None:
    def asks(doc_id: int, n: int, target: str) -> Example:
        return question(doc_id, f"{TOWNS[n]} was visited by person number {n}", "yes", target)

    train = [asks(i, i, text) for i, text in enumerate(["What will they do next?", "Why?", "How do they feel now?"])]
    test = [asks(0, 5, "what will they do next"), asks(1, 6, "Why?"), asks(2, 7, "Who would go there again?")]
    found = one(
        audit_of(test_set(test, QUESTIONS, scored=[0]), train_set(train, QUESTIONS)), "mine test", "shared_target"
    )
    assert found.rows == (0,) and found.level == "warning"  # "Why?" is too short to have been learnt by heart
    assert found.figures == {
        "by": {"raw": 0, "lower": 0, "words": 1},
        "distinct_targets": {"raw": 3, "lower": 3, "words": 3},
    }
    assert tells(found.what, "3 different targets of training rows", "0 letter for letter", "1 if punctuation")
    labels = [review(0, "one"), review(1, "two")]
    assert "shared_target" not in kinds(audit_of(test_set(labels), train_set([review(5, "three")])))


def test_demonstrations_among_test_rows_and_training_rows() -> None:
    demos = RowSet("mine", "demos", REVIEWS, [travel(0, "Oslo"), replace(travel(1, "Lima"), target="negative")])
    test = test_set([travel(4, "Oslo"), travel(5, "Rome")], scored=[4])
    small, large = (
        train_set([travel(0, "Lima")], requested=1),
        train_set([travel(0, "Oslo"), travel(1, "Lima")], requested=2),
    )
    found = audit_of(test, demos, small, large)
    shown = defects(found, "mine test", "duplicate", "mine demos")[0]
    assert (shown.rows, shown.level) == ((4,), "warning")
    assert defects(found, "mine demos", "duplicate", "mine train 1")[0].rows == (1,)
    assert defects(found, "mine demos", "duplicate", "mine train 2")[0].rows == (0, 1)


# --- within a list --------------------------------------------------------------------------------


def test_duplicates_within_a_list_and_the_labels_they_contradict() -> None:
    rows = [travel(0, "Paris"), replace(travel(1, "Paris"), target="negative"), travel(2, "Rome"), review(3, "")]
    found = one(audit_of(test_set([*rows, review(4, " ")])), "mine test", "duplicate")
    assert found.rows == (0, 1)  # rows of nothing are empty, not duplicates
    assert found.figures["conflicting"] == 2
    assert tells(found.what, "more than once", "2", "different targets")


def test_labels_outside_the_list_and_labels_that_never_occur() -> None:
    found = audit_of(test_set([travel(0, "Paris"), replace(travel(1, "Rome"), target="-")]))
    assert one(found, "mine test", "label_outside").rows == (1,)
    assert one(found, "mine test", "label_outside").figures == {"labels": {"-": 1}}
    assert one(found, "mine test", "label_absent").figures["absent"] == ["negative"]
    assert tells(one(found, "mine test", "label_absent").what, "macro-F1", "0.50")
    learnt = one(audit_of(train_set([travel(0, "Paris")])), "mine train", "label_absent").what
    assert tells(learnt, "label 'negative'") and "macro-F1" not in learnt  # a score of test rows


def test_a_label_in_another_spelling_is_that_label_and_is_counted() -> None:
    targets = ["positive", "Positive ", "NEGATIVE", "neutral"]
    rows = [replace(travel(i, TOWNS[i]), target=target) for i, target in enumerate(targets)]
    found = audit_of(test_set([*rows, replace(travel(9, TOWNS[0]), target="positive ")]))
    defect = one(found, "mine test", "label_respelled")
    assert defect.rows == (1, 2, 9)
    assert tells(defect.what, "'Positive '", "'positive'", "'NEGATIVE'", "'negative'")
    assert found[0].labels == {"positive": 3, "negative": 1, "neutral": 1}
    assert one(found, "mine test", "label_outside").rows == (3,)
    assert "label_absent" not in kinds(found)
    assert one(found, "mine test", "duplicate").figures["conflicting"] == 0


def test_demonstrations_may_show_what_is_no_label() -> None:
    demos = RowSet("mine", "demos", REVIEWS, [travel(0, "Oslo"), replace(travel(1, "Lima"), target="good")])
    assert one(audit_of(demos), "mine demos", "label_outside").figures == {"labels": {"good": 1}}


def test_a_label_may_be_there_and_yet_not_among_the_scored_rows() -> None:
    rows = [travel(0, "Paris"), replace(travel(1, "Rome"), target="negative")]
    found = one(audit_of(test_set(rows, scored=[0])), "mine test", "label_absent")
    assert tells(found.what, "scored", "label 'negative'")
    assert not defects(audit_of(test_set(rows)), "mine test", "label_absent")


@pytest.mark.parametrize(
    ("shown", "said"),
    [
        ("", None),
        ("p", None),
        ("pn", None),
        ("pp", {"positive": 2, "negative": 0}),
        ("ppn", None),
        ("pppn", {"positive": 3, "negative": 1}),
    ],
)
def test_uneven_means_missing_or_two_more(shown: str, said: dict[str, int] | None) -> None:
    targets = ["positive" if letter == "p" else "negative" for letter in shown]
    assert uneven(targets, ("positive", "negative")) == said


def test_every_beginning_of_the_demonstrations_is_counted() -> None:
    targets = ["positive", "negative", "positive", "positive", "positive", "positive"]
    demos = [replace(travel(i, TOWNS[i]), target=target) for i, target in enumerate(targets)]
    found = one(audit_of(RowSet("mine", "demos", REVIEWS, demos)), "mine demos", "unbalanced")
    assert found.figures["prefixes"] == {
        4: {"positive": 3, "negative": 1},
        5: {"positive": 4, "negative": 1},
        6: {"positive": 5, "negative": 1},
    }
    assert tells(found.what, "3 positive, 1 negative at 4 shots", "5 positive, 1 negative at 6 shots")


@pytest.mark.parametrize(
    ("kind", "text", "sequences"),
    [
        ("mojibake", "It costs Â£5, or â€˜soâ€™, FranÃ§ois said at the cafÃ©", ["Â£", "â€˜", "â€™", "Ã§", "Ã©"]),
        ("mojibake", "Iraqâ\x80\x99s and a \ufffd", ["â\x80\x99", "\ufffd"]),
        ("mojibake", "Her fiancé— Âge, naïve, 5 £, Ça va, Ñandú", []),
        ("markup", 'line<br />line <A href="x">there</a> 3 < 4 > 2, <Set; >', ["<br />", '<A href="x">', "</a>"]),
        ("entity", "salt &amp; pepper &#39;n&#x27; AT&T; R&D", ["&amp;", "&#39;", "&#x27;", "&T;"]),
        ("escape", r"one\ntwo \"three\" caf\u00e9 C:\dir", [r"\n", r"\"", r"\"", r"\u00e9"]),
    ],
)
def test_damaged_text(kind: str, text: str, sequences: list[str]) -> None:
    assert [match.group() for match in DAMAGE[kind].finditer(text)] == sequences


def test_damage_is_counted_by_row_and_sequence() -> None:
    rows = [review(0, "£"), review(4, "Â£ and Â£ or Ã©"), review(5, "<br><br/> Â£"), review(9, r"a\nb")]
    found = audit_of(test_set(rows))
    mojibake = one(found, "mine test", "mojibake")
    assert (mojibake.rows, mojibake.figures) == ((4, 5), {"sequences": {"Â£": 2, "Ã©": 1}})
    assert tells(mojibake.example, "row 4", '"Â£ and Â£ or Ã©"')
    assert one(found, "mine test", "markup").figures == {"sequences": {"<br>": 1}}
    assert one(found, "mine test", "escape").rows == (9,)


def test_empty_fields_and_targets() -> None:
    rows = [question(3, " \n", "a", "b"), question(4, "x", "", ""), question(5, "x", "y", "z")]
    found = audit_of(test_set(rows, QUESTIONS))
    fields = one(found, "mine test", "empty")
    assert (fields.rows, fields.figures) == ((3, 4), {"fields": {"input": 1, "answer": 1}})
    answer = one(found, "mine test", "no_answer")
    assert (answer.rows, answer.level) == ((4,), "warning") and tells(answer.what, "row 4", "empty answer")


def test_references_that_a_metric_cannot_see() -> None:
    targets = ["?!", "😀", "Где вокзал?", ""]
    rows = [question(i, f"The place number {i} is here", "here", target) for i, target in enumerate(targets)]
    found = audit_of(test_set(rows, QUESTIONS))
    defect = one(found, "mine test", "no_word")
    assert defect.rows == (0, 1, 3)
    assert tells(defect.what, "without a word", "ROUGE-L")
    assert "short_references" in kinds(found)  # two words and a sign
    longer = replace(rows[2], target="第三个城市")  # a token a character
    assert "short_references" not in kinds(audit_of(test_set([*rows, longer], QUESTIONS)))
    assert kinds(audit_of(train_set(rows, QUESTIONS))).isdisjoint({"no_word", "short_references"})


def test_references_that_only_a_sign_tells_apart_are_named() -> None:
    """ROUGE-L gives 1 to `5` where `-5` is right, and to `C` where `C++` is."""
    targets = ["-5", "5", "C++", "C", "x \u2264 3", "x \u2265 3", "7"]
    targets += ["Yes, indeed.", "yes indeed", "(a) well-known", "a well known"]  # punctuation says nothing
    rows = [question(i, f"The place number {i} is here", "here", target) for i, target in enumerate(targets)]
    defect = one(audit_of(test_set(rows, QUESTIONS)), "mine test", "same_words")
    assert defect.rows == (0, 1, 2, 3, 4, 5) and tells(defect.what, "'-5', '5'", "ROUGE-L")
    assert "same_words" not in kinds(audit_of(test_set(rows[5:], QUESTIONS)))


def test_fewer_rows_than_requested_at_every_size() -> None:
    lists = [train_set([travel(i, town) for i, town in enumerate(TOWNS[:n])], requested=16) for n in (15, 16)]
    assert tells(defects(audit_of(lists[0]), "mine train 16", "short")[0].what, "15 rows", "16")
    assert not defects(audit_of(lists[1]), "mine train 16", "short")


def test_texts_of_another_length_than_those_trained_on() -> None:
    train = train_set([question(i, "short " * 4, "a", f"{town} " * 10) for i, town in enumerate(TOWNS)], QUESTIONS)
    test = test_set([question(i, "short " * 8, "a", f"{town} " * 15) for i, town in enumerate(TOWNS)], QUESTIONS)
    found = audit_of(test, train)
    (only,) = defects(found, "mine test", "length")  # 8 tokens to 4 is nothing to speak of
    assert only.figures == {"field": "target", "median": 15, "median_against": 10}
    assert found[0].lengths["target"].longest == 15


def test_the_audit_as_json_names_the_rows_that_are_scored() -> None:
    found = audit_of(
        test_set([travel(3, "Paris"), travel(4, "Rome")], scored=[4]), train_set([travel(0, "Rome")], requested=1)
    )
    listed: dict[str, Any] = found[0].to_json()
    assert (listed["name"], listed["rows"], listed["scored"], listed["labels"]["negative"]) == ("mine test", 2, 1, 0)
    duplicate = next(defect for defect in listed["defects"] if defect["kind"] == "duplicate")
    assert (duplicate["rows"], duplicate["scored"], duplicate["count"], duplicate["of"]) == ((4,), [4], 1, 2)


# --- rows as their source has them ----------------------------------------------------------------


def test_rows_that_a_reader_leaves_out_or_mends_are_audited_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        '{"input": "a\\\\nb", "output": "positive"}\n'
        '{"input": "b", "output": "-"}\n'
        '{"input": null, "output": "positive"}\n'
        '{"input": "c", "output": "negative"}\n'
        '{"input": "d", "output": "positive"}\n'
    )
    source = {"file": "a.jsonl", "drop_labels": ["-"], "require": ["input"], "unescape": True}
    spec = DatasetSpec.model_validate({"task": "sentiment", "train": source})
    rows = load_untouched("mine", "train", spec, REVIEWS, 2, Places(tmp_path))
    assert [(row.doc_id, row.fields["input"], row.target) for row in rows] == [
        (0, r"a\nb", "positive"),
        (1, "b", "-"),
        (2, "", "positive"),
        (3, "c", "negative"),  # the second that is kept
    ]
    assert load_untouched("mine", "demos", spec, REVIEWS, None, Places(tmp_path)) == ()


# --- leaks and clusters ---------------------------------------------------------------------------


def test_what_leaks_is_what_was_seen() -> None:
    train = RowSet(
        "mine",
        "train",
        QUESTIONS,
        [question(0, "Kim went to the market in Lima", "a friend", "What did Kim want to do?")],
    )
    test = test_set(
        [
            question(0, "Kim went to the market in Lima!", "nobody", "Who?"),  # the context was seen
            question(1, "Nobody knows", "a friend", "Why?"),  # a short answer is no leak
            question(2, "Nobody knows", "nobody", "what did kim want to do"),  # the target was learnt
        ],
        QUESTIONS,
    )
    assert leaking(test, train, {}) == {0, 2}
    assert leaking(test, train, {1: 0}) == {0, 1, 2}


def test_rows_of_one_cluster_share_a_field_directly_or_not() -> None:
    a, b, c = ("The quick brown fox jumps", "A lazy dog sleeps all day", "Nobody saw the grey cat")
    rows = [
        pair(0, a, "x"),
        pair(1, "y", c),
        pair(2, b, a),
        pair(3, "z", b),
        pair(4, "Same.", "Q"),
        pair(5, "same.", "q"),
    ]
    assert clusters(test_set(rows, PAIRS)) == [0, 1, 0, 0, 2, 2]


def test_components_by_hand() -> None:
    assert components(6, [[0, 2], [3, 4], [4, 2], [5]]) == [0, 1, 0, 0, 0, 2]


@given(st.integers(1, 12), st.lists(st.lists(st.integers(0, 11), min_size=1, max_size=3), max_size=8))
def test_components_are_those_of_the_graph(n: int, groups: list[list[int]]) -> None:
    groups = [[row % n for row in group] for group in groups]
    reach = np.eye(n, dtype=bool)
    for group in groups:
        for i in group:
            for j in group:
                reach[i, j] = True
    for _ in range(n):
        reach = reach @ reach
    found = components(n, groups)
    assert all((found[i] == found[j]) == reach[i, j] for i in range(n) for j in range(n))
    assert list(dict.fromkeys(found)) == list(range(len(set(found))))


# --- near duplicates ------------------------------------------------------------------------------


def test_words_are_what_is_left_without_case_and_punctuation() -> None:
    assert words("It's 5 p.m. — STRASSE, straße!") == ["it", "s", "5", "p", "m", "strasse", "strasse"]
    assert words("北京 is 首都") == ["北", "京", "is", "首", "都"]  # no spaces: characters
    assert NORMALISERS["words"](" A,\n b ") == "a b"


@given(st.lists(st.lists(st.sampled_from("abc"), max_size=14), max_size=9), st.data())
def test_all_near_pairs_are_found_and_no_other(texts: list[list[str]], data: st.DataObject) -> None:
    lists = data.draw(st.lists(st.integers(0, 2), min_size=len(texts), max_size=len(texts)))
    wanted = np.zeros((3, 3), bool)
    for a, b in data.draw(st.sets(st.tuples(st.integers(0, 2), st.integers(0, 2)))):
        wanted[a, b] = wanted[b, a] = True

    def grams(text: Sequence[str]) -> set[tuple[str, ...]]:
        return {tuple(text[i : i + NGRAM]) for i in range(len(text) - NGRAM + 1)} if len(text) >= MIN_WORDS else set()

    expected = {}
    for i, j in combinations(range(len(texts)), 2):
        both, either = grams(texts[i]) & grams(texts[j]), grams(texts[i]) | grams(texts[j])
        if wanted[lists[i], lists[j]] and either and len(both) / len(either) >= NEAR - 1e-12:
            expected[i, j] = len(both) / len(either)
    flat = np.array([ord(word) for text in texts for word in text], np.int64)
    coded = Coded(flat, np.array([len(text) for text in texts], np.int64))
    found = {}
    for chunk in near_pairs(coded, np.array(lists, np.int64), wanted):
        found |= {(i, j): score for i, j, score in zip(*(part.tolist() for part in chunk), strict=True)}
    assert found == expected


def test_the_template_of_a_list_makes_no_pairs() -> None:
    order = "Classify the following text as positive or negative and answer with a single word please"
    rows = [review(i, f"{order}: text{i}") for i in range(40)]
    many = test_set(rows)
    assert near_rows([many], [(0, 0)])[0, 0] == {}
    few = test_set(rows[:5])  # of five rows nobody can say what their template is
    assert near_rows([few], [(0, 0)])[0, 0]


def test_near_rows_are_given_from_both_sides() -> None:
    text = " ".join(f"w{i}" for i in range(20))
    test, train = test_set([review(0, "x"), review(1, f"{text} a")]), train_set([review(0, f"{text} b")])
    found = near_rows([test, train], [(0, 1), (1, 0), (0, 0)])
    assert found == {(0, 1): {1: 0}, (1, 0): {0: 1}, (0, 0): {}}


def test_options_that_give_the_right_one_away_are_named() -> None:
    task = replace(REVIEWS, labels=None, own_options=True)

    def row(n: int, *texts: str, right: int) -> Example:
        return Example(n, {"input": f"Which of these is number {n}?"}, texts[right], options=texts)

    fair = [row(n, f"a{n % 7}", f"b{n % 7}", f"c{n % 7}", right=n % 3) for n in range(90)]
    assert not list(options(fair))
    first = [row(n, f"a{n % 7}", f"b{n % 7}", f"c{n % 7}", right=0) for n in range(90)]
    (place,) = options(first)
    assert place.kind == "option_place" and "number 1" in place.what and "33 %" in place.what
    long = [row(n, *("long" if k == n % 3 else "x" for k in range(3)), right=n % 3) for n in range(90)]
    (length,) = options(long)
    assert length.kind == "option_length" and "90 of 90" in length.what
    alone = audit_of(RowSet("mine", "test", task, [*fair, row(90, "only", right=0)], scored=frozenset(range(91))))
    (only,) = defects(alone, "mine test", "one_option")
    assert only.rows == (90,) and only.level == "warning"
    assert not defects(alone, "mine test", "short_references"), "options are no free text"


def test_every_finding_ends_with_how_to_mend_it() -> None:
    rows = [review(0, "fine"), review(1, "fine"), review(2, "  "), review(3, "Â£5 <br> &amp;", "")]
    found = audit_of(test_set(rows), train_set(rows[:2]), RowSet("mine", "demos", REVIEWS, rows[:1]))
    seen = {}
    for audited in found:
        for defect, finding in zip(audited.defects, audited.findings(), strict=True):
            assert defect.named.mend and finding.what.endswith(f"; {defect.named.mend}")
            seen[defect.kind, defect.against] = defect.named.mend
    assert {"duplicate", "empty", "no_answer", "mojibake", "markup", "entity"} <= {kind for kind, _ in seen}
    alone, elsewhere = (seen["duplicate", against] for against in ("", found[1].rows.name))
    assert alone != elsewhere and "clean scores" in elsewhere


def test_every_kind_of_finding_is_in_use() -> None:
    package = Path(checks.__file__).parents[1]
    sources = [path.read_text("utf-8") for path in package.glob("*/*.py") if path.stem != "kinds"]
    unused = [kind for kind in KINDS if not any(f'"{kind}"' in text for text in sources)]
    assert not unused
    assert all(kind.name and kind.mend[0].islower() and not kind.mend.endswith(".") for kind in KINDS.values())


def test_rows_with_other_options_are_no_duplicates() -> None:
    task = replace(REVIEWS, labels=None, own_options=True)
    asked = travel(0, "Oslo")
    rows = [
        replace(asked, doc_id=n, target=options[0], options=options)
        for n, options in enumerate((("left", "right"), ("first", "last"), ("Right", "left")))
    ]
    (same,) = defects(audit_of(RowSet("mine", "test", task, rows)), "mine test", "duplicate")
    assert same.rows == (0, 2)

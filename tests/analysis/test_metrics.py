"""Metrics against hand-computed cases and against the packages whose definitions they follow."""

from __future__ import annotations

import random
import unicodedata
from itertools import zip_longest

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from spillover.analysis import metrics
from spillover.analysis.metrics import METRICS
from spillover.text.task import GENERATION_METRICS
from spillover.text.words import plain, words

WORDS = ["the", "cat", "sat", "on", "a", "mat,", "The", "dogs", "ran", "far", "away", "café", "don't", "3.5", "it"]


def rows(*pairs: tuple[str, str]) -> list[metrics.Prediction]:
    return [{"doc_id": i, "response": r, "target": t} for i, (r, t) in enumerate(pairs)]


def sentence(rng: random.Random) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randint(0, 12)))


def test_accuracy_is_a_share() -> None:
    said = rows(("a", "a"), ("b", "a"), ("a", "-"))
    assert METRICS["accuracy"](said) == pytest.approx(1 / 3)


def test_labels_by_their_first_token() -> None:
    """The likeliest first token answers, and of labels that share it the first; what is stored stays as it is."""
    whole, first = {"yes": -4.0, "yes, but": -3.0, "no": -2.0}, {"yes": -1.0, "yes, but": -1.0, "no": -2.0}
    stored = [{"response": "no", "target": "yes", "logprobs": whole, "logprobs_first": first}]
    assert metrics.rescored(stored, "whole") == stored
    assert [p["response"] for p in metrics.rescored(stored, "first_token")] == ["yes"]
    assert stored[0]["response"] == "no"
    assert metrics.rescored(rows(("free", "text")), "first_token") == rows(("free", "text"))


@pytest.mark.parametrize(
    ("free", "off"), [("积极的", 0), ("积极。", 0), ("很积极", 1), ("हाँ।", 0), ("हाँं", 1), ("हाँ जी", 0)]
)
def test_a_label_may_be_followed_by_more_where_words_need_no_space(free: str, off: int) -> None:
    said = [{"doc_id": 0, "response": "积极", "target": "积极", "free": free}]
    assert METRICS["off_format"](said, ("积极", "हाँ")) == off


@pytest.mark.parametrize(
    ("free", "off"), [(None, 0), ("Positive.", 0), ("**negative**", 0), ("positively", 1), ("The text is", 1), ("", 1)]
)
def test_a_classification_is_off_format_where_the_model_would_have_said_no_label(free: str | None, off: int) -> None:
    labels = (" positive", "negative")  # a label joined verbatim brings its own space
    said = [{"doc_id": 0, "response": "negative", "target": " positive", "free": free}]
    assert METRICS["off_format"](said, labels) == off


@pytest.mark.parametrize(
    ("response", "off"), [("Entailment.", 1), (" K7", 1), ("", 1), (" .", 1), ("No one was hurt.", 0), ("neutral", 0)]
)
def test_free_text_is_off_format_where_it_is_nothing_or_another_task_s_label(response: str, off: int) -> None:
    assert METRICS["off_format"](rows((response, "A short line.")), ("entailment", "K7")) == off


def test_a_label_that_is_a_right_answer_here_is_not_off_format() -> None:
    said = rows(("Yes.", "yes"), ("yes", "It is not."), ("no", "yes"))
    assert METRICS["off_format"].statistics(said, ("yes", "no"))[:, 0].tolist() == [0, 0, 1]


def test_a_metric_of_no_rows_is_nan() -> None:
    assert all(np.isnan(metric([], ("a",))) for metric in metrics.METRICS.values())


def test_macro_f1_by_hand() -> None:
    said = rows(("yes", "yes"), ("yes", "no"), ("no", "no"), ("no", "no"))
    # yes: precision 1/2, recall 1, F1 2/3; no: precision 1, recall 2/3, F1 4/5
    assert METRICS["macro_f1"](said, ("yes", "no")) == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert METRICS["macro_f1"](said, ("yes", "no", "maybe")) == pytest.approx((2 / 3 + 4 / 5) / 3)  # never right: 0


def test_macro_f1_needs_labels() -> None:
    with pytest.raises(ValueError, match="labels"):
        METRICS["macro_f1"](rows(("a", "b")))


def test_rouge_by_hand() -> None:
    assert metrics.rouge_l("the cat sat", "the cat ran") == pytest.approx(2 / 3)
    assert metrics.rouge_l("a b", "a x b y") == pytest.approx(2 * 1 * 0.5 / 1.5)
    assert metrics.rouge_l("", "a") == metrics.rouge_l("a", "") == metrics.rouge_l("?", "a") == 0


def test_rouge_agrees_with_rouge_score() -> None:
    rng, theirs = random.Random(0), RougeScorer(["rougeL"])
    for _ in range(300):
        response, target = sentence(rng), f"It {sentence(rng)}"
        expected = theirs.score(target, response)["rougeL"].fmeasure
        assert metrics.rouge_l(response, target) == pytest.approx(expected)


class OurWords:
    """`text.words` as a tokenizer of the package rouge-score."""

    def tokenize(self, text: str) -> list[str]:
        return words(text)


@given(st.text(max_size=40), st.text(max_size=40))
def test_rouge_is_that_of_rouge_score_with_our_words(response: str, target: str) -> None:
    assume(words(target))
    expected = RougeScorer(["rougeL"], tokenizer=OurWords()).score(target, response)["rougeL"].fmeasure
    assert metrics.rouge_l(response, target) == pytest.approx(expected)


EXACT = {
    "Russian": [f"Город номер {i} стоит на реке." for i in range(24)],
    "Chinese": [f"第{i}个城市在河边，很美。" for i in range(24)],
    "Japanese": [f"{i}番目の町は川の近くにあります。" for i in range(24)],
    "Arabic": [f"المدينة رقم {i} تقع على النهر" for i in range(24)],
    "Hindi": [f"शहर {i} नदी के किनारे है।" for i in range(24)],
    "Thai": [f"เมืองที่{i}อยู่ริมแม่น้ำ" for i in range(24)],
}
FREE_TEXT = [name for name in GENERATION_METRICS if name != "off_format"]


@pytest.mark.parametrize("language", EXACT)
@pytest.mark.parametrize("name", FREE_TEXT)
def test_exact_answers_score_1_in_every_script(language: str, name: str) -> None:
    texts = EXACT[language]
    assert METRICS[name](rows(*zip(texts, texts, strict=True))) == pytest.approx(1.0, abs=1e-12)
    apart = [unicodedata.normalize("NFD", text) for text in texts]  # the same characters in another form
    assert METRICS[name](rows(*zip(apart, texts, strict=True))) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("language", EXACT)
def test_another_answer_scores_between_0_and_1_in_every_script(language: str) -> None:
    texts = EXACT[language]
    pairs = list(zip(texts[1:], texts, strict=False))  # another number in the same sentence
    assert all(0 < METRICS[name](rows(*pairs)) < 1 for name in ("rougeL", "bleu", "chrf"))
    assert METRICS["exact_match"](rows(*pairs)) == 0


def test_rouge_by_hand_in_scripts_without_spaces() -> None:
    assert metrics.rouge_l("猫が寝る", "猫が座る") == pytest.approx(3 / 4)
    assert metrics.rouge_l("Кот спит", "кот СПИТ тут") == pytest.approx(2 * 1 * (2 / 3) / (5 / 3))


@pytest.mark.parametrize("target", ["", "?!", "😀", "—"])
def test_against_a_reference_without_a_word_an_equal_answer_counts_and_no_other(target: str) -> None:
    assert metrics.rouge_l(f" {target} ", target) == METRICS["exact_match"](rows((f" {target} ", target))) == 1
    for response in ("some words", "...", target + "!"):
        assert metrics.rouge_l(response, target) == METRICS["exact_match"](rows((response, target))) == 0


def test_exact_match_ignores_white_space_and_the_form_of_a_character_alone() -> None:
    assert METRICS["exact_match"](rows(("a  cafe\u0301\n", "a café"), ("A café", "a café"), ("a café.", "a café"))) == (
        pytest.approx(1 / 3)
    )


@given(st.text("abc", max_size=80), st.text("abc", max_size=80))
def test_lcs_agrees_with_the_table(a: str, b: str) -> None:
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1][j + 1] = table[i][j] + 1 if x == y else max(table[i][j + 1], table[i + 1][j])
    assert metrics.lcs_length(a, b) == table[-1][-1]


@pytest.mark.parametrize("seed", range(30))
def test_bleu_agrees_with_sacrebleu(seed: int) -> None:
    rng = random.Random(seed)
    targets = [sentence(rng) for _ in range(rng.randint(1, 6))]
    said = [t if rng.random() < 0.4 else sentence(rng) for t in targets]
    expected = BLEU(force=True).corpus_score(said, [targets]).score / 100
    assert METRICS["bleu"](rows(*zip(said, targets, strict=True))) == pytest.approx(expected, abs=1e-9)


def test_bleu_of_chinese_is_sacrebleu_s() -> None:
    texts = EXACT["Chinese"]
    pairs = list(zip(texts[3:], texts, strict=False))
    expected = BLEU(force=True, tokenize="zh").corpus_score([r for r, _ in pairs], [[t for _, t in pairs]]).score / 100
    assert 0.3 < METRICS["bleu"](rows(*pairs)) < 1
    assert METRICS["bleu"](rows(*pairs)) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("seed", range(30))
def test_chrf_agrees_with_sacrebleu(seed: int) -> None:
    rng = random.Random(seed)
    targets = [sentence(rng)[: rng.randint(0, 40)].strip() for _ in range(rng.randint(1, 6))]
    said = [t if rng.random() < 0.2 else sentence(rng) for t in targets]
    expected = CHRF().corpus_score(said, [targets]).score / 100
    assert METRICS["chrf"](rows(*zip(said, targets, strict=True))) == pytest.approx(expected, abs=1e-12)


# --- several references ---


def several(rng: random.Random) -> tuple[list[str], list[list[str]]]:
    """Answers to some rows, and the references of each, of which one row may have more than another."""
    references = [[f"It {sentence(rng)}" for _ in range(rng.randint(1, 4))] for _ in range(rng.randint(1, 6))]
    return [rng.choice(own) if rng.random() < 0.3 else sentence(rng) for own in references], references


def with_references(said: list[str], references: list[list[str]]) -> list[metrics.Prediction]:
    """As predictions are stored: a row with one reference has no list."""
    return [
        {"response": answer, "target": own[0], **({"references": own} if len(own) > 1 else {})}
        for answer, own in zip(said, references, strict=True)
    ]


@pytest.mark.parametrize("seed", range(20))
def test_several_references_are_those_of_sacrebleu_and_rouge_score(seed: int) -> None:
    said, references = several(random.Random(seed))
    columns = [list(column) for column in zip_longest(*references)]  # sacrebleu's form, None where a row has fewer
    answered = with_references(said, references)
    bleu = BLEU(force=True).corpus_score(said, columns).score / 100
    assert METRICS["bleu"](answered) == pytest.approx(bleu, abs=1e-9)
    assert METRICS["chrf"](answered) == pytest.approx(CHRF().corpus_score(said, columns).score / 100, abs=1e-12)
    scorer = RougeScorer(["rougeL"])
    rouge = [scorer.score_multi(own, one)["rougeL"].fmeasure for one, own in zip(said, references, strict=True)]
    assert METRICS["rougeL"](answered) == pytest.approx(np.mean(rouge))
    exact = [plain(one) in map(plain, own) for one, own in zip(said, references, strict=True)]
    assert METRICS["exact_match"](answered) == pytest.approx(np.mean(exact))


def test_a_label_that_is_one_of_several_right_answers_is_not_off_format() -> None:
    said = [{"response": "yes", "target": "It is.", "references": ["It is.", "Yes"]}]
    assert METRICS["off_format"](said, ("yes", "no")) == 0


def test_chrf_of_silence_and_of_nothing_is_zero() -> None:
    assert METRICS["chrf"](rows(("", "some words here"))) == METRICS["chrf"](rows(("", ""))) == 0


def test_bleu_of_silence_is_zero() -> None:
    assert METRICS["bleu"](rows(("", "some words here"))) == 0


# --- why a score fell ---


def classified(target: str, response: str, free: str | None = None) -> metrics.Prediction:
    return {"target": target, "response": response, "free": free}


def test_the_off_format_rate_is_the_share_of_answers_that_begin_with_no_label() -> None:
    answers = [
        classified("positive", "positive"),
        classified("negative", "negative", "Negative."),  # its own first token began no label, its first word is one
        classified("positive", "positive", "Neutral, I think"),
        classified("negative", "negative", " ."),
    ]
    assert METRICS["off_format"](answers, ("positive", "negative")) == 2 / 4


@pytest.mark.parametrize(
    ("free", "ended", "off"),
    [
        (None, "end", 0),  # the model's own first token begins an option
        ("The Alps, of course", "end", 0),
        ("Lyon", "end", 1),  # an option of another row
        ("the", "end", 1),  # it ends before it is an option
        ("the al", "limit", 0),  # it was cut within an option
        ("", "limit", 1),
    ],
)
def test_the_format_of_a_multiple_choice_are_the_options_of_the_row(free: str | None, ended: str, off: int) -> None:
    row = {"doc_id": 0, "response": "the Alps", "target": "the Alps", "free": free, "ended": ended}
    assert METRICS["off_format"]([{**row, "logprobs": {"the Alps": -1.0, "Paris": -2.0}}], ()) == off

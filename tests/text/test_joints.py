"""Texts in parts, as the study's code encodes them: what that does to tokens, on the real tokenizer and small ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from smalltokenizers import KINDS, byte_level_without_words, write

from spillover.errors import PromptError
from spillover.text.encode import Encoder, Ids
from spillover.text.joints import AS_ONE, Joints

APART = Joints(answer_apart=True)
LABELS = ("entailment", "neutral", "contradiction")
ALIKE = [LABELS] * 3
PROMPTS = ["The relation is ", "The film was fine. Inference:", "one fish"]


@pytest.fixture(scope="module")
def real(smollm2: Path) -> Encoder:
    return Encoder.load(smollm2)


@pytest.fixture(scope="module", params=KINDS)
def small(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return Encoder.load(write(tmp_path_factory.mktemp("tokenizer"), KINDS[request.param]()))


def tokens(encoder: Encoder, ids: Ids) -> list[str | None]:
    return [encoder.tokenizer.id_to_token(i) for i in ids]


def test_by_default_they_are_the_encoders_own(small: Encoder) -> None:
    assert AS_ONE.departures() == {}
    assert AS_ONE.prompts(small, PROMPTS) == small.prompt_for_generation(PROMPTS)
    assert AS_ONE.options(small, PROMPTS, ALIKE) == small.options(PROMPTS, ALIKE)
    assert AS_ONE.samples(small, PROMPTS, LABELS) == small.continuation(PROMPTS, LABELS)


# --- the answer apart ---------------------------------------------------------------------------------


def test_a_prompt_that_ends_in_a_space_keeps_it_and_the_label_does_not_follow_it_so_in_demonstrations(
    real: Encoder,
) -> None:
    """The second format of inference. In one text the space is the label's; apart it is a token of its own."""
    [(together, whole)] = AS_ONE.options(real, ["The relation is "], [LABELS])
    [(alone, pieces)] = APART.options(real, ["The relation is "], [LABELS])
    assert tokens(real, together) == ["The", "Ġrelation", "Ġis"]
    assert [tokens(real, one)[0] for one in whole] == ["Ġentail", "Ġneutral", "Ġcontradiction"]
    assert tokens(real, alone) == ["The", "Ġrelation", "Ġis", "Ġ"]
    assert [tokens(real, one) for one in pieces] == [["ent", "ail", "ment"], ["neutral"], ["cont", "rad", "iction"]]


def test_behind_a_colon_apart_and_together_are_the_same(real: Encoder) -> None:
    """The study's own case: p1 ends in a colon, and its hard-coded ids are those of a label right behind one."""
    prompts = ["### Input:\nA joy.\n### Sentiment:"]
    labels = [("positive", "negative")]
    assert APART.options(real, prompts, labels) == real.options(prompts, labels)


def test_generation_starts_behind_the_space(real: Encoder) -> None:
    assert [tokens(real, ids)[-1] for joints in (AS_ONE, APART) for ids in joints.prompts(real, ["Summary: "])] == [
        ":",
        "Ġ",
    ]


def test_the_loss_begins_where_the_prompt_alone_would_end(real: Encoder) -> None:
    """The text is one, but the mask is as long as the prompt alone: a prompt that ends in a space hides a token."""
    [(ids, start)] = AS_ONE.samples(real, ["The relation is "], ["entailment"])
    [(same, late)] = APART.samples(real, ["The relation is "], ["entailment"])
    assert same == ids and tokens(real, ids) == ["The", "Ġrelation", "Ġis", "Ġentail", "ment"]
    assert (tokens(real, ids[start:]), tokens(real, ids[late:])) == (["Ġentail", "ment"], ["ment"])


def test_labels_are_not_looked_at_with_the_prompt(small: Encoder) -> None:
    """So every prompt has the same ids for them, and those are the ids behind a colon."""
    found = [options for _, options in APART.options(small, PROMPTS, ALIKE)]
    assert found == [found[0]] * len(PROMPTS)
    assert found[0] == tuple(ids[start:] for ids, start in small.continuation([":"] * 3, LABELS))


def test_labels_that_are_the_same_tokens_are_refused(real: Encoder) -> None:
    with pytest.raises(PromptError, match="'yes' and 'yes' are the same tokens"):
        APART.options(real, ["a:"], [("yes", "yes")])
    with pytest.raises(PromptError, match="label '' has no tokens"):
        APART.options(real, ["a:"], [("yes", "")])


# --- demonstrations apart -----------------------------------------------------------------------------


def test_demonstrations_that_are_encoded_alone_end_in_other_tokens(tmp_path: Path) -> None:
    """A tokenizer that knows "\\n\\n###" as fewer tokens than its parts: the joint shows."""
    encoder = Encoder.load(write(tmp_path, byte_level_without_words(), bos_token=None))
    shown, query = "### Sentiment: positive\n\n", "### Input:\nthe film was fine"
    [together] = AS_ONE.prompts(encoder, [shown + query])
    [apart] = Joints(head=len(shown)).prompts(encoder, [shown + query])
    assert apart == encoder.text_ids(shown) + encoder.text_ids(query)
    assert apart != together
    assert encoder.decode(apart) == encoder.decode(together) == shown + query


def test_only_what_comes_first_has_a_bos(small: Encoder) -> None:
    with_bos = small if small.prefix else small.beginning((1,))
    [ids] = Joints(head=5, prefix=with_bos.prefix).prompts(small, ["film\n fine"])
    assert ids == with_bos.text_ids("film\n") + small.beginning(()).text_ids(" fine")
    assert ids.count(1) == 1


def test_a_sample_in_parts_bears_its_loss_on_the_answer(real: Encoder) -> None:
    [(ids, start)] = Joints(head=8).samples(real, ["Q: a b\n\nQ: c"], [" d"])
    assert (real.decode(ids[:start]), real.decode(ids[start:])) == ("Q: a b\n\nQ: c", " d")
    [(ids, options)] = Joints(head=8).options(real, ["Q: a b\n\nQ: c"], [[" d", " e"]])
    assert (real.decode(ids), [real.decode(one) for one in options]) == ("Q: a b\n\nQ: c", [" d", " e"])


# --- BOS ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prefix", "text", "count"),
    [
        (None, "film", 1),
        (None, "<s> film", 1),
        ((), "film", 0),
        ((), "<s> film", 1),
        ((1,), "film", 1),
        ((1,), "<s> film", 2),
    ],
)
def test_how_many_bos_a_text_begins_with(tmp_path: Path, prefix: Ids | None, text: str, count: int) -> None:
    """The tokenizer of Llama 2 puts one in front, and soundly never a second one."""
    encoder = Encoder.load(write(tmp_path, KINDS["metaspace"]()))
    [ids] = Joints(prefix=prefix).prompts(encoder, [text])
    assert ids[:count] == (1,) * count and 1 not in ids[count:]


def test_what_departs_from_the_sound_way_is_told_for_keys() -> None:
    assert Joints((), True, 7).departures() == {"prefix": (), "answer_apart": True, "head": 7}
    assert Joints(head=7).departures() == {"head": 7}

"""Training samples on the real tokenizer: which text, which tokens bear the loss, what becomes of what is too long."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillover.errors import DataError
from spillover.experiment.protocol import PAPER, SOUND, Protocol
from spillover.text.encode import Encoder
from spillover.text.prompt import render
from spillover.text.samples import Sample, Samples, build_samples
from spillover.text.task import FIVE, Example

P1 = FIVE["sentiment"].prompts["p1"]
DEMOS = (Example(0, {"input": "A joy."}, "positive"), Example(1, {"input": "A bore."}, "negative"))
ROWS = (
    Example(10, {"input": "Great film."}, "positive"),
    Example(11, {"input": "Dull, and far too long."}, "negative"),
)

FEW_SHOT = """\
### Input:
A joy.
### Sentiment: positive

### Input:
A bore.
### Sentiment: negative

### Input:
Great film.
### Sentiment: positive"""


@pytest.fixture(scope="module")
def encoder(smollm2: Path) -> Encoder:
    return Encoder.load(smollm2)


def build(
    encoder: Encoder, demos: tuple[Example, ...] = (), rows: tuple[Example, ...] = ROWS, **options: object
) -> Samples:
    given = {"max_length": 200, "overlong": "error", "where": "the test", **options}
    return build_samples(P1, demos, rows, encoder, **given)  # type: ignore[arg-type]


def tokens(encoder: Encoder, ids: tuple[int, ...]) -> list[str]:
    return [encoder.tokenizer.decode([token], skip_special_tokens=False) for token in ids]


def test_loss_is_on_the_answer_and_the_end_token_and_nothing_else(encoder: Encoder) -> None:
    first, second = build(encoder).samples
    assert tokens(encoder, first.ids[first.start :]) == [" positive", "<|im_end|>"]
    assert tokens(encoder, second.ids[second.start :]) == [" negative", "<|im_end|>"]
    assert encoder.decode(first.ids[: first.start]) == "### Input:\nGreat film.\n### Sentiment:"
    assert first == Sample.of((3757, 18100, 42, 198, 15635, 4771, 30, 198, 3757, 18279, 2572, 42, 2731, 2), 12)


def test_with_demonstrations_loss_is_on_the_last_answer_only(encoder: Encoder) -> None:
    sample, _ = build(encoder, DEMOS).samples
    assert encoder.decode(sample.ids) == FEW_SHOT
    assert tokens(encoder, sample.ids[sample.start :]) == [" positive", "<|im_end|>"]
    assert sample.ids.count(encoder.eos_id) == 1, "demonstrations end in a blank line, not in an end token"


def test_a_sample_is_the_test_prompt_with_its_answer(encoder: Encoder) -> None:
    """What the model is trained on is, token by token, what it is scored on."""
    for sample, row in zip(build(encoder, DEMOS).samples, ROWS, strict=True):
        prompt, options = encoder.options([render(P1, DEMOS, row)], [("positive", "negative")])[0]
        assert sample.ids == (*prompt, *options[row.target == "negative"], encoder.eos_id)
        assert sample.start == len(prompt)


def test_padding_with_the_end_token_masks_nothing(encoder: Encoder, smollm2: Path) -> None:
    """SmolLM2 pads with its end token; a mask made from the pad id would take the loss off the end of answers."""
    assert '"pad_token": "<|im_end|>"' in (smollm2 / "tokenizer_config.json").read_text()
    assert all(
        sample.ids[-1] == encoder.eos_id and sample.start < len(sample.ids) - 1 for sample in build(encoder).samples
    )


def test_what_is_too_long_loses_demonstrations_from_the_last_one_on(encoder: Encoder) -> None:
    whole = build(encoder, DEMOS).samples
    one_demo = build(encoder, DEMOS[:1]).samples
    none = build(encoder).samples
    lengths = [len(samples[0].ids) for samples in (none, one_demo, whole)]
    assert lengths == sorted(set(lengths))
    for room, expected in zip(lengths, (none, one_demo, whole), strict=True):
        built = build(encoder, DEMOS, ROWS[:1], max_length=room)
        assert built.samples == expected[:1]
        assert built.rows_shortened == (expected is not whole)
        assert built.rows_dropped == 0


def test_rows_are_shortened_one_by_one_and_keep_their_order(encoder: Encoder) -> None:
    rows = (ROWS[1], ROWS[0])
    room = len(build(encoder, DEMOS, (ROWS[0],)).samples[0].ids)
    long, short = build(encoder, DEMOS, rows, max_length=room).samples
    assert encoder.decode(short.ids) == FEW_SHOT, "just fits"
    assert "A bore." not in encoder.decode(long.ids)
    assert "A joy." in encoder.decode(long.ids)
    assert tokens(encoder, long.ids[long.start :]) == [" negative", "<|im_end|>"]
    assert build(encoder, DEMOS, rows, max_length=room).rows_shortened == 1


def test_an_answer_is_never_cut(encoder: Encoder) -> None:
    """A row that does not fit even alone is an error that names it; nothing is shortened in silence."""
    summary = replace(ROWS[0], doc_id=77, target="good " * 50)
    with pytest.raises(
        DataError, match=r"^the test: row 77 does not fit into max_length=40 .*\(1 such rows\)"
    ) as caught:
        build(encoder, DEMOS, (ROWS[0], summary), max_length=40)
    assert "overlong: drop" in str(caught.value)


def test_no_sample_is_longer_than_the_model(encoder: Encoder) -> None:
    whole = build(encoder, DEMOS).samples[0]
    small = replace(encoder, max_context=len(whole.ids) - 1)
    built = build(small, DEMOS, ROWS[:1])
    assert built == replace(build(encoder, DEMOS[:1], ROWS[:1]), rows_shortened=1)
    with pytest.raises(DataError, match="row 10 does not fit into the 5 tokens that the model takes"):
        build(replace(encoder, max_context=5), DEMOS)


def test_or_is_dropped_and_counted(encoder: Encoder) -> None:
    summary = replace(ROWS[0], doc_id=77, target="good " * 50)
    built = build(encoder, DEMOS, (ROWS[0], summary, ROWS[1]), max_length=40, overlong="drop")
    assert built.rows_dropped == 1
    assert [tokens(encoder, sample.ids)[sample.start] for sample in built.samples] == [" positive", " negative"]
    with pytest.raises(DataError, match="no row fits"):
        build(encoder, (), (summary,), max_length=40, overlong="drop")


def test_without_demonstrations_nothing_is_shortened(encoder: Encoder) -> None:
    built = build(encoder, (), ROWS, max_length=14, overlong="drop")
    assert built == Samples(build(encoder).samples[:1], 0, 1, places=(0,))


# --- the study's samples ------------------------------------------------------------------------------

PAPER_FEW_SHOT = FEW_SHOT.replace("Sentiment: ", "Sentiment:")


def paper(encoder: Encoder, room: int, rows: tuple[Example, ...] = ROWS[:1]) -> Samples:
    fmt = FIVE["sentiment"].under(PAPER).prompts["p1"]
    return build_samples(fmt, DEMOS, rows, encoder, room, "error", "the test", PAPER)


def test_a_sample_of_the_study(encoder: Encoder) -> None:
    """One BOS, demonstrations, the query, and the answer right behind the colon."""
    [sample] = paper(encoder, 1024).samples
    whole = encoder.tokenizer.decode(list(sample.ids), skip_special_tokens=False)
    assert whole == "<|im_start|>" + PAPER_FEW_SHOT + "<|im_end|>"
    assert tokens(encoder, sample.ids[sample.start :]) == ["positive", "<|im_end|>"]


def test_the_study_cuts_on_the_right_answer_and_all(encoder: Encoder) -> None:
    """Its last tokens go one by one; all demonstrations stay; without any token of its answer a sample is none."""
    long = replace(ROWS[0], target="good enough to see")
    [whole] = paper(encoder, 1024, (long,)).samples
    answer = ["good", " enough", " to", " see", "<|im_end|>"]
    assert tokens(encoder, whole.ids[whole.start :]) == answer
    for left in (5, 4, 3, 2, 1):
        cut = paper(encoder, whole.start + left, (long,))
        sample = Sample.of(whole.ids[: whole.start + left], whole.start)
        assert cut == Samples((sample,), int(left < 5), 0, "a part of the answer", (0,))
        assert tokens(encoder, cut.samples[0].ids[whole.start :]) == answer[:left]
    with pytest.raises(DataError, match=rf"max_length={whole.start} tokens leave no sample a token of its answer"):
        paper(encoder, whole.start, (long,))


def test_a_sample_without_its_answer_is_left_out_and_counted(encoder: Encoder) -> None:
    rows = tuple(Example(i, {"input": "word " * words}, "positive") for i, words in enumerate((1, 20, 21, 90)))
    room = len(paper(encoder, 1024, rows[1:2]).samples[0].ids)
    made = paper(encoder, room, rows)
    assert [tokens(encoder, sample.ids[sample.start :]) for sample in made.samples] == [
        ["positive", "<|im_end|>"],
        ["positive", "<|im_end|>"],
        ["positive"],
    ]
    assert (made.rows_shortened, made.rows_dropped, made.places) == (1, 1, (0, 1, 2))


@given(room=st.integers(8, 90))
@pytest.mark.parametrize("joint", ["together", "apart"])
def test_whatever_the_room_every_sample_bears_a_loss(encoder: Encoder, joint: str, room: int) -> None:
    """So no batch is without one, and no loss is nan."""
    protocol = Protocol(truncation="right", answer_joint=joint)
    if room <= min(sample.start for sample in build(encoder, DEMOS, protocol=protocol).samples):
        with pytest.raises(DataError, match="leave no sample a token of its answer"):
            build(encoder, DEMOS, protocol=protocol, max_length=room)
        return
    made = build(encoder, DEMOS, protocol=protocol, max_length=room)
    assert all(0 < sample.start < len(sample.ids) <= room for sample in made.samples)
    assert len(made.samples) + made.rows_dropped == len(ROWS)


def test_with_room_enough_truncation_makes_no_difference(encoder: Encoder) -> None:
    right = build(encoder, DEMOS, protocol=Protocol(truncation="right"))
    assert right.samples == build(encoder, DEMOS, protocol=SOUND).samples


def test_demonstrations_apart_are_the_same_text_in_other_tokens(encoder: Encoder) -> None:
    """A blank line before `###` is two tokens within a text and one at its end. What is dropped is no part of it."""
    apart = Protocol(demo_joint="apart")
    [whole] = build(encoder, DEMOS, ROWS[:1], protocol=apart).samples
    [fewer] = build(encoder, DEMOS, ROWS[:1], protocol=apart, max_length=len(whole.ids) - 1).samples
    for sample, demos in ((whole, DEMOS), (fewer, DEMOS[:1])):
        [together] = build(encoder, demos, ROWS[:1]).samples
        assert encoder.decode(sample.ids) == encoder.decode(together.ids)
        assert len(sample.ids) == len(together.ids) - 1
        assert tokens(encoder, sample.ids[sample.start :]) == [" positive", "<|im_end|>"]

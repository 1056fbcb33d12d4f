"""What the steps of a training hold, on small tokenizers: which rows, which demonstrations, which tokens bear loss."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import smalltokenizers
import tinymodels

from spillover.errors import DataError
from spillover.experiment.protocol import PAPER
from spillover.text.compose import Beside, DrawnDemos, InContext, Mixed, TooLong, others_beside, rows_before, turns
from spillover.text.encode import Encoder
from spillover.text.prompt import render
from spillover.text.samples import Maker, Sample
from spillover.text.task import FIVE, Example

P1 = FIVE["sentiment"].prompts["p1"]
ROWS = [Example(n, {"input": f"the film {n} was fine"}, ("positive", "negative")[n % 2]) for n in range(24)]
SIZE = 4  # rows a step


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    folder = tmp_path_factory.mktemp("encoder")
    smalltokenizers.byte_level().save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"eos_token": "</s>"}')
    return Encoder.load(folder)


@pytest.fixture(scope="module")
def maker(encoder: Encoder) -> Maker:
    return Maker(P1, encoder, 400, "error", "the test")


def steps(epoch: int = 0) -> list[tuple[int, list[int]]]:
    """The steps of an epoch, by number, with their rows."""
    count = len(ROWS) // SIZE
    return [(epoch * count + n, list(range(n * SIZE, n * SIZE + SIZE))) for n in range(count)]


# --- drawn demonstrations -----------------------------------------------------------------------------


def drawn(maker: Maker, most: int = 3, seed: int = 0, groups: list[int] | None = None) -> DrawnDemos:
    return DrawnDemos(maker, ROWS, groups or list(range(len(ROWS))), most, seed, alone=maker.samples(ROWS).longest)


def test_a_step_draws_its_demonstrations_and_never_its_own_rows(maker: Maker) -> None:
    composition = drawn(maker)
    counts = Counter()
    for number in range(400):
        shown = composition.drawn(number, range(SIZE))
        assert not set(shown) & set(range(SIZE)) and len(set(shown)) == len(shown)
        counts[len(shown)] += 1
    assert set(counts) == {0, 1, 2, 3} and min(counts.values()) > 70, "each number is as probable as any other"


def test_all_rows_of_a_step_share_the_drawn_prefix(maker: Maker, encoder: Encoder) -> None:
    composition = drawn(maker)
    number = next(n for n in range(99) if len(composition.drawn(n, range(SIZE))) == 2)
    demos = [ROWS[row] for row in composition.drawn(number, range(SIZE))]
    made = composition.of_step(number, range(SIZE))
    for sample, row in zip(made, ROWS, strict=False):
        assert encoder.decode(sample.ids) == render(P1, demos, row) + row.target
        assert encoder.decode(sample.ids[sample.start :]).strip() == row.target


def test_no_row_is_drawn_that_shares_a_text_with_a_row_of_the_step(maker: Maker) -> None:
    composition = drawn(maker, groups=[n // 8 for n in range(len(ROWS))])
    shown = [row for n in range(50) for row in composition.drawn(n, range(SIZE))]
    assert shown and min(shown) >= 8


def test_the_draw_follows_from_seed_and_step_alone(maker: Maker) -> None:
    def of(composition: DrawnDemos) -> list[list[Sample]]:
        return [composition.of_step(number, places) for number, places in steps()]

    assert of(drawn(maker)) == of(drawn(maker))
    assert of(drawn(maker)) != of(drawn(maker, seed=1))
    assert drawn(maker).of_step(5, range(SIZE)) == drawn(maker).of_step(5, range(SIZE)), "without the steps before it"


# --- rows in context ----------------------------------------------------------------------------------


def contexts(maker: Maker, count: int) -> InContext:
    return InContext(maker, ROWS, count, alone=maker.samples(ROWS).longest)


def test_a_context_has_loss_on_every_answer_and_reads_as_a_prompt_with_demonstrations(
    maker: Maker, encoder: Encoder
) -> None:
    [sample] = contexts(maker, SIZE).of_step(0, range(SIZE))
    for number, (begin, end) in enumerate(sample.spans):
        prompt, options = encoder.options([render(P1, ROWS[:number], ROWS[number])], [("positive", "negative")])[0]
        answer = options[ROWS[number].target == "negative"]
        assert sample.ids[:begin] == prompt, "the tokens of the test prompt with so many demonstrations"
        assert sample.ids[begin:end] == answer + (encoder.eos_id,) * (number == SIZE - 1)


def test_every_row_of_a_step_stands_in_one_context(maker: Maker, encoder: Encoder) -> None:
    made = contexts(maker, 3).of_step(0, [7, 2, 5, 1])
    assert [len(sample.spans) for sample in made] == [3, 1]
    assert "".join(encoder.decode(sample.ids) for sample in made).count("film") == 4
    assert encoder.decode(made[1].ids) == render(P1, (), ROWS[1]) + ROWS[1].target


def test_a_context_that_is_too_long_has_fewer_rows(maker: Maker) -> None:
    room = len(maker.of_rows(ROWS[:2]).ids)
    cut = contexts(replace(maker, max_length=room), 3)
    made = cut.of_step(0, range(5))
    assert [len(sample.spans) for sample in made] == [2, 2, 1]
    cut.of_step(3, range(2))
    assert cut.too_long == {0: TooLong(more=1), 3: TooLong()}, (
        "samples that a step has more than 3 rows each would need"
    )
    assert all(len(sample.ids) <= room for sample in made)


def test_a_chat_learns_the_end_of_every_turn(smollm2: Path) -> None:
    encoder = Encoder.load(smollm2)
    chat = replace(P1, name="chat", chat=True)
    sample = Maker(chat, encoder, 400, "error", "the test").of_rows(ROWS[:2])
    assert [sample.ids[end - 1] for _, end in sample.spans] == [encoder.turn_end] * 2
    assert [encoder.decode(sample.ids[begin:end]) for begin, end in sample.spans] == ["positive", "negative"]


def test_rows_in_context_need_texts_that_are_encoded_as_one(maker: Maker) -> None:
    with pytest.raises(DataError, match="together"):
        replace(maker, protocol=PAPER).of_rows(ROWS[:2])


# --- other data ---------------------------------------------------------------------------------------


OTHERS = [Sample.of((n, tinymodels.EOS), 1) for n in range(5)]


def replayed(maker: Maker, share: float, seed: int = 0) -> Mixed:
    return Mixed(maker.samples(ROWS), OTHERS, share, SIZE, seed)


def test_replay_keeps_its_share_over_the_training_and_not_in_each_step(maker: Maker) -> None:
    composition, own = replayed(maker, 0.05), maker.samples(ROWS)
    counts, used = [], []
    for epoch in range(3):
        for number, places in steps(epoch):
            made = composition.of_step(number, places)
            assert made[:SIZE] == own.of_step(number, places)
            counts.append(len(made) - SIZE)
            used += made[SIZE:]
    assert sum(counts) == round(72 * 0.05 / 0.95) and set(counts) == {0, 1}
    assert len(set(used)) == len(used), "each once before any is used again"


def test_a_share_of_nothing_is_the_training_without_it(maker: Maker) -> None:
    own = maker.samples(ROWS)
    assert all(replayed(maker, 0.0).of_step(n, places) == own.of_step(n, places) for n, places in steps())


def test_a_larger_share_goes_round_again_in_another_order(maker: Maker) -> None:
    made = [sample for n, places in steps() for sample in replayed(maker, 0.4).of_step(n, places)[SIZE:]]
    assert len(made) == others_beside(24, 0.4) == 16
    assert Counter(Counter(made).values()) == {3: 4, 4: 1}
    assert made[:5] != made[5:10] and set(made[:5]) == set(made[5:10])
    assert made != [s for n, places in steps() for s in replayed(maker, 0.4, seed=1).of_step(n, places)[SIZE:]]


def test_the_same_number_of_texts_stands_in_every_step(maker: Maker) -> None:
    own = maker.samples(ROWS)
    composition = Beside(own, OTHERS, 2, seed=0)
    made = [composition.of_step(n, places) for n, places in steps()]
    assert [one[:-2] for one in made] == [own.of_step(n, places) for n, places in steps()]
    assert set(Counter(text for one in made for text in one[-2:]).values()) <= {2, 3}


def test_rows_before_a_step_know_that_the_last_of_an_epoch_is_smaller() -> None:
    sizes = [4, 4, 2] * 3
    assert [rows_before(n, 10, 4) for n in range(9)] == [sum(sizes[:n]) for n in range(9)]
    assert sorted(turns(range(3, 9), 6, "x")) != list(range(6)) and sorted(turns(range(6), 6, "x")) == list(range(6))

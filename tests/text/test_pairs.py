"""Cutting texts as lm-evaluation-harness does, held against its own code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from smalltokenizers import byte_level, byte_level_without_words, metaspace, write
from tokenizers import Tokenizer, processors

from spillover.errors import PromptError
from spillover.text.encode import Encoder
from spillover.text.pairs import Pair, PairEncoder

BOS, EOS = 1, 2


def beginning_with_bos(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", BOS)])
    return tokenizer


KINDS: dict[str, tuple[Tokenizer, dict[str, Any]]] = {
    "byte level": (byte_level(), {}),
    "tokens that end in spaces": (byte_level_without_words(), {"bos_token": None}),
    "sentencepiece with BOS": (beginning_with_bos(metaspace()), {}),
    "byte level with BOS": (beginning_with_bos(byte_level()), {}),
}
TEXTS = [
    "",
    " ",
    "The relation is",
    "The relation is ",
    "the film was fine\n\n",
    "<s>one fish",
    "</s> two",
    "naï",
    "é 12",
]
TEXTS += ["positi", "ve", "<s>", " fish and", "12 34", "\t", "😀", "Sentiment: ", "</s>"]
some_text = st.one_of(st.sampled_from(TEXTS), st.text(" \nabe<s>/12😀é", max_size=8))


@pytest.fixture(scope="module", params=KINDS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer, config = KINDS[request.param]
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>", "pad_token": "</s>", **config}
    return write(tmp_path_factory.mktemp("tokenizer"), tokenizer, **config)


def harness(folder: Path, add_bos: bool | None = None, prefix_token_id: int | None = None) -> Any:
    """lm-evaluation-harness's Hugging Face model, without weights."""
    huggingface = pytest.importorskip("lm_eval.models.huggingface")
    model = object.__new__(huggingface.HFLM)
    model.backend, model.add_bos_token, model.custom_prefix_token_id = "causal", add_bos, prefix_token_id
    model._create_tokenizer(str(folder), None, add_bos_token=add_bos)
    return model


def theirs(model: Any, context: str, continuation: str) -> Pair:
    """What `TemplateLM.loglikelihood` hands on."""
    handed: list[Any] = []
    model._loglikelihood_tokens = lambda requests, **_: handed.extend(requests)
    request = type("Request", (), {"args": (context, continuation)})
    type(model).__mro__[1].loglikelihood(model, [request], disable_tqdm=True)
    [(_, before, after)] = handed
    return Pair(tuple(before), tuple(after))


@pytest.mark.lm_eval
@pytest.mark.parametrize("add_bos", [None, True, False])
def test_pairs_are_cut_as_the_harness_cuts_them(folder: Path, add_bos: bool | None) -> None:
    model, ours = harness(folder, add_bos), PairEncoder(Encoder.load(folder), add_bos)
    assert ours.prefix_id == model.prefix_token_id

    @given(some_text, some_text)
    @settings(max_examples=150)
    def same(context: str, continuation: str) -> None:
        expected = theirs(model, context, continuation) if context or continuation else Pair((), ())
        if not expected.context:  # white space alone, on which the harness fails
            expected = theirs(model, "", context + continuation) if context + continuation else expected
        if expected.continuation:
            assert ours.pairs([("x", "y"), (context, continuation)])[1] == expected
        else:
            with pytest.raises(PromptError, match="no token"):
                ours.pairs([(context, continuation)])

    same()


@pytest.mark.lm_eval
def test_another_token_may_stand_in_for_an_empty_context(folder: Path) -> None:
    model, ours = harness(folder, prefix_token_id=7), PairEncoder(Encoder.load(folder), stand_in=7)
    assert ours.pairs([("", "the film")]) == [theirs(model, "", "the film")]


@pytest.mark.lm_eval
@given(
    st.lists(st.sampled_from(["the film was fine ", "one fish", "<s>", "é", "\n\n"]), max_size=12), st.integers(1, 9)
)
@settings(max_examples=60)
def test_every_token_of_a_text_is_in_one_continuation(encoders: list[Encoder], parts: list[str], longest: int) -> None:
    utils = pytest.importorskip("lm_eval.utils")
    for encoder in encoders:
        [ids], [pairs] = (
            PairEncoder(encoder).ids(["".join(parts)]),
            PairEncoder(encoder).rolling(["".join(parts)], longest),
        )
        windows = utils.get_rolling_token_windows(list(ids), encoder.stand_in, longest, 1)
        expected = [tuple(map(tuple, utils.make_disjoint_window(window))) for window in windows]
        assert pairs == expected
        assert sum((pair.continuation for pair in pairs), ()) == ids
        assert all(pair.shortened(longest) == pair for pair in pairs)


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> list[Encoder]:
    root = tmp_path_factory.mktemp("tokenizers")
    return [
        Encoder.load(write(root / str(n), *one))
        for n, one in enumerate([(byte_level(),), (KINDS["byte level with BOS"][0],)])
    ]


def test_a_long_pair_loses_tokens_from_the_left() -> None:
    pair = Pair((1, 2, 3, 4), (5, 6))
    assert pair.shortened(5) == pair  # the last token is predicted only
    assert pair.shortened(3) == Pair((3, 4), (5, 6))
    assert pair.shortened(2) == Pair((4,), (5, 6))
    with pytest.raises(PromptError, match="2 tokens"):
        pair.shortened(1)


@pytest.mark.lm_eval
def test_a_prompt_keeps_its_last_tokens(folder: Path) -> None:
    ours = PairEncoder(Encoder.load(folder))
    model = harness(folder)
    for context in ["the film was fine and the café too", "<s>one fish", "é"]:
        [ids] = ours.prompts([context], 5)
        expected, _ = model.tok_batch_encode([context], left_truncate_len=5)
        assert [list(ids)] == expected.tolist()
    assert ours.prompts([""], 5)[0] == (ours.prefix_id,)


def test_bos_of_the_configuration_counts_only_where_the_tokenizer_may_have_one(tmp_path: Path) -> None:
    def stand_in(**config: Any) -> int:
        folder = write(tmp_path / "tokenizer", byte_level(), **config)
        if config.get("bos_token", 0) == "":
            stated = (folder / "tokenizer_config.json").read_text()
            (folder / "tokenizer_config.json").write_text(stated.replace('"bos_token": "", ', ""))
        (folder / "config.json").write_text('{"bos_token_id": 7, "max_position_embeddings": 128}')
        return Encoder.load(folder).stand_in

    assert stand_in() == BOS
    assert stand_in(bos_token=None) == EOS  # as Qwen's
    assert stand_in(bos_token="") == 7  # none stated: the class may have one, as GPT-2's
    assert stand_in(bos_token="", tokenizer_class="Qwen2Tokenizer") == EOS


def test_what_our_rule_cuts_otherwise(smollm2: Path) -> None:
    pairs = PairEncoder(Encoder.load(smollm2))
    texts = [
        ("Sentiment: ", "positive"),
        ("Sentiment:", " positive"),
        ("Q: posit", "ive ones"),
        ("in the w", "ater boat"),
    ]
    assert pairs.cut_otherwise(texts) == [False, False, True, True]

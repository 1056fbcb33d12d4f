"""The joint of prompt and answer: on the real tokenizer, and on small ones of each kind there is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from smalltokenizers import KINDS, byte_level, metaspace, write
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers import models as bpe

from spillover.errors import ModelError, PromptError
from spillover.text.encode import Encoder
from spillover.text.prompt import render
from spillover.text.stops import cut
from spillover.text.task import FIVE, Example


@pytest.fixture(scope="module", params=KINDS)
def small(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return Encoder.load(write(tmp_path_factory.mktemp("tokenizer"), KINDS[request.param]()))


@pytest.fixture(scope="module")
def real(smollm2: Path) -> Encoder:
    return Encoder.load(smollm2)


def tokens(encoder: Encoder, ids: tuple[int, ...]) -> list[str | None]:
    return [encoder.tokenizer.id_to_token(i) for i in ids]


def split(encoder: Encoder, prompt: str, answer: str) -> tuple[list[str | None], list[str | None]]:
    [(ids, start)] = encoder.continuation([prompt], [answer])
    return tokens(encoder, ids[:start]), tokens(encoder, ids[start:])


# --- The real tokenizer ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "answer", "before", "after"),
    [
        ("Sentiment: ", "positive", ["Sent", "iment", ":"], ["Ġpositive"]),
        ("Sentiment:", "positive", ["Sent", "iment", ":"], ["positive"]),
        ("The relation is ", "entailment", ["The", "Ġrelation", "Ġis"], ["Ġentail", "ment"]),
        ("Q:\n", "yes", ["Q", ":", "Ċ"], ["yes"]),
        ("Q:  ", "yes", ["Q", ":", "Ġ"], ["Ġyes"]),
        ("in ", "1997", ["in", "Ġ"], ["1", "9", "9", "7"]),
        ("positi", "ve x", [], ["positive", "Ġx"]),
        ("Q:", "", ["Q", ":"], []),
        ("", "yes", [], ["yes"]),
        ("😀", " é", ["ðŁ", "ĺ", "Ģ"], ["ĠÃ©"]),
        ("a ", "😀", ["a"], ["ĠðŁĺ", "Ģ"]),
    ],
)
def test_the_joint(real: Encoder, prompt: str, answer: str, before: list[str], after: list[str]) -> None:
    assert split(real, prompt, answer) == (before, after)


def test_the_real_tokenizer_adds_no_bos_and_splits_all_digits(real: Encoder) -> None:
    assert (real.bos_id, real.eos_id, real.eos_ids, real.max_context) == (1, 2, {2}, 8192)
    assert real.prefix == ()
    assert tokens(real, real.text_ids("The capital 12")) == ["The", "Ġcapital", "Ġ", "1", "2"]
    assert tokens(real, real.text_ids("a ١")) == ["a", "Ġ", "Ù", "¡"]  # a rule that reading GGUF loses


@pytest.mark.parametrize("prompt_name", ["p1", "p2"])
@pytest.mark.parametrize("task_name", ["sentiment", "paraphrase", "inference"])
def test_every_label_of_the_study_can_be_scored(real: Encoder, task_name: str, prompt_name: str) -> None:
    task = FIVE[task_name]
    assert task.labels
    row = Example(0, dict.fromkeys(task.fields, "A dog ran."), task.labels[0])
    prompt = render(task.prompts[prompt_name], [row, row], row)
    ids, options = real.options([prompt], [task.labels or ()])[0]
    assert real.decode(ids) == prompt.rstrip(" ")
    assert [real.decode(option).strip() for option in options] == list(task.labels)
    assert all(real.decode(ids + option) == prompt + label for option, label in zip(options, task.labels, strict=True))
    assert real.prompt_for_generation([prompt]) == [ids]


def test_chat_text_is_as_transformers_writes_it(real: Encoder) -> None:
    assert real.chat_template
    text = real.chat_template.texts([[{"role": "user", "content": "Hi <b>"}]])[0]
    assert text == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nHi <b><|im_end|>\n<|im_start|>assistant\n"
    )
    ids, options = real.options([text], [["yes", "no"]], chat=True)[0]
    assert ids == real.text_ids(text, chat=True)
    assert ids.count(real.bos_id) == 3  # one for each turn, each a single token
    assert tokens(real, options[0]) == ["yes"]


def test_generation_stops_at_a_blank_line_whatever_it_is_made_of(real: Encoder) -> None:
    stop = real.stop_rule()
    ids = real.text_ids(" A fine day.\nIndeed.\n\nNext")
    first = next(i for i in range(len(ids) + 1) if stop(ids[:i]))
    assert real.decode(ids[:first]) == " A fine day.\nIndeed.\n\n"
    assert cut(real.decode(ids)) == "A fine day.\nIndeed."
    assert cut("no blank line \n") == "no blank line"


# SmolLM2 has no token for some control bytes and for unassigned planes, and drops them without a word.
KNOWN = st.characters(exclude_categories=("Cc", "Cs", "Cn", "Co"), include_characters="\n\t")


@settings(max_examples=80)
@given(text=st.text(KNOWN, max_size=40))
def test_nothing_is_lost_at_the_joint(real: Encoder, text: str) -> None:
    """One text, with the joint at every place in it: the same ids, and a start that only moves on."""
    places = range(len(text) + 1)
    rows = real.continuation([text[:at] for at in places], [text[at:] for at in places])
    assert {ids for ids, _ in rows} == {rows[0][0]}
    assert real.decode(rows[0][0]) == text
    starts = [start for _, start in rows]
    assert starts[0] == 0
    assert starts == sorted(starts)
    assert starts[-1] == len(rows[0][0])
    for at, (ids, start) in zip(places, rows, strict=True):
        # What is before the start is of the prompt, and of whole characters.
        assert text[:at].startswith(real.decode(ids[:start]))


# --- Tokenizers of every kind ---------------------------------------------------------------------

JOINTS = [
    ("The relation is ", "entailment"),
    ("### Sentiment: ", "positive"),
    ("### Sentiment:", "positive"),
    ("### Input:\n", "the film"),
    ("the café", " 😀 too"),
    ("the café ", "😀😀"),
    ("ﬁne ½ ", "ﬁsh"),  # one character becomes two or three under NFKC
    ("a   ", "  b"),
    ("unknown ☃ ", "☃ unknown"),
    ("x", ""),
]


@pytest.mark.parametrize(("prompt", "answer"), JOINTS)
def test_the_start_is_the_first_token_that_reaches_into_the_answer(small: Encoder, prompt: str, answer: str) -> None:
    """Held against the definition, token by token."""
    [(ids, start)] = small.continuation([prompt], [answer])
    spans = small.tokenizer.encode(prompt + answer, add_special_tokens=False).offsets
    shift = len(small.prefix)
    expected = next((i for i, (_, end) in enumerate(spans) if end > len(prompt)), len(spans))
    assert start == shift + expected
    assert len(ids) == shift + len(spans)
    folded = small.tokenizer.normalizer.normalize_str if small.tokenizer.normalizer else str
    assert small.decode(ids).strip() == folded(prompt + answer).strip()
    assert folded(prompt).startswith(small.decode(ids[:start]).strip("\ufffd ").strip())


@pytest.mark.parametrize("kind", ["byte_level", "metaspace"])
@pytest.mark.parametrize("prompt", ["The relation is ", "### Sentiment: ", "### Sentiment:", "ﬁne ½ "])
@pytest.mark.parametrize("answer", ["entailment", "positive", "☃"])
def test_what_is_generated_from_is_what_stands_before_an_answer(
    tmp_path: Path, kind: str, prompt: str, answer: str
) -> None:
    encoder = Encoder.load(write(tmp_path, KINDS[kind]()))
    [(ids, start)] = encoder.continuation([prompt], [answer])
    [generated_from] = encoder.prompt_for_generation([prompt])
    assert ids[: len(generated_from)] == generated_from
    # Where the tokenizer keeps the space apart from the answer, that one token comes in between.
    assert encoder.decode(ids[len(generated_from) : start]) in ("", " ")


def test_spans_are_not_trimmed(tmp_path: Path) -> None:
    """A token "a " reaches over the joint if the answer begins with that space, though trimming would hide it."""
    tokenizer = Tokenizer(bpe.BPE(vocab={"a": 0, "Ġ": 1, "aĠ": 2, "b": 3, "</s>": 4}, merges=[("a", "Ġ")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    assert tokenizer.encode("a b").offsets[0] == (0, 1)
    encoder = Encoder.load(write(tmp_path, tokenizer, bos_token=None))
    assert encoder.continuation(["a"], [" b"]) == [((2, 3), 0)]


def test_a_character_split_over_tokens_is_never_cut(small: Encoder) -> None:
    for prompt, answer in (("a", "😀b"), ("a😀", "b"), ("a ", "名b")):
        [(ids, start)] = small.continuation([prompt], [answer])
        assert "\ufffd" not in small.decode(ids[:start])
        assert "\ufffd" not in small.decode(ids[start:])


def test_truncation_and_padding_of_the_last_use_are_off(tmp_path: Path) -> None:
    tokenizer = byte_level()
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=64)
    encoder = Encoder.load(write(tmp_path, tokenizer))
    text = "The relation is entailment neutral contradiction."
    assert encoder.decode(encoder.text_ids(text)) == text


# --- BOS and EOS ----------------------------------------------------------------------------------


def test_bos_stands_once_in_front_and_eos_not_behind(tmp_path: Path) -> None:
    encoder = Encoder.load(write(tmp_path, metaspace()))
    assert encoder.prefix == (1,)
    for ids in (
        encoder.text_ids("the film"),
        encoder.text_ids("<s>the film"),
        encoder.text_ids("<s>the film", chat=True),
        encoder.continuation(["the "], ["film"])[0][0],
        encoder.prompt_for_generation(["the "])[0],
        encoder.options(["the "], [["film", "café"]])[0][0],
    ):
        assert ids[0] == 1
        assert ids.count(1) == 1
        assert 2 not in ids
    assert 1 not in encoder.text_ids("the film", chat=True)
    assert encoder.continuation([""], ["film"])[0][1] == 1  # BOS stands before the answer


@pytest.mark.parametrize(("stated", "prefix"), [(True, (1,)), (False, ()), (None, ())])
def test_a_stated_add_bos_token_decides(tmp_path: Path, stated: bool | None, prefix: tuple[int, ...]) -> None:
    assert Encoder.load(write(tmp_path, byte_level(), add_bos_token=stated)).prefix == prefix


def test_end_ids_are_the_tokenizers_and_the_generation_configs(tmp_path: Path) -> None:
    folder = write(tmp_path, byte_level())
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [7, 9]}))
    encoder = Encoder.load(folder)
    assert (encoder.eos_id, encoder.eos_ids) == (2, {2, 7, 9})
    (folder / "config.json").write_text(json.dumps({"eos_token_id": [-1, 2**40, True, 1.5, "5", None, 8]}))
    assert Encoder.load(folder).eos_ids == {2, 7, 8, 9}, "some configurations say -1 for none"
    (folder / "config.json").unlink()
    (folder / "tokenizer_config.json").write_text("{}")
    assert Encoder.load(folder).eos_id == 7
    (folder / "generation_config.json").unlink()
    with pytest.raises(ModelError, match="no end-of-sequence token"):
        Encoder.load(folder)


def test_a_tokenizer_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no tokenizer\.json"):
        Encoder.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="cannot be read"):
        Encoder.load(tmp_path)


def test_the_identity_covers_all_that_decides_the_ids(tmp_path: Path) -> None:
    tokenizer = byte_level()
    identities = [
        Encoder.load(write(tmp_path / name, tokenizer, **config)).identity
        for name, config in {
            "a": {},
            "same elsewhere": {"model_max_length": 5},
            "bos": {"add_bos_token": True},
            "eos": {"eos_token": "<unk>"},
            "chat": {"chat_template": "x"},
        }.items()
    ]
    assert identities[0] == identities[1]
    assert len(set(identities)) == 4
    assert Encoder.load(write(tmp_path / "other", byte_level(vocab_size=300))).identity not in identities


# --- Options --------------------------------------------------------------------------------------


def test_labels_with_a_common_beginning_are_scored_whole(real: Encoder) -> None:
    ids, options = real.options(["It is "], [["not good", "not bad"]])[0]
    assert tokens(real, ids) == ["It", "Ġis"]
    assert [tokens(real, option) for option in options] == [["Ġnot", "Ġgood"], ["Ġnot", "Ġbad"]]


def test_a_label_joined_to_the_prompts_last_token_takes_it_along(real: Encoder) -> None:
    ids, options = real.options(["x positi"], [["ve", " no"]])[0]
    assert tokens(real, ids) == ["x"]
    assert [tokens(real, option) for option in options] == [["Ġpositive"], ["Ġposit", "i", "Ġno"]]


def test_a_label_that_begins_another_keeps_its_tokens(real: Encoder) -> None:
    _, options = real.options(["It is "], [["entail", "entailment"]])[0]
    assert [tokens(real, option) for option in options] == [["Ġentail"], ["Ġentail", "ment"]]


def test_labels_that_cannot_be_scored_are_named(real: Encoder, tmp_path: Path) -> None:
    tokenizer = byte_level()
    tokenizer.normalizer = normalizers.Lowercase()
    folded = Encoder.load(write(tmp_path, tokenizer))
    with pytest.raises(PromptError, match="labels 'Yes' and 'yes' are the same tokens"):
        folded.options(["Answer: "], [["Yes", "no", "yes"]])
    with pytest.raises(PromptError, match="label '' has no tokens"):
        real.options(["Answer:"], [["yes", ""]])
    with pytest.raises(PromptError, match="nothing stands before the labels"):
        real.options([""], [["yes", "no"]])


def test_a_batch_is_its_rows(real: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spillover.text.encode.BATCH_CHARACTERS", 20)
    prompts = [f"Row {i}: " for i in range(7)]
    labels = [["yes", "no", "perhaps"], ["yes", "no"], ["a", "b", "c"], *[["no", "yes"]] * 4]
    alone = [real.options([prompt], [own])[0] for prompt, own in zip(prompts, labels, strict=True)]
    assert real.options(prompts, labels) == alone
    assert real.options([], []) == []


# --- Chat templates -------------------------------------------------------------------------------

TEMPLATE = """{{ bos_token }}
{%- for m in messages %}
    {%- if m.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}
    {%- if loop.index > 9 %}{% break %}{% endif %}
    {% generation %}[{{ m | tojson }}]{% endgeneration %}
{% endfor %}
{%- if add_generation_prompt and not tools %} {{ strftime_now('%d %b %Y') }}:{% endif %}"""


@pytest.mark.parametrize("place", ["file", "config", "list"])
def test_a_template_has_what_transformers_gives_it(tmp_path: Path, place: str) -> None:
    listed = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": TEMPLATE}]
    in_config = {"config": {"chat_template": TEMPLATE}, "list": {"chat_template": listed}}.get(place, {})
    folder = write(tmp_path, byte_level(), **in_config)
    if place == "file":
        (folder / "chat_template.jinja").write_text(TEMPLATE)
    template = Encoder.load(folder).chat_template
    assert template
    # The date stands still, so that the same experiment has the same prompts tomorrow.
    text = template.texts([[{"role": "user", "content": "<é>"}]])[0]
    assert " ".join(text.split()) == '<s>[{"role": "user", "content": "<é>"}] 26 Jul 2024:'
    with pytest.raises(PromptError, match="no system role"):
        template.texts([[{"role": "system", "content": "x"}]])


def test_a_template_cannot_reach_out_of_its_sandbox(tmp_path: Path) -> None:
    folder = write(tmp_path, byte_level(), chat_template="{{ messages.__class__.__mro__ }}")
    template = Encoder.load(folder).chat_template
    assert template
    with pytest.raises(PromptError, match="chat template fails: SecurityError"):
        template.texts([[{"role": "user", "content": "x"}]])


def test_no_template_is_none(tmp_path: Path) -> None:
    assert Encoder.load(write(tmp_path, byte_level())).chat_template is None


@pytest.mark.parametrize(
    ("text", "stops", "answer"),
    [
        (" Paris.\nQuestion: and", ["\n"], "Paris."),
        ("\nParis.", ["\n"], ""),  # in the white space before the answer
        ("\n\nParis.", ["\n"], ""),  # inside the first token
        (" one two three", [" th", "e t"], "on"),  # the first in the text, not in the list; over several tokens
        (" one two", [" t", "e t"], "one"),  # of two that overlap, the first in the list
        (" one two ### three\n\nfour", ["###"], "one two"),
        (" one\n\ntwo\n", [], "one\n\ntwo"),
        (" 日本。語", ["。"], "日本"),  # a character of several tokens
    ],
)
@pytest.mark.parametrize("chat", [False, True])
def test_generation_ends_at_the_first_stop_string(
    real: Encoder, text: str, stops: list[str], answer: str, chat: bool
) -> None:
    """The answer is that of `until` in lm-evaluation-harness, whatever the tokens are, without white space around."""
    until = text
    for stop in stops:
        until = until.split(stop)[0]
    assert until.strip() == answer
    rule, ids = real.stop_rule(stops), real.text_ids(text, chat)
    first = next((i for i in range(len(ids) + 1) if rule(ids[:i])), len(ids))
    assert cut(real.decode(ids[:first]), stops) == cut(real.decode(ids), stops) == answer


def test_a_special_token_can_be_a_stop_string(real: Encoder) -> None:
    """It is no part of the text, so the rule goes by its id."""
    ids = real.text_ids(" one<|im_start|> two")
    rule = real.stop_rule(["<|im_start|>"])
    first = next(i for i in range(len(ids) + 1) if rule(ids[:i]))
    assert real.decode(ids[:first]) == " one"
    assert [*real.special(["<|im_start|>", "two"])] == ["<|im_start|>"]

"""The shared engine held against the plain one, request by request, and what is refused a shared engine."""

from __future__ import annotations

import copy
import random
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tinymodels
import torch
from answers import ask, classification, hold_against, repeats_itself
from hypothesis import event, given, settings
from hypothesis import strategies as st

from spillover.engine import attention, ops
from spillover.engine.hf import load_engine
from spillover.engine.plain import PlainEngine
from spillover.engine.port import Answer
from spillover.engine.shared import SharedEngine
from spillover.engine.tree import Tree
from spillover.text.encode import Encoder
from spillover.text.request import Request

kernels: Any = ops.kernels  # optional: tests that need them use the fixture `onednn`

ENDS = frozenset([tinymodels.EOS, 7])

pair = cache(tinymodels.pair)


@st.composite
def requests(draw: st.DrawFn) -> list[Request]:
    """Requests whose prompts grow out of each other, as shot counts and rows do."""
    token, tail = st.integers(0, 5), st.lists(st.integers(0, 49), min_size=1, max_size=8)
    stem = draw(st.lists(st.integers(0, 49), min_size=40, max_size=40))
    prompts: list[tuple[int, ...]] = [(*stem, *draw(tail))]
    made: list[Request] = []
    for _ in range(draw(st.integers(1, 10))):
        of = draw(st.sampled_from(prompts))
        prompts.append((*of[: draw(st.integers(0, len(of)))], *draw(tail)))
        options = draw(st.lists(st.lists(token, min_size=1, max_size=3).map(tuple), max_size=3, unique=True))
        made.append(Request(prompts[-1], tuple(options), draw(st.integers(0 if options else 1, 6))))
        made += draw(st.sampled_from([[], [made[-1]], [Request(prompts[0][: len(of)], (), 3)]]))
    return made


@settings(max_examples=60)
@given(requests(), st.sampled_from([7, 23, 64, 4096]), st.sampled_from([10, 60, 24_576]))
def test_random_requests(asked: list[Request], pack_tokens: int, decode_tokens: int) -> None:
    """Whatever the cut into passes and the rows held for decoding: the same answers."""
    plain, model = pair()
    theirs = ask(PlainEngine(plain, ENDS), asked)
    ours = ask(SharedEngine(model, ENDS, pack_tokens, decode_tokens), asked)
    if hold_against(plain, asked, theirs, ours):
        event("near ties")


@pytest.mark.usefixtures("onednn")
def test_random_requests_by_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "SCORES_AT_ONCE", 100)
    monkeypatch.setattr(kernels, "CAUSAL_QUERIES", 7)
    rectangles: list[int] = []
    attend = kernels.attend
    monkeypatch.setattr(kernels, "attend", lambda *args: rectangles.append(1) or attend(*args))
    plain, model = tinymodels.pair()

    @settings(max_examples=20)
    @given(requests(), st.sampled_from([23, 4096]))
    def check(asked: list[Request], pack_tokens: int) -> None:
        hold_against(
            plain, asked, ask(PlainEngine(plain, ENDS), asked), ask(SharedEngine(model, ENDS, pack_tokens), asked)
        )

    check()
    assert len(rectangles) > 100, "in reading and in decoding"
    assert sum(isinstance(module, kernels.Linear) for module in model.modules()) > 10


def test_what_the_model_would_write_is_greedy() -> None:
    """An option counts as greedy exactly if the model's own text begins with it."""
    plain, model = pair()
    for asked in classification(rows=4, generate=0):
        free = Request(asked.prompt, (), 3)
        [own] = [answer.generated or () for answer in ask(PlainEngine(plain, frozenset()), [free]).values()]
        nearly = (*own[:-1], (own[-1] + 1) % 50)
        scored = Request(asked.prompt, (own, nearly, own[:1], *asked.options))
        for engine in (PlainEngine(plain, frozenset()), SharedEngine(model, frozenset())):
            [answer] = ask(engine, [scored]).values()
            assert answer.greedy[:3] == (True, False, True)


def test_a_cell_of_two_shot_counts() -> None:
    """No near ties here, so all of it is compared; the model says all sorts of things."""
    plain, model = pair()
    asked = classification()
    theirs, ours = ask(PlainEngine(plain, ENDS), asked), ask(SharedEngine(model, ENDS), asked)
    assert hold_against(plain, asked, theirs, ours) == 0
    assert len({answer.top for answer in theirs.values()}) > 5
    assert len({answer.ended for answer in theirs.values()}) > 1


def test_what_is_computed_is_the_tree() -> None:
    plain, model = pair()
    asked = classification(generate=0)
    engine, reference = SharedEngine(model, ENDS), PlainEngine(plain, ENDS)
    ask(engine, asked)
    ask(reference, asked)
    tree = Tree.of([request.prompt + option[:-1] for request in asked for option in request.options])
    assert engine.work.tokens == len(tree)
    assert engine.work.tokens_plain == sum(len(request.prompt) + 2 for request in asked), "its longest label has 3"
    assert engine.work.tokens < engine.work.tokens_plain / 2
    assert engine.work.seconds > 0
    assert reference.work.tokens == reference.work.tokens_plain
    assert reference.work.tokens == sum(len(r.prompt) + len(option) - 1 for r in asked for option in r.options)


def test_every_pass_but_the_head_sees_a_token_once() -> None:
    """Counted in the model itself: the tokens that go through its layers are the tree's."""
    _, model = pair()
    seen = 0

    def count(_: Any, __: Any, kwargs: dict[str, Any]) -> None:
        nonlocal seen
        seen += kwargs["input_ids"].numel()

    hook = model.get_decoder().register_forward_pre_hook(count, with_kwargs=True)
    engine = SharedEngine(model, ENDS, pack_tokens=64)
    ask(engine, classification(generate=0))
    hook.remove()
    assert seen == engine.work.tokens


@pytest.mark.parametrize("decode_tokens", [10, 24_576])
def test_the_order_of_requests_does_not_change_a_byte(decode_tokens: int) -> None:
    _, model = pair()
    asked = [*classification(), *classification(rows=2), Request(classification()[0].prompt[:40], (), 5)]
    order = list(range(len(asked)))
    random.Random(1).shuffle(order)
    engine = SharedEngine(model, ENDS, pack_tokens=50, decode_tokens=decode_tokens)
    one, other = ask(engine, asked), ask(engine, [asked[i] for i in order])
    assert [one[i] for i in order] == [other[at] for at in range(len(order))]


class SmallDevice:
    """A model's body on a device with room for `tokens` tokens a pass, which says so as PyTorch does."""

    def __init__(self, model: Any, tokens: int) -> None:
        self.refused = 0

        def refuse(_: Any, __: Any, kwargs: dict[str, Any]) -> None:
            if kwargs["input_ids"].numel() > tokens:
                self.refused += 1
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate more than there is")

        model.get_decoder().register_forward_pre_hook(refuse, with_kwargs=True)


def test_out_of_memory_halves_the_passes_and_goes_on() -> None:
    plain, model = tinymodels.pair()
    asked = classification(rows=20)
    theirs = ask(PlainEngine(plain, ENDS), asked)
    engine = SharedEngine(model, ENDS, pack_tokens=2 * len(asked[0].prompt) * len(asked))
    device = SmallDevice(model, tokens=150)
    hold_against(plain, asked, theirs, ask(engine, asked))
    assert device.refused > 1
    assert 64 <= engine.pack_tokens <= 150
    assert engine.work.tokens_plain == sum(len(request.prompt) + 2 for request in asked), "counted once"


def test_a_device_without_room_for_anything_is_an_error() -> None:
    _, model = tinymodels.pair()
    SmallDevice(model, tokens=10)
    with pytest.raises(torch.OutOfMemoryError):
        ask(SharedEngine(model, ENDS), classification())


def test_other_errors_are_not_taken_for_a_full_memory() -> None:
    _, model = tinymodels.pair()

    def broken(*_: Any) -> None:
        raise RuntimeError("a bug")

    model.get_decoder().register_forward_pre_hook(broken)
    engine = SharedEngine(model, ENDS)
    before = engine.pack_tokens
    with pytest.raises(RuntimeError, match="a bug"):
        ask(engine, classification())
    assert engine.pack_tokens == before


def test_no_requests_no_answers() -> None:
    assert ask(SharedEngine(pair()[1], ENDS), []) == {}


def test_generation_ends_by_limit_by_rule_or_by_an_end_token() -> None:
    """`ended` tells which; the end token itself is not part of the answer."""
    plain, model = pair()
    prompt = classification()[0].prompt
    (said,) = dict(PlainEngine(plain, frozenset()).run([Request(prompt, (), 6)], lambda ids: False)).values()
    ids = said.generated
    assert ids is not None
    assert len(ids) == 6
    assert said.ended == "limit"
    last = next(i for i in range(1, 6) if ids[i] not in ids[:i])  # the first step at which a new id appears
    for engine_of in (PlainEngine, SharedEngine):
        used = plain if engine_of is PlainEngine else model

        def run(ends: frozenset[int], stop: Any, used: Any = used, engine_of: Any = engine_of) -> Answer:
            return dict(engine_of(used, ends).run([Request(prompt, (), 6)], stop))[0]

        by_limit = run(frozenset(), lambda ids: False)
        by_rule = run(frozenset(), lambda so_far: len(so_far) == 2)
        by_end = run(frozenset([ids[last]]), lambda ids: False)
        assert (by_limit.generated, by_limit.ended) == (ids, "limit")
        assert (by_rule.generated, by_rule.ended) == (ids[:2], "stop")
        assert (by_end.generated, by_end.ended) == (ids[:last], "end")


def test_with_options_only_a_row_that_would_say_something_else_is_decoded() -> None:
    plain, model = pair()
    prompt = classification()[0].prompt
    top = dict(PlainEngine(plain, ENDS).run([Request(prompt)], repeats_itself))[0].top
    other = (top + 1) % tinymodels.VOCABULARY
    asked = [Request(prompt, ((top, 1), (other,)), 4), Request(prompt, ((other,),), 4), Request(prompt, ((other,),), 0)]
    for engine in (PlainEngine(plain, ENDS), SharedEngine(model, ENDS)):
        answers = ask(engine, asked)
        assert answers[0].generated is None
        assert answers[1].generated is not None
        assert answers[1].generated[:1] == ((top,) if top not in ENDS else ())
        assert answers[2].generated is None


def loaded(folder: Path, kind: str, longest: int | None = None, **changes: Any) -> tuple[Any, str | None]:
    """As a run loads a model from its folder: the engine, and why it is the plain one."""
    tinymodels.save(tinymodels.build(kind, **changes), folder)
    return load_engine(folder, Encoder.load(folder), "float32", longest=longest)


def test_a_model_that_can_share_gets_the_shared_engine(tmp_path: Path) -> None:
    engine, reason = loaded(tmp_path, "Llama")
    assert isinstance(engine, SharedEngine)
    assert reason is None
    assert engine.model.config._attn_implementation == attention.NAME
    asked = classification(rows=2)
    plain, none = load_engine(tmp_path, Encoder.load(tmp_path), "float32", asked="plain")
    assert isinstance(plain, PlainEngine)
    assert none is None, "that is what was asked for"
    assert hold_against(plain.model, asked, ask(plain, asked), ask(engine, asked)) == 0


@pytest.mark.parametrize("kind", ["Mistral", "Gemma3Text"])
def test_within_its_sliding_window_a_model_shares(tmp_path: Path, kind: str) -> None:
    asked = classification(rows=3)
    reach = max(request.reach for request in asked)
    changes = {"sliding_window": reach} | ({"head_dim": 8} if kind == "Gemma3Text" else {})
    engine, reason = loaded(tmp_path, kind, longest=reach, **changes)
    assert isinstance(engine, SharedEngine), reason
    plain, _ = load_engine(tmp_path, Encoder.load(tmp_path), "float32", asked="plain")
    assert hold_against(plain.model, asked, ask(plain, asked), ask(engine, asked)) <= 1
    longer = [*asked, Request((*asked[0].prompt, *range(5, 5 + reach)), ((4, 5),))]
    with pytest.raises(ValueError, match=f"shared up to {reach}"):
        ask(engine, longer)


@pytest.mark.usefixtures("onednn")
@pytest.mark.parametrize(
    ("kind", "changes", "why"),
    [
        ("Mistral", {"sliding_window": 16}, "a sliding window of 16 tokens"),
        ("Gemma3Text", {"sliding_window": 16, "head_dim": 8, "longest": 17}, "16 tokens, texts of up to 17"),
        ("Mamba", {"state_size": 8}, "layers of type linear_attention"),
        ("Falcon", {}, "does not let the attention of FalconForCausalLM be replaced"),
        ("HyperCLOVAX", {"logits_scaling": 2.0}, "its output layer does something of its own"),  # multiplies
    ],
)
def test_a_model_that_cannot_share_is_answered_by_the_plain_engine(
    tmp_path: Path, kind: str, changes: dict[str, Any], why: str
) -> None:
    """And answers as it does by itself: scored at a prompt longer than its window, and decoded."""
    engine, reason = loaded(tmp_path, kind, **changes)
    assert isinstance(engine, PlainEngine)
    assert why in str(reason)
    assert not any(isinstance(module, kernels.Linear) for module in engine.model.modules()), "all has been given back"
    request = Request(classification()[0].prompt, ((4, 5),), 4)
    (answer,) = ask(engine, [request]).values()
    assert engine.work.tokens == len(request.prompt) + 1, "the probe is not on the bill"
    greedy = copy.deepcopy(engine.model).generate(
        torch.tensor([request.prompt]), max_new_tokens=4, do_sample=False, eos_token_id=-1, pad_token_id=0
    )
    said = tuple(greedy[0, len(request.prompt) :].tolist())
    assert answer.top == said[0]
    assert answer.generated is not None
    assert answer.generated == said[: len(answer.generated)]

"""The engine on vLLM gives the plain engine's answers, and is not trusted where vLLM errs.

vLLM is a stand-in with its names, types and checks, on a tiny model. The last test is for vLLM itself, where it is
installed: on a GPU, or its build for CPUs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import adapters
import peft
import pytest
import tinymodels

from spillover.engine import parity
from spillover.engine.hf import load_engine
from spillover.engine.plain import PlainEngine
from spillover.engine.suitable import difference
from spillover.engine.vllm import serve, share_of_memory
from spillover.errors import ModelError
from spillover.models.machine import refuse_without_vllm
from spillover.text.encode import Encoder
from spillover.text.request import Request, StopRule

ENDS = frozenset({tinymodels.EOS})
PROMPT = tuple(range(4, 40))
LABELS = [
    Request(PROMPT, ((5,), (6,)), 0),
    Request(PROMPT, ((5,), (6,), (7,)), 6),
    Request(PROMPT[:20], ((5, 6, 7), (5, 6, 8), (5, 9), (10, 11, 12)), 5),
    Request(PROMPT[:7], ((5, 6), (7, 8, 9)), 40),
    Request(PROMPT[3:], ((5,), (6, 7)), 8, beginnings=(5, 6, 11, 12, 13)),
    *(Request(PROMPT[at:], ((41,), (42,)), 8, beginnings=tuple(range(20, 49))) for at in range(8)),
]
TEXTS = [Request(PROMPT, (), 70), Request(PROMPT[:3], (), 1), Request(PROMPT[:9], (), 33), Request(PROMPT[:9], (), 0)]
EVERY = [*LABELS, *TEXTS]


def never(ids: Any) -> bool:
    return False


def at_a_sum(ids: Any) -> bool:
    return len(ids) >= 3 and sum(ids) % 5 == 0


def run(engine: Any, requests: list[Request], stop: StopRule = never) -> list[Any]:
    found = dict(engine.run(requests, stop))
    return [found[number] for number in range(len(requests))]


def compare(ours: list[Any], theirs: list[Any], requests: list[Request]) -> None:
    for request, mine, other in zip(requests, ours, theirs, strict=True):
        assert (mine.top, mine.generated, mine.ended) == (other.top, other.generated, other.ended)
        assert mine.greedy == other.greedy
        assert difference(mine, other) < 1e-3
        for a, b in zip(mine.logprobs, other.logprobs, strict=True):
            assert a == pytest.approx(b, abs=1e-3)
        said = (mine.top, *(mine.generated or ())[1:])
        closed = [at for at, token in enumerate(said) if not request.is_open_after(token)]
        if request.max_new_tokens:  # leads go up to the first token after which no option can be spelled
            assert len(mine.leads) == (closed[0] + 1 if closed else len(other.leads))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tinymodels.save(tinymodels.build(), tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def plain() -> PlainEngine:
    return PlainEngine(tinymodels.build(), ENDS)


@pytest.mark.parametrize("stop", [never, at_a_sum])
@pytest.mark.parametrize("ends", [ENDS, frozenset(range(3, 14))])
def test_answers_are_those_of_the_plain_engine(vllm: Any, folder: Path, stop: StopRule, ends: frozenset[int]) -> None:
    """Labels of one token and of several, what the model says by itself, texts; ends, stops and limits."""
    engine = serve(folder, ends, "float32", 200, 0.5)
    theirs = run(PlainEngine(tinymodels.build(), ends), EVERY, stop)
    compare(run(engine, EVERY, stop), theirs, EVERY)
    assert engine.work.tokens < 3 * engine.work.tokens_plain
    [made] = vllm.MADE
    assert (made.settings["logprobs_mode"], made.settings["hf_overrides"]) == (
        "raw_logprobs",
        {"head_dtype": "float32"},
    )
    engine.close()
    assert made.llm_engine.engine_core.is_shut_down


@pytest.mark.parametrize("wrong", ["start", "end"])
def test_nothing_joins_its_process_group_after_it_has_failed(
    vllm: Any, folder: Path, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither as it starts, nor as it ends."""
    from vllm.distributed import JOINED

    vllm.WRONG.add(wrong)
    freed: list[int] = []
    monkeypatch.setattr("spillover.engine.memory.free_memory", lambda: freed.append(len(JOINED)))
    with pytest.raises((ValueError, RuntimeError), match=r"memory"):
        serve(folder, ENDS, "float32", 200, 0.5).close()
    assert not JOINED and freed == [0]


def test_more_options_than_a_request_may_name_are_asked_in_parts(
    vllm: Any, folder: Path, plain: PlainEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spillover.engine.vllm.NAMED", 3)
    monkeypatch.setattr("spillover.engine.vllm.ALLOWED", 4)
    monkeypatch.setattr(vllm, "MAX_LOGPROB_TOKEN_IDS", 3)
    monkeypatch.setattr(vllm, "MAX_NUM_ALLOWED_TOKEN_IDS", 4)
    many = [Request(PROMPT, tuple((token,) for token in range(20)), 4, beginnings=(1, 2)), *LABELS]
    compare(run(serve(folder, ENDS, "float32", 200, 0.5), many), run(plain, many), many)


@pytest.mark.parametrize("kind", ["the output layer", "whole weights beside it"])
@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")
def test_an_adapter_is_merged_wherever_it_stands(vllm: Any, tmp_path: Path, kind: str) -> None:
    """The base's output layer is its embeddings. Where vLLM drops a layer of its own, it is found out."""
    base = tinymodels.build(gain=4.0, tie_word_embeddings=True)
    folder = tinymodels.save(base, tmp_path / "base")
    wrapped = adapters.wrap(base, peft.LoraConfig(r=4, **adapters.LORAS[kind]))
    adapter = adapters.save(wrapped, tmp_path / "adapter")
    expected = run(load_engine(folder, Encoder.load(folder), "float32", "plain", adapter)[0], LABELS)
    engine = serve(folder, ENDS, "float32", 200, 0.5, adapter)
    compare(run(engine, LABELS), expected, LABELS)
    assert not Path(vllm.MADE[-1].folder).exists()  # the merged copy is gone
    assert parity.why_not(engine, LABELS, expected, never, "float32") is None
    vllm.WRONG.add("head")
    why = parity.why_not(serve(folder, ENDS, "float32", 200, 0.5, adapter), LABELS, expected, never, "float32")
    assert "nats off" in str(why)


@pytest.mark.parametrize("requests", [LABELS[:6], TEXTS[1:]])
@pytest.mark.parametrize(("wrong", "said"), [("values", "off"), ("order", "another order")])
def test_one_that_errs_is_not_trusted(
    vllm: Any, folder: Path, plain: PlainEngine, requests: list[Request], wrong: str, said: str
) -> None:
    expected = run(plain, requests)
    for precision in ("float32", "bfloat16") if requests[0].options else ("float32",):
        vllm.WRONG.clear()
        assert parity.why_not(serve(folder, ENDS, "float32", 200, 0.5), requests, expected, never, precision) is None
        vllm.WRONG.add(wrong)
        assert said in str(
            parity.why_not(serve(folder, ENDS, "float32", 200, 0.5), requests, expected, never, precision)
        )


def test_the_probe_has_the_longest_request_and_some_of_the_others() -> None:
    requests = [Request((1,) * (10 + (n == 77)), tuple((token,) for token in range(20))) for n in range(300)]
    some = parity.chosen(requests)
    assert len(some) == parity.REQUESTS
    assert max(len(request.prompt) for request in some) == 11
    assert {len(request.options) for request in some} == {parity.OPTIONS}
    assert parity.chosen(requests[:3]) == [parity.chosen([one])[0] for one in requests[:3]]


def test_memory_is_left_for_the_model_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spillover.engine.memory.free_bytes", lambda: 78e9)
    monkeypatch.setattr("spillover.engine.memory.total_bytes", lambda: 80e9)
    seven = share_of_memory(weights=14e9, spare=42e9)  # of 7 billion weights in bfloat16
    assert 14e9 < seven * 80e9 < 78e9 - 42e9
    assert share_of_memory(weights=28e9, spare=0) == share_of_memory(weights=26e9, spare=78e9) > 0.9  # no room for both
    halves = [share_of_memory(weights=14e9, spare=0, of_device=0.5) for _ in range(2)]
    assert halves[0] * 80e9 > 14e9 and sum(halves) < 1  # two variants that start at once


def test_without_vllm_or_a_device_it_is_one_line(vllm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_without_vllm()
    from vllm.platforms import current_platform

    current_platform.device_type = ""
    with pytest.raises(ModelError, match="no GPU"):
        refuse_without_vllm()
    monkeypatch.setattr("spillover.models.machine.find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"not installed.*pip install"):
        refuse_without_vllm()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # vLLM's own
def test_vllm_itself_gives_the_plain_answers(smollm2: Path) -> None:
    """Where vLLM is installed and has a device; also its build for CPUs (`VLLM_CPU_KVCACHE_SPACE=1`)."""
    pytest.importorskip("vllm")
    try:
        refuse_without_vllm()
    except ModelError as error:
        pytest.skip(error.what)
    encoder = Encoder.load(smollm2)
    labels = ("positive", "negative", "not sure at all")
    prompts = [f"{text}\nSentiment:" for text in ("I loved every minute of it.", "Dull and far too long.")]
    split = encoder.options(prompts, [labels] * len(prompts))
    asked = [Request(*each, 6, encoder.beginnings(labels)) for each in split]
    asked.append(Request(encoder.prompt_for_generation(["Once upon a time"])[0], (), 6))
    plain = load_engine(smollm2, encoder, "float32", "plain")[0]
    expected = run(plain, asked, encoder.stop_rule())
    del plain
    engine = serve(smollm2, encoder.eos_ids, "float32", 64, share_of_memory(6e8, 0.0))
    compare(run(engine, asked, encoder.stop_rule()), expected, asked)
    assert parity.why_not(engine, asked, expected, encoder.stop_rule(), "float32") is None
    engine.close()

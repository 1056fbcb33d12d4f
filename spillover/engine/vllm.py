"""The engine that asks vLLM, for scoring and generation on GPUs. It has run on vLLM's build for CPUs, on no GPU yet.

vLLM gets token ids and gives log-probabilities of the next token, of the raw distribution: before temperature, masks
and penalties. It schedules and batches by itself, and computes a prefix that texts share once (its prefix cache).

- Options: each distinct text that a token of an option follows is one request for one token, with the tokens that may
  follow there as `logprob_token_ids`. An option of one token needs the prompt alone; longer options of a row are walked
  as a trie. vLLM's log-probabilities of prompt tokens are not used. They are computed without the prefix cache, and
  with it they depended on the order of the requests (vllm-project/vllm 17251, 28194, 42019).
- The model's own text: greedy, in slices of SLICE tokens. Our own rule stops it, so it ends where the other engines
  end it. vLLM is told the end tokens only.
- Leads: the rival of a token is found among the most probable ones, or, where only some tokens are rivals, as the best
  of these (`allowed_token_ids`). They stop with the first token after which a text can spell no option any more, since
  later ones decide nothing; a request that generates nothing has none.

A request for the most probable tokens and one for named tokens never go into one batch: an older part of vLLM, which
still runs where Triton is missing, then answers the former as if nothing had been asked.

An adapter is merged in float32 into a copy of the base that lies in the folder for temporary files while vLLM reads it.
vLLM could serve plain LoRA beside the base, but not every adapter that PEFT can merge, and its LoRA of an output layer
was missing in log-probabilities (51594). A merged model is exact for all of them, and takes one path.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from ..text.request import Request, StopRule
from . import memory
from .port import Answer, Ended, Work

Ids = tuple[int, ...]

SLICE = 32  # tokens of a text that are generated before our rule looks at them
NAMED = 128  # tokens that one request may name: MAX_LOGPROB_TOKEN_IDS of vllm.sampling_params
ALLOWED = 1024  # MAX_NUM_ALLOWED_TOKEN_IDS of vllm.v1.worker.gpu.sample.logit_bias
MARGIN = 0.95  # of the memory that is free: the rest is for kernels


@dataclass
class _Next:
    """What follows a text: the most probable token, and log-probabilities by token."""

    best: int = -1
    logprobs: dict[int, float] = field(default_factory=dict)


@dataclass
class _Text:
    """A text under way. `limit` is 0 if nothing is generated, `top` its first token; it is open while leads count."""

    number: int
    request: Request
    limit: int
    top: int = -1
    generated: list[int] = field(default_factory=list)
    leads: list[float] = field(default_factory=list)
    is_open: bool = True
    ended: Ended | None = None


class VllmEngine:
    """Answers requests with a `vllm.LLM`. `eos_ids` end a generation."""

    def __init__(self, llm: Any, eos_ids: frozenset[int]) -> None:
        import vllm

        self._vllm = vllm
        self.version = str(vllm.__version__)
        self.llm = llm
        self.eos_ids = eos_ids
        self.work = Work()

    def run(self, requests: Sequence[Request], stop: StopRule) -> Iterator[tuple[int, Answer]]:
        """Yield (index, answer) for every request, in their order, once all are answered."""
        return self.work.timed(self._run(requests, stop))

    def close(self) -> None:
        """Give the model's memory back, and end vLLM's process group."""
        try:
            self.llm.llm_engine.engine_core.shutdown()
        finally:
            self.llm = None
            _end_process_group()

    def _run(self, requests: Sequence[Request], stop: StopRule) -> Iterator[tuple[int, Answer]]:
        self.work.tokens_plain += sum(len(r.prompt) + max((len(o) - 1 for o in r.options), default=0) for r in requests)
        after = self._walk(requests)
        texts = [_Text(n, request, request.max_new_tokens) for n, request in enumerate(requests)]
        for text in texts:
            if text.request.prompt in after and not (text.limit and not text.request.options):
                self._begin(text, after[text.request.prompt].best, stop)
        self._measure(texts, after)
        self._generate([text for text in texts if text.limit and not text.ended], stop)
        for text in texts:
            yield text.number, _answer(text, after)

    # --- options ------------------------------------------------------------------------------------------------------

    def _walk(self, requests: Sequence[Request]) -> dict[Ids, _Next]:
        """What follows every text that a token of an option follows, and each prompt that nothing else is asked of."""
        named: dict[Ids, dict[int, None]] = {}
        for request in requests:
            if not request.options and not request.max_new_tokens:
                named.setdefault(request.prompt, {})
            for option in request.options:
                for at, token in enumerate(option):
                    named.setdefault(request.prompt + option[:at], {})[token] = None
        asked = [(text, ids) for text, every in named.items() for ids in _pieces([*every], NAMED)]
        found: dict[Ids, _Next] = {text: _Next() for text in named}
        for (text, _), output in zip(asked, self._ask([(t, {"logprob_token_ids": i}) for t, i in asked]), strict=True):
            found[text].best = output.token_ids[0]
            found[text].logprobs |= _values(output.logprobs[0]) if output.logprobs else {}
        return found

    # --- texts --------------------------------------------------------------------------------------------------------

    def _begin(self, text: _Text, top: int, stop: StopRule) -> None:
        """The first token after options, or after a prompt of which nothing else is asked, is known already."""
        text.top = top
        if text.request.generates(top):
            self._add(text, top, stop)
        else:
            text.limit = 0

    def _add(self, text: _Text, token: int, stop: StopRule) -> None:
        if not text.generated and text.top < 0:
            text.top = token
        if token in text.request.ends_with(self.eos_ids):
            text.ended = "end"
            return
        text.generated.append(token)
        if stop(text.generated):
            text.ended = "stop"
        elif len(text.generated) >= text.limit:
            text.ended = "limit"

    def _measure(self, texts: Sequence[_Text], after: dict[Ids, _Next]) -> None:
        """The leads of the first tokens of texts that may spell an option."""
        own = [text for text in texts if text.request.options and text.request.max_new_tokens]
        open_ones = [text for text in own if text.request.is_open_after(after[text.request.prompt].best)]
        likeliest = self._ask([(text.request.prompt, {"logprobs": _most(text.request)}) for text in open_ones])
        for text, output in zip(open_ones, likeliest, strict=True):
            text.leads.append(_lead(text.request, output.token_ids[0], _values(output.logprobs[0])))
        closed = [text for text in own if not text.leads]
        self._close(closed, [(text.request.prompt, _best(after[text.request.prompt])) for text in closed])

    def _close(self, texts: Sequence[_Text], at: Sequence[tuple[Ids, float]]) -> None:
        """The last lead of each text: that of a token that begins no option, over those that would.

        `at` has the text before that token, and the token's log-probability.
        """
        asked = [
            (n, ids)
            for n, text in enumerate(texts)
            for ids in _pieces([*text.request.firsts, *text.request.beginnings], ALLOWED)
        ]
        outputs = self._ask([(at[n][0], {"allowed_token_ids": ids, "logprobs": 0}) for n, ids in asked])
        rivals: dict[int, float] = {}
        for (n, _), output in zip(asked, outputs, strict=True):
            value = output.logprobs[0][output.token_ids[0]].logprob
            rivals[n] = max(value, rivals.get(n, value))
        for n, text in enumerate(texts):
            text.leads.append(at[n][1] - rivals[n])
            text.is_open = False

    def _generate(self, texts: list[_Text], stop: StopRule) -> None:
        closed: list[tuple[_Text, tuple[Ids, float]]] = []
        while texts:
            asked = []
            for text in texts:
                many = {"logprobs": _most(text.request)} if text.is_open else {}
                most = min(SLICE, text.limit - len(text.generated))
                so_far = (*text.request.prompt, *text.generated)
                ends = sorted(text.request.ends_with(self.eos_ids))
                asked.append((so_far, {"max_tokens": most, "stop_token_ids": ends, **many}))
            for text, (so_far, _), output in zip(texts, asked, self._ask(asked), strict=True):
                for step, token in enumerate(output.token_ids):
                    if text.is_open:
                        values = _values(output.logprobs[step])
                        if text.request.is_open_after(token):
                            text.leads.append(_lead(text.request, token, values))
                        else:
                            text.is_open = False
                            closed.append((text, ((*so_far, *output.token_ids[:step]), values[token])))
                    self.work.tokens_generated += 1
                    self._add(text, token, stop)
                    if text.ended:
                        break
            texts = [text for text in texts if not text.ended]
        self._close([text for text, _ in closed], [at for _, at in closed])

    # --- vLLM ---------------------------------------------------------------------------------------------------------

    def _ask(self, asked: Sequence[tuple[Ids, dict[str, Any]]]) -> list[Any]:
        """What vLLM makes of texts, in their order; one token each unless it is told otherwise.

        Texts with a common beginning stand together, so that the later ones find it in the prefix cache.
        """
        if not all(text for text, _ in asked):
            raise ValueError("a request needs at least one prompt token")
        order = sorted(range(len(asked)), key=lambda n: asked[n][0])
        prompts = [self._vllm.TokensPrompt(prompt_token_ids=list(asked[n][0])) for n in order]
        common = {"temperature": 0.0, "max_tokens": 1, "ignore_eos": True, "detokenize": False}
        settings = [self._vllm.SamplingParams(**{**common, **asked[n][1]}) for n in order]
        answered = self.llm.generate(prompts, settings, use_tqdm=False) if asked else []
        self.work.tokens += sum(len(one.prompt_token_ids) - (one.num_cached_tokens or 0) for one in answered)
        return [one.outputs[0] for _, one in sorted(zip(order, answered, strict=True), key=lambda pair: pair[0])]


def _pieces(ids: list[int], size: int) -> list[list[int]]:
    return [ids[at : at + size] for at in range(0, max(1, len(ids)), size)]


def _values(one: Any) -> dict[int, float]:
    return {token: value.logprob for token, value in one.items()}


def _best(following: _Next) -> float:
    return following.logprobs[following.best]


def _most(request: Request) -> int:
    """How many of the most probable tokens hold the best one and its rival, if all beginnings of options lead."""
    return len(request.firsts) + 1 if request.options else 2


def _lead(request: Request, token: int, values: dict[int, float]) -> float:
    """By how much a token leads the most probable one that would have led to another decision."""
    alike = request.firsts if token in request.firsts else (token,)
    return values[token] - max(value for other, value in values.items() if other not in alike)


def _answer(text: _Text, after: dict[Ids, _Next]) -> Answer:
    request = text.request
    nodes = [[after[request.prompt + option[:at]] for at in range(len(option))] for option in request.options]
    logprobs = tuple(
        tuple(node.logprobs[token] for node, token in zip(some, option, strict=True))
        for some, option in zip(nodes, request.options, strict=True)
    )
    greedy = tuple(
        all(node.best == token for node, token in zip(some, option, strict=True))
        for some, option in zip(nodes, request.options, strict=True)
    )
    generated = tuple(text.generated) if text.limit else None
    return Answer(logprobs, text.top, generated, text.ended, tuple(text.leads), greedy)


# --- loading ----------------------------------------------------------------------------------------------------------


def serve(
    folder: Path,
    eos_ids: frozenset[int],
    precision: str,
    longest: int,
    memory_share: float,
    adapter: Path | None = None,
    trust: bool = False,
) -> VllmEngine:
    """vLLM with the model in `folder`, and with an adapter merged into it if one is given.

    `longest` is the most tokens of a text. `memory_share` is the share of the device's memory that vLLM may use.
    """
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    # In this process vLLM's schedule does not depend on time, and no process is left when this one is killed.
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    import vllm

    with ExitStack() as stack:
        if adapter is not None:
            from .whole import write_whole_model

            merged = Path(stack.enter_context(TemporaryDirectory(prefix="spillover-merged-")))
            write_whole_model(folder, adapter, merged, trust)
            memory.free_memory()
            folder = merged
        try:
            llm = vllm.LLM(
                model=str(folder),
                skip_tokenizer_init=True,
                generation_config="vllm",  # no settings or end tokens of the checkpoint
                trust_remote_code=trust,
                dtype=precision,
                hf_overrides={"head_dtype": "float32"},  # as in `head`: bfloat16 has too few digits to rank labels
                logprobs_mode="raw_logprobs",
                max_logprobs=-1,
                enable_prefix_caching=True,
                max_model_len=longest,
                gpu_memory_utilization=memory_share,
                disable_log_stats=True,
                enforce_eager=not torch.cuda.is_available(),  # to compile for a CPU takes minutes
                seed=0,
            )
        except BaseException:
            _end_process_group()
            raise
    return VllmEngine(llm, eos_ids)


def _end_process_group() -> None:
    """End vLLM's process group, which a training in this process would join, and free what is not used any more."""
    from vllm.distributed import cleanup_dist_env_and_memory

    cleanup_dist_env_and_memory()
    memory.free_memory()


def share_of_memory(weights: float, spare: float, of_device: float = 1.0) -> float:
    """The share of the device's memory that vLLM may use: of what is free, all but the `spare` bytes.

    These are for the same model in float32, which decides again what is close (`work.rounding`). Where vLLM would then
    have less room for keys than for its weights, it gets all that is free. `of_device` is what this process may have of
    the device at most: others on it may not have taken their part yet.
    """
    total = memory.total_bytes()
    free = min(memory.free_bytes(), of_device * total)
    usable = free - spare if free - spare >= 2 * weights else free
    return max(0.01, round(MARGIN * usable / total, 4))

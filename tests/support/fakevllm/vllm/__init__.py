"""A small vLLM with the names, arguments and answers of vLLM 0.33, computed by transformers on the CPU.

It is imported in place of vLLM once the folder above is on the path. It refuses arguments that vLLM does not have and
values that vLLM refuses. In one batch, named tokens take the place of the most probable ones of other requests, as in
the sampler of vLLM's first model runner. `WRONG` makes it err: `values` are off, a request that is asked again
gets another answer (`order`), an output layer of its own is dropped for the embeddings (`head`), it has too little
memory to start (`start`), or fails as it ends (`end`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from .distributed import JOINED

__version__ = "0.33.0"

WRONG: set[str] = set()
BLOCK = 16  # tokens; whole blocks are found in the prefix cache
MAX_LOGPROB_TOKEN_IDS = 128
MAX_NUM_ALLOWED_TOKEN_IDS = 1024
ENGINE_ARGS = {"max_model_len", "max_logprobs", "logprobs_mode", "enable_prefix_caching", "generation_config"}
ENGINE_ARGS |= {"disable_log_stats", "max_num_seqs", "max_num_batched_tokens", "enable_lora", "max_lora_rank"}
MADE: list[LLM] = []
"""Every LLM that was made, for tests to look at."""


class TokensPrompt(dict[str, Any]):
    """A TypedDict there, which checks nothing."""


@dataclass
class SamplingParams:
    """The parameters of a request, with vLLM's defaults; others are refused, as by msgspec."""

    n: int = 1
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool = False
    max_tokens: int | None = 16
    min_tokens: int = 0
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    logprob_token_ids: list[int] | None = None
    flat_logprobs: bool = False
    detokenize: bool = True
    skip_special_tokens: bool = True
    allowed_token_ids: list[int] | None = None

    def verify(self, vocabulary: int) -> None:
        named, allowed = self.logprob_token_ids, self.allowed_token_ids
        if self.max_tokens is None or self.max_tokens < 1 or self.temperature < 0:
            raise ValueError(f"bad parameters: {self}")
        if named is not None and (len(named) > MAX_LOGPROB_TOKEN_IDS or not all(0 <= i < vocabulary for i in named)):
            raise ValueError(f"Requested logprob_token_ids of length {len(named)}, or out of the vocabulary")
        if named is not None and self.logprobs not in (None, len(named)):
            raise ValueError("When both logprobs and logprob_token_ids are set, logprobs must equal their number")
        if allowed is not None and not (0 < len(allowed) <= MAX_NUM_ALLOWED_TOKEN_IDS):
            raise ValueError("allowed_token_ids is empty or too long")
        if self.logprobs is not None and self.logprobs > vocabulary:
            raise ValueError("more logprobs than tokens")


@dataclass
class Logprob:
    logprob: float
    rank: int | None = None
    decoded_token: str | None = None


@dataclass
class CompletionOutput:
    index: int
    text: str
    token_ids: list[int]
    cumulative_logprob: float | None
    logprobs: list[dict[int, Logprob]] | None
    finish_reason: str | None = None
    stop_reason: int | str | None = None


@dataclass
class RequestOutput:
    request_id: str
    prompt: str | None
    prompt_token_ids: list[int]
    prompt_logprobs: None
    outputs: list[CompletionOutput]
    finished: bool
    num_cached_tokens: int | None = None


@dataclass
class _Core:
    is_shut_down: bool = False

    def shutdown(self, timeout: float | None = None) -> None:
        self.is_shut_down = True
        if "end" in WRONG:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")


@dataclass
class _LLMEngine:
    engine_core: _Core = field(default_factory=_Core)


class LLM:
    def __init__(
        self,
        model: str,
        *,
        tokenizer: str | None = None,
        skip_tokenizer_init: bool = False,
        trust_remote_code: bool = False,
        tensor_parallel_size: int = 1,
        dtype: str = "auto",
        seed: int = 0,
        gpu_memory_utilization: float = 0.92,
        enforce_eager: bool = False,
        hf_overrides: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if unknown := kwargs.keys() - ENGINE_ARGS:
            raise TypeError(f"EngineArgs.__init__() got an unexpected keyword argument {min(unknown)!r}")
        if not 0 < gpu_memory_utilization <= 1:
            raise ValueError("gpu_memory_utilization must be in (0, 1]")
        JOINED.append(model)
        if "start" in WRONG:
            raise ValueError("No available memory for the cache blocks")
        self.folder = model
        self.model = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype)).eval()
        if "head" in WRONG:
            self.model.get_output_embeddings().weight = self.model.get_input_embeddings().weight
        self.longest = kwargs.get("max_model_len") or self.model.config.max_position_embeddings
        self.settings = {**kwargs, "dtype": dtype, "hf_overrides": hf_overrides, "share": gpu_memory_utilization}
        self.llm_engine = _LLMEngine()
        self.cached: set[tuple[int, ...]] = set()
        self.seen: set[tuple[tuple[int, ...], str]] = set()
        self.asked = 0
        MADE.append(self)

    def generate(
        self,
        prompts: list[TokensPrompt],
        sampling_params: SamplingParams | list[SamplingParams],
        *,
        use_tqdm: bool = True,
        lora_request: Any = None,
    ) -> list[RequestOutput]:
        if self.llm_engine.engine_core.is_shut_down:
            raise RuntimeError("the engine core is dead")
        params = sampling_params if isinstance(sampling_params, list) else [sampling_params] * len(prompts)
        assert len(params) == len(prompts)
        named = any(one.logprob_token_ids for one in params)
        return [self._one(p["prompt_token_ids"], one, named) for p, one in zip(prompts, params, strict=True)]

    @torch.inference_mode()
    def _one(self, prompt: list[int], params: SamplingParams, named: bool) -> RequestOutput:
        params.verify(self.model.config.vocab_size)
        if not prompt or len(prompt) >= self.longest:
            raise ValueError(f"The prompt has {len(prompt)} tokens, the model takes up to {self.longest}")
        blocks = [tuple(prompt[: end + BLOCK]) for end in range(0, len(prompt) - BLOCK, BLOCK)]
        found = BLOCK * sum(block in self.cached for block in blocks)
        self.cached.update(blocks)
        repeats = "order" in WRONG and (tuple(prompt), str(params)) in self.seen
        self.seen.add((tuple(prompt), str(params)))
        self.asked += 1
        ids, logprobs = list(prompt), []
        out: list[int] = []
        reason, stop = "length", None
        while len(out) < (params.max_tokens or 0) and len(ids) < self.longest:
            raw = self.model(torch.tensor([ids])).logits[0, -1].float().log_softmax(-1)
            if "values" in WRONG:
                raw = (raw * 1.3).log_softmax(-1)
            if repeats:
                raw = raw.roll(1)
            choice = raw
            if params.allowed_token_ids:
                choice = torch.full_like(raw, -torch.inf)
                choice[params.allowed_token_ids] = raw[params.allowed_token_ids]
            token = int(choice.argmax())  # temperature 0
            assert params.temperature == 0, "only greedy"
            ids.append(token)
            out.append(token)
            logprobs.append(_logprobs(raw, token, params, named))
            if token in (params.stop_token_ids or ()):
                reason, stop = "stop", token
                break
        wanted = params.logprobs is not None or params.logprob_token_ids is not None
        one = CompletionOutput(0, "", out, 0.0, logprobs if wanted else None, reason, stop)
        return RequestOutput(str(self.asked), None, prompt, None, [one], True, found)


def _logprobs(raw: torch.Tensor, token: int, params: SamplingParams, named: bool) -> dict[int, Logprob]:
    """The sampled token first, then the named ones, or the most probable ones unless others of the batch are named."""
    others = params.logprob_token_ids or ([] if named else raw.topk(params.logprobs or 0).indices.tolist())
    return {i: Logprob(float(raw[i]), rank) for rank, i in enumerate(dict.fromkeys([token, *others]), 1)}

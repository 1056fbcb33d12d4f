"""Every kind of architecture against transformers itself: logits and `generate`, for a base, a checkpoint, an adapter.

The engine is the one that a run would load: the shared one, or the plain one for the reason that is stated here.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import tinymodels
import torch
import transformers
from answers import hold_against, steps_to_compare
from peft import LoraConfig, PeftModel, get_peft_model

from spillover.engine.hf import load_engine
from spillover.engine.plain import PlainEngine
from spillover.engine.port import Answer
from spillover.engine.shared import SharedEngine
from spillover.text.encode import Encoder
from spillover.text.request import Request

TOLERANCE = 1e-4  # nats, in float32
TURN = 24  # tokens from which rotary frequencies change
NEW = 4


@dataclass(frozen=True)
class Case:
    """A tiny model, the longest text that it is asked, and why the plain engine answers."""

    kind: str
    changes: dict[str, Any] = field(default_factory=dict)
    why_plain: str | None = None
    longest: int = 48
    lora: str | tuple[str, ...] = "all-linear"


ATTENTION = ("q_proj", "v_proj", "o_proj")
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 24}
DEEPSEEK = EXPERTS | {
    "num_key_value_heads": 6,
    "n_routed_experts": 4,
    "n_group": 1,
    "topk_group": 1,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "first_k_dense_replace": 1,
}
LONG = {
    "rope_type": "longrope",
    "rope_theta": 10_000.0,
    "short_factor": [1.0, 1.0, 1.1, 1.2],
    "long_factor": [1.0, 2.0, 4.0, 8.0],
    "original_max_position_embeddings": TURN,
}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10_000.0, "factor": 4.0}
CHANGE = f"rotary frequencies that change beyond {TURN} tokens, texts of up to 48"

CASES = {
    "Llama": Case("Llama"),
    "Llama, tied": Case("Llama", {"tie_word_embeddings": True}),
    "Qwen2": Case("Qwen2"),
    "Qwen3": Case("Qwen3", {"head_dim": 16}),
    "GPT-2": Case("GPT2"),
    "GPT-NeoX": Case("GPTNeoX"),
    "OPT": Case("OPT", {"ffn_dim": 96, "word_embed_proj_dim": 48}),
    "Phi-3": Case("Phi3"),
    "Gemma 2": Case("Gemma2", {"head_dim": 8, "final_logit_softcapping": 3.0}, "attention with softcap"),
    "Gemma 3": Case("Gemma3Text", {"head_dim": 8, "final_logit_softcapping": 3.0}),
    "Granite": Case("Granite", {"logits_scaling": 4.0}),
    "Cohere": Case("Cohere", {"logit_scale": 0.2}),
    "OLMo 2": Case("Olmo2"),
    "Falcon": Case("Falcon", {}, "does not let the attention of FalconForCausalLM be replaced"),
    "StarCoder 2": Case("Starcoder2", {"sliding_window": None}),
    "Mixtral": Case("Mixtral", {"num_local_experts": 4}, lora=ATTENTION),
    "Qwen3 MoE": Case("Qwen3Moe", {"head_dim": 16, "num_experts": 4, **EXPERTS}, lora=ATTENTION),
    "DeepSeek V3": Case("DeepseekV3", DEEPSEEK, "should have the same head size", lora=("q_a_proj", "o_proj")),
    "GPT-OSS": Case("GptOss", {"head_dim": 8, "num_local_experts": 4}, "attention with s_aux", lora=ATTENTION),
    "Mistral, within its window": Case("Mistral", {"sliding_window": 48}),
    "Mistral, beyond its window": Case("Mistral", {"sliding_window": 16}, "a sliding window of 16 tokens"),
    "LongRoPE, below": Case("Phi3", {"rope_parameters": LONG, "original_max_position_embeddings": TURN}, longest=TURN),
    "LongRoPE, beyond": Case("Phi3", {"rope_parameters": LONG, "original_max_position_embeddings": TURN}, CHANGE),
    "dynamic NTK, below": Case("Llama", {"rope_parameters": DYNAMIC, "max_position_embeddings": TURN}, longest=TURN),
    "dynamic NTK, beyond": Case("Llama", {"rope_parameters": DYNAMIC, "max_position_embeddings": TURN}, CHANGE),
    "Mamba": Case("Mamba", {"state_size": 8}, "layers of type linear_attention", lora=("in_proj", "x_proj")),
    "RecurrentGemma": Case("RecurrentGemma", {"lru_width": 48, "attention_window_size": 16}, "layers of type linear"),
    "Bamba": Case(
        "Bamba",
        {"mamba_n_heads": 6, "mamba_d_head": 16, "mamba_d_state": 8, "attn_layer_indices": [1]},
        "layers of type linear_attention",
        lora=("in_proj", "q_proj", "down_proj"),
    ),
    "HyperCLOVA X": Case("HyperCLOVAX", {"logits_scaling": 2.0}, "its output layer does something of its own"),
}


FAST = {
    "Llama, tied",
    "GPT-2",
    "Cohere",
    "Qwen3 MoE",
    "Mistral, beyond its window",
    "LongRoPE, beyond",
    "dynamic NTK, beyond",
    "Bamba",
}


def asked(longest: int) -> list[Request]:
    """Requests of mixed length: a long text, short ones that share its beginning, and texts about where it turns."""
    draw = torch.Generator().manual_seed(1)
    text = tuple(torch.randint(4, tinymodels.VOCABULARY, (longest,), generator=draw).tolist())
    options = ((4, 5), (4, 6, 5))
    reaches = {8, longest - 6, *((TURN - 2, TURN) if longest > TURN + NEW else ())}
    made = [Request(text[:reach], options) for reach in sorted(reaches)]
    made += [Request((*text[: reach - 2], 9), (), NEW) for reach in sorted(reaches)]
    return [*made, Request(text[: longest - NEW], ((5,), (6, 4)), NEW), Request((8, 9), ((4, 5),), NEW)]


def variants(case: Case, folder: Path) -> dict[str, tuple[Path, Path | None, Any]]:
    """(model folder, adapter folder, transformers' own model) of the base, a checkpoint that moved, and an adapter."""
    base = tinymodels.build(case.kind, **case.changes)
    moved = copy.deepcopy(base)
    with torch.no_grad():
        for weight in moved.parameters():
            weight.add_(0.02 * torch.randn_like(weight))
    lora = LoraConfig(r=4, target_modules=case.lora, task_type="CAUSAL_LM", fan_in_fan_out=case.kind == "GPT2")
    wrapped = get_peft_model(copy.deepcopy(base), lora)
    for name, weight in wrapped.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(std=0.1)
    wrapped.save_pretrained(folder / "adapter")
    saved = [tinymodels.save(model, folder / name) for model, name in ((base, "base"), (moved, "moved"))]

    def own(path: Path) -> Any:
        return transformers.AutoModelForCausalLM.from_pretrained(path).eval()

    adapted = PeftModel.from_pretrained(own(saved[0]), folder / "adapter").eval()
    return {
        "base": (saved[0], None, own(saved[0])),
        "ft": (saved[1], None, own(saved[1])),
        "lora": (saved[0], folder / "adapter", adapted),
    }


@torch.inference_mode()
def own_logprobs(model: Any, ids: Sequence[int]) -> torch.Tensor:
    """Transformers' log-probabilities after each token of a text, by a model that has not seen another text."""
    logprobs: torch.Tensor = (
        copy.deepcopy(model)(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float().log_softmax(-1)
    )
    return logprobs


@torch.inference_mode()
def hold_against_transformers(model: Any, request: Request, answer: Answer, use_cache: bool) -> int:
    """Assert that an answer is transformers' own; returns how many tokens of it were generated."""
    last = len(request.prompt) - 1
    for option, logprobs in zip(request.options, answer.logprobs, strict=True):
        own = own_logprobs(model, request.prompt + option[:-1])[last:]
        assert list(logprobs) == pytest.approx([own[i, token].item() for i, token in enumerate(option)], abs=TOLERANCE)
    if answer.generated is None:
        return 0
    certain = int(min(steps_to_compare(copy.deepcopy(model), request, answer), len(answer.generated)))
    greedy = copy.deepcopy(model).generate(
        input_ids=torch.tensor([request.prompt]),
        attention_mask=torch.ones(1, len(request.prompt), dtype=torch.long),
        max_new_tokens=request.max_new_tokens,
        do_sample=False,
        use_cache=use_cache,
        eos_token_id=tinymodels.EOS,
        pad_token_id=0,
    )
    said = tuple(greedy[0, len(request.prompt) :].tolist())
    assert answer.generated[:certain] == said[:certain]
    return certain


@pytest.mark.parametrize(
    "name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in CASES]
)
def test_answers_are_those_of_transformers(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    requests = asked(case.longest)
    assert max(request.reach for request in requests) == case.longest
    for variant, (folder, adapter, own) in variants(case, tmp_path).items():
        encoder = Encoder.load(folder)
        engine, why = load_engine(folder, encoder, "float32", "shared", adapter, longest=case.longest)
        assert isinstance(engine, SharedEngine if case.why_plain is None else PlainEngine), (variant, why)
        assert (case.why_plain or "") in (why or "")
        ours = dict(engine.run(requests, lambda ids: False))
        if isinstance(engine, SharedEngine):
            plain, _ = load_engine(folder, encoder, "float32", "plain", adapter)
            hold_against(plain.model, requests, dict(plain.run(requests, lambda ids: False)), ours)  # type: ignore[attr-defined]
        # `generate` keeps the keys that it made for a shorter text, so where frequencies change it is asked without
        use_cache = "dynamic NTK" not in name
        said = [hold_against_transformers(own, one, ours[i], use_cache) for i, one in enumerate(requests)]
        assert sum(said) > NEW, "something was compared"

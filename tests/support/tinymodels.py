"""Random models of a few thousand weights, for tests that need a model but no knowledge."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

from spillover.engine.suitable import take

VOCABULARY = 50
EOS = 3
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": EOS,
    "pad_token_id": EOS,
}
GPT2_SIZES = {"vocab_size": VOCABULARY, "n_embd": 48, "n_layer": 3, "n_head": 6, "bos_token_id": 1, "eos_token_id": EOS}

# Architectures whose experts' weights are one tensor in memory.
EXPERTS = {
    "Mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "Qwen3Moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "head_dim": 8},
    "DeepseekV3": {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "n_group": 1}
    | {"topk_group": 1, "first_k_dense_replace": 1, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8}
    | {"qk_nope_head_dim": 8, "v_head_dim": 8, "n_shared_experts": 1, "num_key_value_heads": 6},
    "GptOss": {"num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 8, "rope_parameters": None},
}


def config(kind: str = "Llama", **changes: Any) -> Any:
    """A small configuration of an architecture of transformers; grouped queries (6 heads, 2 keys) unless told."""
    sizes = {**SIZES, "num_key_value_heads": 2, **changes}
    if kind in ("GPT2", "Bloom"):
        sizes = GPT2_SIZES | {"pad_token_id": EOS} | changes
        sizes |= {"hidden_size": 48} if kind == "Bloom" else {}
    elif kind in ("Mamba", "GPTNeoX", "Falcon"):
        del sizes["num_key_value_heads"]
    return getattr(transformers, f"{kind}Config")(**sizes)


def build(kind: str = "Llama", gain: float = 12.0, **changes: Any) -> Any:
    """A random model, always the same. `gain` widens its weights: as initialised, all answers are alike."""
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config(kind, **changes)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.mul_(gain)
    return model


def pair(kind: str = "Llama", **changes: Any) -> tuple[Any, Any]:
    """The same model twice: for the plain engine and for the shared one."""
    plain = build(kind, **changes)
    shared = copy.deepcopy(plain)
    take(shared)
    return plain, shared


def save(model: Any, folder: Path) -> Path:
    """A model folder as a user has them, with a tokenizer of a few words."""
    model.save_pretrained(folder)
    words = ["One", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "."]
    vocabulary = {"<unk>": 0, "<s>": 1, "<pad>": 2, "</s>": EOS} | {word: 4 + i for i, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"eos_token": "</s>"}')
    return folder

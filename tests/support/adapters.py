"""PEFT adapters of a tiny model, as a user's folder has them, with no weight that is zero."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import peft
import torch

LAYERS = ["q_proj", "v_proj", "down_proj"]
SMALL = {"r": 4, "target_modules": LAYERS}

CONFIGS: dict[str, Any] = {
    "ADALORA": peft.AdaLoraConfig(init_r=4, target_r=2, total_step=10, target_modules=LAYERS),
    "BOFT": peft.BOFTConfig(boft_block_size=4, target_modules=LAYERS),
    "C3A": peft.C3AConfig(block_size=16, target_modules=LAYERS),
    "DEFT": peft.DeftConfig(**SMALL),
    "DELORA": peft.DeloraConfig(**SMALL),
    "FOURIERFT": peft.FourierFTConfig(n_frequency=20, target_modules=LAYERS),
    "GLORA": peft.GloraConfig(**SMALL),
    "GRALORA": peft.GraloraConfig(**SMALL),
    "HIRA": peft.HiraConfig(**SMALL),
    "HRA": peft.HRAConfig(**SMALL),
    "IA3": peft.IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]),
    "LN_TUNING": peft.LNTuningConfig(target_modules=["input_layernorm", "norm"]),
    "LOHA": peft.LoHaConfig(**SMALL),
    "LOKR": peft.LoKrConfig(**SMALL),
    "MISS": peft.MissConfig(**SMALL),
    "OFT": peft.OFTConfig(oft_block_size=4, r=0, target_modules=LAYERS),
    "OSF": peft.OSFConfig(target_modules=LAYERS),
    "PEANUT": peft.PeanutConfig(**SMALL),
    "PSOFT": peft.PsoftConfig(**SMALL),
    "RANDLORA": peft.RandLoraConfig(**SMALL),
    "ROAD": peft.RoadConfig(group_size=8, target_modules=LAYERS),
    "SHIRA": peft.ShiraConfig(**SMALL),
    "TRAINABLE_TOKENS": peft.TrainableTokensConfig(token_indices=[5, 6, 7], target_modules=["embed_tokens"]),
    "VBLORA": peft.VBLoRAConfig(r=4, num_vectors=20, vector_length=16, target_modules=LAYERS),
    "VERA": peft.VeraConfig(**SMALL),
    "WAVEFT": peft.WaveFTConfig(n_frequency=20, target_modules=LAYERS),
}
LORAS: dict[str, dict[str, Any]] = {
    "plain": {"target_modules": "all-linear"},
    "rank-stabilised": {"target_modules": ["q_proj", "down_proj"], "use_rslora": True},
    "own scales": {
        "target_modules": ["q_proj", "up_proj"],
        "alpha_pattern": {"layers.1.self_attn.q_proj": 9, "up_proj": 2},
    },
    "own ranks": {"target_modules": ["q_proj"], "rank_pattern": {"layers.1.self_attn.q_proj": 7}},
    "weight-decomposed": {"target_modules": ["q_proj", "k_proj", "down_proj"], "use_dora": True},
    "embeddings": {"target_modules": ["embed_tokens", "v_proj"]},
    "the output layer": {"target_modules": ["lm_head", "v_proj"]},
    "whole weights beside it": {"target_modules": ["v_proj"], "modules_to_save": ["lm_head"]},
    "biases": {"target_modules": ["q_proj", "o_proj"], "bias": "all"},
    "but some modules": {"target_modules": "all-linear", "exclude_modules": ["down_proj"]},
    "some layers": {"target_modules": ["q_proj"], "layers_to_transform": [0, 2]},
    "some tokens": {"target_modules": ["q_proj"], "trainable_token_indices": [4, 9]},
    "a bias of its own": {"target_modules": ["q_proj", "o_proj"], "lora_bias": True},
}


def wrap(model: Any, config: Any) -> Any:
    """A copy of the model under an adapter that was trained, so to say."""
    config = copy.deepcopy(config)
    config.task_type = "CAUSAL_LM"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped = peft.get_peft_model(copy.deepcopy(model), config)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in wrapped.parameters():
            if weight.requires_grad:
                weight.add_(0.05 * torch.rand_like(weight))
    return wrapped.eval()


def save(wrapped: Any, folder: Path, **options: Any) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped.save_pretrained(folder, **options)
    return folder


def lora(**options: Any) -> Any:
    return peft.LoraConfig(**{"r": 4, "lora_alpha": 6, "task_type": "CAUSAL_LM", **options})

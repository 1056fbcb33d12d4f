"""What each value of the axis `weights` does to a model: which of its weights may move.

The values and their options are classes of `experiment.axes`. `APPLY` has one function for each of them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

from ..experiment.axes import AllWeights, Lora, Weights


def let_move(model: Any, weights: Weights) -> Any:
    """The model in which only those weights take gradients. Random parts are drawn from torch's present seed."""
    return APPLY[type(weights)](model, weights)


def _all(model: Any, weights: AllWeights) -> Any:
    return model


def _lora(model: Any, lora: Lora) -> Any:
    from peft import LoraConfig, get_peft_model

    targets = lora.lora_target_modules
    config = LoraConfig(
        r=lora.lora_r,
        lora_alpha=lora.lora_alpha,
        target_modules=targets if isinstance(targets, str) else list(targets),
        use_rslora=lora.use_rslora,
        use_dora=lora.use_dora,
        lora_dropout=0.0,
        task_type="CAUSAL_LM",
    )
    with warnings.catch_warnings():
        # PEFT writes these patterns itself for experts, and applies them; it looks for them among layers only
        warnings.filterwarnings("ignore", "The following (rank|alpha)_pattern keys did not match")
        # PEFT asks transformers for an attribute by its old name
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        return get_peft_model(model, config)


APPLY: Mapping[type, Callable[[Any, Any], Any]] = {AllWeights: _all, Lora: _lora}

"""What each value of the axis `weights` does to a model: which of its weights may move.

The values and their options are classes of `experiment.axes`. `APPLY` has one function for each of them.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Collection, Mapping
from typing import Any

from ..errors import ModelError
from ..experiment.axes import AllWeights, Lora, SomeWeights, Weights
from ..models.weights import MODULES, layer_of, module_of


def let_move(model: Any, weights: Weights) -> Any:
    """The model in which only those weights take gradients. Random parts are drawn from torch's present seed."""
    return APPLY[type(weights)](model, weights)


def _all(model: Any, weights: AllWeights) -> Any:
    return model


def _some(model: Any, some: SomeWeights) -> Any:
    names = [name for name, _ in model.named_parameters()]
    for part in (*some.move, *some.freeze):
        if not any(_is_part(part, name) for name in names):
            raise ModelError(f"no weight is {part!r}", where="weights: some", allowed=_kinds(part, names))
    frozen = {name for name in names if some.move and not any(_is_part(part, name) for part in some.move)}
    frozen |= {name for name in names if any(_is_part(part, name) for part in some.freeze)}
    layers = sorted({layer for name in names if (layer := layer_of(name)) is not None})
    bottom = layers[: round(some.freeze_bottom * len(layers))]
    frozen |= {name for name in names if layer_of(name) in bottom}
    if some.freeze_half:
        frozen |= _halves(names, layers, some.freeze_seed)
    if frozen.issuperset(names):
        raise ModelError("no weight may move", where="weights: some")
    for name, weight in model.named_parameters():
        weight.requires_grad_(name not in frozen)
    return model


def _is_part(part: str, name: str) -> bool:
    """Whether a weight is meant: by its kind, such as `v` (`models.weights.MODULES`), else by a part of its name."""
    return module_of(name) == part if part in MODULES else part in name


def _kinds(part: str, names: Collection[str]) -> str:
    """What can be named instead of a part that no weight has."""
    fused = next((name for name in names if module_of(name) == "qkv"), None)
    if part in ("q", "k", "v") and fused:
        return (
            f"this model has queries, keys and values in one weight, such as {fused}, where they cannot be told apart"
        )
    return f"{', '.join(dict.fromkeys(map(module_of, names)))}, or a part of a name such as {next(iter(names))}"


def _halves(names: Collection[str], layers: Collection[int], seed: int) -> set[str]:
    """The weights of a half of the modules of each layer, drawn by a seed; of an odd number, the smaller half."""
    frozen: set[str] = set()
    for layer in layers:
        modules = sorted({name.rpartition(".")[0] for name in names if layer_of(name) == layer})
        drawn = set(random.Random(f"{seed}-{layer}").sample(modules, len(modules) // 2))
        frozen |= {name for name in names if name.rpartition(".")[0] in drawn}
    return frozen


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


APPLY: Mapping[type, Callable[[Any, Any], Any]] = {AllWeights: _all, SomeWeights: _some, Lora: _lora}

"""How far an adapter moves the weights of a loaded model: what merging it adds to each, in float32.

PEFT merges every kind of adapter itself: low-rank or not, on layers, on the fused weights of experts, or on embeddings
that the output layer shares. So nothing here depends on how a kind computes or on how its file names its tensors. A
layer at a time is merged, read and put back.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ..errors import ModelError
from ..models.machine import one_line
from ..models.weights import Change, change, own_name
from .load import OWN, REPLACED

# Initialisations that PEFT begins by changing the base's own weights: what merging adds is not the whole change then.
CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
# What PEFT puts into a layer's name.
WRAPPED = re.compile(r"\.(base_layer|original_module|token_adapter)(?=\.|$)")


class NotMergeable(ModelError):
    """An adapter that cannot be written into the weights of its base."""


def tuned(model: Any) -> dict[str, list[Any]]:
    """The adapter's layers that can be merged, by the name of the layer that they change; several may change one."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    found: dict[str, list[Any]] = {}
    for name, module in model.named_modules():
        if isinstance(module, BaseTunerLayer):
            found.setdefault(WRAPPED.sub("", name), []).append(module)
    return found


@contextmanager
def merged(layers: Sequence[Any], dtype: torch.dtype | None = None) -> Iterator[dict[str, Tensor]]:
    """Layers that change one layer of the base, merged into its weights; the weights that were there, by name.

    With `dtype`, weights are converted to it first. Afterwards they are put back: subtracting would round.
    """
    base = layers[0].get_base_layer()
    before = {name: weight.data for name, weight in base.named_parameters(recurse=False)}
    for name, weight in base.named_parameters(recurse=False):
        weight.data = before[name].to(dtype or weight.dtype, copy=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is lost when a layer is not put back as below
            _merge(layers)
        yield before
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for layer in reversed(layers):
                if layer.merged:
                    layer.unmerge()
        for name, weight in base.named_parameters(recurse=False):
            weight.data = before[name]


def _merge(layers: Sequence[Any]) -> None:
    try:
        for layer in layers:
            layer.merge()
    except torch.OutOfMemoryError:
        raise
    except (NotImplementedError, RuntimeError, ValueError) as error:
        raise NotMergeable(f"its adapter has no merged form: {one_line(error)}") from error


@torch.no_grad()
def adapter_changes(model: Any) -> list[Change]:
    """The change of each weight of the base by the adapter in `model`. Raises ModelError if it cannot be told."""
    for config in getattr(model, "peft_config", {}).values():
        start = str(getattr(config, "init_lora_weights", ""))
        if start.startswith(CHANGES_BASE):
            raise ModelError(f"its adapter begins with a change of the base's own weights ({start})")
    changes = {name: [*_changes(name, before, delta)] for name, before, delta in _differences(model)}
    names = [WRAPPED.sub("", name) for name, _ in model.named_parameters() if not re.search(OWN, name)]
    tied = [name for name in changes if name not in names]  # an output layer that only its adapter tells apart
    return [one for name in dict.fromkeys([*names, *tied]) for one in changes[name]]


def _differences(model: Any) -> Iterator[tuple[str, Tensor, Tensor | None]]:
    """Every weight of the base: its name, its value and what is added, None for nothing."""
    from peft.utils.other import ModulesToSaveWrapper

    replaced: Mapping[str, Tensor] = getattr(model, REPLACED, {})
    done = set()

    def difference(name: str, before: Tensor, after: Tensor) -> tuple[str, Tensor, Tensor]:
        done.add(name)
        before = replaced.get(name, before).to(after.device)
        return name, before, after[: len(before)].float() - before.float()  # of rows that both have

    for name, layers in tuned(model).items():
        with merged(layers, torch.float32) as before:
            for part, after in layers[0].get_base_layer().named_parameters(recurse=False):
                yield difference(f"{name}.{part}", before[part], after.data)
    for name, module in model.named_modules():
        if isinstance(module, ModulesToSaveWrapper):
            for part, own in module.original_module.named_parameters():
                after = module.modules_to_save["default"].get_parameter(part)
                yield difference(f"{WRAPPED.sub('', name)}.{part}", own.data, after.data)
    for name, weight in model.named_parameters():
        plain = WRAPPED.sub("", name)
        if not re.search(OWN, name) and plain not in done:
            yield difference(plain, weight.data, weight.data) if plain in replaced else (plain, weight.data, None)


def _changes(name: str, before: Tensor, delta: Tensor | None) -> Iterator[Change]:
    """The change of a weight; of the weights of several experts in one tensor, one by one."""
    if before.dim() == 3:
        module, _, leaf = name.rpartition(".")
        for number in range(len(before)):
            yield from _changes(f"{module}.{number}.{leaf}", before[number], None if delta is None else delta[number])
    elif before.is_floating_point():
        old = before.detach().float().cpu().numpy()
        yield change(own_name(name), old, None if delta is None else delta.detach().float().cpu().numpy())

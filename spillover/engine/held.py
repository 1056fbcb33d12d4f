"""One load of a base for all adapters of it: each gets a copy of the model that shares its weights.

The copy has modules, buffers and a configuration of its own, and parameters of its own that begin as the same memory.
So whatever an adapter does to modules, or our engine to layers, is gone with the copy. Weights are shared as long as
nobody writes into them: PEFT puts other tensors in their place, and so does `load.with_adapter` where an adapter stores
weights of the base itself, such as biases.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import nn

from . import load


class HeldBase:
    """The base of a run's adapters in memory, loaded when it is first asked for."""

    def __init__(self) -> None:
        self.place: tuple[Path, torch.dtype, torch.device] | None = None
        self.model: Any = None

    def is_of(self, folder: Path) -> bool:
        return self.place is not None and self.place[0] == folder

    def forget(self) -> None:
        self.place = self.model = None

    def with_adapter(self, folder: Path, dtype: torch.dtype, device: torch.device, adapter: Path | None) -> Any:
        """A model as `load.load` gives it, on the device."""
        place = folder, dtype, device
        if self.place != place:
            self.forget()
            self.model, self.place = load.load(folder, dtype).to(device), place
        model = sharing_copy(self.model)
        return model if adapter is None else load.with_adapter(model, adapter).to(device)


def sharing_copy(model: nn.Module) -> Any:
    """A copy of a model whose parameters are other objects with the same memory; tied ones stay tied."""
    shared = {id(one): nn.Parameter(one.data, requires_grad=one.requires_grad) for one in model.parameters()}
    return copy.deepcopy(model, dict(shared))  # what stands in the memo is taken, not copied

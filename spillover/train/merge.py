"""What is made of trained weights: their mixture with the base, their mean over seeds, a random change of their size.

Files are read and written a tensor at a time, so memory holds a few tensors. What is written has the layout of the
trained checkpoint: the same files, names and types, and tied weights stay tied. An adapter is merged into its base
first, which loads the model once; only a mixture of a plain LoRA stays an adapter. Its change is scaled with one of
its two matrices.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from ..engine.whole import write_whole_model
from ..errors import ModelError
from ..experiment.axes import MadeAfter, Mixture, SeedMean
from ..models.folders import is_adapter, weight_files
from ..models.tensors import FLOATS, stored_tensors
from ..models.weights import module_of, own_name

MERGED = "merged"  # a folder of adapters as whole checkpoints, as long as something is made of them
SETTINGS = ("config.json", "adapter_config.json", "generation_config.json", "model.safetensors.index.json")
SCALES = ("lora_B", "lora_embedding_B")  # the matrix of a LoRA with which its change is scaled


def merge(
    base: Path,
    trained: Sequence[Path],
    after: MadeAfter,
    out: Path,
    *,
    stays_adapter: bool = False,
    seed: str = "",
    trust: bool = False,
) -> None:
    """Write into `out` what `after` makes of the weights in the folders `trained`.

    `stays_adapter`: these are plain LoRAs, and so is what is made. `seed` is that of random numbers. Raises ModelError
    if a weight cannot be found in the base.
    """
    if stays_adapter:
        assert isinstance(after, Mixture), "nothing else leaves an adapter"
        strength = after.alpha[0]
        _write(trained[0], out, lambda name, own: own * strength if any(b in name for b in SCALES) else own)
        return
    wholes = [_whole(base, folder, out / MERGED / str(number), trust) for number, folder in enumerate(trained)]
    if isinstance(after, SeedMean):
        others = [_Weights(folder) for folder in wholes[1:]]
        _write(wholes[0], out, lambda name, own: _mean([own, *(one.read(name, own) for one in others)]))
    else:
        weights = _Weights(base)
        if isinstance(after, Mixture):
            strength = after.alpha[0]
            _write(wholes[0], out, lambda name, own: torch.lerp(weights.read(name, own), own, strength))
        else:
            _write(wholes[0], out, lambda name, own: _random(weights.read(name, own), own, f"{seed} {name}"))
    shutil.rmtree(out / MERGED, ignore_errors=True)


def _mean(weights: Sequence[Tensor]) -> Tensor:
    total = weights[0].double()
    for other in weights[1:]:
        total += other
    return total / len(weights)


def _random(before: Tensor, after: Tensor, seed: str) -> Tensor:
    """`before` and normal random numbers, together as large as the change to `after`."""
    size = torch.linalg.vector_norm(after - before, dtype=torch.float64)
    if not size:
        return before
    generator = torch.Generator().manual_seed(int(hashlib.sha256(seed.encode()).hexdigest()[:15], 16))
    noise = torch.randn(before.shape, generator=generator)
    return before + noise * (size / torch.linalg.vector_norm(noise, dtype=torch.float64)).float()


class _Weights:
    """The weights of a whole checkpoint, read one at a time by the names that another checkpoint of the model has."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        found = [(path, name, stored) for path in weight_files(folder) for name, stored in stored_tensors(path).items()]
        self.places = {own_name(name): (path, name) for path, name, stored in found if stored.is_float}
        self.embeddings = [own_name(name) for _, name, _ in found if module_of(name) == "embed"]

    def read(self, name: str, like: Tensor) -> Tensor:
        """The weight in float32. A head that this checkpoint does not store is its embeddings."""
        own = own_name(name)
        for key in (own, *(self.embeddings if own == "lm_head.weight" else ())):
            path, stored = self.places.get(key, (None, ""))
            if path is not None:
                with safe_open(path, "pt") as file:
                    weight: Tensor = file.get_tensor(stored)
                if weight.shape == like.shape:
                    return weight.float()
        what = f"the trained weight {name} has no counterpart in safetensors, so they cannot be mixed"
        raise ModelError(what, where=str(self.folder), allowed="a base whose weights are safetensors")


def _write(like: Path, out: Path, value: Callable[[str, Tensor], Tensor]) -> None:
    """Write a checkpoint in the layout of another one: each of its float tensors becomes what `value` makes of it."""
    for path in weight_files(like):
        stored = sorted(stored_tensors(path).items(), key=lambda item: item[1].offset)
        first = min((one.offset for _, one in stored), default=path.stat().st_size)
        with safe_open(path, "pt") as tensors, path.open("rb") as head, (out / path.name).open("wb") as file:
            file.write(head.read(first))
            for name, one in stored:
                own: Tensor = tensors.get_tensor(name)
                made = value(name, own.float()).to(own.dtype) if one.dtype in FLOATS else own
                file.write(made.detach().contiguous().flatten().view(torch.uint8).numpy().data)
    for name in SETTINGS:
        if (like / name).is_file():
            shutil.copyfile(like / name, out / name)


def _whole(base: Path, folder: Path, merged: Path, trust: bool) -> Path:
    """The folder, if it is a whole checkpoint; else `merged`, with the adapter merged into its base in float32."""
    if not is_adapter(folder):
        return folder
    write_whole_model(base, folder, merged, trust)
    return merged

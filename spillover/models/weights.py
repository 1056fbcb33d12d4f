"""How far a checkpoint's weights are from the base's, weight by weight, from the files on disk. No model is loaded.

The change of a weight is W - W0. That of an adapter is what merging it adds (`engine.merged`). There are three
measures: the mean absolute change, as in the study (Yang et al. 2024, section 5); the relative Frobenius norm
||W - W0|| / ||W0||, which does not depend on the scale of the weights; and the 16 leading singular values of the
change, since LoRA changes few directions by construction and full fine-tuning may change all.

Sums are kept, not means, because sums add up over any set of weights (`pooled`), such as a layer. Files are read a
tensor at a time, so memory holds the largest tensor at most three times.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import ModelError
from ..experiment.dialect import shipped
from .tensors import Stored, stored_tensors

Matrix = npt.NDArray[np.float32]

DIRECTIONS = 16  # leading singular values that are kept
SUBSPACE = 32  # directions that are iterated: twice as many, so that the last of those kept converge too
ITERATIONS = 4
# Prefixes that checkpoints put before a weight's own name: without a head, under PEFT, in a model that sees images.
WRAPPERS = ("base_model.model.", "model.", "transformer.", "gpt_neox.", "language_model.")

MODULES: dict[str, str] = shipped(__package__, "modules.yaml")
"""The kinds of weights, and a pattern of their names in the architectures of transformers. The first match counts."""


@dataclass(frozen=True)
class Change:
    """The change of one weight tensor, as sums over its `size` numbers.

    `absolute` sums |W - W0| (nan or infinite for a broken weight), `squared` sums its square, `base_squared` that of
    W0. `singular_values` are the leading ones of W - W0, largest first, for matrices that changed. `layer` is None for
    weights outside the layers.
    """

    name: str
    layer: int | None
    module: str
    size: int
    absolute: float
    squared: float
    base_squared: float
    singular_values: tuple[float, ...] = ()


@dataclass(frozen=True)
class Deviation:
    """The change of `size` numbers taken together: mean |W - W0|, and ||W - W0|| / ||W0||."""

    size: int
    mean_absolute: float
    relative: float


def pooled(changes: Iterable[Change]) -> Deviation:
    """Any set of weights taken together. Zeros if the set is empty."""
    parts = list(changes)
    size, base = sum(part.size for part in parts), math.fsum(part.base_squared for part in parts)
    absolute, squared = math.fsum(part.absolute for part in parts), math.fsum(part.squared for part in parts)
    return Deviation(size, absolute / size if size else 0.0, math.sqrt(squared / base) if base else 0.0)


def compare(base: Path, variant: Path) -> tuple[list[Change], list[str]]:
    """The change of every weight of the model in `base`, and the names of weights that only `variant` has.

    `variant` is a checkpoint of the same model. Tied weights count once. Raises ModelError for pickled weights and
    other models, which cannot be compared.
    """
    ours, theirs = _weights(base), _weights(variant)
    changes = []
    for name, stored in ours.items():
        if name in theirs and theirs[name].shape == stored.shape:
            before = stored.read()
            changes.append(change(name, before, theirs[name].read() - before))
    if not changes:
        raise ModelError("no weight has the name and shape of one of the base", where=str(variant))
    return changes, sorted(theirs.keys() - {one.name for one in changes})


def singular_values(matrix: Matrix, count: int = DIRECTIONS) -> Matrix:
    """The leading singular values, largest first, by subspace iteration (Halko, Martinsson and Tropp 2011, 4.4).

    They are never too large. If the spectrum falls off, they are right to three digits. If it is as flat as that of
    noise, the last ones are a few per cent too small.
    """
    tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
    start = np.random.default_rng(0).standard_normal((tall.shape[1], min(SUBSPACE, tall.shape[1])), dtype=np.float32)
    basis = np.linalg.qr(start)[0]
    for _ in range(ITERATIONS):
        basis = np.linalg.qr(tall.T @ (tall @ basis))[0]
    return np.linalg.svd(tall @ basis, compute_uv=False)[:count]


def module_of(name: str) -> str:
    """The kind of a weight, from its name: one of MODULES (q, k, v, o, gate, up, down and so on), or `other`."""
    return next((module for module, pattern in MODULES.items() if re.search(pattern, name)), "other")


def layer_of(name: str) -> int | None:
    """The number of a weight's layer: the first number in its name."""
    found = re.search(r"(?:^|\.)(\d+)\.", name)
    return int(found[1]) if found else None


def change(name: str, before: Matrix, delta: Matrix | None) -> Change:
    """The change of one weight by `delta`; None: it did not move."""
    delta = np.zeros_like(before) if delta is None else delta
    absolute = float(np.abs(delta).sum(dtype=np.float64))
    has_spectrum = delta.ndim == 2 and min(delta.shape) > 1 and 0 < absolute < math.inf  # nor nan
    return Change(
        name=name,
        layer=layer_of(name),
        module=module_of(name),
        size=delta.size,
        absolute=absolute,
        squared=float(np.square(delta).sum(dtype=np.float64)),
        base_squared=float(np.square(before).sum(dtype=np.float64)),
        singular_values=tuple(map(float, singular_values(delta))) if has_spectrum else (),
    )


def _weights(folder: Path) -> dict[str, Stored]:
    """The floating-point tensors of a folder, by name without wrappers; a head that is the embeddings is left out."""
    paths = sorted(folder.glob("model*.safetensors")) or sorted(folder.glob("*.safetensors"))
    every = [item for path in paths for item in stored_tensors(path).items()]
    found = {own_name(name): stored for name, stored in every if stored.is_float}
    if not found:
        raise ModelError("no safetensors to compare", where=str(folder))
    return {name: stored for name, stored in found.items() if not (name == "lm_head.weight" and _is_tied(found))}


def _is_tied(found: Mapping[str, Stored]) -> bool:
    head = found["lm_head.weight"]
    twins = [one for name, one in found.items() if module_of(name) == "embed" and one.shape == head.shape]
    return any(np.array_equal(head.read(), twin.read()) for twin in twins)


def own_name(name: str) -> str:
    """A weight's name without the prefixes that depend on what it was saved from."""
    while wrapper := next((prefix for prefix in WRAPPERS if name.startswith(prefix)), None):
        name = name.removeprefix(wrapper)
    return name

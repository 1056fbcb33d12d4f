"""The forward passes of a step: samples as token trees, or one sample each where no prefix can be shared.

The output layer is computed only at positions that predict a token with loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..engine.attention import TreePass
from ..engine.head import hidden_states, own_logits
from ..engine.tree import Tree
from ..text.samples import Sample


@dataclass(frozen=True)
class Pass:
    """Samples that are computed together: what the model reads, and where it predicts which tokens.

    Shapes: N tokens are read, P positions predict, T tokens are learned, one sample's after the other.
    """

    samples: tuple[Sample, ...]
    ids_N: Tensor
    positions_N: Tensor | None
    tree: Tree | None
    at_P: Tensor  # unique indices of what is read
    inverse_T: Tensor  # for each learned token, its place in `at_P`
    targets_T: Tensor

    @classmethod
    def shared(cls, samples: Sequence[Sample]) -> Pass:
        """Samples as one tree."""
        tree = Tree.of([sample.ids[:-1] for sample in samples])
        asked = [
            (tree.locate(number, position - 1), sample.ids[position])
            for number, sample in enumerate(samples)
            for position in sample.learned
        ]
        at, inverse = torch.tensor([index for index, _ in asked], dtype=torch.long).unique(return_inverse=True)
        ids, positions = torch.from_numpy(tree.tokens), torch.from_numpy(tree.positions)
        targets = torch.tensor([token for _, token in asked], dtype=torch.long)
        return cls(tuple(samples), ids, positions, tree, at, inverse, targets)

    @classmethod
    def alone(cls, sample: Sample) -> Pass:
        """One sample as an ordinary row."""
        at = torch.tensor(sample.learned, dtype=torch.long)
        ids = torch.tensor(sample.ids)
        return cls((sample,), ids[:-1], None, None, at - 1, torch.arange(len(at)), ids[at])

    def __len__(self) -> int:
        return len(self.ids_N)

    def logits(self, model: Any, device: torch.device) -> Tensor:
        """The model's own logits_PV, in float32."""
        line: dict[str, Any] = {"input_ids": self.ids_N[None].to(device)}
        if self.tree is not None and self.positions_N is not None:
            line |= {"position_ids": self.positions_N[None].to(device), "tree": TreePass(self.tree.parts)}
        return own_logits(model, self.at_P.to(device), **line).float()

    def hidden(self, model: Any) -> Tensor:
        """Final hidden states_PC, from which an output layer makes logits."""
        tree = None if self.tree is None else TreePass(self.tree.parts)
        states = hidden_states(model, self.ids_N, self.positions_N, tree)
        return states[self.at_P.to(states.device)]

    def nll(self, logits_PV: Tensor) -> Tensor:
        """The negative log-likelihood of each learned token."""
        inverse, targets = self.inverse_T.to(logits_PV.device), self.targets_T.to(logits_PV.device)
        if self.tree is None:
            return torch.nn.functional.cross_entropy(logits_PV, targets, reduction="none")
        return logits_PV.logsumexp(-1)[inverse] - logits_PV[inverse, targets]

    def of_tokens(self, values: Sequence[float]) -> Tensor:
        """A value of each sample, for each of its learned tokens."""
        counts = torch.tensor([len(sample.learned) for sample in self.samples])
        return torch.tensor(values, dtype=torch.float32).repeat_interleave(counts)

    @property
    def is_apart(self) -> bool:
        return self.samples[0].apart


def passes_of(samples: Sequence[Sample], max_tokens: int | None) -> list[Pass]:
    """The passes of a step, with at most `max_tokens` tokens each; None: each sample alone.

    Samples that are apart have passes of their own, so that those of the rows do not depend on them.
    """
    if max_tokens is None:
        return [Pass.alone(sample) for sample in samples]
    kinds = [[sample for sample in samples if sample.apart is apart] for apart in (False, True)]
    return [one for kind in kinds if kind for one in _packed(kind, max_tokens)]


def idle(step: Sequence[Sample], count: int, max_tokens: int | None) -> list[Pass]:
    """So many passes of which nothing counts: of several processes, all make equally many in a step."""
    shortest = [min(step, key=lambda sample: len(sample.ids))] if count else []
    return passes_of(shortest, max_tokens) * count


def _packed(samples: Sequence[Sample], max_tokens: int) -> list[Pass]:
    """Few trees of at most `max_tokens` tokens (a longer sample stands alone); neighbours share the most."""
    ordered = sorted(samples, key=lambda sample: sample.ids)
    one = Pass.shared(ordered)
    if len(one) <= max_tokens or len(ordered) == 1:
        return [one]
    middle = len(ordered) // 2
    return [*_packed(ordered[:middle], max_tokens), *_packed(ordered[middle:], max_tokens)]

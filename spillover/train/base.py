"""What the base model says of the samples of a training, for losses and penalties that ask it.

It is computed before the first step, from the weights that are about to be trained, so no second model is in memory.
Each sample is read once: once a row where its context is fixed, once a step where it is drawn. A divergence needs the
base's whole distributions. These are kept as final hidden states on the CPU, with a frozen copy of the output layer.

Of several processes each asks for the samples that it will compute itself, and keeps their hidden states. All of them
learn the likelihood of every token.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..engine.head import Head
from ..engine.suitable import PROBE_TOLERANCE
from ..errors import ModelError
from ..text.samples import Sample
from .passes import Pass, passes_of
from .together import ALONE, Together


@dataclass
class Base:
    """The base's negative log-likelihood of each learned token, and, if `head` is there, its hidden states, by sample.

    `tokens` is what was computed for it.
    """

    head: Head | None = None
    tokens: int = 0
    nll: dict[Sample, Tensor] = field(default_factory=dict)
    hidden: dict[Sample, Tensor] = field(default_factory=dict)

    def nll_of(self, one: Pass) -> Tensor:
        """For each learned token of a pass."""
        return torch.cat([self.nll[sample] for sample in one.samples])

    def row_losses(self, samples: Iterable[Sample]) -> list[float]:
        """The mean over the learned tokens of each sample."""
        return [float(self.nll[sample].mean()) if len(self.nll[sample]) else 0.0 for sample in samples]

    def logprobs(self, one: Pass, device: torch.device) -> Tensor:
        """The base's log-probabilities_PV at the positions of a pass."""
        assert self.head is not None, "hidden states were not asked for"
        hidden_TC = torch.cat([self.hidden[sample] for sample in one.samples])
        first_P = torch.empty(len(one.at_P), dtype=torch.long)
        first_P[one.inverse_T.flip(0)] = torch.arange(len(one.inverse_T)).flip(0)
        with torch.no_grad():
            return self.head(hidden_TC[first_P].to(device)).float().log_softmax(-1)

    @property
    def bytes(self) -> int:
        """Memory of what is kept, without the output layer."""
        return sum(kept.nbytes for kept in (*self.nll.values(), *self.hidden.values()))


@torch.no_grad()
def ask_base(
    model: Any,
    steps: Iterable[list[Sample]],
    pack_tokens: int | None,
    whole: bool,
    together: Together = ALONE,
    *,
    rows: bool = True,
    texts: bool = False,
) -> Base:
    """What the model says of the samples of the steps: of those of the rows, of those of its own texts, which are
    apart, or of both. `whole`: its distributions, not only the learned tokens.

    Raises ModelError if its output layer does something that cannot be repeated.
    """
    base = Base(head=_frozen(model) if whole else None)
    wanted = {False: rows, True: texts}
    numbers: dict[Sample, int] = {}
    for step in steps:
        for sample in step:
            if wanted[sample.apart]:
                numbers.setdefault(sample, len(numbers))
        own = dict.fromkeys(together.share(step, pack_tokens is not None))
        new = [sample for sample in own if wanted[sample.apart] and sample not in base.nll]
        for one in passes_of(new, pack_tokens) if new else ():
            sizes = [len(sample.learned) for sample in one.samples]
            if base.head is None:
                logits = one.logits(model, model.device)
            else:
                hidden = one.hidden(model)
                logits = base.head(hidden)
                if not base.hidden:
                    _check(logits, one.logits(model, model.device))
                of_tokens = hidden[one.inverse_T.to(hidden.device)].cpu()
                base.hidden |= zip(one.samples, of_tokens.split(sizes), strict=True)
            base.nll |= zip(one.samples, one.nll(logits).cpu().split(sizes), strict=True)
            base.tokens += len(one)
    if together.several:
        said = together.every({numbers[sample]: nll for sample, nll in base.nll.items()})
        of_all = {number: nll for of_one in said for number, nll in of_one.items()}
        base.nll = {sample: of_all[number] for sample, number in numbers.items()}
    return base


def _frozen(model: Any) -> Head:
    """The model's output layer as it is now."""
    head = Head.of(model)
    return replace(head, layer=deepcopy(head.layer).requires_grad_(False))


def _check(made_PV: Tensor, own_PV: Tensor) -> None:
    """Raise ModelError if logits made of hidden states are not the model's own."""
    apart = float((made_PV.float().log_softmax(-1) - own_PV.log_softmax(-1)).abs().max())
    rounded = torch.is_autocast_enabled(own_PV.device.type)
    if not apart <= PROBE_TOLERANCE["bfloat16" if rounded else "float32"]:
        what = f"the output layer does something of its own ({apart:.2g} nats off): its divergence cannot be computed"
        raise ModelError(what, allowed="a strategy without the penalty kl")

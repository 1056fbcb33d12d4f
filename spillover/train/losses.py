"""What an answer token counts in a step: the values of the axes `loss` and `penalty`, as functions.

    loss of a step = sum of weight * factor * NLL / divisor  +  beta * mean KL  +  weighted mean NLL of samples apart

`FACTORS` has one function for each value of the axis `loss`: the factor of each token, without gradient. The divisor is
the number of answer tokens of the step (each counted by its sample's weight), or for the values in `BY_FACTORS` the sum
of the factors. It is known before the first backward pass, so that a step which is cut into several passes has the
same gradients. Only `easy_tokens` needs the model for it: such a step is first passed without gradients (`Looked`).

L2-SP is no function of tokens: `Anchor` adds it to the gradients once a step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..errors import ExperimentError, ModelError
from ..experiment.axes import (
    DistanceToBase,
    EasyRows,
    EasyTokens,
    Entropy,
    EveryToken,
    KlOnTexts,
    KlToBase,
    Likelihood,
    SelectedTokens,
)
from ..experiment.recipe import Recipe
from .base import Base
from .passes import Pass
from .together import ALONE, Together, local, part
from .unlikely import WithoutLoss, is_selected, without_loss

LEAST_TAU = 1e-6  # nats, where all losses are 0


@dataclass(frozen=True)
class Tokens:
    """The learned tokens of a pass, as a loss sees them. T tokens, P positions, V words of the vocabulary.

    `nll_T` and `logits_PV` have gradients; token t stands at `logits_PV[inverse_T[t]]`. `row_T` counts the samples of
    the pass. `base_nll_T` is there if the loss asks the base.
    """

    nll_T: Tensor
    logits_PV: Tensor
    inverse_T: Tensor
    targets_T: Tensor
    row_T: Tensor
    base_nll_T: Tensor | None = None


Function = Callable[[Tokens], Tensor]
"""A loss of one's own: the loss of each learned token, with its gradient."""


@dataclass(frozen=True)
class Seen:
    """What the factors of a pass depend on. Nothing of it has a gradient."""

    one: Pass
    tau: float
    base: Base | None
    nll_T: Tensor | None = None
    logits_PV: Tensor | None = None


# --- the values of the axis `loss` ----------------------------------------------------------------------


def _every_token(loss: EveryToken, seen: Seen) -> Tensor:
    return torch.ones(len(seen.one.targets_T))


def _likelihood(loss: Likelihood, seen: Seen) -> Tensor:
    assert seen.nll_T is not None
    return (-seen.nll_T).exp()


def _easy_tokens(loss: EasyTokens, seen: Seen) -> Tensor:
    assert seen.nll_T is not None
    return (-seen.nll_T / seen.tau).exp()


def _entropy(loss: Entropy, seen: Seen) -> Tensor:
    """Of the top tokens' probabilities, which are made to sum to 1."""
    assert seen.logits_PV is not None
    top_PK = seen.logits_PV.topk(min(loss.entropy_top, seen.logits_PV.shape[-1])).values.log_softmax(-1)
    entropy_P = -(top_PK.exp() * top_PK).sum(-1) / math.log(top_PK.shape[-1])
    return entropy_P[seen.one.inverse_T.to(entropy_P.device)]


def _selected(loss: SelectedTokens, seen: Seen) -> Tensor:
    assert seen.base is not None
    return is_selected(loss, seen.base.nll_of(seen.one))


def _easy_rows(loss: EasyRows, seen: Seen) -> Tensor:
    assert seen.base is not None
    return (-seen.one.of_tokens(seen.base.row_losses(seen.one.samples)) / seen.tau).exp()


FACTORS: Mapping[type, Callable[[Any, Seen], Tensor]] = {
    EveryToken: _every_token,
    Likelihood: _likelihood,
    EasyTokens: _easy_tokens,
    Entropy: _entropy,
    SelectedTokens: _selected,
    EasyRows: _easy_rows,
}
BY_FACTORS = (SelectedTokens, EasyTokens, EasyRows)  # divided by the sum of the factors


# --- a step ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Looked:
    """What must be known of a whole step before its first backward pass: the divisors, and tau in nats."""

    divisor: float
    rows: float  # answer tokens of the rows, each counted by its sample's weight
    apart: int  # tokens of the samples that are apart
    tau: float = 1.0

    @property
    def has_loss(self) -> bool:
        return self.divisor > 0 or self.apart > 0


@dataclass
class Objective:
    """The loss of a recipe. `base` is what the base says of the samples, if it is asked (`Recipe.asks_base`).

    `function` is the loss of one's own of `python`. What is known of a step is known of all its shares (`together`).
    """

    recipe: Recipe
    base: Base | None = None
    function: Function | None = None
    together: Together = ALONE

    @property
    def looks_first(self) -> bool:
        """Whether the divisor depends on the model itself."""
        return isinstance(self.recipe.loss, EasyTokens)

    @cached_property
    def _row_tau(self) -> float:
        assert isinstance(self.recipe.loss, EasyRows) and self.base is not None
        return _tau(self.recipe.loss.row_tau, torch.tensor(self.base.row_losses(self.base.nll)))

    def look(self, passes: Sequence[Pass], nll: Sequence[Tensor] | None = None) -> Looked:
        """What must be known of a step. `nll` are those of the passes of its rows, where it looks first.

        Of several processes, each gives its own passes, and all must look.
        """
        rows = [one for one in passes if not one.is_apart]
        total = sum(float(_weights(one).sum()) for one in rows)
        apart = sum(len(one.targets_T) for one in passes if one.is_apart)
        loss, tau, divisor = self.recipe.loss, 1.0, total
        if isinstance(loss, EasyTokens) and nll is not None:
            own = torch.cat([torch.empty(0), *(values.float().cpu() for values in nll)])
            tau = _tau(loss.token_tau, self.together.joined(own))
        elif isinstance(loss, EasyRows):
            tau = self._row_tau
        if isinstance(loss, BY_FACTORS):
            seen = [Seen(one, tau, self.base, nll[place] if nll else None) for place, one in enumerate(rows)]
            divisor = sum(float((_weights(s.one) * FACTORS[type(loss)](loss, s).cpu()).sum()) for s in seen)
        divisor, total, texts = self.together.sums(divisor, total, apart)
        return Looked(divisor, total, int(texts), tau)

    def loss(self, one: Pass, logits_PV: Tensor, looked: Looked) -> tuple[Tensor, float]:
        """What a pass adds to the loss of its step; and the part of it that is a penalty."""
        nll_T, device = one.nll(logits_PV), logits_PV.device
        weight_T = _weights(one).to(device)
        penalty = self.recipe.penalty
        if one.is_apart:
            total = (nll_T * weight_T).sum() / looked.apart
            if not isinstance(penalty, KlOnTexts):
                return total, 0.0
            added = penalty.text_beta[0] * (self._divergence(one, logits_PV).sum() / looked.apart)
            return total + added, float(added.detach())
        each_T = self._each(one, nll_T, logits_PV, looked.tau)
        total = (each_T * weight_T).sum() / (looked.divisor or math.inf)
        if not isinstance(penalty, KlToBase):
            return total, 0.0
        added = penalty.beta[0] * ((self._divergence(one, logits_PV) * weight_T).sum() / (looked.rows or math.inf))
        return total + added, float(added.detach())

    def _divergence(self, one: Pass, logits_PV: Tensor) -> Tensor:
        """KL(base || model) at each learned token of a pass."""
        assert self.base is not None
        kl_P = divergence(self.base.logprobs(one, logits_PV.device), logits_PV)
        return kl_P[one.inverse_T.to(logits_PV.device)]

    def _each(self, one: Pass, nll_T: Tensor, logits_PV: Tensor, tau: float) -> Tensor:
        """The loss of each learned token."""
        if self.function is None:
            seen = Seen(one, tau, self.base, nll_T.detach(), logits_PV.detach())
            return nll_T * FACTORS[type(self.recipe.loss)](self.recipe.loss, seen).to(nll_T.device)
        rows = one.of_tokens(range(len(one.samples))).long()
        inverse, targets, rows = (x.to(nll_T.device) for x in (one.inverse_T, one.targets_T, rows))
        base = None if self.base is None else self.base.nll_of(one).to(nll_T.device)
        each_T = self.function(Tokens(nll_T, logits_PV, inverse, targets, rows, base))
        if not isinstance(each_T, Tensor) or each_T.shape != nll_T.shape:
            what = f"its loss of {len(nll_T)} answer tokens is {getattr(each_T, 'shape', type(each_T).__name__)}"
            raise ExperimentError(what, where="loss: python", allowed="a tensor of one number for each")
        return each_T

    def without_loss(self) -> WithoutLoss | None:
        """What the base finds too unlikely to be learned; None for another loss.

        Raises ModelError if it finds every token so.
        """
        if not isinstance(self.recipe.loss, SelectedTokens) or self.base is None:
            return None
        found = without_loss(self.recipe.loss, self.base)
        if found.every == 1.0:
            limit = self.recipe.loss.most_perplexity
            what = (
                f"no answer token has a perplexity of {limit:g} or less under the base; the least is {found.least:.3g}"
            )
            raise ModelError(f"{what}: nothing would be trained", where="most_perplexity", allowed="a higher limit")
        return found


def divergence(base_PV: Tensor, logits_PV: Tensor) -> Tensor:
    """KL(base || model) at each position, in nats, from the base's log-probabilities and the model's logits."""
    return (base_PV.exp() * (base_PV - logits_PV.log_softmax(-1))).sum(-1)


def _weights(one: Pass) -> Tensor:
    return one.of_tokens([sample.weight for sample in one.samples])


def _tau(written: Any, losses: Tensor) -> float:
    """A temperature as it is written, or the median of these losses."""
    return float(losses.quantile(0.5).clamp(min=LEAST_TAU)) if written == "median" else float(written)


# --- L2-SP ----------------------------------------------------------------------------------------------


class Anchor:
    """w / 2 times the squared distance of the weights that move to what they were: its value, and its gradient."""

    def __init__(self, model: Any, penalty: DistanceToBase) -> None:
        self.weight = penalty.l2sp_weight[0]
        self.before = {name: one.detach().clone() for name, one in model.named_parameters() if one.requires_grad}

    @torch.no_grad()
    def pull(self, model: Any, together: Together = ALONE) -> float:
        """Add the gradient to those of the weights; returns the penalty."""
        squared = 0.0
        for name, weight in model.named_parameters():
            if name in self.before:
                own = local(weight)
                if self.before[name].shape != own.shape:  # the weights have been cut since
                    self.before[name] = local(part(self.before[name], weight)).clone()
                apart = own - self.before[name]
                squared += float(apart.square().sum())
                if weight.grad is not None:
                    local(weight.grad).add_(apart, alpha=self.weight)
        return self.weight / 2 * (together.sums(squared)[0] if together.cuts else squared)

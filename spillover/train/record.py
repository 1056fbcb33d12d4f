"""What is recorded of a training: its sums while it goes on, and what the receipt says of it in the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isfinite

from ..text.compose import TooLong


@dataclass(frozen=True)
class Trained:
    """What a training did, in all its processes where it was killed and went on.

    `loss` is the mean over its steps, `penalty` the part of it that is one. `tokens_plain` counts every sample in full,
    `tokens` what was computed, `tokens_forward` what was computed beside it without gradients: for the base's own
    answers, and to look at a step before its gradients. `weights_moving` of `weights_in_all` numbers may move.
    `without_loss` is the share of answer tokens, `first_without_loss` of first answer tokens, that the base found too
    unlikely to be learned; `steps_without_loss` had no other and made no update. `kept_bytes` is the memory of what the
    base said.
    `dropout_off` names the dropouts that were set to 0; `why_plain` says why no prefix was shared. `broken_checkpoints`
    are those that were newer than the one from which it went on. `evaluations` are (step, loss on validation rows, loss
    on rows of other data); the weights are those of `best_step`. `steps_planned` are more than `steps` if it stopped
    early. `too_long` is what samples that were made for their step have lost. `processes` trained it together, by
    `parallel` over `backend`; both are None where it was one.
    """

    steps: int
    loss: float
    seconds: float
    tokens_plain: int
    tokens: int
    weights_moving: int
    weights_in_all: int
    samples: int = 0
    penalty: float = 0.0
    tokens_forward: int = 0
    kept_bytes: int = 0
    without_loss: float | None = None
    first_without_loss: float | None = None
    steps_without_loss: int = 0
    dropout_off: tuple[str, ...] = ()
    why_plain: str | None = None
    broken_checkpoints: tuple[str, ...] = ()
    evaluations: tuple[tuple[int, float, float | None], ...] = ()
    best_step: int | None = None
    too_long: TooLong = field(default_factory=TooLong)
    steps_planned: int = 0
    processes: int = 1
    parallel: str | None = None
    backend: str | None = None


@dataclass
class Totals:
    """What a training has done so far. Every checkpoint holds them, so a training that goes on counts on from there."""

    loss: float = 0.0  # summed over `steps`
    steps: int = 0  # without those whose loss was not finite, which the Trainer's own mean leaves out too
    step_loss: float = 0.0  # of the last step, whatever it was
    penalty: float = 0.0  # summed over `steps`
    steps_without_loss: int = 0
    samples: int = 0
    tokens: int = 0
    tokens_plain: int = 0
    tokens_forward: int = 0
    seconds: float = 0.0

    def step(self, loss: float, penalty: float) -> None:
        self.step_loss = loss
        if isfinite(loss):
            self.loss, self.penalty, self.steps = self.loss + loss, self.penalty + penalty, self.steps + 1

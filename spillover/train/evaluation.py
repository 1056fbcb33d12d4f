"""Evaluation while a training goes on: the loss on validation rows, every so many steps and after the last one.

The loss is the mean negative log-likelihood of the answer tokens, in nats: `eval_loss` on the training set's own
validation rows, `eval_elsewhere_loss` on rows of other data sets. Loggers get both as they are measured.

The weights with the lowest `eval_loss` are kept, the first of equal ones. With `patience`, training stops after so many
evaluations without a lower one. What happens elsewhere decides nothing here. The best weights so far are on disk,
beside the checkpoints: a training that was killed goes on from a checkpoint, measures the same again, and keeps the
same. A soft prompt is dropped in the end, so the loss is that of the model without it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from ..errors import ModelError
from ..experiment.recipe import Recipe
from ..text.compose import Watched
from ..text.samples import Sample
from .passes import idle, passes_of
from .together import ALONE, Together, let_go, part, whole

BEST = "best.safetensors"


@torch.no_grad()
def mean_loss(
    model: Any, samples: Sequence[Sample], pack_tokens: int | None, rounds: bool = False, together: Together = ALONE
) -> float:
    """Nats per answer token. `rounds`: the passes run in bfloat16, as those of the training do."""
    total, tokens = 0.0, 0
    passes = passes_of(together.share(samples, pack_tokens is not None), pack_tokens)
    waits = idle(samples, together.most(len(passes)) - len(passes), pack_tokens)
    with torch.autocast(model.device.type, torch.bfloat16, enabled=rounds):
        for one in passes:
            nll = one.nll(one.logits(model, model.device))
            total, tokens = total + float(nll.sum()), tokens + len(nll)
        for one in waits:
            one.logits(model, model.device)
    of_all, count = together.sums(total, tokens)
    return of_all / max(count, 1)


class Evaluation(TrainerCallback, ExportableState):
    """Measures, keeps the best weights in `folder`, and stops the training. `curve` is (step, own loss, elsewhere).

    `as_used` is a context in which the model is as it will be used.
    """

    def __init__(
        self,
        watched: Watched,
        recipe: Recipe,
        pack_tokens: int | None,
        folder: Path,
        log: Callable[[dict[str, float]], None],
        together: Together = ALONE,
    ) -> None:
        self.watched, self.recipe, self.pack_tokens, self.folder, self.log = watched, recipe, pack_tokens, folder, log
        self.together = together
        self.curve: list[tuple[int, float, float | None]] = []
        self.as_used: Callable[[], AbstractContextManager[None]] = nullcontext

    def state(self) -> dict[str, Any]:
        return {"curve": self.curve}

    @property
    def best_step(self) -> int:
        return min(self.curve, key=lambda point: point[1])[0]

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        saved = state.stateful_callbacks[type(self).__name__]["curve"]
        self.curve = [(step, inside, elsewhere) for step, inside, elsewhere in saved]

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        step = state.global_step
        if step % self.recipe.evaluate_every and step < state.max_steps:
            return
        inside = self._loss(model, self.watched.inside, args.bf16)
        if not isfinite(inside):
            what = f"the loss on validation rows is {inside} after step {step}"
            raise ModelError(what, allowed="a lower train.learning_rate")
        elsewhere = self._loss(model, self.watched.elsewhere, args.bf16) if self.watched.elsewhere else None
        self.curve.append((step, inside, elsewhere))
        self.log({"eval_loss": inside} | ({} if elsewhere is None else {"eval_elsewhere_loss": elsewhere}))
        if self.best_step == step:
            self._keep(model, step)
        since = len(self.curve) - 1 - [point[0] for point in self.curve].index(self.best_step)
        if self.recipe.patience and since >= self.recipe.patience:
            control.should_training_stop = True
            control.should_save = False  # a training that goes on from a checkpoint would go on past its end

    def _loss(self, model: Any, samples: Sequence[Sample], rounds: bool) -> float:
        with self.as_used():
            return mean_loss(model, samples, self.pack_tokens, rounds, self.together)

    def _keep(self, model: Any, step: int) -> None:
        let_go(model)
        moving = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        found = {name: whole(weight.detach()).contiguous() for name, weight in moving.items()}
        if self.together.is_first:
            self.folder.mkdir(parents=True, exist_ok=True)
            made = self.folder / f"{BEST}.new"
            save_file(found, made, {"step": str(step)})
            made.replace(self.folder / BEST)

    def restore(self, model: Any) -> int:
        """Give the model its best weights; returns after which step it had them."""
        self.together.every(None)  # the first has written them
        let_go(model)
        with torch.no_grad(), safe_open(self.folder / BEST, "pt") as best:
            for name, weight in model.named_parameters():
                if weight.requires_grad:
                    weight.copy_(part(best.get_tensor(name), weight))
            return int(best.metadata()["step"])

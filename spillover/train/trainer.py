"""A `transformers.Trainer` that computes every shared token prefix once, gradients included.

The batch of an optimiser step becomes one token tree, or a few if memory requires it (`passes`). Head and loss are
computed at answer positions only (`losses`). Gradients are those of the padded batch, whatever the cut. Optimiser,
schedule, checkpoints, loggers and LoRA are the Trainer's. One process trains on one device. Dropout is off, and the
receipt says so: a shared prefix would be drawn once for all samples.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, fields
from itertools import chain, cycle, islice
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, Trainer, TrainerCallback, TrainingArguments, set_seed
from transformers.trainer_callback import ExportableState, PrinterCallback

from ..engine.hf import device, load_model
from ..engine.memory import out_of_memory
from ..engine.shared import LEAST_TOKENS
from ..engine.suitable import PROBE_TOKENS, why_plain
from ..experiment.axes import AllWeights, DistanceToBase, SoftPrompt
from ..experiment.recipe import Recipe
from ..text.compose import TooLong
from ..text.samples import Sample
from ..text.steps import Steps
from .axes import let_move
from .base import ask_base
from .checkpoints import make_room, newest_whole, seal
from .evaluation import Evaluation
from .losses import Anchor, Function, Looked, Objective
from .passes import Pass, passes_of
from .soft_prompt import WHY_PLAIN, behind, soft_prompt

Stepped = Callable[[int, int, float], None]
"""(step, steps, loss of the step)"""


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
    early. `too_long` is what samples that were made for their step have lost.
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


class PrefixTrainer(Trainer):
    """The Trainer over steps, which are lists of samples.

    `pack_tokens` bounds one forward and backward pass; None shares nothing. `objective` says what a token counts.
    """

    def __init__(
        self,
        *args: Any,
        steps: Sequence[list[Sample]],
        pack_tokens: int | None,
        objective: Objective,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, train_dataset=steps, data_collator=as_inputs, **kwargs)
        self.pack_tokens, self.objective = pack_tokens, objective
        penalty = objective.recipe.penalty
        self.anchor = Anchor(self.model, penalty) if isinstance(penalty, DistanceToBase) else None
        self.totals = Totals()

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """A checkpoint does not store a head that is the embeddings, so nothing lacks where that is missing."""
        weights, missing = self.model.state_dict(), set(load_result.missing_keys)
        loaded = {weight.data_ptr() for name, weight in weights.items() if name not in missing}
        if load_result.unexpected_keys or any(weights[name].data_ptr() not in loaded for name in missing):
            super()._issue_warnings_after_load(load_result)

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """Forward and backward over the samples of a step; returns its loss."""
        model.train()
        while True:
            try:
                return self._step(model, inputs["samples"])
            except RuntimeError as error:
                smaller = (self.pack_tokens or 0) // 2
                if not out_of_memory(error) or smaller < LEAST_TOKENS:
                    raise
            # A backward that died half-way has left parts of its gradients behind: start the step again.
            model.zero_grad()
            self.pack_tokens = smaller

    def _step(self, model: Any, samples: list[Sample]) -> Tensor:
        passes, objective, device = passes_of(samples, self.pack_tokens), self.objective, self.args.device
        total, penalty = torch.zeros((), device=device), 0.0
        looked, forward = self._look(model, passes)
        if looked is not None and not looked.has_loss:  # no gradients: the optimiser leaves every weight where it is
            self.totals.step_loss = 0.0
            self.totals.steps_without_loss += 1
            return total
        for one in passes:
            with self.compute_loss_context_manager():
                logits = one.logits(model, device)
                looked = looked or objective.look(passes, [one.nll(logits.detach())])
                loss, added = objective.loss(one, logits, looked)
            self.accelerator.backward(loss)
            total += loss.detach()
            penalty += added
        if self.anchor:
            pulled = self.anchor.pull()
            total, penalty = total + pulled, penalty + pulled
        self.totals.tokens += sum(len(one) for one in passes)
        self.totals.samples += len(samples)
        self.totals.tokens_plain += sum(len(sample.ids) - 1 for sample in samples)
        self.totals.tokens_forward += forward
        self.totals.step(total.item(), penalty)
        return total

    def _look(self, model: Any, passes: Sequence[Pass]) -> tuple[Looked | None, int]:
        """What the objective must know of a step, and the tokens passed for it; None if its one pass will tell."""
        rows = [one for one in passes if not one.is_apart]
        if not self.objective.looks_first or not rows:
            return self.objective.look(passes), 0
        if len(rows) == 1:
            return None, 0
        with torch.no_grad(), self.compute_loss_context_manager():
            nll = [one.nll(one.logits(model, self.args.device)) for one in rows]
        return self.objective.look(passes, nll), sum(map(len, rows))


def as_inputs(steps: list[list[Sample]]) -> dict[str, Any]:
    """A step as the Trainer passes it on."""
    (samples,) = steps
    return {"samples": samples}


def train(
    model_folder: Path,
    steps: Steps,
    recipe: Recipe,
    out: Path,
    *,
    precision: str,
    share: bool = True,
    pack_tokens: int = 2048,
    gradient_checkpointing: bool = False,
    report_to: Sequence[str] = (),
    checkpoint_every_s: float = 600.0,
    progress: Stepped | None = None,
    trust: bool = False,
    function: Function | None = None,
) -> Trained:
    """Fine-tune the model in `model_folder` and save it, or its adapter, in `out`.

    Goes on from the last whole checkpoint in `out/checkpoints`, if there is one. Weights are float32; `precision`
    "bfloat16" runs the passes under autocast. Without `share`, and for models that cannot share a prefix, each
    sample is a pass of its own. Raises ModelError under a launcher of several processes.
    """
    set_seed(recipe.seed)  # before anything random: adapters are initialised at random
    config, dropout = _without_dropout(model_folder, trust)
    as_given = {**dropout, **({"use_cache": config.use_cache} if hasattr(config, "use_cache") else {})}
    model = load_model(model_folder, "float32", trust=trust, config=config)
    words = list(islice(cycle(chain.from_iterable(sample.ids for sample in steps[0])), PROBE_TOKENS))
    reason = None
    if share:  # `why_plain` makes the model share prefixes if it can
        has_prompt = isinstance(recipe.first, SoftPrompt)
        reason = WHY_PLAIN if has_prompt else why_plain(model, words, "float32", steps.longest)
    pack = pack_tokens if share and reason is None else None
    began, base = time.monotonic(), None
    if recipe.asks_base:  # adapters are drawn after it, from the same state of the generator
        with torch.autocast(model.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            base = ask_base(model, steps, pack, whole=recipe.asks_distributions)
    spent = time.monotonic() - began
    objective = Objective(recipe, base, function)
    without = objective.without_loss()
    model = let_move(model, recipe.weights)
    if gradient_checkpointing and not isinstance(recipe.weights, AllWeights):
        model.enable_input_require_grads()
    checkpoints = out / "checkpoints"
    arguments = _arguments(checkpoints, recipe, len(steps), precision, gradient_checkpointing, report_to)
    trainer = PrefixTrainer(model=model, args=arguments, steps=steps, pack_tokens=pack, objective=objective)
    totals = trainer.totals
    trainer.add_callback(_Checkpoints(checkpoint_every_s, totals, steps.order.an_epoch))
    if progress:
        trainer.add_callback(_Report(progress, totals))
    evaluation = None
    if steps.watched:
        log = weakref.proxy(trainer).log
        evaluation = Evaluation(steps.watched, recipe, pack, checkpoints, lambda found: log(found))
        trainer.add_callback(evaluation)
    trainer.remove_callback(PrinterCallback)
    resumed, broken = newest_whole(checkpoints)
    with ExitStack() as stack:
        if isinstance(recipe.first, SoftPrompt):
            prompt = soft_prompt(model, recipe.first, steps, recipe.seed, checkpoints)
            dropped = stack.enter_context(behind(model, prompt))
            if evaluation:
                evaluation.as_used = dropped
        trainer.train(resume_from_checkpoint=None if resumed is None else str(resumed))
    best = evaluation.restore(trainer.accelerator.unwrap_model(trainer.model)) if evaluation else None
    for name, value in as_given.items():  # what was set for training, by the Trainer too, is no part of the checkpoint
        setattr(model.config, name, value)
    trainer.accelerator.unwrap_model(trainer.model).save_pretrained(out)
    return Trained(
        steps=trainer.state.global_step,
        loss=totals.loss / max(totals.steps, 1),
        seconds=totals.seconds + spent,
        samples=totals.samples,
        tokens_plain=totals.tokens_plain,
        tokens=totals.tokens,
        weights_moving=sum(weight.numel() for weight in model.parameters() if weight.requires_grad),
        weights_in_all=sum(weight.numel() for weight in model.parameters()),
        penalty=totals.penalty / max(totals.steps, 1),
        tokens_forward=totals.tokens_forward + (base.tokens if base else 0),
        kept_bytes=base.bytes if base else 0,
        without_loss=None if without is None else without.every,
        first_without_loss=None if without is None else without.first,
        steps_without_loss=totals.steps_without_loss,
        dropout_off=tuple(dropout),
        why_plain=reason,
        broken_checkpoints=tuple(broken),
        evaluations=tuple(evaluation.curve) if evaluation else (),
        best_step=best,
        too_long=steps.too_long(trainer.state.global_step),
        steps_planned=len(steps),
    )


def _without_dropout(folder: Path, trust: bool) -> tuple[Any, dict[str, float]]:
    """The model's configuration with every dropout at 0, and what those that were not had been."""
    config = AutoConfig.from_pretrained(folder, trust_remote_code=trust)
    dropouts = {name: value for name, value in config.to_dict().items() if "drop" in name}
    was_on = {name: value for name, value in dropouts.items() if isinstance(value, float) and value > 0}
    for name in was_on:
        setattr(config, name, 0.0)
    return config, was_on


def _arguments(
    checkpoints: Path, recipe: Recipe, steps: int, precision: str, checkpointing: bool, report_to: Sequence[str]
) -> TrainingArguments:
    arguments = TrainingArguments(
        output_dir=str(checkpoints),
        learning_rate=recipe.learning_rate,
        max_steps=steps,
        per_device_train_batch_size=1,  # an item of the data set is a whole step
        train_sampling_strategy="sequential",
        lr_scheduler_type=recipe.lr_scheduler_type,
        warmup_steps=recipe.warmup_steps,
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.max_grad_norm,
        seed=recipe.seed,
        data_seed=recipe.seed,
        bf16=precision == "bfloat16",
        use_cpu=device().type == "cpu",
        **({_checkpointing(TrainingArguments): True} if checkpointing else {}),
        save_strategy="no",  # `_Checkpoints` asks for them by the clock, and deletes old ones
        logging_strategy="steps" if report_to else "no",
        report_to=list(report_to) or "none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
    )
    arguments._n_gpu = 1  # no DataParallel, which would multiply the batch by the GPUs there are
    return arguments


def _checkpointing(arguments: type) -> str:
    """The name of the option that computes activations again in the backward pass: transformers has renamed it."""
    names = {field.name for field in fields(arguments)}
    return next(name for name in ("activation_checkpointing", "gradient_checkpointing") if name in names)


class _Checkpoints(TrainerCallback, ExportableState):
    """A checkpoint every so many seconds: steps take from a tenth of a second to minutes, and a killed run should lose
    ten minutes at most. The newest two are kept. The totals go with the Trainer's state, in the checkpoint."""

    def __init__(self, every_s: float, totals: Totals, an_epoch: int) -> None:
        self.every_s, self.totals, self.an_epoch = every_s, totals, an_epoch
        self.saved = self.counted = time.monotonic()

    def state(self) -> dict[str, Any]:
        return asdict(self.totals)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        vars(self.totals).update(state.stateful_callbacks[type(self).__name__])  # as saved, or as they are
        self.counted = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        now = time.monotonic()
        self.totals.seconds += now - self.counted
        self.counted = now
        state.epoch = state.global_step / self.an_epoch  # for loggers: the Trainer takes all steps for one epoch
        if state.global_step < state.max_steps and now - self.saved >= self.every_s:
            make_room(Path(args.output_dir))
            control.should_save = True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        seal(Path(args.output_dir) / f"checkpoint-{state.global_step}")
        self.saved = time.monotonic()


class _Report(TrainerCallback):
    def __init__(self, progress: Stepped, totals: Totals) -> None:
        self.progress, self.totals = progress, totals  # not the trainer, which holds this: they would keep each other

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.progress(state.global_step, state.max_steps, self.totals.step_loss)

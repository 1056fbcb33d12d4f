"""A `transformers.Trainer` that computes every shared token prefix once, gradients included.

The batch of an optimiser step becomes one token tree, or a few if memory requires it (`passes`). Head and loss are
computed at answer positions only (`losses`). Gradients are those of the padded batch, whatever the cut. Optimiser,
schedule, checkpoints, loggers and LoRA are the Trainer's. One process trains on one device, alone or together with
others (`together`). Dropout is off, and the receipt says so: a shared prefix would be drawn once for all samples.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, fields
from itertools import chain, cycle, islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import AutoConfig, Trainer, TrainerCallback, TrainingArguments, set_seed
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME
from transformers.trainer_callback import ExportableState, PrinterCallback

from ..engine.hf import device, load_model
from ..engine.memory import out_of_memory
from ..engine.shared import LEAST_TOKENS
from ..engine.suitable import PROBE_TOKENS, why_plain
from ..experiment.axes import AllWeights, DistanceToBase, Lora, SoftPrompt
from ..experiment.recipe import Recipe
from ..text.samples import Sample
from ..text.steps import Steps
from .axes import let_move
from .base import ask_base
from .checkpoints import make_room, newest_whole, seal
from .evaluation import Evaluation
from .losses import Anchor, Function, Looked, Objective
from .passes import Pass, idle, passes_of
from .record import Totals, Trained
from .soft_prompt import WHY_PLAIN, behind, soft_prompt
from .together import ALONE, Together, part

PACK_TOKENS = 2048  # of a pass; half as many where a device is full
Stepped = Callable[[int, int, float], None]
"""(step, steps, loss of the step)"""


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
        self.pack_tokens, self.objective, self.together = pack_tokens, objective, objective.together
        # The Trainer's word for a model that needs no wrapper, because its weights and gradients are in good hands.
        self.is_distributed_loading_by_transformers = self.together.several
        penalty = objective.recipe.penalty
        self.anchor = Anchor(self.model, penalty) if isinstance(penalty, DistanceToBase) else None
        self.totals = Totals()

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """A checkpoint does not store a head that is the embeddings, so nothing lacks where that is missing."""
        weights, missing = self.model.state_dict(), set(load_result.missing_keys)
        loaded = {weight.data_ptr() for name, weight in weights.items() if name not in missing}
        if load_result.unexpected_keys or any(weights[name].data_ptr() not in loaded for name in missing):
            super()._issue_warnings_after_load(load_result)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """All steps, in every process: each takes its share of a step, not every second step."""
        return DataLoader(self.train_dataset, batch_size=1, collate_fn=self.data_collator)

    def _prepare_for_training(self, max_steps: int, train_dataloader: Any, resume_from_checkpoint: Any) -> Any:
        self.together.prepare(self.model)  # with the weights of the checkpoint, if there is one
        return super()._prepare_for_training(max_steps, train_dataloader, resume_from_checkpoint)

    def _sync_replicated_trainable_parameters(self, model: Any) -> None:
        """Nothing: `together` does it."""

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """Forward and backward over the samples of a step; returns its loss."""
        model.train()
        while True:
            try:
                return self._step(model, inputs["samples"])
            except RuntimeError as error:
                smaller = (self.pack_tokens or 0) // 2
                if not out_of_memory(error) or smaller < LEAST_TOKENS or self.together.several:
                    raise  # several processes must agree: they are started again with smaller passes
            # A backward that died half-way has left parts of its gradients behind: start the step again.
            model.zero_grad()
            self.pack_tokens = smaller

    def _step(self, model: Any, samples: list[Sample]) -> Tensor:
        together, objective, device = self.together, self.objective, self.args.device
        passes = passes_of(together.share(samples, self.pack_tokens is not None), self.pack_tokens)
        waits = self._idle(samples, len(passes))
        total, penalty = torch.zeros((), device=device), 0.0
        looked, forward = self._look(model, passes, samples)
        if looked is not None and not looked.has_loss:  # no gradients: the optimiser leaves every weight where it is
            self.totals.step_loss = 0.0
            self.totals.steps_without_loss += 1
            return total
        for one in passes:
            with self.compute_loss_context_manager():
                logits = one.logits(model, device)
                looked = looked or objective.look(passes, [one.nll(logits.detach())])
                loss, added = objective.loss(one, logits, looked)
            self.accelerator.backward(loss * together.scale)
            total += loss.detach()
            penalty += added
        for one in waits:
            with self.compute_loss_context_manager():
                loss = one.logits(model, device).sum() * 0.0
            self.accelerator.backward(loss)
        if not together.cuts:
            together.sum_gradients(model.parameters())
        computed = sum(len(one) for one in passes)
        loss_of_all, penalty, tokens, without = together.sums(total.item(), penalty, computed, forward)
        if together.several:
            total.fill_(loss_of_all)
        if self.anchor:
            pulled = self.anchor.pull(model, together)
            total, penalty = total + pulled, penalty + pulled
        self.totals.tokens += int(tokens)
        self.totals.samples += len(samples)
        self.totals.tokens_plain += sum(len(sample.ids) - 1 for sample in samples)
        self.totals.tokens_forward += int(without)
        self.totals.step(total.item(), penalty)
        return total

    def _look(self, model: Any, passes: Sequence[Pass], step: Sequence[Sample]) -> tuple[Looked | None, int]:
        """What the objective must know of a step, and the tokens passed for it; None if its one pass will tell."""
        rows = [one for one in passes if not one.is_apart]
        if not self.objective.looks_first or all(sample.apart for sample in step):
            return self.objective.look(passes), 0
        if len(rows) == 1 and not self.together.several:
            return None, 0
        waits = self._idle(step, len(rows))
        with torch.no_grad(), self.compute_loss_context_manager():
            nll = [one.nll(one.logits(model, self.args.device)) for one in rows]
            for one in waits:
                one.logits(model, self.args.device)
        return self.objective.look(passes, nll), sum(map(len, rows))

    def _idle(self, step: Sequence[Sample], made: int) -> list[Pass]:
        """Passes of which nothing counts, for a process that makes so many others: all make equally many."""
        return idle(step, self.together.most(made) - made, self.pack_tokens)

    # --- checkpoints: the first process writes whole tensors, so that they fit any number of processes --------

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        if not self.together.several:
            super().save_model(output_dir, _internal_call)
        elif state := self.together.whole(self.model, moving=hasattr(self.model, "peft_config")):
            self._save(output_dir, state_dict=state)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not self.together.cuts:
            super()._save_optimizer_and_scheduler(output_dir)
        elif state := self.together.whole_state(self.optimizer.state_dict()):
            torch.save(state, Path(output_dir) / OPTIMIZER_NAME)
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER_NAME)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        for weight, state in self.optimizer.state.items() if self.together.cuts else ():
            for name, kept in state.items():
                if kept.shape == weight.shape:
                    state[name] = part(kept, weight)

    def _save_rng_state(self, output_dir: str) -> None:
        if self.together.is_first:
            super()._save_rng_state(output_dir)


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
    pack_tokens: int = PACK_TOKENS,
    gradient_checkpointing: bool = False,
    report_to: Sequence[str] = (),
    checkpoint_every_s: float = 600.0,
    progress: Stepped | None = None,
    trust: bool = False,
    function: Function | None = None,
    together: Together = ALONE,
) -> Trained:
    """Fine-tune the model in `model_folder` and save it, or its adapter, in `out`.

    Goes on from the last whole checkpoint in `out/checkpoints`, if there is one. Weights are float32; `precision`
    "bfloat16" runs the passes under autocast. Without `share`, and for models that cannot share a prefix, each
    sample is a pass of its own. Every process of a training `together` calls this with the same arguments; the first
    of them writes.
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
            asked = {"rows": recipe.asks_rows, "texts": recipe.asks_texts}
            base = ask_base(model, steps, pack, recipe.asks_distributions, together, **asked)
    spent = time.monotonic() - began
    objective = Objective(recipe, base, function, together)
    without = objective.without_loss()
    model = let_move(model, recipe.weights)
    if gradient_checkpointing and not isinstance(recipe.weights, AllWeights):
        model.enable_input_require_grads()
    checkpoints = out / "checkpoints"
    arguments = _arguments(checkpoints, recipe, len(steps), precision, gradient_checkpointing, report_to)
    trainer = PrefixTrainer(model=model, args=arguments, steps=steps, pack_tokens=pack, objective=objective)
    totals = trainer.totals
    trainer.add_callback(_Checkpoints(checkpoint_every_s, totals, steps.order.an_epoch, together))
    if progress and together.is_first:
        trainer.add_callback(_Report(progress, totals))
    evaluation = None
    if steps.watched:
        log = weakref.proxy(trainer).log
        evaluation = Evaluation(steps.watched, recipe, pack, checkpoints, lambda found: log(found), together)
        trainer.add_callback(evaluation)
    trainer.remove_callback(PrinterCallback)
    resumed, broken = together.first(lambda: newest_whole(checkpoints))
    with ExitStack() as stack:
        if isinstance(recipe.first, SoftPrompt):
            prompt = soft_prompt(model, recipe.first, steps, recipe.seed, checkpoints, together)
            dropped = stack.enter_context(behind(model, prompt))
            if evaluation:
                evaluation.as_used = dropped
        trainer.train(resume_from_checkpoint=None if resumed is None else str(resumed))
    made = trainer.accelerator.unwrap_model(trainer.model)
    best = evaluation.restore(made) if evaluation else None
    for name, value in as_given.items():  # what was set for training, by the Trainer too, is no part of the checkpoint
        setattr(model.config, name, value)
    if not together.several:
        made.save_pretrained(out)
    elif state := together.whole(made, moving=isinstance(recipe.weights, Lora)):
        made.save_pretrained(out, state_dict=state)
    asked_tokens, kept_bytes = together.sums(*((base.tokens, base.bytes) if base else (0, 0)))
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
        tokens_forward=totals.tokens_forward + int(asked_tokens),
        kept_bytes=int(kept_bytes),
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
        processes=together.processes,
        parallel=together.parallel if together.several else None,
        backend=together.backend,
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

    def __init__(self, every_s: float, totals: Totals, an_epoch: int, together: Together) -> None:
        self.every_s, self.totals, self.an_epoch, self.together = every_s, totals, an_epoch, together
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
        if state.global_step < state.max_steps and self.together.first(lambda: now - self.saved >= self.every_s):
            if self.together.is_first:
                make_room(Path(args.output_dir))
            control.should_save = True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.together.is_first:
            seal(Path(args.output_dir) / f"checkpoint-{state.global_step}")
        self.saved = time.monotonic()


class _Report(TrainerCallback):
    def __init__(self, progress: Stepped, totals: Totals) -> None:
        self.progress, self.totals = progress, totals  # not the trainer, which holds this: they would keep each other

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.progress(state.global_step, state.max_steps, self.totals.step_loss)

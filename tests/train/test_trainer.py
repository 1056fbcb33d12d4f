"""The prefix trainer held against the plain way: a padded batch, a label mask, the Trainer as it comes."""

from __future__ import annotations

import copy
import gc
import json
import weakref
from contextlib import suppress
from dataclasses import make_dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tinymodels
import torch
from safetensors.torch import load_file
from torch import Tensor
from trainings import apart, gradients, in_steps, make_samples, padded, plain_loss, summed_loss
from transformers import Trainer, TrainerCallback, TrainingArguments

from spillover.engine import attention, ops, suitable
from spillover.engine.hf import load_model
from spillover.errors import ModelError
from spillover.experiment.axes import AllWeights, Lora
from spillover.experiment.recipe import Recipe
from spillover.experiment.schema import parse_experiment
from spillover.text.samples import Sample, Samples
from spillover.train.axes import let_move
from spillover.train.losses import Objective
from spillover.train.passes import Pass, passes_of
from spillover.train.trainer import (
    PrefixTrainer,
    Trained,
    _arguments,
    _checkpointing,
    train,
)
from spillover.work.backend import Torch

kernels: Any = ops.kernels  # optional: tests that need them use the fixture `onednn`

CPU = torch.device("cpu")
RECIPE = Recipe(learning_rate=1e-3, num_train_epochs=2, batch_size=4, seed=3, warmup_steps=2)
STEPS = 10  # of 20 samples in batches of 4, twice
GAIN = 4.0  # gradients stay moderate


FT, FTICL = make_samples(9, 0), make_samples(9, 2)
MIXED = [*make_samples(4, 2), FTICL[0], FTICL[0], Sample.of((7, 8, 9, 3), 0), Sample.of((7, 8, 9, 11, 3), 1)]
"""Also the same sample twice, loss on a whole sample, and a sample that begins like another."""


def pair(**changes: Any) -> tuple[Any, Any]:
    return tinymodels.pair(gain=GAIN, **changes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    attention.register()
    return tinymodels.save(tinymodels.build(gain=GAIN), tmp_path_factory.mktemp("tiny"))


# --- One step -------------------------------------------------------------------------------------


@pytest.mark.parametrize("pack_tokens", [4096, 60, 1], ids=["one tree", "some trees", "each alone"])
@pytest.mark.parametrize("samples", [FT, FTICL, MIXED], ids=["ft", "fticl", "mixed"])
def test_gradients_are_those_of_the_padded_batch(samples: list[Sample], pack_tokens: int) -> None:
    plain, model = pair()
    reference = plain_loss(plain, samples)
    reference.backward()
    total = 0.0
    for pack in passes_of(samples, pack_tokens):
        loss = summed_loss(model, pack)
        loss.backward()
        total += loss.item()
    assert total == pytest.approx(reference.item(), rel=1e-6)
    assert apart(gradients(model), gradients(plain)) < 1e-5


@pytest.mark.usefixtures("onednn")
@pytest.mark.parametrize("adapted", [None, "all-linear", ("v_proj",)], ids=str)
def test_gradients_by_onednn(adapted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With adapters on the values alone, neither queries nor keys of the first layer have a gradient."""
    plain, model = pair()
    assert type(plain.lm_head) is torch.nn.Linear
    assert type(model.lm_head) is kernels.Linear
    rectangles: list[int] = []
    attend = kernels.attend
    monkeypatch.setattr(kernels, "attend", lambda *args: rectangles.append(1) or attend(*args))
    if adapted:
        plain, model = (with_random_adapter(one, Lora(lora_r=4, lora_target_modules=adapted)) for one in (plain, model))
    plain_loss(plain, FTICL).backward()
    summed_loss(model, Pass.shared(FTICL)).backward()
    assert rectangles
    assert apart(gradients(model), gradients(plain)) < 1e-5


@pytest.mark.parametrize("kind", ["GPTNeoX", "Qwen3"])
def test_gradients_of_other_architectures(kind: str) -> None:
    plain, model = pair(kind=kind)
    plain_loss(plain, FTICL).backward()
    summed_loss(model, Pass.shared(FTICL)).backward()
    assert apart(gradients(model), gradients(plain)) < 1e-5


def test_activation_checkpointing_gives_the_same_gradients() -> None:
    _, model = pair()
    other = copy.deepcopy(model).train()
    other.activation_checkpointing_enable()
    passes = 0

    def count(*_: Any) -> None:
        nonlocal passes
        passes += 1

    other.model.layers[0].mlp.register_forward_pre_hook(count)
    summed_loss(model, Pass.shared(FTICL)).backward()
    summed_loss(other, Pass.shared(FTICL)).backward()
    assert passes == 2, "forward once, and once more on the way back"
    assert apart(gradients(other), gradients(model)) < 1e-6


def test_demonstrations_are_computed_once() -> None:
    batch = Pass.shared(FTICL)
    shared = 2 + 2 * 20
    own = sum(len(sample.ids) - 1 - shared for sample in FTICL)
    assert shared + own * 0.9 < len(batch) <= shared + own
    assert len(batch.targets_T) == sum(len(sample.ids) - sample.start for sample in FTICL)


def test_trees_hold_every_sample_once_within_their_budget() -> None:
    packs = passes_of(FTICL, 80)
    assert len(packs) > 1
    assert all(len(pack) <= 80 for pack in packs)
    targets = sorted(token for pack in packs for token in pack.targets_T.tolist())
    assert targets == sorted(token for sample in FTICL for token in sample.ids[sample.start :])


def test_out_of_memory_starts_the_step_again_with_smaller_trees(folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """What a backward pass had added before the memory ran out is not added twice."""
    refused = 0

    logits = Pass.logits

    def on_a_small_device(one: Pass, *others: Any) -> Tensor:
        nonlocal refused
        if len(one) > 120:
            refused += 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate more than there is")
        return logits(one, *others)

    samples = [*FT, *FTICL]
    assert [len(one) <= 120 for one in passes_of(samples, 160)] == [True, True, False]
    recipe = RECIPE.model_copy(update={"batch_size": len(samples), "num_train_epochs": 1})
    train(folder, in_steps(samples, recipe), recipe, tmp_path / "roomy", precision="float32", pack_tokens=80)
    monkeypatch.setattr(Pass, "logits", on_a_small_device)
    train(folder, in_steps(samples, recipe), recipe, tmp_path / "small", precision="float32", pack_tokens=160)
    assert refused == 1
    roomy, small = (load_file(tmp_path / name / "model.safetensors") for name in ("roomy", "small"))
    assert all(torch.equal(roomy[name], small[name]) for name in roomy)


# --- Many steps -----------------------------------------------------------------------------------


class Losses(TrainerCallback):
    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:
        if "loss" in logs:
            self.seen.append(logs["loss"])


def arguments(out: Path, steps: int, recipe: Recipe = RECIPE, **changes: Any) -> TrainingArguments:
    made = _arguments(out, recipe, steps, "float32", False, ())
    for name, value in {"logging_strategy": "steps", "logging_steps": 1, "use_cpu": True, **changes}.items():
        setattr(made, name, value)
    return made


def ours(out: Path, model: Any, samples: list[Sample], pack_tokens: int = 4096, recipe: Recipe = RECIPE) -> list[float]:
    losses, steps = Losses(), in_steps(samples, recipe)
    made = arguments(out, len(steps), recipe)
    options: dict[str, Any] = {"steps": steps, "pack_tokens": pack_tokens, "objective": Objective(recipe)}
    PrefixTrainer(model=model, args=made, callbacks=[losses], **options).train()
    return losses.seen


@pytest.mark.parametrize("demonstrations", [0, 2], ids=["ft", "fticl"])
def test_losses_and_weights_are_those_of_the_trainer_as_it_comes(tmp_path: Path, demonstrations: int) -> None:
    """The same order through transformers' own loss on padded batches, schedule and clipping included."""
    plain, model = pair()
    samples = make_samples(40, demonstrations)
    losses = Losses()
    before = parameters(model)
    as_it_comes = {"max_steps": -1, "train_sampling_strategy": "random", "num_train_epochs": RECIPE.num_train_epochs}
    made = arguments(tmp_path, 0, per_device_train_batch_size=RECIPE.batch_size, **as_it_comes)
    Trainer(model=plain, args=made, train_dataset=samples, data_collator=padded, callbacks=[losses]).train()
    seen = ours(tmp_path, model, samples, pack_tokens=100)
    assert len(seen) == 20
    assert seen == pytest.approx(losses.seen, rel=1e-3)
    assert apart(parameters(model) - before, parameters(plain) - before) < 1e-3
    assert seen[-1] < seen[0], "it learns"


def parameters(model: Any) -> Tensor:
    return torch.cat([weight.detach().flatten().clone() for weight in model.parameters()])


def test_the_loss_is_the_mean_over_answer_tokens(tmp_path: Path) -> None:
    plain, model = pair()
    count = sum(len(sample.ids) - sample.start for sample in FTICL)
    recipe = Recipe(learning_rate=1e-9, num_train_epochs=1, batch_size=len(FTICL), seed=0)
    assert ours(tmp_path, model, FTICL, recipe=recipe) == pytest.approx(
        [plain_loss(plain, FTICL).item() / count], rel=1e-3
    )


# --- From folder to folder ------------------------------------------------------------------------


def run(folder: Path, out: Path, recipe: Recipe = RECIPE, **options: Any) -> Trained:
    return train(folder, in_steps(make_samples(20, 1), recipe), recipe, out, precision="float32", **options)


def weights(folder: Path) -> dict[str, Tensor]:
    (path,) = folder.glob("*.safetensors")
    return load_file(path)


def same(one: Path, other: Path) -> bool:
    a, b = weights(one), weights(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_training_writes_an_ordinary_checkpoint_and_says_what_it_did(folder: Path, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    trained = run(folder, tmp_path, progress=lambda step, of, _: steps.append((step, of)))
    assert steps == [(step, STEPS) for step in range(1, STEPS + 1)]
    assert trained.steps == STEPS
    assert trained.tokens_plain == 2 * sum(len(sample.ids) - 1 for sample in make_samples(20, 1))
    assert trained.tokens < trained.tokens_plain * 0.7, "demonstrations once a batch"
    model = load_model(tmp_path, "float32")
    assert apart(parameters(model), parameters(load_model(folder, "float32"))) > 1e-3
    assert all(weight.dtype == torch.float32 for weight in weights(tmp_path).values())
    assert model.config._attn_implementation == "sdpa", "the checkpoint does not ask for our attention"


def test_a_checkpoint_is_configured_as_its_base_was(folder: Path, tmp_path: Path) -> None:
    """No cache and no dropout are for the training alone."""
    base = tinymodels.save(tinymodels.build(attention_dropout=0.25), tmp_path / "base")
    trained = run(base, tmp_path / "out")
    assert trained.dropout_off == ("attention_dropout",)
    before, after = (json.loads((place / "config.json").read_text()) for place in (base, tmp_path / "out"))
    assert after == before
    assert after["attention_dropout"] == 0.25 and after["use_cache"]


def test_every_step_reports_its_loss(folder: Path, tmp_path: Path) -> None:
    losses: list[float] = []
    trained = run(folder, tmp_path, progress=lambda step, of, loss: losses.append(loss))
    assert sum(losses) / STEPS == pytest.approx(trained.loss, rel=1e-6)


def test_where_the_probe_fails_nothing_is_shared_and_the_reason_is_kept(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = run(folder, tmp_path / "shared")
    monkeypatch.setitem(suitable.PROBE_TOLERANCE, "float32", -1.0)
    plain = run(folder, tmp_path / "plain")
    asked = run(folder, tmp_path / "asked", share=False)
    assert (shared.why_plain, asked.why_plain) == (None, None)
    assert plain.why_plain is not None and "nats on a probe" in plain.why_plain
    assert plain.tokens == asked.tokens == shared.tokens_plain > shared.tokens
    assert same(tmp_path / "plain", tmp_path / "asked")


@pytest.mark.parametrize("kind", ["LongRoPE", "dynamic NTK"])
def test_samples_are_shared_only_up_to_where_rotary_frequencies_change(tmp_path: Path, kind: str) -> None:
    """Beyond it every sample is computed with the frequencies of its own length, not of the longest in the pack."""
    longest = max(len(sample.ids) for sample in make_samples(20, 1))
    made = {}
    for turn in (longest, longest - 4):
        settings: dict[str, Any] = {"rope_theta": 10_000.0, "factor": 4.0}
        if kind == "LongRoPE":
            settings |= {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [1.0, 2.0, 4.0, 8.0]}
            changes = {"original_max_position_embeddings": turn}
        else:
            settings |= {"rope_type": "dynamic"}
            changes = {"max_position_embeddings": turn}
        name = "Phi3" if kind == "LongRoPE" else "Llama"
        model = tinymodels.build(name, gain=GAIN, rope_parameters=settings | changes, **changes)
        folder = tinymodels.save(model, tmp_path / str(turn))
        made[turn] = run(folder, tmp_path / f"{turn}-out")
        alone = run(folder, tmp_path / f"{turn}-alone", share=False)
        assert made[turn].loss == pytest.approx(alone.loss, rel=1e-4)
    beyond = longest - 4
    assert made[longest].why_plain is None and made[longest].tokens < made[longest].tokens_plain
    why = f"rotary frequencies that change beyond {beyond} tokens, texts of up to {longest}"
    assert made[beyond].why_plain == why


def test_samples_that_fit_into_a_sliding_window_are_shared(tmp_path: Path) -> None:
    longest = max(len(sample.ids) for sample in make_samples(20, 1))
    made = {}
    for width in (longest, longest - 1):
        folder = tinymodels.save(tinymodels.build("Mistral", gain=GAIN, sliding_window=width), tmp_path / str(width))
        made[width] = run(folder, tmp_path / f"{width}-out")
        alone = run(folder, tmp_path / f"{width}-alone", share=False)
        assert made[width].loss == pytest.approx(alone.loss, rel=1e-4)
    assert made[longest].why_plain is None and made[longest].tokens < made[longest].tokens_plain
    assert made[longest - 1].why_plain == f"a sliding window of {longest - 1} tokens, texts of up to {longest}"


def test_one_process_on_one_device(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With two GPUs and without a launcher, the Trainer would wrap the model and double the batch."""
    made = arguments(tmp_path, 1)
    assert (made.n_gpu, made.train_batch_size) == (1, 1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ModelError, match=r"several processes.*train: \{processes: N\}"):
        run(folder, tmp_path)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_order(folder: Path, tmp_path: Path) -> None:
    other = RECIPE.model_copy(update={"seed": 4})
    for name, recipe in (("one", RECIPE), ("again", RECIPE), ("other", other)):
        run(folder, tmp_path / name, recipe)
    assert (tmp_path / "one/model.safetensors").read_bytes() == (tmp_path / "again/model.safetensors").read_bytes()
    assert not same(tmp_path / "one", tmp_path / "other")


def test_activation_checkpointing_has_the_name_of_this_version_of_transformers() -> None:
    """It was called gradient_checkpointing, which later versions take with a warning."""
    old = make_dataclass("Old", [("gradient_checkpointing", bool)])
    new = make_dataclass("New", [("gradient_checkpointing", bool), ("activation_checkpointing", bool)])
    assert _checkpointing(old) == "gradient_checkpointing"
    assert _checkpointing(new) == "activation_checkpointing"


def test_activation_checkpointing_trains_the_same_weights(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "without")
    run(folder, tmp_path / "with", gradient_checkpointing=True)
    a, b = (load_model(tmp_path / name, "float32") for name in ("without", "with"))
    assert apart(parameters(a), parameters(b)) < 1e-6


class Killed(Exception):
    pass


def kill_after(step: int, done: list[int]) -> Any:
    """A progress function that counts the steps and ends the process, so to speak, once `step` is done."""

    def progress(at: int, _: int, __: float) -> None:
        if at > step:
            raise Killed
        done.append(at)

    return progress


@pytest.mark.parametrize("lora", [None, Lora(lora_r=4)], ids=["weights", "adapter"])
@pytest.mark.parametrize("step", [1, 4, 7])  # in the first epoch, and at and after its end
def test_killed_and_started_again_it_goes_on_to_the_same_bytes(
    folder: Path, tmp_path: Path, step: int, lora: Lora | None
) -> None:
    recipe = RECIPE.model_copy(update={"weights": lora or AllWeights()})
    whole = run(folder, tmp_path / "whole", recipe)
    done: list[int] = []
    with pytest.raises(Killed):
        run(folder, tmp_path / "cut", recipe, checkpoint_every_s=0.0, progress=kill_after(step, done))
    again: list[int] = []
    rest = run(folder, tmp_path / "cut", recipe, progress=kill_after(STEPS, again))
    assert done == list(range(1, step + 1))
    assert again == list(range(step + 1, STEPS + 1)), "no step twice, none left out"
    assert replace(rest, seconds=0) == replace(whole, seconds=0), "loss and tokens are those of all steps"
    assert same(tmp_path / "cut", tmp_path / "whole")


def test_a_training_that_goes_on_has_taken_the_seconds_of_both(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]  # a second a step, and an hour until somebody starts it again
    monkeypatch.setattr("spillover.train.trainer.time", SimpleNamespace(monotonic=lambda: clock[0]))

    logits = Pass.logits

    def a_second(*arguments: Any) -> Tensor:
        clock[0] += 1
        return logits(*arguments)

    monkeypatch.setattr(Pass, "logits", a_second)
    whole = run(folder, tmp_path / "whole")
    with pytest.raises(Killed):
        run(folder, tmp_path / "cut", checkpoint_every_s=0.0, progress=kill_after(4, []))
    clock[0] += 3600
    assert run(folder, tmp_path / "cut").seconds == whole.seconds == STEPS


def test_killed_while_it_writes_a_checkpoint_it_goes_on_from_the_one_before(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "whole")
    with pytest.raises(Killed):
        run(folder, tmp_path / "cut", checkpoint_every_s=0.0, progress=kill_after(4, []))
    half = tmp_path / "cut/checkpoints/checkpoint-5"
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"\x00" * 100)
    again: list[int] = []
    run(folder, tmp_path / "cut", progress=kill_after(STEPS, again))
    assert again[0] == 5
    assert same(tmp_path / "cut", tmp_path / "whole")


def test_without_a_checkpoint_it_begins_anew(folder: Path, tmp_path: Path) -> None:
    """Checkpoints go by the clock: ten minutes have not passed."""
    with pytest.raises(Killed):
        run(folder, tmp_path, progress=kill_after(4, []))
    again: list[int] = []
    run(folder, tmp_path, progress=kill_after(STEPS, again))
    assert again[0] == 1


@pytest.mark.parametrize("progress", [None, kill_after(1, [])], ids=["ended", "failed"])
def test_no_model_is_left_when_the_next_is_loaded(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, progress: Any
) -> None:
    """Nor does it wait for Python to look for circles of references."""
    models: list[weakref.ref[Any]] = []

    def load_one(*arguments: Any, **options: Any) -> Any:
        model = load_model(*arguments, **options)
        models.append(weakref.ref(model))
        return model

    left: list[Any] = []
    monkeypatch.setattr("spillover.train.trainer.load_model", load_one)
    monkeypatch.setattr("spillover.engine.hf.load_engine", lambda *_, **__: left.extend(model() for model in models))
    spec = {"num_train_epochs": 1, "batch_size": 4}
    experiment = parse_experiment({"model": "x", "suite": "builtin", "train": spec})
    recipe = Recipe(learning_rate=1e-3, num_train_epochs=1, batch_size=4, seed=0)
    job = SimpleNamespace(recipe=recipe, function=None)
    built = Samples(tuple(make_samples(20, 1)), 0, 0)
    backend = Torch()
    gc.disable()
    try:
        with suppress(Killed):
            backend.train(folder, built, job, experiment, tmp_path, "bfloat16", progress)
        backend.load(folder, None, "bfloat16", experiment, adapter=None, longest=1)  # type: ignore[arg-type]
    finally:
        gc.enable()
    assert left == [None]


# --- Adapters -------------------------------------------------------------------------------------

ADAPTER = Recipe(learning_rate=1e-2, num_train_epochs=1, batch_size=4, seed=3, weights=Lora(lora_r=4))


def test_lora_moves_the_adapter_alone(tmp_path: Path) -> None:
    _, model = pair()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    model = let_move(model, Lora(lora_r=4))
    moved = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert moved
    assert all("lora_" in name for name in moved)
    ours(tmp_path, model, FTICL, recipe=ADAPTER)
    base = {name.replace(".base_layer", ""): weight for name, weight in model.get_base_model().state_dict().items()}
    assert all(torch.equal(base[name], weight) for name, weight in before.items())
    assert all(weight.abs().sum() > 0 for name, weight in model.named_parameters() if "lora_B" in name), (
        "all have moved"
    )


def with_random_adapter(model: Any, lora: Lora) -> Any:
    """As initialised an adapter does nothing, and half of it has no gradient."""
    adapted = let_move(model, lora)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_" in name:
                weight.normal_(std=0.1)
    return adapted


@pytest.mark.parametrize("targets", ["all-linear", ("lm_head", "q_proj")], ids=str)
def test_lora_gradients_are_those_of_the_padded_batch(targets: Any) -> None:
    """With an adapter on the output layer too, of which only the answers' positions are computed."""
    plain, model = (with_random_adapter(one, Lora(lora_r=4, lora_target_modules=targets)) for one in pair())
    plain_loss(plain, FTICL).backward()
    summed_loss(model, Pass.shared(FTICL)).backward()
    assert gradients(plain).norm() > 0
    assert apart(gradients(model), gradients(plain)) < 1e-5


@pytest.mark.parametrize("gradient_checkpointing", [False, True])
def test_an_adapter_is_saved_as_peft_does_and_loads(folder: Path, tmp_path: Path, gradient_checkpointing: bool) -> None:
    run(folder, tmp_path, ADAPTER, gradient_checkpointing=gradient_checkpointing)
    assert (tmp_path / "adapter_config.json").is_file()
    assert not (tmp_path / "model.safetensors").exists()
    assert all("lora_" in name for name in weights(tmp_path))
    base, adapted = load_model(folder, "float32"), load_model(folder, "float32", adapter=tmp_path)
    with torch.inference_mode():
        before, after = (plain_loss(model, make_samples(20, 1)) for model in (base, adapted))
    assert after < before * 0.95, "it has learnt its training samples"


def test_adapters_begin_from_their_seed(folder: Path, tmp_path: Path) -> None:
    def begun(name: str, seed: int) -> Path:
        """An adapter that a single tiny step has hardly moved: as it was initialised."""
        recipe = Recipe(learning_rate=1e-12, num_train_epochs=1, batch_size=20, seed=seed, weights=Lora(lora_r=4))
        torch.manual_seed(sum(map(ord, name)))  # whatever has been random before
        run(folder, tmp_path / name, recipe)
        return tmp_path / name

    one, again, other = begun("one", 1), begun("again", 1), begun("other", 2)
    assert (one / "adapter_model.safetensors").read_bytes() == (again / "adapter_model.safetensors").read_bytes()
    drawn = [name for name in weights(one) if "lora_A" in name]
    assert drawn
    assert all(apart(weights(other)[name], weights(one)[name]) > 0.1 for name in drawn)

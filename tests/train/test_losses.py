"""What a token counts, and what a penalty adds: gradients held against finite differences, for every value."""

from __future__ import annotations

import copy
import math
from functools import cache
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import tinymodels
import torch
from torch import Tensor
from trainings import CPU, apart, gradients, in_steps, make_samples, padded
from transformers import TrainerCallback

from spillover.engine import attention
from spillover.errors import ExperimentError, ModelError
from spillover.experiment.axes import (
    DistanceToBase,
    EasyRows,
    EasyTokens,
    Entropy,
    KlOnTexts,
    KlToBase,
    Likelihood,
    Lora,
    OwnText,
    PythonLoss,
    SelectedTokens,
)
from spillover.experiment.recipe import Recipe
from spillover.text.samples import Sample
from spillover.train import losses
from spillover.train.base import ask_base
from spillover.train.losses import Objective, Tokens
from spillover.train.passes import passes_of
from spillover.train.together import Together
from spillover.train.trainer import PrefixTrainer, Trained, _arguments, train

SAMPLES = [*make_samples(5, 1), *make_samples(4, 0, seed=1)]
STEP = 3e-4  # of finite differences: normalisation layers compute in float32
LIMIT = 60.0  # perplexity under the random base, whose median is about 50


def focal(tokens: Tokens) -> Tensor:
    """A loss whose factor has a gradient too."""
    return (1 - (-tokens.nll_T).exp()) ** 2 * tokens.nll_T


def recipe(**changes: Any) -> Recipe:
    given: dict[str, Any] = {"learning_rate": 1e-2, "num_train_epochs": 1, "batch_size": len(SAMPLES), "seed": 3}
    return Recipe(**given | changes)


RECIPES = {
    "ft": recipe(),
    "likelihood": recipe(loss=Likelihood()),
    "stm": recipe(loss=SelectedTokens(most_perplexity=LIMIT)),
    "talr": recipe(loss=EasyTokens()),
    "flow": recipe(loss=EasyRows()),
    "eaft": recipe(loss=Entropy()),
    "python": recipe(loss=PythonLoss(function="focal")),
    "kl": recipe(penalty=KlToBase(beta=(0.7,))),
    "asft": recipe(loss=Likelihood(), penalty=KlToBase(beta=(0.7,))),
}


@cache
def models() -> tuple[Any, Any]:
    """A base, and a model that has moved away from it."""
    _, base = tinymodels.pair(gain=4.0)
    moved = copy.deepcopy(base)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in moved.parameters():
            weight.add_(0.1 * weight.std() * torch.randn_like(weight))
    return base, moved


def stepped(made: Recipe, pack_tokens: int | None, out: Path, samples: list[Sample] = SAMPLES) -> tuple[float, Any]:
    """The loss of one step of a model that has moved, and the trainer, with its gradients."""
    base, model = (copy.deepcopy(one) for one in models())
    for one in (base, model) if pack_tokens is None else ():
        one.set_attn_implementation("sdpa")
    asked = {"rows": made.asks_rows, "texts": made.asks_texts}
    said = ask_base(base, [samples], pack_tokens, made.asks_distributions, **asked) if made.asks_base else None
    objective = Objective(made, said, focal if isinstance(made.loss, PythonLoss) else None)
    options: dict[str, Any] = {"steps": [samples], "pack_tokens": pack_tokens, "objective": objective}
    trainer = PrefixTrainer(model=model, args=_arguments(out, made, 1, "float32", False, ()), **options)
    loss = trainer.training_step(model, {"samples": samples})
    return float(loss), trainer


def answers(model: Any, samples: list[Sample] = SAMPLES) -> tuple[Tensor, Tensor]:
    """(negative log-likelihood, log-probabilities) of every answer token, sample by sample, on a padded batch."""
    batch = padded(samples)
    labels = batch.pop("labels")[:, 1:]
    logprobs = model(**batch, use_cache=False).logits[:, :-1].log_softmax(-1)[labels != -100]
    return -logprobs.gather(1, labels[labels != -100][:, None])[:, 0], logprobs


def plainly(model: Any) -> Any:
    """A copy in float64 with transformers' own attention."""
    plain = copy.deepcopy(model).double()
    plain.set_attn_implementation("sdpa")
    return plain


def reference(name: str) -> tuple[Any, Any]:
    """The loss of a step as a function of the weights, in float64: factors are constants. And the model."""
    base, model = (plainly(one) for one in models())
    with torch.no_grad():
        (base_nll, base_logprobs), (nll, logprobs) = answers(base), answers(model)
    counts = torch.tensor([len(sample.ids) - sample.start for sample in SAMPLES])
    row = torch.stack([part.mean() for part in base_nll.split(counts.tolist())])
    total = float(counts.sum())
    top = logprobs.exp().sort(-1, descending=True).values[:, :20]
    top = top / top.sum(-1, keepdim=True)
    factors = {
        "likelihood": ((-nll).exp(), total),
        "stm": ((base_nll <= math.log(LIMIT)).double(), None),
        "talr": ((-nll / nll.quantile(0.5)).exp(), None),
        "flow": ((-row / row.quantile(0.5)).exp().repeat_interleave(counts), None),
        "eaft": (-(top * top.log()).sum(-1) / math.log(20), total),
    }
    factor, divisor = factors.get("likelihood" if name == "asft" else name, (torch.ones_like(nll), total))
    divisor = divisor or float(factor.sum())

    def loss() -> Tensor:
        nll, logprobs = answers(model)
        if name == "python":
            return ((1 - (-nll).exp()) ** 2 * nll).sum() / total
        kl = (base_logprobs.exp() * (base_logprobs - logprobs)).sum()
        return (factor * nll).sum() / divisor + (0.7 * kl / total if name in ("kl", "asft") else 0.0)

    if name == "stm":
        assert 0 < factor.sum() < total, "some are left out, some are not"
    return loss, model


@cache
def slopes(name: str) -> tuple[float, Tensor, list[Tensor]]:
    """The loss, two directions, and the slopes of the loss along them by finite differences."""
    loss, model = reference(name)
    value = loss()
    value.backward()
    steep = gradients(model) / gradients(model).norm()
    other = torch.randn(len(steep), generator=torch.Generator().manual_seed(2)).double() * steep.abs().mean()
    weights = list(model.parameters())
    start = torch.nn.utils.parameters_to_vector(weights).detach()
    found = []
    with torch.no_grad():
        for direction in (steep, other / other.norm()):
            ends = []
            for step in (STEP, -STEP):
                torch.nn.utils.vector_to_parameters(start + step * direction, weights)
                ends.append(float(loss()))
            found.append((ends[0] - ends[1]) / (2 * STEP))
    return float(value.detach()), torch.tensor(found), [steep, other / other.norm()]


@pytest.mark.parametrize("pack_tokens", [4096, 60, None], ids=["one tree", "some trees", "plain"])
@pytest.mark.parametrize("name", RECIPES)
def test_gradients_are_the_finite_differences(name: str, pack_tokens: int | None, tmp_path: Path) -> None:
    """However the step is cut. Medians and sums are those of the whole step."""
    value, expected, directions = slopes(name)
    loss, trainer = stepped(RECIPES[name], pack_tokens, tmp_path)
    assert loss == pytest.approx(value, rel=1e-5)
    ours = gradients(trainer.model).double()
    assert float(ours @ directions[0]) == pytest.approx(float(expected[0]), rel=1e-4)
    assert float(ours.norm()) == pytest.approx(float(expected[0]), rel=1e-4), "no other direction is steeper"
    assert float(ours @ directions[1]) == pytest.approx(float(expected[1]), abs=1e-4 * float(expected[0]))
    several = pack_tokens != 4096
    forward = sum(len(one) for one in passes_of(SAMPLES, pack_tokens)) if name == "talr" and several else 0
    assert trainer.totals.tokens_forward == forward, "what is looked at first is counted"


def test_l2sp_pulls_the_moving_weights_back(tmp_path: Path) -> None:
    made = recipe(penalty=DistanceToBase(l2sp_weight=(0.3,)))
    _, plain = stepped(recipe(), 4096, tmp_path)
    base, model = (copy.deepcopy(one) for one in models())
    objective = Objective(made)
    options: dict[str, Any] = {"steps": [SAMPLES], "pack_tokens": 4096, "objective": objective}
    trainer = PrefixTrainer(model=base, args=_arguments(tmp_path, made, 1, "float32", False, ()), **options)
    before = torch.nn.utils.parameters_to_vector(base.parameters()).detach().clone()
    base.load_state_dict(model.state_dict())
    loss = trainer.training_step(base, {"samples": SAMPLES})
    distance = torch.nn.utils.parameters_to_vector(base.parameters()).detach() - before
    assert float(loss) - plain.totals.step_loss == pytest.approx(0.15 * float(distance.square().sum()), rel=1e-4)
    assert apart(gradients(base) - gradients(plain.model), 0.3 * distance) < 1e-4
    assert trainer.totals.penalty == pytest.approx(0.15 * float(distance.square().sum()), rel=1e-4)


# --- from folder to folder ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    attention.register()
    return tinymodels.save(tinymodels.build(gain=4.0), tmp_path_factory.mktemp("tiny"))


def run(folder: Path, out: Path, made: Recipe, samples: list[Sample] = SAMPLES, **options: Any) -> Trained:
    return train(folder, in_steps(samples, made), made, out, precision="float32", **options)


def stored(out: Path) -> bytes:
    (path,) = out.glob("*.safetensors")
    return path.read_bytes()


SEVERAL = {"batch_size": 3, "num_train_epochs": 2}
ZERO = {"kl": KlToBase(beta=(0.0,)), "l2sp": DistanceToBase(l2sp_weight=(0.0,))}


@pytest.fixture(scope="module")
def plain(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The weights of plain fine-tuning."""
    out = tmp_path_factory.mktemp("plain")
    run(folder, out, recipe(**SEVERAL))
    return stored(out)


@pytest.mark.parametrize("name", ZERO)
def test_a_penalty_of_weight_0_is_plain_fine_tuning_byte_for_byte(
    name: str, folder: Path, tmp_path: Path, plain: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is computed all the same."""
    seen: list[float] = []
    divergence, pull = losses.divergence, losses.Anchor.pull

    def diverged(*arguments: Any) -> Tensor:
        apart = divergence(*arguments)
        seen.append(float(apart.detach().sum()))
        return apart

    def pulled(anchor: losses.Anchor, model: Any, together: Together) -> float:
        weights = dict(model.named_parameters())
        seen.append(sum(float((weights[name].detach() - before).abs().sum()) for name, before in anchor.before.items()))
        return pull(anchor, model, together)

    monkeypatch.setattr(losses, "divergence", diverged)
    monkeypatch.setattr(losses.Anchor, "pull", pulled)
    trained = run(folder, tmp_path, recipe(**SEVERAL, penalty=ZERO[name]))
    assert len(seen) == trained.steps == 6 and seen[-1] > 0.01 and abs(seen[0]) < 1e-4
    assert trained.penalty == 0
    assert stored(tmp_path) == plain


def test_samples_apart_have_a_mean_of_their_own(folder: Path, tmp_path: Path, plain: bytes) -> None:
    beside = [Sample(sample.ids, sample.spans, 0.0, apart=True) for sample in make_samples(2, 1, seed=7)]
    losses = {}
    for weight in (0.0, 2.0):
        added = [Sample(one.ids, one.spans, weight, apart=True) for one in beside]
        losses[weight], trainer = stepped(recipe(), 4096, tmp_path, [*SAMPLES, *added])
        if weight:
            moved = gradients(trainer.model)
        else:
            none = gradients(trainer.model)
    alone, trainer = stepped(recipe(), 4096, tmp_path)
    assert losses[0.0] == alone and torch.equal(none, gradients(trainer.model)), "weight 0 leaves the rows' as they are"
    theirs, trainer = stepped(recipe(), 4096, tmp_path, [Sample(one.ids, one.spans) for one in beside])
    assert losses[2.0] == pytest.approx(alone + 2 * theirs, rel=1e-5)
    assert apart(moved, none + 2 * gradients(trainer.model)) < 1e-5


def test_a_samples_weight_is_what_its_tokens_count(tmp_path: Path) -> None:
    """In the sum and in what it is divided by: a weight of 3 is the row three times."""
    heavy = [Sample(SAMPLES[0].ids, SAMPLES[0].spans, 3.0), *SAMPLES[1:]]
    one, _ = stepped(recipe(), 4096, tmp_path, heavy)
    other, _ = stepped(recipe(), 4096, tmp_path, [SAMPLES[0], SAMPLES[0], *SAMPLES])
    assert one == pytest.approx(other, rel=1e-5)


def test_only_the_tokens_of_the_spans_are_learned(tmp_path: Path) -> None:
    """Two answers in one context give the two losses."""
    ids = SAMPLES[0].ids
    parts = [Sample(ids, (span,)) for span in ((3, 6), (20, 24))]
    both = Sample(ids, ((3, 6), (20, 24)))
    one, _ = stepped(recipe(), 4096, tmp_path, [both])
    other, _ = stepped(recipe(), 4096, tmp_path, parts)
    assert one == pytest.approx(other, rel=1e-5)
    assert sorted(passes_of([both], 4096)[0].targets_T.tolist()) == sorted([*ids[3:6], *ids[20:24]])


class Watch(TrainerCallback):
    """Whether each step moved any weight."""

    def __init__(self, model: Any) -> None:
        self.now, self.moved = torch.nn.utils.parameters_to_vector(model.parameters()).detach(), list[bool]()

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        now = torch.nn.utils.parameters_to_vector(model.parameters()).detach()
        self.moved.append(not torch.equal(now, self.now))
        self.now = now


def test_a_step_without_loss_makes_no_update_and_is_counted(folder: Path, tmp_path: Path) -> None:
    """Whatever the optimiser remembers, and although weights decay."""
    base = copy.deepcopy(models()[0])
    steps = in_steps(SAMPLES, recipe(**SEVERAL))
    said = ask_base(base, steps, 4096, whole=False)
    least = float(torch.cat([*said.nll.values()]).min().exp())
    made = recipe(**SEVERAL, loss=SelectedTokens(most_perplexity=least * 1.001), weight_decay=0.1)
    watch = Watch(base)
    options: dict[str, Any] = {"steps": steps, "pack_tokens": 4096, "objective": Objective(made, said)}
    arguments = _arguments(tmp_path / "out", made, len(steps), "float32", False, ())
    trainer = PrefixTrainer(model=base, args=arguments, callbacks=[watch], **options)
    trainer.train()
    assert sum(watch.moved) == 2, "the one token with loss is learned once an epoch"
    assert not all(watch.moved[watch.moved.index(True) :]), "then the optimiser remembers"
    assert trainer.totals.steps_without_loss == 4
    trained = run(folder, tmp_path / "some", recipe(**SEVERAL, loss=SelectedTokens(most_perplexity=LIMIT)))
    assert trained.without_loss is not None and 0 < trained.without_loss < 1
    assert trained.first_without_loss is not None and 0 < trained.first_without_loss < 1


def test_a_limit_that_leaves_no_token_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"most_perplexity.*1\.5 or less.*the least is"):
        run(folder, tmp_path, recipe(loss=SelectedTokens(most_perplexity=1.5)))


def test_a_penalty_on_texts_is_the_mean_divergence_over_their_tokens_and_leaves_the_rows_alone(tmp_path: Path) -> None:
    """Loss and gradients are those of the rows plus beta times the divergence, here in float64 on a padded batch."""
    texts = [Sample(one.ids, one.spans, 0.0, apart=True) for one in make_samples(3, 1, seed=7)]
    made = recipe(data=OwnText(text_weight=(0.0,)), penalty=KlOnTexts(text_beta=(0.7,)))
    base, model = (plainly(one) for one in models())
    with torch.no_grad():
        before = answers(base, texts)[1]
    now = answers(model, texts)[1]
    wanted = 0.7 * (before.exp() * (before - now)).sum(-1).mean()
    wanted.backward()
    value = float(wanted.detach())
    rows, trainer = stepped(recipe(), 4096, tmp_path)
    of_rows = gradients(trainer.model)
    both, trainer = stepped(made, 4096, tmp_path, [*SAMPLES, *texts])
    assert value > 0.01 and both - rows == pytest.approx(value, rel=1e-5)
    assert trainer.totals.penalty == pytest.approx(value, rel=1e-5)
    assert apart(gradients(trainer.model) - of_rows, gradients(model)) < 1e-5


def test_the_base_is_asked_once_a_row_and_its_answers_are_counted(folder: Path, tmp_path: Path) -> None:
    made = recipe(**SEVERAL, penalty=KlToBase())
    trained = run(folder, tmp_path, made)
    once = sum(len(one) for step in list(in_steps(SAMPLES, made))[:3] for one in passes_of(step, 2048))
    assert trained.tokens_forward == once, "although there are two epochs"
    tokens = sum(len(sample.learned) for sample in SAMPLES)
    assert trained.kept_bytes == tokens * (48 + 1) * 4
    assert 0 < trained.penalty < trained.loss


def test_killed_and_started_again_a_penalty_goes_on_to_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    """What the base says is computed anew, from the base."""
    made = recipe(**SEVERAL, penalty=KlToBase(), weights=Lora(lora_r=4))
    whole = run(folder, tmp_path / "whole", made)

    class Killed(Exception):
        pass

    def killed(step: int, *_: Any) -> None:
        if step == 5:
            raise Killed

    with pytest.raises(Killed):
        run(folder, tmp_path / "cut", made, checkpoint_every_s=0.0, progress=killed)
    again = run(folder, tmp_path / "cut", made)
    assert stored(tmp_path / "cut") == stored(tmp_path / "whole")
    assert again.penalty == pytest.approx(whole.penalty) and again.loss == pytest.approx(whole.loss)


def test_the_first_token_of_each_answer_counts_as_one() -> None:
    """Also where a sample has several answers."""
    base, _ = models()
    both = Sample(SAMPLES[0].ids, ((3, 6), (20, 24)))
    said = ask_base(base, [[both]], 4096, whole=False)
    nll = said.nll[both]
    limit = float(nll.exp().median())
    found = Objective(recipe(loss=SelectedTokens(most_perplexity=limit)), said).without_loss()
    masked, first = nll.exp() > limit, nll.exp()[[0, 3]]
    assert found is not None
    assert found.every == pytest.approx(float(masked.float().mean()))
    assert found.first == pytest.approx(float(masked[[0, 3]].float().mean()))
    assert (found.least, found.for_half, found.for_all) == (
        float(nll.exp().min()),
        float(first.min()),
        float(first.max()),
    )


def test_a_penalty_in_bfloat16(folder: Path, tmp_path: Path) -> None:
    """The base's distributions are rounded as the model's are: before the first step both are the same."""
    made, seen = recipe(penalty=KlToBase(), loss=SelectedTokens(most_perplexity=LIMIT)), []
    steps = in_steps(SAMPLES, made)
    trained = train(folder, steps, made, tmp_path, precision="bfloat16", progress=lambda *step: seen.append(step))
    assert len(seen) == 1 and abs(trained.penalty) < 1e-6 and trained.loss > 0


def test_an_output_layer_of_its_own_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where hidden states and output layer do not give the model's logits, there is no divergence to be had."""
    model = copy.deepcopy(models()[0])
    forward = type(model).forward

    def scaled(*arguments: Any, **options: Any) -> Any:
        out = forward(*arguments, **options)
        out.logits = out.logits * 1.1
        return out

    monkeypatch.setattr(type(model), "forward", scaled)
    monkeypatch.setattr("spillover.engine.head.signature", lambda _: signature(forward))
    with pytest.raises(ModelError, match="output layer does something of its own"):
        ask_base(model, [SAMPLES], 4096, whole=True)


def test_a_loss_of_another_shape_is_refused(tmp_path: Path) -> None:
    (one,) = passes_of(SAMPLES, 4096)
    objective = Objective(recipe(loss=PythonLoss(function="mine")), function=lambda tokens: tokens.nll_T.mean())
    with pytest.raises(ExperimentError, match="answer tokens"):
        objective.loss(one, one.logits(models()[1], CPU), objective.look([one]))

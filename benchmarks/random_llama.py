"""Throughput on a Llama with random weights, of the size of Llama-2-7b or very small: no weights are needed for that.

    score    labels of few-shot prompts at all shot counts, as for MNLI: against padded batches of transformers
    decode   64 new tokens for each row of a two-shot prompt: against `generate` of transformers
    adapter  an FTICL step of 16 rows with five demonstrations, LoRA on all linear layers: against TRL
    full     the same step for all weights: against TRL

The model is made on the device from its configuration and a seed, the same on both sides. Token ids are random, with
lengths as in the study's MNLI. Training is as everywhere here: weights in float32, bf16 by autocast. With its gradient
and the two moments of AdamW a weight takes 16 bytes, 108 GB for all of a 7B model. So `full` computes activations again
in the backward pass, on both sides.
"""

from __future__ import annotations

import argparse
import random
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import common
import generate_vs_hf
import measure
import train_vs_trl
from meter import Meter

END = 0  # the id that ends a generation and fills padding
LABELS = (2, 1, 3)  # tokens of each label


@dataclass(frozen=True)
class Size:
    """A model's shape, and the work for it."""

    shape: dict[str, int]
    rows: int
    shots: tuple[int, ...]
    demonstration: int  # tokens
    question: int  # tokens, on average
    new_tokens: int
    at_once: int  # rows of a batch of transformers
    batch: int  # rows of a training step
    trl_at_once: int


SIZES = {
    "full": Size(
        shape={"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32}
        | {"vocab_size": 32000, "max_position_embeddings": 4096},
        rows=128,
        shots=(0, 2, 5),
        demonstration=60,
        question=50,
        new_tokens=64,
        at_once=32,
        batch=16,
        trl_at_once=4,
    ),
    "small": Size(
        shape={"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
        | {"vocab_size": 128, "max_position_embeddings": 512},
        rows=6,
        shots=(0, 2, 3),
        demonstration=7,
        question=6,
        new_tokens=4,
        at_once=4,
        batch=4,
        trl_at_once=2,
    ),
}


# --- the work -------------------------------------------------------------------------------------


class Texts:
    """Random token ids in the pattern of a few-shot test: rows that share their demonstrations."""

    def __init__(self, size: Size) -> None:
        self.size, draw = size, random.Random(0)

        def text(tokens: int) -> tuple[int, ...]:
            return tuple(draw.randrange(END + 1, size.shape["vocab_size"]) for _ in range(tokens))

        self.demonstrations = [text(size.demonstration) for _ in range(max(size.shots))]
        spread = size.question // 2
        self.questions = [text(size.question + draw.randint(-spread, spread)) for _ in range(size.rows)]
        self.labels = tuple(text(tokens) for tokens in LABELS)

    def prompts(self, shots: int) -> list[tuple[int, ...]]:
        start = sum(self.demonstrations[:shots], ())
        return [start + question for question in self.questions]

    def to_score(self) -> list[Any]:
        from spillover.text.request import Request

        return [Request(prompt, self.labels) for shots in self.size.shots for prompt in self.prompts(shots)]

    def to_decode(self) -> list[Any]:
        from spillover.text.request import Request

        return [Request(prompt, (), self.size.new_tokens) for prompt in self.prompts(2)]

    def to_train(self, steps: int) -> list[Any]:
        from spillover.text.samples import Sample

        prompts = self.prompts(max(self.size.shots))
        chosen = [(prompts[i % len(prompts)], self.labels[i % len(LABELS)]) for i in range(steps * self.size.batch)]
        return [Sample.of((*prompt, *label, END), len(prompt)) for prompt, label in chosen]


def model_of(args: argparse.Namespace, precision: str) -> Any:
    """The same random model on both sides, made where it is used."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    from spillover.engine.hf import device

    config = LlamaConfig(**SIZES[args.size].shape, bos_token_id=1, eos_token_id=END, pad_token_id=END)
    torch.manual_seed(0)
    with torch.device(device()):
        return AutoModelForCausalLM.from_config(config, dtype=getattr(torch, precision))


def take(model: Any, precision: str, longest: int) -> None:
    """Let the model share prefixes, or end with the reason why it cannot."""
    from spillover.engine.suitable import why_plain

    if reason := why_plain(model, range(1, 30), precision, longest):
        raise SystemExit(f"the shared engine does not take this model: {reason}")


def engine_of(args: argparse.Namespace, requests: list[Any]) -> Any:
    """Our engine for the model, warmed up as in a run."""
    from spillover.engine.memory import reuse_memory
    from spillover.engine.suitable import shared_engine

    reuse_memory()
    precision = common.precision(args)
    model = model_of(args, precision).eval().requires_grad_(False)
    take(model, precision, max(request.reach for request in requests))
    return shared_engine(model, frozenset({END}))


# --- sides ----------------------------------------------------------------------------------------


def score_ours(args: argparse.Namespace) -> dict[str, Any]:
    requests = Texts(SIZES[args.size]).to_score()
    engine = engine_of(args, requests)
    list(engine.run(requests[:2], lambda ids: True))
    engine.work.__init__()
    with Meter() as meter:
        answers = dict(engine.run(requests, lambda ids: True))
    scores = [[sum(option) for option in answers[i].logprobs] for i in range(len(answers))]
    return {**meter.result(), "answers": scores, "tokens": engine.work.tokens}


def score_theirs(args: argparse.Namespace) -> dict[str, Any]:
    """Each label as a text of its own, sorted by length, as lm-evaluation-harness does it."""
    import torch

    size = SIZES[args.size]
    texts = [(one.prompt, option) for one in Texts(size).to_score() for option in one.options]
    model = model_of(args, common.precision(args)).eval()
    order = sorted(range(len(texts)), key=lambda i: -sum(map(len, texts[i])))
    _scores(model, texts[: size.at_once])
    found: dict[int, float] = {}
    with Meter() as meter, torch.inference_mode():
        for at in range(0, len(order), size.at_once):
            batch = order[at : at + size.at_once]
            found.update(zip(batch, _scores(model, [texts[i] for i in batch]), strict=True))
    scores = [[found[i + j] for j in range(len(LABELS))] for i in range(0, len(texts), len(LABELS))]
    return {**meter.result(), "answers": scores, "tokens": sum(len(prompt + option) for prompt, option in texts)}


def _scores(model: Any, texts: list[tuple[tuple[int, ...], tuple[int, ...]]]) -> list[float]:
    """The log-probability of each option behind its prompt: one padded batch."""
    import torch

    width = max(len(prompt + option) for prompt, option in texts)
    ids = torch.full((len(texts), width), END)
    mask = torch.zeros_like(ids)
    for row, (prompt, option) in enumerate(texts):
        ids[row, : len(prompt + option)] = torch.tensor(prompt + option)
        mask[row, : len(prompt + option)] = 1
    ids, mask = ids.to(model.device), mask.to(model.device)
    with torch.inference_mode():
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        sums = []
        for row, (prompt, option) in enumerate(texts):
            at = torch.arange(len(prompt), len(prompt + option), device=ids.device)
            logprobs = logits[row, at - 1].float().log_softmax(-1)
            sums.append(logprobs.gather(-1, ids[row, at, None]).sum())
        return torch.stack(sums).tolist()  # type: ignore[no-any-return]


def decode_ours(args: argparse.Namespace) -> dict[str, Any]:
    requests = Texts(SIZES[args.size]).to_decode()
    engine = engine_of(args, requests)
    list(engine.run(requests[:2], lambda ids: len(ids) > 1))
    with Meter() as meter:
        answers = dict(engine.run(requests, lambda ids: False))
    return {**meter.result(), "answers": [answers[i].generated for i in range(len(answers))]}


def decode_theirs(args: argparse.Namespace) -> dict[str, Any]:
    size = SIZES[args.size]
    requests = sorted(enumerate(Texts(size).to_decode()), key=lambda pair: -len(pair[1].prompt))
    model = model_of(args, common.precision(args)).eval()
    encoder = SimpleNamespace(eos_id=END, eos_ids=frozenset({END}), stop_rule=lambda: lambda ids: False)
    generate_vs_hf.generate(model, encoder, [one for _, one in requests[:2]], 2)
    found: dict[int, list[int]] = {}
    with Meter() as meter:
        for at in range(0, len(requests), size.at_once):
            batch = requests[at : at + size.at_once]
            made = generate_vs_hf.generate(model, encoder, [one for _, one in batch], size.new_tokens)
            found.update(zip((number for number, _ in batch), made, strict=True))
    return {**meter.result(), "answers": [found[i] for i in range(len(found))]}


def _learner(args: argparse.Namespace, share: bool) -> Any:
    """The model as it is trained: in float32, with an adapter or without."""
    import torch

    from spillover.experiment.axes import Lora
    from spillover.train.axes import let_move

    model = model_of(args, "float32")
    if share:
        take(model, "float32", max(len(one.ids) for one in Texts(SIZES[args.size]).to_train(1)))
    if args.case == "full":
        return model
    torch.manual_seed(1)
    return let_move(model, Lora())


def train_ours(args: argparse.Namespace) -> dict[str, Any]:
    from spillover.engine.memory import reuse_memory

    reuse_memory()  # as a run does, before the Trainer is imported
    size = SIZES[args.size]
    return train_vs_trl.train_here(args, _learner(args, True), Texts(size).to_train(args.steps + 1), size.batch)


def train_theirs(args: argparse.Namespace) -> dict[str, Any]:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    size = SIZES[args.size]
    samples = Texts(size).to_train(args.steps + 1)
    rows = [{"input_ids": list(one.ids), "labels": train_vs_trl.labels(one)} for one in samples]
    words = Tokenizer(models.WordLevel({"end": END}, unk_token="end"))  # TRL wants one, for the id of padding
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="end", pad_token="end")
    model = _learner(args, False)
    return train_vs_trl.trl_here(args, model, samples, rows, tokenizer, size.batch, size.trl_at_once)


# --- cases ----------------------------------------------------------------------------------------


def score(args: argparse.Namespace) -> None:
    mine, other = measure.two_sides(args, {"spillover": score_ours, "transformers": score_theirs})
    rates = f"{other['tokens'] / mine['seconds']:.0f} against {other['tokens'] / other['seconds']:.0f} of them a second"
    detail = f"{mine['tokens']} tokens computed of {other['tokens']} in all texts, {rates}"
    measure.speedup(args, mine, other, 10, measure.compare_scores(mine["answers"], other["answers"]), detail)


def decode(args: argparse.Namespace) -> None:
    mine, other = measure.two_sides(args, {"spillover": decode_ours, "generate": decode_theirs})
    differ = sum(a != b for a, b in zip(mine["answers"], other["answers"], strict=True))
    rates = [sum(map(len, side["answers"])) / side["seconds"] for side in (mine, other)]
    detail = f"{rates[0]:.0f} against {rates[1]:.0f} tokens a second"
    parity = f"{differ} of {len(mine['answers'])} texts differ (a random model has near-ties everywhere)"
    measure.speedup(args, mine, other, 4, parity, detail)


def train(args: argparse.Namespace) -> None:
    measure.need(args, "trl")
    mine, other = measure.two_sides(args, {"spillover": train_ours, "TRL": train_theirs})
    steps, size = args.steps + 1, SIZES[args.size]
    a_step = mine["tokens_plain"] / steps
    rates = f"{a_step / mine['seconds']:.0f} against {a_step / other['seconds']:.0f} of them a second"
    detail = f"a step of {size.batch} samples (TRL {size.trl_at_once} x {size.batch // size.trl_at_once}), "
    detail += f"{mine['tokens']} tokens computed of {mine['tokens_plain']} in {steps} steps, {rates}"
    measure.speedup(args, mine, other, 10, train_vs_trl.agreement(args, mine, other), detail)


def main() -> None:
    options = common.options(__doc__)
    options.add_argument("--case", choices=("score", "decode", "adapter", "full"), default="score")
    options.add_argument("--size", choices=SIZES, default="full", help="full: the shape of Llama-2-7b")
    options.add_argument("--steps", type=int, default=3, help="timed training steps, after one for warm-up")
    args = options.parse_args()
    args.recompute = args.case == "full"  # activations
    {"score": score, "decode": decode}.get(args.case, train)(args)


if __name__ == "__main__":
    main()

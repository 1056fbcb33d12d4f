"""Generating: spillover's shared engine against `model.generate` of transformers in left-padded batches of 8.

The study's summary and question tests, 32 rows, k = 0, 1, 2, 4, first prompt format. Greedy on both sides, the same
limits of new tokens; `generate` gets each test set sorted by length (it pads least), and a row stops at a blank line by
a StoppingCriteria with the same rule. Where answers differ, a plain forward at the first differing token tells how far
apart the two best tokens were: rounding decides near-ties.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import common
import measure
from meter import Meter

BATCH_SIZE = 8
NEAR_TIE = 1e-3  # of logits


def ours(args: argparse.Namespace) -> dict[str, Any]:
    units = common.make_units(args)
    engine = common.load_engine(args, units)
    ids: list[tuple[int, ...]] = []
    with Meter() as meter:
        for unit in units:
            answers = dict(engine.run(unit.requests(), unit.encoder.stop_rule()))
            ids += [answers[i].generated for i in range(len(answers))]
    return {**meter.result(), "answers": ids, **{k: v for k, v in vars(engine.work).items() if k != "seconds"}}


def theirs(args: argparse.Namespace) -> dict[str, Any]:
    units = common.make_units(args)
    model = _model(args)
    encoder = units[0].encoder
    generate(model, encoder, units[0].requests()[:2], 2)
    ids: list[list[int]] = []
    with Meter() as meter:
        for unit in units:
            requests = unit.requests()
            order = sorted(range(len(requests)), key=lambda i: -len(requests[i].prompt))
            found: dict[int, list[int]] = {}
            for at in range(0, len(order), BATCH_SIZE):
                batch = order[at : at + BATCH_SIZE]
                made = generate(model, encoder, [requests[i] for i in batch], requests[batch[0]].max_new_tokens)
                found.update(zip(batch, made, strict=True))
            ids += [found[i] for i in range(len(requests))]
    return {**meter.result(), "answers": ids}


def check(args: argparse.Namespace) -> dict[str, Any]:
    """For each row that the sides answer differently: the gap of the two best logits where they part."""
    import torch

    model = _model(args)
    requests = [request for unit in common.make_units(args) for request in unit.requests()]
    gaps = []
    for number, mine, other in json.loads(args.given.read_text("utf-8")):
        pairs = enumerate(zip(mine, other, strict=False))
        same = next((i for i, (a, b) in pairs if a != b), min(len(mine), len(other)))
        ids = torch.tensor([[*requests[number].prompt, *mine[:same]]], device=model.device)
        with torch.inference_mode():
            best = model(input_ids=ids, logits_to_keep=1).logits[0, -1].float().topk(2).values
        gaps.append(float(best[0] - best[1]))
    return {"gaps": gaps}


def _model(args: argparse.Namespace) -> Any:
    from spillover.engine.hf import load_model

    return load_model(common.folder(args), common.precision(args))


def generate(model: Any, encoder: Any, requests: list[Any], max_new_tokens: int) -> list[list[int]]:
    """What `model.generate` makes of a batch of requests."""
    import torch
    from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

    width = max(len(request.prompt) for request in requests)
    ids = torch.full((len(requests), width), encoder.eos_id)
    mask = torch.zeros_like(ids)
    for row, request in enumerate(requests):
        ids[row, width - len(request.prompt) :] = torch.tensor(request.prompt)
        mask[row, width - len(request.prompt) :] = 1
    stop = encoder.stop_rule()

    class BlankLine(StoppingCriteria):
        def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
            return torch.tensor([stop(row) for row in input_ids[:, width:].tolist()], device=input_ids.device)

    config = GenerationConfig(
        do_sample=False,
        max_new_tokens=max_new_tokens,
        eos_token_id=sorted(encoder.eos_ids),
        pad_token_id=encoder.eos_id,
    )
    with torch.inference_mode():
        made = model.generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            generation_config=config,
            stopping_criteria=StoppingCriteriaList([BlankLine()]),
        )
    return [_until_stop(row, stop, encoder.eos_ids) for row in made[:, width:].tolist()]


def _until_stop(ids: list[int], stop: Any, eos_ids: frozenset[int]) -> list[int]:
    """A row without its end token and the padding behind it."""
    kept: list[int] = []
    for token in ids:
        if token in eos_ids:
            break
        kept.append(token)
        if stop(kept):
            break
    return kept


def main() -> None:
    args = common.parser(__doc__, rows=32, tests=common.GENERATION, prompts=("p1",)).parse_args()
    mine, other = measure.two_sides(args, {"spillover": ours, "generate": theirs}, also={"check": check})
    both = enumerate(zip(mine["answers"], other["answers"], strict=True))
    differing = [(number, a, b) for number, (a, b) in both if a != b]
    gaps = measure.child(args, "check", differing)["gaps"] if differing else []
    far = sum(gap > NEAR_TIE for gap in gaps)
    parity = f"{len(differing)} of {len(mine['answers'])} answers differ, {far} of them at no near-tie"
    parity += f" (widest gap {max(gaps):.1e})" if gaps else ""
    detail = f"{mine['tokens']} prompt tokens computed of {mine['tokens_plain']}, {mine['tokens_generated']} generated"
    measure.speedup(args, mine, other, 4, parity, detail)


if __name__ == "__main__":
    main()

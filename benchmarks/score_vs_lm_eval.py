"""Scoring labels: spillover's shared engine against lm-evaluation-harness's Hugging Face backend.

The study's 11 classification tests at all their shot counts in both prompt formats. lm-eval gets the very texts that
spillover renders, as (context, continuation), all in one call of `loglikelihood` (where its sorting by length
pads least), batch size 8. Both sides start from text. Checked beside the ratio: the log-probability of every label, the
answers, and that both tokenise alike.
"""

from __future__ import annotations

import argparse
from typing import Any

import common
import measure
from meter import Meter

BATCH_SIZE = 8


def ours(args: argparse.Namespace) -> dict[str, Any]:
    units = common.make_units(args)
    engine = common.load_engine(args, units)
    with Meter() as meter:
        scores = common.score(engine, units)
    work = vars(engine.work)
    return {**meter.result(), "answers": scores, "tokens": work["tokens"], "tokens_plain": work["tokens_plain"]}


def theirs(args: argparse.Namespace) -> dict[str, Any]:
    import torch
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    units = common.make_units(args)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    lm = HFLM(pretrained=str(common.folder(args)), dtype=common.precision(args), device=device, batch_size=BATCH_SIZE)
    pairs = [(row.text, label) for unit in units for sheet, row in unit.work for label in sheet.task.labels]
    instances = [Instance("loglikelihood", {}, pair, number) for number, pair in enumerate(pairs)]
    lm.loglikelihood(instances[:4], disable_tqdm=True)
    with Meter() as meter:
        answered = iter(lm.loglikelihood(instances, disable_tqdm=True))
    scores = [[next(answered)[0] for _ in sheet.task.labels] for unit in units for sheet, _ in unit.work]
    return {**meter.result(), "answers": scores, **mismatches(lm, units)}


def mismatches(lm: Any, units: list[common.Unit]) -> dict[str, int]:
    """Label texts whose ids differ from spillover's, and those whose ids are the same but cut elsewhere."""
    ids = cuts = 0
    for unit in units:
        for (sheet, row), request in zip(unit.work, unit.requests(), strict=True):
            for label, option in zip(sheet.task.labels, request.options, strict=True):
                context, continuation = map(tuple, lm._encode_pair(row.text, label))
                ids += context + continuation != request.prompt + option
                cuts += context != request.prompt
    return {"ids_differ": ids, "cuts_differ": cuts}


def tokenised(mine: dict[str, Any], other: dict[str, Any]) -> str:
    """`mismatches` in words."""
    labels = sum(map(len, mine["answers"]))
    return f"ids differ in {other['ids_differ']} and cuts in {other['cuts_differ']} of {labels} texts"


def main() -> None:
    args = common.parser(__doc__).parse_args()
    measure.need(args, "lm_eval")
    mine, other = measure.two_sides(args, {"spillover": ours, "lm-eval": theirs})
    parity = f"{measure.compare_scores(mine['answers'], other['answers'])}, {tokenised(mine, other)}"
    detail = f"{mine['tokens']} tokens computed of {mine['tokens_plain']}, {len(mine['answers'])} rows"
    measure.speedup(args, mine, other, 10, parity, detail)


if __name__ == "__main__":
    main()

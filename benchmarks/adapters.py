"""Several adapters on one load of their base, against a load for each.

The adapters are LoRAs of rank 16 with random weights. Each is loaded as a run does it, checks included, and answers
`--rows` short questions. What is saved is reading the base from disk and checking its weights.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from pathlib import Path
from typing import Any

import common
import measure
from meter import Meter


def make_adapters(args: argparse.Namespace, place: Path) -> list[Path]:
    """The same adapters in every process."""
    import torch
    from peft import LoraConfig, get_peft_model

    from spillover.engine.load import load

    model = load(common.folder(args), torch.float32)
    torch.manual_seed(0)
    config = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    wrapped = get_peft_model(model, config)
    for number in range(args.adapters):
        torch.manual_seed(number)
        for name, weight in wrapped.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.01)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wrapped.save_pretrained(place / str(number))
    return [place / str(number) for number in range(args.adapters)]


def side(on_one_load: bool) -> measure.Side:
    def work(args: argparse.Namespace) -> dict[str, Any]:
        from spillover.engine.held import HeldBase
        from spillover.engine.hf import load_engine
        from spillover.engine.memory import free_memory
        from spillover.text.encode import Encoder
        from spillover.text.request import Request

        base, precision = common.folder(args), common.precision(args)
        encoder = Encoder.load(base, {})
        texts = [f"Question: how many are {row} and {row + 7}?\nAnswer:" for row in range(args.rows)]
        options = tuple(encoder.text_ids(f" {word}") for word in ("few", "many"))
        requests = [Request(encoder.text_ids(text), options) for text in texts]
        answers: list[list[float]] = []
        with tempfile.TemporaryDirectory() as place:
            adapters = make_adapters(args, Path(place))
            held = HeldBase() if on_one_load else None
            free_memory()
            with Meter() as meter:
                for adapter in adapters:
                    free_memory()
                    engine, _ = load_engine(base, encoder, precision, adapter=adapter, held=held)  # type: ignore[arg-type]
                    found = dict(engine.run(requests, lambda ids: False))
                    answers += [[sum(one) for one in found[number].logprobs] for number in range(len(requests))]
                    del engine
        return {**meter.result(), "answers": answers}

    return work


def main() -> None:
    made = common.parser(__doc__, rows=8)
    made.add_argument("--adapters", type=int, default=5)
    args = made.parse_args()
    ours, theirs = measure.two_sides(args, {"one load": side(True), f"{args.adapters} loads": side(False)})
    parity = measure.compare_scores(ours["answers"], theirs["answers"])
    measure.speedup(args, ours, theirs, 1, parity, f"{args.adapters} adapters, {args.rows} rows each")


if __name__ == "__main__":
    main()

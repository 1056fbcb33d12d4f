"""Writes a model with an adapter merged into it as a whole checkpoint, which needs no PEFT.

The weights are those of the base plus what the adapter adds, in float32, as variants are trained and asked.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import nn

from .load import load, wrapped


def write_whole_model(base: Path, adapter: Path, out: Path, trust: bool = False) -> None:
    """Write weights and configuration into `out`. Raises ModelError for an adapter that has no merged form."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a tied layer is changed: below it is tied no longer
        both = wrapped(load(base, torch.float32, trust=trust), adapter)
        model = both.get_base_model()
        ends = model.get_input_embeddings(), model.get_output_embeddings()
        source, head = (one.get_base_layer() if isinstance(one, BaseTunerLayer) else one for one in ends)
        if any(isinstance(one, BaseTunerLayer) for one in ends) and source.weight is head.weight:
            head.weight = nn.Parameter(head.weight.detach().clone())  # the adapter changes one of the two
            model.config.tie_word_embeddings = False
        both.merge_and_unload().save_pretrained(out)

"""Writes a variant as an ordinary checkpoint or adapter, with its model card, for whoever serves or trains it further.

The files are those of the training, so another program gives the same answers. An adapter names its base as the hub
does, if it is there. With `merged`, an adapter is added to the weights of its base in float32, and needs no PEFT.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from .. import models
from ..disk import file_name, write_whole
from ..errors import StoreError
from ..plan.grid import Variant
from . import card
from .wanted import Wanted

OURS = ("receipt.json", "README.md")  # what a folder of weights holds and a checkpoint does not need


def write(wanted: Wanted) -> list[str]:
    """Write `VARIANT/`: weights, configuration, tokenizer and README.md.

    Raises StoreError if no variant is named, if its weights were not kept, or if the place is taken.
    """
    variant = wanted.one_variant
    experiment, start, _ = wanted.store.experiment()
    base = models.resolve(experiment.model, start, trust=experiment.trust).folder
    source, place = _weights(wanted, variant), wanted.place / file_name(variant.name)
    if any(place.glob("*")):
        raise StoreError("is not empty", where=str(place), allowed="another --output, or delete it")
    is_adapter = models.is_adapter(source)
    text = card.text(wanted, variant, is_adapter and not wanted.merged)
    place.mkdir(parents=True, exist_ok=True)
    if is_adapter and wanted.merged:
        from ..engine.whole import write_whole_model

        write_whole_model(base, source, place, experiment.trust)
    for path in sorted(source.iterdir()):
        of_adapter = path.name.startswith("adapter_") and wanted.merged
        if path.is_file() and path.name not in OURS and not of_adapter and not (place / path.name).exists():
            shutil.copyfile(path, place / path.name)
    if is_adapter and not wanted.merged:
        _name_base(place / "adapter_config.json", card.base_model(experiment.model, start) or str(base))
    write_whole(place / "README.md", text)
    what = "adapter" if is_adapter and not wanted.merged else "whole model"
    reads = "PEFT" if what == "adapter" else "transformers"
    return [
        f"Wrote {variant.name} to {place}: {what}, with README.md",
        f"Next: load it with {reads}, or upload it: hf upload NAME {place}",
    ]


def _weights(wanted: Wanted, variant: Variant) -> Path:
    """The folder of a variant's weights."""
    experiment, start, _ = wanted.store.experiment()
    if variant.kind == "existing":
        path = next(one.path for one in experiment.variants if one.name == variant.name)
        return models.resolve(path, start, trust=experiment.trust).folder
    if not wanted.store.has_weights(variant.key):
        what = f"the weights of {variant.name} were not kept, or are not those that its training left"
        again = "train it again: spillover run FILE --set keep=weights --output NEW_DIR"
        raise StoreError(what, where=str(wanted.folder), allowed=again)
    wanted.store.bring_weights(variant.key)
    return wanted.store.variant_folder(variant.key)


def _name_base(path: Path, name: str) -> None:
    """An adapter of a folder on one machine is found elsewhere if it names its base as others do."""
    config = json.loads(path.read_text("utf-8"))
    write_whole(path, json.dumps({**config, "base_model_name_or_path": name}, indent=2) + "\n")

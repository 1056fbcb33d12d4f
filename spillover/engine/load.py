"""Loading a causal language model, with a PEFT adapter on top: every weight is used, and none is made up.

transformers and PEFT put random numbers where a weight is missing, leave out what they cannot use, and report both in
their logs at most. Here each of these is an error: a weight that is missing, that no module takes, that has another
shape, or that is not a number. So is a model in which a token sees later ones.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import ModelError
from ..models.fit import named_tokens, stored_rows
from ..models.machine import one_line, raise_if_disk_is_full

SEEN = {torch.bfloat16: 0.25, torch.float16: 0.25, torch.float32: 1e-3}  # nats that rounding may make
OWN = r"\.default(\.|$)"  # names of an adapter's weights in the model
REPLACED = "replaced_by_adapter"  # attribute of a model: the base's weights in whose place an adapter stores others


def load(folder: Path, dtype: torch.dtype, adapter: Path | None = None, trust: bool = False, config: Any = None) -> Any:
    """The model, on the CPU. Raises ModelError if weights and configuration do not belong together."""
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    with _one_line(folder, "it cannot be loaded"), _without_report(logging):
        model, loaded = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            trust_remote_code=trust,
            use_safetensors=None if trust else True,
            ignore_mismatched_sizes=True,  # they are refused below, by name
            output_loading_info=True,
        )
    shapes = {name: (tuple(stored), tuple(wanted)) for name, stored, wanted in loaded["mismatched_keys"]}
    _refuse(loaded["missing_keys"], loaded["unexpected_keys"], shapes, folder)
    refuse_broken(model.named_parameters(), folder)
    return model if adapter is None else with_adapter(model, adapter)


def with_adapter(model: Any, adapter: Path) -> Any:
    """The model with the adapter's layers in it. The model itself is changed."""
    return wrapped(model, adapter).base_model.model


def wrapped(model: Any, adapter: Path) -> Any:
    """PEFT's model of a model and an adapter of it."""
    from peft import PeftConfig, PeftModel
    from peft.mapping import PEFT_TYPE_TO_PREFIX_MAPPING
    from peft.utils.save_and_load import load_peft_weights, set_peft_model_state_dict

    with _one_line(adapter, "the adapter cannot be loaded"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what they say is checked below
        config = PeftConfig.from_pretrained(str(adapter))
        config.inference_mode = True
        renamed = getattr(model, "_checkpoint_conversion_mapping", None) or None
        stored = load_peft_weights(str(adapter), device="cpu", key_mapping=renamed)
        before = _weights_that_it_stores(model, stored)
        _fit_vocabulary(model, stored, config.to_dict(), adapter)
        both = PeftModel(model, config)
        loaded = set_peft_model_state_dict(both, stored)
    # Weights of the base that the adapter does not store are the base's: its folder may be anywhere by now.
    prefix = PEFT_TYPE_TO_PREFIX_MAPPING[config.peft_type]
    missing = [name for name in loaded.missing_keys if prefix in name and re.search(OWN, name)]
    missing = [name for name in missing if "vblora_vector_bank" not in name]  # layers only refer to the one bank
    _refuse(missing, loaded.unexpected_keys, {}, adapter)
    refuse_broken(stored.items(), adapter)
    setattr(both.base_model.model, REPLACED, before)
    return both


def _weights_that_it_stores(model: Any, stored: Iterable[str]) -> dict[str, Tensor]:
    """The base's weights that an adapter replaces without a wrapper, such as biases, by name.

    The model gets copies of them, to write into: another model may share the originals.
    """
    names = {name.removeprefix("base_model.model.").replace(".base_layer.", ".") for name in stored}
    before = {name: weight.data for name, weight in model.named_parameters() if name in names}
    for name, weight in model.named_parameters():
        if name in before:
            weight.data = before[name].clone()
    return before


def _fit_vocabulary(model: Any, stored: Mapping[str, Any], config: Mapping[str, Any], adapter: Path) -> None:
    """Give the model's embeddings as many rows as the adapter's have, as when it was trained with added tokens.

    Raises ModelError if it does not store what is in the new rows.
    """
    embeddings, named = model.get_input_embeddings(), named_tokens(config)
    before = len(embeddings.weight)
    stored_ones = stored_rows({name: tuple(weight.shape) for name, weight in stored.items()})
    rows = stored_ones or max([before, *(token + 1 for token in named)])
    if rows == before:
        return
    modules = {id(module): name for name, module in model.named_modules()}
    tied = model.get_output_embeddings().weight is embeddings.weight
    wanted = [embeddings] if tied else [embeddings, model.get_output_embeddings()]
    for name in (modules[id(module)] for module in wanted):
        whole = any(key.endswith((f".{name}.weight", f".{name}.base_layer.weight")) for key in stored)
        if not whole and not named.issuperset(range(before, rows)):
            what = f"it has {rows:,} tokens, the base {before:,}, and it does not store {name} for the others"
            raise ModelError(what, where=str(adapter), allowed="save it with save_embedding_layers=True")
    model.resize_token_embeddings(rows, mean_resizing=False)


def refuse_broken(weights: Iterable[tuple[str, Any]], where: Path) -> None:
    """Raise ModelError if a weight holds NaN or an infinity."""
    broken = [name for name, weight in weights if weight.is_floating_point() and weight.numel() and _is_broken(weight)]
    if broken:
        what = f"{len(broken)} of its weights hold infinities or NaN, {broken[0]} the first"
        raise ModelError(what, where=str(where), allowed="train it again, or copy or download it again")


def _is_broken(weight: Any) -> bool:
    least, most = torch.aminmax(weight.detach())  # needs no memory; both are NaN if one number is
    return not bool(torch.isfinite(least) & torch.isfinite(most))


@torch.no_grad()
def refuse_looking_ahead(model: Any, where: Path) -> None:
    """Raise ModelError if the last tokens of a text change what is predicted before them: it is no causal model."""
    vocabulary = model.get_input_embeddings().weight.shape[0]
    ids = torch.arange(5, 17) % vocabulary
    other = ids.clone()
    other[8:] = (ids[8:] + 7) % vocabulary
    before, after = (
        model(input_ids=one[None].to(model.device), attention_mask=torch.ones_like(one)[None].to(model.device))
        .logits[0, :8]
        .float()
        .log_softmax(-1)
        for one in (ids, other)
    )
    apart = float((before - after).abs().max())
    if apart > SEEN.get(model.dtype, 0.25):  # NaN passes: that is another error
        what = f"{type(model).__name__} predicts a token from the ones after it, so its log-probabilities mean nothing"
        raise ModelError(what, where=str(where), allowed="give a causal language model, which continues a text")


def _refuse(missing: Iterable[str], unused: Iterable[str], shapes: Mapping[str, Any], where: Path) -> None:
    """Raise ModelError for weights that are missing, of another shape, or not used by any module."""
    allowed = "give weights and configuration of one model"
    if names := sorted(missing):
        raise ModelError(f"{len(names)} weights are missing, {names[0]} the first", where=str(where), allowed=allowed)
    if names := sorted(shapes):
        stored, wanted = ("x".join(map(str, shape)) for shape in shapes[names[0]])
        what = f"{len(names)} weights have another shape than the configuration says, {names[0]} the first"
        raise ModelError(f"{what}: {stored} instead of {wanted}", where=str(where), allowed=allowed)
    if names := sorted(unused):
        what = f"{len(names)} of its weights are not used by the model, {names[0]} the first"
        raise ModelError(what, where=str(where), allowed=allowed)


@contextmanager
def _without_report(logging: Any) -> Iterator[None]:
    """transformers prints a table of the weights that it missed or did not use: here that is an error of one line."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


@contextmanager
def _one_line(where: Path, what: str) -> Iterator[None]:
    """Turn what transformers or PEFT say of a folder into one line. What says nothing of it, passes."""
    try:
        yield
    except (ModelError, torch.OutOfMemoryError, MemoryError):
        raise
    except KeyError as error:  # of PEFT, for a module that the adapter should store whole
        raise ModelError(f"{what}: there is no {error.args[0]}", where=str(where)) from error
    except (ValueError, TypeError, OSError, ImportError, RuntimeError) as error:
        raise_if_disk_is_full(error, str(where))
        raise ModelError(f"{what}: {one_line(error)}", where=str(where)) from error

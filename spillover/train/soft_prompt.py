"""A soft prompt before every sample: trained alone at first, then kept while the weights are trained, then dropped.

The prompt takes up what belongs to the format of the task, so that the weights have less of it to learn (ProMoT, arXiv
2211.00635). It consists of vectors that stand where the embeddings of tokens stand. At first they are embeddings of
tokens that the seed draws. They are trained by Adam at a constant rate, with all weights fixed. A training that was
killed before this was done begins it again; afterwards the vectors are kept among its checkpoints.

An engine sees token ids only, so the samples are computed one at a time, in the plain way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from ..disk import write_whole
from ..errors import ModelError
from ..experiment.axes import SoftPrompt
from ..text.steps import Steps
from .passes import Pass
from .together import ALONE, Together

FILE = "soft_prompt.safetensors"
WHY_PLAIN = "a soft prompt stands before each sample"


def soft_prompt(
    model: Any,
    first: SoftPrompt,
    steps: Steps,
    seed: int,
    kept: Path,
    together: Together = ALONE,
) -> Tensor:
    """The trained vectors, from the folder of checkpoints `kept` if they are there. The weights stay as they are.

    The loss is the mean NLL over the answer tokens of a step. Samples apart from the rows are left out.
    """
    if (kept / FILE).exists():
        return load_file(kept / FILE)["prompt"].to(model.device)
    prompt = nn.Parameter(_drawn(model, first.prompt_tokens, seed))
    optimizer = torch.optim.Adam([prompt], lr=first.prompt_learning_rate)
    moving = [weight for weight in model.parameters() if weight.requires_grad]
    for weight in moving:
        weight.requires_grad_(False)
    with behind(model, prompt):
        for step in replace(steps, order=replace(steps.order, epochs=first.prompt_epochs)):
            rows = [sample for sample in step if not sample.apart]
            items = sum(len(sample.learned) for sample in rows)
            for one in map(Pass.alone, together.share(rows, shares=False)):
                (one.nll(one.logits(model, model.device)).sum() / items).backward()
            together.sum_gradients([prompt])
            optimizer.step()
            optimizer.zero_grad()
    for weight in moving:
        weight.requires_grad_(True)
    if together.is_first:
        write_whole(kept / FILE, save({"prompt": prompt.detach().cpu()}))
    return prompt.detach()


@contextmanager
def behind(model: Any, prompt: Tensor) -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """The model reads these vectors before every text. Positions at which logits are asked for are those of the text.

    Gives a context in which the model reads texts alone, as when the prompt has been dropped. Raises ModelError for a
    model that cannot be asked for the logits of some positions.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    if "logits_to_keep" not in signature(type(inner).forward).parameters:
        what = f"{type(inner).__name__} cannot be trained behind a soft prompt: it gives logits at all positions only"
        raise ModelError(what, allowed="another strategy")

    is_dropped = False

    @contextmanager
    def dropped() -> Iterator[None]:
        nonlocal is_dropped
        is_dropped = True
        try:
            yield
        finally:
            is_dropped = False

    def put_before(module: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        if is_dropped:
            return args, kwargs
        embedded = module.get_input_embeddings()(kwargs.pop("input_ids"))
        vectors = prompt.to(embedded)[None].expand(len(embedded), -1, -1)
        keep = kwargs.get("logits_to_keep")
        moved = {"logits_to_keep": keep + len(prompt)} if isinstance(keep, Tensor) else {}
        return args, kwargs | moved | {"inputs_embeds": torch.cat([vectors, embedded], 1)}

    hook = inner.register_forward_pre_hook(put_before, with_kwargs=True)
    try:
        yield dropped
    finally:
        hook.remove()


def _drawn(model: Any, count: int, seed: int) -> Tensor:
    """Embeddings of tokens that the seed draws."""
    table = model.get_input_embeddings().weight.detach()
    drawn = torch.randint(len(table), (count,), generator=torch.Generator().manual_seed(seed))
    return table[drawn.to(table.device)].float().clone()

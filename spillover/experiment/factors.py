"""The factors by which variants differ: their names, and how a value of each is written.

A variant carries its factors as a flat mapping (`Variant.factors`), for example `{"strategy": "ft", "train_size": 64}`.
Columns of results.csv, claims, labels of figures and sentences of the verdict go through this mapping, so a new factor
needs an entry here and a value where variants are made. Only the study's own figures and grid name factors themselves.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import get_args

from .suite import Kind

Value = str | int | float


@dataclass(frozen=True)
class Factor:
    """One factor.

    `phrase` writes a value in a sentence and `short` in a label; `{}` stands for the value. `of_rows`: it says which
    rows were trained on, not how. `optional`: tables show it only where some variant has it.
    """

    name: str
    type: type
    phrase: str
    short: str = "{}"
    of_rows: bool = False
    about: str = ""
    choices: tuple[str, ...] = ()
    optional: bool = False


FACTORS: Mapping[str, Factor] = {
    factor.name: factor
    for factor in (
        Factor("strategy", str, "{}"),
        Factor("train_dataset", str, "on {}", of_rows=True),
        Factor("train_task", str, "task {}", of_rows=True, about="task of the training set"),
        Factor("train_kind", str, "{}", of_rows=True, choices=get_args(Kind)),
        Factor("train_size", int, "{:,} samples", "{:,}", of_rows=True),
        Factor("train_shots", int, "up to {} demonstrations each", about="most demonstrations in a training sample"),
        Factor("learning_rate", float, "learning rate {:g}", "lr {:g}"),
        Factor("num_train_epochs", float, "{:g} epochs", "{:g} epochs", optional=True),
        Factor("batch_size", int, "batches of {}", "batch {}", optional=True),
        Factor("lora_r", int, "LoRA rank {}", "r {}", optional=True),
        Factor("replay_share", float, "{:g} of the rows replayed", "replay {:g}", optional=True),
        Factor("text_weight", float, "own text weighted {:g}", "text {:g}", optional=True),
        Factor("beta", float, "beta {:g}", "beta {:g}", optional=True),
        Factor("text_beta", float, "beta {:g} on own text", "text beta {:g}", optional=True),
        Factor("l2sp_weight", float, "L2-SP weight {:g}", "L2-SP {:g}", optional=True),
        Factor("alpha", float, "alpha {:g}", "alpha {:g}", optional=True),
    )
}


def shown(found: Container[str]) -> list[str]:
    """The factors that a table has a column for, in order. `found` are those that any variant has."""
    return [name for name, factor in FACTORS.items() if not factor.optional or name in found]


def spelled(strategy: str) -> str:
    """A strategy in a sentence: those of papers as papers write them, others as they are named."""
    return {"ft": "FT", "fticl": "FTICL", "lora": "LoRA"}.get(strategy, strategy)


def phrase(name: str, value: Value) -> str:
    """A factor's value in a sentence, such as `2,000 samples`."""
    text = FACTORS[name].phrase.format(value)
    return re.sub(r"(demonstration|sample|epoch)s\b", r"\1", text) if value == 1 else text


def short(name: str, value: Value) -> str:
    """A factor's value in a label, such as `lr 2e-05`."""
    return FACTORS[name].short.format(value)

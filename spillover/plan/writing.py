"""What a base model writes before a training: texts of its own, or the gold answers in its own words.

It is made once and kept by its key, which follows from the base and from what is asked of it. Every training that asks
for the same uses it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ..data.rows import TrainSet
from ..errors import ExperimentError
from ..experiment.axes import OwnText, RewrittenAnswers
from ..experiment.recipe import Recipe
from ..fingerprint import fingerprint
from ..text.encode import Encoder
from ..text.rewrite import asked
from ..text.task import Example, PromptFormat
from .rules import WRITE_VERSION

LONGER = 2  # times the characters of the gold answer may be written, and never less than a short sentence
SHORTEST = 16  # tokens


@dataclass(frozen=True)
class OwnTexts:
    """Texts from the document separator alone."""

    key: str
    how: OwnText

    @property
    def tokens(self) -> int:
        """The most that is written."""
        return self.how.texts * self.how.text_tokens


@dataclass(frozen=True)
class Rewriting:
    """The answers of these rows in other words: `prompts` ask for them."""

    key: str
    rows: Sequence[Example] = field(repr=False)
    prompts: Sequence[str] = field(repr=False)
    limits: Sequence[int] = field(repr=False)
    chat: bool

    @property
    def tokens(self) -> int:
        return sum(self.limits)


Writing = OwnTexts | Rewriting


def writings(
    recipe: Recipe, rows: TrainSet, fmt: PromptFormat, encoder: Encoder, identity: object
) -> Iterator[Writing]:
    """What a training wants the base to write first. Raises ExperimentError for answers that no words may change."""
    content = {"base": identity, "tokenizer": encoder.identity, "rule": WRITE_VERSION}
    if isinstance(recipe.data, OwnText):
        yield OwnTexts(fingerprint({**content, **recipe.data.written}), recipe.data)
    if isinstance(recipe.answers, RewrittenAnswers):
        if rows.task.is_scored:
            what = f"the answers of {rows.name} are labels or options, which keep their words"
            raise ExperimentError(what, where="train.strategies", allowed="rewrite for data sets of free text only")
        asks = [row for row in rows.examples if not row.whole]
        prompts = asked(fmt, asks, encoder.chat_template)
        golds = [len(ids) for ids in encoder.prompt_for_generation([row.target for row in asks])]
        limits = [max(SHORTEST, LONGER * gold) for gold in golds]
        key = fingerprint({**content, "asked": prompts, "limits": limits, "stop": rows.task.stop})
        yield Rewriting(key, asks, prompts, limits, fmt.chat)

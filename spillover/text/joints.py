"""Texts to ids the way the study's code does it: in parts, which changes tokens where the parts meet.

Soundly, a prompt and its answer are one text and are encoded once (`spillover.text.encode`). The released code encodes
the prompt alone and takes the answer's ids from elsewhere. Where a prompt ends in a space that makes other tokens: the
space stands alone, and what is scored after it is a token that never follows it in the demonstrations. In training its
samples are one text, but the mask has the length of the prompt encoded alone. And it begins texts with more or fewer
beginning-of-sequence tokens than the tokenizer would.

`Joints` says which of this is wanted. Its default asks for nothing, and then these functions are the encoder's own.
Source: the study's `evaluate_cross.py`, `train.py` and `train_ptune.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from .encode import Encoder, Ids, refuse_same

BEFORE_A_LABEL = ":"  # every prompt of the study ends in it, or in a space; a label alone may get a space in front


@dataclass(frozen=True)
class Joints:
    """Where a text is cut before it is encoded, and what stands in front of it. The default is the sound way.

    `prefix`: these ids before every plain text, whatever it begins with; None: as the tokenizer does, never twice.
    `answer_apart`: the prompt is encoded to its last space, without its answer. `head`: the first so many characters
    of a text, its demonstrations, are encoded without the rest.
    """

    prefix: Ids | None = None
    answer_apart: bool = False
    head: int = 0

    def departures(self) -> dict[str, object]:
        """What is not as it is soundly, for keys; empty for the default."""
        return {one.name: value for one in fields(self) if (value := getattr(self, one.name)) != one.default}

    def prompts(self, encoder: Encoder, texts: Sequence[str], chat: bool = False) -> list[Ids]:
        """The ids after which a model writes the answer. All texts have the same head."""
        head, rest, encoder = self._parts(encoder, texts, chat)
        found = _alone(encoder, rest, chat) if self.answer_apart else encoder.prompt_for_generation(rest, chat)
        return [head + ids for ids in found]

    def options(
        self, encoder: Encoder, texts: Sequence[str], labels: Sequence[str], chat: bool = False
    ) -> list[tuple[Ids, tuple[Ids, ...]]]:
        """(prompt ids, ids of each label) for each text. Apart, a label's ids are those that it has behind a colon.

        Raises PromptError where labels cannot be told apart.
        """
        head, rest, encoder = self._parts(encoder, texts, chat)
        if not self.answer_apart:
            return [(head + ids, options) for ids, options in encoder.options_batch(rest, labels, chat)]
        behind = encoder.continuation([BEFORE_A_LABEL] * len(labels), labels)
        options = tuple(ids[start:] for ids, start in behind)
        refuse_same(options, labels)
        return [(head + ids, options) for ids in _alone(encoder, rest, chat)]

    def samples(
        self, encoder: Encoder, texts: Sequence[str], answers: Sequence[str], chat: bool = False
    ) -> list[tuple[Ids, int]]:
        """Text and answer as ids, and the index at which the loss begins: apart, the prompt's own number of tokens."""
        head, rest, encoder = self._parts(encoder, texts, chat)
        rows = encoder.continuation(rest, answers, chat)
        if self.answer_apart:
            rows = [(ids, len(alone)) for (ids, _), alone in zip(rows, _alone(encoder, rest, chat), strict=True)]
        return [(head + ids, len(head) + start) for ids, start in rows]

    def _parts(self, encoder: Encoder, texts: Sequence[str], chat: bool) -> tuple[Ids, Sequence[str], Encoder]:
        """The ids of the head, the rest of each text, and the encoder for that."""
        if self.prefix is not None:
            encoder = encoder.beginning(self.prefix)
        if not self.head or not texts:
            return (), texts, encoder
        return encoder.text_ids(texts[0][: self.head], chat), [t[self.head :] for t in texts], encoder.beginning(())


AS_ONE = Joints()


def _alone(encoder: Encoder, texts: Sequence[str], chat: bool) -> list[Ids]:
    return [ids for ids, _ in encoder.continuation(texts, [""] * len(texts), chat)]

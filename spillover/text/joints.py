"""Where a text is cut before it is encoded, as the protocol wants it.

In the sound protocol a prompt and its answer are one text and are encoded once (`spillover.text.encode`). The study's
code encodes the prompt alone and takes the answer's ids from elsewhere. If the prompt ends in a space, this makes other
tokens: the space is a token alone, and the scored token never follows a lone space in the demonstrations. A training
sample is one text there, but its mask has the length of the prompt encoded alone. And texts begin with more or fewer
beginning-of-sequence tokens (BOS) than the tokenizer would put there.

`Joints` says which of this is wanted. By default nothing is, and its functions are those of the encoder. The switches
are named in `experiment.protocol`. Source: the study's `evaluate_cross.py`, `train.py` and `train_ptune.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from ..experiment.protocol import Protocol
from .encode import Encoder, Ids, refuse_same
from .task import PromptFormat

BEFORE_A_LABEL = ":"  # a label that is encoded apart stands behind it, as the study's prompts end in it or in a space


@dataclass(frozen=True)
class Joints:
    """Where a text is cut before it is encoded, and what stands in front of it. The default is the sound way.

    `prefix`: these ids before every plain text, whatever it begins with; None: as the tokenizer does, never twice.
    `answer_apart`: the prompt is encoded to its last space, without its answer. `head`: so many characters at the
    beginning of a text, its demonstrations, are encoded without the rest.
    """

    prefix: Ids | None = None
    answer_apart: bool = False
    head: int = 0

    @classmethod
    def under(cls, protocol: Protocol, encoder: Encoder, fmt: PromptFormat, head: int, bos: bool = True) -> Joints:
        """The joints of a protocol, for texts of which the demonstrations take `head` characters.

        `bos` matters only with `bos: mixed`: whether the text begins with one BOS. A training sample does, and a prompt
        of a generation task, as vLLM does it. A prompt of a classification task does not (`add_special_tokens=False`).
        The BOS of `format_in_test` is added to this.
        """
        prefix = (encoder.bos_id,) if bos and encoder.bos_id is not None else ()
        as_always = not _mixes_bos(protocol, encoder, fmt) or (prefix == encoder.prefix and not fmt.opening)
        apart = protocol.demo_joint == "apart" and not fmt.chat
        return cls(None if as_always else prefix, protocol.answer_joint == "apart", head if apart else 0)

    def departures(self) -> dict[str, object]:
        """The values that differ from the sound ones, for keys. Empty for the default."""
        return {one.name: value for one in fields(self) if (value := getattr(self, one.name)) != one.default}

    def prompts(self, encoder: Encoder, texts: Sequence[str], chat: bool = False) -> list[Ids]:
        """The ids after which a model writes the answer. All texts have the same head."""
        head, rest, encoder = self._parts(encoder, texts, chat)
        found = _alone(encoder, rest, chat) if self.answer_apart else encoder.prompt_for_generation(rest, chat)
        return [head + ids for ids in found]

    def options(
        self, encoder: Encoder, texts: Sequence[str], labels_of: Sequence[Sequence[str]], chat: bool = False
    ) -> list[tuple[Ids, tuple[Ids, ...]]]:
        """(prompt ids, ids of each of its labels) for each text; without labels, its `prompts` and no options.

        Apart, a label's ids are those behind a colon. Raises PromptError where two labels have the same ids.
        """
        if not any(labels_of):
            return [(ids, ()) for ids in self.prompts(encoder, texts, chat)]
        head, rest, encoder = self._parts(encoder, texts, chat)
        if not self.answer_apart:
            return [(head + ids, options) for ids, options in encoder.options(rest, labels_of, chat)]
        options: dict[tuple[str, ...], tuple[Ids, ...]] = {}
        for labels in {tuple(labels): None for labels in labels_of}:
            behind = encoder.continuation([BEFORE_A_LABEL] * len(labels), labels)
            options[labels] = tuple(ids[start:] for ids, start in behind)
            refuse_same(options[labels], labels)
        alone = zip(_alone(encoder, rest, chat), labels_of, strict=True)
        return [(head + ids, options[tuple(labels)]) for ids, labels in alone]

    def samples(
        self, encoder: Encoder, texts: Sequence[str], answers: Sequence[str], chat: bool = False
    ) -> list[tuple[Ids, int]]:
        """Text and answer as ids, and the index at which the loss begins: apart, the prompt's own number of tokens."""
        head, rest, encoder = self._parts(encoder, texts, chat)
        rows = encoder.continuation(rest, answers, chat)
        if self.answer_apart:
            rows = [(ids, len(alone)) for (ids, _), alone in zip(rows, _alone(encoder, rest, chat), strict=True)]
        return [(head + ids, len(head) + start) for ids, start in rows]

    def begun(self, encoder: Encoder) -> Encoder:
        """The encoder for texts that begin as the protocol wants it."""
        return encoder if self.prefix is None else encoder.beginning(self.prefix)

    def _parts(self, encoder: Encoder, texts: Sequence[str], chat: bool) -> tuple[Ids, Sequence[str], Encoder]:
        """The ids of the head, the rest of each text, and the encoder for the rest."""
        encoder = self.begun(encoder)
        if not self.head or not texts:
            return (), texts, encoder
        return encoder.text_ids(texts[0][: self.head], chat), [t[self.head :] for t in texts], encoder.beginning(())


AS_ONE = Joints()


def format_in_test(protocol: Protocol, fmt: PromptFormat, encoder: Encoder, shots: int) -> PromptFormat:
    """A test's prompt format. With `bos: mixed` a prompt without demonstrations begins with BOS as text."""
    opens = _mixes_bos(protocol, encoder, fmt) and not shots
    return replace(fmt, opening=f"{encoder.bos_text} ") if opens else fmt


def _mixes_bos(protocol: Protocol, encoder: Encoder, fmt: PromptFormat) -> bool:
    return protocol.bos == "mixed" and not fmt.chat and encoder.bos_text is not None


def _alone(encoder: Encoder, texts: Sequence[str], chat: bool) -> list[Ids]:
    return [ids for ids, _ in encoder.continuation(texts, [""] * len(texts), chat)]

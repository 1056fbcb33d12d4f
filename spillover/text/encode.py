"""Text to token ids, and where in them the answer begins.

A tokenizer does not see the joint between prompt and answer. Encoded separately, "Sentiment: " and "positive" give
other ids than the one text "Sentiment: positive", in which the space belongs to the answer's first token. A model that
is trained on one and scored on the other is scored on text it has never seen. So prompt and answer are always encoded
once, together, and the character spans of the tokens tell where the answer begins: at the first token whose span
reaches into it. Training masks, scored labels and generation prompts follow this one rule.

Spans are those of the `tokenizers` library, in characters of the given text, whatever its normaliser does.
Post-processors are removed, because they trim spaces from spans and append tokens. The beginning-of-sequence token that
they or the tokenizer's settings require is put in front here, once. `AutoTokenizer` would import torch, so it is not
used.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import accumulate, groupby, islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tokenizers import Encoding, Tokenizer

from ..disk import file_sha256
from ..errors import ModelError, PromptError
from ..fingerprint import fingerprint
from .chat import ChatTemplate
from .request import StopRule
from .settings import NO_LIMIT, Ids, Settings, read_tokenizer
from .stops import BLANK_LINE, STOPS, holds
from .words import Beginnings

BATCH_CHARACTERS = 4_000_000  # encoded at a time: an Encoding takes about 100 bytes a token
NOTHING: Mapping[str, Any] = MappingProxyType({})
SEPARATORS = ("<|endoftext|>", "<|end_of_text|>")  # what pretraining puts between documents


@dataclass(frozen=True)
class Encoder:
    """A tokenizer with the settings in its model's files.

    `identity` is a fingerprint of everything that decides the ids, and where an answer ends. `eos_id` ends training
    samples, and `turn_end` those of chat text: it is the token that the chat template writes there. Each of `eos_ids`
    ends generation. `max_context` is in tokens. `prefix` is what plain text begins with: the beginning-of-sequence id,
    or nothing. `repeats` puts it even before a text that begins with it already. `beyond` are the ids for which the
    model has no embedding, whose number is `embeddings`. Two are as in lm-evaluation-harness:
    `stand_in` stands for an empty context, and `ends_of_generate` end what its tasks let a model write.
    """

    tokenizer: Tokenizer = field(repr=False, compare=False)
    identity: str
    bos_id: int | None
    eos_id: int
    turn_end: int
    eos_ids: frozenset[int]
    max_context: int
    prefix: Ids
    stand_in: int
    chat_template: ChatTemplate | None = field(repr=False, compare=False)
    ends_of_generate: frozenset[int] = field(default=frozenset(), repr=False)
    embeddings: int | None = None
    beyond: frozenset[int] = field(default=frozenset(), repr=False)
    repeats: bool = False

    @classmethod
    def load(cls, folder: Path, chat_template_kwargs: Mapping[str, Any] = NOTHING) -> Encoder:
        """The encoder of a model folder. Raises ModelError where tokenizer.json is missing or has no end token."""
        path = folder / "tokenizer.json"
        tokenizer = read_tokenizer(path)
        settings = Settings(folder, tokenizer)
        bos_id, ends = settings.special_id("bos"), settings.end_ids()
        prefix, template = settings.prefix(bos_id), settings.chat_template(chat_template_kwargs)
        turn_end = template.end_of_turn(tokenizer) if template else None
        if turn_end is not None:
            ends.append(turn_end)
        if not ends:
            raise ModelError("the tokenizer has no end-of-sequence token", where=str(folder))
        turn_end = ends[0] if turn_end is None else turn_end
        embeddings = settings.embeddings()
        content = [file_sha256(path), bos_id, ends[0], turn_end, sorted(set(ends)), prefix]
        return cls(
            tokenizer=_bare(tokenizer),
            identity=fingerprint([*content, template and template.source]),
            bos_id=bos_id,
            eos_id=ends[0],
            turn_end=turn_end,
            eos_ids=frozenset(ends),
            max_context=settings.max_context(),
            prefix=prefix,
            stand_in=settings.stand_in(ends[0]),
            chat_template=template,
            ends_of_generate=frozenset(settings.ends_of_generate()),
            embeddings=embeddings,
            beyond=frozenset(one for one in tokenizer.get_vocab().values() if embeddings and one >= embeddings),
        )

    def of_variant(self, folder: Path) -> Encoder:
        """The encoder of a checkpoint or adapter of this model. What its folder lacks is the model's.

        The model's end tokens end its answers too: trainers often save a tokenizer without generation_config.json.
        """
        path = folder / "tokenizer.json"
        has_own = path.is_file()
        tokenizer = read_tokenizer(path) if has_own else self.tokenizer
        settings = Settings(folder, tokenizer)
        template = settings.chat_template(NOTHING, beside=self.chat_template)
        turn_end = template.end_of_turn(tokenizer) if template else None
        ends = self.eos_ids.union(settings.end_ids(), [] if turn_end is None else [turn_end])
        prefix = settings.prefix(settings.special_id("bos")) if has_own else self.prefix
        content = [self.identity, file_sha256(path) if has_own else None, sorted(ends), prefix]
        return replace(
            self,
            tokenizer=_bare(tokenizer),
            identity=fingerprint(content),
            eos_ids=ends,
            max_context=min(self.max_context, settings.positions() or NO_LIMIT),
            prefix=prefix,
            stand_in=settings.stand_in(self.eos_id) if has_own else self.stand_in,
            chat_template=template or self.chat_template,
            ends_of_generate=self._generate_ends_at(settings, has_own),
        )

    def _generate_ends_at(self, settings: Settings, has_own: bool) -> frozenset[int]:
        """What `generate` ends at with a variant. Without a tokenizer of its own, it has the model's with its end."""
        if not settings.model:
            return self.ends_of_generate
        return frozenset([*settings.ends_of_generate(), *([] if has_own else [self.eos_id])])

    def end_of(self, chat: bool) -> int:
        """The token behind the answer of a training sample."""
        return self.turn_end if chat else self.eos_id

    def refuse_beyond(self, ids: Iterable[int], where: str) -> None:
        """Raises PromptError for an id without an embedding."""
        if self.beyond and (found := self.beyond.intersection(ids)):
            token = f"token {self.tokenizer.id_to_token(min(found))!r} has the id {min(found):,}"
            what = f"{where}: {token}, and the model has embeddings for {self.embeddings:,} tokens"
            raise PromptError(what, allowed="a tokenizer that fits vocab_size in config.json")

    @property
    def separator(self) -> int:
        """The token that stands between documents: what plain text begins with, else the usual one, else EOS.

        It is not always BOS: that of SmolLM2 opens a turn of a chat.
        """
        known = (self.tokenizer.token_to_id(text) for text in SEPARATORS)
        return next((token for token in (*self.prefix[-1:], *known) if token is not None), self.eos_id)

    @property
    def bos_text(self) -> str | None:
        """The text that is read as the beginning-of-sequence token; None if there is none."""
        text = None if self.bos_id is None else self.tokenizer.id_to_token(self.bos_id)
        read = text and self.tokenizer.encode(text, add_special_tokens=False).ids
        return text if read == [self.bos_id] else None

    def beginning(self, prefix: Ids) -> Encoder:
        """The same tokenizer, with `prefix` before every plain text, whatever the text begins with."""
        return replace(self, prefix=prefix, repeats=True)

    def text_ids(self, text: str, chat: bool = False) -> Ids:
        """The ids of a text. Plain text begins with BOS where the tokenizer does that; chat text brings its own."""
        return self._ids(self.tokenizer.encode(text, add_special_tokens=False), chat)[0]

    def continuation(self, prompts: Sequence[str], answers: Sequence[str], chat: bool = False) -> list[tuple[Ids, int]]:
        """For each prompt + answer, encoded together: its ids, and the index at which the answer begins.

        The answer begins at the first token whose span reaches into it. A token with the prompt's end and the answer's
        beginning belongs to the answer. An empty answer begins at the end.
        """
        texts = [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)]
        rows = []
        for prompt, encoding in zip(prompts, self.encodings(texts), strict=True):
            ids, shift = self._ids(encoding, chat)
            rows.append((ids, shift + _tokens_before(encoding, len(prompt))))
        return rows

    def with_answers(
        self, text: str, answers: Sequence[tuple[int, int]], chat: bool = False
    ) -> tuple[Ids, list[tuple[int, int]]]:
        """The ids of a text with several answers in it, and from which to which of them each answer reaches.

        `answers` are in characters. A token that reaches into an answer belongs to it, as in `continuation`. In chat
        text, so does the token that ends the turn.
        """
        encoding = self.tokenizer.encode(text, add_special_tokens=False)
        ids, shift = self._ids(encoding, chat)
        reached = []
        for begin, end in answers:
            first = last = shift + _tokens_before(encoding, begin)
            while last < len(ids) and encoding.offsets[last - shift][0] < end:
                last += 1
            last += chat and last < len(ids) and ids[last] == self.turn_end
            reached.append((first, last))
        return ids, reached

    def prompt_for_generation(self, prompts: Sequence[str], chat: bool = False) -> list[Ids]:
        """The ids after which a model writes the answer: those that stand before an answer in `continuation`.

        The model writes the spaces at the prompt's end, because most tokenizers put them into the answer's first token.
        """
        return [self._ids(one, chat)[0] for one in self.encodings([prompt.rstrip(" ") for prompt in prompts])]

    def options(
        self, prompts: Sequence[str], labels_of: Sequence[Sequence[str]], chat: bool = False
    ) -> list[tuple[Ids, tuple[Ids, ...]]]:
        """For each prompt, the ids that prompt + label share for all its labels, and what each label adds to them.

        The shared part ends before the first token of any label. So an option may begin with the prompt's last token
        if another label is joined to it. Raises PromptError where two labels have the same ids, where a label has none,
        or where nothing comes before the labels.
        """
        texts = [prompt for prompt, labels in zip(prompts, labels_of, strict=True) for _ in labels]
        rows = iter(self.continuation(texts, [label for labels in labels_of for label in labels], chat))
        return [_split([*islice(rows, len(labels))], labels) for labels in labels_of]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, without special tokens."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=True)

    def beginnings(self, labels: Sequence[str]) -> Ids:
        """The tokens that may begin a text that spells a label: see `words.Beginnings`."""
        return _beginnings(self, tuple(labels))

    def special(self, texts: Iterable[str]) -> dict[str, int]:
        """Those of the texts that are special tokens, which `decode` leaves out, and their ids."""
        added = self.tokenizer.get_added_tokens_decoder()
        known = {token.content: number for number, token in added.items() if token.special}
        return {text: known[text] for text in texts if text in known}

    def stop_rule(self, stops: Sequence[str] = STOPS) -> StopRule:
        """Stops as soon as the generated text holds one of these texts, whatever its tokens are."""
        tokens = frozenset(self.special(stops).values())
        return lambda ids: not tokens.isdisjoint(ids[-1:]) or holds(self.decode(ids), stops)

    def encodings(self, texts: Sequence[str]) -> Iterator[Encoding]:
        """Encode many texts on all cores, some at a time."""
        characters = accumulate(map(len, texts))
        for _, batch in groupby(zip(texts, characters, strict=True), key=lambda pair: pair[1] // BATCH_CHARACTERS):
            yield from self.tokenizer.encode_batch([text for text, _ in batch], add_special_tokens=False)

    def _ids(self, encoding: Encoding, chat: bool) -> tuple[Ids, int]:
        """The ids with the prefix, and the length of what was added: none if the text already begins with it."""
        ids = tuple(encoding.ids)
        if chat or (not self.repeats and ids[: len(self.prefix)] == self.prefix):
            return ids, 0
        return self.prefix + ids, len(self.prefix)


@lru_cache(maxsize=20_000)  # options of rows, which each shot count and each variant asks for again
def _beginnings(encoder: Encoder, labels: tuple[str, ...]) -> Ids:
    return _vocabulary(encoder).begin(labels)


@lru_cache(maxsize=4)
def _vocabulary(encoder: Encoder) -> Beginnings:
    ids = range(encoder.tokenizer.get_vocab_size())
    texts = encoder.tokenizer.decode_batch([[number] for number in ids], skip_special_tokens=True)
    may = ((number, text) for number, text in zip(ids, texts, strict=True) if BLANK_LINE not in text)
    return Beginnings((number, text) for number, text in may if number not in encoder.eos_ids)


def _bare(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer without what it does to whole texts. A tokenizer.json may carry the limits of its last use."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.post_processor = None
    return tokenizer


def _tokens_before(encoding: Encoding, character: int) -> int:
    """How many tokens end at or before `character`. Counted from the end, because the answer is short."""
    count = len(encoding)
    while count and (span := encoding.token_to_chars(count - 1)) is not None and span[1] > character:
        count -= 1
    return count


def refuse_same(ids_of: Sequence[Ids], labels: Sequence[str]) -> None:
    """Raises PromptError for a label without tokens, and for two labels with the same tokens."""
    label_of: dict[Ids, str] = {}
    for ids, label in zip(ids_of, labels, strict=True):
        if not ids:
            raise PromptError(f"label {label!r} has no tokens")
        if ids in label_of:
            raise PromptError(f"labels {label_of[ids]!r} and {label!r} are the same tokens and cannot be told apart")
        label_of[ids] = label


def _split(rows: Sequence[tuple[Ids, int]], labels: Sequence[str]) -> tuple[Ids, tuple[Ids, ...]]:
    """The shared prompt and the options of one row, from the (ids, start) of each label."""
    refuse_same([ids if start < len(ids) else () for ids, start in rows], labels)
    # Every label has a token at or after its start, so an option is never empty.
    end = min(start for _, start in rows)
    first = rows[0][0]
    shared = next((i for i in range(end) if any(ids[i] != first[i] for ids, _ in rows)), end)
    if not shared:
        raise PromptError("nothing stands before the labels: the prompt is empty, or one token with the answer")
    return first[:shared], tuple(ids[shared:] for ids, _ in rows)

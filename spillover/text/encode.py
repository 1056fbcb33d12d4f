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

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache, partial
from itertools import accumulate, groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import Encoding, Tokenizer

from ..disk import file_sha256
from ..errors import ModelError, PromptError
from ..fingerprint import fingerprint
from .prompt import ChatTemplate
from .request import StopRule
from .words import may_begin_label

if TYPE_CHECKING:
    from jinja2 import Template

Ids = tuple[int, ...]

BLANK_LINE = "\n\n"
NO_LIMIT = 1 << 30  # the context of a model that states none
BATCH_CHARACTERS = 4_000_000  # encoded at a time: an Encoding takes about 100 bytes a token
# The date of today for chat templates: prompts, and with them keys, must not change overnight.
TEMPLATE_DATE = datetime(2024, 7, 26)


def cut(text: str) -> str:
    """The answer in generated text: everything before the first blank line, stripped."""
    return text.partition(BLANK_LINE)[0].strip()


@dataclass(frozen=True)
class Encoder:
    """A tokenizer with the settings in its model's files.

    `identity` is a fingerprint of everything that decides the ids. `eos_id` ends training samples; each of `eos_ids`
    ends generation. `max_context` is in tokens. `prefix` is what plain text begins with: the beginning-of-sequence id,
    or nothing. `repeats` puts it even before a text that begins with it already.
    """

    tokenizer: Tokenizer = field(repr=False, compare=False)
    identity: str
    bos_id: int | None
    eos_id: int
    eos_ids: frozenset[int]
    max_context: int
    prefix: Ids
    chat_template: ChatTemplate | None = field(repr=False, compare=False)
    repeats: bool = False

    @classmethod
    def load(cls, folder: Path) -> Encoder:
        """The encoder of a model folder. Raises ModelError where tokenizer.json is missing or has no end token."""
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise ModelError("no tokenizer.json", where=str(folder))
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises plain Exception
            raise ModelError(f"cannot be read: {' '.join(str(error).split())}", where=str(path)) from None
        settings = _Settings(folder, tokenizer)
        bos_id, (eos_id, eos_ids) = settings.special_id("bos"), settings.end_ids()
        prefix, template = settings.prefix(bos_id), settings.chat_template()
        # A tokenizer.json may carry the truncation and padding of its last use.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.post_processor = None
        return cls(
            tokenizer=tokenizer,
            identity=fingerprint([file_sha256(path), bos_id, eos_id, sorted(eos_ids), prefix, template]),
            bos_id=bos_id,
            eos_id=eos_id,
            eos_ids=eos_ids,
            max_context=settings.max_context(),
            prefix=prefix,
            chat_template=None if template is None else partial(_from_messages, template, settings.special_tokens),
        )

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
        for prompt, encoding in zip(prompts, self._encodings(texts), strict=True):
            ids, shift = self._ids(encoding, chat)
            rows.append((ids, shift + _tokens_before(encoding, len(prompt))))
        return rows

    def prompt_for_generation(self, prompts: Sequence[str], chat: bool = False) -> list[Ids]:
        """The ids after which a model writes the answer: those that stand before an answer in `continuation`.

        The model writes the spaces at the prompt's end, because most tokenizers put them into the answer's first token.
        """
        return [self._ids(one, chat)[0] for one in self._encodings([prompt.rstrip(" ") for prompt in prompts])]

    def options(
        self, prompts: Sequence[str], labels: Sequence[str], chat: bool = False
    ) -> list[tuple[Ids, tuple[Ids, ...]]]:
        """For each prompt, the ids that prompt + label share for all labels, and what each label adds to them.

        The shared part ends before the first token of any label. So an option may begin with the prompt's last token
        if another label is joined to it. Raises PromptError where two labels have the same ids, where a label has none,
        or where nothing comes before the labels.
        """
        texts = [prompt for prompt in prompts for _ in labels]
        rows = self.continuation(texts, list(labels) * len(prompts), chat)
        return [_split(rows[at : at + len(labels)], labels) for at in range(0, len(rows), len(labels))]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, without special tokens."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=True)

    def beginnings(self, labels: Sequence[str]) -> Ids:
        """The tokens that may begin a text that spells a label: see `words.may_begin_label`."""
        return _beginnings(self, tuple(labels))

    def stop_rule(self) -> StopRule:
        """Stops as soon as the generated text contains a blank line, whatever its tokens are."""
        return lambda ids: BLANK_LINE in self.decode(ids)

    def _encodings(self, texts: Sequence[str]) -> Iterator[Encoding]:
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


@lru_cache(maxsize=64)
def _beginnings(encoder: Encoder, labels: tuple[str, ...]) -> Ids:
    ids = range(encoder.tokenizer.get_vocab_size())
    texts = encoder.tokenizer.decode_batch([[number] for number in ids], skip_special_tokens=True)
    begins = (number for number, text in zip(ids, texts, strict=True) if may_begin_label(text, labels))
    return tuple(number for number in begins if number not in encoder.eos_ids and BLANK_LINE not in texts[number])


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


# --- settings beside tokenizer.json ---------------------------------------------------------------


class _Settings:
    """The JSON files of a model folder about its tokenizer. A missing file is {}."""

    def __init__(self, folder: Path, tokenizer: Tokenizer) -> None:
        self.folder, self.tokenizer = folder, tokenizer
        model = _read_json(folder / "config.json")
        self.model = {**model, **(model.get("text_config") or {})}  # of a multimodal model, the part for text
        names = ("special_tokens_map.json", "tokenizer_config.json")
        self.config = {key: value for name in names for key, value in _read_json(folder / name).items()}
        # Special tokens by role ("bos_token"): a string or {"content": string}.
        contents = {role: one.get("content") if isinstance(one, dict) else one for role, one in self.config.items()}
        self.special_tokens = {
            role: token for role, token in contents.items() if role.endswith("_token") and isinstance(token, str)
        }

    def special_id(self, role: str) -> int | None:
        """The id of "bos" or "eos": the tokenizer's, else that in the model's configuration."""
        if token := self.special_tokens.get(f"{role}_token"):
            return self.tokenizer.token_to_id(token)
        return next(iter(_as_list(self.model.get(f"{role}_token_id"))), None)

    def end_ids(self) -> tuple[int, frozenset[int]]:
        """The id that ends training samples (the tokenizer's), and all that end generation."""
        listed = _as_list(_read_json(self.folder / "generation_config.json").get("eos_token_id"))
        eos_id = self.special_id("eos")
        ids = listed if eos_id is None else [eos_id, *listed]
        if not ids:
            raise ModelError("the tokenizer has no end-of-sequence token", where=str(self.folder))
        return ids[0], frozenset(ids)

    def prefix(self, bos_id: int | None) -> Ids:
        """What the tokenizer puts before plain text.

        As in transformers, a stated `add_bos_token` decides. Else the post-processor of tokenizer.json does, which is
        tried on a word. Tokens that it appends (EOS, in encoders) are no part of a prompt.
        """
        stated = self.config.get("add_bos_token")
        if stated is not None:
            return (bos_id,) if stated and bos_id is not None else ()
        probe = self.tokenizer.encode("a")
        text = [i for i, special in enumerate(probe.special_tokens_mask) if not special]
        return tuple(probe.ids[: text[0]]) if text else ()

    def max_context(self) -> int:
        names = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length")
        stated = [self.model.get(name) for name in names] + [self.config.get("model_max_length")]  # 1e30: unknown
        return min(next((limit for limit in stated if isinstance(limit, int)), NO_LIMIT), NO_LIMIT)

    def chat_template(self) -> str | None:
        """The chat template's source: its own file, or a string or named list in tokenizer_config.json."""
        path = self.folder / "chat_template.jinja"
        if path.is_file():
            return path.read_text("utf-8")
        template = self.config.get("chat_template")
        if isinstance(template, list):
            template = {entry["name"]: entry["template"] for entry in template}.get("default")
        return template if isinstance(template, str) else None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ModelError(f"not JSON: {error}", where=str(path)) from None
    return value if isinstance(value, dict) else {}


def _as_list(ids: Any) -> list[int]:
    return [one for one in (ids if isinstance(ids, list) else [ids]) if isinstance(one, int)]


# --- chat templates -------------------------------------------------------------------------------


def _from_messages(source: str, special_tokens: dict[str, str], messages: list[dict[str, str]]) -> str:
    """Messages to text, up to where the assistant's answer begins."""
    from jinja2 import TemplateError

    try:
        return _compile(source).render(
            messages=messages, tools=None, documents=None, add_generation_prompt=True, **special_tokens
        )
    except TemplateError as error:  # a syntax error, or raised by the template: "no system role"
        raise PromptError(f"the tokenizer's chat template refuses: {' '.join(str(error).split())}") from None


@lru_cache(maxsize=8)
def _compile(source: str) -> Template:
    """A template in a sandbox, with the functions that transformers gives to chat templates."""
    import jinja2
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """{% generation %} marks the assistant's text, for masks. Here only its content counts."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def raise_exception(message: str) -> None:
        raise jinja2.TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = partial(json.dumps, ensure_ascii=False)  # jinja's own filter escapes for HTML
    environment.globals |= {"raise_exception": raise_exception, "strftime_now": TEMPLATE_DATE.strftime}
    return environment.from_string(source)

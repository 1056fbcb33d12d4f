"""The files of a model folder about its tokenizer: special tokens, the tokens that end an answer, the context.

Each of these is stated in several files, and the files of one model do not always agree. Where an answer ends is the
union of all that they say: the end token of the tokenizer, `eos_token_id` of generation_config.json and of config.json,
and the token that the chat template writes after an answer. Trainers often save only some of these files.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from ..disk import from_json
from ..errors import ModelError
from .chat import ChatTemplate

Ids = tuple[int, ...]

# Classes of transformers whose tokenizers have no beginning-of-sequence token unless their files name one.
CLASSES_WITHOUT_BOS = {"PreTrainedTokenizerFast", "TokenizersBackend", "Qwen2Tokenizer", "Qwen2TokenizerFast"}
NO_LIMIT = 1 << 30  # the context of a model that states none
MOST_ID = (1 << 31) - 1


def read_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a tokenizer.json. Raises ModelError."""
    if not path.is_file():
        raise ModelError("no tokenizer.json", where=str(path.parent))
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exception
        raise ModelError(f"cannot be read: {' '.join(str(error).split())[:200]}", where=str(path)) from None


class Settings:
    """The JSON files of a model folder about its tokenizer, which is `tokenizer`. A missing file is {}."""

    def __init__(self, folder: Path, tokenizer: Tokenizer) -> None:
        self.folder, self.tokenizer = folder, tokenizer
        model = _read_json(folder / "config.json")
        of_text = model.get("text_config")  # of a multimodal model, the part for text
        self.levels = [model, of_text if isinstance(of_text, dict) else {}]
        self.model = {**self.levels[0], **self.levels[1]}
        config, roles = _read_json(folder / "tokenizer_config.json"), _read_json(folder / "special_tokens_map.json")
        # As in transformers: the second file counts where the first has no list of tokens, as older programs wrote it.
        self.config = {**roles, **config} if "added_tokens_decoder" in config else {**config, **roles}
        self.special_tokens = _by_role(self.config)
        self.ends = [_by_role(file).get("eos_token") for file in (self.config, config, roles)]

    def special_id(self, role: str) -> int | None:
        """The id of "bos" or "eos": the tokenizer's, else that in the model's configuration."""
        if token := self.special_tokens.get(f"{role}_token"):
            return self.tokenizer.token_to_id(token)
        return next(iter(_as_list(self.model.get(f"{role}_token_id"))), None)

    def end_ids(self) -> list[int]:
        """The ids that end an answer by the files of the folder. The tokenizer's is the first."""
        named = [self.special_id("eos"), *(self.tokenizer.token_to_id(token) for token in self.ends if token)]
        stated = [_read_json(self.folder / "generation_config.json"), *self.levels]
        listed = [one for config in stated for one in _as_list(config.get("eos_token_id"))]
        return list(dict.fromkeys([*(one for one in named if one is not None), *listed]))

    def ends_of_generate(self) -> list[int]:
        """The ids at which `generate` of transformers ends, and lm-evaluation-harness with it.

        They are the tokenizer's, and those of generation_config.json; without such a file those of config.json.
        """
        path = self.folder / "generation_config.json"
        eos_id = self.special_id("eos")
        stated = _read_json(path) if path.is_file() else self.model
        return [*([] if eos_id is None else [eos_id]), *_as_list(stated.get("eos_token_id"))]

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

    def stand_in(self, eos_id: int) -> int:
        """What stands for an empty context in lm-evaluation-harness: the tokenizer's own BOS, or EOS without one.

        That in config.json counts only if the files of the tokenizer are silent and its class may have one of its own.
        """
        silent = "bos_token" not in self.config and self.config.get("tokenizer_class") not in CLASSES_WITHOUT_BOS
        token = self.special_tokens.get("bos_token")
        bos_id = self.special_id("bos") if silent else token and self.tokenizer.token_to_id(token)
        return eos_id if bos_id is None else int(bos_id)

    def positions(self) -> int | None:
        """The longest text that the model's configuration states."""
        names = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length")
        return next((limit for name in names if isinstance(limit := self.model.get(name), int)), None)

    def max_context(self) -> int:
        stated = (self.positions(), self.config.get("model_max_length"))  # 1e30: unknown
        return min(next((limit for limit in stated if isinstance(limit, int)), NO_LIMIT), NO_LIMIT)

    def embeddings(self) -> int | None:
        """The number of tokens that the model has embeddings for."""
        return next(iter(_as_list(self.model.get("vocab_size"))), None)

    def chat_template(self, kwargs: Mapping[str, Any], beside: ChatTemplate | None = None) -> ChatTemplate | None:
        """The chat template: its own file, or a string or named list in tokenizer_config.json.

        A variant's is `beside` the base's, which has the values that the variant's folder does not state.
        """
        tokens = {**(beside.special_tokens if beside else {}), **self.special_tokens}
        kwargs = beside.kwargs if beside else kwargs
        path = self.folder / "chat_template.jinja"
        source = self.config.get("chat_template")
        if isinstance(source, list):
            named = [one for one in source if isinstance(one, dict) and one.get("name") == "default"]
            source = named[-1].get("template") if named else None
        if path.is_file():
            try:
                source = path.read_text("utf-8")
            except UnicodeDecodeError as error:
                raise ModelError(f"cannot be read: {error}", where=str(path)) from None
        return ChatTemplate(source, tokens, kwargs) if isinstance(source, str) else None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = from_json(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ModelError(f"not JSON: {error}", where=str(path)) from None
    return value if isinstance(value, dict) else {}


def _by_role(file: Mapping[str, Any]) -> dict[str, str]:
    """Special tokens by role ("bos_token"). The file has a string or {"content": string}."""
    contents = {role: one.get("content") if isinstance(one, dict) else one for role, one in file.items()}
    return {role: one for role, one in contents.items() if role.endswith("_token") and isinstance(one, str)}


def _as_list(ids: Any) -> list[int]:
    """Those that can be ids: some configurations say -1 for none."""
    return [one for one in (ids if isinstance(ids, list) else [ids]) if type(one) is int and 0 <= one <= MOST_ID]

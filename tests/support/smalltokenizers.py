"""Small tokenizers of each kind there is, trained on a few lines, and their files as a model folder has them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors, trainers
from tokenizers import models as bpe

CORPUS = [
    "The relation is entailment neutral contradiction.",
    "### Sentiment: positive negative\n\n### Input:\nthe film was fine and the café too",
    "one fish two fish 12 34 and so on, naïve résumé 名前 😀",
] * 4


def byte_level(**options: Any) -> Tokenizer:
    """As GPT-2, Llama 3, Qwen."""
    tokenizer = Tokenizer(bpe.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return trained(tokenizer, initial_alphabet=alphabet, **options)


def byte_level_without_words() -> Tokenizer:
    """Tokens may end in spaces, which a post-processor with trim_offsets takes off their spans."""
    tokenizer = Tokenizer(bpe.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    return trained(tokenizer, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())


def metaspace() -> Tokenizer:
    """As Llama 2, Mistral and Gemma: sentencepiece BPE with bytes for what it does not know, BOS in front."""
    tokenizer = Tokenizer(bpe.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer = trained(tokenizer)
    learnt = json.loads(tokenizer.to_str())["model"]
    vocab = learnt["vocab"] | {f"<0x{byte:02X}>": len(learnt["vocab"]) + byte for byte in range(256)}
    merges = [(left, right) for left, right in learnt["merges"]]
    tokenizer.model = bpe.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return tokenizer


def trained(tokenizer: Tokenizer, **options: Any) -> Tokenizer:
    options = {"vocab_size": 500, "special_tokens": ["<unk>", "<s>", "</s>"], **options}
    tokenizer.train_from_iterator(CORPUS, trainers.BpeTrainer(show_progress=False, **options))
    return tokenizer


KINDS: dict[str, Callable[[], Tokenizer]] = {
    "byte_level": byte_level,
    "byte_level_without_words": byte_level_without_words,
    "metaspace": metaspace,
}


def write(folder: Path, tokenizer: Tokenizer, **config: Any) -> Path:
    folder.mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"bos_token": "<s>", "eos_token": {"content": "</s>"}, **config}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 128}))
    return folder

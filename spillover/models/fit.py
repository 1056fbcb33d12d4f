"""What a model folder is, and whether an adapter fits its base: as far as configurations and file headers tell.

Nothing here loads a model, so a wrong folder is refused before anything is computed. `engine.load` sees the rest when
the weights are loaded. Three kinds of models are refused, because their scores would mean nothing: a checkpoint with
another head, an encoder, whose tokens see the later ones, and an encoder-decoder. A checkpoint with more or fewer
layers than its configuration is refused too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..disk import from_json
from ..errors import ModelError
from .tensors import Stored

Config = Mapping[str, Any]

# Kinds of PEFT adapters that are tested here. Others change the model in another way, or need more than token ids.
KINDS: tuple[str, ...] = ("LORA", "ADALORA", "BOFT", "C3A", "DEFT", "DELORA", "FOURIERFT", "GLORA", "GRALORA", "HIRA")
KINDS += ("HRA", "IA3", "LN_TUNING", "LOHA", "LOKR", "MISS", "OFT", "OSF", "PEANUT", "PSOFT", "RANDLORA", "ROAD")
KINDS += ("SHIRA", "TRAINABLE_TOKENS", "VBLORA", "VERA", "WAVEFT")
# Options of LoRA that need more than a layer's own weights and input, or that change the base.
OTHER_LORA: tuple[str, ...] = (
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "layer_replication",
    "megatron_config",
)
OTHER_LORA += ("monteclora_config", "use_bdlora", "use_qalora")
OTHER_TASKS = {"SEQ_CLS": "sequence classification", "TOKEN_CLS": "token classification"}
OTHER_TASKS |= {"QUESTION_ANS": "question answering", "SEQ_2_SEQ_LM": "an encoder-decoder"}
# Types whose tokens see later ones unless `is_decoder` is set; as a test shows, those of transformers.
ENCODERS = {"bert", "big_bird", "camembert", "data2vec-text", "electra", "ernie", "megatron-bert", "reformer"}
ENCODERS |= {
    "rembert",
    "roberta",
    "roberta-prelayernorm",
    "roc_bert",
    "roformer",
    "xlm-roberta",
    "xlm-roberta-xl",
    "xmod",
}

LAYER = re.compile(r"(?:^|\.)(?:layers?|h|blocks?)\.(\d+)\.")
EMBEDDINGS = re.compile(r"(embed_tokens|embed_in|word_embeddings|wte|lm_head|embed_out)\.(base_layer\.)?weight$")
OTHER_TOWERS = re.compile(r"vision|visual|audio|image")
NUMBER_OF_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")


def check_kind(config: Config, where: str) -> None:
    """Raise ModelError for a checkpoint that is no causal language model. Unknown architectures pass."""
    listed = config.get("architectures")
    names = [name for name in (listed if isinstance(listed, list) else ()) if isinstance(name, str)]
    tasks = [
        re.sub(r"(?<=[a-z])(?=[A-Z])", " ", found[1]) for name in names if (found := re.search(r"For(\w+)$", name))
    ]
    kind = None
    if config.get("is_encoder_decoder"):
        kind = "an encoder-decoder"
    elif tasks and not any(re.search("CausalLM|Generation", name) for name in names):
        kind = f"a model for {tasks[0].replace('LM', 'language modelling').lower()}"
    elif str(config.get("model_type")) in ENCODERS and not config.get("is_decoder"):
        kind = "an encoder, whose tokens see the later ones: config.json does not set is_decoder"
    if kind:
        of = names[0] if names else config.get("model_type")
        raise ModelError(f"{of} is {kind}", where=where, allowed="give a causal language model, which continues a text")


def check_layers(config: Config, names: Iterable[str], where: str) -> None:
    """Raise ModelError if the tensors are of more or fewer layers than the configuration has."""
    wanted, stored = number_of_layers(config), layers_of(names)
    extra = any(re.search("nextn|mtp", key) and value for key, value in _of_text(config).items())
    if wanted is None or not stored or wanted == stored or (extra and stored > wanted):
        return
    what = f"its weights are of {stored} layers, and its config.json says {wanted}"
    raise ModelError(what, where=where, allowed="give weights and configuration of one model")


def number_of_layers(config: Config) -> int | None:
    found = [_of_text(config).get(name) for name in NUMBER_OF_LAYERS]
    return next((number for number in found if isinstance(number, int)), None)


def layers_of(names: Iterable[str]) -> int:
    """How many layers tensors of these names belong to: the highest number and one."""
    numbers = [int(found[1]) for name in names if not OTHER_TOWERS.search(name) and (found := LAYER.search(name))]
    return max(numbers, default=-1) + 1


def check_adapter(config: Config, where: str) -> None:
    """Raise ModelError for an adapter of a kind that is not supported, or of another task."""
    kind, task = config.get("peft_type"), str(config.get("task_type"))
    if kind not in KINDS:
        raise ModelError(f"an adapter of the kind {kind} is not supported", where=where, allowed=", ".join(KINDS))
    if option := next((name for name in OTHER_LORA if config.get(name)), None):
        raise ModelError(f"an adapter with {option} is not supported", where=where, allowed="LoRA without it")
    if task in OTHER_TASKS:
        what = f"an adapter for {OTHER_TASKS[task]} ({task}) makes no language model"
        raise ModelError(what, where=where, allowed="task_type CAUSAL_LM")


def check_fits(
    adapter: Mapping[str, Stored], config: Config, base: Mapping[str, Stored], base_config: Config, where: str
) -> None:
    """Raise ModelError for an adapter of another model: one with more layers, or with layers of another size.

    `adapter` and `base` are the stored tensors, as far as they are in safetensors here.
    """
    wanted, stored = number_of_layers(base_config), layers_of(adapter)
    if wanted is not None and stored > wanted:
        what = f"the adapter was made for a model of {stored} layers or more, and the base has {wanted}"
        raise ModelError(what, where=where, allowed="give an adapter of the model under `model`")
    if config.get("peft_type") != "LORA":
        return
    weights = {_own(name): weight for name, weight in base.items()}
    for name, a in adapter.items():
        module = name.removesuffix(".lora_A.weight")
        b, weight = adapter.get(f"{module}.lora_B.weight"), weights.get(f"{_own(module)}.weight")
        if module == name or b is None or weight is None or not weight.is_float or len(weight.shape) != 2:
            continue
        made_for = (b.shape[0], a.shape[-1])
        if sorted(made_for) != sorted(weight.shape) and "lm_head" not in module:  # tokens may have been added
            what = f"the adapter was made for another model: {_own(module)} is {_by(weight.shape)} in the base, "
            what += f"{_by(made_for)} in the adapter"
            raise ModelError(what, where=where, allowed="give an adapter of the model under `model`")


def check_vocabulary(
    tokens: int, adapter: Mapping[str, Stored], config: Config, rows: int, base_tokens: int, where: str
) -> None:
    """Raise ModelError for an adapter whose tokenizer has tokens that no embedding is stored for.

    `tokens` are those of its tokenizer, `rows` and `base_tokens` the base's.
    """
    stored = stored_rows({name: weight.shape for name, weight in adapter.items()})
    named = max(named_tokens(config), default=-1) + 1
    if adapter and tokens > max(rows, base_tokens, stored, named):
        what = f"its tokenizer has {tokens:,} tokens, the base's embeddings {rows:,} rows"
        what += f", its own {stored:,}" if stored else ", and it stores no others"
        raise ModelError(what, where=where, allowed="save it with save_embedding_layers=True")


def stored_rows(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """How many rows the embeddings have that an adapter stores or changes. 0 if there are none."""
    rows = [shape[0] for name, shape in shapes.items() if EMBEDDINGS.search(name)]
    rows += [shape[-1] for name, shape in shapes.items() if name.endswith("lora_embedding_A")]
    return max(rows, default=0)


def named_tokens(config: Config) -> set[int]:
    """The tokens whose embeddings an adapter holds row by row."""
    named = config.get("trainable_token_indices") or config.get("token_indices") or []
    lists = named.values() if isinstance(named, dict) else [named]
    return {token for tokens in lists if isinstance(tokens, list) for token in tokens if isinstance(token, int)}


def tokens_of(folder: Path) -> int:
    """The number of tokens that the tokenizer in a folder has ids for. 0 if there is none, or it cannot be read."""
    try:
        whole = from_json((folder / "tokenizer.json").read_text("utf-8"))
        vocabulary = whole["model"]["vocab"]
        ids = vocabulary.values() if isinstance(vocabulary, dict) else range(len(vocabulary))
        return 1 + max([-1, *ids, *(added["id"] for added in whole.get("added_tokens") or ())])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def rows_of(config: Config) -> int:
    rows = _of_text(config).get("vocab_size")
    return rows if isinstance(rows, int) else 0


def _of_text(config: Config) -> Config:
    """The part of a configuration that describes the language model."""
    inner = config.get("text_config")
    return inner if isinstance(inner, dict) else config


def _own(name: str) -> str:
    return re.sub(r"^(base_model\.model\.|model\.|transformer\.|language_model\.|gpt_neox\.)+", "", name)


def _by(shape: Iterable[int]) -> str:
    return " x ".join(map(str, shape))

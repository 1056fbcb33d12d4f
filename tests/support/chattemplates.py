"""Chat templates as models have them, written small, and a model folder with one of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from modelfolders import model_folder
from smalltokenizers import byte_level, write

SPECIAL = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|user|>", "<extra>"]
ID = {token: number for number, token in enumerate(SPECIAL)}

CHATML = """{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

# The answer of the last turn gets an empty thinking block, and a prompt has one only if thinking is switched off.
QWEN3 = """{% for m in messages %}<|im_start|>{{ m.role }}
{% if m.role == 'assistant' and loop.last %}<think>

</think>

{% endif %}{{ m.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% if enable_thinking is defined and enable_thinking is false %}<think>

</think>

{% endif %}{% endif %}"""

# A prompt ends inside a thinking block, and earlier answers have none.
R1 = """{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}<|user|>{{ m.content }}{% else -%}
<|im_start|>{{ m.content }}</s>{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|><think>
{% endif %}"""

LLAMA3 = """{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}<|im_end|>

{{ m.content | trim }}<|eot_id|>{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant<|im_end|>

{% endif %}"""

GEMMA = """{{ bos_token }}{% for m in messages %}<|im_start|>{{ 'model' if m.role == 'assistant' else m.role }}
{{ m.content | trim }}<end_of_turn>
{% endfor %}{% if add_generation_prompt %}<|im_start|>model
{% endif %}"""

# It ends no answer: the next turn does.
GLM = """{% for m in messages %}<|{{ m.role }}|>
{{ m.content }}{% endfor %}{% if add_generation_prompt %}<|assistant|>
{% endif %}"""

NO_GENERATION_PROMPT = """{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endfor %}"""

WORDS_ONLY = """{% for m in messages %}{{ m.role }}: {{ m.content }}
{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"""


def chat_model(folder: Path, template: str | None = CHATML, values: bytes = b"12345678", **config: Any) -> Path:
    """A model folder with a small tokenizer, whose end token is `</s>`; `config` is that of tokenizer_config.json."""
    model_folder(folder, values)
    stated = {} if template is None else {"chat_template": template}
    write(folder, byte_level(special_tokens=SPECIAL, vocab_size=600), **stated, **config)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "max_position_embeddings": 4096}))
    return folder

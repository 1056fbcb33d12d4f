"""A gold answer in the model's own words: the prompt that asks for them, and whether they say the same.

The prompt is that of self-distillation fine-tuning (SDFT, arXiv 2402.13669). The source keeps an answer if it passes a
test of its data set, such as the same result of a sum. Ours is one test for any free text. A rewritten answer is kept
if it ended by itself, has the same numbers as the gold one, and has at least half of its words. Otherwise the gold one
is learned.
"""

from __future__ import annotations

from collections.abc import Sequence

from .chat import ChatTemplate
from .prompt import query
from .task import Example, PromptFormat
from .words import words

ENOUGH = 0.5  # of the different words of the gold answer
PROMPT = """\
Below are an instruction that describes a task along with a reference answer. Using the reference answer as a guide, \
write your own response.

### Instruction:
{question}

### Reference Answer:
{answer}

### Response:
"""


def asked(fmt: PromptFormat, rows: Sequence[Example], chat_template: ChatTemplate | None) -> list[str]:
    """The text that asks for each row's answer in other words: a user's turn if the format is a chat."""
    texts = [PROMPT.format(question=query(fmt, row), answer=row.target) for row in rows]
    if not fmt.chat or chat_template is None:
        return texts
    return chat_template.texts([[{"role": "user", "content": text.strip()}] for text in texts])


def says_the_same(gold: str, said: str) -> bool:
    """Whether a rewritten answer has the numbers of the gold one, no others, and enough of its words."""
    ours, theirs = set(words(gold)), set(words(said))
    numbers = [{word for word in each if any(map(str.isdigit, word))} for each in (ours, theirs)]
    return bool(said) and numbers[0] == numbers[1] and len(ours & theirs) >= ENOUGH * len(ours)

"""The only place where a row becomes text.

Training samples, demonstrations, scored prompts and generated prompts all come from `render`. It returns the text up to
the first character of the answer, delimiter included. So a model is trained and scored on exactly this text:

    text = render(fmt, demos, example) + answer

The demonstrations in it are joined to their answers by the same delimiter. No later step adds or removes a character;
`spillover.text.encode` turns the text into tokens. Source of the default templates: Yang et al. 2024, Table 5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..errors import DataError
from .task import Example, PromptFormat

ChatTemplate = Callable[[list[dict[str, str]]], str]
"""From messages to the text at the end of which the assistant's next answer begins."""


def delimiter(fmt: PromptFormat, prompt: str) -> str:
    """What stands between `prompt` and its answer: one space by default, none after white space."""
    if fmt.answer_delimiter is not None:
        return fmt.answer_delimiter
    return "" if prompt[-1:].isspace() or not prompt else " "


def query(fmt: PromptFormat, example: Example) -> str:
    """The row alone, without demonstrations and without its answer."""
    try:
        text = fmt.template.format_map(example.fields)
    except (KeyError, IndexError, ValueError) as error:
        raise DataError(
            f"prompt format {fmt.name!r} cannot be filled from row {example.doc_id}: {error!r}",
            allowed="fields: " + ", ".join(example.fields),
        ) from None
    if example.turns and not fmt.chat:
        return fmt.demo_separator.join([*(text for _, text in example.turns), text])
    return text


def render(
    fmt: PromptFormat, demos: Sequence[Example], example: Example, chat_template: ChatTemplate | None = None
) -> str:
    """Text up to the first character of the answer: demonstrations, query, delimiter.

    Raises DataError where the template names a field that the row lacks, or where `fmt` is a chat format and the
    tokenizer has no chat template.
    """
    if fmt.chat:
        return _render_chat(fmt, demos, example, chat_template)
    blocks = []
    for row, answer in [*((demo, demo.target) for demo in demos), (example, "")]:
        prompt = query(fmt, row)
        blocks.append(prompt + delimiter(fmt, prompt) + answer)
    return fmt.opening + fmt.demo_separator.join(blocks)


def _render_chat(
    fmt: PromptFormat, demos: Sequence[Example], example: Example, chat_template: ChatTemplate | None
) -> str:
    if chat_template is None:
        raise DataError(f"prompt format {fmt.name!r} needs a chat template, and this tokenizer has none")
    # A system turn begins the conversation, and demonstrations follow it.
    system = example.turns[:1] if example.turns and example.turns[0][0] == "system" else ()
    turns = list(system)
    for demo in demos:
        turns += [turn for turn in demo.turns if turn[0] != "system"]
        turns += [("user", query(fmt, demo)), ("assistant", demo.target)]
    turns += [*example.turns[len(system) :], ("user", query(fmt, example))]
    return chat_template([{"role": role, "content": text} for role, text in turns])

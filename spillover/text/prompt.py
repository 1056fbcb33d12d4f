"""The one place where a row becomes text.

Training samples, demonstrations, scored prompts and generated prompts all come from `render`.
It returns the text up to the first character of the answer, delimiter included, so that

    text = render(fmt, demos, example) + answer

is exactly what a model is trained on and scored on. The demonstrations inside it are joined to their
answers by the same delimiter. Nothing downstream adds or strips a character; turning the text
into tokens is the business of `spillover.text.encode`.

Source of the default templates: Yang et al. 2024, Table 5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..errors import DataError
from .task import Example, PromptFormat

ChatTemplate = Callable[[list[dict[str, str]]], str]
"""Messages in, the text up to where the assistant's next answer begins out."""


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
    fmt: PromptFormat,
    demos: Sequence[Example],
    example: Example,
    chat_template: ChatTemplate | None = None,
) -> str:
    """Text up to the first character of the answer: demonstrations, query, delimiter.

    Raises DataError where the template names a field that the row lacks, or where `fmt` is a chat
    format and the tokenizer has no chat template.
    """
    if fmt.chat:
        return _render_chat(fmt, demos, example, chat_template)
    blocks = []
    for demo in demos:
        prompt = query(fmt, demo)
        blocks.append(prompt + delimiter(fmt, prompt) + demo.target)
    prompt = query(fmt, example)
    return fmt.opening + fmt.demo_separator.join([*blocks, prompt + delimiter(fmt, prompt)])


def _render_chat(
    fmt: PromptFormat, demos: Sequence[Example], example: Example, chat_template: ChatTemplate | None
) -> str:
    if chat_template is None:
        raise DataError(f"prompt format {fmt.name!r} needs a chat template, and this tokenizer has none")
    messages: list[dict[str, str]] = []
    # A system turn leads the conversation whatever comes between; demonstrations follow it.
    turns = list(example.turns)
    if turns and turns[0][0] == "system":
        messages.append({"role": "system", "content": turns.pop(0)[1]})
    for demo in demos:
        messages += [{"role": role, "content": text} for role, text in demo.turns if role != "system"]
        messages += [
            {"role": "user", "content": query(fmt, demo)},
            {"role": "assistant", "content": demo.target},
        ]
    messages += [{"role": role, "content": text} for role, text in turns]
    messages.append({"role": "user", "content": query(fmt, example)})
    return chat_template(messages)

"""The only place where a row becomes text.

Training samples, demonstrations, scored prompts and generated prompts all come from `render`. It returns the text up to
the first character of the answer, delimiter included. So a model is trained and scored on exactly this text:

    text = render(fmt, demos, example) + answer

The demonstrations in it are joined to their answers by the same delimiter. No later step adds or removes a character;
`spillover.text.encode` turns the text into tokens. Source of the default templates: Yang et al. 2024, Table 5.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import DataError, PromptError
from .chat import ChatTemplate, Message, NoText
from .task import Example, PromptFormat
from .tools import Conversation


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
    if example.raw and not fmt.chat:
        what = f"row {example.doc_id} calls tools, which prompt format {fmt.name!r} cannot write"
        raise DataError(what, allowed="the format chat: test.prompts: chat, and train.prompt: chat")
    if example.turns and not fmt.chat:
        return fmt.demo_separator.join([*(text for _, text in example.turns), text])
    return text


def render(
    fmt: PromptFormat, demos: Sequence[Example], example: Example, chat_template: ChatTemplate | None = None
) -> str:
    """Text up to the first character of the answer: demonstrations, query, delimiter.

    Raises DataError where the template names a field that the row lacks, or where `fmt` is a chat format and the
    tokenizer has no chat template; PromptError where the chat template fails.
    """
    return render_all(fmt, demos, [example], chat_template)[0]


def render_all(
    fmt: PromptFormat,
    demos: Sequence[Example],
    examples: Sequence[Example],
    chat_template: ChatTemplate | None = None,
) -> list[str]:
    """`render` for many rows with the same demonstrations. Errors name the row."""
    if not fmt.chat:
        before = "".join(_block(fmt, demo) + demo.target + fmt.demo_separator for demo in demos)
        return [fmt.opening + before + _block(fmt, example) for example in examples]
    if chat_template is None:
        raise DataError(f"prompt format {fmt.name!r} needs a chat template, and this tokenizer has none")
    try:
        return chat_template.texts([messages(fmt, demos, example) for example in examples])
    except NoText as error:
        raise PromptError(f"row {examples[error.number].doc_id}: {error.what}") from None


def render_rows(
    fmt: PromptFormat, rows: Sequence[Example], chat_template: ChatTemplate | None = None
) -> tuple[str, list[tuple[int, int]]]:
    """Rows one after the other with their answers, and from which character to which each answer reaches.

    It is the text that `render` gives for the last row with the others as demonstrations, and the last answer. Raises
    as `render` does, and PromptError for a chat template that writes earlier answers otherwise than the last one.
    """
    if not fmt.chat:
        text, answers = fmt.opening, []
        for number, row in enumerate(rows):
            text += fmt.demo_separator * bool(number) + _block(fmt, row)
            answers.append((len(text), len(text) + len(row.target)))
            text += row.target
        return text, answers
    prompts = [render(fmt, rows[:number], row, chat_template) for number, row in enumerate(rows)]
    text = prompts[-1] + rows[-1].target
    for prompt, row in zip(prompts, rows, strict=True):
        if not text.startswith(prompt + row.target):
            what = f"row {row.doc_id}: the chat template writes an earlier answer otherwise than the last one"
            raise PromptError(what, allowed="another train.prompt, or a strategy without rows in context")
    return text, [(len(prompt), len(prompt) + len(row.target)) for prompt, row in zip(prompts, rows, strict=True)]


def _block(fmt: PromptFormat, example: Example) -> str:
    prompt = query(fmt, example)
    return prompt + delimiter(fmt, prompt)


def messages(fmt: PromptFormat, demos: Sequence[Example], example: Example) -> list[Message]:
    """The messages before the answer. A system turn begins the conversation, and demonstrations follow it."""
    before: list[Message] = []
    for demo in demos:
        before += [message for message in _asked(fmt, demo).messages if message["role"] != "system"]
        before.append({"role": "assistant", "content": demo.target})
    return _asked(fmt, example).asked(before)


def _asked(fmt: PromptFormat, example: Example) -> Conversation:
    """The row as messages."""
    if example.raw:
        return Conversation.of(example.raw)
    turns = [*example.turns, ("user", query(fmt, example))]
    return Conversation([{"role": role, "content": text} for role, text in turns])

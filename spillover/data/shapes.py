"""Shapes of rows that are known by their columns: which of them are the question, and which is the answer.

    columns                            what it is                        the question; the answer
    prompt, completion                 TRL; text, or lists of turns      prompt; completion
    prompt, completion, label          KTO: label says if it is good     the same; rows that are not good are left out
    prompt, chosen, rejected           preferences (DPO, ORPO)           prompt; chosen. `rejected` is not read
    messages                           chat, as TRL and OpenAI have it   the last question; the last message
    conversations                      ShareGPT: from/value              the same
    instruction, input, output         Alpaca; input may be left out     instruction and input; output
    instruction, context, response     Dolly; context may be left out    instruction and context; response
    context, question, answers         SQuAD                             context and question; each of the answers
    question, choices, answer          MMLU, ARC: options in each row    the question; the right option (`options.py`)
                                       (ARC's own files: question: {stem, choices})

All of them have one field, `prompt`. Rows that are one whole text are no shape: the source says where the answer begins
(`answer_after`), or that all of it is learnt (`loss: all`). Other layouts that look like one of these are refused by
name (`_UNREADABLE`), so that no column is taken for what it is not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from ..errors import DataError
from ..text.tools import Conversation
from .cells import as_text, cell, is_empty
from .files import Row
from .options import ABOUT, ASKED, RIGHT, Options, first_of, has_options, options_of, usual_columns
from .turns import Turns, answered, as_turns, asked, messages, system_of, tools_of, turns

PROMPT = ("prompt",)
TEXT = "text"  # the column of rows that are one whole text
IDENTIFIER = re.compile(r"(.*_)?(id|idx|index|uuid|guid|url|split|source|date|timestamp|meta|metadata)")
WHOLE_TEXT = 'answer_after: "### Response:" (the words before the answer), or loss: all (train on all of the text)'


class Parts(NamedTuple):
    """The parts of one row. `target` is the answer as column `column` has it. `raw`: of a row that calls tools.

    `references` are all right answers as their column has them, if that column may hold several. `options` are those of
    a multiple choice, whose right one the answer names.
    """

    fields: dict[str, str]
    target: Any
    column: str
    turns: tuple[tuple[str, str], ...] = ()
    raw: str = ""
    references: Sequence[Any] = ()
    options: Options | None = None


class LeftOut(NamedTuple):
    """A row that has no right answer, and why."""

    why: str


TakeApart = Callable[[Row, str], Parts | LeftOut]
"""From a row, and where it stands, to its parts."""


class Shape(NamedTuple):
    """A shape of rows. `note` says what a reader of results must know. `special`: it holds where others fit as well."""

    name: str
    columns: tuple[str, ...]
    take_apart: TakeApart
    note: str = ""
    special: bool = False
    fits: Callable[[Row], bool] = lambda row: True


# --- chat, instructions ---------------------------------------------------------------------------


def _from_chat(column: str, row: Row, where: str) -> Parts:
    before = [{"role": role, "content": text} for role, text in system_of(row, where)]
    spoken, tools = [*before, *messages(cell(row, column, where), column, where)], tools_of(row, where)
    before_answer, answer = answered(as_turns(spoken), column, where)
    fields, earlier = asked(before_answer, column, where)
    calls = spoken[-1] if "tool_calls" in spoken[-1] else None
    plain = not tools and not calls and not any(m["role"] == "tool" or "tool_calls" in m for m in spoken)
    raw = "" if plain else Conversation(spoken[:-1], tools, calls).to_json()
    return Parts(fields, answer, column, earlier, raw)


def _from_prompt_completion(row: Row, where: str) -> Parts:
    prompt, completion = cell(row, "prompt", where), cell(row, "completion", where)
    if isinstance(completion, list):
        answers = turns(completion, "completion", where)
        if [role for role, _ in answers] != ["assistant"]:
            raise DataError("column 'completion' must hold one message, the assistant's", where=where)
        completion = answers[0][1]
    if isinstance(prompt, list):
        fields, earlier = asked(turns(prompt, "prompt", where), "prompt", where)
        return Parts(fields, completion, "completion", earlier)
    return Parts({"prompt": as_text(prompt, "prompt", where)}, completion, "completion")


def _from_instruction(more: str, answer: str, row: Row, where: str) -> Parts:
    parts = [as_text(cell(row, "instruction", where), "instruction", where)]
    if row.get(more):  # absent, null and "" all mean that there is none
        parts.append(as_text(row[more], more, where))
    earlier = system_of(row, where)
    for pair in row.get("history") or []:
        if not isinstance(pair, (list, tuple)):
            raise DataError("column 'history' must hold pairs of question and answer", where=where)
        earlier += zip(("user", "assistant"), (as_text(text, "history", where) for text in pair), strict=False)
    return Parts({"prompt": "\n\n".join(parts)}, cell(row, answer, where), answer, tuple(earlier))


# --- preferences ----------------------------------------------------------------------------------

_GOOD = {"true": True, "false": False}


def _is_good(row: Row) -> bool | None:
    """What the column `label` of KTO rows says; None where it says neither true nor false."""
    label = row.get("label")
    return label if isinstance(label, bool) else _GOOD.get(str(label).strip().lower())


def _unless_bad(take_apart: TakeApart, row: Row, where: str) -> Parts | LeftOut:
    good = _is_good(row)
    if good is None:
        what = f"column 'label' holds {str(row.get('label'))[:40]!r} where true or false is expected"
        raise DataError(what, where=where, allowed="it says whether the completion is a good one")
    return take_apart(row, where) if good else LeftOut("with label false")


def _from_preference(row: Row, where: str) -> Parts:
    chosen = cell(row, "chosen", where)
    given, column = _question_of(row, where)
    if isinstance(chosen, (list, dict)):
        spoken = turns(chosen if isinstance(chosen, list) else [chosen], "chosen", where)
        own, answer = answered(spoken, "chosen", where)
        whole = own[: len(given)] == given or given[: len(own)] == own or not isinstance(row.get(column), list)
        if not whole:  # only the last turns stand in `chosen`
            own = given + own
        fields, earlier = asked(own or given, "chosen", where)
        return Parts(fields, answer, "chosen", earlier)
    if not given:
        example = 'answer_after: "\\n\\nAssistant:" with target: chosen'
        raise DataError("'chosen' is a text, and no column is its prompt", where=where, allowed=example)
    fields, earlier = asked(given, column, where)
    return Parts(fields, chosen, "chosen", earlier)


def _question_of(row: Row, where: str) -> tuple[Turns, str]:
    """The turns before the answer of a preference row, and their column. Empty where the answer's column has them."""
    column = first_of(row, ("prompt", "messages", "conversations", "question", "query", "instruction"))
    if column is None:
        return [], ""
    if isinstance(row[column], list):
        return system_of(row, where) + turns(row[column], column, where), column
    parts = [as_text(row[column], column, where)]
    if column == "instruction" and row.get("input"):
        parts.append(as_text(row["input"], "input", where))
    return [*system_of(row, where), ("user", "\n\n".join(parts))], column


# --- questions about a text, and with options -----------------------------------------------------


def _from_squad(row: Row, where: str) -> Parts | LeftOut:
    answers = cell(row, "answers", where)
    found = answers.get("text") if isinstance(answers, dict) else answers
    if isinstance(found, str) and found is not answers:
        found = [found]
    if not isinstance(found, list):
        raise DataError("column 'answers' must hold a list of answers, or an object with text", where=where)
    texts = [one.get("text") if isinstance(one, dict) else one for one in found]
    given = [text for text in texts if not is_empty(text)]
    if not given:
        return LeftOut("without an answer")
    parts = [as_text(cell(row, column, where), column, where) for column in ("context", "question")]
    return Parts({"prompt": "\n\n".join(parts)}, given[0], "answers", references=given)


def _from_options(row: Row, where: str) -> Parts:
    asked_in, right = (first_of(row, names) or "" for names in (ASKED, RIGHT))
    about = [as_text(row[name], name, where) for name in ABOUT if name in row and not is_empty(row[name])]
    question = as_text(cell(row, asked_in, where), asked_in, where)
    prompt = {"prompt": "\n\n".join([*about, question])}
    return Parts(prompt, cell(row, right, where), right, options=options_of(row, usual_columns(row), where))


# --- one whole text -------------------------------------------------------------------------------


def from_whole_text(column: str, after: str | None, row: Row, where: str) -> Parts:
    """A text that holds prompt and answer, cut behind the last `after`; all of it is the answer where that is None."""
    text = as_text(cell(row, column, where), column, where)
    if after is None:
        return Parts({"prompt": ""}, text, column)
    before, found, answer = text.rpartition(after)
    if not found:
        raise DataError(f"column {column!r} nowhere holds {after!r}, behind which the answer begins", where=where)
    return Parts({"prompt": before + found}, answer, column)


# --- all of them ----------------------------------------------------------------------------------

PREFERENCE = "preference rows: `chosen` is the answer, `rejected` is not used"
KTO = "rows with a completion that `label` calls good or bad: the good ones are the answers"
CHOICES = "multiple choice: the options stand in each row"

PROMPT_COMPLETION = Shape("prompt/completion", ("prompt", "completion"), _from_prompt_completion)
MULTIPLE_CHOICE = Shape("multiple choice", (), _from_options, CHOICES, fits=has_options)
SHAPES = (
    Shape("preference", ("chosen", "rejected"), _from_preference, PREFERENCE, special=True),
    Shape(
        "KTO",
        ("prompt", "completion", "label"),
        partial(_unless_bad, _from_prompt_completion),
        KTO,
        special=True,
        fits=lambda row: _is_good(row) is not None,
    ),
    Shape(
        "KTO messages",
        ("messages", "label"),
        partial(_unless_bad, partial(_from_chat, "messages")),
        KTO,
        special=True,
        fits=lambda row: _is_good(row) is not None,
    ),
    PROMPT_COMPLETION,
    Shape("messages", ("messages",), partial(_from_chat, "messages")),
    Shape("conversations", ("conversations",), partial(_from_chat, "conversations")),
    Shape("alpaca", ("instruction", "output"), partial(_from_instruction, "input", "output")),
    Shape("dolly", ("instruction", "response"), partial(_from_instruction, "context", "response")),
    Shape("squad", ("context", "question", "answers"), _from_squad),
    MULTIPLE_CHOICE,
)

_UNREADABLE: tuple[tuple[tuple[str, ...], type | None, str, str], ...] = (
    (
        ("parent_id", "role", "text"),
        None,
        "each row is one message of a tree of conversations",
        "a row for each conversation, with messages",
    ),
    (("tokens",), list, "each row is a list of words, with a label for each word", "one answer for each row"),
    (
        ("translation",),
        dict,
        "the languages stand in one column",
        "a template with {source}, fields: {source: translation.de} and target: translation.en",
    ),
    (
        ("completions",),
        list,
        "each row has several answers",
        "references: completions if each of them is right; target: completions.0 for the first alone",
    ),
)


def known_shape(row: Row, where: str) -> Shape | None:
    """The shape of a file by its first row, or None. Two shapes at once are an error, because they could disagree."""
    shapes = [shape for shape in SHAPES if set(shape.columns) <= set(row) and shape.fits(row)]
    if special := [shape for shape in shapes if shape.special]:
        return special[0]
    if len(shapes) > 1:
        what = f"the columns {column_names(row)} are both {' and '.join(shape.name for shape in shapes)}"
        raise DataError(what, where=where, allowed="say which with fields: {prompt: ...} and target: ...")
    return shapes[0] if shapes else None


def refuse_unreadable(row: Row, where: str) -> None:
    """Raises DataError for layouts that are known and cannot be read as question and answer."""
    for columns, kind, what, allowed in _UNREADABLE:
        if set(columns) <= set(row) and (kind is None or isinstance(row[columns[0]], kind)):
            raise DataError(f"the columns {column_names(row)}: {what}", where=where, allowed=allowed)


def is_whole_text(row: Row) -> bool:
    """Whether a row is a text and nothing else that could be asked or answered."""
    others = [value for column, value in row.items() if column != TEXT and not _is_identifier(column)]
    return isinstance(row.get(TEXT), str) and not any(isinstance(value, (str, int, float)) for value in others)


class _Watched(dict[str, Any]):
    """A row that knows which of its columns were read."""

    def __init__(self, row: Row) -> None:
        super().__init__(row)
        self.read: set[str] = set()

    def __getitem__(self, column: str) -> Any:
        self.read.add(column)
        return super().__getitem__(column)

    def get(self, column: str, default: Any = None) -> Any:
        self.read.add(column)
        return super().get(column, default)


def unread(shape: Shape, first: Row, where: str) -> list[str]:
    """The columns with text that rows of this shape have, and that are not read. Identifiers are not counted."""
    row = _Watched(first)
    try:
        shape.take_apart(row, where)
    except DataError:  # it is raised where the row is read
        return []
    read = {*shape.columns, *row.read, "rejected"}
    return [c for c, v in first.items() if c not in read and isinstance(v, str) and v and not _is_identifier(c)]


def _is_identifier(column: str) -> bool:
    return IDENTIFIER.fullmatch(column.lower()) is not None


def column_names(columns: Mapping[str, Any] | Sequence[str], most: int = 12) -> str:
    """The names of columns, for a message."""
    names = list(columns)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def has_turns(shape: Shape | None, first: Row) -> bool:
    """Whether rows of this shape are conversations, by the first of them."""
    spoken = ("messages", "conversations", "prompt", "completion", "chosen")
    return shape is not None and any(isinstance(first.get(column), (list, dict)) for column in spoken)


def calls_tools(shape: Shape, first: Row, where: str) -> bool:
    """Whether the first row is a conversation that only a chat template can write."""
    parts = shape.take_apart(first, where)
    return isinstance(parts, Parts) and bool(parts.raw)


def is_verbatim(shape: Shape | None, first: Row) -> bool:
    """Whether prompt and answer are joined as they are: their author decided where spaces stand."""
    return shape is None or (shape.name in ("prompt/completion", "KTO", "preference") and not has_turns(shape, first))

"""A first experiment for somebody's own files: `spillover init --train tickets.jsonl --test tickets-test.jsonl`.

The file that it writes is the first documentation that a newcomer reads. So it is short, it runs as it stands, and
every line that one may want to change has a comment. Its text is `init.yaml.jinja`.

What the user's files hold is found by the readers of a run (`spillover.data`). A known shape needs no description,
other columns get a template, and few short answers that repeat are labels. Beside the user's own test rows, the builtin
suite shows what fine-tuning does to other tasks.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

from jinja2 import Environment

from ..data.files import Row, open_table, stem
from ..data.load import load_test, load_train
from ..data.reader import ANSWER_COLUMNS
from ..data.shapes import IDENTIFIER, WHOLE_TEXT, has_turns, known_shape, listed, refuse_unreadable
from ..data.sources import Places
from ..data.tasks import dataset_task
from ..errors import DataError, ExperimentError
from ..experiment.suite import DatasetSpec, Source, load_suite
from ..models import PYPI_SPEC
from ..text.task import Example

NO_FILES = "No files given: an experiment over the builtin suite."
TEMPLATED = (
    "The builtin suite is added as cross-task tests. Its templated text shows the machinery;",
    "cross-task changes on real tasks need real test sets.",
)
LARGE = 2000  # a first experiment trains on so many rows at most
SHOTS = 2
MAX_LABELS = 20
LABEL_CHARACTERS = 40
CHARACTERS_A_TOKEN = 3.5  # slightly less than in English text, so that few answers are cut


def write_experiment(out: Path, train: Path | None, test: Path | None, model: str | None) -> list[str]:
    """Write a commented experiment for the user's files, or over the builtin suite. Returns lines for the user.

    Raises ExperimentError where `out` exists already, and DataError for files that cannot be understood.
    """
    if out.exists():
        raise ExperimentError("is there already", where=str(out), allowed="give another --out, or move it away")
    if train and test and train.resolve() == test.resolve():
        raise DataError("is given as training and as test rows", where=str(train), allowed="hold out some rows")
    files = {part: path for part, path in (("train", train), ("test", test)) if path}
    own, rows = _read(files) if files else (None, {})
    text = _yaml(own, rows, out, model_from(out.parent, model) if model else PYPI_SPEC)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, "utf-8")
    except OSError as error:
        raise ExperimentError(f"cannot be written: {error.strerror or error}", where=str(out)) from None
    lines = [*own.lines, *TEMPLATED] if own else [NO_FILES]
    return [*lines, f"Wrote {out}. Next: spillover check {out}, then spillover run {out}"]


# --- what the files hold --------------------------------------------------------------------------


@dataclass(frozen=True)
class _OwnData:
    """The user's data set as the YAML defines it. `source` describes the columns of every file of it."""

    name: str
    files: Mapping[str, Path]  # by part: train, test
    spec: DatasetSpec
    source: Source
    chat: bool
    lines: tuple[str, ...]

    def rows(self) -> dict[str, tuple[Example, ...]]:
        """The rows of each part, as a run will read them."""
        sources = {
            part: (self.source.model_copy(update={"file": str(path.expanduser().resolve())}),)
            for part, path in self.files.items()
        }
        spec, places = self.spec.model_copy(update=sources), Places()
        task = dataset_task(self.name, spec, {self.name: spec}, places)
        read = {
            "train": lambda: load_train(self.name, spec, task, None, places).examples,
            "test": lambda: load_test(self.name, spec, task, places).examples,
        }
        return {part: read[part]() for part in self.files}


def _read(files: Mapping[str, Path]) -> tuple[_OwnData, dict[str, int]]:
    """The data set of the user's files, and the number of rows of each part. All rows are read, to find errors now."""
    first = next(iter(files.values()))
    rows = open_table(first).rows
    template, source, line = _columns(first, rows)
    chat = template is None and has_turns(known_shape(rows[0], first.name), rows[0])
    own = _OwnData(_name(first), files, DatasetSpec.model_validate({"template": template}), source, chat, (line,))
    own = _with_answers(own, [example.target for examples in own.rows().values() for example in examples])
    return own, {part: len(examples) for part, examples in own.rows().items()}  # read again, with the labels


def _relative(path: Path, base: Path) -> str:
    """The path from the YAML's folder."""
    try:
        return Path(os.path.relpath(path.expanduser().resolve(), base.resolve())).as_posix()
    except ValueError:  # another drive
        return path.resolve().as_posix()


def model_from(base: Path, model: str) -> str:
    """A model as a YAML in the folder `base` names it: a folder by its path from there, a hub id as it is."""
    return _relative(Path(model), base) if Path(model).expanduser().is_dir() else model


def _name(path: Path) -> str:
    """A name for the data set: the file's name without the words for its part."""
    words = re.split(r"[^a-z0-9]+", stem(path).lower())
    name = "_".join(word for word in words if word not in ("", "train", "training", "test")) or "mine"
    return f"my_{name}" if name in load_suite("builtin").datasets or name[0].isdigit() else name


def _columns(path: Path, rows: Sequence[Row]) -> tuple[str | None, Source, str]:
    """(template, how a file is read, a line for the user). A known shape needs no template."""
    columns = list(rows[0])
    where = f"{path.name}: {len(rows):,} rows"
    shape = known_shape(rows[0], path.name)
    if shape is not None:
        note = f" {shape.note[0].upper()}{shape.note[1:]}." if shape.note else ""
        return None, Source.model_validate({"file": str(path)}), f"{where} in the shape {shape.name}.{note}"
    refuse_unreadable(rows[0], path.name)
    answer = _answer_column(path, columns, rows)
    inputs = [c for c in columns if c != answer and _is_text(c, rows) and _can_be_asked(c, rows)]
    if not inputs:
        others = ", ".join(column for column in columns if column != answer)
        raise DataError(f"no text beside the answer among {others}", where=path.name)
    fields = {_field(column): column for column in inputs}
    if len(fields) < len(inputs):
        raise DataError("two columns have the same name but for signs", where=path.name, allowed="rename one")
    template = "".join(f"### {_title(name)}:\n{{{name}}}\n" for name in fields) + f"### {_title(_field(answer))}:"
    unused = ", ".join(column for column in columns if column not in (*inputs, answer))
    line = f"{where}. {', '.join(inputs)}: the question; {answer}: the answer"
    alone = answer in ANSWER_COLUMNS and sum(column in ANSWER_COLUMNS for column in columns) == 1
    renamed = {name: column for name, column in fields.items() if name != column}
    source = {"file": str(path), "fields": renamed, "target": None if alone else answer}
    return template, Source.model_validate(source), line + (f"; not used: {unused}." if unused else ".")


def _answer_column(path: Path, columns: Sequence[str], rows: Sequence[Row]) -> str:
    """The column with a name for answers, else the one whose values are like labels, else the last text."""
    can = [column for column in columns if _can_be_answer(column, rows)]
    by_name = next((column for name in _ANSWERS for column in can if column.lower() == name), None)
    labels = [column for column in can if _are_labels([str(row.get(column)) for row in rows])]
    texts = [column for column in can if _is_text(column, rows)]
    answer = by_name or next(reversed(labels or texts), None)
    if (
        answer
        and len(columns) > 1
        and [column for column in columns if column != answer and _can_be_asked(column, rows)]
    ):
        return answer
    asked = [column for column in columns if _is_text(column, rows) and _can_be_asked(column, rows)]
    if len(asked) == 1:
        what = f"the column {asked[0]!r} alone holds text, and nothing says where in it the answer begins"
        raise DataError(what, where=path.name, allowed=f"say so in a YAML: {WHOLE_TEXT}")
    raise DataError(
        f"the columns {listed(columns)} do not show what is asked and what is answered",
        where=path.name,
        allowed="for example prompt and completion, messages, instruction and output, or text and label",
    )


_ANSWERS = (
    *ANSWER_COLUMNS,
    *("response", "answers", "chosen", "solution", "expected_output", "ideal", "correct_answer", "best_answer"),
    *("summary", "highlights", "abstract", "title", "simplified", "category", "class", "intent", "sentiment"),
)
"""Names of the column with the answer, the surest first."""

_NO_ANSWERS = (
    *("question", "query", "instruction", "prompt", "context", "passage", "article", "document", "dialogue", "source"),
    *("tools", "system", "text", "sentence", "premise", "hypothesis", "input", "chat", "language", "lang", "split"),
)
"""Names of columns that are never guessed to be the answer."""


def _can_be_answer(column: str, rows: Sequence[Row]) -> bool:
    return column.lower() not in _NO_ANSWERS and not _is_identifier(column, rows)


def _can_be_asked(column: str, rows: Sequence[Row]) -> bool:
    return column.lower() != "rejected" and not _is_identifier(column, rows)


def _is_text(column: str, rows: Sequence[Row]) -> bool:
    values = [row.get(column) for row in rows]
    has_letter = any(re.search(r"[^\W\d_]", str(value)) for value in values)
    return has_letter and all(isinstance(value, str) for value in values)


def _is_identifier(column: str, rows: Sequence[Row]) -> bool:
    """Whether the column has a name for identifiers and never more than two words."""
    named = IDENTIFIER.fullmatch(column.lower())
    return bool(named) and all(len(str(row.get(column)).split()) < 3 for row in rows)


def _are_labels(values: Sequence[str]) -> bool:
    """Whether the values are few and short, and repeat."""
    distinct = set(values)
    short = all(0 < len(value.strip()) <= LABEL_CHARACTERS and "\n" not in value.strip() for value in distinct)
    return short and 2 <= len(distinct) <= MAX_LABELS and 3 * len(distinct) <= len(values)


def _field(column: str) -> str:
    """A name that a template can hold."""
    name = re.sub(r"\W+", "_", column).strip("_")
    return name if name and not name[0].isdigit() else f"column_{name}"


def _title(name: str) -> str:
    return name.replace("_", " ").strip().capitalize()


def _with_answers(own: _OwnData, targets: Sequence[str]) -> _OwnData:
    """The data set with its labels, or with a token limit for free text."""
    source = own.source
    if _are_labels(targets):
        distinct = tuple(dict.fromkeys(targets))
        labels = tuple(label.strip() for label in distinct)
        line = f"The answers are {len(labels)} labels ({', '.join(labels)}): a classification task."
        spaces = {label[: len(label) - len(label.lstrip())] for label in distinct}
        answers: dict[str, object] = {"labels": distinct}
        if labels != distinct and len(set(labels)) == len(labels) and len(spaces) == 1:
            # " positive": the space becomes the delimiter and the label is the word alone. The text is the same.
            answers = {"labels": labels, "answer_delimiter": spaces.pop()}
            source = source.model_copy(update={"target_map": dict(zip(distinct, labels, strict=True))})
    else:
        longest = sorted(map(len, targets))[int(0.95 * (len(targets) - 1))]
        limit = min(256, max(10, 10 * -(-int(longest / CHARACTERS_A_TOKEN + 2) // 10)))
        line = f"The answers are free text: up to {limit} tokens are generated."
        answers = {"max_new_tokens": limit}
    return replace(own, spec=own.spec.model_copy(update=answers), source=source, lines=(*own.lines, line))


# --- the YAML -------------------------------------------------------------------------------------


def _yaml(own: _OwnData | None, rows: Mapping[str, int], out: Path, model: str) -> str:
    def source(path: Path, described: Source) -> str:
        name, columns = _relative(path, out.parent), described.model_dump(exclude_defaults=True, exclude={"file"})
        return _flow({"file": name, **columns}) if columns else quoted(name)

    environment = Environment(trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    environment.filters |= {"quoted": quoted, "json": json.dumps, "source": source, "grouped": "{:,}".format}
    template = environment.from_string(resources.files(__package__).joinpath("init.yaml.jinja").read_text("utf-8"))
    counts = {"train": 0, "test": 0, **rows}
    return template.render(own=own, rows=counts, out=out.name, model=model, shots=SHOTS, large=LARGE)


def _flow(mapping: dict[str, object]) -> str:
    """A mapping on one line."""
    values = {key: _flow(value) if isinstance(value, dict) else quoted(str(value)) for key, value in mapping.items()}
    return "{" + ", ".join(f"{quoted(key)}: {value}" for key, value in values.items()) + "}"


def quoted(text: str) -> str:
    """A YAML scalar, in quotes where it needs them."""
    plain = re.fullmatch(r"[A-Za-z_./][\w./:@ -]*[\w./-]|[A-Za-z_]", text) and ": " not in text
    words = ("yes", "no", "on", "off", "true", "false", "null", "y", "n")
    return text if plain and text.lower() not in words else json.dumps(text, ensure_ascii=not text.isprintable())

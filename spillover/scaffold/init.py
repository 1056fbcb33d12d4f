"""A first experiment for somebody's own files: `spillover init --train tickets.jsonl --test tickets-test.jsonl`.

The file it writes is the documentation a newcomer reads first, so it is short, every line that one might change says
what it does, and it runs as it stands. What the files hold is found by the readers that will read them
(`spillover.data`): a shape that is known needs nothing said, named columns get a template, and few short answers that
come again and again are labels.

Beside one's own test rows, the builtin suite shows what fine-tuning does to other tasks. It is templated text, and
`init` says so: whether real tasks suffer is shown by test sets of real tasks only.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..data.files import Row, open_table
from ..data.load import load_test, load_train
from ..data.shapes import ANSWER_COLUMNS, SHAPES
from ..data.sources import Places
from ..data.tasks import dataset_task
from ..errors import DataError, ExperimentError
from ..experiment.suite import DatasetSpec, Source, load_suite
from ..models import PYPI_SPEC
from ..text.task import Example

TEMPLATED = (
    "The builtin suite is added as cross-task tests. Its templated text shows the machinery;",
    "cross-task changes on real tasks need real test sets.",
)
SOURCES = ("reviews", "deals", "scenes", "quiz", "news")  # of the builtin suite: one set for each of the five tasks
LIMIT = 100
LARGE = 2000  # training rows, beyond which the first experiment takes the first ones only
SHOTS = 2
MAX_LABELS = 20
LABEL_CHARACTERS = 40
CHARACTERS_A_TOKEN = 3.5  # a little under what English has, so that answers are rather not cut
TURNS = ("messages", "conversations")


def write_experiment(out: Path, train: Path | None, test: Path | None, model: str | None) -> list[str]:
    """Write a commented experiment for the user's files, or over the builtin suite; returns what to tell the user.

    Raises ExperimentError where `out` is there already, and DataError for files that cannot be understood.
    """
    if out.exists():
        raise ExperimentError("is there already", where=str(out), allowed="give another --out, or move it away")
    if train and test and train.resolve() == test.resolve():
        raise DataError("is given as training and as test rows", where=str(train), allowed="hold out some rows")
    model = model_from(out.parent, model) if model else PYPI_SPEC
    if train is None and test is None:
        text, said = _builtin(out, model), ["No files given: an experiment over the builtin suite."]
    else:
        own = _read(out, train, test)
        text, said = _own(own, out, model), [*own.said, *TEMPLATED]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, "utf-8")
    except OSError as error:
        raise ExperimentError(f"cannot be written: {error.strerror or error}", where=str(out)) from None
    return [*said, f"Wrote {out}. Next: spillover check {out}, then spillover run {out}"]


# --- what the files hold --------------------------------------------------------------------------


@dataclass(frozen=True)
class _Own:
    """The user's data set as it will stand in the YAML. `source` has what every file of it needs said."""

    name: str
    train: str | None
    test: str | None
    spec: DatasetSpec
    source: Source
    train_rows: int = 0
    test_rows: int = 0
    chat: bool = False
    said: list[str] = field(default_factory=list)


def _read(out: Path, train: Path | None, test: Path | None) -> _Own:
    """The data set of the user's files, read whole: what is wrong with a row is said now."""
    first = train or test
    assert first is not None
    base = out.parent
    rows = open_table(first).rows
    template, source, said = _columns(first, rows)
    own = _Own(
        name=_name(first),
        train=_relative(train, base) if train else None,
        test=_relative(test, base) if test else None,
        spec=DatasetSpec.model_validate({"template": template}),
        source=source,
        chat=template is None and (any(turns in rows[0] for turns in TURNS) or isinstance(rows[0].get("prompt"), list)),
        said=said,
    )
    train_examples, test_examples = _examples(own, base)
    own = replace(own, train_rows=len(train_examples), test_rows=len(test_examples))
    own = _with_answers(own, [example.target for example in (*train_examples, *test_examples)])
    _examples(own, base)  # with its labels, as a run will read it
    return own


def _relative(path: Path, base: Path) -> str:
    """The path from the YAML's folder."""
    try:
        return Path(os.path.relpath(path.expanduser().resolve(), base.resolve())).as_posix()
    except ValueError:  # another drive
        return path.resolve().as_posix()


def model_from(base: Path, model: str) -> str:
    """A model as the YAML in `base` names it: a folder, given from here, from the YAML's folder; a hub id as it is."""
    return _relative(Path(model), base) if Path(model).expanduser().is_dir() else model


def _name(path: Path) -> str:
    """What to call the data set: the file's name without the words that say which part it is."""
    words = [
        word for word in re.split(r"[^a-z0-9]+", path.stem.lower()) if word not in ("", "train", "training", "test")
    ]
    name = "_".join(words) or "mine"
    return f"my_{name}" if name in load_suite("builtin").datasets or name[0].isdigit() else name


def _columns(path: Path, rows: Sequence[Row]) -> tuple[str | None, Source, list[str]]:
    """(template, how to read a file, what to say): nothing where the columns have a shape that is known."""
    columns = list(rows[0])
    shape = next((shape for shape in SHAPES if set(shape.columns) <= set(columns)), None)
    where = f"{path.name}: {len(rows):,} rows"
    if shape is not None:
        return None, Source.model_validate({"file": str(path)}), [f"{where} in the shape {shape.name}."]
    answer = _answer_column(path, columns, rows)
    asked = _question_columns(path, [column for column in columns if column != answer], rows)
    fields = {_field(column): column for column in asked}
    if len(fields) < len(asked):
        raise DataError("two columns have the same name but for signs", where=path.name, allowed="rename one")
    renamed = {name: column for name, column in fields.items() if name != column}
    template = "".join(f"### {_title(name)}:\n{{{name}}}\n" for name in fields) + f"### {_title(_field(answer))}:"
    unused = [column for column in columns if column not in (*asked, answer)]
    said = f"{where}. {', '.join(asked)}: the question; {answer}: the answer"
    said += f"; not used: {', '.join(unused)}." if unused else "."
    target = None if answer in ANSWER_COLUMNS and sum(column in ANSWER_COLUMNS for column in columns) == 1 else answer
    return template, Source.model_validate({"file": str(path), "fields": renamed, "target": target}), [said]


def _answer_column(path: Path, columns: Sequence[str], rows: Sequence[Row]) -> str:
    """The column with a name for answers, else the one whose values are like labels, else the last text."""
    named = [
        column for column in columns if column.lower() in (*ANSWER_COLUMNS, "response", "summary", "category", "class")
    ]
    labels = [column for column in columns if _are_labels([str(row.get(column)) for row in rows])]
    texts = [column for column in columns if _is_text(column, rows)]
    for candidates in (named, labels, texts):
        if candidates and len(columns) > 1:
            return candidates[-1]
    raise DataError(
        f"the columns {', '.join(columns)} do not show what is asked and what is answered",
        where=path.name,
        allowed="for example prompt and completion, messages, instruction and output, or text and label",
    )


def _question_columns(path: Path, columns: Sequence[str], rows: Sequence[Row]) -> list[str]:
    texts = [column for column in columns if _is_text(column, rows) and not _is_identifier(column, rows)]
    if not texts:
        raise DataError(f"no text beside the answer among {', '.join(columns)}", where=path.name)
    return texts


def _is_text(column: str, rows: Sequence[Row]) -> bool:
    values = [row.get(column) for row in rows]
    return all(isinstance(value, str) for value in values) and any(
        re.search(r"[^\W\d_]", str(value)) for value in values
    )


def _is_identifier(column: str, rows: Sequence[Row]) -> bool:
    """Different in every row and never more than a word: a number, a hash, an address."""
    values = [str(row.get(column)) for row in rows]
    named = bool(re.fullmatch(r"(.*_)?(id|idx|index|uuid|guid|url|split|source|date|timestamp)", column.lower()))
    return named and all(len(value.split()) < 3 for value in values)


def _are_labels(values: Sequence[str]) -> bool:
    """Few, short, and each of them again and again."""
    distinct = set(values)
    short = all(0 < len(value.strip()) <= LABEL_CHARACTERS and "\n" not in value.strip() for value in distinct)
    return short and 2 <= len(distinct) <= MAX_LABELS and 3 * len(distinct) <= len(values)


def _field(column: str) -> str:
    """A name that a template can hold."""
    name = re.sub(r"\W+", "_", column).strip("_")
    return name if name and not name[0].isdigit() else f"column_{name}"


def _title(name: str) -> str:
    return name.replace("_", " ").strip().capitalize()


def _examples(own: _Own, base: Path) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Training and test rows, as a run will read them."""
    places = Places(base)
    spec = own.spec.model_copy(
        update={
            # resolved: the YAML's folder may not be there yet, and ".." leads out of it
            part: (own.source.model_copy(update={"file": str((base.resolve() / path).resolve())}),)
            for part, path in (("train", own.train), ("test", own.test))
            if path
        }
    )
    task = dataset_task(own.name, spec, {own.name: spec}, places)
    return (
        load_train(own.name, spec, task, None, places).examples if own.train else (),
        load_test(own.name, spec, task, places).examples if own.test else (),
    )


def _with_answers(own: _Own, targets: Sequence[str]) -> _Own:
    """The data set with its labels, or with a token limit for free text."""
    if not _are_labels(targets):
        longest = sorted(map(len, targets))[int(0.95 * (len(targets) - 1))]
        limit = min(256, max(10, 10 * -(-int(longest / CHARACTERS_A_TOKEN + 2) // 10)))
        said = [*own.said, f"The answers are free text: up to {limit} tokens are generated."]
        return replace(own, spec=own.spec.model_copy(update={"max_new_tokens": limit}), said=said)
    distinct = list(dict.fromkeys(targets))
    labels = tuple(label.strip() for label in distinct)
    said = [*own.said, f"The answers are {len(labels)} labels ({', '.join(labels)}): a classification task."]
    spaces = {label[: len(label) - len(label.lstrip())] for label in distinct}
    if labels == tuple(distinct) or len(set(labels)) < len(labels) or len(spaces) > 1:
        return replace(own, spec=own.spec.model_copy(update={"labels": tuple(distinct)}), said=said)
    # " positive": the space becomes the delimiter, so that the label is the word itself. The text stays the same.
    spec = own.spec.model_copy(update={"labels": labels, "answer_delimiter": spaces.pop()})
    mapping = dict(zip(distinct, labels, strict=True))
    return replace(own, spec=spec, source=own.source.model_copy(update={"target_map": mapping}), said=said)


# --- the YAML -------------------------------------------------------------------------------------


def _own(own: _Own, out: Path, model: str) -> str:
    lines = [
        "# What does fine-tuning on your data change, on it and elsewhere?",
        f"#   spillover check {out.name}    reads everything, trains nothing",
        f"#   spillover plan {out.name}     what it will cost",
        f"#   spillover run {out.name}      stop it at any time, run it again to go on",
        "",
        f"model: {quoted(model)}  # or a hub id, or a folder",
        "suite: builtin  # templated text from five tasks: shows the machinery; real tasks need real test sets",
        "",
        "datasets:",
        f"  {quoted(own.name)}:",
        *_indent(4, _dataset(own)),
        "",
        *_train(own),
        *_test(own),
    ]
    return "\n".join(lines) + "\n"


def _dataset(own: _Own) -> list[str]:
    said = own.source.model_dump(exclude_defaults=True, exclude={"file"})
    lines = []
    for part, path in (("train", own.train), ("test", own.test)):
        if path:
            rows = own.train_rows if part == "train" else own.test_rows
            value = _flow({"file": path, **said}) if said else quoted(path)
            lines.append(f"{part}: {value}  # {rows:,} {'row' if rows == 1 else 'rows'}")
    if own.test is None:
        lines.append("# test: your-test.jsonl  # rows the model is not trained on: without them, nothing is in-domain")
    if own.spec.labels:
        lines.append(
            f"labels: [{', '.join(map(quoted, own.spec.labels))}]  # scored by log-probability, nothing is generated"
        )
    if own.spec.answer_delimiter is not None:
        lines.append(f"answer_delimiter: {json.dumps(own.spec.answer_delimiter)}  # between prompt and answer")
    if isinstance(own.spec.template, str):
        lines += ["template: |-  # the answer follows after a space", *_indent(2, own.spec.template.split("\n"))]
    if own.spec.max_new_tokens:
        lines.append(
            f"max_new_tokens: {own.spec.max_new_tokens}  # 95 of 100 of your answers are about this long or shorter"
        )
    return lines


def _train(own: _Own) -> list[str]:
    if own.train is None:
        return [
            "# Have you fine-tuned the model already? Name the checkpoint or adapter to compare it with the base.",
            "# variants:",
            f"#   - {{name: mine, path: path/to/checkpoint, trained_on: {quoted(own.name)}}}",
            "",
        ]
    lines = ["train:"]
    if own.train_rows > SHOTS + 1:
        lines.append(
            f"  strategies: [ft, {{fticl: {{shots: {SHOTS}}}}}, lora]  # plain; with demonstrations; adapters only"
        )
    else:
        lines.append("  strategies: [ft, lora]  # all weights; adapters only")
    if own.train_rows > LARGE:
        lines.append(f"  sizes: [{LARGE}]  # the first rows of {own.train_rows:,}; leave it out for all")
    if own.chat:
        lines.append("  prompt: chat  # the tokenizer's chat template; p1 for plain text")
    return [*lines, "  learning_rate: 2e-5  # lora: 2e-4", "  num_train_epochs: 2", ""]


def _test(own: _Own) -> list[str]:
    names = ([own.name] if own.test else []) + list(SOURCES)
    few = bool(own.test) and own.test_rows < 2 * SHOTS
    return [
        "test:",
        f"  datasets: [{', '.join(map(quoted, names))}]  # all: every set of the suite, four a task",
        f"  shots: [{'0' if few else f'0, {SHOTS}'}]  # demonstrations before each question",
        f"  prompts: [{'chat' if own.chat else 'p1'}]",
        f"  limit: {LIMIT}  # rows a test set; a larger limit later keeps what is done",
    ]


def _builtin(out: Path, model: str) -> str:
    lines = [
        "# Fine-tune on one task and see what happens to the others, over the builtin suite.",
        "# Templated text shows the machinery, not findings: for those, your own data or suite: paper.",
        f"#   spillover check {out.name}    reads everything, trains nothing",
        f"#   spillover plan {out.name}     what it will cost",
        f"#   spillover run {out.name}      stop it at any time, run it again to go on",
        "",
        f"model: {quoted(model)}  # or a hub id, or a folder",
        "suite: builtin",
        "",
        "train:",
        "  datasets: [reviews]  # or news, quiz, deals, scenes",
        f"  strategies: [ft, {{fticl: {{shots: {SHOTS}}}}}, lora]  # plain; with demonstrations; adapters only",
        "  learning_rate: 2e-5  # lora: 2e-4",
        "  num_train_epochs: 2",
        "",
        "test:",
        f"  datasets: [reviews, reviews_words, {', '.join(SOURCES[1:])}]  # all: every set, four a task",
        f"  shots: [0, {SHOTS}]  # demonstrations before each question",
        "  prompts: [p1]",
        f"  limit: {LIMIT}  # rows a test set; a larger limit later keeps what is done",
    ]
    return "\n".join(lines) + "\n"


def _indent(by: int, lines: Sequence[str]) -> list[str]:
    return [" " * by + line for line in lines]


def _flow(mapping: dict[str, object]) -> str:
    """A mapping on one line."""
    parts = [
        f"{quoted(key)}: {_flow(value) if isinstance(value, dict) else quoted(str(value))}"
        for key, value in mapping.items()
    ]
    return "{" + ", ".join(parts) + "}"


def quoted(text: str) -> str:
    """A YAML scalar, in quotes where it needs them."""
    plain = re.fullmatch(r"[A-Za-z_./][\w./:@ -]*[\w./-]|[A-Za-z_]", text) and ": " not in text
    words = ("yes", "no", "on", "off", "true", "false", "null", "y", "n")
    return text if plain and text.lower() not in words else json.dumps(text, ensure_ascii=not text.isprintable())

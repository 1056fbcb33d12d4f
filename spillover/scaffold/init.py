"""A first experiment for somebody's own files: `spillover init --train tickets.jsonl --test tickets-test.jsonl`.

The file that it writes is the first documentation that a newcomer reads. So it is short, it runs as it stands, and
every line that one may want to change has a comment. Its text is `init.yaml.jinja`.

What the user's files hold is found by the readers of a run (`spillover.data`). A known shape needs no description,
other columns get a template, and few short answers that repeat are labels. Demonstrations are held out of the training
rows and show each label equally. Beside the user's own test rows, a suite shows what fine-tuning does to other tasks.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Literal

from jinja2 import Environment

from ..data.files import Row, open_table, stem
from ..data.load import load_demos, load_test, load_train
from ..data.shapes import MULTIPLE_CHOICE, has_turns
from ..data.sources import Places
from ..data.tasks import dataset_task
from ..errors import DataError, ExperimentError, visible
from ..experiment.suite import HELD, SUITES, DatasetSpec, HoldOut, Source, load_suite
from ..models import PYPI_SPEC
from ..text.demos import RESERVED, pool_and_rows
from ..text.labels import Labels, form, listed
from ..text.stops import LINE_BREAK, STOPS, holds
from ..text.task import Example
from .columns import are_labels, describe, group_column

OWN_OPTIONS = (
    "Each option is scored by its log-probability. The prompt does not list them; a template with {options} does."
)
Added = Literal["abilities", "builtin", "none"]
"""The suite that is added as cross-task tests."""

OF_SUITE: Mapping[Added, tuple[str, ...]] = {
    "abilities": (
        "The suite abilities is added as cross-task tests: {n} sets of real questions, which spillover check fetches",
        "once ({mb} MB). Without a network, a run goes on with your own tests and names the sets that are missing;",
        "--suite builtin adds generated text instead, --suite none nothing.",
    ),
    "builtin": (
        "The suite builtin is added as cross-task tests. Its templated text shows the machinery;",
        "cross-task changes on real tasks need real test sets, as --suite abilities adds.",
    ),
    "none": ("No suite is added: nothing shows what fine-tuning does to other tasks.",),
}
NO_FILES: Mapping[Added, tuple[str, ...]] = {
    "abilities": (
        "No files given: an experiment over the suites bigbench and abilities. spillover check fetches them, once",
        "({mb} MB). Without a network, take --suite builtin.",
    ),
    "builtin": ("No files given: an experiment over the builtin suite.",),
}
LARGE = 2000  # a first experiment trains on so many rows at most
SHOTS = 2  # of free text; of labels, as many as there are
AT_ZERO = "Your rows are tested at 0 shots."
ENOUGH = 500  # of fewer training rows, those held out to choose a learning rate would be too many, or too few to tell
FEWEST = 20  # of fewer training rows, none are held out
LEAST_HELD, MOST_HELD = 48, 250  # a tenth is held out, but at least 48
LISTED = 5  # spellings of labels in a line
CUT = 0.05  # where a blank line would cut a larger share of the answers, it ends none
CHARACTERS_A_TOKEN = 3.5  # of ASCII text; slightly less than in English, so that few answers are cut


def write_experiment(
    out: Path, train: Path | None, test: Path | None, model: str | None, suite: Added = "abilities"
) -> list[str]:
    """Write a commented experiment for the user's files with a suite beside them, or over suites alone.

    Returns lines for the user. Raises ExperimentError where `out` exists already or nothing is given, and DataError for
    files that cannot be understood.
    """
    if suite == "none" and not train and not test:
        raise ExperimentError("neither files nor a suite", where="--suite none", allowed="give --train, --test or both")
    if out.exists():
        raise ExperimentError("is there already", where=str(out), allowed="give another --out, or move it away")
    if train and test and train.resolve() == test.resolve():
        raise DataError("is given as training and as test rows", where=str(train), allowed="hold out some rows")
    files = {part: path for part, path in (("train", train), ("test", test)) if path}
    if odd := next((name for name in [*map(str, files.values()), model or ""] if visible(name) != name), None):
        raise DataError("its name has control characters, which a YAML may not have", where=odd, allowed="another name")
    own, rows = _read(files) if files else (None, {})
    text = _yaml(own, rows, out, model_from(out.parent, model) if model else PYPI_SPEC, suite)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, "utf-8")
    except OSError as error:
        raise ExperimentError(f"cannot be written: {error.strerror or error}", where=str(out)) from None
    from ..data.archives import known  # loads the network library

    about = OF_SUITE[suite] if own else NO_FILES[suite]
    sizes = {"n": len(load_suite("abilities").datasets), "mb": known()["bigbench"].bytes // 1_000_000}
    lines = [*(own.lines if own else ()), *(line.format(**sizes) for line in about)]
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
        rule = self.spec.hold_out
        sources |= {part: sources["train"] for part, key in HELD.items() if rule and getattr(rule, key)}
        spec, places = self.spec.model_copy(update=sources), Places()
        task = dataset_task(self.name, spec, {self.name: spec}, places)
        read = {
            "train": lambda: load_train(self.name, spec, task, None, places).examples,
            "test": lambda: load_test(self.name, spec, task, places).examples,
            "demos": lambda: load_demos(self.name, spec, task, places),
        }
        return {part: read[part]() for part in sources}


def _read(files: Mapping[str, Path]) -> tuple[_OwnData, dict[str, int]]:
    """The data set of the user's files, and the number of rows of each part. All rows are read, to find errors now."""
    first = next(iter(files.values()))
    rows = open_table(first).rows
    found = describe(first, rows)
    spec, chat = DatasetSpec.model_validate({"template": found.template}), has_turns(found.shape, rows[0])
    own = _OwnData(_name(first), files, spec, found.source, chat, (found.line,))
    read = own.rows()
    targets = {part: [text for row in examples for text in row.right] for part, examples in read.items()}
    if found.shape == MULTIPLE_CHOICE:
        own = replace(own, lines=(*own.lines, OWN_OPTIONS))
    else:
        several = any(row.references for examples in read.values() for row in examples)
        own = _with_answers(own, targets, may_be_labels=not several)
    if "train" in files:
        own = _holding_out(own, rows, len(read["train"]))
    read = own.rows()  # again, with the labels, and without what is held out
    trained = {row.target for row in read.get("train", ())}
    if "train" in files and (absent := [label for label in own.spec.labels if label not in trained]):
        own = replace(own, lines=(*own.lines, f"No training row has the label {listed(absent)}."))
    own = _with_shots(own, read)
    return own, {part: len(examples) for part, examples in read.items()}


def _holding_out(own: _OwnData, rows: Sequence[Row], n: int) -> _OwnData:
    """The data set with a rule that holds some of its `n` training rows out, if these are not too few.

    Test rows where no file of them is given, and demonstrations.
    """
    rule: HoldOut | None = None
    if "test" not in own.files:
        rule, line = _test_rows(own, rows, n)
        own = replace(own, lines=(*own.lines, line))
    shots, left = _balanced_shots(own), n - (rule.rows or 0 if rule else 0)
    few = f"{left:,}"
    for demos in (2 * shots, shots):
        held = HoldOut(demos=demos) if rule is None else rule.model_copy(update={"demos": demos})
        found = replace(own, spec=own.spec.model_copy(update={"hold_out": held}))
        if 4 * demos > left:
            continue
        read = found.rows()
        shown, trained = (Counter(row.target for row in read[part]) for part in ("demos", "train"))
        if not own.spec.labels or (_are_even(shown, own.spec.labels) and shown.keys() <= trained.keys()):
            evenly = ", each label equally often" if own.spec.labels else ""
            line = f"{demos} training rows serve as demonstrations{evenly}, and are not trained on."
            return replace(found, lines=(*own.lines, line))
        (label, many) = min((shown + trained).items(), key=lambda one: one[1])
        few = f"{many} with the label {listed([label])}"
    line = f"No demonstrations are held out, since few training rows are left ({few})."
    return replace(own, spec=own.spec.model_copy(update={"hold_out": rule}), lines=(*own.lines, line))


def _are_even(shown: Mapping[str, int], labels: Sequence[str]) -> bool:
    """Whether each label is shown, and as often as any other."""
    return len(shown) == len(labels) and len(set(shown.values())) == 1


def _test_rows(own: _OwnData, rows: Sequence[Row], n: int) -> tuple[HoldOut | None, str]:
    """The rule that holds test rows out of `n` training rows, if these are not too few, and a line on it."""
    if n < FEWEST:
        return None, f"Too few rows to hold some out ({n}, at least {FEWEST}): give --test, or nothing is in-domain."
    by = group_column(rows, {*own.source.fields.values(), own.source.target})
    rule = HoldOut(rows=min(max(n // 10, LEAST_HELD), MOST_HELD, n // 2), by=by)
    try:
        held = len(replace(own, spec=own.spec.model_copy(update={"hold_out": rule})).rows()["test"])
    except DataError as error:
        return None, f"No rows are held out: {error.what}. Give --test."
    together = f"the same {by}" if by else "nearly the same question"
    line = f"{held:,} of {n:,} rows are held out for the test by a rule in the YAML; {together} stays on one side."
    return rule, line


def _balanced_shots(own: _OwnData) -> int:
    """A number of demonstrations that can show each label equally often."""
    return max(SHOTS, len(own.spec.labels))


def _with_shots(own: _OwnData, rows: Mapping[str, Sequence[Example]]) -> _OwnData:
    """The data set with the numbers of shots that it is tested at: 0, and one at which the labels are shown equally.

    Without demonstrations of its own, the last test rows would be shown; only if they are few of many.
    """
    shots, shown = _balanced_shots(own), rows.get("demos", ())
    if not shown and len(rows.get("test", ())) >= 4 * RESERVED:
        shown = pool_and_rows(rows["test"], (), None)[0]
    counts = Counter(example.target for example in shown[:shots])
    both = len(shown) >= shots and (not own.spec.labels or _are_even(counts, own.spec.labels))
    found = replace(own, spec=own.spec.model_copy(update={"shots": (0, shots) if both else (0,)}))
    if rows.get("demos"):
        return found
    how = f"The last {len(shown)} test rows are shown as demonstrations instead." if both else AT_ZERO
    return replace(found, lines=(*found.lines, how))


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
    name = "_".join(word for word in words if word not in ("", "train", "training", "test"))[:60] or "mine"
    taken = {name for suite in SUITES for name in load_suite(suite).datasets}
    return f"my_{name}" if name in taken or name[0].isdigit() else name


def _with_answers(own: _OwnData, targets: Mapping[str, Sequence[str]], may_be_labels: bool) -> _OwnData:
    """The data set with its labels, or with a token limit for free text."""
    source, answered = own.source, [target for found in targets.values() for target in found]
    spelled = Labels(tuple(dict.fromkeys(answered)))  # the first spelling of each label counts
    distinct = tuple(dict.fromkeys(spelled.by_form[form(target)] for target in spelled.names))
    if may_be_labels and are_labels(distinct, len(answered)):
        _refuse_other_labels(own, targets)
        labels = tuple(label.strip() for label in distinct)
        lines = [f"The answers are {len(labels)} labels ({', '.join(labels)}): a classification task."]
        if others := [target for target in spelled.names if target not in distinct]:
            n = sum(target not in distinct for target in answered)
            read = ", ".join(f"{listed([text])} as {listed([spelled.by_form[form(text)]])}" for text in others[:LISTED])
            lines.append(f"{n:,} answers are labels in another spelling, and are read so: {read}.")
        spaces = {label[: len(label) - len(label.lstrip())] for label in spelled.names}
        answers: dict[str, object] = {"labels": distinct}
        if labels != distinct and len(set(labels)) == len(labels) and len(spaces) == 1:
            # " positive": the space becomes the delimiter and the label is the word alone. The text is the same.
            answers = {"labels": labels, **({"answer_delimiter": space} if (space := spaces.pop()) else {})}
            source = source.model_copy(update={"target_map": dict(zip(distinct, labels, strict=True))})
    else:
        longest = sorted(map(_tokens, answered))[int(0.95 * (len(answered) - 1))]
        limit = min(256, max(10, 10 * -(-int(longest + 2) // 10)))
        stop, ends = _stop(answered)
        lines = [f"The answers are free text: up to {limit} tokens are generated{ends}."]
        answers = {"max_new_tokens": limit, **({} if stop is None else {"stop": stop})}
    return replace(own, spec=own.spec.model_copy(update=answers), source=source, lines=(*own.lines, *lines))


def _stop(answers: Sequence[str]) -> tuple[tuple[str, ...] | None, str]:
    """Where answers like these end, None for the default, and words on it."""
    if not any(holds(text.rstrip(), [LINE_BREAK]) for text in answers):
        return (LINE_BREAK,), ", or up to a line break, since all of them are one line"
    if sum(holds(text.rstrip(), STOPS) for text in answers) > CUT * len(answers):
        return (), ", past blank lines, since some of them hold one"
    return None, ", or up to a blank line"


def _tokens(text: str) -> float:
    """About how many tokens a text has, rather too many. Of other letters than ASCII, a byte may be a token."""
    ascii_letters = sum(character.isascii() for character in text)
    return ascii_letters / CHARACTERS_A_TOKEN + len(text.encode()) - ascii_letters


def _refuse_other_labels(own: _OwnData, targets: Mapping[str, Sequence[str]]) -> None:
    """Raises DataError where no label of the test rows is one of the training rows."""
    labels = {part: {form(target): target for target in found} for part, found in targets.items()}
    train, test = labels.get("train", {}), labels.get("test", {})
    if train and test and not train.keys() & test.keys():
        raise DataError(
            f"training labels are {listed(train.values())}, test labels {listed(test.values())}; none is in both",
            where=" and ".join(path.name for path in own.files.values()),
            allowed="name them alike in the files, or write a YAML with target_map",
        )


# --- the YAML -------------------------------------------------------------------------------------


def _yaml(own: _OwnData | None, rows: Mapping[str, int], out: Path, model: str, suite: Added) -> str:
    def source(path: Path, described: Source) -> str:
        name, columns = _relative(path, out.parent), described.model_dump(exclude_defaults=True, exclude={"file"})
        return _flow({"file": name, **columns}) if columns else quoted(name)

    environment = Environment(trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    environment.filters |= {"quoted": quoted, "json": json.dumps, "source": source, "grouped": "{:,}".format}
    environment.filters["held_out"] = lambda rule: _flow(rule.model_dump(exclude_none=True))
    template = environment.from_string(resources.files(__package__).joinpath("init.yaml.jinja").read_text("utf-8"))
    counts = {"train": 0, "test": 0, "demos": 0, **rows}
    shots = own.spec.shots[-1] if own and own.spec.shots else 0
    names = {"own": own, "rows": counts, "out": out.name, "model": model, "suite": suite, "large": LARGE}
    return template.render(**names, shots=shots, chooses=own is None or counts["train"] >= ENOUGH)


def _flow(mapping: dict[str, object]) -> str:
    """A mapping on one line."""
    values = {key: _flow(value) if isinstance(value, dict) else _scalar(value) for key, value in mapping.items()}
    return "{" + ", ".join(f"{quoted(key)}: {value}" for key, value in values.items()) + "}"


def _scalar(value: object) -> str:
    if isinstance(value, tuple):
        return _scalar(value[0]) if len(value) == 1 else f"[{', '.join(map(_scalar, value))}]"
    return str(value) if isinstance(value, int) else quoted(str(value))


def quoted(text: str) -> str:
    """A YAML scalar, in quotes where it needs them."""
    plain = re.fullmatch(r"[A-Za-z_./][\w./:@ -]*[\w./-]|[A-Za-z_]", text) and ": " not in text
    words = ("yes", "no", "on", "off", "true", "false", "null", "y", "n")
    return text if plain and text.lower() not in words else json.dumps(text, ensure_ascii=not text.isprintable())

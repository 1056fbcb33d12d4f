"""Questions: the rows of a test set as text, once for every shot count, prompt format and draw of the demonstrations.

A `Sheet` holds the questions of one condition. It is the same for every variant. A question's `prompt_hash` covers all
that decides a model's response to it and nothing else, so a stored answer is found again, whichever experiment asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

from ..data.catalogue import Catalogue
from ..data.harness import HarnessRow
from ..data.rows import TestSet
from ..errors import DataError, ExperimentError, PromptError, did_you_mean, placed
from ..experiment.schema import Experiment
from ..experiment.suite import DatasetSpec
from ..fingerprint import canonical, fingerprint
from ..text.asked import lay_out
from ..text.demos import RESERVED, mostly_reordered, order, pool_and_rows
from ..text.encode import Encoder
from ..text.joints import AS_ONE, Joints, format_in_test
from ..text.prompt import query, render, render_all
from ..text.request import Request
from ..text.stops import STOPS
from ..text.task import SIZES, Example, PromptFormat, Task
from .grid import Condition, TestInfo
from .rules import ENCODE_VERSION, ENGINE_RULES, RENDER_VERSION

# Decoded where a classification model's own first token begins no label: a few words to look at, and always room for
# the longest label with what may stand around it, such as asterisks. Of the options of a row, which may be sentences,
# the beginning is enough.
FREE_TOKENS = 5
AROUND_LABEL = 2
FREE_TOKENS_OF_OPTIONS = 16


@dataclass(frozen=True)
class Question:
    """A test row as text: everything up to its answer. `prompt_hash` covers all that decides a model's response.

    `of_task` is what a task of lm-evaluation-harness asks about the row, if it is one of its documents.
    """

    example: Example
    text: str
    prompt_hash: str
    of_task: HarnessRow | None = None


@dataclass(frozen=True)
class Sheet:
    """The rows of one test set at one shot count in one prompt format and draw, for every variant alike.

    `demos` are the demonstrations before each row, `max_new_tokens` the limit of a generated answer, and for a task
    that is scored of what is decoded where the model begins no label or option. `joints` say how the rows become ids.
    An answer is cut at the first `stop` string; `stops` says whether generation ends there too.
    """

    test: str
    task: Task
    fmt: PromptFormat
    shots: int
    draw: int
    questions: tuple[Question, ...]
    demos: tuple[Example, ...]
    max_new_tokens: int
    joints: Joints = AS_ONE
    stop: tuple[str, ...] = STOPS
    stops: bool = True

    @property
    def is_of_harness(self) -> bool:
        """Whether these are documents of a task of lm-evaluation-harness, which are asked and scored its way."""
        return self.questions[0].of_task is not None

    # Thousands of variants are asked one sheet, so what follows from its texts is computed once.

    @cached_property
    def condition(self) -> Condition:
        return Condition(self.test, self.fmt.name, self.shots, self.draw)

    @cached_property
    def identity(self) -> str:
        """What a cell's key says of the sheet, in canonical form."""
        return canonical([[row.prompt_hash, row.example.doc_id, *row.example.right] for row in self.questions])

    @cached_property
    def demo_characters(self) -> int:
        return sum(len(query(self.fmt, demo)) + len(demo.target) for demo in self.demos)

    @cached_property
    def prompt_characters(self) -> int:
        """The characters of all prompts in full."""
        return sum(len(row.text) for row in self.questions)

    @cached_property
    def stored_characters(self) -> int:
        """The characters of the rows as predictions hold them."""
        examples = [row.example for row in self.questions]
        return sum(sum(map(len, example.fields.values())) + len(example.target) for example in examples)

    @cached_property
    def row_characters(self) -> int:
        """The characters of the rows themselves: those of lm-evaluation-harness have demonstrations drawn anew."""
        if self.is_of_harness:
            return self.prompt_characters
        return sum(sum(map(len, row.example.fields.values())) + 40 for row in self.questions)


def requests_for(sheet: Sheet, questions: Sequence[Question], encoder: Encoder) -> list[Request]:
    """One request a question, or more for lm-evaluation-harness. Raises PromptError for a prompt that does not fit the
    model's context."""
    if sheet.is_of_harness:
        laid = lay_out([question.of_task.asked for question in questions if question.of_task], encoder)
        return [request for one in laid for request in one.requests]
    texts = [question.text for question in questions]
    labels_of = [sheet.task.options_of(question.example) for question in questions]
    try:
        split = sheet.joints.options(encoder, texts, labels_of, chat=sheet.fmt.chat)
    except PromptError as error:
        if sheet.task.own_options and len(questions) > 1:  # the row by itself, so that the error can name it
            for question in questions:
                requests_for(sheet, [question], encoder)
        row = f"row {questions[0].example.doc_id}: " if sheet.task.own_options else ""
        raise PromptError(f"{row}{error.what}", where=error.where, allowed=error.allowed) from None
    requests = []
    for labels, (ids, options) in zip(labels_of, split, strict=True):
        longest = AROUND_LABEL + max(map(len, options), default=0)
        limit = sheet.max_new_tokens
        lengths: tuple[tuple[int, ...], ...] = ()
        if sheet.task.own_options:
            limit = min(limit, max(FREE_TOKENS, longest))
            lengths = tuple(tuple(map(size, labels)) for size in SIZES.values())
        requests.append(Request(ids, options, limit, encoder.beginnings(labels) if labels else (), lengths))
    for question, request in zip(questions, requests, strict=True):
        encoder.refuse_beyond(chain(request.prompt, *request.options), f"row {question.example.doc_id}")
        if request.reach > encoder.max_context:
            needs = f"row {question.example.doc_id} at {sheet.shots} shots needs {request.reach} tokens"
            where = f"{sheet.test}, prompt format {sheet.fmt.name}"
            allowed = "fewer test.shots, or a model with a longer context"
            raise PromptError(f"{needs}, the model has {encoder.max_context}", where=where, allowed=allowed)
    return requests


@dataclass(frozen=True)
class SheetMaker:
    """Writes test sets out as sheets. What is odd goes to the catalogue's findings."""

    experiment: Experiment
    catalogue: Catalogue
    encoder: Encoder

    def sheets(self, test: TestSet) -> tuple[TestInfo, list[Sheet]] | None:
        """A test set's sheets with what a table says of it; None and a warning where no shot count is left to ask."""
        name, task, asked, find = test.name, test.task, self.experiment.test, self.catalogue.find
        score_demos = self.experiment.protocol.demos_in_test == "scored"
        shot_counts = self._shots(self.catalogue.specs[name], task)
        if not shot_counts:
            what = f"test set left out: none of the shots asked for ({_listed(asked.shots)}) is among its own"
            find("warning", f"datasets.{name}.shots", f"{what} ({_listed(self.catalogue.specs[name].shots or ())})")
            return None
        if left_out := [shots for shots in asked.shots if shots not in shot_counts] if asked.shots != "default" else []:
            own = _listed(self.catalogue.specs[name].shots or ())
            find("note", f"datasets.{name}.shots", f"not asked at {_listed(left_out)} shots; it has {own}")
        # Nothing is held back where nothing is shown. Shots that are added later take rows away, and change none.
        examples = test.examples[asked.skip :]
        if not examples:
            what = f"all of its {len(test.examples):,} rows are skipped"
            raise DataError(what, where=f"datasets.{name}", allowed=f"test.skip below {len(test.examples):,}")
        pool, rows, shown = pool_and_rows(
            examples, test.demos, asked.limit, RESERVED if any(shot_counts) else 0, score_demos
        )
        excluded = 0 if score_demos else shown
        if not rows:
            raise DataError("no test row is left beside the demonstrations", where=f"datasets.{name}")
        self.catalogue.find_notes(name, test)
        within = len(examples[: asked.limit])
        if held_back := within - len(rows) - excluded:
            find("note", name, f"{held_back} of {within} test rows serve as demonstrations and are not scored")
        if shown:
            fate = "are scored" if score_demos else "are not scored"
            find("note", name, f"{shown} test rows are demonstrations too and {fate}")
        if alike := mostly_reordered(len(pool), shot_counts, len(asked.draws)):
            drawn = f"draws of its {' or '.join(map(str, alike))} demonstrations out of {len(pool)}"
            find("warning", name, f"{drawn} differ mostly in order")
        sheets = []
        for fmt in self._formats(task):
            for shots in shot_counts:
                if shots > len(pool):
                    what = f"test set {name!r} has {len(pool)} demonstrations, {shots} shots are asked for"
                    allowed = f"at most {len(pool)}" + ("" if test.demos else ", or more rows than test.limit")
                    raise ExperimentError(what, where="test.shots", allowed=allowed)
                for draw in asked.draws if shots else asked.draws[:1]:
                    demos = order(pool, task, asked.demos, draw)[:shots]
                    sheets.append(self.sheet(name, task, fmt, shots, draw, demos, rows))
        self._warn_of(sheets)
        of_task = task.name, task.kind, task.labels, task.metrics
        notes = (*test.notes, *test.lacking)
        stop = () if task.is_scored else task.stop
        info = TestInfo(name, test.title, *of_task, test.source, len(rows), excluded, notes, task.chance(rows), stop)
        return info, sheets

    def _shots(self, spec: DatasetSpec, task: Task) -> Sequence[int]:
        asked = self.experiment.test.shots
        if asked == "default":
            return spec.shots if spec.shots is not None else task.shots
        return [shots for shots in asked if spec.shots is None or shots in spec.shots]

    def _formats(self, task: Task) -> list[PromptFormat]:
        asked = self.experiment.test.prompts
        if asked == "default":
            return list(task.prompts.values())
        usable = [name for name in asked if name in task.prompts or name == "chat"]
        return [prompt_format(task, name, "test.prompts") for name in usable] or list(task.prompts.values())[:1]

    def sheet(
        self,
        test: str,
        task: Task,
        fmt: PromptFormat,
        shots: int,
        draw: int,
        demos: tuple[Example, ...],
        rows: Sequence[Example],
    ) -> Sheet:
        """Rows in one condition, behind these demonstrations."""
        protocol, limit = self.experiment.protocol, self._max_new_tokens(task)
        fmt = format_in_test(protocol, fmt, self.encoder, shots)
        with placed(f"{test}, {fmt.name}"):
            texts = render_all(fmt, demos, rows, self.encoder.chat_template)
            head = len(texts[0]) - len(render(fmt, (), rows[0], self.encoder.chat_template))
        joints = Joints.under(protocol, self.encoder, fmt, head, bos=not task.is_scored)
        stops = protocol.stop == "blank_line" or task.is_scored
        rules = [RENDER_VERSION, ENCODE_VERSION, ENGINE_RULES, self.encoder.identity, requested(self.experiment, fmt)]
        stop = STOPS if task.is_scored else task.stop
        departures = {**joints.departures(), **({} if stops else {"stop": protocol.stop})}
        departures |= {} if stop == STOPS else {"until": stop}
        common = fingerprint([rules, task.labels, limit, fmt.chat, *([departures] if departures else [])])
        keys = (
            fingerprint([common, text, *([row.options] if row.options else [])])
            for row, text in zip(rows, texts, strict=True)
        )
        written = tuple(map(Question, rows, texts, keys))
        return Sheet(test, task, fmt, shots, draw, written, demos, limit, joints, stop, stops)

    def _warn_of(self, sheets: Sequence[Sheet]) -> None:
        """Where a switch of the protocol cannot do what it says, or makes two labels one."""
        protocol, find = self.experiment.protocol, self.catalogue.find
        if protocol.bos == "mixed" and self.encoder.bos_text is None:
            what = "has no beginning-of-sequence text (BOS), so protocol.bos: mixed changes nothing"
            find("warning", "tokenizer", what)
        for sheet in sheets if protocol.label_scoring == "first_token" else ():
            for shared in shared_first_tokens(sheet, self.encoder):
                what = f"labels {' and '.join(shared)} begin with the same token: scored by it, both mean {shared[0]}"
                find("warning", f"{sheet.task.name}, {sheet.fmt.name}", what)

    def _max_new_tokens(self, task: Task) -> int:
        if not task.is_scored:
            return task.max_new_tokens
        if task.own_options:
            return FREE_TOKENS_OF_OPTIONS
        return max(FREE_TOKENS, AROUND_LABEL + max(answer_tokens(self.encoder, task.labels or ())))


def kept(sheet: Sheet) -> dict[str, Any]:
    """What a report shows of a sheet: its prompts by hash, in two parts of which the first is common to all.

    The first part ends where a demonstration does, so that with the second it is what was asked, and alone what was
    asked before.
    """
    texts = [row.text for row in sheet.questions]
    first, last = min(texts), max(texts)  # what these two have in common, all have
    common = first[: next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))]
    end = common.rfind(sheet.fmt.demo_separator)
    before = common[: end + len(sheet.fmt.demo_separator)] if sheet.shots and end >= 0 else ""
    after = {row.prompt_hash: row.text[len(before) :] for row in sheet.questions}
    columns = dict(zip(("test_dataset", "prompt", "shots", "draw"), sheet.condition, strict=True))
    return {**columns, "template": sheet.fmt.template, "before": before, "after": after}


def shared_first_tokens(sheet: Sheet, encoder: Encoder) -> list[tuple[str, ...]]:
    """Labels that begin with one token after the sheet's first row, which it alone cannot tell apart."""
    if not sheet.task.labels:
        return []
    [(_, options)] = sheet.joints.options(encoder, [sheet.questions[0].text], [sheet.task.labels], sheet.fmt.chat)
    by_first: dict[int, list[str]] = {}
    for label, option in zip(sheet.task.labels, options, strict=True):
        by_first.setdefault(option[0], []).append(label.strip())
    return [tuple(shared) for shared in by_first.values() if len(shared) > 1]


def answer_tokens(encoder: Encoder, answers: Sequence[str]) -> list[int]:
    """How many tokens each answer takes after a prompt, with the space before it."""
    rows = encoder.continuation([":"] * len(answers), [" " + answer.strip() for answer in answers])
    return [len(ids) - start for ids, start in rows]


def requested(experiment: Experiment, fmt: PromptFormat, training: bool = False) -> dict[str, object]:
    """What enters a key only because the YAML asks for something other than the default.

    For a training, an engine counts if it shares no prefixes: which of the others answers later changes no weight.
    """
    asked: dict[str, object] = {} if experiment.precision == "auto" else {"precision": experiment.precision}
    asked |= {} if experiment.engine == "shared" or (training and experiment.shares) else {"engine": experiment.engine}
    kwargs = experiment.chat_template_kwargs
    return {**asked, "chat_template_kwargs": dict(kwargs)} if kwargs and fmt.chat else asked


def prompt_format(task: Task, name: str, where: str) -> PromptFormat:
    """A prompt format of the task by name; `chat` sends the task's first through the tokenizer's chat template."""
    if name in task.prompts:
        return task.prompts[name]
    if name == "chat":
        return PromptFormat("chat", next(iter(task.prompts.values())).template, chat=True)
    allowed = did_you_mean(name, [*task.prompts, "chat"])
    raise ExperimentError(f"task {task.name!r} has no prompt format {name!r}", where=where, allowed=allowed)


def refuse_unknown_prompts(asked: Sequence[str], tasks: Sequence[Task]) -> None:
    """A format that only some tasks have is left out for the others; one that none has is a slip of the pen."""
    names = {fmt: None for task in tasks for fmt in task.prompts} | {"chat": None}
    for prompt in asked:
        if tasks and prompt not in names:
            what = f"no test set has a prompt format {prompt!r}"
            raise ExperimentError(what, where="test.prompts", allowed=did_you_mean(prompt, names))


def _listed(shots: Sequence[int] | str) -> str:
    return shots if isinstance(shots, str) else ", ".join(map(str, shots)) or "none"

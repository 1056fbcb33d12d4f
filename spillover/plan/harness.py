"""Tasks of lm-evaluation-harness as test sets: their documents as sheets, at every shot count, format and draw.

A task that cannot be had is left out with a warning, like a data set without a source. What it asks and how it scores
is its own (`data.harness`); the key of a question covers both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..data.harness import OF_A_TASK, Harness, HarnessRow, HarnessSet
from ..data.harness_scores import Score
from ..errors import DataError, ExperimentError, Level, PromptError, SourceUnavailable
from ..experiment.schema import Experiment
from ..experiment.suite import DatasetSpec
from ..fingerprint import fingerprint
from ..text.asked import cut_otherwise, room_for_prompt
from ..text.encode import Encoder
from ..text.task import PromptFormat, Task
from .grid import TestInfo
from .questions import Question, Sheet, requested
from .rules import ENGINE_RULES, LM_EVAL_VERSION

FORMAT = "lm_eval"
"""The prompt format of such a test set: the task's own."""

Find = Callable[[Level, str, str], None]


@dataclass(frozen=True)
class HarnessTest:
    """A test set with its sheets. `spec` has its roles."""

    info: TestInfo
    spec: DatasetSpec
    task: Task
    sheets: tuple[Sheet, ...]


def harness_tests(experiment: Experiment, base: Path, encoder: Encoder, find: Find) -> list[HarnessTest]:
    """The test sets of `test.lm_eval`. What is odd goes to `find`.

    Raises ExperimentError for an unknown task, and for a name that stands twice.
    """
    maker = _Maker(experiment, encoder, find)
    harness, tests = Harness(base), list[HarnessTest]()
    names = set(experiment.all_datasets())
    for number, asked in enumerate(experiment.test.lm_eval):
        where = f"test.lm_eval.{number}"
        try:
            loaded = harness.load(asked.task, where)
        except SourceUnavailable as error:
            _leave_out(find, where, error)
            continue
        for one in loaded:
            if one.name in names:
                what = f"{asked.task}: a test set {one.name!r} is there already"
                raise ExperimentError(what, where=where, allowed="each name once")
            names.add(one.name)
            spec = DatasetSpec(in_domain=asked.in_domain, out_of_domain=asked.out_of_domain)
            try:
                tests.append(maker.test(one, spec))
            except SourceUnavailable as error:
                _leave_out(find, where, error)
            except DataError as error:
                if harness.is_file(asked.task):  # a slip in a file of the user's
                    raise
                _leave_out(find, where, error)
    return tests


def _leave_out(find: Find, where: str, error: DataError) -> None:
    allowed = f" ({error.allowed})" if error.allowed else ""
    find("warning", error.where or where, f"test set left out: {error.what}{allowed}")


@dataclass(frozen=True)
class _Maker:
    experiment: Experiment
    encoder: Encoder
    find: Find

    def test(self, one: HarnessSet, spec: DatasetSpec) -> HarnessTest:
        """A test set at every shot count, format and draw."""
        test, sheets = self.experiment.test, list[Sheet]()
        task: Task | None = None
        shot_counts = self._shots(one)
        for fmt in self._formats(one):
            for shots in shot_counts:
                for draw in test.draws if shots else test.draws[:1]:
                    rows = self._rows(one, fmt, shots, draw)
                    self._refuse_odd(one.name, rows)
                    task = task or self._task(one, rows, shot_counts)
                    sheets.append(self._sheet(one.name, task, fmt, shots, draw, rows))
        assert task is not None
        asked = {tuple(question.prompt_hash for question in sheet.questions): sheet for sheet in reversed(sheets)}
        sheets = list(reversed(asked.values()))  # whole texts are the same at any shot count, in any format
        of_first = [row.of_task.asked for row in sheets[0].questions if row.of_task]
        if differ := cut_otherwise(of_first, self.encoder):
            what = f"{differ} of {len(of_first)} documents have other tokens than our own rule would make of them"
            self.find("note", one.name, f"{what}: they are cut as lm-evaluation-harness cuts them")
        versions = ", ".join(dict.fromkeys(task.version for task in one.tasks))
        info = TestInfo(
            name=one.name,
            title=one.name,
            task=one.name,
            kind=task.kind,
            labels=None,
            metrics=task.metrics,
            source=f"lm-evaluation-harness, {one.name}, version {versions}",
            n=len(sheets[0].questions),
        )
        return HarnessTest(info, spec, task, tuple(sheets))

    def _shots(self, one: HarnessSet) -> Sequence[int]:
        """The shot counts: those asked for, else the task's own. A task that sets 0 keeps 0, as in `lm_eval`."""
        asked, own = self.experiment.test.shots, one.tasks[0].shots
        if asked == "default":
            return [own or 0]
        if own == 0 and list(asked) != [0]:
            what = "is asked at 0 shots alone: its configuration sets num_fewshot: 0"
            self.find("warning", one.name, f"{what}; a copy of its YAML file without that line is asked at all")
            return [0]
        return asked

    def _formats(self, one: HarnessSet) -> list[PromptFormat]:
        asked = self.experiment.test.prompts
        names = [FORMAT] if asked == "default" else [name for name in asked if name in (FORMAT, "chat")] or [FORMAT]
        if "chat" in names and self.encoder.chat_template is None:
            raise PromptError("the tokenizer has no chat template", where="test.prompts: chat")
        template, separator = one.tasks[0].template, one.tasks[0].separator
        return [PromptFormat(name, template, demo_separator=separator, chat=name == "chat") for name in names]

    def _rows(self, one: HarnessSet, fmt: PromptFormat, shots: int, draw: int) -> list[HarnessRow]:
        limit, skip = self.experiment.test.limit, self.experiment.test.skip
        if skip:
            what = "a task of lm-evaluation-harness begins with its first document"
            raise ExperimentError(what, where="test.skip", allowed="0 with test.lm_eval")
        if limit is not None and len(one.tasks) > 1:
            limit = max(1, limit // len(one.tasks))
            what = f"{len(one.tasks)} tasks with at most {limit} documents each, by test.limit"
            self.find("note", one.name, what)
        chat = self._chat if fmt.chat else None
        made = [task.rows(shots, limit, draw, chat, n * OF_A_TASK) for n, task in enumerate(one.tasks)]
        return [row for rows in made for row in rows]

    def _refuse_odd(self, name: str, rows: Sequence[HarnessRow]) -> None:
        """Raises SourceUnavailable for answers that leave no room for a prompt, and for a set that asks in two ways."""
        where = f"test.lm_eval: {name}"
        if not rows:
            raise SourceUnavailable("it has no document", where=where)
        if len(ways := {row.asked.way for row in rows}) > 1:
            raise SourceUnavailable(
                f"it asks by {' and '.join(sorted(ways))}", where=where, allowed="its tasks by name"
            )
        try:
            for asked in {row.asked.max_new_tokens: row.asked for row in rows}.values():
                room_for_prompt(asked, self.encoder.max_context)
        except PromptError as error:
            raise SourceUnavailable(error.what, where=where, allowed=error.allowed) from None

    def _chat(self, messages: list[dict[str, Any]], add_generation_prompt: bool = True) -> str:
        """Messages as the chat template writes them; without a generation prompt the last one is gone on with."""
        assert self.encoder.chat_template is not None
        return self.encoder.chat_template.asked(messages, add_generation_prompt)[0]

    def _task(self, one: HarnessSet, rows: Sequence[HarnessRow], shot_counts: Sequence[int]) -> Task:
        first = rows[0]
        scores = first.task.kinds([row for row in rows if row.task is first.task])
        if one.scores:
            scores = [score for score in scores if score.name in one.scores] or scores
        shown = [score for score in scores if score.way != "other"]
        if not shown or not shown[0].may_be_first:
            what = "it has no score of each document that is from 0 to 1, and better the higher it is"
            raise SourceUnavailable(what, where=f"test.lm_eval: {one.name}", allowed="ask it with lm_eval itself")
        self._note_odd(one.name, scores)
        return Task(
            name=one.name,
            fields=("text",),
            labels=None,
            prompts=MappingProxyType({FORMAT: PromptFormat(FORMAT, "{text}")}),
            metrics=tuple(score.key for score in shown),
            shots=tuple(shot_counts),
            fticl_shots=(),
            max_new_tokens=first.asked.max_new_tokens,
            title=one.name,
        )

    def _note_odd(self, name: str, scores: Sequence[Score]) -> None:
        if whole := [score.name for score in scores if score.way == "other"]:
            what = f"{', '.join(whole)}: lm-evaluation-harness alone can compute it, so it has no interval"
            self.find("note", name, what)

    def _sheet(
        self, test: str, task: Task, fmt: PromptFormat, shots: int, draw: int, rows: Sequence[HarnessRow]
    ) -> Sheet:
        read = [self.encoder.identity, sorted(self.encoder.ends_of_generate)]
        rules = [LM_EVAL_VERSION, ENGINE_RULES, *read, requested(self.experiment, fmt)]
        common = fingerprint(rules)
        questions = tuple(Question(row.example, row.asked.shown, _key(common, row), row) for row in rows)
        return Sheet(test, task, fmt, shots, draw, questions, (), task.max_new_tokens, stops=False)


def _key(common: str, row: HarnessRow) -> str:
    asked = row.asked
    content = [asked.way, asked.texts, asked.until, asked.max_new_tokens]
    return fingerprint([common, row.task.identity, row.content, content])

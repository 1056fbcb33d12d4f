"""Tasks of lm-evaluation-harness: its documents, demonstrations and prompts, and its own scores of the answers.

`Harness.load` builds a task by name, or from a YAML file of the user's, by lm-evaluation-harness's own `TaskManager`.
`HarnessTask.rows` are its documents with what is asked about each, and `HarnessTask.scores` runs its filters and its
`process_results`. Nothing of this is written a second time here.

What cannot be had is refused in one line: a task whose data are on a hub that is out of reach, one that draws answers
at random, one with pictures, one that runs code which the model wrote.

The library is imported when the first task is loaded. It is an extra: `pip install 'spillover[lm-eval]'`.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..disk import file_sha256
from ..errors import DataError, ExperimentError, SourceUnavailable, did_you_mean
from ..fingerprint import fingerprint
from ..text.asked import Asked
from ..text.task import Example
from .harness_asked import asked_of
from .harness_code import SEED, as_theirs, plain, sources
from .harness_scores import MADE_UP, TRIED, Score, adds_up, is_fraction, texts_of
from .hub import offline_where_out_of_reach

MISSING = "tasks of lm-evaluation-harness need it: pip install 'spillover[lm-eval]'"
PROBABILITY = "byte_probability,none"
OF_A_TASK = 1_000_000  # the rows of a group's second task begin with this number

# Of its configuration: what decides a score, beside the document and the texts.
SCORING = ["output_type", "doc_to_text", "doc_to_target", "doc_to_choice", "process_results", "metric_list"]
SCORING += ["filter_list", "repeats"]
KNOWN = {"mean", "nanmean", "perplexity", "weighted_perplexity", "bits_per_byte", "f1_score"}
OF_TEXTS = {"bleu", "chrf", "chrfpp"}  # from 0 to 100
RIGHT_OR_WRONG = {"acc", "acc_norm", "acc_bytes", "acc_mutual_info", "exact_match"}


@dataclass(frozen=True)
class HarnessRow:
    """A document of a task: the row for the reader, what is asked, and what the task needs for its score."""

    example: Example
    asked: Asked
    task: HarnessTask
    document: Any
    instances: Sequence[Any]

    @property
    def content(self) -> str:
        """The document as text, for keys."""
        return json.dumps(self.document, sort_keys=True, default=str)


class HarnessTask:
    """One task. `task` is lm-evaluation-harness's own object."""

    def __init__(self, name: str, task: Any) -> None:
        self.name, self._task = name, task
        self.shots: int | None = task.get_config("num_fewshot")
        self.version = str(getattr(task, "VERSION", ""))
        _refuse(name, task)
        listed = getattr(task, "_metric_fn_list", None)
        if task.OUTPUT_TYPE == "multiple_choice" and listed is not None and not RIGHT_OR_WRONG.intersection(listed):
            listed["acc"] = None  # it has only scores of all documents together

    @cached_property
    def identity(self) -> str:
        """A fingerprint of all that decides a score, beside the document, the texts and the answer."""
        import lm_eval

        config = {key: plain(self._task.get_config(key)) for key in SCORING}
        files = sorted({file_sha256(Path(file)) for file in sources(self._task, SCORING)})
        return fingerprint([self.name, self.version, config, files, getattr(lm_eval, "__version__", "")])

    @property
    def template(self) -> str:
        """How it writes a document, if that is no function."""
        written = self._task.get_config("doc_to_text")
        return written if isinstance(written, str) else "{text}"

    @cached_property
    def separator(self) -> str:
        """What stands between its demonstrations."""
        return str(self._task.get_config("fewshot_delimiter") or "\n\n")

    def rows(
        self, shots: int, limit: int | None, draw: int = 0, chat: Callable[..., str] | None = None, first: int = 0
    ) -> list[HarnessRow]:
        """The first `limit` documents, with `shots` demonstrations before each. `chat` writes messages as a text.

        Raises DataError for what its configuration or its functions refuse.
        """
        task = self._task
        task.set_config(key="num_fewshot", value=shots)
        task.set_fewshot_seed(seed=SEED + draw)
        with as_theirs(f"task {self.name}"):
            asking: dict[str, Any] = {}
            if chat is not None:
                asking = {"apply_chat_template": True, "fewshot_as_multiturn": True, "chat_template": chat}
            task.build_all_requests(limit=limit, **asking)
            by_document: dict[int, list[Any]] = {}
            for instance in task.instances:
                by_document.setdefault(instance.doc_id, []).append(instance)
            documents = dict(task.doc_iterator(limit=limit))
            found = []
            for number, instances in by_document.items():
                instances.sort(key=lambda instance: instance.idx)
                asked = asked_of(self.name, instances)
                example = self._example(first + number, documents[number], asked)
                found.append(HarnessRow(example, asked, self, documents[number], tuple(instances)))
        return found

    def scores(self, rows: Sequence[HarnessRow], responses: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
        """What its filters and its `process_results` make of the responses to each document, by metric and filter."""
        with as_theirs(f"task {self.name}"):
            instances = []
            for row, own in zip(rows, responses, strict=True):
                for instance, response in zip(row.instances, own, strict=True):
                    instance.resps = [response] * (instance.repeats or 1)
                    instance.filtered_resps = {}
                    instances.append(instance)
            for ensemble in self._task._filters:
                ensemble.apply(instances)
            return [self._scored(row) for row in rows]

    def _scored(self, row: HarnessRow) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name in row.instances[0].filtered_resps:
            filtered = [instance.filtered_resps[name] for instance in row.instances]
            made = self._task.process_results(row.document, filtered)
            found |= {f"{metric},{name}": plain(value) for metric, value in made.items()}
        return found | self._added(row, found)

    def _added(self, row: HarnessRow, found: Mapping[str, Any]) -> dict[str, float]:
        """Scores of the document alone, for tasks whose own are of all documents together.

        Of a text it is the probability of a byte, as a geometric mean; of an answer BLEU and chrF, from 0 to 1.
        """
        way, length = row.asked.way, len(row.asked.texts[0][1].encode())
        if way == "generate_until":
            names = [name for name in found if self._known_as(_metric(name)) in OF_TEXTS]
            return {_alone(name): self.together(name, [found[name]]) / 100 for name in names}
        if len(row.instances) > 1 or type(self._task).__module__ != "lm_eval.api.task":
            return {}
        response = next(iter(row.instances[0].filtered_resps.values()))
        log = response if way == "loglikelihood_rolling" else response[0]
        return {PROBABILITY: math.exp(log / max(1, length))}

    def together(self, name: str, values: Sequence[Any]) -> float:
        """The score of all documents, by its own aggregation. Raises DataError for what its function refuses."""
        with as_theirs(f"task {self.name}: {name}"):
            return float(self._aggregation(_metric(name))(list(values)))

    def kinds(self, rows: Sequence[HarnessRow]) -> list[Score]:
        """Its scores, from the first of its rows. Those come first that verdict and matrix may show.

        Raises DataError for what its functions refuse.
        """
        with as_theirs(f"task {self.name}"):
            return self._kinds([scores for row in rows[:TRIED] for scores in self._made_up(row)])

    def _kinds(self, made: Sequence[Mapping[str, Any]]) -> list[Score]:
        better = self._task.higher_is_better()
        is_plain = not callable(self._task.get_config("process_results")) and hasattr(self._task, "_metric_fn_list")
        listed = (f"{m},{one.name}" for one in self._task._filters for m in self._task.aggregation())
        found = []
        for name in dict.fromkeys(name for scores in made for name in scores) or listed:
            metric = _metric(name)
            known, values = self._known_as(metric), [scores.get(name) for scores in made]
            way = known if known in KNOWN and adds_up(known, values) else "other"
            if way == "mean" and is_plain and metric in RIGHT_OR_WRONG:
                way = "share"
            elif way == "mean" and is_fraction(values):
                way = "fraction"
            if metric != "bypass":
                found.append(Score(name, way, bool(better.get(metric, True))))
        return sorted(found, key=lambda score: not score.may_be_first)

    def _made_up(self, row: HarnessRow) -> list[dict[str, Any]]:
        """How it scores made-up answers, wrong and right ones: their scale shows. Empty if it refuses them all."""
        many = len(row.instances)
        tried: list[list[Any]]
        if row.asked.way == "generate_until":
            tried = [[text] for text in ["", row.example.target, *texts_of(row.document)[:MADE_UP]]]
        elif row.asked.way == "loglikelihood_rolling":
            tried = [[-1.0] * many, [-1000.0] * many]
        else:
            falling = [(-1.0 - 20 * place, place == 0) for place in range(many)]
            tried = [[(-1.0, False)] * many, falling, falling[::-1], [(-1000.0, True)] * many]
        found = []
        for responses in tried:
            with contextlib.suppress(DataError):
                found += self.scores([row], [responses])
        return found

    def _aggregation(self, metric: str) -> Callable[[list[Any]], Any]:
        from lm_eval.api.metrics import mean

        found: Callable[[list[Any]], Any] = self._task.aggregation().get(metric, mean)
        return found

    def _known_as(self, metric: str) -> str:
        """The name of its aggregation, if that is one of the library's own; a partial function has no name."""
        from lm_eval.api import metrics as theirs

        function = self._aggregation(metric)
        name = getattr(function, "__name__", "")
        return name if name and function is getattr(theirs, name, None) else ""

    def _example(self, number: int, document: Any, asked: Asked) -> Example:
        text = target = ""
        with contextlib.suppress(Exception):  # only for the reader: what a task's functions may raise is open
            text = self._task.doc_to_text(document)
        with contextlib.suppress(Exception):
            target = self._task.doc_to_target(document)
            if isinstance(target, int) and self._task.get_config("doc_to_choice") is not None:
                target = self._task.doc_to_choice(document)[target]
        shown = text if isinstance(text, str) and text else asked.shown
        listed = " | ".join(map(str, target)) if isinstance(target, list) else str(target)
        return Example(number, {"task": self.name, "text": shown}, listed.strip())


@dataclass(frozen=True)
class HarnessSet:
    """A test set: one task, or all tasks of a group whose score is the mean over all their documents."""

    name: str
    tasks: tuple[HarnessTask, ...]
    scores: tuple[str, ...] = ()
    """Of a group: the names of its scores."""


class Harness:
    """Loads tasks. `folder` is where paths start."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._managers: dict[tuple[Path | None, bool], Any] = {}

    def load(self, name: str, where: str) -> list[HarnessSet]:
        """The test sets of a name: a task, a group, a tag, or a YAML file of one.

        Raises SourceUnavailable for what cannot be had here, ExperimentError for an unknown name, and DataError for a
        file that is wrong.
        """
        try:
            import lm_eval  # noqa: F401
        except ImportError:
            raise ExperimentError(MISSING, where=where) from None
        path = self._path(name)
        if path is not None and not path.is_file():
            raise ExperimentError("no such file", where=f"{where}: {path}", allowed="a task's YAML file, or its name")
        place = f"{where}: {name}"
        with offline_where_out_of_reach(path is None), as_theirs(place, DataError if path else SourceUnavailable):
            if path is not None:
                return _sets(self._of_file(path))
            manager = self._manager()
            if name not in manager.task_index:
                raise ExperimentError(f"unknown task {name!r}", where=where, allowed=_nearest(name, manager.all_tasks))
            return _sets(manager._load_spec(name))

    def _of_file(self, path: Path) -> Any:
        """The task or the group of a YAML file. The tasks of a group stand in its folder, or are of the library."""
        from lm_eval.tasks._yaml_loader import load_yaml

        config = load_yaml(path, resolve_func=False)
        if "group" not in config:
            return self._manager(defaults=False)._load_spec(str(path))
        beside = self._manager(path.parent, defaults=False)
        is_here = all(name in beside.task_index for name in _members(config))
        return (beside if is_here else self._manager(path.parent))._load_spec(config["group"])

    def is_file(self, name: str) -> bool:
        """Whether a name is that of a YAML file."""
        return self._path(name) is not None

    def _path(self, name: str) -> Path | None:
        is_file = name.endswith((".yaml", ".yml")) or "/" in name
        return self.folder / Path(name).expanduser() if is_file else None

    def _manager(self, beside: Path | None = None, defaults: bool = True) -> Any:
        """Its index of the tasks in a folder, and of the thousands that it brings (`defaults`)."""
        from lm_eval.tasks import TaskManager

        if (beside, defaults) not in self._managers:
            self._managers[beside, defaults] = TaskManager(include_path=beside, include_defaults=defaults)
        return self._managers[beside, defaults]


def _metric(name: str) -> str:
    return name.rpartition(",")[0]


def _alone(name: str) -> str:
    """The name of a score of all documents, where it is taken of each."""
    metric, _, of_filter = name.rpartition(",")
    return f"{metric} of each answer,{of_filter}"


def _nearest(name: str, known: Sequence[str]) -> str:
    """Its thousands of names are not listed."""
    found = did_you_mean(name, known).partition("allowed:")[0].strip()
    return f"{found} `lm_eval ls tasks` lists all".strip()


def _sets(made: Any) -> list[HarnessSet]:
    """A task, a list of tasks or a group as test sets."""
    if isinstance(made, list):
        return [one for item in made for one in _sets(item)]
    if not hasattr(made, "get_all_tasks"):
        return [HarnessSet(str(made.task_name), (HarnessTask(str(made.task_name), made),))]
    listed = made.aggregate_metric_list or []
    by_size = bool(listed) and all(one.weight_by_size and one.aggregation == "mean" for one in listed)
    if by_size and len({_asking(task) for task in made.get_all_tasks()}) == 1:
        tasks = tuple(HarnessTask(str(task.task_name), task) for task in made.get_all_tasks())
        names = tuple(f"{one.metric},{name}" for one in listed for name in one.filter_list or ["none"])
        return [HarnessSet(str(made.name), tasks, names)]
    return [one for child in made for one in _sets(child)]


def _members(config: Mapping[str, Any]) -> list[str]:
    """The names of all tasks in a group's file. A group may stand in a group."""
    listed = config.get("task") or ()
    found: list[str] = []
    for one in [listed] if isinstance(listed, str) else listed:
        if isinstance(one, str):
            found.append(one)
        elif isinstance(one.get("task"), str):
            found.append(one["task"])
        else:
            found += _members(one)
    return found


def _asking(task: Any) -> tuple[Any, str]:
    """At how many shots a task is asked, and in which way: tasks that differ in it are no single test set."""
    way = str(task.OUTPUT_TYPE)
    return task.get_config("num_fewshot"), "loglikelihood" if way == "multiple_choice" else way


def _refuse(name: str, task: Any) -> None:
    """Raises SourceUnavailable for a task that cannot be asked here."""
    why = None
    if getattr(task, "UNSAFE_CODE", False):
        why = "it runs code that the model wrote"
    elif getattr(task, "MULTIMODAL", False):
        why = "it has pictures or sound"
    if why:
        raise SourceUnavailable(why, where=f"test.lm_eval: {name}", allowed="ask it with lm_eval itself")

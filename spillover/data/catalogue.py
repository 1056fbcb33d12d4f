"""The data sets of one experiment: which are tested and trained on, each read once, and findings about them.

No row that a model is trained on is ever shown to it as a demonstration. So a training set loses the rows that are
demonstrations of any test set of its task, also of one that the experiment does not use: a model's key then does not
depend on what it is tested on. (The protocol `paper` keeps these rows.) A set without an available source is left out
with a warning. Everything else that is wrong is an error at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from ..errors import DataError, ExperimentError, Finding, Level, SourceUnavailable, did_you_mean
from ..experiment.schema import Experiment
from ..experiment.suite import load_suite, role_of
from ..text.demos import pool_and_rows
from ..text.task import Example, Task
from .load import load_demos, load_groups, load_test, load_train
from .rows import TestSet, TrainSet
from .sources import Places, members_of
from .tasks import dataset_task, task_name

T = TypeVar("T")


class Catalogue:
    """Data sets by name. `findings` holds, each once, what a reader should know about those that were read."""

    def __init__(self, experiment: Experiment, places: Places) -> None:
        self.experiment = experiment
        self.specs = experiment.all_datasets()
        self.places = replace(places, members=members_of(self.specs.values()))
        self._found: dict[Finding, None] = {}
        self._left_out: dict[tuple[str, str], list[str]] = {}
        self._tasks: dict[str, Task] = {}
        self._read: dict[tuple[object, ...], Any] = {}

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was found so far. Sets that are left out for one reason are one line."""
        left_out = (
            Finding("warning", f"{part} {'sets' if len(names) > 1 else 'set'} left out: {why}", ", ".join(names))
            for (part, why), names in self._left_out.items()
        )
        return (*left_out, *self._found)

    def find(self, level: Level, where: str, what: str) -> None:
        self._found[Finding(level, what, where)] = None

    def find_notes(self, where: str, rows: TrainSet | TestSet) -> None:
        """What was requested and is missing, and what was done to the rows."""
        for what in rows.lacking:
            self.find("warning", where, what)
        for what in rows.notes:
            self.find("note", where, what)

    def test_names(self) -> list[str]:
        wanted = self.experiment.test.datasets
        with_test = [name for name, spec in self.specs.items() if spec.test]
        if wanted == "all":
            return with_test
        suites = {
            suite: [one for one in with_test if one in load_suite(suite).datasets] for suite in self.experiment.suite
        }
        named = [one for name in wanted for one in ([name] if name in self.specs else suites.get(name, [name]))]
        return [known(name, [*with_test, *suites], "test.datasets") for name in dict.fromkeys(named)]

    def train_names(self) -> list[str]:
        wanted = self.experiment.train.datasets
        with_train = [name for name, spec in self.specs.items() if spec.train]
        if wanted == "all":
            return with_train
        if not wanted:
            return [name for name in with_train if name in self.experiment.datasets]
        return [known(name, with_train, "train.datasets") for name in wanted]

    def task(self, name: str) -> Task:
        if name not in self._tasks:
            task = dataset_task(name, self.specs[name], self.specs, self.places)
            self._tasks[name] = task.under(self.experiment.protocol)
        return self._tasks[name]

    def test(self, name: str) -> TestSet | None:
        """A test set, or None and a warning where no source of it is available."""
        return self._or_left_out("test", name, self._test(name))

    def train(self, name: str, size: int | None) -> TrainSet | None:
        """Training rows without those that are demonstrations, or None and a warning where no source is available."""
        found = self._once(("train", name, size), lambda: self._train(name, size))
        return self._or_left_out("training", name, found)

    def demos(self, name: str) -> tuple[Example, ...]:
        """The set's own list of demonstrations. Empty where it has none, or no available one."""
        spec = self.specs[name]
        found = self._once(("demos", name), lambda: load_demos(name, spec, self.task(name), self.places))
        return () if isinstance(found, SourceUnavailable) else found

    def _once(self, key: tuple[object, ...], read: Callable[[], T]) -> T | SourceUnavailable:
        """What `read` returns, or why it is not available. It is called once for a key."""
        if key not in self._read:
            try:
                self._read[key] = read()
            except SourceUnavailable as error:
                self._read[key] = error
        return self._read[key]

    def _test(self, name: str) -> TestSet | SourceUnavailable:
        spec, keep = self.specs[name], self.experiment.protocol.unanswerable == "wrong"
        return self._once(("test", name), lambda: load_test(name, spec, self.task(name), self.places, keep))

    def validation(self, name: str) -> tuple[Example, ...]:
        """The validation rows of a training set, which no model is trained on; none where nothing is to be chosen.

        Other sets have some where they bound what may be lost.
        """
        watches = self.experiment.ship.keep is not None or self.experiment.train.evaluate_every
        bounds = watches and self.experiment.validation.elsewhere
        if not self.experiment.validates or not (bounds or self._is_chosen_on(name)):
            return ()
        found = self._once(("validation", name), lambda: self._validation(name))
        return () if isinstance(found, SourceUnavailable) else found

    def _is_chosen_on(self, name: str) -> bool:
        """Whether something is chosen on rows of a training set: of what is trained here, or was elsewhere."""
        experiment = self.experiment
        elsewhere = (one.trained_on for one in experiment.variants if experiment.deploy == "best")
        return name in self.train_names() or name in elsewhere

    def _validation(self, name: str) -> tuple[Example, ...]:
        from .alike import RowSet  # loads numpy
        from .validation import drawn

        task, wanted = self.task(name), self.experiment.validation
        most, rows = self._most_trained(name), self._around(name)
        kept = self.rows_beside(self._shown(name), rows, name)
        ids = {row.doc_id for row in kept}
        first = None if most is None else sum(row.doc_id in ids for row in rows[:most])
        tests = [RowSet(test.name, "test", test.task, test.examples) for test in self._tests_of(name)]
        found = drawn(RowSet(name, "train", task, kept), first, wanted.rows, wanted.seed, self._groups(name), tests)
        if not found and self._is_chosen_on(name):
            what = f"none of its {len(kept):,} training rows can be held out for validation"
            raise DataError(what, where=f"datasets.{name}", allowed="more rows, or choose: none")
        if len(found) < wanted.rows and self._is_chosen_on(name):
            what = f"{len(found):,} validation rows, {wanted.rows:,} were asked for; more training rows give more"
            self.find("warning", f"{name}, validation", what)
        return found

    def _most_trained(self, name: str) -> int | None:
        """How many rows of a set are trained on at most; None: all there are."""
        train = self.experiment.train
        if name not in self.train_names():
            return 0
        trained = [one for one in train.strategies if name in (one.datasets or [name])]
        sizes = [train.sizes if one.sizes in (None, "smallest") else one.sizes for one in trained]
        return max((int(size) for of in sizes for size in of or ()), default=0) if all(sizes) else None

    def _tests_of(self, train: str) -> Iterator[TestSet]:
        """The test sets that are not cross-task for a training set."""
        task = task_name(train, self.specs[train], self.specs)
        for name in self.test_names():
            spec = self.specs[name]
            if role_of(name, spec, task_name(name, spec, self.specs), train, task) != "cross_task":
                test = self._test(name)
                if isinstance(test, TestSet):
                    yield test

    def _around(self, name: str) -> tuple[Example, ...]:
        """The training rows among which validation rows are looked for: those that are trained on, and some more."""
        from .validation import MANY  # loads numpy

        def read() -> tuple[Example, ...]:
            most, spec, task = self._most_trained(name), self.specs[name], self.task(name)
            size = None if most is None else most + MANY * self.experiment.validation.rows
            try:
                return load_train(name, spec, task, size, self.places).examples
            except SourceUnavailable:  # a release has files of some sizes only
                return load_train(name, spec, task, None, self.places).examples

        found = self._once(("around", name), read)
        if isinstance(found, SourceUnavailable):
            raise found
        return found

    def _groups(self, name: str) -> Mapping[int, str]:
        """The groups of training rows that stay on one side, by doc_id, if the data set names a column of them."""
        spec, task = self.specs[name], self.task(name)
        by = spec.group or (spec.hold_out and spec.hold_out.by)
        return load_groups(name, spec, task, by, self.places) if by else {}

    def _loaded(self, name: str, size: int | None) -> TrainSet:
        """The first `size` training rows that are no validation rows, and that have nothing in common with these."""
        spec, task = self.specs[name], self.task(name)
        rows, held = load_train(name, spec, task, size, self.places), {one.content for one in self.validation(name)}
        if held.isdisjoint(row.content for row in rows.examples):
            return rows
        kept = tuple(row for row in (rows.examples if size is None else self._around(name)) if row.content not in held)
        gone = f"{len(held):,} rows are held out for validation"
        if size is None and self._most_trained(name) is not None:  # more rows than those were looked for among
            from .alike import RowSet  # loads numpy
            from .validation import beside

            ids = {row.doc_id for row in rows.examples if row.content in held}
            apart = beside(RowSet(name, "train", task, rows.examples), ids, self._groups(name))
            if alike := len(kept) - len(apart):
                gone += f", and {alike:,} that have a text or a group in common with them are not trained on"
            kept = apart
        kept = kept[:size]
        short = size is not None and len(kept) < size
        lacking = (f"{len(kept)} rows beside those for validation, {size} were asked for",) if short else ()
        return replace(rows, examples=kept, notes=(*rows.notes, gone), lacking=lacking or rows.lacking)

    def _train(self, name: str, size: int | None) -> TrainSet:
        rows = self._loaded(name, size)
        kept = self.rows_beside(self._shown(name), rows.examples, name)
        where = f"{name}, {size} training rows" if size else f"{name}, training rows"
        self.find_notes(where, rows)
        if left_out := len(rows.examples) - len(kept):
            self.find("note", where, f"{left_out} left out because they are demonstrations too")
        return replace(rows, examples=kept)

    def rows_beside(self, demos: Iterable[Example], rows: Sequence[Example], name: str) -> tuple[Example, ...]:
        """The training rows of data set `name` without those among `demos`, or all where the protocol keeps them.

        Raises DataError where no row is left.
        """
        if self.experiment.protocol.demos_in_training == "kept":
            return tuple(rows)
        shown = {content for demo in demos for content in (demo.content, demo.as_whole.content)}
        kept = tuple(example for example in rows if example.content not in shown)
        if not kept:
            raise DataError("no training row is left beside the demonstrations", where=f"datasets.{name}")
        return kept

    def _shown(self, train: str) -> Iterator[Example]:
        """All possible demonstrations of the training set's task: a set's own list, or the end of its test rows."""
        task = task_name(train, self.specs[train], self.specs)
        for name, spec in self.specs.items():
            if role_of(name, spec, task_name(name, spec, self.specs), train, task) == "cross_task":
                continue
            own = self.demos(name)
            yield from own
            if not own and spec.test:
                test = self._test(name)
                if isinstance(test, TestSet):
                    yield from pool_and_rows(test.examples, (), None)[0]

    def _or_left_out(self, part: str, name: str, found: T | SourceUnavailable) -> T | None:
        """The set, or None and a warning."""
        if not isinstance(found, SourceUnavailable):
            return found
        allowed = f" ({found.allowed})" if found.allowed else ""
        names = self._left_out.setdefault((part, f"{found.what}{allowed}"), [])
        names += [name] if name not in names else []
        return None


def known(name: str, names: Sequence[str], where: str) -> str:
    """Returns `name` if it is one of `names`. Raises ExperimentError otherwise."""
    if name not in names:
        raise ExperimentError(f"unknown data set {name!r}", where=where, allowed=did_you_mean(name, names))
    return name

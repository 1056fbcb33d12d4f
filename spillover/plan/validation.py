"""Validation rows as sheets and cells: how they are asked, and who is asked them.

They are asked as the trained task will be used: in the uses that `deploy` names, in every tested use for
`deploy: best`, and else in the format of training at every tested number of demonstrations. Demonstrations are those of
the tests. Where no test set is in-domain, they are asked in one way: in the format of training, without demonstrations.

Where `ship.keep` bounds what may be lost, other test sets have a few validation rows too: training rows of theirs, or
demonstrations that no test shows. A validation set is called as its data set, with `SUFFIX`.

Where `validation.seeds` is given, only the first seeds of a candidate are asked. Its other seeds have no cell before
the choice, so they are trained only if the recipe is chosen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..data.catalogue import Catalogue
from ..errors import ExperimentError
from ..experiment.suite import role_of
from ..text.task import Example
from .grid import Condition, Deploy, TestInfo, Use, Variant
from .jobs import ExistingJob, Job, TrainJob, is_tested
from .questions import Sheet, SheetMaker, prompt_format

SUFFIX = ", validation"


@dataclass(frozen=True)
class Validation:
    """What is asked of validation rows: sheets, what a table says of their sets, and by whom each sheet is asked."""

    sheets: tuple[Sheet, ...] = ()
    infos: tuple[TestInfo, ...] = ()
    asked: tuple[tuple[Variant, Sheet], ...] = ()


def validation_of(
    catalogue: Catalogue,
    maker: SheetMaker,
    jobs: Sequence[Job],
    tests: Mapping[Condition, Sheet],
    deploy: Deploy | str | None,
) -> Validation:
    """The validation sheets of all training sets; none where nothing is to be chosen."""
    if not (catalogue.experiment.chooses or deploy == "best"):
        return Validation()
    made = _Maker(catalogue, maker, list(tests.values()), deploy)
    trained = dict.fromkeys(job.rows.name for job in jobs if isinstance(job, TrainJob))
    elsewhere = _trained_elsewhere(catalogue, jobs) if deploy == "best" else {}
    of_set = {name: sheets for name in {**trained, **elsewhere} if (sheets := list(made.inside(name)))}
    for lacking in elsewhere.keys() - of_set.keys():
        catalogue.find("warning", "deploy", f"no training row of {lacking} can be had, so nothing is chosen on it")
    beyond = {name: list(made.elsewhere(name, of_set)) for name in of_set}
    asked: list[tuple[Variant, Sheet]] = []
    later = _later_seeds(jobs, catalogue.experiment.validation.seeds)
    for job in filter(is_tested, jobs):
        variant, name = job.variant, job.variant.train_dataset
        if variant.key in later:
            continue
        for training_set in of_set if variant.kind == "base" else [name] if name in of_set else []:
            own = of_set[training_set]
            asked += [(variant, sheet) for sheet in own if made.is_asked(sheet, variant, is_only=len(own) == 1)]
            if variant.kind == "base" or variant.choices:
                asked += [(variant, sheet) for sheet in beyond[training_set]]
    once = {(variant.key, sheet.condition): (variant, sheet) for variant, sheet in asked}
    by_condition = {sheet.condition: sheet for _, sheet in asked}
    infos = {sheet.test: made.info(sheet) for sheet in by_condition.values()}
    return Validation(tuple(by_condition.values()), tuple(infos.values()), tuple(once.values()))


def _later_seeds(jobs: Sequence[Job], first: int | None) -> frozenset[str]:
    """The keys of the candidates whose seeds come after the first so many of their recipe (`validation.seeds`)."""
    of_recipe: dict[str, list[str]] = {}
    for job in jobs:
        if job.variant.choices:
            of_recipe.setdefault(job.variant.recipe_key, []).append(job.variant.key)
    return frozenset(key for keys in of_recipe.values() for key in keys[first:] if first is not None)


def _trained_elsewhere(catalogue: Catalogue, jobs: Sequence[Job]) -> dict[str, None]:
    """The training sets of the existing checkpoints, on whose rows `deploy: best` chooses how these are asked.

    Raises ExperimentError for one without training rows, and where nothing has a training set at all.
    """
    found: dict[str, None] = {}
    for job in jobs:
        if isinstance(job, ExistingJob) and (name := job.variant.train_dataset):
            if not catalogue.specs[name].train:
                what = f"best needs training rows of {name}, to choose how {job.variant.name} is asked"
                raise ExperimentError(what, where="deploy", allowed=f"datasets.{name}.train, or shots and prompt")
            what = f"deploy: best chooses on training rows of {name}, which this checkpoint may have been trained on"
            catalogue.find("warning", job.variant.name, what)
            found[name] = None
    if not found and not (catalogue.experiment.train.strategies and catalogue.train_names()):
        what = "best needs a training set: nothing is trained here, and no variant says trained_on"
        raise ExperimentError(what, where="deploy", allowed="shots and prompt")
    return found


@dataclass(frozen=True)
class _Maker:
    catalogue: Catalogue
    maker: SheetMaker
    tests: Sequence[Sheet]
    deploy: Deploy | str | None

    def inside(self, name: str) -> Iterator[Sheet]:
        """The sheets of a training set's own validation rows."""
        rows = self.catalogue.validation(name)
        if not rows:
            return
        spec = self.catalogue.specs
        own = [sheet for sheet in self.tests if sheet.test == name]
        own = own or [sheet for sheet in self.tests if sheet.test in spec and name in spec[sheet.test].in_domain]
        own = [sheet for sheet in own if (sheet.test, sheet.draw) == (own[0].test, own[0].draw)]
        if not own:
            what = "no test set is in-domain, so they are asked without demonstrations, in the format of training"
            self.catalogue.find("note", f"{name}, validation", what)
            task, prompt = self.catalogue.task(name), self.catalogue.experiment.train.prompt
            yield self.maker.sheet(name + SUFFIX, task, prompt_format(task, prompt, "train.prompt"), 0, 0, (), rows)
        uses = self._uses(own)
        yield from (self._like(sheet, name, rows) for sheet in own if _use(sheet) in uses)

    def elsewhere(self, name: str, of_set: Mapping[str, Sequence[Sheet]]) -> Iterator[Sheet]:
        """A sheet for each test set that is not in-domain, with fewest demonstrations."""
        experiment, specs = self.catalogue.experiment, self.catalogue.specs
        most = experiment.validation.elsewhere
        if experiment.ship.keep is None or not most:
            return
        task = self.catalogue.task(name).name
        by_test: dict[str, list[Sheet]] = {}
        for sheet in self.tests:
            if (
                sheet.test in specs
                and role_of(sheet.test, specs[sheet.test], sheet.task.name, name, task) != "in_domain"
            ):
                by_test.setdefault(sheet.test, []).append(sheet)
        for test, sheets in by_test.items():
            if test in of_set:
                yield min(of_set[test], key=lambda sheet: sheet.shots)
            elif rows := self._rows_of(test, max(sheets, key=lambda sheet: sheet.shots))[:most]:
                yield self._like(min(sheets, key=lambda sheet: sheet.shots), test, rows)

    def _rows_of(self, test: str, most_shown: Sheet) -> Sequence[Example]:
        """Training rows of a test set, or demonstrations of its own that no test shows."""
        if self.catalogue.specs[test].train:
            return self.catalogue.validation(test)
        shown = {demo.content for sheet in self.tests if sheet.test == test for demo in sheet.demos}
        return [demo for demo in self.catalogue.demos(test) if demo.content not in shown]

    def _like(self, sheet: Sheet, name: str, rows: Sequence[Example]) -> Sheet:
        return self.maker.sheet(name + SUFFIX, sheet.task, sheet.fmt, sheet.shots, sheet.draw, sheet.demos, rows)

    def _uses(self, sheets: Sequence[Sheet]) -> set[Use]:
        tested = dict.fromkeys(map(_use, sheets))
        if isinstance(self.deploy, Deploy):
            return {self.deploy.base, self.deploy.variant}
        formats = list(dict.fromkeys(use.prompt for use in tested))
        trained = self.catalogue.experiment.train.prompt
        one = trained if trained in formats else formats[0] if formats else ""
        return {use for use in tested if self.deploy == "best" or use.prompt == one}

    def is_asked(self, sheet: Sheet, variant: Variant, is_only: bool) -> bool:
        """Whether a variant that may be asked these rows is asked them in this use, which may be the only one.

        A random change is not: it is never chosen, and nobody would use it.
        """
        if variant.is_null:
            return False
        if self.deploy == "best":
            return True
        own = _use(sheet)
        if isinstance(self.deploy, Deploy) and not is_only:
            own = self.deploy.base if variant.kind == "base" else self.deploy.variant
        return own == _use(sheet) and (variant.kind == "base" or bool(variant.choices))

    def info(self, sheet: Sheet) -> TestInfo:
        task, rows = sheet.task, [question.example for question in sheet.questions]
        of_task = task.name, task.kind, task.labels, task.metrics
        stop = () if task.is_scored else task.stop
        return TestInfo(sheet.test, sheet.test, *of_task, "", len(rows), chance=task.chance(rows), stop=stop)


def _use(sheet: Sheet) -> Use:
    return Use(sheet.shots, sheet.fmt.name)

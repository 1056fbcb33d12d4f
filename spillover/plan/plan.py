"""From an experiment to all that must exist: variants, cells, and the text of every row.

The plan reads data and the tokenizer and does nothing else. A variant's key comes from its recipe (`plan.jobs`), a
cell's from its variant's key and its questions (`plan.questions`). Devices, batch sizes on a device, paths, names and
metrics are in no key. `engine` and `precision` are only where the YAML asks for a value other than the default.

A shot count, data set or strategy that is added to a finished experiment adds keys and changes none. The exception is a
test set without its own demonstrations: when it is first asked with some, its last rows serve and are not scored.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .. import models
from ..data.catalogue import Catalogue
from ..data.sources import Places
from ..errors import DataError, ModelError
from ..experiment.schema import Experiment
from ..experiment.suite import DatasetSpec, Role, role_of
from ..fingerprint import canonical, fingerprint, fingerprint_of_list
from ..text.encode import Encoder
from . import texts
from .deploy import deploy_of
from .grid import Cell, Condition, Grid, TestInfo, Variant
from .harness import harness_tests
from .jobs import Job, JobMaker, MadeHere, MergeJob, TrainJob, is_tested
from .questions import Sheet, SheetMaker, refuse_unknown_prompts
from .validation import SUFFIX, validation_of
from .vocabularies import unlearnt


@dataclass(frozen=True)
class Plan:
    """Everything an experiment needs, nothing of it done yet."""

    experiment: Experiment
    base: Path
    encoder: Encoder
    grid: Grid
    jobs: tuple[Job, ...]
    sheets: dict[Condition, Sheet] = field(repr=False)
    data_dir: Path | None = None

    @property
    def own_sheets(self) -> list[Sheet]:
        """The sheets whose prompts are made here, not by lm-evaluation-harness."""
        return [sheet for sheet in self.sheets.values() if not sheet.is_of_harness]

    @property
    def trainings(self) -> list[TrainJob]:
        return [job for job in self.jobs if isinstance(job, TrainJob)]

    @property
    def made_here(self) -> list[TrainJob | MergeJob]:
        return [job for job in self.jobs if isinstance(job, MadeHere)]

    def units(self, variant: Variant, unasked: Container[str] = ()) -> Iterator[tuple[str, list[tuple[Cell, Sheet]]]]:
        """A variant's cells by what is batched together: test set x prompt format.

        Without those on test sets if it is among the `unasked` (`plan.choice`).
        """
        by_unit: dict[tuple[str, str], list[tuple[Cell, Sheet]]] = {}
        for cell in self.grid.cells_of(variant.key, unasked).values():
            by_unit.setdefault((cell.test, cell.prompt), []).append((cell, self.sheets[cell.condition]))
        for (test, prompt), cells in by_unit.items():
            yield f"{variant.key}-{fingerprint([test, prompt])[:8]}", cells


def make_plan(experiment: Experiment, base: Path, data_dir: Path | None = None) -> Plan:
    """Read data and tokenizer and name every variant and cell.

    `base` is the folder that the YAML's paths start from. Raises SpilloverError for anything that cannot be; data
    sources that cannot be had become warnings of the grid.
    """
    identity = models.identify(experiment.model, base, experiment.trust)
    if identity.get("kind") == "adapter":
        advice = "give its base model here, and the adapter under variants"
        raise ModelError("is an adapter, which needs a base model", where=f"model: {experiment.model}", allowed=advice)
    kwargs = experiment.chat_template_kwargs
    encoder = Encoder.load(models.tokenizer_folder(experiment.model, base), kwargs)
    texts.refuse_unknown_kwargs(encoder, kwargs)
    catalogue = Catalogue(experiment, Places(base, data_dir, encoder.chat_template))
    tests = [test for name in catalogue.test_names() if (test := catalogue.test(name)) is not None]
    theirs = harness_tests(experiment, base, encoder, catalogue.find)
    prompts = experiment.test.prompts
    tasks = [*(test.task for test in tests), *(test.task for test in theirs)]
    refuse_unknown_prompts(() if prompts == "default" else prompts, tasks)
    jobs = JobMaker(experiment, base, catalogue, encoder, identity).jobs()
    infos: list[TestInfo] = []
    sheets: dict[Condition, Sheet] = {}
    maker = SheetMaker(experiment, catalogue, encoder)
    for test in tests:
        made = maker.sheets(test)
        if made is not None:
            infos.append(made[0])
            sheets |= {sheet.condition: sheet for sheet in made[1]}
    specs = {**catalogue.specs, **{test.info.name: test.spec for test in theirs}}
    for one in theirs:
        infos.append(one.info)
        sheets |= {sheet.condition: sheet for sheet in one.sheets}
    if not sheets:
        why = "; ".join(map(str, catalogue.findings))
        raise DataError("no test set can be had", allowed=why or "give test.datasets")
    for finding in texts.look(encoder, jobs, sheets.values()):
        catalogue.find(finding.level, finding.where, finding.what)
    trainings = [job for job in jobs if isinstance(job, TrainJob)]
    tested = [job.variant for job in jobs if is_tested(job)]
    cells = tuple(_cell(variant, sheet, specs[sheet.test]) for variant in tested for sheet in sheets.values())
    deploy = deploy_of(experiment, cells)
    validation = validation_of(catalogue, maker, jobs, sheets, deploy)
    of_validation = (
        _cell(variant, sheet, specs[sheet.test.removesuffix(SUFFIX)]) for variant, sheet in validation.asked
    )
    grid = Grid(
        model=experiment.model,
        protocol=experiment.protocol.name,
        variants=tuple(tested),
        cells=cells,
        tests=tuple(infos),
        labels_of_train_task=_labels(jobs, catalogue),
        warnings=(*catalogue.findings, *unlearnt(trainings, sheets.values(), specs)),
        trained_prompt=experiment.train.prompt,
        deploy=deploy,
        keep=experiment.ship.keep,
        helpers=tuple(job.variant for job in jobs if not is_tested(job)),
        validation=tuple(of_validation),
        validated=validation.infos,
    )
    sheets |= {sheet.condition: sheet for sheet in validation.sheets}
    return Plan(experiment, base, encoder, grid, tuple(jobs), sheets, data_dir)


def _cell(variant: Variant, sheet: Sheet, spec: DatasetSpec) -> Cell:
    role: Role | None = None
    if variant.train_dataset:
        role = role_of(
            sheet.test.removesuffix(SUFFIX),
            spec,
            sheet.task.name,
            variant.train_dataset,
            str(variant.factors["train_task"]),
        )
    return Cell(
        key=fingerprint_of_list(canonical(variant.key), sheet.identity),
        variant=variant.key,
        condition=sheet.condition,
        task=sheet.task.name,
        role=role,
        n=len(sheet.questions),
    )


def _labels(jobs: list[Job], catalogue: Catalogue) -> dict[str, tuple[str, ...]]:
    """The labels of every training set that has some."""
    names = dict.fromkeys(job.variant.train_dataset for job in jobs if job.variant.train_dataset)
    return {name: labels for name in names if (labels := catalogue.task(name).labels)}

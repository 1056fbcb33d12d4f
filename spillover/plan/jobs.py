"""Jobs: how each variant comes to be, as a graph. A job is a base, existing, a training, or made of trained weights.

Its `parents` are the keys of the variants that it is made from. Their weights must be there first, and they stay until
the last job that is made from them is done.

A trained variant's key is the fingerprint of all that decides its weights: the base model's identity, the training
texts, the dumped recipe, the version of each rule. The key of what is made of trained weights follows from the keys of
those, so it is known before anything is trained. Two entries of the YAML that come to the same recipe (20 rows at
sizes 64 and 128, FTICL with no demonstrations beside FT) are one variant, which is computed once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from .. import models
from ..data.catalogue import Catalogue, known
from ..data.rows import TrainSet
from ..errors import ExperimentError, placed
from ..experiment.axes import (
    AllWeights,
    Axis,
    MadeAfter,
    NothingAfter,
    PythonLoss,
    RandomChange,
    RandomDemos,
    RowsInContext,
    SeedMean,
    Weights,
)
from ..experiment.choice import alternatives
from ..experiment.factors import Value, short
from ..experiment.functions import Located
from ..experiment.recipe import Recipe, recipes
from ..experiment.schema import Experiment
from ..experiment.strategy import Strategy
from ..fingerprint import fingerprint
from ..text.demos import order
from ..text.encode import Encoder
from ..text.joints import Joints
from ..text.prompt import render_all
from ..text.task import Example, PromptFormat
from .choice import candidates, of_both, only_of
from .grid import Variant
from .questions import prompt_format, requested
from .replay import Others, others_of
from .rules import ENCODE_VERSION, MERGE_VERSION, RENDER_VERSION, SAMPLE_VERSION, WATCH_VERSION
from .watched import watched_of
from .writing import Writing, writings

Size = int | None  # None: all rows there are


@dataclass(frozen=True)
class BaseJob:
    """The base model. Nothing is made."""

    variant: Variant
    parents: tuple[str, ...] = ()

    @property
    def how(self) -> str:
        return "the model as it is"


@dataclass(frozen=True)
class ExistingJob:
    """A checkpoint or adapter at `path`, as the YAML names it. Nothing is made.

    `encoder` is its own: its answers end where its files say, and where the base's do.
    """

    variant: Variant
    path: str
    encoder: Encoder
    parents: tuple[str, ...] = ()

    @property
    def how(self) -> str:
        return f"as it is in {self.path}"


@dataclass(frozen=True)
class TrainJob:
    """A training: `recipe` on `rows`, written in the format `fmt`, each behind the demonstrations `demos`.

    `others` are rows of other data that are trained on beside them, and `writings` what the base writes first. If it is
    not `tested`, it is trained only because other variants are made from it. `function` is the loss of one's own, and
    `watched` are rows whose loss is measured while it goes on, its own validation rows first.
    """

    variant: Variant
    parents: tuple[str, ...]
    rows: TrainSet
    demos: tuple[Example, ...]
    recipe: Recipe
    fmt: PromptFormat
    others: tuple[Others, ...] = ()
    writings: tuple[Writing, ...] = ()
    function: Located | None = None
    tested: bool = True
    watched: tuple[Others, ...] = ()

    @property
    def stored_as(self) -> Weights:
        return self.recipe.weights

    @property
    def how(self) -> str:
        shots = f", {len(self.demos)} shot{'s' * (len(self.demos) > 1)}" if self.demos else ""
        shots += f", {' and '.join(one.rows.name for one in self.others)} replayed" if self.others else ""
        rate = short("learning_rate", self.recipe.learning_rate)
        return f"{self.variant.strategy}, {len(self.rows.examples):,} rows{shots}, {rate}"


@dataclass(frozen=True)
class MergeJob:
    """Weights that are made of trained ones as `after` says. `parents` are the base and the trainings."""

    variant: Variant
    parents: tuple[str, ...]
    after: MadeAfter
    stored_as: Weights

    @property
    def how(self) -> str:
        return self.after.how


Job = BaseJob | ExistingJob | TrainJob | MergeJob
MadeHere = (TrainJob, MergeJob)
"""The jobs whose weights are made here."""


def is_tested(job: Job) -> bool:
    return not isinstance(job, TrainJob) or job.tested


def children(jobs: Sequence[Job], key: str) -> list[Job]:
    return [job for job in jobs if key in job.parents]


@dataclass(frozen=True)
class JobMaker:
    """Names every variant of an experiment. `identity` is the base model's; the YAML's paths start from `folder`."""

    experiment: Experiment
    folder: Path
    catalogue: Catalogue
    encoder: Encoder
    identity: object

    def jobs(self) -> list[Job]:
        """The base first, then what exists, then what is to be trained: parents before children. Of equals the first.

        Raises ExperimentError where two variants have one name.
        """
        base = BaseJob(Variant(fingerprint({"base": self.identity}), "base", "base"))
        jobs: list[Job] = [base, *self._existing(base.variant.key), *self._trained(base.variant.key)]
        by_key: dict[str, Job] = {}
        for job in jobs:
            first = by_key.setdefault(job.variant.key, job)
            if is_tested(job) and not is_tested(first):
                by_key[job.variant.key] = job  # in the place of the first: before what is made from it
            elif is_tested(job) and first is not job:
                by_key[job.variant.key] = replace(first, variant=of_both(first.variant, job.variant))
                what = f"is the same as {first.variant.name} and is not computed twice; take one of them out"
                self.catalogue.find("warning", job.variant.name, what)
        helpers = [job for job in by_key.values() if not is_tested(job)]
        names = [job.variant.name for job in [*filter(is_tested, jobs), *helpers]]
        if twice := [name for name in names if names.count(name) > 1]:
            what = f"two variants are called {twice[0]!r}"
            raise ExperimentError(what, where="variants", allowed="give each its own name")
        of_choice = candidates(job.variant for job in by_key.values())
        several = {name for name, recipes in of_choice.items() if len(recipes) > 1}
        return [replace(job, variant=only_of(job.variant, several)) for job in by_key.values()]

    def _existing(self, base: str) -> Iterator[Job]:
        for number, spec in enumerate(self.experiment.variants):
            factors: dict[str, Value] = {}
            if spec.trained_on:
                where = f"variants.{number}.trained_on"
                task = self.catalogue.task(known(spec.trained_on, list(self.catalogue.specs), where))
                factors = {"train_dataset": spec.trained_on, "train_task": task.name, "train_kind": task.kind}
            identity = models.identify(spec.path, self.folder, self.experiment.trust)
            models.check_adapter(spec.path, self.experiment.model, self.folder)
            encoder = self.encoder.of_variant(models.settings_folder(spec.path, self.folder, self.experiment.trust))
            key = fingerprint({"variant": identity, "base": self.identity, "tokenizer": encoder.identity})
            variant = Variant(key, spec.name, "existing", factors)
            yield ExistingJob(variant, spec.path, encoder)
            if spec.noise:
                yield self._null_of(variant, base)

    def _null_of(self, variant: Variant, base: str) -> MergeJob:
        """A random change of the size of an existing one, which is compared with it as with a strategy."""
        after = RandomChange()
        content = {"after": after.model_dump(mode="json"), "rules": {"merge": MERGE_VERSION}}
        null = Variant(
            key=fingerprint({**content, "parents": (variant.key,)}),
            name=f"{variant.name}-noise",
            kind="trained",
            factors={"strategy": f"{variant.name}+noise", **variant.factors},
            against=variant.name,
            made_from=(variant.key,),
            is_null=True,
        )
        return MergeJob(null, (base, variant.key), after, AllWeights())

    def _trained(self, base: str) -> Iterator[Job]:
        train = self.experiment.train
        sizes_of = {number: _sizes(strategy, train.sizes) for number, strategy in enumerate(train.strategies)}
        sizes = list(dict.fromkeys([*(train.sizes or (None,)), *(size for own in sizes_of.values() for size in own)]))
        used = [size for size in sizes if any(size in own for own in sizes_of.values())]
        names = [strategy.name for strategy in train.strategies]
        self._refuse_unknown_sets()
        for strategy in train.strategies if len(names) > 1 else ():
            if strategy.against not in (None, *names):
                what = f"{strategy.name} is not compared with {strategy.against}, which is not among the strategies"
                self.catalogue.find("note", "train.strategies", what)
        for name in self.catalogue.train_names():
            for size in used:
                for number, strategy in enumerate(train.strategies):
                    wanted = size in sizes_of[number] and name in (strategy.datasets or [name])
                    rows = self.catalogue.train(name, size) if wanted else None
                    if rows is not None:
                        trained = self._of_strategy(base, rows, strategy, names_size=len(used) > 1)
                        yield from self._and_after(list(trained), strategy)

    def _refuse_unknown_sets(self) -> None:
        """Raises ExperimentError where a strategy names a training set that is not among those of the experiment."""
        sets, strategies = self.catalogue.train_names(), self.experiment.train.strategies
        for strategy in strategies:
            for name in strategy.datasets or ():
                known(name, sets, f"train.strategies: {strategy.name}.datasets")
        for name in sets if strategies else ():
            if not any(name in (strategy.datasets or [name]) for strategy in strategies):
                raise ExperimentError(f"no strategy is trained on {name}", where="train.strategies: datasets")

    def _and_after(self, trained: Sequence[TrainJob], strategy: Strategy) -> Iterator[Job]:
        """The trainings, and what the strategy makes of them. If it makes something, they themselves are not tested."""
        if isinstance(strategy.after, NothingAfter):
            yield from trained
            return
        for job in trained:
            helper = replace(self._renamed(job.variant, "-trained"), choices=())
            yield replace(job, variant=helper, tested=False)
        for after in strategy.after.each():
            several = "".join(f"-{short(n, getattr(after, n)[0]).replace(' ', '')}" for n in _several(strategy.after))
            if isinstance(after, SeedMean):
                recipes_of = dict.fromkeys(job.variant.recipe_key for job in trained)
                families = [[job for job in trained if job.variant.recipe_key == recipe] for recipe in recipes_of]
            else:
                families = [[job] for job in trained]
            for family in families:
                yield self._of_family(after, family, several)

    def _of_family(self, after: MadeAfter, family: Sequence[TrainJob], several: str) -> MergeJob:
        """What is made of some trainings together. `several` is the part of its name that tells it from the others."""
        first = family[0].variant
        parents = tuple(sorted({job.variant.key for job in family}))
        content = {"after": after.model_dump(mode="json"), "rules": {"merge": MERGE_VERSION}}
        variant = replace(
            self._renamed(first, several, names_seed=len(family) == 1),
            key=fingerprint({**content, "parents": parents}),
            factors={**first.factors, **after.factors},
            seed=first.seed if len(family) == 1 else None,
            recipe_key=fingerprint({**content, "recipe": first.recipe_key}),
            made_from=parents,
            is_null=isinstance(after, RandomChange),
        )
        return MergeJob(variant, (*family[0].parents, *parents), after, after.stored_as(family[0].recipe.weights))

    def _renamed(self, variant: Variant, part: str, names_seed: bool = True) -> Variant:
        """The variant with one more part in its name, before that of the seed."""
        seed = f"-s{variant.seed}" if len(self.experiment.train.every_seed) > 1 else ""
        return replace(variant, name=variant.name.removesuffix(seed) + part + (seed if names_seed else ""))

    def _of_strategy(self, base: str, rows: TrainSet, strategy: Strategy, names_size: bool) -> Iterator[TrainJob]:
        train = self.experiment.train
        fmt = prompt_format(rows.task, train.prompt, "train.prompt")
        of_rows: dict[str, Value] = {"train_dataset": rows.name, "train_task": rows.task.name}
        of_rows |= {"train_kind": rows.task.kind, "train_size": rows.size or len(rows.examples)}
        chooses = self.experiment.chooses and bool(alternatives(strategy, train))
        chooses = chooses and not isinstance(strategy.after, RandomChange)  # it follows the choice of its training
        for recipe, factors in recipes(strategy, train, rows.task.fticl_shots):
            demos, kept = self._demos(rows, recipe.demos.fixed)
            self._refuse_few(rows, recipe)
            self._refuse_apart(fmt, recipe)
            learned = replace(rows, examples=kept)
            others = others_of(self.catalogue, learned, recipe, train.prompt)
            written = tuple(writings(recipe, learned, fmt, self.encoder, self.identity))
            parts = [rows.name, strategy.name + (str(recipe.demos.fixed) if recipe.demos.fixed else "")]
            parts += [str(rows.size)] if rows.size and names_size else []
            choice = "-".join(parts)
            several = [name for name in alternatives(strategy, train) if name in factors]
            parts += [short(name, factors[name]).replace(" ", "") for name in several]
            parts += [f"s{recipe.seed}"] if len(train.every_seed) > 1 else []
            with placed(f"{rows.name}, training, {fmt.name}"):
                watched = watched_of(self.catalogue, rows, recipe, fmt, train.prompt)
                key, recipe_key = self._keys(fmt, demos, kept, recipe, others, written, watched)
            factors = of_rows | factors
            variant = Variant(key, "-".join(parts), "trained", factors, recipe.seed, recipe_key, strategy.against)
            variant = replace(variant, choices=(choice,)) if chooses else variant
            own = self._function(recipe)
            yield TrainJob(variant, (base,), learned, demos, recipe, fmt, others, written, own, watched=watched)

    def _demos(self, rows: TrainSet, shots: int) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
        """(demonstrations of every sample, rows that remain to train on): from the set's own list, else its rows."""
        if not shots:
            return (), rows.examples
        pool = self.catalogue.demos(rows.name)
        if not pool:
            pool = order(rows.examples, rows.task, "balanced", 0)
            if self.catalogue.specs[rows.name].demos:
                what = (
                    "no list of demonstrations of its own can be had: training rows are shown instead; correct `demos`"
                )
                self.catalogue.find("warning", f"{rows.name}, training rows", what)
        if len(pool) < shots:
            what = f"{rows.name!r} has {len(pool)} demonstrations, {shots} are asked for"
            raise ExperimentError(what, where="train.strategies", allowed=f"at most {len(pool)}")
        return pool[:shots], self.catalogue.rows_beside(pool[:shots], rows.examples, rows.name)

    def _refuse_few(self, rows: TrainSet, recipe: Recipe) -> None:
        """Raises ExperimentError where the demonstrations or contexts of a recipe need other rows than there are."""
        size, batch = len(rows.examples), recipe.batch_size
        if isinstance(recipe.demos, RandomDemos) and size <= batch:
            what = f"{rows.name} has {size} rows: all of them are in a step of {batch}, so none can be drawn for it"
            raise ExperimentError(what, where="train.batch_size", allowed=f"less than {size}, or more rows")
        if isinstance(recipe.demos, RowsInContext) and recipe.demos.rows_in_context > batch:
            what = f"rows_in_context is {recipe.demos.rows_in_context}, and a step has {batch} rows"
            raise ExperimentError(what, where="train.strategies", allowed=f"at most the batch_size, {batch}")

    def _refuse_apart(self, fmt: PromptFormat, recipe: Recipe) -> None:
        """Raises ExperimentError where rows in context, which are one text, would be encoded in parts."""
        protocol = self.experiment.protocol
        joints = Joints.under(protocol, self.encoder, fmt, head=1)
        if isinstance(recipe.demos, RowsInContext) and (joints.answer_apart or joints.head):
            what = f"rows in context are one text to the tokenizer, and the protocol {protocol.name} takes texts apart"
            allowed = "answer_joint and demo_joint: together"
            raise ExperimentError(what, where="train.strategies: rows_in_context", allowed=allowed)

    def _keys(
        self,
        fmt: PromptFormat,
        demos: Sequence[Example],
        examples: Sequence[Example],
        recipe: Recipe,
        others: Sequence[Others],
        written: Sequence[Writing],
        watched: Sequence[Others],
    ) -> tuple[str, str]:
        """The keys of a training, with its seed and without."""

        def texts(rows: Sequence[Example], fmt: PromptFormat = fmt) -> list[list[str]]:
            prompts = render_all(fmt, (), rows, self.encoder.chat_template)
            return [[prompt, row.target] for prompt, row in zip(prompts, rows, strict=True)]

        def beside(several: Sequence[Others]) -> list[list[list[str]]]:
            return [texts(one.rows.examples, one.fmt) for one in several]

        content = {
            "base": self.identity,
            "tokenizer": self.encoder.identity,
            "rules": {"render": RENDER_VERSION, "encode": ENCODE_VERSION, "sample": SAMPLE_VERSION},
            "demos": texts(demos),
            "separator": fmt.demo_separator,
            "rows": texts(examples),
            **({"writing": [writing.key for writing in written]} if written else {}),
            **({"others": beside(others)} if others else {}),
            **({"watched": [WATCH_VERSION, *beside(watched[:1])]} if watched else {}),
            **({"function": own.content()} if (own := self._function(recipe)) else {}),
            **requested(self.experiment, fmt, training=True),
            **self._departures(fmt, demos),
        }
        with_seed, without = (fingerprint(content | {"recipe": recipe.content(has)}) for has in (True, False))
        return with_seed, without

    def _function(self, recipe: Recipe) -> Located | None:
        """The loss of one's own, of a recipe that has one. Raises ExperimentError where code must not run."""
        if not isinstance(recipe.loss, PythonLoss):
            return None
        if ":" in recipe.loss.function and not self.experiment.trust:
            what, where = "is Python code that training would run", f"function: {recipe.loss.function}"
            raise ExperimentError(what, where=where, allowed="trust: true, if you know the code")
        return Located(recipe.loss.function, self.folder)

    def _departures(self, fmt: PromptFormat, demos: Sequence[Example]) -> dict[str, object]:
        """What the protocol makes of these texts that is not sound."""
        protocol = self.experiment.protocol
        found = Joints.under(protocol, self.encoder, fmt, head=len(demos)).departures()
        return found if protocol.truncation == "demonstrations" else {**found, "truncation": protocol.truncation}


def _several(after: Axis) -> list[str]:
    """The options that have several values."""
    return [name for name in after.LISTS if len(getattr(after, name)) > 1]


def _sizes(strategy: Strategy, sizes: Sequence[int]) -> Sequence[Size]:
    """The training sizes of a strategy: its own, else the experiment's, else all rows there are."""
    if strategy.sizes == "smallest":
        return [min(sizes)] if sizes else [None]
    return strategy.sizes or sizes or [None]

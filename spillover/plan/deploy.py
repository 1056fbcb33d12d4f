"""The experiment's `deploy` as conditions that are tested: which of them the verdict goes by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from ..errors import ExperimentError, did_you_mean
from ..experiment.schema import Experiment
from .grid import Cell, Deploy, Use

Tested = Mapping[str, set[Use]]
"""By test set, the uses that it is tested in."""


def deploy_of(experiment: Experiment, cells: Sequence[Cell]) -> Deploy | Literal["best"] | None:
    """How base and variants will be asked; None if the experiment does not say, "best" if validation rows say.

    The trained task will be asked so, that is every in-domain test set (without any, every test set). Raises
    ExperimentError for what is not among the tested conditions.
    """
    spec = experiment.deploy
    if spec is None or spec == "best":
        return spec
    inside = [cell for cell in cells if cell.role == "in_domain"] or cells
    tests = dict.fromkeys(cell.test for cell in inside)
    tested = {test: {Use.of(cell) for cell in cells if cell.test == test} for test in tests}
    sides = []
    for side, own in (("base", spec.base), ("variant", spec.variant)):
        at = {name: f"deploy.{side}.{name}" if name in own.model_fields_set else f"deploy.{name}" for name in _KEYS}
        shots = _shots(spec.shots if own.shots is None else own.shots, tested, at["shots"])
        prompt = _prompt(own.prompt or spec.prompt, experiment.train.prompt, tested, at["prompt"])
        sides.append(_tested(Use(shots, prompt), tested, at["shots"]))
    return Deploy(*sides)


_KEYS = ("shots", "prompt")


def _shots(given: int | None, tested: Tested, where: str) -> int:
    there = sorted({use.shots for uses in tested.values() for use in uses})
    if given is None and len(there) > 1:
        raise ExperimentError("which number of demonstrations?", where=where, allowed=_either(there))
    return there[0] if given is None else given


def _prompt(given: str | None, trained: str, tested: Tested, where: str) -> str:
    formats = list(dict.fromkeys(use.prompt for uses in tested.values() for use in sorted(uses)))
    if given is not None and given not in formats:
        raise ExperimentError(f"no test in the format {given!r}", where=where, allowed=did_you_mean(given, formats))
    return given or (trained if trained in formats else formats[0])


def _tested(use: Use, tested: Tested, where: str) -> Use:
    for test, uses in tested.items():
        if use not in uses:
            there = sorted({one.shots for one in uses if one.prompt == use.prompt})
            allowed = f"{_either(there)} shots, or more test.shots" if there else f"a format of {test}"
            raise ExperimentError(f"{test} is not tested at {use}", where=where, allowed=allowed)
    return use


def _either(shots: Sequence[int]) -> str:
    return " or ".join(map(str, shots))

"""What a job reserves on a cluster: cores, GPUs and main memory, as the YAML says or as it is estimated here.

The memory is a rough estimate from the shapes of the base's weights. It keeps a scheduler from placing two trainings
where there is room for one, and is no limit: nothing ends a job that takes more.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, prod

from ..experiment.axes import WEIGHT_BYTES, Shapes
from ..experiment.resources import ResourcesSpec
from ..experiment.schema import Experiment
from ..plan.cost import CHARACTERS_A_TOKEN, characters_of, memory_bytes, variant_bytes
from ..plan.jobs import Job, TrainJob

GB = 1e9
PROGRAM = 1.5 * GB  # Python with torch, rows and prompts
ANSWERING = 1.5  # of the weights in float32: a model with the keys of its passes
GRADIENTS_AND_MOMENTS = 3  # of each weight that moves, beside the weight itself: AdamW has two moments
ACTIVATIONS = 1.5  # of what goes into and out of each matrix, for what lies between them
A_MODEL_IN_GPU = 1.0  # of the weights: they pass through main memory


@dataclass(frozen=True)
class Needs:
    """What a job reserves: `memory` in bytes."""

    cpus: int
    gpus: float
    memory: int

    def __str__(self) -> str:
        gpus = f"{self.gpus:g} GPU{'s' * (self.gpus > 1)}, " if self.gpus else ""
        return f"{self.cpus} core{'s' * (self.cpus > 1)}, {gpus}{self.memory / GB:.1f} GB of memory"


@dataclass(frozen=True)
class Node:
    """What a node of a cluster offers to jobs in all."""

    cpus: float
    gpus: float
    memory: float

    def __str__(self) -> str:
        return f"{self.cpus:g} cores, {self.gpus:g} GPUs, {self.memory / GB:.1f} GB of memory"

    def holds(self, needs: Needs) -> int:
        """How many such jobs it can run at once."""
        shares = [self.cpus / needs.cpus]
        shares += [self.gpus / needs.gpus] if needs.gpus else []
        shares += [self.memory / needs.memory] if needs.memory else []
        return int(min(shares))


def memory_of(job: Job, shapes: Shapes | None, experiment: Experiment, on_gpu: bool) -> int:
    """Bytes of main memory that a job takes, about; 0 as long as the shapes of the base's weights are not known."""
    if shapes is None:
        return 0
    weights = WEIGHT_BYTES * sum(map(prod, shapes.values()))
    if on_gpu:
        return round(PROGRAM + A_MODEL_IN_GPU * weights)
    answering = ANSWERING * weights
    if not isinstance(job, TrainJob):
        return round(PROGRAM + answering)
    moving = GRADIENTS_AND_MOMENTS * (variant_bytes(shapes, job) or 0)
    compared = memory_bytes(shapes, job, CHARACTERS_A_TOKEN) or 0
    a_token = WEIGHT_BYTES * sum(sum(shape) for shape in shapes.values() if len(shape) == 2)
    kept = 0.0 if experiment.train.gradient_checkpointing else ACTIVATIONS * a_token * _tokens_of_a_step(job)
    return round(PROGRAM + max(answering, weights + moving + compared + kept))


def _tokens_of_a_step(job: TrainJob) -> float:
    """Tokens of the rows of one optimiser step, about. Demonstrations are computed once."""
    rows = job.rows.examples
    a_row = sum(map(characters_of, rows)) / max(1, len(rows))
    shown = sum(map(characters_of, job.demos))
    return (min(job.recipe.batch_size, len(rows)) * a_row + shown) / CHARACTERS_A_TOKEN


def needs_of(job: Job, shapes: Shapes | None, experiment: Experiment, nodes: Iterable[Node], cpus: int) -> Needs:
    """What a job reserves. What the YAML does not say is estimated, and is never more than the largest node has.

    `cpus` are its cores where the YAML does not say. The processes that train a variant together run on one node, and
    take a GPU each, also where the YAML gives fewer to a job.
    """
    asked, offered, processes = experiment.resources, list(nodes), processes_of(job, experiment)
    gpus = asked.gpus if asked.gpus is not None else float(any(node.gpus >= 1 for node in offered))
    if gpus and processes > 1:
        gpus = max(gpus, float(processes))  # each has a GPU of its own
    if asked.memory is not None:
        memory = round(asked.memory * GB)
    else:
        largest = max((node.memory for node in offered), default=0)
        memory = int(min(processes * memory_of(job, shapes, experiment, gpus > 0), largest))
    return Needs(asked.cpus or max(cpus, processes), gpus, memory)


def processes_of(job: Job, experiment: Experiment) -> int:
    """How many processes compute at once in a job."""
    return experiment.train.processes if isinstance(job, TrainJob) else 1


def cores_of_a_job(asked: ResourcesSpec, nodes: Iterable[Node], jobs: int) -> int:
    """The cores of a job where nobody says: those of the smallest node, shared by the jobs that run there at once.

    That is a job for each GPU, or `jobs` shared out among the nodes where there is no GPU.
    """
    usable = [node for node in nodes if node.cpus >= 1]
    if not usable:
        return 1
    at_once = ceil(jobs / len(usable))
    return max(1, int(min(node.cpus // ((node.gpus // (asked.gpus or 1)) or at_once) for node in usable)))

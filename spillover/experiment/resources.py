"""What a job takes of a cluster, as written under `resources` in the YAML. It is in no key: it changes no number.

What is not given is estimated for each job (`work.resources`).
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from .fields import NUMBER, Count, Rate, Strict

MOST_GPUS = 1024


class ResourcesSpec(Strict):
    """What each job reserves under `spillover run --ray`."""

    cpus: Count | None = Field(
        None,
        description="cores of a job, and its threads; default: a node's, shared by the jobs that run on it at once",
    )
    gpus: Annotated[float, Field(ge=0, le=MOST_GPUS), NUMBER] | None = Field(
        None, description="GPUs of a job; 0.5: two jobs share one; default: one a process where the cluster has any"
    )
    memory: Rate | None = Field(
        None, description="main memory of a job, in GB; default: estimated from the model's size and the kind of job"
    )

    @field_validator("gpus")
    @classmethod
    def _whole_from_one_on(cls, gpus: float | None) -> float | None:
        if gpus is not None and gpus > 1 and gpus % 1:
            raise ValueError(f"{gpus:g} GPUs cannot be reserved: give a share of one, or a whole number")
        return gpus

"""What all steps of a run share: the plan, the store, the model, the precision, and where progress is reported."""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .. import models
from ..plan.plan import Plan
from ..store.store import Json, Store
from .backend import Backend
from .failures import Failures
from .progress import Reporter

if TYPE_CHECKING:
    from ..engine.hf import Precision


@dataclass(frozen=True)
class Context:
    """`model` is the base model, `longest` the number of tokens that an engine must have room for."""

    plan: Plan
    store: Store
    reporter: Reporter
    backend: Backend
    failures: Failures
    precision: Precision
    model: models.Model
    longest: int

    def receipt(self) -> Json:
        """What every receipt records of the machine."""
        from ..engine import memory

        return {
            "device": memory.device_name(),
            "machine": platform.node(),
            "threads": memory.threads(),
            "precision": self.precision,
            "versions": models.versions(),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }

"""One process of several that train a variant together: what `launch` starts.

It plans from the folder, as `work` does, and makes the samples of all steps. Of each it computes its share.
"""

from __future__ import annotations

import json
import logging
import os
import traceback
from pathlib import Path
from typing import Any

from ..errors import SpilloverError
from ..plan.composed import compose
from ..plan.jobs import TrainJob
from ..store.folder import log
from ..store.store import Json, Store
from .backend import Torch
from .execute import read_plan
from .launch import MEMORY, TRAINED
from .processes import Relay
from .progress import Reporter
from .run import Run
from .weights import as_written


def train_share(store: Store, file: Path) -> int:
    """Train a share of the variant that `file` names; returns the exit code. What failed is written beside the file."""
    from ..train.trainer import PACK_TOKENS

    relay: Any = Relay()
    log.setLevel(logging.ERROR)  # what is broken in the folder has been said by the first process of all
    number, given = os.environ["RANK"], json.loads(file.read_text("utf-8"))
    try:
        trained = _train(store, given, relay)
    except Exception as error:
        told = _told(error, given.get("pack_tokens") or PACK_TOKENS)
        (file.parent / f"failed-{number}.json").write_text(json.dumps(told), "utf-8")
        return 1
    if number == "0":
        (file.parent / TRAINED).write_text(json.dumps(trained), "utf-8")
    relay.end("done")
    return 0


def _train(store: Store, given: Json, relay: Any) -> Json:
    run = Run(read_plan(store), store, Reporter(), Torch())
    job = run.left.by_key[given["variant"]]
    assert isinstance(job, TrainJob), "nothing else is trained"
    job, texts, _ = as_written(run, job)
    experiment = run.plan.experiment
    composed = compose(job, run.plan.encoder, experiment.protocol, texts)
    folder, out = Path(given["folder"]), Path(given["out"])
    return run.backend.train(
        folder,
        composed.composition,
        job,
        experiment,
        out,
        given["precision"],
        relay.step,
        together=given["parallel"],
        pack_tokens=given.get("pack_tokens"),
    )


def _told(error: Exception, pack_tokens: int) -> Json:
    """What the process that waits must know of an error."""
    from ..engine.memory import out_of_memory
    from ..engine.shared import LEAST_TOKENS

    text = traceback.format_exc()
    if isinstance(error, RuntimeError) and out_of_memory(error) and pack_tokens // 2 >= LEAST_TOKENS:
        return {"kind": MEMORY, "smaller": pack_tokens // 2}
    if isinstance(error, SpilloverError):
        return {"kind": type(error).__name__, "what": error.what, "where": error.where, "allowed": error.allowed}
    first = str(error).splitlines()[0] if str(error) else ""
    return {"kind": "", "what": f"{type(error).__name__}: {first}", "text": text}

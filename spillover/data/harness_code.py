"""Runs the code of tasks of lm-evaluation-harness, and finds the files that it stands in.

A task may name functions of its own in any part of its configuration. They run here as lm-evaluation-harness runs them,
with its seeds. What they print is not shown, and what they raise becomes one line.
"""

from __future__ import annotations

import contextlib
import io
import logging
import random
from collections.abc import Iterator, Mapping, Sequence
from inspect import getsourcefile
from typing import Any

from ..errors import DataError, ExperimentError, SourceUnavailable
from .hub import quiet, why_offline

SEED = 1234  # of the demonstrations, as in lm-evaluation-harness; another draw adds its number


def plain(value: Any) -> Any:
    """A value as JSON holds it: numpy's numbers as numbers, functions as their names."""
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)) or (hasattr(value, "tolist") and value.ndim):
        return [plain(one) for one in value]
    if hasattr(value, "item"):
        return plain(value.item())
    if isinstance(value, float) and value != value:
        return None
    if isinstance(value, (str, int, float, bool, type(None))):
        return value
    return getattr(value, "__qualname__", type(value).__qualname__) if callable(value) else str(value)


def _functions(value: Any) -> Iterator[Any]:
    """All functions in a part of a configuration, such as those of filters."""
    if callable(value):
        yield value
    elif isinstance(value, (Mapping, list, tuple)):
        for one in value.values() if isinstance(value, Mapping) else value:
            yield from _functions(one)


def sources(task: Any, keys: Sequence[str]) -> Iterator[str]:
    """The files of the functions that its configuration names, and of its class if that is its own."""
    own = [function for key in keys for function in _functions(task.get_config(key))]
    if not type(task).__module__.startswith("lm_eval.api"):
        own.append(type(task))
    for function in own:
        with contextlib.suppress(TypeError):
            if file := getsourcefile(getattr(function, "func", function)):
                yield file


@contextlib.contextmanager
def as_theirs(where: str, error_of: type[DataError] = DataError) -> Iterator[None]:
    """Run code of lm-evaluation-harness: silently, with its seeds, its errors as one line of ours."""
    import lm_eval.api.task as module
    import numpy as np

    logger, shows = logging.getLogger("lm_eval"), module.tqdm
    level, states = logger.level, (random.getstate(), np.random.get_state())
    random.seed(0)  # as lm_eval.simple_evaluate does it
    np.random.seed(SEED)
    logger.setLevel(logging.CRITICAL)
    module.tqdm = lambda items, **_: items
    try:
        with quiet(), contextlib.redirect_stdout(io.StringIO()):
            yield
    except (DataError, ExperimentError):
        raise
    except Exception as error:  # code of any task, with errors of any kind
        lines = str(error).strip().splitlines() or [""]
        unreachable = isinstance(error, ConnectionError) or type(error).__name__ == "DatasetNotFoundError"
        if unreachable:
            what = f"its data set is not available: {why_offline() or lines[0]}"
            raise SourceUnavailable(what, where=where) from error
        raise error_of(f"{type(error).__name__}: {lines[0]}", where=where) from error
    finally:
        logger.setLevel(level)
        module.tqdm = shows
        random.setstate(states[0])
        np.random.set_state(states[1])

"""lm-evaluation-harness with one more model: `spillover`.

The harness finds models in its registry only, so somebody has to put ours there before it looks. `run` does that and
then hands all arguments to the harness's own command line; in Python, `register_with_lm_eval` does it.

What the harness raises before or after it asks our model, such as for a task that it does not know, is one line.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from ..errors import SpilloverError

NAME = "spillover"
PACKAGE = Path(__file__).resolve().parents[1]
MODEL = "spillover.interop.harness_model:HarnessModel"  # imported once a run asks for it


def register_with_lm_eval() -> None:
    """Make the model `spillover` known to lm-evaluation-harness: `lm_eval.simple_evaluate(model="spillover", ...)`.

    Raises SpilloverError if lm-evaluation-harness is not installed.
    """
    if find_spec("lm_eval") is None:
        advice = "pip install 'spillover[lm-eval]'"
        raise SpilloverError("lm-evaluation-harness is not installed", where="lm-eval", allowed=advice)
    import lm_eval.models  # noqa: F401  # registers its own models, which it does not once it knows another
    from lm_eval.api.registry import model_registry

    if NAME not in model_registry:
        model_registry.register(NAME, target=MODEL)


def run(arguments: Sequence[str]) -> None:
    """The command line of lm-evaluation-harness with these arguments, as they are. It ends by itself.

    Raises SpilloverError for what the harness refuses.
    """
    register_with_lm_eval()
    from lm_eval.__main__ import cli_evaluate

    if any(one.partition("=")[0] in ("--model", "-m") for one in arguments):  # a model is loaded into this process
        from ..engine.memory import reuse_memory

        reuse_memory()
    sys.argv = ["lm-eval", *arguments]
    try:
        cli_evaluate()
    except Exception as error:
        passed = [Path(frame.filename) for frame in traceback.extract_tb(error.__traceback__)[1:]]
        if any(PACKAGE in path.parents for path in passed):
            raise  # ours: a line already, or a bug
        what = f"{type(error).__name__}: {error}"
        where = f"lm-eval, {'/'.join(passed[-1].parts[-2:])}"
        raise SpilloverError(what, where=where, allowed="spillover lm-eval run --help") from None

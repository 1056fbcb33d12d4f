"""spillover: fine-tune a language model in several ways and see what else changed.

    import spillover as so

    result = so.run("experiment.yaml")
    result.to_pandas()                 # one row per cell and metric
    result.report("report.html")

Everything else is importable piece by piece: `so.render` writes prompts, `so.Encoder` turns them into tokens and
label masks, `so.SharedEngine` scores and generates with every common prefix computed once, `so.PrefixTrainer`
fine-tunes the same way. Heavy imports happen on first use: importing spillover imports neither torch nor pandas.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # as type checkers know it: the entry point is not to wait for the module `typing`

__version__ = "0.1.0"

_WHERE = {
    "Encoder": "text.encode",
    "Example": "text.task",
    "Experiment": "experiment.schema",
    "HarnessModel": "interop.harness_model",
    "Plan": "plan.plan",
    "PromptFormat": "text.prompt",
    "Request": "text.request",
    "PrefixTrainer": "train.trainer",
    "Result": "api",
    "SharedEngine": "engine.shared",
    "SpilloverError": "errors",
    "Task": "text.task",
    "figures": "report.figures",
    "load": "api",
    "load_experiment": "experiment.schema",
    "make_plan": "plan.plan",
    "register_loss": "experiment.functions",
    "register_with_lm_eval": "interop.lm_eval_command",
    "render": "text.prompt",
    "run": "api",
}

_EXTRA = {"HarnessModel": "lm-eval"}  # public names whose module imports what an extra brings

__all__ = ["__version__", *sorted(_WHERE)]

if TYPE_CHECKING:
    from typing import Any

    from .api import Result as Result
    from .api import load as load
    from .api import run as run
    from .engine.shared import SharedEngine as SharedEngine
    from .errors import SpilloverError as SpilloverError
    from .experiment.functions import register_loss as register_loss
    from .experiment.schema import Experiment as Experiment
    from .experiment.schema import load_experiment as load_experiment
    from .interop.harness_model import HarnessModel as HarnessModel
    from .interop.lm_eval_command import register_with_lm_eval as register_with_lm_eval
    from .plan.plan import Plan as Plan
    from .plan.plan import make_plan as make_plan
    from .report import figures as figures
    from .text.encode import Encoder as Encoder
    from .text.prompt import render as render
    from .text.request import Request as Request
    from .text.task import Example as Example
    from .text.task import PromptFormat as PromptFormat
    from .text.task import Task as Task
    from .train.trainer import PrefixTrainer as PrefixTrainer


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'spillover' has no attribute {name!r}")
    try:
        module = import_module(f".{_WHERE[name]}", __name__)
    except ModuleNotFoundError as error:
        if name in _EXTRA and not (error.name or "").startswith(__name__):
            what = f"{__name__}.{name} needs {error.name}: pip install '{__name__}[{_EXTRA[name]}]'"
            raise ImportError(what, name=error.name) from error
        raise
    return module if _WHERE[name].endswith(f".{name}") else getattr(module, name)


def __dir__() -> list[str]:
    return __all__

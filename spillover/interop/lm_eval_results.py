"""Writes a run's answers as lm-evaluation-harness writes its own: a results file, and a sample file for each task.

The layout is that of `lm_eval --log_samples --output_path OUTPUT/N-shot`: a folder for each variant, in which a task is
a test set in a prompt format and draw, as in `lm_eval_tasks`. Accuracy is called `acc`, as there. Whether a label is
what the model would have written is not stored, so the second value of a response is `None`. Two sample files give
`spillover compare` the numbers that the two runs give it.
"""

from __future__ import annotations

import json
import shlex
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..disk import file_name, text_sha256, write_whole
from .scored import Scored, scored
from .wanted import Wanted, task_name

Json = dict[str, Any]

NAMES = {"accuracy": "acc", "accuracy_norm": "acc_norm"}
"""Metrics that have another name there."""


def write(wanted: Wanted) -> list[str]:
    """Write the files of every finished cell; each run of lm_eval would have one number of shots."""
    now = datetime.now(UTC)
    date = now.replace(tzinfo=None).isoformat().replace(":", "-")
    runs: dict[tuple[int, str], list[Scored]] = defaultdict(list)
    for cell in scored(wanted, need_texts=True):
        runs[cell.cell.shots, cell.variant.name].append(cell)
    samples: list[Path] = []
    for (shots, variant), cells in runs.items():
        place = wanted.place / f"{shots}-shot" / file_name(variant)
        for cell in cells:
            path = place / f"samples_{task_name(cell.cell.condition)}_{date}.jsonl"
            lines = (json.dumps(sample, ensure_ascii=False) + "\n" for sample in _samples(cell))
            samples.append(write_whole(path, "".join(lines)))
        results = json.dumps(_results(wanted, cells, now.timestamp()), indent=2, ensure_ascii=False)
        write_whole(place / f"results_{date}.json", results + "\n")
    first = samples[0]
    others = [path for path in samples[1:] if (path.name, path.parent.parent) == (first.name, first.parent.parent)]
    pair = [str(first), str((others or [first])[0])]
    return [
        f"Wrote {len(runs)} results files and {len(samples)} sample files to {wanted.place}",
        f"Next: spillover compare {shlex.join(pair)}",
    ]


def _name(metric: str) -> str:
    """The metric alone. The score of one of its own tasks is called by metric and filter."""
    return NAMES.get(metric, metric.partition(",")[0])


def _filter(metric: str) -> str:
    return metric.partition(",")[2] or "none"


def _key(metric: str, ending: str = "") -> str:
    return f"{_name(metric)}{ending},{_filter(metric)}"


def _samples(cell: Scored) -> Iterator[Json]:
    filters: dict[str, dict[str, dict[int, float]]] = {}
    for metric in cell.metrics:
        scores = cell.row_scores(metric)
        if scores is not None:
            filters.setdefault(_filter(metric.name), {})[_name(metric.name)] = scores
    for name, values in filters.items():
        yield from _filtered(cell, name, values)


def _filtered(cell: Scored, name: str, values: Mapping[str, Mapping[int, float]]) -> Iterator[Json]:
    """A sample of each row for one filter, with the scores that it gives. What it made of a response is not stored."""
    for row in cell.rows:
        asked = (cell.prompts or {}).get(row["prompt_hash"], "")
        if "logprobs" in row:
            options = list(row["logprobs"])
            target = str(options.index(row["target"])) if row["target"] in options else row["target"]
            arguments: list[list[Any]] = [[asked, option] for option in options]
            answers: list[Any] = [[str(logprob), "None"] for logprob in row["logprobs"].values()]
        elif "responses" in row:  # of a task of lm-evaluation-harness
            target, arguments, answers = row["target"], [[asked, {}]], row["responses"]
        else:
            target, arguments, answers = row["target"], [[asked, {}]], [row["response"]]
        named = [{f"arg_{j}": part for j, part in enumerate(argument)} for argument in arguments]
        yield {
            "doc_id": row["doc_id"],
            "doc": row["doc"],
            "target": target,
            "arguments": {f"gen_args_{i}": argument for i, argument in enumerate(named)},
            "resps": [[answer] for answer in answers],
            "filtered_resps": answers,
            "filter": name,
            "metrics": list(values),
            "doc_hash": text_sha256(json.dumps(row["doc"], indent=2, ensure_ascii=False)),
            "prompt_hash": text_sha256(asked),
            "target_hash": text_sha256(target),
            **{metric: scores.get(row["doc_id"]) for metric, scores in values.items()},
        }


def _results(wanted: Wanted, cells: list[Scored], date: float) -> Json:
    names = [task_name(cell.cell.condition) for cell in cells]
    of_task = dict(zip(names, cells, strict=True))
    variant, receipt = cells[0].variant, cells[0].receipt
    pretrained = wanted.store.checkpoint(variant.key) or (wanted.grid.model if variant.kind == "base" else variant.name)
    versions = receipt.get("versions", {})
    return {
        "results": {name: _scores(name, cell) for name, cell in of_task.items()},
        "group_subtasks": {},
        "configs": {name: _config(name, cell) for name, cell in of_task.items()},
        "versions": {name: _version(cell) for name, cell in of_task.items()},
        "n-shot": {name: cell.cell.shots for name, cell in of_task.items()},
        "higher_is_better": {
            name: {_name(metric.name): metric.higher_is_better for metric in cell.metrics}
            for name, cell in of_task.items()
        },
        "n-samples": {name: {"original": len(c.rows), "effective": len(c.rows)} for name, c in of_task.items()},
        "config": {
            "model": "spillover",
            "model_args": {"pretrained": pretrained, "dtype": receipt.get("precision")},
            "model_dtype": receipt.get("precision"),
            "device": receipt.get("device"),
            "limit": None,
            "bootstrap_iters": 0,
            "gen_kwargs": {},
        },
        "date": date,
        "transformers_version": versions.get("transformers"),
        "spillover_version": versions.get("spillover", __version__),
        "model_source": "spillover",
        "model_name": variant.name,
        "model_name_sanitized": file_name(variant.name),
        "task_hashes": {name: cell.receipt["sha256"] for name, cell in of_task.items()},
    }


def _scores(name: str, cell: Scored) -> Json:
    found: Json = {"name": name, "alias": name, "sample_len": len(cell.rows)}
    for metric in cell.metrics:
        of_rows = cell.row_scores(metric)
        known = list((of_rows or {}).values())
        error = float(np.std(known, ddof=1) / len(known) ** 0.5) if len(known) > 1 else "N/A"
        found |= {_key(metric.name): cell.score(metric), _key(metric.name, "_stderr"): error}
    for metric_name, whole in cell.receipt.get("as_a_whole", {}).items():  # what its own aggregation alone gives
        found |= {_key(metric_name): whole["value"], _key(metric_name, "_stderr"): "N/A"}
    return found


def _config(name: str, cell: Scored) -> Json:
    metrics = dict.fromkeys(_name(metric.name) for metric in cell.metrics)
    metadata = {"source": cell.test.source, "prompt": cell.cell.prompt, "draw": cell.cell.draw}
    return {
        "task": name,
        "output_type": _output_type(cell.rows[0]),
        "num_fewshot": cell.cell.shots,
        "metric_list": [{"metric": metric} for metric in metrics],
        "metadata": {"version": _version(cell), **metadata},
    }


def _version(cell: Scored) -> int | str:
    """That of the tasks which `lm_eval_tasks` writes. That of one of its own tasks is not stored."""
    return "N/A" if "responses" in cell.rows[0] else 1


def _output_type(row: Mapping[str, Any]) -> str:
    """How a row was asked. The responses of one of its own tasks are texts, numbers, or pairs for each choice."""
    if "responses" not in row:
        return "multiple_choice" if "logprobs" in row else "generate_until"
    first = row["responses"][0]
    if isinstance(first, str):
        return "generate_until"
    if not isinstance(first, list | tuple):
        return "loglikelihood_rolling"
    return "multiple_choice" if len(row["responses"]) > 1 else "loglikelihood"

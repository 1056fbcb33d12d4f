"""Writes results in the schema of Every Eval Ever, version 0.3.0: the shared data store of evaluation results.

A file holds one variant on one test set: every metric at every number of shots, prompt format and draw, with its
interval. A second file beside it holds every answer, once for each metric that has a score for a row. Their place is
that of the data store, `data/COLLECTION/DEVELOPER/MODEL/UUID.json`, where the collection is the test set. A model that
is not on the hub has the developer `local`. The UUID follows from the variant and the test set, so that writing again
replaces a file. A result that is no finite number is left out, because JSON cannot say it. Source: the package
`every-eval-ever`, whose own command `validate` accepts these files.
"""

from __future__ import annotations

import hashlib
import json
import math
import shlex
import uuid
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from .. import __version__
from ..analysis.metrics import Metric, right
from ..analysis.table import load
from ..disk import as_bytes, file_name, write_whole
from .card import base_model
from .scored import Scored, scored
from .wanted import Wanted

Json = dict[str, Any]
Intervals = dict[tuple[Any, ...], tuple[float, float]]

SCHEMA = "0.3.0"


def write(wanted: Wanted) -> list[str]:
    """Write a file for each variant and test set, and its answers where their texts are there."""
    groups: dict[tuple[str, str], list[Scored]] = defaultdict(list)
    now = str(int(datetime.now(UTC).timestamp()))
    intervals = _intervals(wanted)
    open_ones: dict[str, None] = {}
    for cell in scored(wanted):
        if any((cell.variant.name, *_question(cell), one.name) in intervals for one in cell.metrics):
            groups[cell.variant.key, cell.test.name].append(cell)
        else:
            open_ones[cell.variant.name] = None
    written, left_out = [], []
    for cells in groups.values():
        pairs = [(cell, metric) for cell in cells for metric in cell.metrics]
        kept = [pair for pair in pairs if _is_finite(*pair, intervals)]
        missing = [pair for pair in pairs if pair not in kept]
        left_out += [f"{cell.variant.name} on {cell.test.name}: {_result_id(cell, one)}" for cell, one in missing]
        if not kept:
            continue
        name = str(uuid.UUID(bytes=hashlib.sha256(as_bytes("/".join(_identity(cells)))).digest()[:16], version=4))
        model = _model(wanted, cells[0])
        # The data store takes the developer and the model from the two parts of the model's id.
        place = PurePosixPath("data", file_name(cells[0].test.name), *model["id"].split("/"))
        log = _log(wanted, kept, model, intervals, now)
        if not any("without_texts" in cell.receipt for cell in cells):
            rows = [json.dumps(row, ensure_ascii=False, allow_nan=False) for pair in kept for row in _rows(*pair, log)]
            text = "\n".join(rows) + "\n"
            samples = place / f"{name}_samples.jsonl"
            write_whole(wanted.place / samples, text)
            log["detailed_evaluation_results"] = {
                "format": "jsonl",
                "file_path": str(samples),
                "hash_algorithm": "sha256",
                "checksum": hashlib.sha256(as_bytes(text)).hexdigest(),
                "total_rows": len(rows),
            }
        content = json.dumps(log, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        written.append(write_whole(wanted.place / place / f"{name}.json", content))
    check = f"cd {shlex.quote(str(wanted.place))} && python -m every_eval_ever validate 'data/*/*/*/*.json*'"
    return [
        f"Wrote {len(written)} files of results to {wanted.place / 'data'}",
        *(f"Left out, because it is not yet chosen among its alternatives: {name}" for name in open_ones),
        *(f"Left out, because the score or its interval is no finite number: {name}" for name in left_out),
        f"Next, with Python 3.12 and pip install every-eval-ever: {check}",
    ]


def _is_finite(cell: Scored, metric: Metric, intervals: Intervals) -> bool:
    """Whether JSON can say the score and its interval."""
    return all(map(math.isfinite, (cell.score(metric), *_interval(cell, metric, intervals))))


def _interval(cell: Scored, metric: Metric, intervals: Intervals) -> tuple[float, float]:
    return intervals[cell.variant.name, *_question(cell), metric.name]


def _question(cell: Scored) -> tuple[str, int, str, int]:
    name, prompt, shots, draw = cell.cell.condition
    return name, shots, prompt, draw


def _identity(cells: Sequence[Scored]) -> tuple[str, str]:
    return cells[0].variant.key, cells[0].test.name


def _intervals(wanted: Wanted) -> Intervals:
    df = load(wanted.folder).df
    names = ["variant", "test_dataset", "shots", "prompt", "draw", "metric", "ci_low", "ci_high"]
    rows = df.loc[df["rows"] == "all", names].itertuples(index=False, name=None)
    return {row[:6]: (float(row[6]), float(row[7])) for row in rows}


def _model(wanted: Wanted, cell: Scored) -> Json:
    model, variant = wanted.grid.model, cell.variant
    hub = base_model(model, wanted.store.base)
    is_base = variant.kind == "base"
    local = Path(model).name if is_base else f"{wanted.folder.resolve().name}-{variant.name}"
    details = {
        "deployment_type": "self_deployed",
        "model_availability": "open_weights" if is_base and hub else "unknown",
    }
    details |= {"base_model": model, "precision": str(cell.receipt.get("precision"))}
    details |= {name: str(value) for name, value in variant.factors.items()}
    return {
        "name": (hub or model) if is_base else variant.name,
        "id": hub if is_base and hub and "/" in hub else f"local/{file_name(local)}",
        "inference_engine": {"name": "spillover", "version": __version__},
        "additional_details": details,
    }


def _log(wanted: Wanted, kept: Sequence[tuple[Scored, Metric]], model: Json, intervals: Intervals, now: str) -> Json:
    return {
        "schema_version": SCHEMA,
        "evaluation_id": f"{kept[0][0].test.name}/{model['id']}/{now}",
        "retrieved_timestamp": now,
        "source_metadata": {
            "source_name": "spillover",
            "source_type": "evaluation_run",
            "source_organization_name": "unknown",
            "evaluator_relationship": "other",
        },
        "eval_library": {"name": "spillover", "version": __version__},
        "model_info": model,
        "evaluation_results": [_result(cell, metric, intervals) for cell, metric in kept],
    }


def _result_id(cell: Scored, metric: Metric) -> str:
    _, prompt, shots, draw = cell.cell.condition
    return f"{metric.name}/{shots}-shot/{prompt}/draw-{draw}"


def _result(cell: Scored, metric: Metric, intervals: Intervals) -> Json:
    name, prompt, shots, draw = cell.cell.condition
    low, high = _interval(cell, metric, intervals)
    return {
        "evaluation_result_id": _result_id(cell, metric),
        "evaluation_name": name,
        "source_data": {
            "dataset_name": cell.test.title or name,
            "source_type": "other",
            "additional_details": {"source": cell.test.source, "task": cell.test.task},
        },
        "metric_config": {
            "evaluation_description": f"{metric.title} on {name}",
            "metric_id": metric.name,
            "metric_name": metric.title,
            "metric_kind": metric.name,
            "metric_unit": "proportion" if metric.of_100 else "as lm-evaluation-harness defines it",
            "lower_is_better": not metric.higher_is_better,
            "score_type": "continuous",
            "min_score": 0.0 if metric.of_100 else "-Infinity",
            "max_score": 1.0 if metric.of_100 else "Infinity",
        },
        "score_details": {
            "score": cell.score(metric),
            "uncertainty": {
                "confidence_interval": {
                    "lower": low,
                    "upper": high,
                    "confidence_level": 0.95,
                    "method": "wilson" if metric.is_proportion else "bootstrap over documents",
                },
                "num_samples": len(cell.statistics[metric.name].doc_ids),
            },
        },
        "generation_config": {
            "generation_args": {"temperature": 0.0},
            "additional_details": {"num_fewshot": str(shots), "prompt_format": prompt, "demonstration_draw": str(draw)},
        },
    }


def _rows(cell: Scored, metric: Metric, log: Json) -> Iterator[Json]:
    scores = cell.row_scores(metric) or {}
    for row in cell.rows:
        score = scores.get(row["doc_id"])
        if score is None:
            continue
        asked = (cell.prompts or {}).get(row["prompt_hash"])
        raw, reference = "\n".join(row["doc"].values()), list(right(row))
        correct = score == 1 if metric.is_proportion else row["response"] in reference
        options = list(row["logprobs"]) if "logprobs" in row else None
        yield {
            "schema_version": SCHEMA,
            "evaluation_id": log["evaluation_id"],
            "model_id": log["model_info"]["id"],
            "evaluation_name": cell.test.name,
            "evaluation_result_id": _result_id(cell, metric),
            "sample_id": str(row["doc_id"]),
            "sample_hash": hashlib.sha256(as_bytes("".join([raw, *reference]))).hexdigest(),
            "interaction_type": "single_turn",
            "input": {"raw": raw, "formatted": asked, "reference": reference, "choices": options},
            "output": {"raw": [row["response"]]},
            "answer_attribution": [
                {
                    "turn_idx": 0,
                    "source": "output.raw",
                    "extracted_value": row["response"],
                    "extraction_method": "largest log-probability" if options else "greedy text up to its stop",
                    "is_terminal": True,
                }
            ],
            "evaluation": {"score": score, "is_correct": correct},
        }

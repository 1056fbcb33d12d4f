"""Every answer beside its prompt: what was asked, what each variant said, how it scored, packed for the page.

A page of a few megabytes cannot hold the answers of thousands of cells. They are packed by condition (test set, prompt
format, shots, draw), since answers are only compared within one. The packs that matter first go into the page; each of
the rest becomes a script file beside it, which the page loads when asked. A script and not JSON, because a page that
was opened from disk may not fetch, while it may add a script element.

Texts that repeat are written once: what stands before every row (the demonstrations), a label by its number.
Numbers are integers: scores in points of 100, log-probabilities in thousandths of a nat.

The same pass over the answers counts what scores hide (`Tally`): which label was said for which, how many answers left
the format, and how many of those are labels of the task that the variant was trained on.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..grid import Cell, TestInfo
from ..metrics import Prediction, begins_with_label, off_format, rescored
from ..protocol import Protocol
from ..store import prompts_name, read_rows
from .table import Results

EMBEDDED = 1_000_000  # characters of packs in the page itself

Pack = dict[str, Any]
Condition = tuple[str, str, int, int]  # test set, prompt format, shots, draw


@dataclass
class Tally:
    """Answers of one variant on one test set, over all its conditions. `said` counts (target, answer) of labels."""

    n: int = 0
    off_format: int = 0
    trained_labels: int = 0
    said: Counter[tuple[str, str]] = field(default_factory=Counter)

    @property
    def rate(self) -> float:
        return self.off_format / self.n if self.n else 0.0


@dataclass(frozen=True)
class Asked:
    """One condition with the answers of every variant that was asked, by the variant's number in the grid.

    `scores` are those of the test set's first metric, by variant and document.
    """

    test: TestInfo
    condition: Condition
    answers: Mapping[int, Sequence[Prediction]]
    scores: Mapping[int, Mapping[int, float]]
    prompts: Mapping[str, Any] | None


def read(results: Results, folder: Path) -> Iterator[Asked]:
    """Condition by condition, few shots and the first prompt format first: no more than one is held in memory."""
    numbers = {variant.key: i for i, variant in enumerate(results.grid.variants)}
    label_scoring = Protocol.named(results.grid.protocol).label_scoring
    by_condition: dict[Condition, list[Cell]] = {}
    for cell in results.grid.cells:
        if cell.key in results.first_metric:
            by_condition.setdefault((cell.test_dataset, cell.prompt, cell.shots, cell.draw), []).append(cell)
    formats = list(dict.fromkeys(cell.prompt for cell in results.grid.cells))
    for condition in sorted(by_condition, key=lambda one: (formats.index(one[1]), one[2:])):
        answers, scores = {}, {}
        for cell in by_condition[condition]:
            number, first = numbers[results.variants[cell.variant].key], results.first_metric[cell.key]
            rows = read_rows(folder / "cells" / cell.key / "predictions.jsonl")
            answers[number] = rescored(rows, label_scoring)
            scores[number] = dict(zip(first.doc_ids.tolist(), first.statistics[:, 0].tolist(), strict=True))
        path = folder / prompts_name(*condition)
        prompts = json.loads(path.read_text("utf-8")) if path.exists() else None
        yield Asked(results.tests[condition[0]], condition, answers, scores, prompts)


# --- packing ----------------------------------------------------------------------------------------------------------


def pack(asked: Asked) -> Pack:
    """A condition for the page. Prompts that were not kept (folders of earlier versions) are shown by their fields."""
    rows = {row["doc_id"]: row for some in asked.answers.values() for row in some}
    ids = sorted(rows)
    after = asked.prompts["after"] if asked.prompts else {}
    exact = all(row["prompt_hash"] in after for row in rows.values())
    return {
        "exact": exact,
        "before": asked.prompts["before"] if asked.prompts and exact else "",
        "labels": asked.test.labels,
        "ids": ids,
        "targets": [rows[i]["target"] for i in ids],
        "texts": [after[rows[i]["prompt_hash"]] if exact else _fields(rows[i]) for i in ids],
        "answers": {n: _answers(asked.test, ids, some, asked.scores[n]) for n, some in asked.answers.items()},
    }


def _fields(row: Prediction) -> str:
    return "\n".join(f"{name}: {text}" for name, text in row["doc"].items())


def _answers(test: TestInfo, ids: Sequence[int], rows: Sequence[Prediction], scores: Mapping[int, float]) -> Pack:
    """One variant's answers, in the order of `ids`; a document that it was not asked has null."""
    place = {row["doc_id"]: i for i, row in enumerate(rows)}
    order = [place.get(i) for i in ids]
    number = {label: i for i, label in enumerate(test.labels or ())}

    def column(value: Callable[[int], Any]) -> list[Any]:
        return [None if i is None else value(i) for i in order]

    packed: Pack = {
        "said": column(lambda i: number.get(rows[i]["response"], rows[i]["response"])),
        "score": column(lambda i: round(100 * scores[rows[i]["doc_id"]])),
    }
    if not number:
        return packed | {"cut": column(lambda i: int(not rows[i].get("finished", True)))}
    whole, first = (
        column(lambda i, name=name: [round(1000 * rows[i][name][label]) for label in number])  # type: ignore[misc]
        for name in ("logprobs", "logprobs_first")
    )
    packed |= {"logprobs": whole, "free": column(lambda i: rows[i].get("free"))}
    return packed if first == whole else packed | {"first": first}


# --- counting ---------------------------------------------------------------------------------------------------------


def count(results: Results, asked: Asked, tallies: dict[tuple[str, str], Tally]) -> None:
    """Add the answers of a condition to the tallies of its variants, by variant and test set."""
    labels = results.grid.labels_for(asked.test)
    for number, rows in asked.answers.items():
        variant = results.grid.variants[number]
        tally = tallies.setdefault((variant.name, asked.test.name), Tally())
        left = off_format.statistics(rows, labels)[:, 0].astype(bool)
        trained = results.grid.labels_of_train_task.get(variant.train_dataset or "", ())
        said = [row["free"] if asked.test.labels else row["response"] for row in rows]
        tally.n += len(rows)
        tally.off_format += int(left.sum())
        tally.trained_labels += sum(
            begins_with_label(text or "", trained) for text, off in zip(said, left, strict=True) if off
        )
        if asked.test.labels:
            tally.said.update((row["target"], row["response"]) for row in rows)


# --- onto disk --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Written:
    """Packs in the page (`embedded`, by number in `index`), files for the rest, and what was seen on the way.

    `first_rows` are a text and its target by test set, `formats` the templates by task and prompt format.
    """

    index: list[dict[str, Any]]
    embedded: dict[int, Pack]
    tallies: dict[tuple[str, str], Tally]
    first_rows: dict[str, dict[str, str]]
    formats: list[dict[str, str]]


def write(results: Results, folder: Path, beside: Path) -> Written:
    """Pack every condition of an output folder; `beside` takes the files, and holds no others afterwards."""
    done = Written([], {}, {}, {}, [])
    room = EMBEDDED
    kept = set()
    for number, asked in enumerate(read(results, folder)):
        count(results, asked, done.tallies)
        packed = pack(asked)
        done.first_rows.setdefault(asked.test.name, {"text": packed["texts"][0], "target": packed["targets"][0]})
        _note_format(asked, done.formats)
        test, prompt, shots, draw = asked.condition
        entry = {"test": test, "prompt": prompt, "shots": shots, "draw": draw}
        text = json.dumps(packed, ensure_ascii=False, separators=(",", ":"))
        room -= len(text)
        if room >= 0:
            done.embedded[number] = packed
        else:
            beside.mkdir(parents=True, exist_ok=True)
            entry["file"] = f"{beside.name}/{number}.js"
            kept.add(f"{number}.js")
            (beside / f"{number}.js").write_text(f"spillover({number},{text})\n", "utf-8", errors="replace")
        done.index.append(entry)
    for stale in set(beside.glob("*.js")) - {beside / name for name in kept}:
        stale.unlink()
    return done


def _note_format(asked: Asked, formats: list[dict[str, str]]) -> None:
    if asked.prompts:
        found = {"task": asked.test.task, "name": asked.condition[1], "template": asked.prompts["template"]}
        formats += [found] if found not in formats else []

"""Every answer with its prompt and score, packed for the page.

A page of a few megabytes cannot hold the answers of thousands of cells. They are packed by condition, since answers are
only compared within one. The first packs go into the page. Each of the others becomes a script file beside it, which
the page loads when it is needed: a page that was opened from disk may not fetch JSON, but it may add a script element.
The name of a file is a hash of its inputs, and a file that exists is not made again, because reading all answers of a
large folder takes long. Its last line is a hash of the rest: a file that is broken is made again.

Texts that repeat are written once: the demonstrations before every row, and a label by its number. Numbers are
integers: scores in points of 100, log-probabilities in thousandths of a nat.

The same pass over the answers counts what scores do not show (`Tally`).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..analysis.metrics import METRICS, Prediction, rescored, right
from ..analysis.results import Results
from ..analysis.rows import METRICS_VERSION
from ..disk import remove, text_sha256, write_whole
from ..experiment.protocol import Protocol
from ..fingerprint import fingerprint
from ..plan.grid import Cell, Condition, TestInfo
from ..store.open import open_store
from ..text.words import begins_with_label

EMBEDDED = 1_000_000  # characters of packs in the page itself
HEAD, BETWEEN = "spillover(", ")\n//"  # in a file: the page's function before the pack, and a comment after it
SEAL = "\n//"  # before the hash of all that stands before it, the last line
PACK_VERSION = 5  # raise it when the same answers are packed or counted differently

Pack = dict[str, Any]


class Tally(Counter[tuple[str, str, bool, bool]]):
    """One variant's answers on one test set, over all conditions, counted by four things.

    These are the target and the answer (empty for free text), whether the answer left the format, and whether it then
    begins with a label of the task that the variant was trained on.
    """

    n = property(Counter.total)

    @property
    def off_format(self) -> int:
        return sum(n for (*_, off, _), n in self.items() if off)

    @property
    def trained_labels(self) -> int:
        return sum(n for (*_, trained), n in self.items() if trained)

    @property
    def rate(self) -> float:
        return self.off_format / self.n if self else 0.0

    @property
    def said(self) -> Counter[tuple[str, str]]:
        """How often an answer was given for a target. Empty for free text."""
        said: Counter[tuple[str, str]] = Counter()
        for (target, answer, *_), n in self.items():
            if target:
                said[target, answer] += n
        return said


@dataclass(frozen=True)
class Asked:
    """One condition with the answers of every variant, by the variant's number in the grid.

    `scores` are by the test set's first metric, for each variant and each document that it scores.
    """

    test: TestInfo
    condition: Condition
    answers: Mapping[int, Sequence[Prediction]]
    scores: Mapping[int, Mapping[int, float]]
    prompts: Mapping[str, Any] | None


def conditions(results: Results) -> list[tuple[Condition, list[Cell]]]:
    """The conditions that have cells with texts, with these: the first prompt format and few shots first."""
    by_condition: dict[Condition, list[Cell]] = {}
    for cell in results.grid.cells:
        if cell.key in results.first_metric and cell.key not in results.without_texts:
            by_condition.setdefault(cell.condition, []).append(cell)
    formats = list(dict.fromkeys(cell.prompt for cell in results.grid.cells))
    return sorted(by_condition.items(), key=lambda one: (formats.index(one[0].prompt), one[0].shots, one[0].draw))


def read(results: Results, folder: Path, condition: Condition, cells: Sequence[Cell]) -> Asked:
    """The answers of one condition."""
    store, label_scoring = open_store(folder), Protocol.named(results.grid.protocol).label_scoring
    answers, scores = {}, {}
    for cell in cells:
        number, first = results.variant_numbers[cell.variant], results.first_metric[cell.key]
        answers[number] = rescored(store.predictions(cell.key), label_scoring)
        scores[number] = dict(zip(first.doc_ids.tolist(), first.statistics[:, 0].tolist(), strict=True))
    return Asked(results.tests[condition.test], condition, answers, scores, store.prompts(condition))


def pack(asked: Asked) -> Pack:
    """A condition for the page. Where a prompt was not kept, the fields of the row stand in its place."""
    rows = {row["doc_id"]: row for some in asked.answers.values() for row in some}
    ids = sorted(rows)
    after = asked.prompts["after"] if asked.prompts else {}
    exact = all(row["prompt_hash"] in after for row in rows.values())
    return {
        "exact": exact,
        "before": asked.prompts["before"] if asked.prompts and exact else "",
        "labels": asked.test.labels,
        "options": [list(rows[i]["logprobs"]) for i in ids] if asked.test.kind == "multiple_choice" else None,
        "ids": ids,
        "targets": [rows[i]["target"] for i in ids],
        "others": others if any(others := [list(right(rows[i])[1:]) for i in ids]) else None,
        "texts": [after[rows[i]["prompt_hash"]] if exact else _fields(rows[i]) for i in ids],
        "answers": {n: _answers(asked.test, ids, some, asked.scores[n]) for n, some in asked.answers.items()},
    }


def _fields(row: Prediction) -> str:
    return "\n".join(f"{name}: {text}" for name, text in row["doc"].items())


def _answers(test: TestInfo, ids: Sequence[int], rows: Sequence[Prediction], scores: Mapping[int, float]) -> Pack:
    """One variant's answers, in the order of `ids`; null for a document that it has not answered."""
    place = {row["doc_id"]: i for i, row in enumerate(rows)}
    order = [place.get(i) for i in ids]
    number = {label: i for i, label in enumerate(test.labels or ())}

    def column(value: Callable[[int], Any]) -> list[Any]:
        return [None if i is None else value(i) for i in order]

    packed: Pack = {
        "said": column(lambda i: number.get(rows[i]["response"], rows[i]["response"])),
        "score": column(lambda i: _points(scores.get(rows[i]["doc_id"]))),
    }
    if test.kind == "generation":
        return packed | {"ended": column(lambda i: rows[i].get("ended"))}
    whole, first = (
        column(lambda i, name=name: [round(1000 * rows[i][name][label]) for label in number or rows[i][name]])  # type: ignore[misc]
        for name in ("logprobs", "logprobs_first")
    )
    packed |= {"logprobs": whole, "free": column(lambda i: rows[i].get("free"))}
    return packed if first == whole else packed | {"first": first}


def _points(score: float | None) -> int | None:
    return None if score is None else round(100 * score)


def count(results: Results, asked: Asked) -> dict[str, Tally]:
    """The answers of a condition, counted for each of its variants, by name."""
    labels = results.grid.labels_for(asked.test)
    found = {}
    for number, rows in asked.answers.items():
        variant = results.grid.variants[number]
        left = METRICS["off_format"].statistics(rows, labels)[:, 0].astype(bool)
        trained = results.grid.labels_of_train_task.get(variant.train_dataset or "", ())
        tally = found[variant.name] = Tally()
        for row, off in zip(rows, left, strict=True):
            text = (row["free"] if asked.test.kind != "generation" else row["response"]) or ""
            pair = (row["target"], row["response"]) if asked.test.kind == "classification" else ("", "")
            tally[*pair, bool(off), bool(off and begins_with_label(text, trained))] += 1
    return found


@dataclass(frozen=True)
class Written:
    """Packs in the page (`embedded`, JSON by number in `index`), and what else the answers show.

    `first_rows` has a text, its target and the number of its right answers by test set, `formats` the templates by task
    and prompt format.
    """

    index: list[dict[str, Any]]
    embedded: dict[int, str]
    tallies: dict[tuple[str, str], Tally]
    first_rows: dict[str, dict[str, Any]]
    formats: list[dict[str, str]]


def write(results: Results, folder: Path, beside: Path) -> Written:
    """Pack every condition of an output folder. Files go to `beside`, where all others are deleted."""
    done = Written([], {}, {}, {}, [])
    room = EMBEDDED
    kept = set()
    for number, (condition, cells) in enumerate(conditions(results)):
        path = beside / f"{_identity(results, folder, condition, cells)}.js"
        known = _known(path)
        file = known or _make(results, read(results, folder, condition, cells))
        packed, notes = file.removeprefix(HEAD).rsplit(BETWEEN, 1)
        _note(done, results.tests[condition.test], condition.prompt, *json.loads(notes))
        entry = condition._asdict()
        room -= len(packed)
        if room >= 0:
            done.embedded[number] = packed
        else:
            entry["file"] = f"{beside.name}/{path.name}"
            kept.add(path)
            if known is None:
                write_whole(path, f"{file}{SEAL}{text_sha256(file)}\n")
        done.index.append(entry)
    for stale in set(beside.glob("*.js")) - kept:
        remove(stale)
    tasks = [test.task for test in results.grid.tests]
    done.formats.sort(key=lambda found: tasks.index(found["task"]))
    return done


def _known(path: Path) -> str | None:
    """What an earlier report wrote; None if there is nothing, or if it is broken."""
    try:
        file, _, seal = path.read_text("utf-8").rpartition(SEAL)
    except (OSError, UnicodeDecodeError):
        return None
    return file if seal.strip() == text_sha256(file) else None


def _identity(results: Results, folder: Path, condition: Condition, cells: Sequence[Cell]) -> str:
    """A hash of the inputs of a condition's pack and counts. Answers carry the hash of their prompt."""
    grid, test = results.grid, results.tests[condition.test]
    variants = [results.variants[cell.variant] for cell in cells]
    trained = [grid.labels_of_train_task.get(variant.train_dataset or "") for variant in variants]
    return fingerprint(
        [
            [PACK_VERSION, METRICS_VERSION, grid.protocol, condition, test.labels, test.metrics, grid.labels_for(test)],
            [results.digests[cell.key] for cell in cells],
            [[[results.variant_numbers[variant.key], variant.name] for variant in variants], trained],
            open_store(folder).prompts(condition) is not None,
        ]
    )


def _make(results: Results, asked: Asked) -> str:
    """A file: a line that hands the pack to the page, and a comment with what other sections of the report need."""
    packed = pack(asked)
    text = json.dumps(packed, ensure_ascii=False, separators=(",", ":"))
    counts = {name: [[*key, n] for key, n in tally.items()] for name, tally in count(results, asked).items()}
    others = packed["others"][0] if packed["others"] else []
    first_row = {"text": packed["texts"][0], "target": packed["targets"][0], "of": 1 + len(others)}
    # The comment is in ASCII, since it would end at U+2028.
    notes = json.dumps([counts, first_row, asked.prompts["template"] if asked.prompts else None])
    return f"{HEAD}{text}{BETWEEN}{notes}"


def _note(
    done: Written,
    test: TestInfo,
    prompt: str,
    counts: Mapping[str, Any],
    first_row: dict[str, Any],
    template: str | None,
) -> None:
    for variant, rows in counts.items():
        tally = Tally({tuple(key): n for *key, n in rows})
        done.tallies.setdefault((variant, test.name), Tally()).update(tally)
    done.first_rows.setdefault(test.name, first_row)
    if template is not None:
        found = {"task": test.task, "name": prompt, "template": template}
        done.formats.extend([found] if found not in done.formats else [])

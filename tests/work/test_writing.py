"""What the base writes for trainings: once, whole or absent, the same after a kill, and by which rule it is learned."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from tinyruns import write_experiment

from spillover.errors import ExperimentError
from spillover.experiment.schema import parse_experiment
from spillover.plan.cost import estimate
from spillover.plan.plan import Plan, make_plan
from spillover.plan.writing import OwnTexts, Rewriting
from spillover.store.store import Store
from spillover.text.encode import Encoder
from spillover.work import writing
from spillover.work.backend import Torch
from spillover.work.progress import Reporter
from spillover.work.run import Run
from spillover.work.weights import find_or_make
from spillover.work.writing import own_texts, rewritten

TEXTS, TOKENS = 5, 8
CFS = {"cfs": {"texts": TEXTS, "text_tokens": TOKENS, "texts_a_step": 2}}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("writing")
    write_experiment(place)
    return place


def plan_of(place: Path, *strategies: Any, stop: Sequence[str] = (), **train: Any) -> Plan:
    raw = yaml.safe_load((place / "twice.yaml").read_text())
    raw["datasets"]["echo"]["train"] = "train.jsonl"
    raw["datasets"]["echo"] |= {"stop": list(stop)} if stop else {}
    raw["train"] |= {"strategies": list(strategies), "seeds": [0], **train}
    raw["test"] = {"datasets": ["echo"], "shots": [0], "limit": 1}
    return make_plan(parse_experiment(raw), place)


class Counting(Torch):
    """The backend, which counts what it loads."""

    def __init__(self) -> None:
        self.loaded = 0

    def writer(self, folder: Path, trust: bool) -> Any:
        self.loaded += 1
        return super().writer(folder, trust)


def begin(plan: Plan, folder: Path) -> Run:
    store = Store(folder)
    store.create()
    run = Run(plan, store, Reporter(), Counting())
    run.prepare()
    return run


def wanted(plan: Plan) -> OwnTexts:
    [found] = plan.trainings[0].writings
    assert isinstance(found, OwnTexts)
    return found


# --- texts of its own ---------------------------------------------------------------------------------


def test_texts_are_written_once_and_bear_loss_on_every_token_they_have(place: Path, tmp_path: Path) -> None:
    plan = plan_of(place, CFS, {"cfs": {**CFS["cfs"], "name": "heavy", "text_weight": 2}})
    run = begin(plan, tmp_path)
    first, heavy = (own_texts(run, "x", job.writings[0]) for job in plan.trainings)  # type: ignore[arg-type]
    assert run.backend.loaded == 1, "the second training finds what the first one asked for"
    assert [text.ids for text in first] == [text.ids for text in heavy] and len(first) == TEXTS
    assert all(text.apart and text.learned == tuple(range(1, len(text.ids))) for text in first)
    assert {text.weight for text in first} == {1.0} and {text.weight for text in heavy} == {2.0}
    assert {text.ids[0] for text in first} == {run.plan.encoder.separator}
    assert all(1 < len(text.ids) <= TOKENS + 1 for text in first)


@pytest.mark.slow
def test_texts_of_no_weight_leave_the_weights_of_plain_fine_tuning(place: Path, tmp_path: Path) -> None:
    weightless = {"cfs": {**CFS["cfs"], "text_weight": [0, 1]}}
    plan = plan_of(place, "ft", weightless, num_train_epochs=1, batch_size=8)
    run = begin(plan, tmp_path)
    found = [next(find_or_make(run, job)[0].glob("*.safetensors")).read_bytes() for job in plan.trainings]
    assert found[0] == found[1] != found[2]
    tokens = [(run.store.variant_receipt(job.variant.key) or {})["tokens"] for job in plan.trainings]
    assert tokens[0] < tokens[1] == tokens[2], "the texts are computed, whatever their weight is"


def test_what_a_killed_process_had_written_is_kept_and_the_bytes_are_the_same(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(place, CFS)
    monkeypatch.setattr(writing, "AT_ONCE", 2)
    own_texts(begin(plan, tmp_path / "whole"), "x", wanted(plan))
    cut = begin(plan, tmp_path / "cut")
    numbers: list[int] = []

    def dying(backend: Counting, folder: Path, trust: bool) -> Any:
        write = Torch.writer(backend, folder, trust)

        def of(first: int, asked: Sequence[int], *rest: Any) -> Any:
            numbers.extend(asked)
            if len(numbers) == 4:
                raise KeyboardInterrupt
            return write(first, asked, *rest)

        return of

    monkeypatch.setattr(Counting, "writer", dying)
    with pytest.raises(KeyboardInterrupt):
        own_texts(cut, "x", wanted(plan))
    assert cut.store.written(wanted(plan).key) is None, "whole or absent"
    own_texts(cut, "x", wanted(plan))
    assert numbers == [0, 1, 2, 3, 2, 3, 4], "what was whole is not written again"
    rows = [Store(tmp_path / name).written(wanted(plan).key) for name in ("whole", "cut")]
    assert rows[0] and rows[1] and rows[0]["rows"] == rows[1]["rows"]


def test_a_broken_file_is_written_again(place: Path, tmp_path: Path) -> None:
    plan = plan_of(place, CFS)
    run = begin(plan, tmp_path)
    before = own_texts(run, "x", wanted(plan))
    path = tmp_path / "written" / f"{wanted(plan).key}.json"
    path.write_text(path.read_text().replace("ids", "sdi", 1))
    assert own_texts(run, "x", wanted(plan)) == before
    assert run.backend.loaded == 2


def test_the_plan_counts_what_is_written_once(place: Path, tmp_path: Path) -> None:
    plan = plan_of(place, "ft", CFS, seeds=[0, 1])
    cost = estimate(plan, Store(tmp_path).done(plan.grid))
    assert cost.write_tokens == TEXTS * TOKENS
    assert [one.write_tokens > 0 for one in cost.variants] == [False, False, False, True, False]
    by_name = {one.variant.name: one.train_tokens for one in cost.variants}
    assert by_name["parity-cfs-s0"] > by_name["parity-ft-s0"]
    run = begin(plan, tmp_path)
    own_texts(run, "x", plan.trainings[2].writings[0])  # type: ignore[arg-type]
    assert estimate(plan, run.store.done(plan.grid)).write_tokens == 0


def test_a_separator_is_not_what_opens_a_chat(smollm2: Path) -> None:
    encoder = Encoder.load(smollm2)
    assert encoder.tokenizer.id_to_token(encoder.separator) == "<|endoftext|>"
    assert encoder.separator != encoder.bos_id


# --- answers in its own words -------------------------------------------------------------------------


def test_answers_that_say_the_same_are_learned_in_the_bases_words(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(place, "rewrite", datasets=["echo"])
    [job] = plan.trainings
    [asked] = job.writings
    assert isinstance(asked, Rewriting) and len(asked.prompts) == len(job.rows.examples)
    said = [
        {"text": f"{row.target.strip()}, or so", "ended": "limit" if number % 2 else "end"}
        for number, row in enumerate(job.rows.examples)
    ]
    monkeypatch.setattr(writing, "_written", lambda *_: said)
    rows, kept = rewritten(begin(plan, tmp_path), "x", asked, job.rows.examples, job.rows.task.stop)
    assert kept == len(rows) // 2
    assert {row.target for row in rows[::2]} <= {" four, or so", " five, or so"}, "with the space before the answer"
    assert [*rows[1::2]] == [*job.rows.examples[1::2]], "an answer that did not end by itself is not learned"


@pytest.mark.slow
def test_a_rewriting_training_counts_what_it_learned(place: Path, tmp_path: Path) -> None:
    plan = plan_of(place, "rewrite", datasets=["echo"], num_train_epochs=1)
    run = begin(plan, tmp_path)
    [job] = plan.trainings
    find_or_make(run, job)
    receipt = run.store.variant_receipt(job.variant.key) or {}
    assert 0 <= receipt["rewritten"] <= receipt["rows"] == 24
    assert receipt["written"] == [job.writings[0].key]


def test_where_written_answers_end_is_in_the_keys_of_writing_and_training(place: Path) -> None:
    def keys(*stop: str) -> tuple[str, str]:
        [job] = plan_of(place, "rewrite", datasets=["echo"], stop=stop).trainings
        return job.writings[0].key, job.variant.key

    (written, trained), (written_longer, trained_longer) = keys("\n"), keys("END")
    assert written != written_longer and trained != trained_longer


def test_labels_keep_their_words(place: Path) -> None:
    with pytest.raises(ExperimentError, match="labels or options"):
        plan_of(place, "rewrite")

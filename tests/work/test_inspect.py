"""What changed inside, on tiny real models trained by a real run; and variants that are not what they seem."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tinymodels
import torch
from peft import LoraConfig, get_peft_model
from prose import tells
from safetensors.torch import load_file, save_file

from spillover.analysis import table, verdict
from spillover.engine import attention
from spillover.engine.divergence import Distributions, divergence
from spillover.errors import ModelError, StoreError
from spillover.experiment.schema import parse_experiment
from spillover.models.weights import Change, pooled
from spillover.plan.plan import Plan, make_plan
from spillover.store import inside as stored
from spillover.store.inside import Divergence, Inside
from spillover.store.store import Store
from spillover.text.encode import Encoder
from spillover.work import inspect as inside
from spillover.work.backend import Torch
from spillover.work.execute import execute
from spillover.work.inspect import Inspector, check_variant_changed
from spillover.work.progress import Reporter

WORDS = ["two", "three", "four", "five", "six", "seven"]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model and a few rows: is the second word `two` or `three`?"""
    folder = tmp_path_factory.mktemp("inside")
    attention.register()
    (folder / "base").mkdir()
    tinymodels.save(tinymodels.build(gain=4.0), folder / "base")
    rng = np.random.default_rng(0)
    for name, count in (("train", 24), ("test", 6)):
        rows = [
            {"text": " ".join([*rng.choice(WORDS, 3), label, *rng.choice(WORDS, 2)]), "label": label}
            for label in rng.choice(["eight", "nine"], count)
        ]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def plan_of(place: Path, trains: bool = True, **changes: Any) -> Plan:
    words = {"test": "test.jsonl", "labels": ["eight", "nine"], "template": "{text} ."}
    raw: dict[str, Any] = {
        "model": "./base",
        "datasets": {"words": {**words, "train": "train.jsonl"} if trains else words},
        "train": {"strategies": ["ft", "lora"], "learning_rate": 1e-3, "num_train_epochs": 1, "batch_size": 8},
        "test": {"shots": [0]},
        "precision": "float32",  # whatever this machine would take
    }
    return make_plan(parse_experiment({**raw, **changes}), place)


@pytest.fixture(scope="module")
def run(place: Path) -> tuple[Plan, Path]:
    plan, out = plan_of(place), place / "out"
    assert execute(plan, Store(out)) == ()
    return plan, out


def by_name(folder: Path) -> dict[str, Inside]:
    return {seen.name: seen for seen in stored.read(folder).values()}


# --- a run ----------------------------------------------------------------------------------------------------------


def test_every_variant_but_the_base_is_looked_into(run: tuple[Plan, Path]) -> None:
    plan, out = run
    assert set(stored.read(out)) == {variant.key for variant in plan.grid.variants if variant.kind != "base"}
    seen = by_name(out)
    assert set(seen) == {"words-ft", "words-lora"}
    for one in seen.values():
        assert one.left_out == ()
        assert (one.why_no_changes, one.why_no_divergence) == (None, None)
        assert one.largest is not None
        assert one.largest > inside.MOVED
        assert one.seconds > 0


def test_full_fine_tuning_moves_everything_and_lora_a_few_directions_of_some(run: tuple[Plan, Path]) -> None:
    seen = by_name(run[1])
    full, low = seen["words-ft"], seen["words-lora"]
    assert pooled(full.changes).size == pooled(low.changes).size == sum(change.size for change in full.changes)
    kinds = {"q", "k", "v", "o", "gate", "up", "down"}
    assert {change.module for change in low.changes if change.absolute} == kinds
    assert {change.module for change in full.changes if change.absolute} == kinds | {"embed", "head", "norm"}
    assert {change.layer for change in full.changes} == {None, 0, 1, 2}
    assert low.merge_gap is not None
    assert low.merge_gap < inside.MERGE_GAP["float32"]
    assert full.merge_gap is None


@pytest.mark.parametrize(
    "kind", ["Mixtral", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("Qwen3Moe", "DeepseekV3", "GptOss"))]
)
def test_lora_on_experts_is_trained_inspected_and_answers(place: Path, tmp_path: Path, kind: str) -> None:
    """Their weights are one tensor in memory, not layers, whatever the file has."""
    shutil.copytree(place, tmp_path / "place", ignore=shutil.ignore_patterns("base", "out"))
    (tmp_path / "place" / "base").mkdir()
    options = {"num_hidden_layers": 2, **tinymodels.EXPERTS[kind]}
    tinymodels.save(tinymodels.build(kind, gain=4.0, **options), tmp_path / "place" / "base")
    plan = plan_of(tmp_path / "place", train={"strategies": ["lora"], "learning_rate": 1e-2, "num_train_epochs": 1})
    assert execute(plan, Store(tmp_path / "out")) == ()
    assert len(list((tmp_path / "out" / "cells").iterdir())) == 2
    seen = by_name(tmp_path / "out")["words-lora"]
    assert (seen.left_out, seen.why_no_changes) == ((), None)
    assert seen.merge_gap is not None
    assert seen.merge_gap < inside.MERGE_GAP["float32"]
    moved = {change.name for change in seen.changes if change.absolute}
    assert moved
    if kind != "GptOss":  # PEFT counts its experts among the linear layers only if `target_parameters` names them
        assert {"layers.1.mlp.experts.0.gate_up_proj", "layers.1.mlp.experts.3.down_proj"} <= moved


def test_the_divergence_is_that_of_the_two_models(run: tuple[Plan, Path], place: Path) -> None:
    """Against full logits of both, loaded by transformers alone."""
    from transformers import AutoModelForCausalLM

    plan, out = run
    seen = by_name(out)["words-ft"]
    models = [AutoModelForCausalLM.from_pretrained(one) for one in (place / "base", out / "variants" / seen.variant)]

    def nats(ids: tuple[int, ...], start: int) -> float:
        with torch.no_grad():
            base, variant = (m(torch.tensor([ids])).logits[0, start - 1 : -1].log_softmax(-1) for m in models)
        return float((base.exp() * (base - variant)).sum())

    sheet = next(iter(plan.sheets.values()))
    encoded = plan.encoder.continuation([r.text for r in sheet.questions], [r.example.target for r in sheet.questions])
    assert seen.answers is not None
    assert list(seen.answers) == ["words"]
    answers = seen.answers["words"]
    rows = len(sheet.questions)  # all of an in-domain set, which has fewer than are taken at most
    assert rows < inside.ROWS_IN_DOMAIN and (len(answers.passages), answers.tokens) == (
        rows,
        rows,
    )  # a label is a token
    expected = [nats(ids, start) for ids, start in encoded]
    assert [one for one, _ in answers.passages] == pytest.approx(expected, rel=1e-3, abs=1e-6)
    assert answers.nats == pytest.approx(np.mean(expected), rel=1e-3)

    assert seen.neutral is not None
    pieces = inside.neutral_passages(plan.encoder)
    assert seen.neutral.tokens == sum(len(ids) - start for ids, start in pieces)
    assert [one for one, _ in seen.neutral.passages] == pytest.approx([nats(*piece) for piece in pieces], rel=1e-3)


def test_what_was_seen_is_not_looked_at_again(run: tuple[Plan, Path], place: Path, tmp_path: Path) -> None:
    shutil.copytree(run[1], tmp_path, dirs_exist_ok=True)

    def written(**changes: Any) -> dict[str, int]:
        assert execute(plan_of(place, **changes), Store(tmp_path)) == ()
        return {path.name: path.stat().st_mtime_ns for path in (tmp_path / "inside").iterdir()}

    first = written()
    one_shot = written(test={"shots": [0, 1]})  # rows that are shown are no longer asked: other positions
    assert all(one_shot[name] > first[name] for name in first)
    assert written(test={"shots": [0, 1, 2]}) == one_shot  # new cells, the same positions


def test_a_variant_that_is_added_later_is_held_against_the_base(
    run: tuple[Plan, Path], place: Path, tmp_path: Path
) -> None:
    """The base has nothing left to answer and is loaded for this alone."""
    plan, out = run
    shutil.copytree(out, tmp_path / "out")
    trained = next(variant.key for variant in plan.grid.variants if variant.name == "words-ft")
    shutil.copytree(out / "variants" / trained, tmp_path / "mine")
    weights = load_file(tmp_path / "mine" / "model.safetensors")
    weights["model.norm.weight"] *= 1.01
    save_file(weights, tmp_path / "mine" / "model.safetensors", {"format": "pt"})
    backend, loaded = Torch(), []
    real = backend.load

    def load(folder: Path, *arguments: Any, **options: Any) -> Any:
        loaded.append(folder.name)
        return real(folder, *arguments, **options)

    backend.load = load
    more = plan_of(place, variants=[{"name": "mine", "path": str(tmp_path / "mine")}])
    assert execute(more, Store(tmp_path / "out"), backend=backend) == ()
    assert loaded == ["base", "mine"]
    mine, theirs = by_name(tmp_path / "out")["mine"], by_name(out)["words-ft"]
    assert mine.sample == theirs.sample
    assert mine.neutral is not None
    assert mine.neutral.nats > 0
    assert {c.name for c in mine.changes} == {c.name for c in theirs.changes}


# --- impostors ------------------------------------------------------------------------------------------------------


def failures(place: Path, path: Path, out: Path) -> tuple[str, ...]:
    plan = plan_of(place, trains=False, variants=[{"name": "mine", "path": str(path)}])
    said = execute(plan, Store(out))
    assert len(list((out / "cells").iterdir())) == 1  # the base's: what is refused is not asked
    assert stored.read(out) == {}
    return said


def test_a_copy_of_the_base_is_refused(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "base", tmp_path / "same")
    (line,) = failures(place, tmp_path / "same", tmp_path / "out")
    assert tells(line, "mine failed", "base", "no weight moved")


def test_an_adapter_that_was_never_trained_is_refused(place: Path, tmp_path: Path) -> None:
    config = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    get_peft_model(tinymodels.build(gain=4.0), config).save_pretrained(tmp_path / "new")  # B is zero
    (line,) = failures(place, tmp_path / "new", tmp_path / "out")
    assert tells(line, "no weight moved")


def test_weights_that_moved_without_an_effect_are_refused(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "base", tmp_path / "hardly")
    weights = load_file(tmp_path / "hardly" / "model.safetensors")
    weights["model.norm.weight"] = weights["model.norm.weight"] * (1 + 1e-6)
    save_file(weights, tmp_path / "hardly" / "model.safetensors", {"format": "pt"})
    (line,) = failures(place, tmp_path / "hardly", tmp_path / "out")
    assert tells(line, "weights moved by", "no log-probability")


def test_weights_that_are_not_numbers_are_refused(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "base", tmp_path / "broken")
    weights = load_file(tmp_path / "broken" / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][0, 0] = math.nan
    save_file(weights, tmp_path / "broken" / "model.safetensors", {"format": "pt"})
    (line,) = failures(place, tmp_path / "broken", tmp_path / "out")
    assert tells(line, "1", "NaN", "layers.1.mlp.up_proj.weight")


def test_a_base_that_is_not_numbers_stops_the_run(place: Path, tmp_path: Path) -> None:
    """Whatever is compared with it would be wrong too."""
    shutil.copytree(place, tmp_path / "place")
    weights = load_file(tmp_path / "place" / "base" / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][0, 0] = math.nan
    save_file(weights, tmp_path / "place" / "base" / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError) as refused:
        execute(plan_of(tmp_path / "place"), Store(tmp_path / "out"))
    assert refused.value.exit_code == 2
    assert tells(str(refused.value), "base", "NaN", "model.layers.1.mlp.up_proj.weight")
    assert not list((tmp_path / "out").glob("cells/*"))


def test_a_learning_rate_too_small_to_move_anything_is_named(place: Path, tmp_path: Path) -> None:
    train = {"strategies": ["ft"], "learning_rate": 1e-12, "num_train_epochs": 1, "batch_size": 8}
    (line,) = execute(plan_of(place, train=train), Store(tmp_path))
    assert tells(line, "words-ft failed", "base", "learning rate", "1e-12")


def test_a_variant_that_hardly_moved_is_called_so(place: Path, tmp_path: Path) -> None:
    """In the run, and in what the report says of it; one that did move is not."""
    train = {"strategies": ["ft"], "learning_rate": 2e-5, "num_train_epochs": 1, "batch_size": 8}
    reporter = Said()
    execute(plan_of(place, train=train), Store(tmp_path), reporter)
    (seen,) = by_name(tmp_path).values()
    assert seen.nats is not None and 0 < seen.nats < 1e-3
    (line,) = [line for line in reporter.lines if "hardly" in line]
    assert tells(line, "words-ft", f"{seen.nats:.1g} nats")
    results = table.load(tmp_path)
    said = [line for line in verdict.caveats(results, verdict.verdicts(results)) if "hardly" in line]
    assert said == [f"words-ft {seen.hardly_differs}."]
    assert replace(seen, neutral=Divergence(((5.0, 100),)), answers={}).hardly_differs is None


@pytest.mark.slow
def test_in_bfloat16_the_kl_that_counts_is_float32s(place: Path, tmp_path: Path) -> None:
    train = {"strategies": ["lora"], "learning_rate": 1e-4, "num_train_epochs": 1, "batch_size": 8}
    plan = plan_of(place, train=train, precision="bfloat16")
    assert execute(plan, Store(tmp_path)) == ()
    (seen,) = by_name(tmp_path).values()
    (job,) = plan.trainings
    adapters = (None, Store(tmp_path).variant_folder(job.variant.key))
    engines = (Torch().load(place / "base", plan.encoder, "float32", plan.experiment, a, 64)[0] for a in adapters)
    base, variant = (Distributions.of(engine.model, sample_of(plan)) for engine in engines)  # type: ignore[attr-defined]
    assert seen.exact == pytest.approx(float(divergence(base, variant)[0].mean()), rel=1e-3, abs=1e-9)
    assert seen.nats is not None and seen.nats != seen.exact


@pytest.mark.slow
def test_a_change_that_only_turned_roundings_is_called_nearly_none(place: Path, tmp_path: Path) -> None:
    """Weights in the middle between two numbers of bfloat16, as 4-bit weights often are: all move by a step."""
    weights = {name: 2 * w for name, w in load_file(place / "base" / "model.safetensors").items()}
    middle = {name: ((w.view(torch.int32) >> 16 << 16) | 0x8000).view(torch.float32) for name, w in weights.items()}
    signs = {
        name: torch.randn(w.shape, generator=torch.Generator().manual_seed(0)).sign() for name, w in middle.items()
    }
    for folder, share in (("base", -1e-6), ("moved", 1e-6), ("trained", 0.01)):
        shutil.copytree(place / "base", tmp_path / folder)
        own = {name: w * (1 + share * signs[name]) for name, w in middle.items()}
        save_file(own, tmp_path / folder / "model.safetensors", {"format": "pt"})
    variants = [{"name": name, "path": str(tmp_path / name)} for name in ("moved", "trained")]
    plan = plan_of(place, trains=False, model=str(tmp_path / "base"), precision="bfloat16", variants=variants)
    assert execute(plan, Store(tmp_path / "out")) == ()
    seen = by_name(tmp_path / "out")
    moved, trained = seen["moved"], seen["trained"]
    assert moved.nats is not None and moved.nats > stored.HARDLY, "what bfloat16 makes of it"
    assert tells(moved.hardly_differs or "", "float32", f"{moved.exact:.1g}")
    assert trained.exact is not None and trained.exact > stored.HARDLY
    assert trained.hardly_differs is None


def sample_of(plan: Plan) -> list[Any]:
    return [*inside.neutral_passages(plan.encoder), *chain.from_iterable(inside.answer_passages(plan).values())]


SEEN = Inside("key", "mine", "w", "s", "float32", changes=(Change("w", None, "q", 10, 1.0, 1.0, 1.0),), largest=0.5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"largest": math.nan}, ("predictions", "not numbers")),
        ({"largest": 1e-4, "changes": ()}, ("nothing was trained", "0.0001 nats")),
        ({"merge_gap": 0.2}, ("adapter", "merged", "0.2 nats")),
        ({"merge_gap": math.nan}, ("adapter", "merged", "nan")),
        ({"merge_gap": 0.2, "precision": "bfloat16"}, ("adapter", "merged", "0.2 nats", "0.1")),
    ],
)
def test_what_is_refused(changes: dict[str, Any], words: tuple[str, ...]) -> None:
    check_variant_changed(SEEN, 1e-4)
    check_variant_changed(replace(SEEN, merge_gap=0.01, precision="bfloat16"), 1e-4)
    with pytest.raises(ModelError) as refused:
        check_variant_changed(replace(SEEN, **changes), 1e-4)
    assert tells(str(refused.value), *words)


# --- what cannot be compared ----------------------------------------------------------------------------------------


class Said(Reporter):
    """What a run says."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model whose hidden states cannot be had."""
    monkeypatch.setattr(Inspector, "_distributions", lambda self, engine: "its engine shows no hidden states")


def test_what_is_not_proven_is_said_in_the_run(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blind(monkeypatch)
    reporter = Said()
    assert execute(plan_of(place), Store(tmp_path), reporter, Torch()) == ()
    (why,) = by_name(tmp_path)["words-ft"].unproven
    assert tells(why, "not proven", "its engine shows no hidden states")
    assert [said for said in reporter.lines if "not proven" in said] == [f"words-ft: {why}", f"words-lora: {why}"]


@pytest.mark.parametrize("is_adapter", [True, False])
def test_an_adapter_of_which_nothing_is_proven_is_refused(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_adapter: bool
) -> None:
    """A checkpoint is another file than the base's, so it is told; an adapter may have been left out altogether."""
    if is_adapter:
        config = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM", init_lora_weights=False)
        get_peft_model(tinymodels.build(gain=4.0), config).save_pretrained(tmp_path / "mine")
    else:
        shutil.copytree(place / "base", tmp_path / "mine")
        weights = load_file(tmp_path / "mine" / "model.safetensors")
        save_file({k: w * 1.1 for k, w in weights.items()}, tmp_path / "mine" / "model.safetensors", {"format": "pt"})
    blind(monkeypatch)

    def cannot(*_: Any) -> Any:
        raise ModelError("no safetensors to compare")

    monkeypatch.setattr(inside, "compare", cannot)
    monkeypatch.setattr("spillover.engine.merged.adapter_changes", cannot)
    plan, reporter = plan_of(place, trains=False, variants=[{"name": "mine", "path": str(tmp_path / "mine")}]), Said()
    failed = execute(plan, Store(tmp_path / "out"), reporter, Torch())
    if is_adapter:
        (line,) = failed
        assert tells(
            line, "mine failed", "not proven", "no safetensors to compare", "its engine shows no hidden states"
        )
        assert stored.read(tmp_path / "out") == {}
    else:
        assert failed == () and sum("not proven" in line for line in reporter.lines) == 2


def test_pickled_weights_are_told_apart_by_their_answers(place: Path, tmp_path: Path) -> None:
    model = tinymodels.build(gain=4.5)
    tinymodels.save(model, tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    plan = plan_of(place, trains=False, trust=True, variants=[{"name": "mine", "path": str(tmp_path)}])
    assert execute(plan, Store(tmp_path / "out")) == ()
    seen = by_name(tmp_path / "out")["mine"]
    assert (seen.changes, seen.why_no_changes) == ((), "no safetensors to compare")
    assert seen.neutral is not None


# --- the texts ------------------------------------------------------------------------------------------------------


def test_the_neutral_text_is_cut_into_pieces_that_each_begin_as_text_does(place: Path) -> None:
    encoder = Encoder.load(place / "base")
    plain = inside.neutral_passages(encoder)
    assert {len(ids) for ids, _ in plain[:-1]} == {inside.NEUTRAL_TOKENS}
    assert {start for _, start in plain} == {1}
    with_bos = inside.neutral_passages(replace(encoder, prefix=(1,)))
    assert all(ids[0] == 1 and start == 1 for ids, start in with_bos)
    assert [i for ids, _ in with_bos for i in ids[1:]] == [i for ids, _ in plain for i in ids]
    short = inside.neutral_passages(replace(encoder, max_context=100))
    assert {len(ids) for ids, _ in short[:-1]} == {100}


def test_answers_that_do_not_fit_the_model_are_left_out(run: tuple[Plan, Path]) -> None:
    plan, _ = run
    [sheet] = {sheet.test: sheet for sheet in plan.sheets.values()}.values()
    assert len(inside.answer_passages(plan)["words"]) == min(inside.ROWS_IN_DOMAIN, len(sheet.questions))
    narrow = replace(plan, encoder=replace(plan.encoder, max_context=5))
    assert inside.answer_passages(narrow) == {}


# --- on disk --------------------------------------------------------------------------------------------------------


def test_a_divergence_is_a_mean_over_tokens() -> None:
    one = Divergence(((3.0, 1), (1.0, 3), (0.0, 4)))
    assert (one.tokens, one.nats) == (8, 0.5)


def test_a_file_of_another_version_is_named(tmp_path: Path) -> None:
    Store(tmp_path).write_inside("abc", {"other": "keys"})
    with pytest.raises(StoreError, match=r"abc\.json\b.*\bdelete"):
        stored.read(tmp_path)
    assert stored.read(tmp_path / "nothing") == {}


def test_another_sample_or_other_weights_are_looked_at_anew(run: tuple[Plan, Path], place: Path) -> None:
    plan, out = run
    variant = plan.grid.variants[1]
    inspector = Inspector(plan, Store(out), place / "base", "float32")
    assert inspector.knows(variant)
    assert inspector.knows(variant, stored.read(out)[variant.key].weights)
    assert not inspector.knows(variant, "others")
    other = plan_of(place, test={"shots": [0, 1]})
    assert not Inspector(other, Store(out), place / "base", "float32").knows(variant)

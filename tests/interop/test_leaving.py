"""What leaves the house: a checkpoint that transformers and PEFT load, and the texts that it was trained on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import peft
import pytest
import tinyruns
import torch
from commandline import Cli
from huggingface_hub import ModelCard
from plans import experiment
from transformers import AutoModelForCausalLM, AutoTokenizer

import spillover as so
from spillover.analysis.verdict import Verdict, caveats, verdicts
from spillover.experiment.schema import parse_experiment
from spillover.interop import wanted
from spillover.plan.composed import compose
from spillover.plan.jobs import TrainJob
from spillover.plan.plan import Plan, make_plan
from spillover.store.store import Store
from spillover.text.compose import in_order
from spillover.text.samples import Sample, build_samples
from spillover.work import execute
from spillover.work.execute import read_plan

EXPERIMENT = """
model: ./tiny
precision: float32
keep: KEEP
datasets:
  parity: {train: train.jsonl, test: test.jsonl, labels: [" four", " five"], hold_out: {demos: 2}}
train: {strategies: [ft, {fticl: {shots: 2}}, lora], learning_rate: 1e-2, batch_size: 4, max_length: 22}
test: {shots: [0], prompts: [p1], limit: 12}
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment of three trainings of a tiny model."""
    place = tmp_path_factory.mktemp("leaving")
    tinyruns.write_experiment(place)
    (place / "own.yaml").write_text(EXPERIMENT.replace("KEEP", "weights"))
    return so.run(place / "own.yaml", output_path=place / "out").folder


def plan_of(folder: Path) -> tuple[Plan, dict[str, TrainJob]]:
    plan = read_plan(Store(folder))
    return plan, {job.variant.name: job for job in plan.trainings}


def scores(folder: Path, variant: str) -> tuple[list[list[int]], list[list[int]], list[list[float]]]:
    """The prompts' ids, the ids of each label, and the log-probabilities of the labels that the run has stored."""
    store, (plan, _) = Store(folder), plan_of(folder)
    (cell,) = (c for c in store.grid().cells if {v.key: v.name for v in plan.grid.variants}[c.variant] == variant)
    rows = {row["doc_id"]: row for row in store.predictions(cell.key)}
    questions = plan.sheets[cell.condition].questions
    asked = [plan.encoder.continuation(["".join([*q.example.parts, ""])] * 2, [" four", " five"]) for q in questions]
    prompts = [list(one[0][0][: one[0][1]]) for one in asked]
    labels = [[list(ids[start:]) for ids, start in one] for one in asked]
    stored = [list(rows[q.example.doc_id]["logprobs"].values()) for q in questions]
    return prompts, [[ids[0] for ids in one] for one in labels], stored


def assert_answers_as_stored(model: Any, folder: Path, variant: str) -> None:
    prompts, labels, stored = scores(folder, variant)
    for ids, options, expected in zip(prompts, labels, stored, strict=True):
        with torch.no_grad():
            found = model(torch.tensor([ids])).logits[0, -1].float().log_softmax(-1)[options]
        assert found.tolist() == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variant", "options"), [("parity-ft", ()), ("parity-lora", ("--merged",)), ("parity-lora", ())]
)
def test_a_checkpoint_answers_elsewhere_as_it_did_here(
    ran: Path, tmp_path: Path, call: Cli, variant: str, options: tuple[str, ...]
) -> None:
    to = ("-o", str(tmp_path), "--format", "checkpoint", "--variant", variant)
    code, said, error = call("export", str(ran), *to, *options)
    assert code == 0 and not error and str(tmp_path / variant) in said
    folder = tmp_path / variant
    is_adapter = (folder / "adapter_config.json").exists()
    assert is_adapter == (variant == "parity-lora" and not options)
    base = AutoModelForCausalLM.from_pretrained(ran.parent / "tiny" if is_adapter else folder, dtype=torch.float32)
    model = peft.PeftModel.from_pretrained(base, str(folder)) if is_adapter else base
    assert_answers_as_stored(model.eval(), ran, variant)
    assert not (folder / "receipt.json").exists() and (folder / "tokenizer.json").exists()
    card = ModelCard.load(folder / "README.md")
    assert card.data.library_name == ("peft" if is_adapter else "transformers")
    assert variant in card.text and "spillover run experiment.yaml" in card.text


def test_a_checkpoint_can_be_judged_as_any_other(ran: Path, tmp_path: Path, call: Cli) -> None:
    """What was exported is, to the gate, a checkpoint from elsewhere."""
    call("export", str(ran), "--format", "checkpoint", "--variant", "parity-lora", "--merged", "-o", str(tmp_path))
    ours = f"[{{name: mine, path: {tmp_path / 'parity-lora'}}}]"
    folder = tmp_path / "out"
    code, said, _ = call(
        *("gate", str(ran.parent / "own.yaml"), "-o", str(folder), "--format", "json"),
        *("--set", f"variants={ours}", "--set", "train.datasets=[]", "--set", "datasets.parity.train=null"),
        *("--set", "datasets.parity.hold_out=null", "--keep", "0.05"),
    )
    (found,) = json.loads(said)
    assert found["variant"] == "mine" and code == found["exit_code"]
    assert found["questions"][0]["n"] == 12


def test_an_adapter_from_elsewhere_has_a_null(ran: Path, tmp_path: Path) -> None:
    """A random change of the base, whole, that is as large in each tensor; it is compared with the adapter."""
    adapter = Store(ran).variant_folder(plan_of(ran)[1]["parity-lora"].variant.key)
    ours = f"variants=[{{name: mine, path: {adapter}, noise: true}}]"
    claim = "{id: a, text: a, comparisons: [{ours: {strategy: mine+noise}, theirs: base, expect: {at_least: -100}}]}"
    sets = [ours, "train.datasets=[]", "train.strategies=[]", f"claims=[{claim}]"]
    result = so.run(ran.parent / "own.yaml", sets, output_path=tmp_path)
    assert not result.failures
    store = Store(tmp_path)
    _, mine, null = store.grid().variants
    assert null.is_null and null.name == "mine-noise" and null.made_from == (mine.key,)
    changes = ((store.inside_of(one.key) or {})["changes"] for one in (mine, null))
    of_mine, of_null = ({one["name"]: one["squared"] for one in of} for of in changes)
    assert of_null == pytest.approx(of_mine, rel=1e-3)
    effects = pd.read_csv(tmp_path / "effects.csv")
    [less] = effects[effects.family == "mine+noise less mine"].itertuples()
    assert (less.recipe, less.less, less.where, less.n) == ("mine-noise", "mine", "all test sets", 12)
    assert {one.variant for one in result.gate()} == {"mine"}
    assert [one.ruling for one in result.claims()] != ["missing"]
    [verdict] = verdicts(result.table)
    assert [line.name for line in verdict.lines] == ["mine"] and verdict.best is None
    [unscored] = [said for said in caveats(result.table, [verdict]) if "clean" in said]
    assert "mine" in unscored and "noise" not in unscored, "a random change was trained on nothing"


def test_weights_that_were_not_kept_are_told_in_one_line(ran: Path, tmp_path: Path, call: Cli) -> None:
    store = Store(ran)
    (key,) = (v.key for v in store.grid().variants if v.name == "parity-fticl2")
    store.drop_weights(key)
    code, _, error = call("export", str(ran), "--format", "checkpoint", "--variant", "parity-fticl2")
    assert code == 2 and error.count("\n") == 1
    assert "parity-fticl2" in error and "keep=weights" in error


@pytest.mark.parametrize(("shipped", "expected"), [(["parity-lora"], 0), ([], 2), (["parity-ft", "parity-lora"], 2)])
def test_the_best_variant_is_the_one_that_the_verdict_ships(
    ran: Path, tmp_path: Path, call: Cli, monkeypatch: pytest.MonkeyPatch, shipped: list[str], expected: int
) -> None:
    keys = {v.name: v.recipe_key for v in Store(ran).grid().variants}
    found = [Verdict("", "", "Keep the base.", "", (), keys[name]) for name in shipped] or [
        Verdict("", "", "Keep the base.", "", ())
    ]
    monkeypatch.setattr(wanted, "verdicts", lambda _: found)
    to = ("-o", str(tmp_path), "--format", "checkpoint", "--variant", "best")
    code, said, error = call("export", str(ran), *to)
    assert code == expected
    if not expected:
        assert "Wrote parity-lora" in said and (tmp_path / "parity-lora" / "adapter_model.safetensors").exists()
    else:
        assert error.count("\n") == 1 and ("parity-ft, parity-lora" if shipped else "Keep the base") in error


def test_what_only_an_earlier_form_had_is_not_exported_as_the_best(
    ran: Path, monkeypatch: pytest.MonkeyPatch, call: Cli
) -> None:
    """The verdict is that of the page, which has earlier variants."""
    (old,) = (v for v in Store(ran).grid().variants if v.name == "parity-lora")
    monkeypatch.setattr(wanted, "verdicts", lambda _: [Verdict("", "", "Ship it.", "", (), old.recipe_key)])
    whole = wanted.load(ran)
    monkeypatch.setattr(wanted, "load", lambda *_, earlier: replace(whole, earlier={old.key} if earlier else set()))
    code, _, error = call("export", str(ran), "--format", "checkpoint", "--variant", "best")
    assert code == 2 and error.count("\n") == 1 and "parity-lora" in error and "earlier" in error


@pytest.mark.parametrize(
    "options", [(), ("--variant", "base"), ("--variant", "parity-fd"), ("--variant", "parity-ft", "-o", "TAKEN")]
)
def test_what_cannot_be_exported_is_refused_in_one_line(
    ran: Path, tmp_path: Path, call: Cli, options: tuple[str, ...]
) -> None:
    (tmp_path / "parity-ft").mkdir()
    (tmp_path / "parity-ft" / "mine.txt").write_text("mine")
    words = [str(tmp_path) if word == "TAKEN" else word for word in options]
    code, _, error = call("export", str(ran), "--format", "checkpoint", *words)
    assert code == 2 and error.count("\n") == 1


def samples_of(folder: Path, variant: str) -> tuple[Plan, tuple[Sample, ...]]:
    plan, jobs = plan_of(folder)
    job = jobs[variant]
    built = build_samples(job.fmt, job.demos, job.rows.examples, plan.encoder, job.recipe.max_length, "error", variant)
    return plan, built.samples


@pytest.mark.parametrize("variant", ["parity-ft", "parity-fticl2"])
def test_the_text_of_a_sample_has_its_tokens(ran: Path, tmp_path: Path, call: Cli, variant: str) -> None:
    """Prompt and completion are cut where the first learned token begins, and demonstrations are in place."""
    file = tmp_path / "data.jsonl"
    code, said, _ = call("export", str(ran), "--format", "trl", "--variant", variant, "-o", str(file))
    assert code == 0 and str(file) in said and "learning_rate 0.01" in said
    records = [json.loads(line) for line in file.read_text().splitlines()]
    plan, samples = samples_of(ran, variant)
    assert len(records) == len(samples) == 22  # of 24 rows, two are demonstrations
    for record, sample in zip(records, samples, strict=True):
        ids = plan.encoder.text_ids(record["prompt"] + record["completion"])
        assert (*ids, plan.encoder.eos_id) == sample.ids
        assert plan.encoder.text_ids(record["prompt"]) == sample.ids[: sample.start]
    answers = [sum(record["prompt"].count(word) for word in ("four", "five")) for record in records]
    if "fticl" in variant:  # samples that would be too long have fewer demonstrations
        assert max(answers) == 2 and min(answers) < 2
    else:
        assert not any(answers)


@pytest.mark.parametrize(("shape", "read"), [("messages", "messages"), ("alpaca", "alpaca")])
def test_other_shapes_have_the_same_prompt_and_answer(
    ran: Path, tmp_path: Path, call: Cli, shape: str, read: str
) -> None:
    found = {}
    for name in ("trl", shape):
        call("export", str(ran), "--format", name, "--variant", "parity-fticl2", "-o", str(tmp_path / name))
        lines = (tmp_path / name / "parity-fticl2.jsonl").read_text().splitlines()
        found[name] = [json.loads(line) for line in lines]
    for text, other in zip(found["trl"], found[shape], strict=True):
        if read == "messages":
            asked, answer = (turn["content"] for turn in other["messages"])
            assert [turn["role"] for turn in other["messages"]] == ["user", "assistant"]
        else:
            asked, answer = other["instruction"], other["output"]
            assert other["input"] == ""
        assert (asked, answer) == (text["prompt"].rstrip(), text["completion"].lstrip())


def test_the_data_of_a_checkpoint_from_elsewhere_is_not_known(ran: Path, tmp_path: Path, call: Cli) -> None:
    out, key = str(tmp_path / "planned"), plan_of(ran)[1]["parity-ft"].variant.key
    mine = f"variants=[{{name: mine, path: {Store(ran).variant_folder(key)}}}]"
    assert call("plan", str(ran.parent / "own.yaml"), "--write", out, "--set", mine)[0] == 0
    code, _, error = call("export", out, "--format", "trl", "--variant", "mine")
    assert code == 2 and "mine" in error and "parity-ft" in error and error.count("\n") == 1


def test_a_soft_prompt_and_what_is_made_afterwards_are_told(ran: Path, tmp_path: Path, call: Cli) -> None:
    out = str(tmp_path / "planned")
    strategies = "train.strategies=[promot, {ft + wise: {alpha: 0.5}}]"
    assert call("plan", str(ran.parent / "own.yaml"), "--write", out, "--set", strategies)[0] == 0
    said = {
        name: call("export", out, "--format", "trl", "--variant", name, "-o", str(tmp_path / "data.jsonl"))[1]
        for name in ("parity-promot", "parity-ft+wise")
    }
    assert "soft_prompt" in said["parity-promot"] and "After training" not in said["parity-promot"]
    assert "0.5 of what training changed" in said["parity-ft+wise"]


def test_texts_that_the_base_writes_are_part_of_the_data_once_they_are_there(
    ran: Path, tmp_path: Path, call: Cli
) -> None:
    out, file = str(tmp_path / "planned"), tmp_path / "data.jsonl"
    own_text = "train.strategies=[{name: own, data: {kind: own_text, texts: 6, text_tokens: 8}}]"
    assert call("plan", str(ran.parent / "own.yaml"), "--write", out, "--set", own_text)[0] == 0
    to = ("--format", "trl", "-o", str(file))
    code, _, error = call("export", out, *to)
    assert code == 2 and "the base" in error and error.count("\n") == 1 and not file.exists()
    _, jobs = plan_of(Path(out))
    (job,) = jobs.values()
    (writing,) = job.writings
    text = {"ids": [4, 5, 6], "text": "One two three"}
    Store(Path(out)).write_written(writing.key, [text] * 6, {})
    code, said, _ = call("export", out, *to)
    records = [json.loads(line) for line in file.read_text().splitlines()]
    own = [record for record in records if record["completion"].split() == ["One", "two", "three"]]
    assert code == 0 and f"{len(own)} of them" in said and len(records) == 22 + len(own) > 22


STRATEGIES = {
    "reviews-fticl2": {"fticl": {"shots": 2}},
    "reviews-fticl-random": {"fticl-random": {"most_shots": 2}},
    "reviews-manyicl": {"manyicl": {"rows_in_context": 3}},
    "reviews-manyicl+replay": {"manyicl + replay": {"rows_in_context": 3, "replay_share": 0.3}},
}


def planned(place: Path, prompt: str, *strategies: Any) -> Path:
    raw = experiment(train__prompt=prompt, train__strategies=list(strategies), train__batch_size=4)
    execute.write_plan(make_plan(parse_experiment(raw), place), store := Store(place / "out"))
    return store.folder


@pytest.fixture(scope="module")
def chat(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A planned folder of chat text: demonstrations before each row, and several rows in one sample."""
    return planned(tmp_path_factory.mktemp("chat"), "chat", *STRATEGIES.values())


@pytest.fixture(scope="module")
def plain(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of plain text."""
    return planned(tmp_path_factory.mktemp("plain"), "p1", *STRATEGIES.values())


def epoch_of(folder: Path, variant: str) -> tuple[Plan, list[Sample]]:
    """The samples of an epoch in the order of its rows, as they are exported."""
    plan, jobs = plan_of(folder)
    composition = compose(jobs[variant], plan.encoder, plan.experiment.protocol).composition
    return plan, [sample for step in in_order(composition, jobs[variant].recipe.batch_size) for sample in step]


def exported(call: Cli, folder: Path, variant: str, shape: str, to: Path) -> tuple[str, list[Any]]:
    """What the command says, and the records."""
    code, said, error = call("export", str(folder), "--format", shape, "--variant", variant, "-o", str(to))
    assert code == 0, error
    return said, [json.loads(line) for line in to.read_text().splitlines()]


@pytest.mark.parametrize("variant", list(STRATEGIES)[:3])
def test_messages_of_chat_text_have_its_tokens_under_the_chat_template(
    chat: Path, smollm2: Path, tmp_path: Path, call: Cli, variant: str
) -> None:
    """And loss is on the turns that the command names."""
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    said, turns = exported(call, chat, variant, "messages", tmp_path / "data.jsonl")
    _, samples = epoch_of(chat, variant)
    assert len(samples) == len(turns)
    assert ("every assistant turn" in said) == (variant == "reviews-manyicl")
    for turn, sample in zip(turns, samples, strict=True):
        roles = [message["role"] for message in turn["messages"]]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        if "every" in said:
            assert len(sample.spans) == len(roles) // 2 > 0
        ids = tokenizer.apply_chat_template(turn["messages"], return_dict=False)
        assert tuple(ids[: len(sample.ids)]) == sample.ids
    assert max(len(turn["messages"]) for turn in turns) == 6


def test_texts_of_chat_text_have_its_tokens(chat: Path, smollm2: Path, tmp_path: Path, call: Cli) -> None:
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    _, texts = exported(call, chat, "reviews-fticl2", "trl", tmp_path / "data.jsonl")
    for text, sample in zip(texts, epoch_of(chat, "reviews-fticl2")[1], strict=True):
        both = tokenizer(text["prompt"] + text["completion"] + tokenizer.eos_token)["input_ids"]
        assert tuple(both) == sample.ids


@pytest.mark.parametrize("prompt", ["plain", "chat"])
@pytest.mark.parametrize("variant", list(STRATEGIES)[2:])
def test_several_answers_in_a_sample_are_tokens_with_labels(
    plain: Path, chat: Path, tmp_path: Path, call: Cli, prompt: str, variant: str
) -> None:
    folder = {"plain": plain, "chat": chat}[prompt]
    said, records = exported(call, folder, variant, "trl", tmp_path / "data.jsonl")
    _, samples = epoch_of(folder, variant)
    assert "labels" in said and any(len(sample.spans) > 1 for sample in samples)
    for record, sample in zip(records, samples, strict=True):
        assert tuple(record["input_ids"]) == sample.ids
        assert tuple(place for place, label in enumerate(record["labels"]) if label != -100) == sample.learned
        assert all(label in (-100, token) for label, token in zip(record["labels"], sample.ids, strict=True))


@pytest.mark.parametrize(
    ("prompt", "variant", "shape", "instead"),
    [
        ("plain", "reviews-manyicl", "alpaca", "--format trl"),
        ("chat", "reviews-manyicl", "alpaca", "--format trl"),
        ("plain", "reviews-manyicl", "messages", "train.prompt: chat"),
        ("chat", "reviews-manyicl+replay", "messages", "--format trl"),
    ],
)
def test_what_a_shape_cannot_say_is_refused_with_one_that_can(
    plain: Path, chat: Path, tmp_path: Path, call: Cli, prompt: str, variant: str, shape: str, instead: str
) -> None:
    folder = {"plain": plain, "chat": chat}[prompt]
    to = ("--format", shape, "--variant", variant, "-o", str(tmp_path / "data.jsonl"))
    code, _, error = call("export", str(folder), *to)
    assert code == 2 and error.count("\n") == 1 and variant in error and instead in error
    assert not (tmp_path / "data.jsonl").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # those of another package
@pytest.mark.parametrize("variant", ["reviews-fticl2", "reviews-manyicl"])
@pytest.mark.parametrize("prompt", ["plain", "chat"])
def test_trl_makes_our_tokens_and_mask_of_it(
    plain: Path, chat: Path, smollm2: Path, tmp_path: Path, call: Cli, prompt: str, variant: str
) -> None:
    """The path that `SFTTrainer` takes from a data set to what it trains on."""
    trl = pytest.importorskip("trl")
    folder = {"plain": plain, "chat": chat}[prompt]
    exported(call, folder, variant, "trl", tmp_path / "data.jsonl")
    data = datasets.load_dataset("json", data_files=str(tmp_path / "data.jsonl"), split="train", cache_dir=tmp_path)
    settings = trl.SFTConfig(
        output_dir=str(tmp_path / "trl"),
        report_to="none",
        max_length=1024,
        use_cpu=True,
        bf16=False,
        activation_checkpointing=False,
    )
    trainer = trl.SFTTrainer(model=str(smollm2), args=settings, train_dataset=data)
    _, samples = epoch_of(folder, variant)
    assert len(trainer.train_dataset) == len(samples)
    for row, sample in zip(trainer.train_dataset, samples, strict=True):
        assert tuple(row["input_ids"]) == sample.ids
        learned = [place for place, label in enumerate(row["labels"]) if label != -100]
        assert tuple(learned) == sample.learned

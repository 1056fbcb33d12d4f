"""The language of claims: what it takes, what it refuses in one line, and that the study's twenty are written in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
from paths import ROOT
from prose import tells

from spillover.errors import ExperimentError
from spillover.experiment import dialect
from spillover.experiment.claims import Claim, ClaimFile, Comparison, Expect, Select, study_claims
from spillover.experiment.schema import load_claims, load_experiment, parse_experiment

KEEPS = """
  - id: keeps
    text: support-ft does not lose more than 2 points on any cross-task test.
    comparisons:
      ours: {variant: support-ft, role: cross_task}
      theirs: base
      each: test_dataset
      expect: {at_least: -2}
"""


def experiment(claims: str) -> str:
    return f"model: m\nsuite: builtin\nclaims: {claims}"


def test_a_claim_inline_or_in_a_file_is_the_same(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(f"claims:{KEEPS}")
    (tmp_path / "inline.yaml").write_text(experiment(KEEPS))
    (tmp_path / "named.yaml").write_text(experiment("mine.yaml"))
    (inline,) = load_experiment(tmp_path / "inline.yaml").claims
    assert load_experiment(tmp_path / "named.yaml").claims == load_claims(tmp_path / "mine.yaml") == (inline,)
    (comparison,) = inline.comparisons
    assert comparison.theirs == Select(variant=("base",))
    assert comparison.ours.given == {"variant": ("support-ft",), "role": ("cross_task",)}
    assert (comparison.each, comparison.holds, str(comparison.expect)) == (("test_dataset",), "all", "at least −2")
    assert comparison.title == "support-ft cross_task − base"


def test_a_file_may_stand_beside_claims_written_out(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(f"claims:{KEEPS}")
    (tmp_path / "x.yaml").write_text(experiment("[mine.yaml, {id: b, text: t, comparisons: {ours: a, expect: above}}]"))
    loaded = load_experiment(tmp_path / "x.yaml")
    assert [claim.id for claim in loaded.claims] == ["keeps", "b"]
    again = dialect.write(loaded.model_dump(mode="json", exclude_defaults=True))
    assert parse_experiment(dialect.read(again, "again")) == loaded


@pytest.mark.parametrize(
    ("given", "low", "high", "said"),
    [
        ("above", 0, float("inf"), "above 0"),
        ("below", float("-inf"), 0, "below 0"),
        ({"at_least": -2}, -2, float("inf"), "at least −2"),
        ({"at_most": 5}, float("-inf"), 5, "at most 5"),
        ({"at_least": -5, "at_most": 0}, -5, 0, "from −5 to 0"),
        ({"within": 2}, -2, 2, "within ±2"),
        ({"beyond": 2}, -2, 2, "beyond ±2"),
    ],
)
def test_what_can_be_expected(given: Any, low: float, high: float, said: str) -> None:
    expect = Expect.model_validate(given)
    assert (expect.low, expect.high, str(expect)) == (low, high, said)


WRONG = [
    ("expect: above", "expect: abov", ("expect", "'abov'", "did you mean 'above'", "above, below")),
    ("expect: above", "expect: {within: 2, at_most: 3}", ("expect", "at_least", "at_most", "within")),
    ("expect: above", "expect: {at_least: 3, at_most: 2}", ("expect", "at_least", "at_most")),
    ("expect: above", "expect: {within: -2}", ("expect.within", "-2", "0")),
    ("ours: mine", "ours: {rolle: in_domain}", ("ours.rolle", "did you mean 'role'", "variant, strategy")),
    ("ours: mine", "ours: {role: in_domian}", ("ours.role.0", "'in_domian'", "did you mean 'in_domain'")),
    ("ours: mine", "ours: {shots: every}", ("ours.shots", "'every'", "some, a list")),
    ("each: prompt", "each: prompts", ("each.0", "'prompts'", "did you mean 'prompt'")),
    ("each: prompt", "holds: most", ("holds", "'most'", "did you mean 'majority'", "all, any")),
    ("each: prompt", "measure: loss", ("measure", "'loss'", "score, off_format, training_loss")),
    ("theirs: base", "measure: training_loss", ("training_loss", "variant", "prompt")),
    ("ours: mine, ", "", ("'claims.0.comparisons.0.ours'", "missing")),
    ("id: a, ", "", ("'claims.0.id'", "missing")),
]


@pytest.mark.parametrize(("right", "wrong", "words"), WRONG)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, right: str, wrong: str, words: tuple[str, ...]) -> None:
    """With the path in the YAML, in an experiment and in a file of claims alike."""
    claim = "{id: a, text: t, comparisons: {ours: mine, theirs: base, each: prompt, expect: above}}"
    (tmp_path / "x.yaml").write_text(experiment(claim))
    assert len(load_experiment(tmp_path / "x.yaml").claims) == 1
    (tmp_path / "x.yaml").write_text(experiment(claim.replace(right, wrong)))
    (tmp_path / "mine.yaml").write_text(f"claims: [{claim.replace(right, wrong)}]")
    for read, name in ((load_experiment, "x.yaml"), (load_claims, "mine.yaml")):
        with pytest.raises(ExperimentError) as error:
            read(tmp_path / name)
        assert str(error.value).startswith(f"{tmp_path / name}:") and "claims.0" in str(error.value)
        assert tells(str(error.value), *words) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- a", ("mine.yaml", "mapping", "claims")),
        ("claims: [", ("mine.yaml:1", "YAML")),
        (f"claims:{KEEPS}{KEEPS}", ("claims", "id 'keeps'")),
        ("claims: []\nmodel: m", ("'model'", "allowed: claims")),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path: Path, text: str, words: tuple[str, ...]) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(ExperimentError) as error:
        load_claims(tmp_path / "mine.yaml")
    assert tells(str(error.value), *words) and "\n" not in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(experiment("nowhere.yaml"))
    with pytest.raises(ExperimentError, match=r"nowhere\.yaml\b.*no such file"):
        load_experiment(tmp_path / "x.yaml")


@pytest.mark.slow
def test_an_editor_knows_the_language(schema: jsonschema.Draft202012Validator) -> None:
    schema.check_schema(schema.schema)
    for claims in (KEEPS, "mine.yaml", "[mine.yaml]"):
        schema.validate(dialect.read(experiment(claims), "claims"))
    for wrong in ("[{id: a}]", KEEPS.replace("at_least", "atleast"), KEEPS.replace("role", "rolle")):
        with pytest.raises(jsonschema.ValidationError):
            schema.validate(dialect.read(experiment(wrong), "wrong"))


def test_the_study_makes_twenty_claims() -> None:
    claims = study_claims()
    assert [claim.id for claim in claims] == [f"C{number}" for number in range(1, 21)]
    assert all(claim.source and claim.text.endswith(".") for claim in claims)
    assert all(comparison.what for claim in claims for comparison in claim.comparisons)


def test_what_the_study_says_loosely_has_a_stated_margin() -> None:
    """ "Slightly", "little", "on par", "hardly", "near zero" are ranges that a reader sees."""
    stated = {claim.id: [str(comparison.expect) for comparison in claim.comparisons] for claim in study_claims()}
    assert stated["C1"] == ["above 0", "from −5 to 0"]
    assert stated["C2"][0] == "at most 2"
    assert stated["C3"][2] == "within ±2"
    assert stated["C5"][0] == "within ±3"
    assert stated["C8"] == ["below 0", "above 0", "below 0", "within ±2"]
    assert stated["C9"] == ["at most 5", "at least 50"]
    assert stated["C12"] == ["from −1 to 5"]


def test_what_scores_cannot_show_is_said() -> None:
    caveats = {claim.id: claim.caveat for claim in study_claims() if claim.caveat}
    assert "not testable by scores alone" in caveats["C7"]
    assert "mean loss over the whole training" in caveats["C18"]
    assert "claims no direction" in caveats["C19"]


def test_a_title_is_written_from_the_selections() -> None:
    comparison = Comparison.model_validate(
        {
            "ours": {"strategy": ["ft", "lora"], "shots": [0, 2]},
            "theirs": {"shots": "some"},
            "minus": {"role": "out_of_domain"},
            "expect": "above",
        }
    )
    assert comparison.title == "(ft/lora 0/2 shots − some shots) − (the same, out_of_domain)"


def test_every_key_of_a_comparison_stands_in_the_docs_with_its_default() -> None:
    text = (ROOT / "docs" / "claims.md").read_text("utf-8")
    found = {tuple(cell.strip("` ") for cell in line.split("|")[1:3]) for line in text.splitlines() if "| `" in line}
    for name, field in Comparison.model_fields.items():
        default = "*" if field.is_required() else dialect.write(field.default, flow=True)
        assert (name, default) in found
    for name in (*Select.model_fields, *Expect.model_fields):
        assert f"`{name}`" in text or f"`{name}:" in text, name


def test_claims_are_values() -> None:
    (claim,) = ClaimFile.model_validate({"claims": dialect.read(KEEPS, "claim")}).claims
    assert claim == Claim.model_validate(claim.model_dump(mode="json"))

"""A factor that only some variants have is a column, a label, a choice of claims and a sentence."""

from __future__ import annotations

import fakestore
import grids
import pytest

from spillover.analysis import averages, table, verdict
from spillover.analysis.judge import judge
from spillover.analysis.results import Results
from spillover.experiment.claims import Claim

RANKS = (4, 16)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """The base, FT, and LoRA at two ranks, on the same training set."""
    base, ft, *_ = fakestore.VARIANTS
    lora = [grids.other(ft, f"news-lora-{rank}", strategy="lora", lora_r=rank) for rank in RANKS]
    grid = fakestore.make_grid(variants=(base, ft, *lora), prompts=("p1",))
    return table.load(fakestore.write_store(tmp_path_factory.mktemp("store"), grid))


def test_it_is_a_column(results: Results) -> None:
    rank = results.df.groupby("variant", sort=False)["lora_r"].first()
    assert [None if value is None else int(value) for value in rank.astype(object).where(rank.notna(), None)] == [
        None,
        None,
        *RANKS,
    ]
    assert "batch_size" not in results.df, "no variant has a batch of its own"


def test_it_tells_recipes_apart_in_labels(results: Results) -> None:
    labels = dict(zip(results.df["variant"], averages.recipes(results.df), strict=True))
    assert [labels[f"news-lora-{rank}"] for rank in RANKS] == [f"lora r {rank}" for rank in RANKS]
    assert labels["news-ft"] == "ft"


def test_claims_select_by_it(results: Results) -> None:
    sides = {"ours": {"lora_r": 16}, "theirs": {"lora_r": 4}, "expect": "above"}
    claim = Claim.model_validate({"id": "rank", "text": "A higher rank scores higher.", "comparisons": sides})
    (found,) = judge(results, [claim])
    effects = [one.effect for one in found.evidence]
    assert len(effects) == 1 and effects[0] is not None and effects[0].n > 0


def test_a_sentence_names_it(results: Results) -> None:
    assert "LoRA rank 16" in verdict.recipe(results.variants["news-lora-16"])

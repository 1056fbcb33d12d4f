"""The families of effects that the report shows, and how one is written."""

from __future__ import annotations

import io
from dataclasses import replace
from math import inf
from pathlib import Path

import fakestore
import grids
import pandas as pd
import pytest

from spillover.analysis import effects, numbers, table
from spillover.analysis.contrasts import Effect, by_shots, interaction, slope
from spillover.report import why
from spillover.stats.families import holm
from spillover.stats.intervals import Interval
from spillover.stats.levels import Level

Families = dict[str, list[effects.EffectRow]]

NOT_DRAWN = {"drawing": ""}  # a figure without numbers


@pytest.fixture(scope="module")
def found(results: table.Results) -> Families:
    return effects.families(results)


def row(rows: list[effects.EffectRow], name: str, where: str, shots: int | None = None) -> effects.EffectRow:
    (one,) = [row for row in rows if (row.name, row.where, row.shots) == (name, where, shots)]
    return one


def cells(results: table.Results, *names: str, role: str | None = None) -> list[fakestore.Cell]:
    found = [cell for cell in results.grid.cells if results.variants[cell.variant].name in names]
    return [cell for cell in found if role in (None, cell.role)]


# --- families ---------------------------------------------------------------------------------------------------------


def test_each_family_has_what_it_is_named_for(results: table.Results, found: Families) -> None:
    """Four recipes on two training sets, three roles, two shot counts, two prompt formats."""
    assert {name: len(rows) for name, rows in found.items()} == {
        "test_set": 4 * 7,
        "role": 4 * 3,
        "use": 4 * 4,
        "interaction": 4 * 2,
        "slope": 4 * 3,
        "fticl less ft": 2 * 3 * 2,
        "prompt": 4 * 3,
    }


def test_they_are_the_contrasts_of_these_names(results: table.Results, found: Families) -> None:
    ft, base = cells(results, "shop-ft"), cells(results, "base")
    far = interaction(results, ft, base, "cross_task")
    assert far is not None
    one = row(found["interaction"], "shop-ft", "in-domain − cross-task")
    assert (one.effect.value, one.effect.p, one.less) == (far.value, far.p, "base")
    kept = slope(results, cells(results, "shop-ft", role="out_of_domain"), base)
    assert kept is not None and row(found["slope"], "shop-ft", "out-of-domain").effect.value == kept.value
    more = by_shots(
        results, cells(results, "shop-fticl", role="cross_task"), cells(results, "shop-ft", role="cross_task")
    )
    for shots, effect in more.items():
        one = row(found["fticl less ft"], "shop-fticl", "cross-task", shots)
        assert (one.effect.value, one.less) == (effect.value, "shop-ft")


def test_interaction_is_the_difference_of_the_changes_by_role(found: Families) -> None:
    for name in ("news-ft", "news-fticl", "shop-ft", "shop-fticl"):
        inside, outside = (row(found["role"], name, where).effect.value for where in ("in-domain", "out-of-domain"))
        gap = row(found["interaction"], name, "in-domain − out-of-domain").effect.value
        assert gap == pytest.approx(inside - outside)


@pytest.mark.parametrize("family", ["test_set", "role", "use", "interaction", "slope", "fticl less ft", "prompt"])
def test_a_family_is_corrected_in_itself(found: Families, family: str) -> None:
    those = [one.effect for one in found[family]]
    assert [effect.p_adjusted for effect in those] == pytest.approx(holm([effect.p for effect in those]))
    assert {effect.compared for effect in those} == {len(those)}


def test_fticl_is_set_against_plain_fine_tuning_of_the_same_rows(tmp_path: Path) -> None:
    """Not against another size, and of two learning rates against its own."""
    base, _, _, ft, fticl = fakestore.VARIANTS
    small = grids.other(ft, "small", train_size=100)
    hot = grids.other(ft, "hot", learning_rate=1e-3)
    alone = grids.other(fticl, "alone", train_size=900)
    variants = (base, small, hot, ft, fticl, alone)
    grid = fakestore.make_grid(variants=variants, shots=(0,), prompts=("p1",), rows=12)
    found = effects.families(table.load(fakestore.write_store(tmp_path, grid)))
    assert {(one.name, one.less) for one in found["fticl less ft"]} == {("shop-fticl", "shop-ft")}
    assert "slope" not in found and "prompt" not in found  # one shot count, one format


def test_fticl_against_other_learning_rates_names_them(tmp_path: Path) -> None:
    """FT was not trained at FTICL's rate: all of its rates count, and are said."""
    base, _, _, ft, fticl = fakestore.VARIANTS
    hot, cool = (grids.other(ft, f"{rate}", f"shop-ft-lr{rate}", learning_rate=rate) for rate in (1e-3, 1e-6))
    grid = fakestore.make_grid(variants=(base, hot, cool, fticl), shots=(0,), prompts=("p1",), rows=12)
    results = table.load(fakestore.write_store(tmp_path, grid))
    found = effects.families(results)["fticl less ft"]
    assert {one.less for one in found} == {
        "shop-ft-lr0.001 (learning rate 0.001) and shop-ft-lr1e-06 (learning rate 1e-06)"
    }
    value = row(found, "shop-fticl", "cross-task", 0).effect.value
    ours = cells(results, "shop-fticl", role="cross_task")
    alone = [by_shots(results, ours, cells(results, one.name, role="cross_task"))[0].value for one in (hot, cool)]
    assert value == pytest.approx(sum(alone) / 2) and alone[0] != alone[1]


def test_the_base_alone_has_no_effects(base_only: table.Results) -> None:
    assert effects.families(base_only) == {}
    assert list(effects.tidy(base_only).columns) == list(effects.COLUMNS)


# --- in words ---------------------------------------------------------------------------------------------------------

EFFECT = Effect(
    value=0.041,
    interval=Interval(0.01, 0.072),
    p=0.01,
    n=48,
    clusters=40,
    tests=("a", "b"),
    seeds=2,
    draws=0,
    chance=((Level(0.01**2, inf),),),
    noise_floor=0.02,
    cells=(),
    interval_over_sets=Interval(-0.05, 0.132),
)


def test_an_effect_is_written_with_its_interval_and_the_noise_floor() -> None:
    assert numbers.written(EFFECT) == "▲ +4.1 [+1.0, +7.2; seeds ±2.0]"
    assert numbers.written(replace(EFFECT, noise_floor=None)) == "▲ +4.1 [+1.0, +7.2]"
    assert numbers.noise(replace(EFFECT, noise_floor=0.0004)) == "seeds under ±0.1"
    assert numbers.written(replace(EFFECT, rounding_floor=0.01)) == "▲ +4.1 [+1.0, +7.2; seeds ±2.0; rounding ±1.0]"
    assert numbers.written(replace(EFFECT, p_adjusted=0.2)) == "+4.1 [+1.0, +7.2; seeds ±2.0]"


def test_documents_and_components_are_told_apart() -> None:
    assert numbers.documents(EFFECT) == "n 48 in 40 components"
    assert numbers.documents(replace(EFFECT, clusters=48)) == "n 48"


def test_details_say_what_it_rests_on() -> None:
    """z of 97.5 % and z of 80 % are 2.80 standard errors of a point each."""
    assert numbers.details(EFFECT) == (
        "2 test sets, n 48 in 40 components; 2 training seeds; [−5.0, +13.2] for test sets like these, not these "
        "alone; noise floor 2.0; 80 % power from 2.8"
    )
    assert numbers.details(replace(EFFECT, chance=())).endswith("80 % power for no effect")


def test_tidy_rows_have_all_of_it(results: table.Results, found: Families) -> None:
    back = pd.read_csv(io.StringIO(table.as_csv(effects.tidy(results))))
    assert list(back.columns) == list(effects.COLUMNS) and len(back) == sum(map(len, found.values()))
    one = row(found["role"], "news-ft", "cross-task").effect
    (told,) = back.query("family == 'role' and recipe == 'news-ft' and where == 'cross-task'").to_dict("records")
    assert one.interval_over_sets is not None
    assert (told["value"], told["sets_ci_low"], told["sets_ci_high"], told["p_adjusted"], told["mde"]) == pytest.approx(
        (one.value, one.interval_over_sets.low, one.interval_over_sets.high, one.p_adjusted, one.mde)
    )
    assert (told["n"], told["clusters"], told["test_sets"], told["outcome"]) == (120, 120, 5, "lower")


# --- on the page ------------------------------------------------------------------------------------------------------


def test_the_page_has_a_table_for_each_contrast(results: table.Results) -> None:
    parts = {part["title"]: part for part in why.parts(results, {}, {}, NOT_DRAWN, NOT_DRAWN)}
    assert list(parts) == [
        "What stayed in the domain",
        "What is left of in-context learning",
        "FTICL minus FT",
        "How much the prompt format matters",
        "How answers ended",
    ]
    by_shots = parts["FTICL minus FT"]["table"]
    assert by_shots["columns"] == ["Variant", "0 shots", "2 shots"]
    first = by_shots["rows"][0]
    assert first[0] == "news-fticl − news-ft, in-domain"
    effect = row(effects.families(results)["fticl less ft"], "news-fticl", "in-domain", 0).effect
    assert first[1] == {"text": numbers.written(effect), "note": numbers.details(effect)}
    assert "For the base it adds" in parts["What is left of in-context learning"]["text"]


def test_the_page_says_of_what_it_is_not_proven_that_it_differs_from_the_base(results: table.Results) -> None:
    seen = {v.name: fakestore.inside_of(v, 1) for v in results.grid.variants[1:]}
    titles = [part.get("title") for part in why.parts(results, seen, {}, NOT_DRAWN, NOT_DRAWN)]
    assert "Not proven to differ from the base" not in titles
    seen["shop-ft"] = replace(seen["shop-ft"], changes=(), why_no_changes="no safetensors to compare")
    seen["news-ft"] = replace(seen["news-ft"], neutral=None, why_no_divergence="its engine shows no hidden states")
    part = why.parts(results, seen, {}, NOT_DRAWN, NOT_DRAWN)[-1]
    assert part["title"] == "Not proven to differ from the base"
    assert part["table"]["rows"] == [
        ["news-ft", "predictions", "its engine shows no hidden states"],
        ["shop-ft", "weights", "no safetensors to compare"],
    ]


def test_recipes_of_one_name_have_a_line_each(tmp_path: Path) -> None:
    base, ft, *_ = fakestore.VARIANTS
    seeds = [replace(ft, key=f"{ft.key}-{seed}", name=f"{ft.name}-s{seed}", seed=seed) for seed in (0, 1)]
    mine = replace(
        ft,
        key="mine",
        kind="existing",
        factors={"train_dataset": "news", "train_task": "summarisation"},
        recipe_key="mine",
    )
    grid = fakestore.make_grid(variants=(base, *seeds, mine), shots=(0,), prompts=("p1",), rows=12)
    results = table.load(fakestore.write_store(tmp_path, grid))
    part = why.parts(results, {}, {}, NOT_DRAWN, NOT_DRAWN)[0]
    assert [line[0] for line in part["table"]["rows"]] == ["news-ft", "news-ft"]

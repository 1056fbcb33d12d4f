"""What to ship, by the one rule, on effects that are made up to meet each of its cases."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import fakestore
import pytest

from spillover.analysis import numbers, summaries, table, verdict
from spillover.analysis.contrasts import Effect
from spillover.analysis.summaries import RoleChange
from spillover.analysis.verdict import Line
from spillover.experiment.factors import spelled
from spillover.experiment.suite import Role
from spillover.stats.intervals import Interval
from spillover.stats.levels import Level

ROLES: dict[str, Role] = {"in-domain": "in_domain", "out-of-domain": "out_of_domain", "cross-task": "cross_task"}


def change(where: str, points: float, half: float = 2.0, n: int = 100) -> RoleChange:
    """A change of so many points whose interval reaches `half` points to either side."""
    value, wide = points / 100, half / 100
    p = 0.001 if abs(points) > half else 0.5
    interval = Interval(value - wide, value + wide)
    chance = ((Level((0.03 / 2.802) ** 2, inf),),)  # a smallest effect of 3 points: z of 97.5 % and z of 80 %
    effect = Effect(value, interval, p, 1, chance, (), n, n, ("t",), 1, p_adjusted=p)
    return RoleChange("r", ROLES[where], effect)


def line(name: str, *changes: RoleChange) -> Line:
    return Line(name, "", changes)


def advice(results: table.Results, *lines: Line) -> str:
    """On a grid that plans whatever the lines have between them."""
    arms = {line.name: (fakestore.VARIANTS[i + 1],) for i, line in enumerate(lines)}
    planned = list(dict.fromkeys(change.where for one in lines for change in one.changes))
    return " ".join(verdict._advice(results, arms, lines, planned))


def test_a_sentence_says_what_is_beyond_chance_first() -> None:
    said = line("x", change("in-domain", 9.5), change("out-of-domain", 0.5), change("cross-task", -4.0)).sentence
    assert said == (
        "Gains 9.5 points [+7.5, +11.5] in-domain; loses 4.0 points [−6.0, −2.0] cross-task; "
        "insufficient evidence out-of-domain (+0.5 [−1.5, +2.5])."
    )
    assert line("x").sentence.startswith("Nothing to compare yet")


def test_a_gain_without_a_loss_ships(results: table.Results) -> None:
    safe = line("safe", change("in-domain", 5.0), change("cross-task", -1.0))
    traded = line("traded", change("in-domain", 9.0), change("cross-task", -5.0))
    said = advice(results, safe, traded)
    assert said.startswith("Ship safe. It gains 5.0 points [+3.0, +7.0] in-domain, and no loss shows elsewhere.")
    assert "A loss of up to 3.0 points cross-task is not ruled out." in said


def test_what_looks_like_a_loss_is_not_shipped(results: table.Results) -> None:
    worse = change("cross-task", -4.0)
    worse = replace(worse, effect=replace(worse.effect, p_adjusted=0.09))
    one = line("odd", change("in-domain", 9.0), worse)
    assert one.sentence.endswith("insufficient evidence cross-task (−4.0 [−6.0, −2.0], but not after Holm).")
    said = advice(results, one)
    assert said.startswith("Nothing to ship yet. More rows are needed")
    assert said.endswith("odd cross-task (−4.0 [−6.0, −2.0]).")
    assert advice(results, one, line("safe", change("in-domain", 5.0), change("cross-task", 1.0))).startswith(
        "Ship safe"
    )


def test_what_has_not_run_is_not_taken_for_harmless(results: table.Results) -> None:
    half, few = (
        line("half", change("in-domain", 9.0)),
        line("few", change("in-domain", 9.0), change("cross-task", 1.0, n=4)),
    )
    for one in (half, few):
        said = " ".join(
            verdict._advice(results, {one.name: fakestore.VARIANTS[1:2]}, [one], ["in-domain", "cross-task"])
        )
        assert said.startswith("Nothing to ship yet.") and f"{one.name} cross-task" in said


def test_a_gain_out_of_domain_alone_ships(results: table.Results) -> None:
    assert advice(results, line("wide", change("in-domain", 0.0), change("out-of-domain", 6.0))).startswith(
        "Ship wide."
    )


def test_where_every_gain_has_a_loss_the_two_ends_are_named(results: table.Results) -> None:
    bold = line("bold", change("in-domain", 20.0), change("cross-task", -10.0))
    mild = line("mild", change("in-domain", 10.0), change("cross-task", -3.0))
    said = advice(results, bold, mild)
    assert said.startswith("Nothing to ship without a choice. Every gain comes with a loss. bold gains most")
    assert "mild loses least: it gains 10.0 points [+8.0, +12.0] in-domain and loses 3.0 points" in said


def test_without_evidence_the_base_stays(results: table.Results) -> None:
    said = advice(results, line("dull", change("in-domain", 1.0)), line("worse", change("in-domain", -8.0)))
    assert said.startswith("Keep the base, or evaluate more rows. There is insufficient evidence of a gain.")
    assert "worse loses beyond chance" in said and "Effects below about 3.0 points" in said


def test_two_seeds_and_many_comparisons_can_show_nothing(results: table.Results) -> None:
    dull = change("in-domain", 1.0)
    few_seeds = replace(dull, effect=replace(dull.effect, chance=((Level(0.01, 1),),), compared=28))
    assert "Effects of any size would often go unseen." in advice(results, line("dull", few_seeds))


def test_a_handful_of_documents_proves_nothing(results: table.Results) -> None:
    said = advice(results, line("few", change("in-domain", 50.0, n=3)))
    assert said == "Evaluate more rows. Nothing can be claimed from fewer than 10 independent documents."


def test_verdicts_of_a_run(results: table.Results) -> None:
    found = verdict.verdicts(results)
    assert [one.title for one in found] == ["Trained on news", "Trained on shop"]
    lines = {line.name: line for one in found for line in one.lines}
    assert set(lines) == {"news-ft", "news-fticl", "shop-ft", "shop-fticl"}
    shop_ft = results.variants["shop-ft"]
    in_domain = summaries.recipe_changes(results)[shop_ft.recipe_key, "in_domain"]
    assert lines["shop-ft"].changes[0].effect == in_domain.effect
    assert f"{numbers.points(abs(in_domain.effect.value))} points" in lines["shop-ft"].sentence
    said = list(verdict.caveats(results, found))
    assert any("Trained once each" in caveat for caveat in said) and "One seed: no noise floor." in said


def test_a_noise_floor_stands_beside_every_effect(tmp_path: Path) -> None:
    """Of a recipe with three seeds; of what was trained once on another set it is said that there is none."""
    base, news, _, shop, _ = fakestore.VARIANTS
    seeds = [replace(shop, key=f"{shop.key}-{n}", name=f"{shop.name}-s{n}", seed=n) for n in (0, 1, 2)]
    results = table.load(fakestore.write_store(tmp_path, fakestore.make_grid(variants=(base, news, *seeds))))
    once, often = found = verdict.verdicts(results)
    (ft,) = often.lines
    floors = [change.effect.noise_floor for change in ft.changes]
    for change, floor in zip(ft.changes, floors, strict=True):
        assert floor is not None and f"seeds ±{numbers.points(floor)}" in change.basis
        assert f"; seeds ±{numbers.points(floor)}]" in ft.sentence
    assert "seeds" not in once.lines[0].sentence
    said = list(verdict.caveats(results, found))
    assert any(f"here up to {numbers.points(max(f for f in floors if f))} points" in caveat for caveat in said)
    assert "One seed: no noise floor (Trained on news)." in said
    assert [caveat for caveat in said if "Trained once" in caveat] == [next(c for c in said if once.lines[0].name in c)]
    assert "for test sets like these" in ft.changes[-1].details  # five cross-task sets are a sample of such sets


def test_what_rounding_may_have_made_is_said_and_is_no_change(tmp_path: Path) -> None:
    """Texts that float32 answers wholly otherwise: rounding can change everything."""
    base, news = fakestore.VARIANTS[:2]
    grid = fakestore.make_grid(variants=(base, news), shots=(0,))
    fakestore.write_store(tmp_path, grid)
    before = {line.name: line for one in verdict.verdicts(table.load(tmp_path)) for line in one.lines}["news-ft"]
    assert before.gains and "rounding" not in before.sentence

    def rounded(rows: list[dict[str, Any]]) -> None:
        for number, row in enumerate(rows):
            row["near_ties"] = 3
            if number % 8 == 0:
                row["response_float32"] = "" if row["response"] == row["target"] else row["target"]

    for cell in grid.cells:
        if cell.test == "news":
            fakestore.change_rows(tmp_path, cell.key, rounded)
    results = table.load(tmp_path)
    found = verdict.verdicts(results)
    (in_domain, *others) = found[0].lines[0].changes
    assert in_domain.effect.value == before.changes[0].effect.value
    assert (in_domain.effect.rounding_floor or 0) > abs(in_domain.effect.value)
    assert not in_domain.effect.is_clear and "rounding alone" in found[0].lines[0].sentence
    assert all(other.effect.rounding_floor == 0.0 for other in others if "news" not in other.effect.tests)
    assert any("float32" not in said and "bfloat16" in said for said in verdict.caveats(results, found))
    kept = table.load(tmp_path)
    assert [one.lines for one in verdict.verdicts(kept)] == [one.lines for one in found], "also from kept statistics"


def test_only_what_was_trained_once_is_called_so(tmp_path: Path) -> None:
    """Of two recipes on one training set, one has two seeds: nothing about it may speak of one training."""
    base, _, _, ft, fticl = fakestore.VARIANTS
    seeds = [replace(ft, key=f"{ft.key}-{n}", name=f"{ft.name}-s{n}", seed=n) for n in (0, 1)]
    results = table.load(fakestore.write_store(tmp_path, fakestore.make_grid(variants=(base, *seeds, fticl))))
    said = [caveat for caveat in verdict.caveats(results, verdict.verdicts(results)) if "Trained once" in caveat]
    assert len(said) == 1 and fticl.name in said[0] and f"{ft.name}" not in said[0].replace(fticl.name, "")


@pytest.mark.parametrize("number", [1, 2])
def test_advice_names_the_checkpoint(results: table.Results, number: int) -> None:
    """Of several seeds the first, since a choice by test scores would flatter it."""
    arm = tuple(replace(fakestore.VARIANTS[1], key=f"k{seed}", seed=seed) for seed in range(number))
    kept = replace(results, checkpoints={"k0": "variants/k0", "k1": "variants/k1"})
    lines, planned = [line("x", change("in-domain", 5.0))], ["in-domain"]
    _, why = verdict._advice(kept, {"x": arm}, lines, planned)
    assert "variants/k0" in why and "variants/k1" not in why and (number > 1) == ("2 times" in why)
    _, why = verdict._advice(results, {"x": arm}, lines, planned)
    assert "not kept" in why and "variants/" not in why


def test_rivals_that_cannot_be_told_apart_are_named(tmp_path: Path) -> None:
    """The same model twice under two names: whichever ships, the other is as good."""
    base, ft, *_ = fakestore.VARIANTS
    twin = replace(ft, key="twin", name="news-twin", factors=ft.factors | {"strategy": "twin"}, recipe_key="twin")
    grid = fakestore.make_grid(variants=(base, ft, twin), rows=40)
    grid = replace(grid, cells=tuple(c for c in grid.cells if c.test == "news"))
    (found,) = verdict.verdicts(table.load(fakestore.write_store(tmp_path, grid)))
    assert found.advice in ("Ship news-ft.", "Ship news-twin.")
    assert "In-domain it cannot be told from" in found.why


def test_a_checkpoint_of_which_nothing_is_known_is_compared_over_all_sets(tmp_path: Path) -> None:
    base, ft, *_ = fakestore.VARIANTS
    mine = replace(ft, key="mine", name="mine", kind="existing", factors={}, recipe_key="mine")
    grid = fakestore.make_grid(variants=(base, mine), rows=12)
    (found,) = verdict.verdicts(table.load(fakestore.write_store(tmp_path, grid)))
    assert [change.where for change in found.lines[0].changes] == ["over all test sets"]


def test_the_base_alone_has_no_verdict(base_only: table.Results) -> None:
    assert verdict.verdicts(base_only) == []


def test_names_of_strategies_are_written_as_their_papers_or_users_write_them() -> None:
    assert [spelled(name) for name in ("ft", "fticl", "lora", "my-way")] == ["FT", "FTICL", "LoRA", "my-way"]


@pytest.mark.parametrize("variant", fakestore.VARIANTS[1:])
def test_a_recipe_in_words(variant: fakestore.Variant) -> None:
    words = verdict.recipe(variant)
    assert words.startswith(f"{spelled(str(variant.strategy))}, on {variant.train_dataset}, 500 samples")
    assert ("2 demonstrations each" in words) == (variant.strategy == "fticl")

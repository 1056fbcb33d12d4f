"""What to ship, by the one rule: on effects that are made up to meet each of its cases, and on whole stores."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import fakestore
import pytest

from spillover.analysis import numbers, table, verdict
from spillover.analysis.advice import Judge, Line
from spillover.analysis.contrasts import Effect
from spillover.analysis.deploy import Gain
from spillover.analysis.losses import largest_loss
from spillover.analysis.results import Cost
from spillover.analysis.retention import OUTSIDE, Demonstrations, Kept, Retention, kept
from spillover.analysis.summaries import RoleChange
from spillover.experiment.factors import spelled
from spillover.experiment.suite import Role
from spillover.plan.grid import Deploy, Use, Variant
from spillover.stats.intervals import Interval
from spillover.stats.levels import Level

ROLES: dict[str, Role] = {"in-domain": "in_domain", "out-of-domain": "out_of_domain", "cross-task": "cross_task"}
ZERO, TWO = Use(0, "p1"), Use(2, "p1")


def effect(points: float, half: float = 2.0, n: int = 100, p: float | None = None) -> Effect:
    """A change of so many points whose interval reaches `half` points to either side."""
    value, wide = points / 100, half / 100
    p = (0.001 if abs(points) > half else 0.5) if p is None else p
    chance = ((Level((wide / 2.802) ** 2, inf),),)  # a smallest effect of `half` points: z of 97.5 % and z of 80 %
    return Effect(value, Interval(value - wide, value + wide), p, 1, chance, (), n, n, ("t",), 1, p_adjusted=p)


def left(where: str, found: Effect, base: float = 0.5) -> Retention:
    ends = Interval(1 + found.interval.low / base, 1 + found.interval.high / base)
    return Retention("r", where, ("t",), base, base + found.value, 1 + found.value / base, ends, found, False)


def line(
    name: str,
    gains: Sequence[tuple[Use, Effect]] = (),
    sets: dict[str, Effect] | None = None,
    variants: Sequence[Variant] = (),
    **roles: Effect,
) -> Line:
    """A recipe with its change in each use, by role (`cross_task=`) and by test set."""
    few = len(gains) == 1
    uses = [Gain(name, use, use, found, "" if few else f" at {use.shots} shots") for use, found in gains]
    changes = [RoleChange(name, "in_domain", gain.effect, gain.where) for gain in uses]
    titles = {title: roles[role] for title, role in ROLES.items() if role in roles}
    changes += [RoleChange(name, ROLES[title], found) for title, found in titles.items()]
    of_sets = {test: left(test, found) for test, found in (sets or {}).items()}
    outside = left(OUTSIDE, roles["cross_task"]) if "cross_task" in roles else None
    arm = tuple(variants) or (replace(fakestore.VARIANTS[1], key=name, name=name, recipe_key=name),)
    means = {title: left(title, found) for title, found in titles.items()}
    return Line(name, "", tuple(changes), Kept(arm, tuple(uses), means, of_sets, outside, None, None))


def advice(results: table.Results, *lines: Line, planned: Sequence[str] | None = None, **grid: Any) -> str:
    """On a grid that plans whatever the lines have between them."""
    roles = dict.fromkeys(name for one in lines for c in one.changes for name, role in ROLES.items() if role == c.role)
    of_grid = replace(results, grid=replace(results.grid, **grid))
    found = Judge(of_grid, lines, list(roles) if planned is None else planned).advice()
    assert (found.best is not None) == found.first.startswith("Ship")
    return " ".join([found.first, found.why, *(f"{step.says} {step.code}" for step in found.steps)])


def inside(points: float, half: float = 2.0, n: int = 100) -> list[tuple[Use, Effect]]:
    return [(ZERO, effect(points, half, n))]


def test_a_sentence_says_what_is_beyond_chance_first() -> None:
    lost = {"far": effect(-9.0), "near": effect(1.0)}
    said = line("x", inside(9.5), lost, out_of_domain=effect(0.5), cross_task=effect(-4.0)).sentence
    assert said == (
        "Gains 9.5 points [+7.5, +11.5] in-domain; loses 4.0 points [−6.0, −2.0] cross-task (most on far: 9.0); "
        "insufficient evidence out-of-domain (+0.5 [−1.5, +2.5])."
    )
    assert line("x").sentence.startswith("Nothing to compare yet")


def test_a_set_that_loses_is_said_although_the_mean_is_unclear() -> None:
    said = line("x", inside(9.5), {"far": effect(-9.0)}, cross_task=effect(-1.0)).sentence
    assert "loses 9.0 points [−11.0, −7.0] on far" in said


def test_a_gain_without_a_loss_ships_and_the_worst_set_is_named(results: table.Results) -> None:
    sets = {"far": effect(-1.0, 3.4), "near": effect(-1.9, 2.0)}
    safe = line("safe", inside(5.0), sets, cross_task=effect(-1.0))
    traded = line("traded", inside(9.0), cross_task=effect(-5.0))
    said = advice(results, safe, traded)
    assert said.startswith("Ship safe. It gains 5.0 points [+3.0, +7.0] in-domain. No loss is shown elsewhere.")
    assert "A loss of up to 4.4 points on far is not ruled out." in said


def test_a_loss_on_one_set_is_a_loss_although_the_mean_hides_it(results: table.Results) -> None:
    one = line("odd", inside(9.0), {"far": effect(-20.0), "near": effect(19.0)}, cross_task=effect(-0.5))
    assert advice(results, one).startswith("Nothing to ship without a choice.")
    assert "20.0 points [−22.0, −18.0] on far" in advice(results, one)


def test_what_looks_like_a_loss_is_not_shipped_and_it_is_said_what_would_decide(results: table.Results) -> None:
    one = line("odd", inside(9.0), cross_task=effect(-4.0, 3.5, p=0.09))
    assert one.sentence.endswith("insufficient evidence cross-task (−4.0 [−7.5, −0.5], but not after Holm).")
    said = advice(results, one)
    assert said.startswith("Nothing to ship yet. odd may lose cross-task (−4.0 [−7.5, −0.5])")
    less = replace(effect(-4.0, 3.5, p=0.09), compared=10)  # at the strictest level it takes more rows
    assert "more rows of t" in advice(results, line("odd", inside(9.0), cross_task=less))
    safe = line("safe", inside(5.0), cross_task=effect(1.0))
    assert advice(results, one, safe).startswith("Ship safe")


def test_what_has_not_run_is_not_taken_for_harmless(results: table.Results) -> None:
    half, few = line("half", inside(9.0)), line("few", inside(9.0), cross_task=effect(1.0, n=4))
    for one in (half, few):
        said = advice(results, one, planned=["in-domain", "cross-task"])
        assert said.startswith("Nothing to ship yet.") and f"{one.name} cross-task" in said


def test_a_gain_out_of_domain_alone_ships(results: table.Results) -> None:
    one = line("wide", inside(0.0), out_of_domain=effect(6.0))
    assert advice(results, one).startswith("Ship wide.")


def test_where_every_gain_has_a_loss_the_two_ends_are_named(results: table.Results) -> None:
    bold = line("bold", inside(20.0), cross_task=effect(-10.0))
    mild = line("mild", inside(10.0), cross_task=effect(-3.0))
    said = advice(results, bold, mild)
    assert said.startswith("Nothing to ship without a choice. Every gain comes with a loss. bold gains most")
    assert "mild loses least: it gains 10.0 points [+8.0, +12.0] in-domain and loses 3.0 points" in said


def test_without_evidence_the_base_stays_and_rows_would_decide(results: table.Results) -> None:
    said = advice(results, line("dull", inside(1.0)), line("worse", inside(-8.0)))
    assert said.startswith("Keep the base, or evaluate more rows. There is insufficient evidence of a gain.")
    assert "dull: +1.0 [−1.0, +3.0]" in said and "about 300 more rows of t" in said  # 4 times the rows, for half


def test_what_gains_nowhere_needs_no_more_rows(results: table.Results) -> None:
    assert advice(results, line("worse", inside(-8.0))).startswith("Keep the base. ")
    open_still = advice(results, line("open", inside(-1.0, 5.0)))
    assert open_still.startswith("Keep the base, or evaluate more rows.") and "up to 4.0 points" in open_still


def test_a_handful_of_documents_proves_nothing(results: table.Results) -> None:
    said = advice(results, line("few", inside(50.0, n=3)))
    assert said == "Evaluate more rows. Nothing can be claimed from fewer than 10 independent documents."


# --- uses --------------------------------------------------------------------------------------------------


def test_uses_stand_by_themselves_and_no_mean_hides_one(results: table.Results) -> None:
    """100 at 0 shots and 31 at 2 is no gain of 65.6: the gain comes with a loss."""
    one = line("odd", [(ZERO, effect(60.0)), (TWO, effect(-9.0))])
    said = advice(results, one)
    assert said.startswith("Nothing to ship without a choice.")
    assert "60.0 points [+58.0, +62.0] in-domain at 0 shots" in said and "9.0 points" in said


def test_the_worst_and_the_best_use_are_named_and_who_is_better_in_one(results: table.Results) -> None:
    plain = line("plain", [(ZERO, effect(74.0)), (TWO, effect(5.0))])
    shown = line("shown", [(ZERO, effect(60.0)), (TWO, effect(12.0))])
    said = advice(results, plain, shown)
    assert said.startswith("Ship shown."), "it gains more where it gains least"
    assert "+12.0 [+10.0, +14.0] points in-domain at 2 shots" in said and "+60.0" in said
    assert "plain gains more in-domain at 0 shots (+74.0 [+72.0, +76.0])" in said
    assert "deploy: {shots: 0, prompt: p1}" in said


def test_of_many_uses_the_two_ends_are_named(results: table.Results) -> None:
    uses = [(Use(shots, "p1"), effect(by)) for shots, by in ((0, 30.0), (1, 20.0), (2, 10.0), (4, 0.5))]
    assert line("x", uses).sentence == (
        "Gains in-domain in 3 uses, from 10.0 points [+8.0, +12.0] at 2 shots to 30.0 points [+28.0, +32.0] at 0 "
        "shots; insufficient evidence in-domain at 4 shots (+0.5 [−1.5, +2.5])."
    )
    dull = line("x", [(Use(shots, "p1"), effect(by)) for shots, by in ((0, 1.0), (1, 0.5), (2, 0.1))]).sentence
    assert "in-domain in 3 uses, from 2 shots (+0.1" in dull and "to 0 shots (+1.0" in dull


def test_how_the_models_will_be_used_decides(tmp_path: Path) -> None:
    base, ft, *_ = fakestore.VARIANTS
    grid = fakestore.make_grid(variants=(base, ft), rows=40, prompts=("p1",))
    results = table.load(fakestore.write_store(tmp_path, grid))
    two = kept(results)[ft.recipe_key].gains
    assert [gain.where for gain in two] == ["in-domain at 0 shots", "in-domain at 2 shots"]
    deploy = Deploy(base=TWO, variant=ZERO)
    (one,) = kept(replace(results, grid=replace(grid, deploy=deploy)))[ft.recipe_key].gains
    means = {cell.shots: results.means[cell.key] for cell in results.cells_of_base if cell.test == "news"}
    assert one.effect.value == pytest.approx(two[0].effect.value - (means[2] - means[0]))
    (found,) = verdict.verdicts(replace(results, grid=replace(grid, deploy=deploy)))
    assert "in-domain at 0 shots (the base at 2 shots)" in found.lines[0].sentence


# --- the share that must be kept ---------------------------------------------------------------------------


def test_of_those_that_keep_the_share_the_one_that_gains_most_ships(results: table.Results) -> None:
    """`bold` loses 4 % of the base's score beyond chance: too much for 0.98, not for 0.9."""
    bold = line("bold", inside(20.0), cross_task=effect(-2.0, 0.5))
    mild = line("mild", inside(10.0), cross_task=effect(-0.1, 0.4))
    assert advice(results, bold, mild).startswith("Ship mild")
    assert advice(results, bold, mild, keep=0.98).startswith("Ship mild")
    said = advice(results, bold, mild, keep=0.9)
    assert said.startswith("Ship bold") and "96.0 % [95.0, 97.0]" in said and "90.0 %" in said


def test_it_is_said_that_demonstrations_help_less(results: table.Results) -> None:
    safe = line("safe", inside(5.0), cross_task=effect(0.0))
    less = Demonstrations("safe", base=effect(8.0), ours=effect(1.0), effect=effect(-7.0))
    weak = replace(safe, kept=replace(safe.kept, demonstrations=less))
    assert "Demonstrations help it less than the base outside: +1.0 points each, and +8.0" in advice(results, weak)
    assert "Demonstrations" not in advice(results, safe)


def test_a_share_that_is_not_shown_is_not_shipped(results: table.Results) -> None:
    unclear = line("unclear", inside(20.0), cross_task=effect(0.5, 3.0))
    said = advice(results, unclear, keep=0.98)
    assert said.startswith("Nothing to ship yet.") and "101.0 % [95.0, 107.0]" in said


def test_what_was_not_tested_is_neither_called_unharmed_nor_kept(results: table.Results) -> None:
    alone = line("alone", inside(9.0))
    said = advice(results, alone)
    assert said.startswith("Ship alone.") and "Nothing elsewhere was tested." in said and "No loss" not in said
    asked = advice(results, alone, keep=0.9)
    assert asked.startswith("Nothing to ship yet. alone was not tested elsewhere") and "Add test sets" in asked
    told = existing(results, line("mine", inside(1.0)))
    assert told.startswith("Nothing was tested outside") and "No loss" not in told


def test_one_set_that_keeps_less_is_enough(results: table.Results) -> None:
    odd = line("odd", inside(20.0), {"far": effect(-20.0)}, cross_task=effect(1.0, 0.5))
    said = advice(results, odd, keep=0.98)
    assert said.startswith("Nothing to ship without a choice.") and "60.0 % [56.0, 64.0] on far" in said


# --- the largest loss --------------------------------------------------------------------------------------


def test_the_largest_loss_comes_first_with_its_cause(results: table.Results) -> None:
    first = line("a", inside(9.0), {"news": effect(-30.0), "quiz": effect(-8.0)}).kept
    second = line("b", inside(9.0), {"film": effect(-40.0, 60.0)}).kept  # not beyond chance
    said = largest_loss(results, [first, second])
    assert said.startswith("a loses 30.0 points [−32.0, −28.0] on news")
    assert largest_loss(results, [second]) == ""


def test_a_use_that_loses_and_a_mean_that_loses_are_losses_too(results: table.Results) -> None:
    used = line("a", [(ZERO, effect(9.0)), (TWO, effect(-20.0))]).kept
    assert largest_loss(results, [used]).startswith("a loses 20.0 points [−22.0, −18.0] in-domain at 2 shots")
    mean = line("a", inside(9.0), {"news": effect(-3.0, 5.0)}, cross_task=effect(-3.0)).kept
    said = largest_loss(results, [mean])
    assert said.startswith("a loses 3.0 points") and "cross-task" in said and "mean" in said


def test_the_cause_is_read_from_the_answers(tmp_path: Path) -> None:
    base, *_, shop, _ = fakestore.VARIANTS
    grid = fakestore.make_grid(variants=(base, shop), prompts=("p1",), shots=(0,))
    fakestore.write_store(tmp_path, grid)
    for cell in grid.cells:
        if cell.test == "quiz" and cell.variant == shop.key:
            fakestore.change_rows(tmp_path, cell.key, lambda rows: [{**row, "response": "negative"} for row in rows])
    (found,) = verdict.verdicts(table.load(tmp_path))
    assert found.loss.startswith("shop-ft loses") and "on quiz: all 24 of its answers are labels of its" in found.loss
    assert found.first.startswith(found.loss)


# --- rows that leak ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gone", "said"), [(14, "rests on the other 26"), (36, "other 4 are too few"), (40, "nothing")]
)
def test_rows_that_leak_are_left_out_and_it_is_said(tmp_path: Path, gone: int, said: str) -> None:
    base, ft, *_ = fakestore.VARIANTS
    grid = fakestore.make_grid(variants=(base, ft), rows=40, prompts=("p1",), shots=(0,))
    folder = fakestore.write_store(tmp_path, replace(grid, cells=tuple(c for c in grid.cells if c.test == "news")))
    assert verdict.verdicts(table.load(folder))[0].advice == "Ship news-ft."
    fakestore.put(folder, "audit.json", json.dumps({"leaked": {"news": {"news": list(range(gone))}}, "lists": []}))
    (found,) = verdict.verdicts(table.load(folder))
    assert f"leak from the training rows: {gone} of the 40 rows of news" in found.why and said in found.why
    if gone == 14:
        assert [change.effect.n for change in found.lines[0].changes] == [26]
    else:
        assert not found.advice.startswith("Ship")


# --- checkpoints from elsewhere ----------------------------------------------------------------------------


def existing(results: table.Results, *lines: Line) -> str:
    return " ".join(verdict.of_checkpoints(results, lines))


def test_a_checkpoint_is_told_what_it_has_lost(results: table.Results) -> None:
    mine = line("mine", sets={"far": effect(-1.0, 3.4), "near": effect(0.0)}, cross_task=effect(-0.5))
    said = existing(results, mine)
    assert said.startswith("No loss is shown on these 2 test sets.")
    assert "up to 4.4 points on far is not ruled out" in said and "was not tested" in said
    assert "base" not in said.lower() and "Ship" not in said
    nearly = replace(results, nearly_base={"mine": "hardly differs from the base: KL 1e-06 nats a token"})
    assert "mine hardly differs from the base" in existing(nearly, mine)


def test_a_checkpoint_whose_task_was_tested_is_told_of_its_gain_too(results: table.Results) -> None:
    said = existing(results, line("mine", inside(1.0), {"far": effect(-1.0)}, cross_task=effect(-0.5)))
    assert said.startswith("No loss is shown on this test set.") and "Keep the base" not in said
    assert "insufficient evidence of a gain" in said and "mine: +1.0 [−1.0, +3.0]" in said and "not tested" not in said


def test_a_checkpoint_that_lost_is_named(results: table.Results) -> None:
    lost = line("lost", sets={"far": effect(-30.0)}, cross_task=effect(-9.0))
    fine = line("fine", sets={"far": effect(0.0)}, cross_task=effect(0.0))
    assert existing(results, lost, fine).startswith("lost loses beyond chance. No loss of fine is shown.")


# --- whole stores ------------------------------------------------------------------------------------------


def test_verdicts_of_a_run(results: table.Results) -> None:
    found = verdict.verdicts(results)
    assert [one.title for one in found] == ["Trained on news", "Trained on shop"]
    lines = {line.name: line for one in found for line in one.lines}
    assert set(lines) == {"news-ft", "news-fticl", "shop-ft", "shop-fticl"}
    shop_ft = results.variants["shop-ft"]
    gains = kept(results)[shop_ft.recipe_key].gains
    assert [change.effect for change in lines["shop-ft"].changes[: len(gains)]] == [gain.effect for gain in gains]
    ends = sorted(gain.effect.value for gain in gains)
    assert all(f"{numbers.points(value)} points" in lines["shop-ft"].sentence for value in (ends[0], ends[-1]))
    said = list(verdict.caveats(results, found))
    assert any("Trained once each" in caveat for caveat in said) and "One seed: no noise floor." in said


def test_a_noise_floor_stands_beside_every_effect(tmp_path: Path) -> None:
    """Of a recipe with three seeds; of what was trained once on another set it is said that there is none."""
    base, news, _, shop, _ = fakestore.VARIANTS
    seeds = [replace(shop, key=f"{shop.key}-{n}", name=f"{shop.name}-s{n}", seed=n) for n in (0, 1, 2)]
    grid = fakestore.make_grid(variants=(base, news, *seeds), prompts=("p1",))
    results = table.load(fakestore.write_store(tmp_path, grid))
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
    again = table.load(tmp_path)
    assert [one.lines for one in verdict.verdicts(again)] == [one.lines for one in found], "also from kept statistics"


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
    places = {"k0": "variants/k0", "k1": "variants/k1"}
    there = replace(results, checkpoints=places, folder=Path("out dir"), costs={"k0": Cost(True, 41.0, 4_200_000)})
    one = line("x", inside(5.0), variants=arm)
    said = advice(there, one)
    assert "out dir/variants/k0" in said and "variants/k1" not in said and (number > 1) == ("2 times" in said)
    assert "an adapter of 4.2 MB, trained in 41 s" in said
    gone = advice(replace(there, checkpoints={}), one)
    assert "not kept" in gone and "variants/" not in gone
    assert f"spillover work 'out dir' --variant {arm[0].name} --keep" in gone


def twins(folder: Path) -> tuple[table.Results, Variant, Variant]:
    """The same answers under two names."""
    base, ft, *_ = fakestore.VARIANTS
    twin = replace(ft, key="twin", name="news-twin", factors=ft.factors | {"strategy": "twin"}, recipe_key="twin")
    grid = fakestore.make_grid(variants=(base, ft, twin), rows=40, prompts=("p1",), shots=(0,))
    results = table.load(
        fakestore.write_store(folder, replace(grid, cells=tuple(c for c in grid.cells if c.test == "news")))
    )
    own = {cell.condition: results.first_metric[cell.key] for cell in results.cells_of([ft])}
    alike = {cell.key: own[cell.condition] for cell in results.cells_of([twin])}
    return replace(results, first_metric={**results.first_metric, **alike}), ft, twin


def test_rivals_that_cannot_be_told_apart_are_named(tmp_path: Path) -> None:
    results, *_ = twins(tmp_path)
    (found,) = verdict.verdicts(results)
    assert found.advice == "Ship news-ft." and "In-domain it cannot be told from news-twin (0.0" in found.why


@pytest.mark.parametrize(
    ("ours", "theirs", "ships"),
    [
        (Cost(False, 40.0, None), Cost(True, 40.0, None), "news-twin"),  # an adapter
        (Cost(False, 40.0, 500_000_000), Cost(False, 40.0, 250_000_000), "news-twin"),  # smaller on disk
        (Cost(True, 40.0, 4_000_000), Cost(True, 20.0, 4_000_000), "news-twin"),  # trained faster
        (Cost(True, 40.0, 4_000_000), Cost(True, 38.0, 4_000_000), "news-ft"),  # as fast
        (Cost(True, 40.0, 4_000_000), Cost(False, 5.0, 500_000_000), "news-ft"),
    ],
)
def test_equals_are_told_apart_by_what_they_cost(tmp_path: Path, ours: Cost, theirs: Cost, ships: str) -> None:
    results, ft, twin = twins(tmp_path)
    (found,) = verdict.verdicts(replace(results, costs={ft.key: ours, twin.key: theirs}))
    assert found.advice == f"Ship {ships}." and found.best == (twin if ships == twin.name else ft).recipe_key
    assert ("costs less" in found.why) == (ships == twin.name)


def test_a_checkpoint_of_which_nothing_is_known_is_compared_over_all_sets(tmp_path: Path) -> None:
    base, ft, *_ = fakestore.VARIANTS
    mine = replace(ft, key="mine", name="mine", kind="existing", factors={}, recipe_key="mine")
    grid = fakestore.make_grid(variants=(base, mine), rows=12)
    (found,) = verdict.verdicts(table.load(fakestore.write_store(tmp_path, grid)))
    assert [change.where for change in found.lines[0].changes] == ["over all test sets"]
    assert "Keep the base" not in found.advice and "was not tested" in found.why


def test_the_base_alone_has_no_verdict(base_only: table.Results) -> None:
    assert verdict.verdicts(base_only) == []


def test_names_of_strategies_are_written_as_their_papers_or_users_write_them() -> None:
    assert [spelled(name) for name in ("ft", "fticl", "lora", "my-way")] == ["FT", "FTICL", "LoRA", "my-way"]


@pytest.mark.parametrize("variant", fakestore.VARIANTS[1:])
def test_a_recipe_in_words(variant: fakestore.Variant) -> None:
    words = verdict.recipe(variant)
    assert words.startswith(f"{spelled(str(variant.strategy))}, on {variant.train_dataset}, 500 samples")
    assert ("2 demonstrations each" in words) == (variant.strategy == "fticl")

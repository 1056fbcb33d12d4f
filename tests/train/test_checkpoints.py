"""A training that was killed goes on from its newest whole checkpoint, whatever is broken."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tinymodels

from spillover.engine import attention
from spillover.experiment.axes import AllWeights, Lora
from spillover.experiment.recipe import Recipe
from spillover.text.samples import Sample, Samples
from spillover.text.steps import steps_of
from spillover.train import trainer
from spillover.train.checkpoints import SEAL, is_whole, newest_whole, seal
from spillover.train.trainer import Trained, train

STEPS = 6
KILLED_AT = 4


class Killed(Exception):
    pass


def samples() -> Samples:
    rng = random.Random(0)
    return Samples(tuple(Sample.of([rng.randrange(4, 50) for _ in range(12)], 9) for _ in range(12)), 0, 0)


def run(folder: Path, out: Path, weights: Any) -> tuple[Trained, list[int]]:
    """Train, with a checkpoint after every step; returns also the steps of this process."""
    steps: list[int] = []
    recipe = Recipe(learning_rate=1e-2, num_train_epochs=2, batch_size=4, seed=3, weights=weights)
    options: dict[str, Any] = {"precision": "float32", "checkpoint_every_s": 0.0}
    return train(
        folder, steps_of(samples(), recipe), recipe, out, progress=lambda step, *_: steps.append(step), **options
    ), steps


def run_until_killed(folder: Path, out: Path, weights: Any) -> None:
    """The same, until it is killed once a checkpoint is written."""

    def sealed_and_killed(checkpoint: Path) -> None:
        seal(checkpoint)
        if checkpoint.name == f"checkpoint-{KILLED_AT}":
            raise Killed

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(trainer, "seal", sealed_and_killed)
        run(folder, out, weights)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    attention.register()
    return tinymodels.save(tinymodels.build(gain=4.0), tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module", params=[AllWeights(), Lora(lora_r=4)], ids=["weights", "adapter"])
def killed(request: pytest.FixtureRequest, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A whole training, one that was killed, and what they train."""
    place = tmp_path_factory.mktemp("trainings")
    run(folder, place / "whole", request.param)
    run_until_killed(folder, place / "cut", request.param)
    return place, request.param


def same_weights(one: Path, other: Path) -> bool:
    (a,), (b,) = (list(place.glob("*.safetensors")) for place in (one, other))
    return a.read_bytes() == b.read_bytes()


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def halved(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def test_two_checkpoints_are_kept(killed: Any) -> None:
    place, _ = killed
    kept = {path.name: is_whole(path) for path in (place / "cut" / "checkpoints").iterdir()}
    assert kept == {"checkpoint-3": True, "checkpoint-4": True}


@pytest.mark.parametrize("damage", [emptied, halved, flipped, Path.unlink])
def test_every_file_of_a_checkpoint_is_checked(killed: Any, tmp_path: Path, damage: Callable[[Path], Any]) -> None:
    place, _ = killed
    names = [path.name for path in (place / "cut" / "checkpoints" / "checkpoint-4").iterdir()]
    assert {"optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json", SEAL} < set(names)
    for name in names:
        copied = Path(shutil.copytree(place / "cut" / "checkpoints", tmp_path / name))
        damage(copied / "checkpoint-4" / name)
        found, broken = newest_whole(copied)
        assert found == copied / "checkpoint-3", name
        assert broken == ([] if name == SEAL and damage is Path.unlink else ["checkpoint-4"])


@pytest.mark.parametrize(("broken", "first"), [([4], 4), ([3], 5), ([3, 4], 1)])
def test_it_goes_on_from_the_one_before_to_the_same_bytes(
    killed: Any, folder: Path, tmp_path: Path, broken: list[int], first: int
) -> None:
    place, weights = killed
    out = Path(shutil.copytree(place / "cut", tmp_path / "cut"))
    for step in broken:
        emptied(out / "checkpoints" / f"checkpoint-{step}" / "optimizer.pt")
    trained, steps = run(folder, out, weights)
    assert steps == list(range(first, STEPS + 1))
    assert same_weights(out, place / "whole")
    passed = [f"checkpoint-{step}" for step in reversed(broken) if step == 4 or len(broken) == 2]
    assert list(trained.broken_checkpoints) == passed


def test_links_in_the_place_of_checkpoints_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "precious").write_text("precious")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "checkpoint-7").symlink_to(tmp_path / "elsewhere")
    assert newest_whole(tmp_path / "checkpoints") == (None, [])
    assert (tmp_path / "elsewhere" / "precious").exists()


def test_a_head_that_is_the_embeddings_lacks_in_no_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint does not store it twice. Transformers warns of a missing weight, which would alarm a reader."""
    folder, said = tinymodels.save(tinymodels.build(gain=4.0, tie_word_embeddings=True), tmp_path), list[str]()
    run_until_killed(folder, tmp_path / "cut", AllWeights())
    monkeypatch.setattr("transformers.trainer.logger.warning", said.append)
    _, steps = run(folder, tmp_path / "cut", AllWeights())
    assert steps == [KILLED_AT + 1, STEPS] and not said

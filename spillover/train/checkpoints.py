"""The checkpoints of a training that may be killed: which of them are whole.

A checkpoint that was written to its end is sealed: a file in it holds the hash of every other file. So a training goes
on from the newest checkpoint that is whole, whatever a full disk or a lost cache of the file system made of the others.
The one before the newest is kept for that.
"""

from __future__ import annotations

from pathlib import Path

from ..disk import SEAL, is_whole, remove, seal

__all__ = ["SEAL", "is_whole", "make_room", "newest_whole", "ordered", "seal"]


def ordered(checkpoints: Path) -> list[Path]:
    """The checkpoints by their step, those that are not sealed among them."""
    found = [path for path in checkpoints.glob("checkpoint-*") if path.name.rpartition("-")[2].isdigit()]
    return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))


def newest_whole(checkpoints: Path) -> tuple[Path | None, list[str]]:
    """The newest whole checkpoint, and the names of those after it that were sealed and are broken.

    What comes after it is deleted, also what a killed process left half written.
    """
    broken: list[str] = []
    for path in reversed(ordered(checkpoints)):
        if is_whole(path):
            return path, broken
        if (path / SEAL).exists():
            broken.append(path.name)
        remove(path)
    return None, broken


def make_room(checkpoints: Path) -> None:
    """Before a checkpoint is written: delete all but the newest that is sealed."""
    sealed = [path for path in ordered(checkpoints) if (path / SEAL).exists()]
    for path in set(ordered(checkpoints)) - set(sealed[-1:]):
        remove(path)

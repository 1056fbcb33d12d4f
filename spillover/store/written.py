"""What a base model wrote for trainings, by key: texts of its own, answers in its own words.

It is made once and used by every training that asks for it. A file is sealed and holds its rows and its receipt, so it
is whole or absent. Rows that a killed process had are kept as those of a unit under way (`cells.partial`).
"""

from __future__ import annotations

from contextlib import AbstractContextManager

from .folder import Folder, Json

A_DAY_S = 86_400.0


class Written(Folder):
    """What base models wrote, in the output folder."""

    def written(self, key: str) -> Json | None:
        """`rows` and `receipt` of what was written; None if it is not there, or broken."""
        return self._sealed_or_none(_file(key), "it is written again")

    def write_written(self, key: str, rows: list[Json], receipt: Json) -> None:
        self._write_sealed(_file(key), {"receipt": receipt, "rows": rows})

    def written_keys(self) -> frozenset[str]:
        return frozenset(path.stem for path in self._entries("written") if path.suffix == ".json")

    def lock_written(self, key: str) -> AbstractContextManager[None]:
        """Hold it while it is written: another process that needs it waits."""
        return self._held(f"locks/{key}", "another process writes what this one needs", wait_s=A_DAY_S)


def _file(key: str) -> str:
    return f"written/{key}.json"

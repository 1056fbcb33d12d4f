"""Trained variants in the output folder: their weights, their receipts, and what was measured inside any variant.

A variant's receipt is sealed and holds the hash of every file that makes its answers. The weights may be deleted; the
receipt stays.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from .. import models
from ..disk import disk_errors, remove, size_on_disk, within, write_whole
from .folder import Broken, Folder, Json, sealed, unsealed

DROPPED = "dropped"  # marks a variant whose weights are being deleted


class Variants(Folder):
    """The variants of an output folder, by key."""

    def variant_folder(self, key: str) -> Path:
        """The folder of a variant's weights, for who loads them. It exists once the variant is trained."""
        return self.folder / "variants" / key

    def variant_receipt(self, key: str) -> Json | None:
        """The receipt of a trained variant, also when its weights have been deleted since; None without a whole one."""
        return self._sealed_or_none(_receipt(key), "`spillover run FILE` trains this variant again")

    def weights(self, key: str) -> str | None:
        """The hash of a variant's weights that cells must be made with: None for any, "" for none.

        A variant that was not trained here has no receipt, and its key follows from its weights. Weights that are no
        longer those that the training left make all cells void. Weights that were deleted count as unchanged. Hashing
        takes time, so `models.content_sha256` remembers the hash of a file in the user's cache folder until the file's
        size or time of change differs.
        """
        receipt = self.variant_receipt(key)
        if receipt is None:
            return None
        try:
            changed = self._has_files(key) and models.content_sha256(self.variant_folder(key)) != receipt["weights"]
        except FileNotFoundError:  # another process deletes them at this moment
            changed = False
        return "" if changed else str(receipt["weights"])

    def bring_weights(self, key: str) -> None:
        """Get the weights of a trained variant here, if they are kept elsewhere.

        Raises Broken if they are broken there. They stay there then: who holds the variant may drop them.
        """

    def has_weights(self, key: str) -> bool:
        """Whether the weights of a trained variant are kept, as its training left them."""
        return self._has_files(key) and bool(self.weights(key))

    def checkpoint(self, key: str) -> str | None:
        """The path of a trained variant's checkpoint inside this folder; None if its weights are not on disk."""
        return str(self.variant_folder(key).relative_to(self.folder)) if self._has_files(key) else None

    def _has_files(self, key: str) -> bool:
        folder = self.variant_folder(key)
        return not (folder / DROPPED).exists() and any(folder.glob(models.WEIGHTS))

    def is_damaged(self, key: str, is_trained: bool) -> bool:
        """Whether a variant must be worked on although its cells are there.

        Its receipt is broken, or what was measured inside it is and its weights are there to be measured again.
        """
        if is_trained and self._is_broken(_receipt(key)):
            return True
        return self._is_broken(_inside(key)) and (not is_trained or self.has_weights(key))

    def _is_broken(self, name: str) -> bool:
        try:
            self._sealed(name)
        except Broken:
            return True
        return False

    def making_folder(self, key: str, empty: bool = False) -> Path:
        """Where a variant is made. If it is not to be `empty`, the checkpoints of a killed training are still there."""
        folder = within(self.folder, f"variants/{key}.making")
        with disk_errors(self.folder):
            if empty:
                remove(folder)
            if folder.is_symlink():
                folder.unlink()
            folder.mkdir(parents=True, exist_ok=True)
            for path in folder.rglob("*"):  # a training writes files into it by name
                if path.is_symlink():
                    path.unlink(missing_ok=True)
        return folder

    def finish_variant(self, key: str, receipt: Json) -> Path:
        """Put a trained variant in its place: its receipt is written, the folder renamed, its checkpoints deleted."""
        making, place = self.making_folder(key), within(self.folder, f"variants/{key}")
        with disk_errors(self.folder):
            write_whole(making / "receipt.json", sealed(_receipt(key), receipt))
            remove(place)
            making.rename(place)
        with suppress(OSError):
            remove(place / "checkpoints")
        return place

    def awaits_its_place(self, key: str) -> bool:
        """Whether `finish_if_trained` has something to do."""
        return (self.folder / f"variants/{key}.making/receipt.json").exists()

    def finish_if_trained(self, key: str) -> None:
        """Put a variant in its place if the process was killed between the end of training and that."""
        with suppress(Broken, ValueError):  # then it goes on from its last checkpoint
            content = self._content(f"variants/{key}.making/receipt.json")
            if content is not None:
                self.finish_variant(key, unsealed(_receipt(key), content))

    def weights_size(self, key: str) -> int:
        """The bytes that `drop_weights` would free."""
        folder = self.variant_folder(key)
        if folder.is_symlink() or not self._has_files(key):
            return 0
        return size_on_disk(folder) - size_on_disk(folder / "receipt.json")

    def drop_weights(self, key: str) -> int:
        """Delete all files of a variant except its receipt; returns the number of bytes freed.

        A marker comes first and goes last, so that half of the weights never counts as weights that have changed. A
        link to a folder elsewhere is deleted, and not what is there.
        """
        folder, freed = within(self.folder, f"variants/{key}"), 0
        if folder.is_symlink():
            receipt = self.variant_receipt(key)
            folder.unlink()
            if receipt is not None:
                self._write_sealed(_receipt(key), receipt)
            return 0
        if not self._has_files(key) and not (folder / DROPPED).exists():
            return 0
        write_whole(folder / DROPPED, "")
        for path in folder.iterdir():
            if path.name not in ("receipt.json", DROPPED):
                freed += size_on_disk(path)
                remove(path)
        remove(folder / DROPPED)
        return freed

    # --- what is known of any variant ------------------------------------------------------------------

    def inside(self) -> dict[str, Json]:
        """What was measured inside the variants, by variant key."""
        keys = [path.stem for path in self._entries("inside") if path.suffix == ".json"]
        return {key: inside for key in keys if (inside := self.inside_of(key)) is not None}

    def inside_of(self, key: str) -> Json | None:
        """What was measured inside one variant; None if nothing was, or if the file is broken."""
        return self._sealed_or_none(_inside(key), "it is left out until `spillover run FILE` measures it again")

    def write_inside(self, key: str, inside: Json) -> None:
        self._write_sealed(_inside(key), inside)


def _receipt(key: str) -> str:
    return f"variants/{key}/receipt.json"


def _inside(key: str) -> str:
    return f"inside/{key}.json"

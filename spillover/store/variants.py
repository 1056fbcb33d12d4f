"""Trained variants on disk: their weights, their receipts, and a lock for each of them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .. import models
from ..disk import size_on_disk, write_whole
from .folder import Folder, Json, pretty


class Variants(Folder):
    """What is stored of the variants that were trained here, by the variant's key."""

    @contextmanager
    def lock_variant(self, key: str, name: str) -> Iterator[None]:
        """Hold one variant. Raises StoreBusy, with the variant's `name`, if another process holds it."""
        with self._held(f"locks/{key}", f"another process is working on the variant {name!r}", "wait for it"):
            yield

    def variant_folder(self, key: str) -> Path:
        """The folder of a variant's weights, for who loads them. It exists once the variant is trained."""
        return self.folder / "variants" / key

    def variant_receipt(self, key: str) -> Json | None:
        """The receipt of a trained variant, also when its weights have been deleted since."""
        return self._read(f"variants/{key}/receipt.json")

    def has_weights(self, key: str) -> bool:
        """Whether the weights of a trained variant are on disk."""
        return any(self.variant_folder(key).glob(models.WEIGHTS))

    def present_weights(self, key: str) -> str | None:
        """The hash of a trained variant's weights as they are now; None for a variant that was not trained here.

        Weights that were deleted count as unchanged. Hashing takes time, so `models.weights_sha256` remembers the hash
        of a file in the user's cache folder until the file's size or time of change differs.
        """
        receipt = self.variant_receipt(key)
        if receipt is None:
            return None
        return models.weights_sha256(self.variant_folder(key)) if self.has_weights(key) else str(receipt["weights"])

    def were_changed(self, key: str) -> bool:
        """Whether the weights of a trained variant are not those that its training left there."""
        receipt = self.variant_receipt(key)
        return receipt is not None and self.present_weights(key) != receipt["weights"]

    def making_folder(self, key: str) -> Path:
        """Where a variant is trained. The checkpoints of a training that was killed are still there."""
        folder = self.variant_folder(f"{key}.making")
        with self._disk_errors():
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    def finish_variant(self, key: str, receipt: Json) -> Path:
        """Put a trained variant in its place: its receipt is written, the folder renamed, its checkpoints deleted."""
        making, place = self.making_folder(key), self.variant_folder(key)
        with self._disk_errors():
            write_whole(making / "receipt.json", pretty(receipt))
            if place.exists():
                shutil.rmtree(place)
            making.rename(place)
        shutil.rmtree(place / "checkpoints", ignore_errors=True)
        return place

    def finish_if_trained(self, key: str) -> None:
        """Put a variant in its place if the process was killed between the end of training and that."""
        receipt = self._read(f"variants/{key}.making/receipt.json")
        if receipt is not None:
            self.finish_variant(key, receipt)

    def weights_size(self, key: str) -> int:
        """Bytes that a variant takes on disk."""
        return size_on_disk(self.variant_folder(key))

    def drop_weights(self, key: str) -> int:
        """Delete all files of a variant except its receipt; returns the number of bytes freed."""
        folder = self.variant_folder(key)
        freed = 0
        for path in sorted(folder.rglob("*"), reverse=True) if folder.is_dir() else []:
            if path.is_file() and path != folder / "receipt.json":
                freed += path.stat().st_size
                path.unlink(missing_ok=True)
            elif path.is_dir():
                with suppress(OSError):
                    path.rmdir()
        return freed

"""Objects at a URL of any file system that fsspec knows: listed, read, written, created if they are absent, deleted.

A request that fails for a reason that may pass is repeated, with longer and longer waits. What remains is one line.
Nothing is remembered of earlier listings. An object store shows an object as a whole or not at all.

`create` is the one operation that decides between several writers: of many who create the same name, one succeeds. A
request that is repeated may meet its own object, so after a refusal the object is read: if it is what was to be
written, it is taken for one's own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit
from uuid import uuid4

from ..errors import StoreError, shortened
from .place import refuse_credentials

WAITS_S = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0)  # before each repetition
AT_ONCE = 16  # requests
PACKAGES = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
}
FINAL = (PermissionError, ImportError, NotImplementedError)
FINAL_NAMES = ("NoCredentialsError", "PartialCredentialsError", "ParamValidationError", "ProfileNotFound")
STAMPS = ("ETag", "etag", "generation", "content_md5", "LastModified", "last_modified", "mtime", "created")

Made = TypeVar("Made")


class Objects:
    """The objects below a URL, by their names there. Raises StoreError for a URL that cannot be used."""

    def __init__(self, url: str) -> None:
        refuse_credentials(url)
        self.url, kind = url, urlsplit(url).scheme
        try:
            from fsspec.core import url_to_fs

            self.fs, root = url_to_fs(url, use_listings_cache=False)
        except Exception as error:  # each file system has its own
            package = PACKAGES.get(kind)
            missing = isinstance(error, ImportError) and package is not None
            what = f"{kind}:// needs the package {package}" if missing else f"cannot be used: {error}"
            allowed = f"pip install {package}" if missing else "a folder, or s3://BUCKET/FOLDER, gs://, az://"
            raise StoreError(what, where=url, allowed=allowed) from None
        self.root = str(root).rstrip("/")

    # --- reading ---------------------------------------------------------------------------------------

    def listing(self, under: str = "") -> dict[str, str]:
        """The name of every object, and a stamp that differs once the object has changed."""
        place = f"{self.root}/{under}".rstrip("/")

        def find() -> dict[str, Any]:
            self.fs.invalidate_cache()
            try:
                return dict(self.fs.find(place, detail=True))
            except FileNotFoundError:
                return {}

        found = self._tried("cannot be listed", under, find)
        return {name[len(self.root) + 1 :]: _stamp(info) for name, info in found.items() if name != place}

    def stamp(self, name: str) -> str | None:
        """The stamp of one object; None if there is none."""

        def info() -> dict[str, Any]:
            self.fs.invalidate_cache()
            return dict(self.fs.info(self._at(name)))

        with suppress(FileNotFoundError):
            return _stamp(self._tried("cannot be read", name, info))
        return None

    def get(self, name: str) -> bytes | None:
        """The content of an object; None if there is none."""
        with suppress(FileNotFoundError):
            return bytes(self._tried("cannot be read", name, lambda: self.fs.cat_file(self._at(name))))
        return None

    def get_each(self, names: Iterable[str]) -> dict[str, bytes | None]:
        return self._each(names, self.get)

    def get_file(self, name: str, path: Path) -> bool:
        """Copy an object to a file; False if there is no such object."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            self._tried("cannot be read", name, lambda: self.fs.get_file(self._at(name), str(path)))
            return True
        return False

    # --- writing ---------------------------------------------------------------------------------------

    def put(self, name: str, content: bytes) -> None:
        """Write an object, in place of one that is there."""
        self._written(name, lambda: self.fs.pipe_file(self._at(name), content))

    def put_files(self, files: Mapping[str, Path]) -> None:
        """Write files as objects."""
        self._each(files, lambda name: self._written(name, lambda: self.fs.put_file(str(files[name]), self._at(name))))

    def create(self, name: str, content: bytes) -> bool:
        """Write an object unless there is one; returns whether what is there now is `content`."""

        def pipe() -> bool:
            try:
                self.fs.pipe_file(self._at(name), content, mode="create")
            except Exception:
                there = self.get(name)  # the condition did not hold, or only the answer was lost
                if there is None:
                    raise
                return there == content
            return True

        return self._written(name, pipe)

    def prove_create(self) -> None:
        """Raises StoreError if the file system replaces an object that was to be created only if absent."""
        name = f"probe/{uuid4().hex}"
        try:
            if not self.create(name, b"1") or self.create(name, b"2"):
                what = "the storage replaces an object although it was told to create it only if absent"
                allowed = "storage with conditional writes, such as S3, GCS, MinIO since 2024"
                raise StoreError(what, where=self.url, allowed=allowed)
        finally:
            self.delete([name])

    def delete(self, names: Iterable[str]) -> None:
        """Delete objects, if they are there."""

        def remove(name: str) -> None:
            with suppress(FileNotFoundError):
                self._tried("cannot be deleted", name, lambda: self.fs.rm_file(self._at(name)))

        self._each(names, remove)

    # --- repeating -------------------------------------------------------------------------------------

    def _at(self, name: str) -> str:
        return f"{self.root}/{name}"

    def _each(self, names: Iterable[str], do: Callable[[str], Made]) -> dict[str, Made]:
        names = list(names)
        if len(names) < 2:
            return {name: do(name) for name in names}
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return dict(zip(names, pool.map(do, names), strict=True))

    def _written(self, name: str, call: Callable[[], Made]) -> Made:
        try:
            return self._tried("cannot be written", name, call)
        except FileNotFoundError as error:
            what = f"cannot be written: {_said(error)}"
            raise StoreError(what, where=self.url, allowed="a bucket that is there") from None

    def _tried(self, what: str, name: str, call: Callable[[], Made]) -> Made:
        """What `call` returns. Raises FileNotFoundError, and StoreError for what does not pass or is final."""
        for wait in (*WAITS_S, None):
            try:
                return call()
            except (FileNotFoundError, StoreError, TypeError, AttributeError):
                raise
            except Exception as error:
                final = isinstance(error, FINAL) or type(error).__name__ in FINAL_NAMES
                if wait is None or final:
                    tries = "" if final else f" ({len(WAITS_S) + 1} tries)"
                    line = f"{what}: {_said(error)}{tries}"
                    allowed = "see permissions and credentials" if final else "run again: what is there is kept"
                    raise StoreError(line, where=f"{self.url}/{name}".rstrip("/"), allowed=allowed) from None
                time.sleep(wait)
        raise AssertionError


def _said(error: Exception) -> str:
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return shortened(said or type(error).__name__, 150)


def _stamp(info: Mapping[str, Any]) -> str:
    mark = next((str(info[key]) for key in STAMPS if info.get(key) is not None), "")
    return f"{info.get('size')} {mark}"

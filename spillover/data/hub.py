"""Data sets from the Hugging Face hub, and a quick error of one line where they are not available.

Before `datasets.load_dataset`, the hub is asked with a short timeout which commit the revision is: that commit is read
and recorded. So a hub that is out of reach shows in seconds, and is not asked again by this process. The library's
cache still serves what was read before. Every failure becomes one `SourceUnavailable` line.

`datasets` 4 and later refuses sets that were published as a loading script. The hub keeps a converted copy of most, at
revision `refs/convert/parquet`, which is tried then.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ..errors import SourceUnavailable
from ..experiment.suite import Source
from .files import Row

CONVERTED = "refs/convert/parquet"
TIMEOUT_S = 5.0
PROBE = "allenai/ai2_arc"  # any public set: whether the hub answers

_out_of_reach: str | None = None
"""Why the hub cannot be reached, once that is known. It is kept until the process ends."""


@dataclass(frozen=True)
class HubSplit:
    """The rows of one split, read on demand. `commit` is the commit of the revision (None: from the cache)."""

    rows: Sequence[Row]
    commit: str | None


def read_hub(source: Source) -> HubSplit:
    """The rows of a hub source. Raises SourceUnavailable where they are not available."""
    assert source.hub
    try:
        return _read(source.hub, source.config, source.split or "train", source.revision)
    except _Failed as failure:
        raise SourceUnavailable(str(failure), where=str(source)) from None


class _Failed(Exception):
    """Why a data set is not available, in one line."""

    @classmethod
    def because(cls, error: BaseException) -> _Failed:
        lines = str(error).strip().splitlines()
        return cls(lines[0] if lines else type(error).__name__)


@lru_cache(maxsize=16)
def _read(repo: str, config: str | None, split: str, revision: str | None) -> HubSplit:
    with quiet():
        commit = _commit(repo, revision)
        try:
            return _load(repo, config, split, commit)
        except _Failed as failure:
            if "scripts are no longer supported" not in str(failure) or revision == CONVERTED:
                raise
            return _load(repo, config, split, _commit(repo, CONVERTED))


def why_offline() -> str | None:
    """Why the hub is not asked, or None where it is."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    if os.environ.get("HF_DATASETS_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return "HF_DATASETS_OFFLINE is set"
    return _out_of_reach


def _commit(repo: str, revision: str | None) -> str | None:
    """The present commit of `revision`, or None where the hub cannot be asked."""
    global _out_of_reach
    from huggingface_hub import HfApi, errors

    if why_offline():
        return None
    try:
        return HfApi().dataset_info(repo, revision=revision, timeout=TIMEOUT_S).sha
    except errors.GatedRepoError:
        raise _Failed("is gated: accept its terms on the hub and log in with `hf auth login`") from None
    except errors.RevisionNotFoundError:
        raise _Failed(f"has no revision {revision!r}") from None
    except errors.RepositoryNotFoundError:
        raise _Failed("no such data set on the hub, or it is private") from None
    except (errors.HfHubHTTPError, errors.HFValidationError) as error:
        raise _Failed.because(error) from None
    except Exception as error:
        # Any other error is one of the network, raised by the HTTP library that this version uses.
        _out_of_reach = f"the hub is out of reach: {_Failed.because(error)}"
        return None


def _load(repo: str, config: str | None, split: str, commit: str | None) -> HubSplit:
    import datasets

    why = why_offline()
    online = datasets.config.HF_HUB_OFFLINE
    try:
        # Offline, the library reads its cache at once instead of retrying for half a minute.
        datasets.config.HF_HUB_OFFLINE = online or bool(why)
        rows: Any = datasets.load_dataset(repo, config, split=split, revision=commit)
    except Exception as error:  # the library raises a dozen kinds; all mean that there are no rows
        raise (_Failed(why) if why else _Failed.because(error)) from None
    finally:
        datasets.config.HF_HUB_OFFLINE = online
    return HubSplit(rows, commit)


@contextmanager
def offline_where_out_of_reach(asks: bool) -> Iterator[None]:
    """Within, `datasets` fails at once where the hub cannot be reached, instead of retrying for half a minute.

    `asks`: whether the hub may be asked. If not, nothing changes.
    """
    import datasets

    online = datasets.config.HF_HUB_OFFLINE
    if asks:
        with quiet(), suppress(_Failed):
            _commit(PROBE, None)
        datasets.config.HF_HUB_OFFLINE = online or bool(why_offline())
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = online


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars and no log lines of `datasets` and `huggingface_hub` within."""
    import datasets
    import huggingface_hub

    libraries = (datasets.utils, huggingface_hub.utils)
    levels = [library.logging.get_verbosity() for library in libraries]
    shown = [not library.are_progress_bars_disabled() for library in libraries]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for library in libraries:
            library.logging.set_verbosity(50)  # logging.CRITICAL
            library.disable_progress_bars()
        try:
            yield
        finally:
            for library, level, bar in zip(libraries, levels, shown, strict=True):
                library.logging.set_verbosity(level)
                if bar:
                    library.enable_progress_bars()

"""What is installed with `-c constraints.txt` is pinned, what the extras bring included."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires

import pytest
from packaging.requirements import Requirement
from paths import ROOT


def key(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def needed(name: str, extras: frozenset[str], seen: set[tuple[str, frozenset[str]]]) -> Iterator[str]:
    """A package and all that it needs here; what is not installed is not followed."""
    if (key(name), extras) in seen:
        return
    seen.add((key(name), extras))
    yield key(name)
    try:
        wanted = [Requirement(line) for line in requires(name) or []]
    except PackageNotFoundError:
        return
    for one in wanted:
        if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield from needed(one.name, frozenset(one.extras), seen)


@pytest.mark.parametrize(
    "extra", ["test", pytest.param("lm-eval", marks=pytest.mark.lm_eval), "bench", "ray", "s3", "s3-server"]
)
def test_every_package_is_pinned(extra: str) -> None:
    pinned = {key(line.split("==")[0]) for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    found = set(needed("spillover", frozenset([extra]), set())) - {"spillover"}
    assert len(found) > 50 and found <= pinned, sorted(found - pinned)

"""Fixtures: output folders for the tests of analysis and report, each made once a session."""

from __future__ import annotations

from pathlib import Path

import fakestore
import pytest

from spillover.analysis import table


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished experiment."""
    return fakestore.write_store(tmp_path_factory.mktemp("store"), fakestore.make_grid())


@pytest.fixture(scope="session")
def results(folder: Path) -> table.Results:
    return table.load(folder)


@pytest.fixture(scope="session")
def partial_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped some way into its last variant."""
    return fakestore.write_store(tmp_path_factory.mktemp("partial"), fakestore.make_grid(), missing=20)


@pytest.fixture(scope="session")
def partial(partial_folder: Path) -> table.Results:
    return table.load(partial_folder)


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    grid = fakestore.make_grid(variants=fakestore.VARIANTS[:1])
    return fakestore.write_store(tmp_path_factory.mktemp("base"), grid)


@pytest.fixture(scope="session")
def base_only(base_folder: Path) -> table.Results:
    return table.load(base_folder)


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> table.Results:
    """Two of the study's five training sets on all of its test sets."""
    return table.load(fakestore.write_store(tmp_path_factory.mktemp("study"), fakestore.study_grid(rows=4)))

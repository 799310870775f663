"""Fixtures of the tests of downloads."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.mlhub_catalog import serving
from helpers.mlhub_server import MLHubServer


@pytest.fixture(autouse=True)
def no_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the user's profile of the MLHub client."""
    monkeypatch.setenv("MLHUB_HOME", str(tmp_path / "home"))


@pytest.fixture
def mlhub(monkeypatch: pytest.MonkeyPatch) -> Iterator[MLHubServer]:
    """A server of Radiant MLHub."""
    with serving(monkeypatch) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of catalogs."""
    return tmp_path / "catalogs"

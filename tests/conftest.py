"""What several test modules lean on."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import FileServer

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data, which no repository holds: LANDSEG_TEST_DATA, else beside this one."""
    folder = Path(os.environ.get("LANDSEG_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no real data: set LANDSEG_TEST_DATA")
    return folder


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A file server on the loopback, which no proxy stands before."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with FileServer() as running:
        yield running

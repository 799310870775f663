"""What several test modules lean on."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.root import ROOT
from helpers.servers import FileServer

# The tests start hundreds of processes. Without cached byte code, each compiles all its libraries again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # every core has a process of tests already

#: Files that take minutes: begun last, one process would work on them while all others are done.
_LONG = ("test_studies.py", "test_dependencies.py", "test_train_stage.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest."""
    items.sort(key=lambda item: _LONG.index(item.path.name) if item.path.name in _LONG else len(_LONG))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data, which no repository holds: LANDSEG_TEST_DATA, else beside this one."""
    folder = Path(os.environ.get("LANDSEG_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no real data: set LANDSEG_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def source(real_data: Path) -> Any:
    """Return a folder of real data by its name."""

    def folder(name: str) -> Path:
        if not (real_data / name).is_dir():
            pytest.skip(f"no {name}")
        return real_data / name

    return folder


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny project, ready to train on. Whoever changes anything takes a copy."""
    from helpers.tiles import make_project  # it leans on this module

    folder = tmp_path_factory.mktemp("tiny")
    make_project(folder)
    return folder


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Sums depend on how many threads share them."""
    import torch  # seconds, which other modules do without

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A file server on the loopback, which no proxy stands before."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with FileServer() as running:
        yield running

"""Parallel maps: order, errors, killed processes and bounded memory."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import pytest
from joblib.externals.loky import get_reusable_executor

from landseg.core.errors import LandsegError
from landseg.core.parallel import parallel_map, prefetch, thread_map

MESSAGE = (
    "compute.workers: the system killed one of 2 processes, probably because memory ran out; lower the number, or free "
    "some memory and run again"
)


@pytest.fixture(autouse=True, scope="module")
def _pool() -> Iterator[None]:
    yield
    get_reusable_executor().shutdown(wait=True)


@pytest.mark.parametrize("workers", [1, 2])
def test_results_and_errors_come_in_order(workers: int) -> None:
    def check(item: int) -> int:  # nested, so that it is pickled by value: processes cannot import test modules
        if item == 3:
            raise LandsegError("item 3: invalid; replace it")
        return item

    assert list(parallel_map(check, [2, 1, 0], workers)) == [2, 1, 0]
    with pytest.raises(LandsegError, match=r"^item 3: invalid; replace it$"):
        list(parallel_map(check, [0, 3, 3], workers))


def test_kept_processes_follow_to_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        Path("name.txt").write_text(name)
        assert list(parallel_map(Path.read_text, [Path("name.txt")] * 4, 2)) == [name] * 4


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_killed_process() -> None:
    def kill(item: int) -> int:
        """Do what the system does to a process when memory runs out."""
        if item == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return item

    with pytest.raises(LandsegError, match=f"^{MESSAGE}$"):
        list(parallel_map(kill, range(4), 2))
    assert list(parallel_map(abs, [-1, -2, -3], 2)) == [1, 2, 3]


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_killed_process_is_reported_in_one_line() -> None:
    script = """
import os, signal
from landseg.core.errors import reporting
from landseg.core.parallel import parallel_map
with reporting("params.yaml"):
    list(parallel_map(lambda item: os.kill(os.getpid(), signal.SIGKILL), range(4), 2))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.strip() == f"error: params.yaml: {MESSAGE}"


@pytest.mark.parametrize("threads", [1, 3])
def test_thread_map_keeps_the_order_and_few_items(threads: int) -> None:
    drawn = []

    def items() -> Iterator[int]:
        for item in range(20):
            drawn.append(item)
            yield item

    for result in thread_map(abs, items(), threads, pending=4):
        assert result <= drawn[-1] <= result + 4
    assert drawn == list(range(20))


def test_prefetch_draws_one_item_ahead() -> None:
    drawn, following = [], [threading.Event() for _ in range(5)]

    def items() -> Iterator[int]:
        assert threading.current_thread() is not threading.main_thread()
        for item in range(5):
            drawn.append(item)
            following[item].set()
            yield item

    for item in prefetch(items()):
        if item < 4:
            assert following[item + 1].wait(10)
        assert drawn == list(range(min(item + 2, 5)))


def test_prefetch_passes_errors_on() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise LandsegError("a.tif: damaged; replace it")

    reading = prefetch(items())
    assert next(reading) == 1
    with pytest.raises(LandsegError, match=r"^a\.tif: damaged; replace it$"):
        next(reading)


@pytest.mark.parametrize("most", [1, 3, 9])
def test_prefetch_runs_and_closes_a_generator_in_one_thread(most: int) -> None:
    threads = set()

    def items() -> Iterator[int]:
        try:
            for item in range(5):
                threads.add(threading.get_ident())
                yield item
        finally:
            threads.add(threading.get_ident())

    with closing(prefetch(items())) as results:
        assert list(islice(results, most)) == list(range(min(most, 5)))
    assert len(threads) == 1
    assert threading.get_ident() not in threads

"""Work side by side: what the system does to a process becomes a sentence."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from joblib.externals.loky import get_reusable_executor

from landseg.core.errors import LandsegError
from landseg.core.parallel import parallel_map

SENTENCE = "params.yaml: compute.workers: one of 2 processes was ended by the system, most likely for want of memory"


@pytest.fixture(autouse=True)
def pool() -> Iterator[None]:
    yield
    get_reusable_executor().shutdown(wait=True)


def fall(item: int) -> int:
    """Do what the system does to a process when memory runs out."""
    if item == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_process_that_the_system_ends() -> None:
    with pytest.raises(LandsegError, match=SENTENCE):
        list(parallel_map(fall, range(4), 2))


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_it_ends_in_one_line_and_an_exit_code() -> None:
    script = """
import os, signal
from landseg.core.errors import reporting
from landseg.core.parallel import each
with reporting():
    list(each(lambda item: os.kill(os.getpid(), signal.SIGKILL), range(4), 2))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.strip() == f"error: {SENTENCE}; set a smaller number, or free some memory, and run again"


def test_work_afterwards() -> None:
    with pytest.raises(LandsegError):
        list(parallel_map(fall, range(4), 2))
    assert list(parallel_map(abs, [-1, -2, -3], 2)) == [1, 2, 3]

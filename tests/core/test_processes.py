"""Processes that are killed, ended or run twice: what they leave, and what the next one does."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent

import psutil
import pytest
from helpers.root import ROOT

pytestmark = pytest.mark.faults

WRITES = """
    import sys, time
    from pathlib import Path
    from landseg.core.errors import reporting
    from landseg.core.files import atomic

    with reporting(), atomic(Path(sys.argv[1])) as temporary:
        {write}
        print("writing", flush=True)
        time.sleep({seconds})
"""
KINDS = {
    "file": "temporary.write_text('half')",
    "folder": "temporary.mkdir(); (temporary / 'member').write_text('half')",
}


@contextmanager
def started(program: str, *arguments: object) -> Iterator["subprocess.Popen[str]"]:
    """Start a program, wait for its first line, and kill it at the end."""
    # Processes that a shell starts in the background ignore Ctrl-C, and so do theirs.
    interruptible = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    command = [sys.executable, "-c", interruptible + dedent(program), *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    with subprocess.Popen(
        command, text=True, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout
            process.stdout.readline()
            yield process
        finally:
            process.kill()


def run(program: str, *arguments: object) -> None:
    with started(program, *arguments) as process:
        assert process.wait(60) == 0


class TestHalfWritten:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("suffix", [".tif", ""])
    def test_leftovers_of_a_killed_process_are_removed_by_the_next(
        self, tmp_path: Path, kind: str, suffix: str
    ) -> None:
        path = tmp_path / f"out{suffix}"
        with started(WRITES.format(write=KINDS[kind], seconds=60), path) as process:
            process.kill()
            process.wait()
        (left,) = tmp_path.iterdir()
        assert left.name.startswith(f".out{suffix}.")
        run(WRITES.format(write=KINDS[kind], seconds=0), path)
        assert list(tmp_path.iterdir()) == [path]

    def test_those_of_a_running_process_are_kept(self, tmp_path: Path) -> None:
        with started(WRITES.format(write=KINDS["file"], seconds=60), tmp_path / "a"):
            run(WRITES.format(write=KINDS["file"], seconds=0), tmp_path / "b")
            assert sorted(path.name[:3] for path in tmp_path.iterdir()) == [".a.", "b"]

    @pytest.mark.parametrize("name", [".out.tif.part", ".out.tif.0.swp", ".gitignore"])
    def test_files_of_other_programs_are_kept(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).touch()
        run(WRITES.format(write=KINDS["file"], seconds=0), tmp_path / "out.tif")
        assert (tmp_path / name).is_file()

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
    def test_signals_leave_nothing(self, tmp_path: Path, kind: str, number: signal.Signals) -> None:
        with started(WRITES.format(write=KINDS[kind], seconds=60), tmp_path / "out.tif") as process:
            process.send_signal(number)
            _, errors = process.communicate(timeout=60)
        assert process.returncode == 128 + number
        assert errors == ("interrupted\n" if number == signal.SIGINT else f"ended by {number.name}\n")
        assert list(tmp_path.iterdir()) == []


LOCKS = """
    import sys, time
    from pathlib import Path
    from landseg.core.errors import reporting
    from landseg.core.files import locked

    with reporting(), locked(Path(sys.argv[1]), "somewhere: another process is there; wait for it"):
        print("locked", flush=True)
        time.sleep(float(sys.argv[2]))
"""


def test_interrupted_stage_says_at_once_what_is_kept() -> None:
    program = """
        import time
        from landseg.core.errors import STAGE_INTERRUPTED, reporting

        with reporting("params.yaml", STAGE_INTERRUPTED):
            print("working", flush=True)
            try:
                time.sleep(60)
            finally:
                time.sleep(2)  # as the end of training does
    """
    with started(program) as process:
        process.send_signal(signal.SIGINT)
        began = time.perf_counter()
        assert process.stderr
        assert process.stderr.readline() == (
            "interrupted; finished stages and the last checkpoint are kept, and `dvc repro` goes on from there; DVC "
            "reports a failed stage\n"
        )
        assert time.perf_counter() - began < 1.5
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "")


class TestLock:
    def test_second_process_is_refused_until_the_first_ends(self, tmp_path: Path) -> None:
        path = tmp_path / "state/run.lock"
        with started(LOCKS, path, 60) as first:
            with started(LOCKS, path, 0) as second:
                _, errors = second.communicate(timeout=60)
            assert (second.returncode, errors) == (1, "error: somewhere: another process is there; wait for it\n")
            first.send_signal(signal.SIGTERM)
            first.wait()
        assert not path.parent.exists()
        run(LOCKS, path, 0)

    def test_killed_process_holds_no_lock(self, tmp_path: Path) -> None:
        path = tmp_path / "run.lock"
        with started(LOCKS, path, 60) as first:
            first.kill()
            first.wait()
        assert path.is_file()
        run(LOCKS, path, 0)
        assert not path.exists()


WORKS = """
    import os, time
    from landseg.core.parallel import parallel_map

    def work(seconds):
        time.sleep(seconds)
        return os.getpid()

    if __name__ == "__main__":
        for pid in parallel_map(work, [0.2] * 4 + [60] * 4, workers=2):
            print(pid, flush=True)
"""


def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    """They would go on for a minute, and hold the output of the stage open."""
    script = tmp_path / "works.py"
    script.write_text(dedent(WORKS))
    with started(f"import runpy; runpy.run_path({str(script)!r}, run_name='__main__')") as process:
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) >= 2
        process.kill()
        started_at = time.perf_counter()
        _, alive = psutil.wait_procs(children, timeout=20)
        assert alive == []
        assert time.perf_counter() - started_at < 20

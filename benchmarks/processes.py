"""Time and peak memory of a command with all its child processes. Linux only: it reads /proc."""

import os
import re
import resource
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

_PEAK = re.compile(r"VmHWM:\s*(\d+)")
_PROPORTIONAL = re.compile(r"^Pss:\s*(\d+)", re.MULTILINE)
_INTERVAL = 0.2  # s
#: Samples of peak memory for one of proportional memory, for which the kernel walks all pages of a process.
_PROPORTIONAL_EVERY = 5


def run_measured(
    command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None, proportional: bool = False
) -> dict[str, float]:
    """Run a command in a folder; return its time, its CPU time, and the sum of the peak memory of its processes.

    Args:
        command: the command.
        folder: where it runs; its output goes into the file `log` there.
        environment: all its environment variables; None: those of this process.
        proportional: whether to measure `pss_mib` as well, once a second: the peak of the memory of all processes
            together, in which pages that they share count once.

    Raises:
        SystemExit: the command failed.
    """
    before, start = children_cpu_seconds(), time.perf_counter()
    peaks: dict[int, int] = {}
    together, samples = 0, 0
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=environment)
        while process.poll() is None:
            # Peaks never fall, so the last sample of a process is enough; it ends shortly after.
            peaks |= {pid: peak for pid in _tree(process.pid) if (peak := _kilobytes(pid, "status", _PEAK))}
            if proportional and samples % _PROPORTIONAL_EVERY == 0:
                sizes = (_kilobytes(pid, "smaps_rollup", _PROPORTIONAL) for pid in _tree(process.pid))
                together = max(together, sum(sizes))
            samples += 1
            time.sleep(_INTERVAL)
    seconds, busy = time.perf_counter() - start, children_cpu_seconds() - before
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{(folder / 'log').read_text()}")
    return {
        "seconds": seconds,
        "cpu_seconds": busy,
        "peak_mib": sum(peaks.values()) / 1024,
        "driver_mib": peaks.get(process.pid, 0) / 1024,
        "processes": len(peaks),
        **({"pss_mib": together / 1024} if proportional else {}),
    }


def children_cpu_seconds() -> float:
    """Return the CPU time of all child processes that have ended and were waited for, s."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def cpu_seconds() -> float:
    """Return the CPU time of this process and of its descendants so far, s; of ended ones if they were waited for."""
    ticks = 0
    for pid in _tree(os.getpid()):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:  # the process has ended
            continue
        ticks += sum(map(int, fields[11:15]))  # utime, stime, cutime, cstime
    return ticks / os.sysconf("SC_CLK_TCK")


def _tree(root: int) -> Iterator[int]:
    """Yield the ids of a process and of all its descendants."""
    children = defaultdict(list)
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
        except OSError:  # the process has ended
            continue
        children[int(parent)].append(int(folder.name))
    waiting = [root]
    while waiting:
        pid = waiting.pop()
        yield pid
        waiting += children[pid]


def _kilobytes(pid: int, file: str, pattern: re.Pattern[str]) -> int:
    """Return a size in a file of /proc/<pid>, KiB; 0 if the process has ended."""
    try:
        size = pattern.search(Path(f"/proc/{pid}/{file}").read_text())
    except OSError:
        return 0
    return int(size[1]) if size else 0

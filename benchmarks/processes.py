"""Time and peak memory of a command with all its child processes. Linux only: it reads /proc."""

import re
import resource
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

_PEAK = re.compile(r"VmHWM:\s*(\d+)")
_INTERVAL = 0.2  # s


def run_measured(command: Sequence[str], folder: Path) -> dict[str, float]:
    """Run a command in a folder; return its time, its CPU time, and the sum of the peak memory of its processes.

    Raises:
        SystemExit: the command failed.
    """
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    peaks: dict[int, int] = {}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        while process.poll() is None:
            # Peaks never fall, so the last sample of a process is enough; it ends shortly after.
            peaks |= {pid: peak for pid in _tree(process.pid) if (peak := _peak(pid))}
            time.sleep(_INTERVAL)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{(folder / 'log').read_text()}")
    return {
        "seconds": seconds,
        "cpu_seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "peak_mib": sum(peaks.values()) / 1024,
        "driver_mib": peaks.get(process.pid, 0) / 1024,
        "processes": len(peaks),
    }


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


def _peak(pid: int) -> int:
    """Return the peak memory of a process, KiB; 0 if it has ended."""
    try:
        peak = _PEAK.search(Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0
    return int(peak[1]) if peak else 0

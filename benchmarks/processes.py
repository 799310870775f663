"""A command with all its processes: the time it took, and the memory that they held. Linux only, for it reads /proc."""

import re
import resource
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

_PEAK = re.compile(r"VmHWM:\s*(\d+)")
_EVERY = 0.2  # s


def run_measured(command: Sequence[str], folder: Path) -> dict[str, float]:
    """Run a command in a folder; return its time, its processor time, and the sum of its processes' peaks of memory.

    Raises:
        SystemExit: it failed.
    """
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    peaks: dict[int, int] = {}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        while process.poll() is None:
            # A peak never falls, so the last look at a process is all that is needed; it ends a moment later.
            peaks |= {pid: peak for pid in _tree(process.pid) if (peak := _peak(pid))}
            time.sleep(_EVERY)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{(folder / 'log').read_text()}")
    return {
        "seconds": seconds,
        "cpu_seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "peak_mib": sum(peaks.values()) / 1024,
        "processes": len(peaks),
    }


def _tree(root: int) -> Iterator[int]:
    """Yield a process and all that descend from it."""
    children = defaultdict(list)
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
        except OSError:  # it ended
            continue
        children[int(parent)].append(int(folder.name))
    waiting = [root]
    while waiting:
        pid = waiting.pop()
        yield pid
        waiting += children[pid]


def _peak(pid: int) -> int:
    """Return the peak of memory of a process, KiB; 0 where it ended."""
    try:
        found = _PEAK.search(Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0
    return int(found[1]) if found else 0

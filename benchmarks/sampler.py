"""Sample the CPU time of a DVC command by component: python -P benchmarks/sampler.py <result> <argument of dvc>...

The stack is sampled at every millisecond of CPU time; a sample counts for the component of the innermost frame that
belongs to one. Writes seconds by component as JSON. See orchestration.py.
"""

import json
import runpy
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from types import FrameType

#: Components by substrings of file paths.
COMPONENTS = {
    "start: imports": ("<frozen importlib",),
    "reading and writing YAML": ("/ruamel/yaml/", "/dvc/utils/serialize/", "/dvc/utils/strictyaml"),
    "${...} in dvc.yaml": ("/dvc/parsing/", "/pyparsing/"),
    "git": ("/scmrepo/", "/dulwich/", "/pygit2/", "/dvc/scm"),
    "hashes, cache and state": ("/dvc_data/", "/dvc_objects/", "/sqltrie/", "/diskcache/", "/dvc/fs/", "/dvc/ignore"),
    "graph": ("/networkx/", "/dvc/repo/graph", "/dvc/repo/index", "/dvc/repo/trie", "/pygtrie"),
    "stages, dependencies and outputs": (
        "/dvc/stage/",
        "/dvc/dependency/",
        "/dvc/output",
        "/dvc/dvcfile",
        "/voluptuous/",
    ),
}
_STEP = 0.001


def component(frame: FrameType | None) -> str:
    """Return the component of the innermost known frame of a stack."""
    while frame is not None:
        path = frame.f_code.co_filename
        for name, marks in COMPONENTS.items():
            if any(mark in path for mark in marks):
                return name
        frame = frame.f_back
    return "other"


def main() -> None:
    """Run DVC with the given arguments; write its CPU time by component."""
    result, *arguments = sys.argv[1:]
    counted: Counter[str] = Counter()
    signal.signal(signal.SIGPROF, lambda _, frame: counted.update([component(frame)]))
    signal.setitimer(signal.ITIMER_PROF, _STEP, _STEP)
    sys.argv = ["dvc", *arguments]
    try:
        runpy.run_module("dvc", run_name="__main__", alter_sys=True)
    finally:  # DVC raises SystemExit
        signal.setitimer(signal.ITIMER_PROF, 0)
        # The kernel's tick may be longer than the step: shares are sampled, the total is measured.
        unit = time.process_time() / max(1, sum(counted.values()))
        Path(result).write_text(json.dumps({name: round(count * unit, 3) for name, count in counted.most_common()}))


if __name__ == "__main__":
    main()

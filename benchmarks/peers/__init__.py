"""Other projects that do the same work, each in an environment of its own, as the other side of benchmarks.

    python = environment("torchgeo")

uv makes an environment from benchmarks/peers/<peer>.txt when it is first needed, in benchmarks/peers/.environments, which
git ignores, and again when that file changes. No peer is a dependency of landseg. A side is a script in this folder that
imports no landseg; `run_side` runs it by the peer's Python, with a job as JSON, and returns what it prints last, as JSON.
"""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ENVIRONMENTS = HERE / ".environments"
#: What `packages` lists: those that bear on speed.
_LIST = "import json, sys; from importlib.metadata import version; print(json.dumps({n: version(n) for n in sys.argv[1:]}))"


def environment(peer: str) -> Path:
    """Return the Python of a peer's environment; make the environment if it is absent or its packages have changed.

    Raises:
        SystemExit: the environment cannot be made.
    """
    wanted = HERE / f"{peer}.txt"
    digest = hashlib.sha256(wanted.read_bytes() + sys.version.encode()).hexdigest()
    folder, mark = ENVIRONMENTS / peer, ENVIRONMENTS / peer / "made-from"
    python = folder / "bin/python"
    if mark.exists() and mark.read_text() == digest:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    for command in (
        ["uv", "venv", "--quiet", "--python", sys.executable, folder],
        # Byte code at once, as `uv sync --compile-bytecode`: a first start would be slow otherwise.
        ["uv", "pip", "install", "--quiet", "--compile-bytecode", "--python", python, "--requirements", wanted],
    ):
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{peer}: its environment cannot be made: {done.stderr.strip()}")
    mark.write_text(digest)
    return python


def packages(peer: str) -> dict[str, str]:
    """Return the versions of the packages that benchmarks/peers/<peer>.txt names, as installed."""
    lines = (HERE / f"{peer}.txt").read_text().splitlines()
    names = [line.partition("==")[0] for line in lines if not line.startswith("#")]
    done = subprocess.run([environment(peer), "-c", _LIST, *names], capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


def run_side(peer: str, script: str, job: Mapping[str, Any]) -> dict[str, Any]:
    """Run benchmarks/peers/<script>.py with a job, by the Python of a peer; return its result.

    Raises:
        SystemExit: the script failed.
    """
    command = [str(environment(peer)), str(HERE / f"{script}.py"), json.dumps(job)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{peer}: {script} failed:\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result

"""Other projects that do the same work, each in an environment of its own, as the other side of benchmarks.

    python = environment("torchgeo")

uv makes an environment from benchmarks/peers/<peer>.txt when it is first needed, in benchmarks/peers/.environments,
which git ignores, and again when that file changes. No peer is a dependency of landseg. A side is a module here that
imports no landseg; `run_side` runs it by the peer's Python, with a job as JSON, and returns what it prints, as JSON.
The side of landseg is a module in landseg's own environment, which `run_landseg` runs.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from benchmarks.processes import run_measured

Isa = Literal["native", "avx2"]
#: Environment variables that limit the instructions of torch and of oneDNN, as on a CPU without AVX-512 and bf16.
ISA: Mapping[Isa, dict[str, str]] = {
    "native": {},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
}
HERE = Path(__file__).parent
ROOT = HERE.parent.parent
ENVIRONMENTS = HERE / ".environments"
#: PYTHONPATH of the side of landseg.
LANDSEG_PATH = f"{ROOT}:{ROOT / 'src'}"
# Prints the versions of packages as JSON.
_VERSIONS = (
    "import json, sys; from importlib.metadata import version; print(json.dumps({n: version(n) for n in sys.argv[1:]}))"
)


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
    done = subprocess.run([environment(peer), "-c", _VERSIONS, *names], capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


def run_side(peer: str, script: str, job: Mapping[str, Any], isa: Isa = "native") -> dict[str, Any]:
    """Run benchmarks/peers/<script>.py with a job, by the Python of a peer; see `run_job`."""
    return run_job([str(environment(peer)), "-m", f"benchmarks.peers.{script}"], job, isa, PYTHONPATH=str(ROOT))


def run_landseg(job: Mapping[str, Any], isa: Isa = "native") -> dict[str, Any]:
    """Run benchmarks/peer_landseg.py with a job; see `run_job`."""
    return run_job([sys.executable, "-m", "benchmarks.peer_landseg"], job, isa, PYTHONPATH=LANDSEG_PATH)


def run_job(command: Sequence[str], job: Mapping[str, Any], isa: Isa = "native", **variables: str) -> dict[str, Any]:
    """Run a command with a job as its last argument, as JSON.

    Args:
        command: the command.
        job: the job.
        isa: instructions that torch may use.
        variables: environment variables of the command.

    Returns:
        What the command prints as JSON, and as `process` what `run_measured` returns.

    Raises:
        SystemExit: the command failed.
    """
    inherited = clean_environment()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spent = run_measured([*command, json.dumps(job)], folder, inherited | ISA[isa] | variables, proportional=True)
        printed = [line for line in (folder / "log").read_text().splitlines() if line.startswith("{")]
    result: dict[str, Any] = json.loads(printed[-1])
    return {**result, "process": spent}


def clean_environment() -> dict[str, str]:
    """Return the environment variables of this process without those that bear on packages and byte code of Python."""
    left_out = ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH")
    return {name: value for name, value in os.environ.items() if name not in left_out}

"""A SLURM of two nodes on this machine, from the packages slurmctld, slurmd, slurm-client and munge of Debian."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: Programs that it needs.
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "sinfo")
_CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/control
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/control.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/control.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/linear
MpiDefault=none
ReturnToService=2
KillWait=5
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=1
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1
PartitionName=all Nodes=n1,n2 Default=YES State=UP
"""


def missing() -> str:
    """Return why SLURM cannot run here; '' if it can."""
    absent = [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]
    if absent:
        return f"not installed: {', '.join(absent)}"
    return "" if os.geteuid() == 0 else "needs root"


def _path() -> str:
    return f"{os.environ['PATH']}:/usr/sbin"


def _free_ports(count: int) -> list[int]:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


@contextmanager
def slurm(folder: Path) -> Iterator[dict[str, str]]:
    """Run SLURM; yield the environment of its commands."""
    key = folder / "munge/key"
    for name in ("munge", "control", "n1", "n2"):
        (folder / name).mkdir()
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    key.parent.chmod(0o700)
    folder.chmod(0o711)  # munged requires that others can reach its socket
    config = folder / "slurm.conf"
    config.write_text(_CONFIG.format(host=socket.gethostname().split(".")[0], folder=folder, ports=_free_ports(3)))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH"))}
    environment |= {"SLURM_CONF": str(config), "PATH": _path()}
    munge = ["munged", "--force", "--foreground", f"--key-file={key}", f"--socket={folder}/munge.socket"]
    munge += [f"--{name}-file={folder}/munge/{name}" for name in ("pid", "log", "seed")]
    started: list[subprocess.Popen[bytes]] = []
    try:
        for command in (munge, ["slurmctld", "-D"], ["slurmd", "-D", "-N", "n1"], ["slurmd", "-D", "-N", "n2"]):
            with (folder / f"{len(started)}.out").open("w") as output:
                process = subprocess.Popen(command, env=environment, cwd=folder, stdout=output, stderr=output)
            started.append(process)  # each, so that all are ended if one does not start
        deadline = time.monotonic() + 60
        count = ["sinfo", "--noheader", "--states=idle", "--format=%D"]
        while subprocess.run(count, env=environment, capture_output=True, text=True).stdout.strip() != "2":
            assert time.monotonic() < deadline, (folder / "control.log").read_text()
            time.sleep(0.3)
        yield environment
        _end_jobs(environment)
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:  # slurmd, while a job that was cancelled ends
                process.kill()
                process.wait()


def _end_jobs(environment: dict[str, str]) -> None:
    """Wait until all jobs have ended: without the controller, their processes would stay."""
    deadline = time.monotonic() + 30
    while subprocess.run(["squeue", "--noheader"], env=environment, capture_output=True).stdout.strip():
        if time.monotonic() > deadline:
            return
        time.sleep(0.3)

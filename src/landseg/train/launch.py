"""Start the processes of a training run, one per device, watch them, and end them together.

The process that DVC starts trains by itself on one device. For several, it starts one process per device of its node,
with the environment of torchrun, and waits. As soon as one process ends with an error, it ends the others and reports
the error in one sentence, as a run on one device does. Processes end when the process that watches them is killed.

On several nodes, one such process runs on each: SLURM's srun starts them, or the user with MASTER_ADDR, MASTER_PORT and
NODE_RANK.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import NoReturn

from landseg.core.compute import ComputeParams
from landseg.core.errors import LandsegError, ParamsError, os_error_message
from landseg.core.parallel import cores, follow_parent

# Environment variables of a process of several: the descriptor to report errors to, and the process that watches it.
_REPORT, _PARENT = "LANDSEG_REPORT", "LANDSEG_PARENT"
# Present in the environment of a process of several.
_PROCESS_OF_SEVERAL = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
# Seconds between looks at the processes, in which they may end by themselves after one has, and before they are killed.
_LOOK, _GRACE, _END = 0.1, 1.0, 3.0
# Bytes of a report: it is written to a pipe at once, not mixed with others.
_REPORT_BYTES = 3500


def starts_others(compute: ComputeParams) -> bool:
    """Return whether this process has to start those that train: a run on several devices, and it is none of them."""
    return compute.devices * compute.nodes > 1 and not is_process_of_several()


def is_process_of_several() -> bool:
    """Return whether this process was started as one of a group, by `start_processes` or torchrun."""
    return set(_PROCESS_OF_SEVERAL) <= os.environ.keys()


def start_processes(compute: ComputeParams, command: Sequence[str]) -> None:
    """Run a command once per device, on all nodes, until all have ended.

    Args:
        compute: machine settings.
        command: command of the stage.

    Raises:
        LandsegError: there are fewer devices or nodes, a process has raised it, or a process was killed.
        SystemExit: a process has failed.
    """
    from landseg.model.device import accelerator, check_devices  # torch, which other runs do not import twice

    check_devices(accelerator(compute.device), compute.devices, compute.strategy)
    node = _node(compute)
    if node is None:
        _run_srun(compute, command)
    else:
        _run_node(compute, command, node)


@dataclass(frozen=True)
class _Node:
    """A node of a run: its number, from 0, and where the first process listens."""

    number: int
    address: str
    port: int


def _node(compute: ComputeParams) -> _Node | None:
    """Return this node; None if SLURM has yet to start a process on every node.

    Raises:
        ParamsError: the run has several nodes, but nothing tells which one this is.
    """
    environment = os.environ
    if compute.nodes == 1:
        return _Node(0, "127.0.0.1", _free_port())
    if "SLURM_JOB_ID" in environment:
        if (found := int(environment.get("SLURM_JOB_NUM_NODES", 1))) != compute.nodes:
            raise ParamsError(
                f"compute.nodes = {compute.nodes}: the SLURM job has {found} node{'s' if found > 1 else ''}; submit it "
                f"with --nodes={compute.nodes}, or set it to {found}"
            )
        if "SLURM_STEP_ID" not in environment or _PARENT not in environment:
            return None
        return _Node(int(environment["SLURM_NODEID"]), environment["MASTER_ADDR"], int(environment["MASTER_PORT"]))
    if not {"MASTER_ADDR", "MASTER_PORT", "NODE_RANK"} <= environment.keys():
        raise ParamsError(
            f"compute.nodes = {compute.nodes}: this is no SLURM job, and MASTER_ADDR, MASTER_PORT and NODE_RANK are "
            "not set, which tell nodes of each other (see docs/training-devices.md); set them, or compute.nodes to 1"
        )
    return _Node(int(environment["NODE_RANK"]), environment["MASTER_ADDR"], int(environment["MASTER_PORT"]))


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("", 0))
        port: int = listener.getsockname()[1]
        return port


def _run_srun(compute: ComputeParams, command: Sequence[str]) -> None:
    """Run the command on every node of a SLURM job; srun ends all of them if one fails.

    Raises:
        SystemExit: a node has failed; it has said why.
    """
    environment = os.environ | {"MASTER_ADDR": _first_host(), "MASTER_PORT": str(_free_port()), _PARENT: ""}
    srun = ["srun", "--quiet", f"--nodes={compute.nodes}", f"--ntasks={compute.nodes}", "--ntasks-per-node=1"]
    srun += ["--kill-on-bad-exit=1", "--export=ALL"]
    if "SLURM_CPUS_ON_NODE" in environment:
        srun.append(f"--cpus-per-task={environment['SLURM_CPUS_ON_NODE']}")
    process = subprocess.Popen([*srun, *command], env=environment)  # noqa: S603  # the stage's own command
    try:
        code = process.wait()
    finally:
        _end([process])
    if code:
        raise SystemExit(1)


def _first_host() -> str:
    """Return the first node of a SLURM job: this one in a batch script, which runs there, else that of its list."""
    if "SLURMD_NODENAME" in os.environ:
        return socket.gethostname()
    command = ["scontrol", "show", "hostnames", os.environ["SLURM_JOB_NODELIST"]]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0]  # noqa: S603


def _run_node(compute: ComputeParams, command: Sequence[str], node: _Node) -> None:
    """Run the command once per device of this node."""
    reports, report = os.pipe()
    os.set_blocking(reports, False)
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for local in range(compute.devices):
            first = node.number == local == 0
            processes.append(
                subprocess.Popen(  # noqa: S603
                    command,
                    env=_environment(compute, node, local, report),
                    pass_fds=[report],
                    stdin=subprocess.DEVNULL,
                    stdout=None if first else subprocess.DEVNULL,
                    stderr=None if first else subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C is for the process that watches
                )
            )
        codes = _watch(processes)
        _end(processes)
        if any(codes):
            _fail(codes, _read(reports), node, compute)
    finally:
        _end(processes)
        os.close(reports)
        os.close(report)


def _environment(compute: ComputeParams, node: _Node, local: int, report: int) -> dict[str, str]:
    """Return the environment of a process, as torchrun's; processes on a node share its cores."""
    values = {
        "RANK": node.number * compute.devices + local,
        "WORLD_SIZE": compute.nodes * compute.devices,
        "LOCAL_RANK": local,
        "LOCAL_WORLD_SIZE": compute.devices,
        "GROUP_RANK": node.number,
        "MASTER_ADDR": node.address,
        "MASTER_PORT": node.port,
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS") or max(1, cores() // compute.devices),
        _REPORT: report,
        _PARENT: os.getpid(),
    }
    if compute.nodes == 1 and sys.platform == "linux":
        values["GLOO_SOCKET_IFNAME"] = os.environ.get("GLOO_SOCKET_IFNAME", "lo")  # nobody else may connect
    return os.environ | {name: str(value) for name, value in values.items()}


def _watch(processes: Sequence["subprocess.Popen[bytes]"]) -> list[int | None]:
    """Wait until all processes have ended, or one has failed; return their exit codes, None for those that run."""
    failed: float | None = None
    while True:
        codes = [process.poll() for process in processes]
        if all(code is not None for code in codes):
            return codes
        if failed is None and any(codes):
            failed = time.monotonic()
        if failed is not None and time.monotonic() - failed > _GRACE:
            return codes
        time.sleep(_LOOK)


def _end(processes: Sequence["subprocess.Popen[bytes]"]) -> None:
    """End processes that still run, with all that they have started; a process that waits for another needs SIGKILL."""
    for process in processes:
        if process.poll() is None:
            process.terminate()
    deadline = time.monotonic() + _END
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, deadline - time.monotonic()))
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _read(reports: int) -> list[dict[str, str]]:
    """Return what processes have reported, in the order of time."""
    content = b""
    with suppress(BlockingIOError):
        while part := os.read(reports, 1 << 16):
            content += part
    return [json.loads(line) for line in content.splitlines()]


def _fail(
    codes: Sequence[int | None], reports: Sequence[Mapping[str, str]], node: _Node, compute: ComputeParams
) -> NoReturn:
    """Report why a run has failed: an error for the user, else a killed process, else a fault of the program.

    Last comes the loss of another process, because whatever has ended that one says why.
    """
    for report in reports:
        if report["kind"] in ("params", "error"):
            raise (ParamsError if report["kind"] == "params" else LandsegError)(report["message"])
    for local, code in enumerate(codes):
        if code is not None and code < 0:
            number = node.number * compute.devices + local + 1
            memory = ", perhaps because memory ran out" if code == -signal.SIGKILL else ""
            raise LandsegError(
                f"training process {number} of {compute.nodes * compute.devices} was killed (signal {-code}{memory}); "
                "`dvc repro` resumes from the last checkpoint, if there is one"
            )
    if faults := [report["message"] for report in reports if report["kind"] == "fault"]:
        print(faults[0], file=sys.stderr)
    elif reports:
        raise LandsegError(
            f"training ended on node {node.number + 1}, because a process on another node did, which says why"
        )
    else:
        local, code = next((local, code) for local, code in enumerate(codes) if code)
        print(f"error: training process {local + 1} ended with exit code {code}", file=sys.stderr)
    raise SystemExit(1)


@contextmanager
def reporting_to_parent() -> Iterator[None]:
    """In a process that `start_processes` has started: report errors to it, silently, and end when it ends."""
    if os.environ.get(_REPORT) is None:
        yield
        return
    follow_parent(int(os.environ[_PARENT]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)
    try:
        yield
    except (LandsegError, OSError) as error:
        message = os_error_message(error) if isinstance(error, OSError) else str(error)
        if message is None:
            _report("fault", traceback.format_exc())
        else:
            _report("params" if isinstance(error, ParamsError) else "error", message)
        _quit(1)
    except SystemExit as error:
        _quit(error.code if isinstance(error.code, int) else 1)
    except Exception as error:
        _report("peer" if _lost_peer(error) else "fault", traceback.format_exc())
        _quit(1)


def _lost_peer(error: Exception) -> bool:
    """Return whether an error is that of gloo or NCCL when another process has ended."""
    return isinstance(error, RuntimeError) and any(name in str(error) for name in ("gloo", "Gloo", "NCCL", "TCPStore"))


def _leave(number: int, _: object) -> NoReturn:
    raise SystemExit(128 + number)


def _report(kind: str, message: str) -> None:
    while len(line := json.dumps({"kind": kind, "message": message}).encode()) > _REPORT_BYTES:
        message = message[len(message) // 4 :]  # the end of a traceback tells most
    os.write(int(os.environ[_REPORT]), line + b"\n")


def _quit(code: int) -> NoReturn:
    """End at once: to close a process group would wait for the other processes."""
    sys.stdout.flush()
    os._exit(code)

"""Processes of a run: their environment, and how the stage ends if one of them does. They run small commands here."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from landseg.core.compute import ComputeParams
from landseg.core.errors import LandsegError, ParamsError
from landseg.core.parallel import cores
from landseg.train.launch import start_processes, starts_others

pytestmark = pytest.mark.skipif(cores() < 2, reason="a process needs a core")

#: A process that reports its errors as the train stage does.
REPORTING = "from landseg.core.errors import ParamsError\nfrom landseg.train.launch import reporting_to_parent\n"


def compute(**changes: object) -> ComputeParams:
    return ComputeParams.model_validate(
        {"workers": None, "device": "cpu", "devices": 2, "micro_batch": None, "state": ".landseg"} | changes
    )


def start(code: str) -> None:
    start_processes(compute(), [sys.executable, "-c", f"import os, signal, time\n{code}"])


def children() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def test_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    names = ["RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "OMP_NUM_THREADS"]
    start(f"open(os.environ['RANK'], 'w').write(' '.join(os.environ[name] for name in {names}))")
    threads = max(1, cores() // 2)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        rank: f"{rank} {rank} 2 127.0.0.1 {threads}" for rank in ("0", "1")
    }


def test_only_a_run_on_several_devices_starts_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not starts_others(compute(devices=1))
    assert starts_others(compute())
    assert starts_others(compute(devices=1, nodes=2))
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "1")
    assert not starts_others(compute())  # started by another one, or by torchrun


@pytest.mark.faults
@pytest.mark.parametrize("killed", ["0", "1"])
def test_killed_process_ends_the_others(killed: str) -> None:
    """Also those that do not react to SIGTERM, as a process that waits for another in a library."""
    started, others = time.monotonic(), children()  # such as the browser of other tests
    kill = f"os.environ['RANK'] == '{killed}' and os.kill(os.getpid(), signal.SIGKILL)"
    with pytest.raises(LandsegError) as raised:
        start(f"signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{kill}\ntime.sleep(60)")
    assert str(raised.value) == (
        f"training process {int(killed) + 1} of 2 was killed (signal 9, perhaps because memory ran out); `dvc repro` "
        "resumes from the last checkpoint, if there is one"
    )
    assert time.monotonic() - started < 15
    assert set(children()) <= set(others)


@pytest.mark.faults
def test_error_of_one_process_is_that_of_the_stage(capfd: pytest.CaptureFixture[str]) -> None:
    """The error that its end causes in others is not shown."""
    with pytest.raises(ParamsError, match=r"^train.epochs: is wrong; correct it$"):
        start(
            REPORTING + "with reporting_to_parent():\n"
            "    time.sleep(0.5 * (os.environ['RANK'] == '0'))\n"
            "    raise ParamsError('train.epochs: is wrong; correct it') if os.environ['RANK'] == '1' else RuntimeError"
        )
    assert capfd.readouterr() == ("", "")


@pytest.mark.faults
def test_fault_of_the_program_is_shown_once(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        start(REPORTING + "with reporting_to_parent():\n    1 / 0")
    assert capfd.readouterr().err.count("ZeroDivisionError") == 1


@pytest.mark.faults
def test_processes_end_with_the_one_that_watches_them(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom landseg.core.compute import ComputeParams\nfrom landseg.train.launch import start_processes\n"
        f"start_processes(ComputeParams.model_validate_json({compute().model_dump_json()!r}), [sys.executable, '-c', "
        "'from landseg.train.launch import reporting_to_parent\\nimport time\\nwith reporting_to_parent():\\n"
        "    time.sleep(60)'])"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path) as watching:
        try:
            deadline = time.monotonic() + 60
            of = psutil.Process(watching.pid)
            while len(found := of.children()) < 2 or any(each.num_threads() < 2 for each in found):
                assert time.monotonic() < deadline
                time.sleep(0.1)
        finally:
            watching.kill()
    _, left = psutil.wait_procs(found, timeout=10)
    assert not left


@pytest.mark.faults
@pytest.mark.parametrize(
    ("changes", "environment", "message"),
    [
        ({"devices": 999}, {}, r"^compute.devices = 999: this machine has \d+ cores?; set it to \d+( or less)?$"),
        ({"strategy": "fsdp"}, {}, "^compute.strategy: fsdp needs CUDA GPUs, but the device is cpu; set it to ddp$"),
        (
            {"nodes": 2},
            {},
            "^compute.nodes = 2: this is no SLURM job, and MASTER_ADDR, MASTER_PORT and NODE_RANK are not set, which ",
        ),
        (
            {"nodes": 2},
            {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "1"},
            "^compute.nodes = 2: the SLURM job has 1 node; submit it with --nodes=2, or set it to 1$",
        ),
    ],
)
def test_refused_before_a_process_is_started(
    changes: dict[str, object], environment: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith(("SLURM", "MASTER", "NODE_RANK"))]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ParamsError, match=message):
        start_processes(compute(**changes), [sys.executable, "-c", "raise SystemExit(7)"])


def test_signal_numbers() -> None:
    """The sentence names the number, as no name of a signal tells what happened."""
    with pytest.raises(LandsegError, match=r"\(signal 11\); "):
        start(f"os.environ['RANK'] == '1' and os.kill(os.getpid(), {int(signal.SIGSEGV)})\ntime.sleep(5)")

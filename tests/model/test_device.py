import ctypes
import random
import subprocess
import sys

import numpy as np
import pytest
import torch

from landseg.core.errors import ParamsError
from landseg.model.device import accelerator, deterministic, seed_generators, use_bf16


def test_unavailable_device_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert accelerator("auto") == accelerator("cpu") == "cpu"
    for keys, key in (((), "compute.device"), (("--device",), "--device")):
        with pytest.raises(ParamsError, match=f"^{key}: cuda is not available on this machine; use auto or cpu$"):
            accelerator("cuda", *keys)


def test_seeds_are_those_of_lightning() -> None:
    from lightning_fabric import seed_everything  # takes a second to import

    def drawn() -> tuple[object, ...]:
        return random.random(), np.random.random(), torch.rand(1).item()  # noqa: NPY002  # the global generators

    seed_generators(7)
    ours = drawn()
    seed_everything(7, verbose=False)
    assert ours == drawn() != drawn()


def test_deterministic_algorithms_are_used_within_the_context_only() -> None:
    with deterministic(True):
        assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()
    with deterministic(False):
        assert not torch.are_deterministic_algorithms_enabled()


def test_auto_uses_bf16_if_the_cpu_supports_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for able, expected in (({"avx512_bf16": True}, True), ({"amx_bf16": True}, True), ({"avx512_f": True}, False)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: able)
        assert use_bf16("auto", "cpu") == expected
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert not use_bf16("auto", "cpu")
    assert not use_bf16("32", "cuda")
    assert use_bf16("bf16", "cpu")


# Allocates and frees 64 MB, more than glibc's threshold, several times; prints the page faults of the last turns.
_FAULTS = """
import resource, sys, torch
from landseg.model.device import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory("cpu")
for turn in range(6):
    if turn == 3:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(16_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"), reason="glibc only")
def test_freed_memory_is_used_again_without_page_faults() -> None:
    def faults(memory: str) -> int:
        return int(subprocess.run([sys.executable, "-c", _FAULTS, memory], capture_output=True, check=True).stdout)

    assert faults("return") > 10_000
    assert faults("keep") < 100

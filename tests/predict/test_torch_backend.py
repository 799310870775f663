"""The torch backend: what it computes, and the memory that it keeps on a CPU."""

import platform
import subprocess
import sys
from textwrap import dedent

import numpy as np
import pytest
import torch
from helpers.scenes import band_image, band_model, synthetic_image, unet

from landseg.model.segmenter import Segmenter
from landseg.predict.torch_backend import TorchBackend


@pytest.fixture(scope="module")
def backend() -> TorchBackend:
    return TorchBackend(unet(), "cpu", bf16=False)


@pytest.mark.parametrize("bf16", [False, True])
def test_probabilities_are_the_softmax_of_the_logits_that_are_evaluated(bf16: bool) -> None:
    model = unet(temperature=1.5)
    images = np.stack([synthetic_image(64, 96, seed) for seed in (0, 1)])

    found = TorchBackend(model, "cpu", bf16).probabilities(images)

    assert torch.equal(found, _softmax_of_logits(model, images, bf16))


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_so_are_those_of_other_bands(dtype: str) -> None:
    model = band_model(("a", "b", "c", "d"), dtype)
    images = band_image(4, dtype)[None]

    found = TorchBackend(model, "cpu", False).probabilities(images)

    assert torch.equal(found, _softmax_of_logits(model, images, False))


def _softmax_of_logits(model: Segmenter, images: np.ndarray, bf16: bool) -> torch.Tensor:
    with torch.inference_mode():
        logits = model.logits(torch.from_numpy(images).permute(0, 3, 1, 2), bf16).float()
        return (logits / model.info.temperature).softmax(1)


class TestArgmax:
    def test_is_the_first_of_the_largest(self, backend: TorchBackend) -> None:
        values = torch.randint(0, 4, (5, 40, 30)).float()

        channel, largest = backend.argmax(values)

        assert channel.dtype == torch.uint8  # the class of a pixel takes one byte, not eight
        assert np.array_equal(channel, values.numpy().argmax(0))
        assert torch.equal(largest, values.amax(0))

    def test_of_one_channel(self, backend: TorchBackend) -> None:
        channel, largest = backend.argmax(torch.rand(1, 4, 3))

        assert not channel.any()
        assert largest.shape == (4, 3)

    @pytest.mark.parametrize("index", [0, 1, 2])
    def test_shows_values_that_are_not_finite(self, backend: TorchBackend, index: int) -> None:
        values = torch.rand(3, 4, 4)
        values[index, 1, 2] = torch.nan

        assert backend.argmax(values)[1].isnan().nonzero().tolist() == [[1, 2]]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such option")
def test_memory_of_large_tensors_is_used_again() -> None:
    program = """
        import resource
        import torch
        from landseg.predict.torch_backend import TorchBackend

        model = torch.nn.Identity()
        model.info = None
        TorchBackend(model, "cpu", bf16=False)
        for _ in range(9):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            torch.ones(2**24)  # 64 MiB
        print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    """
    done = subprocess.run([sys.executable, "-c", dedent(program)], capture_output=True, text=True, check=True)

    assert int(done.stdout) < 100  # new pages: 16,384 of 4 KiB, 32 of 2 MiB

"""Blending of windows, compared with one forward pass over the whole scene."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from helpers.scenes import (
    blender,
    opened_scene,
    predicted_map,
    run_with_memory_limit,
    synthetic_image,
    unet,
    write_identity_model,
    write_image,
)
from helpers.tiles import CLASSES, model_info
from rasterio.windows import Window
from torch import nn

from landseg.core.arrays import Pixels
from landseg.core.errors import LandsegError
from landseg.core.rendering import Rendering
from landseg.maps.class_map import MAX_CONFIDENCE, NODATA
from landseg.model.segmenter import Segmenter
from landseg.predict.torch_backend import TorchBackend
from landseg.raster.image import MultibandImage

pytestmark = pytest.mark.usefixtures("one_thread")

Floats = npt.NDArray[np.float32]


class Convolutions(nn.Module):
    """A network without downsampling: its receptive field reaches `reach` pixels, with zero padding."""

    def __init__(self, reach: int) -> None:
        super().__init__()
        torch.manual_seed(1)
        kernel = 2 * min(reach, 1) + 1
        layers: list[nn.Module] = [nn.Conv2d(3, 8, kernel, padding="same"), nn.Tanh()]
        for _ in range(reach - 1):
            layers += [nn.Conv2d(8, 8, kernel, padding="same"), nn.Tanh()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(8, len(CLASSES), 1))
        with torch.no_grad():
            for weights in self.parameters():
                weights.mul_(2)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(values)
        return logits


def convolutions(reach: int) -> Segmenter:
    return Segmenter(Convolutions(reach), model_info(encoder_depth=3)).eval()


@torch.inference_mode()
def forward_pass(model: Segmenter, image: npt.NDArray[Any]) -> Floats:
    """Return the softmax of one forward pass, (K, H, W)."""
    images = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
    probabilities: Floats = model(images).softmax(1)[0].numpy()
    return probabilities


def padded_forward_pass(model: Segmenter, image: Pixels) -> Floats:
    """Return the softmax of one forward pass over a whole scene, padded by reflection: (K, H, W)."""
    return forward_pass(model, np.pad(image, ((32, 32), (32, 32), (0, 0)), "reflect"))[:, 32:-32, 32:-32]


def to_uint8(probabilities: Floats) -> Pixels:
    return np.rint(probabilities * MAX_CONFIDENCE).astype(np.uint8)


class TestOneWindow:
    @pytest.mark.parametrize("shape", [(64, 64), (40, 64), (64, 32)])
    def test_map_equals_one_forward_pass(self, tmp_path: Path, shape: tuple[int, int]) -> None:
        model, image = unet(), synthetic_image(*shape)
        channels, confidence, probabilities = predicted_map(write_image(tmp_path / "a.tif", image), blender(model, 64))
        expected = forward_pass(model, image)
        assert len(np.unique(channels)) > 1
        np.testing.assert_array_equal(channels, expected.argmax(0))
        np.testing.assert_array_equal(probabilities, to_uint8(expected))
        np.testing.assert_array_equal(confidence, to_uint8(expected.max(0)))

    def test_scene_is_padded_to_the_stride_by_reflection(self, tmp_path: Path) -> None:
        model, image = unet(), synthetic_image(45, 33)
        channels, _, _ = predicted_map(write_image(tmp_path / "a.tif", image), blender(model, 64))
        mirrored = np.pad(image, ((0, 3), (0, 7), (0, 0)), "reflect")
        np.testing.assert_array_equal(channels, forward_pass(model, mirrored).argmax(0)[:45, :33])


class TestManyWindows:
    def test_without_overlap_each_window_equals_one_forward_pass(self, tmp_path: Path) -> None:
        model, image = unet(), synthetic_image(128, 192)
        channels, _, probabilities = predicted_map(
            write_image(tmp_path / "a.tif", image), blender(model, 64, overlap=0)
        )
        for row in range(0, 128, 64):
            for col in range(0, 192, 64):
                expected = forward_pass(model, image[row : row + 64, col : col + 64])
                np.testing.assert_array_equal(channels[row : row + 64, col : col + 64], expected.argmax(0))
                difference = probabilities[:, row : row + 64, col : col + 64] - MAX_CONFIDENCE * expected
                assert np.abs(difference).max() <= 0.51

    def test_pixels_of_only_one_window_equal_its_forward_pass(self, tmp_path: Path) -> None:
        model, image = unet(), synthetic_image(112, 112)
        channels, _, _ = predicted_map(write_image(tmp_path / "a.tif", image), blender(model, 64, overlap=0.25))
        mirrored = np.pad(image, ((8, 8), (8, 8), (0, 0)), "reflect")
        corner = forward_pass(model, mirrored[:64, :64]).argmax(0)[8:48, 8:48]
        np.testing.assert_array_equal(channels[:40, :40], corner)

    @pytest.mark.parametrize("overlap", [0, 0.25, 0.5])
    def test_pixelwise_network_has_no_seams(self, tmp_path: Path, overlap: float) -> None:
        model, image = convolutions(0), synthetic_image(150, 201)
        channels, _, probabilities = predicted_map(write_image(tmp_path / "a.tif", image), blender(model, 64, overlap))
        whole = forward_pass(model, image)
        assert np.abs(probabilities - MAX_CONFIDENCE * whole).max() <= 0.51
        np.testing.assert_array_equal(channels, whole.argmax(0))

    def test_overlap_removes_seams(self, tmp_path: Path) -> None:
        """Zero padding makes predictions at window edges wrong, so they must get little weight."""
        model, image = convolutions(3), synthetic_image(200, 200)
        path, whole = write_image(tmp_path / "a.tif", image), padded_forward_pass(model, image)
        seams = {}
        for overlap in (0, 0.25, 0.5):
            _, _, probabilities = predicted_map(path, blender(model, 64, overlap))
            seams[overlap] = np.abs(probabilities / MAX_CONFIDENCE - whole).max()
        rounding = 0.5 / MAX_CONFIDENCE
        assert seams[0] > 0.2
        assert seams[0.25] < seams[0] / 5
        assert seams[0.5] < seams[0] / 20 + rounding

    @pytest.mark.parametrize("overlap", [0.25, 0.5, 0.9])
    def test_scene_border_is_complete_and_no_worse(self, tmp_path: Path, overlap: float) -> None:
        model, image = convolutions(3), synthetic_image(130, 200)
        channels, confidence, _ = predicted_map(write_image(tmp_path / "a.tif", image), blender(model, 64, overlap))
        whole = padded_forward_pass(model, image)
        for border in (np.s_[:4], np.s_[-4:], np.s_[:, :4], np.s_[:, -4:]):
            assert (channels[border] == whole.argmax(0)[border]).mean() > 0.99
            assert np.abs(confidence[border] / MAX_CONFIDENCE - whole.max(0)[border]).max() < 0.05

    def test_batch_size_makes_no_difference(self, tmp_path: Path) -> None:
        model, path = unet(), write_image(tmp_path / "a.tif", synthetic_image(150, 201))
        one, many = (predicted_map(path, blender(model, 64, batch=batch)) for batch in (1, 5))
        assert (one[0] != many[0]).mean() < 1e-3  # floating-point sums in another order
        assert np.abs(one[2].astype(int) - many[2]).max() <= 1

    def test_every_row_of_the_scene_is_read_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        read: list[Window] = []
        real = MultibandImage.read

        def counting(self: MultibandImage, window: Window) -> Any:
            read.append(window)
            return real(self, window)

        monkeypatch.setattr(MultibandImage, "read", counting)
        predicted_map(write_image(tmp_path / "a.tif", synthetic_image(200, 70)), blender(convolutions(0), 64, 0.5))
        assert [(window.row_off, window.row_off + window.height) for window in read] == [
            (0, 48), (48, 80), (80, 112), (112, 144), (144, 176), (176, 200),
        ]  # fmt: skip

    def test_strips_count_their_windows(self, tmp_path: Path) -> None:
        blending = blender(convolutions(0), 64, 0.5)
        path = write_image(tmp_path / "a.tif", synthetic_image(200, 130))
        with opened_scene(path, blending.backend.info) as image:
            down, across = blending.axes(image)
            windows = [strip.windows for strip in blending.strips(image)]
        assert (len(down.starts), len(across.starts)) == (7, 5)
        assert windows == [5] * 7

    def test_windows_of_rows_without_a_strip_are_counted(self, tmp_path: Path) -> None:
        """The first rows of windows cover mostly padding; the last ones differ only in their padding."""
        model, pixels = convolutions(0), synthetic_image(90, 64)
        blending = blender(model, 64, 0.9)
        with opened_scene(write_image(tmp_path / "a.tif", pixels), blending.backend.info) as image:
            down, _ = blending.axes(image)
            strips = list(blending.strips(image))
        assert sum(strip.windows for strip in strips) == len(down.starts)
        channels = np.vstack([strip.channels for strip in strips])
        np.testing.assert_array_equal(channels, forward_pass(model, pixels).argmax(0))


class TestTemperature:
    def test_divides_the_logits_of_each_window(self, tmp_path: Path) -> None:
        image = synthetic_image(64, 64)
        path = write_image(tmp_path / "a.tif", image)
        original = unet()
        calibrated = Segmenter(original.network, original.info.model_copy(update={"temperature": 2.5})).eval()
        before, _, _ = predicted_map(path, blender(original, 64))
        channels, confidence, probabilities = predicted_map(path, blender(calibrated, 64))
        np.testing.assert_array_equal(channels, before)  # a single window: the same classes
        with torch.inference_mode():
            softmax: Floats = (calibrated(torch.from_numpy(image).permute(2, 0, 1)[None]) / 2.5).softmax(1)[0].numpy()
        np.testing.assert_array_equal(probabilities, to_uint8(softmax))
        np.testing.assert_array_equal(confidence, to_uint8(softmax.max(0)))


class TestTestTimeAugmentation:
    def test_averages_all_eight_rotations_and_flips(self, tmp_path: Path) -> None:
        model, image = unet(), synthetic_image(64, 64)
        _, _, probabilities = predicted_map(write_image(tmp_path / "a.tif", image), blender(model, 64, d4=True))
        total = np.zeros_like(probabilities, np.float64)
        for turns in range(4):
            rotated = np.rot90(image, turns)
            total += np.rot90(forward_pass(model, rotated), -turns, (1, 2))
            total += np.rot90(forward_pass(model, rotated[:, ::-1])[:, :, ::-1], -turns, (1, 2))
        assert np.abs(probabilities - MAX_CONFIDENCE * total / 8).max() <= 0.51

    def test_windows_need_not_be_square(self, tmp_path: Path) -> None:
        model, image = convolutions(0), synthetic_image(64, 40)
        channels, _, _ = predicted_map(write_image(tmp_path / "a.tif", image), blender(model, 64, d4=True))
        np.testing.assert_array_equal(channels, forward_pass(model, image).argmax(0))


class TestNoData:
    def test_nodata_stays_nodata(self, tmp_path: Path) -> None:
        image = synthetic_image(130, 130)
        image[20:60, :100] = 0
        path = write_image(tmp_path / "a.tif", image, nodata=0)
        channels, confidence, probabilities = predicted_map(path, blender(convolutions(0), 64))
        missing = (image == 0).all(axis=2)
        assert 4000 <= missing.sum() < 4100
        np.testing.assert_array_equal(channels == NODATA, missing)
        np.testing.assert_array_equal(confidence == NODATA, missing)
        np.testing.assert_array_equal(probabilities == NODATA, np.broadcast_to(missing, probabilities.shape))

    def test_windows_without_data_are_skipped(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        image = synthetic_image(128, 192)
        image[:, 64:] = 0
        batch_sizes = []
        real = TorchBackend.probabilities

        def counting(self: TorchBackend, images: Pixels) -> torch.Tensor:
            batch_sizes.append(len(images))
            return real(self, images)

        monkeypatch.setattr(TorchBackend, "probabilities", counting)
        channels, _, _ = predicted_map(
            write_image(tmp_path / "a.tif", image, nodata=0), blender(convolutions(0), 64, 0)
        )
        assert batch_sizes == [1, 1]
        assert (channels[:, 64:] == NODATA).all()
        assert (channels[:, :64] != NODATA).all()


class TestStretch:
    @pytest.mark.parametrize("stretch", ["fixed", "per_chip_minmax"])
    def test_scenes_are_rendered_like_training_tiles(self, tmp_path: Path, stretch: Any) -> None:
        rendering = Rendering(("red", "green", "blue"), stretch, (0, 20_000), 1.7)
        model = unet(rendering=rendering, dtypes=("uint16",))
        values = synthetic_image(64, 128).astype(np.uint16) * 70
        path = write_image(tmp_path / "a.tif", values)
        channels, _, _ = predicted_map(path, blender(model, 64, overlap=0))
        for col in (0, 64):
            tile = rendering(values[:, col : col + 64].transpose(2, 0, 1))
            np.testing.assert_array_equal(channels[:, col : col + 64], forward_pass(model, tile).argmax(0))


@pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_AS and /proc")
def test_onnx_runtime_out_of_memory_is_reported_once(tmp_path: Path) -> None:
    write_identity_model(tmp_path / "identity.onnx")
    logits = 3 * 4096 * 4096 * 4  # bytes
    done = run_with_memory_limit(f"""
        import numpy as np
        from landseg.core.errors import reporting
        from landseg.predict.onnx_backend import OnnxBackend
        backend = OnnxBackend(Path("{tmp_path}/identity.onnx"))
        images = np.ones((1, 4096, 4096, 3), np.uint8)
        limit_memory({logits // 4} + {logits // 2})
        with reporting():
            backend.probabilities(images)
    """)
    assert done.stderr == "error: --window: out of memory with a window of 4096x4096 px; choose a smaller window\n"


def test_truncated_scene_fails_after_its_readable_rows(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.tif", synthetic_image(300, 64), compress="deflate")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    blending = blender(convolutions(0), 64)
    with opened_scene(path, blending.backend.info) as image:
        strips = blending.strips(image)
        assert next(strips).row == 0
        with pytest.raises(LandsegError, match="truncated or damaged"):
            list(strips)

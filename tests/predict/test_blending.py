"""Scenes through networks, window by window, held against the same networks over the whole scene at once."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from helpers.scenes import blender, colours, limited, mapped, photograph, scene, unet, write
from helpers.tiles import CLASSES, model_info
from rasterio.windows import Window
from torch import nn

from landseg.core.arrays import Pixels
from landseg.core.errors import LandsegError
from landseg.core.rendering import Rendering
from landseg.maps.class_map import MAX_CONFIDENCE, NODATA
from landseg.model.segmenter import Segmenter
from landseg.predict.torch_backend import TorchBackend
from landseg.raster.image import Imagery

pytestmark = pytest.mark.usefixtures("one_thread")

Floats = npt.NDArray[np.float32]


class Convolutions(nn.Module):
    """A network without a stride: every pixel sees `reach` pixels around it, and zeros beyond the picture."""

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
        found: torch.Tensor = self.layers(values)
        return found


def convolutions(reach: int) -> Segmenter:
    return Segmenter(Convolutions(reach), model_info(encoder_depth=3)).eval()


@torch.inference_mode()
def plain(model: Segmenter, picture: npt.NDArray[Any]) -> Floats:
    """Return the softmax of a plain forward pass, (K, H, W)."""
    images = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None]
    found: Floats = model(images).softmax(1)[0].numpy()
    return found


def whole_pass(model: Segmenter, picture: Pixels) -> Floats:
    """Return the softmax of one pass over a whole scene with its reflection around it, (K, H, W) of the scene."""
    return plain(model, np.pad(picture, ((32, 32), (32, 32), (0, 0)), "reflect"))[:, 32:-32, 32:-32]


def as_bytes(probabilities: Floats) -> Pixels:
    return np.rint(probabilities * MAX_CONFIDENCE).astype(np.uint8)


class TestOneWindow:
    @pytest.mark.parametrize("shape", [(64, 64), (40, 64), (64, 32)])
    def test_the_map_is_the_plain_forward_pass(self, tmp_path: Path, shape: tuple[int, int]) -> None:
        model, picture = unet(), photograph(*shape)
        channels, confidence, probabilities = mapped(write(tmp_path / "a.tif", picture), blender(model, 64))
        expected = plain(model, picture)
        assert len(np.unique(channels)) > 1
        np.testing.assert_array_equal(channels, expected.argmax(0))
        np.testing.assert_array_equal(probabilities, as_bytes(expected))
        np.testing.assert_array_equal(confidence, as_bytes(expected.max(0)))

    def test_a_scene_that_is_no_multiple_of_the_stride_sees_its_reflection(self, tmp_path: Path) -> None:
        model, picture = unet(), photograph(45, 33)
        channels, _, _ = mapped(write(tmp_path / "a.tif", picture), blender(model, 64))
        mirrored = np.pad(picture, ((0, 3), (0, 7), (0, 0)), "reflect")
        np.testing.assert_array_equal(channels, plain(model, mirrored).argmax(0)[:45, :33])


class TestManyWindows:
    def test_without_overlap_each_is_the_plain_forward_pass_of_its_tile(self, tmp_path: Path) -> None:
        model, picture = unet(), photograph(128, 192)
        channels, _, probabilities = mapped(write(tmp_path / "a.tif", picture), blender(model, 64, overlap=0))
        for row in range(0, 128, 64):
            for col in range(0, 192, 64):
                expected = plain(model, picture[row : row + 64, col : col + 64])
                np.testing.assert_array_equal(channels[row : row + 64, col : col + 64], expected.argmax(0))
                difference = probabilities[:, row : row + 64, col : col + 64] - MAX_CONFIDENCE * expected
                assert np.abs(difference).max() <= 0.51

    def test_where_one_window_alone_sees_its_word_counts(self, tmp_path: Path) -> None:
        model, picture = unet(), photograph(112, 112)
        channels, _, _ = mapped(write(tmp_path / "a.tif", picture), blender(model, 64, overlap=0.25))
        mirrored = np.pad(picture, ((8, 8), (8, 8), (0, 0)), "reflect")
        corner = plain(model, mirrored[:64, :64]).argmax(0)[8:48, 8:48]
        np.testing.assert_array_equal(channels[:40, :40], corner)

    @pytest.mark.parametrize("overlap", [0, 0.25, 0.5])
    def test_a_network_that_sees_pixels_alone_has_no_seams(self, tmp_path: Path, overlap: float) -> None:
        model, picture = convolutions(0), photograph(150, 201)
        channels, _, probabilities = mapped(write(tmp_path / "a.tif", picture), blender(model, 64, overlap))
        whole = plain(model, picture)
        assert np.abs(probabilities - MAX_CONFIDENCE * whole).max() <= 0.51
        np.testing.assert_array_equal(channels, whole.argmax(0))

    def test_overlap_takes_the_seams_away(self, tmp_path: Path) -> None:
        """Zeros beyond a window are not what lies there: the rim of a window is wrong, and must hardly count."""
        model, picture = convolutions(3), photograph(200, 200)
        path, whole = write(tmp_path / "a.tif", picture), whole_pass(model, picture)
        seams = {}
        for overlap in (0, 0.25, 0.5):
            _, _, probabilities = mapped(path, blender(model, 64, overlap))
            seams[overlap] = np.abs(probabilities / MAX_CONFIDENCE - whole).max()
        rounding = 0.5 / MAX_CONFIDENCE
        assert seams[0] > 0.2
        assert seams[0.25] < seams[0] / 5
        assert seams[0.5] < seams[0] / 20 + rounding

    @pytest.mark.parametrize("overlap", [0.25, 0.5, 0.9])
    def test_the_rim_of_the_scene_is_neither_empty_nor_worse(self, tmp_path: Path, overlap: float) -> None:
        model, picture = convolutions(3), photograph(130, 200)
        channels, confidence, _ = mapped(write(tmp_path / "a.tif", picture), blender(model, 64, overlap))
        whole = whole_pass(model, picture)
        for rim in (np.s_[:4], np.s_[-4:], np.s_[:, :4], np.s_[:, -4:]):
            assert (channels[rim] == whole.argmax(0)[rim]).mean() > 0.99
            assert np.abs(confidence[rim] / MAX_CONFIDENCE - whole.max(0)[rim]).max() < 0.05

    def test_how_many_at_a_time_makes_no_difference(self, tmp_path: Path) -> None:
        model, path = unet(), write(tmp_path / "a.tif", photograph(150, 201))
        one, many = (mapped(path, blender(model, 64, batch=batch)) for batch in (1, 5))
        assert (one[0] != many[0]).mean() < 1e-3  # sums of another order
        assert np.abs(one[2].astype(int) - many[2]).max() <= 1

    def test_every_row_of_the_scene_is_read_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        read: list[Window] = []
        real = Imagery.read

        def counting(self: Imagery, window: Window) -> Any:
            read.append(window)
            return real(self, window)

        monkeypatch.setattr(Imagery, "read", counting)
        mapped(write(tmp_path / "a.tif", photograph(200, 70)), blender(convolutions(0), 64, 0.5))
        assert [(of.row_off, of.row_off + of.height) for of in read] == [
            (0, 48), (48, 80), (80, 112), (112, 144), (144, 176), (176, 200),
        ]  # fmt: skip

    def test_bands_know_how_many_windows_they_took(self, tmp_path: Path) -> None:
        how = blender(convolutions(0), 64, 0.5)
        with scene(write(tmp_path / "a.tif", photograph(200, 130)), how.network.info) as image:
            down, across = how.grid(image)
            looked = [band.windows for band in how.bands(image)]
        assert (len(down.starts), len(across.starts)) == (7, 5)
        assert looked == [5] * 7

    def test_rows_of_windows_that_end_no_row_of_the_map_are_counted(self, tmp_path: Path) -> None:
        """The first of them see more of the reflection than of the scene; the last differ in the reflection alone."""
        model, picture = convolutions(0), photograph(90, 64)
        how = blender(model, 64, 0.9)
        with scene(write(tmp_path / "a.tif", picture), how.network.info) as image:
            down, _ = how.grid(image)
            bands = list(how.bands(image))
        assert sum(band.windows for band in bands) == len(down.starts)
        np.testing.assert_array_equal(np.vstack([band.channels for band in bands]), plain(model, picture).argmax(0))


class TestSymmetries:
    def test_mean_of_all_eight(self, tmp_path: Path) -> None:
        model, picture = unet(), photograph(64, 64)
        _, _, probabilities = mapped(write(tmp_path / "a.tif", picture), blender(model, 64, symmetries=True))
        total = np.zeros_like(probabilities, np.float64)
        for quarters in range(4):
            turned = np.rot90(picture, quarters)
            total += np.rot90(plain(model, turned), -quarters, (1, 2))
            total += np.rot90(plain(model, turned[:, ::-1])[:, :, ::-1], -quarters, (1, 2))
        assert np.abs(probabilities - MAX_CONFIDENCE * total / 8).max() <= 0.51

    def test_windows_need_not_be_square(self, tmp_path: Path) -> None:
        model, picture = convolutions(0), photograph(64, 40)
        channels, _, _ = mapped(write(tmp_path / "a.tif", picture), blender(model, 64, symmetries=True))
        np.testing.assert_array_equal(channels, plain(model, picture).argmax(0))


class TestNoData:
    def test_none_in_is_none_out(self, tmp_path: Path) -> None:
        picture = photograph(130, 130)
        picture[20:60, :100] = 0
        path = write(tmp_path / "a.tif", picture, nodata=0)
        channels, confidence, probabilities = mapped(path, blender(convolutions(0), 64))
        missing = (picture == 0).all(axis=2)
        assert 4000 <= missing.sum() < 4100
        np.testing.assert_array_equal(channels == NODATA, missing)
        np.testing.assert_array_equal(confidence == NODATA, missing)
        np.testing.assert_array_equal(probabilities == NODATA, np.broadcast_to(missing, probabilities.shape))

    def test_windows_without_data_are_not_looked_at(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        picture = photograph(128, 192)
        picture[:, 64:] = 0
        seen = []
        real = TorchBackend.probabilities

        def counting(self: TorchBackend, images: Pixels) -> torch.Tensor:
            seen.append(len(images))
            return real(self, images)

        monkeypatch.setattr(TorchBackend, "probabilities", counting)
        channels, _, _ = mapped(write(tmp_path / "a.tif", picture, nodata=0), blender(convolutions(0), 64, 0))
        assert seen == [1, 1]
        assert (channels[:, 64:] == NODATA).all()
        assert (channels[:, :64] != NODATA).all()


class TestStretch:
    @pytest.mark.parametrize("stretch", ["fixed", "per_chip_minmax"])
    def test_values_become_pictures_as_tiles_did(self, tmp_path: Path, stretch: Any) -> None:
        picture = Rendering(("red", "green", "blue"), stretch, (0, 20_000), 1.7)
        model = unet(rendering=picture, dtypes=("uint16",))
        values = photograph(64, 128).astype(np.uint16) * 70
        path = write(tmp_path / "a.tif", values)
        channels, _, _ = mapped(path, blender(model, 64, overlap=0))
        for col in (0, 64):
            tile = picture(values[:, col : col + 64].transpose(2, 0, 1))[..., ::-1]
            np.testing.assert_array_equal(channels[:, col : col + 64], plain(model, tile).argmax(0))


@pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_AS and /proc")
def test_want_of_memory_in_onnx_runtime_is_said_once(tmp_path: Path) -> None:
    colours(tmp_path / "colours.onnx")
    logits = 3 * 4096 * 4096 * 4  # bytes
    done = limited(f"""
        import numpy as np
        from landseg.core.errors import reporting
        from landseg.predict.onnx_backend import OnnxBackend
        network = OnnxBackend(Path("{tmp_path}/colours.onnx"))
        images = np.ones((1, 4096, 4096, 3), np.uint8)
        leave({logits // 4} + {logits // 2})
        with reporting():
            network.probabilities(images)
    """)
    assert done.stderr == "error: --window: memory does not suffice for a window of 4096x4096 px; choose less\n"


def test_a_scene_that_breaks_half_way_ends_the_reading(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", photograph(300, 64), compress="deflate")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    how = blender(convolutions(0), 64)
    with scene(path, how.network.info) as image:
        bands = how.bands(image)
        assert next(bands).row == 0
        with pytest.raises(LandsegError, match="truncated or damaged"):
            list(bands)

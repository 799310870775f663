"""What conversion prints of scenes and labels that it can read, but that are probably not what they seem."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from helpers.rasters import Project, class_colours, random_labels, write_image, write_tif
from PIL import Image

pytestmark = pytest.mark.faults

SIZE = 256
SCENES = ("a", "b", "c")
ROWS, COLS = np.indices((SIZE, SIZE))


def natural(seed: int) -> np.ndarray:
    """Return an image without large areas of one value, (3, SIZE, SIZE), 30 to 220."""
    noise = np.random.default_rng(seed).normal(size=(3, SIZE, SIZE))
    smooth = np.stack([cv2.GaussianBlur(band, (0, 0), 5) for band in noise])
    low, high = smooth.min(), smooth.max()
    pixels: np.ndarray = (30 + 190 * (smooth - low) / (high - low)).round().astype(np.uint8)
    return pixels


def printed(
    folder: Path, capsys: pytest.CaptureFixture[str], image: Callable[[int], np.ndarray] = natural, **changes: Any
) -> str:
    """Return what the stages to convert print for three scenes."""
    project = Project(folder)
    for seed, scene in enumerate(SCENES):
        write_tif(project.local / f"images/{scene}.tif", image(seed))
        write_tif(project.local / f"masks/{scene}.tif", random_labels(SIZE, SIZE, seed))
    project.change(**changes)
    return converted(project, capsys)


def converted(project: Project, capsys: pytest.CaptureFixture[str]) -> str:
    project.run("download", "filter", "tile", "convert")
    return capsys.readouterr().out


def test_ordinary_scenes_are_not_mentioned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "warning" not in printed(tmp_path, capsys)


LINES = (ROWS % 32 < 5) & (COLS > 20) & (COLS < 240) & (ROWS > 16)
STRIPES = (ROWS // 12 % 4 == 0) & (COLS > 40) & (COLS < 240)
HOLE = (abs(ROWS - 128) < 50) & (abs(COLS - 128) < 50)
NOTCH = (ROWS < 90) & (COLS > 100) & (COLS < 160)
COLLAR = abs(ROWS - 128) + abs(COLS - 128) > 150
SPECKLED = COLLAR | (np.random.default_rng(0).random((SIZE, SIZE)) < 0.02)


class TestPatches:
    """Values without data that no header declares, wherever they lie."""

    @pytest.mark.parametrize(
        "area", [STRIPES, HOLE, NOTCH, SPECKLED], ids=["stripes", "hole", "notch", "collar and shadows"]
    )
    @pytest.mark.parametrize("value", [0, 255])
    def test_areas_of_one_value(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], area: np.ndarray, value: int
    ) -> None:
        out = printed(tmp_path, capsys, lambda seed: np.where(area, value, natural(seed)).astype(np.uint8))
        assert f"all bands are {value} in up to " in out
        assert f"in patches; if they have no data, set dataset.nodata = {value}, or declare it in the files" in out
        assert ("saturated roofs, clouds or snow look the same" in out) == (value == 255)

    def test_wrapped_value_in_16_bits(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """-9999 that was written as an unsigned number."""
        convert = {"stretch": "per_chip_minmax"}
        out = printed(
            tmp_path, capsys, lambda seed: np.where(HOLE, 55_537, natural(seed).astype(np.uint16)), convert=convert
        )
        assert "all bands are 55537 in up to " in out

    def test_noise_of_lossy_compression(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        def noisy(seed: int) -> np.ndarray:
            noise = np.random.default_rng(seed).integers(0, 4, (3, SIZE, SIZE))
            return np.where(COLLAR, noise, natural(seed)).astype(np.uint8)

        out = printed(tmp_path, capsys, noisy)
        assert "all bands are 0 to 3 in up to " in out
        assert "if they have no data, add a mask to the files with nearblack -setmask -color 0,0,0" in out

    def test_jpeg(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        project = Project(tmp_path)
        for seed, scene in enumerate(SCENES):
            pixels = np.where(COLLAR, 0, natural(seed)).astype(np.uint8).transpose(1, 2, 0)
            project.local.joinpath("images").mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(project.local / f"images/{scene}.jpg", quality=90)
            write_image(project.local / f"masks/{scene}.png", random_labels(SIZE, SIZE, seed))
        assert "all bands are 0" in converted(project, capsys)

    def test_fill_of_a_colour(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        magenta = np.reshape((255, 0, 255), (3, 1, 1))
        out = printed(tmp_path, capsys, lambda seed: np.where(HOLE, magenta, natural(seed)).astype(np.uint8))
        assert "the bands are 255, 0, 255 in up to " in out
        assert "flat surfaces look the same" in out

    def test_lines_narrower_than_a_patch(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        out = printed(tmp_path, capsys, lambda seed: np.where(LINES, 0, natural(seed)).astype(np.uint8))
        assert "all bands are 0 in up to " in out
        assert "of the pixels in lines; if they have no data, set dataset.nodata = 0" in out

    def test_gap_in_one_band(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        def gap(seed: int) -> np.ndarray:
            pixels = natural(seed)
            pixels[0, HOLE] = 0
            return pixels

        assert "scene a and 2 others: red is 0 in up to " in printed(tmp_path, capsys, gap)

    def test_roofs_and_lakes_are_not_mentioned(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Saturated roofs, and a flat lake in an elevation model, which is one band shown three times."""
        roof = (ROWS > 100) & (ROWS < 140) & (COLS > 90) & (COLS < 140)
        out = printed(tmp_path / "roofs", capsys, lambda seed: np.where(roof, 255, natural(seed)).astype(np.uint8))
        assert "warning" not in out
        out = printed(
            tmp_path / "lake",
            capsys,
            lambda seed: np.where(HOLE, 170, natural(seed)[:1]).astype(np.uint8),
            dataset={"bands": ["height"]},
            convert={"bands": ["height"] * 3},
        )
        assert "warning" not in out

    def test_opaque_alpha_band(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A nodata value would not count, so it is not suggested."""
        project = Project(tmp_path)
        for seed, scene in enumerate(SCENES):
            pixels = np.where(HOLE, 0, natural(seed)).astype(np.uint8)
            opaque = np.full((1, SIZE, SIZE), 255, np.uint8)
            path = project.local / f"images/{scene}.tif"
            write_tif(path, np.concatenate([pixels, opaque]), photometric="RGB", alpha="yes")
            write_tif(project.local / f"masks/{scene}.tif", random_labels(SIZE, SIZE, seed))
        out = converted(project, capsys)
        assert "in patches; if they have no data, correct the alpha band 4, which marks them as data\n" in out
        assert "dataset.nodata" not in out

    def test_header_of_the_named_bands(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A further band with values, such as heights, does not make a pixel one with data."""
        project = Project(tmp_path)
        for seed, scene in enumerate(SCENES):
            pixels = np.where(HOLE, 0, natural(seed)).astype(np.uint8)
            path = project.local / f"images/{scene}.tif"
            write_tif(path, np.concatenate([pixels, natural(9)[:1]]), photometric="minisblack", nodata=0)
            write_tif(project.local / f"masks/{scene}.tif", random_labels(SIZE, SIZE, seed))
        out = converted(project, capsys)
        assert f"{HOLE.mean():.0%} of the labelled pixels are ignored, because the nodata value 0 marks them" in out
        assert "in patches" not in out


class TestScenesAndBands:
    def test_bytes_in_16_bits_among_others(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        out = printed(tmp_path, capsys, lambda seed: natural(seed).astype(np.uint16) * (1 if seed == 1 else 13))
        assert re.search(
            r"warning: 1 scene, first b with values from \d\d to \d{3}, would be all but black in the range 0 to 3000, "
            r"unlike the others \(up to 2\d{3} in the median scene\); check their unit and scale\n",
            out,
        )

    def test_odd_pixels_among_dark_ones(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A caption in a dark image, and a hot pixel in a band of one value."""

        def captioned(seed: int) -> np.ndarray:
            pixels = natural(seed) // 18
            pixels[:, 250, 10:40] = 255
            return pixels

        assert "% of the range 0 to 255, so tiles have hardly any contrast" in printed(
            tmp_path / "caption", capsys, captioned
        )

        def hot(seed: int) -> np.ndarray:
            pixels = natural(seed)
            pixels[2] = 0
            pixels[2, 5, :20] = 255
            return pixels

        assert "one value in nearly all pixels in bands of 3 scenes, first a, where blue is 0" in printed(
            tmp_path / "hot", capsys, hot
        )

    def test_band_of_another_unit(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        def scaled(seed: int) -> np.ndarray:
            pixels = natural(seed).astype(np.uint16) * 13
            pixels[2] //= 26
            return pixels

        out = printed(tmp_path, capsys, scaled)
        assert re.search(r"warning: the values of blue, \d+ to \d+, span far less than those of ", out)

    def test_equal_bands(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        def copied(seed: int) -> np.ndarray:
            pixels = natural(seed)
            pixels[1] = pixels[0] if seed == 1 else pixels[1]
            return pixels

        out = printed(tmp_path, capsys, copied)
        assert "warning: bands are equal throughout in 1 scene, first b: red and green; if they are one band" in out


class TestLabels:
    def test_transparent_background(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Annotation tools export it; the class keeps hardly a pixel."""
        project = Project(tmp_path)
        project.change(dataset={"mask_values": "rgb"})
        share = 0.0
        for seed, scene in enumerate(SCENES):
            ids = random_labels(SIZE, SIZE, seed)
            alpha = np.where((ids == 0) & (COLS > 3), 0, 255).astype(np.uint8)
            share = float((alpha == 0).mean())
            write_tif(project.local / f"images/{scene}.tif", natural(seed))
            write_image(project.local / f"masks/{scene}.png", np.dstack([class_colours(ids), alpha]))
        assert (
            f"warning: scene a and 2 others: up to {share:.0%} of the pixels with a class are ignored, because the "
            "label raster is transparent there\n"
        ) in converted(project, capsys)

    def test_other_coding_in_some_scenes(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Masks of 0 and 255 among those of 0 and 1, where 255 is ignored."""
        project = Project(tmp_path)
        project.change(dataset={"ignore": [255]})
        for seed, scene in enumerate(SCENES):
            write_tif(project.local / f"images/{scene}.tif", natural(seed))
            building = random_labels(SIZE, SIZE, seed) > 1
            write_tif(project.local / f"masks/{scene}.tif", building.astype(np.uint8) * (255 if scene == "b" else 1))
        assert (
            "warning: scene b: labels of one class and ignored values, where others, first scene a, have several "
            "classes "
        ) in converted(project, capsys)

    def test_values_without_a_class(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        project = Project(tmp_path)
        project.change(dataset={"unlisted": "ignore"})
        for seed, scene in enumerate(SCENES):
            write_tif(project.local / f"images/{scene}.tif", natural(seed))
            labels = random_labels(SIZE, SIZE, seed)
            labels[:64] = 40
            write_tif(project.local / f"masks/{scene}.tif", labels)
        assert (
            "warning: scene a and 2 others: up to 25% of the label pixels have no class and are ignored "
            "(dataset.unlisted); set it to error to see their values\n"
        ) in converted(project, capsys)

    def test_class_of_a_few_pixels(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        project = Project(tmp_path)
        for seed, scene in enumerate(SCENES):
            write_tif(project.local / f"images/{scene}.tif", natural(seed))
            labels = np.minimum(random_labels(SIZE, SIZE, seed), 2)
            labels[0, 0] = 7
            write_tif(project.local / f"masks/{scene}.tif", labels)
        assert "warning: classes with hardly any pixel in the whole dataset: water (3)\n" in converted(project, capsys)

    @pytest.mark.parametrize("suffix", ["jpg", "tif", "jp2"])
    def test_compression_with_loss(self, tmp_path: Path, suffix: str) -> None:
        project = Project(tmp_path)
        for seed, scene in enumerate(SCENES):
            write_tif(project.local / f"images/{scene}.tif", natural(seed))
            path, labels = project.local / f"masks/{scene}.{suffix}", random_labels(SIZE, SIZE, seed)
            if suffix == "tif":
                write_tif(path, labels, compress="JPEG")
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(labels).save(path, irreversible=True)  # JPEG ignores the option
        project.run("download", "filter", "tile")
        assert "is compressed with loss (" in project.fails("convert")

    def test_cause_of_too_few_classes_in_the_image(self, tmp_path: Path) -> None:
        project = Project(tmp_path)
        for seed, scene in enumerate(SCENES):
            pixels = np.concatenate([natural(seed), np.zeros((1, SIZE, SIZE), np.uint8)])
            write_tif(project.local / f"images/{scene}.tif", pixels, photometric="RGB", alpha="yes")
            write_tif(project.local / f"masks/{scene}.tif", random_labels(SIZE, SIZE, seed))
        project.run("download", "filter", "tile")
        assert "; labelled pixels without data in the images (alpha band 4): 100%; correct" in project.fails("convert")

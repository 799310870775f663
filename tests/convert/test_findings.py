"""What conversion refuses or prints of labels and values that it can read, but that are probably not what they seem."""

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
from helpers.rasters import Project, random_image, random_labels, write_image, write_tif

from landseg.core.tables import extend_parquet

pytestmark = pytest.mark.faults

SCENES = ("a", "b", "c")
CLASSES = [{"id": 0, "name": "background", "color": [0, 0, 0]}, {"id": 1, "name": "building", "color": [80, 0, 165]}]


def prepared(folder: Path, image: np.ndarray | None = None, mask: np.ndarray | None = None) -> Project:
    """Return a project with equal scenes."""
    project = Project(folder)
    for scene in SCENES:
        project.add(scene, image, mask)
    return project


def converted(project: Project, capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    """Run the stages to convert; return what convert prints to standard output and standard error."""
    project.run("download", "filter", "tile")
    capsys.readouterr()
    project.run("convert")
    out, err = capsys.readouterr()
    return out, err


def refused(project: Project) -> str:
    project.run("download", "filter", "tile")
    return project.fails("convert")


class TestLabels:
    def binary(self) -> np.ndarray:
        return np.where(random_labels(64, 96) > 1, 255, 0).astype(np.uint8)

    def test_masks_of_0_and_255(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        project = prepared(tmp_path, mask=self.binary())
        project.change(dataset={"classes": CLASSES})
        share = (self.binary() == 255).mean()
        message = refused(project)
        assert "value 255 at row" in message
        assert f"; values without a class in 3 of 3 label rasters: 255 ({share:.0%})\n" in message
        project.change(dataset={"remap": {255: 1}})
        assert converted(project, capsys)[1] == ""

    def test_fewer_than_two_classes(self, tmp_path: Path) -> None:
        project = prepared(tmp_path, mask=self.binary())
        project.change(dataset={"classes": CLASSES, "ignore": [255]})
        message = refused(project)
        assert message.startswith(
            "error: only background has labelled pixels with data in 3 label rasters, but a model needs two classes; "
            f"ignored labels: 255 ({(self.binary() == 255).mean():.0%}); correct dataset.classes, "
        )

    def test_class_without_a_pixel(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        project = Project(tmp_path)
        for n, scene in enumerate(SCENES):
            project.add(scene, random_image(64, 96, n), np.minimum(random_labels(64, 96, n), 2))
        project.change(split={"strategy": "random"})
        assert converted(project, capsys)[1] == (
            "error: no tile has a labelled pixel of water: models cannot learn these classes, and scores leave them "
            "out; correct dataset.classes, the labels or tile.edge\n"
        )
        project.run("split")
        warnings = json.loads((tmp_path / "results/split.json").read_text())["warnings"]
        assert [text for text in warnings if "water" in text] == [
            "no tile has a labelled pixel of water; correct dataset.classes, the labels or tile.edge"
        ]

    def test_training_tiles_of_one_class(self, tmp_path: Path) -> None:
        project = Project(tmp_path)
        for n, scene in enumerate("abcdef"):
            project.add(
                scene, random_image(64, 96, n), random_labels(64, 96, n) if n < 2 else np.zeros((64, 96), np.uint8)
            )
        project.change(split={"strategy": "random"})
        project.run("download", "filter", "tile", "convert", "split")
        path = tmp_path / "data/tables/folder/split.parquet"
        tiles = pd.read_parquet(path, columns=["scene"])
        splits = tiles["scene"].map({"a": "val", "b": "test"}).fillna("train").to_numpy()
        extend_parquet(io.BytesIO(path.read_bytes()), path, {"split": splits})
        assert project.fails("train") == (
            "error: params.yaml: split: training tiles have labels of background alone, but a model needs two classes; "
            "change split.seed, split.ratios or split.strategy, or add scenes\n"
        )

    def test_all_unlisted_values_are_named(self, tmp_path: Path) -> None:
        project = prepared(tmp_path)
        labels = random_labels(64, 96)
        labels[:, :24], labels[:16, 24:48] = 40, 41
        write_tif(project.local / "masks/b.tif", labels)
        assert refused(project).endswith("; values without a class in 1 of 3 label rasters: 40 (8%), 41 (2%)\n")

    def test_unlisted_colours_are_named(self, tmp_path: Path) -> None:
        colours = np.zeros((3, 64, 96), np.uint8)
        colours[:, :, 48:] = np.reshape((80, 0, 165), (3, 1, 1))
        colours[:, :32, :48] = np.reshape((1, 2, 3), (3, 1, 1))
        project = prepared(tmp_path, mask=colours)
        project.change(dataset={"classes": CLASSES, "mask_values": "rgb"})
        assert refused(project).endswith("; colours without a class in 3 of 3 label rasters: (1, 2, 3) (25%)\n")

    def test_nodata_value_that_is_a_class(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        project = prepared(tmp_path)
        write_tif(project.local / "masks/b.tif", random_labels(64, 96), nodata=0)
        assert (
            "warning: label rasters, first of scene b, declare the nodata value 0, which is also a class id; these "
            "pixels are read as the class, so add the value or colour to dataset.ignore"
        ) in converted(project, capsys)[0]


class TestValues:
    @pytest.mark.parametrize(
        ("pixels", "words"),
        [
            (random_image(64, 96).astype(np.float32) / 500, "100% at the lower, 0% at the upper; they are 0 to 0.51"),
            (
                8000 + random_image(64, 96).astype(np.uint16),
                "0% at the lower, 100% at the upper; they are 8000 to 8255",
            ),
            (-1 - random_image(64, 96).astype(np.int16), "100% at the lower, 0% at the upper; they are -256 to -1"),
        ],
        ids=["reflectance", "uint16", "negative"],
    )
    def test_values_outside_the_range(self, tmp_path: Path, pixels: np.ndarray, words: str) -> None:
        image = "data/raw/folder/images/a.tif"
        assert refused(prepared(tmp_path, pixels)) == (
            f"error: params.yaml: convert.range: {image}: 100% of its values fall at an end of the range 0 to 3000 "
            f"({words}), and convert.max_clipped allows 50%; set convert.range to the values of the images\n"
        )

    def test_some_values_outside_the_range(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        pixels = np.full((3, 64, 96), 1000, np.uint16)
        pixels[:, :16] = 4000
        pixels[:, 16:18] = 0
        project = prepared(tmp_path, pixels)
        out, _ = converted(project, capsys)
        assert "warning: up to 28% of the values of a scene fall at an end of convert.range (scene a)" in out
        project.change(convert={"max_clipped": 28})
        assert "convert.max_clipped allows 28%" in refused(project)

    @pytest.mark.parametrize(
        ("pixels", "words"),
        [
            (random_image(64, 96) % 3, "0 to 2, use 1% of the range 0 to 255"),
            (random_image(64, 96).astype(np.uint16), "0 to 255, use 8% of the range 0 to 3000"),
        ],
        ids=["dark bytes", "bytes in 16 bits"],
    )
    def test_values_that_use_little_of_the_range(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], pixels: np.ndarray, words: str
    ) -> None:
        out, _ = converted(prepared(tmp_path, pixels), capsys)
        assert (
            f"warning: the values of all scenes, {words}, so tiles have hardly any contrast; set convert.range" in out
        )

    @pytest.mark.parametrize("stretch", ["fixed", "per_chip_minmax"])
    def test_band_of_one_value(self, tmp_path: Path, capsys: pytest.CaptureFixture[str], stretch: str) -> None:
        pixels = random_image(64, 96).astype(np.uint16) * 11
        project = prepared(tmp_path, pixels)
        project.change(convert={"stretch": stretch})
        pixels[1] = 5
        write_tif(project.local / "images/b.tif", pixels)
        out, _ = converted(project, capsys)
        assert (
            "warning: one value in nearly all pixels in bands of 1 scene, first b, where green is 5; replace or" in out
        )

    def test_empty_scene_among_others(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        project = prepared(tmp_path, random_image(64, 96))
        write_tif(project.local / "images/b.tif", np.zeros((3, 64, 96), np.uint8))
        out, _ = converted(project, capsys)
        assert "in bands of 1 scene, first b, where red is 0, green is 0, blue is 0; replace or remove" in out

    def test_dark_scene_among_others(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        project = prepared(tmp_path, random_image(64, 96))
        write_tif(project.local / "images/b.tif", random_image(64, 96) % 4)
        out, _ = converted(project, capsys)
        assert (
            "warning: 1 scene, first b with values from 0 to 3, would be all but black in the range 0 to 255, unlike "
            "the others (up to 255 in the median scene); check their unit and scale"
        ) in out

    def test_nodata_value_in_some_bands(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        project = prepared(tmp_path)
        pixels = random_image(64, 96).clip(1)
        pixels[1, :16] = 0
        write_tif(project.local / "images/b.tif", pixels, nodata=0)
        out, _ = converted(project, capsys)
        assert (
            "warning: up to 25% of the pixels of a scene (scene b) have the nodata value 0 in some bands only; they "
            "count as data"
        ) in out

    def test_pixels_without_data_do_not_count(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        project = Project(tmp_path)
        pixels = np.full((3, 64, 96), 1000, np.uint16)
        pixels[:, :60] = 0
        for scene in SCENES:
            project.add(scene)
            write_tif(project.local / f"images/{scene}.tif", pixels, nodata=0)
        assert "of the values of a scene" not in converted(project, capsys)[0]

    def test_different_data_types(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        project = prepared(tmp_path)
        path = write_tif(project.local / "images/b.tif", random_image(64, 96).astype(np.uint16) * 10)
        assert refused(project).startswith(
            "error: scenes have different data types: uint8 (such as scene a), uint16 (such as scene b); convert them "
            "to one, or set convert.values = scaled"
        )
        rules = [{"images": "b", "scale": 0.0001, "offset": 0}, {"images": "*", "scale": 0.001, "offset": 0}]
        project.change(dataset={"scaling": rules}, convert={"values": "scaled", "range": [0, 0.3]})
        converted(project, capsys)
        with rasterio.open(path) as source:
            assert source.dtypes[0] == "uint16"


class TestNodata:
    def bordered(self, value: float, dtype: str = "uint8") -> np.ndarray:
        """Return an image whose left corner, as of a rotated orthophoto, and last rows have one value."""
        pixels = random_image(64, 96).clip(1, 254).astype(dtype)
        row, col = np.indices((64, 96))
        pixels[:, (row + col < 40) | (row > 60)] = value
        return pixels

    @pytest.mark.parametrize(("value", "dtype"), [(0, "uint8"), (255, "uint8"), (-9999, "int16"), (-9999, "float32")])
    def test_undeclared_value(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], value: float, dtype: str
    ) -> None:
        project = prepared(tmp_path, self.bordered(value, dtype))
        project.change(convert={"range": [-10_000, 3000]})
        out, _ = converted(project, capsys)
        count = int((self.bordered(value, dtype) == value).all(axis=0).sum())
        assert (
            f"warning: scene a and 2 others: all bands are {value} in up to {count / 6144:.1%} of the pixels along "
            f"the border and nowhere else; if they have no data, set dataset.nodata = {value}, or declare it"
        ) in out
        project.change(dataset={"nodata": value})
        out, _ = converted(project, capsys)
        assert "along the border" not in out

    @pytest.mark.parametrize("suffix", ["png", "jpg"])
    def test_lower_border_of_pictures(self, tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str) -> None:
        """Their corners are read last, as they are decoded from the top."""
        project = Project(tmp_path)
        pixels = random_image(64, 96).clip(1).transpose(1, 2, 0).copy()
        pixels[48:] = 0
        for scene in SCENES:
            write_image(project.local / f"images/{scene}.{suffix}", pixels)
            write_image(project.local / f"masks/{scene}.png", random_labels(64, 96))
        assert (
            "warning: scene a and 2 others: all bands are 0 in up to 25.0% of the pixels along the border"
            in converted(project, capsys)[0]
        )

    def test_border_of_a_colour(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        pixels = random_image(64, 96)
        pixels[:, :16] = np.reshape((0, 0, 128), (3, 1, 1))
        out, _ = converted(prepared(tmp_path, pixels), capsys)
        assert (
            "warning: scene a and 2 others: the bands are 0, 0, 128 in up to 25.0% of the pixels along the border and "
            "nowhere else; if they have no data, add a mask to the files with nearblack -setmask -color 0,0,128\n"
        ) in out

    def test_undeclared_value_outside_the_range(self, tmp_path: Path) -> None:
        pixels = self.bordered(-9999, "float32")
        pixels[:, :, 20:] = -9999
        assert refused(prepared(tmp_path, pixels)).endswith(
            "; set convert.range to the values of the images, or set dataset.nodata = -9999, which fills a part of it\n"
        )

    def test_value_that_occurs_elsewhere(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        pixels = self.bordered(0)
        pixels[:, 40:50, 40:60] = 0
        assert "along the border" not in converted(prepared(tmp_path, pixels), capsys)[0]

    def test_labelled_pixels_without_data(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        project = Project(tmp_path)
        pixels = np.concatenate([random_image(64, 96), np.full((1, 64, 96), 255, np.uint8)])
        pixels[3, :16] = 0
        for scene in SCENES:
            project.add(scene)
            write_tif(project.local / f"images/{scene}.tif", pixels, photometric="RGB", alpha="yes")
        assert (
            "warning: scene a and 2 others: up to 25% of the labelled pixels are ignored, because the alpha band 4 "
            "marks them as without data; if the band holds data, name it in dataset.bands\n"
        ) in converted(project, capsys)[0]


class TestCloudLayers:
    def clouded(self, folder: Path, cloud: np.ndarray) -> Project:
        project = Project(folder)
        project.change(dataset={"clouds": "clouds/*"})
        for scene in SCENES:
            project.add(scene, cloud=cloud)
        return project

    def test_layer_of_another_place(self, tmp_path: Path) -> None:
        project = self.clouded(tmp_path, np.zeros((64, 96), np.uint8))
        moved = rasterio.Affine(0.5, 0, 600_000, 0, -0.5, 400_000)
        write_tif(project.local / "clouds/b.tif", np.zeros((64, 96), np.uint8), transform=moved)
        project.run("download")
        assert "clouds/b.tif: offset by 200000.0 px from its image b.tif; align both to one grid" in project.fails(
            "filter"
        )

    @pytest.mark.parametrize("kind", ["scl", "cld"])
    def test_other_kinds_of_layers(self, tmp_path: Path, kind: str) -> None:
        codes = {"scl": [3, 4, 5, 6, 8, 11], "cld": [0, 1, 2, 3, 60, 99]}[kind]
        values = np.repeat(np.array(codes, np.uint8), 16)[None].repeat(64, axis=0)
        project = self.clouded(tmp_path, values)
        project.run("download")
        assert (
            ", so it is no cloud mask (0 clear, 255 nodata, else cloud); set dataset.cloud_values and filter.method "
            "to scl for Sentinel-2 scene classes, or to cld for probabilities in %"
        ) in project.fails("filter")
        project.change(dataset={"cloud_values": kind}, filter={"method": kind, "max_cloud_share": 0.34})
        project.run("download", "filter")
        kept = (tmp_path / "data/tables/folder/kept.csv").read_text()
        assert kept.count(f",{2 / 6}") == 3

    @pytest.mark.parametrize(
        ("kind", "values", "words"),
        [
            ("scl", (3, 4, 60), "has the values 60, so it has no scene classes of Sentinel-2 (0 to 11); set"),
            ("cld", (0, 128, 254), "has the values 128, 254, so it has no cloud probabilities (0 to 100 %, 255"),
        ],
    )
    def test_values_of_no_such_layer(self, tmp_path: Path, kind: str, values: tuple[int, ...], words: str) -> None:
        project = self.clouded(tmp_path, np.repeat(np.array(values, np.uint8), 32)[None].repeat(64, axis=0))
        project.change(dataset={"cloud_values": kind}, filter={"method": kind})
        project.run("download")
        assert words in project.fails("filter")

    @pytest.mark.parametrize("high", [1, 255])
    def test_mask_read_as_probabilities(self, tmp_path: Path, capsys: pytest.CaptureFixture[str], high: int) -> None:
        project = self.clouded(tmp_path, np.repeat(np.array([0, high], np.uint8), 48)[None].repeat(64, axis=0))
        project.change(dataset={"cloud_values": "cld"}, filter={"method": "cld"})
        project.run("download", "filter")
        assert (
            f"warning: all cloud layers (CLD) have the values 0 and {high} only, as a cloud mask; if they are masks, "
            "set dataset.cloud_values and filter.method to mask\n"
        ) in capsys.readouterr().out

    def test_nodata_value_of_the_layer(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """2 is no cloud where the header says nodata; 0 is clear whatever the header says."""
        cloud = np.repeat(np.array([0, 1, 2, 2], np.uint8), 24)[None].repeat(64, axis=0)
        for nodata, share in ((2, 0.5), (0, 0.75)):
            project = self.clouded(tmp_path / str(nodata), cloud)
            project.change(filter={"max_cloud_share": 0.8, "max_nodata_share": 0.8})
            for scene in SCENES:
                write_tif(project.local / f"clouds/{scene}.tif", cloud, nodata=nodata)
            project.run("download", "filter")
            kept = pd.read_csv(tmp_path / str(nodata) / "data/tables/folder/kept.csv")
            assert set(kept["cloud_share"]) == {share}
        assert (
            "warning: 3 cloud layers declare the nodata value 0, which means clear and is read so\n"
        ) in capsys.readouterr().out

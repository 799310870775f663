"""Outputs of `landseg predict`: maps, confidence, probabilities and polygons; notices; existing files."""

import hashlib
import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from helpers.predicting import assert_refused, map_folder, predict
from helpers.scenes import (
    blender,
    predicted_map,
    synthetic_image,
    write_image,
)
from helpers.tiles import CLASSES
from rasterio import Affine
from rasterio.shutil import copy
from rasterio.windows import Window

from landseg.core.classes import class_ids
from landseg.core.files import locked
from landseg.maps.class_map import MAX_CONFIDENCE, NODATA, open_class_map
from landseg.model.segmenter import Segmenter, save_model
from landseg.raster.io import ignore_not_georeferenced

pytestmark = pytest.mark.usefixtures("one_thread")


class TestFiles:
    def test_map_contains_the_predicted_class_ids(self, folder: Path, model: Segmenter) -> None:
        done = predict("scene.tif")
        assert done.exit_code == 0, done.output
        assert done.stdout.startswith("maps/scene.tif: mapped in ")
        channels, _, _ = predicted_map(folder / "scene.tif", blender(model, 64))
        expected = np.full_like(channels, NODATA)
        expected[channels != NODATA] = class_ids(CLASSES)[channels[channels != NODATA]]
        with open_class_map(Path("maps/scene.tif")) as made, rasterio.open("scene.tif") as scene:
            found = made.read(Window(0, 0, 201, 150))
            assert (made.grid.crs, made.grid.transform) == (scene.crs, scene.transform)
            assert made.classes == CLASSES
        np.testing.assert_array_equal(found, expected)
        assert (found[:, :20] == NODATA).all()
        assert (found[:, 20:] != NODATA).all()
        assert map_folder() == ["scene.qml", "scene.tif", "scene.tif.aux.xml"]

    @pytest.mark.usefixtures("folder")
    def test_tags_record_the_provenance(self, model: Segmenter) -> None:
        predict("scene.tif")
        with open_class_map(Path("maps/scene.tif")) as made:
            tags = made.tags
        assert tags["LANDSEG_SCENE"] == "scene"
        assert tags["LANDSEG_MODEL"] == hashlib.sha256(Path("model.safetensors").read_bytes()).hexdigest()
        assert json.loads(tags["LANDSEG_PARAMS"]) == model.info.params
        how = json.loads(tags["LANDSEG_PREDICT"])
        assert {key: how[key] for key in ("window", "overlap", "d4", "bands", "resampled", "computed")} == {
            "window": 64,
            "overlap": 0.25,
            "d4": False,
            "bands": [1, 2, 3],
            "resampled": False,
            "computed": "cpu in 32 bit",
        }
        assert "LANDSEG_REVISION" not in tags  # no commit is known to have trained this file

    @pytest.mark.usefixtures("folder")
    def test_confidence_and_probabilities(self) -> None:
        assert predict("scene.tif", "--confidence", "--probability").exit_code == 0
        with rasterio.open("maps/scene_confidence.tif") as top, rasterio.open("maps/scene_probability.tif") as every:
            confidence, probabilities = top.read(1), every.read()
            assert (top.nodata, every.nodata) == (NODATA, NODATA)
            assert every.descriptions == ("field", "wood", "water")
        with rasterio.open("maps/scene.tif") as made:
            classes = made.read(1)
        seen = classes != NODATA
        np.testing.assert_array_equal(confidence, np.where(seen, probabilities.max(axis=0), NODATA))
        assert np.abs(probabilities[:, seen].sum(axis=0, dtype=int) - MAX_CONFIDENCE).max() <= 2
        sure = np.where(seen, probabilities, 0).max(axis=0)
        assert (probabilities[np.searchsorted(class_ids(CLASSES), classes[seen]), seen.nonzero()[0], seen.nonzero()[1]]
                == sure[seen]).all()  # fmt: skip

    @pytest.mark.usefixtures("folder")
    def test_tags_say_what_confidences_are(self, model: Segmenter) -> None:
        save_model(
            Segmenter(model.network, model.info.model_copy(update={"temperature": 2.5})), Path("calibrated.safetensors")
        )
        for name, temperature, scale in (
            ("model", "1", "254 means 1; softmax of the logits, not calibrated: not a probability of being correct"),
            (
                "calibrated",
                "2.5",
                "254 means 1; softmax of the logits divided by 2.5, a temperature fitted on validation tiles",
            ),
        ):
            predict("scene.tif", "--confidence", "--overwrite", model=f"{name}.safetensors")
            with open_class_map(Path("maps/scene.tif")) as made, rasterio.open("maps/scene_confidence.tif") as raster:
                assert made.tags["LANDSEG_TEMPERATURE"] == raster.tags()["LANDSEG_TEMPERATURE"] == temperature
                assert raster.tags()["LANDSEG_SCALE"] == scale

    @pytest.mark.parametrize("suffix", ["gpkg", "parquet"])
    @pytest.mark.usefixtures("folder")
    def test_polygons(self, suffix: str) -> None:
        done = predict("scene.tif", "--vector", suffix, "--min-area", 5)
        assert done.exit_code == 0, done.output
        path = Path(f"maps/scene.{suffix}")
        found = gpd.read_parquet(path) if suffix == "parquet" else gpd.read_file(path, layer="scene")
        assert set(found["class"]) <= {"field", "wood", "water"}
        assert found["area_m2"].min() >= 5 - 1e-2
        assert found["area_m2"].sum() == pytest.approx(181 * 150 * 0.25, rel=2e-3)
        assert found["confidence"].between(1 / 3, 1).all()
        assert "scene_confidence.tif" not in map_folder()

    @pytest.mark.usefixtures("folder")
    def test_several_scenes(self) -> None:
        write_image(Path("other.tif"), synthetic_image(64, 64))
        done = predict("scene.tif", "other.tif")
        assert [line.split(":")[0] for line in done.stdout.splitlines()] == ["maps/scene.tif", "maps/other.tif"]


class TestNotices:
    @pytest.mark.usefixtures("folder")
    def test_scene_without_a_crs(self) -> None:
        with ignore_not_georeferenced():
            write_image(Path("flat.tif"), synthetic_image(64, 64), crs=None, transform=Affine.identity())
        done = predict("flat.tif")
        assert done.exit_code == 0, done.output
        assert done.stderr == "flat.tif: no CRS, so the map has none either and areas cannot be measured\n"

    @pytest.mark.usefixtures("folder")
    def test_scene_of_another_resolution(self) -> None:
        write_image(Path("coarse.tif"), synthetic_image(64, 96), transform=Affine(1, 0, 500_000, 0, -1, 500_000))
        warned = predict("coarse.tif")
        assert warned.stderr == (
            "coarse.tif: pixels are 1 m wide, but the model was trained on 0.5 m; "
            "expect a poor map, or resample the scene with --resample\n"
        )
        done = predict("coarse.tif", "--resample", "--overwrite")
        assert done.stderr.endswith("0.5 m; resampled to 192 x 128 px\n")
        with rasterio.open("maps/coarse.tif") as made:
            assert (made.width, made.height) == (192, 128)
            assert made.res == pytest.approx((0.5, 0.5), rel=1e-3)

    @pytest.mark.usefixtures("folder")
    def test_scene_of_the_same_resolution_has_no_notice(self) -> None:
        assert predict("scene.tif").stderr == ""


class TestExistingFiles:
    @pytest.mark.faults
    @pytest.mark.usefixtures("folder")
    def test_two_processes_do_not_write_into_one_folder(self) -> None:
        with locked(Path("maps/.landseg.lock"), "busy"):
            again = predict("scene.tif")
        assert (again.exit_code, again.stderr) == (
            1,
            "error: maps: another process is writing maps there; wait for it, or choose another --out\n",
        )
        assert predict("scene.tif").exit_code == 0
        assert map_folder() == ["scene.qml", "scene.tif", "scene.tif.aux.xml"]

    @pytest.mark.usefixtures("folder")
    def test_existing_map_is_kept(self) -> None:
        predict("scene.tif")
        before = Path("maps/scene.tif").read_bytes()
        write_image(Path("other.tif"), synthetic_image(64, 64))
        again = predict("other.tif", "scene.tif", "--d4")
        assert again.exit_code == 1
        assert again.stderr == (
            "error: maps/scene.tif: file exists, made with d4 false, not true; choose another --out, or add "
            "--overwrite\n"
        )
        assert not Path("maps/other.tif").exists()  # checked before the first scene is mapped
        assert Path("maps/scene.tif").read_bytes() == before
        assert predict("scene.tif", "--overwrite", "--window", 32).exit_code == 0
        assert Path("maps/scene.tif").read_bytes() != before

    @pytest.mark.usefixtures("folder")
    def test_scene_is_never_overwritten(self) -> None:
        Path("maps").mkdir()
        Path("scene.tif").rename("maps/scene.tif")
        before = Path("maps/scene.tif").read_bytes()
        done = predict("maps/scene.tif", "--overwrite")
        over = "error: maps/scene.tif: is an input and would be overwritten; choose another --out\n"
        assert done.stderr == over
        assert predict(f"file://{Path.cwd()}/maps/scene.tif", "--overwrite").stderr == over
        Path("maps/scene.tif").rename("maps/b.tif")
        copy("maps/b.tif", "maps/b.vrt", driver="VRT")
        assert predict("maps/b.vrt", "--overwrite").stderr == over.replace("scene", "b")
        assert Path("maps/b.tif").read_bytes() == before

    @pytest.mark.usefixtures("folder")
    def test_two_scenes_with_the_same_output(self) -> None:
        Path("far").mkdir()
        for name in ("far/scene.tif", "scene_confidence.tif", "scene_probability.tif"):
            write_image(Path(name), synthetic_image(32, 32))
        for other, option in (
            ("far/scene.tif", "--d4"),
            ("scene_confidence.tif", "--confidence"),
            ("scene_probability.tif", "--probability"),
        ):
            assert_refused(
                predict("scene.tif", other, option),
                f"maps/{Path(other).name}: both scene.tif and {other} would be written to this file; "
                "map one of them into another folder",
            )
        assert predict("scene.tif", "scene_confidence.tif", "--probability").exit_code == 0

    @pytest.mark.usefixtures("folder")
    def test_existing_style_is_kept(self) -> None:
        Path("maps").mkdir()
        Path("maps/scene.qml").write_text("mine")
        done = predict("scene.tif")
        assert done.stderr.startswith("error: maps/scene.qml: file exists; ")
        assert Path("maps/scene.qml").read_text() == "mine"

"""`landseg predict`, as a person types it: scenes in, maps out, whole or not at all."""

import hashlib
import json
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import torch
from helpers.clones import commit
from helpers.commands import landseg
from helpers.scenes import blender, colours, limited, mapped, photograph, unet, write
from helpers.servers import FileServer, Status
from helpers.tiles import CLASSES, PATHS
from rasterio import Affine
from rasterio.shutil import copy
from rasterio.windows import Window
from typer.testing import Result

from landseg.core.classes import ids
from landseg.maps.class_map import MAX_CONFIDENCE, NODATA, open_class_map
from landseg.model.segmenter import Segmenter, save
from landseg.raster.io import unplaced

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model() -> Segmenter:
    return unet(gsd=0.5, tile=64, params={"train": {"precision": "32"}, "loss": {"name": "dice"}})


@pytest.fixture
def folder(tmp_path: Path, model: Segmenter, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a model and a scene of 150 x 201 px, a strip of which has no data."""
    monkeypatch.chdir(tmp_path)
    save(model, Path("model.safetensors"))
    picture = photograph(150, 201)
    picture[:, :20] = 0
    write(Path("scene.tif"), picture, nodata=0)
    return tmp_path


def predict(*arguments: object, model: str = "model.safetensors") -> Result:
    return landseg("predict", *arguments, "--model", model, "--out", "maps", "--device", "cpu")


def refused(result: Result, sentence: str) -> None:
    """Say that nothing was written, and the one sentence why."""
    assert result.exit_code == 1, result.output
    assert result.stderr.strip().splitlines()[-1] == f"error: {sentence}"
    assert "Traceback" not in result.output
    assert left() == []


def left() -> list[str]:
    """What lies in maps/, hidden files included."""
    return sorted(path.name for path in Path("maps").iterdir()) if Path("maps").is_dir() else []


class TestFiles:
    def test_the_map_is_what_the_network_sees(self, folder: Path, model: Segmenter) -> None:
        done = predict("scene.tif")
        assert done.exit_code == 0, done.output
        assert done.stdout.startswith("maps/scene.tif: mapped in ")
        channels, _, _ = mapped(folder / "scene.tif", blender(model, 64))
        expected = np.full_like(channels, NODATA)
        expected[channels != NODATA] = ids(CLASSES)[channels[channels != NODATA]]
        with open_class_map(Path("maps/scene.tif")) as made, rasterio.open("scene.tif") as scene:
            found = made.read(Window(0, 0, 201, 150))
            assert (made.grid.crs, made.grid.transform) == (scene.crs, scene.transform)
            assert made.classes == CLASSES
        np.testing.assert_array_equal(found, expected)
        assert (found[:, :20] == NODATA).all()
        assert (found[:, 20:] != NODATA).all()
        assert left() == ["scene.qml", "scene.tif", "scene.tif.aux.xml"]

    @pytest.mark.usefixtures("folder")
    def test_says_where_it_comes_from(self, model: Segmenter) -> None:
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
        assert "LANDSEG_REVISION" not in tags  # no pipeline is known to have made this file

    @pytest.mark.usefixtures("folder")
    def test_confidence_and_probabilities(self) -> None:
        assert predict("scene.tif", "--confidence", "--probability").exit_code == 0
        with rasterio.open("maps/scene_confidence.tif") as of, rasterio.open("maps/scene_probability.tif") as every:
            confidence, probabilities = of.read(1), every.read()
            assert (of.nodata, every.nodata) == (NODATA, NODATA)
            assert every.descriptions == ("field", "wood", "water")
        with rasterio.open("maps/scene.tif") as made:
            classes = made.read(1)
        seen = classes != NODATA
        np.testing.assert_array_equal(confidence, np.where(seen, probabilities.max(axis=0), NODATA))
        assert np.abs(probabilities[:, seen].sum(axis=0, dtype=int) - MAX_CONFIDENCE).max() <= 2
        sure = np.where(seen, probabilities, 0).max(axis=0)
        assert (probabilities[np.searchsorted(ids(CLASSES), classes[seen]), seen.nonzero()[0], seen.nonzero()[1]]
                == sure[seen]).all()  # fmt: skip

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
        assert "scene_confidence.tif" not in left()

    @pytest.mark.usefixtures("folder")
    def test_several_scenes(self) -> None:
        write(Path("other.tif"), photograph(64, 64))
        done = predict("scene.tif", "other.tif")
        assert [line.split(":")[0] for line in done.stdout.splitlines()] == ["maps/scene.tif", "maps/other.tif"]


class TestSaid:
    @pytest.mark.usefixtures("folder")
    def test_a_scene_without_a_place(self) -> None:
        with unplaced():
            write(Path("flat.tif"), photograph(64, 64), crs=None, transform=Affine.identity())
        done = predict("flat.tif")
        assert done.exit_code == 0, done.output
        assert done.stderr == "flat.tif: has no CRS; its map has none either, and no areas in hectares\n"

    @pytest.mark.usefixtures("folder")
    def test_another_resolution(self) -> None:
        write(Path("coarse.tif"), photograph(64, 96), transform=Affine(1, 0, 500_000, 0, -1, 500_000))
        warned = predict("coarse.tif")
        assert warned.stderr == (
            "coarse.tif: its pixels are 1 m wide, and those that the model was trained on 0.5 m; "
            "it may see little in them: --resample brings them to the model's\n"
        )
        done = predict("coarse.tif", "--resample", "--overwrite")
        assert done.stderr.endswith("0.5 m; resampled, so the map has 192 x 128 px\n")
        with rasterio.open("maps/coarse.tif") as made:
            assert (made.width, made.height) == (192, 128)
            assert made.res == pytest.approx((0.5, 0.5), rel=1e-3)

    @pytest.mark.usefixtures("folder")
    def test_the_usual_one_is_not_mentioned(self) -> None:
        assert predict("scene.tif").stderr == ""


class TestRefused:
    @pytest.mark.usefixtures("folder")
    def test_a_map_that_is_there(self) -> None:
        predict("scene.tif")
        before = Path("maps/scene.tif").read_bytes()
        write(Path("other.tif"), photograph(64, 64))
        again = predict("other.tif", "scene.tif", "--d4")
        assert again.exit_code == 1
        assert again.stderr == ("error: maps/scene.tif: is already there; name another --out, or say --overwrite\n")
        assert not Path("maps/other.tif").exists()  # said before the first scene is mapped
        assert Path("maps/scene.tif").read_bytes() == before
        assert predict("scene.tif", "--overwrite", "--window", 32).exit_code == 0
        assert Path("maps/scene.tif").read_bytes() != before

    @pytest.mark.usefixtures("folder")
    def test_a_scene_is_never_written_over(self) -> None:
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
    def test_two_of_one_name(self) -> None:
        Path("far").mkdir()
        for name in ("far/scene.tif", "scene_confidence.tif", "scene_probability.tif"):
            write(Path(name), photograph(32, 32))
        for other, option in (
            ("far/scene.tif", "--d4"),
            ("scene_confidence.tif", "--confidence"),
            ("scene_probability.tif", "--probability"),
        ):
            refused(
                predict("scene.tif", other, option),
                f"maps/{Path(other).name}: would be written of scene.tif and of {other}; "
                "map one of them into another folder",
            )
        assert predict("scene.tif", "scene_confidence.tif", "--probability").exit_code == 0

    @pytest.mark.usefixtures("folder")
    def test_one_that_does_not_suit_is_refused_before_the_first_is_mapped(self) -> None:
        write(Path("deep.tif"), photograph(64, 64).astype(np.uint16))
        done = predict("scene.tif", "deep.tif")
        assert done.stderr.startswith("error: deep.tif: holds uint16")
        assert left() == []

    @pytest.mark.usefixtures("folder")
    def test_a_style_of_the_users_own(self) -> None:
        Path("maps").mkdir()
        Path("maps/scene.qml").write_text("mine")
        done = predict("scene.tif")
        assert done.stderr.startswith("error: maps/scene.qml: is already there; ")
        assert Path("maps/scene.qml").read_text() == "mine"

    @pytest.mark.usefixtures("folder")
    def test_options_that_would_do_nothing(self) -> None:
        refused(
            predict("scene.tif", "--min-area", 10), "--min-area and --tolerance: are of polygons; say --vector, too"
        )

    @pytest.mark.usefixtures("folder")
    def test_options_that_do_not_suit_the_model(self) -> None:
        refused(
            predict("scene.tif", "--window", 100),
            "--window: 100 px is no multiple of 8, which this model needs; choose one",
        )
        refused(
            predict("scene.tif", "--classes", "field,road"),
            "model.safetensors: knows the classes field, wood, water, not field, road; name another model",
        )
        refused(predict("scene.tif", "--bands", "1,2,9"), "scene.tif: has no band '9', but 3 in all; correct --bands")
        assert predict("scene.tif", "--classes", "water,wood,field").exit_code == 0

    @pytest.mark.usefixtures("folder")
    def test_too_few_bands_and_other_values(self) -> None:
        write(Path("one.tif"), photograph(64, 64)[..., :1], photometric="MINISBLACK")
        write(Path("deep.tif"), photograph(64, 64).astype(np.uint16))
        refused(
            predict("one.tif"),
            "one.tif: has 1 band(s) without names, and the model wants red, green, blue; choose another",
        )
        refused(
            predict("deep.tif"),
            "deep.tif: holds uint16, and the model was trained on uint8; "
            "convert it to the same scale and type of numbers",
        )

    @pytest.mark.usefixtures("folder")
    def test_no_area_without_a_place(self) -> None:
        with unplaced():
            write(Path("flat.tif"), photograph(64, 64), crs=None, transform=Affine.identity())
        refused(
            predict("flat.tif", "--vector", "gpkg", "--min-area", 10),
            "flat.tif: has no CRS, so --min-area, in m², means nothing to it; leave it out",
        )
        refused(
            predict("flat.tif", "--resample"),
            "--resample: flat.tif has no ground sampling distance, for want of a CRS; leave it out",
        )

    @pytest.mark.usefixtures("folder")
    def test_a_device_that_is_not_here(self) -> None:
        if torch.backends.mps.is_available():
            pytest.skip("it is here")
        done = landseg("predict", "scene.tif", "-m", "model.safetensors", "--out", "maps", "--device", "mps")
        refused(done, "--device mps, and there is none here; set it to auto or cpu")

    @pytest.mark.usefixtures("folder")
    def test_a_scene_that_is_cut_off_leaves_no_map(self) -> None:
        path = write(Path("cut.tif"), photograph(600, 64), compress="deflate")
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        done = predict("cut.tif", "--confidence", "--vector", "gpkg")
        assert done.exit_code == 1
        assert done.stderr.startswith("error: cut.tif: its pixels cannot be read, it is truncated or damaged (")
        assert left() == []

    @pytest.mark.usefixtures("folder")
    def test_a_server_that_goes_away_leaves_no_map(self, server: FileServer) -> None:
        pixels = np.random.default_rng(0).integers(0, 255, (2048, 64, 3), np.uint8)
        path = write(Path("far.tif"), pixels, tiled=True, blockxsize=64, blockysize=64)
        file = server.add("/far.tif", path.read_bytes())

        def later() -> Iterator[Any]:
            for _ in range(3):
                yield None
            while True:
                yield Status(404)

        file.faults = later()
        done = predict(server.url("/far.tif"))
        assert done.exit_code == 1
        assert f"error: {server.url('/far.tif')}: its pixels cannot be read" in done.stderr
        assert left() == []
        file.faults = iter(())
        assert predict(server.url("/far.tif")).exit_code == 0
        assert left() == ["far.qml", "far.tif", "far.tif.aux.xml"]

    @pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_AS and /proc")
    @pytest.mark.parametrize(("suffix", "library"), [("safetensors", "torch"), ("onnx", "onnx")])
    @pytest.mark.usefixtures("folder")
    def test_want_of_memory_for_a_row_of_windows(self, suffix: str, library: str) -> None:
        colours(Path("model.onnx"))
        place = {"crs": "EPSG:2180", "transform": Affine(0.5, 0, 500_000, 0, -0.5, 500_000)}
        options = {"dtype": "uint8", "photometric": "RGB", "sparse_ok": True, **place}
        with rasterio.open("wide.tif", "w", "GTiff", 3_000_000, 32, 3, **options):
            pass
        needed = 3 * 32 * 3_000_000 * 4  # bytes: what is blended of all classes
        done = limited(f"""
            import landseg.predict.command, landseg.predict.{library}_backend
            from landseg.cli import app
            leave({needed * 3 // 4})
            app("predict wide.tif -m model.{suffix} --out maps --window 512 --device cpu".split())
        """)
        assert done.returncode == 1
        assert done.stderr == (
            "error: --window: memory does not suffice for a row of windows of 512 px across the 3,000,000 px of "
            "wide.tif; choose less, or cut the scene\n"
        )
        assert left() == []

    @pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_FSIZE")
    @pytest.mark.usefixtures("folder")
    def test_a_full_disk_leaves_no_map(self) -> None:
        limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))"
        program = f"{limited}; from landseg.cli import app; app()"
        arguments = ["predict", "scene.tif", "-m", "model.safetensors", "--out", "maps", "--device", "cpu"]
        done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True)
        assert done.returncode == 1, done.stderr
        assert "Traceback" not in done.stderr
        assert "error: maps/scene.tif: incomplete write, file discarded; free disk space" in done.stderr
        assert left() == []

    @pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGHUP])
    @pytest.mark.usefixtures("folder")
    def test_asked_to_end_it_leaves_nothing(self, sent: signal.Signals) -> None:
        with rasterio.open("scene.tif") as scene:
            profile, values = scene.profile, scene.read()
        with rasterio.open("large.tif", "w", **profile | {"width": 2048, "height": 2048}) as large:
            large.write(np.resize(values, (len(values), 2048, 2048)))
        command = [str(Path(sys.executable).parent / "landseg"), "predict", "large.tif", "-m", "model.safetensors"]
        with subprocess.Popen([*command, "--out", "maps"], stderr=subprocess.DEVNULL) as process:
            try:
                until = time.monotonic() + 120
                while not any(Path("maps").glob(".large.tif.*")):  # what is being written has a hidden name
                    assert process.poll() is None
                    assert time.monotonic() < until
                    time.sleep(0.01)
                process.send_signal(sent)
                process.wait(60)
            finally:
                process.kill()
        assert process.returncode == 128 + sent
        assert left() == []


class TestModel:
    @pytest.mark.usefixtures("folder")
    def test_one_that_is_not_there(self) -> None:
        refused(
            predict("scene.tif", model="no.onnx"),
            "no.onnx: not there; correct the path, run `dvc repro`, or name a revision or an experiment",
        )

    @pytest.mark.parametrize("name", ["model.pt", "model.safetensors", "model.onnx", "model"])
    @pytest.mark.usefixtures("folder")
    def test_a_file_that_would_run_code_is_refused(self, name: str) -> None:
        Path(name).write_bytes(pickle.dumps(_Trap()))
        done = predict("scene.tif", model=name)
        assert done.exit_code == 1
        assert done.stderr.startswith(f"error: {name}: ")
        assert done.stderr.count("\n") == 1
        assert not Path("sprung").exists()
        pickle.loads(Path(name).read_bytes())  # it is a trap indeed
        assert Path("sprung").exists()

    @pytest.mark.usefixtures("folder")
    def test_of_a_revision(self) -> None:
        subprocess.run(["git", "init", "-q"], check=True)
        made = PATHS.model("last")
        made.parent.mkdir(parents=True)
        Path("model.safetensors").rename(made)
        Path("params.yaml").write_text("dataset: {name: tiny}\nevaluate: {weights: last}\n")
        md5 = hashlib.md5(made.read_bytes()).hexdigest()
        Path("dvc.lock").write_text(f"md5: {md5}\n")
        Path(".gitignore").write_text("maps\n")
        commit(Path())
        head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        for name in ("HEAD", "workspace", made):
            done = predict("scene.tif", "--overwrite", model=str(name))
            assert done.exit_code == 0, done.output
            with open_class_map(Path("maps/scene.tif")) as found:
                assert found.tags["LANDSEG_REVISION"] == head
        refused_name = predict("scene.tif", "--overwrite", model="nothing")
        assert refused_name.stderr.startswith("error: nothing: no git revision and no DVC experiment")

    @pytest.mark.usefixtures("folder")
    def test_of_a_revision_that_never_trained(self) -> None:
        subprocess.run(["git", "init", "-q"], check=True)
        Path("params.yaml").write_text("dataset: {name: tiny}\nevaluate: {weights: best}\n")
        commit(Path())
        refused(
            predict("scene.tif", model="HEAD"),
            "HEAD: has no models/tiny/best.safetensors; run `dvc repro` there, or name a file of a model",
        )


class _Trap:
    """Makes a file when it is unpickled."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("sprung"),)

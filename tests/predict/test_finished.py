"""Finished maps are kept by their content: the model, the scene and the settings that made them."""

import os
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import rasterio
from helpers.predicting import assert_refused, map_folder, predict
from helpers.s3_server import S3Server
from helpers.scenes import synthetic_image, write_identity_model, write_image
from helpers.servers import FileServer
from typer.testing import Result

KEPT = "1 of 1 map is finished and kept; remove a map to make it again\n"
MAP = Path("maps/scene.tif")


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder with an ONNX model, which needs no torch, and a scene."""
    monkeypatch.chdir(tmp_path)
    write_identity_model(Path("model.onnx"))
    write_image(Path("scene.tif"), synthetic_image(64, 96), photometric="RGB")


def mapped(*arguments: object) -> Result:
    """Run predict on a scene without notices on its resolution."""
    return predict(*(arguments or ("scene.tif",)), model="model.onnx")


def assert_done(result: Result, *maps: str) -> None:
    """Assert that these maps were made, and no others."""
    assert result.exit_code == 0, result.output
    made = [line.partition(":")[0] for line in result.stdout.splitlines()]
    assert made == [f"maps/{name}.tif" for name in maps]


class TestKept:
    def test_the_same_again(self) -> None:
        assert_done(mapped(), "scene")
        before = MAP.stat()
        again = mapped()
        assert_done(again)
        assert again.stderr.endswith(KEPT)
        assert (MAP.stat().st_ino, MAP.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)

    def test_scene_with_the_same_content_and_another_time(self) -> None:
        mapped()
        shutil.move("scene.tif", "far.tif")
        shutil.copyfile("far.tif", "scene.tif")
        os.utime("scene.tif", (1, 1))
        assert_done(mapped())

    def test_run_goes_on_where_it_stopped(self) -> None:
        for name in ("a", "b", "c"):
            write_image(Path(f"{name}.tif"), synthetic_image(40, 40))
        assert_done(mapped("a.tif", "c.tif"), "a", "c")
        Path("maps/c.tif").unlink()  # as if it had been killed before the map, which is written last
        again = mapped("a.tif", "b.tif", "c.tif")
        assert_done(again, "b", "c")
        assert "1 of 3 maps are finished and kept" in again.stderr

    def test_an_output_that_is_missing_is_made(self) -> None:
        mapped()
        ids = MAP.read_bytes()
        assert_done(mapped("scene.tif", "--confidence"), "scene")
        assert Path("maps/scene_confidence.tif").is_file()
        assert MAP.read_bytes() == ids
        assert_done(mapped("scene.tif", "--confidence"))
        assert_done(mapped())

    def test_polygons_with_other_settings(self) -> None:
        assert_done(mapped("scene.tif", "--vector", "gpkg", "--min-area", 5), "scene")
        assert_done(mapped("scene.tif", "--vector", "gpkg", "--min-area", 5))
        again = mapped("scene.tif", "--vector", "gpkg", "--min-area", 9)
        assert again.stderr == (
            "error: maps/scene.gpkg: file exists, made with another --min-area or --tolerance; choose another --out, "
            "or add --overwrite\n"
        )
        assert_done(mapped("scene.tif", "--vector", "parquet", "--min-area", 9), "scene")

    def test_user_style_is_kept_with_its_map(self) -> None:
        mapped()
        Path("maps/scene.qml").write_text("mine")
        assert_done(mapped())
        assert Path("maps/scene.qml").read_text() == "mine"


class TestRefused:
    def test_other_content_of_the_same_size(self) -> None:
        mapped()
        before = MAP.read_bytes()
        write_image(Path("scene.tif"), synthetic_image(64, 96, seed=1))
        again = mapped()
        assert again.stderr == (
            "error: maps/scene.tif: file exists, made from another content of the scene; choose another --out, or add "
            "--overwrite\n"
        )
        assert MAP.read_bytes() == before
        assert_done(mapped("scene.tif", "--overwrite"), "scene")
        assert_done(mapped("scene.tif", "--overwrite"))

    def test_another_model(self) -> None:
        mapped()
        model = onnx.load("model.onnx")
        model.doc_string = "another file"
        onnx.save(model, "model.onnx")
        again = mapped()
        assert again.exit_code == 1
        assert "error: maps/scene.tif: file exists, made by another model (" in again.stderr
        assert_done(mapped("scene.tif", "--overwrite"), "scene")

    def test_other_settings(self) -> None:
        mapped()
        for options, difference in (
            (("--window", 64), "window 32, not 64"),
            (("--overlap", 0), "overlap 0.25, not 0.0"),
            (("--bands", "3,2,1"), "bands [1, 2, 3], not [3, 2, 1]"),
        ):
            again = mapped("scene.tif", *options)
            assert f"made with {difference}; choose another --out, or add --overwrite\n" in again.stderr

    def test_another_raster_of_this_name(self) -> None:
        Path("maps").mkdir()
        shutil.copyfile("scene.tif", MAP)
        again = mapped()
        assert again.stderr == "error: maps/scene.tif: file exists; choose another --out, or add --overwrite\n"


@pytest.mark.faults
class TestLeftovers:
    def test_files_of_killed_processes_are_removed(self) -> None:
        Path("maps/.landseg.1a2b").mkdir(parents=True)
        Path("maps/.scene.tif.0123abcd.77.0123abcd.tif.x1").mkdir()
        Path("maps/.scene.qml.0123abcd.77.0123abcd.qml").touch()
        Path("maps/.mine").touch()
        assert_done(mapped(), "scene")
        assert map_folder() == [".mine", "scene.qml", "scene.tif", "scene.tif.aux.xml"]

    def test_failing_scene_does_not_end_the_run(self) -> None:
        for name in ("a", "b", "c"):
            write_image(Path(f"{name}.tif"), synthetic_image(900, 64, seed=3), compress="deflate", blockysize=16)
        with rasterio.open("b.tif") as source:
            strip = int(source.get_tag_item("BLOCK_OFFSET_0_16", "TIFF", bidx=1))
        with Path("b.tif").open("r+b") as file:  # rows that the check of all scenes does not read
            file.seek(strip)
            file.write(bytes(40))
        done = mapped("a.tif", "b.tif", "c.tif")
        assert done.exit_code == 1
        assert [line.partition(":")[0] for line in done.stdout.splitlines()] == ["maps/a.tif", "maps/c.tif"]
        assert "\nb.tif: cannot read pixels, the file is truncated or damaged (" in f"\n{done.stderr}"
        assert done.stderr.splitlines()[-1] == (
            "error: 1 of 3 scenes have no map: b.tif, for the reasons above; correct or leave them out and run again, "
            "which keeps the finished maps"
        )
        write_image(Path("b.tif"), synthetic_image(900, 64, seed=3))
        assert_done(mapped("a.tif", "b.tif", "c.tif"), "b")

    def test_all_unsuitable_scenes_are_named_before_the_first_is_mapped(self) -> None:
        for name in ("deep", "deeper"):
            write_image(Path(f"{name}.tif"), synthetic_image(64, 64).astype(np.uint16))
        done = mapped("deep.tif", "scene.tif", "deeper.tif")
        assert_refused(done, "2 of 3 scenes cannot be mapped; correct or leave them out")
        assert [line.partition(":")[0] for line in done.stderr.splitlines()] == ["deep.tif", "deeper.tif", "error"]


class TestRemote:
    def test_entity_tag_of_a_server(self, server: FileServer) -> None:
        file = server.add("/scene.tif", Path("scene.tif").read_bytes())
        assert_done(mapped(server.url("/scene.tif")), "scene")
        with rasterio.open(MAP) as made:
            assert "LANDSEG_SCENE_SHA256" not in made.tags()
        assert_done(mapped(server.url("/scene.tif")))
        write_image(Path("other.tif"), synthetic_image(64, 96, seed=1))
        file.body = Path("other.tif").read_bytes()
        assert "made from another content of the scene" in mapped(server.url("/scene.tif")).stderr

    def test_server_that_states_nothing(self, server: FileServer) -> None:
        server.add("/scene.tif", Path("scene.tif").read_bytes()).tagged = False
        assert_done(mapped(server.url("/scene.tif")), "scene")
        assert_done(mapped(server.url("/scene.tif")))

    def test_object_store(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with S3Server() as store:
            host = store.endpoint.removeprefix("http://")
            for name, value in {
                "AWS_S3_ENDPOINT": host,
                "AWS_HTTPS": "NO",
                "AWS_VIRTUAL_HOSTING": "FALSE",
                "AWS_NO_SIGN_REQUEST": "YES",
            }.items():
                monkeypatch.setenv(name, value)
            store.put("scenes", "a/scene.tif", Path("scene.tif").read_bytes())
            assert_done(mapped("s3://scenes/a/scene.tif"), "scene")
            assert_done(mapped("s3://scenes/a/scene.tif"))
            write_image(Path("other.tif"), synthetic_image(64, 96, seed=1))
            store.put("scenes", "a/scene.tif", Path("other.tif").read_bytes())
            assert "made from another content of the scene" in mapped("s3://scenes/a/scene.tif").stderr


class TestLists:
    def test_patterns_and_lists(self) -> None:
        Path("far/near").mkdir(parents=True)
        for name in ("far/a.tif", "far/near/b.tif", "far/near/c.tif"):
            write_image(Path(name), synthetic_image(40, 40))
        assert_done(mapped("far/**/*.tif"), "a", "b", "c")
        Path("list.txt").write_text("# near\nfar/near/b.tif\n\nscene.tif\n")
        assert_done(mapped("--scenes", "list.txt"), "scene")
        Path("list.csv").write_text("date,scene\n2024-06-01,far/a.tif\n,far/near/c.tif\n")
        done = mapped("--scenes", "list.csv", "--stac")
        assert "far/near/c.tif: its date is unknown, which a catalogue needs; give --date, or " in done.stderr

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("no/*.tif",), "no/*.tif: no file matches; correct the pattern"),
            (("--scenes", "no.txt"), "no.txt: file not found; correct --scenes"),
            (
                ("--scenes", "empty.txt"),
                "empty.txt: lists no scene; give paths, addresses, a quoted pattern, or --scenes",
            ),
            (("--scenes", "other.csv"), "other.csv: no column 'scene' among name; add it"),
            (("scene.tif", "./scene.tif"), "scene.tif: given twice; give it once"),
            (("scene.tif", "--date", "2024"), "--date requires --stac"),
            (("scene.tif", "--stac", "--date", "June"), "--date: 'June' is no date ("),
            (
                ("scene.tif", "--workers", 2, "--address", "tcp://a:1"),
                "--workers: the scheduler at --address has its own",
            ),
        ],
    )
    def test_refusals(self, arguments: tuple[object, ...], message: str) -> None:
        Path("empty.txt").write_text("# nothing\n")
        Path("other.csv").write_text("name\nscene.tif\n")
        done = mapped(*arguments)
        assert (done.exit_code, map_folder()) == (1, [])
        assert done.stderr.startswith(f"error: {message}"), done.stderr

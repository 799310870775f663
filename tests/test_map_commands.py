"""`landseg area`, `change`, `export` and `card`, as a person types them."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from mapmakers import CLASSES, make_map, patches
from test_blending import photograph, unet, write
from test_predict import landseg
from tilemakers import CARD, PATHS

from landseg.datasets.card import write_card
from landseg.models import save
from landseg.tables import scene_table, write_csv

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def maps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder with maps of 2018 and 2024, 100 x 80 px of 10 m."""
    monkeypatch.chdir(tmp_path)
    for year in (2018, 2024):
        make_map(Path(f"{year}.tif"), patches(80, 100, seed=year))


@pytest.mark.usefixtures("maps")
class TestArea:
    def test_figures_and_table(self) -> None:
        done = landseg("area", "2018.tif", "--csv", "areas.csv")
        assert done.exit_code == 0, done.output
        with rasterio.open("2018.tif") as source:
            water = int((source.read(1) == 4).sum())
        [line] = [line for line in done.stdout.splitlines() if line.startswith("water & ice")]
        assert f"{water:,}" in line
        assert "Pixel counts alone are biased" in done.stdout
        assert Path("areas.csv").read_text().count("\n") == len(CLASSES) + 1

    def test_with_points(self) -> None:
        with rasterio.open("2018.tif") as source:
            ids, place = source.read(1), source.transform
        chance = np.random.default_rng(0)
        rows, cols = chance.integers(0, 80, 300), chance.integers(0, 100, 300)
        lines = [
            f"{x},{y},{ids[row, col]}"
            for row, col in zip(rows, cols, strict=True)
            for x, y in [place @ (col + 0.5, row + 0.5)]
            if ids[row, col] != 255
        ]
        Path("points.csv").write_text("x,y,class\n" + "\n".join(lines))
        done = landseg("area", "2018.tif", "--points", "points.csv")
        assert done.exit_code == 0, done.output
        assert "adjusted ha" in done.stdout
        assert "1.00" in done.stdout  # a reference that is the map itself finds no fault

    def test_what_is_there_is_kept(self) -> None:
        Path("areas.csv").write_text("mine")
        done = landseg("area", "2018.tif", "--csv", "areas.csv")
        assert done.stderr == "error: areas.csv: is already there; name another --out, or say --overwrite\n"
        assert Path("areas.csv").read_text() == "mine"


@pytest.mark.usefixtures("maps")
class TestChange:
    def test_all_that_is_written(self) -> None:
        done = landseg("change", "2018.tif", "2024.tif", "--out", "change")
        assert done.exit_code == 0, done.output
        assert "Changed: " in done.stdout
        written = sorted(path.name for path in Path("change").iterdir())
        assert written == [
            "change.csv",
            "change.gpkg",
            "change.png",
            "change.qml",
            "change.tif",
            "change.tif.aux.xml",
        ]
        assert (gpd.read_file("change/change.gpkg", layer="change")["from"].notna()).all()
        again = landseg("change", "2018.tif", "2024.tif", "--out", "change")
        assert again.stderr == "error: change/change.tif: is already there; name another --out, or say --overwrite\n"

    def test_of_two_scenes_of_one_name(self) -> None:
        save(unet(gsd=0.5, tile=64), Path("model.safetensors"))
        for year in ("2018", "2024"):
            Path(year).mkdir()
            write(Path(year, "scene.tif"), photograph(64, 96, seed=int(year)))
        arguments = (
            "2018/scene.tif",
            "2024/scene.tif",
            "-m",
            "model.safetensors",
            "--device",
            "cpu",
            "--out",
            "change",
        )
        done = landseg("change", *arguments)
        assert done.exit_code == 0, done.output
        for path in ("before/scene.tif", "after/scene.tif", "change.tif"):
            assert Path("change", path).is_file()

    def test_of_two_dates_of_a_place_in_the_scene_table(self) -> None:
        save(unet(gsd=0.5, tile=64), Path("model.safetensors"))
        bands = {"band_files": {"red": "B04", "green": "B03", "blue": "B02"}}
        write_card(CARD.model_copy(update=bands), PATHS.table("card.json"))
        dates = ("chip_2018", "chip_2019")
        table = [{"scene": date, "place": "chip", "image": f"{date}/{{band}}.tif"} for date in dates]
        write_csv(scene_table(table), PATHS.table("scenes.csv"))
        for seed, date in enumerate(dates):
            (PATHS.raw / date).mkdir(parents=True)
            for code, band in zip(("B04", "B03", "B02"), photograph(64, 64, seed).transpose(2, 0, 1), strict=True):
                write(PATHS.raw / date / f"{code}.tif", band[..., None], photometric="MINISBLACK")
        arguments = ("--dataset", "tiny", "-m", "model.safetensors", "--device", "cpu", "--out", "change")
        done = landseg("change", *dates, *arguments)
        assert done.exit_code == 0, done.output
        assert "4,096 pixels with a class on both" in done.stdout
        assert Path("change/before/chip_2018.tif").is_file()

    def test_what_would_fail_later_fails_before_scenes_are_mapped(self) -> None:
        for option, sentence in (
            (("--points", "no.csv"), "no.csv: not there; correct the path"),
            (
                ("--points", "2018.tif", "--matrix", "HEAD"),
                "2018.tif and HEAD: are two references; give points, or a matrix",
            ),
            (("--d4",), "--d4: is of scenes, and without --model both are maps; say --model, or leave it out"),
        ):
            done = landseg("change", "2018.tif", "2024.tif", "--out", "change", *option)
            assert done.stderr == f"error: {sentence}\n"
            assert not Path("change").exists()


@pytest.mark.usefixtures("maps")
class TestExport:
    def test_what_cannot_be(self) -> None:
        save(unet(), Path("model.safetensors"))
        Path("model.onnx").touch()
        for out, sentence in (
            ("model.pt", "model.pt: is to be an .onnx file; give it that suffix"),
            ("model.onnx", "model.onnx: is already there; name another --out, or say --overwrite"),
        ):
            done = landseg("export", "-m", "model.safetensors", "--out", out)
            assert (done.exit_code, done.stderr) == (1, f"error: {sentence}\n")

    def test_a_card_of_nothing(self) -> None:
        done = landseg("card", "nothing")
        assert done.exit_code == 1
        assert done.stderr.startswith("error: nothing: cannot be looked up: ")
        assert done.stderr.count("\n") == 1

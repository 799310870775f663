"""The commands area, change, export and card."""

from pathlib import Path
from typing import Any, cast

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from helpers.commands import landseg
from helpers.maps import CLASSES, make_map, patches
from helpers.scenes import synthetic_image, unet, write_image
from helpers.tiles import CARD, PATHS
from rasterio import Affine
from typer.main import get_command
from typer.testing import Result

from landseg.cli import app
from landseg.core.data_card import write_card
from landseg.core.tables import scene_table, write_csv
from landseg.model.segmenter import save_model
from landseg.raster.io import ignore_not_georeferenced

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def maps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder with maps of 2018 and 2024, 100 x 80 pixels of 10 m."""
    monkeypatch.chdir(tmp_path)
    for year in (2018, 2024):
        make_map(Path(f"{year}.tif"), patches(80, 100, seed=year))


@pytest.fixture
def scenes(maps: None) -> None:
    """Also a model and two scenes with the same file name."""
    save_model(unet(gsd=0.5, tile=64), Path("model.safetensors"))
    for year in ("2018", "2024"):
        Path(year).mkdir()
        write_image(Path(year, "scene.tif"), synthetic_image(64, 96, seed=int(year)))


def change_of_scenes(*arguments: object) -> Result:
    return landseg("change", *arguments, "-m", "model.safetensors", "--device", "cpu", "--out", "change")


@pytest.mark.usefixtures("maps")
class TestArea:
    def test_table_and_csv(self) -> None:
        done = landseg("area", "2018.tif", "--csv", "areas.csv")
        assert done.exit_code == 0, done.output
        with rasterio.open("2018.tif") as source:
            water = int((source.read(1) == 4).sum())
        [line] = [line for line in done.stdout.splitlines() if line.startswith("water & ice")]
        assert f"{water:,}" in line
        assert "These are pixel counts, and their error is unknown" in done.stdout
        assert Path("areas.csv").read_text().count("\n") == len(CLASSES) + 1

    def test_with_points(self) -> None:
        with rasterio.open("2018.tif") as source:
            ids, transform = source.read(1), source.transform
        chance = np.random.default_rng(0)
        rows, cols = chance.integers(0, 80, 300), chance.integers(0, 100, 300)
        lines = [
            f"{x},{y},{ids[row, col]}"
            for row, col in zip(rows, cols, strict=True)
            for x, y in [transform @ (col + 0.5, row + 0.5)]
            if ids[row, col] != 255
        ]
        Path("points.csv").write_text("x,y,class\n" + "\n".join(lines))
        done = landseg("area", "2018.tif", "--points", "points.csv")
        assert done.exit_code == 0, done.output
        assert "adjusted ha" in done.stdout
        assert "1.00" in done.stdout  # the reference points agree with the map

    def test_with_strata(self) -> None:
        with rasterio.open("2018.tif") as source:
            ids, transform = source.read(1), source.transform
        lines = []
        for row, col in np.argwhere(ids != 255)[::40].tolist():
            x, y = transform @ (col + 0.5, row + 0.5)
            lines.append(f"{x},{y},{ids[row, col]},{'west' if col < 50 else 'east'}")
        Path("points.csv").write_text("x,y,class,stratum\n" + "\n".join(lines))
        done = landseg("area", "2018.tif", "--points", "points.csv")
        assert "is not its mapped class, and the sizes of the strata are unknown; give --strata FILE" in done.stderr
        Path("strata.csv").write_text("stratum,size\nwest,1\neast,1\n")
        done = landseg("area", "2018.tif", "--points", "points.csv", "--strata", "strata.csv")
        assert done.exit_code == 0, done.output
        assert "drawn at random from each of the 2 strata" in done.stdout

    def test_matrices_that_do_not_help_leave_pixel_counts(self) -> None:
        rows = [f"s{n},{name},{name},{100 + n}" for n in range(6) for name in ("other", "building", "water & ice")]
        Path("m.csv").write_text("scene,actual,predicted,pixels\n" + "\n".join(rows))
        done = landseg("area", "2018.tif", "--matrix", "m.csv", "--csv", "areas.csv")
        assert done.exit_code == 0, done.output
        assert "No adjustment by the confusion matrices of m.csv: that does not reliably make" in done.stdout
        assert "adjusted" not in Path("areas.csv").read_text()

    def test_existing_files_are_kept(self) -> None:
        Path("areas.csv").write_text("mine")
        done = landseg("area", "2018.tif", "--csv", "areas.csv")
        assert done.stderr == "error: areas.csv: file exists; choose another --out, or add --overwrite\n"
        assert Path("areas.csv").read_text() == "mine"

    def test_reference_data_are_never_overwritten(self) -> None:
        Path("points.csv").write_text("mine")
        done = landseg("area", "2018.tif", "--points", "points.csv", "--csv", "points.csv", "--overwrite")
        assert done.stderr.startswith("error: points.csv: is an input and would be overwritten; ")
        assert Path("points.csv").read_text() == "mine"


@pytest.mark.usefixtures("maps")
class TestChange:
    def test_output_files(self) -> None:
        done = landseg("change", "2018.tif", "2024.tif", "--out", "change")
        assert done.exit_code == 0, done.output
        assert "Mapped change: " in done.stdout
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
        assert again.stderr == "error: change/change.tif: file exists; choose another --out, or add --overwrite\n"

    @pytest.mark.usefixtures("scenes")
    def test_two_scenes_with_the_same_name(self) -> None:
        done = change_of_scenes("2018/scene.tif", "2024/scene.tif")
        assert done.exit_code == 0, done.output
        for path in ("before/scene.tif", "after/scene.tif", "change.tif"):
            assert Path("change", path).is_file()

    @pytest.mark.usefixtures("scenes")
    def test_invalid_inputs_fail_before_the_first_scene_is_mapped(self) -> None:
        write_image(Path("deep.tif"), synthetic_image(64, 96).astype(np.uint16))
        with ignore_not_georeferenced():
            write_image(Path("flat.tif"), synthetic_image(64, 96), crs=None, transform=Affine.identity())
        Path("matrix.csv").write_text("actual,predicted,pixels\nbuilding,building,1\n")
        Path("points.csv").write_text("x,y,before,after\n1,1,field,building\n")
        for after, options, fault in (
            ("no.tif", (), "no.tif: file not found; correct the path"),
            ("deep.tif", (), "deep.tif: has data type uint16, but the model was trained on uint8; "),
            (
                "2024/scene.tif",
                ("--matrix", "matrix.csv"),
                "matrix.csv: class 'building' in line 2 is not a class of the map; ",
            ),
            (
                "2024/scene.tif",
                ("--points", "points.csv"),
                "points.csv: class 'building' of point 1 is not a class of the map; ",
            ),
            ("flat.tif", ("--min-area", 10), "--min-area: pixel areas of flat.tif are unknown, "),
        ):
            done = change_of_scenes("2018/scene.tif", after, *options)
            assert (done.exit_code, done.stderr.count("\n")) == (1, 1), done.output
            assert done.stderr.startswith(f"error: {fault}")
            assert not Path("change").exists()

    @pytest.mark.usefixtures("scenes")
    def test_an_existing_second_map_fails_before_the_first_is_mapped(self) -> None:
        Path("change/after").mkdir(parents=True)
        Path("change/after/scene.tif").touch()
        done = change_of_scenes("2018/scene.tif", "2024/scene.tif")
        assert done.stderr.startswith("error: change/after/scene.tif: file exists; ")
        assert not Path("change/before").exists()

    @pytest.mark.parametrize("taken", ["change/change.tif", "change/after/scene.tif", "change/before/scene.tif"])
    @pytest.mark.usefixtures("scenes")
    def test_scenes_are_never_overwritten(self, taken: str) -> None:
        Path(taken).parent.mkdir(parents=True)
        Path("2018/scene.tif").rename(taken)
        before = Path(taken).read_bytes()
        pair = ("2024/scene.tif", taken) if "before" in taken else (taken, "2024/scene.tif")
        done = change_of_scenes(*pair, "--overwrite")
        assert done.stderr == f"error: {taken}: is an input and would be overwritten; choose another --out\n"
        assert Path(taken).read_bytes() == before

    def test_inputs_are_never_overwritten(self) -> None:
        Path("change").mkdir()
        Path("2018.tif").rename("change/change.tif")
        Path("change/change.csv").write_text("mine")
        reference = ("--points", "change/change.csv")
        for first, options, taken in (
            ("change/change.tif", (), "change/change.tif"),
            ("2024.tif", reference, "change/change.csv"),
        ):
            done = landseg("change", first, "2024.tif", "--out", "change", "--overwrite", *options)
            assert done.stderr.startswith(f"error: {taken}: is an input and would be overwritten; ")
        assert Path("change/change.csv").read_text() == "mine"

    def test_two_dates_of_a_location_in_the_scene_table(self) -> None:
        save_model(unet(gsd=0.5, tile=64), Path("model.safetensors"))
        bands = {"band_files": {"red": "B04", "green": "B03", "blue": "B02"}}
        write_card(CARD.model_copy(update=bands), PATHS.table("card.json"))
        dates = ("chip_2018", "chip_2019")
        table = [{"scene": date, "location": "chip", "image": f"{date}/{{band}}.tif"} for date in dates]
        write_csv(scene_table(table), PATHS.table("scenes.csv"))
        for seed, date in enumerate(dates):
            (PATHS.raw / date).mkdir(parents=True)
            for code, band in zip(("B04", "B03", "B02"), synthetic_image(64, 64, seed).transpose(2, 0, 1), strict=True):
                write_image(PATHS.raw / date / f"{code}.tif", band[..., None], photometric="MINISBLACK")
        arguments = ("--dataset", "tiny", "-m", "model.safetensors", "--device", "cpu", "--out", "change")
        done = landseg("change", *dates, *arguments)
        assert done.exit_code == 0, done.output
        assert "4,096 pixels with a class on both" in done.stdout
        assert Path("change/before/chip_2018.tif").is_file()

    def test_reference_errors_come_before_the_change(self) -> None:
        for option, sentence in (
            (("--points", "no.csv"), "no.csv: file not found; correct the path"),
            (
                ("--points", "2018.tif", "--matrix", "HEAD"),
                "2018.tif and HEAD: two references; give --points or --matrix",
            ),
        ):
            done = landseg("change", "2018.tif", "2024.tif", "--out", "change", *option)
            assert done.stderr == f"error: {sentence}\n"
            assert not Path("change").exists()

    @pytest.mark.parametrize(
        "option",
        [
            ("--bands", "3,2,1"),
            ("--dataset", "tiny"),
            ("--resample",),
            ("--window", "512"),
            ("--overlap", "0"),
            ("--d4",),
            ("--batch", "3"),
            ("--device", "cpu"),
        ],
    )
    def test_scene_options_require_a_model(self, option: tuple[str, ...]) -> None:
        done = landseg("change", "2018.tif", "2024.tif", "--out", "change", *option)
        assert done.stderr == (f"error: {option[0]} requires --model: without a model, both inputs are maps\n")
        assert not Path("change").exists()

    def test_bands_cannot_be_combined_with_a_dataset(self) -> None:
        bands = ("--dataset", "tiny", "--bands", "9,nir,banana")
        sentence = "error: --bands: cannot be combined with --dataset, which defines the bands; leave it out\n"
        for command in (("predict", "a"), ("change", "a", "b")):
            done = landseg(*command, "-m", "model.safetensors", "--out", "new", *bands)
            assert (done.exit_code, done.stderr) == (1, sentence)

    def test_help_names_the_columns_of_points(self) -> None:
        change = cast(Any, get_command(app)).commands["change"]
        [points] = [option for option in change.params if option.name == "points"]
        assert "before and after" in points.help


@pytest.mark.usefixtures("maps")
class TestExport:
    def test_invalid_output_files(self) -> None:
        save_model(unet(), Path("model.safetensors"))
        Path("model.onnx").touch()
        for out, sentence in (
            ("model.pt", "model.pt: does not end in .onnx; use that suffix"),
            ("model.onnx", "model.onnx: file exists; choose another --out, or add --overwrite"),
        ):
            done = landseg("export", "-m", "model.safetensors", "--out", out)
            assert (done.exit_code, done.stderr) == (1, f"error: {sentence}\n")

    def test_a_card_of_an_unknown_model(self) -> None:
        done = landseg("card", "nothing")
        assert done.exit_code == 1
        assert done.stderr.startswith("error: nothing: cannot be looked up: ")
        assert done.stderr.count("\n") == 1

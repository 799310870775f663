"""The presets of LandCoverNet with ten bands, median and seasonal, from chips of a year to a trained model."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
from helpers.rasters import Project
from helpers.satellite import Chip, coop_landcovernet, landcovernet
from rasterio.io import MemoryFile

from landseg.core.rendering import Rendering
from landseg.core.tables import read_metadata
from landseg.model.info import read_info

TEN = ("blue", "green", "red", "rededge1", "rededge2", "rededge3", "nir", "rededge4", "swir1", "swir2")
OTHERS = ("B05", "B06", "B07", "B8A", "B11", "B12")
DAYS = {f"2018-{month:02}-{day:02}": cloud for month in (2, 5, 8, 11) for day, cloud in ((3, 0.1), (18, 0.3))}
TILES = ("36NXF", "37NBA", "36PWS", "37PDK", "38NKG", "36NTH")


def with_ten_bands(chip: Chip) -> Chip:
    """Return a chip with the bands that the generated ones lack: mixtures of near infrared and red."""
    dates = {}
    for day, files in chip.dates.items():
        with MemoryFile(files["B08"]) as nir, MemoryFile(files["B04"]) as red, nir.open() as one, red.open() as other:
            profile, first, second = one.profile, one.read(1).astype(float), other.read(1)
        more = {}
        for n, code in enumerate(OTHERS):
            with MemoryFile() as memory:
                with memory.open(**profile) as target:
                    target.write(np.maximum(1, (first * (6 - n) + second * (n + 1)) / 7).astype(np.uint16), 1)
                more[code] = memory.read()
        dates[day] = {**files, **more}
    return Chip(chip.id, chip.label, dates)


@pytest.fixture(scope="module")
def chips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two chips in each of six Sentinel-2 tiles, in the layout of Source Cooperative."""
    folder = tmp_path_factory.mktemp("chips")
    for n, tile in enumerate(TILES):
        for number in ("01", "02"):
            chip = with_ten_bands(landcovernet(f"{tile}_{number}", DAYS, size=64, seed=10 * n + int(number)))
            for key, body in coop_landcovernet(chip):
                path = folder / key
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(body)
    return folder


@pytest.fixture(scope="module", params=["landcovernet-10bands", "landcovernet-seasons"])
def project(request: pytest.FixtureRequest, chips: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project after split, by a preset, of which only the size and the source of the data are changed."""
    found = Project(tmp_path_factory.mktemp("preset"), request.param, classes=False)
    found.change(
        dataset={"chips": None},
        download={"source": "local", "folder": str(chips)},
        tile={"size": 64},
        split={"ratios": [0.5, 0.25, 0.25]},
    )
    found.run("download", "filter", "tile", "convert", "split")
    return found


def names(project: Project) -> tuple[str, ...]:
    seasonal = project.params["filter"]["composite"] == "seasonal"
    return tuple(f"{band}_q{n}" for n in (1, 2, 3, 4) for band in TEN) if seasonal else TEN


def test_tiles_hold_all_bands_as_stored(project: Project) -> None:
    rendering = Rendering.from_json(read_metadata(project / "data/tables/landcovernet/split.parquet", "rendering"))
    assert (rendering.bands, rendering.format, rendering.dtype) == (names(project), "tif", "uint16")
    archive, chip = project / "data/tiles/landcovernet/36NXF.zip", "36NXF_01"
    with rasterio.open(project / f"data/imagery/landcovernet/{chip}.tif") as composite:
        expected, valid = composite.read(), composite.dataset_mask() > 0
        assert composite.descriptions == names(project)
    with rasterio.open(f"/vsizip/{archive}/images/{chip}_0.tif") as tile:
        assert tile.descriptions == names(project)
        np.testing.assert_array_equal(tile.read()[:, valid], expected[:, valid])


def test_statistics_of_a_tile(project: Project) -> None:
    row = pq.read_table(project / "data/tables/landcovernet/tiles.parquet").to_pylist()[0]
    with rasterio.open(f"/vsizip/{project}/data/tiles/landcovernet/{row['archive']}/images/{row['tile']}.tif") as tile:
        pixels = tile.read().astype(np.int64)
    if row["valid"] == pixels[0].size:
        np.testing.assert_array_equal(row["band_sum"], pixels.sum(axis=(1, 2)))
        np.testing.assert_allclose(row["band_deviations"], pixels.var(axis=(1, 2)) * row["valid"], rtol=1e-12)


@pytest.mark.slow
def test_training_and_scores(project: Project) -> None:
    project.change(
        model={"encoder": "resnet18", "encoder_weights": None, "encoder_depth": 3},
        train={"epochs": 2, "batch_size": 4},
        evaluate={"n_examples": 1},
    )
    project.run("train", "evaluate", "report")
    info = read_info(project / "models/landcovernet/best.safetensors")
    assert info.rendering.bands == names(project)
    assert len(info.mean) == len(info.rendering.bands)
    assert np.isfinite(json.loads((project / "results/scores.json").read_text())["macro_miou"])

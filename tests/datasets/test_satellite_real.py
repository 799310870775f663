"""Real Sentinel-2 chips and labels of LandCoverNet, and a real label of Ghana, against counts by NumPy."""

import io
import json
import shutil
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rasterio
from helpers.converting import convert_rows
from helpers.rasters import write_tif
from PIL import Image

from landseg.convert.labels import LabelDecoder
from landseg.core.classes import IGNORE, LandClass
from landseg.core.data_card import CloudEncoding, DataCard, MaskEncoding
from landseg.core.rendering import Rendering
from landseg.core.tables import scene_table
from landseg.filter.composite import write_composite
from landseg.filter.select import select
from landseg.raster.clouds import CloudCoverage, CloudMethod, cloud_coverage, cloud_rule
from landseg.raster.io import open_raster, read_pixels
from landseg.tile.plan import plan_tiles

NAMES = {
    "Water": (0, 0, 255),
    "Artificial Bareground": (136, 136, 136),
    "Natural Bareground": (209, 164, 109),
    "Permanent Snow/Ice": (245, 245, 255),
    "Woody Vegetation": (214, 76, 43),
    "Cultivated Vegetation": (24, 104, 24),
    "(Semi) Natural Vegetation": (0, 255, 0),
}
CLASSES = tuple(LandClass(id=n, name=name, color=color) for n, (name, color) in enumerate(NAMES.items(), 1))
UNKNOWN = LandClass(id=0, name="Unknown", color=(0, 0, 0))
CARD = DataCard(
    name="landcovernet",
    title="LandCoverNet",
    licence="CC-BY-4.0",
    classes=CLASSES,
    bands=("blue", "green", "red", "nir"),
    band_files={"blue": "B02", "green": "B03", "red": "B04", "nir": "B08"},
    mask=MaskEncoding(consensus_band=2),
    clouds=CloudEncoding(layers=("scl", "cld")),
)
CLOUDY, CLEARER = "52UEA_08_20180720", "36N_00_20180101"
# The files of the second chip have words for names; these are the publisher's codes. Its id and date are invented.
WORDS = {
    "Coastal Aerosol": "B01", "blue": "B02", "green": "B03", "red": "B04", "Vegetation Red Edge": "B05",
    "Vegetation Red Edge B06": "B06", "Vegetation Red Edge B07": "B07", "NIR": "B08", "Narrow NIR": "B8A",
    "Water Vapour": "B09", "SWIR": "B11", "SWIR B12": "B12", "Scene Classification Layer": "SCL", "Cloud Mask": "CLD",
}  # fmt: skip


@pytest.fixture(scope="module")
def chips(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both chips under the publisher's file names, each with a label of water on the grid of its bands."""
    source, raw = real_data / "landcovernet/sentinel2", tmp_path_factory.mktemp("raw")
    if not source.is_dir():
        pytest.skip("no Sentinel-2 chips")
    shutil.copytree(source / CLOUDY, raw / CLOUDY)
    (raw / CLEARER).mkdir()
    for words, code in WORDS.items():
        shutil.copyfile(source / f"unnamed_36N/{words}.tif", raw / f"{CLEARER}/{CLEARER}_{code}_10m.tif")
    for scene in (CLOUDY, CLEARER):
        with open_raster(raw / f"{scene}/{scene}_B04_10m.tif") as band:
            write_tif(raw / f"{scene}_label.tif", np.ones((256, 256), np.uint16), band.crs, band.transform)
    return raw


def table(scene: str) -> pd.DataFrame:
    files = f"{scene}/{scene}_{{}}_10m.tif"
    return scene_table(
        [
            {
                "scene": scene,
                "image": files.format("{band}"),
                "cloud": files.format("{layer}"),
                "mask": f"{scene}_label.tif",
            }
        ]
    )


def covered(
    chips: Path, scene: str, method: CloudMethod, scl: tuple[int, ...] = (3, 8, 9, 10), cld: int = 50
) -> CloudCoverage:
    return cloud_coverage(chips, table(scene)["cloud"].iloc[0], cloud_rule(method, scl, cld, CARD.clouds))


# Scene classes of the 256 x 256 = 65536 px of each chip, counted with NumPy:
#   52UEA  8: 27280, 9: 19484, 10: 18772; these are all classes.
#   36N    2: 13432, 3: 6212, 4: 104, 5: 6404, 6: 28268, 7: 4812, 8: 4212, 9: 2092; these are all classes.
# Cloud probability of 50 and more: 22544 px of 52UEA; 4060 px of 36N, all of them in classes 8 and 9.
@pytest.mark.parametrize(
    ("scene", "method", "scl", "cloudy"),
    [
        (CLOUDY, "scl", (3, 8, 9, 10), 27280 + 19484 + 18772),
        (CLOUDY, "scl", (9, 10), 19484 + 18772),
        (CLOUDY, "cld", (3, 8, 9, 10), 22544),
        (CLOUDY, "both", (3, 8, 9, 10), 65536),
        (CLEARER, "scl", (3, 8, 9, 10), 6212 + 4212 + 2092),
        (CLEARER, "scl", (8, 9), 4212 + 2092),
        (CLEARER, "cld", (3, 8, 9, 10), 4060),
        (CLEARER, "both", (3, 8, 9, 10), 12516),
        (CLEARER, "both", (3,), 6212 + 4060),
    ],
)
def test_cloud_shares(chips: Path, scene: str, method: CloudMethod, scl: tuple[int, ...], cloudy: int) -> None:
    found = covered(chips, scene, method, scl)
    assert found == CloudCoverage(pixels=65536, nodata=0, cloudy=cloudy)
    assert found.cloud_share == cloudy / 65536


def test_dilated_clouds_of_a_real_chip(chips: Path) -> None:
    rule = cloud_rule("scl", (1, 3, 8, 9, 10), 50, CARD.clouds, dilate=100)
    found = cloud_coverage(chips, table(CLEARER)["cloud"].iloc[0], rule)
    assert found.cloud_share == pytest.approx(0.3576, abs=0.0001)  # 19.1 % without; 33.9 % by a diamond of 10 px


def test_which_chip_is_kept(chips: Path) -> None:
    """12516 of 65536 px are 19.1 %, just below 20 %."""
    scenes = pd.concat([table(CLOUDY), table(CLEARER)], ignore_index=True)
    found = {scene: covered(chips, scene, "scl") for scene in (CLOUDY, CLEARER)}
    selected = select(scenes, found, max_cloud_share=0.2)
    assert selected["kept"].tolist() == [False, True]
    assert selected["reason"].tolist() == ["cloud share 100.0% is over the limit of 20.0%", "clear enough"]


def members(archive: Path) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(archive) as bundle:
        return {name: np.asarray(Image.open(io.BytesIO(bundle.read(name)))) for name in bundle.namelist()}


def convert(
    raw: Path, scenes: pd.DataFrame, out: Path, of: DataCard, bands: Any, size: int, **more: Any
) -> pd.DataFrame:
    out.mkdir(exist_ok=True)
    tiles = pd.DataFrame(plan_tiles(scenes, raw, of, size, "pad"))
    return convert_rows(tiles, raw, out, of, Rendering(bands, "fixed", (0, 3000), 1.0), size, True, 1, **more)


@pytest.mark.parametrize("bands", [("red", "green", "blue"), ("nir", "red", "green")])
@pytest.mark.parametrize("scene", [CLOUDY, CLEARER])
def test_fixed_rendering(chips: Path, tmp_path: Path, scene: str, bands: tuple[str, str, str]) -> None:
    convert(chips, table(scene), tmp_path, CARD, bands, 256)
    codes = [CARD.band_files[band] for band in bands]
    files = [chips / f"{scene}/{scene}_{code}_10m.tif" for code in codes]
    values = np.stack([rasterio.open(file).read(1) for file in files], axis=-1).astype(np.float64)
    expected = np.rint(np.clip(values / 3000, 0, 1) * 255)
    found = members(tmp_path / f"{scene}.zip")
    np.testing.assert_array_equal(found[f"images/{scene}_0.png"], expected)
    np.testing.assert_array_equal(found[f"masks/{scene}_0.png"], np.where((values == 0).any(axis=-1), IGNORE, 1))


def test_a_composite_of_one_date(chips: Path, tmp_path: Path) -> None:
    """A composite of one date is that date without its clouds."""
    write_composite(table(CLEARER), chips, tmp_path / "c.tif", cloud_rule("scl", (3, 8, 9, 10), 50, CARD.clouds), CARD)
    with open_raster(tmp_path / "c.tif") as source:
        pixels = read_pixels(source)
        assert source.descriptions == CARD.bands
        assert source.nodata == 0
    files = chips / CLEARER
    cloudy = np.isin(rasterio.open(files / f"{CLEARER}_SCL_10m.tif").read(1), (3, 8, 9, 10))
    assert (pixels == 0).all(axis=0).sum() == 12516
    for band, code in zip(pixels, CARD.band_files.values(), strict=True):
        whole = rasterio.open(files / f"{CLEARER}_{code}_10m.tif").read(1)
        np.testing.assert_array_equal(band, np.where(cloudy, 0, whole))


def ids(label: Path, classes: tuple[LandClass, ...], min_consensus: int = 0) -> np.ndarray:
    with open_raster(label) as source:
        decoder = LabelDecoder(source, CARD.mask, classes, min_consensus)
        return decoder(read_pixels(source, None, decoder.bands))


@pytest.fixture(scope="module")
def labels(real_data: Path) -> list[Path]:
    found = sorted((real_data / "landcovernet/labels").glob("*/labels.tif"))
    if not found:
        pytest.skip("no LandCoverNet labels")
    return found


def test_counts_are_those_of_the_publisher(labels: list[Path]) -> None:
    """Pixel counts equal those of the STAC overviews, which omit class 0 (in 16 of 59 chips)."""
    assert len(labels) == 59
    unlisted: dict[str, int] = Counter()
    chips: dict[str, int] = Counter()
    for label in labels:
        [overview] = json.loads((label.parent / "stac.json").read_text())["properties"]["label:overviews"]
        listed = {row["name"]: row["count"] for row in overview["counts"]}
        counts = np.bincount(ids(label, (UNKNOWN, *CLASSES)).ravel(), minlength=256)
        found = {
            land_class.name: int(counts[land_class.id]) for land_class in (UNKNOWN, *CLASSES) if counts[land_class.id]
        }
        assert sum(found.values()) == 256 * 256
        assert listed == {name: count for name, count in found.items() if name in listed}
        for name in found.keys() - listed.keys():
            unlisted[name] += found[name]
            chips[name] += 1
    assert unlisted == {"Unknown": 1834}
    assert chips == {"Unknown": 16}


def test_unknown_is_ignored_or_a_class(labels: list[Path]) -> None:
    """0 is also the nodata value: it is ignored unless a class has the id 0."""
    [label] = [label for label in labels if label.parent.name.endswith("37NGE_00")]
    assert (ids(label, CLASSES) == IGNORE).sum() == 722
    assert (ids(label, (UNKNOWN, *CLASSES)) == 0).sum() == 722


@pytest.mark.parametrize("least", [1, 60, 100])
def test_consensus(labels: list[Path], tmp_path: Path, least: int) -> None:
    [label] = [label for label in labels if label.parent.name.endswith("31PGS_09")]
    shutil.copyfile(label, tmp_path / "label.tif")
    with rasterio.open(label) as source:
        classes, agreed = source.read()
        write_tif(tmp_path / "i.tif", np.ones((4, 256, 256), np.uint16), source.crs, source.transform)
    scenes = scene_table([{"scene": "s", "image": "i.tif", "mask": "label.tif"}])
    counts = convert(tmp_path, scenes, tmp_path / "out", CARD, ("red", "green", "blue"), 256, min_consensus=least)
    kept = (agreed >= least) & (classes != 0)
    expected = [int((classes[kept] == land_class.id).sum()) for land_class in CLASSES]
    assert counts.to_numpy().tolist() == [[*expected, (~kept).sum()]]
    if least == 60:
        assert 0 < (agreed < 60).sum() < kept.sum()


def test_a_label_of_ghana(real_data: Path, tmp_path: Path) -> None:
    """float64, without georeference; pixel counts 0: 3962, 2: 61, 6: 73, in total 64 x 64."""
    source = real_data / "ghana/labels.tif"
    if not source.is_file():
        pytest.skip("no label of Ghana")
    shutil.copyfile(source, tmp_path / "label.tif")
    write_tif(tmp_path / "i.tif", np.ones((4, 64, 64), np.uint16), crs=None, transform=None)
    crops = [LandClass(id=n, name=f"crop {n}", color=(n, n, n)) for n in range(25)]
    scenes = scene_table([{"scene": "s", "image": "i.tif", "mask": "label.tif"}])
    for classes, ignore in ((crops, ()), (crops[1:], (0,))):
        of = CARD.model_copy(update={"classes": tuple(classes), "mask": MaskEncoding(ignore=ignore)})
        [row] = convert(tmp_path, scenes, tmp_path / "out", of, ("red", "green", "blue"), 64).to_dict("records")
        unknown = "pixels_ignored" if ignore else "pixels_0"
        assert {name: count for name, count in row.items() if count} == {unknown: 3962, "pixels_2": 61, "pixels_6": 73}

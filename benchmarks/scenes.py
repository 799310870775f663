"""A project with scenes like those of LandCover.ai v1, in the state after the filter stage; for preparation.py.

Masks are the real ones if test data are present, otherwise generated in the sizes of 33 scenes of 0.25 m and 8 of 0.5
m. Images are crops of one generated orthophoto (scene.py). The publisher's archive holds 41 images of 2.97 gigapixels,
8.9 GB, in 1.5 GB: half a byte per pixel, where no lossless format gets below two. Its images are therefore JPEG
inside, and so are these: blocks of 256 px, YCbCr, quality 90, 0.4 bytes per pixel. Deflate-compressed strips, as in
the masks, are measured as well: they are larger, and faster to read with rasterio's wheels.
"""

import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rasterio
from rasterio.crs import CRS

from benchmarks.common import ROOT
from benchmarks.scene import CRS_TEXT, mask_like, orthophoto, test_data
from landseg.core.arrays import Pixels
from landseg.core.data_card import write_card
from landseg.core.parallel import cores
from landseg.core.paths import Paths
from landseg.core.tables import IMAGERY_COLUMNS, scene_table, write_csv
from landseg.datasets.landcoverai.card import CARD

Kind = Literal["jpeg", "deflate"]

PATHS = Paths("landcoverai")
KINDS: Mapping[Kind, Mapping[str, Any]] = {
    "jpeg": {
        "compress": "jpeg", "photometric": "ycbcr", "jpeg_quality": 90,
        "tiled": True, "blockxsize": 256, "blockysize": 256,
    },
    "deflate": {"compress": "deflate"},
}  # fmt: skip
# Height and width without real masks, px.
_SIZES = ((9500, 9000),) * 4 + ((4700, 4200),)
_TOTAL = 41
# Distance between the upper left corners of crops, px, so that all scenes differ.
_STEP = 11


def write_masks(folder: Path, count: int) -> list[str]:
    """Write the masks of `count` scenes, spread over the 41, to raw/masks; return their names."""
    target = folder / "data" / "raw" / "masks"
    target.mkdir(parents=True)
    data = test_data()
    real = sorted((data / "landcoverai/masks").glob("*.tif")) if data else []
    for k in (number * _TOTAL // count for number in range(count)):
        if real:
            shutil.copyfile(real[k], target / real[k].name)
        else:
            _write_mask(target / f"scene_{k:02}.tif", *_SIZES[k % len(_SIZES)], seed=k)
    return sorted(path.stem for path in target.iterdir())


def _write_mask(path: Path, height: int, width: int, seed: int) -> None:
    profile = {"height": height, "width": width, "crs": CRS.from_string(CRS_TEXT), "compress": "deflate"}
    transform = rasterio.transform.from_origin(250_000, 500_000, 0.25, 0.25)
    with rasterio.open(path, "w", driver="GTiff", dtype="uint8", count=1, transform=transform, **profile) as target:
        target.write(mask_like(height, width, seed), 1)


def write_images(folder: Path, names: Sequence[str], kind: Kind) -> None:
    """Write an image for every mask to raw/<kind>, in parallel."""
    raw = folder / "data" / "raw"
    (raw / kind).mkdir()
    shapes = {}
    for name in names:
        with rasterio.open(raw / "masks" / f"{name}.tif") as mask:
            shapes[name] = (mask.shape, {"crs": mask.crs, "transform": mask.transform})
    margin = _STEP * len(names)
    height, width = (max(shape[axis] for shape, _ in shapes.values()) + margin for axis in (0, 1))
    mosaic = np.concatenate([rows for _, rows in orthophoto(height, width, seed=0)])

    def write(k: int) -> None:
        (height, width), georeference = shapes[names[k]]
        crop = mosaic[k * _STEP :, k * _STEP :][:height, :width]
        _write_image(raw / kind / f"{names[k]}.tif", crop, {**georeference, **KINDS[kind]})

    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(write, range(len(names))))


def _write_image(path: Path, pixels: Pixels, profile: Mapping[str, Any]) -> None:
    height, width, bands = pixels.shape
    common = {"driver": "GTiff", "dtype": "uint8", "interleave": "pixel", "count": bands}
    with rasterio.open(path, "w", height=height, width=width, **common, **profile) as target:
        for row in range(0, height, 1024):  # a copy of the whole image takes 250 MB
            rows = pixels[row : row + 1024]
            target.write(rows.transpose(2, 0, 1), window=rasterio.windows.Window(0, row, width, len(rows)))


def write_project(folder: Path, names: Sequence[str], kind: Kind) -> None:
    """Write parameters, data card and imagery table for some of the scenes; delete the outputs of later stages."""
    for outputs in ("tiles", "tables", "imagery"):
        shutil.rmtree(folder / "data" / outputs, ignore_errors=True)
    shutil.copyfile(ROOT / "presets/landcoverai.yaml", folder / "params.yaml")
    (folder / PATHS.table("card.json")).parent.mkdir(parents=True)
    write_card(CARD, folder / PATHS.table("card.json"))
    rows = [{"scene": name, "image": f"raw/{kind}/{name}.tif", "mask": f"raw/masks/{name}.tif"} for name in names]
    (folder / PATHS.imagery).mkdir(parents=True)
    write_card(CARD, folder / PATHS.imagery_card)
    write_csv(scene_table(rows)[list(IMAGERY_COLUMNS)], folder / PATHS.imagery / "imagery.csv")

"""A scene of real size to measure on: a real mask where there is one, and a generated orthophoto over it.

No imagery is shipped, so the image is made: textures of nine octaves under slow changes of colour, with
sensor noise, passed once through JPEG. Public orthophotos have been through JPEG before they reach anyone,
and it shapes what a lossless encoder finds: most of what changes from pixel to pixel is brightness, so the
three bands change alike. Amplitudes are chosen so that a tile of 512 px takes the room of a real one:

| tile of 512 px, KiB | PNG, filter Sub, runs only (OpenCV's default) | PNG, filter Up | JPEG 95 |
|---|---|---|---|
| 42 real aerial and satellite pictures, 10th percentile, median, 90th | 457, 583, 632 | 321, 441, 529 | 81, 128, 150 |
| this one, median | 586 | 435 | 139 |
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.crs import CRS
from rasterio.windows import Window

Pixels = npt.NDArray[np.uint8]

ROOT = Path(__file__).resolve().parent.parent
#: The size of most scenes of LandCover.ai v1: height and width, px.
REAL_SIZE = (9600, 9000)
_MASK = "landcoverai/masks/M-33-20-D-c-4-2.tif"
#: The projection of LandCover.ai v1: that of EPSG:2180, but on WGS 84.
CRS_TEXT = "+proj=tmerc +lat_0=0 +lon_0=19 +k=0.9993 +x_0=500000 +y_0=-5300000 +ellps=WGS84 +units=m +no_defs"
_OCTAVES = 9
_BAND = 1024  # rows made at a time; a multiple of a JPEG block and of the coarsest octave


def test_data() -> Path | None:
    """Return the folder of real test data, or None where there is none."""
    folder = Path(os.environ.get("LANDSEG_TEST_DATA", ROOT.parent / "shared/data"))
    return folder if folder.is_dir() else None


def write_pair(folder: Path, size: tuple[int, int] | None = None, seed: int = 0) -> str:
    """Write image.tif and mask.tif, deflated strips as LandCover.ai's masks have them; return where the mask is from.

    Args:
        folder: where the two files go.
        size: height and width to cut from the upper left, or to generate; None: the whole of a real scene.
        seed: of whatever is generated.
    """
    data = test_data()
    real = data / _MASK if data else None
    if real is not None and real.is_file():
        with rasterio.open(real) as source:
            height, width = size or source.shape
            mask, origin = source.read(1, window=Window(0, 0, width, height)), f"LandCover.ai v1, {real.name}"
            crs, transform = source.crs, source.transform
    else:
        height, width = size or REAL_SIZE
        mask, origin = mask_like(height, width, seed), "generated"
        crs, transform = CRS.from_string(CRS_TEXT), rasterio.transform.from_origin(250_000, 500_000, 0.25, 0.25)
    profile = {"driver": "GTiff", "dtype": "uint8", "compress": "deflate", "height": mask.shape[0]}
    profile |= {"width": mask.shape[1], "crs": crs, "transform": transform}
    with rasterio.open(folder / "mask.tif", "w", count=1, **profile) as target:
        target.write(mask, 1)
    with rasterio.open(folder / "image.tif", "w", count=3, interleave="pixel", **profile) as target:
        for row, band in orthophoto(height, width, seed):
            target.write(band.transpose(2, 0, 1), window=Window(0, row, band.shape[1], band.shape[0]))
    return origin


def orthophoto(height: int, width: int, seed: int) -> Iterator[tuple[int, Pixels]]:
    """Make an aerial picture; yield (first row, rows (H, W, 3) RGB) from top to bottom."""
    rng = np.random.default_rng(seed)
    for row in range(0, height, _BAND):
        yield row, _rows(rng, min(_BAND, height - row), width)


def mask_like(height: int, width: int, seed: int) -> Pixels:
    """Make a mask of five classes in smooth patches: (H, W) uint8, most of it classes 0 and 2."""
    rng = np.random.default_rng(seed)
    coarse = rng.standard_normal((height // 300 + 3, width // 300 + 3), dtype=np.float32)
    field = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    bounds = np.quantile(coarse, [0.58, 0.91, 0.97, 0.985]).astype(np.float32)
    return cast(Pixels, np.array([0, 2, 3, 4, 1], np.uint8)[np.digitize(field, bounds)])


def _rows(rng: np.random.Generator, height: int, width: int) -> Pixels:
    light = sum(9 * 2 ** (0.2 * octave) * _noise(rng, height, width, 2**octave) for octave in range(_OCTAVES))
    bands = [_noise(rng, height, width, 64) * 10 + _noise(rng, height, width, 8) * 2 for _ in range(3)]
    noisy = [110 + light + band + 1.5 * _noise(rng, height, width, 1) for band in bands]
    picture = np.clip(np.stack(noisy, axis=-1), 0, 255).astype(np.uint8)
    jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
    return cast(Pixels, cv2.imdecode(jpeg, cv2.IMREAD_COLOR))


def _noise(rng: np.random.Generator, height: int, width: int, scale: int) -> npt.NDArray[np.float32]:
    """Return smooth noise of deviation about 1 whose grain is `scale` px."""
    if scale == 1:
        return rng.standard_normal((height, width), dtype=np.float32)
    grain = rng.standard_normal((height // scale + 2, width // scale + 2), dtype=np.float32)
    return cast(npt.NDArray[np.float32], cv2.resize(grain, (width, height), interpolation=cv2.INTER_CUBIC))

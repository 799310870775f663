"""A scene of real size for benchmarks: a real mask if available, and a generated orthophoto.

No imagery is shipped, so the image is generated: texture of nine octaves with slow changes of colour and sensor noise,
passed once through JPEG. Public orthophotos are distributed as JPEG, which affects lossless encoders: most of the
change from pixel to pixel is brightness, so the three bands change together. Amplitudes are chosen such that a tile of
512 px has the size of a real one:

| tile of 512 px, KiB | PNG, filter Sub, runs only (OpenCV's default) | PNG, filter Up | JPEG 95 |
|---|---|---|---|
| 42 real aerial and satellite images, 10th percentile, median, 90th | 457, 583, 632 | 321, 441, 529 | 81, 128, 150 |
| generated, median | 586 | 435 | 139 |
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import rasterio
from rasterio.crs import CRS
from rasterio.windows import Window

from landseg.core.arrays import Floats32, Pixels

ROOT = Path(__file__).resolve().parent.parent
#: Height and width of most scenes of LandCover.ai v1, px.
REAL_SIZE = (9600, 9000)
_MASK = "landcoverai/masks/M-33-20-D-c-4-2.tif"
#: The projection of LandCover.ai v1: EPSG:2180, but on WGS 84.
CRS_TEXT = "+proj=tmerc +lat_0=0 +lon_0=19 +k=0.9993 +x_0=500000 +y_0=-5300000 +ellps=WGS84 +units=m +no_defs"
_OCTAVES = 9
_BAND = 1024  # rows generated at a time; a multiple of the JPEG block and of the coarsest octave


def test_data() -> Path | None:
    """Return the folder of real test data, or None if it does not exist."""
    folder = Path(os.environ.get("LANDSEG_TEST_DATA", ROOT.parent / "shared/data"))
    return folder if folder.is_dir() else None


def write_pair(folder: Path, size: tuple[int, int] | None = None, seed: int = 0) -> str:
    """Write image.tif and mask.tif in deflate strips, like LandCover.ai's masks; return the origin of the mask.

    Args:
        folder: folder for the two files.
        size: height and width to crop at the upper left, or to generate; None: a whole scene.
        seed: random seed of the generated pixels.
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
    """Generate an aerial image; yield (first row, rows (H, W, 3) RGB) from top to bottom."""
    rng = np.random.default_rng(seed)
    for row in range(0, height, _BAND):
        yield row, _rows(rng, min(_BAND, height - row), width)


def mask_like(height: int, width: int, seed: int) -> Pixels:
    """Generate a mask of five classes in smooth patches: (H, W) uint8, mostly classes 0 and 2."""
    rng = np.random.default_rng(seed)
    coarse = rng.standard_normal((height // 300 + 3, width // 300 + 3), dtype=np.float32)
    field = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    bounds = np.quantile(coarse, [0.58, 0.91, 0.97, 0.985]).astype(np.float32)
    return cast(Pixels, np.array([0, 2, 3, 4, 1], np.uint8)[np.digitize(field, bounds)])


def _rows(rng: np.random.Generator, height: int, width: int) -> Pixels:
    light = sum(9 * 2 ** (0.2 * octave) * _noise(rng, height, width, 2**octave) for octave in range(_OCTAVES))
    bands = [_noise(rng, height, width, 64) * 10 + _noise(rng, height, width, 8) * 2 for _ in range(3)]
    noisy = [110 + light + band + 1.5 * _noise(rng, height, width, 1) for band in bands]
    image = np.clip(np.stack(noisy, axis=-1), 0, 255).astype(np.uint8)
    jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
    return cast(Pixels, cv2.imdecode(jpeg, cv2.IMREAD_COLOR))


def _noise(rng: np.random.Generator, height: int, width: int, scale: int) -> Floats32:
    """Return smooth noise with a standard deviation of about 1 and a grain of `scale` px."""
    if scale == 1:
        return rng.standard_normal((height, width), dtype=np.float32)
    grain = rng.standard_normal((height // scale + 2, width // scale + 2), dtype=np.float32)
    return cast(Floats32, cv2.resize(grain, (width, height), interpolation=cv2.INTER_CUBIC))

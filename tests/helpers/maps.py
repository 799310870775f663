"""Small class maps, written by landseg's own writer."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from rasterio.crs import CRS
from rasterio.transform import Affine

from landseg.core.classes import ClassTable, LandClass
from landseg.maps.class_map import NODATA, create_class_map
from landseg.raster.grid import Grid

Ids = npt.NDArray[np.uint8]

#: Class ids with a gap.
CLASSES: ClassTable = (
    LandClass(id=0, name="other", color=(40, 40, 40)),
    LandClass(id=1, name="building", color=(230, 25, 75)),
    LandClass(id=4, name="water & ice", color=(0, 130, 200)),
)
UTM = "EPSG:32633"
#: Pixels of 10 m, north up.
TEN_METRES = Affine(10, 0, 500_000, 0, -10, 5_800_000)


def make_map(
    path: Path,
    ids: npt.ArrayLike,
    classes: ClassTable = CLASSES,
    crs: str | None = UTM,
    transform: Affine = TEN_METRES,
    tags: Mapping[str, str] | None = None,
) -> Path:
    """Write ids, (H, W), as a map."""
    pixels = np.asarray(ids, np.uint8)
    with create_class_map(path, grid_of(pixels, crs, transform), classes, tags or {}) as target:
        target.write(0, pixels)
    return path


def grid_of(pixels: npt.NDArray[Any], crs: str | None = UTM, transform: Affine = TEN_METRES) -> Grid:
    height, width = pixels.shape[-2:]
    return Grid("scene", width, height, CRS.from_user_input(crs) if crs else None, transform)


def patches(height: int, width: int, seed: int = 0, classes: ClassTable = CLASSES, cell: int = 12) -> Ids:
    """Ids in random overlapping rectangles, with noise and a corner without data."""
    rng = np.random.default_rng(seed)
    choices = np.array([land_class.id for land_class in classes], np.uint8)
    ids = np.full((height, width), choices[0])
    for _ in range(4 * height * width // cell**2):
        row, col = rng.integers(0, height), rng.integers(0, width)
        high, wide = rng.integers(1, 2 * cell, 2)
        ids[row : row + high, col : col + wide] = rng.choice(choices)
    salt = rng.random(ids.shape) < 0.02
    ids[salt] = rng.choice(choices, int(salt.sum()))
    ids[: height // 8, : width // 8] = NODATA
    return ids


def gdal(program: str, *arguments: Path | str) -> str:
    """The output of a GDAL command-line tool.

    Without GDAL the test is skipped, or fails if LANDSEG_GDAL is "required".
    """
    found = shutil.which(program)
    if found is None and os.environ.get("LANDSEG_GDAL") != "required":
        pytest.skip(f"no {program}: install GDAL's command-line tools (gdal-bin)")
    assert found, f"LANDSEG_GDAL is required, but {program} is not installed"
    return subprocess.run([found, *arguments], capture_output=True, text=True, check=True).stdout


@contextmanager
def no_file_over(size: int) -> Iterator[None]:
    """Limit the file size of this process, in bytes, as on a full disk."""
    if sys.platform == "win32":
        pytest.skip("needs RLIMIT_FSIZE")
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def class_points(
    ids: Ids, count: int, seed: int = 0
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], list[int]]:
    """x, y and id at the centres of `count` random pixels of every class."""
    rng, rows, cols = np.random.default_rng(seed), [], []
    for value in np.unique(ids[ids != NODATA]):
        row, col = np.nonzero(ids == value)
        chosen = rng.choice(len(row), count, replace=False)
        rows.append(row[chosen])
        cols.append(col[chosen])
    row, col = np.concatenate(rows), np.concatenate(cols)
    x, y = TEN_METRES.c + 10 * (col + 0.5), TEN_METRES.f - 10 * (row + 0.5)
    return x, y, ids[row, col].tolist()


def write_csv_rows(path: Path, header: str, rows: Sequence[Sequence[Any]]) -> Path:
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows), ""]))
    return path

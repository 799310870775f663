"""Real scenes for tests of splits."""

import itertools
from pathlib import Path

import pandas as pd
import pytest
import rasterio
import shapely
from helpers.grids import SIZE


@pytest.fixture(scope="module")
def real_scenes(real_data: Path) -> pd.DataFrame:
    """The tile table of the official tiling of LandCover.ai; dropped edge tiles count in the names of tiles."""
    rows = []
    for path in sorted((real_data / "landcoverai/masks").glob("*.tif")):
        with rasterio.open(path) as mask:
            down, across = mask.height // SIZE, -(-mask.width // SIZE)
            full, transform = mask.width // SIZE, mask.transform
        for iy, ix in itertools.product(range(down), range(full)):
            left, top = transform @ (ix * SIZE, iy * SIZE)
            right, bottom = transform @ ((ix + 1) * SIZE, (iy + 1) * SIZE)
            box = shapely.to_wkb(shapely.box(left, bottom, right, top))
            rows.append((f"{path.stem}_{iy * across + ix}", path.stem, iy * SIZE, ix * SIZE, SIZE, SIZE, box))
    table = pd.DataFrame(rows, columns=["tile", "scene", "row", "col", "height", "width", "geometry"])
    return table.assign(location=table["scene"], group="")

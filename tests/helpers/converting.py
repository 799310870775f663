"""Plan and convert rasters in one call, for tests of tile archives."""

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from helpers.rasters import card, random_labels, scene_table, write_tif
from PIL import Image

from landseg.convert.convert import PLAN_COLUMNS, converted_plan
from landseg.convert.encode import TileOptions
from landseg.core.data_card import DataCard
from landseg.core.parallel import LocalEngine
from landseg.core.rendering import Rendering
from landseg.tile.plan import Edge, plan_tiles

SIZE = 64
NAMES = ("red", "green", "blue")
RGB = Rendering(NAMES, "fixed", (0, 3000), 1.0)


def planned(
    raw: Path, image: Path, mask: Path, edge: Edge = "pad", size: int = SIZE, data_card: DataCard | None = None
) -> pd.DataFrame:
    scenes = scene_table(("s", image.relative_to(raw).as_posix(), mask.relative_to(raw).as_posix()))
    return pd.DataFrame(plan_tiles(scenes, raw, data_card or card(), size, edge))


def convert(
    tiles: pd.DataFrame, raw: Path, out: Path, data_card: DataCard | None = None, **changes: Any
) -> pd.DataFrame:
    out.mkdir(exist_ok=True)
    settings: dict[str, Any] = {"rendering": RGB, "size": SIZE, "masks_rgb": True, "workers": 2}
    return convert_rows(tiles, raw, out, data_card or card(), **settings | changes)


def convert_rows(
    tiles: pd.DataFrame,
    raw: Path,
    out: Path,
    data_card: DataCard,
    rendering: Rendering,
    size: int,
    masks_rgb: bool,
    workers: int,
    min_consensus: int = 0,
) -> pd.DataFrame:
    """Convert rows of a tile plan with `converted_plan`; return their pixel counts with the same index."""
    plan = pa.Table.from_pandas(tiles[["archive", *PLAN_COLUMNS]], preserve_index=False)
    options = TileOptions(rendering, size, masks_rgb, min_consensus)
    with converted_plan(plan, raw, out, data_card, options, LocalEngine(workers)) as found:
        return tiles[[]].assign(**found.pixels)


def tile_rows(tiles: pd.DataFrame) -> Iterator[Any]:
    """Yield the rows of a tile table as named tuples of any type."""
    yield from tiles.itertuples()


def members(archive: Path) -> dict[str, Image.Image]:
    """Return the images in an archive by member name."""
    with zipfile.ZipFile(archive) as bundle:
        return {name: Image.open(io.BytesIO(bundle.read(name))) for name in bundle.namelist()}


def converted(
    raw: Path, image: Path, data_card: DataCard | None = None, mask: Path | None = None, **changes: Any
) -> np.ndarray:
    """Convert an image of one tile; return its image."""
    tiles = planned(raw, image, mask or write_tif(raw / "m.tif", random_labels(SIZE, SIZE)), data_card=data_card)
    convert(tiles, raw, raw / "out", data_card, **changes)
    return np.asarray(members(raw / "out/s.zip")["images/s_0.png"])


def converted_mask(raw: Path) -> np.ndarray:
    """Return the mask that `converted` wrote."""
    return np.asarray(members(raw / "out/s.zip")["masks/s_0.png"])

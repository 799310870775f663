"""Rasters planned and converted in one call, for the tests of what archives hold."""

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from helpers.rasters import card, land, scene_table, tif
from PIL import Image

from landseg.convert.convert import PLAN_COLUMNS, convert_plan
from landseg.core.data_card import DataCard
from landseg.core.rendering import Rendering
from landseg.tile.plan import Edge, plan_tiles

SIZE = 64
NAMES = ("red", "green", "blue")
RGB = Rendering(NAMES, "fixed", (0, 3000), 1.0)


def planned(
    raw: Path, image: Path, mask: Path, edge: Edge = "pad", size: int = SIZE, of: DataCard | None = None
) -> pd.DataFrame:
    scenes = scene_table(("s", image.relative_to(raw).as_posix(), mask.relative_to(raw).as_posix()))
    return pd.DataFrame(plan_tiles(scenes, raw, of or card(), size, edge))


def convert(tiles: pd.DataFrame, raw: Path, out: Path, of: DataCard | None = None, **changes: Any) -> pd.DataFrame:
    out.mkdir(exist_ok=True)
    settings: dict[str, Any] = {"picture": RGB, "size": SIZE, "masks_rgb": True, "workers": 2}
    return counted(tiles, raw, out, of or card(), **settings | changes)


def counted(tiles: pd.DataFrame, *where: Any, **settings: Any) -> pd.DataFrame:
    """Convert rows of a tile plan as `convert_plan` does; return their pixel counts, indexed like them."""
    plan = pa.Table.from_pandas(tiles[["archive", *PLAN_COLUMNS]], preserve_index=False)
    return tiles[[]].assign(**convert_plan(plan, *where, **settings))


def rows(tiles: pd.DataFrame) -> Iterator[Any]:
    yield from tiles.itertuples()


def members(archive: Path) -> dict[str, Image.Image]:
    with zipfile.ZipFile(archive) as bundle:
        return {name: Image.open(io.BytesIO(bundle.read(name))) for name in bundle.namelist()}


def converted(
    raw: Path, image: Path, of: DataCard | None = None, mask: Path | None = None, **changes: Any
) -> np.ndarray:
    """The one tile of a 64 px image, as images/s_0.png holds it."""
    tiles = planned(raw, image, mask or tif(raw / "m.tif", land(SIZE, SIZE)), of=of)
    convert(tiles, raw, raw / "out", of, **changes)
    return np.asarray(members(raw / "out/s.zip")["images/s_0.png"])


def kept_ids(raw: Path) -> np.ndarray:
    return np.asarray(members(raw / "out/s.zip")["masks/s_0.png"])

"""The tables that stages hand to one another: which columns, how they are read and written.

Scenes are CSV, since people read them. Tiles are GeoParquet, which QGIS opens. Every path in a
table is relative to the folder of raw files of its data set.

| table | file | columns |
|---|---|---|
| scenes | scenes.csv | scene, image, mask, cloud |
| kept scenes | kept.csv | those, and cloud_share, kept, reason |
| official split | official.csv | tile, part |
| tile plan | plan.parquet | tile, archive, scene, image, mask, row, col, height, width, geometry |
| tiles | tiles.parquet | those, and pixels_<id> for every class, pixels_ignored |
| split | split.parquet | those, and part |
"""

from collections.abc import Mapping
from pathlib import Path

import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from landseg.errors import LandsegError
from landseg.files import atomic

SCENE_COLUMNS = ("scene", "image", "mask", "cloud")
PARTS = ("train", "val", "test")
_TEXT_COLUMNS = (*SCENE_COLUMNS, "tile", "part", "reason")
_GAPS = {"cloud_share": [""]}


def pixel_column(class_id: int) -> str:
    """Return the name of the column that counts a class's pixels."""
    return f"pixels_{class_id}"


def read_csv(path: Path) -> pd.DataFrame:
    """Read a table of scenes, every column but the numeric ones as text, '' where a cell is empty.

    Raises:
        LandsegError: the file is missing.
    """
    try:
        return pd.read_csv(path, dtype=dict.fromkeys(_TEXT_COLUMNS, "str"), keep_default_na=False, na_values=_GAPS)
    except FileNotFoundError:
        raise _missing(path) from None


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV, whole or not at all."""
    with atomic(path) as temporary:
        table.to_csv(temporary, index=False)


def read_parquet(path: Path, columns: list[str] | None = None) -> pd.DataFrame:
    """Read columns of a tile table; footprints come as WKB.

    Raises:
        LandsegError: the file is missing.
    """
    try:
        table: pd.DataFrame = pq.read_table(path, columns=columns).to_pandas()
    except FileNotFoundError:
        raise _missing(path) from None
    return table


def extend_parquet(source: Path, path: Path, columns: Mapping[str, npt.ArrayLike]) -> None:
    """Write `source` with further columns to `path`; footprints and CRS pass through untouched.

    Rows pass batch by batch, so memory does not grow with the table.
    """
    arrays = {name: pa.array(values) for name, values in columns.items()}
    with pq.ParquetFile(source) as file, atomic(path) as temporary:
        schema = file.schema_arrow  # it carries the metadata that make the file GeoParquet
        for name, array in arrays.items():
            schema = schema.append(pa.field(name, array.type))
        start = 0
        with pq.ParquetWriter(temporary, schema) as writer:
            for batch in file.iter_batches():
                added = [array.slice(start, len(batch)) for array in arrays.values()]
                writer.write_batch(pa.record_batch([*batch.columns, *added], schema=schema))
                start += len(batch)


def _missing(path: Path) -> LandsegError:
    return LandsegError(f"{path}: not there; run `dvc repro`, or the stage that writes it, first")

"""The tables that stages hand to one another: which columns, how they are read and written.

Scenes are CSV, since people read them. Tiles are GeoParquet, which QGIS opens.

| table | file | columns |
|---|---|---|
| scenes | scenes.csv | scene, place, group, date, archive, image, mask, cloud |
| files | manifest.csv | file, url, bytes, sha256, etag |
| verdicts on scenes | kept.csv | those of scenes, and cloud_share, nodata_share, kept, reason |
| imagery | data/imagery/<name>/imagery.csv | scene, place, group, archive, image, mask |
| official split | official.csv | tile or place, part |
| plan | plan.parquet | tile, archive, scene, place, group, image, mask, row, col, height, width, gsd, dtype, geometry |
| tiles | tiles.parquet | those, and pixels_<id> for every class, pixels_ignored |
| split | split.parquet | those, and part |

A *place* is a piece of ground: its scenes are its dates, and share a label. A *group* is a set of places
that lie together, such as a Sentinel-2 tile; '' where there are none. The imagery is what goes on to be
tiled: the kept scenes, or one composite a place. An *archive* is the ZIP that a scene's tiles go into. The *gsd* is the
ground sampling distance of its image, m, null where it has no place on earth; its *dtype* that of the image's values.

The metadata of tile tables hold `tile_size`, height and width of a tile in px, from the plan on, and `rendering` (see
`core.rendering`) from the tiles on.

Paths in scenes.csv and manifest.csv are relative to the folder of raw files of the data set; from imagery.csv
on, where composites come in, to data/. In the place of a band's file a path may hold {band}, in that of a cloud
layer {layer}: see landseg.core.data_card.
"""

from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path

import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from landseg.core.errors import LandsegError
from landseg.core.files import atomic

SCENE_COLUMNS = ("scene", "location", "group", "date", "archive", "image", "mask", "cloud")
FILE_COLUMNS = ("file", "url", "bytes", "sha256", "etag")
IMAGERY_COLUMNS = ("scene", "location", "group", "archive", "image", "mask")
_METADATA = "landseg:"  # what keys of ours begin with in Parquet metadata
SPLITS = ("train", "val", "test")
_TEXT_COLUMNS = (*SCENE_COLUMNS, *FILE_COLUMNS, "tile", "split", "reason")
_GAPS = {"cloud_share": [""], "nodata_share": [""]}


def pixel_column(class_id: int) -> str:
    """Return the name of the column that counts a class's pixels."""
    return f"pixels_{class_id}"


def scene_table(rows: Iterable[Mapping[str, str]]) -> pd.DataFrame:
    """Return a table of scenes from the cells that differ; scenes without a place are places of their own.

    Args:
        rows: scene and image at least; place and archive default to the scene, all else to ''.
    """
    filled = (
        {**dict.fromkeys(SCENE_COLUMNS, ""), "location": row["scene"], "archive": row["scene"], **row} for row in rows
    )
    return pd.DataFrame(filled, columns=list(SCENE_COLUMNS), dtype="str")


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
    table: pd.DataFrame = read_arrow(path, columns).to_pandas()
    return table


def read_arrow(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read columns of a tile table without pandas.

    Raises:
        LandsegError: the file is missing.
    """
    try:
        return pq.read_table(path, columns=columns)
    except FileNotFoundError:
        raise _missing(path) from None


def extend_parquet(
    source: Path, path: Path, columns: Mapping[str, npt.ArrayLike], metadata: Mapping[str, str] | None = None
) -> None:
    """Write `source` with further columns and metadata to `path`; footprints, CRS and metadata are kept.

    Rows pass batch by batch, so memory does not grow with the table.
    """
    arrays = {name: pa.array(values) for name, values in columns.items()}
    with pq.ParquetFile(source) as file, atomic(path) as temporary:
        schema = file.schema_arrow
        for name, array in arrays.items():
            schema = schema.append(pa.field(name, array.type))
        added_metadata = {f"{_METADATA}{key}": value for key, value in (metadata or {}).items()}
        schema = schema.with_metadata({**(schema.metadata or {}), **added_metadata})
        start = 0
        with pq.ParquetWriter(temporary, schema) as writer:
            for batch in file.iter_batches():
                added = [array.slice(start, len(batch)) for array in arrays.values()]
                writer.write_batch(pa.record_batch([*batch.columns, *added], schema=schema))
                start += len(batch)


def read_metadata(path: Path, key: str) -> str:
    """Read one value of the metadata that `extend_parquet` wrote into a tile table.

    Raises:
        LandsegError: the file is missing, or has no such value.
    """
    try:
        metadata = pq.read_schema(path).metadata or {}
        return str(metadata[f"{_METADATA}{key}".encode()].decode())
    except FileNotFoundError:
        raise _missing(path) from None
    except KeyError:
        raise LandsegError(f"{path}: its metadata have no {key}; re-run the stage that writes it") from None


def _missing(path: Path) -> LandsegError:
    return LandsegError(f"{path}: not there; run `dvc repro`, or the stage that writes it, first")


def quarter(day: str) -> tuple[int, int]:
    """Return the year and the quarter, from 0, of a date (YYYY-MM-DD).

    Raises:
        ValueError: it is no date.
    """
    found = date.fromisoformat(day[:10])
    return found.year, (found.month - 1) // 3

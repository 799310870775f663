"""Tables that stages exchange: columns, reading and writing.

Tables that people read are CSV. Tables of tiles are GeoParquet, which QGIS opens.

| table | file | columns |
|---|---|---|
| scenes | scenes.csv | scene, location, group, date, archive, image, mask, cloud |
| raw files | manifest.csv | file, url, bytes, sha256, etag |
| official split | official.csv | tile or location, split |
| filtered scenes | kept.csv | columns of scenes.csv; cloud_share, nodata_share, kept, reason |
| imagery | imagery.csv | scene, location, group, archive, image, mask |
| tile plan | plan.parquet | tile; columns of imagery.csv; row, col, height, width, and those of the glossary |
| tiles | tiles.parquet | columns of plan.parquet; pixels_<id>, pixels_ignored; `core.band_statistics`; label units |
| signatures | signatures.parquet | kind, name, image, spread, labels, height, width, borders; see `core.signatures` |
| split | split.parquet | columns of tiles.parquet, copies and adjoining scenes being one location; split |

Glossary:

- **Scene**: one image on one date, with its label raster and, optionally, its cloud raster.
- **Location**: the ground that a scene covers. Scenes of one location differ in date and share a label raster.
- **Group**: locations that lie close together, such as those of one Sentinel-2 tile; '' if there are no groups.
- **Imagery**: the rasters that are tiled: the kept scenes, or one composite per location.
- **Tile**: a window of a scene. `row` and `col` are its offsets and `height` and `width` its size, all in px;
  `geometry` is its footprint, null if the scene has no CRS.
- **Archive**: the ZIP that holds the tiles of a scene, or of several scenes; see `core.tile_archive`.
- **Unit**: polygons or points that label pixels and stay in one split. `label_units` lists those of a tile, and
  `label_classes` the class ids of their pixels: a unit with two classes is listed twice.
- **Split**: the subset that a tile belongs to: train, val or test.
- **gsd**: ground sampling distance of the scene in metres, null if it has no CRS. **resolution**: pixel size to which
  its files are resampled, in units of the CRS, null if they have one grid. **dtype**: data type of its values;
  **scaling**: their scale and offset; see `core.scaling`.

Metadata of tile tables: `tile_size`, height and width of a tile in px, from plan.parquet on; `bands`, the names of all
bands of the imagery in file order as a JSON list, from plan.parquet on; `rendering`, see `core.rendering`, from
tiles.parquet on; `notices`, what stages printed of images and labels as a JSON list, from plan.parquet on.

Paths in scenes.csv and manifest.csv are relative to the dataset's raw folder. From imagery.csv on they are relative to
data/, because composites lie outside the raw folder. Image paths may contain {band} and cloud paths {layer}; see
`core.data_card`.
"""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from landseg.core.errors import LandsegError
from landseg.core.files import atomic

SCENE_COLUMNS = ("scene", "location", "group", "date", "archive", "image", "mask", "cloud")
FILE_COLUMNS = ("file", "url", "bytes", "sha256", "etag")
IMAGERY_COLUMNS = ("scene", "location", "group", "archive", "image", "mask")
#: Columns of the units of labels in each tile, and of their class ids; absent if labels have no units.
LABEL_UNITS, LABEL_CLASSES = "label_units", "label_classes"
#: Metadata key of the names of all bands of the imagery.
BANDS = "bands"
#: Metadata key of what stages printed of images and labels.
NOTICES = "notices"
# Rows that are copied at a time: a row of a tile may have some kB of histograms.
_BATCH = 1 << 14
_METADATA = "landseg:"  # prefix of landseg's keys in Parquet metadata
SPLITS = ("train", "val", "test")
_TEXT_COLUMNS = (*SCENE_COLUMNS, *FILE_COLUMNS, "tile", "split", "reason")
_GAPS = {"cloud_share": [""], "nodata_share": [""]}


def pixel_column(class_id: int) -> str:
    """Return the name of the column with the pixel count of a class."""
    return f"pixels_{class_id}"


def scene_table(rows: Iterable[Mapping[str, str]]) -> pd.DataFrame:
    """Build a scene table; columns that a row lacks get defaults.

    Args:
        rows: at least scene and image of each scene. Location and archive default to the scene, other columns to ''.
    """
    filled = (
        {**dict.fromkeys(SCENE_COLUMNS, ""), "location": row["scene"], "archive": row["scene"], **row} for row in rows
    )
    return pd.DataFrame(filled, columns=list(SCENE_COLUMNS), dtype="str")


def read_csv(path: Path) -> pd.DataFrame:
    """Read a CSV table. Numeric columns are numbers; all others are text, with '' for empty cells.

    Raises:
        LandsegError: the file is missing.
    """
    try:
        return pd.read_csv(path, dtype=dict.fromkeys(_TEXT_COLUMNS, "str"), keep_default_na=False, na_values=_GAPS)
    except FileNotFoundError:
        raise _missing(path) from None


def read_text_csv(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Read the header and the rows of a CSV file that a person wrote; cells are stripped, missing ones are ''.

    Raises:
        FileNotFoundError: the file is missing.
        LandsegError: the file is not UTF-8 or not valid CSV.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # spreadsheets write a byte order mark
    except UnicodeDecodeError:
        raise LandsegError(f"{path}: not UTF-8; save it as CSV in UTF-8") from None
    reader = csv.DictReader(io.StringIO(text))
    header = [name.strip() for name in reader.fieldnames or []]
    reader.fieldnames = header
    try:
        return header, [{key: (cell or "").strip() for key, cell in row.items() if key} for row in reader]
    except csv.Error as error:
        raise LandsegError(f"{path}: invalid CSV ({error}); look for an unclosed quote") from None


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV, atomically."""
    with atomic(path) as temporary:
        table.to_csv(temporary, index=False)


def read_parquet(path: Path, columns: list[str] | None = None) -> pd.DataFrame:
    """Read columns of a tile table; footprints are WKB.

    Raises:
        LandsegError: the file is missing.
    """
    table: pd.DataFrame = read_arrow(path, columns).to_pandas()
    return table


def read_arrow(path: Path, columns: list[str] | None = None, filters: Sequence[tuple[str, str, str]] = ()) -> pa.Table:
    """Read columns of a Parquet table as an Arrow table.

    Args:
        path: the table.
        columns: names of the columns; None: all.
        filters: conditions on rows, such as ("kind", "=", "tile").

    Raises:
        LandsegError: the file is missing.
    """
    try:
        return pq.read_table(path, columns=columns, filters=list(filters) or None)
    except FileNotFoundError:
        raise _missing(path) from None


def extend_parquet(
    source: Path | BinaryIO,
    path: Path,
    columns: Mapping[str, Any],
    metadata: Mapping[str, str] | None = None,
    pieces: Iterable[pa.Table] = (),
) -> None:
    """Copy a tile table from `source` to `path` and add columns and metadata; footprints and CRS are kept.

    Columns and metadata that the table already has are replaced. Rows are copied in batches, so memory does not grow
    with the table.

    Args:
        source: the table to copy.
        path: the table to write.
        columns: values of added columns by name.
        metadata: added metadata.
        pieces: further columns that the table does not have, as tables of consecutive rows with one schema.
    """
    further = _Rows(pieces)
    arrays = {name: pa.array(values) for name, values in columns.items()}
    with pq.ParquetFile(source) as file, atomic(path) as temporary:
        schema = file.schema_arrow
        for name, array in arrays.items():
            field, position = pa.field(name, array.type), schema.get_field_index(name)
            schema = schema.append(field) if position < 0 else schema.set(position, field)
        for field in further.schema:
            schema = schema.append(field)
        # Keys of bytes, as those that the table has: pyarrow would keep both, and read the old one.
        added_metadata = {f"{_METADATA}{key}".encode(): value for key, value in (metadata or {}).items()}
        schema = schema.with_metadata({**(schema.metadata or {}), **added_metadata})
        start = 0
        with pq.ParquetWriter(temporary, schema) as writer:
            for batch in file.iter_batches(_BATCH):
                kept = dict(zip(batch.schema.names, batch.columns, strict=True))
                kept |= {name: array.slice(start, len(batch)) for name, array in arrays.items()}
                kept |= further.take(len(batch))
                writer.write_batch(pa.record_batch([kept[name] for name in schema.names], schema=schema))
                start += len(batch)


class _Rows:
    """Rows of consecutive tables, of which a number at a time is taken."""

    def __init__(self, pieces: Iterable[pa.Table]) -> None:
        self._pieces = iter(pieces)
        self._waiting = next(self._pieces, pa.table({}))
        self.schema: pa.Schema = self._waiting.schema

    def take(self, count: int) -> dict[str, pa.Array]:
        """Return the columns of the next rows by name."""
        if not self.schema.names:
            return {}
        parts = [self._waiting]
        while sum(map(len, parts)) < count:
            parts.append(next(self._pieces))
        table = pa.concat_tables(parts)
        self._waiting = table.slice(count)
        taken = table.slice(0, count).combine_chunks()
        return {name: taken[name].combine_chunks() for name in self.schema.names}


def read_metadata(path: Path, key: str) -> str:
    """Read a metadata value that `extend_parquet` wrote to a tile table.

    Raises:
        LandsegError: the file or the value is missing.
    """
    try:
        metadata = pq.read_schema(path).metadata or {}
        return str(metadata[f"{_METADATA}{key}".encode()].decode())
    except FileNotFoundError:
        raise _missing(path) from None
    except KeyError:
        raise LandsegError(f"{path}: metadata key {key!r} not found; re-run the stage that writes this file") from None


def read_columns(path: Path) -> list[str]:
    """Read the names of the columns of a Parquet table.

    Raises:
        LandsegError: the file is missing.
    """
    try:
        return list(pq.read_schema(path).names)
    except FileNotFoundError:
        raise _missing(path) from None


def read_bands(path: Path) -> tuple[str, ...]:
    """Read the names of all bands of the imagery that a tile table was made from, in file order.

    Raises:
        LandsegError: the file or the value is missing.
    """
    return tuple(json.loads(read_metadata(path, BANDS)))


def read_notices(path: Path) -> list[str]:
    """Read what stages printed of the images and labels of a tile table, one sentence each.

    Raises:
        LandsegError: the file or the value is missing.
    """
    return list(json.loads(read_metadata(path, NOTICES)))


def _missing(path: Path) -> LandsegError:
    return LandsegError(f"{path}: file not found; run `dvc repro` or the stage that writes it")


def quarter(day: str) -> tuple[int, int]:
    """Return the year and the quarter (0 to 3) of a date (YYYY-MM-DD).

    Raises:
        ValueError: not a valid date.
    """
    found = date.fromisoformat(day[:10])
    return found.year, (found.month - 1) // 3

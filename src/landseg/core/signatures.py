"""Signatures of tiles and scenes: small thumbnails by which copies and neighbours are found without reading pixels.

The convert stage writes them to signatures.parquet, and the split stage compares them. A thumbnail is an area average,
so it commutes with the eight rotations and reflections of a square (the dihedral group D4), and hardly depends on the
size at which the image is stored or on its compression. This follows the average hash of images, with more cells and
levels, because land-cover tiles differ less from each other than photographs do.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import numpy.typing as npt

from landseg.core.arrays import Floats32, Ints32, Pixels
from landseg.core.files import atomic

if TYPE_CHECKING:
    import pyarrow as pa  # imported where it is used: it takes 70 MiB in each process that encodes tiles

#: Height and width of a thumbnail, in cells.
SIDE = 32
#: Samples of a border of a scene.
BORDER = 256
#: Order of the borders of a scene.
BORDERS = ("top", "bottom", "left", "right")

Kind = Literal["tile", "scene"]
# Rows that are written at a time: 2 kB each for tiles, 8 kB for scenes.
_ROWS = 5_000
#: Columns of signatures.parquet, besides the kind; `borders` for scenes only.
COLUMNS = ("name", "image", "spread", "labels", "height", "width", "borders")

_ARRAYS: dict[str, tuple[npt.DTypeLike, tuple[int, ...]]] = {
    "image": (np.uint8, (SIDE, SIDE)),
    "labels": (np.uint8, (SIDE, SIDE)),
    "borders": (np.float16, (len(BORDERS), BORDER)),
}


@dataclass(frozen=True)
class Signatures:
    """Signatures of N tiles or scenes."""

    names: list[str]
    #: (N, SIDE, SIDE) brightness, each stretched to 0 to 255.
    images: Pixels
    #: (N,) brightness that the stretch maps to 0 and 255, apart, in levels of the rendered image.
    spread: Floats32
    #: (N, SIDE, SIDE) area average of label values: 0 for ignored pixels, 1 to 255 for the classes, evenly spaced.
    labels: Pixels
    #: (N, 2) height and width, px.
    sizes: Ints32
    #: (N, len(BORDERS), BORDER) brightness along the borders, in levels of the rendered image, NaN without data;
    #: (N, 0, 0) for tiles.
    borders: Floats32

    def __len__(self) -> int:
        return len(self.names)

    def in_levels(self, level: float) -> "Signatures":
        """Return the signatures with brightness in levels, where it was in values, of which `level` is one level."""
        if level == 1:
            return self
        return replace(self, spread=self.spread / np.float32(level), borders=self.borders / np.float32(level))


_NONE = Signatures(
    [],
    np.zeros((0, SIDE, SIDE), np.uint8),
    np.zeros(0, np.float32),
    np.zeros((0, SIDE, SIDE), np.uint8),
    np.zeros((0, 2), np.int32),
    np.zeros((0, 0, 0), np.float32),
)


def concatenated(parts: Sequence[Signatures]) -> Signatures:
    """Return the signatures of all parts, in order; there is at least one part."""
    return Signatures(
        [name for part in parts for name in part.names],
        *(
            np.concatenate([getattr(part, field) for part in parts])
            for field in ("images", "spread", "labels", "sizes", "borders")
        ),
    )


def write_signatures(path: Path, tiles: Iterable[Signatures], scenes: Iterable[Signatures]) -> None:
    """Write the signatures of tiles and scenes, in pieces, to one Parquet table, atomically."""
    import pyarrow.parquet as pq

    with atomic(path) as temporary, pq.ParquetWriter(temporary, _table("tile", _NONE).schema, compression="zstd") as to:
        for kind, pieces in (("tile", tiles), ("scene", scenes)):
            for piece in _of_size(pieces, _ROWS):
                to.write_table(_table(cast(Kind, kind), piece))


def _of_size(pieces: Iterable[Signatures], rows: int) -> Iterator[Signatures]:
    """Join pieces until they have a number of rows."""
    waiting: list[Signatures] = []
    for piece in pieces:
        waiting.append(piece)
        if sum(map(len, waiting)) >= rows:
            yield concatenated(waiting)
            waiting = []
    if waiting:
        yield concatenated(waiting)


def read_signatures(path: Path, kind: Kind, columns: Sequence[str] = COLUMNS) -> dict[str, Any]:
    """Read columns of the signatures of tiles or of scenes, in the order of the file; shapes as in `Signatures`.

    Args:
        path: signatures.parquet.
        kind: tile or scene.
        columns: some of COLUMNS.

    Raises:
        LandsegError: the file is missing.
    """
    from landseg.core.tables import read_arrow

    table = read_arrow(path, list(columns), [("kind", "=", kind)])
    return {name: _decoded(table[name].combine_chunks(), name) for name in columns}


def _table(kind: Kind, signatures: Signatures) -> "pa.Table":
    import pyarrow as pa

    return pa.table(
        {
            "kind": pa.array([kind] * len(signatures), pa.string()),
            "name": pa.array(signatures.names, pa.string()),
            "image": _binary(signatures.images, "image"),
            "spread": pa.array(signatures.spread, pa.float32()),
            "labels": _binary(signatures.labels, "labels"),
            "height": pa.array(signatures.sizes[:, 0], pa.int32()),
            "width": pa.array(signatures.sizes[:, 1], pa.int32()),
            "borders": _binary(signatures.borders, "borders")
            if kind == "scene"
            else pa.nulls(len(signatures), _type("borders")),
        }
    )


def _binary(rows: npt.NDArray[Any], column: str) -> "pa.Array":
    import pyarrow as pa

    with np.errstate(over="ignore"):  # values beyond float16 become infinity, which is as unknown as NaN
        return pa.array([row.tobytes() for row in rows.astype(_ARRAYS[column][0])], _type(column))


def _type(column: str) -> "pa.DataType":
    import pyarrow as pa

    dtype, shape = _ARRAYS[column]
    return pa.binary(int(np.dtype(dtype).itemsize * np.prod(shape)))


def _decoded(column: "pa.Array", name: str) -> Any:
    if name == "name":
        return column.to_pylist()
    if name not in _ARRAYS:
        return column.to_numpy(zero_copy_only=False)
    dtype, shape = _ARRAYS[name]
    width = column.type.byte_width
    content = np.frombuffer(column.buffers()[1], np.uint8)  # without a copy: it may be a gigabyte
    return content[column.offset * width :][: len(column) * width].view(dtype).reshape(-1, *shape)

"""Signatures of tiles and scenes: small thumbnails by which copies and neighbours are found without reading pixels.

The convert stage writes them to signatures.parquet, and the split stage compares them. A thumbnail is an area average,
so it commutes with the eight rotations and reflections of a square (the dihedral group D4), and hardly depends on the
size at which the image is stored or on its compression. This follows the average hash of images, with more cells and
levels, because land-cover tiles differ less from each other than photographs do.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from landseg.core.arrays import Floats32, Ints32, Pixels
from landseg.core.errors import LandsegError
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


def concatenated(parts: Sequence[Signatures]) -> Signatures:
    """Return the signatures of all parts, in order; there is at least one part."""
    return Signatures(
        [name for part in parts for name in part.names],
        *(
            np.concatenate([getattr(part, field) for part in parts])
            for field in ("images", "spread", "labels", "sizes", "borders")
        ),
    )


def write_signatures(path: Path, tiles: Signatures, scenes: Signatures) -> None:
    """Write the signatures of tiles and scenes to one Parquet table, atomically."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.concat_tables([_table("tile", tiles), _table("scene", scenes)])
    with atomic(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_signatures(path: Path, kind: Kind) -> Signatures:
    """Read the signatures of tiles or of scenes.

    Raises:
        LandsegError: the file is missing.
    """
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, filters=[("kind", "=", kind)])
    except FileNotFoundError:
        raise LandsegError(f"{path}: file not found; run `dvc repro` or the convert stage") from None
    rows = len(table)
    borders = (len(BORDERS), BORDER) if kind == "scene" else (0, 0)
    return Signatures(
        table["name"].to_pylist(),
        images=_array(table, "image", np.uint8, (rows, SIDE, SIDE)),
        spread=table["spread"].to_numpy().astype(np.float32),
        labels=_array(table, "labels", np.uint8, (rows, SIDE, SIDE)),
        sizes=np.stack([table[side].to_numpy() for side in ("height", "width")], axis=1).astype(np.int32),
        borders=_array(table, "borders", np.float16, (rows, *borders)).astype(np.float32),
    )


def _table(kind: Kind, signatures: Signatures) -> "pa.Table":
    import pyarrow as pa

    return pa.table(
        {
            "kind": pa.array([kind] * len(signatures), pa.string()),
            "name": pa.array(signatures.names, pa.string()),
            "image": _binary(signatures.images),
            "spread": pa.array(signatures.spread, pa.float32()),
            "labels": _binary(signatures.labels),
            "height": pa.array(signatures.sizes[:, 0], pa.int32()),
            "width": pa.array(signatures.sizes[:, 1], pa.int32()),
            "borders": _binary(signatures.borders.astype(np.float16)),
        }
    )


def _binary(rows: npt.NDArray[Any]) -> "pa.Array":
    import pyarrow as pa

    return pa.array([row.tobytes() for row in rows], pa.large_binary())


def _array(table: "pa.Table", column: str, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    return np.frombuffer(b"".join(table[column].to_pylist()), dtype).reshape(shape)

"""Strata of reference points that are not the mapped classes: their names, their sizes, and the points in them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from landseg.core.arrays import Floats
from landseg.core.errors import LandsegError
from landseg.maps.point_table import STRATUM, STRATUM_SIZE, csv_rows
from landseg.maps.reference import ReferencePoints

_SIZE_COLUMNS = ("size", "pixels", "area")


@dataclass(frozen=True)
class Strata:
    """Strata of a sample."""

    #: (H,) names.
    names: tuple[str, ...]
    #: (H,) sizes, in any unit; None if unknown.
    sizes: Floats | None
    #: (N,) stratum of each point.
    index: npt.NDArray[np.intp]


def read_strata(points: ReferencePoints, table: Path | None = None) -> Strata | None:
    """Return the strata that reference points were drawn from; None if the points name none, or all the same.

    Args:
        points: the points, with the column `stratum`, and optionally `stratum_size`: the size of the point's stratum.
        table: CSV with the columns stratum and size (or pixels, or area), one row per stratum. Sizes are all in one
            unit, such as pixels.

    Raises:
        LandsegError: a table is given but the points name no stratum, a stratum is not in the table, or a size is not a
            positive number or differs within a stratum.
    """
    if points.stratum is None:
        if table is not None:
            raise LandsegError(f"{points.name}: no column {STRATUM}; add it, or leave out --strata")
        return None
    known = _from_table(table) if table is not None else _from_points(points)
    names = tuple(known or dict.fromkeys(points.stratum))
    unknown = next((name for name in points.stratum if name not in names), None)
    if unknown is not None:
        raise LandsegError(f"{table}: no row for stratum {unknown!r} of {points.name}; add it")
    if len(names) == 1:
        return None
    number = {name: n for n, name in enumerate(names)}
    sizes = np.array(list(known.values())) if known else None
    return Strata(names, sizes, np.array([number[name] for name in points.stratum], np.intp))


def _from_table(path: Path) -> dict[str, float]:
    rows = csv_rows(path, (STRATUM,), "stratum and size")
    column = next((name for name in _SIZE_COLUMNS if name in rows[0]), None)
    if column is None:
        raise LandsegError(f"{path}: no column size, pixels or area; add the size of every stratum")
    sizes: dict[str, float] = {}
    for line, row in enumerate(rows, start=2):
        if row[STRATUM] in sizes:
            raise LandsegError(f"{path}: stratum {row[STRATUM]!r} again in line {line}; give one row per stratum")
        sizes[row[STRATUM]] = _size(row[column], f"{path}: {column} = {row[column]!r} in line {line}")
    return sizes


def _from_points(points: ReferencePoints) -> Mapping[str, float]:
    if points.stratum is None or points.stratum_size is None:
        return {}
    sizes: dict[str, float] = {}
    for row, (name, given) in enumerate(zip(points.stratum, points.stratum_size, strict=True), start=1):
        size = _size(given, f"{points.name}: {STRATUM_SIZE} = {given!r} of point {row}")
        if sizes.setdefault(name, size) != size:
            raise LandsegError(
                f"{points.name}: {STRATUM_SIZE} of stratum {name!r} is {sizes[name]:g} and {size:g}; give one size"
            )
    return sizes


def _size(text: str, where: str) -> float:
    try:
        size = float(text)
    except ValueError:
        size = np.nan
    if not (np.isfinite(size) and size > 0):
        raise LandsegError(f"{where}; give a positive number")
    return size

"""References for maps: points of known class, or the confusion matrices of a model's test split."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rasterio.warp import transform
from rasterio.windows import Window

from landseg.core.arrays import Counts, Floats
from landseg.core.classes import IGNORE, ClassTable, class_channels, class_names
from landseg.core.errors import LandsegError
from landseg.maps.class_map import ClassMap
from landseg.maps.formatting import percent
from landseg.maps.point_table import CSV, STRATUM, STRATUM_SIZE, csv_rows, read_point_table
from landseg.results.comparable import check_comparable
from landseg.results.revisions import load_run
from landseg.results.wording import LEAKAGE_TERMS, SPLIT_NAMES, unit_noun

_SPLIT_ADJECTIVES = {"train": "training", "val": "validation", "test": "test"}
_BLOCK = 512  # px; points within one block are read together
_MAX_DIGITS = 15  # of a pixel count


@dataclass(frozen=True)
class ReferencePoints:
    """Points of known class."""

    #: Path of the table.
    name: str
    #: (N,) coordinates.
    x: Floats
    y: Floats
    #: CRS of the coordinates, as rasterio accepts it; None: the CRS of the map.
    crs: Any
    #: (N,) class of each point, as a channel of the class table.
    channels: npt.NDArray[np.intp]
    #: (N,) stratum of each point, and the size of this stratum, as given in the columns STRATUM and STRATUM_SIZE; None
    #: without these columns.
    stratum: tuple[str, ...] | None = None
    stratum_size: tuple[str, ...] | None = None


def read_points(path: Path, classes: ClassTable, column: str = "class") -> ReferencePoints:
    """Read a table of reference points.

    Args:
        path: CSV with a class column and either x and y in the CRS of the map, or lon and lat in degrees; or a point
            layer that geopandas reads (GeoPackage, GeoParquet, GeoJSON, ...) with a class column. Optional columns:
            STRATUM and STRATUM_SIZE.
        classes: class table of the map. Classes are given by name or id.
        column: name of the class column.

    Raises:
        LandsegError: the file is missing or unreadable, a column is missing, or a class is not in the class table.
    """
    table = read_point_table(path, column)
    given = table.columns[column]
    if not given:
        raise LandsegError(f"{path}: no points; give a table with at least one")
    known = {str(each.id): k for k, each in enumerate(classes)} | {
        name: k for k, name in enumerate(class_names(classes))
    }
    for row, name in enumerate(given, start=1):
        if name not in known:
            raise LandsegError(f"{path}: class {name!r} of point {row} {_not_on_map(name, class_names(classes))}")
    channels = np.array([known[name] for name in given], np.intp)
    strata = (table.columns.get(name) for name in (STRATUM, STRATUM_SIZE))
    return ReferencePoints(str(path), table.x, table.y, table.crs, channels, *strata)


class PointSample:
    """Mapped classes at reference points, collected map by map."""

    def __init__(self, points: ReferencePoints, classes: ClassTable) -> None:
        """Start without a map.

        Args:
            points: the points.
            classes: class table of the maps.
        """
        self.points = points
        self._channels = class_channels(classes)
        self._mapped = np.full(len(points.x), IGNORE, np.uint8)
        self._inside = np.zeros(len(points.x), np.bool_)
        self._crs: Any = None
        self._maps = 0
        self._classes = len(classes)

    def add(self, class_map: ClassMap) -> None:
        """Look up the points that have no class on an earlier map.

        Raises:
            LandsegError: the coordinates of the points do not suit the map, or the map is damaged.
        """
        row, col = self._pixels(class_map)
        grid = class_map.grid
        within = (row >= 0) & (row < grid.height) & (col >= 0) & (col < grid.width)  # False for NaN
        self._inside |= within
        wanted = np.flatnonzero(within & (self._mapped == IGNORE))
        row, col = row[wanted].astype(np.intp), col[wanted].astype(np.intp)
        blocks = row // _BLOCK * (grid.width // _BLOCK + 1) + col // _BLOCK
        for block in np.unique(blocks):
            here = blocks == block
            top, left = row[here].min(), col[here].min()
            window = Window(left, top, int(np.ptp(col[here])) + 1, int(np.ptp(row[here])) + 1)
            found = class_map.read(window)[row[here] - top, col[here] - left]
            self._mapped[wanted[here]] = self._channels[found]

    def without_maps(self, first_crs: Any) -> "PointSample":
        """Return a sample of the same points without a map, for one of many maps.

        Args:
            first_crs: the CRS of the first map, with which that of the others is compared.
        """
        sample = PointSample(self.points, ())
        sample._channels, sample._classes = self._channels, self._classes
        sample._crs, sample._maps = first_crs, 1
        return sample

    @property
    def found(self) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.uint8]]:
        """Whether each point lies inside a map, (N,), and its mapped channel, (N,) (see `mapped`)."""
        return self._inside, self._mapped

    def add_found(self, inside: npt.NDArray[np.bool_], mapped: npt.NDArray[np.uint8]) -> None:
        """Add what another sample found on the next map (see `found`)."""
        self._inside |= inside
        new = self._mapped == IGNORE
        self._mapped[new] = mapped[new]

    @property
    def mapped(self) -> npt.NDArray[np.uint8]:
        """(N,) mapped channel of every point, from the first map with a class there; IGNORE if there is none."""
        return self._mapped

    @property
    def sample(self) -> Counts:
        """(K, K) int64 number of points; rows: reference class, columns: mapped class."""
        counts: Counts = self.by_stratum(np.zeros(len(self._mapped), np.intp), 1)[0]
        return counts

    def by_stratum(self, stratum: npt.NDArray[np.intp], count: int) -> Counts:
        """Count the points of every stratum.

        Args:
            stratum: (N,) stratum of each point, 0 to `count` - 1.
            count: H, the number of strata.

        Returns:
            (H, K, K) int64; rows: reference class, columns: mapped class.
        """
        used, shape = self._mapped != IGNORE, (count, self._classes, self._classes)
        cells = np.ravel_multi_index((stratum[used], self.points.channels[used], self._mapped[used]), shape)
        counts: Counts = np.bincount(cells, minlength=int(np.prod(shape))).reshape(shape)
        return counts

    @property
    def outside(self) -> int:
        """Number of points outside all maps."""
        return int((~self._inside).sum())

    @property
    def blank(self) -> int:
        """Number of points on pixels without data."""
        return int((self._inside & (self._mapped == IGNORE)).sum())

    @property
    def duplicates(self) -> int:
        """Number of points on a class that have the coordinates of another point."""
        used = self._mapped != IGNORE
        coordinates = np.stack([self.points.x[used], self.points.y[used]])
        return int(coordinates.shape[1] - np.unique(coordinates, axis=1).shape[1])

    def _pixels(self, class_map: ClassMap) -> tuple[Floats, Floats]:
        """Return rows and columns of the points, (N,) float64 each; not finite for invalid coordinates."""
        grid, points = class_map.grid, self.points
        self._maps += 1
        if self._maps == 1:
            self._crs = grid.crs
        if points.crs is None and grid.crs != self._crs:
            raise LandsegError(
                f"{class_map.name}: its CRS differs from that of the first map, so x and y of {points.name} are "
                "ambiguous; give lon and lat instead"
            )
        if points.crs is not None and not grid.crs:
            raise LandsegError(
                f"{class_map.name}: has no CRS, so {points.name} cannot be placed on it; give the points as x and y"
            )
        x, y = (points.x, points.y) if points.crs is None else _reprojected(points, class_map)
        if points.crs is not None and grid.crs.is_geographic:  # 181° is -179° on a map that crosses the antimeridian
            middle = (grid.transform @ (grid.width / 2, grid.height / 2))[0]
            x = x + 360 * np.round((middle - x) / 360)
        inverse = np.linalg.inv(np.reshape(grid.transform, (3, 3)))
        with np.errstate(invalid="ignore"):
            col, row = np.floor(inverse[:2, :2] @ np.stack([x, y]) + inverse[:2, 2:])
        return row, col


@dataclass(frozen=True)
class ReferenceMatrices:
    """Confusion matrices of a model's test split."""

    #: (S, K, K) int64 pixels, one matrix per location, or (1, K, K) if locations are unknown. Rows: reference class,
    #: columns: mapped class.
    matrices: Counts
    #: The unit of a matrix, in the plural: scenes, locations or groups; None if unknown.
    noun: str | None
    #: Description for reports.
    title: str
    #: train, val or test.
    split: str = "test"
    #: Why errors are, or may be, underestimated, as a sentence; empty if there is no reason.
    optimism: str = ""


def read_matrices(source: str, classes: ClassTable) -> ReferenceMatrices:
    """Read the confusion matrices of a model's test split, in channel order of a class table.

    Args:
        source: a git revision, a DVC experiment or 'workspace', with evaluation results; or a CSV file with the columns
            actual, predicted and pixels, and optionally unit or scene, such as results/scenes.csv.
        classes: class table of the map.

    Raises:
        LandsegError: the source is missing or incomplete, or its classes are not those of the map.
    """
    path = Path(source)
    return _from_table(path, classes) if path.suffix.lower() in CSV or path.is_file() else _from_run(source, classes)


def _from_run(name: str, classes: ClassTable) -> ReferenceMatrices:
    run = load_run(name)
    check_comparable(run, run)  # checks that the results are complete and match the parameters
    own, wanted = ([(each.id, each.name) for each in table] for table in (run.classes, classes))
    if sorted(own) != sorted(wanted):
        listed = [", ".join(f"{number} {name}" for number, name in sorted(table)) for table in (own, wanted)]
        raise LandsegError(
            f"{name}: its classes are {listed[0]}, but the map's are {listed[1]}; give the model that made the map"
        )
    order = [own.index(each) for each in wanted]
    matrices = run.units[1][:, order][:, :, order]
    split, leakage = str(run.metrics["split"]), run.metrics["leakage"] or {}
    revision = name if name == run.revision else f"{name} ({run.revision})"
    title = f"the {SPLIT_NAMES[split]} of {revision}"
    return ReferenceMatrices(matrices, unit_noun(run), title, split, _optimism(split, leakage))


def _optimism(split: str, leakage: Mapping[str, float | None]) -> str:
    """Return why errors in a split are, or may be, underestimated; empty if there is no reason.

    Args:
        split: train, val or test.
        leakage: shares of its tiles by the keys of LEAKAGE_TERMS; None or missing where unknown.
    """
    if split == "train":
        return "The model was trained on the reference tiles: errors are underestimated."
    selected = "The best epoch was selected on the reference itself: errors are underestimated. "
    prefix = selected if split == "val" else ""
    adjacency = "edge_or_corner" if "edge_or_corner" in leakage else "edge"
    for key in (adjacency, "same_location", "same_group"):
        if share := leakage.get(key):
            return (
                f"{prefix}{percent(share)} of reference tiles share {LEAKAGE_TERMS[key]} with a training tile: errors "
                "are underestimated."
            )
    if share := leakage.get("duplicate"):
        return (
            f"{prefix}{percent(share)} of reference tiles have a copy in the training set: errors are underestimated."
        )
    if leakage.get(adjacency) is None:
        return f"{prefix}The distance of the reference to training tiles is unknown: errors may be underestimated."
    return prefix.rstrip()


def _from_table(path: Path, classes: ClassTable) -> ReferenceMatrices:
    rows = csv_rows(path, ("actual", "predicted", "pixels"), "actual, predicted and pixels")
    key = next((column for column in ("unit", "scene") if column in rows[0]), None)
    units = {name: n for n, name in enumerate(sorted({row[key] if key else "" for row in rows}))}
    channel = {name: k for k, name in enumerate(class_names(classes))}
    matrices = np.zeros((len(units), len(channel), len(channel)), np.int64)
    for line, row in enumerate(rows, start=2):
        for name in (row["actual"], row["predicted"]):
            if name not in channel:
                raise LandsegError(f"{path}: class {name!r} in line {line} {_not_on_map(name, list(channel))}")
        if not row["pixels"].isdecimal() or len(row["pixels"]) > _MAX_DIGITS:
            raise LandsegError(f"{path}: pixels = {row['pixels']!r} in line {line}; give a whole number")
        cell = units[row[key] if key else ""], channel[row["actual"]], channel[row["predicted"]]
        matrices[cell] += int(row["pixels"])
    noun = {"unit": "locations", "scene": "scenes"}[key] if key else None
    return ReferenceMatrices(matrices, noun, f"the confusion matrices of {path}", optimism=_optimism("test", {}))


def _not_on_map(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return "is not a class of the map; " + (f"did you mean {near[0]}?" if near else f"choose one of {', '.join(known)}")


def _reprojected(points: ReferencePoints, class_map: ClassMap) -> tuple[Floats, Floats]:
    try:
        x, y = transform(points.crs, class_map.grid.crs, points.x, points.y)
    except Exception as error:  # rasterio passes on GDAL's own exceptions where no transformation exists
        raise LandsegError(
            f"{points.name}: points cannot be transformed to the CRS of {class_map.name} ({error}); "
            "give them as x and y in that CRS"
        ) from None
    return np.asarray(x, np.float64), np.asarray(y, np.float64)


def points_sentence(name: str, count: int, outside: int, blank: int, strata: str) -> str:
    """Return the report's sentence on reference points.

    Args:
        name: path of the table.
        count: number of points in use.
        outside: number of points outside the map.
        blank: number of points on pixels without data.
        strata: the strata of a stratified sample: "mapped class", "mapped change".
    """
    return (
        f"{_points_text(name, count, outside, blank)} The estimates are valid for points drawn at random from the "
        f"whole map or from each {strata} (Olofsson et al. 2014)."
    )


def strata_sentence(name: str, count: int, outside: int, blank: int, strata: int) -> str:
    """Return the report's sentence on reference points from strata of their own (see `points_sentence`)."""
    return (
        f"{_points_text(name, count, outside, blank)} The estimates are valid for points drawn at random from each of "
        f"the {strata:,} strata, whose sizes are those on the map (Stehman 2014)."
    )


def _points_text(name: str, count: int, outside: int, blank: int) -> str:
    excluded = {"outside the map": outside, "on pixels without data": blank}
    listed = ", ".join(f"{number:,} {where}" for where, number in excluded.items() if number)
    return f"Reference: {count:,} points of {name}{listed and f' (excluded: {listed})'}."


def duplicates_sentence(duplicates: int) -> str:
    """Return the report's sentence on points with the coordinates of another point."""
    return (
        f"{duplicates:,} points have the coordinates of another point; remove duplicates, which narrow the intervals."
    )


def validity_sentences(matrices: ReferenceMatrices) -> Iterator[str]:
    """Yield the report's sentences on how far estimates from confusion matrices are valid."""
    yield (
        "The reference is not a random sample of the mapped area: these figures are valid only as far as the area "
        f"resembles {split_units(matrices)}."
    )
    if matrices.optimism:
        yield matrices.optimism


def split_units(matrices: ReferenceMatrices) -> str:
    """Return the units of the matrices in words, such as "the test scenes"."""
    return f"the {_SPLIT_ADJECTIVES[matrices.split]} {matrices.noun or 'split'}"

"""References for maps: points of known class, or the confusion matrices of a model's test split."""

import csv
import difflib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rasterio.crs import CRS
from rasterio.warp import transform
from rasterio.windows import Window

from landseg.core.arrays import Counts, Floats
from landseg.core.classes import ClassTable, class_channels, class_names
from landseg.core.errors import LandsegError
from landseg.maps.class_map import NODATA, ClassMap
from landseg.maps.formatting import percent
from landseg.results.comparable import check_comparable
from landseg.results.revisions import load_run
from landseg.results.wording import LEAKAGE_TERMS, SPLIT_NAMES, unit_noun

_SPLIT_ADJECTIVES = {"train": "training", "val": "validation", "test": "test"}
_DEGREES = "EPSG:4326"
_BLOCK = 512  # px; points within one block are read together
_CSV = (".csv", ".txt")
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


def read_points(path: Path, classes: ClassTable, column: str = "class") -> ReferencePoints:
    """Read a table of reference points.

    Args:
        path: CSV with a class column and either x and y in the CRS of the map, or lon and lat in degrees; or a point
            layer that geopandas reads (GeoPackage, GeoParquet, GeoJSON, ...) with a class column.
        classes: class table of the map. Classes are given by name or id.
        column: name of the class column.

    Raises:
        LandsegError: the file is missing or unreadable, a column is missing, or a class is not in the class table.
    """
    if not path.is_file():
        raise LandsegError(f"{path}: file not found; give a table of reference points")
    x, y, crs, given = (_from_csv if path.suffix.lower() in _CSV else _from_vectors)(path, column)
    if not given:
        raise LandsegError(f"{path}: no points; give a table with at least one")
    known = {str(each.id): k for k, each in enumerate(classes)} | {
        name: k for k, name in enumerate(class_names(classes))
    }
    for row, name in enumerate(given, start=1):
        if name not in known:
            raise LandsegError(f"{path}: class {name!r} of point {row} {_not_on_map(name, class_names(classes))}")
    return ReferencePoints(str(path), x, y, crs, np.array([known[name] for name in given], np.intp))


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
        self._mapped = np.full(len(points.x), NODATA, np.uint8)
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
        wanted = np.flatnonzero(within & (self._mapped == NODATA))
        row, col = row[wanted].astype(np.intp), col[wanted].astype(np.intp)
        blocks = row // _BLOCK * (grid.width // _BLOCK + 1) + col // _BLOCK
        for block in np.unique(blocks):
            here = blocks == block
            top, left = row[here].min(), col[here].min()
            window = Window(left, top, int(np.ptp(col[here])) + 1, int(np.ptp(row[here])) + 1)
            found = class_map.read(window)[row[here] - top, col[here] - left]
            self._mapped[wanted[here]] = self._channels[found]

    @property
    def mapped(self) -> npt.NDArray[np.uint8]:
        """(N,) mapped channel of every point, from the first map with a class there; NODATA if there is none."""
        return self._mapped

    @property
    def sample(self) -> Counts:
        """(K, K) int64 number of points; rows: reference class, columns: mapped class."""
        used = self._mapped != NODATA
        pairs = self.points.channels[used] * self._classes + self._mapped[used]
        return np.bincount(pairs, minlength=self._classes**2).reshape(self._classes, self._classes)

    @property
    def outside(self) -> int:
        """Number of points outside all maps."""
        return int((~self._inside).sum())

    @property
    def blank(self) -> int:
        """Number of points on pixels without data."""
        return int((self._inside & (self._mapped == NODATA)).sum())

    @property
    def duplicates(self) -> int:
        """Number of points on a class that have the coordinates of another point."""
        used = self._mapped != NODATA
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
    return _from_table(path, classes) if path.suffix.lower() in _CSV or path.is_file() else _from_run(source, classes)


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
    if leakage.get(adjacency) is None:
        return f"{prefix}The distance of the reference to training tiles is unknown: errors may be underestimated."
    return prefix.rstrip()


def _from_table(path: Path, classes: ClassTable) -> ReferenceMatrices:
    rows = _csv_rows(path, ("actual", "predicted", "pixels"), "actual, predicted and pixels")
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


def _from_csv(path: Path, column: str) -> tuple[Floats, Floats, Any, list[str]]:
    rows = _csv_rows(path, (column,), f"{column}, and x and y or lon and lat")
    crs, pair = next(
        ((crs, pair) for crs, pair in ((None, ("x", "y")), (_DEGREES, ("lon", "lat"))) if {*pair} <= rows[0].keys()),
        (None, None),
    )
    if pair is None:
        raise LandsegError(f"{path}: no columns x and y, or lon and lat; rename the coordinate columns")
    x, y = (np.array([_number(path, line, row, of) for line, row in enumerate(rows, start=2)]) for of in pair)
    return x, y, crs, [row[column] for row in rows]


def _from_vectors(path: Path, column: str) -> tuple[Floats, Floats, Any, list[str]]:
    import geopandas as gpd  # slow to import

    try:
        frame = gpd.read_parquet(path) if path.suffix.lower() == ".parquet" else gpd.read_file(path)
    except Exception as error:  # the readers raise many types of exceptions for invalid files
        reason = " ".join(str(error).split()).rstrip(".")
        raise LandsegError(f"{path}: not readable as a table of points ({reason}); replace it") from None
    if not isinstance(frame, gpd.GeoDataFrame):
        raise LandsegError(f"{path}: no geometry; give a point layer, or a .csv file with x and y or lon and lat")
    if column not in frame:
        raise LandsegError(f"{path}: no column {column}; rename the class column")
    if len(frame) and ((frame.geom_type != "Point") | frame.geometry.is_empty).any():
        raise LandsegError(f"{path}: geometries other than points; give a layer with one point per row")
    crs = None if frame.crs is None else CRS.from_wkt(frame.crs.to_wkt())
    given = [str(int(name)) if isinstance(name, float) and name.is_integer() else str(name) for name in frame[column]]
    return frame.geometry.x.to_numpy(), frame.geometry.y.to_numpy(), crs, [name.strip() for name in given]


def _csv_rows(path: Path, columns: Sequence[str], required: str) -> list[dict[str, str]]:
    """Read a CSV file; cells are stripped, missing ones are ''."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # spreadsheets write a byte order mark
    except FileNotFoundError:
        raise LandsegError(f"{path}: file not found; give a table with the columns {required}") from None
    except UnicodeDecodeError:
        raise LandsegError(f"{path}: not UTF-8; save it as CSV in UTF-8") from None
    reader = csv.DictReader(io.StringIO(text))
    reader.fieldnames = [name.strip() for name in reader.fieldnames or []]
    try:
        rows = [{key: (cell or "").strip() for key, cell in row.items() if key} for row in reader]
    except csv.Error as error:
        raise LandsegError(f"{path}: invalid CSV ({error}); look for an unclosed quote") from None
    missing = [column for column in columns if column not in reader.fieldnames]
    if missing or not rows:
        fault = f"no column {missing[0]}" if missing else "no rows"
        raise LandsegError(f"{path}: {fault}; give a comma-separated table with the columns {required}")
    return rows


def _number(path: Path, line: int, row: Mapping[str, str], column: str) -> float:
    try:
        return float(row[column])
    except ValueError:
        raise LandsegError(f"{path}: {column} = {row[column]!r} in line {line}; give a number") from None


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
    excluded = {"outside the map": outside, "on pixels without data": blank}
    listed = ", ".join(f"{number:,} {where}" for where, number in excluded.items() if number)
    return (
        f"Reference: {count:,} points of {name}{listed and f' (excluded: {listed})'}. The estimates are valid for "
        f"points drawn at random from the whole map or from each {strata} (Olofsson et al. 2014)."
    )


def duplicates_sentence(duplicates: int) -> str:
    """Return the report's sentence on points with the coordinates of another point."""
    return (
        f"{duplicates:,} points have the coordinates of another point; remove duplicates, which narrow the intervals."
    )


def no_interval_sentence(matrices: ReferenceMatrices) -> str:
    """Return the report's sentence on confusion matrices of fewer than two locations."""
    if matrices.noun is None:
        return (
            "No interval: pixels of one location are correlated, and the reference does not tell locations apart; "
            "results/scenes.csv does."
        )
    return f"No interval: it takes at least two {matrices.noun} with reference pixels."


def validity_sentences(matrices: ReferenceMatrices) -> Iterator[str]:
    """Yield the report's sentences on how far estimates from confusion matrices are valid."""
    yield (
        "The reference is not a random sample of the mapped area: the estimates are valid only as far as the area "
        f"resembles {split_units(matrices)}."
    )
    if matrices.optimism:
        yield matrices.optimism


def split_units(matrices: ReferenceMatrices) -> str:
    """Return the units of the matrices in words, such as "the test scenes"."""
    return f"the {_SPLIT_ADJECTIVES[matrices.split]} {matrices.noun or 'split'}"

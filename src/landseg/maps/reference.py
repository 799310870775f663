"""What maps are held against: points whose class is known, or the confusion matrices of a model's test part."""

import csv
import difflib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rasterio.crs import CRS
from rasterio.warp import transform
from rasterio.windows import Window

from landseg.core.arrays import Counts, Floats
from landseg.core.classes import ClassTable, channels, names
from landseg.core.errors import LandsegError
from landseg.maps.class_map import NODATA, ClassMap
from landseg.maps.formatting import percent
from landseg.results.comparable import check_comparable
from landseg.results.revisions import load_run
from landseg.results.wording import SPLIT_NAMES
from landseg.results.wording import unit_noun as drawn_over

_DEGREES = "EPSG:4326"
_BLOCK = 512  # px: points within one are read together
_CSV = (".csv", ".txt")
_DIGITS = 15  # of a count of pixels: no place has more


@dataclass(frozen=True)
class ReferencePoints:
    """Points whose class is known."""

    #: Path of the table.
    name: str
    #: (N,) coordinates.
    x: Floats
    y: Floats
    #: What they are in, as rasterio takes it; None: in the CRS of the map.
    crs: Any
    #: (N,) class of each, as a channel of the class table.
    channels: npt.NDArray[np.intp]


def read_points(path: Path, classes: ClassTable, column: str = "class") -> ReferencePoints:
    """Read a table of reference points.

    Args:
        path: CSV with the columns class, and x and y in the CRS of the map or lon and lat in degrees; or what geopandas
            reads (GeoPackage, GeoParquet, GeoJSON, ...), with points and a column class.
        classes: of the map. A class is given by its name or its id.
        column: the name of the column of classes, where it is another.

    Raises:
        LandsegError: the file is missing or none of these, a column is, or a class is none of the map's.
    """
    if not path.is_file():
        raise LandsegError(f"{path}: not there; give a table of reference points")
    x, y, crs, given = (_from_csv if path.suffix.lower() in _CSV else _from_vectors)(path, column)
    if not given:
        raise LandsegError(f"{path}: holds no point; give a table with some")
    known = {str(each.id): k for k, each in enumerate(classes)} | {name: k for k, name in enumerate(names(classes))}
    for row, name in enumerate(given, start=1):
        if name not in known:
            raise LandsegError(f"{path}: point {row} is of a class {name!r}, {_none_of(name, names(classes))}")
    return ReferencePoints(str(path), x, y, crs, np.array([known[name] for name in given], np.intp))


class PointSample:
    """What maps say at reference points: (K, K) counts, added to map by map."""

    def __init__(self, points: ReferencePoints, classes: ClassTable) -> None:
        """Start without a map.

        Args:
            points: the points.
            classes: of the maps.
        """
        self.points = points
        self._channels = channels(classes)
        self._mapped = np.full(len(points.x), NODATA, np.uint8)  # channel on the first map that has one there
        self._inside = np.zeros(len(points.x), np.bool_)
        self._crs: Any = None
        self._maps = 0
        self._classes = len(classes)

    def add(self, class_map: ClassMap) -> None:
        """Look points up on a map, all but those that a map before it has a class for.

        Raises:
            LandsegError: points and map cannot be brought together, or the map is damaged.
        """
        row, col = self._pixels(class_map)
        grid = class_map.grid
        within = (row >= 0) & (row < grid.height) & (col >= 0) & (col < grid.width)  # not where one is NaN
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
        """(N,) channel of every point on the first map that has a class there, NODATA where none has."""
        return self._mapped

    @property
    def sample(self) -> Counts:
        """(K, K) int64 points; rows: class by the reference, columns: class on the maps."""
        used = self._mapped != NODATA
        pairs = self.points.channels[used] * self._classes + self._mapped[used]
        return np.bincount(pairs, minlength=self._classes**2).reshape(self._classes, self._classes)

    @property
    def outside(self) -> int:
        """How many points lie on none of the maps."""
        return int((~self._inside).sum())

    @property
    def repeats(self) -> str:
        """A sentence on points that lie exactly where another does; '' where none do."""
        used = self._mapped != NODATA
        places = np.stack([self.points.x[used], self.points.y[used]])
        repeated = places.shape[1] - np.unique(places, axis=1).shape[1]
        if not repeated:
            return ""
        return (
            f"{repeated:,} of the points lie exactly where another does: if they are the same, remove them, for "
            "intervals look too small."
        )

    @property
    def blank(self) -> int:
        """How many points lie on maps where these have no data."""
        return int((self._inside & (self._mapped == NODATA)).sum())

    def _pixels(self, class_map: ClassMap) -> tuple[Floats, Floats]:
        """Return rows and columns of the points, (N,) each, whole numbers as float64; not finite for no place."""
        grid, points = class_map.grid, self.points
        self._maps += 1
        if self._maps == 1:
            self._crs = grid.crs
        if points.crs is None and grid.crs != self._crs:
            raise LandsegError(
                f"{class_map.name}: is in another CRS than the first map, so x and y of {points.name} could be in "
                "either; give lon and lat instead"
            )
        if points.crs is not None and not grid.crs:
            raise LandsegError(
                f"{class_map.name}: has no CRS, so {points.name} cannot be placed on it; give its points as x and y"
            )
        x, y = (points.x, points.y) if points.crs is None else _moved(points, class_map)
        if points.crs is not None and grid.crs.is_geographic:  # -179° and 181° are one place, where a map crosses 180°
            middle = (grid.transform @ (grid.width / 2, grid.height / 2))[0]
            x = x + 360 * np.round((middle - x) / 360)
        inverse = np.linalg.inv(np.reshape(grid.transform, (3, 3)))
        with np.errstate(invalid="ignore"):
            col, row = np.floor(inverse[:2, :2] @ np.stack([x, y]) + inverse[:2, 2:])
        return row, col


@dataclass(frozen=True)
class ReferenceMatrices:
    """Confusion matrices of a model's test part."""

    #: What a person calls it: a revision as typed, or a path.
    name: str
    #: (S, K, K) int64 pixels, one a place; (1, K, K) where places are not known. Rows: reference, columns: map.
    matrices: Counts
    #: What one of them is of: scenes, places or groups; None where they are not known.
    noun: str | None
    #: What it is in words.
    title: str
    #: Share of its tiles that share an edge with a training tile; None where it is not known.
    leak: float | None = None
    #: The part of the split that it is.
    part: str = "test"
    #: Why errors look, or may look, smaller in it than elsewhere, in a sentence; empty where nothing speaks for that.
    flattered: str = ""


def read_matrices(source: str, classes: ClassTable) -> ReferenceMatrices:
    """Read the confusion matrices of a model's test part, in the order of a class table.

    Args:
        source: a git revision, a DVC experiment or 'workspace', for what evaluation left there; or a CSV file with the
            columns actual, predicted and pixels, and unit or scene where a place has rows of its own, such as
            results/scenes.csv.
        classes: of the map.

    Raises:
        LandsegError: there is no such thing, or its classes are not those of the map.
    """
    path = Path(source)
    return _from_table(path, classes) if path.suffix.lower() in _CSV or path.is_file() else _from_run(source, classes)


def _from_run(name: str, classes: ClassTable) -> ReferenceMatrices:
    run = load_run(name)
    check_comparable(run, run)  # whether its results are whole, and its own
    own, wanted = ([(each.id, each.name) for each in table] for table in (run.classes, classes))
    if sorted(own) != sorted(wanted):
        listed = [", ".join(f"{number} {name}" for number, name in sorted(table)) for table in (own, wanted)]
        raise LandsegError(f"{name}: knows the classes {listed[0]}, and the map has {listed[1]}; take the map's model")
    order = [own.index(each) for each in wanted]
    matrices = run.units[1][:, order][:, :, order]
    part, leak = str(run.metrics["split"]), run.metrics["leakage"] or {}
    called = name if name == run.revision else f"{name} ({run.revision})"
    title = f"the {SPLIT_NAMES[part]} of {called}"
    return ReferenceMatrices(name, matrices, drawn_over(run), title, leak.get("edge"), part, _flattered(part, leak))


def _flattered(part: str, leak: Mapping[str, float | None]) -> str:
    """Say why errors look smaller in a part of a split than elsewhere: the cases that a model card tells of scores.

    Args:
        part: train, val or test.
        leak: shares of its tiles, named as in `split.leakage.Leakage`; None, or absent, where they are not known.
    """
    if part == "train":
        return "The model was trained on the tiles of the reference: errors look too small."
    chosen = "The best epoch was chosen by the reference itself, which flatters it. " if part == "val" else ""
    near = leak.get("edge_or_corner", leak.get("edge"))
    also = {"touch a training tile": near} | {
        f"lie in {places} that also train": leak.get(key)
        for key, places in {"same_location": "scenes", "same_group": "groups"}.items()
    }
    for what, known in also.items():
        if known:
            return f"{chosen}{percent(known)} of the tiles of the reference {what}: errors look too small."
    if near is None:
        return f"{chosen}How near the reference lies to training tiles is not known: errors may look too small."
    return chosen.rstrip()


def _from_table(path: Path, classes: ClassTable) -> ReferenceMatrices:
    rows = _rows(path, ("actual", "predicted", "pixels"), "actual, predicted and pixels")
    key = next((column for column in ("unit", "scene") if column in rows[0]), None)
    units = {name: n for n, name in enumerate(sorted({row[key] if key else "" for row in rows}))}
    channel = {name: k for k, name in enumerate(names(classes))}
    matrices = np.zeros((len(units), len(channel), len(channel)), np.int64)
    for line, row in enumerate(rows, start=2):
        for name in (row["actual"], row["predicted"]):
            if name not in channel:
                raise LandsegError(f"{path}: line {line} names a class {name!r}, {_none_of(name, list(channel))}")
        if not row["pixels"].isdecimal() or len(row["pixels"]) > _DIGITS:
            raise LandsegError(f"{path}: line {line} has {row['pixels']!r} pixels; give a whole number")
        cell = units[row[key] if key else ""], channel[row["actual"]], channel[row["predicted"]]
        matrices[cell] += int(row["pixels"])
    noun = {"unit": "locations", "scene": "scenes"}[key] if key else None
    return ReferenceMatrices(
        str(path), matrices, noun, f"the confusion matrices of {path}", flattered=_flattered("test", {})
    )


def _from_csv(path: Path, column: str) -> tuple[Floats, Floats, Any, list[str]]:
    rows = _rows(path, (column,), f"{column}, and x and y or lon and lat")
    crs, pair = next(
        ((crs, pair) for crs, pair in ((None, ("x", "y")), (_DEGREES, ("lon", "lat"))) if {*pair} <= rows[0].keys()),
        (None, None),
    )
    if pair is None:
        raise LandsegError(f"{path}: has no columns x and y, or lon and lat; name those of its points so")
    x, y = (np.array([_number(path, line, row, of) for line, row in enumerate(rows, start=2)]) for of in pair)
    return x, y, crs, [row[column] for row in rows]


def _from_vectors(path: Path, column: str) -> tuple[Floats, Floats, Any, list[str]]:
    import geopandas as gpd  # a second to import

    try:
        frame = gpd.read_parquet(path) if path.suffix.lower() == ".parquet" else gpd.read_file(path)
    except Exception as error:  # of what a file can be, the readers raise all sorts
        reason = " ".join(str(error).split()).rstrip(".")
        raise LandsegError(f"{path}: cannot be read as a table of points ({reason}); replace it") from None
    if not isinstance(frame, gpd.GeoDataFrame):
        raise LandsegError(
            f"{path}: holds no places; give a layer of points, or a .csv file with x and y or lon and lat"
        )
    if column not in frame:
        raise LandsegError(f"{path}: has no column {column}; name that of its points' classes so")
    if len(frame) and ((frame.geom_type != "Point") | frame.geometry.is_empty).any():
        raise LandsegError(f"{path}: holds other things than points; give a point a place")
    crs = None if frame.crs is None else CRS.from_wkt(frame.crs.to_wkt())
    given = [str(int(name)) if isinstance(name, float) and name.is_integer() else str(name) for name in frame[column]]
    return frame.geometry.x.to_numpy(), frame.geometry.y.to_numpy(), crs, [name.strip() for name in given]


def _rows(path: Path, columns: Sequence[str], asked: str) -> list[dict[str, str]]:
    """Read a CSV file, cells stripped of blanks around them; '' for those that are missing."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # with the mark that spreadsheets put at the start
    except FileNotFoundError:
        raise LandsegError(f"{path}: not there; give a table with the columns {asked}") from None
    except UnicodeDecodeError:
        raise LandsegError(f"{path}: is no CSV in UTF-8; save it as one") from None
    reader = csv.DictReader(io.StringIO(text))
    reader.fieldnames = [name.strip() for name in reader.fieldnames or []]
    try:
        rows = [{key: (cell or "").strip() for key, cell in row.items() if key} for row in reader]
    except csv.Error as error:
        raise LandsegError(f"{path}: is no sound CSV ({error}); look for a quote that is not closed") from None
    missing = [column for column in columns if column not in reader.fieldnames]
    if missing or not rows:
        fault = f"has no column {missing[0]}" if missing else "has no rows"
        raise LandsegError(f"{path}: {fault}; give a table, its cells parted by commas, with the columns {asked}")
    return rows


def _number(path: Path, line: int, row: Mapping[str, str], column: str) -> float:
    try:
        return float(row[column])
    except ValueError:
        raise LandsegError(f"{path}: line {line} has {row[column]!r} for {column}; give a number") from None


def _none_of(name: str, known: Sequence[str]) -> str:
    """Say that a class is none of those known, and which is nearest."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return "which the map has not; " + (f"did you mean {near[0]}?" if near else f"it has {', '.join(known)}")


def _moved(points: ReferencePoints, class_map: ClassMap) -> tuple[Floats, Floats]:
    try:
        x, y = transform(points.crs, class_map.grid.crs, points.x, points.y)
    except Exception as error:  # where there is no way from one to the other, GDAL's own errors slip through
        raise LandsegError(
            f"{points.name}: its points cannot be brought into the CRS of {class_map.name} ({error}); "
            "give them as x and y in that CRS"
        ) from None
    return np.asarray(x, np.float64), np.asarray(y, np.float64)

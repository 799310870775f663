"""Label rasters from polygons and points, on the grids of images."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import rasterio
import shapely
from pyproj import CRS
from pyproj.exceptions import ProjError
from pyproj.transformer import AreaOfInterest, TransformerGroup
from rasterio import Affine
from rasterio.features import rasterize
from rasterio.windows import Window

from landseg.core.arrays import Ints, Ints32, Mask
from landseg.core.errors import LandsegError
from landseg.download.label_objects import LabelObjects, dense, metric_crs
from landseg.raster.grid import Grid
from landseg.raster.io import row_windows

#: Value of pixels without a label: no class id, as these have 8 bits.
UNLABELLED = 65535

# Longitudes that are added to a scene to find labels that count them otherwise, in the order of preference.
_TURNS = (0, -360, 360)


@dataclass(frozen=True)
class BurnOptions:
    """How polygons and points become pixels."""

    #: Whether a polygon covers all pixels that it touches, or those whose centres lie in it.
    all_touched: bool = False
    #: Distance in metres by which objects grow, or shrink if it is negative.
    buffer: float = 0
    #: Class ids in drawing order, the last on top; empty: objects of different classes may not overlap.
    order: tuple[int, ...] = ()
    #: Class id of pixels without an object; None: they have no label.
    elsewhere: int | None = None


@dataclass(frozen=True)
class BurnedLabels:
    """What became of the labels on the grid of an image."""

    grid: Grid
    #: Positions of the objects with pixels, and of those that lie in the image but have none.
    burned: Ints
    without_pixels: Ints
    #: Number of labelled pixels, and of pixels without a label because objects of several classes touch them.
    labelled: int
    contested: int


class LabelRasterizer:
    """Writes label rasters from polygons or points."""

    def __init__(self, objects: LabelObjects, area: gpd.GeoSeries | None, options: BurnOptions) -> None:
        """Set what is drawn.

        Args:
            objects: polygons or points.
            area: polygons outside which pixels have no label; None: everywhere.
            options: how they are drawn.
        """
        self.objects, self.area, self.options = objects, area, options
        self._area_tree = None if area is None else shapely.STRtree(area.to_numpy())

    def write(self, grid: Grid, path: Path) -> BurnedLabels:
        """Write a label raster: class ids in band 1, UNLABELLED where there is none, and units in band 2, from 1.

        Raises:
            LandsegError: the grid has no CRS, or cannot be placed in that of the labels; or objects of different
                classes overlap although no order is set.
        """
        scene = _SceneBurner(self, grid)
        path.parent.mkdir(parents=True, exist_ok=True)
        wide = self.objects.unit.max() > np.iinfo(np.uint16).max
        profile = {
            "driver": "GTiff", "width": grid.width, "height": grid.height, "count": 2, "crs": grid.crs,
            "transform": grid.transform, "dtype": "uint32" if wide else "uint16", "nodata": UNLABELLED,
            "compress": "deflate", "photometric": "minisblack", "interleave": "band", "bigtiff": "if_safer",
        }  # fmt: skip
        with rasterio.open(path, "w", **profile) as target:
            for window in row_windows(grid.width, grid.height):
                ids, units = scene.burn(window)
                target.write(ids, 1, window=window)
                target.write(units, 2, window=window)
        return scene.result()


class _SceneBurner:
    """Burns the objects of one scene, window by window."""

    def __init__(self, labels: LabelRasterizer, grid: Grid) -> None:
        self.grid, self.options, self.objects = grid, labels.options, labels.objects
        #: Positions of the objects in the scene, in drawing order, and their geometries in its CRS.
        self.positions = _inside(labels.objects.geometry, labels.objects.tree, grid, self.options.buffer)
        self.positions = self.positions[np.argsort(self._rank(self.positions), kind="stable")]
        chosen = labels.objects.geometry.iloc[self.positions]
        self.shapes = _placed(chosen, grid, self.options.buffer)
        self.area: npt.NDArray[np.object_] | None = None
        if labels.area is not None and labels._area_tree is not None:
            within = _inside(labels.area, labels._area_tree, grid, 0)
            self.area = _placed(labels.area.iloc[within], grid, 0)
        self._has_pixels = np.zeros(len(self.positions), np.bool_)
        self._labelled = self._contested = 0

    def _rank(self, positions: Ints) -> Ints:
        ids = self.objects.class_id[positions].astype(np.int64)
        order = self.options.order
        return np.array([order.index(class_id) for class_id in ids], np.int64) if order else ids

    def result(self) -> BurnedLabels:
        has = self._has_pixels
        return BurnedLabels(self.grid, self.positions[has], self.positions[~has], self._labelled, self._contested)

    def burn(self, window: Window) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Return class ids and units of a window, (H, W) uint32 each."""
        drawn, contested = self._draw(window, self.options.all_touched)
        if contested.any() and self.options.all_touched:
            self._draw(window, False)  # refuses what overlaps, not what only touches the same pixels
        ids = np.append(self.objects.class_id[self.positions].astype(np.uint32), UNLABELLED)
        units = np.append(self.objects.unit[self.positions].astype(np.uint32), 0)
        class_id, unit = ids[drawn], units[drawn]
        if self.options.elsewhere is not None:
            class_id[drawn < 0] = self.options.elsewhere
        outside = contested
        if self.area is not None:
            outside = contested | (self._burned(self.area, np.zeros(len(self.area), np.int64), window, False) < 0)
        class_id[outside], unit[outside] = UNLABELLED, 0
        self._has_pixels[drawn[(drawn >= 0) & ~outside]] = True
        self._labelled += int(np.count_nonzero(class_id != UNLABELLED))
        self._contested += int(np.count_nonzero(contested))
        return class_id, unit

    def _draw(self, window: Window, all_touched: bool) -> tuple[Ints32, Mask]:
        """Return the object of each pixel, as a position in `positions`, -1 if none; and pixels of several classes."""
        shape = window.height, window.width
        drawn, contested = np.full(shape, -1, np.int32), np.zeros(shape, np.bool_)
        ids = self.objects.class_id[self.positions]
        for class_id in dict.fromkeys(ids.tolist()):
            members = np.flatnonzero(ids == class_id)
            layer = self._burned(self.shapes[members], members, window, all_touched)
            both = (layer >= 0) & (drawn >= 0)
            if both.any() and not self.options.order:
                if not all_touched:
                    self._refuse_overlap(window, both, drawn, layer)
                contested |= both
            np.copyto(drawn, layer, where=layer >= 0)
        return drawn, contested

    def _burned(self, shapes: npt.NDArray[np.object_], values: Ints, window: Window, all_touched: bool) -> Ints32:
        """Burn values into a window, (H, W); -1 elsewhere."""
        size, transform = (window.height, window.width), _transform(self.grid, window)
        near = _meet(shapes, _ground(transform, window.width, window.height))
        if not near.any():
            return np.full(size, -1, np.int32)
        pairs = zip(shapes[near], values[near].tolist(), strict=True)
        burned = rasterize(pairs, size, fill=-1, transform=transform, all_touched=all_touched, dtype="int32")
        return np.asarray(burned, np.int32)

    def _refuse_overlap(self, window: Window, both: Mask, drawn: Ints32, layer: Ints32) -> None:
        row, col = (int(index) for index in np.argwhere(both)[0])
        one, other = (int(self.positions[index[row, col]]) for index in (drawn, layer))
        x, y = self.grid.transform @ (col + window.col_off + 0.5, row + window.row_off + 0.5)
        classes = self.objects.class_id
        raise LandsegError(
            f"{self.objects.names[one]} (class {classes[one]}) and {self.objects.names[other]} (class "
            f"{classes[other]}) overlap at x {x:.10g}, y {y:.10g}; set dataset.labels.order to class ids, the last on "
            "top, or correct one of them"
        )


def _outline(grid: Grid) -> gpd.GeoSeries:
    """Return the outline of a grid, one polygon.

    Raises:
        LandsegError: the grid has no CRS.
    """
    if not grid.crs:
        raise LandsegError(
            f"{grid.name}: has no CRS, so polygons and points cannot be placed on it; assign one with gdal_edit "
            "-a_srs, or give label rasters in dataset.masks"
        )
    ground = _ground(grid.transform, grid.width, grid.height)
    return gpd.GeoSeries([ground], crs=CRS.from_user_input(grid.crs))


def _transform(grid: Grid, window: Window) -> Affine:
    return grid.transform @ Affine.translation(window.col_off, window.row_off)


def _ground(transform: Affine, width: int, height: int) -> shapely.Polygon:
    return shapely.Polygon([transform @ corner for corner in ((0, 0), (width, 0), (width, height), (0, height))])


def _meet(shapes: npt.NDArray[np.object_], ground: shapely.Polygon) -> Mask:
    """Return the shapes whose bounds meet those of a polygon, (n,); none of the empty ones."""
    left, bottom, right, top = shapely.bounds(shapes).T
    west, south, east, north = ground.bounds
    return np.asarray((left <= east) & (right >= west) & (bottom <= north) & (top >= south))


def _inside(geometry: gpd.GeoSeries, tree: shapely.STRtree, grid: Grid, buffer: float) -> Ints:
    """Return the positions of geometries that meet the ground of a scene, if they grow by a buffer in metres."""
    outlines = list(_outlines(grid, geometry.crs, max(buffer, 0)).values())
    return np.unique(np.asarray(tree.query(outlines, predicate="intersects")[1], np.int64))


def _outlines(grid: Grid, crs: CRS, buffer: float) -> dict[int, shapely.Polygon]:
    """Return the ground of a scene, grown by a buffer in metres, in the CRS of labels, by degrees that it is turned.

    Only degrees are turned: labels may count longitudes from -180 or from 0, and scenes may cross the antimeridian.

    Raises:
        LandsegError: the scene has no CRS, or reaches beyond what the CRS of the labels can show.
    """
    ground = _outline(grid)
    try:
        if buffer:
            ground = dense(ground).to_crs(metric_crs(ground)).buffer(1.01 * buffer)
        middle = ground.representative_point().to_crs(crs).iloc[0]
        outline = dense(ground).to_crs(crs).iloc[0]
    except ProjError as error:
        raise LandsegError(
            f"{grid.name}: its CRS cannot be transformed to that of the labels ({error}); assign a CRS of the Earth"
        ) from None
    if crs.is_geographic:
        outline = _unwrapped(outline)
        return {turn: _turned(outline, turn) for turn in _TURNS}
    finite = np.isfinite(shapely.get_coordinates(outline)).all(axis=1)
    if not finite.any():
        return {}
    if not finite.all() or not outline.buffer(0).intersects(middle):
        raise LandsegError(
            f"{grid.name}: reaches beyond the CRS of the labels, {crs.name}; reproject the labels to EPSG:4326"
        )
    return {0: outline}


def _unwrapped(outline: shapely.Polygon) -> shapely.Polygon:
    """Return an outline in degrees without jumps at the antimeridian; around a pole, all longitudes up to it."""
    longitude, latitude = shapely.get_coordinates(outline).T
    longitude = np.unwrap(longitude, period=360)
    if abs(longitude[-1] - longitude[0]) < 180:
        return shapely.Polygon(np.stack([longitude, latitude], axis=1))
    north = latitude.mean() > 0
    return shapely.box(-180, latitude.min() if north else -90, 180, 90 if north else latitude.max())


def _placed(geometry: gpd.GeoSeries, grid: Grid, buffer: float) -> npt.NDArray[np.object_]:
    """Return geometries in the CRS of a scene, grown by a buffer in metres, (n,). Far from the scene, they are cut."""
    crs, ground = CRS.from_user_input(grid.crs), _outline(grid)
    geometry = _cut(geometry, _outlines(grid, geometry.crs, abs(buffer)))
    if buffer and len(geometry):
        metric = dense(geometry).to_crs(metric_crs(ground))
        geometry = gpd.GeoSeries(metric.buffer(buffer), crs=metric.crs)
    placed: npt.NDArray[np.object_] = (dense(geometry) if geometry.crs != crs else geometry).to_crs(crs).to_numpy()
    west, _, east, _ = ground.total_bounds
    if not crs.is_geographic or east - west > 180:
        return placed
    middle = (west + east) / 2
    near: npt.NDArray[np.object_] = shapely.transform(placed, lambda at: at + np.rint((middle - at) / 360) * [360, 0])
    return near


def _cut(geometry: gpd.GeoSeries, outlines: Mapping[int, shapely.Polygon]) -> gpd.GeoSeries:
    """Return the parts of geometries near a scene, with its longitudes: others may have no place in its CRS."""
    windows = {turn: _near(outline) for turn, outline in outlines.items()}
    parts = geometry.to_numpy().copy()
    whole = shapely.covered_by(parts, shapely.box(*outlines[0].bounds)) if outlines else np.ones(len(parts), np.bool_)
    for index in np.flatnonzero(~whole):
        inside = {turn: shapely.intersection(parts[index], window) for turn, window in windows.items()}
        parts[index] = shapely.union_all([_turned(part, -turn) for turn, part in inside.items()])
    return gpd.GeoSeries(parts, index=geometry.index, crs=geometry.crs)


def _turned(shape: Any, degrees: float) -> Any:
    """Return a geometry with degrees added to its longitudes."""
    return shapely.transform(shape, lambda at: at + np.array([degrees, 0])) if degrees else shape


def _near(outline: shapely.Polygon) -> shapely.Polygon:
    """Return the bounds of an outline with a margin, as lines of the outline may be curved."""
    west, south, east, north = outline.bounds
    margin = 0.05 * max(east - west, north - south)
    return shapely.box(west - margin, south - margin, east + margin, north + margin)


def is_ballpark(crs: CRS, grid: Grid) -> bool:
    """Return whether PROJ knows no transformation between the datums of labels and a scene, and takes them for equal.

    It lacks one if its grids are not installed, as between NAD27 and NAD83, or if one of the datums is not named.
    """
    bounds = _outline(grid).to_crs("EPSG:4326").total_bounds
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that better ones need grids
        known = TransformerGroup(crs, CRS.from_user_input(grid.crs), area_of_interest=AreaOfInterest(*bounds))
    return "Ballpark" in known.transformers[0].description


def inside_any(labels: LabelRasterizer, grids: Sequence[Grid]) -> Mask:
    """Return which objects meet the ground of a grid, (N,)."""
    objects = labels.objects
    found = np.zeros(len(objects), np.bool_)
    for grid in grids:
        found[_inside(objects.geometry, objects.tree, grid, labels.options.buffer)] = True
    return found

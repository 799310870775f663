"""Tile plan: windows over all scenes, from raster headers alone."""

import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely
from pyproj import CRS

from landseg.core.arrays import Ints
from landseg.core.data_card import DataCard
from landseg.core.errors import LandsegError
from landseg.core.scaling import join_bands
from landseg.core.tables import BANDS, NOTICES, extend_parquet
from landseg.core.wording import scenes_in_words
from landseg.raster.image import Resolution, open_image, open_labels
from landseg.raster.pixel_area import ground_sampling_distance, oblong

Edge = Literal["drop", "pad"]

#: CRS of footprints if scenes have different CRS.
COMMON_CRS = "EPSG:4326"

# Largest number of tiles of a scene: far more than a person would train on, and what fits in memory.
_MAX_TILES = 5_000_000
# Number of archives from which scenes share them: ten times as many take DVC ten times as long.
_MAX_ARCHIVES = 1000
# Ratio of pixel sizes above which it is printed.
_MAX_GSD_RATIO = 2.1
# Shares of padding in tiles, and of pixels outside of them, from which a better size is suggested; and those sizes.
_MUCH_PADDING, _MUCH_OUTSIDE = 0.25, 0.1
_SIZES = range(64, 1025, 32)

_COLUMNS = ["tile", "archive", "scene", "location", "group", "image", "mask", "row", "col", "height", "width"]
_COLUMNS += ["gsd", "resolution", "dtype", "scaling", "geometry"]


@dataclass(frozen=True)
class SceneHeader:
    """Header of a scene's image: size, georeference and data type."""

    #: Size in px.
    width: int
    height: int
    crs: CRS | None
    #: rasterio's affine transform from pixel to map coordinates.
    transform: Any
    #: Ground sampling distance in metres; None without a CRS.
    gsd: float | None
    #: Data type of the values, such as uint8.
    dtype: str
    #: Scale and offset of the values of all bands (see `core.scaling`).
    scaling: str
    #: Pixel size to which its files are resampled, in units of the CRS; None: they have one grid.
    resolution: float | None = None
    #: How its image is read where it could be read in another way, one sentence each.
    notes: tuple[str, ...] = ()


def read_header(root: Path, image: str, mask: str, card: DataCard, resolution: Resolution = None) -> SceneHeader:
    """Read the header of an image, and check that all its bands and its label raster have one grid.

    Args:
        root: root folder of the paths.
        image: path of the image; see `landseg.raster.image.open_image`.
        mask: path of the label raster.
        card: data card.
        resolution: pixel size of all bands, see `landseg.raster.image.open_image`.

    Raises:
        LandsegError: a file cannot be opened, the image lacks bands, or grids differ.
    """
    with (
        open_image(root, image, card.bands, card, resolution=resolution) as source,
        open_labels(root / mask, source, card),
    ):
        grid = source.grid
        crs = _parse_crs(grid.crs.to_wkt()) if grid.crs else None
        gsd = ground_sampling_distance(grid)
        shape = oblong(grid)
        notes = [f"{shape}; reproject images and masks to square pixels"] if shape else []
        return SceneHeader(
            grid.width,
            grid.height,
            crs,
            grid.transform,
            gsd,
            source.dtype.name,
            join_bands(source.scaling),
            grid.pixel_size if source.is_resampled else None,
            (*source.notes, *notes),
        )


@cache
def _parse_crs(wkt: str) -> CRS:
    """Parse a CRS once for all scenes that share it, which may be thousands of chips."""
    return CRS.from_wkt(wkt)


def tile_grid(width: int, height: int, size: int, edge: Edge, min_share: float = 0) -> Iterator[tuple[int, int, int]]:
    """Yield the tiles of a scene row by row as (k, row, column), with offsets in px.

    k numbers all cells of the grid, including partial ones that are left out. So tiles of LandCover.ai v1 get the same
    numbers as from the publisher's split.py (Boguszewski et al., 2021).
    """
    least = _least_area(size, edge, min_share)
    cells = ((row, col) for row in range(0, height, size) for col in range(0, width, size))
    for k, (row, col) in enumerate(cells):
        if min(size, height - row) * min(size, width - col) >= least:
            yield k, row, col


def _least_area(size: int, edge: Edge, min_share: float) -> float:
    """Return the number of pixels of a scene that a window must have to be a tile."""
    return size**2 * (1 if edge == "drop" else min_share)


def scene_cells(scene: str, header: SceneHeader, size: int, edge: Edge, min_share: float = 0) -> Ints:
    """Return the tiles of a scene, (n, 3): number, row and column.

    Raises:
        LandsegError: the scene has no tile that is large enough, or far too many.
    """
    width, height = header.width, header.height
    if -(-width // size) * -(-height // size) > _MAX_TILES:
        raise LandsegError(
            f"scene {scene}: {width:,}x{height:,} px would give over {_MAX_TILES:,} tiles of {size} px; split it, or "
            "raise tile.size"
        )
    cells = list(tile_grid(width, height, size, edge, min_share))
    if not cells:
        pad = ", set tile.edge to pad" if edge == "drop" else ", lower tile.min_share"
        small = "is smaller than a tile" if edge == "drop" else f"fills less than {min_share:.0%} of a tile"
        raise LandsegError(
            f"scene {scene}: size {width}x{height} px {small} ({size} px); lower tile.size{pad}, or remove the scene"
        )
    return np.array(cells, np.int64)


def footprints(
    tiles: pd.DataFrame, headers: Sequence[SceneHeader], scene_index: Ints, crs: CRS | None
) -> npt.NDArray[np.object_]:
    """Return the footprints of tiles in one CRS, (n,) polygons; None for scenes without a CRS.

    Args:
        tiles: columns row, col, height, width.
        headers: headers of the scenes.
        scene_index: index into `headers` for each tile, (n,).
        crs: CRS of the footprints.
    """
    top, left = tiles["row"].to_numpy(), tiles["col"].to_numpy()
    bottom, right = top + tiles["height"].to_numpy(), left + tiles["width"].to_numpy()
    col = np.stack([left, right, right, left])
    row = np.stack([top, top, bottom, bottom])
    a, b, c, d, e, f = np.array([header.transform[:6] for header in headers])[scene_index].T
    outlines = shapely.polygons(np.stack([a * col + b * row + c, d * col + e * row + f], axis=-1).swapaxes(0, 1))
    result = np.full(len(tiles), None)
    for scene_crs in {header.crs for header in headers if header.crs is not None}:
        selected = np.array([header.crs == scene_crs for header in headers])[scene_index]
        result[selected] = gpd.GeoSeries(outlines[selected], crs=scene_crs).to_crs(crs).to_numpy()
    return result


def plan_tiles(
    imagery: pd.DataFrame,
    root: Path,
    card: DataCard,
    size: int,
    edge: Edge,
    min_share: float = 0,
    warn: Callable[[str], None] = lambda _: None,
    resolution: Resolution = None,
    scenes_per_archive: int | Literal["auto"] = "auto",
) -> gpd.GeoDataFrame:
    """Plan the tiles of all scenes.

    Footprints are in the CRS of the scenes if all have the same one, else in EPSG:4326. They are null for scenes
    without a CRS.

    Args:
        imagery: imagery table, see `landseg.core.tables`.
        root: root folder of its paths.
        card: data card.
        size: height and width of a tile in px.
        edge: whether to drop or to pad tiles that cross the right or bottom edge.
        min_share: minimum share of a padded tile that is no padding.
        warn: called with a sentence if much of the tiles is padding, or many pixels are in no tile.
        resolution: pixel size of all bands, see `landseg.raster.image.open_image`.
        scenes_per_archive: see `shared_archives`.

    Returns:
        Tile plan, see `landseg.core.tables`, with scenes in the order of the imagery table.

    Raises:
        LandsegError: a file cannot be opened, grids differ, or a scene is too small or far too large.
    """
    files = zip(imagery["image"], imagery["mask"], strict=True)
    headers = [read_header(root, image, mask, card, resolution) for image, mask in files]
    scenes = zip(imagery["scene"], headers, strict=True)
    cells = [scene_cells(scene, header, size, edge, min_share) for scene, header in scenes]
    for sentence in _notes(imagery["scene"], headers):
        warn(sentence)
    if sentence := waste_sentence([(header.height, header.width) for header in headers], size, edge, min_share):
        warn(sentence)
    scene_index = np.repeat(np.arange(len(cells)), [len(scene) for scene in cells])
    number, row, col = np.concatenate(cells).T
    height, width = np.array([(header.height, header.width) for header in headers])[scene_index].T
    archives = shared_archives(imagery["archive"].tolist(), scenes_per_archive)
    tiles = imagery.assign(archive=archives).iloc[scene_index].reset_index(drop=True)
    tiles = tiles.assign(
        tile=[f"{scene}_{k}" for scene, k in zip(tiles["scene"], number, strict=True)],
        archive=tiles["archive"] + ".zip",
        row=row,
        col=col,
        height=np.minimum(size, height - row),
        width=np.minimum(size, width - col),
        gsd=np.array([header.gsd for header in headers], np.float64)[scene_index],
        resolution=np.array([header.resolution for header in headers], np.float64)[scene_index],
        dtype=np.array([header.dtype for header in headers])[scene_index],
        scaling=np.array([header.scaling for header in headers])[scene_index],
    )
    crs = common_crs([header.crs for header in headers if header.crs is not None])
    tiles["geometry"] = footprints(tiles, headers, scene_index, crs)
    return gpd.GeoDataFrame(tiles[_COLUMNS], geometry="geometry", crs=crs)


def shared_archives(archives: Sequence[str], scenes_per_archive: int | Literal["auto"]) -> list[str]:
    """Return the archive of each scene, with archives joined: DVC's cost grows with the number of files.

    Archives are joined in their order as long as together they have at most the given number of scenes, and get the
    name of the first. Those of the dataset stay whole, so that the dates of a location stay together.

    Args:
        archives: the archive of each scene by the imagery table.
        scenes_per_archive: maximum number of scenes; auto: as few as give at most 1,000 archives.
    """
    sizes = Counter(archives)  # in order of first occurrence
    most = _fewest_scenes(sizes) if scenes_per_archive == "auto" else scenes_per_archive
    groups = _joined(sizes, most)
    names = {
        name: group[0] if len(group) == 1 else f"{group[0]}_and_{len(group) - 1}_more"
        for group in groups
        for name in group
    }
    return [names[name] for name in archives]


def _fewest_scenes(sizes: Mapping[str, int]) -> int:
    """Return the smallest number of scenes per archive that gives at most _MAX_ARCHIVES archives."""
    most = -(-sum(sizes.values()) // _MAX_ARCHIVES)
    while len(_joined(sizes, most)) > _MAX_ARCHIVES:
        most += 1
    return most


def _joined(sizes: Mapping[str, int], most: int) -> list[list[str]]:
    """Join names in their order into groups whose sizes have a sum of at most `most`, or that have a single name."""
    groups: list[list[str]] = []
    total = most
    for name, size in sizes.items():
        if groups and total + size <= most:
            groups[-1].append(name)
            total += size
        else:
            groups.append([name])
            total = size
    return groups


def _notes(scenes: Iterable[str], headers: Sequence[SceneHeader]) -> Iterator[str]:
    """Yield how images are read, each sentence once, and whether pixel sizes differ much."""
    noted: dict[str, list[str]] = {}
    for scene, header in zip(scenes, headers, strict=True):
        for note in header.notes:
            noted.setdefault(note, []).append(scene)
    for note, found in noted.items():
        yield f"{scenes_in_words(found)}: {note}"
    sizes = [header.gsd for header in headers if header.gsd]
    if sizes and max(sizes) > _MAX_GSD_RATIO * min(sizes):
        yield (
            f"pixels measure {min(sizes):.3g} to {max(sizes):.3g} m, so objects differ in size from scene to scene; "
            "resample images and masks to one size"
        )


def common_crs(scene_crs: list[CRS]) -> CRS | None:
    """Return the CRS of the scenes if all have the same one, else EPSG:4326; None without any."""
    if not scene_crs:
        return None
    return scene_crs[0] if all(crs == scene_crs[0] for crs in scene_crs) else CRS.from_user_input(COMMON_CRS)


def write_plan(
    tiles: gpd.GeoDataFrame, size: int, bands: Sequence[str], path: Path, notices: Sequence[str] = ()
) -> None:
    """Write a tile plan as GeoParquet; its metadata have the tile size, the bands and what was printed.

    Args:
        tiles: the tile plan.
        size: height and width of a tile in px.
        bands: bands of the imagery, in file order.
        path: the file to write.
        notices: what was printed of the images.
    """
    plan = io.BytesIO()
    tiles.to_parquet(plan, index=False)
    extend_parquet(
        plan, path, {}, {"tile_size": str(size), BANDS: json.dumps(list(bands)), NOTICES: json.dumps(list(notices))}
    )


def waste(sizes: Sequence[tuple[int, int]], size: int, edge: Edge, min_share: float) -> tuple[float, float]:
    """Return the share of padding in the tiles of scenes, and the share of their pixels that are in no tile.

    Args:
        sizes: height and width of each scene, px.
        size: height and width of a tile, px.
        edge: whether to drop or to pad tiles that cross the right or bottom edge.
        min_share: minimum share of a padded tile that is no padding.
    """
    tiles = inside = total = 0
    for (height, width), count in Counter(sizes).items():
        areas = np.outer(_lengths(height, size), _lengths(width, size))
        kept = areas >= _least_area(size, edge, min_share)
        tiles += count * int(kept.sum())
        inside += count * int(areas[kept].sum())
        total += count * height * width
    return 1 - inside / (tiles * size**2) if tiles else 0.0, 1 - inside / total


def _lengths(length: int, size: int) -> Ints:
    """Return the lengths of the pieces of a side of a scene."""
    starts: Ints = np.arange(0, length, size)
    return np.minimum(size, length - starts)


def waste_sentence(sizes: Sequence[tuple[int, int]], size: int, edge: Edge, min_share: float) -> str:
    """Return a sentence on padding and on pixels in no tile, with a better tile size; '' if there is little of both.

    Args:
        sizes: height and width of each scene, px.
        size: height and width of a tile, px.
        edge: whether tiles that cross the right or bottom edge are dropped or padded.
        min_share: minimum share of a padded tile that is no padding.
    """
    padding, outside = waste(sizes, size, edge, min_share)
    if padding < _MUCH_PADDING and outside < _MUCH_OUTSIDE:
        return ""
    parts = [f"{padding:.0%} of the tiles are padding"] if padding >= 0.005 else []
    parts += [f"{outside:.0%} of the pixels are in no tile"] if outside >= 0.005 else []
    best = min(_SIZES, key=lambda other: (round(sum(waste(sizes, other, edge, min_share)), 2), abs(other - size)))
    better = waste(sizes, best, edge, min_share)
    advice = f"; with tile.size = {best} there would be {better[0]:.0%} padding, and {better[1]:.0%} outside"
    return " and ".join(parts) + (advice if sum(better) < (padding + outside) / 2 else "")

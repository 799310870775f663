"""Footprints that are not parallel to the axes of their CRS: rotated scenes, and scenes in several UTM zones."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from helpers.grids import assigned, blocks, grid, ground, leakage_of

from landseg.split.ground import Ground, nearest_distances, overlapping_locations, read_ground
from landseg.split.leakage import Leakage
from landseg.split.quadrilaterals import contact, distances


def squares(rng: np.random.Generator, count: int, extent: float) -> np.ndarray:
    """Return the corners of squares of side 2, turned at random, (count, 4, 2)."""
    angle = rng.uniform(0, 2 * np.pi, (count, 1)) + np.pi / 2 * np.arange(4)
    corners = np.sqrt(2) * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    return np.asarray(corners + rng.uniform(0, extent, (count, 1, 2)))


def test_contact_and_distance_of_squares_are_those_of_shapely() -> None:
    a, b = squares(np.random.default_rng(0), 4000, 4).reshape(2, -1, 4, 2)
    one, other = shapely.polygons(a), shapely.polygons(b)
    overlap, edge, touching = contact(a, b, 1e-9)
    assert 0.3 < overlap.mean() < 0.9
    assert (overlap == shapely.intersects(one, other)).all()
    assert (edge == overlap).all()
    assert (touching == overlap).all()
    np.testing.assert_allclose(distances(a, b), shapely.distance(one, other))
    assert [len(each) for each in contact(a[:0], b[:0], 1e-9)] == [0, 0, 0]


@pytest.mark.parametrize("degrees", [0, 3, 30, 45, 90, 200])
def test_squares_touch_at_edges_and_corners(degrees: float) -> None:
    square, turn = np.array([[0, 0], [2, 0], [2, 2], [0, 2]]), np.radians(degrees)
    moves = np.array([[2, 0], [2, 1], [2, 2], [2.01, 0], [0, -2], [-2, 2], [1.9, 1.9], [0.5, 0.5]])
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    found = contact(np.tile(square @ rotation, (8, 1, 1)), (square + moves[:, None]) @ rotation + 1e-9, 1e-6)
    overlap, edge, touching = (each.astype(int).tolist() for each in found)
    assert overlap == [0, 0, 0, 0, 0, 0, 1, 1]
    assert edge == [1, 1, 0, 0, 1, 0, 1, 1]
    assert touching == [1, 1, 1, 0, 1, 1, 1, 1]


def chips(zone: int, east: float, north: float, count: int) -> gpd.GeoSeries:
    """Return the footprints of adjoining chips of 2,560 m of a UTM zone, in degrees, row by row."""
    row, col = (2560.0 * axis.ravel() for axis in np.mgrid[:count, :count])
    outlines = shapely.box(east + col, north + row, east + col + 2560, north + row + 2560)
    return gpd.GeoSeries(outlines, crs=f"EPSG:326{zone}").to_crs("EPSG:4326")


@pytest.fixture
def two_zones() -> pd.DataFrame:
    """Adjoining chips, whose boxes overlap in degrees, and chips in another zone."""
    footprints = [*chips(33, 300_000, 5_600_000, 6), *chips(32, 300_000, 5_600_000, 2)]
    tiles = pd.concat([grid(f"chip{n:02}", 1, 1) for n in range(40)], ignore_index=True)
    return tiles.assign(geometry=shapely.to_wkb(np.array(footprints, object)))


def test_chips_that_adjoin_are_not_tied(two_zones: pd.DataFrame) -> None:
    found = ground(two_zones)
    boxes = Ground(found.boxes, geographic=True)
    assert found.corners is not None
    assert len(overlapping_locations(np.arange(40), boxes)) > 0  # their boxes overlap
    assert len(overlapping_locations(np.arange(40), found)) == 0
    assert set(assigned(two_zones, "scene", (0.5, 0.25, 0.25), 0, 1)) == {"train", "val", "test"}


def test_chips_that_overlap_are_tied() -> None:
    outlines = np.array([*chips(33, 300_000, 5_600_000, 1), *chips(33, 302_000, 5_602_000, 1)], object)
    assert overlapping_locations(np.arange(2), Ground.of(outlines, geographic=True)).tolist() == [[0, 1]]


def test_contact_of_chips_is_that_of_their_grid(two_zones: pd.DataFrame) -> None:
    splits = np.full(40, "val", object)
    splits[[0, 1, 7, 14, 36]] = "test"
    splits[[2, 21]] = "train"  # chip 2 adjoins 1 at an edge and 7 at a corner; chip 21 adjoins 14 at a corner
    assert leakage_of(two_zones, splits.astype(str), "test") == Leakage(1 / 5, 3 / 5, 0, None)


def test_distances_are_those_of_the_grid(two_zones: pd.DataFrame) -> None:
    places = Ground.of(shapely.from_wkb(two_zones["geometry"].to_numpy(object)), geographic=True)
    one, other = np.arange(40) == 0, np.isin(np.arange(40), [4, 24])  # 3 chips lie between, east and north
    for chip in (4, 24):
        alone = np.arange(40) == chip
        assert nearest_distances(places, one, other & alone)[0] == pytest.approx(3 * 2560, rel=0.005)


def test_blocks_of_rotated_scenes_keep_their_tiles() -> None:
    """Two scenes side by side, turned by 20 degrees: a buffer in metres is measured between their tiles."""
    tiles = pd.concat([grid("west", 8, 8), grid("east", 8, 8)], ignore_index=True)
    turn = np.radians(20)
    left = tiles["col"] + np.where(tiles["scene"] == "east", 8 * 512, 0)
    outlines = shapely.transform(
        shapely.box(left, -tiles["row"] - 512, left + 512, -tiles["row"]),
        lambda xy: xy @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]),
    )
    tiles = tiles.assign(geometry=shapely.to_wkb(outlines))
    assert len(overlapping_locations(np.repeat([0, 1], 64), ground(tiles))) == 0
    splits = blocks(tiles, (0.6, 0.2, 0.2), 0, 4, buffer=1000)
    apart = shapely.distance(outlines[splits == "test"][:, None], outlines[splits == "train"])
    assert apart.min() >= 1000 - 1e-6
    removed = shapely.distance(outlines[splits == "buffer"][:, None], outlines[splits != "buffer"]).min(axis=1)
    assert removed.max() < 1000


def test_footprints_of_several_batches_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("landseg.split.ground._CHUNK", 3)
    outlines = [*shapely.box([0, 2, 4], 0, [2, 4, 6], 2), shapely.Polygon([(9, 0), (10, 1), (9, 2), (8, 1)]), None]
    gpd.GeoDataFrame({"tile": list("abcde")}, geometry=outlines, crs="EPSG:2263").to_parquet(tmp_path / "t.parquet")
    found = read_ground(tmp_path / "t.parquet")
    assert found.corners is not None
    expected = shapely.get_coordinates(outlines[:4]).reshape(4, 5, 2)[:, :4] * 1200 / 3937  # US survey feet
    assert [sorted(map(tuple, each)) for each in found.corners[:4].round(6)] == [
        sorted(map(tuple, each)) for each in expected.round(6)
    ]
    assert found.known.tolist() == [True] * 4 + [False]

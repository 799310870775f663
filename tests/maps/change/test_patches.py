from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
from helpers.changes import BEFORE, change_of, pair_of_maps, speckled
from helpers.maps import CLASSES, TEN_METRES, UTM, gdal, grid_of, make_map
from rasterio.transform import Affine
from shapely.geometry import box

from landseg.core.classes import class_channels
from landseg.core.errors import LandsegError
from landseg.maps.change.outputs import write_change
from landseg.maps.change.pair import change_legend, open_map_pair
from landseg.maps.change.patches import ChangePatches, find_patches
from landseg.maps.change.report import change_report
from landseg.maps.class_map import NODATA
from landseg.maps.mosaic import plan_mosaics, write_mosaic
from landseg.maps.polygons import write_polygons
from landseg.maps.style import transition_colours


def patches_of(before: Path, after: Path, min_area: float | None = None) -> ChangePatches:
    with open_map_pair(before, after) as pair:
        return find_patches(pair, min_area)


def test_patches_of_change_by_hand(tmp_path: Path) -> None:
    before, after = pair_of_maps(tmp_path)
    found = patches_of(before, after, 0)
    frame = found.frame
    assert list(frame.columns) == ["change", "from", "to", "before_id", "after_id", "area_m2", "geometry"]
    assert list(
        zip(frame["change"], frame["from"], frame["to"], frame["before_id"], frame["after_id"], strict=True)
    ) == [
        (1, "other", "building", 0, 1),
        (3, "building", "other", 1, 0),
        (6, "water & ice", "other", 4, 0),
    ]
    # An L of three pixels, and two adjacent single pixels with different changes.
    left, top = 500_000, 5_800_000
    corner = box(left + 10, top - 20, left + 20, top).union(box(left + 20, top - 10, left + 30, top))
    assert frame.geometry[0].equals(corner)
    assert frame.geometry[1].equals(box(left + 10, top - 30, left + 20, top - 20))
    assert frame["area_m2"].tolist() == pytest.approx([300 / 0.9996**2, 100 / 0.9996**2, 100 / 0.9996**2], rel=5e-6)
    assert frame.crs == UTM
    assert (found.omitted, found.omitted_area) == (0, 0)
    assert change_report(change_of(before, after), found).count("Polygons: 3 patches of change, none omitted.") == 1


@pytest.mark.faults
def test_maps_that_are_too_large_for_the_memory(tmp_path: Path) -> None:
    """A mosaic of two small maps that are far apart."""
    maps = []
    for apart in (0, 500_000):
        transform = TEN_METRES @ Affine.translation(apart, apart)
        path = make_map(tmp_path / f"{apart}.tif", BEFORE, transform=transform)
        maps.append((path, grid_of(np.array(BEFORE), transform=transform)))
    [mosaic] = plan_mosaics(tmp_path, "vrt", maps)
    write_mosaic(mosaic, CLASSES)
    with pytest.raises(LandsegError) as error:
        write_change(mosaic.path, mosaic.path, tmp_path / "change")
    size = "500,004 x 500,003 px need 1,250.0 GB of memory, but "
    assert str(error.value).startswith(f"{mosaic.path}: polygons of {size}")
    assert str(error.value).endswith(" GB are free; compare the maps of a part of the area at a time")
    assert not (tmp_path / "change").exists()


def test_small_patches_are_omitted_and_reported(tmp_path: Path) -> None:
    before, after = pair_of_maps(tmp_path)
    found = patches_of(before, after, 101)
    assert found.frame["from"].tolist() == ["other"]
    assert found.omitted == 2
    assert found.omitted_area == pytest.approx(0.02 / 0.9996**2, rel=5e-6)
    printed = change_report(change_of(before, after), found)
    assert (
        "Polygons: 1 patch of change; omitted: 2 smaller than 101 m², 0.0200 ha, 40.0 % of the mapped change."
        in printed
    )
    none = patches_of(before, after)
    assert len(none.frame) == 0
    assert (none.omitted, none.minimum) == (3, "10 px")
    write_polygons(none.frame, tmp_path / "none.gpkg")
    assert len(gpd.read_file(tmp_path / "none.gpkg")) == 0


def test_patches_across_windows_match_connected_components(tmp_path: Path) -> None:
    """Compared with scipy on the whole map; pixel areas hardly vary over a few kilometres."""
    from scipy.ndimage import label

    before, after = speckled(1100, 700, 1), speckled(1100, 700, 2)
    before[500:530, 100:600], after[500:530, 100:600] = 1, 4  # across four windows
    paths = pair_of_maps(tmp_path, before, after)
    lookup = class_channels(CLASSES).astype(np.int64)
    changed = (before != after) & (before != NODATA) & (after != NODATA)
    values = np.where(changed, lookup[before] * 3 + lookup[after], -1)
    sizes = []
    for value in np.unique(values[changed]):
        labelled, _ = label(values == value)
        sizes += [(value, size) for size in np.bincount(labelled.ravel())[1:].tolist()]
    found = patches_of(*paths, min_area=1500)
    frame = found.frame
    expected = sorted((value, size) for value, size in sizes if size * 100 / 0.9996**2 > 1500)
    assert sorted(zip(frame["change"], (frame.area / 100).round().astype(int), strict=True)) == expected
    assert frame["area_m2"].to_numpy() == pytest.approx(frame.area.to_numpy() / 0.9996**2, rel=5e-6)
    assert frame["area_m2"].is_monotonic_decreasing
    assert frame.is_valid.all()
    assert found.omitted == len(sizes) - len(expected)
    total = frame["area_m2"].sum() / 1e4 + found.omitted_area
    assert total == pytest.approx(change_of(*paths).changed, rel=1e-9)


def test_patches_are_written_with_the_colours_of_the_raster(tmp_path: Path) -> None:
    before, after = pair_of_maps(tmp_path)
    change, found = change_of(before, after), patches_of(before, after, 0)
    for name in ("change.gpkg", "change.parquet"):
        write_polygons(found.frame, tmp_path / name, change_legend(change), "change")
    assert gpd.read_file(tmp_path / "change.gpkg", layer="change")["to"].tolist() == ["building", "other", "other"]
    assert gpd.read_parquet(tmp_path / "change.parquet")["area_m2"].tolist() == found.frame["area_m2"].tolist()
    styles = gpd.read_file(tmp_path / "change.gpkg", layer="layer_styles")
    red, green, blue = transition_colours(CLASSES)[0, 1]
    assert 'attr="change"' in styles["styleQML"][0]
    assert f'v="{red},{green},{blue},255"' in styles["styleQML"][0]
    assert "area_m2: Real" in gdal("ogrinfo", "-so", tmp_path / "change.gpkg", "change")


def test_patches_without_a_crs_are_sieved_by_pixels(tmp_path: Path) -> None:
    before, after = np.zeros((20, 20), np.uint8), np.zeros((20, 20), np.uint8)
    after[:3, :3], after[10:12, 10:15] = 1, 4
    paths = pair_of_maps(tmp_path, before, after, crs=None, transform=Affine.identity())
    found = patches_of(*paths)
    assert found.frame["to"].tolist() == ["water & ice"]
    assert found.frame.geometry[0].equals(box(10, 10, 15, 12))
    assert found.frame["area_m2"].isna().all()
    assert (found.omitted, found.omitted_area) == (1, 9)
    assert "omitted: 1 smaller than 10 px, 9 px, 47.4 % of the mapped change." in change_report(
        change_of(*paths), found
    )
    with pytest.raises(LandsegError, match=r"--min-area: pixel areas of .* are unknown, because a CRS is missing"):
        patches_of(*paths, min_area=10)

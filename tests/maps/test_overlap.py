from pathlib import Path

import pytest
from helpers.maps import UTM, make_map, patches
from pyproj import Transformer
from rasterio.transform import Affine

from landseg.maps.area.measure import measure_areas
from landseg.maps.area.report import area_report
from landseg.maps.overlap import MapOverlap


def test_the_report_names_maps_that_overlap(tmp_path: Path) -> None:
    ids = patches(64, 64)
    near, rim = (
        Affine(10, 0, 500_000 + shift, 0, -10, 5_800_000) for shift in (600, 630)
    )  # overlaps of 4 px and of 1 px
    maps = [make_map(tmp_path / "a.tif", ids), make_map(tmp_path / "b.tif", ids, transform=near)]
    assert f"{maps[0]} and {maps[1]} overlap: pixels in both maps count twice." in area_report(measure_areas(maps))
    assert "overlap" not in area_report(measure_areas([maps[0], make_map(tmp_path / "c.tif", ids, transform=rim)]))


def at(lon: float, lat: float, crs: str, px: float = 10, turn: float = 0) -> Affine:
    """The transform of a map with the given upper left corner, rotated by degrees."""
    x, y = Transformer.from_crs(4326, crs, always_xy=True).transform(lon, lat)
    return Affine.translation(x, y) @ Affine.rotation(turn) @ Affine.scale(px, -px)


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        # 64 px are 640 m, here 0.0094° of longitude.
        ((UTM, at(17.995, 52, UTM)), ("EPSG:32634", at(18, 52, "EPSG:32634")), True),
        ((UTM, at(17.985, 52, UTM)), ("EPSG:32634", at(18, 52, "EPSG:32634")), False),
        ((UTM, at(17.995, 52, UTM)), ("EPSG:4326", at(18, 52, "EPSG:4326", 1e-4)), True),
        (("EPSG:32660", at(179.995, 52, "EPSG:32660")), ("EPSG:32601", at(-179.9995, 52, "EPSG:32601")), True),
        (("EPSG:32660", at(179.995, 52, "EPSG:32660")), ("EPSG:32601", at(-179.99, 52, "EPSG:32601")), False),
        (("EPSG:32660", at(179.995, 52, "EPSG:32660")), ("EPSG:32631", at(3, 52, "EPSG:32631")), False),
        # 64 km around the pole, and 640 m at the pole.
        (("EPSG:3413", Affine(1000, 0, -32_000, 0, -1000, 32_000)), ("EPSG:32661", at(100, 89.9, "EPSG:32661")), True),
        (("EPSG:3413", Affine(1000, 0, -32_000, 0, -1000, 32_000)), ("EPSG:32661", at(100, 89, "EPSG:32661")), False),
        # 3200 km with a curved northern edge between 62° and 66°.
        (
            ("EPSG:3035", Affine(50_000, 0, 2_721_000, 0, -50_000, 4_810_000)),
            ("EPSG:32632", at(10, 66, "EPSG:32632")),
            True,
        ),
        # Rotated squares with overlapping bounds, apart and overlapping.
        ((UTM, at(15, 52, UTM, turn=45)), (UTM, at(15.0074, 52.0046, UTM, turn=45)), False),
        ((UTM, at(15, 52, UTM, turn=45)), (UTM, at(15.0058, 52.0036, UTM, turn=45)), True),
    ],
    ids=[
        "across zones",
        "beside a zone",
        "metres and degrees",
        "across the antimeridian",
        "on either side of it",
        "far from it",
        "at the pole",
        "beside that",
        "below a bent edge",
        "turned, apart",
        "turned",
    ],
)
def test_overlap_is_computed_from_outlines_on_the_ground(
    tmp_path: Path, one: tuple[str, Affine], other: tuple[str, Affine], meet: bool
) -> None:
    ids = patches(64, 64)
    maps = [
        make_map(tmp_path / f"{n}.tif", ids, crs=crs, transform=transform)
        for n, (crs, transform) in enumerate([one, other])
    ]
    for order in (maps, maps[::-1]):
        found = measure_areas(order)
        assert found.overlap == (MapOverlap(str(order[0]), str(order[1]), certain=True) if meet else None)


def test_maps_without_common_coordinates_may_overlap(tmp_path: Path) -> None:
    ids = patches(64, 64)
    local = make_map(tmp_path / "a.tif", ids, crs='LOCAL_CS["site",UNIT["metre",1]]')
    maps = [make_map(tmp_path / "b.tif", ids), local]
    assert f"{maps[0]} and {local} may overlap: pixels in both maps count twice." in area_report(measure_areas(maps))
    assert measure_areas([local]).overlap is None

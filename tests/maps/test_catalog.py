"""STAC collections of maps, and their footprints."""

import json
from datetime import UTC, datetime
from pathlib import Path

import geopandas as gpd
import pystac
import pytest
from helpers.maps import CLASSES, make_map, patches
from pystac.extensions.classification import ClassificationExtension
from pystac.extensions.projection import ProjectionExtension
from pystac.stac_object import STACObjectType
from pystac.validation.stac_validator import JsonSchemaSTACValidator
from rasterio import Affine
from rasterio.warp import transform_geom
from shapely.geometry import box, shape

from landseg.core.errors import LandsegError
from landseg.maps.catalog import (
    CatalogEntry,
    map_item,
    parse_period,
    require_own_catalogue,
    write_catalogue,
)

UTM = "EPSG:32633"


def catalogue(folder: Path) -> pystac.Collection:
    """Write the catalogue of two maps: of a day, and of a summer."""
    entries = []
    for name, column, date in (("a", 0, "2024-06-01"), ("b", 1000, "2023-06/2023-08")):
        tags = {"LANDSEG_MODEL": "abc", "LANDSEG_SCENE": name}
        transform = Affine(10, 0, 500_000 + 10 * column, 0, -10, 5_800_000)
        path = make_map(folder / f"{name}.tif", patches(80, 100), transform=transform, tags=tags)
        entries.append(CatalogEntry(path, parse_period(date), {"polygons": folder / f"{name}.gpkg"}))
    items = [map_item(entry) for entry in entries]
    written = write_catalogue(folder, items, "CC-BY-NC-SA-4.0", {"mosaic": folder / "mosaic.vrt"}, "landseg 0.1.0")
    return pystac.Collection.from_file(str(written))


def test_collection(tmp_path: Path) -> None:
    found = catalogue(tmp_path)
    items = {item.id: item for item in found.get_items()}
    assert list(items) == ["a", "b"]
    assert items["a"].datetime == datetime(2024, 6, 1, tzinfo=UTC)
    assert items["b"].datetime is None
    assert items["b"].properties["start_datetime"] == "2023-06-01T00:00:00Z"
    assert items["b"].properties["end_datetime"] == "2023-08-31T23:59:59Z"
    [[start, end]] = found.extent.temporal.intervals
    assert (start, end) == (datetime(2023, 6, 1, tzinfo=UTC), datetime(2024, 6, 1, tzinfo=UTC))
    assert found.license == "CC-BY-NC-SA-4.0"
    for item in items.values():
        assert item.collection_id == found.id
        assert item.get_collection() is found
        assert item.assets["map"].get_absolute_href() == str(tmp_path / f"{item.id}.tif")
        assert item.assets["polygons"].get_absolute_href() == str(tmp_path / f"{item.id}.gpkg")
        assert item.properties["landseg:model"] == "abc"
    classes = ClassificationExtension.ext(items["a"].assets["map"]).classes
    assert classes is not None
    assert [(each.value, each.title, each.color_hint) for each in classes] == [
        (land_class.id, land_class.name, "{:02x}{:02x}{:02x}".format(*land_class.color)) for land_class in CLASSES
    ]
    assert [each.name for each in classes] == ["other", "building", "water_ice"]


def test_documents_are_valid(tmp_path: Path) -> None:
    """By the schemas of the specification that pystac carries; those of extensions are on a server."""
    found, validator = catalogue(tmp_path), JsonSchemaSTACValidator()
    for kind, document in (
        (STACObjectType.COLLECTION, found),
        *((STACObjectType.ITEM, item) for item in found.get_items()),
    ):
        written = json.loads(Path(str(document.get_self_href())).read_text())
        assert validator.validate_core(written, kind, "1.1.0", document.get_self_href())
        with pytest.raises(pystac.STACValidationError):
            validator.validate_core(written | {"links": 1}, kind, "1.1.0", document.get_self_href())


def test_footprints(tmp_path: Path) -> None:
    found = catalogue(tmp_path)
    frame = gpd.read_file(tmp_path / "stac/footprints.gpkg")
    assert frame.crs == "EPSG:4326"
    assert frame["location"].tolist() == ["../a.tif", "../b.tif"]
    assert frame["end"].tolist() == ["2024-06-01T00:00:00Z", "2023-08-31T23:59:59Z"]
    for row, item in zip(frame.itertuples(), found.get_items(), strict=True):
        assert (tmp_path / "stac" / row.location).is_file()
        assert row.geometry.equals_exact(shape(item.geometry), 0) or row.geometry.equals(shape(item.geometry))
        projection = ProjectionExtension.ext(item)
        assert (projection.code, projection.shape) == (UTM, [80, 100])
        transform = Affine(*(projection.transform or ())[:6])
        outline = box(*transform @ (0, 80), *transform @ (100, 0))
        expected = shape(transform_geom(UTM, "EPSG:4326", outline.segmentize(20)))
        assert shape(item.geometry).symmetric_difference(expected).area < 1e-4 * expected.area
        assert item.bbox == pytest.approx(expected.bounds, abs=1e-6)


def test_only_catalogues_are_replaced(tmp_path: Path) -> None:
    require_own_catalogue(tmp_path)
    catalogue(tmp_path)
    require_own_catalogue(tmp_path)
    (tmp_path / "stac/old.json").touch()
    catalogue(tmp_path)
    assert not (tmp_path / "stac/old.json").exists()
    (tmp_path / "stac/collection.json").write_text("{}")
    with pytest.raises(LandsegError, match="exists and is no catalogue of landseg"):
        require_own_catalogue(tmp_path)


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("2024", "2024-01-01T00:00:00", "2024-12-31T23:59:59"),
        ("2024-02", "2024-02-01T00:00:00", "2024-02-29T23:59:59"),
        ("2024-02-03", "2024-02-03T00:00:00", "2024-02-03T00:00:00"),
        ("20240203", "2024-02-03T00:00:00", "2024-02-03T00:00:00"),
        ("2024-02-03T10:20:30Z", "2024-02-03T10:20:30", "2024-02-03T10:20:30"),
        ("2024-02-03T10:20:30+02:00", "2024-02-03T08:20:30", "2024-02-03T08:20:30"),
        ("2023/2024-02", "2023-01-01T00:00:00", "2024-02-29T23:59:59"),
    ],
)
def test_dates(text: str, start: str, end: str) -> None:
    assert [moment.isoformat().removesuffix("+00:00") for moment in parse_period(text)] == [start, end]


@pytest.mark.parametrize("text", ["", "June", "2024-13", "2024-02-30", "2024/2023", "24-06-01"])
def test_what_is_no_date(text: str) -> None:
    with pytest.raises(ValueError):
        parse_period(text)

"""Catalogue of many maps: a STAC collection (https://stacspec.org), and their footprints as one layer for GIS."""

import json
import re
from calendar import monthrange
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from shapely.geometry import mapping, shape

from landseg.core.classes import as_hex
from landseg.core.errors import LandsegError
from landseg.core.files import atomic
from landseg.maps.class_map import open_class_map
from landseg.raster.io import open_raster

if TYPE_CHECKING:
    from pystac import Collection

#: Folder of a catalogue, and its files.
FOLDER, COLLECTION, FOOTPRINTS = "stac", "collection.json", "footprints.gpkg"

# Points that are added to each side of an outline, which is straight in one CRS and curved in another.
_POINTS = 21
# Decimals of degrees: about a centimetre.
_DECIMALS = 7
_GENERATOR = "landseg:generator"
# Identifiers of licences that STAC allows: those of SPDX.
_SPDX = re.compile(r"[A-Za-z0-9.+-]+")
_TAGS = {"landseg:scene": "LANDSEG_SCENE", "landseg:model": "LANDSEG_MODEL", "landseg:revision": "LANDSEG_REVISION"}
_COMPACT = re.compile(r"(\d{4})(\d{2})(\d{2})(.*)")


class Period(NamedTuple):
    """A moment, or a period from its first to its last second; UTC."""

    start: datetime
    end: datetime


def parse_period(text: str) -> Period:
    """Parse a date: 2024-06-01, 2024-06-01T10:20:30Z, a month 2024-06, a year 2024, or two of them as A/B.

    A day stands for its first moment, as in most catalogues. A time without a zone is UTC.

    Raises:
        ValueError: it is none of these.
    """
    if "/" in text:
        first, _, last = text.partition("/")
        period = Period(parse_period(first).start, parse_period(last).end)
        if period.start > period.end:
            raise ValueError("its end lies before its start")
        return period
    text = text.strip()
    if re.fullmatch(r"\d{4}(-\d{2})?", text):
        year, month = int(text[:4]), int(text[5:] or 0)
        start = datetime(year, month or 1, 1, tzinfo=UTC)
        last_month = month or 12
        end = datetime(year, last_month, monthrange(year, last_month)[1], tzinfo=UTC)
        return Period(start, end + timedelta(days=1, seconds=-1))
    moment = datetime.fromisoformat(_COMPACT.sub(r"\1-\2-\3\4", text))
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return Period(moment, moment)


@dataclass(frozen=True)
class CatalogEntry:
    """A map of a catalogue, with further files of its scene."""

    path: Path
    date: Period
    #: Further files by the name of their asset.
    others: Mapping[str, Path] = field(default_factory=dict)


_MEDIA = {
    ".tif": "image/tiff; application=geotiff; profile=cloud-optimized",
    ".png": "image/png",
    ".gpkg": "application/geopackage+sqlite3",
    ".parquet": "application/vnd.apache.parquet",
}


def map_item(entry: CatalogEntry) -> dict[str, Any]:
    """Return the STAC item of a map, with paths relative to a folder beside it, as JSON objects.

    The footprint is the outline of the raster, pixels without data included, in degrees (WGS 84).

    Raises:
        LandsegError: the map is missing, damaged, or has no CRS.
    """
    import pystac
    from pystac.extensions.classification import Classification, ClassificationExtension
    from rio_stac import create_stac_item

    with open_class_map(entry.path) as class_map:
        classes, nodata, tags = class_map.classes, class_map.nodata, class_map.tags
        if not class_map.grid.crs:
            raise LandsegError(f"{entry.path}: has no CRS, so it has no place in a catalogue; leave out --stac")
    properties: dict[str, Any] = {key: tags[tag] for key, tag in _TAGS.items() if tag in tags}
    if entry.date.start != entry.date.end:
        properties |= {"start_datetime": _iso(entry.date.start), "end_datetime": _iso(entry.date.end)}
    with open_raster(entry.path) as source:
        item = create_stac_item(
            source,
            input_datetime=None if "start_datetime" in properties else entry.date.start,
            properties=properties,
            id=entry.path.stem,
            collection="maps",
            collection_url=COLLECTION,
            asset_name="map",
            asset_roles=["data"],
            asset_media_type=_MEDIA[".tif"],
            asset_href=_href(entry.path),
            with_proj=True,
            geom_densify_pts=_POINTS,
            geom_precision=_DECIMALS,
        )
    outline = shape(item.geometry).simplify(10.0**-_DECIMALS)  # drops points on straight lines
    item.geometry = mapping(outline)
    item.assets["map"].extra_fields["bands"] = [{"name": "class", "data_type": "uint8", "nodata": nodata}]
    for name, path in entry.others.items():
        roles = ["overview"] if name == "quicklook" else ["data"]
        item.add_asset(name, pystac.Asset(_href(path), media_type=_MEDIA[path.suffix], roles=roles))
    table = [
        Classification.create(each.id, name=_identifier(each.name), title=each.name, color_hint=as_hex(each.color)[1:])
        for each in classes
    ]
    ClassificationExtension.ext(item.assets["map"], add_if_missing=True).apply(classes=table)
    document: dict[str, Any] = item.to_dict(include_self_link=False, transform_hrefs=False)
    return document


def _href(path: Path) -> str:
    return f"../{path.name}"


def _iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _identifier(name: str) -> str:
    """Return a class name in the characters that the classification extension allows."""
    return re.sub(r"[^0-9A-Za-z_-]+", "_", name) or "_"


def require_own_catalogue(folder: Path) -> None:
    """Require that the folder of a catalogue, which would be replaced, is a catalogue of landseg, or missing.

    Raises:
        LandsegError: it is something else.
    """
    path = folder / FOLDER
    if not path.exists():
        return
    try:
        own = _GENERATOR in json.loads((path / COLLECTION).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        own = False
    if not own:
        raise LandsegError(f"{path}: exists and is no catalogue of landseg; rename it, or choose another --out")


def write_catalogue(
    folder: Path, items: Sequence[Mapping[str, Any]], licence: str, assets: Mapping[str, Path], generator: str
) -> Path:
    """Write a STAC collection and a GeoPackage of footprints below a folder of maps, atomically.

    Args:
        folder: the folder of the maps.
        items: an item for each map (see `map_item`).
        licence: licence of the maps.
        assets: rasters of all maps, by name, which are assets of the collection.
        generator: name and version of the program.

    Returns:
        The path of the collection.

    Raises:
        LandsegError: the disk is full, or the folder is not writable.
    """
    import pystac

    with atomic(folder / FOLDER) as temporary:
        temporary.mkdir()
        (temporary / FOOTPRINTS).write_bytes(_footprints(items))
        collection = _collection(items, licence, generator)
        for name, path in assets.items():
            media = _MEDIA[".tif"] if path.suffix == ".tif" else "application/x-gdal-vrt+xml"
            collection.add_asset(name, pystac.Asset(_href(path), media_type=media, roles=["data"]))
        footprints = pystac.Asset(f"./{FOOTPRINTS}", media_type=_MEDIA[".gpkg"], roles=["metadata"])
        collection.add_asset("footprints", footprints)
        for item in items:
            collection.add_link(pystac.Link("item", f"./{item['id']}.json", media_type="application/geo+json"))
            _write_json(temporary / f"{item['id']}.json", _linked(item))
        document = collection.to_dict(include_self_link=False, transform_hrefs=False)
        document["links"] = [link for link in document["links"] if link["rel"] != "root"]
        document["links"].insert(0, {"rel": "root", "href": f"./{COLLECTION}", "type": "application/json"})
        _write_json(temporary / COLLECTION, document)
    return folder / FOLDER / COLLECTION


def _collection(items: Sequence[Mapping[str, Any]], licence: str, generator: str) -> "Collection":
    import pystac

    boxes = [item["bbox"] for item in items]
    bounds = [
        *(min(box[axis] for box in boxes) for axis in (0, 1)),
        *(max(box[axis] for box in boxes) for axis in (2, 3)),
    ]
    periods = [_period(item) for item in items]
    interval = [min(period.start for period in periods), max(period.end for period in periods)]
    asset = {key: value for key, value in items[0]["assets"]["map"].items() if key != "href"}
    return pystac.Collection(
        "maps",
        f"{len(items):,} land-cover maps. Licence: {licence}.",
        pystac.Extent(pystac.SpatialExtent([bounds]), pystac.TemporalExtent([interval])),
        title="Land-cover maps",
        stac_extensions=[url for url in items[0]["stac_extensions"] if "classification" in url],
        license=licence if _SPDX.fullmatch(licence) else "other",
        extra_fields={"item_assets": {"map": asset}, _GENERATOR: generator},
    )


def _period(item: Mapping[str, Any]) -> Period:
    properties = item["properties"]
    start, end = (properties.get(key) or properties["datetime"] for key in ("start_datetime", "end_datetime"))
    return Period(datetime.fromisoformat(start), datetime.fromisoformat(end))


def _linked(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return an item with links to its collection by relative paths."""
    target = {"href": f"./{COLLECTION}", "type": "application/json"}
    return {**item, "links": [{"rel": relation, **target} for relation in ("root", "parent", "collection")]}


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _footprints(items: Sequence[Mapping[str, Any]]) -> bytes:
    """Return the footprints as a GeoPackage; the column location names the map, as in tile indexes of GDAL."""
    from geopandas import GeoDataFrame

    periods = [_period(item) for item in items]
    columns = {
        "location": [item["assets"]["map"]["href"] for item in items],
        "name": [item["id"] for item in items],
        "start": [_iso(period.start) for period in periods],
        "end": [_iso(period.end) for period in periods],
        "model": [item["properties"].get("landseg:model", "") for item in items],
    }
    memory = BytesIO()  # on a full disk, GDAL would silently omit the spatial index
    frame = GeoDataFrame(columns, geometry=[shape(item["geometry"]) for item in items], crs="EPSG:4326")
    frame.to_file(memory, driver="GPKG", layer="footprints", promote_to_multi=True, VERSION="1.2")
    return memory.getvalue()

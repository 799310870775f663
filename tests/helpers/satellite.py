"""Generated chips in the layout of LandCoverNet and of Crop Type in Ghana.

A chip is a label and several dates. Every class has its own spectrum and season; each date has clouds, their shadows,
and thin cloud around them that no layer marks. All pixels follow from seeds.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from helpers.mlhub_server import StacItem
from rasterio import Affine
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile

Array = npt.NDArray[Any]
Random = np.random.Generator

#: Reflectance x 10,000 of LandCoverNet's classes 0 to 7 in blue, green, red and near infrared.
SPECTRA = np.array(
    [
        [900, 1100, 1200, 2200],
        [700, 600, 400, 200],
        [1300, 1500, 1700, 2100],
        [1300, 1800, 2500, 3200],
        [6500, 6500, 6500, 6000],
        [350, 500, 380, 3000],
        [550, 850, 750, 3300],
        [750, 1000, 1050, 2500],
    ],
    np.float32,
)
#: Seasonal amplitude of each class.
SEASON = np.array([0, 0.05, 0.02, 0.05, 0.05, 0.1, 0.35, 0.2], np.float32)
#: Sentinel-2's scene classes of the land classes: 4 vegetation, 5 bare, 6 water, 11 snow.
SCENE_CLASS = np.array([5, 6, 5, 5, 11, 4, 4, 4], np.uint8)
CODES = ("B02", "B03", "B04", "B08")
#: Positions of the bands of the spectra among the ten of Ghana's files.
GHANA_BANDS = (0, 1, 2, 6)


@dataclass(frozen=True)
class Sight:
    """A chip on one date."""

    #: Reflectance x 10,000, (4, H, W) uint16: blue, green, red, near infrared.
    bands: Array
    #: Scene classification and cloud probability, (H, W) uint8 each.
    scl: Array
    cld: Array


def tif(pixels: Array, transform: Affine | None = None, crs: str | None = None, **options: Any) -> bytes:
    """Return (bands, H, W) or (H, W) as the bytes of a GeoTIFF."""
    bands = pixels[None] if pixels.ndim == 2 else pixels
    count, height, width = bands.shape
    shape = {"count": count, "height": height, "width": width, "dtype": bands.dtype}
    georeference = {"crs": crs, "transform": transform} if transform else {}
    with warnings.catch_warnings(), MemoryFile() as memory:
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with memory.open(driver="GTiff", compress="deflate", **shape, **georeference, **options) as raster:
            raster.write(bands)
        return bytes(memory.read())


def land(seed: int, size: int, classes: Sequence[int]) -> Array:
    """Return class ids (H, W) in patches, with a few pixels of class 0."""
    rng = np.random.default_rng(seed)
    rough = rng.standard_normal((6, 6, len(classes))).astype(np.float32)
    ids: Array = np.array(classes)[cv2.resize(rough, (size, size), interpolation=cv2.INTER_CUBIC).argmax(axis=2)]
    ids[: size // 16, : size // 16] = 0
    return ids


def agreed(ids: Array) -> Array:
    """Return a consensus score (H, W), 0 to 100: lower where classes meet."""
    edges = cv2.morphologyEx(ids.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    return np.where(edges, 34, 100)


def sight(ids: Array, day: str, cloud: float, seed: int) -> Sight:
    """Return the land on a date (YYYY-MM-DD) with a share under clouds.

    Shadows are a few pixels beside the clouds. Thin cloud around a cloud is in no layer. Light and haze differ between
    dates, as they do after atmospheric correction.
    """
    rng = np.random.default_rng((seed, int(day.replace("-", ""))))
    season = np.cos(2 * np.pi * (int(day[5:7]) - 1) / 12)
    swing = 1 + SEASON[ids, None] * season * np.array([0.4, 0.4, 1, -0.8], np.float32)
    light, haze = rng.normal(1, 0.05, 4), rng.exponential(80) * np.array([1, 0.8, 0.6, 0.3])  # of the whole date
    ground = SPECTRA[ids] * swing * light + haze + rng.normal(0, 60, (*ids.shape, 4))
    scl, cld = SCENE_CLASS[ids].copy(), rng.integers(0, 8, ids.shape, np.uint8)
    if cloud > 0:
        rough = rng.standard_normal((5, 5)).astype(np.float32)
        field = cv2.resize(rough, ids.shape[::-1], interpolation=cv2.INTER_CUBIC)
        edge = np.quantile(field, 1 - cloud)
        shade = np.roll(field, (4, 4), (0, 1)) > edge
        opacity = np.clip((field - edge + 0.35) / 0.7, 0, 1)[..., None]
        ground = np.where(shade[..., None], 0.55 * ground, ground)
        ground = ground + opacity * (7000 - ground)
        scl[shade], cld[field > edge] = 3, 95
        scl[field > edge] = 9
    return Sight(np.clip(ground, 1, 10_000).astype(np.uint16).transpose(2, 0, 1), scl, cld)


@dataclass(frozen=True)
class Chip:
    """A chip's files: its label, and the files of each date by asset name."""

    id: str
    label: bytes
    dates: Mapping[str, Mapping[str, bytes]]


def landcovernet(
    name: str, dates: Mapping[str, float], size: int = 64, seed: int = 0, label: Array | None = None
) -> Chip:
    """Return a LandCoverNet chip, <TILE>_<NN>, with its dates (YYYY-MM-DD) and the cloud share of each.

    Args:
        name: its id.
        dates: the cloud share of each date.
        size: height and width, px.
        seed: seed of land and weather.
        label: a real label raster, (2, H, W): class and consensus; None: a generated one.
    """
    if label is None:
        ids = land(seed, size, (1, 3, 5, 6))
        label = np.stack([ids, np.where(ids == 0, 0, agreed(ids))]).astype(np.uint16)
    west, south = 300_000 + 10_000 * int(name[6:]), 500_000
    grid = {"transform": Affine(10, 0, west, 0, -10, south), "crs": f"EPSG:326{name[:2]}"}
    files = {}
    for day, cloud in dates.items():
        seen = sight(label[0].astype(np.intp), day, cloud, seed)
        bands = {code: tif(band, nodata=0, **grid) for code, band in zip(CODES, seen.bands, strict=True)}
        files[day] = {**bands, "SCL": tif(seen.scl, nodata=0, **grid), "CLD": tif(seen.cld, nodata=255, **grid)}
    return Chip(name, tif(label, nodata=0, **grid), files)


def ghana(name: str, dates: Mapping[str, float], size: int = 64, seed: int = 0) -> Chip:
    """Return a chip of Crop Type in Ghana, six digits, without georeference: a float64 label, ten bands, a mask."""
    ids = land(seed, size, (2, 3, 6))
    files = {}
    for day, cloud in dates.items():
        seen = sight(np.choose(ids, [0, 0, 5, 1, 0, 0, 3]), day, cloud, seed)  # maize as woods, rice as water, ...
        bands = np.full((10, size, size), 1500, np.uint16)
        bands[list(GHANA_BANDS)] = seen.bands
        mask = np.select([seen.scl == 9, seen.scl == 3], [1, 2]).astype(np.uint8)
        files[day] = {"source": tif(bands), "cloudmask": tif(mask)}
    return Chip(name, tif(ids.astype(np.float64)), files)


def coop_landcovernet(chip: Chip, region: str = "af", folder: str = "S2/") -> Iterator[tuple[str, bytes]]:
    """Yield a chip's objects, key and body, as Source Cooperative's bucket radiantearth has them."""
    tile, _, number = chip.id.partition("_")
    root = f"landcovernet/landcovernet_{region}/data/v1.0/2018/{tile}/{number}/"
    yield f"{root}{chip.id}_2018_LC_10m.tif", chip.label
    yield f"{root}{chip.id}_labeling_dates.csv", b"date\n"
    yield f"{root}L8/{chip.id}_20180803/{chip.id}_20180803_B02_10m.tif", b"Landsat's, of the same name"
    yield f"{root}S1/{chip.id}_20180803/{chip.id}_20180803_VV_10m.tif", b"radar's"
    for day, files in chip.dates.items():
        scene = f"{chip.id}_{day.replace('-', '')}"
        for asset, body in files.items():
            yield f"{root}{folder}{scene}/{scene}_{asset}_10m.tif", body


def coop_ghana(chip: Chip) -> Iterator[tuple[str, bytes]]:
    """Yield a chip's objects, key and body, in the layout expected in Source Cooperative's bucket stanford."""
    yield f"africa-crops-ghana/truth/truth_ghana_{chip.id}/truth_ghana_{chip.id}_label.tif", chip.label
    for day, files in chip.dates.items():
        for asset, body in files.items():
            name = f"s2_ghana_{chip.id}_{day.replace('-', '_')}_{asset}.tif"
            yield f"africa-crops-ghana/s2/s2_ghana_{chip.id}/{name}", body


def hub_landcovernet(chip: Chip, region: str = "af") -> list[StacItem]:
    """Return a chip's items, as Radiant MLHub's catalog has them: the label, and one for each date."""
    name = f"ref_landcovernet_{region}_v1"
    return _items(chip, f"{name}_labels", f"{name}_source_sentinel_2", "")


def hub_ghana(chip: Chip) -> list[StacItem]:
    """Return a chip's items, as Radiant MLHub's catalog has them: the label, and one for each date."""
    name = "su_african_crops_ghana"
    return _items(chip, f"{name}_labels", f"{name}_source_s2", "_")


def _items(chip: Chip, labels: str, images: str, between: str) -> list[StacItem]:
    """Return a chip's items, given their collections and the separator of dates in their ids."""
    dated = [
        StacItem(
            images,
            f"{images}_{chip.id}_{day.replace('-', between)}",
            day,
            {f"{asset}.tif": body for asset, body in files.items()},
        )
        for day, files in chip.dates.items()
    ]
    sources = [(image.collection, image.id) for image in dated]
    return [StacItem(labels, f"{labels}_{chip.id}", "2018-07-01", {"labels.tif": chip.label}, sources), *dated]

"""Download LandCoverNet."""

import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from landseg.core.classes import LandClass
from landseg.core.data_card import Card, CloudLayer, MaskEncoding
from landseg.core.tables import scene_table
from landseg.datasets.landcovernet.params import LandCoverNetParams as Params
from landseg.download.chip_fetcher import Dates, fetch_chips
from landseg.download.chips import Box, Chip, Layout, Selection, choose, each
from landseg.download.inventory import sorted_out, source
from landseg.download.params import DownloadParams
from landseg.download.raw_dataset import RawDataset
from landseg.download.source_coop import ENDPOINT, Bucket
from landseg.raster.clouds import CloudRule
from landseg.raster.io import bounds

UNKNOWN = LandClass(id=0, name="unknown", color=(0, 0, 0))
CLASSES = (
    LandClass(id=1, name="water", color=(0, 0, 255)),
    LandClass(id=2, name="artificial bare ground", color=(136, 136, 136)),
    LandClass(id=3, name="natural bare ground", color=(209, 164, 109)),
    LandClass(id=4, name="permanent snow or ice", color=(245, 245, 255)),
    LandClass(id=5, name="woody vegetation", color=(214, 76, 43)),
    LandClass(id=6, name="cultivated vegetation", color=(24, 104, 24)),
    LandClass(id=7, name="(semi) natural vegetation", color=(0, 255, 0)),
)
#: The publisher's codes of the bands.
CODES = {
    "coastal": "B01",
    "blue": "B02",
    "green": "B03",
    "red": "B04",
    "rededge1": "B05",
    "rededge2": "B06",
    "rededge3": "B07",
    "nir": "B08",
    "rededge4": "B8A",
    "watervapour": "B09",
    "swir1": "B11",
    "swir2": "B12",
}
#: Dates are ranked by Sen2Cor's scene classes: shadow, cloud of medium and high probability, and cirrus are unclear.
RANKING = CloudRule(method="scl", clear=(), nodata=None, scl=(3, 8, 9, 10), cld=50)

_ROOT = "landcovernet/landcovernet_{region}/data/v1.0/2018/"
_REGION = re.compile(r"landcovernet_([a-z]{2})(?=[/_])")
_OTHER_SENSOR = re.compile(r"(^|/)(L8|S1)/|_source_(landsat|sentinel_1)")
_CHIP = r"(?P<chip>\d\d[A-Z]{3}_\d\d)"
_ASSET = r"(?P<asset>B\d\d|B8A|CLD|SCL)"
_DAY = r"(?P<day>\d{8})"
# How files are called at Source Cooperative, with or without a folder S2, and in MLHub's layout.
_FILES = [
    re.compile(rf"{_CHIP}_2018_LC_10m\.tif$"),
    re.compile(rf"{_CHIP}_{_DAY}_{_ASSET}_10m\.tif$"),
    re.compile(rf"ref_landcovernet_[a-z]+_v1_labels_{_CHIP}/labels\.tif$"),
    re.compile(rf"ref_landcovernet_[a-z]+_v1_source_sentinel_2_{_CHIP}_{_DAY}/{_ASSET}\.tif$"),
]


def fetch(dataset: Params, download: DownloadParams, raw: Path, state: Path, workers: int) -> RawDataset:
    """Fetch the chips that are wanted, their clearest dates alone.

    Args:
        dataset: which chips, dates and bands.
        download: from where, and how much at most.
        raw: the folder to make; whatever the source, it ends as Source Cooperative lays it out, below 2018/.
        state: where fetched files stay, in downloads/, so that each is fetched but once.
        workers: not used; fetching waits for the network.

    Raises:
        LandsegError: nothing is selected, it is too much, a chip lacks a label or an image, or a source fails.
    """
    del workers  # every data set's fetch takes the same five
    layout = Layout(
        path=path,
        ranking="SCL",
        clouds=("SCL", "CLD"),
        bands=tuple(CODES[band] for band in dataset.bands),
        rule=RANKING,
    )
    inventory, files = source(
        download,
        state / "downloads" / f"landcovernet_{dataset.region}",
        f"ref_landcovernet_{dataset.region}_v1",
        "sentinel_2",
        partial(parse, dataset.region),
        lambda: SourceCoopInventory(dataset.region, download),
    )
    wanted = Selection(dataset.chips, dataset.seed, dataset.bbox, dataset.dates)
    dates = Dates(dataset.dates_per_chip, dataset.dates_per_quarter)
    taken, table = fetch_chips(choose(inventory, wanted, layout), files, layout, dates, download.max_gb, raw)
    return RawDataset(card(dataset), scene_table(_rows(taken)), files=table)


def card(dataset: Params) -> Card:
    """Return the data card of a selection."""
    return Card(
        name="landcovernet",
        title=f"LandCoverNet ({dataset.region})",
        licence="CC-BY-4.0",
        citation="Alemohammad and Booth, LandCoverNet: A global benchmark land cover classification training dataset,"
        " arXiv:2012.03111",
        url="https://doi.org/10.34911/rdnt.d2ce8i" if dataset.region == "af" else "https://arxiv.org/abs/2012.03111",
        classes=(UNKNOWN, *CLASSES) if dataset.score_unknown else CLASSES,
        bands=dataset.bands,
        band_files={band: CODES[band] for band in dataset.bands},
        mask=MaskEncoding(ignore=() if dataset.score_unknown else (UNKNOWN.id,), consensus_band=2),
        clouds=CloudLayer(layers=("scl", "cld")),
    )


def path(chip: str, day: str | None, asset: str) -> str:
    """Return where a file lies in data/raw."""
    tile, _, number = chip.partition("_")
    if day is None:
        return f"{tile}/{number}/{chip}_2018_LC_10m.tif"
    scene = f"{chip}_{day.replace('-', '')}"
    return f"{tile}/{number}/S2/{scene}/{scene}_{asset}_10m.tif"


def _rows(taken: Iterable[Chip]) -> Iterable[dict[str, str]]:
    for chip in taken:
        tile = chip.id.partition("_")[0]
        for day in chip.dates:
            yield {
                "scene": f"{chip.id}_{day.replace('-', '')}",
                "location": chip.id,
                "group": tile,
                "date": day,
                "archive": tile,
                "image": path(chip.id, day, "{band}"),
                "mask": path(chip.id, None, "label"),
                "cloud": path(chip.id, day, "{layer}"),
            }


def parse(region: str, key: str) -> tuple[str, str | None, str] | None:
    """Say of a file's path which chip, date and asset it is, or None (see inventories.Parse).

    A path that names another region is none of this set's; one that names none may be. Landsat 8 and Sentinel-1, which
    lie beside Sentinel-2 outside Africa and have bands of the same names, are none of it, either.
    """
    if _OTHER_SENSOR.search(key) or any(named != region for named in _REGION.findall(key)):
        return None
    for pattern in _FILES:
        if match := pattern.search(key):
            if "day" not in match.groupdict():
                return match["chip"], None, "label"
            day = match["day"]
            return match["chip"], f"{day[:4]}-{day[4:6]}-{day[6:]}", match["asset"]
    return None


class SourceCoopInventory:
    """Chips at Source Cooperative; a chip's files are listed when they are asked for."""

    def __init__(self, region: str, download: DownloadParams) -> None:
        """Name the folder of a region; nothing is asked yet."""
        self.root, self.timeout, self.parse = _ROOT.format(region=region), download.timeout, partial(parse, region)
        self.bucket = Bucket(download.url or ENDPOINT, "radiantearth", download.timeout, download.attempts)
        self.where = f"{self.bucket.name}/{self.root}"

    def ids(self) -> list[str]:
        """Return the ids of all chips: one listing a tile."""
        tiles = [tile for tile in self.bucket.folders(self.root) if re.fullmatch(r"\d\d[A-Z]{3}", _last(tile))]
        numbered = each(self.bucket.folders, tiles, "tiles")
        return [
            f"{_last(tile)}_{_last(number)}"
            for tile, numbers in zip(tiles, numbered, strict=True)
            for number in numbers
            if re.fullmatch(r"\d\d", _last(number))
        ]

    def chip(self, name: str) -> Chip:
        """Return what there is of a chip."""
        return sorted_out(name, self.bucket.files(f"{self.root}{name.replace('_', '/')}/"), self.parse)

    def bounds(self, chip: str) -> Box:
        """Return the bounding box of a chip, from the header of its label."""
        return bounds(self.bucket.url(f"{self.root}{path(chip, None, 'label')}"), self.timeout)


def _last(prefix: str) -> str:
    return prefix.rstrip("/").rpartition("/")[2]

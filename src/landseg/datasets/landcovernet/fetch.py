"""Download LandCoverNet."""

import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from landseg.core.parallel import Engine
from landseg.core.tables import scene_table
from landseg.datasets.landcovernet.card import CODES
from landseg.datasets.landcovernet.params import LandCoverNetParams as Params
from landseg.download.chip_fetcher import fetch_chips
from landseg.download.chips import Chip, ChipLayout, ChipSelection, query_all
from landseg.download.inventory import ChipSource
from landseg.download.params import DownloadParams
from landseg.download.raw_dataset import RawDataset
from landseg.download.source_coop import Bucket
from landseg.raster.clouds import CloudRule

_REGION = re.compile(r"landcovernet_([a-z]{2})(?=[/_])")
_OTHER_SENSOR = re.compile(r"(^|/)(L8|S1)/|_source_(landsat|sentinel_1)")
_CHIP = r"(?P<chip>\d\d[A-Z]{3}_\d\d)"
_ASSET = r"(?P<asset>B\d\d|B8A|CLD|SCL)"
_DAY = r"(?P<day>\d{8})"
# File names at Source Cooperative, with or without a folder S2, and in the layout of MLHub.
_FILES = [
    re.compile(rf"{_CHIP}_2018_LC_10m\.tif$"),
    re.compile(rf"{_CHIP}_{_DAY}_{_ASSET}_10m\.tif$"),
    re.compile(rf"ref_landcovernet_[a-z]+_v1_labels_{_CHIP}/labels\.tif$"),
    re.compile(rf"ref_landcovernet_[a-z]+_v1_source_sentinel_2_{_CHIP}_{_DAY}/{_ASSET}\.tif$"),
]


def fetch(dataset: Params, download: DownloadParams, raw: Path, state: Path, engine: Engine) -> RawDataset:
    """Fetch the selected chips with their clearest dates.

    Args:
        dataset: which chips, dates and bands.
        download: which source, and how much at most.
        raw: folder to create, in the layout of Source Cooperative below 2018/.
        state: folder in which fetched files stay, below downloads/.
        engine: where files are fetched and dates are ranked.

    Raises:
        LandsegError: no chip is selected, the download is too large, a chip has no label or no image, or the source
            fails.
    """
    selection = ChipSelection(
        dataset.chips,
        dataset.seed,
        dataset.dates,
        dataset.dates_per_chip,
        dataset.dates_per_quarter,
        bbox=dataset.bbox,
    )
    layout = _layout(tuple(CODES[band] for band in dataset.bands))
    chips, files = fetch_chips(_source(dataset.region), layout, selection, download, state, raw, engine)
    return RawDataset(scene_table(_rows(chips)), files=files)


def _source(region: str) -> ChipSource:
    return ChipSource(
        folder=f"landcovernet_{region}",
        mlhub_id=f"ref_landcovernet_{region}_v1",
        mlhub_sensor="sentinel_2",
        bucket="radiantearth",
        prefix=f"landcovernet/landcovernet_{region}/data/v1.0/2018/",
        list_chips=_list_chips,
        chip_prefixes=lambda chip: (f"{chip.replace('_', '/')}/",),
        label_path=lambda chip: _path(chip, None, "label"),
        parse=partial(_parse_key, region),
    )


def _layout(codes: tuple[str, ...]) -> ChipLayout:
    # Scene classes of Sen2Cor: shadow, cloud of medium and high probability, and cirrus are not clear.
    rule = CloudRule(method="scl", clear=(), nodata=None, scl=(1, 3, 8, 9, 10), cld=50)
    return ChipLayout(_path, "SCL", cloud_assets=("SCL", "CLD"), band_assets=codes, cloud_rule=rule)


def _path(chip: str, day: str | None, asset: str) -> str:
    """Return the path of a file in data/raw."""
    tile, _, number = chip.partition("_")
    if day is None:
        return f"{tile}/{number}/{chip}_2018_LC_10m.tif"
    scene = f"{chip}_{day.replace('-', '')}"
    return f"{tile}/{number}/S2/{scene}/{scene}_{asset}_10m.tif"


def _rows(chips: Iterable[Chip]) -> Iterable[dict[str, str]]:
    for chip in chips:
        tile = chip.id.partition("_")[0]
        for day in chip.dates:
            yield {
                "scene": f"{chip.id}_{day.replace('-', '')}",
                "location": chip.id,
                "group": tile,
                "date": day,
                "archive": tile,
                "image": _path(chip.id, day, "{band}"),
                "mask": _path(chip.id, None, "label"),
                "cloud": _path(chip.id, day, "{layer}"),
            }


def _parse_key(region: str, key: str) -> tuple[str, str | None, str] | None:
    """Return chip, date and asset of a file by its path, or None (see `download.inventory.KeyParser`).

    A path that names another region does not belong to the dataset. Neither do Landsat 8 and Sentinel-1, which outside
    Africa are stored beside Sentinel-2 with bands of the same names.
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


def _list_chips(bucket: Bucket, prefix: str) -> list[str]:
    """Return the ids of all chips, with one listing per Sentinel-2 tile."""
    tiles = [tile for tile in bucket.folders(prefix) if re.fullmatch(r"\d\d[A-Z]{3}", _last(tile))]
    numbered = query_all(bucket.folders, tiles, "tiles")
    return [
        f"{_last(tile)}_{_last(number)}"
        for tile, numbers in zip(tiles, numbered, strict=True)
        for number in numbers
        if re.fullmatch(r"\d\d", _last(number))
    ]


def _last(prefix: str) -> str:
    return prefix.rstrip("/").rpartition("/")[2]

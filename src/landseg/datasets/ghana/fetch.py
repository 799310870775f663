"""Download crop types in Ghana."""

import re
import shutil
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from landseg.core.classes import LandClass
from landseg.core.data_card import CloudEncoding, DataCard, MaskEncoding
from landseg.core.errors import LandsegError
from landseg.core.tables import SPLITS, scene_table
from landseg.datasets.ghana.params import BANDS
from landseg.datasets.ghana.params import GhanaParams as Params
from landseg.download.chip_fetcher import fetch_chips
from landseg.download.chips import Chip, ChipLayout, ChipSelection
from landseg.download.inventory import ChipSource
from landseg.download.mirror import Mirror
from landseg.download.params import DownloadParams
from landseg.download.raw_dataset import RawDataset
from landseg.download.remote_file import RemoteFile
from landseg.download.source_coop import Bucket
from landseg.raster.clouds import CloudRule

_UNKNOWN = LandClass(id=0, name="unknown", color=(0, 0, 0))
CLASSES = (
    LandClass(id=1, name="ground nut", color=(80, 0, 165)),
    LandClass(id=2, name="maize", color=(255, 204, 0)),
    LandClass(id=3, name="rice", color=(0, 244, 244)),
    LandClass(id=4, name="soya bean", color=(105, 105, 105)),
    LandClass(id=5, name="yam", color=(255, 255, 102)),
    LandClass(id=6, name="intercrop", color=(255, 153, 153)),
    LandClass(id=7, name="sorghum", color=(127, 222, 209)),
    LandClass(id=8, name="okra", color=(222, 127, 219)),
    LandClass(id=9, name="cassava", color=(108, 67, 107)),
    LandClass(id=10, name="millet", color=(152, 134, 94)),
    LandClass(id=11, name="tomato", color=(99, 228, 150)),
    LandClass(id=12, name="cowpea", color=(99, 176, 228)),
    LandClass(id=13, name="sweet potato", color=(255, 186, 186)),
    LandClass(id=14, name="babala beans", color=(204, 0, 102)),
    LandClass(id=15, name="salad vegetables", color=(102, 51, 0)),
    LandClass(id=16, name="bra and ayoyo", color=(204, 204, 255)),
    LandClass(id=17, name="watermelon", color=(0, 102, 204)),
    LandClass(id=18, name="zabla", color=(255, 0, 255)),
    LandClass(id=19, name="nili", color=(102, 0, 204)),
    LandClass(id=20, name="kpalika", color=(141, 51, 117)),
    LandClass(id=21, name="cotton", color=(145, 187, 192)),
    LandClass(id=22, name="akata", color=(155, 123, 219)),
    LandClass(id=23, name="nyenabe", color=(193, 0, 76)),
    LandClass(id=24, name="pepper", color=(204, 255, 153)),
)
JITTER = 3000
"""Maximum displacement of chips by the publisher, m."""

_MLHUB_ID = "su_african_crops_ghana"
_CHIP, _DAY = r"(?P<chip>\d{6})", r"(?P<day>\d{4}_?\d\d_?\d\d)"
# File names in the layouts of MLHub and Source Cooperative. The names in a chip's folder of s2/ at Source Cooperative
# are inferred from those of MLHub, so any name with the chip's id and a date is accepted.
_FILES = {
    "label": [
        re.compile(rf"{_MLHUB_ID}_labels_{_CHIP}/labels\.tif$"),
        re.compile(rf"truth_ghana_{_CHIP}_label\.tif$"),
    ],
    "cloudmask": [
        re.compile(rf"{_MLHUB_ID}_source_s2_{_CHIP}_{_DAY}/cloudmask\.tif$"),
        re.compile(rf"s2_ghana_{_CHIP}\D(?:.*\D)?{_DAY}\D*(?:cloud|mask)\D*\.tif$"),
    ],
    "source": [
        re.compile(rf"{_MLHUB_ID}_source_s2_{_CHIP}_{_DAY}/source\.tif$"),
        re.compile(rf"s2_ghana_{_CHIP}\D(?:.*\D)?{_DAY}\D*\.tif$"),
    ],
}


def fetch(dataset: Params, download: DownloadParams, raw: Path, state: Path, workers: int) -> RawDataset:
    """Fetch the selected chips with their clearest dates, and the published split lists.

    Args:
        dataset: which chips and dates, and the URL of the lists.
        download: which source, and how much at most.
        raw: folder to create, in the layout of Source Cooperative: truth/ and s2/.
        state: folder in which fetched files stay, below downloads/.
        workers: not used; fetching is limited by the network.

    Raises:
        LandsegError: no chip is selected, the download is too large, a chip has no label or no image, or a source
            fails.
    """
    del workers
    official = _official(dataset.lists, download, state / "downloads" / "ghana" / "lists")
    selection = ChipSelection(
        dataset.chips,
        dataset.seed,
        dataset.dates,
        dataset.dates_per_chip,
        dataset.dates_per_quarter,
        listed=frozenset(official["location"]) if len(official) else None,
    )
    chips, files = fetch_chips(_source(), _layout(), selection, download, state, raw)
    return RawDataset(ghana_card(dataset), scene_table(_rows(chips)), official, files)


def ghana_card(dataset: Params) -> DataCard:
    """Return the data card, with or without the class unknown."""
    return DataCard(
        name="ghana",
        title="Crop types in Ghana",
        licence="CC-BY-SA-4.0",
        citation="Rustowicz et al., Semantic Segmentation of Crop Type in Africa: A Novel Dataset and Analysis of Deep"
        " Learning Methods, CVPR Workshops 2019",
        url="https://doi.org/10.34911/rdnt.ry138p",
        classes=(_UNKNOWN, *CLASSES) if dataset.score_unknown else CLASSES,
        bands=BANDS,
        nodata=0,
        mask=MaskEncoding(ignore=() if dataset.score_unknown else (_UNKNOWN.id,)),
        clouds=CloudEncoding(nodata=None, cloudy=(1, 2, 3)),
        jitter=JITTER,
    )


def _source() -> ChipSource:
    return ChipSource(
        folder="ghana",
        mlhub_id=_MLHUB_ID,
        mlhub_sensor="_s2",
        bucket="stanford",
        prefix="africa-crops-ghana/",
        list_chips=_list_chips,
        chip_prefixes=lambda chip: (f"truth/truth_ghana_{chip}/", f"s2/s2_ghana_{chip}"),
        label_path=lambda chip: _path(chip, None, "label"),
        parse=_parse_key,
    )


def _layout() -> ChipLayout:
    # Only 0 is clear; a mask without a nodata value has data everywhere.
    rule = CloudRule(method="mask", clear=(0,), nodata=None, scl=(), cld=1)
    return ChipLayout(_path, "cloudmask", cloud_assets=("cloudmask",), band_assets=("source",), cloud_rule=rule)


def _path(chip: str, day: str | None, asset: str) -> str:
    """Return the path of a file in data/raw."""
    if day is None:
        return f"truth/truth_ghana_{chip}/truth_ghana_{chip}_label.tif"
    return f"s2/s2_ghana_{chip}/s2_ghana_{chip}_{day.replace('-', '_')}_{asset}.tif"


def _rows(chips: Iterable[Chip]) -> Iterable[dict[str, str]]:
    for chip in chips:
        for day in chip.dates:
            yield {
                "scene": f"{chip.id}_{day.replace('-', '')}",
                "location": chip.id,
                "date": day,
                "archive": f"ghana_{chip.id[:3]}",  # limits the number of archives; ids are random
                "image": _path(chip.id, day, "source"),
                "mask": _path(chip.id, None, "label"),
                "cloud": _path(chip.id, day, "cloudmask"),
            }


def _official(lists: str | None, download: DownloadParams, folder: Path) -> pd.DataFrame:
    """Return the published lists, columns location and split; empty if there are none."""
    names = {split: f"ghana_{split}.txt" for split in SPLITS}
    local = {split: next(iter(sorted(download.folder.rglob(name))), None) for split, name in names.items()}
    if all(local.values()):
        found = {split: file for split, file in local.items() if file is not None}
    elif lists is None:
        found = {}
    else:
        shutil.rmtree(folder, ignore_errors=True)  # the lists are small, and may have changed since
        mirror = Mirror(folder, download.timeout, download.attempts, advice="correct dataset.lists, or set it to null")
        remotes = {split: RemoteFile(name, f"{lists.rstrip('/')}/{name}") for split, name in names.items()}
        paths = mirror.fetch(list(remotes.values()), "split lists")
        found = {split: paths[remote.key] for split, remote in remotes.items()}
    rows = [(location, split) for split, file in found.items() for location in _read_list(file)]
    return pd.DataFrame(rows, columns=["location", "split"], dtype="str")


def _read_list(file: Path) -> list[str]:
    """Read the chip ids of a published split list, one per line.

    Raises:
        LandsegError: a line is not an id of six digits.
    """
    ids = [line.strip() for line in file.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    for line, name in enumerate(ids, 1):
        if not re.fullmatch(r"\d{6}", name):
            raise LandsegError(f"{file}: line {line}: {name!r} is not an id of six digits; correct dataset.lists")
    return ids


def _parse_key(key: str) -> tuple[str, str | None, str] | None:
    """Return chip, date and asset of a file by its path, or None (see `download.inventory.KeyParser`)."""
    for asset, patterns in _FILES.items():  # cloud masks before images, whose patterns match cloud masks, too
        for pattern in patterns:
            if match := pattern.search(key):
                if asset == "label":
                    return match["chip"], None, asset
                day = match["day"].replace("_", "")
                return match["chip"], f"{day[:4]}-{day[4:6]}-{day[6:]}", asset
    return None


def _list_chips(bucket: Bucket, prefix: str) -> list[str]:
    folders = bucket.folders(f"{prefix}truth/")
    return [match[1] for folder in folders if (match := re.search(r"truth_ghana_(\d{6})/$", folder))]

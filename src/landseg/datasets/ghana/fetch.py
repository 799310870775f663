"""Download crop types in Ghana."""

import re
import shutil
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from landseg.core.errors import LandsegError
from landseg.core.parallel import Engine
from landseg.core.tables import SPLITS, scene_table
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


def fetch(dataset: Params, download: DownloadParams, raw: Path, state: Path, engine: Engine) -> RawDataset:
    """Fetch the selected chips with their clearest dates, and the published split lists.

    Args:
        dataset: which chips and dates, and the URL of the lists.
        download: which source, and how much at most.
        raw: folder to create, in the layout of Source Cooperative: truth/ and s2/.
        state: folder in which fetched files stay, below downloads/.
        engine: where files are fetched and dates are ranked.

    Raises:
        LandsegError: no chip is selected, the download is too large, a chip has no label or no image, or a source
            fails.
    """
    official = _official(dataset.lists, download, state / "downloads" / "ghana" / "lists")
    selection = ChipSelection(
        dataset.chips,
        dataset.seed,
        dataset.dates,
        dataset.dates_per_chip,
        dataset.dates_per_quarter,
        listed=frozenset(official["location"]) if len(official) else None,
    )
    chips, files = fetch_chips(_source(), _layout(), selection, download, state, raw, engine)
    return RawDataset(scene_table(_rows(chips)), official, files)


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

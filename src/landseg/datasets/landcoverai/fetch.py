"""Download LandCover.ai."""

import re
import sys
from pathlib import Path

import pandas as pd
from rich.filesize import decimal

from landseg.core.classes import LandClass
from landseg.core.data_card import Card
from landseg.core.errors import LandsegError
from landseg.core.tables import SPLITS, scene_table
from landseg.datasets.landcoverai.params import LandCoverAiParams as Params
from landseg.download.params import DownloadParams
from landseg.download.raw_dataset import RawDataset
from landseg.download.zip_archive import fetch_archive, unpack, verify

ARCHIVE = "landcover.ai.v1.zip"
URL = f"https://landcover.ai.linuxpolska.com/download/{ARCHIVE}"
MD5 = "3268c89070e8734b4e91d531c0617e03"
SHA256 = "dd448287ff3a76291f2b159084b8a265f2ba4559bb80b0551fc8c6c0eb149a4b"

CLASSES = (
    LandClass(id=0, name="background", color=(0, 0, 0)),
    LandClass(id=1, name="building", color=(80, 0, 165)),
    LandClass(id=2, name="woodland", color=(255, 204, 0)),
    LandClass(id=3, name="water", color=(0, 244, 244)),
    LandClass(id=4, name="road", color=(105, 105, 105)),
)

CARD = Card(
    name="landcoverai",
    title="LandCover.ai v1",
    licence="CC-BY-NC-SA-4.0",
    citation="Boguszewski et al., LandCover.ai: Dataset for Automatic Mapping of Buildings, Woodlands, Water and"
    " Roads from Aerial Imagery, CVPR Workshops 2021",
    url="https://landcover.ai.linuxpolska.com",
    classes=CLASSES,
    background="background",
    bands=("red", "green", "blue"),
)

_TILE = re.compile(r".+_\d+")


def fetch(dataset: Params, download: DownloadParams, raw: Path, state: Path, workers: int) -> RawDataset:
    """Bring the archive here, unpack it, and say what is in it.

    Args:
        dataset: nothing is to be chosen in this one.
        download: a local folder with the archive, or where and how to fetch it.
        raw: the folder to make; it ends as the publisher lays it out: images/, masks/, *.txt.
        state: where a fetched archive stays, in downloads/, so that it is fetched but once.
        workers: not used; unpacking waits for the disk.

    Raises:
        LandsegError: the archive cannot be fetched, is not the one expected, or is not laid out as described.
    """
    del dataset, workers  # every data set's fetch takes the same five
    unpack(_archive(download, state), raw)
    root = _root(raw)
    return RawDataset(card=CARD, scenes=_scenes(root, raw), official=_official(root))


def _archive(download: DownloadParams, state: Path) -> Path:
    """Return the archive, once it is here and its checksum agrees."""
    checksums = {"sha256": download.sha256} if download.sha256 else {"md5": MD5, "sha256": SHA256}
    local = download.folder / ARCHIVE
    if local.exists():
        verify(local, checksums)
        return local
    path = state / "downloads" / ARCHIVE
    fetch_archive(download.url or URL, path, checksums=checksums, timeout=download.timeout, attempts=download.attempts)
    size = decimal(path.stat().st_size)
    print(f"landcoverai: {path} ({size}) is kept; delete it if you need the room", file=sys.stderr)
    return path


def _root(raw: Path) -> Path:
    """Return the folder that holds images/: raw itself, or one folder in it."""
    for root in (raw, *sorted(raw.iterdir())):
        if (root / "images").is_dir():
            return root
    raise LandsegError(f"{ARCHIVE}: no folder images in it; get the one of LandCover.ai v1 from {URL}")


def _scenes(root: Path, raw: Path) -> pd.DataFrame:
    """Pair images and masks by name."""
    images, masks = ({path.stem: path for path in (root / kind).glob("*.tif")} for kind in ("images", "masks"))
    if odd := sorted(images.keys() ^ masks.keys()):
        there, missing = ("images", "masks") if odd[0] in images else ("masks", "images")
        raise LandsegError(
            f"{ARCHIVE}: {there}/{odd[0]}.tif has no {missing}/{odd[0]}.tif ({len(odd)} such); get a whole copy of it"
        )
    if not images:
        raise LandsegError(f"{ARCHIVE}: no *.tif in images; get the one of LandCover.ai v1 from {URL}")
    return scene_table(
        {
            "scene": name,
            "image": images[name].relative_to(raw).as_posix(),
            "mask": masks[name].relative_to(raw).as_posix(),
        }
        for name in sorted(images)
    )


def _official(root: Path) -> pd.DataFrame:
    """Read the publisher's lists: one `<scene>_<k>` a line."""
    parts: dict[str, str] = {}
    for part in SPLITS:
        for tile in _lines(root / f"{part}.txt"):
            if not _TILE.fullmatch(tile):
                raise LandsegError(f"{ARCHIVE}: {part}.txt: {tile!r} is not <scene>_<number>; get a whole copy of it")
            if tile in parts:
                raise LandsegError(
                    f"{ARCHIVE}: {part}.txt: {tile} is in {parts[tile]}.txt already, and a tile"
                    " belongs to one part only; mend the lists"
                )
            parts[tile] = part
    return pd.DataFrame({"tile": list(parts), "split": list(parts.values())}, dtype="str")


def _lines(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text().splitlines() if line.strip()]
    except FileNotFoundError:
        raise LandsegError(f"{ARCHIVE}: no {path.name} in it; get a whole copy of it from {URL}") from None

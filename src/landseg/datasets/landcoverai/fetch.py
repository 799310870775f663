"""Download LandCover.ai."""

import re
import sys
from pathlib import Path

import pandas as pd
from rich.filesize import decimal

from landseg.core.errors import LandsegError
from landseg.core.parallel import Engine
from landseg.core.tables import SPLITS, scene_table
from landseg.datasets.landcoverai.params import LandCoverAiParams as Params
from landseg.download.params import DownloadParams
from landseg.download.raw_dataset import RawDataset
from landseg.download.zip_archive import extract_archive, fetch_archive, verify_checksums

ARCHIVE = "landcover.ai.v1.zip"
URL = f"https://landcover.ai.linuxpolska.com/download/{ARCHIVE}"
MD5 = "3268c89070e8734b4e91d531c0617e03"
SHA256 = "dd448287ff3a76291f2b159084b8a265f2ba4559bb80b0551fc8c6c0eb149a4b"

_TILE = re.compile(r".+_\d+")


def fetch(dataset: Params, download: DownloadParams, raw: Path, state: Path, engine: Engine) -> RawDataset:
    """Fetch the archive, extract it to `raw`, and read the publisher's split.

    Args:
        dataset: not used; the dataset has no options.
        download: the local folder with the archive, or its URL.
        raw: folder to create, in the publisher's layout: images/, masks/, *.txt.
        state: folder in which a fetched archive stays, below downloads/.
        engine: not used; extracting is limited by the disk.

    Raises:
        LandsegError: the archive cannot be fetched, has another checksum, or another layout.
    """
    del dataset, engine
    extract_archive(_archive(download, state), raw)
    root = _root(raw)
    return RawDataset(_scenes(root, raw), _official(root))


def _archive(download: DownloadParams, state: Path) -> Path:
    """Return the path of the archive, fetched if necessary, with its checksum verified."""
    checksums = {"sha256": download.sha256} if download.sha256 else {"md5": MD5, "sha256": SHA256}
    local = download.folder / ARCHIVE
    if local.exists():
        verify_checksums(local, checksums)
        return local
    path = state / "downloads" / ARCHIVE
    fetch_archive(download.url or URL, path, checksums=checksums, timeout=download.timeout, attempts=download.attempts)
    size = decimal(path.stat().st_size)
    print(f"landcoverai: kept {path} ({size}); delete it to free disk space", file=sys.stderr)
    return path


def _root(raw: Path) -> Path:
    """Return the folder that contains images/: `raw`, or a folder in it."""
    for root in (raw, *sorted(raw.iterdir())):
        if (root / "images").is_dir():
            return root
    raise LandsegError(f"{ARCHIVE}: no folder images; get the archive of LandCover.ai v1 from {URL}")


def _scenes(root: Path, raw: Path) -> pd.DataFrame:
    """Pair images and masks by name."""
    images, masks = ({path.stem: path for path in (root / kind).glob("*.tif")} for kind in ("images", "masks"))
    if unpaired := sorted(images.keys() ^ masks.keys()):
        present, missing = ("images", "masks") if unpaired[0] in images else ("masks", "images")
        raise LandsegError(
            f"{ARCHIVE}: {present}/{unpaired[0]}.tif without {missing}/{unpaired[0]}.tif ({len(unpaired)} such files);"
            " get a complete archive"
        )
    if not images:
        raise LandsegError(f"{ARCHIVE}: no *.tif in images; get the archive of LandCover.ai v1 from {URL}")
    return scene_table(
        {
            "scene": name,
            "image": images[name].relative_to(raw).as_posix(),
            "mask": masks[name].relative_to(raw).as_posix(),
        }
        for name in sorted(images)
    )


def _official(root: Path) -> pd.DataFrame:
    """Read the publisher's lists, with one `<scene>_<k>` per line."""
    splits: dict[str, str] = {}
    for split in SPLITS:
        for tile in _lines(root / f"{split}.txt"):
            if not _TILE.fullmatch(tile):
                raise LandsegError(f"{ARCHIVE}: {split}.txt: {tile!r} is not <scene>_<number>; get a complete archive")
            if tile in splits:
                raise LandsegError(
                    f"{ARCHIVE}: {split}.txt: {tile} is also in {splits[tile]}.txt; remove it from one of them"
                )
            splits[tile] = split
    return pd.DataFrame({"tile": list(splits), "split": list(splits.values())}, dtype="str")


def _lines(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text().splitlines() if line.strip()]
    except FileNotFoundError:
        raise LandsegError(f"{ARCHIVE}: {path.name} not found; get a complete archive from {URL}") from None

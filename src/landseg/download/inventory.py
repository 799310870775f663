"""Inventories: the chips of a source, found by file names, or by the links of a STAC catalog."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from landseg.core.errors import LandsegError
from landseg.core.parallel import Engine
from landseg.download.chips import Box, Chip, Inventory
from landseg.download.local_files import LocalFiles
from landseg.download.mirror import Mirror
from landseg.download.mlhub import Catalog, mlhub_host
from landseg.download.params import DownloadParams
from landseg.download.remote_file import FileStore, RemoteFile
from landseg.download.source_coop import ENDPOINT, Bucket
from landseg.download.stac import Item
from landseg.raster.io import bounds_in_degrees

#: Parses the path of a file in a source: (chip, date (YYYY-MM-DD; None for a label), asset), or None if the file does
#: not belong to the dataset.
KeyParser = Callable[[str], tuple[str, str | None, str] | None]


@dataclass(frozen=True)
class ChipSource:
    """Where the sources of a dataset store its chips, and how they name the files."""

    #: Folder of fetched files, below downloads/ in the state folder.
    folder: str
    #: Id of the dataset at Radiant MLHub.
    mlhub_id: str
    #: Part of the ids of the MLHub collections of the sensor's images.
    mlhub_sensor: str
    #: Bucket at Source Cooperative, and the prefix of the dataset in it, with a trailing '/'.
    bucket: str
    prefix: str
    #: Lists the ids of all chips below a prefix of a bucket.
    list_chips: Callable[[Bucket, str], list[str]]
    #: Prefixes of the files of a chip, below `prefix`.
    chip_prefixes: Callable[[str], Sequence[str]]
    #: Path of the label of a chip, below `prefix`.
    label_path: Callable[[str], str]
    #: Parses paths in the layouts of both MLHub and Source Cooperative.
    parse: KeyParser


def chip_from_files(name: str, remotes: Iterable[RemoteFile], parse: KeyParser) -> Chip:
    """Return a chip from its files; files of other chips are ignored.

    Raises:
        LandsegError: the source has two copies of its label, or of one date.
    """
    label, dates = None, dict[str, dict[str, RemoteFile]]()
    for remote in remotes:
        chip, day, asset = parse(remote.key) or ("", None, "")
        if chip != name:
            continue
        if day is None:
            _refuse_second(name, "its label", label, remote)
            label = remote
        else:
            files = dates.setdefault(day, {})
            _refuse_second(name, f"its {asset} of {day}", files.get(asset), remote)
            other = next(iter(files.values()), remote)
            if _folder(other) != _folder(remote):
                _refuse_second(name, f"its image of {day}, in two folders", other, remote)
            files[asset] = remote
    return Chip(name, label, dates)


def _folder(remote: RemoteFile) -> str:
    return remote.key.rpartition("/")[0]


def _refuse_second(chip: str, what: str, first: RemoteFile | None, second: RemoteFile) -> None:
    if first is not None:
        advice = "remove one copy from the source, or leave the chip out of dataset.chips"
        raise LandsegError(f"chip {chip}: {first.key} and {second.key} are both {what}; {advice}")


@dataclass
class FileInventory:
    """Chips in a local folder."""

    name: str
    files: list[RemoteFile]
    parse: KeyParser

    @cached_property
    def _by_chip(self) -> dict[str, list[RemoteFile]]:
        found: dict[str, list[RemoteFile]] = {}
        for remote in self.files:
            if parsed := self.parse(remote.key):
                found.setdefault(parsed[0], []).append(remote)
        return found

    def ids(self) -> list[str]:
        """Return the ids of all chips."""
        return list(self._by_chip)

    def chip(self, name: str) -> Chip:
        """Return the files of a chip."""
        return chip_from_files(name, self._by_chip[name], self.parse)

    def bounds(self, chip: str) -> Box:
        """Return the bounding box of a chip, from its label.

        Raises:
            LandsegError: the chip has no label, or its label no CRS.
        """
        label = self.chip(chip).label
        if label is None:
            raise LandsegError(f"chip {chip}: images without a label; set dataset.bbox to null, or add the label")
        return bounds_in_degrees(label.url)


@dataclass
class MlhubInventory:
    """Chips in a STAC catalog of Radiant MLHub; a label links to its images as its sources."""

    catalog: Catalog
    #: Part of the ids of the collections of the sensor's images.
    sensor: str

    @property
    def name(self) -> str:
        """Name of the source, for messages."""
        return f"dataset {self.catalog.dataset_id}"

    @property
    def _labels(self) -> str:
        return f"{self.catalog.dataset_id}_labels"

    def ids(self) -> list[str]:
        """Return the ids of all labelled chips."""
        return [item.removeprefix(f"{self._labels}_") for item in self.catalog.items(self._labels)]

    def chip(self, name: str) -> Chip:
        """Return the files of a chip.

        Raises:
            LandsegError: the label links to no image, or to two images of one date.
        """
        item = self.catalog.item(self._labels, f"{self._labels}_{name}")
        if not item.sources:
            raise LandsegError(
                f"STAC item {item.id}: no links to its images (rel=source); leave {name} out of dataset.chips"
            )
        images: dict[str, Item] = {}
        for source in dict.fromkeys(item.sources):
            if self.sensor in source[0]:
                image = self.catalog.item(*source)
                if (other := images.setdefault(image.date, image)) is not image:
                    raise LandsegError(
                        f"STAC items {other.id} and {image.id}: both are images of chip {name} of {image.date};"
                        f" remove the link to one from {item.id} in {self.catalog.folder / item.collection},"
                        f" or leave {name} out of dataset.chips"
                    )
        return Chip(name, item.assets.get("labels"), {day: image.assets for day, image in images.items()})

    def bounds(self, chip: str) -> Box:
        """Return the bounding box of a chip, from its STAC item.

        Raises:
            LandsegError: the item has no bbox, or an invalid one.
        """
        item = self.catalog.item(self._labels, f"{self._labels}_{chip}")
        if item.bbox is None:
            raise LandsegError(f"STAC item {item.id}: no bbox; set dataset.bbox to null")
        if len(item.bbox) not in (4, 6):
            raise LandsegError(
                f"STAC item {item.id}: bbox has {len(item.bbox)} numbers, not 4 or 6; set dataset.bbox to null"
            )
        (west, south), (east, north) = item.bbox[:2], item.bbox[len(item.bbox) // 2 :][:2]
        return west, south, east, north


class SourceCoopInventory:
    """Chips at Source Cooperative; the files of a chip are listed on demand."""

    def __init__(self, source: ChipSource, download: DownloadParams) -> None:
        """Define the inventory; nothing is requested yet."""
        self._source, self._timeout = source, download.timeout
        self._bucket = Bucket(download.url or ENDPOINT, source.bucket, download.timeout, download.attempts)
        self.name = f"{self._bucket.name}/{source.prefix}"

    def ids(self) -> list[str]:
        """Return the ids of all chips."""
        return self._source.list_chips(self._bucket, self._source.prefix)

    def chip(self, name: str) -> Chip:
        """Return the files of a chip."""
        prefixes = [f"{self._source.prefix}{prefix}" for prefix in self._source.chip_prefixes(name)]
        files = [file for prefix in prefixes for file in self._bucket.files(prefix)]
        return chip_from_files(name, files, self._source.parse)

    def bounds(self, chip: str) -> Box:
        """Return the bounding box of a chip, from the header of its label.

        Raises:
            LandsegError: the label has no CRS.
        """
        return bounds_in_degrees(
            self._bucket.url(f"{self._source.prefix}{self._source.label_path(chip)}"), self._timeout
        )


def open_source(
    source: ChipSource, download: DownloadParams, downloads: Path, engine: Engine | None = None
) -> tuple[Inventory, FileStore]:
    """Return the inventory of download.source, and the store of its files on this machine.

    Args:
        source: where the sources store the chips.
        download: which source, its URL, timeout and attempts.
        downloads: parent of the folder of fetched files.
        engine: where files are fetched; None: by this process.

    Raises:
        LandsegError: the source is unreachable, or has no files.
    """
    if download.source == "local":
        local = LocalFiles(download.folder)
        return FileInventory(str(download.folder), local.listing(), source.parse), local
    folder = downloads / source.folder
    if download.source == "mlhub":
        here = folder / "mlhub" / mlhub_host()  # another server may have other files of the same names
        catalog = Catalog(
            source.mlhub_id, here / "catalog", download.timeout, download.attempts, max_bytes=download.max_gb * 1e9
        )
        advice = (
            f"delete {catalog.folder} to fetch the catalog again, as its URLs may have expired,"
            " check MLHUB_ROOT_URL, or set download.source to local"
        )
        files = Mirror(here / "assets", download.timeout, download.attempts, advice=advice, engine=engine)
        return MlhubInventory(catalog, source.mlhub_sensor), files
    mirror = Mirror(folder / "source-coop", download.timeout, download.attempts, engine=engine)
    return SourceCoopInventory(source, download), mirror

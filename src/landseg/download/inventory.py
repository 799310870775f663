"""What a source has of chips: among files, by their names; in a STAC catalog, by its links."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from landseg.core.errors import LandsegError
from landseg.download.chips import Box, Chip, Inventory
from landseg.download.local_files import LocalFiles
from landseg.download.mirror import Store
from landseg.download.mlhub import Catalog, Item, server
from landseg.download.params import DownloadParams
from landseg.download.remote_file import Files, Remote
from landseg.raster.io import bounds

#: Says of a file, by its path in the source, which chip it belongs to, of which date it is (YYYY-MM-DD; None: a
#: label), and which asset; None where it is none of the data set's.
Parse = Callable[[str], tuple[str, str | None, str] | None]


def sorted_out(name: str, remotes: Iterable[Remote], parse: Parse) -> Chip:
    """Return a chip from its files; those of other chips are passed over.

    Raises:
        LandsegError: there are two copies of its label, or of one date.
    """
    label, dates = None, dict[str, dict[str, Remote]]()
    for remote in remotes:
        chip, day, asset = parse(remote.key) or ("", None, "")
        if chip != name:
            continue
        if day is None:
            _refuse_both(name, "its label", label, remote)
            label = remote
        else:
            of = dates.setdefault(day, {})
            _refuse_both(name, f"its {asset} of {day}", of.get(asset), remote)
            other = next(iter(of.values()), remote)  # of the folder of all before it
            if _folder(other) != _folder(remote):
                _refuse_both(name, f"its image of {day}, in two folders", other, remote)
            of[asset] = remote
    return Chip(name, label, dates)


def _folder(remote: Remote) -> str:
    return remote.key.rpartition("/")[0]


def _refuse_both(chip: str, what: str, one: Remote | None, other: Remote) -> None:
    if one is not None:
        mend = "remove one copy from the source, or leave the chip out of dataset.chips"
        raise LandsegError(f"chip {chip}: {one.key} and {other.key} are both {what}; {mend}")


@dataclass
class FileInventory:
    """Chips among the files of a local folder."""

    where: str
    files: list[Remote]
    parse: Parse

    @cached_property
    def _by_chip(self) -> dict[str, list[Remote]]:
        found: dict[str, list[Remote]] = {}
        for remote in self.files:
            if parsed := self.parse(remote.key):
                found.setdefault(parsed[0], []).append(remote)
        return found

    def ids(self) -> list[str]:
        """Return the ids of all chips."""
        return list(self._by_chip)

    def chip(self, name: str) -> Chip:
        """Return what there is of a chip."""
        return sorted_out(name, self._by_chip[name], self.parse)

    def bounds(self, chip: str) -> Box:
        """Return the bounding box of a chip, from its label.

        Raises:
            LandsegError: it has no label, or no place on earth.
        """
        label = self.chip(chip).label
        if label is None:
            raise LandsegError(f"chip {chip}: has images but no label; set dataset.bbox to null, or add its label")
        return bounds(label.url)


@dataclass
class MlhubInventory:
    """Chips in a STAC catalog of Radiant MLHub; a label's images are those that it links to as its source."""

    catalog: Catalog
    #: What the ids of the collections of images hold, among those of other sensors.
    sensor: str

    @property
    def where(self) -> str:
        """Where that is, for messages."""
        return f"data set {self.catalog.dataset_id}"

    @property
    def _labels(self) -> str:
        return f"{self.catalog.dataset_id}_labels"

    def ids(self) -> list[str]:
        """Return the ids of all labelled chips."""
        return [item.removeprefix(f"{self._labels}_") for item in self.catalog.items(self._labels)]

    def chip(self, name: str) -> Chip:
        """Return what there is of a chip.

        Raises:
            LandsegError: the label links to no source, or to two of one date.
        """
        item = self.catalog.item(self._labels, f"{self._labels}_{name}")
        if not item.sources:
            raise LandsegError(
                f"STAC item {item.id}: has no links to its images (rel=source); leave {name} out of dataset.chips"
            )
        images: dict[str, Item] = {}
        for source in dict.fromkeys(item.sources):
            if self.sensor in source[0]:
                image = self.catalog.item(*source)
                if (other := images.setdefault(image.date, image)) is not image:
                    raise LandsegError(
                        f"STAC items {other.id} and {image.id}: are both images of chip {name} of {image.date};"
                        f" remove the link to one from {item.id} in {self.catalog.folder / item.collection},"
                        f" or leave {name} out of dataset.chips"
                    )
        return Chip(name, item.assets.get("labels"), {day: image.assets for day, image in images.items()})

    def bounds(self, chip: str) -> Box:
        """Return the bounding box of a chip, as its STAC item gives it.

        Raises:
            LandsegError: it gives none, or one that is none.
        """
        item = self.catalog.item(self._labels, f"{self._labels}_{chip}")
        if item.bbox is None:
            raise LandsegError(f"STAC item {item.id}: has no bbox; set dataset.bbox to null")
        if len(item.bbox) not in (4, 6):
            raise LandsegError(
                f"STAC item {item.id}: its bbox has {len(item.bbox)} numbers, not 4 or 6; set dataset.bbox to null"
            )
        (west, south), (east, north) = item.bbox[:2], item.bbox[len(item.bbox) // 2 :][:2]
        return west, south, east, north


def source(
    download: DownloadParams, folder: Path, dataset_id: str, sensor: str, parse: Parse, coop: Callable[[], Inventory]
) -> tuple[Inventory, Files]:
    """Return what download.source has, and what brings its files here.

    Args:
        download: which source, where it is, and how patient to be with it.
        folder: where fetched files stay.
        dataset_id: of the set at Radiant MLHub.
        sensor: what the ids of its collections of images hold there, among those of other sensors.
        parse: says what a file is by its path.
        coop: makes the inventory of Source Cooperative, whose layout is each set's own.

    Raises:
        LandsegError: the source cannot be reached, or holds nothing.
    """
    if download.source == "local":
        local = LocalFiles(download.folder)
        return FileInventory(str(download.folder), local.listing(), parse), local
    if download.source == "mlhub":
        here = folder / "mlhub" / server()  # another server may have other files by the same names
        catalog = Catalog(
            dataset_id, here / "catalog", download.timeout, download.attempts, max_bytes=download.max_gb * 1e9
        )
        advice = (
            f"remove {catalog.folder} to have the catalog, whose addresses may have expired, fetched anew,"
            " check MLHUB_ROOT_URL, or set download.source to local"
        )
        return MlhubInventory(catalog, sensor), Store(
            here / "assets", download.timeout, download.attempts, advice=advice
        )
    return coop(), Store(folder / "source-coop", download.timeout, download.attempts)

"""What a source has of chips: among files, by their names; in a STAC catalog, by its links."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from landseg.datasets.chips import Box, Chip, Inventory
from landseg.errors import LandsegError
from landseg.params.dataset import DownloadParams
from landseg.rasters import bounds
from landseg.sources.local import LocalFiles
from landseg.sources.mlhub import Catalog, server
from landseg.sources.remote import Files, Remote
from landseg.sources.store import Store

#: Says of a file, by its path in the source, which chip it belongs to, of which date it is (YYYY-MM-DD; None: a
#: label), and which asset; None where it is none of the data set's.
Parse = Callable[[str], tuple[str, str | None, str] | None]


def sorted_out(name: str, remotes: Iterable[Remote], parse: Parse) -> Chip:
    """Return a chip from its files; those of other chips are passed over."""
    label, dates = None, dict[str, dict[str, Remote]]()
    for remote in remotes:
        chip, day, asset = parse(remote.key) or ("", None, "")
        if chip != name:
            continue
        if day is None:
            label = remote
        else:
            dates.setdefault(day, {})[asset] = remote
    return Chip(name, label, dates)


@dataclass
class Listed:
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
class Hub:
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
            LandsegError: the label links to no source.
        """
        item = self.catalog.item(self._labels, f"{self._labels}_{name}")
        if not item.sources:
            raise LandsegError(
                f"STAC item {item.id}: has no links to its images (rel=source); leave {name} out of dataset.chips"
            )
        images = [self.catalog.item(*source) for source in item.sources if self.sensor in source[0]]
        return Chip(name, item.assets.get("labels"), {image.date: image.assets for image in images})

    def bounds(self, chip: str) -> Box:
        """Return the bounding box of a chip, as its STAC item gives it.

        Raises:
            LandsegError: it gives none.
        """
        item = self.catalog.item(self._labels, f"{self._labels}_{chip}")
        if item.bbox is None:
            raise LandsegError(f"STAC item {item.id}: has no bbox; set dataset.bbox to null")
        west, south, east, north = item.bbox
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
        return Listed(str(download.folder), local.listing(), parse), local
    if download.source == "mlhub":
        here = folder / "mlhub" / server()  # another server may have other files by the same names
        catalog = Catalog(dataset_id, here / "catalog", download.timeout, download.attempts)
        return Hub(catalog, sensor), Store(here / "assets", download.timeout, download.attempts)
    return coop(), Store(folder / "source-coop", download.timeout, download.attempts)

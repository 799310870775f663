"""Paths of the pipeline's files, relative to the project root. dvc.yaml lists the same paths."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Paths:
    """Paths of the files of one dataset."""

    #: Name of the dataset.
    dataset: str

    @property
    def raw(self) -> Path:
        """Folder of the raw rasters, laid out as published."""
        return Path("data/raw", self.dataset)

    @property
    def imagery(self) -> Path:
        """Folder of the imagery table and, if dates are composited, one GeoTIFF per location."""
        return Path("data/imagery", self.dataset)

    @property
    def imagery_card(self) -> Path:
        """Data card of the imagery: that of the dataset with the bands of the imagery."""
        return self.imagery / "card.json"

    @property
    def tiles(self) -> Path:
        """Folder of the tile archives, one ZIP per scene."""
        return Path("data/tiles", self.dataset)

    def table(self, name: str) -> Path:
        """Table or data card of the dataset, by file name."""
        return Path("data/tables", self.dataset, name)

    def model(self, which: str) -> Path:
        """Model file of the `best` or the `last` epoch."""
        return Path("models", self.dataset, f"{which}.safetensors")

    @property
    def scored_model(self) -> Path:
        """Model file of the scored epoch with its temperature, written by the evaluate stage."""
        return Path("models", self.dataset, "model.safetensors")

    @property
    def examples(self) -> Path:
        """ZIP of example tiles: images, targets and predictions."""
        return Path("data/examples", f"{self.dataset}.zip")


#: Root of the paths in the imagery and tile tables.
DATA = Path("data")

#: Metrics, curves and figures of the current run; versioned by git.
RESULTS = Path("results")

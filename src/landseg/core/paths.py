"""Where everything lies, relative to the root of the project. dvc.yaml names the same paths."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Paths:
    """The files of one data set, by its name."""

    dataset: str

    @property
    def raw(self) -> Path:
        """Rasters, as their publisher lays them out."""
        return Path("data/raw", self.dataset)

    @property
    def imagery(self) -> Path:
        """What goes on to be tiled: a table and, where dates are composed, one GeoTIFF a place."""
        return Path("data/imagery", self.dataset)

    @property
    def tiles(self) -> Path:
        """One stored ZIP a scene."""
        return Path("data/tiles", self.dataset)

    def table(self, name: str) -> Path:
        """A table of the data set, by its file name."""
        return Path("data/tables", self.dataset, name)

    def model(self, which: str) -> Path:
        """The weights of the `best` or the `last` epoch."""
        return Path("models", self.dataset, f"{which}.safetensors")

    @property
    def examples(self) -> Path:
        """The tiles that are looked at: images, targets and predictions, in one stored ZIP."""
        return Path("data/examples", f"{self.dataset}.zip")


#: What the paths in the imagery and tile tables start from.
DATA = Path("data")

#: Metrics, curves and figures of the current run; small, and versioned by git.
RESULTS = Path("results")

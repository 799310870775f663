"""Parameters of the data set `folder`."""

from typing import Literal

from pydantic import Field, model_validator

from landseg.core.classes import ClassTable, Colour, names
from landseg.download.params import DatasetParams


class FolderParams(DatasetParams):
    """Images and masks of your own."""

    name: Literal["folder"]
    """The data set. Paths under data/ and models/ carry this name."""
    images: str
    """Glob of the images below download.folder; what its one * matches pairs an image with its mask."""
    masks: str
    """Glob of the masks below download.folder; its one * matches the same text as that of images."""
    clouds: str | None = None
    """Glob of the cloud layers below download.folder (0 clear, 255 no data, else cloud), or null."""
    bands: tuple[str, ...] = Field(min_length=1)
    """Names of the bands, in the order in which they lie in the image files."""
    mask_values: Literal["ids", "palette", "rgb"]
    """ids: pixel values are class ids; palette: the file's palette holds the class colours; rgb: three bands do."""
    classes: ClassTable
    """The classes: id, name, color each."""
    background: str | None = None
    """The class that is all the rest, if there is one: some scores are given without it, too."""
    ignore: tuple[int | Colour, ...]
    """Ids or colours in masks that count neither in the loss nor in a score."""
    unlisted: Literal["error", "ignore"]
    """What to do with an id or a colour that no class has."""
    licence: str = "not stated"
    """Licence of the data; it goes into the data card."""

    @model_validator(mode="after")
    def _agree(self) -> "FolderParams":
        if self.background not in (None, *names(self.classes)):
            raise ValueError(
                f"dataset.background = {self.background!r}: no class has that name; use one of dataset.classes, or null"
            )
        if self.mask_values == "ids" and any(not isinstance(value, int) for value in self.ignore):
            raise ValueError("dataset.ignore holds a colour, and dataset.mask_values = ids has none; name ids")
        if self.mask_values == "rgb" and any(isinstance(value, int) for value in self.ignore):
            raise ValueError(
                "dataset.ignore holds an id, and dataset.mask_values = rgb has none; name colours, [[r, g, b]]"
            )
        return self

    @property
    def band_names(self) -> tuple[str, ...]:
        """The bands, as the user names them."""
        return self.bands

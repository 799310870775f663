"""Sections `dataset` and `download`: which data, and where they come from."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from landseg.datasets.classes import ClassTable, Colour
from landseg.params.base import Section


class SampleParams(Section):
    """A generated set in the shape of LandCover.ai."""

    name: Literal["sample"]
    """The data set. Paths under data/ and models/ carry this name."""
    seed: int = Field(ge=0)
    """Seed of the generator; the same seed gives the same pixels."""
    scenes: int = Field(ge=4, le=200)
    """Scenes to make, the cloudy ones included."""
    size: int = Field(ge=256, le=8192)
    """Height and width of a scene, px of 0.5 m."""
    cloudy: int = Field(ge=0)
    """How many of the scenes lie under too much cloud."""


class LandCoverAiParams(Section):
    """LandCover.ai v1: 41 orthophotos of Poland."""

    name: Literal["landcoverai"]
    """The data set. Paths under data/ and models/ carry this name."""


class FolderParams(Section):
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


DatasetParams = Annotated[SampleParams | LandCoverAiParams | FolderParams, Field(discriminator="name")]


class DownloadParams(Section):
    """Where raw files come from."""

    folder: Path
    """A local folder to take files from. DVC watches it: a changed file in it re-runs download. May be empty."""
    url: str | None = None
    """A mirror to fetch the archive from; null is the publisher's own address."""
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    """What the archive must hash to; null is the publisher's own checksum."""
    timeout: float = Field(default=60, gt=0)
    """Seconds without a byte after which a connection counts as broken and is made anew."""
    attempts: int = Field(default=8, ge=1)
    """How often in a row to try without getting a single byte further, before giving up."""

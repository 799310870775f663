"""Data card: classes, bands and encodings of a dataset, in one JSON file.

The download stage writes it. Later stages read it instead of the dataset's code, so they do not depend on that code.
"""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from landseg.core.classes import ClassTable, Colour
from landseg.core.errors import LandsegError
from landseg.core.files import atomic

#: Kinds of cloud raster: a cloud mask, or Sentinel-2's scene classification (scl) and cloud probability (cld).
CloudLayerKind = Literal["mask", "scl", "cld"]


class MaskEncoding(BaseModel):
    """Encoding of classes in label rasters."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: ids: pixel values are class ids; palette: pixel values index the file's palette, which has the class colours;
    #: rgb: three bands with the class colours.
    values: Literal["ids", "palette", "rgb"] = "ids"
    #: Ids or colours of ignored pixels.
    ignore: tuple[int | Colour, ...] = ()
    #: Class ids of pixel values that are not ids themselves, for ids.
    remap: dict[int, int] = {}
    #: How to treat ids or colours without a class: raise an error, or ignore the pixels.
    unlisted: Literal["error", "ignore"] = "error"
    #: Index of the band with annotator agreement, 0 to 100; None if label rasters have no such band.
    consensus_band: int | None = None


class CloudEncoding(BaseModel):
    """Encoding of clouds in cloud rasters."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: Available layers. The paths of scl and cld contain SCL or CLD in place of {layer}.
    layers: tuple[CloudLayerKind, ...] = ("mask",)
    #: Values of clear pixels in a cloud mask; all other values with data are cloud.
    clear: tuple[int, ...] = (0,)
    #: Nodata value of a cloud mask; None if it has none.
    nodata: int | None = 255
    #: Values of a cloud mask that are known to be cloud; others are printed. Empty if none is known.
    cloudy: tuple[int, ...] = ()


class ScalingRule(BaseModel):
    """Scale and offset of images whose files do not contain them (see `core.scaling`)."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    images: str
    """Glob of image names, without extension."""
    scale: float
    """Scale."""
    offset: float
    """Offset, in scaled values."""


class DataCard(BaseModel):
    """Description of a dataset: classes, bands, encodings, licence and citation."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    title: str
    licence: str
    citation: str = ""
    url: str = ""
    classes: ClassTable
    #: Name of the background class, if there is one: some scores are also given without it.
    background: str | None = None
    #: Band names, in the order of the bands in image files, then in further files.
    bands: tuple[str, ...]
    #: For datasets with one file per band: the text that replaces {band} in image paths, by band name.
    band_files: dict[str, str] = {}
    #: For datasets with further files beside the images, such as elevation: the names of their bands by file, which are
    #: the last of `bands`.
    extra_files: tuple[tuple[str, ...], ...] = ()
    #: Bands of backscatter that become decibels.
    decibels: tuple[str, ...] = ()
    #: Nodata value of all bands, for image files that declare none themselves.
    nodata: float | None = None
    #: Scale and offset of image files that declare none themselves; the first rule that matches counts.
    scaling: tuple[ScalingRule, ...] = ()
    #: GDAL drivers that may open its files, in addition to `landseg.raster.io.TRUSTED_DRIVERS`.
    drivers: tuple[str, ...] = ()
    mask: MaskEncoding = MaskEncoding()
    clouds: CloudEncoding = CloudEncoding()
    #: Distance in metres by which the publisher displaced scenes at random. If it is not 0, distances between scenes
    #: are unknown.
    jitter: float = 0


def write_card(card: DataCard, path: Path) -> None:
    """Write a data card as JSON."""
    with atomic(path) as temporary:
        temporary.write_text(card.model_dump_json(indent=2) + "\n", encoding="utf-8")


def read_card(path: Path) -> DataCard:
    """Read a data card.

    Raises:
        LandsegError: the file is missing or not a valid data card.
    """
    try:
        return DataCard.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise LandsegError(f"{path}: file not found; run the download stage first") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = "".join(f"{key}: " for key in first["loc"])
        raise LandsegError(f"{path}: {where}{first['msg']}; re-run the download stage") from None

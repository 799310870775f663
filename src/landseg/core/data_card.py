"""The data card: what every later stage must know of a data set, in one JSON file.

The download stage writes it, so that no later stage depends on the code of any one data set.
"""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from landseg.core.classes import ClassTable, Colour
from landseg.core.errors import LandsegError
from landseg.core.files import atomic

#: The rasters that can say where clouds are.
CloudLayerKind = Literal["mask", "scl", "cld"]


class MaskEncoding(BaseModel):
    """How label rasters say which class a pixel has."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: ids: the pixel value is the class id; palette: the value's colour in the file's own palette
    #: is the class colour; rgb: three bands hold the class colour.
    values: Literal["ids", "palette", "rgb"] = "ids"
    #: Ids or colours that count for nothing.
    ignore: tuple[int | Colour, ...] = ()
    #: What to do with an id or a colour that no class has.
    unlisted: Literal["error", "ignore"] = "error"
    #: The band of label rasters that says how far annotators agreed, 0 to 100, if there is one.
    consensus_band: int | None = None


class CloudEncoding(BaseModel):
    """How cloud rasters say whether a pixel is clear."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: mask: one raster of its own coding, below; scl, cld: Sentinel-2's scene classification and cloud
    #: probability, whose paths have SCL or CLD in the place of {layer}.
    layers: tuple[CloudLayerKind, ...] = ("mask",)
    #: The values of clear pixels in a mask; any other value with data is cloud.
    clear: tuple[int, ...] = (0,)
    #: The value of pixels without data in a mask, if there is one.
    nodata: int | None = 255


class DataCard(BaseModel):
    """What a data set is: its classes, its bands, how its labels and clouds are coded, whose it is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    title: str
    licence: str
    citation: str = ""
    url: str = ""
    classes: ClassTable
    #: The class that is all the rest, if there is one: some scores are given without it, too.
    background: str | None = None
    #: Band names, in the order in which they lie in the image files.
    bands: tuple[str, ...]
    #: Where every band is a file of its own, what stands for it in the place of {band} in an image's path.
    band_files: dict[str, str] = {}
    #: The value that all bands have where an image has no data, for files that do not say so themselves.
    nodata: float | None = None
    mask: MaskEncoding = MaskEncoding()
    clouds: CloudEncoding = CloudEncoding()
    #: Metres by which the publisher moved scenes at random: where it is not 0, nobody knows who neighbours whom.
    jitter: float = 0


def write_card(card: DataCard, path: Path) -> None:
    """Write a data card as JSON."""
    with atomic(path) as temporary:
        temporary.write_text(card.model_dump_json(indent=2) + "\n", encoding="utf-8")


def read_card(path: Path) -> DataCard:
    """Read a data card.

    Raises:
        LandsegError: the file is missing or is no data card.
    """
    try:
        return DataCard.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise LandsegError(f"{path}: not there; run the download stage first") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = "".join(f"{part}: " for part in first["loc"])
        raise LandsegError(f"{path}: {where}{first['msg']}; run the download stage again") from None

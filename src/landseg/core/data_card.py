"""Data card: classes, bands and encodings of a dataset, in one JSON file.

The card stage writes it. Later stages read it instead of the dataset's code, so they do not depend on that code. The
filter stage writes a second one for the imagery, whose bands may be stacked.
"""

import re
from collections.abc import Sequence
from itertools import groupby
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
    #: Index of the band with units, from 1: polygons or points whose pixels stay in one split; None if label rasters
    #: have no such band. 0: no unit.
    unit_band: int | None = None


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


class ExtraBands(BaseModel):
    """Bands of a further file of each image."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: Names of its bands, from the first.
    bands: tuple[str, ...]
    #: Their scale and offset if the file's header has none (see `core.scaling`); '' if unknown.
    scaling: str = ""


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
    #: Layers of stacked imagery, such as q1 to q4, by which band names end; empty if it is not stacked.
    layers: tuple[str, ...] = ()
    #: For datasets with one file per band: the text that replaces {band} in image paths, by band name.
    band_files: dict[str, str] = {}
    #: For datasets with further files beside the images, such as elevation: their bands, which are the last of `bands`.
    extra_files: tuple[ExtraBands, ...] = ()
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
        raise LandsegError(f"{path}: file not found; run `dvc repro` or the stage that writes it") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = "".join(f"{key}: " for key in first["loc"])
        raise LandsegError(f"{path}: {where}{first['msg']}; re-run the stage that writes it") from None


def layer_names(bands: Sequence[str], layers: Sequence[str]) -> tuple[str, ...]:
    """Return the band names of stacked imagery, layer by layer: all bands of the first layer, then of the second.

    A layer without a name leaves the names as they are.
    """
    return tuple(f"{band}_{layer}" if layer else band for layer in layers for band in bands)


def imagery_card(card: DataCard, layers: Sequence[str]) -> DataCard:
    """Return the data card of imagery that is one file per location, with all bands of each layer.

    Args:
        card: the data card of the dataset.
        layers: names of the layers; a single one without a name if bands are not stacked.

    Raises:
        LandsegError: a band of the dataset has the name of a layer of another one.
    """
    bands, named = layer_names(card.bands, layers), tuple(filter(None, layers))
    if named and (both := sorted(set(bands) & set(card.bands))):
        raise LandsegError(
            f"dataset.bands: {both[0]!r} would also be the name of a layer of another band; rename this band"
        )
    decibels = layer_names(card.decibels, layers)
    one_file: dict[str, object] = {"band_files": {}, "extra_files": ()}
    return card.model_copy(update={"bands": bands, "layers": named, "decibels": decibels, **one_file})


def expand_names(names: Sequence[str], bands: Sequence[str], layers: Sequence[str]) -> tuple[str, ...]:
    """Replace names that stand for all layers, where imagery is stacked; else return them as they are.

    Adjacent names are replaced together, layer by layer: (blue, red) becomes (blue_q1, red_q1, blue_q2, ...). So are
    names that are not those of bands, such as NDVI. Names that end like a single layer, such as red_q1, stay.

    Args:
        names: names of bands or spectral indices.
        bands: bands of the imagery, of all layers.
        layers: names of the layers; empty if imagery is not stacked.
    """
    if not layers:
        return tuple(names)
    single = re.compile(rf".+_{layers[0][0]}\d+")

    def is_layer(name: str) -> bool:
        return bool(single.fullmatch(name)) and f"{name}_{layers[0]}" not in bands

    expanded: list[str] = []
    for alone, adjacent in groupby(names, is_layer):
        expanded += layer_names(tuple(adjacent), ("",) if alone else layers)
    return tuple(expanded)

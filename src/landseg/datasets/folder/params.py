"""Section `dataset` for `folder`."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from landseg.core.classes import ClassTable, Colour, class_names
from landseg.core.data_card import CloudLayerKind, ScalingRule
from landseg.core.params import Section
from landseg.download.params import DatasetParams
from landseg.raster.io import known_driver

DriverName = Annotated[str, AfterValidator(known_driver)]


class NamePattern(Section):
    """Names from the names of images."""

    pattern: str
    """Regular expression with one group, which matches the whole name of an image; the group is the name."""

    @model_validator(mode="after")
    def _one_group(self) -> "NamePattern":
        try:
            groups = re.compile(self.pattern).groups
        except re.error as error:
            raise ValueError(f"pattern = {self.pattern!r}: not a regular expression ({error}); correct it") from None
        if groups != 1:
            raise ValueError(
                f"pattern = {self.pattern!r}: has {groups} groups; put one pair of parentheses around the part that "
                "names the location or group"
            )
        return self


class NameTable(Section):
    """Names from a table."""

    table: str
    """CSV file below download.folder, with a column `image`: the text that the * of dataset.images matches."""
    column: str
    """Column with the names."""


class ExtraFiles(Section):
    """Further files of each image, such as elevation or radar."""

    images: str
    """Glob below download.folder; its single * must match the same text as that of dataset.images."""
    bands: tuple[str, ...] = Field(min_length=1)
    """Band names, in file order."""
    scale: float | None = None
    """Scale of values, for convert.values = scaled, where headers have none; null: that of the headers."""
    offset: float = 0
    """Offset of values, in scaled values; used with scale."""
    decibels: bool = False
    """Whether values are backscatter as linear power, which is to become decibels, 10 log10 of the value."""


class LabelParams(Section):
    """Labels as polygons or points."""

    files: str
    """Vector file below download.folder, or glob of several: GeoPackage, GeoJSON, Shapefile, GeoParquet, FlatGeobuf."""
    layer: str | None = None
    """Layer of the files; null: the only one."""
    column: str
    """Attribute with the class."""
    values: dict[int | float | str, Annotated[int, Field(ge=0, le=255)] | None] = Field(default={})
    """Class id of each value of the attribute, such as {forest: 5}, null to leave objects out; {}: values are ids."""
    radius: float = Field(default=0, ge=0)
    """Distance in metres around points that has their class; 0: the pixel of the point (points only)."""
    buffer: float = 0
    """Distance in metres by which polygons grow, or shrink if it is negative (polygons only)."""
    all_touched: bool = False
    """Whether polygons cover all pixels that they touch, or only those whose centres lie in them."""
    order: tuple[int, ...] = ()
    """Ids of all classes in drawing order, the last on top; []: objects of different classes may not overlap."""
    area: str | None = None
    """Vector file of the polygons outside which pixels are ignored; null: everywhere is inside."""
    elsewhere: Annotated[int, Field(ge=0, le=255)] | None = None
    """Class id of pixels of the area without an object; null: they are ignored."""
    unit: str | Annotated[float, Field(ge=0)] | None = None
    """What the split keeps together: each object (null), objects with the same value of an attribute (its name), or
    objects within a distance in metres of one another."""
    outside: Literal["error", "skip"] = "error"
    """Objects outside every image: raise an error, or leave them out."""

    @property
    def class_ids(self) -> tuple[int, ...]:
        """Ids of the classes that are drawn, in order; empty if values are ids."""
        drawn = {class_id for class_id in self.values.values() if class_id is not None}
        return tuple(sorted(drawn | ({self.elsewhere} if self.elsewhere is not None else set())))

    @model_validator(mode="after")
    def _agree(self) -> "LabelParams":
        if self.values and not any(class_id is not None for class_id in self.values.values()):
            raise ValueError("dataset.labels.values: leaves out all objects; give a value the id of a class")
        drawn = {class_id for class_id in self.values.values() if class_id is not None}
        if len(set(self.order)) < len(self.order):
            raise ValueError("dataset.labels.order names an id twice; name each class once")
        if missing := sorted(drawn - set(self.order)) if self.order else []:
            raise ValueError(f"dataset.labels.order lacks the class id {missing[0]}; name the ids of all classes")
        if self.radius and self.buffer:
            raise ValueError("dataset.labels: radius is for points and buffer for polygons; set one of them to 0")
        return self


class FolderParams(DatasetParams):
    """Your own images and masks."""

    card_keys = frozenset({
        "cloud_values", "cloud_clear", "cloud_nodata", "scaling", "bands", "nodata", "mask_values", "classes", "remap",
        "background", "ignore", "unlisted", "licence",
    })  # fmt: skip

    name: Literal["folder"]
    """Name of the dataset, used in paths below data/ and models/."""
    images: str
    """Glob of images below download.folder; the text matched by its single * pairs image and mask."""
    extra: tuple[ExtraFiles, ...] = ()
    """Further files of each image, such as elevation, radar or other bands: a list of {images, bands, decibels}. Pixels
    may have another size than those of images."""
    masks: str | None = None
    """Glob of masks below download.folder; its single * must match the same text as that of images; null: labels."""
    align: Literal["nearest", "majority"] | None = None
    """Masks on another grid than their image: resample them to it, each pixel to the nearest or to the most frequent
    value (majority); null: refuse them. Then dataset.masks may name one file, without *, that covers many images."""
    labels: LabelParams | None = None
    """Labels as polygons or points, in place of masks: {files, column, values, ...}; null: masks."""
    clouds: str | None = None
    """Glob of cloud layers below download.folder; null: none."""
    cloud_values: CloudLayerKind = "mask"
    """Values of cloud layers: mask (0 clear, 255 nodata, else cloud), scl (Sentinel-2 scene classification) or cld
    (cloud probability, %); filter.method must be the same."""
    cloud_clear: tuple[int, ...] = Field(default=(0,), min_length=1)
    """Values of clear pixels in cloud masks; all others but cloud_nodata are cloud."""
    cloud_nodata: int | None = 255
    """Value of pixels without data in cloud masks; null: none."""
    locations: NamePattern | NameTable | None = None
    """Images of the same ground, such as several dates: a pattern or a table; null: each image is a location."""
    groups: NamePattern | NameTable | None = None
    """Images that lie close together, such as chips of one orthophoto: a pattern or a table; null: no groups."""
    scaling: tuple[ScalingRule, ...] = ()
    """Scale and offset of files of dataset.images whose headers have none: a list of {images, scale, offset}, of which
    the first counts whose glob `images` matches the name of the image."""
    drivers: tuple[DriverName, ...] = ()
    """GDAL drivers that may open files, in addition to GTiff, PNG, JPEG and JP2OpenJPEG, such as ENVI, HFA or VRT."""
    bands: tuple[str, ...] = Field(min_length=1)
    """Band names, in file order; alpha: a band that marks pixels with data."""
    nodata: float | None = None
    """Value of pixels without data in all bands of images whose files declare none; null: none."""
    mask_values: Literal["ids", "palette", "rgb"]
    """Mask encoding: ids (pixel = class id), palette (colour table = class colours) or rgb (pixel = class colour)."""
    classes: ClassTable
    """Classes, each with id, name and color."""
    remap: dict[int, int] = Field(default={})
    """Mask values that are not ids themselves, with their class ids, such as {255: 1} (ids only)."""
    background: str | None = None
    """Background class; some scores are also reported without it; null: none."""
    ignore: tuple[int | Colour, ...]
    """Ids or colours excluded from loss and scores."""
    unlisted: Literal["error", "ignore"]
    """Mask values that match no class: raise an error, or ignore them."""
    licence: str = "not stated"
    """Licence of the data, for the data card."""

    @model_validator(mode="after")
    def _labels_agree(self) -> "FolderParams":
        if (self.masks is None) == (self.labels is None):
            raise ValueError("dataset.masks: give either masks or dataset.labels, and set the other to null")
        if self.labels is None:
            return self
        if self.align:
            raise ValueError("dataset.align: polygons and points need no resampling; set it to null")
        if self.mask_values != "ids" or self.remap:
            raise ValueError("dataset.labels: polygons and points become ids; set mask_values to ids, and remap to {}")
        known = {land_class.id for land_class in self.classes}
        if unknown := sorted({*self.labels.class_ids, *self.labels.order} - known):
            raise ValueError(f"dataset.labels: {unknown[0]} is no id of dataset.classes; add the class, or correct it")
        return self

    @model_validator(mode="after")
    def _agree(self) -> "FolderParams":
        if self.background not in (None, *class_names(self.classes)):
            raise ValueError(
                f"dataset.background = {self.background!r}: unknown class; use a name of dataset.classes, or null"
            )
        if self.cloud_nodata in self.cloud_clear:
            raise ValueError(
                f"dataset.cloud_nodata = {self.cloud_nodata} is also in dataset.cloud_clear; remove it there"
            )
        if len({band.casefold() for band in self.band_names}) < len(self.band_names):
            key = "dataset.bands and dataset.extra name" if self.extra else "dataset.bands names"
            raise ValueError(f"{key} a band twice; give each band a name of its own")
        if self.remap and self.mask_values != "ids":
            raise ValueError(f"dataset.remap needs dataset.mask_values = ids, not {self.mask_values}; set it to {{}}")
        known = {land_class.id for land_class in self.classes}
        for value, class_id in self.remap.items():
            if class_id not in known:
                raise ValueError(f"dataset.remap: {value} is mapped to {class_id}, which is no id of dataset.classes")
            if value in self.ignore:
                raise ValueError(f"dataset.remap: {value} is also in dataset.ignore; remove it from one of them")
        if self.mask_values == "ids" and any(not isinstance(value, int) for value in self.ignore):
            raise ValueError("dataset.ignore contains a colour, but dataset.mask_values is ids; list ids")
        if self.mask_values == "rgb" and any(isinstance(value, int) for value in self.ignore):
            raise ValueError("dataset.ignore contains an id, but dataset.mask_values is rgb; list colours, [[r, g, b]]")
        return self

    @property
    def band_names(self) -> tuple[str, ...]:
        """Band names from dataset.bands and dataset.extra."""
        return (*self.bands, *(band for extra in self.extra for band in extra.bands))

    @property
    def decibel_bands(self) -> tuple[str, ...]:
        """Bands of the files of dataset.extra with decibels."""
        return tuple(band for extra in self.extra if extra.decibels for band in extra.bands)

    @property
    def has_groups(self) -> bool:
        """Whether dataset.groups is set."""
        return self.groups is not None

    @property
    def cloud_methods(self) -> tuple[str, ...]:
        """The kind of the cloud layers."""
        return (self.cloud_values,)

    @property
    def class_count(self) -> int:
        """Number of dataset.classes."""
        return len(self.classes)

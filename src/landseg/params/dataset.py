"""Sections `dataset` and `download`: which data, and where they come from."""

import difflib
import re
from datetime import date
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from landseg.datasets.classes import ClassTable, Colour, names
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


#: Bands of Sentinel-2 by name.
Sentinel2Band = Literal[
    "coastal", "blue", "green", "red", "rededge1", "rededge2", "rededge3",
    "nir", "rededge4", "watervapour", "swir1", "swir2",
]  # fmt: skip


#: The bands of the data sets that leave no choice, in the order of their files.
BANDS: dict[str, tuple[str, ...]] = {
    "sample": ("red", "green", "blue"),
    "landcoverai": ("red", "green", "blue"),
    "ghana": ("blue", "green", "red", "rededge1", "rededge2", "rededge3", "nir", "rededge4", "swir1", "swir2"),
}


def _distinct(values: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(values)) < len(values):
        raise ValueError("names one thing twice; name each once")
    return values


def _rising(dates: tuple[date, date]) -> tuple[date, date]:
    if dates[0] > dates[1]:
        raise ValueError("dataset.dates must rise from the first to the last")
    return dates


def _box(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    west, south, east, north = box
    if not (-180 <= west < east <= 180 and -90 <= south < north <= 90):
        raise ValueError("dataset.bbox must be [west, south, east, north] in degrees, west < east and south < north")
    return box


_REGIONS = {
    "africa": "af", "asia": "as", "australia": "au", "oceania": "au", "europe": "eu",
    "north america": "na", "south america": "sa", **{code: code for code in ("af", "as", "au", "eu", "na", "sa")},
}  # fmt: skip


def _region(value: object) -> object:
    if value in set(_REGIONS.values()):
        return value
    near = difflib.get_close_matches(str(value).lower(), _REGIONS, n=1, cutoff=0)[0]
    codes = "af (Africa), as (Asia), au (Australia and Oceania), eu (Europe), na and sa (North and South America)"
    raise ValueError(f"dataset.region = {value!r}: must be one of {codes}; did you mean {_REGIONS[near]}?")


def _chips(pattern: str, example: str) -> BeforeValidator:
    """Take a number, ids or nothing; YAML reads an id of digits without quotes as a number, so say what is wrong."""

    def check(value: object) -> object:
        ids = value if isinstance(value, list | tuple) else ()
        wrong = [each for each in ids if not (isinstance(each, str) and re.fullmatch(pattern, each))]
        if wrong:
            raise ValueError(f"dataset.chips: {wrong[0]!r} is no id of a chip; write it in quotes, as in [{example}]")
        count = type(value) is int and value > 0  # True is an int, too
        if not (value is None or count or ids):
            raise ValueError(
                f"dataset.chips = {value!r}: must be a number from 1, a list of ids such as [{example}], or null"
            )
        return value

    return BeforeValidator(check, json_schema_input_type=Annotated[int, Field(ge=1)] | list[str] | None)


_Dates = Annotated[tuple[date, date], AfterValidator(_rising)]


class LandCoverNetParams(Section):
    """LandCoverNet: Sentinel-2 chips of 2018, seven classes of land cover."""

    name: Literal["landcovernet"]
    """The data set. Paths under data/ and models/ carry this name."""
    region: Annotated[Literal["af", "as", "au", "eu", "na", "sa"], BeforeValidator(_region)]
    """Africa, Asia, Australia and Oceania, Europe, North America or South America."""
    chips: Annotated[int | tuple[str, ...] | None, _chips(r"\d\d[A-Z]{3}_\d\d", '"29NMG_21"')]
    """How many chips, drawn by the seed; or a list of ids, such as 29NMG_21; null: all."""
    seed: int = Field(ge=0)
    """Seed of the draw of chips."""
    bbox: Annotated[tuple[float, float, float, float], AfterValidator(_box)] | None = None
    """Only chips that touch this box, [west, south, east, north] in degrees; null: anywhere."""
    dates: _Dates
    """First and last date of images."""
    dates_per_chip: int | None = Field(ge=1)
    """How many dates of a chip to fetch, the clearest by their scene classification; null: all."""
    dates_per_quarter: int | None = Field(default=None, ge=1)
    """How many of them may be of one quarter of a year; null: any number."""
    bands: Annotated[tuple[Sentinel2Band, ...], Field(min_length=1), AfterValidator(_distinct)]
    """The bands to fetch."""
    score_unknown: bool = False
    """true: 'unknown' is a class to learn and to score, as in the paper; false: such pixels are ignored."""


class GhanaParams(Section):
    """Crop types in Ghana: Sentinel-2 chips of 2016 and 2017, 24 crops."""

    name: Literal["ghana"]
    """The data set. Paths under data/ and models/ carry this name."""
    chips: Annotated[int | tuple[str, ...] | None, _chips(r"\d{6}", '"002990"')]
    """How many chips, drawn by the seed; or a list of ids, such as "002990"; null: all."""
    seed: int = Field(ge=0)
    """Seed of the draw of chips."""
    dates: _Dates
    """First and last date of images."""
    dates_per_chip: int | None = Field(ge=1)
    """How many dates of a chip to fetch, the clearest by their cloud mask; null: all."""
    dates_per_quarter: int | None = Field(default=None, ge=1)
    """How many of them may be of one quarter of a year; null: any number."""
    lists: str | None
    """Where the published split lists ghana_train.txt, ghana_val.txt and ghana_test.txt lie (http or https), unless
    download.folder holds them; null: do without."""
    score_unknown: bool = False
    """true: 'unknown' is a class to learn and to score, as in the paper; false: such pixels are ignored."""


DatasetParams = Annotated[
    SampleParams | LandCoverAiParams | FolderParams | LandCoverNetParams | GhanaParams, Field(discriminator="name")
]


class DownloadParams(Section):
    """Where raw files come from."""

    folder: Path
    """A local folder to take files from. DVC watches it: a changed file in it re-runs download. May be empty."""
    source: Literal["source-coop", "mlhub", "local"] = "source-coop"
    """Where chips come from: Source Cooperative; a server that speaks Radiant MLHub's interface, named by the
    environment (MLHUB_ROOT_URL, MLHUB_API_KEY); or download.folder, laid out like either."""
    max_gb: float = Field(default=5, gt=0)
    """How much to fetch of chips at most, in 10^9 bytes; more is refused before anything is fetched."""
    url: str | None = None
    """Another address: of the archive, or of the S3 endpoint; null is the publisher's own."""
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    """What the archive must hash to; null is the publisher's own checksum."""
    timeout: float = Field(default=60, gt=0)
    """Seconds without a byte after which a connection counts as broken and is made anew."""
    attempts: int = Field(default=8, ge=1)
    """How often in a row to try without getting a single byte further, before giving up."""

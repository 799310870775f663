"""Names of bands: from descriptions and colour interpretations, else numbers."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from landseg.inspection.headers import Header
from landseg.inspection.pixels import Statistics
from landseg.raster.bands import ALPHA, described_bands, descriptions

# Names by which descriptions are understood, in the order of Sentinel-2.
_KNOWN = (
    "coastal", "blue", "green", "red", "rededge1", "rededge2", "rededge3", "rededge", "nir", "rededge4", "watervapour",
    "cirrus", "swir1", "swir2", "swir", "pan", "thermal", "alpha",
)  # fmt: skip
_RGB = ("red", "green", "blue")
# Number of values of a band without a description up to which it may be a mask or a code.
_FEW = 16
# Number of values of an alpha band, at most.
_ALPHA_VALUES = 8


@dataclass(frozen=True)
class BandNames:
    """Names of the bands of images, and how sure they are."""

    names: tuple[str, ...]
    evidence: str
    question: str = ""
    #: Names of bands that the network should not see, with the reason.
    left_out: tuple[tuple[str, str], ...] = ()

    @property
    def used(self) -> list[str]:
        """Names of the bands that the network sees."""
        left_out = {name for name, _ in self.left_out}
        return [name for name in self.names if name not in left_out and name != ALPHA]


def name_bands(header: Header, statistics: Statistics, code: str = "") -> BandNames:
    """Name the bands of images by the header of one of them and the values of a sample.

    Args:
        header: header of an image.
        statistics: values of a sample.
        code: code or name of the only band in the names of files; '' if there is none.
    """
    if code and not descriptions(header):
        return BandNames((code,), "from names of files")
    names, evidence, question = _names(header, statistics)
    return BandNames(names, evidence, question, tuple(_left_out(header, names, statistics)))


def _names(header: Header, statistics: Statistics) -> tuple[tuple[str, ...], str, str]:
    own = descriptions(header)
    if own:
        return _described(header, own)
    tagged = [colour if colour in _RGB else "" for colour in header.colours]
    if set(_RGB) <= set(tagged) and header.dtypes[0] == "uint8":
        last = "band4" if statistics.distinct[-1] > _ALPHA_VALUES else ALPHA
        names = [colour or (last if position == 3 else f"band{position + 1}") for position, colour in enumerate(tagged)]
        question = (
            f"is band 4 near infrared? It is tagged as {header.colours[3]}, but varies like imagery"
            if "band4" in names
            else ""
        )
        return tuple(names), "from colour interpretations in the files", question
    if header.count == 3 and header.dtypes[0] == "uint8":
        return _RGB, "assumed: three bands of uint8", "are the bands red, green and blue, in this order?"
    names = [f"band{index}" for index in header.indexes]
    return (
        tuple(names),
        "numbers: files describe no band",
        f"which bands are these? Name {header.count}, such as blue, green, red, nir",
    )


def _described(header: Header, own: dict[int, str]) -> tuple[tuple[str, ...], str, str]:
    found = {
        index: name
        for name, indexes in described_bands(header, _KNOWN).items()
        for index in indexes
        if len(indexes) == 1
    }
    names = [found.get(index) or _plain(own.get(index, f"band{index}")) for index in header.indexes]
    names = [f"{name}_{position}" if name in names[: position - 1] else name for position, name in enumerate(names, 1)]
    listed = ", ".join(own.values())
    unsure = [name for name, index in zip(names, header.indexes, strict=True) if index not in found]
    radar = all(name.upper() in ("VV", "VH", "HH", "HV") for name in unsure)
    question = (
        f"what are {', '.join(unsure)}? Give bands their common names, such as nir" if unsure and not radar else ""
    )
    return tuple(names), f"from descriptions in the files: {listed}", question


def _plain(text: str) -> str:
    return re.sub(r"\W+", "_", text).strip("_") or "band"


def _left_out(header: Header, names: Sequence[str], statistics: Statistics) -> list[tuple[str, str]]:
    """Return the bands that have one value, or few and no description."""
    own, few = descriptions(header), []
    if not statistics.valid or len(names) <= 3:
        return []
    for position, (name, distinct) in enumerate(zip(names, statistics.distinct, strict=False)):
        low, high = statistics.levels[position, [0, 3]]
        if name != ALPHA and distinct == 1:
            few.append((name, f"has one value, {low:g}"))
        elif name != ALPHA and distinct <= _FEW and position + 1 not in own:
            few.append((name, f"has {distinct} values, {low:g} to {high:g}, as a mask or a code"))
    return few

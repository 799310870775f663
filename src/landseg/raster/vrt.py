"""Virtual rasters (VRT): the files that they read. A VRT from elsewhere could read any file, or send requests."""

from pathlib import Path, PurePath
from xml.etree import ElementTree

from landseg.core.errors import LandsegError

# Size of a VRT, bytes, above which it is not parsed, and the text that it begins with.
_MAX_BYTES, _MAGIC = 16 << 20, b"<VRTDataset"
# Bands that read raw bytes of any file, and those that run code.
_REFUSED_BANDS = ("VRTRawRasterBand", "VRTDerivedRasterBand")
_SOURCES = ("SourceFilename", "SourceDataset")


def is_vrt(path: Path) -> bool:
    """Return whether a file is a VRT, by its beginning."""
    with path.open("rb") as file:
        return _MAGIC in file.read(4096)


def vrt_sources(path: Path) -> list[Path]:
    """Return the files that a VRT reads.

    Args:
        path: the VRT.

    Raises:
        LandsegError: it is not valid XML, or it reads anything but files by paths relative to itself that lie beside or
            below its parent folder, or it contains raw or derived bands.
    """
    if path.stat().st_size > _MAX_BYTES:
        raise LandsegError(f"{path}: over {_MAX_BYTES >> 20} MiB, too long for a VRT; build it again with gdalbuildvrt")
    try:
        root = ElementTree.parse(path).getroot()  # noqa: S314  # expat limits the expansion of entities
    except ElementTree.ParseError as error:
        raise LandsegError(f"{path}: not a valid VRT ({error}); build it again with gdalbuildvrt") from None
    for band in root.iter("VRTRasterBand"):
        if band.get("subClass") in _REFUSED_BANDS:
            raise LandsegError(
                f"{path}: contains a {band.get('subClass')}, which may read any bytes or run code; convert it to "
                "GeoTIFF with gdal_translate"
            )
    elements = [element for element in root.iter() if element.tag in _SOURCES]
    if not elements:
        raise LandsegError(f"{path}: reads no file; build it again with gdalbuildvrt")
    return list(dict.fromkeys(_source(path, element) for element in elements))


def _source(path: Path, element: ElementTree.Element) -> Path:
    name = (element.text or "").strip()
    is_relative = element.get("relativeToVRT") == "1" and not PurePath(name).is_absolute()
    if not is_relative or name.startswith(("/vsi", "\\")) or ":" in name:
        raise LandsegError(
            f'{path}: reads {name!r}, which is no path relative to it (relativeToVRT="1"); build it again with '
            "gdalbuildvrt from files beside it"
        )
    source = path.parent / name
    if not source.is_file():
        raise LandsegError(f"{path}: reads {name!r}, which is not there; add the file, or build the VRT again")
    if is_vrt(source):
        raise LandsegError(f"{path}: reads {name!r}, another VRT; build it again from the rasters themselves")
    return source

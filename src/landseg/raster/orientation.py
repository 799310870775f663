"""Orientation tags of images, by which viewers turn or mirror them."""

import struct
from pathlib import Path
from typing import Any, BinaryIO

import PIL.Image
from PIL import ExifTags
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from landseg.core.errors import LandsegError


def require_upright(source: Any, path: Path) -> None:
    """Refuse images that viewers and annotation tools turn or mirror by a tag, which GDAL does not.

    Args:
        source: the open file.
        path: its path.

    Raises:
        LandsegError: the file has such a tag.
    """
    orientation = _orientation(source, path)
    if orientation > 1:
        raise LandsegError(
            f"{path}: has the orientation tag {orientation}: viewers turn or mirror it, so it is unclear which form "
            "its mask fits; write the pixels upright without the tag (mogrify -auto-orient)"
        )


def _orientation(source: Any, path: Path) -> int:
    """Return the EXIF or TIFF orientation of a file, 1 to 8; 0 if it has none."""
    if source.driver == "JPEG":
        return int(source.tags().get("EXIF_Orientation", 0))
    reader = {"PNG": _png_orientation, "GTiff": _tiff_orientation}.get(source.driver)
    if reader is None:
        return 0
    try:
        with path.open("rb") as file:
            return reader(file)
    except (OSError, SyntaxError, ValueError, struct.error):  # a tag that Pillow cannot read turns no image
        return 0


def _png_orientation(file: BinaryIO) -> int:
    exif = PIL.Image.Exif()
    exif.load(PngImageFile(file).info.get("exif", b""))  # getexif() would decode the pixels of files without the tag
    return int(exif.get(ExifTags.Base.Orientation, 0))


def _tiff_orientation(file: BinaryIO) -> int:
    header = file.read(8)
    directory = ImageFileDirectory_v2(header + (file.read(8) if header[2] == 43 else b""))  # 43: BigTIFF
    file.seek(directory.next)
    directory.load(file)
    return int(directory.get(ExifTags.Base.Orientation, 0))

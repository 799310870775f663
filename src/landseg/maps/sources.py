"""What is read, so that nothing is written over it."""

from collections.abc import Iterable
from pathlib import Path

from landseg.core.errors import LandsegError
from landseg.raster.io import opened


def raster_files(location: Path | str) -> list[Path]:
    """Return the files that a raster is read from, with those that it refers to, as a VRT does.

    Raises:
        LandsegError: it is missing, or is no raster.
    """
    with opened(location) as source:
        return [Path(name) for name in source.files]


def require_inputs_kept(inputs: Iterable[Path], outputs: Iterable[Path]) -> None:
    """Refuse to write over what is read.

    Raises:
        LandsegError: a file is both.
    """
    sources = {file.resolve() for file in inputs}
    for path in outputs:
        if path.resolve() in sources:
            raise LandsegError(f"{path}: is an input itself, which would be written over; name another --out")

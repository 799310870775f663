"""Input files of rasters, protected from being overwritten."""

from collections.abc import Iterable
from pathlib import Path

from landseg.core.errors import LandsegError
from landseg.raster.io import open_raster


def raster_files(location: Path | str) -> list[Path]:
    """Return the files of a raster, including files that it refers to, as a VRT does.

    Raises:
        LandsegError: the file is missing or not a raster.
    """
    with open_raster(location) as source:
        return [Path(name) for name in source.files]


def require_inputs_kept(inputs: Iterable[Path], outputs: Iterable[Path]) -> None:
    """Require that no output is an input.

    Raises:
        LandsegError: a file is both.
    """
    sources = {file.resolve() for file in inputs}
    for path in outputs:
        if path.resolve() in sources:
            raise LandsegError(f"{path}: is an input and would be overwritten; choose another --out")

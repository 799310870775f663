"""Input files of rasters: given by patterns, and protected from being overwritten."""

import glob
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


def expand(pattern: str) -> list[str]:
    """Return the files that match a pattern, sorted; a location without wildcards as it is.

    Raises:
        LandsegError: no file matches.
    """
    if not glob.has_magic(pattern) or "://" in pattern or Path(pattern).exists():
        return [pattern]
    matches = glob.glob(pattern, recursive=True)  # noqa: PTH207  # Path.glob takes no absolute patterns
    found = sorted(path for path in matches if Path(path).is_file())
    if not found:
        raise LandsegError(f"{pattern}: no file matches; correct the pattern")
    return found

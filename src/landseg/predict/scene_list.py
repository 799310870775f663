"""Lists of many scenes: patterns and files that list them."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from landseg.core.errors import LandsegError
from landseg.core.tables import read_text_csv
from landseg.maps.sources import expand

# Columns of a CSV file that lists scenes.
_SCENE, _DATE = "scene", "date"


def list_scenes(given: Sequence[str], listed: Path | None, dataset: str | None) -> tuple[list[str], dict[str, str]]:
    """Return the locations of scenes, and the dates of acquisition that a list gives.

    Args:
        given: paths, addresses or patterns such as scenes/**/*.tif; with a dataset, names.
        listed: a file that lists more: text with a path or an address per line, or a CSV file with a column scene and,
            optionally, date. Paths are relative to the current folder. Empty lines and those that begin with # do not
            count.
        dataset: the dataset, or None.

    Raises:
        LandsegError: there are no scenes, a pattern has no file, or the list cannot be read.
    """
    locations = list(given) if dataset else [location for pattern in given for location in expand(pattern)]
    dates: dict[str, str] = {}
    for location, date in _read(listed) if listed else ():
        locations.append(location)
        if date:
            dates[location] = date
    if not locations:
        source = f"{listed}: lists no scene" if listed else "no scene given"
        raise LandsegError(f"{source}; give paths, addresses, a quoted pattern, or --scenes FILE")
    return locations, dates


def _read(path: Path) -> Iterator[tuple[str, str]]:
    """Yield location and date, or ''."""
    try:
        if path.suffix.lower() != ".csv":
            lines = (line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines())
            yield from ((line, "") for line in lines if line and not line.startswith("#"))
            return
        header, rows = read_text_csv(path)
    except FileNotFoundError:
        raise LandsegError(f"{path}: file not found; correct --scenes") from None
    except (UnicodeDecodeError, IsADirectoryError):
        raise LandsegError(f"{path}: not UTF-8 text; give a text or CSV file that lists scenes") from None
    if _SCENE not in header:
        raise LandsegError(f"{path}: no column {_SCENE!r} among {', '.join(header)}; add it")
    yield from ((row[_SCENE], row.get(_DATE, "")) for row in rows if row[_SCENE])

"""All that `landseg change` writes of two maps."""

from pathlib import Path

from landseg.errors import LandsegError
from landseg.maps.change import legend, measured, opened_pair, write_raster
from landseg.maps.change_estimate import by_matrices, by_points
from landseg.maps.change_patches import patches
from landseg.maps.change_report import report, write_csv
from landseg.maps.flow import write_flow
from landseg.maps.reference import read_matrices
from landseg.maps.vectors import write_polygons

#: What is written, in the folder.
RASTER, TABLE, POLYGONS, FIGURE = "change.tif", "change.csv", "change.gpkg", "change.png"


def require_new(folder: Path) -> None:
    """Refuse to write over anything.

    Raises:
        LandsegError: an output is there.
    """
    for name in (RASTER, TABLE, POLYGONS, FIGURE):
        if (folder / name).exists():
            raise LandsegError(f"{folder / name}: is already there; name another --out, or say --overwrite")


def write_change(
    before: Path | str,
    after: Path | str,
    folder: Path,
    points: Path | None = None,
    matrix: str | None = None,
    min_area: float | None = None,
) -> str:
    """Write raster, matrix, polygons and figure of what changed between two maps, and return the report.

    Args:
        before: the first map, whose grid counts.
        after: the second.
        folder: where the files go.
        points: a table of reference points with a class before and one after.
        matrix: where the confusion matrices of a model's test part are (see landseg.maps.reference.read_matrices).
        min_area: the area that a patch has at least, m²; None: a few pixels.

    Raises:
        LandsegError: a map or a reference cannot be read or does not suit the other, or the disk is full.
    """
    if points is not None and matrix is not None:
        raise LandsegError(f"{points} and {matrix}: are two references; give points, or a matrix")
    with opened_pair(before, after) as pair:
        matrices = None if matrix is None else read_matrices(matrix, pair.classes)
        change = measured(pair)
        found = patches(pair, min_area)
        adjusted = None
        if points is not None:
            adjusted = by_points(pair, change, points)
        elif matrices is not None:
            adjusted = by_matrices(change, matrices)
        write_raster(pair, change, folder / RASTER)
    write_csv(change, adjusted, folder / TABLE)
    write_polygons(found.frame, folder / POLYGONS, legend(change), "change")
    write_flow(change, folder / FIGURE)
    return report(change, found, adjusted)

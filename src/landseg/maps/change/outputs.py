"""All that `landseg change` writes of two maps."""

from collections.abc import Sequence
from pathlib import Path

from landseg.core.classes import ClassTable
from landseg.core.errors import LandsegError
from landseg.core.files import require_new
from landseg.maps.change.estimate import estimate_from_matrices, estimate_from_points
from landseg.maps.change.pair import change_legend, measure_change, open_map_pair, write_change_raster
from landseg.maps.change.patches import find_patches
from landseg.maps.change.report import change_report, write_change_table
from landseg.maps.change.sankey import write_flow_figure
from landseg.maps.class_map import map_files
from landseg.maps.polygons import write_polygons
from landseg.maps.reference import read_matrices, read_points
from landseg.maps.sources import raster_files, require_inputs_kept
from landseg.raster.grid import Grid
from landseg.raster.pixel_area import gsd
from landseg.results.revisions import load_run

#: What is written, in the folder.
RASTER, TABLE, POLYGONS, FIGURE = "change.tif", "change.csv", "change.gpkg", "change.png"


def change_outputs(folder: Path) -> list[Path]:
    """Return all that is written."""
    return [*map_files(folder / RASTER), *(folder / name for name in (TABLE, POLYGONS, FIGURE))]


def require_change_inputs(
    locations: Sequence[Path | str], folder: Path, points: Path | None, matrix: str | None, overwrite: bool
) -> None:
    """Refuse what would fail later.

    Args:
        locations: of the maps, as far as they are there already.
        folder: where the files are to go.
        points: of a reference, or None.
        matrix: of the other kind of reference, or None.
        overwrite: whether files that are there are to be replaced.

    Raises:
        LandsegError: a file is there, or is an input; two references are given, or one is not there.
    """
    references = [Path(name) for name in (points, matrix) if name is not None]
    require_inputs_kept(
        [*references, *(file for location in locations for file in raster_files(location))], change_outputs(folder)
    )
    require_new(change_outputs(folder), overwrite)
    if points is not None and matrix is not None:
        raise LandsegError(f"{points} and {matrix}: are two references; give points, or a matrix")
    if points is not None and not points.is_file():
        raise LandsegError(f"{points}: not there; correct the path")
    if matrix is not None and not Path(matrix).is_file():
        load_run(matrix)


def require_change_maps(
    classes: ClassTable, grids: Sequence[Grid], points: Path | None, matrix: str | None, min_area: float | None
) -> None:
    """Refuse maps that are still to be made, where `write_change` would refuse them.

    Args:
        classes: they will have.
        grids: they will lie on.
        points: see `write_change`.
        matrix: likewise.
        min_area: likewise.

    Raises:
        LandsegError: a reference is of other classes or cannot be read, or areas are wanted and cannot be known.
    """
    if matrix is not None:
        read_matrices(matrix, classes)
    if points is not None:
        for column in ("before", "after"):
            read_points(points, classes, column)
    lacking = [grid.name for grid in grids if gsd(grid) is None]
    if min_area is not None and lacking:
        raise LandsegError(f"--min-area: a pixel of {lacking[0]} has no known area, for want of a CRS; leave it out")


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
    with open_map_pair(before, after) as pair:
        matrices = None if matrix is None else read_matrices(matrix, pair.classes)
        change = measure_change(pair)
        found = find_patches(pair, min_area)
        adjusted = None
        if points is not None:
            adjusted = estimate_from_points(pair, change, points)
        elif matrices is not None:
            adjusted = estimate_from_matrices(change, matrices)
        write_change_raster(pair, change, folder / RASTER)
    write_change_table(change, adjusted, folder / TABLE)
    write_polygons(found.frame, folder / POLYGONS, change_legend(change), "change")
    write_flow_figure(change, folder / FIGURE)
    return change_report(change, found, adjusted)

"""Output files of `landseg change`."""

from collections.abc import Sequence
from pathlib import Path

from landseg.core.classes import ClassTable
from landseg.core.errors import LandsegError
from landseg.core.files import require_new
from landseg.maps.change.estimate import estimate_from_points
from landseg.maps.change.limit import limit_change
from landseg.maps.change.pair import change_legend, measure_change, open_map_pair, write_change_raster
from landseg.maps.change.patches import find_patches, require_memory
from landseg.maps.change.report import change_report, write_change_table
from landseg.maps.change.sankey import write_flow_figure
from landseg.maps.class_map import map_files
from landseg.maps.polygons import write_polygons
from landseg.maps.reference import read_matrices, read_points
from landseg.maps.sources import raster_files, require_inputs_kept
from landseg.maps.task_runner import ONE_AFTER_ANOTHER, TaskRunner
from landseg.raster.grid import Grid
from landseg.raster.pixel_area import ground_sampling_distance
from landseg.results.revisions import load_run

#: Names of the output files.
RASTER, TABLE, POLYGONS, FIGURE = "change.tif", "change.csv", "change.gpkg", "change.png"


def change_outputs(folder: Path) -> list[Path]:
    """Return the paths of all output files."""
    return [*map_files(folder / RASTER), *(folder / name for name in (TABLE, POLYGONS, FIGURE))]


def require_change_inputs(
    locations: Sequence[Path | str], folder: Path, points: Path | None, matrix: str | None, overwrite: bool
) -> None:
    """Check inputs and outputs before any computation.

    Args:
        locations: the existing maps; empty if they are yet to be made.
        folder: the output folder.
        points: a table of reference points, or None.
        matrix: source of confusion matrices, or None.
        overwrite: whether existing output files may be replaced.

    Raises:
        LandsegError: an output exists or is an input, two references are given, or a reference is missing.
    """
    references = [Path(name) for name in (points, matrix) if name is not None]
    require_inputs_kept(
        [*references, *(file for location in locations for file in raster_files(location))], change_outputs(folder)
    )
    require_new(change_outputs(folder), overwrite)
    if points is not None and matrix is not None:
        raise LandsegError(f"{points} and {matrix}: two references; give --points or --matrix")
    if points is not None and not points.is_file():
        raise LandsegError(f"{points}: file not found; correct the path")
    if matrix is not None and not Path(matrix).is_file():
        load_run(matrix)


def require_change_maps(
    classes: ClassTable, grids: Sequence[Grid], points: Path | None, matrix: str | None, min_area: float | None
) -> None:
    """Check that `write_change` will accept maps that are yet to be made.

    Args:
        classes: class table of the maps.
        grids: grids of the maps.
        points: see `write_change`.
        matrix: see `write_change`.
        min_area: see `write_change`.

    Raises:
        LandsegError: a reference is unreadable or has other classes, `min_area` is given but a CRS is missing, or
            memory is too small.
    """
    if matrix is not None:
        read_matrices(matrix, classes)
    if points is not None:
        for column in ("before", "after"):
            read_points(points, classes, column)
    for grid in grids[:1]:  # that of both maps
        require_memory(grid)
    unplaced = [grid.name for grid in grids if ground_sampling_distance(grid) is None]
    if min_area is not None and unplaced:
        raise LandsegError(f"--min-area: pixel areas of {unplaced[0]} are unknown, because it has no CRS; omit it")


def write_change(
    before: Path | str,
    after: Path | str,
    folder: Path,
    points: Path | None = None,
    matrix: str | None = None,
    min_area: float | None = None,
    run: TaskRunner = ONE_AFTER_ANOTHER,
) -> str:
    """Write the change between two maps as raster, table, polygons and figure, and return the report.

    Args:
        before: the first map; its grid is used.
        after: the second map.
        folder: the output folder.
        points: a table of reference points with the class columns before and after.
        matrix: source of confusion matrices (see `landseg.maps.reference.read_matrices`).
        min_area: smallest area of a patch, m²; None: `landseg.maps.change.patches.MIN_PIXELS`.
        run: where the maps are compared; in this process by default. The files do not depend on it.

    Raises:
        LandsegError: a map or reference is unreadable or they do not match, memory is too small, or the disk is full.
    """
    with open_map_pair(before, after) as pair:
        require_memory(pair.grid)
        matrices = None if matrix is None else read_matrices(matrix, pair.classes)
        change = measure_change(pair, run)
        found = find_patches(pair, min_area, run)
        estimate = None if points is None else estimate_from_points(pair, change, points)
        limit = None if matrices is None else limit_change(change, matrices)
        write_change_raster(pair, change, folder / RASTER)
    write_change_table(change, estimate, folder / TABLE)
    write_polygons(found.frame, folder / POLYGONS, change_legend(change), "change")
    write_flow_figure(change, folder / FIGURE)
    return change_report(change, found, estimate, limit)

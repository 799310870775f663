"""The report of `landseg change`: hectares from class to class, and in plain words what they are worth."""

import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from rich.markup import escape
from rich.table import Column, Table

from landseg.comparison import FEW
from landseg.datasets.classes import names
from landseg.files import atomic
from landseg.maps.change import Change
from landseg.maps.change_estimate import LEAST_POINTS, Adjusted, Points
from landseg.maps.change_patches import Patches
from landseg.maps.wording import lines, share
from landseg.metrics import Floats, pixel_accuracy

# How many changes are listed, and how many names a sentence has.
_LISTED, _NAMED = 10, 3
# With more classes than these, the columns of the matrix are called by ids, for names would be wider than a terminal.
_ROOMY = 8

_UNKNOWN = (
    "A difference of two maps holds the errors of both, and nothing here says how large they are: of two maps that are "
    "each wrong in 5 % of their pixels, nearly 10 % may seem to have changed where nothing did. For the error give "
    "--points, a table of reference points with their class before and after, or --matrix, the revision of the model "
    "that made the maps."
)
_INDEPENDENT = (
    "The adjusted areas take errors at one date for independent of those at the other; mistakes at both dates are "
    "usually alike in the same places, so change may be under- or overestimated."
)


def report(change: Change, patches: Patches | None = None, adjusted: Adjusted | None = None) -> str:
    """Return what `landseg change` prints."""
    whole = change.areas.sum()
    said = [
        f"{change.before} → {change.after}: {change.pixels.sum():,} pixels with a class on both, "
        f"{change.only_before:,} on the first alone, {change.only_after:,} on the second alone",
        *([change.note] if change.note else []),
        "",
        f"{change.unit} from a class (rows) to a class (columns):",
        *lines(_matrix(change)),
        "",
        f"Changed: {change.written(change.changed)} {change.unit}, {share(change.changed / whole)} of "
        f"{change.written(whole)} {change.unit}.",
    ]
    if change.changed or (adjusted is not None and adjusted.changed > 0):
        said += ["", *lines(_largest(change, adjusted)), ""]
    if patches is not None:
        said += _of_patches(change, patches)
    said += [_UNKNOWN] if adjusted is None else _of_reference(change, adjusted)
    return "\n".join(said)


def write_csv(change: Change, adjusted: Adjusted | None, path: Path) -> None:
    """Write the figures in full, a row a change that occurs, unchanged ones too, the largest first.

    Areas are in hectares, or in pixels where no ground area is known; cells are empty where something is not known.

    Raises:
        LandsegError: the disk is full, or the folder cannot be written.
    """
    most = change.areas if adjusted is None else np.fmax(change.areas, adjusted.areas)
    head = ["before_id", "before", "after_id", "after", "pixels", "unit", "mapped", "share"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head + ([] if adjusted is None else ["adjusted", "adjusted_low", "adjusted_high"]))
    for before, after in _largest_first(most):
        start, end, area = change.classes[before], change.classes[after], change.areas[before, after]
        row = [start.id, start.name, end.id, end.name, int(change.pixels[before, after]), change.unit]
        row += [float(area), float(area / change.areas.sum())]
        if adjusted is not None:
            figures = [adjusted.areas[before, after], *adjusted.intervals[before, after]]
            row += [float(figure) if np.isfinite(figure) else "" for figure in figures]
        writer.writerow(row)
    with atomic(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


def _largest_first(areas: Floats) -> list[tuple[int, int]]:
    """Return row and column of all areas but 0."""
    order = np.argsort(-areas, axis=None, kind="stable")[: np.count_nonzero(areas)]
    rows, columns = np.unravel_index(order, areas.shape)
    return list(zip(rows.tolist(), columns.tolist(), strict=True))


def _matrix(change: Change) -> Table:
    """Return the matrix of the classes that occur, with the sums of its rows and columns."""
    occurs = np.flatnonzero(change.pixels.any(axis=0) | change.pixels.any(axis=1))
    roomy, written = len(occurs) <= _ROOMY, change.written
    classes = [change.classes[k] for k in occurs]
    rows = [each.name if roomy else f"{each.id} {each.name}" for each in classes]
    columns = [each.name if roomy else str(each.id) for each in classes]
    areas = change.areas[np.ix_(occurs, occurs)]
    found = change.pixels[np.ix_(occurs, occurs)]
    table = Table(
        "", *(Column(escape(name), justify="right") for name in [*columns, "before"]), box=None, pad_edge=False
    )
    for row, name in enumerate(rows):
        cells = [written(area) if pixels else "·" for area, pixels in zip(areas[row], found[row], strict=True)]
        table.add_row(escape(name), *cells, written(areas[row].sum()))
    table.add_row("after", *(written(area) for area in areas.sum(axis=0)), written(areas.sum()))
    return table


def _largest(change: Change, adjusted: Adjusted | None) -> Table:
    """Return the changes of most area, as mapped or as adjusted."""
    written, called = change.written, names(change.classes)
    most = change.areas if adjusted is None else np.fmax(change.areas, adjusted.areas)
    found = _largest_first(most * ~np.eye(len(called), dtype=np.bool_))
    right = [f"mapped {change.unit}", "share"]
    if adjusted is not None:
        right += [f"adjusted {change.unit}", "95 % interval"]
    title = "change" if len(found) <= _LISTED else f"the {_LISTED} largest of {len(found):,} changes"
    table = Table(title, *(Column(name, justify="right") for name in right), box=None, pad_edge=False)
    for before, after in found[:_LISTED]:
        area = change.areas[before, after]
        cells = [written(area), share(area / change.areas.sum())]
        if adjusted is not None:
            ends = _ends(adjusted.intervals[before, after], written)
            true = adjusted.areas[before, after]
            cells += ["–" if np.isnan(true) else written(true), ends or "–"]
        table.add_row(escape(f"{called[before]} → {called[after]}"), *cells)
    return table


def _of_patches(change: Change, patches: Patches) -> Iterator[str]:
    count = len(patches.frame)
    drawn = f"Polygons: {count:,} patch{'' if count == 1 else 'es'} of change"
    if not patches.dropped:
        yield f"{drawn}, all there are."
        return
    several = patches.dropped != 1
    yield (
        f"{drawn}; {patches.dropped:,} smaller than {patches.least} {'are' if several else 'is'} left out, "
        f"{change.written(patches.dropped_area)} {change.unit}, {share(patches.dropped_area / change.changed)} of "
        "what changed."
    )


def _of_reference(change: Change, adjusted: Adjusted) -> Iterator[str]:
    ends = _ends(adjusted.changed_interval, change.written)
    interval = f", 95 % interval {ends}" if ends else ""
    yield (
        f"Adjusted: {change.written(adjusted.changed)} {change.unit} changed{interval}; mapped are "
        f"{change.written(change.changed)}."
    )
    if adjusted.points is not None:
        yield from _of_points(change, adjusted.points)
    if adjusted.matrices is not None:
        yield from _of_matrices(change, adjusted)


def _of_points(change: Change, points: Points) -> Iterator[str]:
    where = {"outside the maps": points.outside, "where a map has no data": points.blank}
    left = " and ".join(f"{count:,} {place}" for place, count in where.items() if count)
    yield (
        "A difference of two maps holds the errors of both; the points tell how much of the change is error. "
        f"Reference: {points.on.sum():,} points of {points.name}{left and f' ({left} left out)'}. The figures hold "
        "where these were drawn at random, from the whole map or from each change (Olofsson et al. 2014)."
    )
    if points.left_out.any():
        area = points.left_out.sum()
        yield (
            f"Fewer than {LEAST_POINTS} points lie on what is mapped as {_named(change, points.left_out)}: "
            f"{change.written(area)} {change.unit}, {share(area / change.areas.sum())} of the map, are left out of "
            "the adjusted areas."
        )


def _of_matrices(change: Change, adjusted: Adjusted) -> Iterator[str]:
    matrices, units = adjusted.matrices, adjusted.units or 0
    if matrices is None:
        return
    error, changed = 1 - pixel_accuracy(matrices.matrices.sum(axis=0)), change.changed / change.areas.sum()
    verdict = "less than the error of one map alone" if changed < error else "more than the error of one map"
    yield (
        f"A difference of two maps holds the errors of both. By {matrices.title}, {share(error)} of the pixels of one "
        f"map are wrong; {share(changed)} are mapped as changed, {verdict}."
    )
    yield _INDEPENDENT
    places = matrices.noun
    if places is None:
        yield "No interval can be given: pixels of one place are alike, and it does not say which are of one."
    elif units < LEAST_POINTS:
        yield f"No interval can be given: it is of one of the {places} alone."
    else:
        yield f"Intervals are drawn over {units:,} {places}{', too few to rely on them' if units < FEW else ''}."
    yield (
        "The test part is no random sample of the mapped area: the figures hold only as far as that resembles the test "
        f"{places or 'places'}."
    )
    if matrices.leak:
        yield f"{share(matrices.leak)} of its tiles share an edge with a training tile: errors look too small."


def _named(change: Change, areas: Floats) -> str:
    """Name the largest of some changes, (K, K) areas, and count the others."""
    called, pairs = names(change.classes), _largest_first(areas)
    told = [f"unchanged {called[a]}" if a == b else f"{called[a]} → {called[b]}" for a, b in pairs[:_NAMED]]
    return ", ".join(told) + (f" and {len(pairs) - _NAMED:,} more" if len(pairs) > _NAMED else "")


def _ends(ends: Floats, written: Callable[[float], str]) -> str:
    low, high = ends
    return "" if np.isnan(low) else f"{written(low)} to {written(high)}"

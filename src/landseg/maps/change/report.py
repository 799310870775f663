"""The report of `landseg change`: hectares from class to class, and in plain words what they are worth."""

import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.markup import escape
from rich.table import Column, Table

from landseg.core.arrays import Floats
from landseg.core.classes import names
from landseg.core.files import atomic
from landseg.maps.change.error_model import changed_area
from landseg.maps.change.estimate import MIN_POINTS, ChangeEstimate, ChangePoints, ModelErrors
from landseg.maps.change.pair import ChangeMatrix
from landseg.maps.change.patches import ChangePatches
from landseg.maps.estimator import FEW_POINTS
from landseg.maps.formatting import percent, table_lines
from landseg.metrics import pixel_accuracy
from landseg.results.wording import FEW_UNITS

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
_AT_RANDOM = (
    "That holds where points were drawn at random from the whole map; where they were drawn from "
    "each change, add some there."
)
_AGREED = "– for an interval: all points agree, and that no error was seen does not mean that there is none."


def change_report(
    change: ChangeMatrix, patches: ChangePatches | None = None, adjusted: ChangeEstimate | None = None
) -> str:
    """Return what `landseg change` prints."""
    whole = change.areas.sum()
    said = [
        f"{change.before} → {change.after}: {change.pixels.sum():,} pixels with a class on both, "
        f"{change.only_before:,} on the first alone, {change.only_after:,} on the second alone",
        *([change.note] if change.note else []),
        "",
        f"{change.unit} from a class (rows) to a class (columns):",
        *table_lines(_matrix(change)),
        "",
        f"Changed: {change.written(change.changed)} {change.unit}, {percent(change.changed / whole)} of "
        f"{change.written(whole)} {change.unit}.",
    ]
    if change.changed or (adjusted is not None and adjusted.changed > 0):
        said += ["", *table_lines(_largest(change, adjusted)), ""]
    if patches is not None:
        said += _of_patches(change, patches)
    said += [_UNKNOWN] if adjusted is None else _of_reference(change, adjusted)
    return "\n".join(said)


def write_change_table(change: ChangeMatrix, adjusted: ChangeEstimate | None, path: Path) -> None:
    """Write the figures in full, a row a change that occurs, unchanged ones too, the largest first.

    Areas are in hectares, or in pixels where no ground area is known; cells are empty where something is not known,
    adjusted_high where it has no upper end.

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


def _matrix(change: ChangeMatrix) -> Table:
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


def _largest(change: ChangeMatrix, adjusted: ChangeEstimate | None) -> Table:
    """Return the changes of most area, as mapped or as adjusted."""
    written, called = change.written, names(change.classes)
    most = change.areas if adjusted is None else np.fmax(change.areas, adjusted.areas)
    found = _largest_first(most * ~np.eye(len(called), dtype=np.bool_))
    right = [f"mapped {change.unit}", "share"]
    if adjusted is not None and adjusted.places is None:
        right += [f"adjusted {change.unit}", "95 % interval"]
    elif adjusted is not None:
        right += [f"{change.unit} if errors are independent", "95 % interval, if so"]
    title = "change" if len(found) <= _LISTED else f"the {_LISTED} largest of {len(found):,} changes"
    table = Table(title, *(Column(name, justify="right") for name in right), box=None, pad_edge=False)
    for before, after in found[:_LISTED]:
        area = change.areas[before, after]
        cells = [written(area), percent(area / change.areas.sum())]
        if adjusted is not None:
            cells += _adjusted(adjusted, (before, after), written)
        table.add_row(escape(f"{called[before]} → {called[after]}"), *cells)
    return table


def _of_patches(change: ChangeMatrix, patches: ChangePatches) -> Iterator[str]:
    count = len(patches.frame)
    drawn = f"Polygons: {count:,} patch{'' if count == 1 else 'es'} of change"
    if not patches.dropped:
        yield f"{drawn}, all there are."
        return
    several = patches.dropped != 1
    yield (
        f"{drawn}; {patches.dropped:,} smaller than {patches.least} {'are' if several else 'is'} left out, "
        f"{change.written(patches.dropped_area)} {change.unit}, {percent(patches.dropped_area / change.changed)} of "
        "what changed."
    )


def _adjusted(adjusted: ChangeEstimate, at: tuple[int, int], written: Callable[[float], str]) -> list[str]:
    """Return an adjusted area and its interval, as they stand in the table."""
    true, ends = adjusted.areas[at], _ends(adjusted.intervals[at], written) or "–"
    if np.isnan(true):
        return ["–", "–"]
    least = "≥ " if adjusted.points is not None and adjusted.points.left_out[at] else ""
    return [least + written(true), ends]


def _of_reference(change: ChangeMatrix, adjusted: ChangeEstimate) -> Iterator[str]:
    if adjusted.points is not None:
        yield from _of_points(change, adjusted, adjusted.points)
    if adjusted.places is not None:
        yield from _of_places(change, adjusted, adjusted.places)


def _of_points(change: ChangeMatrix, adjusted: ChangeEstimate, points: ChangePoints) -> Iterator[str]:
    written, unit = change.written, change.unit
    ends = _ends(adjusted.changed_interval, written)
    covered = np.where(points.left_out, 0, change.areas)
    of = f", of the {written(covered.sum())} {unit} that points cover" if points.left_out.any() else ""
    yield (
        f"ChangeEstimate: {written(adjusted.changed)} {unit} changed{ends and f', 95 % interval {ends}'}{of}; mapped "
        f"{'there ' if of else ''}are {written(float(changed_area(covered)))}."
    )
    where = {"outside the maps": points.outside, "where a map has no data": points.blank}
    left = " and ".join(f"{count:,} {place}" for place, count in where.items() if count)
    yield (
        "A difference of two maps holds the errors of both; the points tell how much of the change is error. "
        f"Reference: {points.on.sum():,} points of {points.name}{left and f' ({left} left out)'}. The figures hold "
        "where these were drawn at random, from the whole map or from each change (Olofsson et al. 2014)."
    )
    if points.repeats:
        yield points.repeats
    if points.left_out.any():
        yield _left_out(change, adjusted, points)
    yield from _of_strata(change, points)
    yield from _unseen(change, points)
    if np.isnan(adjusted.intervals[(change.areas > 0) & ~points.left_out, 0]).any() or not ends:
        yield _AGREED


def _left_out(change: ChangeMatrix, adjusted: ChangeEstimate, points: ChangePoints) -> str:
    area = change.areas[points.left_out].sum()
    found = (adjusted.areas[points.left_out] > 0).any()
    least = "; ≥ is what other points found of such a change, and there may be more" if found else ""
    return (
        f"Fewer than {MIN_POINTS} points lie on what is mapped as {_named(change, points.left_out)}: "
        f"{change.written(area)} {change.unit}, {percent(area / change.areas.sum())} of the map, are left out of "
        f"the adjusted areas{least}."
    )


def _of_strata(change: ChangeMatrix, points: ChangePoints) -> Iterator[str]:
    """Say which strata are taken together, and on which points are few."""
    count = len(change.classes)
    pools = {"changes": points.strata == count**2, "unchanged classes": points.strata == count**2 + 1}
    for kind, pool in pools.items():
        if pool.any():
            area, on = change.areas[pool].sum(), points.on[pool].sum()
            yield (
                f"Hardly a point lies on each of {_named(change, pool)}: these {kind}, {change.written(area)} "
                f"{change.unit}, are taken together, with {on:,} points."
            )
    if any(pool.any() for pool in pools.values()):
        yield _AT_RANDOM
    few = (points.on < FEW_POINTS) & (points.strata >= 0) & (points.strata < count**2)
    rough = [f"{name} ({points.on[at]:,})" for name, at in _strata_named(change, few)]
    rough += [
        f"the {kind} taken together ({points.on[pool].sum():,})"
        for kind, pool in pools.items()
        if 0 < points.on[pool].sum() < FEW_POINTS
    ]
    if rough:
        yield f"With fewer than {FEW_POINTS} points intervals are rough; so few lie on {_listed(rough)}."


def _unseen(change: ChangeMatrix, points: ChangePoints) -> Iterator[str]:
    """Say how much may have changed where no point shows it."""
    if points.unseen is None:
        return
    stays = np.eye(len(change.classes), dtype=np.bool_) & (points.strata >= 0)
    of = points.unseen / change.areas[stays].sum()
    yield (
        f"None of the {points.on[stays].sum():,} points on what is mapped as unchanged shows change: up to "
        f"{change.written(points.unseen)} {change.unit} of it, {percent(of)}, may have changed unseen (rule of three: "
        "3/n), which no interval here holds."
    )


def _of_places(change: ChangeMatrix, adjusted: ChangeEstimate, places: ModelErrors) -> Iterator[str]:
    matrices, noun = places.matrices, places.matrices.noun
    yield _refuted(change, places) if np.isnan(adjusted.changed) else _if_independent(change, adjusted, matrices.title)
    error, changed = 1 - pixel_accuracy(matrices.matrices.sum(axis=0)), change.changed / change.areas.sum()
    verdict = "less than the error of one map alone" if changed < error else "more than the error of one map"
    yield (
        f"A difference of two maps holds the errors of both. By {matrices.title}, {percent(error)} of the pixels of one "
        f"map are wrong; {percent(changed)} are mapped as changed, {verdict}."
    )
    if not np.isnan(adjusted.changed):
        yield from _of_intervals(places)
    if places.alike:
        one, other = (names(change.classes)[k] for k in places.alike)
        yield (
            f"By its errors the model can hardly tell {one} and {other} from one another: what is said of either, and "
            "of changes between them, may be far off."
        )
    yield (
        "The reference is no random sample of the mapped area: the figures hold only as far as that resembles its "
        f"{noun or 'locations'}."
    )
    if matrices.optimism:
        yield matrices.optimism


def _if_independent(change: ChangeMatrix, adjusted: ChangeEstimate, title: str) -> str:
    ends = _ends(adjusted.changed_interval, change.written)
    interval = f" (95 % interval, if so: {ends})" if ends else ""
    return (
        f"If errors at the two dates were independent, {change.written(adjusted.changed)} {change.unit} changed"
        f"{interval}; mapped are {change.written(change.changed)}. Since errors usually repeat in the same places, "
        f"more than that did, as far as the model errs here as in {title}."
    )


def _refuted(change: ChangeMatrix, places: ModelErrors) -> str:
    return (
        "How much changed cannot be told from the model's errors: were they independent at the two dates, they alone "
        f"would show {change.written(places.by_errors)} {change.unit} of change where nothing changed, and mapped are "
        f"{change.written(change.changed)}. So they repeat in the same places, or are fewer here than in "
        f"{places.matrices.title}; --points can tell."
    )


def _of_intervals(places: ModelErrors) -> Iterator[str]:
    noun, units = places.matrices.noun, places.units
    if noun is None:
        yield "No interval can be given: pixels of one place are alike, and it does not say which are of one."
    elif units < MIN_POINTS:
        yield f"No interval can be given: it is of one of the {noun} alone."
    else:
        few = ", too few to rely on them" if units < FEW_UNITS else ""
        yield f"Intervals are for one more place, by how {units:,} {noun} differ in their errors{few}."


def _named(change: ChangeMatrix, which: npt.NDArray[np.bool_]) -> str:
    """Name the largest of some pairs of classes, (K, K), and count the others."""
    return _listed([name for name, _ in _strata_named(change, which)])


def _strata_named(change: ChangeMatrix, which: npt.NDArray[np.bool_]) -> list[tuple[str, tuple[int, int]]]:
    """Return the names of some pairs of classes, (K, K), that are mapped, and where they stand; the largest first."""
    called, pairs = names(change.classes), _largest_first(np.where(which, change.areas, 0))
    return [(f"unchanged {called[a]}" if a == b else f"{called[a]} → {called[b]}", (a, b)) for a, b in pairs]


def _listed(told: list[str]) -> str:
    return ", ".join(told[:_NAMED]) + (f" and {len(told) - _NAMED:,} more" if len(told) > _NAMED else "")


def _ends(ends: Floats, written: Callable[[float], str]) -> str:
    """Write an interval; "" where there is none, or none of any width, and its lower end where it has no other."""
    low, high = ends
    if np.isnan(low) or np.isclose(low, high):
        return ""
    if np.isnan(high):
        return f"≥ {written(low)}" if low > 0 else ""
    return f"{written(low)} to {written(high)}"

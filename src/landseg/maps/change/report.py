"""Report of `landseg change`: change matrix, largest changes, and sentences on the reliability of the figures."""

import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.markup import escape
from rich.table import Column, Table

from landseg.core.arrays import Floats
from landseg.core.classes import class_names
from landseg.core.files import atomic
from landseg.maps.change.estimate import MIN_POINTS, ChangeEstimate, ChangePoints
from landseg.maps.change.limit import ChangeLimit
from landseg.maps.change.pair import ChangeMatrix, changed_area
from landseg.maps.change.patches import ChangePatches
from landseg.maps.formatting import percent, table_lines
from landseg.maps.reference import duplicates_sentence, points_sentence, validity_sentences
from landseg.metrics import MIN_UNITS, pixel_accuracy

# Number of changes in the table, and of names in a sentence.
_MAX_ROWS, _MAX_NAMES = 10, 3
# With more classes, the columns of the matrix are headed by ids, because names would exceed the terminal.
_MAX_NAMED_COLUMNS = 8

_NO_REFERENCE = (
    "Error unknown: the difference of two maps contains the errors of both. Two maps that are each wrong in 5 % of "
    "their pixels may show nearly 10 % of change where nothing changed. To estimate the change, give --points (a table "
    "of reference points with their classes before and after); for an upper limit, give --matrix (the revision of the "
    "model that made the maps)."
)
_MERGING = (
    "Merging is valid for points drawn at random from the whole map; if they were drawn from each change, add points "
    "to these."
)


def change_report(
    change: ChangeMatrix,
    patches: ChangePatches | None = None,
    estimate: ChangeEstimate | None = None,
    limit: ChangeLimit | None = None,
) -> str:
    """Return the text that `landseg change` prints."""
    total = change.areas.sum()
    parts = [
        f"{change.before} → {change.after}: {change.pixels.sum():,} pixels with a class on both maps, "
        f"{change.only_before:,} on the first only, {change.only_after:,} on the second only",
        *([change.note] if change.note else []),
        "",
        f"Change matrix in {change.unit} (rows: class before, columns: class after):",
        *table_lines(_matrix_table(change)),
        "",
        f"Mapped change: {change.format_area(change.changed)} of {change.format_area(total)} {change.unit}, "
        f"{percent(change.changed / total)}.",
    ]
    if change.changed or (estimate is not None and estimate.changed > 0):
        parts += ["", *table_lines(_change_table(change, estimate)), ""]
    if patches is not None:
        parts.append(_patches_sentence(change, patches))
    if estimate is not None:
        parts += _point_sentences(change, estimate)
    elif limit is not None:
        parts += _limit_sentences(change, limit)
    else:
        parts.append(_NO_REFERENCE)
    return "\n".join(parts)


def write_change_table(change: ChangeMatrix, estimate: ChangeEstimate | None, path: Path) -> None:
    """Write the change matrix as CSV in full precision: one row per transition, unchanged classes included.

    Rows are in descending order of area. Areas are in hectares, or in pixels if ground areas are unknown; unknown
    values are empty, as is adjusted_high of a lower bound.

    Raises:
        LandsegError: the disk is full, or the folder is not writable.
    """
    largest = change.areas if estimate is None else np.fmax(change.areas, estimate.areas)
    head = ["before_id", "before", "after_id", "after", "pixels", "unit", "mapped", "share"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head + ([] if estimate is None else ["adjusted", "adjusted_low", "adjusted_high"]))
    for before, after in _descending(largest):
        start, end, area = change.classes[before], change.classes[after], change.areas[before, after]
        row = [start.id, start.name, end.id, end.name, int(change.pixels[before, after]), change.unit]
        row += [float(area), float(area / change.areas.sum())]
        if estimate is not None:
            figures = [estimate.areas[before, after], *estimate.intervals[before, after]]
            row += [float(figure) if np.isfinite(figure) else "" for figure in figures]
        writer.writerow(row)
    with atomic(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


def _descending(areas: Floats) -> list[tuple[int, int]]:
    """Return row and column of all areas except 0, in descending order of area."""
    order = np.argsort(-areas, axis=None, kind="stable")[: np.count_nonzero(areas)]
    rows, columns = np.unravel_index(order, areas.shape)
    return list(zip(rows.tolist(), columns.tolist(), strict=True))


def _matrix_table(change: ChangeMatrix) -> Table:
    """Return the change matrix of the classes that occur, with totals."""
    occurring = np.flatnonzero(change.pixels.any(axis=0) | change.pixels.any(axis=1))
    named, area_text = len(occurring) <= _MAX_NAMED_COLUMNS, change.format_area
    classes = [change.classes[k] for k in occurring]
    rows = [each.name if named else f"{each.id} {each.name}" for each in classes]
    columns = [each.name if named else str(each.id) for each in classes]
    areas = change.areas[np.ix_(occurring, occurring)]
    pixels = change.pixels[np.ix_(occurring, occurring)]
    table = Table(
        "", *(Column(escape(name), justify="right") for name in [*columns, "total"]), box=None, pad_edge=False
    )
    for row, name in enumerate(rows):
        cells = [area_text(area) if count else "·" for area, count in zip(areas[row], pixels[row], strict=True)]
        table.add_row(escape(name), *cells, area_text(areas[row].sum()))
    table.add_row("total", *(area_text(area) for area in areas.sum(axis=0)), area_text(areas.sum()))
    return table


def _change_table(change: ChangeMatrix, estimate: ChangeEstimate | None) -> Table:
    """Return the changes with the largest mapped or adjusted area."""
    labels = class_names(change.classes)
    largest = change.areas if estimate is None else np.fmax(change.areas, estimate.areas)
    changes = _descending(largest * ~np.eye(len(labels), dtype=np.bool_))
    columns = [f"mapped {change.unit}", "share"]
    if estimate is not None:
        columns += [f"adjusted {change.unit}", "95 % interval"]
    title = "change" if len(changes) <= _MAX_ROWS else f"change ({_MAX_ROWS} largest of {len(changes):,})"
    table = Table(title, *(Column(name, justify="right") for name in columns), box=None, pad_edge=False)
    for before, after in changes[:_MAX_ROWS]:
        area = change.areas[before, after]
        cells = [change.format_area(area), percent(area / change.areas.sum())]
        if estimate is not None:
            cells += _estimate_cells(estimate, (before, after), change.format_area)
        table.add_row(escape(f"{labels[before]} → {labels[after]}"), *cells)
    return table


def _estimate_cells(estimate: ChangeEstimate, at: tuple[int, int], area_text: Callable[[float], str]) -> list[str]:
    """Return the adjusted area and its interval as table cells."""
    area, interval = estimate.areas[at], _interval(estimate.intervals[at], area_text) or "–"
    if np.isnan(area):
        return ["–", "–"]
    bound = "≥ " if estimate.points.excluded[at] else ""
    return [bound + area_text(area), interval]


def _patches_sentence(change: ChangeMatrix, patches: ChangePatches) -> str:
    count = len(patches.frame)
    text = f"Polygons: {count:,} patch{'' if count == 1 else 'es'} of change"
    if not patches.omitted:
        return f"{text}, none omitted."
    return (
        f"{text}; omitted: {patches.omitted:,} smaller than {patches.minimum}, "
        f"{change.format_area(patches.omitted_area)} {change.unit}, {percent(patches.omitted_area / change.changed)} "
        "of the mapped change."
    )


def _point_sentences(change: ChangeMatrix, estimate: ChangeEstimate) -> Iterator[str]:
    points, area_text, unit = estimate.points, change.format_area, change.unit
    interval = _interval(estimate.changed_interval, area_text)
    covered = np.where(points.excluded, 0, change.areas)
    excluded = bool(points.excluded.any())
    yield (
        f"Adjusted change: {area_text(estimate.changed)} {unit} (95 % confidence interval: {interval})"
        f"{f', of the {area_text(covered.sum())} {unit} covered by points' if excluded else ''}; mapped change"
        f"{' there' if excluded else ''}: {area_text(float(changed_area(covered)))} {unit}."
    )
    yield "The difference of two maps contains the errors of both; the points show how much of the change is error."
    yield points_sentence(points.name, int(points.counts.sum()), points.outside, points.blank, "mapped change")
    if points.duplicates:
        yield duplicates_sentence(points.duplicates)
    if excluded:
        yield _excluded_sentence(change, estimate, points)
    yield from _strata_sentences(change, points)


def _excluded_sentence(change: ChangeMatrix, estimate: ChangeEstimate, points: ChangePoints) -> str:
    area = change.areas[points.excluded].sum()
    bounded = (estimate.areas[points.excluded] > 0).any()
    return (
        f"Excluded from the adjusted areas, with fewer than {MIN_POINTS} points: "
        f"{_largest_names(change, points.excluded)} ({change.format_area(area)} {change.unit}, "
        f"{percent(area / change.areas.sum())} of the map)"
        f"{'; ≥ is a lower bound, from points elsewhere that show such a change' if bounded else ''}."
    )


def _strata_sentences(change: ChangeMatrix, points: ChangePoints) -> Iterator[str]:
    """Yield the sentences on merged strata."""
    count = len(change.classes)
    pools = {"changes": points.strata == count**2, "unchanged classes": points.strata == count**2 + 1}
    for kind, pool in pools.items():
        if pool.any():
            area, number = change.areas[pool].sum(), points.counts[pool].sum()
            yield (
                f"Too few points on each of {_largest_names(change, pool)}: these {kind} "
                f"({change.format_area(area)} {change.unit}) are merged into one stratum with {number:,} points."
            )
    if any(pool.any() for pool in pools.values()):
        yield _MERGING


def _limit_sentences(change: ChangeMatrix, limit: ChangeLimit) -> Iterator[str]:
    """Yield what the model's errors tell of the changed area: an upper limit, and no estimate."""
    matrices, area_text, unit = limit.matrices, change.format_area, change.unit
    total = change.areas.sum()
    if np.isnan(limit.area):
        yield _no_limit_sentence(limit)
    else:
        yield (
            f"Upper limit: at most {area_text(limit.area)} {unit} changed, {percent(limit.area / total)} (one-sided "
            f"95 % limit for an area where the model errs as in {limit.units:,} {matrices.noun})."
        )
    yield (
        "The model's errors do not tell how much changed: independent at the two dates, they alone would show "
        f"{area_text(limit.spurious)} {unit} of change where nothing changed, and errors that repeat would show less. "
        "To estimate the change, give --points."
    )
    error, changed = 1 - pixel_accuracy(matrices.matrices.sum(axis=0)), change.changed / total
    verdict = "less than the error of one map alone" if changed < error else "more than the error of one map"
    yield (
        f"By {matrices.title}, {percent(error)} of the pixels of one map are wrong; {percent(changed)} are mapped as "
        f"changed, {verdict}."
    )
    yield from validity_sentences(matrices)


def _no_limit_sentence(limit: ChangeLimit) -> str:
    if limit.matrices.noun is None:
        return "No upper limit: the reference does not tell locations apart; results/scenes.csv does."
    return (
        f"No upper limit: it takes at least {MIN_UNITS} {limit.matrices.noun} with reference pixels, and there are "
        f"{limit.units:,}."
    )


def _largest_names(change: ChangeMatrix, selected: npt.NDArray[np.bool_]) -> str:
    """Return the names of the largest selected transitions, (K, K), and the number of the others."""
    return _shortened([name for name, _ in _transition_names(change, selected)])


def _transition_names(change: ChangeMatrix, selected: npt.NDArray[np.bool_]) -> list[tuple[str, tuple[int, int]]]:
    """Return names and indices of the selected transitions, (K, K), in descending order of mapped area."""
    labels, pairs = class_names(change.classes), _descending(np.where(selected, change.areas, 0))
    return [(f"unchanged {labels[a]}" if a == b else f"{labels[a]} → {labels[b]}", (a, b)) for a, b in pairs]


def _shortened(items: list[str]) -> str:
    more = f" and {len(items) - _MAX_NAMES:,} more" if len(items) > _MAX_NAMES else ""
    return ", ".join(items[:_MAX_NAMES]) + more


def _interval(ends: Floats, area_text: Callable[[float], str]) -> str:
    """Format an interval; empty without one or for zero width, and a lower bound without an upper end."""
    low, high = ends
    if np.isnan(low) or np.isclose(low, high):
        return ""
    if np.isnan(high):
        return f"≥ {area_text(low)}" if low > 0 else ""
    return f"{area_text(low)} to {area_text(high)}"

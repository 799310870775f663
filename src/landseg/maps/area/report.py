"""Report of `landseg area`: a table with one row per class, and sentences on the reliability of its figures."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
from rich.markup import escape
from rich.table import Column, Table

from landseg.core.arrays import Counts, Floats
from landseg.core.classes import class_names
from landseg.maps.area.measure import AreaMeasurement, ratio
from landseg.maps.cluster import MAX_P_VALUE, ClusterEstimate, LeaveOneOut
from landseg.maps.estimator import AreaEstimate
from landseg.maps.formatting import area_decimals, percent, table_lines
from landseg.maps.reference import (
    PointSample,
    ReferenceMatrices,
    duplicates_sentence,
    points_sentence,
    split_units,
    strata_sentence,
    validity_sentences,
)
from landseg.metrics import MIN_UNITS

# Ratio of the width of an interval to the adjusted area above which the report says how to narrow it.
_WIDE = 1.0

_NO_REFERENCE = (
    "These are pixel counts, and their error is unknown: they are biased, because the area wrongly mapped as a class "
    "seldom equals the area of the class mapped as others. To correct them and to give intervals, draw reference "
    "points at random, label them, and give them with --points."
)


def area_report(found: AreaMeasurement) -> str:
    """Return the text that `landseg area` prints."""
    maps = found.maps[0] if len(found.maps) == 1 else f"{len(found.maps):,} maps"
    parts = [f"{maps}: {found.pixels.sum():,} pixels with a class, {found.blank:,} without", ""]
    parts += [*table_lines(_table(found)), ""]
    if found.unplaced:
        parts.append(f"No hectares: {found.unplaced[0]} has no CRS, or its units are unknown.")
    if found.overlap:
        verb = "overlap" if found.overlap.certain else "may overlap"
        parts.append(f"{found.overlap.one} and {found.overlap.other} {verb}: pixels in both maps count twice.")
    if found.estimate is not None:
        parts += _estimate_sentences(found, found.estimate)
    elif found.matrices is not None and found.leave_one_out is not None:
        parts += [_unadjusted_sentence(found.matrices, found.leave_one_out), _NO_REFERENCE]
    else:
        parts.append(_NO_REFERENCE)
    return "\n".join(parts)


def _table(found: AreaMeasurement) -> Table:
    total, area, estimate = int(found.pixels.sum()), _area_format(found), found.estimate
    pixels = [*found.pixels, total]
    columns = {
        "pixels": [f"{count:,}" for count in pixels],
        "share": [percent(ratio(count, total)) for count in pixels],
    }
    if found.hectares is not None:
        columns["mapped ha"] = [area(each) for each in (*found.hectares, found.hectares.sum())]
    if estimate is not None:
        columns |= _estimate_columns(estimate, found.unit, area)
    table = Table("class", *(Column(title, justify="right") for title in columns), box=None, pad_edge=False)
    for row, name in enumerate([*class_names(found.classes), "total"]):
        table.add_row(escape(name), *(cells[row] if row < len(cells) else "" for cells in columns.values()))
    return table


def _estimate_columns(estimate: AreaEstimate, unit: str, area: Callable[..., str]) -> dict[str, list[str]]:
    users = zip(estimate.users, estimate.users_interval, strict=True)
    producers = zip(estimate.producers, estimate.producers_interval, strict=True)
    columns = {f"adjusted {unit}": [area(each) for each in (*estimate.areas, estimate.areas.sum())]}
    if not isinstance(estimate, ClusterEstimate):
        columns[f"standard error {unit}"] = ["–" if np.isnan(each) else area(each) for each in estimate.areas_se]
    return columns | {
        "95 % interval": [_interval(ends, area) for ends in estimate.areas_interval],
        f"bias {unit}": [area(bias, "+") for bias in estimate.bias],
        "bias": [percent(ratio(bias, true), "+") for bias, true in zip(estimate.bias, estimate.areas, strict=True)],
        "user's accuracy": [_accuracy(*each) for each in users],
        "producer's accuracy": [_accuracy(*each) for each in producers],
    }


def _estimate_sentences(found: AreaMeasurement, estimate: AreaEstimate) -> Iterator[str]:
    """Yield the sentences on the bias of pixel counts, the reference and its limits."""
    yield (
        "Intervals are at the 95 % level; bias is mapped minus adjusted area, its percentage relative to the adjusted "
        "area."
    )
    yield _bias_sentence(found, estimate)
    yield f"Overall accuracy: {_accuracy(estimate.overall, estimate.overall_interval)}."
    if found.points is not None:
        yield from _point_sentences(found, found.points, estimate)
    if found.matrices is not None and found.leave_one_out is not None and isinstance(estimate, ClusterEstimate):
        yield from _matrix_sentences(found, found.matrices, estimate, found.leave_one_out)
    if estimate.unreferenced.any():
        shares = estimate.unreferenced / estimate.mapped.sum()
        listed = _class_list(found, estimate.unreferenced > 0, lambda k: percent(shares[k]))
        yield (
            f"No reference for {listed}: areas are kept as mapped, and area intervals are wider by as much on either "
            "side; accuracies are those of the rest of the map."
        )


def _bias_sentence(found: AreaMeasurement, estimate: AreaEstimate) -> str:
    """Return the classes with the largest absolute and relative bias of pixel counts."""
    condition = (
        f"If the map errs here as at {split_units(found.matrices)}, " if found.matrices else "By this reference, "
    )
    if not estimate.bias.any():
        return f"{condition}pixel counts show no bias."
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = estimate.bias / estimate.areas
    worst, largest = (int(np.abs(np.nan_to_num(each, posinf=np.inf)).argmax()) for each in (estimate.bias, relative))
    shares = ["no adjusted area" if np.isinf(each) else percent(each, "+") for each in relative]
    other = f"; relative to the area, it is that of {found.classes[largest].name} ({shares[largest]})"
    direction, amount = "much" if estimate.bias[worst] > 0 else "little", _area_format(found)(abs(estimate.bias[worst]))
    return (
        f"{condition}the largest bias of pixel counts is that of {found.classes[worst].name}: "
        f"{amount} {found.unit} too {direction} ({shares[worst]}){_significance(found, estimate, worst)}"
        f"{other if largest != worst else ''}."
    )


def _significance(found: AreaMeasurement, estimate: AreaEstimate, channel: int) -> str:
    """Return whether a bias is significant."""
    significant = estimate.bias_significant[channel]
    if found.matrices is None:
        return ", statistically significant" if significant else ", not statistically significant"
    return f", {'more than' if significant else 'within'} the prediction error for such {found.matrices.noun}"


def _point_sentences(found: AreaMeasurement, points: PointSample, estimate: AreaEstimate) -> Iterator[str]:
    numbers = points.points.name, int(points.sample.sum()), points.outside, points.blank
    if found.strata is None:
        yield points_sentence(*numbers, "mapped class")
    else:
        yield strata_sentence(*numbers, len(found.strata.names))
    if points.duplicates:
        yield duplicates_sentence(points.duplicates)
    names, counts = _strata_counts(found, points)
    single = ", ".join(name for name, count in zip(names, counts, strict=True) if count == 1)
    if single:
        yield f"Only one point in {single}: standard errors are undefined; add points there."
    share, stratum = estimate.largest_share, estimate.largest_stratum
    if share is None or stratum is None:
        return
    width = estimate.areas_interval[:, 1] - estimate.areas_interval[:, 0]
    wide = (estimate.mapped > 0) & (width > _WIDE * estimate.areas)
    listed = _class_list(
        found,
        wide,
        lambda k: f"{100 * share[k]:.0f} % of the variance from {names[stratum[k]]}, {counts[stratum[k]]:,} points",
    )
    if listed:
        yield f"Intervals wider than the area itself: {listed}. More points there would narrow them most."


def _strata_counts(found: AreaMeasurement, points: PointSample) -> tuple[Sequence[str], Counts]:
    """Return names and numbers of points of the strata."""
    if found.strata is None:
        names = [f"pixels mapped as {name}" for name in class_names(found.classes)]
        return names, np.where(found.mapped > 0, points.sample.sum(axis=0), 0)
    names = [f"stratum {name}" for name in found.strata.names]
    return names, points.by_stratum(found.strata.index, len(names)).sum(axis=(1, 2))


def _matrix_sentences(
    found: AreaMeasurement, matrices: ReferenceMatrices, estimate: ClusterEstimate, test: LeaveOneOut
) -> Iterator[str]:
    units, noun = estimate.units, matrices.noun
    yield (
        f"What-if: these would be the areas if the map erred here as at {split_units(matrices)}: {units:,} {noun}, "
        f"effectively {estimate.effective_units:.1f} of equal size, {matrices.matrices.sum():,} pixels "
        f"({matrices.title})."
    )
    yield (
        f"Area intervals are prediction intervals for one area like these {noun}, each adjusted by the others; "
        "accuracy intervals are confidence intervals of their mean."
    )
    counts, effective = estimate.mapped_units, estimate.mapped_effective_units
    if counts is not None and effective is not None:
        rare = (estimate.mapped > 0) & (counts > 0) & (effective < MIN_UNITS)
        listed = _class_list(found, rare, lambda k: f"{counts[k]}, effectively {effective[k]:.1f}")
        if listed:
            yield f"Few of these {noun} have pixels mapped as {listed}: intervals hardly include its variation."
    yield f"Leave-one-out test on these {noun}: {_leave_one_out_text(test)}."
    yield from validity_sentences(matrices)


def _unadjusted_sentence(matrices: ReferenceMatrices, test: LeaveOneOut) -> str:
    """Say why areas are not adjusted by confusion matrices."""
    start = f"No adjustment by {matrices.title}:"
    if matrices.noun is None:
        return (
            f"{start} it does not tell locations apart, so whether it would help cannot be tested; results/scenes.csv "
            "does."
        )
    units = len(test.mapped)
    if units < MIN_UNITS:
        return f"{start} testing whether it would help takes at least {MIN_UNITS} {matrices.noun}; it has {units}."
    return (
        f"{start} that does not reliably make areas more accurate. Leave-one-out test on these {matrices.noun}: "
        f"{_leave_one_out_text(test)}; adjustment needs p ≤ {MAX_P_VALUE:g}."
    )


def _leave_one_out_text(test: LeaveOneOut) -> str:
    mapped, adjusted = test.mapped, test.adjusted
    p_value = "p < 0.001" if test.p_value < 0.001 else f"p = {test.p_value:.2g}"
    return (
        f"adjusted by the others, they have {percent(adjusted.mean())} of their area in the wrong class on average, by "
        f"pixel counts {percent(mapped.mean())}; adjustment was closer in {np.count_nonzero(adjusted < mapped):,} of "
        f"{len(mapped):,} (one-sided paired t-test: {p_value})"
    )


def _class_list(
    found: AreaMeasurement, selected: npt.NDArray[np.bool_], detail: Callable[[int], str] | None = None
) -> str:
    """Return the names of selected classes, (K,), each with a detail in parentheses."""
    channels = np.flatnonzero(selected).tolist()
    return ", ".join(found.classes[k].name + (f" ({detail(k)})" if detail else "") for k in channels)


def _area_format(found: AreaMeasurement) -> Callable[..., str]:
    """Return a function that formats areas to a thousandth of the total, and on request with their sign."""
    decimals = area_decimals(found.mapped.sum(), found.unit)

    def formatted(area: float, sign: str = "") -> str:
        return f"{area:{sign},.{decimals}f}"

    return formatted


def _interval(ends: Floats, formatted: Callable[..., str]) -> str:
    low, high = ends
    return "–" if np.isnan(low) else f"{formatted(low)} to {formatted(high)}"


def _accuracy(value: float, ends: Floats) -> str:
    if np.isnan(value):
        return "–"
    interval = _interval(ends, "{:.2f}".format)
    return f"{value:.2f}" if interval == "–" else f"{value:.2f} ({interval})"

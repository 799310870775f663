"""Report of `landseg area`: a table with one row per class, and sentences on the reliability of its figures."""

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
from rich.markup import escape
from rich.table import Column, Table

from landseg.core.arrays import Floats
from landseg.core.classes import class_names
from landseg.maps.area.measure import AreaMeasurement, ratio
from landseg.maps.estimator import FEW_POINTS, AreaEstimate, LeaveOneOut, Z
from landseg.maps.formatting import area_decimals, percent, table_lines
from landseg.maps.reference import (
    PointSample,
    ReferenceMatrices,
    duplicates_sentence,
    no_interval_sentence,
    points_sentence,
    split_units,
    validity_sentences,
)
from landseg.results.wording import FEW_UNITS

# Share of the map above which undetected area is reported even for many points.
_NOTABLE = 0.01

_NO_REFERENCE = (
    "Error unknown: pixel counts are biased, because the area wrongly mapped as a class seldom equals the area of the "
    "class mapped as others. To estimate the error, give --points (a table of reference points) or --matrix (the "
    "revision of the model that made the map)."
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
    parts += [_NO_REFERENCE] if found.estimate is None else _estimate_sentences(found, found.estimate)
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
    margins = Z * estimate.areas_se + estimate.unreferenced.sum()
    users = zip(estimate.users, estimate.users_se, estimate.users_interval, strict=True)
    producers = zip(estimate.producers, estimate.producers_se, estimate.producers_interval, strict=True)
    return {
        f"adjusted {unit}": [area(each) for each in (*estimate.areas, estimate.areas.sum())],
        "95 % interval": [
            _interval(estimate, margin, ends, area)
            for margin, ends in zip(margins, estimate.areas_interval, strict=True)
        ],
        f"bias {unit}": [area(bias, "+") for bias in estimate.bias],
        "bias": [percent(ratio(bias, true), "+") for bias, true in zip(estimate.bias, estimate.areas, strict=True)],
        "user's accuracy": [_accuracy(estimate, *each) for each in users],
        "producer's accuracy": [_accuracy(estimate, *each) for each in producers],
    }


def _estimate_sentences(found: AreaMeasurement, estimate: AreaEstimate) -> Iterator[str]:
    """Yield the sentences on the bias of pixel counts, the reference and its limits."""
    points = estimate.units is None
    level = "± is the 95 % confidence interval (1.96 standard errors)" if points else "Intervals are at the 95 % level"
    yield f"{level}; bias is mapped minus adjusted area, its percentage relative to the adjusted area."
    yield _bias_sentence(found, estimate)
    overall = _accuracy(estimate, estimate.overall, estimate.overall_se, estimate.overall_interval)
    yield f"Overall accuracy: {overall}."
    if found.points is not None:
        yield from _point_sentences(found, found.points, estimate)
    if found.matrices is not None:
        yield from _matrix_sentences(found, found.matrices, estimate)
    if estimate.unreferenced.any():
        shares = estimate.unreferenced / estimate.mapped.sum()
        listed = _class_list(found, estimate.unreferenced > 0, lambda k: percent(shares[k]))
        yield (
            f"No reference for {listed}: areas are kept as mapped, and area intervals are wider by as much on either "
            "side; accuracies are those of the rest of the map."
        )


def _bias_sentence(found: AreaMeasurement, estimate: AreaEstimate) -> str:
    """Return the classes with the largest absolute and relative bias of pixel counts."""
    condition = found.matrices and f"If the mapped area resembles {split_units(found.matrices)}, "
    if not estimate.bias.any():
        return f"{condition or 'By this reference, '}pixel counts show no bias."
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = estimate.bias / estimate.areas
    worst, largest = (int(np.abs(np.nan_to_num(each, posinf=np.inf)).argmax()) for each in (estimate.bias, relative))
    shares = ["no adjusted area" if np.isinf(each) else percent(each, "+") for each in relative]
    other = f"; the largest relative bias is that of {found.classes[largest].name} ({shares[largest]})"
    direction, amount = "much" if estimate.bias[worst] > 0 else "little", _area_format(found)(abs(estimate.bias[worst]))
    return (
        f"{condition + 'pixel' if condition else 'Pixel'} counts are most biased for {found.classes[worst].name}: "
        f"{amount} {found.unit} too {direction} ({shares[worst]}){_significance(found, estimate, worst)}"
        f"{other if largest != worst else ''}."
    )


def _significance(found: AreaMeasurement, estimate: AreaEstimate, channel: int) -> str:
    """Return whether a bias is significant; empty without a reliable interval."""
    if np.isnan(estimate.areas_se[channel]) or (estimate.units is not None and estimate.units < FEW_UNITS):
        return ""
    significant = estimate.bias_significant[channel]
    if found.matrices is None:
        return ", statistically significant" if significant else ", not statistically significant"
    return f", {'more than' if significant else 'within'} the prediction error for such {found.matrices.noun}"


def _point_sentences(found: AreaMeasurement, points: PointSample, estimate: AreaEstimate) -> Iterator[str]:
    sample = points.sample
    yield points_sentence(points.points.name, int(sample.sum()), points.outside, points.blank, "mapped class")
    if points.duplicates:
        yield duplicates_sentence(points.duplicates)
    counts, mapped, area = sample.sum(axis=0), estimate.mapped > 0, _area_format(found)
    few = _class_list(found, mapped & (counts > 1) & (counts < FEW_POINTS), lambda k: str(counts[k]))
    if few:
        yield f"Fewer than {FEW_POINTS} points on pixels mapped as {few}: intervals are rough."
    single = _class_list(found, mapped & (counts == 1))
    if single:
        yield f"Only one point on pixels mapped as {single}: areas have no interval; add points there."
    undetected = np.zeros(len(counts)) if estimate.undetected is None else estimate.undetected
    notable = (undetected > 0) & ((counts < FEW_POINTS) | (undetected > _NOTABLE * estimate.mapped.sum()))
    listed = _class_list(found, notable, lambda k: f"up to {area(undetected[k])} {found.unit}")
    if listed:
        yield (
            "Where all n points on a mapped class agree, up to 3/n of its area may still be other classes (rule of "
            f"three), which no interval includes: {listed}."
        )


def _matrix_sentences(found: AreaMeasurement, matrices: ReferenceMatrices, estimate: AreaEstimate) -> Iterator[str]:
    units, noun = estimate.units or 0, matrices.noun
    yield f"Reference: {matrices.title}, {matrices.matrices.sum():,} pixels."
    if noun is None or estimate.leave_one_out is None or estimate.mapped_units is None:
        yield no_interval_sentence(matrices)
    else:
        few = f"; {units:,} are too few for reliable intervals" if units < FEW_UNITS else ""
        yield (
            f"Area intervals are prediction intervals for one area like these {units:,} {noun}, each adjusted by the "
            f"others; accuracy intervals are confidence intervals of their mean{few}."
        )
        counts = estimate.mapped_units
        rare = (estimate.mapped > 0) & (counts > 0) & (counts < (FEW_UNITS if units >= FEW_UNITS else 2))
        listed = _class_list(found, rare, lambda k: str(counts[k]))
        if listed:
            yield f"Few of these {noun} have pixels mapped as {listed}: intervals hardly include its variation."
        yield _leave_one_out_sentence(estimate.leave_one_out, noun)
    yield from validity_sentences(matrices)


def _leave_one_out_sentence(errors: LeaveOneOut, noun: str) -> str:
    mapped, adjusted = errors.mapped, errors.adjusted
    verdict = "reduced the error" if adjusted.mean() < mapped.mean() else "did not reduce the error"
    return (
        f"Leave-one-out test on these {noun}: adjustment {verdict}. On average it assigned {percent(adjusted.mean())} "
        f"of the area to the wrong class, pixel counts {percent(mapped.mean())}; it was closer in "
        f"{np.count_nonzero(adjusted < mapped):,} of {len(mapped):,}."
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


def _interval(estimate: AreaEstimate, margin: float, ends: Floats, formatted: Callable[..., str]) -> str:
    """Format an interval: as ± for points, by its ends for locations, where it may be asymmetric."""
    low, high = ends
    if np.isnan(low):
        return "–"
    return f"± {formatted(margin)}" if estimate.units is None else f"{formatted(low)} to {formatted(high)}"


def _accuracy(estimate: AreaEstimate, value: float, error: float, ends: Floats) -> str:
    if np.isnan(value):
        return "–"
    interval = _interval(estimate, Z * error, ends, "{:.2f}".format)
    if interval == "–":
        return f"{value:.2f}"
    return f"{value:.2f} {interval}" if estimate.units is None else f"{value:.2f} ({interval})"

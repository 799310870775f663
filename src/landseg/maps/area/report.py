"""The report of `landseg area`: a row a class, and in plain words what the figures are worth."""

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
from rich.markup import escape
from rich.table import Column, Table

from landseg.core.arrays import Floats
from landseg.core.classes import names
from landseg.maps.area.measure import AreaMeasurement, ratio
from landseg.maps.estimator import FEW_POINTS, AreaEstimate, LeaveOneOut, Z
from landseg.maps.formatting import area_decimals, percent, table_lines
from landseg.maps.reference import PointSample, ReferenceMatrices
from landseg.results.wording import FEW_UNITS

#: Share of the map above which it is said that so much may be wrong where all points agree.
_NOTABLE = 0.01

# What the places of a part are called.
_ADJECTIVES = {"train": "training", "val": "validation", "test": "test"}
_UNKNOWN = (
    "Pixel counts alone are biased, and nothing here says by how much: what is wrongly mapped as a class is seldom as "
    "much as what is wrongly left out. For the error give --points, a table of reference points, or --matrix, the "
    "revision of the model that made the map."
)


def area_report(found: AreaMeasurement) -> str:
    """Return what `landseg area` prints."""
    maps = found.maps[0] if len(found.maps) == 1 else f"{len(found.maps):,} maps"
    said = [f"{maps}: {found.pixels.sum():,} pixels with a class, {found.blank:,} without", ""]
    said += [*table_lines(_table(found)), ""]
    if found.unplaced:
        said.append(f"No hectares: {found.unplaced[0]} has no CRS, or one without known units.")
    if found.overlap:
        maybe = "" if found.overlap.certain else "may "
        said.append(f"{found.overlap.one} and {found.overlap.other} {maybe}overlap: what both show counts twice.")
    said += [_UNKNOWN] if found.estimate is None else _sentences(found, found.estimate)
    return "\n".join(said)


def _table(found: AreaMeasurement) -> Table:
    total, area, of = int(found.pixels.sum()), _area(found), found.estimate
    pixels = [*found.pixels, total]
    columns = {
        "pixels": [f"{count:,}" for count in pixels],
        "share": [percent(ratio(count, total)) for count in pixels],
    }
    if found.hectares is not None:
        columns["mapped ha"] = [area(each) for each in (*found.hectares, found.hectares.sum())]
    if of is not None:
        columns |= {
            f"adjusted {found.unit}": [area(each) for each in (*of.areas, of.areas.sum())],
            "95 % interval": [
                _interval(of, margin, ends, area)
                for margin, ends in zip(Z * of.areas_se + of.taken.sum(), of.areas_interval, strict=True)
            ],
            f"bias {found.unit}": [area(bias, "+") for bias in of.bias],
            "bias": [percent(ratio(bias, true), "+") for bias, true in zip(of.bias, of.areas, strict=True)],
            "user's accuracy": [
                _accuracy(of, *each) for each in zip(of.users, of.users_se, of.users_interval, strict=True)
            ],
            "producer's accuracy": [
                _accuracy(of, *each) for each in zip(of.producers, of.producers_se, of.producers_interval, strict=True)
            ],
        }
    table = Table("class", *(Column(title, justify="right") for title in columns), box=None, pad_edge=False)
    for row, name in enumerate([*names(found.classes), "all"]):
        table.add_row(escape(name), *(cells[row] if row < len(cells) else "" for cells in columns.values()))
    return table


def _sentences(found: AreaMeasurement, of: AreaEstimate) -> list[str]:
    """Say by how much pixel counts are off, what the reference is, and what its figures are not to be taken for."""
    margins = "± is 1.96 standard errors, for 95 %" if of.units is None else "Intervals are for 95 %"
    said = [f"{margins}; the bias in % is of the adjusted area.", _bias(found, of)]
    said.append(f"Overall accuracy {_accuracy(of, of.overall, of.overall_se, of.overall_interval)}.")
    if found.points is not None:
        said += _of_points(found, found.points, of)
    if found.matrices is not None:
        said += _of_places(found, found.matrices, of)
    if of.taken.any():
        stray = _listed(found, of.taken > 0, lambda k: percent(of.taken[k] / of.mapped.sum()))
        said.append(
            f"Taken as mapped, for the reference has none: {stray}. Intervals of areas are wider by as much to either "
            "side; accuracies are of the rest."
        )
    return said


def _bias(found: AreaMeasurement, of: AreaEstimate) -> str:
    """Say for which class pixel counts are off most: for sure where points were drawn on this map, else perhaps."""
    like = found.matrices and f"If this area is like {_places(found.matrices)}, pixel counts alone"
    if not of.bias.any():
        return f"{like or 'Pixel counts alone are biased as a rule, but'} show no bias by this reference."
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = of.bias / of.areas
    worst, largest = (int(np.abs(np.nan_to_num(each, posinf=np.inf)).argmax()) for each in (of.bias, relative))
    percent = ["none by the reference" if np.isinf(each) else percent(each, "+") for each in relative]
    other = f"; as a share most for {found.classes[largest].name} ({percent[largest]})" if largest != worst else ""
    side, amount = "much" if of.bias[worst] > 0 else "little", _area(found)(abs(of.bias[worst]))
    return (
        f"{like or 'Pixel counts alone'} are biased, most for {found.classes[worst].name}: {amount} {found.unit} too "
        f"{side} ({percent[worst]}){_chance(found, of, worst)}{other}."
    )


def _chance(found: AreaMeasurement, of: AreaEstimate, channel: int) -> str:
    """Say whether a bias may be nothing; not where there is no interval, or one that nobody can rely on."""
    if np.isnan(of.areas_se[channel]) or (of.units is not None and of.units < FEW_UNITS):
        return ""
    beyond = of.beyond_chance[channel]
    if found.matrices is None:
        return ", more than chance explains" if beyond else ", which may be chance"
    errors = f"the errors of such {found.matrices.noun}"
    return f", more than {errors} explain" if beyond else f", which {errors} may explain"


def _of_points(found: AreaMeasurement, sampling: PointSample, of: AreaEstimate) -> Iterator[str]:
    sample, where = sampling.sample, {"outside the map": sampling.outside, "where it has no data": sampling.blank}
    left = " and ".join(f"{count:,} {place}" for place, count in where.items() if count)
    yield (
        f"Reference: {sample.sum():,} points of {sampling.points.name}{left and f' ({left} left out)'}. The figures "
        "hold where these were drawn at random, from the whole map or from each mapped class (Olofsson et al. 2014)."
    )
    if sampling.repeats:
        yield sampling.repeats
    on, mapped, area = sample.sum(axis=0), of.mapped > 0, _area(found)
    few = _listed(found, mapped & (on > 1) & (on < FEW_POINTS), lambda k: str(on[k]))
    if few:
        yield f"Few points lie on what is mapped as {few}: with fewer than {FEW_POINTS}, intervals are rough."
    alone = _listed(found, mapped & (on == 1))
    if alone:
        yield f"One point alone lies on what is mapped as {alone}, so areas have no interval; add points there."
    unseen = np.zeros(len(on)) if of.unseen is None else of.unseen
    told = (unseen > 0) & ((on < FEW_POINTS) | (unseen > _NOTABLE * of.mapped.sum()))
    agree = _listed(found, told, lambda k: f"up to {area(unseen[k])} {found.unit}")
    if agree:
        yield f"Where all n points agree, up to 3/n may still be of another class, which no ± shows: {agree}."


def _of_places(found: AreaMeasurement, matrices: ReferenceMatrices, of: AreaEstimate) -> Iterator[str]:
    units, places = of.units or 0, matrices.noun
    yield f"Reference: {matrices.title}, {matrices.matrices.sum():,} pixels."
    if places is None:
        yield (
            "No interval can be given: pixels of one place are alike, and it does not say which are of one; "
            "results/scenes.csv does."
        )
    elif of.left_out is None or of.held is None:
        yield f"No interval can be given: it is of one of the {places} alone."
    else:
        few = "; they are too few to rely on them" if units < FEW_UNITS else ""
        yield (
            f"Intervals of areas say how far off adjusted areas of these {units:,} {places} were, each adjusted by the "
            f"others; those of accuracies are of the average of such {places}{few}."
        )
        held = of.held
        rare = (of.mapped > 0) & (held > 0) & (held < (FEW_UNITS if units >= FEW_UNITS else 2))
        listed = _listed(found, rare, lambda k: str(held[k]))
        if listed:
            yield f"Few of these {places} have pixels mapped as {listed}: intervals hardly hold how that varies."
        yield _tried(of.left_out, places)
    yield (
        "The reference is no random sample of the mapped area: the figures hold only as far as that resembles "
        f"{_places(matrices)}."
    )
    if matrices.flattered:
        yield matrices.flattered


def _tried(left_out: LeaveOneOut, places: str) -> str:
    """Say whether adjusting helped where the truth is known."""
    counted, adjusted = left_out.mapped, left_out.adjusted
    helped = "helped" if adjusted.mean() < counted.mean() else "did not help"
    return (
        f"Adjusting {helped} on these {places} themselves: on average {percent(adjusted.mean())} of the area of one went "
        f"to the wrong class, {percent(counted.mean())} by pixel counts; it came closer in "
        f"{np.count_nonzero(adjusted < counted):,} of {len(counted):,}."
    )


def _places(matrices: ReferenceMatrices) -> str:
    return f"the {_ADJECTIVES[matrices.part]} {matrices.noun or 'split'}"


def _listed(found: AreaMeasurement, told: npt.NDArray[np.bool_], more: Callable[[int], str] | None = None) -> str:
    """List classes by name, (K,) whether, each with more of it in brackets."""
    return ", ".join(found.classes[k].name + (f" ({more(k)})" if more else "") for k in np.flatnonzero(told).tolist())


def _area(found: AreaMeasurement) -> Callable[..., str]:
    """Return what writes areas, with so many digits that a thousandth of all shows, and on demand their sign."""
    decimals = area_decimals(found.mapped.sum(), found.unit)

    def written(area: float, sign: str = "") -> str:
        return f"{area:{sign},.{decimals}f}"

    return written


def _interval(of: AreaEstimate, margin: float, ends: Floats, written: Callable[..., str]) -> str:
    """Write an interval: by points as ±, by places, where it may be lopsided, by its ends."""
    low, high = ends
    if np.isnan(low):
        return "–"
    return f"± {written(margin)}" if of.units is None else f"{written(low)} to {written(high)}"


def _accuracy(of: AreaEstimate, value: float, error: float, ends: Floats) -> str:
    if np.isnan(value):
        return "–"
    interval = _interval(of, Z * error, ends, "{:.2f}".format)
    return f"{value:.2f}" + (f" {interval}" if of.units is None else f" ({interval})") * (interval != "–")

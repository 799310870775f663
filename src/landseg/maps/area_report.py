"""The report of `landseg area`: a row a class, and in plain words what the figures are worth."""

from collections.abc import Callable, Iterator

import numpy as np
from rich.markup import escape
from rich.table import Column, Table

from landseg.comparison import FEW
from landseg.datasets.classes import names
from landseg.maps.area import Areas, over
from landseg.maps.estimator import Estimate
from landseg.maps.reference import Matrices, Sampling
from landseg.maps.wording import digits, lines, share
from landseg.metrics import Floats

#: Reference points on a mapped class below which its intervals are rough: the rule of thumb of Congalton and Green
#: ("Assessing the Accuracy of Remotely Sensed Data", 1999).
FEW_POINTS = 50

_UNKNOWN = (
    "Pixel counts alone are biased, and nothing here says by how much: what is wrongly mapped as a class is seldom as "
    "much as what is wrongly left out. For the error give --points, a table of reference points, or --matrix, the "
    "revision of the model that made the map."
)


def report(found: Areas) -> str:
    """Return what `landseg area` prints."""
    maps = found.maps[0] if len(found.maps) == 1 else f"{len(found.maps):,} maps"
    said = [f"{maps}: {found.pixels.sum():,} pixels with a class, {found.blank:,} without", ""]
    said += [*lines(_table(found)), ""]
    if found.unplaced:
        said.append(f"No hectares: {found.unplaced[0]} has no CRS, or one without known units.")
    if found.overlap:
        maybe = "" if found.overlap.certain else "may "
        said.append(f"{found.overlap.one} and {found.overlap.other} {maybe}overlap: what both show counts twice.")
    said += [_UNKNOWN] if found.estimate is None else _sentences(found, found.estimate)
    return "\n".join(said)


def _table(found: Areas) -> Table:
    total, area, of = int(found.pixels.sum()), _area(found), found.estimate
    pixels = [*found.pixels, total]
    columns = {"pixels": [f"{count:,}" for count in pixels], "share": [share(over(count, total)) for count in pixels]}
    if found.hectares is not None:
        columns["mapped ha"] = [area(each) for each in (*found.hectares, found.hectares.sum())]
    if of is not None:
        columns |= {
            f"adjusted {found.unit}": [area(each) for each in (*of.areas, of.areas.sum())],
            "95 % interval": [_interval(of, ends, area) for ends in of.areas_interval],
            f"bias {found.unit}": [area(bias, "+") for bias in of.bias],
            "bias": [share(over(bias, true), "+") for bias, true in zip(of.bias, of.areas, strict=True)],
            "user's accuracy": [_accuracy(of, *each) for each in zip(of.users, of.users_interval, strict=True)],
            "producer's accuracy": [
                _accuracy(of, *each) for each in zip(of.producers, of.producers_interval, strict=True)
            ],
        }
    table = Table("class", *(Column(title, justify="right") for title in columns), box=None, pad_edge=False)
    for row, name in enumerate([*names(found.classes), "all"]):
        table.add_row(escape(name), *(cells[row] if row < len(cells) else "" for cells in columns.values()))
    return table


def _sentences(found: Areas, of: Estimate) -> list[str]:
    """Say by how much pixel counts are off, what the reference is, and what its figures are not to be taken for."""
    said = [_bias(found, of), f"Overall accuracy {_accuracy(of, of.overall, of.overall_interval)}."]
    if found.points is not None:
        said += _of_points(found, found.points)
    if found.matrices is not None:
        said += _of_places(found, found.matrices, of)
    return said


def _bias(found: Areas, of: Estimate) -> str:
    worst = int(np.abs(of.bias).argmax())
    bias, (low, high) = of.bias[worst], of.areas_interval[worst]
    if not bias:
        return "Pixel counts alone are biased as a rule; this reference finds no bias."
    chance = ""
    if of.units is None or of.units >= FEW:
        chance = ", which may be chance" if low <= of.mapped[worst] <= high else ", more than chance explains"
    relative = np.array([over(*each) for each in zip(of.bias, of.areas, strict=True)])
    largest = int(np.nan_to_num(np.abs(relative)).argmax())
    other = f"; as a share most for {found.classes[largest].name} ({share(relative[largest], '+')})"
    side = "much" if bias > 0 else "little"
    return (
        f"Pixel counts alone are biased, most for {found.classes[worst].name}: {_area(found)(abs(bias))} {found.unit} "
        f"too {side} ({share(relative[worst], '+')}){'' if np.isnan(low) else chance}"
        f"{other if largest != worst else ''}."
    )


def _of_points(found: Areas, sampling: Sampling) -> Iterator[str]:
    sample, where = sampling.sample, {"outside the map": sampling.outside, "where it has no data": sampling.blank}
    left = " and ".join(f"{count:,} {place}" for place, count in where.items() if count)
    yield (
        f"Reference: {sample.sum():,} points of {sampling.points.name}{left and f' ({left} left out)'}. The figures "
        "hold where these were drawn at random, from the whole map or from each mapped class (Olofsson et al. 2014)."
    )
    on = dict(zip(names(found.classes), sample.sum(axis=0).tolist(), strict=True))
    few = ", ".join(f"{name} {count}" for name, count in on.items() if 1 < count < FEW_POINTS)
    if few:
        yield f"Few points lie on what is mapped as {few}: with fewer than {FEW_POINTS}, intervals are rough."
    alone = ", ".join(name for name, count in on.items() if count == 1)
    if alone:
        yield f"One point alone lies on what is mapped as {alone}, so areas have no interval; add points there."


def _of_places(found: Areas, matrices: Matrices, of: Estimate) -> Iterator[str]:
    units, places = of.units or 0, matrices.noun
    yield f"Reference: {matrices.title}, {matrices.matrices.sum():,} pixels."
    if places is None:
        yield (
            "No interval can be given: pixels of one place are alike, and it does not say which are of one; "
            "results/scenes.csv does."
        )
    elif units < 2 or of.held is None:
        yield f"No interval can be given: it is of one of the {places} alone."
    else:
        yield f"Intervals are drawn over {units:,} {places}{', too few to rely on them' if units < FEW else ''}."
        held = zip(names(found.classes), of.held, found.pixels, strict=True)
        alone = ", ".join(name for name, count, pixels in held if count == 1 and pixels)
        if alone:
            yield f"Only one of these {places} has pixels mapped as {alone}: how that varies is in no interval."
    yield (
        "The test part is no random sample of the mapped area: the figures hold only as far as that resembles the test "
        f"{places or 'places'}."
    )
    if matrices.leak:
        yield f"{share(matrices.leak)} of its tiles share an edge with a training tile: errors look too small."


def _area(found: Areas) -> Callable[..., str]:
    """Return what writes areas, with so many digits that a thousandth of all shows, and on demand their sign."""
    decimals = digits(found.mapped.sum(), found.unit)

    def written(area: float, sign: str = "") -> str:
        return f"{area:{sign},.{decimals}f}"

    return written


def _interval(of: Estimate, ends: Floats, written: Callable[..., str]) -> str:
    """Write an interval: by points as ±, by places, where it may be lopsided, by its ends."""
    low, high = ends
    if np.isnan(low):
        return "–"
    return f"± {written((high - low) / 2)}" if of.units is None else f"{written(low)} to {written(high)}"


def _accuracy(of: Estimate, value: float, ends: Floats) -> str:
    if np.isnan(value):
        return "–"
    interval = _interval(of, ends, "{:.2f}".format)
    return f"{value:.2f}" + (f" {interval}" if of.units is None else f" ({interval})") * (interval != "–")

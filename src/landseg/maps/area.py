"""How much ground each class takes: pixels and hectares of maps, and true areas with their error where it is known."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from landseg.comparison import FEW
from landseg.datasets.classes import ClassTable, LandClass, ids, names
from landseg.errors import LandsegError
from landseg.files import atomic
from landseg.ground import row_areas
from landseg.maps.class_map import ClassMap, opened_map
from landseg.maps.estimator import Estimate, clustered, stratified
from landseg.maps.reference import Matrices, Sampling, read_matrices, read_points
from landseg.metrics import Counts, Floats

#: Reference points on a mapped class below which its intervals are rough: the rule of thumb of Congalton and Green
#: ("Assessing the Accuracy of Remotely Sensed Data", 1999).
FEW_POINTS = 50

_HECTARE = 1e4  # m²


@dataclass(frozen=True)
class Areas:
    """What maps say of areas, and what a reference makes of it."""

    #: Locations of the maps.
    maps: tuple[str, ...]
    classes: tuple[LandClass, ...]
    #: (K,) int64 pixels of every class.
    pixels: Counts
    #: Pixels without a class.
    blank: int
    #: (K,) ground area of every class, ha; None where a map has no CRS.
    hectares: Floats | None
    #: The maps that have none, or none with known units.
    unplaced: tuple[str, ...]
    #: True areas, in ha, or in pixels where there are no hectares; None without a reference.
    estimate: Estimate | None = None
    #: The reference, where it is points, and where it is a model's test part.
    points: Sampling | None = None
    matrices: Matrices | None = None

    @property
    def unit(self) -> str:
        """What the areas of the estimate are in: ha, or px where no ground area is known."""
        return "px" if self.hectares is None else "ha"

    @property
    def mapped(self) -> Floats:
        """(K,) areas as mapped, in that unit."""
        return self.pixels.astype(np.float64) if self.hectares is None else self.hectares


def areas(
    locations: Sequence[Path | str],
    points: Path | None = None,
    matrix: str | None = None,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> Areas:
    """Measure the classes of one or several maps, block by block, and put the areas right by a reference.

    Args:
        locations: the maps; none is to overlap another.
        points: a table of reference points (see `read_points`).
        matrix: where the confusion matrices of a model's test part are (see `read_matrices`).
        resamples: draws of places behind the intervals by `matrix`.
        seed: seed of the draws.

    Raises:
        LandsegError: a map cannot be read, the maps have different classes, a reference is not fit for them, or there
            are two.
    """
    if not locations:
        raise LandsegError("no map is given; name at least one")
    if points is not None and matrix is not None:
        raise LandsegError(f"{points} and {matrix}: are two references; give points, or a matrix")
    with opened_map(locations[0]) as first:
        classes = first.classes
    matrices = None if matrix is None else read_matrices(matrix, classes)
    sampling = None if points is None else Sampling(read_points(points, classes), classes)
    found = _measured(locations, classes, sampling)
    estimate = None
    if matrices is not None:
        estimate = clustered(found.mapped, matrices.matrices, names(classes), resamples=resamples, seed=seed)
    elif sampling is not None:
        estimate = stratified(found.mapped, _known(sampling), names(classes))
    return Areas(**{**vars(found), "estimate": estimate, "points": sampling, "matrices": matrices})


def _measured(locations: Sequence[Path | str], classes: ClassTable, sampling: Sampling | None) -> Areas:
    pixels, hectares, blank = np.zeros(len(classes), np.int64), np.zeros(len(classes)), 0
    opened, unplaced = [], []
    for location in locations:
        with opened_map(location) as class_map:
            _require(class_map, classes, str(locations[0]))
            counts, ground, without = _counted(class_map, classes)
            if sampling is not None:
                sampling.add(class_map)
        opened.append(class_map.name)
        pixels, blank = pixels + counts, blank + without
        if ground is None:
            unplaced.append(class_map.name)
        else:
            hectares += ground / _HECTARE
    return Areas(tuple(opened), tuple(classes), pixels, blank, None if unplaced else hectares, tuple(unplaced))


def _require(class_map: ClassMap, classes: ClassTable, first: str) -> None:
    own, wanted = (sorted((each.id, each.name) for each in table) for table in (class_map.classes, classes))
    if own != wanted:
        listed = [", ".join(f"{number} {name}" for number, name in table) for table in (own, wanted)]
        raise LandsegError(
            f"{class_map.name}: has the classes {listed[0]}, and {first} has {listed[1]}; measure them one by one"
        )


def _counted(class_map: ClassMap, classes: ClassTable) -> tuple[Counts, Floats | None, int]:
    """Return pixels (K,) and ground area (K,), m², of every class of a map, and how many pixels are of none.

    Every row of a window has a ground area of its own (see `landseg.ground`).
    """
    own = ids(classes)
    pixels, ground, cells, placed = np.zeros(len(own), np.int64), np.zeros(len(own)), 0, True
    for window in class_map.windows():
        found = class_map.read(window)
        bins = found + 256 * np.arange(len(found))[:, None]  # a row has 256 of its own
        counts = np.bincount(bins.ravel(), minlength=256 * len(found)).reshape(-1, 256)[:, own]
        pixels, cells = pixels + counts.sum(axis=0), cells + found.size
        rows = row_areas(class_map.grid, window) if placed else None
        placed = rows is not None
        if rows is not None:
            ground += _ground(class_map.name, counts, rows)
    return pixels, ground if placed else None, cells - int(pixels.sum())


def _ground(name: str, counts: Counts, rows: Floats) -> Floats:
    """Return the ground area of every class, (K,), by its pixels in rows, (H, K), and the area of one in each, (H,)."""
    nowhere = np.isnan(rows)
    if counts[nowhere].any():
        raise LandsegError(
            f"{name}: has classes where its CRS has no ground; cut the map to where it has, or reproject it"
        )
    ground: Floats = np.where(nowhere, 0, rows) @ counts
    return ground


def _known(sampling: Sampling) -> Counts:
    """Return the points that lie on a class, of which there must be some."""
    sample = sampling.sample
    if not sample.any():
        raise LandsegError(
            f"{sampling.points.name}: none of its {len(sampling.points.x):,} points lies on a class of the map "
            f"({sampling.outside:,} lie outside, {sampling.blank:,} where it has no data); check their coordinates"
        )
    return sample


def report(found: Areas) -> str:
    """Return what `landseg area` prints: a row a class, and in plain words what the figures are worth."""
    lines = [_headline(found), "", *_lines(_table(found)), ""]
    if found.unplaced:
        lines.append(
            f"No hectares: {found.unplaced[0]} has no CRS with known units, so nobody knows what a pixel covers."
        )
    if found.estimate is None:
        lines.append(
            "Pixel counts alone are biased, and nothing here says by how much: what is wrongly mapped as a class seldom "
            "is as much as what is left out. For the error, give --points, a table of reference points, or --matrix, the "
            "revision of the model that made the map."
        )
    else:
        lines += [_bias(found, found.estimate), *_ground_of(found, found.estimate)]
    return "\n".join(lines)


def write_csv(found: Areas, path: Path) -> None:
    """Write the figures in full, a row a class; empty where something is not known."""
    rows = [_row(found, channel) for channel in range(len(found.classes))]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with atomic(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


def _row(found: Areas, channel: int) -> dict[str, str | int | float | None]:
    total, each = found.pixels.sum(), found.classes[channel]
    row: dict[str, str | int | float | None] = {
        "class_id": each.id,
        "class": each.name,
        "pixels": int(found.pixels[channel]),
        "share": _finite(found.pixels[channel] / total) if total else None,
        "unit": found.unit,
        "mapped": float(found.mapped[channel]),
    }
    of = found.estimate
    if of is None:
        return row
    bias = of.bias[channel]
    sides = {
        "adjusted": (of.areas, of.areas_se, of.areas_interval),
        "users": (of.users, of.users_se, of.users_interval),
        "producers": (of.producers, of.producers_se, of.producers_interval),
    }
    for name, (value, error, ends) in sides.items():
        row[name], row[f"{name}_se"] = _finite(value[channel]), _finite(error[channel])
        row[f"{name}_low"], row[f"{name}_high"] = (_finite(end) for end in ends[channel])
    return row | {"bias": _finite(bias), "bias_share": _finite(_over(bias, of.areas[channel]))}


def _headline(found: Areas) -> str:
    maps = found.maps[0] if len(found.maps) == 1 else f"{len(found.maps):,} maps"
    return f"{maps}: {found.pixels.sum():,} pixels with a class, {found.blank:,} without"


def _table(found: Areas) -> Table:
    digits, of, total = _digits(found.mapped.sum()), found.estimate, int(found.pixels.sum())
    titles = ["pixels", "share"]
    columns = [[f"{count:,}" for count in (*found.pixels, total)]]
    columns.append([_share(_over(count, total)) for count in (*found.pixels, total)])
    if found.hectares is not None:
        titles.append("mapped ha")
        columns.append([f"{area:,.{digits}f}" for area in (*found.hectares, found.hectares.sum())])
    if of is not None:
        unit = found.unit
        titles += [
            f"adjusted {unit}",
            "95 % interval",
            f"bias {unit}",
            "bias",
            "user's accuracy",
            "producer's accuracy",
        ]
        columns += [
            [f"{area:,.{digits}f}" for area in (*of.areas, of.areas.sum())],
            [_ends(of, ends, error, digits) for ends, error in zip(of.areas_interval, of.areas_se, strict=True)],
            [f"{bias:+,.{digits}f}" for bias in of.bias],
            [_share(_over(bias, area), "+") for bias, area in zip(of.bias, of.areas, strict=True)],
            [_accuracy(of, *each) for each in zip(of.users, of.users_interval, of.users_se, strict=True)],
            [_accuracy(of, *each) for each in zip(of.producers, of.producers_interval, of.producers_se, strict=True)],
        ]
    table = Table("class", *(Column(title, justify="right") for title in titles), box=None, pad_edge=False)
    for row, name in enumerate([*names(found.classes), "all"]):
        table.add_row(escape(name), *(column[row] if row < len(column) else "" for column in columns))
    return table


def _lines(table: Table) -> list[str]:
    with io.StringIO() as text:
        Console(file=text, width=1000, color_system=None).print(table)
        return [line.rstrip() for line in text.getvalue().splitlines()]


def _bias(found: Areas, of: Estimate) -> str:
    """Say by how much the pixel counts are off, of the class where that is most."""
    worst = int(np.abs(of.bias).argmax())
    low, high = of.areas_interval[worst]
    side = "more" if of.bias[worst] > 0 else "less"
    digits = _digits(found.mapped.sum())
    share = _share(abs(_over(of.bias[worst], of.areas[worst])))
    chance = "" if np.isnan(low) else ", beyond" if not low <= of.mapped[worst] <= high else ", within"
    return (
        f"Pixel counts alone are biased: they give {found.classes[worst].name} {abs(of.bias[worst]):,.{digits}f} "
        f"{found.unit} {side} than it has ({share} of its adjusted area{chance and f'{chance} the interval of that'}), "
        "and no other class is further off."
    )


def _ground_of(found: Areas, of: Estimate) -> list[str]:
    """Say what the reference is, and what its figures are not to be taken for."""
    overall = f"Overall accuracy {_accuracy(of, of.overall, of.overall_interval, of.overall_se)}."
    if found.points is not None:
        return [overall, *_of_points(found, found.points)]
    if found.matrices is not None:
        return [overall, *_of_places(found, found.matrices, of)]
    return [overall]


def _of_points(found: Areas, sampling: Sampling) -> list[str]:
    sample = sampling.sample
    left = [(sampling.outside, "outside the map"), (sampling.blank, "where it has no data")]
    out = " and ".join(f"{count:,} {where}" for count, where in left if count)
    lines = [
        f"Reference: {sample.sum():,} points of {sampling.points.name}{f' ({out} left out)' if out else ''}. The figures "
        "hold where these were drawn at random, from the whole map or from each mapped class (Olofsson et al. 2014)."
    ]
    on = sample.sum(axis=0)
    listed = [
        f"{name} {count:,}" for name, count in zip(names(found.classes), on, strict=True) if 1 < count < FEW_POINTS
    ]
    if listed:
        lines.append(
            f"Few points lie on what is mapped as {', '.join(listed)}: below {FEW_POINTS} intervals are rough."
        )
    single = [
        name
        for name, count, pixels in zip(names(found.classes), on, found.pixels, strict=True)
        if count == 1 and pixels
    ]
    if single:
        lines.append(
            f"One point alone lies on what is mapped as {', '.join(single)}, so no area has an interval: one says nothing "
            "of how points vary; add points there."
        )
    return lines


def _of_places(found: Areas, matrices: Matrices, of: Estimate) -> list[str]:
    pixels, units = int(matrices.matrices.sum()), of.units or 0
    lines = [f"Reference: {matrices.title}, {pixels:,} pixels."]
    if matrices.noun is None:
        lines.append(
            "It does not say which place each pixel is from, and pixels of a place are alike, so no interval can be "
            "given; take one with a column unit, such as results/scenes.csv."
        )
    elif units < 2:
        lines.append(f"It is of one of the {matrices.noun} alone, so no interval can be given.")
    else:
        few = ", too few to rely on them" if units < FEW else ""
        lines.append(f"Intervals are drawn over {units:,} {matrices.noun}{few}.")
    if of.held is not None and units > 1:
        rare = [
            each.name
            for each, held, count in zip(found.classes, of.held, found.pixels, strict=True)
            if held == 1 < count
        ]
        if rare:
            lines.append(
                f"One of them alone has pixels mapped as {', '.join(rare)}: what others would say is left out."
            )
    lines.append(
        "The test part is no random sample of the mapped area: the figures hold only where that resembles the test "
        f"{matrices.noun or 'places'}."
    )
    if matrices.leak:
        lines.append(f"{matrices.leak:.1%} of its tiles share an edge with a training tile, so errors look too small.")
    return lines


def _ends(of: Estimate, ends: Floats, error: float, digits: int) -> str:
    """Write an interval: by points as ±, by places, where it is lopsided, by its ends."""
    if np.isnan(ends).any():
        return "–"
    return (
        f"± {ends[1] - ends.mean():,.{digits}f}"
        if of.units is None
        else f"{ends[0]:,.{digits}f} to {ends[1]:,.{digits}f}"
    )


def _accuracy(of: Estimate, value: float, ends: Floats, error: float) -> str:
    if np.isnan(value):
        return "–"
    if np.isnan(ends).any():
        return f"{value:.2f}"
    return (
        f"{value:.2f} ± {ends[1] - value:.2f}" if of.units is None else f"{value:.2f} ({ends[0]:.2f} to {ends[1]:.2f})"
    )


def _digits(total: float) -> int:
    """Return with how many digits areas are written, so that a thousandth of all of them shows."""
    return 0 if total >= 10_000 else 1 if total >= 1000 else 2 if total >= 10 else 4


def _share(value: float, sign: str = "") -> str:
    return f"{value:{sign}.1%}".replace("%", " %") if np.isfinite(value) else "–"


def _over(part: float, whole: float) -> float:
    return float(part / whole) if whole else np.nan


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
